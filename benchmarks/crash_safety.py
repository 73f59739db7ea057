"""What does it cost that a kill or a power loss takes only a second's work?

The same build into a store on disk, in turn: as it is, claiming finished runs about once a second; with one claim at
the end only; and with every fsync switched off, so that nothing is safe. The first two both leave a store that is on
the volume, and only the first can be interrupted. The third shows what the volume itself costs.
"""

from __future__ import annotations

import math
import os
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import arraystore
from arraystore._building import checkpoint
from benchmarks.common import Row, Rows, Table, middle, rates, ratios, take_turns
from benchmarks.places import photos, remove_all, scratch_folder, stretch

ESTIMATE_S = 60
NEEDS = ("photos",)
OPTIONS = {
    "size": (256, 16, "side of a slot, in pixels"),
    "images": (4000, 40, "of a build: fewer photographs are repeated"),
    "rounds": (3, 1, "timed rounds"),
}
SAFE, AT_END, NEVER = "safe, as it is", "one claim at the end", "no fsync at all"


def measure(options: Namespace) -> Iterator[Row]:
    """Time the three builds in turn."""
    with scratch_folder(options.scratch, options.images * 3 * options.size**2) as scratch:
        paths = stretch(photos(options, scratch), options.images)
        stores = scratch / "stores"
        stores.mkdir()
        build = partial(arraystore.build, paths, stores / "x.store", size=options.size, progress=False)

        def claim_at_end() -> None:
            with patch.multiple(checkpoint, _CLAIM_EVERY_S=math.inf, _UNCLAIMED_LIMIT_BYTES=math.inf):
                build()

        def never_sync() -> None:
            with patch.multiple(os, fsync=int, fdatasync=int):
                claim_at_end()

        cases: dict[str, Callable[[], object]] = {SAFE: build, AT_END: claim_at_end, NEVER: never_sync}
        seconds = take_turns(cases, options.rounds, after=partial(clear, stores))
    for name, wall_s in seconds.items():
        yield {"case": name, "images": len(paths), "wall_s": wall_s, "safe_takes_times": ratios(seconds[SAFE], wall_s)}


def clear(folder: Path) -> None:
    """Remove a store; the next build must not wait for what this one has left to be written."""
    remove_all(folder)
    os.sync()


def tables(rows: Rows) -> dict[str, Table]:
    """What claims and syncs cost."""
    table = [["", "images/s", "least–most", "the safe one takes ×", "least–most"]]
    table += [
        [row["case"], *middle(rates(row["images"], row["wall_s"])), *middle(row["safe_takes_times"], 3)] for row in rows
    ]
    return {"builds": table}


def figures(rows: Rows) -> dict[str, str]:
    """The safe build beside the others."""
    return {
        name: middle(rows.one(case=case)["safe_takes_times"], 2)[0]
        for name, case in (("at_end", AT_END), ("never", NEVER))
    }
