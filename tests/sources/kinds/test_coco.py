"""COCO: boxes, labels and crowds of each image, as the file has them; and each fault of a file by name."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images
from support.store_contract import build

import arraystore
from arraystore import Augment, Manifest, ManifestError, Ragged
from arraystore._sources.kinds.coco.parsing import POLYGONS

INSTANCES: dict[str, Any] = {
    "info": {"year": 2017},
    "licenses": [],
    "images": [
        {"id": 42, "file_name": "b.jpg", "height": 20, "width": 40},
        {"id": 7, "file_name": "a.jpg", "height": 30, "width": 30},
        {"id": 9, "file_name": "deep/c.jpg", "height": 10, "width": 10},
    ],
    "categories": [
        {"id": 18, "name": "dog", "supercategory": "animal"},
        {"id": 1, "name": "person"},
        {"id": 90, "name": "toothbrush"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 18,
            "bbox": [1.5, 2, 10, 20.25],
            "iscrowd": 0,
            "area": 12.5,
            "segmentation": [[1.0, 2, 3, 4e0, -5, 6], [7, 8, 9, 10, 11, 12]],
        },
        {"id": 2, "image_id": 42, "category_id": 1, "bbox": [0, 0, 40, 20], "iscrowd": 1,
         "segmentation": {"counts": [3, 4, 5], "size": [20, 40]}},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [30, 30, 0, 0],
         "segmentation": {"counts": "abc", "size": [30, 30]}},
    ],
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The images that the file lists."""
    for number, image in enumerate(INSTANCES["images"]):
        file = tmp_path / "val" / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(images.jpeg(images.photo(image["height"], image["width"], seed=number)))
    return tmp_path / "val"


def written(folder: Path, members: Any, **options: Any) -> str:
    path = folder / "instances.json"
    path.write_text(json.dumps(members, **options), "utf-8")
    return str(path)


def lists(target: Any) -> Any:
    assert isinstance(target, Ragged)
    return [row.tolist() for row in target]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_of_instances(folder: Path, indent: int | None) -> None:
    path = written(folder.parent, INSTANCES, indent=indent)
    manifest = Manifest.of(path, root=folder)
    assert [manifest.name(row) for row in range(3)] == ["b.jpg", "a.jpg", "deep/c.jpg"]
    assert manifest.load(2) == str(folder / "deep/c.jpg")
    assert list(manifest.targets) == ["boxes", "labels", "iscrowd"]
    assert lists(manifest.targets["boxes"]) == [[[0, 0, 40, 20]], [[1.5, 2, 11.5, 22.25], [30, 30, 30, 30]], []]
    assert lists(manifest.targets["labels"]) == [[0], [1, 0], []]
    assert manifest.classes == {"labels": ("person", "dog", "toothbrush")}
    assert lists(manifest.targets["iscrowd"]) == [[1], [0, 0], []]
    assert [manifest.targets[name].dtype.str for name in manifest.targets] == ["<f4", "<i8", "|u1"]
    assert manifest.source_pixels == {"boxes": "boxes"}
    (note,) = manifest.notes
    assert "in pixels of the source images, not of the slots: store.in_slot_pixels()" in note


def test_a_store_gives_the_boxes_of_its_slots(folder: Path, tmp_path: Path) -> None:
    path = written(tmp_path, INSTANCES)
    store = build(path, tmp_path / "x.store", root=str(folder), size=(10, 20))
    assert store.classes == ("person", "dog", "toothbrush")
    moved = store.in_slot_pixels()
    np.testing.assert_allclose(moved.target("boxes")[0], [[0, 0, 20, 10]])
    np.testing.assert_allclose(moved.target("boxes")[1], [[1, 2 / 3, 23 / 3, 22.25 / 3], [20, 10, 20, 10]], rtol=1e-6)
    augment = Augment(hflip=1, follow={"boxes": "boxes"})
    for batch in moved.loader(3, targets=["boxes", "labels"], augment=augment, shuffle=False):
        np.testing.assert_allclose(batch["boxes"][1][0], [20 - 23 / 3, 2 / 3, 19, 22.25 / 3], rtol=1e-6)
        assert lists_of(batch["labels"]) == [[0], [1, 0], []]
    assert store.verify(progress=False).ok
    assert not arraystore.compare(tmp_path / "x.store", path, root=str(folder))
    changed = copy.deepcopy(INSTANCES)
    changed["annotations"].pop()
    updated = arraystore.update(tmp_path / "x.store", written(tmp_path, changed), root=str(folder), progress=False)
    assert [len(row) for row in updated.targets["boxes"]] == [1, 1, 0]
    assert updated.description.source_pixels == {"boxes": "boxes"}


