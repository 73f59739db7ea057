"""Exported folders, read back by torchvision, by Hugging Face's imagefolder and by a build."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets as hub
import numpy as np
import pytest
from PIL import Image
from support import exported
from support import torchvision_data as vision
from support.exported import COUNT, NAMES, SIZE, error_of, files_in, jpeg_of, open_files_allowed, planes

import arraystore
from arraystore import Store


def loaded(folder: Path, place: Path) -> Any:
    """What `load_dataset("imagefolder")` finds."""
    with open_files_allowed():
        return hub.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(place / "hub"))


def test_class_folders_are_read_by_torchvision(store: Store, tmp_path: Path) -> None:
    report = arraystore.export(store, tmp_path / "f", progress=False)
    assert (report.form, report.images, report.files, report.copied) == ("folder", COUNT, COUNT, 0)
    assert (report.target, report.bad, report.notes) == (tmp_path / "f", (), ())
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "f").rglob("*.jpg"))
    data = vision.ImageFolder(str(tmp_path / "f"))
    assert (len(data), tuple(data.classes)) == (COUNT, NAMES)
    assert [label for _, label in data] == store.labels.tolist()
    for slot, (image, _) in enumerate(data):
        np.testing.assert_array_equal(planes(image), planes(jpeg_of(store.images[slot])))
        assert error_of(store, slot, image) < 15
    assert sorted(path.stem for path in (tmp_path / "f" / "ash").iterdir())[:3] == ["img_000", "img_001", "img_002 ü"]


def test_png_has_the_exact_pixels_and_jpeg_the_quality_that_was_asked(store: Store, tmp_path: Path) -> None:
    arraystore.export(store, tmp_path / "p", format="png", progress=False)
    for slot, (image, label) in enumerate(vision.ImageFolder(str(tmp_path / "p"))):
        np.testing.assert_array_equal(planes(image), store.images[slot])
        assert label == store.labels[slot]
    arraystore.export(store, tmp_path / "q", quality=35, subsampling="444", progress=False)
    path = next((tmp_path / "q").rglob("*.jpg"))
    with (
        Image.open(path) as image,
        Image.open(io.BytesIO(jpeg_of(store.images[0], quality=35, subsampling="444"))) as wanted,
    ):
        assert image.quantization == wanted.quantization  # type: ignore[attr-defined]
        assert image.layer == wanted.layer  # type: ignore[attr-defined]


def test_class_folders_are_read_by_imagefolder_and_by_a_build(store: Store, tmp_path: Path) -> None:
    arraystore.export(store, tmp_path / "f", format="png", progress=False)
    data = loaded(tmp_path / "f", tmp_path)
    assert data.features["label"].names == list(NAMES)
    assert data["label"][:] == store.labels.tolist()
    for slot, row in enumerate(data):
        np.testing.assert_array_equal(planes(row["image"]), store.images[slot])
    again = arraystore.build(tmp_path / "f", size=SIZE, progress=False)
    assert again.classes == NAMES
    np.testing.assert_array_equal(again.images, store.images)
    np.testing.assert_array_equal(again.labels, store.labels)


def test_everything_beside_the_images_is_read_by_imagefolder(rich: Store, tmp_path: Path) -> None:
    report = arraystore.export(rich, tmp_path / "f", format="png", progress=False)
    assert report.files == 2 * COUNT + 1
    data = loaded(tmp_path / "f", tmp_path)
    assert len(data) == COUNT
    labels, tags = data.features["label"], data.features["tags"].feature
    assert (labels.names, tags.names) == (["x", "y"], ["a", "b", "c"])
    for slot, row in enumerate(data):
        np.testing.assert_array_equal(planes(row["image"]), rich.images[slot])
        np.testing.assert_array_equal(np.asarray(row["mask"]), rich.targets["mask"][slot])
        assert labels.int2str(row["label"]) == rich.classes[rich.labels[slot]] == "yx"[slot % 3 == 1 or slot == 18]
        assert row["boxes"] == rich.targets["boxes"][slot].tolist()
        np.testing.assert_equal(row["score"], rich.targets["score"][slot])
        assert row["vector"] == [2 * slot, 2 * slot + 1]
        assert row["grid"] == rich.targets["grid"][slot].tolist()
        assert row["flag"] is (slot % 3 == 0)
        assert row["caption"] == f"caption, number “{slot}” of all"
    assert [tags.int2str(row) for row in data["tags"][:4]] == [["a", "b"], [], ["c"], ["a", "b"]]


def test_images_beside_masks_are_read_by_torchvision_and_by_a_build(rich: Store, tmp_path: Path) -> None:
    arraystore.export(rich, tmp_path / "f", format="png", progress=False)
    data = vision.ImageFolder(str(tmp_path / "f" / "images"))
    assert data.classes == ["x", "y"]
    kinds = {"mask_file_name": "mask", "label": "auto", "boxes": "auto", "score": "auto"}
    again = arraystore.build(tmp_path / "f", size=SIZE, targets=kinds, progress=False)
    assert again.classes == rich.classes
    for name in ("labels", "score"):
        np.testing.assert_array_equal(again.targets[name], rich.targets[name])
    np.testing.assert_array_equal(again.targets["mask_file_name"], rich.targets["mask"])
    np.testing.assert_array_equal(again.targets["boxes"].values, rich.targets["boxes"].values)
    np.testing.assert_array_equal(again.images, rich.images)


def test_numbers_are_told_in_a_csv(photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.rglob("*.*"))[:4]
    targets = {"score": [0.5, float("nan"), -2.0, 1e-7], "big": np.array([2**62 + 1, 0, 1, 2])}
    store = arraystore.build(paths, tmp_path / "x.store", size=SIZE, targets=targets, progress=False)
    arraystore.export(store, tmp_path / "f", format="png", progress=False)
    names = [f"{path.stem}.png" for path in paths]
    lines = (tmp_path / "f" / "metadata.csv").read_text("utf-8").splitlines()
    assert lines[0] == "file_name,score,big"
    assert lines[2] == f"{names[1]},,0"
    data = loaded(tmp_path / "f", tmp_path)
    assert data["score"][:] == [0.5, None, -2.0, 1e-7]  # pandas has no other missing number
    assert data["big"][:] == targets["big"].tolist()
    for slot, row in enumerate(data):
        np.testing.assert_array_equal(planes(row["image"]), store.images[slot])


@pytest.mark.parametrize(
    "names", [["001", "1"], ["NA", "b"], ["true", "false"], ["2020-01-01", "x"], ["1e3", "1000.0"]]
)
def test_classes_that_a_csv_would_change_are_kept(photos: Path, tmp_path: Path, names: list[str]) -> None:
    paths = sorted(photos.rglob("*.*"))[:4]
    store = arraystore.build(
        paths,
        tmp_path / "x.store",
        size=SIZE,
        labels=names * 2,
        targets={"n": [4, 3, 2, 1]},
        classes=names,
        progress=False,
    )
    arraystore.export(store, tmp_path / "f", progress=False)
    data = loaded(tmp_path / "f", tmp_path)
    found = {row["n"]: data.features["label"].int2str(row["label"]) for row in data}
    assert found == {4: names[0], 3: names[1], 2: names[0], 1: names[1]}


def test_a_csv_has_the_names_of_classes_beside_other_numbers(photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.rglob("*.*"))[:3]
    store = arraystore.build(
        paths, tmp_path / "x.store", size=SIZE, labels=["b", 'a "c", d', "b"], targets={"n": [7, 8, 9]}, progress=False
    )
    arraystore.export(store, tmp_path / "f", progress=False)
    data = loaded(tmp_path / "f", tmp_path)
    assert (data["label"][:], data["n"][:]) == (["b", 'a "c", d', "b"], [7, 8, 9])
    assert vision.ImageFolder(str(tmp_path / "f")).classes == ['a "c", d', "b"]


def test_readers_that_number_classes_otherwise_are_told_of(photos: Path, tmp_path: Path) -> None:
    store = arraystore.build(photos, tmp_path / "x.store", size=SIZE, classes=["oak", *NAMES[:2]], progress=False)
    report = arraystore.export(store, tmp_path / "f", progress=False)
    (note,) = report.notes
    assert note.endswith("without those that have no images: 'ash', code 1 in the store, becomes 0")
    data = vision.ImageFolder(str(tmp_path / "f"))
    assert [data.classes[label] for _, label in data] == [
        store.classes[code] for code in sorted(store.labels, key=lambda code: store.classes[code])
    ]
    (note,) = arraystore.export(store[store.labels != 1], tmp_path / "g", progress=False).notes
    assert "'größe 日本', code 2 in the store, becomes 0" in note
    assert arraystore.export(store, tmp_path / "x.parquet", progress=False).notes == ()


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", " ", "__x", "x" * 201, "a\\b"])
def test_classes_that_no_folder_can_be_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    slots = exported.encoded_slots(
        exported.jpegs(2), targets={"labels": np.array([0, 1])}, categories={"labels": ("good", name)}
    )
    with pytest.raises(arraystore.ManifestError, match=r"cannot be the name of a folder: export with form='parquet'$"):
        arraystore.export(slots, tmp_path / "f", progress=False)
    assert [*tmp_path.iterdir()] == []


def test_a_folder_is_known_by_its_mark(store: Store, tmp_path: Path) -> None:
    arraystore.export(store[:2], tmp_path / "f", progress=False)
    assert json.loads((tmp_path / "f" / ".arraystore-export.json").read_text()) == {"form": "folder", "images": 2}
    assert sorted(files_in(tmp_path / "f")) == [".arraystore-export.json", "ash/img_000.jpg", "ash/img_001.jpg"]
