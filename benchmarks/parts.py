"""Where does one image's time go?

Each function that a build calls for one image, timed by itself over the photos on one thread; then `fill_slots`, which
calls them all; then `arraystore.build` over the same list. What the functions leave of `fill_slots` is the Python
between them, which is below zero where it is lost in the noise; what `fill_slots` leaves of a build is all around it:
fresh pages of the store, handing out runs, publishing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial
from operator import sub
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import xxhash
from common import (
    keep_memory,
    machine,
    machine_line,
    opencv_threads,
    photos,
    print_table,
    stretch,
    take_turns,
    write_json,
)

import arraystore
from arraystore._decoding.decode import _decode_jpeg, _reduction
from arraystore._building.fill import Job, fill_slots, read_source
from arraystore._decoding.header import read_header
from arraystore._kernels.resample import resize
from arraystore._kernels.sums import channel_sums


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEGs, at any depth")
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels")
    parser.add_argument("--runs", type=int, default=5, help="rounds over the photos")
    parser.add_argument(
        "--images", type=int, default=1000, help="a build has so many at least, over which its fixed cost is spread"
    )
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("warm page cache")
    print(machine_line(record))
    keep_memory()
    with opencv_threads(1):
        write_json(options.json, [report_parts(photos(options.photos), options)], record)


def report_parts(paths: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Time the functions, `fill_slots` and a build in turn; print the parts, and return them for JSON."""
    size, runs = options.size, options.runs
    spec = arraystore.ImageSpec(size=size)
    chosen = stretch(paths, min(len(paths), options.images))
    slots = np.empty((len(chosen), *spec.slot_shape), np.uint8)
    rounds: list[list[dict[str, float]]] = []

    def step_by_step() -> None:
        rounds.append([contents_of(path, slot, spec) for path, slot in zip(chosen, slots, strict=True)])

    job = Job(start=0, sources=chosen, spec=spec)
    listed = stretch(chosen, options.images)
    wholes = take_turns(
        {
            "steps": step_by_step,
            "fill": partial(fill_slots, job, slots),
            "build": partial(arraystore.build, listed, size=size, workers=1, progress=False),
            "one": partial(arraystore.build, listed[:1], size=size, workers=1, progress=False),
        },
        runs,
    )
    del rounds[0]  # the turn that is not timed
    # Of each photo the median over the rounds; of these the median and the mean over the photos. Only means add up.
    seconds = {name: np.median([[of[name] for of in turn] for turn in rounds], axis=0) for name in rounds[0][0]}
    # What is left over is a small difference of large times: taken within each round, where the noise is the same.
    steps = [sum(sum(of.values()) for of in turn) / len(chosen) for turn in rounds]
    fills = [taken / len(chosen) for taken in wholes["fill"].wall_s]
    builds = [taken / len(listed) for taken in wholes["build"].wall_s]
    fill_s, build_s = statistics.median(fills), statistics.median(builds)
    means = {name: float(values.mean()) for name, values in seconds.items()}
    means["Python between them"] = statistics.median(map(sub, fills, steps))
    means["around: fresh pages, runs, publishing"] = statistics.median(map(sub, builds, fills))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    rows = [
        [name, f"{medians[name] * 1e6:,.0f}" if name in medians else "", f"{mean * 1e6:,.0f}", f"{mean / build_s:.1%}"]
        for name, mean in [*means.items(), ("a build, divided by its images", build_s)]
    ]
    title = f"One image's time on one thread, {len(chosen):,} photos to 3 x {size} x {size}, {runs} rounds"
    print_table(title, ["part", "median µs", "mean µs", "of a build"], rows)
    one_s = statistics.median(wholes["one"].wall_s)
    print(f"  a build of one image takes {one_s * 1e3:.1f} ms: that is the fixed cost")
    return {
        "benchmark": "parts",
        "photos": len(chosen),
        "size": size,
        "runs": runs,
        "mean_s": means,
        "median_s": medians,
        "fill_s": fill_s,
        "build_s": build_s,
        "build_of_one_s": one_s,
    }


def contents_of(path: str, slot: npt.NDArray[np.uint8], spec: arraystore.ImageSpec) -> dict[str, float]:
    """Take one file through the steps of `fill_slots`, and return the seconds of each."""
    seconds: dict[str, float] = {}
    mark = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal mark
        seconds[name] = time.perf_counter() - mark
        mark = time.perf_counter()

    data, *_ = read_source(path, Path(path).stat().st_size)
    lap("read")
    xxhash.xxh3_64_intdigest(data)
    lap("hash of the source")
    header = read_header(data)
    lap("header")
    placement = spec.place(header.height, header.width)
    image, factor = _decode_jpeg(data, header, spec, _reduction(placement))
    lap("decode")
    left, top, right, bottom = (side / factor for side in placement.box)
    small = small_buffer(spec, image)
    mark = time.perf_counter()
    resize(image, small, box=(left, top, right, bottom), name=spec.filter)
    lap("resample")
    if small.ndim == 3:
        cv2.split(small, list(slot))
    else:
        slot[...] = small
    lap("split into planes")
    channel_sums(slot, spec.layout)
    lap("channel sums")
    xxhash.xxh3_64_intdigest(slot)
    lap("checksum")
    return seconds


_kept: dict[int, npt.NDArray[np.uint8]] = {}


def small_buffer(spec: arraystore.ImageSpec, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return memory that has been used before, as the build's own scratch has: fresh pages cost time."""
    if image.ndim not in _kept:
        _kept[image.ndim] = np.zeros((*spec.size, *image.shape[2:]), np.uint8)
    return _kept[image.ndim]


if __name__ == "__main__":
    main()
