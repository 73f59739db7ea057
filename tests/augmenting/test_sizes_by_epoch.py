"""Crops with sizes by epoch: the size of an epoch, the same windows whatever the size, and what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraystore import Augment, CenterCrop, PadAndCrop, RandomCrop, RandomResizedCrop
from arraystore.errors import SpecError

SIZES: Any = {0: 8, 6: (10, 12), 16: 9}
KINDS: Any = [CenterCrop, RandomCrop, RandomResizedCrop]
SLOT: dict[str, Any] = {"slot_shape": (3, 30, 40), "layout": "NCHW"}


def growing(epoch: int) -> int:
    return 8 + epoch // 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_crop_of_an_epoch_is_that_of_its_size(kind: Any) -> None:
    crop = kind(sizes=SIZES)
    assert crop.size is None
    for epoch, size in ((0, 8), (5, 8), (6, (10, 12)), (15, (10, 12)), (16, 9), (1000, 9)):
        assert crop.at_epoch(epoch) == kind(size)
    assert [kind(sizes=growing).at_epoch(epoch) for epoch in (0, 1, 9)] == [kind(8), kind(8), kind(12)]
    fixed = kind(8)
    assert fixed.at_epoch(3) is fixed
    assert fixed.sizes is None


def test_the_other_options_stay() -> None:
    crop = RandomResizedCrop(sizes={0: 8, 2: 16}, scale=(0.3, 0.5), ratio=(1, 2))
    assert crop.at_epoch(2) == RandomResizedCrop(16, (0.3, 0.5), (1, 2))
    augment = Augment(crop=crop, hflip=0.3, dtype="float16", normalize=((1, 2, 3), (4, 5, 6)), follow={"b": "boxes"})
    assert augment.at_epoch(1) == Augment(
        crop=RandomResizedCrop(8, (0.3, 0.5), (1, 2)),
        hflip=0.3,
        dtype="float16",
        normalize=((1, 2, 3), (4, 5, 6)),
        follow={"b": "boxes"},
    )
    for fixed in (Augment(), Augment(crop=PadAndCrop(4)), Augment(crop=RandomCrop(8))):
        assert fixed.at_epoch(5) is fixed


@given(
    st.sampled_from([(30, 40), (8, 9), (100, 64)]),
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=2, max_size=2),
    st.integers(0, 2**64 - 1),
    st.integers(0, 5),
)
def test_windows_and_mirrors_do_not_depend_on_the_size(
    slot: tuple[int, int], sizes: list[tuple[int, int]], seed: int, epoch: int
) -> None:
    """A run with other sizes sees the same parts of the same images."""
    slots = np.arange(50)
    first, second = (
        Augment(crop=RandomResizedCrop(sizes={0: 224, epoch: size}), hflip=0.5, vflip=0.5)
        .at_epoch(epoch)
        .sample(slots, seed=seed, epoch=epoch, slot_shape=(3, *slot), layout="NCHW")
        for size in sizes
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kind", [CenterCrop, RandomCrop])
def test_mirrors_of_other_crops_do_not_depend_on_the_size(kind: Any) -> None:
    augment, slots = Augment(crop=kind(sizes={0: 8, 1: 20}), hflip=0.5, vflip=0.5), np.arange(200)
    small, large = (augment.at_epoch(epoch).sample(slots, seed=3, epoch=7, **SLOT) for epoch in (0, 1))
    for name in ("hflip", "vflip"):
        np.testing.assert_array_equal(small[name], large[name])
    if kind is RandomCrop:  # the same share of the way from the first corner to the last
        for name, side in (("top", 30), ("left", 40)):
            ways = [rows[name] / (side - size) for rows, size in ((small, 8), (large, 20))]
            assert abs(ways[0] - ways[1]).max() <= 1 / (side - 20)


@pytest.mark.parametrize("kind", KINDS)
def test_an_augmentation_of_many_epochs_makes_no_image(kind: Any) -> None:
    augment = Augment(crop=kind(sizes=SIZES))
    stored, rows = np.zeros((2, 3, 30, 40), np.uint8), np.arange(2)
    geometry = augment.at_epoch(0).sample(rows, seed=0, epoch=0, **SLOT)
    out = np.zeros((2, 3, 8, 8), np.uint8)
    for call in (
        lambda: augment.output((3, 30, 40), "NCHW"),
        lambda: augment.sample(rows, seed=0, epoch=0, **SLOT),
        lambda: augment.apply(stored, rows, geometry, out, layout="NCHW"),
        lambda: Augment(crop=augment.crop, follow={"m": "mask"}).follow_geometry({"m": stored}, geometry, **SLOT),
    ):
        with pytest.raises(SpecError) as caught:
            call()
        assert str(caught.value) == (
            "the crop has sizes by epoch, and an image has that of one: call at_epoch(epoch) first"
        )
    augment.at_epoch(0).apply(stored, rows, geometry, out, layout="NCHW")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (RandomCrop, "a crop has a size, or sizes by epoch: pass one of both, not None and None"),
        (
            lambda: RandomResizedCrop(8, sizes={0: 8}),
            "a crop has a size, or sizes by epoch: pass one of both, not 8 and {0: 8}",
        ),
        (lambda: CenterCrop(sizes={0: 8, 4: 0}), "sizes[4] must be 1 to 65535 pixels on each side, not 0"),
        (
            lambda: RandomResizedCrop(sizes={0: 8.5}),
            "sizes[0] must be a whole number of pixels, or (height, width), not 8.5",
        ),
        (lambda: RandomResizedCrop(sizes={1: 8}), "sizes must have a value for epoch 0, and its epochs are [1]"),
        (lambda: RandomResizedCrop(sizes=8), "sizes must map epochs to values, or be a function of the epoch, not 8"),
        (
            lambda: RandomCrop(sizes=lambda epoch: 8 - epoch).at_epoch(9),
            "sizes(9) must be 1 to 65535 pixels on each side, not -1",
        ),
        (lambda: RandomCrop(sizes={0: 8}).at_epoch(-1), "epoch must be a whole number of 0 or more, not -1"),
    ],
)
def test_sizes_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value) == message


def test_crops_are_compared_hashed_and_pickled() -> None:
    for sizes in (SIZES, growing):
        for kind in KINDS:
            crop = kind(sizes=sizes)
            same = pickle.loads(pickle.dumps(crop))
            assert same == crop
            assert hash(same) == hash(crop)
            assert same.at_epoch(7) == crop.at_epoch(7)
            assert crop != kind(sizes={0: 8})
    assert RandomCrop(sizes={0: 8, 3: 9}) == RandomCrop(sizes={3: (9, 9), 0: (8, 8)})
    assert repr(RandomCrop(sizes={3: 9, 0: 8})) == "RandomCrop(size=None, sizes={0: (8, 8), 3: (9, 9)})"
    with pytest.raises((AttributeError, pickle.PicklingError), match="<lambda>"):
        pickle.dumps(RandomCrop(sizes=lambda epoch: 8 + epoch))
