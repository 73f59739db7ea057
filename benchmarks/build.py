"""How fast is a build, against what people write by hand, and what is the floor?

All cases run in one process, in turn, on the same files, which are in the page cache:

- floor: reads each file and decodes it in full to RGB with simplejpeg, and does nothing else. No build that decodes in
  full can be faster.
- arraystore: `arraystore.build` into RAM, a folder of .npy and an .h5 file (the last two end with fsync).
- by hand: a loop over cv2.imread, cv2.resize, BGR to RGB, assignment into a preallocated array, with INTER_AREA
  (antialiased) and with INTER_LINEAR (which aliases); and the same with Pillow's antialiased BILINEAR. With more than
  one thread, a pool of threads takes chunks of the list.

OpenCV's own threads are off, so that every case uses as many threads as it says. Of camera photographs, libjpeg shrinks
while it decodes, unless ``exact=True`` is asked for: how much faster is that, and how far are the pixels apart?
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

import arraystore
from benchmarks.common import CPUS, Pixels, Row, Rows, Table, keep_memory, many, middle, rates, ratios, take_turns
from benchmarks.places import described, large_photos, photos, remove_all, scratch_folder, stretch

ESTIMATE_S = 110
NEEDS = ("photos", "large")
OPTIONS = {
    "size": (256, 16, "side of a slot, in pixels"),
    "rounds": (3, 1, "timed rounds"),
    "images": (1000, 40, "of a build: fewer photographs are repeated, of more some are taken"),
    "large_images": (16, 1, "the same of camera photographs"),
    "threads": (sorted({1, CPUS}), [1, 2], "such as 1,2"),
}
CHUNK = 32
FLOOR, RAM, AREA = "floor", "arraystore RAM", "cv2 INTER_AREA loop"
SHORT_NAMES = {
    RAM: "**arraystore, into RAM**",
    FLOOR: "reading and decoding alone: the floor",
    AREA: "hand-written loop: `cv2.imread`, `INTER_AREA`, transpose, assign",
    "cv2 INTER_LINEAR loop": "the same with `INTER_LINEAR`, which does not antialias",
    "Pillow BILINEAR loop": "Pillow: `open`, `resize` bilinear, transpose, assign",
}

Loop = Callable[[Sequence[str], Pixels], None]


def floor_loop(paths: Sequence[str], _slots: Pixels) -> None:
    """Read and decode, and let the pixels go."""
    for path in paths:
        simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB", strict=False)


def cv2_loop(paths: Sequence[str], slots: Pixels, interpolation: int) -> None:
    """Resize first, so that channels and axes are exchanged on the small image only."""
    height, width = slots.shape[2:]
    for slot, path in zip(slots, paths, strict=True):
        small = cv2.resize(cv2.imread(path, cv2.IMREAD_COLOR), (width, height), interpolation=interpolation)
        slot[...] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).transpose(2, 0, 1)


def pillow_loop(paths: Sequence[str], slots: Pixels) -> None:
    """Pillow's resize is antialiased whatever the filter."""
    height, width = slots.shape[2:]
    for slot, path in zip(slots, paths, strict=True):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        slot[...] = np.asarray(small).transpose(2, 0, 1)


LOOPS: dict[str, Loop] = {
    FLOOR: floor_loop,
    AREA: partial(cv2_loop, interpolation=cv2.INTER_AREA),
    "cv2 INTER_LINEAR loop": partial(cv2_loop, interpolation=cv2.INTER_LINEAR),
    "Pillow BILINEAR loop": pillow_loop,
}


def by_hand(paths: Sequence[str], size: int, threads: int, loop: Loop) -> Pixels:
    """Run a loop over a preallocated array, with more than one thread in chunks."""
    slots = np.empty((len(paths), 3, size, size), np.uint8)
    step = CHUNK if threads > 1 else len(paths)
    parts = [slice(at, at + step) for at in range(0, len(paths), step)]
    if threads == 1:
        loop(paths, slots)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda part: loop(paths[part], slots[part]), parts))
    return slots


def ours(
    paths: Sequence[str], size: int, threads: int, target: Path | None = None, *, exact: bool = False
) -> arraystore.Store:
    """Build a store."""
    return arraystore.build(paths, target, size=size, exact=exact, workers=threads, progress=False)


def time_cases(
    cases: dict[tuple[str, int], Callable[[], object]], images: int, rounds: int, stores: Path
) -> Iterator[Row]:
    """Time cases, and yield a row each, with how many times as fast a build into RAM is."""
    seconds = take_turns(cases, rounds, after=partial(remove_all, stores))
    for (name, threads), wall_s in seconds.items():
        row = {"case": name, "threads": threads, "images": images, "wall_s": wall_s}
        yield {**row, "ram_is_times_as_fast": ratios(wall_s, seconds[RAM, threads])}