def lists_of(rows: Any) -> list[Any]:
    return [row.tolist() for row in rows]


def test_images_beside_the_file(folder: Path) -> None:
    """As Roboflow has them; then the file says all, and an update finds it by itself."""
    path = written(folder, INSTANCES)
    manifest = Manifest.of(path)
    assert (manifest.root, manifest.origin) == (str(folder), path)
    with_root = Manifest.of(path, root=folder)
    assert (with_root.origin, with_root.source_options) == (path, {"root": str(folder)})


def test_chosen_targets(folder: Path) -> None:
    path = written(folder, INSTANCES)
    manifest = Manifest.of(path, targets=["labels"])
    assert (list(manifest.targets), manifest.source_pixels, manifest.notes) == (["labels"], {}, ())
    assert not Manifest.of(path, targets=[]).targets
    beside = Manifest.of(path, targets={"score": [1, 2, 3]})
    assert list(beside.targets) == ["boxes", "labels", "iscrowd", "score"]
    said(path, "a COCO file gives no target 'area': it gives 'boxes', 'labels', 'iscrowd', 'keyp", targets=["area"])
    said(path, "targets must be a list of names", targets={"boxes": "number"})


def test_what_is_not_asked_for_need_not_be_there(folder: Path) -> None:
    members = copy.deepcopy(INSTANCES)
    for annotation in members["annotations"]:
        del annotation["bbox"]
    manifest = Manifest.of(written(folder, members), targets=["labels", "iscrowd"])
    assert lists(manifest.targets["labels"]) == [[0], [1, 0], []]
    del members["annotations"][0]["category_id"]
    assert lists(Manifest.of(written(folder, members), targets=["iscrowd"]).targets["iscrowd"]) == [[1], [0, 0], []]


def test_classes_fix_the_codes(folder: Path) -> None:
    path = written(folder, INSTANCES)
    manifest = Manifest.of(path, classes=["dog", "cat", "person"])
    assert lists(manifest.targets["labels"]) == [[2], [0, 2], []]
    with pytest.raises(ManifestError, match=r"row 1 .* has the class 'dog', which is not among the 1 given ones"):
        Manifest.of(path, classes=["person"])


def test_the_file_of_a_test_set_has_no_annotations(folder: Path) -> None:
    without = {name: value for name, value in INSTANCES.items() if name != "annotations"}
    assert not Manifest.of(written(folder, without)).targets
    said(written(folder, without), "has no list 'annotations'", targets=["boxes"])
    assert not Manifest.of(written(folder, without), targets=[]).targets
    none = INSTANCES | {"annotations": []}
    assert lists(Manifest.of(written(folder, none)).targets["boxes"]) == [[], [], []]
    assert Manifest.of(written(folder, none)).classes["labels"] == ("person", "dog", "toothbrush")


def test_items_keep_the_order_of_the_file(folder: Path) -> None:
    """A thousand annotations of three images, in turn and at random."""
    rng = np.random.default_rng(0)
    ids, kinds = [42, 7, 9], [1, 18, 90]
    listed = [
        {"image_id": int(rng.choice(ids)), "category_id": int(rng.choice(kinds)), "bbox": [number, 1, 2, 3]}
        for number in range(1000)
    ]
    manifest = Manifest.of(written(folder, INSTANCES | {"annotations": listed}))
    for row, key in enumerate(ids):
        own = [each for each in listed if each["image_id"] == key]
        boxes = [[each["bbox"][0], 1, each["bbox"][0] + 2, 4] for each in own]
        assert lists(manifest.targets["boxes"])[row] == boxes
        assert lists(manifest.targets["labels"])[row] == [kinds.index(each["category_id"]) for each in own]


