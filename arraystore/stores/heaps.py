"""The global heaps of an HDF5 file, in which its strings lie: checked before HDF5 reads them.

They are the only structure of our files that has no checksum, and HDF5 2.0 never returns from one in which a size was
damaged to zero: no signal ends that loop, and no time limit. Here damage is an error instead.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

from arraystore.digests import BLOCK_BYTES
from arraystore.errors import FormatError
from arraystore.format import SlotFile

__all__ = ["check_heaps"]

_START = b"GCOL\x01"
_OBJECT = struct.Struct("<HHIQ")  # index, references, reserved, size


def check_heaps(path: Path, slots: SlotFile) -> None:
    """Walk through every global heap that lies before or behind the pixels.

    Raises:
        FormatError: one is damaged.
        OSError: the file cannot be read.
    """
    pixels_end = slots.offset + math.prod(slots.shape)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for begin, end in ((0, slots.offset), (pixels_end, size)):
            at = begin
            while (at := _find(file.fileno(), at, end)) >= 0:
                heap = os.pread(file.fileno(), _heap_bytes(file.fileno(), at, end), at)
                if not _is_whole(heap):
                    raise FormatError(f"{path}: the strings at byte {at:,} are damaged", source=str(path))
                at += len(heap)


def _find(descriptor: int, begin: int, end: int) -> int:
    """Return where the next heap starts, or -1."""
    for at in range(begin, end, BLOCK_BYTES):
        block = os.pread(descriptor, min(BLOCK_BYTES + len(_START) - 1, end - at), at)
        found = block.find(_START)
        if found >= 0:
            return at + found
    return -1


def _heap_bytes(descriptor: int, at: int, end: int) -> int:
    head = os.pread(descriptor, 16, at)
    return min(int.from_bytes(head[8:16], "little"), end - at)


def _is_whole(heap: bytes) -> bool:
    """Return whether objects, and what is free behind them, fill a heap exactly."""
    at = 16
    if len(heap) < at or int.from_bytes(heap[8:16], "little") != len(heap):
        return False
    while len(heap) - at >= _OBJECT.size:
        index, _, _, size = _OBJECT.unpack_from(heap, at)
        if index == 0:  # what is free; its size counts from here
            return bool(size == len(heap) - at)
        at += _OBJECT.size + (size + 7 & ~7)
    return at <= len(heap)
