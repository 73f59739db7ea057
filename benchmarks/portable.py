"""And what do building and augmenting cost without AVX-512?

Processors without AVX-512 VBMI and VNNI run portable kernels, which any processor runs with ``ARRAYSTORE_PORTABLE=1``.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from functools import partial

import cv2

from benchmarks import augment
from benchmarks.build import FLOOR, LOOPS, RAM, by_hand, ours
from benchmarks.common import Row, Rows, Table, keep_memory, middle, rates, ratios, take_turns
from benchmarks.places import photos, scratch_folder, stretch

ESTIMATE_S = 20
NEEDS = ("photos",)
VARIABLES = {"ARRAYSTORE_PORTABLE": "1"}
OPTIONS = {
    "size": (256, 32, "side of a slot, in pixels"),
    "images": (300, 20, "of a build: fewer photographs are repeated"),
    "batch": (256, 3, "images of a batch that is augmented"),
    "threads": ([2], [2], "that augment"),
    "rounds": (3, 1, "timed rounds"),
}


def measure(options: Namespace) -> Iterator[Row]:
    """Build, on one thread, and augment."""
    keep_memory()
    cv2.setNumThreads(1)
    with scratch_folder(options.scratch) as scratch:
        paths = stretch(photos(options, scratch), options.images)
        cases = {
            RAM: partial(ours, paths, options.size, 1),
            FLOOR: partial(by_hand, paths, options.size, 1, LOOPS[FLOOR]),
        }
        for name, wall_s in take_turns(cases, options.rounds).items():
            yield {"section": "build", "case": name, "threads": 1, "images": len(paths), "wall_s": wall_s}
    for row in augment.measure(options):
        yield {"section": "augment", **row}


def tables(rows: Rows) -> dict[str, Table]:
    """Builds on one thread; augmented batches."""
    table = [["one thread", "images/s", "least–most"]]
    table += [[row["case"], *middle(rates(row["images"], row["wall_s"]))] for row in rows.where(section="build")]
    return {"builds": table, **augment.tables(rows.where(section="augment"))}


def figures(rows: Rows) -> dict[str, str]:
    """The build beside the floor; the resized crop beside Pillow."""
    builds = rows.where(section="build")
    return {
        "times_floor": middle(ratios(builds.one(case=RAM)["wall_s"], builds.one(case=FLOOR)["wall_s"]), 2)[0],
        "times_pillow": augment.figures(rows.where(section="augment"))["times_pillow"],
    }
