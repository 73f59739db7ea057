"""Exported tables, read back by Hugging Face's `datasets` and by a build."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets as hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.exported import COUNT, NAMES, SIZE, encoded_slots, files_in, jpeg_of, jpegs, planes

import arraystore
from arraystore import Ragged, Store
from arraystore._exporting.writing import tables

FORMS = ["parquet", "arrow"]


def loaded(path: Path, place: Path) -> Any:
    """What `datasets` opens."""
    if path.suffix == ".arrow":
        return hub.Dataset.from_file(str(path))
    return hub.Dataset.from_parquet(str(path), cache_dir=str(place / "hub"))


def encoded(data: Any) -> list[bytes]:
    """The bytes of the images in a column."""
    return [cell["bytes"] for cell in data.cast_column("image", hub.Image(decode=False))["image"]]


@pytest.mark.parametrize("form", FORMS)
def test_images_and_classes_are_shown_as_such(store: Store, tmp_path: Path, form: str) -> None:
    report = arraystore.export(store, tmp_path / f"x.{form}", progress=False)
    assert (report.form, report.images, report.files, report.copied) == (form, COUNT, 1, 0)
    assert report.bytes == (tmp_path / f"x.{form}").stat().st_size
    data = loaded(tmp_path / f"x.{form}", tmp_path)
    assert data.features == hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=list(NAMES))})
    assert data["label"][:] == store.labels.tolist()
    assert encoded(data) == [jpeg_of(store.images[slot]) for slot in range(COUNT)]
    paths = [cell["path"] for cell in data.cast_column("image", hub.Image(decode=False))["image"]]
    assert paths[:2] == ["img_000_0.jpg", "img_001_1.jpg"]
    assert len({*paths}) == COUNT
    assert data[3]["image"].size == (SIZE, SIZE)


@pytest.mark.parametrize("form", FORMS)
def test_targets_of_every_kind_keep_their_values_and_types(rich: Store, tmp_path: Path, form: str) -> None:
    arraystore.export(rich, tmp_path / f"x.{form}", format="png", progress=False)
    data = loaded(tmp_path / f"x.{form}", tmp_path)
    assert data.features == hub.Features(
        {
            "image": hub.Image(),
            "label": hub.ClassLabel(names=["x", "y"]),
            "boxes": hub.List(hub.List(hub.Value("float32"))),
            "score": hub.Value("float64"),
            "vector": hub.List(hub.Value("int16")),
            "grid": hub.List(hub.List(hub.Value("uint64"))),
            "flag": hub.Value("bool"),
            "tags": hub.List(hub.ClassLabel(names=["a", "b", "c"])),
            "mask": hub.Image(),
            "caption": hub.Value("string"),
        }
    )
    for slot, row in enumerate(data):
        np.testing.assert_array_equal(planes(row["image"]), rich.images[slot])
        np.testing.assert_array_equal(np.asarray(row["mask"]), rich.targets["mask"][slot])
        assert row["label"] == rich.labels[slot]
        assert row["boxes"] == rich.targets["boxes"][slot].tolist()
        np.testing.assert_equal(row["score"], rich.targets["score"][slot])
        assert row["vector"] == rich.targets["vector"][slot].tolist()
        assert row["grid"] == rich.targets["grid"][slot].tolist()
        assert row["flag"] is (slot % 3 == 0)
        assert row["tags"] == np.flatnonzero(rich.targets["tags"][slot]).tolist()
        assert row["caption"] == f"caption, number “{slot}” of all"


def test_parquet_is_read_by_a_build_with_its_classes(rich: Store, tmp_path: Path) -> None:
    arraystore.export(rich, tmp_path / "x.parquet", format="png", progress=False)
    kinds = dict.fromkeys(("label", "boxes", "score", "vector"), "auto") | {"mask": "mask", "caption": "text"}
    again = arraystore.build(tmp_path / "x.parquet", size=SIZE, targets=kinds, progress=False)
    assert again.classes == rich.classes
    for name in ("labels", "score", "vector", "mask"):
        np.testing.assert_array_equal(again.targets[name], rich.targets[name])
    np.testing.assert_array_equal(again.targets["boxes"].values, rich.targets["boxes"].values)
    np.testing.assert_array_equal(again.images, rich.images)
    assert again.samples["caption"].to_pylist() == rich.samples["caption"].to_pylist()


@pytest.mark.parametrize("form", FORMS)
def test_the_jpegs_of_an_encoded_store_are_copied(tmp_path: Path, form: str) -> None:
    data = jpegs(7)
    slots = encoded_slots(data, failed=[2], targets={"labels": np.array([3, 1, 4, 1, 5, 9, 2])})
    report = arraystore.export(slots, tmp_path / f"x.{form}", quality=1, progress=False)
    assert (report.images, report.copied, [bad.slot for bad in report.bad]) == (6, 6, [2])
    found = loaded(tmp_path / f"x.{form}", tmp_path)
    assert encoded(found) == data[:2] + data[3:]
    assert found["label"][:] == [3, 1, 1, 5, 9, 2]
    report = arraystore.export(slots, tmp_path / f"y.{form}", format="png", progress=False)
    assert report.copied == 0
    for row, jpeg in zip(loaded(tmp_path / f"y.{form}", tmp_path), data[:2] + data[3:], strict=True):
        np.testing.assert_array_equal(planes(row["image"]), planes(jpeg))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_raw_slots_of_every_form(photos: Path, tmp_path: Path, gray: bool, layout: Any) -> None:
    store = arraystore.build(photos, size=(SIZE, 20), color="gray" if gray else "rgb", layout=layout, progress=False)
    arraystore.export(store, tmp_path / "x.parquet", format="png", progress=False)
    for slot, row in enumerate(loaded(tmp_path / "x.parquet", tmp_path)):
        assert row["image"].mode == ("L" if gray else "RGB")
        wanted = store.images[slot] if layout == "NCHW" else store.images[slot].transpose(2, 0, 1)
        np.testing.assert_array_equal(planes(row["image"]), wanted)


def test_arrays_of_other_programs_are_exported(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (5, SIZE, SIZE), np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    arraystore.export(arraystore.open_array(tmp_path / "x.npy"), tmp_path / "x.parquet", format="png", progress=False)
    data = loaded(tmp_path / "x.parquet", tmp_path)
    np.testing.assert_array_equal([np.asarray(image) for image in data["image"]], pixels)


def test_shards_hold_all_rows_in_order_and_no_more_than_asked(rich: Store, tmp_path: Path) -> None:
    for form in FORMS:
        report = arraystore.export(rich, tmp_path / form, form, max_bytes="6 kB", progress=False)
        names = [name for name in files_in(tmp_path / form) if not name.startswith(".")]
        assert names == [f"data-{i:05}-of-{len(names):05}.{form}" for i in range(report.files)]
        assert report.files > 2
        assert report.bytes == sum((tmp_path / form / name).stat().st_size for name in names)
        for name in names:
            images = [row["image"]["bytes"] for row in rows(tmp_path / form / name)]
            masks = [row["mask"]["bytes"] for row in rows(tmp_path / form / name)]
            assert sum(map(len, images + masks)) <= 6_000
        captions = [row["caption"] for name in names for row in rows(tmp_path / form / name)]
        assert captions == rich.samples["caption"].to_pylist()
    data = hub.load_dataset(
        "parquet", data_dir=str(tmp_path / "parquet"), split="train", cache_dir=str(tmp_path / "hub")
    )
    assert data["label"][:] == rich.labels.tolist()
    assert data.features["label"].names == ["x", "y"]


def rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return found
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return list(stream.read_all().to_pylist())


def test_an_image_that_is_larger_than_a_shard_has_one_alone(store: Store, tmp_path: Path) -> None:
    report = arraystore.export(store[:5], tmp_path / "x", "arrow", max_bytes=1, progress=False)
    assert report.files == 5
    for number in range(5):
        ((row),) = rows(tmp_path / "x" / f"data-{number:05}-of-00005.arrow")
        assert row["image"]["bytes"] == jpeg_of(store.images[number])


def test_groups_of_rows_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a reader that wants one row takes little into memory."""
    monkeypatch.setattr(tables, "_GROUP_ROWS", 10)
    data = jpegs(25)
    arraystore.export(encoded_slots(data), tmp_path / "x.parquet", progress=False)
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [10, 10, 5]
    monkeypatch.setattr(tables, "_GROUP_BYTES", 3 * max(map(len, data)))
    arraystore.export(encoded_slots(data), tmp_path / "x.arrow", progress=False)
    with pa.OSFile(str(tmp_path / "x.arrow")) as stream, pa.ipc.open_stream(stream) as batches:
        sizes = [batch.num_rows for batch in batches]
    assert (sum(sizes), max(sizes)) == (25, 4)
    assert encoded(loaded(tmp_path / "x.arrow", tmp_path)) == data


