"""Good images among bad ones of every kind: the good are stored right, the bad have a reason, and nothing hangs."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import hostile, images
from support.command import run
from support.store_contract import build, plain

import arraystore
from arraystore import DecodeError, ImageSpec, Manifest
from arraystore._building.workers import reading as reading_module
from arraystore._decoding.decode import decode_into
from arraystore._decoding.header import read_header

ROOT = Path(__file__).resolve().parents[2]
SPEC = ImageSpec(size=(16, 24))
SIZE = "16x24"


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def write_mixed(folder: Path, *, ordinary: int, copies: int) -> dict[str, str]:
    """Write good and bad images in turn; return the bad ones' names and what their reasons say."""
    folder.mkdir()
    for i in range(ordinary):
        height, width = images.SIZES[i % len(images.SIZES)]
        pixels = images.photo(height, width, seed=i)
        (folder / f"{i:04}").with_suffix(".png" if i % 3 else ".jpg").write_bytes(
            images.png(pixels) if i % 3 else images.jpeg(pixels)
        )
    for name, make in hostile.GOOD.values():
        (folder / name).write_bytes(make())
    reasons = {}
    for copy in range(copies):
        for i, (kind, (suffix, make_at, reason)) in enumerate(hostile.BAD.items()):
            name = f"{i * ordinary // len(hostile.BAD):04} bad {copy} {kind}{suffix}"
            make_at(folder / name)
            reasons[name] = reason
    return reasons


def check_mixed(folder: Path, tmp_path: Path, reasons: dict[str, str]) -> None:
    """Build the folder in every way, and compare with a build of the good images alone."""
    ways = {"one": (1, False), "threads": (2, False), "processes": (2, True)}
    made = {}
    for way, (workers, processes) in ways.items():
        build(folder, tmp_path / way, workers=workers, processes=processes, bad="keep").close()
        made[way] = contents(tmp_path / way)
    assert made["one"] == made["threads"] == made["processes"]

    with arraystore.open(tmp_path / "one") as store:
        names = store.samples["source"].to_pylist()
        bad = {image.source: image for image in store.bad()}
        assert sorted(bad) == sorted(reasons)
        for name, image in bad.items():
            assert os.fsencode(names[image.slot]) == os.fsencode(name)  # texts, or bytes where one is no text
            assert re.search(reasons[name], image.reason), f"{name}: {image.reason}"
            assert "\n" not in image.reason
            assert not store.images[image.slot].any()
        good = [
            folder / name
            for name in sorted((path.name for path in folder.iterdir()), key=os.fsencode)
            if name not in reasons
        ]
        alone = build(good)
        kept = np.flatnonzero(plain(store.status) == 1)
        assert len(kept) == len(good)
        np.testing.assert_array_equal(store.images[kept], alone.images)
        np.testing.assert_array_equal(plain(store.checksums)[kept], plain(alone.checksums))
        assert store.images[kept].any(axis=(1, 2, 3)).all()


@pytest.fixture(scope="module")
def mixed_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("hostile") / "mixed"
    return folder, write_mixed(folder, ordinary=60, copies=1)


def test_there_are_many_kinds() -> None:
    assert len(hostile.BAD) + len(hostile.SPECIAL) >= 50
    assert len(hostile.GOOD) >= 25


