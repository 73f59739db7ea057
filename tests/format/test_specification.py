"""The format: a committed store pins version 1 byte for byte; headers, descriptions, and every message as text."""

from __future__ import annotations

import io
import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arraystore
from arraystore import FormatError, ImageSpec, Store
from arraystore._format.description import Description, text_digest
from arraystore._format.files import fsync_path, read_json, write_json
from arraystore._format.ledger import ledger_dtype
from arraystore._format.slot_file import PIXELS_OFFSET, SlotFile, npy_header, npy_slots, read_npy, write_npy
from arraystore._format.specification import FORMAT_VERSION

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "v1.store"


def build_golden(target: Path) -> Store:
    """Three slots of 3 x 8 x 8, the second of them failed, with every kind of target. It must never change."""
    ramp = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    source = [ramp, ramp.astype(np.float32), 255 - ramp[:, ::-1]]
    return arraystore.build(
        source,
        target,
        size=8,
        labels=["oak", "ash", "größe"],
        targets={"score": np.array([0.25, -1, 1e10], np.float32), "box": np.arange(12, dtype="<i2").reshape(3, 4)},
        bad="keep",
        progress=False,
    )


# --- the golden store ------------------------------------------------------------------------------------------------


def test_a_build_today_makes_the_bytes_of_version_1(tmp_path: Path) -> None:
    build_golden(tmp_path / "x")
    names = sorted(path.name for path in GOLDEN.iterdir())
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == names
    arrays = [name for name in names if name.endswith(".npy")]
    assert arrays == ["box.npy", "checksums.npy", "images.npy", "labels.npy", "score.npy", "status.npy"]
    for name in arrays:
        assert (tmp_path / "x" / name).read_bytes() == (GOLDEN / name).read_bytes(), name
    was, now = ((folder / "store.json").read_text("ascii") for folder in (GOLDEN, tmp_path / "x"))
    # The optional members that the golden store was written before; tests/test_verify.py has them.
    now, digests, _ = now.partition(',\n  "digests": {')
    assert digests
    now = now.replace('  "origin": null,\n', "") + "\n}\n"
    writer = re.compile(r'"writer": "arraystore [^"]+"')
    assert writer.sub("", now) == writer.sub("", was)
    assert len(writer.findall(now)) == 1
    table, golden = pq.read_table(tmp_path / "x" / "samples.parquet"), pq.read_table(GOLDEN / "samples.parquet")
    table = table.drop_columns("hash")  # likewise
    assert table.schema == golden.schema
    at = table.schema.get_field_index("reason")  # a reason may be worded better one day
    assert table.remove_column(at).to_pydict() == golden.remove_column(at).to_pydict()
    assert table["reason"].is_null().to_pylist() == golden["reason"].is_null().to_pylist() == [True, False, True]


def test_version_1_opens() -> None:
    store = arraystore.open(GOLDEN)
    ramp = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3).transpose(2, 0, 1)
    np.testing.assert_array_equal(store.images, [ramp, np.zeros_like(ramp), 255 - ramp[:, :, ::-1]])
    assert store.status.tolist() == [1, 2, 1]
    assert store.classes == ("ash", "größe", "oak")
    assert store.targets["labels"].tolist() == [2, 0, 1]
    assert store.bad() == [
        arraystore.BadImage(
            1,
            "array 1",
            "an array source must be uint8 of shape (H, W), (H, W, 1) or (H, W, 3), not float32 of shape (8, 8, 3)",
        )
    ]
    assert store.mean == (127.5, 127.5, 127.5)


def test_the_pixels_start_on_a_page() -> None:
    assert PIXELS_OFFSET == 4096
    data = (GOLDEN / "images.npy").read_bytes()
    assert len(data) == 4096 + 3 * 3 * 8 * 8
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (3, 3, 8, 8), }"
    assert data[:4096] == b"\x93NUMPY\x01\x00\xf6\x0f" + text + b" " * (4096 - 10 - len(text) - 1) + b"\n"


def test_the_ledger_row() -> None:
    dtype = ledger_dtype(ImageSpec(size=1))
    assert dtype.names == ("check", "status", "checksum", "height", "width", "bytes", "mtime", "hash", "name", "sums")
    assert dtype["sums"].shape == (3, 2)
    assert dtype.itemsize == 8 + 1 + 8 + 4 + 4 + 8 + 8 + 8 + 8 + 3 * 2 * 8
    encoded = ledger_dtype(ImageSpec(size=1, encode="jpeg"))
    assert encoded.names == (*dtype.names, "begin", "length")
    assert [encoded[name].str for name in ("begin", "length")] == ["<u8", "<u8"]
    masked = ledger_dtype(ImageSpec(size=1, encode="jpeg"), masked=True)
    assert masked.names[: len(encoded.names)] == encoded.names