@pytest.mark.parametrize("form", FORMS)
def test_lists_without_items_and_labels_of_many(tmp_path: Path, form: str) -> None:
    labels = Ragged.from_rows([[], [1, 0], [], [1]], dtype=np.int64)
    empty = Ragged(np.empty((0, 4), np.float32), np.zeros(5, np.int64))
    slots = encoded_slots(jpegs(4), targets={"labels": labels, "boxes": empty}, categories={"labels": ("cat", "dog")})
    arraystore.export(slots, tmp_path / f"x.{form}", progress=False)
    data = loaded(tmp_path / f"x.{form}", tmp_path)
    assert data["boxes"][:] == [[], [], [], []]
    names = data.features["label"].feature
    assert [names.int2str(row) for row in data["label"]] == [[], ["dog", "cat"], [], ["dog"]]


def test_numbers_of_the_other_byte_order(tmp_path: Path) -> None:
    targets = {
        "a": np.array([1, 256, -5], ">i4"),
        "b": np.array([[0.5, 2]] * 3, ">f8"),
        "labels": np.array([1, 0, 1], ">i8"),
    }
    slots = encoded_slots(jpegs(3), targets=targets, categories={"labels": ("u", "v")})
    arraystore.export(slots, tmp_path / "x.parquet", progress=False)
    data = loaded(tmp_path / "x.parquet", tmp_path)
    assert (data["a"][:], data["b"][:], data["label"][:]) == ([1, 256, -5], [[0.5, 2]] * 3, [1, 0, 1])


