"""Ragged targets in choices, joined stores and loaders: each image keeps its own rows, whoever draws it."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images
from support.slots import slots_of
from support.store_contract import build

import arraystore
from arraystore import Augment, CenterCrop, Loader, Ragged, RandomCrop, Slots, SpecError, Store, concatenate, open_array
from arraystore._stores.slot_array import SlotArray

COUNT = 37
LENGTHS = [(7 * i) % 6 for i in range(COUNT)]
SIDE = 8


def rows_of(start: int, count: int) -> list[npt.NDArray[np.float32]]:
    """For image i, items that hold i and their own number."""
    return [
        np.array([[i, k, i + 2, k + 3] for k in range(LENGTHS[i % COUNT])], np.float32).reshape(-1, 4)
        for i in range(start, start + count)
    ]


def numbered(count: int, start: int = 0) -> Slots:
    """Slots in RAM whose pixels, labels and rows are of their numbers."""
    numbers = np.arange(start, start + count)
    pixels = np.broadcast_to(numbers.reshape(-1, 1), (count, 2)).astype(np.int32)
    boxes = Ragged.from_rows(rows_of(start, count), np.float32) if count else Ragged(np.zeros((0, 4), "f4"), [0])
    return slots_of([SlotArray(pixels, targets={"labels": numbers, "boxes": boxes})])


@pytest.fixture(scope="module", params=["ram", "x.store", "x.h5"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Slot i has the gray level i; tests only read it."""
    target = None if request.param == "ram" else tmp_path_factory.mktemp("ragged") / request.param
    source = [np.full((SIDE, SIDE, 3), i, np.uint8) for i in range(COUNT)]
    kinds = [["odd" if k % 2 else "even" for k in range(length)] for length in LENGTHS]
    boxes = rows_of(0, COUNT)
    store = build(source, target, size=SIDE, labels=list(range(COUNT)), targets={"boxes": boxes, "kinds": kinds})
    return store if target is None else arraystore.open(target)


def check_batch(batch: dict[str, Any]) -> None:
    columns = (batch[name] for name in ("images", "labels", "boxes", "kinds"))
    for image, label, boxes, kinds in zip(*columns, strict=True):
        assert int(image.flat[0]) == label
        np.testing.assert_array_equal(boxes, rows_of(label, 1)[0], strict=True)
        assert kinds.tolist() == [k % 2 for k in range(LENGTHS[label])]


# --- choices ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.data())
def test_a_choice_of_several_stores_has_its_own_rows(counts: list[int], data: st.DataObject) -> None:
    starts = np.cumsum([0, *counts]).tolist()
    slots = concatenate([numbered(count, start) for count, start in zip(counts, starts, strict=False)])
    total, labels = starts[-1], list(range(starts[-1]))
    for _ in range(data.draw(st.integers(0, 2))):
        chosen = data.draw(st.lists(st.integers(0, total - 1), max_size=12)) if total else []
        slots, labels, total = slots[chosen], [labels[i] for i in chosen], len(chosen)
    rows = slots.target("boxes")
    assert isinstance(rows, Ragged)
    assert [row.tolist() for row in rows] == [rows_of(label, 1)[0].tolist() for label in labels]
    assert (rows.dtype, rows.item_shape) == (np.float32, (4,))
    at = data.draw(st.lists(st.integers(0, total - 1), max_size=5)) if total else []
    taken: Any = slots.take(at, "boxes")
    assert [row.tolist() for row in taken] == [rows[i].tolist() for i in at]


def test_a_store_and_its_choices(store: Store) -> None:
    assert store.target("boxes") is store.targets["boxes"]
    chosen = store[[5, 5, 0, -1]]
    assert [len(row) for row in chosen.target("boxes")] == [LENGTHS[i] for i in (5, 5, 0, COUNT - 1)]
    assert store.categories["kinds"] == ("even", "odd")
    with pytest.raises(SpecError, match="the target 'boxes' is ragged, so no array can take its rows"):
        store.take([0], "boxes", out=np.zeros((1, 4), np.float32))
    with pytest.raises(SpecError, match="slots must be 0 to 36"):
        store.take([COUNT], "boxes")
    for again in (pickle.loads(pickle.dumps(store)), pickle.loads(pickle.dumps(chosen))):
        assert [row.tolist() for row in again.target("boxes")[:1]] == [again.target("boxes")[0].tolist()]


