"""What each kind of table becomes, and what is said of one that cannot be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from arraystore._sources.kinds.found import Found
from arraystore._sources.tables import column_names, read_table
from arraystore._sources.text_list import CATEGORY_LIMIT, TextList
from arraystore.errors import ManifestError

RAW = st.lists(st.binary(max_size=12))


@given(RAW)
def test_a_text_list_equals_the_list(raw: list[bytes]) -> None:
    expected = [text.decode("utf-8", "surrogateescape") for text in raw]
    texts = TextList.from_raw(iter(raw))
    assert list(texts) == expected
    assert len(texts) == len(expected)
    assert [texts[i] for i in range(len(texts))] == expected
    assert [texts[i] for i in range(-len(texts), 0)] == expected
    assert texts[1:7:2] == expected[1:7:2]
    assert texts[::-1] == expected[::-1]
    assert [texts.raw(i) for i in range(len(texts))] == raw


@pytest.mark.parametrize(
    "names", [[b"caf\xe9.jpg", b"\xff"], [b"a\nb.jpg", b"", b"\r\n", b"\x00"], ["日本.png".encode()]]
)
def test_a_text_list_holds_names_that_are_not_utf8_or_have_line_ends(names: list[bytes]) -> None:
    texts = TextList.from_raw(names)
    assert [text.encode("utf-8", "surrogateescape") for text in texts] == names


def test_a_text_list_is_compact_and_cannot_be_changed() -> None:
    texts = TextList.from_texts(f"{i:08d}" for i in range(1000))
    assert texts.blob.nbytes + texts.offsets.nbytes == 1000 * 16 + 8
    assert "00000999" in texts
    assert repr(texts) == "<TextList of 1,000: '00000000', '00000001', '00000002', …>"
    with pytest.raises(ValueError, match="read-only"):
        texts.blob[0] = 1
    with pytest.raises(IndexError, match=r"there is no text 1000: there are 1,000"):
        texts[1000]


ROWS: list[dict[str, Any]] = [
    {"file_name": "b/2.jpg", "label": "dog", "score": 0.5, "count": 3, "sharp": True, "split": "val"},
    {"file_name": "a/1.jpg", "label": "cat", "score": 1.5, "count": -4, "sharp": False, "split": "train"},
    {"file_name": "../0.jpg", "label": "dog", "score": 2.0, "count": 5, "sharp": True, "split": "train"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        comma = "\t" if path.suffix == ".tsv" else ","
        lines = [comma.join(rows[0]), *(comma.join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def columns(path: Path, **values: Any) -> Path:
    count = len(next(iter(values.values())))
    parquet.write_table(pa.table({"path": [f"{i}.jpg" for i in range(count)], **values}), path)
    return path


def said(path: Path, message: str, **options: Any) -> ManifestError:
    with pytest.raises(ManifestError, match="^" + re.escape(f"{path}: {message}") + "$") as caught:
        read_table(path, **options)
    return caught.value


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".CSV"])
def test_every_format_gives_the_same(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"t{suffix}", ROWS)
    table = read_table(path)
    assert list(table.sources) == ["b/2.jpg", "a/1.jpg", "../0.jpg"]
    expected = {
        "labels": np.array([1, 0, 1]),
        "score": np.array([0.5, 1.5, 2.0]),
        "count": np.array([3, -4, 5]),
        "sharp": np.array([True, False, True]),
        "split": np.array([1, 0, 0]),
    }
    assert list(table.targets) == list(expected)
    for name, values in expected.items():
        assert table.targets[name].dtype == values.dtype
        np.testing.assert_array_equal(table.targets[name], values)
    assert table.classes == {"labels": ("cat", "dog"), "split": ("train", "val")}
    assert table.texts == {}
    assert column_names(path) == list(ROWS[0])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_targets_chooses_columns_in_its_order(tmp_path: Path, suffix: str) -> None:
    table = read_table(write(tmp_path / f"t{suffix}", ROWS), targets=["count", "label"])
    assert list(table.targets) == ["count", "labels"]


def test_the_first_known_column_of_paths_is_taken_unless_another_is_named(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", "image,path,mask\na,b,c\n")
    assert list(read_table(path).sources) == ["b"]
    assert list(read_table(path, path_column="mask").sources) == ["c"]


@pytest.mark.parametrize("cell", ["0012", "2020-01-01", "1.50", "true", "NA", "2020-01-01 00:00:00"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_paths_stay_text_whatever_they_look_like(tmp_path: Path, suffix: str, cell: str) -> None:
    assert list(read_table(write(tmp_path / f"t{suffix}", [{"path": cell}])).sources) == [cell]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("path,label,class", ["labels", "class"]),
        ("path,class", ["labels"]),
        ("path,label,labels", ["label", "labels"]),
    ],
)
def test_the_first_of_labels_label_and_class_becomes_labels(tmp_path: Path, header: str, expected: list[str]) -> None:
    path = text(tmp_path / "t.csv", f"{header}\na.jpg,1,2\n" if header.count(",") == 2 else f"{header}\na.jpg,1\n")
    assert list(read_table(path).targets) == expected


def test_captions_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", '\ufeffpath,caption\na.jpg,"one, ""two""\nthree"\n"b\nc.jpg",x\n')
    table = read_table(path)
    assert table.classes["caption"] == ('one, "two"\nthree', "x")
    assert table.sources[1] == "b\nc.jpg"


def test_more_texts_than_the_limit_stay_text(tmp_path: Path) -> None:
    captions = [f"caption {i}" for i in range(CATEGORY_LIMIT + 1)]
    table = read_table(columns(tmp_path / "t.parquet", caption=captions))
    assert list(table.texts["caption"]) == captions
    assert table.targets == {}
    assert table.classes == {}
    few = read_table(columns(tmp_path / "few.parquet", caption=captions[:-1]))
    assert few.targets["caption"].shape == (CATEGORY_LIMIT,)
    assert few.texts == {}


def test_categories_are_sorted_by_code_point(tmp_path: Path) -> None:
    names = ["é", "b", "Z", "日", "a", "𝄞", "\uffee"]
    table = read_table(columns(tmp_path / "t.parquet", name=names))
    assert table.classes["name"] == tuple(sorted(names))
    assert [table.classes["name"][code] for code in table.targets["name"]] == names


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_kind_of_text_column_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "t.parquet"
    schema = pa.array(["x.jpg", "y.jpg"]).cast(kind)
    parquet.write_table(pa.table({"path": schema, "label": pa.array(["x", "y"]).cast(kind)}), path)
    table = read_table(path)
    assert list(table.sources) == ["x.jpg", "y.jpg"]
    assert table.classes["labels"] == ("x", "y")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.int8(), np.int64),
        (pa.uint64(), np.int64),
        (pa.float16(), np.float16),
        (pa.float32(), np.float32),
        (pa.float64(), np.float64),
        (pa.bool_(), np.bool_),
    ],
)
def test_numbers_keep_the_type_that_the_docs_say(tmp_path: Path, kind: pa.DataType, expected: type) -> None:
    numbers = np.array([1, 0], np.float16) if kind == pa.float16() else [1, 0]
    values = pa.array(numbers).cast(kind) if kind == pa.bool_() else pa.array(numbers, kind)
    vectors = pa.FixedSizeListArray.from_arrays(values, 1)
    table = read_table(columns(tmp_path / "t.parquet", x=values, v=vectors))
    assert table.targets["x"].dtype == expected
    assert table.targets["v"].dtype == expected
    assert table.targets["x"].tolist() == [1, 0]
    assert table.targets["v"].tolist() == [[1], [0]]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_vectors_become_one_array(tmp_path: Path, suffix: str) -> None:
    rows = [{"path": "a", "box": [1, 2, 3, 4], "f": [0.5]}, {"path": "b", "box": [5, 6, 7, 8], "f": [1.5]}]
    table = read_table(write(tmp_path / f"t{suffix}", rows))
    np.testing.assert_array_equal(table.targets["box"], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert table.targets["box"].dtype == np.int64
    np.testing.assert_array_equal(table.targets["f"], [[0.5], [1.5]])


def test_a_missing_float_is_nan(tmp_path: Path) -> None:
    in_csv = read_table(text(tmp_path / "t.csv", "path,x\na,1.5\nb,\nc,NaN\nd,nan\n"))
    np.testing.assert_array_equal(in_csv.targets["x"], [1.5, np.nan, np.nan, np.nan])
    vectors = pa.array([[1.0, None], [2.0, 3.0]], pa.list_(pa.float32()))
    in_parquet = read_table(columns(tmp_path / "t.parquet", x=pa.array([None, 2.0], pa.float32()), v=vectors))
    np.testing.assert_array_equal(in_parquet.targets["x"], np.array([np.nan, 2], np.float32))
    np.testing.assert_array_equal(in_parquet.targets["v"], [[1, np.nan], [2, 3]])


def test_parquet_under_a_folder_named_like_a_partition_has_its_own_columns(tmp_path: Path) -> None:
    (tmp_path / "label=3").mkdir()
    assert read_table(columns(tmp_path / "label=3" / "t.parquet", x=[1])).targets.keys() == {"x"}


def test_several_blocks_are_one_column(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"path": list("abcdef"), "label": list("xyxzyx")}), path, row_group_size=2)
    table = read_table(path)
    assert "".join(table.sources) == "abcdef"
    assert table.targets["labels"].tolist() == [0, 1, 0, 2, 1, 0]


MISSING = "the value is missing; fill it in, drop the row, or leave the column out with targets=['…']"


@pytest.mark.parametrize(
    ("content", "column"),
    [("path,n\na,1\nb,\n", "n"), ("path,s\na,x\nb,\n", "s"), ("path,t\na,true\nb,\n", "t")],
)
def test_a_missing_value_in_a_csv_is_named(tmp_path: Path, content: str, column: str) -> None:
    error = said(text(tmp_path / "t.csv", content), f"column '{column}': row 1 (counted from 0): {MISSING}")
    assert error.slot == 1
    assert error.reason == "the value is missing"


def test_a_column_without_any_value_is_named(tmp_path: Path) -> None:
    said(text(tmp_path / "t.csv", "path,n\na,\nb,\n"), f"column 'n': row 0 (counted from 0): {MISSING}")


@pytest.mark.parametrize("values", [["x", None], [[1], None], [[1, 2], [3, None]], [1, None], [True, None]])
def test_a_missing_value_in_parquet_is_named(tmp_path: Path, values: list[Any]) -> None:
    said(columns(tmp_path / "t.parquet", x=values), f"column 'x': row 1 (counted from 0): {MISSING}")


def test_a_key_that_a_row_of_jsonl_lacks_is_a_missing_value(tmp_path: Path) -> None:
    path = text(tmp_path / "t.jsonl", '{"path": "a"}\n{"path": "b", "n": 1}\n')
    said(path, f"column 'n': row 0 (counted from 0): {MISSING}")
    assert list(read_table(path, targets=[]).sources) == ["a", "b"]


def test_an_empty_text_in_parquet_is_a_value(tmp_path: Path) -> None:
    assert read_table(columns(tmp_path / "t.parquet", s=["", "x"])).classes["s"] == ("", "x")
    assert read_table(columns(tmp_path / "all.parquet", s=["", ""])).classes["s"] == ("",)


def test_other_types_are_refused(tmp_path: Path) -> None:
    advice = "which is no target; choose other columns with targets=['…']"
    dates = text(tmp_path / "t.csv", "path,day\na,2020-01-01\n")
    said(dates, f"column 'day': holds date32[day], {advice}")
    assert list(read_table(dates, targets=[]).sources) == ["a"]
    said(columns(tmp_path / "s.parquet", x=[{"a": 1}]), f"column 'x': holds struct<a: int64>, {advice}")
    dates_of_rows = columns(tmp_path / "l.parquet", x=pa.array([[0]], pa.list_(pa.date32())))
    said(dates_of_rows, f"column 'x': holds date32[day], {advice}")


def test_an_integer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = columns(tmp_path / "t.parquet", x=pa.array([2**64 - 1], pa.uint64()))
    with pytest.raises(ManifestError, match=r"column 'x': a whole number does not fit int64: .*18446744073709551615"):
        read_table(path)


def test_paths_that_cannot_be_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for values, found in [
        (["a", None], "the path is missing: fill it in, or drop the row"),
        (["a", ""], "the path is empty: fill it in, or drop the row"),
        (["a", "b\0c"], "the path holds a NUL character, which no file name has"),
    ]:
        parquet.write_table(pa.table({"path": values}), path)
        assert said(path, f"column 'path': row 1 (counted from 0): {found}").slot == 1
    parquet.write_table(pa.table({"image": [{"bytes": b""}]}), path)
    said(
        path, "column 'image': holds struct<bytes: binary>, not paths; choose the column of paths with path_column='…'"
    )
    empty = text(tmp_path / "t.csv", "path,label\na,1\n,2\n")
    said(empty, "column 'path': row 1 (counted from 0): the path is empty: fill it in, or drop the row")


def test_columns_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", "url,label\na,1\n")
    said(
        path,
        "no column of paths: none of 'file_name', 'path', 'source', 'filename', 'file', 'image', 'image_path' is among "
        "the columns 'url', 'label'; choose the column of paths with path_column='…'",
    )
    said(path, "there is no column 'uri': the columns are 'url', 'label'", path_column="uri")
    there = "the columns are 'url', 'label'"
    cannot = "cannot be a target:"
    said(path, f"column 'x' {cannot} there is no such column; {there}", path_column="url", targets=["x"])
    said(path, f"column 'url' {cannot} it is the column of paths; {there}", path_column="url", targets=["url"])
    with pytest.raises(ManifestError, match=re.escape("not a str: pass targets=['label']")):
        read_table(path, path_column="url", targets="label")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    said(text(tmp_path / "t.csv", "path,x,x\na,1,2\n"), "there are two columns named 'x': rename one")


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    said(text(tmp_path / "t.csv", "path,label\n"), "the table has no rows")


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("t.csv", b"", "Empty CSV file"),
        ("t.csv", b"path,label\na,1\nb\n", "CSV parse error: Expected 2 columns, got 1"),
        ("t.csv", b"path\n\xff\xfe.jpg\n", "invalid UTF8 data"),
        ("t.jsonl", b"", "its first line is not a JSON object"),
        ("t.jsonl", b"[1]\n", "its first line is not a JSON object"),
        ("t.jsonl", b"{path\n", "Expecting property name"),
        ("t.jsonl", b'{"path": "a", "x": 1}\n{"path": "b", "x": "y"}\n', "changed from number to string"),
        ("t.parquet", b"PAR0", "Parquet"),
    ],
)
def test_a_table_that_cannot_be_parsed_gives_the_cause(tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(
        ManifestError, match=re.escape(f"{path}: the table cannot be read: ") + f"(?s:.)*{cause}"
    ) as caught:
        read_table(path)
    assert caught.value.source == str(path)
    assert caught.value.__cause__ is not None


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    said(tmp_path / "t.csv", "there is no such table: pass a file that exists")
    (tmp_path / "d.csv").mkdir()
    said(tmp_path / "d.csv", "is a folder, not a table: pass a file that exists")
    path = tmp_path / "t.xlsx"
    said(path, "not a table that can be read: its suffix must be one of '.csv', '.tsv', '.jsonl', '.parquet'")


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.floats(), st.booleans()), min_size=1))
def test_parquet_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    names, floats, flags = (list(column) for column in zip(*rows, strict=True))
    path = columns(tmp_path_factory.mktemp("t") / "t.parquet", name=names, x=floats, flag=flags)
    table: Found = read_table(path)
    assert [table.classes["name"][code] for code in table.targets["name"]] == names
    assert table.classes["name"] == tuple(sorted(set(names)))
    np.testing.assert_array_equal(table.targets["x"], floats)
    np.testing.assert_array_equal(table.targets["flag"], flags)


# Options


def written(file: Path, **values: Any) -> Path:
    parquet.write_table(pa.table(values), file)
    return file


def test_a_table_of_ids_with_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id;age;split;tag\n01;1;train;x\n02.png;;train;y\n03;3;val;x\n")
    with pytest.raises(ManifestError, match=r"has no ',', but ';'; if that separates the cells, pass separator=';'$"):
        read_table(path)
    table = read_table(
        path,
        path_column="id",
        suffix=".png",
        separator=";",
        where="split=train",
        targets={"age": "number", "tag": "text"},
    )
    assert list(table.sources) == ["01.png", "02.png"]
    np.testing.assert_array_equal(table.targets["age"], [1.0, np.nan])
    assert list(table.texts["tag"]) == ["x", "y"]
    assert list(table.targets) == ["age"]


@pytest.mark.parametrize("where", ["fold=1", {"fold": 1}, {"fold": "1", "path": "b"}])
def test_rows_are_chosen_by_their_values(tmp_path: Path, where: Any) -> None:
    table = read_table(
        written(tmp_path / "t.parquet", path=["a", "b", "c"], fold=[0, 1, 2], score=[5, 6, 7]), where=where
    )
    assert list(table.sources) == ["b"]
    assert {name: values.tolist() for name, values in table.targets.items()} == {"score": [6]}


def test_rows_that_are_not_there_are_refused_with_the_values_that_are(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", path=["a", "b"], split=["train", "val"])
    with pytest.raises(ManifestError, match=r"column 'split': no row has 'test', but train, val; choose one of these"):
        read_table(path, where="split=test")
    with pytest.raises(ManifestError, match=r"there is no column 'part' to choose rows by"):
        read_table(path, where="part=test")
    with pytest.raises(ManifestError, match=r"where is 'train', not a column and a value: pass where='split=train'"):
        read_table(path, where="train")


@pytest.mark.parametrize("odd", ["?", "-", "n. a.", "unknown", "3 cm"])
@pytest.mark.parametrize("where", [0, 3])
def test_a_column_of_numbers_but_for_a_few_is_refused(tmp_path: Path, odd: str, where: int) -> None:
    cells = ["1.5", "2.25", "-3e2", "4"]
    cells[where] = odd
    path = tmp_path / "t.csv"
    path.write_text("path,age\n" + "".join(f"{row}.jpg,{cell}\n" for row, cell in enumerate(cells)))
    message = re.escape(f"column 'age': row {where} (counted from 0): {odd!r} is no number, but most values are")
    with pytest.raises(ManifestError, match=message + ".*pass targets={'age': 'category'}$"):
        read_table(path)
    with pytest.raises(
        ManifestError, match=re.escape(f"row {where} (counted from 0): {odd!r} is no number: correct it")
    ):
        read_table(path, targets={"age": "number"})
    table = read_table(path, targets={"age": "category"})
    assert [table.classes["age"][code] for code in table.targets["age"]] == cells


def test_decimal_commas_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path;age\na;1,5\nb;2,5\nc;3,5\n")
    with pytest.raises(ManifestError, match=r"'1,5' is no number, but most values are"):
        read_table(path, separator=";")


def test_a_column_of_other_images_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", path=["a.jpg", "b.jpg"], mask=["m/a.png", "m/b.png"])
    with pytest.raises(
        ManifestError, match=r"'mask': holds the paths of images, such as 'm/a.png', which would become 2"
    ):
        read_table(path)
    assert list(read_table(path, targets={"mask": "text"}).texts["mask"]) == ["m/a.png", "m/b.png"]
    with pytest.raises(
        ManifestError,
        match=r"cannot become a 'masks': the kinds are 'number', .* 'multi-label', 'text', 'mask', 'mask16'",
    ):
        read_table(path, targets={"mask": "masks"})


def test_a_column_of_masks(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", path=["a.jpg", "b.jpg"], mask=["m/a.png", "m/b.png"], label=[1, 2])
    with pytest.raises(
        ManifestError, match=r"if they are masks, pass targets=\{'mask': 'mask'\} and the other columns"
    ):
        read_table(path)
    for kind, bits in (("mask", 8), ("mask16", 16)):
        table = read_table(path, targets={"mask": kind, "label": "auto"})
        assert (list(table.masks["mask"].sources), table.masks["mask"].bits) == (["m/a.png", "m/b.png"], bits)
        assert ([*table.targets], [*table.classes], [*table.texts]) == (["labels"], [], [])
    # A column called label that has masks is no label.
    path = written(tmp_path / "u.parquet", path=["a.jpg", "b.jpg"], label=["m/a.png", "m/b.png"])
    assert [*read_table(path, targets={"label": "mask"}).masks] == ["label"]
    with pytest.raises(ManifestError, match="column 'size': holds int64, not the paths of masks; leave it out"):
        read_table(written(tmp_path / "v.parquet", path=["a"], size=[3]), targets={"size": "mask"})
    with pytest.raises(ManifestError, match=r"row 1 \(counted from 0\): the path is empty: fill it in"):
        read_table(written(tmp_path / "w.parquet", path=["a", "b"], mask=["c", ""]), targets={"mask": "mask"})


def test_numbers_as_categories_are_sorted_as_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", path=["a", "b", "c"], age=[10, 9, 100])
    table = read_table(path, targets={"age": "category"})
    assert table.classes["age"] == ("9", "10", "100")
    assert table.targets["age"].tolist() == [1, 0, 2]


def test_whole_numbers_may_be_missing_where_numbers_were_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "t.parquet", path=["a", "b"], age=[10, None])
    np.testing.assert_array_equal(read_table(path, targets={"age": "number"}).targets["age"], [10.0, np.nan])
    with pytest.raises(ManifestError, match=r"the value is missing"):
        read_table(path)


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "path,label\né.jpg,ü\n日.jpg,b\n"),
        ("t.jsonl", '{"path": "é.jpg", "label": "ü"}\n' + '{"path": "日.jpg", "label": "b"}\n'),
    ],
)
def test_byte_order_marks_tell_the_encoding(tmp_path: Path, encoding: str, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    assert column_names(path) == ["path", "label"]
    table = read_table(path)
    assert list(table.sources) == ["é.jpg", "日.jpg"]
    assert table.classes["labels"] == ("b", "ü")


@pytest.mark.parametrize(
    "text", ["päth,label\na.jpg,b\n", "path,label\né.jpg,b\n", "path,label\na.jpg,ü\n"], ids=["header", "path", "label"]
)
def test_latin_1_is_refused_and_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ManifestError, match=r"UTF-?8.*save (it|the table) as UTF-8"):
        read_table(path)
