"""Keypoints of a COCO file: coordinates and visibility as the file has them, from there to a batch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.coco import CATEGORIES, coco_folder, instance
from support.store_contract import build

from arraystore import Augment, Manifest, ManifestError, Ragged

SIDES = [(20, 40), (30, 30), (10, 10)]
POINTS = [[3, 4, 2], [0, 0, 0], [10.5, 20, 1]]


def person(image: int, keypoints: Any) -> dict[str, Any]:
    labeled = sum(visibility > 0 for _, _, visibility in POINTS)
    return instance(image, 1, []) | {"keypoints": keypoints, "num_keypoints": labeled}


def flat(points: Any) -> list[Any]:
    return [number for point in points for number in point]


MOVED = [[x + 1, y, visibility] for x, y, visibility in POINTS]
PEOPLE = [person(1, flat(POINTS)), person(0, flat(MOVED)), person(1, [0] * 9)]


def lists(target: Any) -> Any:
    assert isinstance(target, Ragged)
    return [row.tolist() for row in target]


def test_a_file_of_keypoints_gives_them_without_being_asked(tmp_path: Path) -> None:
    manifest = Manifest.of(coco_folder(tmp_path, SIDES, PEOPLE))
    assert list(manifest.targets) == ["boxes", "labels", "iscrowd", "keypoints", "visibility"]
    coordinates = [[point[:2] for point in points] for points in (POINTS, MOVED)]
    nothing = [[0, 0]] * 3
    assert lists(manifest.targets["keypoints"]) == [[coordinates[1]], [coordinates[0], nothing], []]
    assert lists(manifest.targets["visibility"]) == [[[2, 0, 1]], [[2, 0, 1], [0, 0, 0]], []]
    kinds = {name: (target.dtype.str, target.item_shape) for name, target in manifest.targets.items()}
    assert (kinds["keypoints"], kinds["visibility"]) == (("<f4", (3, 2)), ("|u1", (3,)))
    assert manifest.source_pixels == {"boxes": "boxes", "keypoints": "keypoints"}
    (note,) = manifest.notes
    assert "the boxes (left, top, right, bottom) and the keypoints (x, y) are in pixels of the source images" in note


def test_items_without_keypoints_have_as_many_that_are_not_labeled(tmp_path: Path) -> None:
    mixed = [PEOPLE[0], instance(0, 18, []), person(0, []), person(0, None)]
    manifest = Manifest.of(coco_folder(tmp_path, SIDES, mixed))
    assert lists(manifest.targets["visibility"]) == [[[0, 0, 0]] * 3, [[2, 0, 1]], []]
    assert lists(manifest.targets["labels"]) == [[1, 0, 0], [0], []]


def test_only_where_there_are_some_or_they_are_asked_for(tmp_path: Path) -> None:
    path = coco_folder(tmp_path, SIDES, [instance(0, 18, [])])
    assert list(Manifest.of(path).targets) == ["boxes", "labels", "iscrowd"]
    said(path, "has no keypoints; leave them out of the targets", targets=["keypoints"])
    named = [{**CATEGORIES[1], "keypoints": ["nose", "left_eye"]}]
    path = coco_folder(tmp_path, SIDES, [], categories=named)
    assert list(Manifest.of(path).targets) == ["boxes", "labels", "iscrowd"]
    manifest = Manifest.of(path, targets=["visibility", "keypoints"])
    assert list(manifest.targets) == ["keypoints", "visibility"]
    assert manifest.targets["keypoints"].values.shape == (0, 2, 2)
    path = coco_folder(tmp_path, SIDES, PEOPLE)
    assert Manifest.of(path, targets=["visibility"]).source_pixels == {}


def test_from_the_file_to_a_batch(tmp_path: Path) -> None:
    """The keypoints of a slot are scaled as its image is, and mirrored with it."""
    store = build(coco_folder(tmp_path / "photos", SIDES, PEOPLE), tmp_path / "x.store", size=(10, 20))
    slots = store.in_slot_pixels()
    np.testing.assert_allclose(slots.target("keypoints")[0], [[[2, 2], [0.5, 0], [5.75, 10]]])
    expected = [[x * 20 / 30, y * 10 / 30] for x, y, _ in POINTS]  # of the square photo
    np.testing.assert_allclose(slots.target("keypoints")[1][0], expected, rtol=1e-6)
    augment = Augment(hflip=1, follow={"boxes": "boxes", "keypoints": "keypoints"})
    names = ["boxes", "keypoints", "visibility"]
    (batch,) = slots.loader(3, targets=names, augment=augment, shuffle=False)
    np.testing.assert_allclose(batch["keypoints"][1][0], [[20 - x, y] for x, y in expected], rtol=1e-5)
    assert [row.tolist() for row in batch["visibility"]] == lists(store.targets["visibility"])
    assert store.verify(progress=False).ok


def said(path: str, message: str, **options: Any) -> None:
    with pytest.raises(ManifestError, match=re.escape(f"{path}: {message}")) as caught:
        Manifest.of(path, **options)
    assert caught.value.kind is not None


NO_KEYPOINTS = "has 'keypoints' that are not x, y and visibility, one after the other"
NO_POINT = "which is not x and y in pixels and 0, 1 or 2 for its visibility"


@pytest.mark.parametrize(
    ("keypoints", "message"),
    [
        (
            [1, 2, 2],
            "has 1 keypoint, but annotation 0 has 3; write a file for each number of keypoints, or leave them",
        ),
        ([1, 2, 2, 3], NO_KEYPOINTS),
        ([1, 2], NO_KEYPOINTS),
        ("123", NO_KEYPOINTS),
        ({"x": 1}, NO_KEYPOINTS),
        ([[1, 2, 2]] * 3, NO_KEYPOINTS),
        ([1, 2, True] * 3, NO_KEYPOINTS),
        ([1, 2, None] * 3, NO_KEYPOINTS),
        ([10**400, 2, 1] * 3, NO_KEYPOINTS),
        ([1, 2, 1] * 2 + [1, 2, 3], f"has the keypoint [1.0, 2.0, 3.0], {NO_POINT}"),
        ([1, 2, 0.5] * 3, f"has the keypoint [1.0, 2.0, 0.5], {NO_POINT}"),
        ([np.nan, 2, 1] * 3, f"has the keypoint [nan, 2.0, 1.0], {NO_POINT}"),
        ([1, np.inf, 1] * 3, f"has the keypoint [1.0, inf, 1.0], {NO_POINT}"),
        ([1, -(10**9), 1] * 3, f"has the keypoint [1.0, -1000000000.0, 1.0], {NO_POINT}"),
        ([1, 2, -1] * 3, f"has the keypoint [1.0, 2.0, -1.0], {NO_POINT}"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, keypoints: Any, message: str) -> None:
    path = coco_folder(tmp_path, SIDES, [PEOPLE[0], person(0, keypoints)])
    said(path, f"annotation 1 (counted from 0) {message}")
    assert len(Manifest.of(path, targets=["boxes"])) == 3


def test_a_fault_of_the_first_keypoints_is_named(tmp_path: Path) -> None:
    path = coco_folder(tmp_path, SIDES, [instance(0, 1, []), person(0, "x")])
    said(path, f"annotation 1 (counted from 0) {NO_KEYPOINTS}")
