"""What does it cost to write a folder of photographs again, smaller, and how soon is it known that nothing has changed?

One worker, or one loop, with the shorter side of 256 pixels and JPEGs of quality 90. The time is that of the processor
(``process_time``, all threads), because it says what a core does, however busy the machine is. arraystore also makes
its files durable and keeps a ledger, which the loops do not. vips is measured where ``pyvips`` is installed. Then the
same call again, over many files that have not changed.
"""

from __future__ import annotations

import os
import shutil
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps

import arraystore
from benchmarks.common import Row, Rows, Table, middle, ratios, take_turns
from benchmarks.places import large_photos, photos, scratch_folder, stretch

ESTIMATE_S = 300
NEEDS = ("photos", "large")
OPTIONS = {
    "shorter": (256, 32, "shorter side of the smaller images, in pixels"),
    "quality": (90, 90, "of JPEGs"),
    "images": (300, 12, "of a case: fewer photographs are repeated"),
    "large_images": (16, 2, "of a case of large photographs"),
    "unchanged": (100_000, 60, "files of the call that finds nothing to do"),
    "rounds": (3, 1, "timed rounds"),
}
OURS, TWO_SIZES = "arraystore", "arraystore, two sizes"
AGAIN = "nothing to do"


def measure(options: Namespace) -> Iterator[Row]:
    """Time the ways in turn on small and on large photographs; then the call that has nothing to do."""
    cv2.setNumThreads(1)
    with scratch_folder(options.scratch) as folder:
        for kind, paths in (
            ("photos", stretch(photos(options, folder), options.images)),
            ("large photos", stretch(large_photos(options, folder), options.large_images)),
        ):
            files = linked(paths, folder / kind)
            ways: dict[str, Callable[[], None]] = {
                OURS: partial(by_arraystore, files, folder, options),
                TWO_SIZES: partial(by_arraystore, files, folder, options, sizes=2),
                "OpenCV": partial(by_loop, by_opencv, files, folder, options),
                "Pillow": partial(by_loop, by_pillow, files, folder, options),
            }
            if find_spec("pyvips"):
                ways["vips"] = partial(by_loop, by_vips, files, folder, options)
            clocked = {name: partial(processor_s, way) for name, way in ways.items()}
            for name, seconds in take_turns(clocked, options.rounds).items():
                yield {"kind": kind, "case": name, "images": len(files), "cpu_s": seconds}
        yield from again(folder, options)


def linked(paths: list[str], folder: Path) -> list[Path]:
    """Return links to files, in a folder of their own and with names of their own."""
    folder.mkdir()
    files = [folder / f"{i:06}.jpg" for i in range(len(paths))]
    for file, path in zip(files, paths, strict=True):
        file.symlink_to(path)
    return files


def processor_s(way: Callable[[], None]) -> float:
    """Return the seconds of all cores that a way takes."""
    start = time.process_time()
    way()
    return time.process_time() - start


def by_arraystore(files: list[Path], folder: Path, options: Namespace, sizes: int = 1) -> None:
    """Presize the folder, from nothing."""
    shorter = [options.shorter, options.shorter // 2][:sizes]
    for number in shorter:
        shutil.rmtree(folder / f"out-{number}", ignore_errors=True)
    how: dict[str, Any] = {"shorter": shorter, "quality": options.quality, "progress": False, "workers": 1}
    arraystore.presize(files[0].parent, folder / "out-{size}", **how)


def by_loop(one: Callable[..., None], files: list[Path], folder: Path, options: Namespace) -> None:
    """Call a function with each file and its target."""
    shutil.rmtree(folder / "loop", ignore_errors=True)
    (folder / "loop").mkdir()
    for file in files:
        one(str(file), str(folder / "loop" / file.name), options.shorter, options.quality)


def by_opencv(path: str, to: str, shorter: int, quality: int) -> None:
    """Shrink one photograph with the filter that OpenCV recommends for it."""
    image = cv2.imread(path)
    assert image is not None
    scale = min(1.0, shorter / min(image.shape[:2]))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    cv2.imwrite(to, cv2.resize(image, size, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, quality])


def by_pillow(path: str, to: str, shorter: int, quality: int) -> None:
    """Shrink one photograph as Pillow's own ``thumbnail`` does, with a decoder that may shrink too."""
    with Image.open(path) as opened:
        scale = min(1.0, shorter / min(opened.size))
        size = (round(opened.width * scale), round(opened.height * scale))
        opened.draft("RGB", (2 * size[0], 2 * size[1]))
        image = ImageOps.exif_transpose(opened)
        turned = (opened.width > opened.height) != (image.width > image.height)
        image = image.resize(size[::-1] if turned else size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        image.convert("RGB").save(to, quality=quality)


def by_vips(path: str, to: str, shorter: int, quality: int) -> None:
    """Shrink one photograph as ``vipsthumbnail`` does; the longer side may be as long as it likes."""
    import pyvips

    header = pyvips.Image.new_from_file(path, access="sequential")
    scale = min(1.0, shorter / min(header.width, header.height))
    width, height = round(header.width * scale), round(header.height * scale)
    longest = max(width, height)
    image = pyvips.Image.thumbnail(path, longest, height=longest, size="down")
    image.jpegsave(to, Q=quality)


def again(folder: Path, options: Namespace) -> Iterator[Row]:
    """Time the call that finds nothing to do. The files are small, and each has one image."""
    tree = folder / "unchanged"
    done, data = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    assert done
    for i in range(options.unchanged):
        path = tree / f"{i % 100:03}" / f"{i:06}.jpg"
        with suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, data.tobytes())
        os.close(descriptor)
    call = partial(arraystore.presize, tree, folder / "unchanged out", shorter=options.shorter, progress=False)
    call()  # does everything
    seconds = take_turns({AGAIN: partial(processor_s, call)}, options.rounds)[AGAIN]
    yield {"kind": "unchanged", "case": AGAIN, "images": options.unchanged, "cpu_s": seconds}


def tables(rows: Rows) -> dict[str, Table]:
    """What an image costs, and what it costs to find nothing to do."""
    table = [["", "photographs", "images", "ms of a core an image", "least–most", "× arraystore"]]
    for row in rows:
        if row["case"] == AGAIN:
            continue
        ours = rows.one(kind=row["kind"], case=OURS)
        each = [1000 * seconds / row["images"] for seconds in row["cpu_s"]]
        cells = [row["case"], row["kind"], f"{row['images']:,}", *middle(each, 2)]
        table.append([*cells, middle(ratios(row["cpu_s"], ours["cpu_s"]), 2)[0]])
    row = rows.one(case=AGAIN)
    again_table = [
        ["", "files", "seconds of a core", "least–most"],
        [AGAIN, f"{row['images']:,}", *middle(row["cpu_s"], 2)],
    ]
    return {"presize": table, "unchanged": again_table}
