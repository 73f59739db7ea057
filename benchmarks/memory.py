"""How much anonymous memory does a build take?

Each build runs in a fresh process and is watched from outside by `arraystore.profile_memory`. Anonymous memory is what
the process itself holds and what runs a machine out of memory; file-backed pages are those of the store's own file. A
build into RAM should take the array and a constant; a build into a file should take a constant, however many images
there are. The images are a few generated JPEGs of 500×375 pixels, listed again and again.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import arraystore
from arraystore.memory import mark
from benchmarks.common import Row, Rows, Table, mib
from benchmarks.places import remove_all, scratch_folder, small_jpegs

ESTIMATE_S = 60
OPTIONS = {
    "counts": ([2000, 20_000], [50, 100], "images of a .npy and an .h5 store"),
    "ram_count": (2000, 60, "images of a store in RAM"),
    "size": (256, 16, "side of a slot, in pixels"),
}
BUILD = "build"


def measure(options: Namespace) -> Iterator[Row]:
    """Build stores of different sizes, and yield the peaks of each."""
    builds = [("RAM", options.ram_count), *((medium, n) for medium in (".npy", ".h5") for n in options.counts)]
    with scratch_folder(options.scratch, max(options.counts) * 3 * options.size**2) as scratch:
        (scratch / "stores").mkdir()
        paths = [str(scratch / f"{number:02}.jpg") for number in range(50)]
        for path, data in zip(paths, small_jpegs(len(paths), 500, 375), strict=True):
            Path(path).write_bytes(data)
        for medium, count in builds:
            target = None if medium == "RAM" else str(scratch / "stores" / f"new{medium.replace('.npy', '')}")
            call = partial(build, paths, target, count, options.size)
            told = arraystore.profile_memory({medium: call})[medium]
            if told.outcome != "finished":
                raise SystemExit(f"the build of {count:,} images into {medium} {told.outcome}: {told.reason}")
            remove_all(scratch / "stores")
            (began_s,) = (each.seconds for each in told.marks if each.label == BUILD)
            readings = zip(told.curve.seconds, told.curve.anonymous, strict=True)
            yield {
                "medium": medium,
                "images": count,
                "array_bytes": count * 3 * options.size**2,
                "peak_anonymous_bytes": told.peak("anonymous"),
                "anonymous_before_bytes": [held for seconds, held in readings if seconds <= began_s][-1],
                "peak_file_bytes": told.peak("file"),
            }


def build(paths: list[str], target: str | None, count: int, size: int) -> arraystore.Store:
    """Build a store, after a small one that has everything loaded."""
    arraystore.build(paths, size=size, progress=False)
    mark(BUILD)
    return arraystore.build([paths[i % len(paths)] for i in range(count)], target, size=size, progress=False)


def tables(rows: Rows) -> dict[str, Table]:
    """Peaks by medium and number of images, in MiB."""
    table = [["medium", "images", "array", "peak anonymous", "of that before it", "peak file-backed"]]
    kinds = ("array_bytes", "peak_anonymous_bytes", "anonymous_before_bytes", "peak_file_bytes")
    table += [[row["medium"], f"{row['images']:,}", *(mib(row[kind]) for kind in kinds)] for row in rows]
    return {"peaks": table}


def figures(rows: Rows) -> dict[str, str]:
    """What more images add to a build onto disk."""
    told: dict[str, str] = {}
    for medium in (".npy", ".h5"):
        few, most = rows.where(medium=medium)[0], rows.where(medium=medium)[-1]
        more = (most["peak_anonymous_bytes"] - few["peak_anonymous_bytes"]) / (most["images"] - few["images"])
        told |= {f"{medium[1:]}_adds": f"{more:,.0f}", "few": f"{few['images']:,}", "many": f"{most['images']:,}"}
    return told