# --- .npy ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6))
def test_numpy_reads_our_header(shape: list[int]) -> None:
    header = npy_header(shape)
    assert len(header) == 4096
    with io.BytesIO(header) as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file) == (tuple(shape), False, np.dtype(np.uint8))
        assert file.tell() == 4096


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=5))
def test_our_header_round_trips(tmp_path_factory: pytest.TempPathFactory, shape: list[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "header.npy"
    path.write_bytes(npy_header(shape))
    assert npy_slots(path) == SlotFile(str(path), 4096, tuple(shape))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_slots_are_found_behind_a_header_that_numpy_wrote(tmp_path: Path, version: tuple[int, int]) -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    np.testing.assert_array_equal(npy_slots(tmp_path / "x.npy").map(), array)


@given(st.binary(max_size=200))
def test_no_bytes_can_do_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.npy"
    length = len(data).to_bytes(2, "little")
    for content in (data, b"\x93NUMPY\x01\x00" + length + data, b"\x93NUMPY\x01\x00\x76\x00" + data):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"garbage\.npy "):
            npy_slots(path)


def test_a_part_of_the_slots_can_be_mapped(tmp_path: Path) -> None:
    array = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
    (tmp_path / "x").write_bytes(b"123" + array.tobytes())
    file = SlotFile(str(tmp_path / "x"), 3, (5, 2, 3))
    np.testing.assert_array_equal(file.map(start=1, count=3), array[1:4])
    assert file.map(start=5, count=0).shape == (0, 2, 3)
    with pytest.raises(ValueError, match="read-only"):
        file.map()[0] = 1
    file.map(writable=True, start=4, count=1)[...] = 9
    np.testing.assert_array_equal(file.map()[4], np.full((2, 3), 9))
    with pytest.raises(FormatError) as caught:
        file.map(start=3, count=3)
    assert str(caught.value) == (
        f"{tmp_path / 'x'} is 33 bytes long, but uint8 of shape (3, 2, 3) needs 39: the file was cut short; "
        "repair the store, or build it again"
    )
    assert caught.value.source == str(tmp_path / "x")


def test_small_arrays_round_trip_as_mappings(tmp_path: Path) -> None:
    for array in (np.arange(3), np.zeros((0, 4)), np.array([True, False])):
        write_npy(tmp_path / "x.npy", array)
        again = read_npy(tmp_path / "x.npy", len(array))
        assert again.dtype == array.dtype
        np.testing.assert_array_equal(again, array)
    assert isinstance(again, np.memmap)


def test_objects_are_never_pickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_npy(tmp_path / "x.npy", np.array([object()]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{path} cannot be read: [Errno 2] No such file or directory: '{path}'"),
        (np.zeros(3), "{path} should have 2 rows, its shape is (3,)"),
        (np.zeros(()), "{path} should have 2 rows, its shape is ()"),
        (b"", "{path} cannot be read: "),
        (b"garbage", "{path} cannot be read: "),
    ],
    ids=["missing", "other rows", "no rows", "empty", "garbage"],
)
def test_a_small_array_that_cannot_be_is_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "x.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(FormatError) as caught:
        read_npy(path, 2)
    expected = message.replace("{path}", str(path))
    assert str(caught.value).startswith(expected)
    assert message.endswith(": ") or str(caught.value) == expected
    assert caught.value.source == str(path)


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_round_trips_names_that_are_not_utf8(tmp_path: Path) -> None:
    members = {"a": "größe 日本", "b": "caf\udce9", "c": [1, 2.5, None]}
    write_json(tmp_path / "x.json", members)
    assert read_json(tmp_path / "x.json") == members
    (tmp_path / "x.json").read_bytes().decode("ascii")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{path} cannot be read: [Errno 2] No such file or directory: '{path}'"),
        (b"[]", "{path} should hold a JSON object"),
        (b"", "{path} cannot be read: Expecting value: line 1 column 1 (char 0)"),
        (b"\xff", "{path} cannot be read: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_json_that_cannot_be_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_json(path)
    assert str(caught.value) == message.replace("{path}", str(path))


def test_huge_json_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(FormatError) as caught:
        read_json(path)
    assert str(caught.value) == f"{path} is larger than 67,108,864 bytes"


# --- store.json ------------------------------------------------------------------------------------------------------

SPEC = ImageSpec(size=(5, 7), layout="NHWC", fit="pad", background=(1, 2, 3))
DESCRIPTION = Description(
    count=9,
    shape=(5, 7, 3),
    spec=SPEC,
    targets={"labels": {"dtype": "<i8", "shape": [9]}},
    classes={"labels": ("a", "ü")},
    mean=(0.1, 2.0, 255.0),
    std=(1 / 3, 0.0, 1.0),
    manifest_digest="0123",
    root="/somewhere",
    failed=2,
    writer="arraystore 9.9",
)


def test_a_description_round_trips_through_json() -> None:
    members = json.loads(json.dumps(DESCRIPTION.to_json()))
    assert Description.from_json(members, "x") == DESCRIPTION
    assert list(members)[:3] == ["format", "format_version", "writer"]
    assert (members["format"], members["format_version"]) == ("arraystore", FORMAT_VERSION) == ("arraystore", 1)


@settings(max_examples=40)
@given(
    st.integers(0, 10**9),
    st.lists(st.floats(0, 255), min_size=3, max_size=3),
    st.dictionaries(st.text(min_size=1), st.lists(st.text()).map(tuple)),
    st.none() | st.text(),
)
def test_every_value_of_a_description_round_trips(
    count: int, mean: list[float], classes: dict[str, tuple[str, ...]], root: str | None
) -> None:
    description = Description(count, (5, 7, 3), SPEC, classes=classes, mean=tuple(mean), root=root)
    assert Description.from_json(json.loads(json.dumps(description.to_json())), "x") == description


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "S does not describe an arraystore store"),
        ({"format": None}, "S does not describe an arraystore store"),
        (
            {"format_version": 2},
            "S has format version 2, this arraystore reads 1: upgrade with pip install -U arraystore",
        ),
        (
            {"format_version": None},
            "S has format version None, this arraystore reads 1: upgrade with pip install -U arraystore",
        ),
        (
            {"count": -1},
            "S is damaged: count is -1; build the store again",
        ),
        (
            {"shape": [3, 5, 7]},
            "S is damaged: shape (3, 5, 7) is not that of the spec's slots, (5, 7, 3); build the store again",
        ),
        (
            {"spec": {"size": 5, "new": 1}},
            (
                "S is damaged: this is not the spec of an image: unknown fields ['new']; known fields are "
                "['background', 'color', 'encode', 'exact', 'filter', 'fit', 'icc', 'layout', 'levels', 'max_pixels', "
                "'size', 'truncated']; "
                "build the store again"
            ),
        ),
    ],
    ids=str,
)
def test_a_description_that_cannot_be_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError) as caught:
        Description.from_json(DESCRIPTION.to_json() | change, "S")
    assert str(caught.value) == message
    assert caught.value.source == "S"


