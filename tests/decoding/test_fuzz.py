"""Valid files of every format, changed at random: a slot or a DecodeError, in bounded time, neighbors untouched."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import hostile, images

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into
from arraystore._decoding.header import read_header

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 150  # of each format, in the normal run
LONG_S = 240.0
MOST_S = 20.0
MOST_MB = 700

Change = tuple[str, float, float, int]

KINDS = ["flip", "set", "cut", "copy", "repeat", "remove", "number", "foreign"]
NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
SPECS = [
    ImageSpec(size=(5, 7), max_pixels=1_000_000),
    ImageSpec(size=(5, 7), max_pixels=1_000_000, color="gray", fit="pad", layout="NHWC", exact=True),
]


def _tiff_tiles() -> bytes:
    """A TIFF of four tiles, two of which have the same bytes."""
    entries = {256: (3, 1, 32), 257: (3, 1, 32), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    at = 10 + 12 * (len(entries) + 4) + 4
    entries |= {322: (3, 1, 16), 323: (3, 1, 16), 324: (4, 4, at), 325: (4, 4, at + 16)}
    lists = np.array([at + 32, at + 288, at + 32, at + 288, 256, 256, 256, 256], "<u4").tobytes()
    return hostile.tiff(entries, lists + images.noise(16, 32, 1).tobytes())


def _animated_gif() -> bytes:
    frames = [Image.fromarray(images.noise(9, 11, 1, seed=i)) for i in range(3)]
    with io.BytesIO() as file:
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
        return file.getvalue()


_encode = hostile.encode
BASES = {
    "jpeg": [
        images.jpeg(images.noise(20, 24)),
        images.jpeg(images.photo(40, 50), orientation=6),
        images.jpeg(images.noise(20, 24, 1)),
        _encode("JPEG", restart_marker_blocks=1),
    ],
    "progressive jpeg": [images.progressive(images.photo(30, 40)), hostile.scan_bomb(30, 40, 12, components=3)],
    "cmyk jpeg": [_encode("JPEG", "CMYK"), _encode("JPEG", "CMYK", progressive=True)],
    "png": [
        _encode("PNG", size=(20, 10)),
        _encode("PNG", "P", size=(20, 10)),
        _encode("PNG", "LA", size=(20, 10)),
        _encode("PNG", "I;16", size=(9, 5)),
        _encode("PNG", "1", size=(9, 5)),
    ],
    "gif": [_encode("GIF", "P", size=(20, 10)), _animated_gif()],
    "webp": [_encode("WEBP"), _encode("WEBP", lossless=True), _encode("WEBP", "RGBA", exif=bytes(30))],
    "bmp": [_encode("BMP", size=(9, 5)), _encode("BMP", "P", size=(9, 5)), _encode("BMP", "RGBA", size=(9, 5))],
    "tiff": [
        _encode("TIFF", size=(9, 5)),
        _encode("TIFF", size=(9, 5), compression="tiff_lzw"),
        _encode("TIFF", "RGBA", size=(9, 5), compression="tiff_adobe_deflate"),
        _encode("TIFF", size=(20, 20), compression="jpeg"),
        _encode("TIFF", "1", size=(30, 20), compression="group4"),
        _encode("TIFF", size=(9, 5), big_tiff=True),
        _tiff_tiles(),
    ],
    "avif": [
        _encode("AVIF"),
        _encode("AVIF", "RGBA"),
        _encode("AVIF", subsampling="4:0:0", range="limited", xmp=b'<x tiff:Orientation="6"/>'),
    ],
    "jp2": [_encode("JPEG2000"), _encode("JPEG2000", no_jp2=True), bytes(hostile.codestream(precinct=0x77))],
    "ppm": [_encode("PPM", size=(9, 5)), b"P2 3 2 15\n1 2 3\n4 5 6\n", b"P1 3 2\n1 0 1 0 1 0\n", b"P4 9 2\nabcd"],
}
FOREIGN = [data for datas in BASES.values() for data in datas]


def changed(data: bytes, changes: list[Change]) -> bytes:
    """Apply changes in turn: places are fractions of the file, spans fractions of 64 bytes or of the file."""
    result = bytearray(data)
    for kind, place, span, value in changes:
        at = int(place * len(result))
        length = int(span * (64 if value & 1 else len(result)))
        if kind == "flip" and result:
            result[at] ^= 1 << (value & 7)
        elif kind == "set" and result:
            result[at] = value & 0xFF
        elif kind == "cut":
            del result[at:]
        elif kind == "copy":
            result[at : at + length] = result[at // 2 : at // 2 + length]
        elif kind == "repeat":
            result[at:at] = result[at : at + length] * (value % 4)
        elif kind == "remove":
            del result[at : at + length]
        elif kind == "number":
            number, size = NUMBERS[value % len(NUMBERS)], (1, 2, 4)[value // 13 % 3]
            field = (number & (1 << 8 * size) - 1).to_bytes(size, "big" if value & 64 else "little")
            result[at : at + size] = field
        elif kind == "foreign":
            other = FOREIGN[value % len(FOREIGN)]
            result[at : at + length] = other[int(place * len(other)) :][:length]
        del result[1 << 20 :]
    return bytes(result)


def check_error(error: DecodeError) -> None:
    assert error.reason
    assert error.kind


def check(data: bytes) -> None:
    """Decode into the middle of three slots."""
    began = time.process_time()
    try:
        header = read_header(data)
    except DecodeError as error:
        check_error(error)
    else:
        assert header.height > 0
        assert header.width > 0
        assert 1 <= header.orientation <= 8
    for spec in SPECS:
        slots = np.full((3, *spec.slot_shape), 77, np.uint8)
        try:
            height, width, _ = decode_into(data, slots[1], spec)
        except DecodeError as error:
            check_error(error)
        else:
            assert 1 <= height * width <= spec.max_pixels
        assert (slots[::2] == 77).all()
    assert time.process_time() - began < MOST_S


def changes_of(rng: random.Random) -> list[Change]:
    return [
        (rng.choice(KINDS), rng.random(), rng.random() ** 3, rng.randrange(1 << 16)) for _ in range(rng.randint(1, 6))
    ]


@pytest.mark.parametrize("name", BASES)
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32))
def test_changed_files_give_a_slot_or_a_decode_error(name: str, seed: int) -> None:
    rng = random.Random(seed)
    check(changed(rng.choice(BASES[name]), changes_of(rng)))


@pytest.mark.parametrize("name", BASES)
def test_the_files_are_good_before_they_are_changed(name: str) -> None:
    for base in BASES[name]:
        for spec in SPECS:
            decode_into(base, np.empty(spec.slot_shape, np.uint8), spec)


def test_that_a_change_is_a_change() -> None:
    base = BASES["png"][0]
    rng = random.Random(1)
    assert sum(changed(base, changes_of(rng)) != base for _ in range(100)) > 90
    for kind in KINDS:
        assert any(changed(base, [(kind, 0.3, 0.4, value)]) != base for value in range(5)), kind


# --- the long version ------------------------------------------------------------------------------------------------


def fuzz(folder: Path, seed: int, seconds: float) -> None:
    """Check random files until the time is over; the file in work is kept in ``folder``, for whoever finds us dead."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        data = changed(rng.choice(BASES[rng.choice(list(BASES))]), changes_of(rng))
        (folder / "last").write_bytes(data)
        check(data)
        count += 1
    # Not what getrusage says: that counts what the process was forked from, which may be a whole test run.
    status = Path("/proc/self/status").read_text("utf-8")
    peak_mb = int(status.split("VmHWM:")[1].split()[0]) // 1024
    assert peak_mb < MOST_MB, peak_mb
    sys.stdout.write(f"{count} files, {peak_mb} MB\n")


def run_fuzz(folder: Path, seed: int, seconds: float) -> subprocess.CompletedProcess[Any]:
    code = f"import pathlib, test_fuzz; test_fuzz.fuzz(pathlib.Path({str(folder)!r}), {seed}, {seconds})"
    with (folder / "stderr").open("wb") as said:
        return subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", code],
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}{os.pathsep}{ROOT / 'tests/decoding'}"},
            stdout=subprocess.PIPE,
            stderr=said,
            check=False,
            timeout=seconds + 400,
        )


@pytest.mark.long
@pytest.mark.timeout(LONG_S + 500)
def test_changed_files_for_minutes(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    result = run_fuzz(tmp_path, seed, LONG_S)
    said = (tmp_path / "stderr").read_text("utf-8", "replace")[-2000:]
    assert result.returncode == 0, f"seed {seed}: exit {result.returncode}, bytes in {tmp_path / 'last'}\n{said}"


def test_the_long_version_runs(tmp_path: Path) -> None:
    result = run_fuzz(tmp_path, 1, 0.2)
    assert result.returncode == 0, (tmp_path / "stderr").read_text("utf-8", "replace")
    assert b" files, " in result.stdout
    assert (tmp_path / "last").exists()
