"""The loader: what it yields is the order, gathered, whatever threads, buffers and reading ahead do in between."""

from __future__ import annotations

import gc
import json
import mmap
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.readers import (
    COUNT,
    FAILED,
    STORED,
    assert_same,
    labels_of,
    naive,
    numbered_store,
    readers,
    refused,
    said,
    wait_for,
)
from support.slots import slots_of

import arraystore
from arraystore import Augment, CenterCrop, Loader, RandomCrop, SpaceError, SpecError, Store, concatenate
from arraystore._ordering.order import BlockShuffle, Order, Sequential, Shuffle, Skip
from arraystore._ordering.weighted import Weighted, balanced
from arraystore._reading.read_ahead import ReadAhead
from arraystore._stores.slot_array import SlotArray


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return numbered_store(tmp_path_factory.mktemp("loader") / "numbered.store")


def skipping(order: Order) -> Order:
    return Skip(order, np.array(FAILED))


READABLE = len(STORED)
WEIGHTS = np.arange(COUNT) % 5
# Options that choose an order, and the order that they should choose.
ORDERS: list[tuple[dict[str, Any], Callable[[int], Order]]] = [
    ({}, lambda seed: Shuffle(READABLE, seed)),
    ({"shuffle": False}, lambda _: Sequential(READABLE)),
    ({"block": 8, "window": 3}, lambda seed: BlockShuffle(READABLE, seed, 8, 3)),
    ({"block": 1000}, lambda seed: BlockShuffle(READABLE, seed, 1000, 64)),
    ({"weights": WEIGHTS}, lambda seed: Weighted(WEIGHTS[STORED], seed, READABLE)),
    ({"weights": WEIGHTS, "draws": 250}, lambda seed: Weighted(WEIGHTS[STORED], seed, 250)),
    (
        {"weights": WEIGHTS.tolist(), "draws": 40, "replacement": False},
        lambda seed: Weighted(WEIGHTS[STORED], seed, 40, replacement=False),
    ),
    ({"balance": True, "draws": 77}, lambda seed: balanced(STORED, seed, count=77)),
]
# Options that must not change what is yielded.
WAYS = st.fixed_dictionaries(
    {},
    optional={
        "workers": st.sampled_from([1, 2, 5]),
        "in_flight": st.sampled_from([1, 2, 7]),
        "ahead": st.sampled_from(["auto", "advise", "read", "off"]),
        "ahead_bytes": st.sampled_from([0, 1, 5000]),
        "drop_behind": st.booleans(),
        "cache": st.sampled_from([0, 2000, "1 MB"]),
    },
)


@settings(max_examples=40)
@given(
    st.sampled_from(ORDERS),
    st.integers(0, 2**64 - 1),
    st.integers(0, 5),
    st.integers(1, 60),
    st.sampled_from(["keep", "drop", "pad"]),
    st.integers(1, 4),
    WAYS,
    st.data(),
)
def test_whatever_the_options_it_yields_what_a_plain_loop_yields(
    store: Store,
    choice: tuple[dict[str, Any], Callable[[int], Order]],
    seed: int,
    epoch: int,
    batch_size: int,
    last: Any,
    world_size: int,
    ways: Any,
    data: st.DataObject,
) -> None:
    options, order = choice
    rank = data.draw(st.integers(0, world_size - 1))
    share = {"last": last, "rank": rank, "world_size": world_size}
    loader = store.loader(batch_size, seed=seed, **share, **options, **ways)
    loader.set_epoch(epoch)
    for now in (epoch, epoch + 1):  # with a cache the first has filled it
        expected = list(naive(store, skipping(order(seed)), batch_size, epoch=now, **share))
        assert len(loader) == len(expected)
        assert_same(loader, expected)


@settings(max_examples=20)
@given(st.lists(st.integers(0, COUNT - 1), max_size=200), WAYS, st.booleans())
def test_a_choice_of_slots_is_read_as_it_was_chosen(store: Store, chosen: list[int], ways: Any, shuffle: bool) -> None:
    slots = store[np.array(chosen, np.int64)]
    readable = [slot for slot in chosen if slot not in FAILED]
    loader = slots.loader(16, shuffle=shuffle, **ways)
    got = list(loader)
    order = Shuffle(len(readable), 0) if shuffle else Sequential(len(readable))
    assert labels_of(got) == [readable[i] for i in order.draw(0, np.arange(len(readable)))]
    for batch, labels in got:
        np.testing.assert_array_equal(batch, store.images[labels])