def test_digests_round_trip_and_the_text_ends_with_its_own() -> None:
    description = replace(DESCRIPTION, digests={"status.npy": "0" * 32, "labels.npy": "f" * 32})
    text = description.to_text()
    members = json.loads(text)
    assert Description.from_json(members, "x") == description
    assert list(members)[-2:] == ["digests", "digest"]
    assert text_digest(text.encode(), members["digest"]) == members["digest"]
    assert text_digest(text.replace('"count": 9', '"count": 8').encode(), members["digest"]) != members["digest"]
    assert json.loads(DESCRIPTION.to_text()) == json.loads(json.dumps(DESCRIPTION.to_json()))
    assert "digest" not in DESCRIPTION.to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"digests": {}},
        {"digests": []},
        {"digests": {"x": 1}},
        {"digests": {"x": "F" * 32}},
        {"digests": {"x": "f" * 31}},
        {"digest": None},
        {"digest": ["f"] * 32},
        {"targets": {"labels": 5}},
        {"targets": {"labels": {"dtype": "<i8"}}},
        {"targets": {"labels": {"dtype": "<i8", "shape": ["9"]}}},
    ],
    ids=str,
)
def test_digests_and_targets_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        Description.from_json(DESCRIPTION.to_json() | change, "S")
    ((name, value),) = change.items()
    assert str(caught.value) == f"S is damaged: {name} is {value!r}; build the store again"


OPTIONAL = ("origin", "digests")
REQUIRED = [name for name in DESCRIPTION.to_json() if not name.startswith("format") and name not in OPTIONAL]


@pytest.mark.parametrize("member", REQUIRED)
def test_a_missing_member_is_named(member: str) -> None:
    members = DESCRIPTION.to_json()
    del members[member]
    with pytest.raises(FormatError) as caught:
        Description.from_json(members, "S")
    assert str(caught.value) == f"S is damaged: it has no {member}; build the store again"


def test_files_and_folders_can_be_made_to_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[bool] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: modes.append(stat.S_ISDIR(os.fstat(descriptor).st_mode)))
    (tmp_path / "x").touch()
    fsync_path(tmp_path / "x")
    fsync_path(tmp_path)
    assert modes == [False, True]


def test_a_folder_that_cannot_be_synced_is_passed_over_but_not_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.fsync", fail)
    (tmp_path / "x").touch()
    fsync_path(tmp_path)
    with pytest.raises(OSError, match="Invalid argument"):
        fsync_path(tmp_path / "x")
