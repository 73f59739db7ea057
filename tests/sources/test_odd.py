"""Odd things as sources, labels, targets and options: each is refused with advice, and never by another error."""

from __future__ import annotations

import array
import collections
import datetime as dt
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import images

import arraystore
from arraystore import ArraystoreError, BadImagesError, Manifest, ManifestError


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return sorted(map(str, images.write_tree(tmp_path / "photos", {"a": 2, "b": 2}).rglob("*.*")))


def failing(**methods: Any) -> Any:
    """Return an object whose methods raise what they are given, or return it."""

    def method(value: Any) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

        return call

    return type("Odd", (), {f"__{name}__": method(value) for name, value in methods.items()})()


BOOM = RuntimeError("boom")
CYCLE: list[Any] = []
CYCLE.append(CYCLE)
ODD: dict[str, Any] = {
    "dict": {0: 1, 1: 2},
    "set": {1, 2, 3, 4},
    "Counter": collections.Counter("abcd"),
    "values of a dict": {0: "a"}.values(),
    "generator": (i for i in range(4)),
    "map": map(str, range(4)),
    "zip": zip("abcd", "abcd", strict=True),
    "None": None,
    "int": 5,
    "float": 1.5,
    "bool": True,
    "bytes": b"abcd",
    "bytearray": bytearray(b"abcd"),
    "memoryview": memoryview(b"abcd"),
    "list with None": ["a", None, "b", "c"],
    "list that begins with None": [None, "a", "b", "c"],
    "mixed": ["a", 1, "b", "c"],
    "mixed the other way": [1, "a", "b", "c"],
    "nested": [[[1], [1, 2]], [[3]], [[4]], [[5]]],
    "a list in itself": CYCLE * 4,
    "0-d number": np.array(5),
    "0-d text": np.array("x"),
    "0-d object": np.array(None),
    "array of mixed objects": np.array(["a", 1, "b", "c"], object),
    "array of dates": np.array(["2020-01-01"] * 4, "datetime64[D]"),
    "structured array": np.zeros(4, [("a", "u1")]),
    "voids": np.zeros(4, "V4"),
    "complex": np.zeros((4, 4, 4, 3), complex),
    "masked": np.ma.array(np.zeros((4, 4, 4, 3), np.uint8), mask=True),
    "dates": [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * 4,
    "dicts": [{"a": 1}] * 4,
    "functions": [len] * 4,
    "surrogates": ["\ud800"] * 4,
    "StringIO": io.StringIO("a"),
    "module": io,
    "type": int,
    "ellipsis": ...,
    "namespace": SimpleNamespace(a=1),
    "length only": failing(len=4),
    "failing length": failing(len=BOOM),
    "negative length": failing(len=-1),
    "failing items": failing(len=4, getitem=BOOM),
    "failing iterator": failing(len=4, iter=BOOM),
    "failing array": failing(len=4, getitem=BOOM, array=BOOM),
    "list of failing arrays": [failing(array=BOOM)] * 4,
}
ODD_SOURCES: dict[str, Any] = {
    "empty list": [],
    "empty array": np.zeros((0, 4, 4, 3), np.uint8),
    "range": range(4),
    "array.array": array.array("B", b"abcd"),
    "bytes of an array": np.array([b"abc"]),
    "list of bytearrays": [bytearray(b"abc")],
    "floats": np.zeros((2, 4, 4, 3)),
    "five axes": np.zeros((2, 2, 4, 4, 3), np.uint8),
    "texts in two axes": np.array([["a"]]),
    "paths and bytes": ["a.jpg", b"b"],
    "bytes and paths": [b"b", "a.jpg"],
    "a long text": "x" * 5000,
    "a NUL": "a\0b",
    "NULs": ["a\0b"],
    "an odd path": failing(fspath=7),
    "a failing path": failing(fspath=BOOM),
    "a path of bytes": failing(fspath=b"/tmp"),
    "a list of odd paths": ["a.jpg", failing(fspath=7)],
    "a list of failing paths": ["a.jpg", failing(fspath=BOOM)],
    "no such user": "~no such user/photos",
    "URL": "https://host/photos",
}


def refused(call: Callable[..., object], *args: Any, **options: Any) -> ArraystoreError:
    with pytest.raises(ArraystoreError) as caught:
        call(*args, **options)
    error = caught.value
    text = str(error)
    assert error.advice or ": " in text or "such as" in text, f"no advice: {text}"
    text.encode("utf-8", "backslashreplace")
    return error


@pytest.mark.parametrize("name", [*ODD, *ODD_SOURCES])
def test_odd_sources(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = (ODD | ODD_SOURCES)[name]
    error = refused(arraystore.build, source, tmp_path / "x", size=4, progress=False)
    assert isinstance(error, ManifestError | BadImagesError)
    if isinstance(error, ManifestError) and name != "failing iterator":  # which is asked during the build
        assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("target", ["labels", "score"])
def test_odd_labels_and_targets(name: str, target: str, paths: list[str]) -> None:
    if ODD[name] is None:
        return  # means no labels
    given = {"labels": ODD[name]} if target == "labels" else {"targets": {target: ODD[name]}}
    error = refused(arraystore.build, paths, None, size=4, progress=False, **given)
    assert f"target {target!r}" in str(error)


@pytest.mark.parametrize(
    "targets",
    [5, "score", ["score"], {"score"}, [("score", [1] * 4)], {5: [1] * 4}, {None: [1] * 4}, {"a/b": [1] * 4}, len],
)
def test_odd_mappings_of_targets(targets: Any, paths: list[str]) -> None:
    refused(arraystore.build, paths, None, size=4, progress=False, targets=targets)


@pytest.mark.parametrize("classes", [5, {"a", "b"}, [1, 2], {"labels": 5}, ["a", None], [], iter("ab"), ["a", "a"]])
def test_odd_classes(classes: Any, paths: list[str]) -> None:
    refused(arraystore.build, str(Path(paths[0]).parents[1]), None, size=4, progress=False, classes=classes)


@pytest.mark.parametrize(
    "options",
    [
        {"where": 5},
        {"where": ["a"]},
        {"where": "split"},
        {"where": {5: 1}},
        {"separator": 5},
        {"separator": "ab"},
        {"separator": ""},
        {"path_column": 5},
        {"path_column": ["path"]},
        {"suffix": 5},
        {"root": 5},
        {"root": b"/tmp"},
        {"root": "/nowhere"},
        {"targets": 5},
        {"targets": {"score": "numbr"}},
        {"targets": {"score": 5}},
        {"targets": [5]},
        {"targets": {"score"}},
        {"targets": iter(["score"])},
        {"targets": ["path"]},
    ],
)
def test_odd_options_of_tables(options: dict[str, Any], paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,score\n" + "".join(f"{path},{i}\n" for i, path in enumerate(paths)))
    refused(arraystore.build, tmp_path / "x.csv", None, size=4, progress=False, **options)


TABLES: dict[str, bytes] = {
    "latin.csv": "path,label\nbläu.jpg,ä\n".encode("latin-1"),
    "latin.jsonl": '{"path": "ä.jpg"}\n'.encode("latin-1"),
    "empty.csv": b"",
    "empty.jsonl": b"",
    "empty.parquet": b"",
    "mark.csv": b"\xef\xbb\xbf",
    "head.csv": b"path,label\n",
    "nul.csv": b"path,label\na\0b.jpg,1\n",
    "odd16.csv": b"\xff\xfe\x00",
    "twice.csv": b"path,path\na,b\n",
    "ragged.csv": b"path,label\na.jpg,1,2\n",
    "quote.csv": b'path,label\n"a.jpg,1\n',
    "list.jsonl": b"[1, 2]\n",
    "deep.jsonl": b'{"path": "a.jpg", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}\n",
    "mixed.jsonl": b'{"path": "a.jpg", "x": 1}\n{"path": "b.jpg", "x": "q"}\n',
    "cut.jsonl": b'{"path": "a.jpg", "x": 1}\n{"path": "b.j',
    "number.jsonl": b'{"path": 5}\n',
    "lists.jsonl": b'{"path": ["a"]}\n',
    "garbage.parquet": b"PAR1 garbage PAR1",
}


@pytest.mark.parametrize("name", TABLES)
def test_odd_tables(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TABLES[name])
    assert name in str(refused(arraystore.build, tmp_path / name, None, size=4, progress=False))


def test_odd_columns_of_parquet(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    for values in (pa.array([{"a": 1}]), pa.array([1.5]), pa.array([None], pa.string()), pa.array([b"\xff"])):
        pq.write_table(pa.table({"path": values}), file)
        refused(arraystore.build, file, None, size=4, progress=False)
    for values in (pa.array([{"a": 1}]), pa.array([dt.date(2020, 1, 1)]), pa.array([None]), pa.array([[[1]]])):
        pq.write_table(pa.table({"path": ["a.jpg"], "odd": values}), file)
        refused(arraystore.build, file, None, size=4, progress=False)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.tsv"])
def test_encodings_of_tables(encoding: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {
        "x.csv": "path,label\nä.jpg,größe\nb.jpg,b\n",
        "x.tsv": "path\tlabel\nä.jpg\tgröße\nb.jpg\tb\n",
        "x.jsonl": '{"path": "ä.jpg", "label": "größe"}\n{"path": "b.jpg", "label": "b"}\n',
    }
    (tmp_path / name).write_bytes(texts[name].encode(encoding))
    made = Manifest.of(name)
    assert [*made.sources] == ["ä.jpg", "b.jpg"]
    assert (made.classes["labels"], made.targets["labels"].tolist()) == (("b", "größe"), [1, 0])


def test_a_mask_that_hides_nothing_is_none(paths: list[str]) -> None:
    store = arraystore.build(paths, None, size=4, progress=False, labels=np.ma.array([1, 2, 3, 4]))
    assert store.labels is not None
    assert store.labels.tolist() == [1, 2, 3, 4]


def test_files_of_any_name_are_labels(paths: list[str]) -> None:
    """Names of folders may be no UTF-8: their bytes are kept."""
    made = Manifest.of(paths, labels=[os.fsdecode(b"\xff")] * 4)
    assert made.classes["labels"] == (os.fsdecode(b"\xff"),)