@settings(max_examples=20)
@given(WAYS, st.integers(1, 300))
def test_stores_of_stores_are_read_alike(store: Store, ways: Any, batch_size: int) -> None:
    both = concatenate([store[10:90:3], store, store[[5, 5, 0]]])
    numbers = both.take(np.arange(len(both)), "labels")
    order = Shuffle(len(both) - len(both.unreadable()), 3)
    readable = np.delete(np.arange(len(both)), both.unreadable())
    got = list(both.loader(batch_size, seed=3, **ways))
    assert labels_of(got) == numbers[readable[order.draw(0, np.arange(order.count))]].tolist()
    for batch, labels in got:
        np.testing.assert_array_equal(batch, store.images[labels])


def test_a_tuple_the_images_alone_or_a_dict(store: Store) -> None:
    def first(**options: Any) -> Any:
        return next(iter(store.loader(10, shuffle=False, **options)))

    slots = STORED[:10]
    image = store.images[slots]
    pair, kind = store.targets["pair"][slots], store.targets["kind"][slots]
    assert_same([first()], [(image, slots)])
    assert_same([first(targets="pair")], [(image, pair)])
    for none in ((), []):
        batch = first(targets=none)
        assert isinstance(batch, np.ndarray)
        np.testing.assert_array_equal(batch, image)
    batch = first(targets=["pair", "kind"])
    assert list(batch) == ["images", "pair", "kind"]
    assert_same([batch.values()], [(image, pair, kind)])
    assert list(first(targets=["labels"])) == ["images", "labels"]
    unlabeled = arraystore.build(np.zeros((3, 2, 2, 3), np.uint8), size=2, progress=False)
    assert isinstance(next(iter(unlabeled.loader(3))), np.ndarray)


def test_the_arrays_of_a_batch(store: Store) -> None:
    for batch in store.loader(32, targets=["labels", "pair"], last="pad"):
        shapes = {name: (array.shape, array.dtype) for name, array in batch.items()}
        assert shapes == {
            "images": ((32, 3, 4, 6), np.uint8),
            "labels": ((32,), np.int64),
            "pair": ((32, 2), np.float32),
        }
        for array in batch.values():
            assert type(array) is np.ndarray
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert array.flags.aligned
            array[...] = 1  # a slot that could be written through a batch would be 1 from now on
    assert_same(store.loader(32, shuffle=False), naive(store, skipping(Sequential(READABLE)), 32))


def test_the_last_batch(store: Store) -> None:
    for last, sizes in (("keep", [40, 40, 19]), ("drop", [40, 40]), ("pad", [40, 40, 40])):
        loader = store.loader(40, last=last)  # type: ignore[arg-type]
        assert [len(labels) for _, labels in loader] == sizes
        assert len(loader) == len(sizes)
    got = labels_of(store.loader(40, last="pad", seed=4))
    assert got[READABLE:] == got[: 120 - READABLE]


def test_failed_slots_are_never_drawn_and_all_others_are_once_an_epoch(store: Store) -> None:
    for options in ({}, {"shuffle": False}, {"block": 4}):
        loader = store.loader(8, **options)  # type: ignore[arg-type]
        for _ in range(3):
            assert sorted(labels_of(loader)) == STORED.tolist()
    heavy = np.where(np.isin(np.arange(COUNT), FAILED), 1e9, 1.0)
    assert not set(FAILED) & set(labels_of(store.loader(64, weights=heavy, draws=5000)))
    assert not set(FAILED) & set(labels_of(store.loader(64, balance=True, draws=5000)))


