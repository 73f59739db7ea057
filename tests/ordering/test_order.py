"""Orders: permutations for any n, the same however they are asked for, without bias, and without memory."""

from __future__ import annotations

import inspect
import math
import pickle
import re
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arraystore._common import keyed_random
from arraystore._common.keyed_random import SORTED_COUNT, Purpose, key_of, permute
from arraystore._ordering.order import BlockShuffle, Order, Sequential, Shuffle, Skip
from arraystore._ordering.weighted import Weighted, _logarithms, balanced
from arraystore.errors import SpecError

Slots = npt.NDArray[np.int64]
SEEDS = st.integers(0, 2**64 - 1)
EPOCHS = st.integers(0, 2**64 - 1)

PINNED: list[tuple[Order, list[int]]] = [
    (Sequential(9), [0, 1, 2, 3, 4, 5, 6, 7]),
    (Shuffle(9, 5), [3, 0, 6, 5, 8, 4, 2, 7]),
    (Shuffle(65_536, 5), [14182, 10675, 27979, 61302, 3161, 4652, 5341, 44174]),
    (Shuffle(65_537, 5), [33281, 34515, 55694, 55086, 57240, 19352, 40809, 61931]),
    (Shuffle(10**9, 5), [48342969, 721086462, 22342177, 647782720, 591982095, 440380022, 247103892, 57940497]),
    (BlockShuffle(23, 5, 4, 2), [22, 19, 16, 18, 20, 21, 17, 4]),
    (
        BlockShuffle(10**9, 5, 4096, 16),
        [597654780, 850609048, 421520323, 695718135, 695717927, 421521955, 112374459, 860984616],
    ),
    (
        BlockShuffle(10**9, 5, 4096, 64),
        [18917537, 719405690, 863734001, 910753672, 326053220, 939554375, 421519939, 326053882],
    ),
    (Skip(Shuffle(8, 5), [0, 5]), [4, 1, 8, 7, 6, 3, 9, 2]),
    (Weighted([1, 2, 0, 4, 0.5], 5, 8), [1, 1, 3, 1, 3, 3, 3, 3]),
    (Weighted(np.arange(10.0), 5, 8, replacement=False), [7, 6, 5, 9, 4, 2, 8, 3]),
    (balanced([0, 0, 0, 0, 0, 1, 1, 2], 5), [4, 4, 6, 2, 6, 7, 7, 7]),
]


def whole(order: Order, epoch: int = 0) -> Slots:
    return order.draw(epoch, np.arange(order.count))


def said(message: str, call: Callable[..., Any], *args: Any, **options: Any) -> SpecError:
    with pytest.raises(SpecError, match="^" + re.escape(message) + "$") as caught:
        call(*args, **options)
    return caught.value


