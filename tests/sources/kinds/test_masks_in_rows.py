"""Masks in the rows of tables that hold their images: Parquet, data sets of Hugging Face, and data frames."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet
from support.store_contract import count_decodes

from arraystore import BadImagesError, Manifest, ManifestError, Store
from arraystore._sources.kinds.rows import parquet_rows
from tests.support import masks
from tests.support.images import encode, jpeg, photo
from tests.support.photo_folder import built

datasets.disable_progress_bars()
COUNT = 40
TARGETS = {"annotation": "mask"}
IMAGES = [jpeg(photo(20 + i % 3, 30, seed=i)) for i in range(COUNT)]
NUMBERS = [masks.numbers(20 + i % 3, 30, seed=i) for i in range(COUNT)]
MASKS = [encode(masks.with_palette(each), "PNG") for each in NUMBERS]


def structs(cells: list[bytes]) -> list[dict[str, Any]]:
    return [{"bytes": data, "path": None} for data in cells]


def hugging_face(images: list[bytes] = IMAGES, found: list[bytes] = MASKS) -> datasets.Dataset:
    """A data set of semantic segmentation, as the hub has them."""
    features = datasets.Features(
        {"image": datasets.Image(), "annotation": datasets.Image(), "scene": datasets.Value("int32")}
    )
    scenes = list(range(len(images)))
    return datasets.Dataset.from_dict(
        {"image": structs(images), "annotation": structs(found), "scene": scenes}, features
    )


def written(root: Path, found: list[bytes] = MASKS, **options: Any) -> Path:
    hugging_face(found=found).to_parquet(root / "train-00000-of-00001.parquet", **({"batch_size": 12} | options))
    return root / "train-00000-of-00001.parquet"


def check(store: Store, name: str = "annotation", rows: Any = range(COUNT)) -> None:
    wanted = [masks.by_pillow(NUMBERS[row], store.spec) for row in rows]
    np.testing.assert_array_equal(store.targets[name], wanted)
    assert dict(store.description.masks) == {name: 255}
    np.testing.assert_array_equal(store.images, built([IMAGES[row] for row in rows]).images)


@pytest.mark.parametrize("options", [{}, {"processes": True}])
def test_masks_of_parquet(tmp_path: Path, options: dict[str, Any]) -> None:
    store = built(written(tmp_path), targets=TARGETS, **options)
    check(store)
    assert set(store.targets) == {"annotation"}
    assert store.samples["annotation"][3].as_py() == "row 3"


@pytest.mark.parametrize("options", [{}, {"processes": True}])
def test_masks_of_a_data_set_of_hugging_face(options: dict[str, Any]) -> None:
    store = built(hugging_face(), targets=TARGETS | {"scene": "number"}, **options)
    assert store.targets["scene"].tolist() == list(range(COUNT))
    np.testing.assert_array_equal(store.targets["annotation"], [masks.by_pillow(each, store.spec) for each in NUMBERS])
    check(built(hugging_face().select([7, 3, 5]), targets=TARGETS), rows=[7, 3, 5])


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize("form", ["bytes", "structs"])
def test_masks_of_a_frame(make: Any, form: str) -> None:
    cells = MASKS if form == "bytes" else structs(MASKS)
    check(built(make({"image": IMAGES, "annotation": cells, "n": list(range(COUNT))}), targets=TARGETS))


def test_masks_beside_paths(tmp_path: Path) -> None:
    """The images are files, and only their masks lie in the table."""
    for i, data in enumerate(IMAGES):
        (tmp_path / f"{i}.jpg").write_bytes(data)
    columns = {"path": [f"{i}.jpg" for i in range(COUNT)], "annotation": structs(MASKS)}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    check(built(tmp_path / "t.parquet", targets=TARGETS))
    check(built(pa.table(columns), root=tmp_path, targets=TARGETS))


def test_cells_may_name_the_files_of_masks(tmp_path: Path) -> None:
    cells = []
    for i, data in enumerate(MASKS[:4]):
        (tmp_path / f"{i}.png").write_bytes(data)
        cells.append({"bytes": data if i % 2 else None, "path": f"{i}.png"})
    table = pa.table({"image": IMAGES[:4], "annotation": cells})
    parquet.write_table(table, tmp_path / "t.parquet")
    check(built(tmp_path / "t.parquet", targets=TARGETS), rows=range(4))
    check(built(table, root=tmp_path, targets=TARGETS), rows=range(4))
    # A file that was changed is read again.
    broken = [*IMAGES[:3], b"x"]
    parquet.write_table(pa.table({"image": broken, "annotation": cells}), tmp_path / "t.parquet")
    call: dict[str, Any] = {"target": tmp_path / "x.store", "targets": TARGETS}
    with pytest.raises(BadImagesError):
        built(tmp_path / "t.parquet", **call)
    (tmp_path / "0.png").write_bytes(MASKS[3])
    store = built(tmp_path / "t.parquet", bad="keep", **call)
    np.testing.assert_array_equal(store.targets["annotation"][0], masks.by_pillow(NUMBERS[3], store.spec))


@pytest.mark.parametrize(("image", "mask"), [("pixel_values", "label"), ("a", "labels"), ("image", "class")])
def test_names_of_the_columns_do_not_matter(tmp_path: Path, image: str, mask: str) -> None:
    table = pa.table({mask: structs(MASKS), image: structs(IMAGES)})
    parquet.write_table(table, tmp_path / "t.parquet")
    for source in (tmp_path / "t.parquet", table, datasets.Dataset(table)):
        check(built(source, targets={mask: "mask"}), mask)
        check(built(source, targets={mask: "mask"}, path_column=image), mask)
    assert built(table, targets={mask: "mask16"}).targets[mask].dtype == np.uint16


def test_each_row_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened, read = written(tmp_path), [], []
    original = parquet_rows._Cursor.__init__

    def counting(cursor: Any, *args: Any) -> None:
        opened.append(args)
        original(cursor, *args)

    monkeypatch.setattr(parquet_rows._Cursor, "__init__", counting)
    check(built(path, targets=TARGETS))
    assert len(opened) == -(-COUNT // 12)  # each row group is begun once
    data, got = hugging_face(), datasets.Dataset.__getitem__

    def asked(rows: Any, key: Any) -> Any:
        read.append(key)
        return got(rows, key)

    monkeypatch.setattr(datasets.Dataset, "__getitem__", asked)
    manifest = Manifest.of(data, targets=TARGETS)
    read.clear()
    for slot in range(COUNT):
        manifest.load(slot)
        manifest.load_masks(slot)
    assert len(read) == -(-COUNT // 16)


def test_a_manifest_pickles_without_open_files(tmp_path: Path) -> None:
    for source in (written(tmp_path), hugging_face()):
        manifest = Manifest.of(source, targets=TARGETS)
        assert manifest.load_masks(2) == (MASKS[2],)
        assert pickle.loads(pickle.dumps(manifest)).load_masks(2) == (MASKS[2],)


def test_chosen_rows_have_their_masks(tmp_path: Path) -> None:
    chosen = list(range(0, COUNT, 3))
    split = ["x" if i % 3 == 0 else "y" for i in range(COUNT)]
    table = pa.table({"image": structs(IMAGES), "annotation": structs(MASKS), "split": split})
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    for source in (tmp_path / "t.parquet", table, datasets.Dataset(table)):
        check(built(source, targets=TARGETS, where="split=x"), rows=chosen)


def test_a_cell_without_a_mask_is_a_bad_image(tmp_path: Path) -> None:
    cells: list[Any] = structs(MASKS[:5])
    cells[1] = None
    cells[2] = {"bytes": None, "path": None}
    cells[3] = {"bytes": IMAGES[3], "path": None}
    table = pa.table({"image": structs(IMAGES[:5]), "annotation": cells})
    parquet.write_table(table, tmp_path / "t.parquet")
    for source in (tmp_path / "t.parquet", table, datasets.Dataset(table)):
        store = built(source, targets=TARGETS, bad="keep")
        assert [bad.slot for bad in store.bad()] == [1, 2, 3]
        reasons = [bad.reason for bad in store.bad()]
        assert all("mask 'annotation': " in reason for reason in reasons)
        assert "the cell has neither bytes nor a path" in reasons[0]
        assert "those of a jpeg, which may be changed by its compression" in reasons[2]


def test_a_resumed_build_reads_the_rest_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [*MASKS[:30], b"x", *MASKS[31:]]
    path = written(tmp_path, found=bad)
    with pytest.raises(BadImagesError):
        built(path, target=tmp_path / "x.store", targets=TARGETS)
    decoded = count_decodes(monkeypatch)
    asked: list[int] = []
    original = parquet_rows.ParquetRows.cell

    def counting(rows: Any, column: str, slot: int) -> Any:
        asked.append(slot)
        return original(rows, column, slot)

    monkeypatch.setattr(parquet_rows.ParquetRows, "cell", counting)
    built(path, target=tmp_path / "x.store", targets=TARGETS, bad="keep")
    assert decoded == []
    assert asked == []


def test_a_column_of_masks_that_was_not_chosen_is_refused_with_advice(tmp_path: Path) -> None:
    path = written(tmp_path)
    words = (
        r"'annotation' holds .*, which is no target; choose other columns with targets=\['scene'\], or if it has masks,"
    )
    with pytest.raises(ManifestError, match=words + r" pass targets=\{'scene': 'auto', 'annotation': 'mask'\}"):
        Manifest.of(path)
    assert set(built(path, targets={"scene": "auto", "annotation": "mask"}).targets) == {"scene", "annotation"}
    with pytest.raises(ManifestError, match="there is no such column"):
        Manifest.of(path, targets={"annotations": "mask"})
    with pytest.raises(ManifestError, match=r"holds int.*, not the paths of masks"):
        Manifest.of(path, targets={"scene": "mask"})