def test_weights_and_balance_are_how_often_slots_come(store: Store) -> None:
    weights = np.zeros(COUNT)
    weights[[3, 4, 90]] = 1, 2, 5
    drawn = Counter(labels_of(store.loader(500, weights=weights, draws=16_000)))
    assert set(drawn) == {3, 4, 90}
    for slot, share in ((3, 2000), (4, 4000), (90, 10_000)):
        assert abs(drawn[slot] - share) < 300  # six standard deviations
    three = store[[1, 2, 3, 4, 5, 6, 8]]
    assert labels_of(three.loader(2, weights=[0, 0, 1, 0, 0, 0, 0], draws=5)) == [3] * 5
    # 60 slots of one class and 5 of another come equally often.
    few = concatenate([store[[slot]] for slot in (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2)])
    drawn = Counter(labels_of(few.loader(500, balance=True, draws=8000)))
    assert abs(drawn[1] - drawn[2]) < 540


def test_the_same_seed_gives_the_same_batches_and_each_epoch_others(store: Store) -> None:
    def epochs(**options: Any) -> list[list[int]]:
        loader = store.loader(16, **options)
        return [labels_of(loader) for _ in range(3)]

    assert epochs(seed=1) == epochs(seed=1, workers=5, in_flight=9) == epochs(seed=np.int64(1), cache="1 MB")
    every = epochs(seed=1) + epochs(seed=2)
    assert len({tuple(epoch) for epoch in every}) == 6
    loader = store.loader(16, seed=1)
    loader.set_epoch(2)
    assert loader.epoch == 2
    assert labels_of(loader) == every[2]
    assert loader.epoch == 3
    assert labels_of(store.loader(16, seed=1)) == every[0]


def test_batches_iterates_over_one_epoch_after_the_other(store: Store) -> None:
    fresh = store[:]
    assert labels_of(fresh.batches(10)) == STORED.tolist()
    shuffled = [labels_of(fresh.batches(10, shuffle=True)) for _ in range(2)]
    assert shuffled == [labels_of(fresh.batches(10, shuffle=True, epoch=epoch)) for epoch in (1, 2)]
    assert shuffled[0] != shuffled[1]