def test_columns_that_have_one_name(tmp_path: Path) -> None:
    both = {"labels": np.array([1, 2]), "label": np.array([3, 4])}
    arraystore.export(encoded_slots(jpegs(2), targets=both), tmp_path / "x.parquet", progress=False)
    data = loaded(tmp_path / "x.parquet", tmp_path)
    assert (data["labels"][:], data["label"][:]) == ([1, 2], [3, 4])
    slots = encoded_slots(jpegs(2), targets={"image": np.array([1, 2])})
    with pytest.raises(arraystore.ManifestError, match="'image' cannot be exported under its name, which the form has"):
        arraystore.export(slots, tmp_path / "y.parquet", progress=False)
    assert not (tmp_path / "y.parquet").exists()
    arraystore.export(slots, tmp_path / "y", progress=False)


def test_wide_floats_are_refused(tmp_path: Path) -> None:
    slots = encoded_slots(jpegs(2), targets={"w": np.array([1, 2], np.longdouble)})
    with pytest.raises(arraystore.ManifestError, match=r"'w' is of float128, which no form holds: build"):
        arraystore.export(slots, tmp_path / "x.parquet", progress=False)


def test_several_stores_and_a_choice(rich: Store, store: Store, tmp_path: Path) -> None:
    both = arraystore.concatenate([store[4:6], store[[7, 0]]])
    arraystore.export(both, tmp_path / "x.parquet", format="png", progress=False)
    data = loaded(tmp_path / "x.parquet", tmp_path)
    assert data["label"][:] == store.labels[[4, 5, 7, 0]].tolist()
    np.testing.assert_array_equal([planes(image) for image in data["image"]], store.images[[4, 5, 7, 0]])
    paths = [cell["path"] for cell in data.cast_column("image", hub.Image(decode=False))["image"]]
    assert paths == ["img_004.png", "img_005 ü.png", "img_007.png", "img_000.png"]
    arraystore.export(rich[[3, 1]], tmp_path / "y.parquet", progress=False)
    assert loaded(tmp_path / "y.parquet", tmp_path)["caption"][:] == [
        "caption, number “3” of all",
        "caption, number “1” of all",
    ]


def test_encoded_and_raw_slots_together(tmp_path: Path) -> None:
    data = jpegs(3)
    raw = arraystore.build([np.asarray(Image.open(io.BytesIO(each))) for each in data], size=SIZE, progress=False)
    both = arraystore.concatenate([encoded_slots(data), raw])
    report = arraystore.export(both, tmp_path / "x.parquet", progress=False)
    assert report.copied == 3
    found = encoded(loaded(tmp_path / "x.parquet", tmp_path))
    assert found == [*data, *(jpeg_of(raw.images[slot]) for slot in range(3))]