def test_an_image_comes_with_the_row_of_its_labels() -> None:
    slots = build([images.noise(4, 4)] * 3, size=4, labels=[["b"], [], ["a", "b"]])
    assert [label.tolist() for _, label in slots] == [[1], [], [0, 1]]
    assert isinstance(slots.labels, Ragged)
    for _, labels in slots.loader(2, shuffle=False):
        assert isinstance(labels, list)


@pytest.mark.parametrize(
    "other", [Ragged.from_rows([[1]]), Ragged.from_rows([[[1.0, 2.0]]], "f4"), np.zeros((1, 4), "f4")]
)
def test_stores_with_other_items_are_not_joined(other: Any) -> None:
    slots = slots_of([SlotArray(np.zeros((1, 2), np.int32), targets={"labels": np.arange(1), "boxes": other})])
    with pytest.raises(SpecError, match="only stores that are alike can be concatenated"):
        concatenate([numbered(2), slots])


def test_arrays_of_other_programs_take_ragged_targets(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2), np.float32))
    slots = open_array(tmp_path / "x.npy", targets={"boxes": [[1], [], [2, 3]]})
    assert [row.tolist() for row in slots.target("boxes")] == [[1], [], [2, 3]]


# --- loaders ---------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 5), st.sampled_from(["keep", "drop", "pad"]), st.data())
def test_each_image_has_its_rows(
    store: Store, batch_size: int, workers: int, seed: int, last: Any, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=60))
    names = ["kinds", "labels", "boxes"]
    loader = store[chosen].loader(batch_size, targets=names, workers=workers, seed=seed, last=last)
    seen: list[int] = []
    for batch in loader:
        assert list(batch) == ["images", *names]
        check_batch(batch)
        seen += batch["labels"].tolist()
    if last == "keep":
        assert sorted(seen) == sorted(chosen)
    if len(loader):
        check_batch(loader.batch(len(loader) - 1, epoch=2))
        again = pickle.loads(pickle.dumps(loader)).batch(0)
        first = loader.batch(0)
        np.testing.assert_array_equal(first["labels"], again["labels"])
        assert [row.tolist() for row in first["boxes"]] == [row.tolist() for row in again["boxes"]]


def test_one_ragged_target_alone(store: Store) -> None:
    for pixels, boxes in store.loader(10, targets="boxes", shuffle=False):
        assert len(pixels) == len(boxes)
        assert isinstance(boxes, list)
        assert {row.dtype.str for row in boxes} == {"<f4"}


def test_weighted_draws_and_transforms_keep_the_rows(store: Store) -> None:
    options: Any = {"targets": ["labels", "boxes", "kinds"], "workers": 3}
    weights = np.arange(COUNT, dtype=float)
    for batch in store.loader(5, weights=weights, draws=60, **options):
        check_batch(batch)
    for batch in store.loader(5, transform=lambda image: image, **options):
        check_batch({**batch, "images": batch["images"]})
    for batch in store.loader(5, cache="1 MB", **options):
        check_batch(batch)
    (lengths,) = store.loader(COUNT, batch_transform=lambda batch: list(map(len, batch["boxes"])), **options)
    assert sorted(lengths) == sorted(LENGTHS)


def test_a_batch_belongs_to_the_loop(tmp_path: Path) -> None:
    """Its rows can be written, and outlive the store, its files and later batches."""
    source = [np.full((4, 4, 3), i, np.uint8) for i in range(12)]
    store = build(source, tmp_path / "x.store", size=4, targets={"boxes": rows_of(0, 12)})
    first, *_ = [boxes for _, boxes in store.loader(4, targets="boxes", shuffle=False)]
    assert not any(np.shares_memory(row, store.targets["boxes"].values) for row in first)
    assert all(row.flags.writeable and row.flags.c_contiguous for row in first)
    store.close()
    shutil.rmtree(tmp_path / "x.store")
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(rows_of(0, 4)))
    first[1][...] = -1
    assert (first[1] == -1).all()
    assert (first[2] >= 0).all()


