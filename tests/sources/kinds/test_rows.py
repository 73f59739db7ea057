"""Tables whose rows are images: data frames, Parquet files that hold images, and data sets of Hugging Face."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

import arraystore
from arraystore import BadImagesError, Manifest, ManifestError
from tests.support.images import jpeg, photo
from tests.support.photo_folder import CLASSES, SIZE, built, photo_folder

datasets.disable_progress_bars()
IMAGES = [jpeg(photo(20 + i, 30, seed=i)) for i in range(6)]
LABELS = [0, 2, 1, 0, 2, 1]


@pytest.fixture(scope="module")
def wanted() -> arraystore.Store:
    return built(IMAGES, labels=LABELS)


def structs(**columns: Any) -> pa.Table:
    cells = [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(IMAGES)]
    return pa.table({"image": cells} | columns)


def hugging_face(root: Path | None = None) -> datasets.Dataset:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(CLASSES)),
            "score": datasets.Value("float32"),
        }
    )
    cells = [{"bytes": data, "path": None} for data in IMAGES]
    data = datasets.Dataset.from_dict({"image": cells, "label": LABELS, "score": [i / 2 for i in range(6)]}, features)
    if root is not None:
        data.to_parquet(root / "train-00000-of-00002.parquet", batch_size=2)
        data.select([5, 4]).to_parquet(root / "train-00001-of-00002.parquet")
    return data


# Data frames


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_data_frame_of_paths_is_what_its_csv_is(tmp_path: Path, make: Any) -> None:
    columns = {"path": ["b.jpg", "a.jpg"], "label": ["x", "y"], "score": [0.5, None], "n": [3, 4]}
    frame = make(columns)
    path = tmp_path / "t.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    found, table = Manifest.of(frame, root=tmp_path), Manifest.of(path)
    assert list(found.sources) == list(table.sources)
    assert (found.root, found.classes) == (table.root, table.classes)
    assert list(found.targets) == ["labels", "score", "n"]
    for name, values in table.targets.items():
        assert np.array_equal(found.targets[name], values, equal_nan=True), name
        assert found.targets[name].dtype == values.dtype
    assert found.digest == table.digest


def test_a_frame_takes_the_options_of_a_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["a", "b", "c"], "split": ["x", "y", "x"], "kind": ["p", "q", "r"], "other": [1, 2, 3]})
    options: dict[str, Any] = {"path_column": "id", "suffix": ".png", "where": "split=x", "targets": {"kind": "text"}}
    found = Manifest.of(frame, root=tmp_path, **options)
    assert (list(found.sources), dict(found.targets), list(found.texts["kind"])) == (["a.png", "c.png"], {}, ["p", "r"])
    assert found.load(0) == f"{tmp_path}/a.png"
    with pytest.raises(ManifestError, match="there is no column 'x': the columns are 'id', 'split', 'kind', 'other'"):
        Manifest.of(frame, path_column="x")


def test_columns_of_a_frame_are_lists(tmp_path: Path) -> None:
    for column in (pd.Series(["a", "b"]), pl.Series(["a", "b"]), pa.chunked_array([["a"], ["b"]])):
        assert list(Manifest.of(column, root=tmp_path).sources) == ["a", "b"]
    frame = pd.DataFrame({"path": ["a", "b"], "y": [2, 1]})
    assert Manifest.of(frame["path"], labels=frame["y"]).targets["labels"].tolist() == [2, 1]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_frame_of_bytes_gives_the_images_themselves(make: Any, wanted: arraystore.Store) -> None:
    found = built(make({"jpg": IMAGES, "label": LABELS}))
    assert np.array_equal(found.images, wanted.images)
    assert found.targets["labels"].tolist() == LABELS


def test_a_frame_of_structs_keeps_their_names(wanted: arraystore.Store) -> None:
    for table in (structs(label=LABELS), structs(label=LABELS).to_pandas(), pl.from_arrow(structs(label=LABELS))):
        store = built(table)
        assert np.array_equal(store.images, wanted.images)
        assert store.samples["source"].to_pylist() == [f"{i}.jpg" for i in range(6)]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"path": ["a"], "x": [{"y": 1}]}, {}, "holds struct<y: int64>, which is no target"),
        ({"jpg": [b""], "x": [b""]}, {"path_column": "y"}, "there is no column 'y'"),
        (
            {"a1": [b""], "b1": [b""]},
            {},
            "the columns 'a1', 'b1' hold images, or other bytes; choose the one",
        ),
        ({"jpg": [b""], "raw": [b""]}, {}, "column 'raw' holds binary, which is no target; choose other columns"),
        ({"x": [1]}, {}, "no column of paths: none of "),
        ({"path": [None]}, {}, "the path is missing"),
        ({"jpg": [b""]}, {"suffix": ".jpg"}, "suffix has no meaning for images in a table: leave it out"),
        ({"path": []}, {}, "has no rows"),
        ({"path": ["a"], "label": [1]}, {"labels": [1]}, "'labels' comes from there and is given beside it"),
    ],
)
def test_frames_that_do_not_fit_are_refused(columns: dict[str, Any], options: dict[str, Any], message: str) -> None:
    table = pa.table(
        {
            name: pa.array(cells, None if any(cells) or name != "path" else pa.string())
            for name, cells in columns.items()
        }
    )
    with pytest.raises(ManifestError, match=re.escape(message)):
        Manifest.of(table, **options)


def test_a_column_of_several_kinds_is_refused() -> None:
    with pytest.raises(ManifestError, match="the table cannot be read, because a column holds values of several kinds"):
        Manifest.of(pd.DataFrame({"path": ["a", "b"], "x": ["1", 2]}))
    with pytest.raises(ManifestError, match="there are two columns named 'x': rename one"):
        Manifest.of(pa.table([["a"], [1], [2]], names=["path", "x", "x"]))


def test_cells_without_bytes_are_files_or_bad(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGES[0])
    only_paths = [{"bytes": None, "path": str(tmp_path / "a.jpg")}] * 2
    found = Manifest.of(pa.table({"image": only_paths}))
    assert (found.is_paths, found.load(1)) == (True, str(tmp_path / "a.jpg"))
    mixed = [{"bytes": IMAGES[1], "path": None}, {"bytes": None, "path": "a.jpg"}, {"bytes": None, "path": None}, None]
    store = built(pa.table({"image": mixed}), root=tmp_path, bad="keep")
    assert np.array_equal(store.images[:2], built([IMAGES[1], IMAGES[0]]).images)
    assert [(bad.slot, bad.reason) for bad in store.bad()] == [
        (2, "row 2: the cell has neither bytes nor a path"),
        (3, "row 3: the cell has neither bytes nor a path"),
    ]


def test_a_file_that_a_cell_names_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(IMAGES[0])
    table = pa.table({"image": [{"bytes": b"x", "path": None}, {"bytes": None, "path": "a.jpg"}]})
    with pytest.raises(BadImagesError):
        arraystore.build(table, tmp_path / "x.store", size=SIZE, root=tmp_path, progress=False)
    (tmp_path / "a.jpg").write_bytes(IMAGES[1])
    store = arraystore.build(table, tmp_path / "x.store", size=SIZE, root=tmp_path, progress=False, bad="keep")
    assert np.array_equal(store.images[1], built(IMAGES[1:2]).images[0])


# Parquet files that hold images


@pytest.mark.parametrize("rows_a_group", [1, 4, 100])
def test_parquet_gives_its_images(tmp_path: Path, wanted: arraystore.Store, rows_a_group: int) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(structs(label=LABELS), path, row_group_size=rows_a_group)
    for workers, processes in ((1, False), (2, True)):
        store = arraystore.build(path, size=SIZE, workers=workers, processes=processes, progress=False)
        assert np.array_equal(store.images, wanted.images)
        assert store.targets["labels"].tolist() == LABELS
        assert store.samples["source"].to_pylist() == [f"{i}.jpg" for i in range(6)]
    found = Manifest.of(path)
    assert [pickle.loads(pickle.dumps(found)).load(slot) for slot in (5, 0, 3)] == [IMAGES[5], IMAGES[0], IMAGES[3]]


def test_shards_of_hugging_face_keep_the_names_of_their_classes(tmp_path: Path, wanted: arraystore.Store) -> None:
    hugging_face(tmp_path)
    store = built(f"{tmp_path}/*.parquet")
    assert np.array_equal(store.images, wanted.images[[0, 1, 2, 3, 4, 5, 5, 4]])
    assert store.categories == {"labels": CLASSES}
    assert store.targets["labels"].tolist() == [*LABELS, LABELS[5], LABELS[4]]
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    found = Manifest.of(f"{tmp_path}/*.parquet")
    assert found.notes == ("1 of the 2 shards of 'train' are missing",)


def test_shards_of_several_splits_are_refused(tmp_path: Path) -> None:
    hugging_face(tmp_path)
    (tmp_path / "train-00001-of-00002.parquet").rename(tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(ManifestError, match="the files are shards of several splits, 'test', 'train'; build each"):
        Manifest.of(f"{tmp_path}/*.parquet")


def test_parquet_without_images_is_a_table(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"path": ["a"], "y": [1]}), tmp_path / "x.parquet")
    assert list(Manifest.of(tmp_path / "x.parquet").sources) == ["a"]


def test_parquet_whose_cells_are_paths_alone_is_a_list_of_files(tmp_path: Path) -> None:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array([{"bytes": None, "path": "a.jpg"}] * 3, kind)})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    found = Manifest.of(tmp_path / "x.parquet")
    assert (found.is_paths, found.load(2)) == (True, f"{tmp_path}/a.jpg")


def test_rows_of_parquet_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(structs(label=LABELS, split=list("ababab")), path, row_group_size=4)
    found = Manifest.of(path, where="split=b")
    assert [found.load(slot) for slot in range(3)] == IMAGES[1::2]
    assert found.targets["labels"].tolist() == LABELS[1::2]
    assert dict(Manifest.of(path, targets=[]).targets) == {}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"label": LABELS}, {"root": "."}, "root has no meaning for Parquet of images: leave out root"),
        ({"raw": IMAGES}, {}, "column 'raw' holds binary, which is no target; choose other columns with targets=[]"),
        ({"label": LABELS}, {"targets": ["x"]}, "column 'x' cannot be a target: there is no such column"),
        ({"label": LABELS}, {"targets": ["image"]}, "column 'image' cannot be a target: it is the column of images"),
        ({"label": LABELS}, {"where": "label=9"}, "no row has '9', but 0, 1, 2"),
    ],
)
def test_parquet_that_does_not_fit_is_refused(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    parquet.write_table(structs(**columns), tmp_path / "x.parquet")
    with pytest.raises(ManifestError, match=re.escape(message)):
        Manifest.of(tmp_path / "x.parquet", **options)


def test_codes_without_a_class_are_refused_and_minus_one_is_none(tmp_path: Path) -> None:
    table = hugging_face(tmp_path).data.table
    for code, is_good in ((-1, True), (3, False)):
        changed = table.set_column(1, "label", [[*LABELS[:5], code]])
        parquet.write_table(changed, tmp_path / "x.parquet")
        if is_good:
            assert Manifest.of(tmp_path / "x.parquet").targets["labels"].tolist() == [*LABELS[:5], -1]
        else:
            with pytest.raises(ManifestError, match=r"row 5 \(counted from 0\): 3 is none of the classes, which are 3"):
                Manifest.of(tmp_path / "x.parquet")


def test_parquet_that_was_changed_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(structs(), path)
    found = Manifest.of(path)
    parquet.write_table(structs(more=LABELS), path)
    with pytest.raises(BadImagesError, match="was changed after it was listed: build again"):
        built(found)


def test_damaged_pages_of_parquet_are_bad_slots_and_the_rest_is_built(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(structs(), path, row_group_size=2, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    at = data.index(IMAGES[2])
    data[at - 4 : at] = b"\xff\xff\xff\x7f"  # the length of the third image
    path.write_bytes(data)
    store = built(path, bad="keep")
    assert {bad.slot for bad in store.bad()} == {2, 3}
    assert all("cannot be read" in bad.reason for bad in store.bad())


# Data sets of Hugging Face


def test_a_data_set_of_hugging_face_is_taken_undecoded(wanted: arraystore.Store) -> None:
    data = hugging_face()
    store = built(data)
    assert np.array_equal(store.images, wanted.images)
    assert (store.categories, store.targets["labels"].tolist()) == ({"labels": CLASSES}, LABELS)
    assert store.targets["score"].dtype == np.float32
    assert store.samples["hash"].to_pylist() == wanted.samples["hash"].to_pylist()
    turned = jpeg(photo(20, 30), orientation=6)
    with_turned = datasets.Dataset.from_dict({"image": [{"bytes": turned, "path": None}]})
    assert np.array_equal(built(with_turned.cast_column("image", datasets.Image())).images, built([turned]).images)


def test_a_choice_of_rows_and_a_column_work_too(wanted: arraystore.Store) -> None:
    data = hugging_face()
    store = built(data.select([4, 0]))
    assert np.array_equal(store.images, wanted.images[[4, 0]])
    assert store.targets["labels"].tolist() == [LABELS[4], LABELS[0]]
    assert np.array_equal(built(data["image"], labels=data["label"]).images, wanted.images)
    assert Manifest.of(data, where="label=2", targets=[]).load(1) == IMAGES[4]


def test_an_image_folder_of_hugging_face_is_a_list_of_files(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos")
    data = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    found = Manifest.of(data)
    assert found.is_paths
    by_folder = Manifest.of(folder)
    assert [found.load(slot) for slot in range(9)] == [by_folder.load(slot) for slot in range(9)]
    assert (found.classes, found.targets["labels"].tolist()) == (
        by_folder.classes,
        by_folder.targets["labels"].tolist(),
    )


def test_splits_streams_and_empty_sets_are_refused() -> None:
    data = hugging_face()
    with pytest.raises(ManifestError, match=re.escape("the data set has the splits 'train', 'val': pass one, such as")):
        Manifest.of(datasets.DatasetDict(train=data, val=data))
    with pytest.raises(ManifestError, match="the data set is streamed, so nobody knows how many rows it has"):
        Manifest.of(data.to_iterable_dataset())
    with pytest.raises(ManifestError, match="the data set has no rows"):
        Manifest.of(data.select([]))
    with pytest.raises(ManifestError, match="root and suffix have no meaning for a data set that holds its images"):
        Manifest.of(data, root=".")


def test_a_resumed_build_of_a_data_set_goes_on(tmp_path: Path) -> None:
    cells = [{"bytes": data, "path": None} for data in [*IMAGES, b"x"]]
    data = datasets.Dataset.from_dict({"image": cells}).cast_column("image", datasets.Image())
    with pytest.raises(BadImagesError):
        arraystore.build(data, tmp_path / "x.store", size=SIZE, progress=False)
    done: list[int] = []
    arraystore.build(data, tmp_path / "x.store", size=SIZE, bad="keep", progress=lambda state: done.append(state.done))
    assert done[0] == 7