@st.composite
def orders(draw: st.DrawFn, *, depth: int = 2) -> Order:
    """Any order, of orders too, over a few slots or over more than are sorted."""
    n = draw(st.integers(0, 60) | st.integers(SORTED_COUNT - 2, SORTED_COUNT + 600))
    seed = draw(SEEDS)
    kinds = ["sequential", "shuffle", "blocks", *(["skip"] if depth else []), *(["weighted"] if n else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "sequential":
        return Sequential(n)
    if kind == "shuffle":
        return Shuffle(n, seed)
    if kind == "blocks":
        low = 1 if n < 100 else 500
        return BlockShuffle(n, seed, draw(st.integers(low, 2 * n + low)), draw(st.integers(1, 80)))
    if kind == "weighted":
        weights = np.arange(n) % 7 + 1.0
        count = draw(st.integers(0, n))
        return Weighted(weights, seed, count, draw(st.booleans()))
    inner = draw(orders(depth=depth - 1))
    random = np.random.default_rng(seed)
    skipped = draw(st.integers(0, 30))
    return Skip(inner, np.sort(random.permutation(inner.n + skipped)[:skipped]))


# What every order promises


@given(orders(), EPOCHS, st.randoms(use_true_random=False))
def test_any_positions_have_the_slots_that_they_have_in_the_whole_epoch(order: Order, epoch: int, random: Any) -> None:
    slots = whole(order, epoch)
    assert slots.dtype == np.int64
    assert slots.shape == (order.count,)
    asked = [random.randrange(order.count) for _ in range(20)] if order.count else []
    positions = np.array(asked, np.int64)
    drawn = order.draw(epoch, positions)
    assert np.array_equal(drawn, slots[positions])
    assert drawn.dtype == np.int64
    drawn[:] = -1  # the caller's own
    assert np.array_equal(order.draw(epoch, positions), slots[positions])
    assert np.array_equal(positions, asked)


@given(orders(), EPOCHS)
def test_draws_are_slots_and_none_comes_twice_unless_the_order_says_so(order: Order, epoch: int) -> None:
    slots = whole(order, epoch)
    assert slots.min(initial=0) >= 0
    assert slots.max(initial=-1) < order.n
    if not order.repeats:
        assert np.unique(slots).size == slots.size


@given(orders(), EPOCHS)
def test_an_order_is_the_same_after_a_journey(order: Order, epoch: int) -> None:
    slots = whole(order, epoch)
    again = pickle.loads(pickle.dumps(order))
    assert np.array_equal(whole(again, epoch), slots)
    assert (again.identity(), again.count, again.n, again.repeats) == (
        order.identity(),
        order.count,
        order.n,
        order.repeats,
    )


def test_threads_that_ask_for_epochs_in_any_order_get_what_one_gets() -> None:
    kinds: list[Order] = [
        Shuffle(3000, 1),
        BlockShuffle(3000, 1, 100, 4),
        Weighted(np.arange(3000.0), 1, 2000, replacement=False),
    ]
    epochs = [epoch for _ in range(12) for epoch in range(5)]
    for order in kinds:
        expected = [whole(type(order)(**arguments(order)), epoch) for epoch in range(5)]
        with ThreadPoolExecutor(4) as pool:
            for epoch, slots in zip(
                epochs, pool.map(lambda epoch, order=order: whole(order, epoch), epochs), strict=True
            ):
                assert np.array_equal(slots, expected[epoch])


def arguments(order: Order) -> dict[str, Any]:
    return {name: getattr(order, name) for name in inspect.signature(type(order)).parameters}


def test_each_value_that_changes_the_draws_changes_the_identity() -> None:
    several: list[Order] = [
        *(Sequential(n) for n in (9, 10)),
        *(Shuffle(n, seed) for n in (9, 10) for seed in (0, 1)),
        *(BlockShuffle(10, seed, block, window) for seed in (0, 1) for block in (2, 3) for window in (2, 3)),
        BlockShuffle(9, 0, 2, 2),
        *(Skip(Shuffle(3, seed), slots) for seed in (0, 1) for slots in ([], [1, 2], [1, 3])),
        *(
            Weighted(weights, seed, count, again)
            for weights in ([1.0, 2, 3], [1.0, 3, 2])
            for seed in (0, 1)
            for count in (2, 3)
            for again in (True, False)
        ),
    ]
    identities = [order.identity() for order in several]
    assert len(set(identities)) == len(several)
    assert identities == [pickle.loads(pickle.dumps(order)).identity() for order in several]
    assert Shuffle(9, 1).identity() == "shuffle n=9 seed=1"
    assert Skip(Sequential(9), []).identity() == "skip slots=99aa06d3014798d86001c324468d497f of sequential n=9"
    assert balanced([0, 1, 1], 3).identity() == Weighted([1, 0.5, 0.5], 3, 3).identity()


def test_the_draws_of_version_1_are_the_draws_of_every_version() -> None:
    """If one of these changes, interrupted runs continue with other slots. Then identities must change as well."""
    positions = np.arange(8)
    for order, slots in PINNED:
        assert order.draw(3, positions).tolist() == slots, order.identity()
    assert key_of(0) == 0xE220A8397B1DCDAF  # the first output of SplitMix64 from state 0, as published
    far = Shuffle(2**62, 2**64 - 1).draw(2**64 - 1, np.array([0, 2**62 - 1]))
    assert far.tolist() == [333289677111155186, 3209961405681614611]


def test_the_largest_epoch_takes_no_memory() -> None:
    positions = np.arange(8192)
    for order in (Sequential(10**9), Shuffle(10**9, 1), Skip(Shuffle(10**9, 1), [4, 9]), Shuffle(2**62, 1)):
        order.draw(0, positions)
        tracemalloc.start()
        try:
            order.draw(1, positions + order.count - 8192)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000, order


# Permutations


@pytest.mark.parametrize("count", [1, 2, 3, SORTED_COUNT - 1, SORTED_COUNT, SORTED_COUNT + 1, 257 * 257, 257 * 257 + 1])
def test_a_permutation_has_every_number_once(count: int) -> None:
    """65,537 numbers leave 512 beyond, 257² none, 257² + 1 a whole row of digits."""
    for key in range(3):
        assert np.array_equal(np.sort(permute(np.arange(count), count, key)), np.arange(count))


@settings(max_examples=40)
@given(st.integers(SORTED_COUNT + 1, 300_000), SEEDS)
def test_so_has_one_of_any_size(count: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(count), count, key)), np.arange(count))


