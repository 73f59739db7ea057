"""Is a file in the page cache, and how does it leave it?"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

DROP = Path("/proc/sys/vm/drop_caches")
COLD = 0.01


def resident(path: Path) -> float | None:
    """Return the share of a file's pages that are in memory; None where the system does not say."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "mincore", None)
    size = path.stat().st_size
    if call is None or size == 0:
        return None
    mapped = np.memmap(path, np.uint8, "r")
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    place, length = ctypes.c_void_p(mapped.ctypes.data), ctypes.c_size_t(size)
    if call(place, length, ctypes.c_void_p(pages.ctypes.data)):
        return None
    return float((pages & 1).mean())


def drop(path: Path) -> None:
    """Ask for a file to be dropped from the page cache, which takes next to no time."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def evict(path: Path) -> float | None:
    """Drop a file from the page cache, and return the share of it that has stayed; None where nobody knows.

    What a process has mapped and read stays, so none may. If the file itself cannot be dropped, all files are, where
    that is allowed.
    """
    drop(path)
    share = resident(path)
    if share is None or share > COLD:
        try:
            DROP.write_text("1")
        except OSError:
            return share
        share = resident(path)
    return share
