"""How long does a call take to see that an earlier one has done everything?

A build of many small images is stopped by one that cannot be stored, when all the others are settled. The same call
then has to list the sources, read the ledger, and look at each source's size and time of change, before it knows that
there is nothing left to fill: that is timed, up to its first report of progress. No pixel is read.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import check_free, machine, machine_line, print_table, scratch_folder, spread, write_json

import arraystore

# Files a folder, as datasets have them.
_A_CLASS = 1000


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="10000,100000", help="how many slots")
    parser.add_argument("--runs", type=int, default=5, help="calls")
    parser.add_argument("--scratch", type=Path, help="a folder on the volume to write to")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("warm page cache")
    print(machine_line(record))
    lines = []
    for count in map(int, options.counts.split(",")):
        with scratch_folder(options.scratch) as folder:
            check_free(folder, count * 12_000)
            lines.append(report(folder, count, options.runs))
    rows = [
        [
            f"{line['slots']:,}",
            f"{line['build_s']:.1f}",
            f"{line['median_s']:.3f}",
            spread(line["decide_s"], 3),
            f"{line['median_s'] / line['slots'] * 1e6:.1f}",
        ]
        for line in lines
    ]
    header = ["slots", "first call, s", "decision, s", "least-most", "µs a slot"]
    print_table(f"A call that finds nothing left to fill, {options.runs} times", header, rows)
    write_json(options.json, lines, record)


def report(folder: Path, count: int, runs: int) -> dict[str, Any]:
    """Make the sources, stop a build of them at its end, and time what the same call takes to see that."""
    photos, target = folder / "photos", folder / "x.store"
    write_photos(photos, count)
    began_s = time.perf_counter()
    stopped(photos, target)
    build_s = time.perf_counter() - began_s
    decide_s = []
    for _ in range(runs):
        first: list[float] = []

        def note(progress: arraystore.Progress, first: list[float] = first) -> None:
            assert progress.done == progress.total
            first.append(time.perf_counter())

        began_s = time.perf_counter()
        stopped(photos, target, progress=note)
        decide_s.append(first[0] - began_s)
    median_s = statistics.median(decide_s)
    return {"benchmark": "resume", "slots": count, "build_s": build_s, "decide_s": decide_s, "median_s": median_s}


def write_photos(folder: Path, count: int) -> None:
    """Write small JPEGs, and one that is none."""
    rng = np.random.default_rng(0)
    encoded = [cv2.imencode(".jpg", rng.integers(0, 256, (20, 30, 3), np.uint8))[1].tobytes() for _ in range(8)]
    for i in range(count):
        within = folder / f"class {i // _A_CLASS:04}"
        within.mkdir(parents=True, exist_ok=True)
        (within / f"{i:08}.jpg").write_bytes(encoded[i % 8] if i else b"no image")


def stopped(photos: Path, target: Path, **options: Any) -> None:
    """Build, and be stopped by the image that is none."""
    with suppress(arraystore.BadImagesError):
        arraystore.build(photos, target, size=32, **({"progress": False} | options))
        raise SystemExit("the build was not stopped")


if __name__ == "__main__":
    main()