def test_options_that_need_one_number_an_image(store: Store) -> None:
    ragged = build([images.noise(4, 4)] * 2, size=4, labels=[["b"], ["a", "b"]])
    with pytest.raises(SpecError, match=r"^balance=True needs one label for each image, and these are ragged"):
        Loader(ragged, balance=True)
    with pytest.raises(SpecError, match=r"^weights must have a number for each of the 37 slots, and these are ragged"):
        store.loader(weights=store.targets["boxes"])


# --- geometry --------------------------------------------------------------------------------------------------------


def test_ragged_boxes_move_as_padded_ones() -> None:
    """The oracle is an ordinary target with room for the most boxes, NaN where there is none."""
    padded = np.full((COUNT, max(LENGTHS), 4), np.nan, np.float32)
    for i, row in enumerate(rows_of(0, COUNT)):
        padded[i, : len(row)] = row
    source = [np.full((SIDE, SIDE, 3), i, np.uint8) for i in range(COUNT)]
    points = [row.reshape(-1, 2, 2) for row in rows_of(0, COUNT)]
    oracle = build(source, size=SIDE, targets={"boxes": padded})
    ragged = build(source, size=SIDE, targets={"boxes": rows_of(0, COUNT), "points": points})
    follow: Any = {"boxes": "boxes"}
    shape: Any = {"crop": RandomCrop((5, 6)), "hflip": 0.5, "vflip": 0.5}
    expected = oracle.loader(7, targets=["boxes"], augment=Augment(follow=follow, **shape))
    augment = Augment(follow=follow | {"points": "keypoints"}, **shape)
    for mine, theirs in zip(ragged.loader(7, targets=["boxes", "points"], augment=augment), expected, strict=True):
        np.testing.assert_array_equal(mine["images"], theirs["images"])
        for boxes, points_, row in zip(mine["boxes"], mine["points"], theirs["boxes"], strict=True):
            np.testing.assert_array_equal(boxes, row[~np.isnan(row[:, 0])], strict=True)
            assert boxes.flags.writeable
            # A corner is where the point went, in the order that the mirroring gives, and inside the image.
            corners = np.sort(points_.reshape(-1, 2, 2), axis=1).clip(0, [6, 5])
            np.testing.assert_array_equal(corners.reshape(-1, 4), boxes)


def test_ragged_masks_move_with_their_images() -> None:
    """An image with a mask for each object, of the same pixels."""
    pixels = [images.noise(6, 6, 1, seed=i) for i in range(9)]
    masks = [np.stack([image] * (i % 3)) if i % 3 else np.zeros((0, 6, 6), np.uint8) for i, image in enumerate(pixels)]
    store = build(pixels, size=6, color="gray", targets={"masks": masks})
    augment = Augment(crop=RandomCrop(4), hflip=0.5, follow={"masks": "mask"})
    for pictures, rows in store.loader(4, targets="masks", augment=augment):
        for picture, row in zip(pictures, rows, strict=True):
            for mask in row:
                np.testing.assert_array_equal(mask, picture[0])


def test_batches_without_any_box() -> None:
    nothing = Ragged(np.zeros((0, 4), np.float32), np.zeros(5, np.int64))
    store = build([images.noise(6, 6)] * 4, size=6, targets={"boxes": nothing})
    augment = Augment(crop=CenterCrop(4), follow={"boxes": "boxes"})
    for _, boxes in store.loader(2, targets="boxes", augment=augment):
        assert [row.shape for row in boxes] == [(0, 4), (0, 4)]


def test_items_of_another_shape_do_not_follow() -> None:
    store = build([images.noise(6, 6)] * 2, size=6, targets={"boxes": [[1, 2, 3], []]})
    loader = store.loader(2, targets="boxes", augment=Augment(hflip=1, follow={"boxes": "boxes"}))
    with pytest.raises(SpecError, match="boxes must be numbers"):
        iter(loader)
