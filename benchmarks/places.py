"""The folders that benchmarks write to, and the photographs that they read."""

from __future__ import annotations

import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

LONGEST_PATH_BYTES = 58
MADE, MADE_LARGE, LARGE_PX = 200, 4, (4000, 3000)


@contextmanager
def scratch_folder(parent: Path | None, needed_bytes: int = 0) -> Iterator[Path]:
    """Make a temporary folder, and remove it and all that is in it afterwards.

    Args:
        parent: where it is made; None is the system's temporary folder.
        needed_bytes: what will be written to it.

    Raises:
        SystemExit: the volume has too little room, or the path is so long that the sockets of worker processes, which
            lie below it, could not be opened: some libraries then wait for ever.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name:
        free_bytes = shutil.disk_usage(name).free
        if needed_bytes * 1.1 > free_bytes:
            raise SystemExit(
                f"{name}: {needed_bytes * 1.1 / 1e9:.1f} GB are needed, {free_bytes / 1e9:.1f} GB are free: pass "
                "--scratch with a folder on a larger volume, or smaller counts"
            )
        if len(os.fsencode(name)) > LONGEST_PATH_BYTES:
            raise SystemExit(f"{name}: this path is too long: pass --scratch with a folder that has a shorter one")
        yield Path(name)


def remove_all(folder: Path) -> None:
    """Remove what lies in a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def photos(options: Namespace, folder: Path) -> list[str]:
    """Return the JPEGs under ``--photos``, sorted; without that option, photographs that are made in a folder."""
    if options.photos is not None:
        return usable(options.photos)
    subprocess.run(
        [sys.executable, "-m", "arraystore", "sample", str(folder / "made"), "--count", str(MADE)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return usable(folder / "made")


def large_photos(options: Namespace, folder: Path) -> list[str]:
    """Return the JPEGs under ``--large``, sorted; without that option, some of a camera's size are made in a folder."""
    if options.large is not None:
        return usable(options.large)
    (folder / "made large").mkdir()
    for number, data in enumerate(small_jpegs(MADE_LARGE, *LARGE_PX)):
        (folder / "made large" / f"{number}.jpg").write_bytes(data)
    return usable(folder / "made large")


def usable(folder: Path) -> list[str]:
    """Return the gray and color JPEGs under a folder, sorted: every case can decode them.

    Raises:
        SystemExit: there are none.
    """
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    paths = [path for path in found if Image.open(path).mode in ("L", "RGB")]
    if not paths:
        raise SystemExit(f"{folder}: there are no JPEGs under this folder")
    return paths


def described(paths: Sequence[str], *, made: bool) -> str:
    """Return in words which photographs these are; folders are nobody's business."""
    sizes = [Image.open(path).size for path in paths]
    width, height = (round(statistics.median(sides)) for sides in zip(*sizes, strict=True))
    kilobytes = statistics.median(Path(path).stat().st_size for path in paths) / 1000
    kind = "made photographs" if made else "photographs"
    return f"{len(paths):,} {kind} (median {width:,}×{height:,} pixels, {kilobytes:,.0f} kB)"


def stretch(paths: Sequence[str], count: int) -> list[str]:
    """Repeat a short list, whole, to at least ``count``; take ``count`` evenly spaced ones of a long list.

    A build has a fixed cost of some milliseconds, which must not weigh in the rate.
    """
    if len(paths) >= count:
        return [paths[i * len(paths) // count] for i in range(count)]
    return [*paths] * -(-count // len(paths))


def small_jpegs(count: int, width: int, height: int) -> list[bytes]:
    """Return different JPEGs of smooth noise, which is as hard to decode as a photograph."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, height // 6 + 1, width // 6 + 1, 3), np.uint8)
    encoded = [io.BytesIO() for _ in coarse]
    for pixels, file in zip(coarse, encoded, strict=True):
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return [file.getvalue() for file in encoded]
