"""Boxes in pixels of source images land where the pixels land that they mark."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images
from support.store_contract import build

import arraystore
from arraystore import Augment, ImageSpec, Manifest, Ragged, SpecError, Store, concatenate

FITS = ["stretch", "crop", "pad"]
sides = st.tuples(st.integers(1, 90), st.integers(1, 90))


def with_square(height: int, width: int, box: tuple[int, int, int, int]) -> Any:
    """A black image with a white rectangle."""
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 255
    return pixels


@settings(max_examples=60)
@given(sides, sides, st.sampled_from(FITS), st.data())
def test_a_box_lies_around_the_pixels_that_it_marks(size: Any, slot: Any, fit: Any, data: st.DataObject) -> None:
    """The rectangle of the slot is measured in its pixels, and may be off by the width of the filter."""
    (height, width), spec = size, ImageSpec(size=slot, fit=fit, background=(0, 0, 0))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    box = (left, top, right, bottom)
    store = build([with_square(height, width, box)], spec=spec, size=None, targets={"boxes": Ragged.from_rows([[box]])})
    (found,) = store.in_slot_pixels({"boxes": "boxes"}).target("boxes")[0]
    assert found.dtype == np.float32
    inked = store.images[0, 0].astype(float) / 255
    place = spec.place(height, width)
    zoom = place.height / (place.box[3] - place.box[1]), place.width / (place.box[2] - place.box[0])
    for axis, (low, high) in enumerate(((found[1], found[3]), (found[0], found[2]))):
        cover = inked.max(axis=1 - axis)
        rows = np.flatnonzero(cover > 0.02)
        reach = max(zoom[axis], 1) + 0.51
        if len(rows):
            assert rows[0] - reach <= low <= rows[0] + reach
            assert rows[-1] + 1 - reach <= high <= rows[-1] + 1 + reach


@given(sides, sides, st.sampled_from(FITS), st.integers(0, 99))
def test_points_are_placed_as_the_spec_places_the_image(size: Any, slot: Any, fit: Any, seed: int) -> None:
    height, width = size
    spec = ImageSpec(size=slot, fit=fit)
    points = np.random.default_rng(seed).uniform(-5, 99, (1, 3, 2))
    store = build([np.zeros((height, width, 3), np.uint8)], spec=spec, size=None, targets={"points": points})
    found = store.in_slot_pixels({"points": "keypoints"}).target("points")
    at = spec.place(height, width)
    left, top, right, bottom = at.box
    expected = [
        ((x - left) * at.width / (right - left) + at.left, (y - top) * at.height / (bottom - top) + at.top)
        for x, y in points[0].tolist()
    ]
    np.testing.assert_allclose(found[0], expected, rtol=1e-12, atol=1e-9)
    assert found.dtype == np.float64


def test_the_whole_image_is_the_whole_slot() -> None:
    for fit, expected in (("stretch", [0, 0, 20, 10]), ("crop", [0, 0, 20, 10]), ("pad", [7.5, 0, 12.5, 10])):
        boxes = Ragged.from_rows([[[0.0, 0, 20, 40]]])
        store = build([np.zeros((40, 20, 3), np.uint8)], size=(10, 20), fit=fit, targets={"boxes": boxes})
        found = store.in_slot_pixels({"boxes": "boxes"}).target("boxes")[0][0]
        np.testing.assert_allclose(found, expected, atol=0.5 if fit == "pad" else 0)  # whole columns of the slot


def test_upright_images_are_meant(tmp_path: Path) -> None:
    """A photo that its EXIF block turns is 20 wide and 40 high for people, and for its boxes."""
    file = tmp_path / "x.jpg"
    file.write_bytes(images.jpeg(images.photo(20, 40), orientation=6))
    store = build([file], size=(80, 40), targets={"boxes": np.array([[[1.0, 2, 20, 40]]])})
    assert store.in_slot_pixels({"boxes": "boxes"}).target("boxes").tolist() == [[[2, 4, 40, 80]]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Images of three sizes, the second of them bad, with boxes that the manifest says are in their pixels."""
    shapes = [(10, 10), (5, 5), (20, 40), (10, 10)]
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for i, (file, shape) in enumerate(zip(files, shapes, strict=True)):
        file.write_bytes(b"no image" if i == 1 else images.png(images.noise(*shape)))
    boxes = Ragged.from_rows([[[0, 0, 10, 10]], [[1, 2, 3, 4]], [[0, 0, 40, 20], [10, 5, 20, 10]], []], np.float32)
    manifest = Manifest.from_paths(files, targets={"boxes": boxes, "other": np.arange(16.0).reshape(4, 4)})
    made = Manifest(manifest.sources, None, manifest.targets, source_pixels={"boxes": "boxes"})
    return build(made, tmp_path / "x.store", size=20, bad="keep")


