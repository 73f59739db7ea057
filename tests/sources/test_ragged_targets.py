"""Which lists become ragged targets: of the caller, and in the columns of tables; and what is refused by name."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arraystore import Manifest, ManifestError, Ragged
from arraystore._sources.tables import read_table

PATHS = ["a.jpg", "b.jpg", "c.jpg"]


def said(message: str, call: Any, *args: Any, **options: Any) -> ManifestError:
    with pytest.raises(ManifestError, match=re.escape(message)) as caught:
        call(*args, **options)
    return caught.value


def ragged(values: Any) -> Ragged:
    manifest = Manifest.of(PATHS, targets={"boxes": values})
    found = manifest.targets["boxes"]
    assert isinstance(found, Ragged)
    return found


ROWS = [[[1, 2, 3, 4]], [], [[5, 6, 7, 8], [9, 10, 11, 12]]]


@pytest.mark.parametrize(
    "values",
    [
        ROWS,
        tuple(ROWS),
        [np.array(row, np.float32).reshape(-1, 4) for row in ROWS],
        pd.Series(ROWS),
        np.array([np.array(row) for row in ROWS], object),
        Ragged.from_rows(ROWS),
    ],
    ids=["lists", "tuple", "arrays", "series", "objects", "ragged"],
)
def test_rows_of_different_lengths_are_ragged(values: Any) -> None:
    found = ragged(values)
    assert [row.tolist() for row in found] == ROWS
    assert found.item_shape == (4,)


def test_rows_of_one_length_stay_an_array() -> None:
    same: list[list[list[int]]] = [[[1, 2]], [[3, 4]], [[5, 6]]]
    for values in (same, np.array(same), [np.array(row) for row in same], pd.Series(same)):
        found = Manifest.of(PATHS, targets={"boxes": values}).targets["boxes"]
        assert isinstance(found, np.ndarray)
        assert found.tolist() == same
    assert ragged(Ragged.from_rows(same)).lengths.tolist() == [1, 1, 1]


def test_names_of_categories_are_ragged_even_if_all_rows_have_one() -> None:
    for rows in ([["cat"], ["ant"], ["cat"]], [["cat", "bee"], [], ["ant"]]):
        manifest = Manifest.of(PATHS, labels=rows)
        codes, names = manifest.targets["labels"], manifest.classes["labels"]
        assert isinstance(codes, Ragged)
        assert names == tuple(sorted({name for row in rows for name in row}))
        assert [[names[code] for code in row] for row in codes] == rows


def test_classes_fix_the_codes_of_ragged_labels() -> None:
    rows = [["cat", "bee"], [], ["cat"]]
    manifest = Manifest.of(PATHS, labels=rows, classes=["cat", "ant", "bee"])
    codes = manifest.targets["labels"]
    assert isinstance(codes, Ragged)
    assert [row.tolist() for row in codes] == [[0, 2], [], [0]]
    message = "target 'labels': row 2 (counted from 0) has the class 'cat', which is not among the 1 given ones"
    assert said(message, Manifest.of, PATHS, labels=[["bee"], [], ["cat"]], classes=["bee"]).slot == 2


def test_numbers_of_labels_are_int64() -> None:
    codes = Manifest.of(PATHS, labels=[np.array([1, 2], np.uint8), [], [3]]).targets["labels"]
    assert codes.dtype == np.int64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1, 2], [], 3], "target 'boxes': row 2 (counted from 0) holds a int, not a row of numbers"),
        (
            [[1], None, []],
            "target 'boxes': row 1 (counted from 0) holds a NoneType, not a row of numbers: a row without",
        ),
        (["a", ["a", "b"], []], "target 'boxes': row 0 (counted from 0) holds a str, not a row of numbers"),
        ([[1], ["a", "b"], []], "target 'boxes': row 1 (counted from 0) holds something else than numbers"),
        ([["a", 1], ["b"], []], "target 'boxes': row 0 (counted from 0) holds something else than numbers"),
        ([[[1, 2]], [], [[1, 2, 3]] * 2], "target 'boxes': row 2 (counted from 0) holds items of shape (3,)"),
        ([[1], [2, 3]], "target 'boxes' has 2 rows, but there are 3 sources"),
    ],
)
def test_rows_that_make_no_target_are_named(values: Any, message: str) -> None:
    said(message, Manifest.of, PATHS, targets={"boxes": values})


def test_a_ragged_target_takes_the_names_of_two_files() -> None:
    targets = {"boxes": ROWS, "Boxes.Values": [1, 2, 3]}
    said("a target cannot be named 'Boxes.Values' beside 'boxes'", Manifest.of, PATHS, targets=targets)
    assert Manifest.of(PATHS, targets={"boxes": [1, 2, 3], "boxes.values": [1, 2, 3]})


def test_the_digest_covers_values_and_offsets() -> None:
    def digest(values: Any) -> str:
        return Manifest.of(PATHS, targets={"x": values}).digest

    rows = Ragged.from_rows([[1, 2], [3], []])
    others: list[Any] = [
        Ragged.from_rows([[1], [2, 3], []]),
        Ragged.from_rows([[1, 2], [4], []]),
        Ragged.from_rows([[1, 2], [3], []], "int32"),
        np.array([1, 2, 3]),
    ]
    digests = [digest(rows), *map(digest, others)]
    assert len(set(digests)) == len(digests)
    assert digest([[1, 2], [3], []]) == digest(rows)


def test_the_manifest_goes_to_other_processes() -> None:
    manifest = pickle.loads(pickle.dumps(Manifest.of(PATHS, targets={"boxes": ROWS})))
    assert [row.tolist() for row in manifest.targets["boxes"]] == ROWS


# --- columns of tables -----------------------------------------------------------------------------------------------

COLUMNS: dict[str, list[Any]] = {
    "boxes": [[[1.5, 2, 3, 4]], [], [[5, 6, 7, 8], [9, 10, 11, 12]]],
    "points": [[[[0, 1], [2, 3]]], [[[4, 5], [6, 7]]] * 2, []],
    "scores": [[0.5], [], [0.25, 1.0]],
    "codes": [[], [7], [8, 9]],
    "names": [["cat"], [], ["ant", "cat"]],
}


def table(folder: Path, suffix: str, columns: dict[str, list[Any]]) -> Path:
    path = folder / f"t{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"path": PATHS} | columns), path)
    else:
        rows = [dict(zip(("path", *columns), row, strict=True)) for row in zip(PATHS, *columns.values(), strict=True)]
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_lists_of_different_lengths_in_a_column(tmp_path: Path, suffix: str) -> None:
    found = read_table(table(tmp_path, suffix, COLUMNS))
    for name in ("boxes", "points", "scores", "codes"):
        target = found.targets[name]
        assert isinstance(target, Ragged)
        assert [row.tolist() for row in target] == COLUMNS[name], name
    assert [found.targets[name].dtype.str for name in ("boxes", "points", "codes")] == ["<f8", "<i8", "<i8"]
    names = found.targets["names"]
    assert isinstance(names, Ragged)
    assert found.classes == {"names": ("ant", "cat")}
    assert [row.tolist() for row in names] == [[1], [], [0, 1]]


def test_columns_of_other_list_types(tmp_path: Path) -> None:
    fixed = pa.array([[[1, 2], [3, 4]], [], [[5, 6]]], pa.large_list(pa.list_(pa.float32(), 2)))
    found = read_table(table(tmp_path, ".parquet", {"x": fixed})).targets["x"]  # type: ignore[dict-item]
    assert isinstance(found, Ragged)
    assert (found.dtype, found.item_shape, found.lengths.tolist()) == (np.float32, (2,), [2, 0, 1])


def test_lists_of_one_length_stay_an_array(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"v": [[1, 2], [3, 4], [5, 6]], "m": [[[1, 2]], [[3, 4]], [[5, 6]]]}
    found = read_table(table(tmp_path, ".parquet", columns)).targets
    assert {name: (type(found[name]), found[name].tolist()) for name in columns} == {  # type: ignore[union-attr]
        name: (np.ndarray, values) for name, values in columns.items()
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1], [], [2, None]], "column 'x': row 2 (counted from 0): the value is missing"),
        ([[1], None, [2, 3]], "column 'x': row 1 (counted from 0): the value is missing"),
        ([[[1, 2]], [], [[1, 2], None]], "column 'x': row 2 (counted from 0): the value is missing"),
        (
            [[[1, 2]], [], [[3, 4], [5]]],
            "column 'x': row 2 (counted from 0): expected 2 values in each item as in the first, found 1: give each as",
        ),
        (
            [[[[1], [2]]], [[[3], [4]], [[5], [6, 7]]], []],
            "column 'x': row 1 (counted from 0): expected 1 values in each item as in the first, found 2",
        ),
        ([["a"], [], ["b", None]], "column 'x': row 2 (counted from 0): the value is missing"),
    ],
)
def test_items_that_make_no_target_are_named(tmp_path: Path, values: Any, message: str) -> None:
    said(message, read_table, table(tmp_path, ".parquet", {"x": values}))


def test_lists_as_texts_of_a_csv_are_no_categories(tmp_path: Path) -> None:
    """As pandas writes a column of lists."""
    path = tmp_path / "t.csv"
    pd.DataFrame({"path": PATHS, "boxes": COLUMNS["boxes"]}).to_csv(path, index=False)
    message = (
        "column 'boxes': holds lists of numbers as texts, such as '[[1.5, 2, 3, 4]]', which would become categories"
    )
    error = said(message, read_table, path)
    assert str(error).endswith("save the table as JSONL or Parquet; or keep it as text with targets={'boxes': 'text'}")
    assert read_table(path, targets={"boxes": "text"}).texts["boxes"][1] == "[]"
    path.write_text("path,kind\na.jpg,(none)\nb.jpg,[x]\nc.jpg,5\n")
    assert read_table(path).classes["kind"] == ("(none)", "5", "[x]")


def test_kinds_of_lists(tmp_path: Path) -> None:
    path = table(tmp_path, ".parquet", {"codes": COLUMNS["codes"]})
    found = read_table(path, targets={"codes": "category"})
    codes = found.targets["codes"]
    assert isinstance(codes, Ragged)
    assert (found.classes["codes"], [row.tolist() for row in codes]) == (("7", "8", "9"), [[], [0], [1, 2]])
    said("column 'codes': holds lists, which are no texts", read_table, path, targets={"codes": "text"})
