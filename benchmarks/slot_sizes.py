"""How do building and reading grow with the size of a slot, and with threads?

Two sections, each with every size and every number of threads, all in one process, in turn:

- build: `arraystore.build` into RAM, and the floor, which is reading and decoding the same photos in full.
- read: an epoch of the loader in shuffled order, and `np.copyto` of as many bytes with as many threads. Every size has
  a store of about the same number of bytes, which are in the page cache; so have batches.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from build import floor, ours, run_chunks
from common import (
    Timing,
    check_free,
    check_memory,
    keep_memory,
    machine,
    machine_line,
    numbers,
    opencv_threads,
    photos,
    print_table,
    ratios,
    scratch_folder,
    spread,
    stretch,
    take_turns,
    write_json,
)
from hosts import Job
from read import make_store
from read_cases import loader, memcpy

from arraystore._common.limits import usable_cpus

SECTIONS = ("build", "read")
BATCH_BYTES = 48 << 20  # 256 slots of 3 x 256 x 256, as in `read.py`
OURS = "arraystore"


def main() -> None:
    """Run it."""
    options = parse()
    record = machine("warm page cache")
    print(machine_line(record))
    keep_memory()
    for name in options.only:
        measured = SECTION[name](options)
        write_json(options.json, report(name, measured), record)


def parse() -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEGs, at any depth")
    parser.add_argument("--only", choices=SECTIONS, nargs="+", default=SECTIONS, help="sections")
    parser.add_argument("--sizes", type=numbers, default=[32, 64, 128, 256, 512], help="of a slot, in pixels")
    parser.add_argument("--threads", type=numbers, default=sorted({1, usable_cpus()}), help="such as 1,2")
    parser.add_argument("--images", type=int, default=400, help="to build; fewer photos are repeated")
    parser.add_argument("--megabytes", type=int, default=600, help="of slots in each store that is read")
    parser.add_argument("--runs", type=int, default=3, help="timed rounds, after one that is not timed")
    parser.add_argument("--scratch", type=Path, help="where to write stores; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    return parser.parse_args()


Measured = dict[tuple[str, int, int], tuple[int, Timing]]
"""(case, size, threads) → how many images, and what they took."""


def builds(options: argparse.Namespace) -> Measured:
    """Time the builds."""
    paths = stretch(photos(options.photos), options.images)
    check_memory(2 * len(paths) * 3 * max(options.sizes) ** 2)
    cases: dict[tuple[str, int, int], Callable[[], object]] = {}
    for threads in options.threads:
        for size in options.sizes:
            cases[OURS, size, threads] = partial(ours, paths, size, threads, None)
            # What decodes knows nothing of sizes; it is timed beside each of them, for the ratio.
            cases["floor", size, threads] = partial(run_chunks, paths, None, threads, floor)
    with opencv_threads(1):
        return {key: (len(paths), timing) for key, timing in take_turns(cases, options.runs).items()}


def reads(options: argparse.Namespace) -> Measured:
    """Time the epochs, each of which is checked before."""
    measured: Measured = {}
    with scratch_folder(options.scratch) as folder:
        check_free(folder, options.megabytes * 1_000_000)
        for size in options.sizes:
            slot_bytes = 3 * size**2
            count = max(options.megabytes * 1_000_000 // slot_bytes, 1)
            store = make_store(folder / f"{size}.store", count, size)
            cases: dict[tuple[str, int, int], Callable[[], object]] = {}
            for threads in options.threads:
                job = Job(str(store), None, max(BATCH_BYTES // slot_bytes, 1), threads, count, slot_bytes)
                for name, case in ((OURS, loader), ("floor", memcpy)):
                    run = case(job)
                    run(0, True)
                    cases[name, size, threads] = partial(run, 1, False)
            measured |= {key: (count, timing) for key, timing in take_turns(cases, options.runs).items()}
            for path in store.iterdir():
                path.unlink()
    return measured


def report(section: str, measured: Measured) -> list[dict[str, Any]]:
    """Print the rates, and return them."""
    rows, records = [], []
    for (name, size, threads), (count, timing) in measured.items():
        if name != OURS:
            continue
        bound = measured["floor", size, threads][1]
        rates, takes = timing.rates(count), ratios(timing, bound)
        first = measured[OURS, size, min(number for _, _, number in measured)][1]
        row = {
            "benchmark": "slot sizes",
            "section": section,
            "size": size,
            "threads": threads,
            "images": count,
            "images_per_s": statistics.median(rates),
            "bytes_per_s": statistics.median(rates) * 3 * size**2,
            "takes_times_the_floor": statistics.median(takes),
            "times_as_fast_as_fewest_threads": statistics.median(ratios(first, timing)),
            **timing.to_json(),
            "floor_wall_s": bound.wall_s,
        }
        records.append(row)
        rows.append(
            [
                f"{size} x {size}",
                str(threads),
                f"{row['images_per_s']:,.0f}",
                spread(rates),
                f"{row['bytes_per_s'] / 1e9:.2f}",
                f"{row['takes_times_the_floor']:.2f}",
                spread(takes, 2),
                f"{row['times_as_fast_as_fewest_threads']:.2f}",
            ]
        )
    bound = {"build": "decoding alone", "read": "memcpy of as many bytes"}[section]
    header = ["slots", "threads", "img/s", "min-max", "GB/s", "x the floor's time", "min-max", "x 1st threads"]
    print_table(f"{section.capitalize()}: medians; the floor is {bound}", header, rows)
    return records


SECTION: dict[str, Callable[[argparse.Namespace], Measured]] = {"build": builds, "read": reads}

if __name__ == "__main__":
    main()
