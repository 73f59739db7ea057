"""How fast is a store verified, beside a plain read of its pixels and a copy in memory?

`arraystore.verify` reads every byte and hashes it, so a read of the same file into one buffer is its bound on one core,
and a copy from array to array says how fast this machine's memory is. Slots of 256×256 pixels are 197 kB, of 32×32 they
are 3 kB: there the cost is one of slots, not of bytes. The page cache is warm.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

import arraystore
from benchmarks.common import CPUS, Row, Rows, Table, keep_memory, many, middle, rates, take_turns
from benchmarks.places import scratch_folder

ESTIMATE_S = 45
OPTIONS = {
    "sizes": ([256, 32], [16, 4], "sides of slots, in pixels"),
    "megabytes": (500, 1, "of pixels in each store"),
    "threads": (sorted({1, CPUS, max(4, CPUS)}), [1, 2], "such as 1,2"),
    "rounds": (3, 1, "timed rounds"),
}


def measure(options: Namespace) -> Iterator[Row]:
    """Build stores, and time the cases warm and cold."""
    keep_memory()
    for size in options.sizes:
        count = max(1, options.megabytes * 1_000_000 // (3 * size * size))
        with scratch_folder(options.scratch, count * 3 * size**2) as folder:
            path = folder / "bench.store"
            images = np.random.default_rng(0).integers(0, 256, (min(count, 64), size, size, 3), np.uint8)
            sources = [images[i % len(images)] for i in range(count)]
            arraystore.build(sources, path, size=size, progress=False).close()
            pixels = path / "images.npy"
            cases: dict[str, Callable[[], object]] = {"plain read": partial(read, pixels)}
            cases |= {
                f"verify, {many(threads, 'thread')}": partial(check, path, threads) for threads in options.threads
            }
            there = np.fromfile(pixels, np.uint8)
            copied = np.empty_like(there)
            cases["copy in memory"] = partial(np.copyto, copied, there)
            seconds = take_turns(cases, options.rounds)
        for name, wall_s in seconds.items():
            yield {"case": name, "size": size, "slots": count, "bytes": there.size, "wall_s": wall_s}


def check(path: Path, threads: int) -> None:
    """Verify a store."""
    found = arraystore.verify(path, workers=threads, progress=False)
    assert found.ok, found


def read(path: Path) -> None:
    """Read a file, block after block into one buffer."""
    block = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass


def tables(rows: Rows) -> dict[str, Table]:
    """Verifying, beside a plain read and a copy."""
    table = [["", "slots", "GB/s", "least–most", "images/s"]]
    for row in rows:
        cells = middle([rate / 1e9 for rate in rates(row["bytes"], row["wall_s"])], 2)
        images = f"{row['slots'] / statistics.median(row['wall_s']):,.0f}"
        table.append([row["case"], f"{row['size']}²", *cells, images])
    return {"rates": table}


def figures(rows: Rows) -> dict[str, str]:
    """Verifying large slots."""
    ours = [row for row in rows.where(size=rows[0]["size"]) if row["case"].startswith("verify")]
    best = min(ours, key=lambda row: statistics.median(row["wall_s"]))
    return {
        "one": middle([rate / 1e9 for rate in rates(ours[0]["bytes"], ours[0]["wall_s"])], 1)[0],
        "most": middle([rate / 1e9 for rate in rates(best["bytes"], best["wall_s"])], 1)[0],
        "most_threads": best["case"].removeprefix("verify, "),
    }