def measure(options: Namespace) -> Iterator[Row]:
    """Build from photographs and from camera photographs."""
    keep_memory()
    cv2.setNumThreads(1)
    size = options.size
    with scratch_folder(options.scratch, 2 * options.images * 3 * size**2) as scratch:
        stores = scratch / "stores"
        stores.mkdir()
        found, large = photos(options, scratch), large_photos(options, scratch)
        texts = {"photos": described(found, made=options.photos is None)}
        texts |= {"large": described(large, made=options.large is None)}
        paths, chosen = stretch(found, options.images), stretch(large, options.large_images)
        targets = {RAM: None, "arraystore .npy": stores / "new.store", "arraystore .h5": stores / "new.h5"}
        cases: dict[tuple[str, int], Callable[[], object]] = {}
        for threads in options.threads:
            cases |= {(name, threads): partial(by_hand, paths, size, threads, loop) for name, loop in LOOPS.items()}
            cases |= {(name, threads): partial(ours, paths, size, threads, to) for name, to in targets.items()}
        for row in time_cases(cases, len(paths), options.rounds, stores):
            yield {"section": "build", **row, "size": size, **texts}
        camera: dict[tuple[str, int], Callable[[], object]] = {
            (RAM, 1): partial(ours, chosen, size, 1),
            ("arraystore RAM, exact=True", 1): partial(ours, chosen, size, 1, exact=True),
            (AREA, 1): partial(by_hand, chosen, size, 1, LOOPS[AREA]),
        }
        for row in time_cases(camera, len(chosen), options.rounds, stores):
            yield {"section": "large", **row}
        default, exact = (ours(large, size, 1, exact=each).images.astype(np.int16) for each in (False, True))
        yield {"section": "apart", "levels": np.abs(default - exact).mean(axis=(1, 2, 3)).tolist()}


def tables(rows: Rows) -> dict[str, Table]:
    """All ways to fill an array, the same in short for the README, and camera photographs."""
    builds = rows.where(section="build")
    whole = [["", "threads", "images/s", "least–most", "arraystore, RAM is × as fast", "least–most"]]
    large = [["", "ms an image", "least–most", "arraystore, RAM is × as fast"]]
    for row in builds:
        cells = middle(rates(row["images"], row["wall_s"])) + middle(row["ram_is_times_as_fast"], 2)
        whole.append([row["case"], str(row["threads"]), *cells])
    for row in rows.where(section="large"):
        cells = middle([1000 * seconds / row["images"] for seconds in row["wall_s"]], 1)
        large.append([row["case"], *cells, middle(row["ram_is_times_as_fast"], 2)[0]])
    numbers = sorted({row["threads"] for row in builds})
    header = [cell for threads in numbers for cell in (f"{many(threads, 'thread')}, images/s", "arraystore is")]
    short = [["", *header]]
    for case, name in SHORT_NAMES.items():
        cells = []
        for threads in numbers:
            row = builds.one(case=case, threads=threads)
            times = "" if case == RAM else f"{middle(row['ram_is_times_as_fast'], 2)[0]}×"
            cells += [middle(rates(row["images"], row["wall_s"]))[0], times]
        short.append([name, *cells])
    return {"builds": whole, "short": short, "large": large}


def figures(rows: Rows) -> dict[str, str]:
    """A build into RAM against others."""
    builds = rows.where(section="build")
    one = {name: builds.one(case=name, threads=1) for name in (RAM, FLOOR, AREA)}
    most = max(row["threads"] for row in builds)
    levels = rows.one(section="apart")["levels"]
    large = {row["case"]: row for row in rows.where(section="large")}
    return {
        "photos": one[RAM]["photos"],
        "large": one[RAM]["large"],
        "images": f"{one[RAM]['images']:,}",
        "size": str(one[RAM]["size"]),
        "most": str(most),
        "scaling": middle(ratios(one[RAM]["wall_s"], builds.one(case=RAM, threads=most)["wall_s"]), 2)[0],
        "times_floor": middle(ratios(one[RAM]["wall_s"], one[FLOOR]["wall_s"]), 2)[0],
        "times_area": middle(one[AREA]["ram_is_times_as_fast"], 2)[0],
        "large_ms": f"{1000 * statistics.median(large[RAM]['wall_s']) / large[RAM]['images']:,.0f}",
        "large_times": middle(large[AREA]["ram_is_times_as_fast"], 1)[0],
        "large_apart": f"{statistics.mean(levels):.2f}",
        "large_apart_most": f"{max(levels):.2f}",
    }