def test_a_store_that_knows_its_pixels(store: Store) -> None:
    moved = store.in_slot_pixels()
    assert [row.tolist() for row in moved.target("boxes")] == [
        [[0, 0, 20, 20]],
        [[0, 0, 0, 0]],
        [[0, 0, 20, 20], [5, 5, 10, 10]],
        [],
    ]
    assert store.targets["boxes"][2].tolist() == [[0, 0, 40, 20], [10, 5, 20, 10]]
    np.testing.assert_array_equal(moved.target("other"), store.targets["other"])
    assert pickle.loads(pickle.dumps(moved)).target("boxes")[2].tolist() == moved.target("boxes")[2].tolist()
    assert [row.tolist() for row in moved[[3, 0]].target("boxes")] == [[], [[0, 0, 20, 20]]]
    assert store.description.source_pixels == {"boxes": "boxes"}
    assert store.verify(progress=False).ok


def test_only_pixels_of_slots_follow(store: Store) -> None:
    augment = Augment(hflip=1, follow={"boxes": "boxes"})
    for slots in (store, store[::2], concatenate([store, store])):
        with pytest.raises(SpecError, match=r"'boxes' is in pixels of the source images, .* store\.in_slot_pixels\(\)"):
            slots.loader(2, targets="boxes", augment=augment)
    batch = store.in_slot_pixels().loader(3, targets="boxes", augment=augment, shuffle=False).batch(0)
    assert [row.tolist() for row in batch[1]] == [[[0, 0, 20, 20]], [[0, 0, 20, 20], [10, 5, 15, 10]], []]
    store.loader(2, targets="boxes")  # as they are
    with pytest.raises(SpecError, match="targets in pixels of sources"):
        concatenate([store, store.in_slot_pixels()])


def test_updates_and_repairs_keep_the_pixels(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "x.store"
    with (target / "images.npy").open("r+b") as file:
        file.seek(4096)
        file.write(b"\x55\xaa")
    assert arraystore.repair(target, progress=False).description.source_pixels == {"boxes": "boxes"}
    files = [tmp_path / f"{i}.png" for i in (0, 2, 3)]
    boxes = Ragged.from_rows([[[0, 0, 5, 5]], [], []], np.float32)
    targets = {"boxes": boxes, "other": np.zeros((3, 4))}
    updated = arraystore.update(target, [str(file) for file in files], targets=targets, progress=False)
    assert updated.in_slot_pixels().target("boxes")[0].tolist() == [[0, 0, 10, 10]]
    assert store.description.source_pixels == {"boxes": "boxes"}


def test_what_cannot_be_moved_is_refused(store: Store) -> None:
    with pytest.raises(SpecError, match="there is no target 'nothing'"):
        store.in_slot_pixels({"nothing": "boxes"})
    with pytest.raises(SpecError, match=r"keypoints must be numbers, .* and the target 'boxes' has shape"):
        store.in_slot_pixels({"boxes": "keypoints"})
    with pytest.raises(SpecError, match="the kind of 'boxes' must be one of 'boxes', 'keypoints', not 'masks'"):
        store.in_slot_pixels({"boxes": "masks"})  # type: ignore[dict-item]
    plain = build([images.noise(4, 4)], size=4, targets={"boxes": np.zeros((1, 4))})
    with pytest.raises(SpecError, match=r"knows of no target in pixels .* targets=\{'boxes': 'boxes'\}"):
        plain.in_slot_pixels()
