"""How much anonymous memory does a build take?

Each build runs in a fresh process and is watched from outside by `arraystore.profile_memory`. Anonymous memory is what
the process itself holds and what runs a machine out of memory; file-backed pages are the store's own file, which the
system writes out and takes back as it likes. A build into RAM should take the array and a constant; a build into a file
a constant, however many images there are.

The images are a few generated JPEGs of 500 x 375 pixels, listed again and again: a store's memory depends on how many
slots it has, not on what is in them.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import (
    check_free,
    check_memory,
    machine,
    machine_line,
    numbers,
    print_table,
    scratch_folder,
    write_json,
)

import arraystore
from arraystore.memory import mark

BUILD = "build"
DISTINCT = 50
MIB = 1 << 20
TARGETS = {"RAM": None, ".npy": "new.store", ".h5": "new.h5"}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=numbers, default=[2000, 20000], help="images in a .npy and an .h5 store")
    parser.add_argument("--ram-count", type=int, default=10000, help="images in a store in RAM; 0 leaves it out")
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels")
    parser.add_argument("--workers", type=int, default=None, help="of the build; default: its own")
    parser.add_argument("--scratch", type=Path, help="where to write stores; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("warm page cache")
    print(machine_line(record))
    slot_bytes = 3 * options.size**2
    check_memory(options.ram_count * slot_bytes)
    with scratch_folder(options.scratch) as scratch:
        check_free(scratch, max(options.counts, default=0) * slot_bytes)
        photos = make_photos(scratch)
        builds = [("RAM", options.ram_count)] if options.ram_count else []
        builds += [(medium, count) for medium in (".npy", ".h5") for count in options.counts]
        results = [watch(photos, scratch, medium, count, options) for medium, count in builds]
    report(results)
    write_json(options.json, results, record)


def make_photos(folder: Path) -> list[str]:
    """Write the JPEGs: smooth noise, which is as hard to decode as a photo."""
    rng = np.random.default_rng(1)
    paths = [str(folder / f"{i:02}.jpg") for i in range(DISTINCT)]
    for path in paths:
        coarse = rng.integers(0, 256, (47, 63, 3), np.uint8)
        assert cv2.imwrite(path, cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC))
    return paths


def build_here(photos: list[str], target: str | None, count: int, options: dict[str, Any]) -> arraystore.Store:
    """Build the store, in a process of its own, with everything loaded before."""
    arraystore.build(photos, **options)
    sources = [photos[i % len(photos)] for i in range(count)]
    mark(BUILD)
    store = arraystore.build(sources, target, **options)
    assert len(store.images) == count
    return store


def watch(photos: list[str], scratch: Path, medium: str, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Build in a process of its own, and return the peaks."""
    name = TARGETS[medium]
    target = None if name is None else str(scratch / name)
    how = {"size": options.size, "workers": options.workers, "progress": False}
    told = arraystore.profile_memory({medium: partial(build_here, photos, target, count, how)})[medium]
    if told.outcome != "finished":
        raise SystemExit(f"the build of {count:,} images into {medium} {told.outcome}: {told.reason}")
    if target is not None:
        remove(Path(target))
    (began,) = (each.seconds for each in told.marks if each.label == BUILD)
    before = [held for seconds, held in zip(told.curve.seconds, told.curve.anonymous, strict=True) if seconds <= began]
    return {
        "benchmark": "memory",
        "medium": medium,
        "images": count,
        "size": options.size,
        "workers": options.workers,
        "array_bytes": count * 3 * options.size**2,
        "peak_anonymous_bytes": told.peak("anonymous"),
        "peak_file_bytes": told.peak("file"),
        "peak_shared_bytes": told.peak("shmem"),
        "anonymous_before_bytes": before[-1],
        "build_s": told.wall_s - began,
        "samples": told.readings,
    }


def remove(store: Path) -> None:
    """Remove a store."""
    if store.is_dir():
        for path in store.iterdir():
            path.unlink()
        store.rmdir()
    else:
        store.unlink()


def report(results: list[dict[str, Any]]) -> None:
    """Print the peaks, and what another image adds."""
    rows = []
    for result in results:
        in_ram = result["array_bytes"] if result["medium"] == "RAM" else 0
        rows.append(
            [
                result["medium"],
                f"{result['images']:,}",
                f"{result['array_bytes'] / MIB:,.0f}",
                f"{result['peak_anonymous_bytes'] / MIB:,.0f}",
                f"{result['anonymous_before_bytes'] / MIB:,.0f}",
                f"{(result['peak_anonymous_bytes'] - in_ram - result['anonymous_before_bytes']) / MIB:,.1f}",
                f"{result['peak_anonymous_bytes'] / result['array_bytes']:.3f}",
                f"{result['peak_file_bytes'] / MIB:,.0f}",
                f"{result['build_s']:.1f}",
            ]
        )
    header = ["store", "images", "array", "peak anon", "before it", "added", "anon/array", "peak file", "s"]
    print_table("Peak memory of a build, in MiB (anon: anonymous; file: file-backed)", header, rows)
    print(
        "  before it: with every module loaded and one small build done; added: by this build, besides an array in RAM"
    )
    for medium in (".npy", ".h5"):
        sizes = sorted((r["images"], r["peak_anonymous_bytes"]) for r in results if r["medium"] == medium)
        if len(sizes) > 1:
            (few, little), (many, much) = sizes[0], sizes[-1]
            if many > few:
                print(f"  {medium}: another image adds {(much - little) / (many - few):,.0f} bytes of anonymous memory")


if __name__ == "__main__":
    main()
