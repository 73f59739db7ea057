"""What does it cost that a kill or a power loss takes only a second's work?

The same build into a store on disk, in turn: as it is, claiming finished runs about once a second; with one claim at
the end only; and with every fsync switched off, so that nothing is safe and the volume may still be writing when the
build returns. The bar is the first against the second: both leave a store that is on the volume, and only the first can
be interrupted. The third shows what the volume itself costs, which is nothing that a build could save.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import (
    check_free,
    machine,
    machine_line,
    photos,
    print_table,
    ratios,
    scratch_folder,
    spread,
    stretch,
    take_turns,
    write_json,
)

import arraystore
from arraystore._building import checkpoint

SAFE, AT_END, NEVER = "safe, as it is", "one claim at the end", "no fsync at all"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEGs, at any depth")
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels")
    parser.add_argument("--images", type=int, default=4000, help="how many; a short list is repeated")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    parser.add_argument("--scratch", type=Path, help="a folder on the volume to write to")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("warm page cache")
    print(machine_line(record))
    listed = stretch(photos(options.photos), options.images)
    with scratch_folder(options.scratch) as folder:
        check_free(folder, len(listed) * 3 * options.size**2)
        write_json(options.json, report(listed, options.size, options.runs, folder / "x.store"), record)


def report(paths: Sequence[str], size: int, runs: int, target: Path) -> list[dict[str, Any]]:
    """Time the three builds in turn; print them, and return them for JSON."""

    def build() -> None:
        arraystore.build(paths, target, size=size, progress=False)

    def remove() -> None:
        for file in target.iterdir():
            file.unlink()
        target.rmdir()
        os.sync()  # or the next build would wait for what this one left to be written

    cases: dict[str, Callable[[], None]] = {SAFE: build}
    cases[AT_END] = switched(checkpoint, {"_CLAIM_EVERY_S": math.inf, "_UNCLAIMED_LIMIT_BYTES": math.inf})(build)
    cases[NEVER] = switched(os, {"fsync": ignore, "fdatasync": ignore})(cases[AT_END])
    timings = take_turns(cases, runs, after=remove)
    rows, lines = [], []
    for name, timing in timings.items():
        against = ratios(timings[SAFE], timing)
        rates = timing.rates(len(paths))
        rows.append(
            [
                name,
                f"{statistics.median(rates):,.0f}",
                spread(rates),
                f"{statistics.median(against):.3f}",
                spread(against, 3),
            ]
        )
        lines.append(
            {"benchmark": "crash safety", "case": name, "images": len(paths), "size": size, "safe_takes_times": against}
            | timing.to_json()
        )
    header = ["build", "img/s", "least-most", "the safe one takes", "least-most"]
    print_table(f"{len(paths):,} images to 3 x {size} x {size} on disk, {runs} rounds", header, rows)
    return lines


def ignore(_descriptor: int) -> None:
    """Take the place of a call to the system that is switched off."""


def switched(module: Any, values: dict[str, Any]) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return a decorator: the function runs while some of a module's values are others."""

    @contextmanager
    def others() -> Iterator[None]:
        before = {name: getattr(module, name) for name in values}
        try:
            vars(module).update(values)
            yield
        finally:
            vars(module).update(before)

    return others()


if __name__ == "__main__":
    main()
