"""Sizes of images and of batches that change between epochs: each epoch is that of a loader which has no other."""

from __future__ import annotations

import json
import pickle
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.encoded_slots import pair, same
from support.slots import slots_of

from arraystore import Augment, CenterCrop, Loader, RandomCrop, RandomResizedCrop, Slots, SpecError
from arraystore._stores.slot_array import SlotArray

N, EPOCHS = 41, 5


def slots(count: int = N) -> Slots:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 20, 24), np.uint8)
    masks = np.ascontiguousarray(pixels[:, 0])
    return slots_of(
        [SlotArray(pixels, targets={"labels": np.arange(count), "masks": masks})], layout="NCHW", masks={"masks": 255}
    )


def resized(sizes: Any) -> Augment:
    return Augment(crop=RandomResizedCrop(sizes=sizes), hflip=0.5)


def growing(epoch: int) -> int:
    return 8 + 2 * epoch


def shrinking(epoch: int) -> int:
    return 16 - 3 * epoch


def by_epoch(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[int, Any]]:
    later = st.dictionaries(st.integers(1, EPOCHS), values, max_size=3)
    return st.tuples(values, later).map(lambda both: {0: both[0]} | both[1])


def held(values: dict[int, Any], epoch: int) -> Any:
    return values[max(first for first in values if first <= epoch)]


SIDES = st.one_of(st.integers(1, 20), st.tuples(st.integers(1, 20), st.integers(1, 20)))


@settings(max_examples=15)
@given(
    st.sampled_from([CenterCrop, RandomCrop, RandomResizedCrop]),
    by_epoch(SIDES),
    by_epoch(st.integers(1, 50)),
    st.sampled_from(["keep", "drop", "pad"]),
    st.integers(1, 3),
    st.fixed_dictionaries({"workers": st.sampled_from([1, 3]), "in_flight": st.sampled_from([None, 1])}),
    st.booleans(),
)
def test_each_epoch_is_that_of_its_sizes(
    kind: Any, sizes: Any, counts: Any, last: Any, world_size: int, ways: Any, masks: bool
) -> None:
    options: dict[str, Any] = {"seed": 9, "last": last, "world_size": world_size, **ways}
    if masks:
        options["targets"] = ["labels", "masks"]
    source = slots()
    for rank in range(world_size):
        loader = source.loader(counts, augment=Augment(crop=kind(sizes=sizes), hflip=0.5), rank=rank, **options)
        for epoch in range(EPOCHS + 1):
            augment = Augment(crop=kind(held(sizes, epoch)), hflip=0.5)
            fixed = source.loader(held(counts, epoch), augment=augment, rank=rank, **options)
            fixed.set_epoch(epoch)
            assert (loader.epoch, len(loader), loader.batch_size) == (epoch, len(fixed), held(counts, epoch))
            assert loader.share == loader.share_at(epoch) == fixed.share
            if len(fixed):
                same([loader.batch(len(fixed) - 1, epoch=epoch)], [fixed.batch(len(fixed) - 1, epoch=epoch)])
            same(loader, fixed)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("sizes", [{0: 12, 1: 16, 2: (24, 20)}, growing])
def test_encoded_slots_have_the_pixels_of_raw_ones(layout: str, sizes: Any) -> None:
    """Also where a window is at least twice the image: a JPEG is decoded whole there, not scaled."""
    encoded, raw = (
        each.loader({0: 7, 2: 5}, seed=2, augment=resized(sizes), targets=["labels", "masks"]) for each in pair(layout)
    )
    for _ in range(4):
        assert len(encoded) == len(raw)
        same(encoded, raw)


def test_shapes_change_exactly_at_their_epoch() -> None:
    loader = slots().loader({0: 20, 2: 10}, augment=resized({0: 8, 1: 12, 3: 8}), targets=())
    shapes = [{batch.shape for batch in loader} for _ in range(4)]
    assert shapes == [
        {(20, 3, 8, 8), (1, 3, 8, 8)},
        {(20, 3, 12, 12), (1, 3, 12, 12)},
        {(10, 3, 12, 12), (1, 3, 12, 12)},
        {(10, 3, 8, 8), (1, 3, 8, 8)},
    ]
    loader.set_epoch(1)
    assert next(iter(loader)).shape == (20, 3, 12, 12)


def test_functions_of_the_epoch() -> None:
    loader = slots().loader(shrinking, augment=resized(growing), last="drop")
    assert [[images.shape for images, _ in loader] for _ in range(3)] == [
        [(16, 3, 8, 8)] * 2,
        [(13, 3, 10, 10)] * 3,
        [(10, 3, 12, 12)] * 4,
    ]
    assert repr(loader) == "<arraystore.Loader of 41 slots an epoch, epoch 3 has 5 batches of 7>"


def test_the_length_is_that_of_the_epoch_that_is_read() -> None:
    loader = slots(40).loader({0: 20, 1: 10, 2: 5})
    lengths = []
    for _ in range(2):
        iterator = iter(loader)
        lengths.append((len(loader), iterator.__length_hint__()))  # type: ignore[attr-defined]
        list(iterator)
        lengths.append((len(loader), loader.epoch))
    assert lengths == [(2, 2), (4, 1), (4, 4), (8, 2)]


