"""The memory of a cache, measured in a process of its own: other tests leave memory that may be freed at any time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from arraystore._stores.slot_array import SlotArray
from support.slots import slots_of

_SLOT_BYTES = 1 << 16


def anonymous_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def cache_growth(folder: Path) -> tuple[int, int, int]:
    """Fill a cache of 48 MiB from 100 MiB of slots; return how much memory grew when it was made, filled, and freed."""
    (folder / "pixels").touch()
    os.truncate(folder / "pixels", 1600 * _SLOT_BYTES)  # a hole, which takes no room on disk
    slots = slots_of([SlotArray(np.memmap(folder / "pixels", np.uint8, "r", shape=(1600, _SLOT_BYTES)))])
    out = np.ones((16, _SLOT_BYTES), np.uint8)
    slots.take(range(16), out=out)
    before = anonymous_bytes()
    cached = slots.cached("48 MiB")
    made = anonymous_bytes() - before
    for start in range(0, 1600, 16):
        cached.take(range(start, start + 16), out=out)
    filled = anonymous_bytes() - before
    del cached
    return made, filled, anonymous_bytes() - before
