"""Windows are where torchvision would put them, equally likely, and functions of seed, epoch, slot and draw alone."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraystore import Augment, CenterCrop, PadAndCrop, RandomCrop, RandomResizedCrop
from arraystore._augmenting.crops import Chance, Crop, Geometry
from arraystore._common.keyed_random import hashed
from arraystore.errors import SpecError

PINNED = [(5, 2, 23, 19, 0, 0), (5, 5, 25, 30, 1, 1), (0, 7, 26, 23, 0, 1)]
CROPS: list[Crop | None] = [None, CenterCrop(20), RandomCrop((9, 17)), PadAndCrop(4), RandomResizedCrop(24)]
SLOT: dict[str, Any] = {"slot_shape": (3, 30, 40), "layout": "NCHW"}


def chance(count: int, *, seed: int = 0) -> Chance:
    return Chance(np.arange(count), seed=seed, epoch=0, draws=None)


def sample(augment: Augment, slots: Any, *, seed: int = 1, epoch: int = 2, draws: Any = None, **slot: Any) -> Geometry:
    return augment.sample(np.asarray(slots), seed=seed, epoch=epoch, draws=draws, **(SLOT | slot))


# --- chance ----------------------------------------------------------------------------------------------------------


def test_the_hash_is_splitmix64() -> None:
    """The published generator's first outputs for state 1234567, so that no change of ours goes unseen."""
    outputs = hashed(np.array([1234567], np.uint64), np.arange(5, dtype=np.uint64))
    assert outputs.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_rows_are_pinned() -> None:
    """A run must go on after an upgrade: these numbers may never change."""
    rows = sample(Augment(crop=RandomResizedCrop(24), hflip=0.5, vflip=0.5), [0, 1, 10**12])
    assert [tuple(row) for row in rows.tolist()] == PINNED