def test_a_run_goes_on_in_the_middle_of_an_epoch() -> None:
    source = slots()
    counts, augment = {0: 8, 1: 5, 2: 3}, resized({0: 6, 1: 10, 2: 4})
    whole = source.loader(counts, seed=4, augment=augment)
    expected = [batch for _ in range(3) for batch in whole]
    for taken in (0, 3, 6, 7, 10, 15, 16, 20):
        loader = source.loader(counts, seed=4, augment=augment)
        got = []
        while len(got) < taken:
            got += islice(iter(loader), taken - len(got))
        state = json.loads(json.dumps(loader.state_dict()))
        for other in (source.loader(counts, seed=4, augment=augment), pickle.loads(pickle.dumps(loader))):
            other.load_state_dict(state)
            rest = list(other) if state["position"] else []
            while other.epoch < 3:
                rest += other
            same(got + rest, expected)


def test_a_state_goes_on_with_other_batch_sizes() -> None:
    source = slots()
    first = source.loader({0: 8, 1: 4}, seed=1)
    list(first)
    got = [labels for _, labels in islice(iter(first), 3)]
    second = source.loader({0: 1, 1: 7}, seed=1)
    second.load_state_dict(first.state_dict())
    batches = [labels for _, labels in second]
    assert [len(labels) for labels in batches] == [7, 7, 7, 7, 1]
    plain = source.loader(N, seed=1)
    np.testing.assert_array_equal(np.concatenate(got + batches), plain.batch(0, epoch=1)[1])


def test_buffers_change_with_the_shapes_and_only_then() -> None:
    loader = slots(40).loader({0: 10, 3: 5}, augment=resized({0: 8, 2: 12}), in_flight=2)
    pools, kept, copies = [], [], []
    for _ in range(5):
        for images, _ in loader:
            kept.append(images)
            copies.append(images.copy())
        pools.append(loader._pool)
    assert [first is second for first, second in pairwise(pools)] == [True, False, False, True]
    same(kept, copies)  # no later batch has overwritten one


def test_a_transform_is_asked_for_the_shape_of_each_size_once() -> None:
    seen: list[tuple[int, ...]] = []

    def transform(image: Any) -> Any:
        seen.append(image.shape)
        return image[::2]

    loader = slots(4).loader(2, augment=resized({0: 8, 2: 12}), transform=transform, workers=1)
    shapes = [[images.shape for images, _ in loader] for _ in range(4)]
    assert shapes == [[(2, 4, 8, 3)] * 2] * 2 + [[(2, 6, 12, 3)] * 2] * 2
    assert [seen.count((side, side, 3)) for side in (8, 12)] == [1 + 2 * 4] * 2


def test_the_batches_of_an_epoch_by_its_number() -> None:
    source = slots()
    for epoch, count in ((0, 8), (1, 5)):
        images, _ = next(source.batches({0: 8, 1: 5}, epoch=epoch, augment=resized(growing)))
        assert images.shape == (count, 3, 8 + 2 * epoch, 8 + 2 * epoch)


@pytest.mark.parametrize(
    ("batch_size", "message"),
    [
        ({}, "batch_size must have a value for epoch 0, and its epochs are none"),
        ({1: 8}, "batch_size must have a value for epoch 0, and its epochs are [1]"),
        ({0: 8, 2: 0}, "batch_size[2] must be a whole number of 1 or more, not 0"),
        ({0: 8, "2": 4}, "an epoch of batch_size must be a whole number of 0 or more, not '2'"),
        (lambda _: "8", "batch_size(0) must be a whole number of 1 or more, not '8'"),
        (0, "batch_size must be a whole number of 1 or more, not 0"),
        ((8, 4), "batch_size must be a whole number of 1 or more, not (8, 4)"),
    ],
)
def test_batch_sizes_that_cannot_be(batch_size: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        slots().loader(batch_size)
    assert str(caught.value) == message


def test_sizes_of_later_epochs_are_checked_at_once() -> None:
    """An error after days of training would come too late."""
    with pytest.raises(SpecError, match=r"^a crop of 21 × 21 pixels is larger than the 20 × 24 pixels it is cut from"):
        slots().loader(8, augment=Augment(crop=RandomCrop(sizes={0: 8, 90: 21})))
    with pytest.raises(SpecError, match=r"^a crop of 25 × 25 pixels is larger than the 20 × 24 pixels it is cut from"):
        slots().loader(8, augment=Augment(crop=CenterCrop(25)))
    slots().loader(8, augment=resized({0: 8, 90: 21}))  # it enlarges


def test_a_function_that_fails_ends_its_epoch_and_no_other() -> None:
    loader = slots().loader(lambda epoch: 4 - epoch, augment=resized(lambda epoch: 9 - 9 * (epoch // 3)))
    loader.set_epoch(4)
    with pytest.raises(SpecError, match=r"^batch_size\(4\) must be a whole number of 1 or more, not 0$"):
        iter(loader)
    loader.set_epoch(3)
    with pytest.raises(SpecError, match=r"^sizes\(3\) must be 1 to 65535 pixels on each side, not 0$"):
        iter(loader)
    loader.set_epoch(2)
    assert next(iter(loader))[0].shape == (2, 3, 9, 9)


def test_a_loader_with_functions_is_sent_to_processes_if_they_have_a_name() -> None:
    loader = slots().loader(shrinking, augment=resized(growing), seed=3)
    same(pickle.loads(pickle.dumps(loader)), loader)
    for unnamed in (slots().loader(lambda _: 8), slots().loader(8, augment=resized(lambda _: 8))):
        with pytest.raises((AttributeError, pickle.PicklingError), match="<lambda>"):
            pickle.dumps(unnamed)


def test_a_fixed_size_is_as_before() -> None:
    loader = slots().loader(np.int64(8), augment=Augment(crop=RandomCrop(8)))
    maker = loader._maker
    for _ in range(2):
        list(loader)
    assert loader._maker is maker
    assert isinstance(loader, Loader)
    assert type(loader.batch_size) is int
