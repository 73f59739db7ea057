"""Ask the system for slots before they are needed: the order of an epoch is known, so nothing has to wait for a disk.

A slot that is met in a mapping for the first time is read by page faults, one at a time, while the thread waits:
`benchmarks/read.py` measures a fraction of what the disk can do. Told of the next slots, the system has many reads
under way at once. Telling it for each range by posix_fadvise, and then copying from the mapping, measured faster
than threads that pread, for the pages come while nobody waits; those threads are for where there is no such call.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from arraystore._reading.slot_arrays import Slots
from arraystore.errors import SpecError

__all__ = ["Ahead", "How", "check_how"]

How = Literal["auto", "advise", "read", "off"]

_HOW = ("auto", "advise", "read", "off")
_GAP_BYTES = 1 << 16  # to read across a gap of this size costs less than another read
_RANGE_BYTES = 1 << 23  # no call takes longer than this much
_PROBES = 16
_THREADS = 8
_READ_BYTES = 1 << 19

Index = npt.NDArray[np.int64]


def check_how(how: str) -> None:
    """Refuse a way of reading ahead that does not exist.

    Raises:
        SpecError: it does not exist, or not on this system.
    """
    if how not in _HOW:
        raise SpecError(f"ahead must be one of {', '.join(map(repr, _HOW))}, not {how!r}")
    if how == "advise" and not hasattr(os, "posix_fadvise"):
        raise SpecError("this system cannot be advised of reads: pass ahead='auto', 'read' or 'off'")


@dataclass(frozen=True, slots=True)
class _File:
    descriptor: int
    offset: int
    slot_bytes: int
    mapping: mmap.mmap | None

    def ranges(self, rows: Index) -> Iterator[tuple[int, int]]:
        """Return the byte ranges of slots, ascending, neighbors in one."""
        starts = np.unique(rows) * self.slot_bytes + self.offset
        ends = starts + self.slot_bytes
        apart = np.flatnonzero(starts[1:] - ends[:-1] > _GAP_BYTES)
        firsts, lasts = np.append(0, apart + 1), np.append(apart, len(starts) - 1)
        for begin, end in zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True):
            for start in range(begin, end, _RANGE_BYTES):
                yield start, min(start + _RANGE_BYTES, end)


class Ahead:
    """The files of some slots, open to be read ahead. Not for two threads at once, but for `stop`.

    Args:
        slots: whose images will be read; those in RAM are left alone.
        how: ``"advise"`` tells the system of ranges, ``"read"`` reads them in threads, ``"auto"`` is the first
            where it works and else the second, ``"off"`` does neither.

    Attributes:
        active: whether anything lies in a file.
    """

    def __init__(self, slots: Slots, how: How = "auto") -> None:
        self._slots = slots
        self._stop = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._advise = hasattr(os, "posix_fadvise") and how != "read"
        self._must_advise = how == "advise"
        self._files: dict[int, _File] = {}
        for number, part in enumerate(slots.parts):
            # A store that has been replaced is read from its mapping alone: what has its name now is another.
            if (descriptor := part.open_file()) is not None:
                images = cast("np.memmap[Any, Any]", part.images)
                mapping = images.base if isinstance(images.base, mmap.mmap) else None
                self._files[number] = _File(descriptor, images.offset, images[:1].nbytes, mapping)
        self.active = bool(self._files) and how != "off"

    def read(self, base: Index, *, probe: bool = True) -> bool:
        """Have slots (see `Slots.base`) brought into memory; return whether any was not there yet.

        It may return before they are there. Errors of the disk are left to who copies the slots. To `probe` is to look
        first whether they are there already: cheap, but of a hole in a file the system says that it is.

        Raises:
            OSError: the system refuses advice that was asked for.
        """
        if self._slots.cache is not None:
            base = self._slots.cache.missing(base)
        cold = False
        for number, rows, _ in self._slots.split(base):
            file = self._files.get(number)
            if file is None or rows.size == 0 or (probe and _resident(file, rows)):
                continue
            cold = True
            for begin, end in file.ranges(rows):
                if self._stop.is_set():
                    return cold
                self._fetch(file.descriptor, begin, end)
        return cold

    def drop(self, base: Index) -> None:
        """Give the pages of slots back to the system, but for those that they share with their neighbors."""
        for number, rows, _ in self._slots.split(base):
            file = self._files.get(number)
            if file is None:
                continue
            for row in np.unique(rows).tolist():
                begin = file.offset + row * file.slot_bytes
                start = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
                size = (begin + file.slot_bytes) // mmap.PAGESIZE * mmap.PAGESIZE - start
                if size > 0:
                    _drop(file, start, size)

    def stop(self) -> None:
        """Let a `read` of another thread end soon."""
        self._stop.set()

    def close(self) -> None:
        """Close the files; no `read` is under way, nor comes."""
        self.stop()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()

    def _fetch(self, descriptor: int, begin: int, end: int) -> None:
        if self._advise:
            try:
                os.posix_fadvise(descriptor, begin, end - begin, os.POSIX_FADV_WILLNEED)
            except OSError:
                if self._must_advise:
                    raise
                self._advise = False
            else:
                return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="arraystore-read")
            self._room = threading.Semaphore(4 * _THREADS)
        for start in range(begin, end, _READ_BYTES):
            self._room.acquire()
            self._pool.submit(self._read, descriptor, start, min(start + _READ_BYTES, end))

    def _read(self, descriptor: int, begin: int, end: int) -> None:
        try:
            if not self._stop.is_set():
                # What is read is thrown away: it is in the system's cache then, and the mapping shows that.
                with contextlib.suppress(OSError):
                    os.pread(descriptor, end - begin, begin)
        finally:
            self._room.release()


def _resident(file: _File, rows: Index) -> bool:
    """Whether a sample of slots is in memory; False where the system does not say."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    sample = rows[:: max(len(rows) // _PROBES, 1)]
    byte = bytearray(1)
    try:
        for row in sample.tolist():
            os.preadv(
                file.descriptor, [byte], file.offset + row * file.slot_bytes + file.slot_bytes // 2, os.RWF_NOWAIT
            )
    except OSError:  # not there, or this file system cannot tell
        return False
    return True


def _drop(file: _File, start: int, size: int) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a system without these calls keeps its cache
        if file.mapping is not None:
            # Pages that a mapping refers to are kept, whatever is advised of the file. The mapping starts at a page.
            first = file.offset - file.offset % mmap.ALLOCATIONGRANULARITY
            file.mapping.madvise(mmap.MADV_DONTNEED, start - first, size)
        os.posix_fadvise(file.descriptor, start, size, os.POSIX_FADV_DONTNEED)