@pytest.mark.parametrize("crop", CROPS)
def test_a_row_depends_on_nothing_else_in_its_batch(crop: Crop | None) -> None:
    augment = Augment(crop=crop, hflip=0.5, vflip=0.5)
    slots = np.random.default_rng(0).permutation(500)
    whole = sample(augment, slots, draws=slots + 7)
    parts = [sample(augment, part, draws=part + 7) for part in np.split(slots, [1, 1, 90, 333])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    order = np.argsort(slots)
    np.testing.assert_array_equal(sample(augment, slots[order], draws=slots[order] + 7), whole[order])


@pytest.mark.parametrize("other", [{"seed": 3}, {"epoch": 3}, {"draws": np.arange(300)}, {"seed": -1}, {"seed": 2**70}])
def test_seed_epoch_and_draw_change_rows(other: dict[str, Any]) -> None:
    augment = Augment(crop=RandomCrop((9, 17)), hflip=0.5)
    rows, others = sample(augment, np.arange(300)), sample(augment, np.arange(300), **other)
    assert 0 < (rows == others).mean() < 0.05 or (rows == others).sum() == 0
    repeats = sample(augment, np.zeros(300, np.int64), draws=np.arange(300))
    assert len(np.unique(repeats)) > 200


def test_options_do_not_change_each_others_numbers() -> None:
    slots = np.arange(200)
    plain = sample(Augment(crop=RandomCrop(9)), slots)
    flipped = sample(Augment(crop=RandomCrop(9), hflip=0.5, vflip=0.3), slots)
    np.testing.assert_array_equal(plain["top"], flipped["top"])
    np.testing.assert_array_equal(sample(Augment(hflip=0.5), slots)["hflip"], flipped["hflip"])


def test_numbers_are_uniform_and_independent() -> None:
    numbers = chance(20_000, seed=5).numbers(0, 8)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for row in numbers:
        counts = np.bincount((row * 50).astype(int), minlength=50)
        assert ((counts - 400.0) ** 2 / 400).sum() < 100  # 49 degrees of freedom: 1 in 30,000
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 0.03
    correlations = np.corrcoef(numbers)[~np.eye(8, dtype=bool)]
    assert np.abs(correlations).max() < 0.03


@given(st.floats(0, 1))
def test_flips_come_as_often_as_asked(share: float) -> None:
    rows = sample(Augment(hflip=share, vflip=1 - share), np.arange(2000))
    for name, expected in (("hflip", share), ("vflip", 1 - share)):
        assert set(rows[name].tolist()) <= {0, 1}
        assert abs(rows[name].mean() - expected) <= 5 * math.sqrt(0.25 / 2000)
        assert expected not in {0.0, 1.0} or rows[name].mean() == expected


def test_drawing_costs_little() -> None:
    augment = Augment(crop=RandomResizedCrop(224), hflip=0.5)
    slots = np.arange(256)
    times = []
    for epoch in range(20):
        start = time.perf_counter()
        augment.sample(slots, seed=0, epoch=epoch, slot_shape=(3, 256, 256), layout="NCHW")
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-3  # measured 0.2 ms; generous, for the machine may be busy


# --- windows ---------------------------------------------------------------------------------------------------------


def test_random_crops_reach_every_place_equally_often() -> None:
    rows = sample(Augment(crop=RandomCrop((27, 36))), np.arange(20_000))
    counts = np.zeros((4, 5))
    np.add.at(counts, (rows["top"], rows["left"]), 1)
    assert np.abs(counts - 1000).max() < 160
    assert set(rows["height"]) == {27}
    assert set(rows["width"]) == {36}


def test_padded_crops_reach_from_frame_to_frame() -> None:
    rows = sample(Augment(crop=PadAndCrop(2, (29, 41))), np.arange(2000))
    assert (rows["top"].min(), rows["top"].max()) == (-2, 3)
    assert (rows["left"].min(), rows["left"].max()) == (-2, 1)
    same = sample(Augment(crop=PadAndCrop(4)), np.arange(2000))
    assert (same["top"].min(), same["top"].max(), set(same["height"]), set(same["width"])) == (-4, 4, {30}, {40})


@pytest.mark.parametrize(("size", "place"), [(20, (5, 10)), ((30, 40), (0, 0)), ((29, 37), (0, 2)), ((27, 39), (2, 0))])
def test_center_crops_are_rounded_as_torchvision_rounds_them(size: Any, place: tuple[int, int]) -> None:
    row = sample(Augment(crop=CenterCrop(size)), [3])[0]
    assert (row["top"], row["left"]) == place


def torchvision_window(
    share: Any, shape: Any, place: Any, height: int, width: int, scale: Any, ratio: Any
) -> tuple[int, int, int, int]:
    """Its RandomResizedCrop.get_params, line by line, with numbers from 0 to 1 in the place of its generator."""
    area = height * width
    log_ratio = [math.log(end) for end in ratio]
    for u, v in zip(share, shape, strict=True):
        target_area = area * (scale[0] + u * (scale[1] - scale[0]))
        aspect_ratio = math.exp(log_ratio[0] + v * (log_ratio[1] - log_ratio[0]))
        w = round(math.sqrt(target_area * aspect_ratio))
        h = round(math.sqrt(target_area / aspect_ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
    in_ratio = float(width) / float(height)
    if in_ratio < min(ratio):
        w = width
        h = max(1, round(w / min(ratio)))  # there 0 is possible, and fails
    elif in_ratio > max(ratio):
        h = height
        w = max(1, round(h * max(ratio)))
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
    st.integers(0, 10**6),
)
def test_resized_crops_are_drawn_as_torchvision_draws_them(
    height: int, width: int, scale: Any, ratio: Any, seed: int
) -> None:
    drawn = chance(40, seed=seed)
    crop = RandomResizedCrop(8, tuple(scale), tuple(ratio))
    windows = np.stack(crop.windows(drawn, height, width), axis=1)
    place, tries = drawn.numbers(2, 2), drawn.numbers(4, 20).reshape(10, 2, 40)
    for i, window in enumerate(windows.tolist()):
        expected = torchvision_window(tries[:, 0, i], tries[:, 1, i], place[:, i], height, width, scale, ratio)
        assert tuple(window) == expected
        top, left, h, w = window
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width


def test_a_window_that_never_fits_is_the_largest_allowed_in_the_middle() -> None:
    rows = sample(Augment(crop=RandomResizedCrop(8, (1.0, 1.0), (1.0, 1.0))), np.arange(5))
    assert {tuple(row)[:4] for row in rows.tolist()} == {(0, 5, 30, 30)}


# --- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CenterCrop(0), "size must be 1 to 65535 pixels on each side, not 0"),
        (lambda: RandomCrop("8"), "size must be a whole number of pixels, or (height, width), not '8'"),
        (lambda: PadAndCrop(-1), "padding must be a whole number from 0 to 65535, not -1"),
        (lambda: PadAndCrop(4, fill=256), "fill must be a whole number from 0 to 255, not 256"),
        (lambda: PadAndCrop(True), "padding must be a whole number from 0 to 65535, not True"),
        (
            lambda: RandomResizedCrop(8, scale=(0.5, 1.5)),
            "scale must be (smallest, largest), both more than 0 and at most 1, not (0.5, 1.5)",
        ),
        (
            lambda: RandomResizedCrop(8, ratio=(2, 1)),
            "ratio must be (smallest, largest), both more than 0, not (2, 1)",
        ),
        (lambda: RandomResizedCrop(8, ratio=1.0), "ratio must be (smallest, largest), both more than 0, not 1.0"),
    ],
)
def test_crops_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize("crop", [CenterCrop(31), RandomCrop((30, 41)), PadAndCrop(2, 35)])
def test_a_crop_larger_than_its_slot(crop: Crop) -> None:
    height, width = (34, 44) if isinstance(crop, PadAndCrop) else (30, 40)
    side = crop.size
    assert side is not None
    for call in (lambda: Augment(crop=crop).output((3, 30, 40), "NCHW"), lambda: sample(Augment(crop=crop), [1])):
        with pytest.raises(SpecError) as error:
            call()
        assert str(error.value) == (
            f"a crop of {side[0]} × {side[1]} pixels is larger than the {height} × {width} pixels it is cut from: "
            "choose a smaller crop, PadAndCrop, or RandomResizedCrop"
        )