def test_ids_may_be_texts(folder: Path) -> None:
    members = copy.deepcopy(INSTANCES)
    for image in members["images"]:
        image["id"] = f"image {image['id']}"
    for annotation in members["annotations"]:
        annotation["image_id"] = f"image {annotation['image_id']}"
    assert lists(Manifest.of(written(folder, members)).targets["labels"]) == [[0], [1, 0], []]


# --- faults ----------------------------------------------------------------------------------------------------------


def said(path: str, message: str, **options: Any) -> ManifestError:
    with pytest.raises(ManifestError, match=re.escape(f"{path}: {message}")) as caught:
        Manifest.of(path, **options)
    assert caught.value.kind is not None
    return caught.value


def changed(part: str, number: int, **members: Any) -> dict[str, Any]:
    """The file with other members of one entry; None takes a member out."""
    result = copy.deepcopy(INSTANCES)
    entry = result[part][number]
    entry.update(members)
    result[part][number] = {name: value for name, value in entry.items() if value is not None}
    return result


ANNOTATION = "annotation 2 (counted from 0)"
NO_BOX = "which is not left, top, width and height in pixels"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "has no list 'images', so it is no COCO file"),
        ({"image_id": 3}, "has no list 'images', so it is no COCO file"),
        (INSTANCES | {"images": {}}, "has no list 'images', so it is no COCO file"),
        (INSTANCES | {"images": []}, "has no images"),
        (changed("images", 1, file_name=None), "image 1 (counted from 0) has no text 'file_name'"),
        (changed("images", 1, file_name=3), "image 1 (counted from 0) has no text 'file_name'"),
        (INSTANCES | {"images": [3]}, "image 0 (counted from 0) has no text 'file_name'"),
        (changed("images", 1, id=None), "image 1 (counted from 0), 'a.jpg', has no whole number or text 'id'"),
        (changed("images", 1, id=[1]), "image 1 (counted from 0), 'a.jpg', has no whole number or text 'id'"),
        (changed("images", 1, id=42), "image 1 (counted from 0), 'a.jpg', has the id 42 that another image has"),
        (
            changed("images", 1, file_name="b.jpg"),
            "image 1 (counted from 0), 'b.jpg', has a name that another",
        ),
        (INSTANCES | {"categories": None}, "has annotations but no list 'categories'"),
        (changed("categories", 1, name=None), "category 1 (counted from 0) has no 'id' and 'name'"),
        (changed("categories", 1, id={}), "category 1 (counted from 0) has no 'id' and 'name'"),
        (changed("categories", 1, id=18), "category 1 (counted from 0), 'person', has the id or name of another one"),
        (changed("categories", 1, name="dog"), "category 1 (counted from 0), 'dog', has the id or name of another one"),
        (changed("categories", 1, id="x"), "has categories whose ids are partly numbers, partly texts"),
        (INSTANCES | {"annotations": {}}, "has no list 'annotations'"),
        (changed("annotations", 2, image_id=None), f"{ANNOTATION} has no 'image_id'"),
        (changed("annotations", 2, image_id=8), f"{ANNOTATION} is of the image 8, which is not among the images"),
        (changed("annotations", 2, image_id=[]), f"{ANNOTATION} is of the image [], which is not among the images"),
        (
            changed("annotations", 2, category_id=2),
            f"{ANNOTATION} is of the category 2, which is not among",
        ),
        (
            changed("annotations", 2, bbox=None),
            f"{ANNOTATION} has no 'bbox'; leave out the boxes, such as with targets=[",
        ),
        (changed("annotations", 2, bbox=[1, 2, 3]), f"{ANNOTATION} has the bbox [1, 2, 3], {NO_BOX}"),
        (changed("annotations", 2, bbox=[1, 2, 3, "4"]), f"{ANNOTATION} has the bbox [1, 2, 3, '4'], {NO_BOX}"),
        (changed("annotations", 2, bbox=[1, 2, 3, True]), f"{ANNOTATION} has the bbox [1, 2, 3, True], {NO_BOX}"),
        (changed("annotations", 2, bbox=[1, 2, 3, []]), f"{ANNOTATION} has the bbox [1, 2, 3, []], {NO_BOX}"),
        (changed("annotations", 2, bbox="1234"), f"{ANNOTATION} has the bbox '1234', {NO_BOX}"),
        (changed("annotations", 2, bbox={"x": 1}), f"{ANNOTATION} has the bbox {{'x': 1}}, {NO_BOX}"),
        (changed("annotations", 2, bbox=[1, 2, -3, 4]), f"{ANNOTATION} has the bbox [1, 2, -3, 4], {NO_BOX}"),
        (changed("annotations", 2, bbox=[1, 2, 3, np.nan]), f"{ANNOTATION} has the bbox [1, 2, 3, nan], {NO_BOX}"),
        (changed("annotations", 2, bbox=[np.inf, 2, 3, 4]), f"{ANNOTATION} has the bbox [inf, 2, 3, 4], {NO_BOX}"),
        (changed("annotations", 2, bbox=[1, 2, 3, 10**30]), f"{ANNOTATION} has the bbox [1, 2, 3, {10**30}], {NO_BOX}"),
        (changed("annotations", 2, bbox=[1, 2, 3, 10**400]), f"{ANNOTATION} has the bbox [1, 2, 3, 1000"),
        (changed("annotations", 2, iscrowd=2), f"{ANNOTATION} has 'iscrowd' 2, which is neither 0 nor 1"),
        (changed("annotations", 2, iscrowd="1"), f"{ANNOTATION} has 'iscrowd' '1', which is neither 0 nor 1"),
    ],
)
def test_a_fault_is_named(folder: Path, members: Any, message: str) -> None:
    said(written(folder, members), message)