@settings(max_examples=40)
@given(st.integers(2**32, 2**62), SEEDS)
def test_different_numbers_stay_different_in_a_permutation_too_large_to_write_down(count: int, key: int) -> None:
    numbers = np.unique(
        np.concatenate([np.arange(500), count - 1 - np.arange(500), np.arange(1, 500) * (count // 500)])
    )
    moved = permute(numbers, count, key)
    assert np.unique(moved).size == numbers.size
    assert 0 <= moved.min() <= moved.max() < count


def test_what_lands_beyond_walks_on_until_it_is_one_of_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cycle through all pairs of digits in place of the network, backwards: 0 walks through everything beyond."""
    count = 257 * 257 + 1
    monkeypatch.setattr(
        keyed_random, "_feistel", lambda numbers, a, b, _keys: (numbers + np.uint64(a * b - 1)) % (a * b)
    )
    assert np.array_equal(permute(np.arange(count), count, 0), np.roll(np.arange(count), 1))


# Chance. Each figure is a chi-square in standard deviations from what chance alone gives; seeds are fixed.


def deviations(table: npt.NDArray[Any], freedom: float) -> float:
    expected = table.mean()
    assert expected >= 5
    return float((((table - expected) ** 2).sum() / expected - freedom) / math.sqrt(2 * freedom))


def joint(first: Slots, second: Slots, n: int, bins: int) -> float:
    """How far pairs of numbers in [0, n) are from independent; rows and columns have known sums."""
    cells = (first * bins // n) * bins + second * bins // n
    return deviations(np.bincount(cells, minlength=bins * bins), (bins - 1) ** 2)


@pytest.mark.parametrize(("n", "epochs"), [(2, 2000), (3, 3000), (5, 3000), (16, 3000), (100, 1500)])
def test_each_slot_comes_equally_often_at_each_position_and_after_each_other(n: int, epochs: int) -> None:
    places, steps = np.zeros((n, n), np.int64), np.zeros(n, np.int64)
    for epoch in range(epochs):
        slots = whole(Shuffle(n, 5), epoch)
        places[slots, np.arange(n)] += 1
        steps += np.bincount(np.diff(slots) % n, minlength=n)
    # The cells of a permutation's table vary less than independent ones would: (n - 1)² degrees after this factor.
    freedom = (n - 1) ** 2
    expected = epochs / n
    chi = ((places - expected) ** 2).sum() / expected * (n - 1) / n
    assert abs(chi - freedom) < 4 * math.sqrt(2 * freedom)
    assert steps[0] == 0
    if n >= 5:  # the steps of fewer say almost everything of each other
        assert abs(deviations(steps[1:], n - 2)) < 4


def test_each_of_24_permutations_is_equally_likely() -> None:
    drawn = [tuple(whole(Shuffle(4, 8), epoch).tolist()) for epoch in range(6000)]
    counts = np.array([drawn.count(slots) for slots in set(drawn)])
    assert counts.size == 24
    assert abs(deviations(counts, 23)) < 4


def worst(n: int, bins: int) -> float:
    """The largest deviation of positions, neighbors, distances, epochs and seeds in a shuffle of many."""
    first = whole(Shuffle(n, 11), 6)
    figures = [
        joint(np.arange(n), first, n, bins),
        *(joint(first[lag:], first[:-lag], n, bins) for lag in (1, 2)),
        deviations(np.bincount(np.diff(first) % n * bins // n, minlength=bins), bins - 1),
    ]
    for seed, epoch in ((11, 7), (12, 6), (12, 5), (6, 11)):
        other = whole(Shuffle(n, seed), epoch)
        figures += [joint(first, other, n, bins), float(np.corrcoef(first, other)[0, 1]) * math.sqrt(n)]
    return max(map(abs, figures))


@pytest.mark.parametrize(("n", "bins"), [(60_000, 80), (65_537, 80), (100_000, 100), (100_000, 7), (1_000_003, 300)])
def test_a_shuffle_of_many_has_no_pattern(n: int, bins: int) -> None:
    assert worst(n, bins) < 4.5


@pytest.mark.long
@pytest.mark.parametrize("bins", [10, 1000])
def test_a_shuffle_of_ten_million_has_no_pattern(bins: int) -> None:
    assert worst(10_000_000, bins) < 4.5


def test_ten_million_positions_are_spread_evenly() -> None:
    n, bins = 10_000_000, 1000
    positions = np.arange(3_000_000) + 4_000_000
    slots = np.concatenate([Shuffle(n, 2).draw(1, part) for part in np.split(positions, 300)])
    near = np.abs(np.diff(slots)) < 1000
    assert abs(deviations(np.bincount(slots * bins // n, minlength=bins), (bins - 1) * 0.7)) < 4.5  # 0.3 are drawn
    assert abs(near.sum() - 600) < 4.5 * math.sqrt(600)


def test_that_a_pattern_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_random, "_ROUNDS", 2)
    assert worst(100_000, 100) > 50


# Blocks


def slow_blocks(order: BlockShuffle, epoch: int) -> list[int]:
    """`BlockShuffle` written down: a list of blocks, cut into windows, each window shuffled."""
    blocks = [list(range(order.n))[start : start + order.block] for start in range(0, order.n, order.block)]
    whole_ones, short = [block for block in blocks if len(block) == order.block], blocks[-1]
    key = key_of(order.seed, epoch, Purpose.BLOCKS)
    row = [whole_ones[i] for i in permute(np.arange(len(whole_ones)), len(whole_ones), key)]
    if len(short) < order.block:
        row.insert(key_of(order.seed, epoch, Purpose.SHORT_BLOCK) * (len(row) + 1) >> 64, short)
    slots: list[int] = []
    for window, start in enumerate(range(0, len(row), order.window)):
        inside = [slot for block in row[start : start + order.window] for slot in block]
        key = key_of(order.seed, epoch, Purpose.WINDOW, window)
        slots += [inside[i] for i in permute(np.arange(len(inside)), len(inside), key)]
    return slots


@settings(max_examples=300)
@given(st.integers(1, 80), SEEDS, EPOCHS, st.integers(1, 30), st.integers(1, 12))
def test_blocks_are_shuffled_as_written_down(n: int, seed: int, epoch: int, block: int, window: int) -> None:
    order = BlockShuffle(n, seed, block, window)
    assert whole(order, epoch).tolist() == slow_blocks(order, epoch)


def test_a_window_reads_whole_blocks_and_mixes_them() -> None:
    slots = whole(BlockShuffle(1000, 3, 10, 20)).reshape(5, 200)
    for window in slots:
        assert np.bincount(window // 10, minlength=100).max() == 10
        assert np.unique(window // 10).size == 20
        assert np.abs(np.diff(window // 10)).astype(bool).mean() > 0.9


def test_the_short_block_comes_up_anywhere() -> None:
    found = [int(np.flatnonzero(whole(BlockShuffle(22, 4, 5, 1), epoch) == 20)[0] // 5) for epoch in range(1000)]
    assert abs(deviations(np.bincount(found, minlength=5), 4)) < 4


def test_windows_of_more_than_are_sorted_and_blocks_without_end() -> None:
    slots = whole(BlockShuffle(200_001, 1, 1000, 70))
    assert np.array_equal(np.sort(slots), np.arange(200_001))
    assert np.unique(slots[:60_000] // 1000).size in (70, 71)
    huge = BlockShuffle(2**62, 1, 10**30, 10**30)
    assert np.unique(huge.draw(0, np.array([0, 1, 2**62 - 2, 2**62 - 1]))).size == 4
    assert np.array_equal(np.sort(whole(BlockShuffle(50, 1, 10**30, 10**30))), np.arange(50))


# Some of the slots


@given(st.sets(st.integers(0, 80)), st.integers(1, 80))
def test_skip_leaves_out_what_is_skipped(skipped: set[int], left: int) -> None:
    total = left + len(skipped)
    out = sorted(slot for slot in skipped if slot < total)
    order = Skip(Sequential(total - len(out)), out)
    assert whole(order).tolist() == [slot for slot in range(total) if slot not in out]
    assert order.n == total


def test_orders_keep_copies_of_their_arrays() -> None:
    skipped, weights = np.array([0, 2]), np.array([0.0, 1, 0])
    skip, weighted = Skip(Sequential(3), skipped), Weighted(weights, 0, 9)
    skipped[:], weights[:] = 4, 1
    assert whole(skip).tolist() == [1, 3, 4]
    assert set(whole(weighted).tolist()) == {1}
    assert not skip.skipped.flags.writeable
    assert not weighted.weights.flags.writeable


# Weights


def test_slots_are_drawn_in_proportion_to_their_weights() -> None:
    weights = np.array([0, 1, 2, 0, 3.5, 0.5, 0])
    slots = whole(Weighted(weights, 4, 70_000), 2)
    counts = np.bincount(slots, minlength=7)
    assert counts[weights == 0].sum() == 0
    expected = weights[weights > 0] / 7 * 70_000
    assert ((counts[weights > 0] - expected) ** 2 / expected).sum() < 21  # 3 degrees: once in 10,000 seeds
    assert abs(np.corrcoef(slots[1:], slots[:-1])[0, 1]) < 4 / math.sqrt(70_000)
    assert abs(np.corrcoef(slots, whole(Weighted(weights, 4, 70_000), 3))[0, 1]) < 4 / math.sqrt(70_000)


def test_without_replacement_each_draw_is_in_proportion_to_the_weights_that_are_left() -> None:
    weights = np.array([4.0, 0, 3, 2, 1])
    pairs = np.zeros((5, 5))
    for epoch in range(6000):
        first, second = Weighted(weights, 9, 4, replacement=False).draw(epoch, np.arange(2))
        pairs[first, second] += 1
    share = weights / 10
    expected = 6000 * share[:, None] * share / (1 - share[:, None]) * (1 - np.eye(5))
    assert pairs[expected == 0].sum() == 0
    chi = ((pairs - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()
    assert abs(chi - 11) < 4 * math.sqrt(22)
    assert sorted(whole(Weighted(weights, 9, 4, replacement=False)).tolist()) == [0, 2, 3, 4]


def test_weights_of_every_size_have_their_place() -> None:
    tiny = Weighted([5e-324, 0, 1e308], 1, 3000)
    assert set(whole(tiny).tolist()) == {2}
    assert whole(Weighted([5e-324, 0, 1e308], 1, 2, replacement=False)).tolist() == [2, 0]
    assert set(whole(Weighted([0, 5e-324, 0], 1, 50)).tolist()) == {1}


def test_the_highest_uniform_number_draws_the_last_slot_that_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def highest(_key: int, numbers: Slots) -> npt.NDArray[np.float64]:
        return np.full(len(numbers), 1 - 2.0**-53)

    monkeypatch.setattr("arraystore._ordering.weighted.uniforms", highest)
    for weights in ([1.0, 1, 0], [3.0, 1 / 3, 0, 0], [1e300, 1e-300, 0]):
        last = 0 if weights[0] > 1e299 else 1
        assert whole(Weighted(weights, 1, 4)).tolist() == [last] * 4


@given(st.integers(0, 2**52 - 1), st.integers(0, 51))
def test_logarithms_are_those_of_numpy_but_for_the_last_bits(bits: int, shift: int) -> None:
    value = ((bits >> shift) + 0.5) * 2.0**-52
    for near in (value, 1 - value):
        if 0 < near < 1:
            assert float(_logarithms(np.array([near]))[0]) == pytest.approx(math.log(near), rel=1e-15)


@pytest.mark.parametrize("labels", [[5, 5, 5, 5, 5, 5, 2, 2, 9], ["b", "b", "b", "a", "c", "c"], [0.5, 1.5, 0.5]])
def test_balanced_draws_each_class_equally_often(labels: list[Any]) -> None:
    names, codes = np.unique(labels, return_inverse=True)
    order = balanced(labels, 3, count=9000)
    assert (order.count, order.repeats, order.n) == (9000, True, len(labels))
    assert abs(deviations(np.bincount(codes[whole(order)], minlength=names.size), names.size - 1)) < 4
    assert balanced(labels, 3).count == len(labels)
    assert sorted(whole(balanced(labels, 3, replacement=False)).tolist()) == list(range(len(labels)))


# What cannot be


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sequential(-1), "n must be a whole number from 0 to 4,611,686,018,427,387,904, not -1"),
        (lambda: Shuffle(5.0, 1), "n must be a whole number from 0 to 4,611,686,018,427,387,904, not 5.0"),
        (lambda: Shuffle(5, -1), "seed must be a whole number from 0 to 18,446,744,073,709,551,615, not -1"),
        (lambda: Shuffle(5, True), "seed must be a whole number from 0 to 18,446,744,073,709,551,615, not True"),
        (
            lambda: Shuffle(np.array([5, 6]), 1),
            "n must be a whole number from 0 to 4,611,686,018,427,387,904, not array([5, 6])",
        ),
        (lambda: BlockShuffle(5, 1, 0, 1), "block must be a whole number of 1 or more, not 0"),
        (lambda: BlockShuffle(5, 1, 1, "2"), "window must be a whole number of 1 or more, not '2'"),
        (lambda: Shuffle(5, 1).draw(0, [1, 5]), "position 5 is not in an epoch of 5 draws"),
        (lambda: BlockShuffle(5, 1, 2, 1).draw(0, [-1]), "position -1 is not in an epoch of 5 draws"),
        (lambda: BlockShuffle(0, 1, 2, 1).draw(0, [0]), "position 0 is not in an epoch of 0 draws"),
        (lambda: Sequential(0).draw(0, [0]), "position 0 is not in an epoch of 0 draws"),
        (lambda: Weighted([1], 1, 4).draw(0, [4]), "position 4 is not in an epoch of 4 draws"),
        (lambda: Skip(Sequential(3), [2, 1]), "skipped must be sorted, each slot once"),
        (lambda: Skip(Sequential(3), [1, 1]), "skipped must be sorted, each slot once"),
        (lambda: Skip(Sequential(3), [1, 5]), "skipped must be slots from 0 to 4, not 1 to 5"),
        (lambda: Skip(Sequential(3), [-1, 1]), "skipped must be slots from 0 to 4, not -1 to 1"),
        (lambda: Skip(Sequential(3), [[1]]), "skipped must be whole numbers in one row, not int64 of shape (1, 1)"),
        (lambda: Weighted([0.0, 0], 1, 1), "no slot has a weight above 0, so none can be drawn"),
        (lambda: Weighted([], 1, 1), "no slot has a weight above 0, so none can be drawn"),
        (lambda: Weighted([1.0, -2], 1, 1), "the weight of slot 1 is -2.0: weights must be finite, and 0 or more"),
        (lambda: Weighted([np.nan, 1], 1, 1), "the weight of slot 0 is nan: weights must be finite, and 0 or more"),
        (lambda: Weighted([1, np.inf], 1, 1), "the weight of slot 1 is inf: weights must be finite, and 0 or more"),
        (lambda: Weighted(["a"], 1, 1), "weights must be numbers in one row, not <U1 of shape (1,)"),
        (lambda: Weighted([1, 1], 1, -1), "count must be a whole number from 0 to 4,611,686,018,427,387,904, not -1"),
        (
            lambda: Weighted([1e308, 1e308], 1, 1),
            "the sum of the weights is more than a float64 can hold: divide them all by the largest",
        ),
        (
            lambda: Weighted([1, 0, 1], 1, 3, replacement=False),
            "3 draws without replacement need as many weights above 0, there are 2: draw fewer, or with replacement",
        ),
        (lambda: balanced([[1]], 1), "balanced draws need one label for each slot, these labels have shape (1, 1)"),
        (lambda: balanced([], 1), "no slot has a weight above 0, so none can be drawn"),
    ],
)
def test_what_cannot_be_is_said(call: Callable[[], object], message: str) -> None:
    said(message, call)


def test_the_slot_of_a_wrong_weight_is_in_the_error() -> None:
    message = "the weight of slot 2 is -1.0: weights must be finite, and 0 or more"
    assert said(message, Weighted, [1, 0, -1, np.nan], 1, 1).slot == 2


def test_numbers_of_numpy_are_numbers() -> None:
    order = Shuffle(np.int64(5), np.uint64(2**64 - 1))
    assert order == Shuffle(5, 2**64 - 1)
    assert order.identity() == f"shuffle n=5 seed={2**64 - 1}"
    assert np.array_equal(whole(order, np.int64(3)), whole(order, 3))