def test_two_iterations_of_one_loader_and_two_loaders_of_one_store_do_not_disturb_each_other(store: Store) -> None:
    loader = store.loader(8, seed=6, workers=2)
    expected = [list(naive(store, skipping(Shuffle(READABLE, 6)), 8, epoch=epoch)) for epoch in (0, 1)]
    pairs = list(zip(loader, loader, strict=True))
    assert_same([first for first, _ in pairs], expected[0])
    assert_same([second for _, second in pairs], expected[1])
    other = store.loader(8, seed=6)
    triples = list(zip(store.loader(8, seed=6), other, strict=True))
    assert_same([second for _, second in triples], expected[0])
    found: dict[int, Any] = {}

    def read(name: int, reader: Loader) -> None:
        found[name] = list(reader)

    readers_ = [store.loader(8, seed=6, workers=2) for _ in range(4)]
    threads = [threading.Thread(target=read, args=pair) for pair in enumerate(readers_)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    for name in range(4):
        assert_same(found[name], expected[0])


def test_augmented_batches_are_the_same_for_any_threads_and_ranks(store: Store) -> None:
    augment = Augment(crop=RandomCrop((3, 4)), hflip=0.5, dtype="float32", normalize=True, layout="NHWC")

    def images_by_slot(**options: Any) -> dict[int, bytes]:
        world_size = options.pop("world_size", 1)
        return {
            int(label): image.tobytes()
            for rank in range(world_size)
            for batch, labels in store.loader(augment=augment, rank=rank, world_size=world_size, **options)
            for image, label in zip(batch, labels, strict=True)
        }

    one = images_by_slot(batch_size=10, workers=1)
    assert set(one) == set(STORED)
    assert one == images_by_slot(batch_size=33, workers=5, world_size=3)
    assert one == images_by_slot(batch_size=7, shuffle=False, cache="1 MB")
    assert one != images_by_slot(batch_size=10, seed=1)
    batch, labels = next(iter(store.loader(10, augment=Augment(crop=CenterCrop((2, 2)), layout="NHWC"))))
    np.testing.assert_array_equal(batch, store.images[labels][:, :, 1:3, 2:4].transpose(0, 2, 3, 1))


def test_a_transform_gets_each_image_as_height_width_channels_and_a_generator_of_its_own(store: Store) -> None:
    seen: list[tuple[Any, ...]] = []

    def transform(image: Any, rng: np.random.Generator) -> Any:
        seen.append((image.shape, image.dtype, image.flags.c_contiguous, image.flags.writeable))
        image = image.astype(np.float32)
        image[0, 0, 0] = rng.random()
        return image[:2]

    def run(**options: Any) -> dict[int, bytes]:
        got = list(store.loader(9, transform=transform, **options))
        assert {batch.dtype for batch, _ in got} == {np.dtype(np.float32)}
        return {
            int(label): image.tobytes()
            for batch, labels in got
            for image, label in zip(batch, labels, strict=True)
            if np.array_equal(image.flat[1:], store.images[label].transpose(1, 2, 0)[:2].flat[1:])
        }

    one = run(workers=1)
    assert set(seen) == {((4, 6, 3), np.dtype(np.uint8), True, True)}
    assert set(one) == set(STORED)
    assert len({image[:4] for image in one.values()}) == READABLE
    assert one == run(workers=5, shuffle=False)
    assert one != run(seed=1)
    # Drawn twice, an image is changed in two ways.
    twice = store[[3]].loader(2, transform=transform, weights=[1], draws=2)
    batch = next(iter(twice))[0]
    assert batch[0, 0, 0, 0] != batch[1, 0, 0, 0]
    cropped = store.loader(4, augment=Augment(layout="NHWC", crop=CenterCrop(2)), transform=np.flipud, shuffle=False)
    expected = store.images[STORED[:4]][:, :, 1:3, 2:4].transpose(0, 2, 3, 1)[:, ::-1]
    np.testing.assert_array_equal(next(iter(cropped))[0], expected)


def test_a_batch_transform_gets_the_batch_and_its_result_is_yielded(store: Store) -> None:
    sums = store.loader(20, shuffle=False, batch_transform=lambda batch: (batch[0].sum(), batch[1].tolist()))
    expected = [(x.sum(), y.tolist()) for x, y in naive(store, skipping(Sequential(READABLE)), 20)]
    assert list(sums) == expected
    nothing = store.loader(20, batch_transform=lambda _: None)
    assert list(nothing) == [None] * 5


def test_what_a_transform_may_not_return(store: Store) -> None:
    def odd(image: Any) -> Any:
        return image[:1] if np.array_equal(image, store.images[20].transpose(1, 2, 0)) else image

    said(
        ValueError,
        "transform returned uint8 of shape (1, 6, 3) for slot 20, and uint8 of (4, 6, 3) for the first: a batch needs "
        "them alike\nwhile batch 2 of epoch 0 was made",
        list,
        store.loader(8, transform=odd, shuffle=False),
    )
    said(
        TypeError,
        "transform returned a dict: it must return an array of numbers\ntransform was called with slot 1",
        iter,
        store.loader(8, transform=lambda image: {"image": image}, shuffle=False),
    )


def test_allocate_provides_the_buffers(store: Store) -> None:
    made: list[np.ndarray[Any, Any]] = []

    def allocate(size: int) -> np.ndarray[Any, Any]:
        made.append(np.empty(size, np.uint8))
        return made[-1]

    loader = store.loader(16, allocate=allocate, in_flight=2, workers=1)
    for _ in range(3):
        for batch, labels in loader:
            assert any(np.shares_memory(batch, block) and np.shares_memory(labels, block) for block in made)
    assert 1 <= len(made) <= 5


def test_slots_are_asked_for_in_their_order_so_many_bytes_ahead_and_the_first_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []

    def read(_: ReadAhead, base: Any, *, probe: bool = True) -> bool:
        assert probe is bool(asked)
        assert (threading.current_thread() is threading.main_thread()) is not probe
        asked.append(tuple(base.tolist()))
        return True

    monkeypatch.setattr(ReadAhead, "read", read)
    order = skipping(Shuffle(READABLE, 0)).draw(0, np.arange(READABLE))
    for ahead_bytes, most in ((1 << 20, READABLE), (3 * 10 * (72 + mmap.PAGESIZE), 40)):
        asked.clear()
        iterator = iter(store.loader(10, in_flight=1, ahead_bytes=ahead_bytes))
        wait_for(lambda most=most: sum(map(len, asked)) >= most)  # type: ignore[misc]
        assert [slot for slots in asked for slot in slots] == order[:most].tolist()
        assert len(asked[0]) == 10
        batches = list(iterator)
        assert labels_of(batches) == order.tolist()
        remaining = iter(order.tolist())  # what was begun by then is not asked for any more
        assert all(slot in remaining for slots in asked for slot in slots)
        assert readers() == []


def test_at_most_so_many_batches_are_in_flight(store: Store) -> None:
    made: list[int] = []
    iterator = iter(store.loader(4, in_flight=3, workers=2, batch_transform=lambda batch: made.append(1) or batch))
    for taken in range(1, 10):
        next(iterator)
        assert len(made) <= taken + 3
    iterator.close()  # type: ignore[attr-defined]


def test_a_consumer_that_keeps_batches_gets_different_ones_unharmed(store: Store) -> None:
    loader = store.loader(4, seed=2)
    kept = [batch for _ in range(2) for batch in loader]
    expected = [batch for epoch in (0, 1) for batch in naive(store, skipping(Shuffle(READABLE, 2)), 4, epoch=epoch)]
    assert len(kept) == 50
    assert_same(kept, expected)
    for i, (batch, _) in enumerate(kept):
        batch[...] = i
    assert [int(batch.max()) for batch, _ in kept] == list(range(50))
    assert loader._pool is not None
    idle = len(loader._pool._free)
    kept.clear()
    assert idle < len(loader._pool._free) <= 18  # the others went: what in_flight needs is kept, and no more


def test_steady_state_allocates_no_batch(tmp_path: Path) -> None:
    pixels = np.zeros((64, 128, 128, 3), np.uint8)
    store = arraystore.build(pixels, tmp_path / "large.store", size=128, labels=np.arange(64), progress=False)
    loader = store.loader(32, workers=2, in_flight=2)  # a batch has 1.5 MB
    for _ in range(3):
        for _batch in loader:
            pass
    tracemalloc.start()
    try:
        for _ in range(10):
            for _batch in loader:
                pass
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 1 << 20  # of all that was allocated since: not even one batch
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("epochs", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_anonymous_memory_is_flat_over_epochs(store: Store, epochs: int) -> None:
    loader = store.loader(16, workers=2, augment=Augment(crop=CenterCrop(2)))

    def run(count: int) -> int:
        for _ in range(count):
            for _batch in loader:
                pass
        gc.collect()
        rollup = Path("/proc/self/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Anonymous:"))

    run(20)
    before = run(5)
    assert run(epochs) - before < 2048  # kB: in 100 epochs 700 batches of 200 bytes an image, and 300 threads


def test_the_state_of_a_fresh_loader(store: Store) -> None:
    state = store.loader(16, seed=np.int64(5)).state_dict()
    assert json.loads(json.dumps(state)) == state
    assert (state["version"], state["epoch"], state["position"], state["seed"]) == (1, 0, 0, 5)
    assert state["order"].startswith("skip slots=")


WHOLE = "must be a whole number"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, f"batch_size {WHOLE} of 1 or more, not 0"),
    ({"batch_size": 2.5}, f"batch_size {WHOLE} of 1 or more, not 2.5"),
    ({"seed": -1}, f"seed {WHOLE} from 0 to 18,446,744,073,709,551,615, not -1"),
    ({"seed": None, "shuffle": False}, f"seed {WHOLE} from 0 to 18,446,744,073,709,551,615, not None"),
    ({"last": "drop_last"}, "last must be one of 'keep', 'drop', 'pad', not 'drop_last'"),
    ({"targets": "score"}, "there is no target 'score': the targets are 'labels', 'kind', 'pair'"),
    ({"targets": ["kind", 3]}, "there is no target 3: the targets are 'labels', 'kind', 'pair'"),
    ({"weights": [1, 2]}, "weights must have a number for each of the 103 slots, not shape (2,)"),
    ({"weights": ["a"] * COUNT}, "weights must be numbers in one row, not <U1 of shape (99,)"),
    ({"weights": [0] * COUNT}, "no slot has a weight above 0, so none can be drawn"),
    ({"weights": [1] * COUNT, "balance": True}, "weights and balance=True were passed: choose one"),
    (
        {"weights": [1] * COUNT, "replacement": False, "draws": 100},
        "100 draws without replacement need as many weights above 0, there are 99: draw fewer, or with replacement",
    ),
    ({"draws": 5}, "draws was passed without weights or balance: an epoch draws every slot once"),
    ({"draws": -1, "balance": True}, f"draws {WHOLE} of 0 or more, not -1"),
    ({"block": 0}, f"block {WHOLE} of 1 or more, not 0"),
    ({"block": 2, "window": 0}, f"window {WHOLE} of 1 or more, not 0"),
    ({"block": 2, "shuffle": False}, "block was passed with shuffle=False: there is nothing to shuffle"),
    ({"rank": 0}, "rank=0 and world_size=None: give both, or neither"),
    ({"rank": 2, "world_size": 2}, f"rank {WHOLE} from 0 to 1, not 2"),
    ({"workers": 0}, f"workers {WHOLE} of 1 or more, not 0"),
    ({"workers": "two"}, f"workers {WHOLE} of 1 or more, not 'two'"),
    ({"in_flight": 0}, f"in_flight {WHOLE} of 1 or more, not 0"),
    ({"ahead": "soon"}, "ahead must be one of 'auto', 'advise', 'read', 'off', not 'soon'"),
    ({"ahead_bytes": -1}, f"ahead_bytes {WHOLE} of 0 or more, not -1"),
    (
        {"cache": "8 apples"},
        "a size in bytes must be a number, or a text such as '8 GB' or '500 MiB', not '8 apples'",
    ),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_options_that_cannot_be(store: Store, options: dict[str, Any], message: str) -> None:
    refused(message, store.loader, **options)
    assert readers() == []


