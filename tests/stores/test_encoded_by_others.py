"""Encoded stores on disk are what the specification says, and NumPy and Pillow read them as docs/encoded.md says."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import xxhash
from support.store_contract import BAD

import arraystore
from arraystore import Jpeg, Store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoded.md"
SIZE = (24, 40)


@pytest.fixture
def store(mixed: Path, tmp_path: Path) -> Store:
    """Twelve slots, some of which failed."""
    return arraystore.build(mixed, tmp_path / "train.store", size=SIZE, encode="jpeg", bad="keep", progress=False)


@pytest.fixture
def raw(mixed: Path) -> Store:
    """The same slots as pixels."""
    return arraystore.build(mixed, size=SIZE, bad="keep", progress=False)


def read(store: Store, slot: int) -> Any:
    """Run the lines of docs/encoded.md for a slot, and return the image that they open."""
    (code,) = (each for each in re.findall(r"```python\n(.+?)```", PAGE.read_text("utf-8"), re.DOTALL) if "PIL" in each)
    assert code.count("\n") == 2, "the page says that two lines are enough"
    names: dict[str, Any] = {"io": io, "np": np, "PIL": PIL, "slot": slot}
    exec(code.replace("train.store", str(store.path)), names)  # noqa: S102 - it is ours
    return names["image"]


def test_numpy_and_pillow_read_it_as_the_documents_say(store: Store) -> None:
    slots = [slot for slot in range(len(store)) if slot not in BAD]
    assert len(slots) == 8
    for slot in slots:
        image = read(store, slot)
        assert (image.format, image.size) == ("JPEG", SIZE[::-1])
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), store.images[slot])
    with pytest.raises(PIL.UnidentifiedImageError):
        read(store, BAD[0])


def test_the_files_have_the_forms_of_the_specification(store: Store, raw: Store) -> None:
    folder = store.path
    assert folder is not None
    arrays = ("encoded", "offsets", "shapes", "sums", "status", "checksums", "labels")
    names = [*(f"{name}.npy" for name in arrays), "samples.parquet", "store.json"]
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)
    data = (folder / "encoded.npy").read_bytes()
    encoded, offsets, shapes, sums = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("encoded", "offsets", "shapes", "sums")
    )
    assert (encoded.dtype.str, encoded.ndim) == ("|u1", 1)
    assert data[4096:] == encoded.tobytes()
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(encoded)},), }}".encode()
    assert data[:4096] == b"\x93NUMPY\x01\x00\xf6\x0f" + text + b" " * (4096 - 10 - len(text) - 1) + b"\n"
    assert (offsets.dtype.str, offsets.shape) == ("<u8", (13,))
    assert (offsets[0], offsets[-1]) == (0, len(encoded))
    assert np.flatnonzero(np.diff(offsets.astype(np.int64)) == 0).tolist() == BAD
    assert (shapes.dtype.str, shapes.tolist()) == ("<i4", [[*SIZE]] * 12)
    pixels = np.asarray(raw.images).astype(np.uint64)
    assert sums.dtype.str == "<u8"
    np.testing.assert_array_equal(sums, np.stack([pixels.sum((2, 3)), (pixels**2).sum((2, 3))], axis=2))
    jpegs = [encoded[begin:end].tobytes() for begin, end in pairwise(offsets)]
    assert np.load(folder / "checksums.npy").tolist() == [xxhash.xxh3_64_intdigest(jpeg) for jpeg in jpegs]


def test_mean_and_std_follow_from_the_sums(store: Store, tmp_path: Path) -> None:
    sums = np.load(tmp_path / "train.store" / "sums.npy")[store.status == 1].sum(0).astype(np.float64)
    count = 8 * SIZE[0] * SIZE[1]
    mean, squares = sums[:, 0] / count, sums[:, 1] / count
    np.testing.assert_allclose(store.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(store.std, np.sqrt(squares - mean**2), rtol=1e-9)


@pytest.mark.parametrize(("name", "head_bytes"), [("x", 4096), ("x.h5", 12288)])
def test_the_ledger_says_where_each_jpeg_lies_in_the_log_of_an_unfinished_build(
    mixed: Path, store: Store, tmp_path: Path, name: str, head_bytes: int
) -> None:
    with pytest.raises(arraystore.BadImagesError):
        arraystore.build(mixed, tmp_path / name, size=SIZE, encode="jpeg", progress=False)
    log = (tmp_path / f"{name}.partial" / "encoded.log").read_bytes()
    rows = np.load(tmp_path / f"{name}.partial" / "ledger.npy", allow_pickle=False)
    good = np.flatnonzero(rows["status"] == 1)
    assert good.tolist() == [slot for slot in range(12) if slot not in BAD]
    for slot, row in zip(good, rows[good], strict=True):
        begin, length = head_bytes + int(row["begin"]), int(row["length"])
        jpeg = log[begin : begin + length]
        assert jpeg == store.encoded(slot)
        assert xxhash.xxh3_64_intdigest(jpeg) == row["checksum"]


def test_the_description_says_how_slots_are_encoded(mixed: Path, store: Store, tmp_path: Path) -> None:
    description = json.loads((tmp_path / "train.store" / "store.json").read_text("utf-8"))
    assert (description["format_version"], description["shape"]) == (1, [3, *SIZE])
    assert description["spec"]["encode"] == {"quality": 90, "subsampling": "420", "restart": 2}
    assert sorted(description["digests"]) == sorted(
        file.name for file in store.path.iterdir() if file.name not in ("encoded.npy", "store.json")
    )
    other = Jpeg(quality=70, subsampling="444", restart=0)
    arraystore.build(mixed, tmp_path / "x", size=SIZE, encode=other, bad="keep", progress=False)
    spec = json.loads((tmp_path / "x" / "store.json").read_text("utf-8"))["spec"]
    assert spec["encode"] == {"quality": 70, "subsampling": "444", "restart": 0}


@pytest.mark.parametrize(
    ("subsampling", "restart", "width", "interval"),
    [("420", 2, 64, 2), ("420", 3, 64, 2), ("420", 9, 40, 3), ("444", 2, 40, 1), ("444", 0, 40, None)],
)
def test_each_row_of_blocks_begins_behind_a_marker(
    tmp_path: Path, subsampling: Any, restart: int, width: int, interval: int | None
) -> None:
    """Markers come after so many columns of blocks as divide the columns, and never after more than were asked for."""
    encode = Jpeg(subsampling=subsampling, restart=restart)
    pixels = np.random.default_rng(0).integers(0, 256, (32, width, 3), np.uint8)
    store = arraystore.build([pixels], tmp_path / "x", size=(32, width), encode=encode, progress=False)
    jpeg = bytes(store.encoded(0))
    found = re.search(rb"\xff\xdd\x00\x04(..)", jpeg, re.DOTALL)
    assert (int.from_bytes(found[1], "big") if found else None) == interval
    side = 16 if subsampling == "420" else 8
    blocks = -(-width // side) * (32 // side)
    scan = jpeg[jpeg.index(b"\xff\xda") :]
    assert len(re.findall(rb"\xff[\xd0-\xd7]", scan)) == (blocks // interval - 1 if interval else 0)
