"""How fast is a store verified, beside a plain read of its pixels and a copy in memory?

`Store.verify` reads every byte and hashes it, so a read of the same file into one buffer is its bound on one core, and
a copy from array to array says how fast this machine's memory is. Slots of 256 x 256 pixels are 197 kB, of 32 x 32 they
are 3 kB: there the cost is one of slots, not of bytes. The page cache is warm; with --cold the file is dropped from it
before each case, and then the disk is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    Timing,
    check_free,
    keep_memory,
    machine,
    machine_line,
    print_table,
    scratch_folder,
    spread,
    take_turns,
    write_json,
)
from page_cache import drop

import arraystore
from arraystore._common.digests import file_blocks
from arraystore._common.wording import many
from arraystore._common.limits import usable_cpus

PLAIN, COPY = "plain read", "copy in memory"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 32], help="of slots, in pixels")
    parser.add_argument("--megabytes", type=int, default=500, help="of pixels in each store")
    parser.add_argument("--runs", type=int, default=7, help="rounds")
    parser.add_argument("--cold", action="store_true", help="drop the file from the page cache before each case")
    parser.add_argument("--scratch", type=Path, help="a folder for the stores; by default the temporary one")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("cold page cache" if options.cold else "warm page cache")
    print(machine_line(record))
    keep_memory()
    for size in options.sizes:
        with scratch_folder(options.scratch) as folder:
            write_json(options.json, report(folder, size, options), record)


def report(folder: Path, size: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Build a store, time the cases in turn, print the table, and return the rows for JSON."""
    count = max(1, options.megabytes * 1_000_000 // (3 * size * size))
    pixels_bytes = count * 3 * size * size
    check_free(folder, pixels_bytes)
    path = folder / "bench.store"
    make_store(path, count, size)
    timings = take_turns(cases(path, cold=options.cold), options.runs)
    plain_s = timings[PLAIN].wall_s
    rows, lines = [], []
    for name, timing in timings.items():
        rates = [rate / 1e9 for rate in timing.rates(pixels_bytes)]
        ratio = statistics.median(ours / plain for ours, plain in zip(timing.wall_s, plain_s, strict=True))
        images = count / statistics.median(timing.wall_s)
        rows.append([name, f"{statistics.median(rates):.2f}", spread(rates, 2), f"{images:,.0f}", f"{ratio:.2f}"])
        lines.append(line_of(name, timing, {"size": size, "slots": count, "bytes": pixels_bytes, "cold": options.cold}))
    title = f"{count:,} slots of 3 x {size} x {size}, {pixels_bytes / 1e6:,.0f} MB, {options.runs} rounds"
    print_table(title, ["case", "GB/s", "least-most", "img/s", "times a plain read"], rows)
    return lines


def make_store(path: Path, count: int, size: int) -> None:
    """Build a store of random slots, from random images of the same size; what is mapped stays in the page cache."""
    distinct = min(count, 64)
    images = np.random.default_rng(0).integers(0, 256, (distinct, size, size, 3), np.uint8)
    arraystore.build([images[i % distinct] for i in range(count)], path, size=size, progress=False).close()


def cases(path: Path, *, cold: bool) -> dict[str, Callable[[], object]]:
    """Return what to time, by name."""
    pixels = path / "images.npy"

    def check(workers: int) -> None:
        found = arraystore.verify(path, workers=workers, progress=False)
        assert found.ok, found

    verifies = {f"verify, {many(workers, 'thread')}": partial(check, workers) for workers in thread_counts()}
    timed = {PLAIN: partial(read, pixels), **verifies}
    if cold:
        return {name: partial(dropped, pixels, case) for name, case in timed.items()}
    from_there = np.fromfile(pixels, np.uint8)
    copied = np.empty_like(from_there)
    return {**timed, COPY: partial(np.copyto, copied, from_there)}


def thread_counts() -> Sequence[int]:
    """Return one, all cores, and what is the default."""
    return sorted({1, usable_cpus(), max(4, usable_cpus())})


def read(path: Path) -> None:
    """Read a file, block after block into one buffer."""
    for _ in file_blocks(path):
        pass


def dropped(path: Path, case: Callable[[], object]) -> None:
    """Run a case after a file was dropped from the page cache."""
    drop(path)
    case()


def line_of(name: str, timing: Timing, config: dict[str, Any]) -> dict[str, Any]:
    """Return one case for JSON."""
    return {
        "benchmark": "verify",
        "case": name,
        **config,
        "gb_per_s": [rate / 1e9 for rate in timing.rates(config["bytes"])],
        **timing.to_json(),
    }


if __name__ == "__main__":
    main()