def test_options_that_these_slots_cannot_have(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    unlabeled = arraystore.build(np.zeros((3, 2, 2, 3), np.uint8), size=2, progress=False)
    refused("balance=True needs labels, and these slots have none: pass weights", unlabeled.loader, balance=True)
    refused("there is no target 'labels': the targets are none", unlabeled.loader, targets="labels")
    named = slots_of([SlotArray(np.zeros((2, 3)), targets={"images": np.zeros(2)})])
    refused("targets are what comes with the images: leave 'images' out of them", named.loader, targets="images")
    monkeypatch.setattr("arraystore._reading.cache.available_memory_bytes", lambda: 1000)
    said(
        SpaceError,
        "a cache of 103 slots needs 0.00 GB of memory, 0.00 GB are free: pass a smaller budget",
        store.loader,
        cache="1 MB",
    )
    for epoch in (-1, 1.5, "2"):
        refused(f"epoch {WHOLE} of 0 or more, not {epoch!r}", store.loader().set_epoch, epoch)
    with pytest.raises(SpecError):
        store.batches(0)


def test_nothing_to_read_is_an_epoch_without_batches(store: Store) -> None:
    for slots in (store[[]], store[FAILED]):
        for options in ({}, {"shuffle": False}, {"last": "pad"}, {"transform": np.flipud}):
            loader = slots.loader(4, **options)  # type: ignore[arg-type]
            assert len(loader) == 0
            assert list(loader) == []
            assert list(loader) == []
            assert loader.epoch == 2
    beyond = store[[1, 2]].loader(2, rank=3, world_size=4)
    assert (len(beyond), list(beyond)) == (0, [])


def test_a_closed_a_removed_and_a_replaced_store_are_read_on(tmp_path: Path) -> None:
    store = numbered_store(tmp_path / "x.store")
    pixels = np.array(store.images)
    loader = store.loader(30, shuffle=False, drop_behind=True)
    store.close()
    moved = partial((tmp_path / "x.store").rename, tmp_path / "y.store")
    other = partial(arraystore.build, np.zeros((4, 4, 6, 3), np.uint8), tmp_path / "x.store", progress=False)
    for happens in (lambda: None, moved, lambda: other(size=(4, 6))):
        happens()
        np.testing.assert_array_equal(np.concatenate([batch for batch, _ in loader]), pixels[STORED])