def test_good_images_are_stored_right_among_bad_ones(mixed_folder: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    check_mixed(mixed_folder[0], tmp_path, mixed_folder[1])


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_thousand_good_images_are_stored_right_among_hundreds_of_bad_ones(tmp_path: Path) -> None:
    reasons = write_mixed(tmp_path / "mixed", ordinary=1000, copies=6)
    assert len(reasons) > 300
    check_mixed(tmp_path / "mixed", tmp_path, reasons)


# --- what a folder holds beside files, and what changes behind its back ----------------------------------------------


def test_a_list_of_what_are_no_files_does_not_hang(tmp_path: Path) -> None:
    paths = [tmp_path / "good.jpg"]
    paths[0].write_bytes(images.jpeg(images.photo(30, 40)))
    for kind, (suffix, make, _) in hostile.SPECIAL.items():
        paths.append(tmp_path / f"{kind}{suffix}")
        make(paths[-1])
    store = build(paths, bad="keep")
    assert [(Path(image.source).stem, image.reason) for image in store.bad()] == [
        (kind, reason) for kind, (_, _, reason) in hostile.SPECIAL.items()
    ]
    assert store.images[0].any()


def test_a_scan_passes_over_what_are_no_files(tmp_path: Path) -> None:
    for kind, (suffix, make, _) in hostile.SPECIAL.items():
        make(tmp_path / f"{kind}{suffix}")
    (tmp_path / "good.jpg").write_bytes(images.jpeg(images.photo(30, 40)))
    assert build(tmp_path).samples["source"].to_pylist() == ["good.jpg"]


def test_class_folders_that_link_to_each_other_are_walked_once_around(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(images.jpeg(images.photo(30, 40)))
        (tmp_path / name / "next").symlink_to(f"../{other}")
    paths = build(tmp_path).samples["source"].to_pylist()
    assert paths == [f"{first}/{'next/' * steps}1.jpg" for first in "abc" for steps in range(3)]


def test_entries_that_vanish_or_change_after_the_scan_are_bad(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / f"{name}.jpg").write_bytes(images.jpeg(images.photo(30, 40)))
    manifest = Manifest.of(tmp_path)
    for name in "bcde":
        (tmp_path / f"{name}.jpg").unlink()
    os.mkfifo(tmp_path / "c.jpg")
    (tmp_path / "d.jpg").mkdir()
    (tmp_path / "e.jpg").symlink_to("/dev/zero")
    store = build(manifest, bad="keep")
    assert [image.reason for image in store.bad()] == [
        "cannot be read: No such file or directory",
        *["not a regular file"] * 3,
    ]
    assert plain(store.status).tolist() == [1, 2, 2, 2, 2, 1]


def test_a_fifo_that_takes_a_files_place_while_it_is_opened_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(images.jpeg(images.photo(30, 40)))
    real = os.stat

    def stat(source: Any, **options: Any) -> os.stat_result:
        info = real(source, **options)
        if os.fspath(source) == str(path):
            path.unlink()
            os.mkfifo(path)
        return info

    monkeypatch.setattr(reading_module.os, "stat", stat)
    with pytest.raises(arraystore.BadImagesError, match="the file is empty"):
        build([path], workers=1)


# --- time and memory -------------------------------------------------------------------------------------------------

_MEASURE = """
import json, sys, time
import numpy
from support import hostile, images
from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024

spec = ImageSpec(size=(16, 24))
slot = numpy.empty(spec.slot_shape, numpy.uint8)
for warm in (images.jpeg(images.photo(9, 9)), hostile.encode("AVIF"), hostile.encode("JPEG2000")):
    decode_into(warm, slot, spec)
made = {kind: hostile.bad_bytes(kind) for kind in hostile.BYTES}
made.update({kind: make() for kind, (_, make) in hostile.GOOD.items()})
for kind, data in made.items():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, began = status("VmRSS"), time.process_time()  # a busy machine does not count
    try:
        decode_into(data, slot, spec)
    except DecodeError:
        pass
    print(json.dumps([kind, time.process_time() - began, status("VmHWM") - before]))
"""


def test_every_kind_takes_little_time_and_memory() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=400,
    )
    measured = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(measured) == len(hostile.BYTES) + len(hostile.GOOD)
    # The largest of these files has 4 MB, the largest image 65,500 pixels.
    assert [(kind, seconds) for kind, seconds, _ in measured if seconds > 5] == []
    assert [(kind, mb) for kind, _, mb in measured if mb > 100] == []


@pytest.mark.parametrize(
    ("scans", "side", "fits"), [(100, 1000, True), (101, 8, False), (20, 13_000, True), (26, 12_600, False)]
)
def test_scans_are_limited_alone_and_with_the_pixels_that_they_cover(*, scans: int, side: int, fits: bool) -> None:
    data = hostile.scan_bomb(side, side, scans)
    if fits:
        assert read_header(data).height == side
        return
    with pytest.raises(DecodeError) as caught:
        read_header(data)
    assert str(caught.value) == (
        f"a JPEG of {scans} scans over {side} x {side} pixels would keep a decoder busy for too long; "
        "save it again with any image program"
    )


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("shift", [0, 1])
def test_scans_are_counted_at_any_byte_of_any_kind_of_bytes(kind: Any, shift: int) -> None:
    data = hostile.scan_bomb(64, 64, 4000)
    data = data[:2] + hostile.segment(0xFE, bytes(shift)) + data[2:]
    with pytest.raises(DecodeError, match="4,000 scans"):
        read_header(kind(data))


def test_a_scan_bomb_is_a_jpeg_that_decoders_take() -> None:
    slot = np.empty(SPEC.slot_shape, np.uint8)
    assert decode_into(hostile.scan_bomb(300, 500, 50), slot, SPEC)[:2] == (300, 500)
    assert decode_into(hostile.scan_bomb(300, 500, 50, components=3), slot, SPEC)[:2] == (300, 500)
    assert decode_into(hostile.scan_bomb(30, 50, 9, components=3, progressive=False), slot, SPEC)[:2] == (30, 50)
    assert (slot == 128).all()


# --- the command -----------------------------------------------------------------------------------------------------

_OWN_LINE = re.compile(r"arraystore: |  slot \d+  |  and \d+ more$|\d+ bad images stored as zeros with status 2:$")
# libpng, inside OpenCV, speaks for itself when a file is damaged.
_DECODERS_LINE = re.compile(r"libpng (warning|error): ")


def lines_of(text: str) -> Iterator[str]:
    for line in text.removesuffix("\n").split("\n"):
        assert line.isprintable(), repr(line)
        if not _DECODERS_LINE.match(line):
            assert _OWN_LINE.match(line), line
            yield line


def test_the_command_says_one_line_an_error(mixed_folder: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, reasons = mixed_folder
    result = run("build", folder, tmp_path / "x.store", "--size", SIZE)
    assert result.returncode == 1
    head, *rest = lines_of(result.stderr)
    total = len(list(folder.iterdir()))
    assert head.startswith(f"arraystore: {len(reasons)} of {total} images could not be stored: --bad keep")
    assert len(rest) == 11
    assert rest[-1] == f"  and {len(reasons) - 10} more"
    assert not (tmp_path / "x.store").exists()

    result = run("build", folder, tmp_path / "x.store", "--size", SIZE, "--bad", "keep")
    assert result.returncode == 0
    head, *rest = lines_of(result.stderr)
    assert head.startswith(f"{len(reasons)} bad images")
    assert len(rest) == 11


def test_the_command_escapes_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "\x1b[31m[red]%s"
    folder.mkdir()
    for name in ("a\nb.jpg", "\x1b[2Ja.jpg", os.fsdecode(b"\xff.jpg"), "[bold]%d.jpg", "-x \u202e.jpg"):
        (folder / name).write_bytes(b"\x1b]0;title\x07\n\xff")
    result = run("build", folder, tmp_path / "x.store", "--size", SIZE)
    assert result.returncode == 1
    assert len(list(lines_of(result.stderr))) == 6
    assert result.stderr.count("[bold]%d.jpg: not an image in a known format") == 1


@pytest.mark.parametrize("kind", hostile.GOOD)
def test_the_command_stores_each_good_oddity(kind: str, tmp_path: Path) -> None:
    name, make = hostile.GOOD[kind]
    data, slot = make(), np.empty(SPEC.slot_shape, np.uint8)
    decode_into(data, slot, SPEC)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    began = time.process_time()
    store = build(tmp_path / "in")
    assert time.process_time() - began < 20
    np.testing.assert_array_equal(store.images[0], slot)


@pytest.mark.parametrize("color_type", range(8))
@pytest.mark.parametrize("depth", [0, 1, 3, 8, 16, 32, 255])
@pytest.mark.parametrize("extra", [[], [(b"tRNS", b"\0\0")]], ids=["plain", "transparent"])
def test_a_png_of_any_depth_is_a_slot_or_a_bad_image(color_type: int, depth: int, extra: list[Any]) -> None:
    header = struct.pack(">IIBBBBB", 8, 8, depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(bytes(9 * 64))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    store = arraystore.build([data, images.png(images.photo(9, 9))], size=8, bad="keep", progress=False)
    if depth not in {0: (1, 8, 16), 2: (8, 16), 3: (1, 8), 4: (8, 16), 6: (8, 16)}.get(color_type, ()):
        reason = f"the png header says color type {color_type} with {depth} bits a sample, which no png has"
        assert [(bad.slot, bad.reason) for bad in store.bad()] == [(0, reason)]
    assert store.status[1] == 1
