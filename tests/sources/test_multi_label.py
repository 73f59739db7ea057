"""The kind "multi-label": several names in a cell become a column of zeros and ones for each name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import images
from support.command import run
from support.store_contract import assert_equal

import arraystore
from arraystore import Manifest, ManifestError
from arraystore._format.description import check_codes

TAGS = [["sun", "sea"], ["sea"], [], ["tree", "sun"]]
NAMES = ("sea", "sun", "tree")
EXPECTED = [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 1]]
KIND = {"tags": "multi-label"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.png").write_bytes(images.png(images.noise(8, 8, seed=i)))
    return folder


def table(folder: Path, name: str, cells: list[Any], **more: list[Any]) -> Path:
    """Write a table whose column of tags has these cells, texts or lists."""
    path = folder / name
    rows = [
        {"path": f"{i}.png", "tags": cell} | {key: values[i] for key, values in more.items()}
        for i, cell in enumerate(cells)
    ]
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


def check(made: Manifest | arraystore.Store, expected: Any = EXPECTED, names: tuple[str, ...] = NAMES) -> None:
    values = made.targets["tags"]
    assert (values.dtype, values.shape) == (np.uint8, (len(expected), len(names)))
    assert values.tolist() == expected
    assert (made.classes if isinstance(made, Manifest) else made.categories)["tags"] == names


@pytest.mark.parametrize("separator", ["|", ";", ",", " ", " , ", "; ", " | "])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet"])
def test_one_separator_is_found(folder: Path, name: str, separator: str) -> None:
    made = Manifest.of(table(folder, name, [separator.join(tags) for tags in TAGS]), targets=KIND)
    check(made)
    assert any("names in a cell are separated by a " in note for note in made.notes)


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_lists_of_texts(folder: Path, name: str) -> None:
    made = Manifest.of(table(folder, name, TAGS), targets=KIND)
    check(made)
    assert not made.notes


def test_lists_of_numbers_and_large_lists(folder: Path) -> None:
    file = folder / "x.parquet"
    paths = [f"{i}.png" for i in range(4)]
    codes = pa.array([[7, 3], [3], [], [10, 7]], pa.list_(pa.int64()))
    pq.write_table(pa.table({"path": paths, "tags": codes}), file)
    check(Manifest.of(file, targets=KIND), [[0, 1, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]], ("10", "3", "7"))
    pq.write_table(pa.table({"path": paths, "tags": pa.array(TAGS, pa.large_list(pa.large_string()))}), file)
    check(Manifest.of(file, targets=KIND))


def test_names_with_spaces_repeated_names_and_empty_ones(folder: Path) -> None:
    cells = ["polar bear|ice||polar bear|", " ice ", "|", "größe 日本|ice"]
    made = Manifest.of(table(folder, "x.csv", cells), targets=KIND)
    check(made, [[0, 1, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]], ("größe 日本", "ice", "polar bear"))
    cells = ["polar bear, ice", "ice", "", "sea"]
    made = Manifest.of(table(folder, "y.csv", cells), targets=KIND)
    assert made.classes["tags"] == ("ice", "polar bear", "sea")


def test_one_name_a_cell(folder: Path) -> None:
    check(
        Manifest.of(table(folder, "x.csv", ["a", "b", "", "a"]), targets=KIND),
        [[1, 0], [0, 1], [0, 0], [1, 0]],
        ("a", "b"),
    )


def test_two_separators_are_not_guessed(folder: Path) -> None:
    path = table(folder, "x.csv", ["a;b", "c, d;a", "b"])
    with pytest.raises(ManifestError) as caught:
        Manifest.of(path, targets=KIND)
    assert str(caught.value) == (
        f"{path}: column 'tags': row 1 (counted from 0): the cells have ';' and ',', so it cannot be told which one "
        "separates the names; say it: pass targets={'tags': 'multi-label:semicolon'}, or with bar, semicolon, comma or "
        "space"
    )
    for said in ("multi-label:semicolon", "multi-label:;"):
        assert Manifest.of(path, targets={"tags": said}).classes["tags"] == ("a", "b", "c, d")
    assert Manifest.of(path, targets={"tags": "multi-label:comma"}).classes["tags"] == ("a;b", "b", "c", "d;a")
    assert Manifest.of(path, targets={"tags": "multi-label:,"}).classes["tags"] == ("a;b", "b", "c", "d;a")
    assert Manifest.of(path, targets={"tags": "multi-label:space"}).classes["tags"] == ("a;b", "b", "c,", "d;a")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([1, 2, 3], "holds int64, not names; choose another kind in targets"),
        ([1.5, 2.5, 3.5], "holds double, not names; choose another kind in targets"),
        (["a", None, "b"], "row 1 (counted from 0): the value is missing; fill it in"),
        ([["a"], None, ["b"]], "row 1 (counted from 0): the value is missing; fill it in"),
        ([["a"], ["b", None], []], "row 1 (counted from 0): a name is missing: leave it out of the list"),
        (["", "", ""], "has 0 names, but should have 1 to 10,000: is it the right column?"),
        ([[1.5], [2.5], []], "holds list<element: double>, not names"),
    ],
)
def test_what_has_no_names_is_refused(folder: Path, cells: list[Any], message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        Manifest.of(table(folder, "x.parquet", cells), targets=KIND)
    assert message in str(caught.value)


def test_too_many_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arraystore._sources.targets.multi_label._MOST_NAMES", 2)
    with pytest.raises(ManifestError, match=r"has 3 names, but should have 1 to 2: is it the right column\?"):
        Manifest.of(table(folder, "x.jsonl", TAGS), targets=KIND)


def test_other_kinds_have_no_separator_and_lists_of_texts_are_ragged_codes(folder: Path) -> None:
    with pytest.raises(ManifestError, match="cannot become a 'category:;': the kinds are"):
        Manifest.of(table(folder, "x.jsonl", TAGS), targets={"tags": "category:;"})
    found = Manifest.of(table(folder, "x.jsonl", TAGS))
    assert [row.tolist() for row in found.targets["tags"]] == [[1, 0], [0], [], [2, 1]]
    assert found.classes["tags"] == NAMES


@pytest.mark.parametrize("target", [None, "x.store", "x.h5"])
def test_a_store_of_it(folder: Path, tmp_path: Path, target: str | None) -> None:
    path = table(folder, "x.jsonl", TAGS, score=[1.5, None, 2.5, 3.5])
    options: dict[str, Any] = {"size": 8, "progress": False, "targets": KIND | {"score": "number"}}
    store = arraystore.build(path, target and tmp_path / target, **options)
    check(store)
    np.testing.assert_array_equal(store.targets["score"], [1.5, np.nan, 2.5, 3.5])
    assert store.verify(progress=False).ok
    batch = next(store.batches(4, targets=["tags"]))
    assert batch["tags"].tolist() == EXPECTED
    if target:
        with arraystore.open(tmp_path / target) as opened:
            check(opened)
        same = arraystore.build(path, None, **(options | {"classes": tmp_path / target}))
        check(same)


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_it_as_the_labels(folder: Path, tmp_path: Path, name: str) -> None:
    path = table(folder, "x.jsonl", TAGS)
    path.write_text(path.read_text().replace('"tags"', '"labels"'))
    options: dict[str, Any] = {"size": 8, "progress": False, "targets": {"labels": "multi-label"}}
    store = arraystore.build(path, tmp_path / name, **options)
    assert store.classes == NAMES
    assert store.samples["label"].to_pylist() == ["sea|sun", "sea", "", "sun|tree"]
    assert store.verify(progress=False).ok
    forecast = arraystore.plan(path, None, sample=0, **options)
    assert forecast.classes == {"sea": 2, "sun": 2, "tree": 1}
    result = run("info", tmp_path / name, "--json")
    assert json.loads(result.stdout)["classes"] == {"sea": 2, "sun": 2, "tree": 1}
    assert run("preview", tmp_path / name, tmp_path / "out.png").returncode == 0


def test_classes_fix_the_columns(folder: Path) -> None:
    path = table(folder, "x.jsonl", TAGS)
    made = Manifest.of(path, targets=KIND, classes={"tags": ["tree", "moon", "sea", "sun"]})
    check(made, [[0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]], ("tree", "moon", "sea", "sun"))
    with pytest.raises(ManifestError, match=r"row 3 .* has the name 'tree', which is not among the 2 given ones"):
        Manifest.of(path, targets=KIND, classes={"tags": ["sea", "sun"]})


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_an_update_brings_new_names_and_rows(folder: Path, tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"progress": False, "targets": KIND}
    path = table(folder, "x.jsonl", TAGS)
    arraystore.build(path, tmp_path / name, size=8, **options).close()
    assert not arraystore.compare(tmp_path / name, path, targets=KIND)
    path = table(folder, "x.jsonl", [["sun", "sea"], ["sea", "ant"], [], ["tree"], ["bee"]])
    found = arraystore.compare(tmp_path / name, path, targets=KIND)
    assert (found.relabeled, list(found.added)) == (True, ["4.png"])
    store = arraystore.update(tmp_path / name, path, **options)
    expected = [[1, 1, 0, 0, 0], [1, 0, 0, 1, 0], [0] * 5, [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]]
    check(store, expected, (*NAMES, "ant", "bee"))
    assert store.verify(progress=False).ok
    path = table(folder, "x.jsonl", [["fox"]])
    store = arraystore.update(tmp_path / name, path, removed="keep", **options)
    check(store, [[0] * 5 + [1], *([*row, 0] for row in expected[1:])], (*NAMES, "ant", "bee", "fox"))
    with pytest.raises(ManifestError, match="tags is multi-label in the store, and classes in the source"):
        arraystore.update(tmp_path / name, table(folder, "y.csv", ["a", "b"]), **(options | {"targets": ["tags"]}))


def test_verify_sees_values_that_are_neither(folder: Path) -> None:
    path = table(folder, "x.jsonl", TAGS)
    store = arraystore.build(path, None, size=8, progress=False, targets=KIND)
    values = store.targets["tags"].copy()
    values[1, 1] = 2
    with pytest.raises(arraystore.FormatError, match="should hold 0 or 1 for each of 3 classes"):
        check_codes("tags.npy", values, NAMES, "slot")
    with pytest.raises(arraystore.FormatError, match="should hold 0 or 1 for each of 2 classes"):
        check_codes("tags.npy", store.targets["tags"], NAMES[:2], "slot")


def test_the_command(folder: Path, tmp_path: Path) -> None:
    path = table(folder, "x.csv", ["a;b", "c;a", "b", ""], score=["1", "", "2", "3"])
    target = tmp_path / "x.store"
    result = run("build", path, target, "--size", 8, "--targets", "tags=multi-label,score=number")
    assert (result.returncode, result.stderr) == (
        0,
        f"{path}: column 'tags': names in a cell are separated by a semicolon\n",
    )
    assert "tags: 3 classes, several in a row: a, b, c\n" in result.stdout
    with arraystore.open(target) as store:
        assert store.targets["tags"].tolist() == [[1, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]]
        np.testing.assert_array_equal(store.targets["score"], [1, np.nan, 2, 3])
    result = run("build", path, tmp_path / "y.h5", "--size", 8, "--targets", "tags=multi-label:semicolon")
    assert (result.returncode, result.stderr) == (0, "")
    with arraystore.open(tmp_path / "y.h5") as other:
        assert other.categories["tags"] == ("a", "b", "c")
        assert set(other.targets) == {"tags"}
    again = run("build", path, tmp_path / "z.h5", "--size", 8, "--targets", "tags=several")
    assert again.returncode == 1
    assert "the kinds are 'number', 'category', 'multi-label', 'text'" in again.stderr


def test_a_build_in_ram_equals_one_on_disk(folder: Path, tmp_path: Path) -> None:
    path = table(folder, "x.parquet", TAGS)
    options: dict[str, Any] = {"size": 8, "progress": False, "targets": KIND}
    assert_equal(arraystore.build(path, tmp_path / "x", **options), arraystore.build(path, None, **options))