@pytest.mark.parametrize("text", ["", "{", '{"images": [}', "[" * 100_000, "1" * 5000, "\udcff"])
def test_what_is_no_json_is_refused(folder: Path, text: str) -> None:
    path = folder / "instances.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ManifestError, match=r"instances\.json: (the JSON cannot be read: |has no list 'images')"):
        Manifest.of(path)


def test_the_folder_of_the_images_is_asked_for(folder: Path) -> None:
    path = written(folder.parent, INSTANCES)
    message = f"the image 'b.jpg' is not in {folder.parent}; pass the folder of the images as root='…'"
    said(path, message)
    (folder / "b.jpg").unlink()
    assert len(Manifest.of(path, root=folder)) == 3  # a missing image is a bad image
    with pytest.raises(ManifestError, match="there is no such file"):
        Manifest.of(str(folder / "none.json"))


numbers = st.recursive(st.integers(-99, 99) | st.floats(-1e6, 1e6) | st.just(2e-7), st.lists, max_leaves=8)
texts = st.sampled_from(
    ["", "x", "segmentation", '"segmentation": [1]', '\\"segmentation": [[1, 2]]', "counts", 'a"segmentation":[3]']
)


@settings(max_examples=200)
@given(st.lists(st.lists(numbers, max_size=3), min_size=1, max_size=4), texts, st.sampled_from([None, 1, "\t"]))
def test_polygons_are_passed_over_and_nothing_else(polygons: Any, text: str, indent: Any) -> None:
    """Without them the text is that of the same members with null."""

    def members(values: list[Any]) -> Any:
        return [
            {
                "note": text,
                "segmentation": value,
                text: [1],
                "bbox": [1, 2],
                "more": {"segmentation": value, "size": [3]},
            }
            for value in values
        ]

    raw = json.dumps(members(polygons), indent=indent).encode()
    found = json.loads(POLYGONS.sub(b'"segmentation":null', raw))
    # A key of the name, or one that ends in it after a quote, has lost its value too; nobody reads such a key.
    expected = members([None] * len(polygons))
    for one, other in zip(found, expected, strict=True):
        one.pop(text, None), other.pop(text, None)
    assert found == expected
