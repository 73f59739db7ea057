"""Stores of COCO files: masks whose numbers are codes of classes, and coordinates that are for images of one size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.coco import CATEGORIES, coco_folder, instance
from support.damage import damage
from support.store_contract import count_decodes

import arraystore
from arraystore import BadImagesError, StoreError

SIDES = [(20, 30), (24, 16), (18, 18)]
IDS = [18, 1, 90]


def square(start: int, stop: int) -> list[list[int]]:
    return [[start, start, stop, start, stop, stop, start, stop]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = [instance(image, category, square(2, 12 + image)) for image, category in enumerate(IDS)]
    return Path(coco_folder(tmp_path / "photos", SIDES, found))


def build(file: Path, target: Path, **options: Any) -> None:
    arraystore.build(file, target, size=(16, 24), workers=1, progress=False, **options).close()


def test_a_class_that_comes_first_is_no_change_of_the_other_masks(
    file: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of masks follow the codes of the store, in which a new class is the last one."""
    build(file, target, targets=["masks", "labels"])
    before = np.array(arraystore.open(target).targets["masks"])
    members = json.loads(file.read_text())
    members["categories"] = [{"id": 0, "name": "ant"}, *CATEGORIES]
    members["annotations"].append({**instance(2, 0, square(3, 9)), "id": 9})
    file.write_text(json.dumps(members))
    assert arraystore.compare(target).changed == ["2.jpg"]
    decoded = count_decodes(monkeypatch)
    store = arraystore.update(target, progress=False)
    assert len(decoded) == 1
    assert store.categories["masks"] == ("background", "person", "dog", "toothbrush", "ant")
    np.testing.assert_array_equal(store.targets["masks"][:2], before[:2])
    assert np.unique(store.targets["masks"][2]).tolist() == [0, 3, 4]
    assert store.verify(progress=False).ok
    for content in (False, True):
        assert not arraystore.compare(target, content=content)


def test_a_repair_never_puts_boxes_beside_an_image_of_another_size(file: Path, target: Path) -> None:
    build(file, target)
    before = np.array(arraystore.open(target).images)
    photo = file.parent / "1.jpg"
    photo.write_bytes(images.jpeg(images.photo(40, 40, seed=9)))
    damage(target, 1)
    with pytest.raises(BadImagesError) as caught:
        arraystore.repair(target, progress=False)
    (bad,) = caught.value.bad
    assert bad.reason.startswith("the upright image is 40 x 40 pixels, but its coordinates are for one of 16 x 24")
    photo.write_bytes(images.jpeg(images.photo(24, 16, seed=1)))
    store = arraystore.repair(target, progress=False)
    np.testing.assert_array_equal(store.images, before)


@pytest.mark.parametrize("give_targets", [False, True])
def test_masks_that_came_with_slots_cannot_be_updated(file: Path, target: Path, give_targets: bool) -> None:
    options = {"targets": ["masks", "labels"]} if give_targets else {}
    build(file, target, targets=["masks", "labels"])
    copy = target.with_name(f"copy-{target.name}")
    arraystore.build(target, copy, progress=False).close()
    with pytest.raises(StoreError) as caught:
        arraystore.update(copy, file, progress=False, **options)
    message = "came with the slots of another store, so it is not known what they were made of: build it again from"
    assert str(caught.value).startswith(f"the masks 'masks' of {copy} {message}")
