"""Read slots from disk before they are needed: the order of an epoch is known, so no thread has to wait for the disk.

The first access to a slot in a mapping reads it by page faults, one at a time, while the thread waits. That is a
fraction of the speed of the disk (`benchmarks/read.py`). If the system knows the next slots, it reads many at once.
posix_fadvise for each range, followed by a copy from the mapping, was faster than threads that call pread. The threads
are for systems without posix_fadvise.
"""

import contextlib
import ctypes
import mmap
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import choice_of
from arraystore._reading.options import Ahead
from arraystore._reading.slot_arrays import Array, SlotArrays
from arraystore._stores.encoded.images import EncodedImages
from arraystore.errors import SpecError

_GAP_BYTES = 1 << 16  # reading across a gap of this size costs less than another read
_RANGE_BYTES = 1 << 23  # the largest range of one call, so that `stop` is noticed soon
_PROBES = 16  # slots of a batch that are looked at to see whether all are in memory
_THREADS = 8
_READ_BYTES = 1 << 19

Index = npt.NDArray[np.int64]


def check_ahead(ahead: str) -> None:
    """Check the option ``ahead``.

    Raises:
        SpecError: there is no such value, or this system cannot do it.
    """
    choice_of("ahead", ahead, get_args(Ahead))
    if ahead == "advise" and not hasattr(os, "posix_fadvise"):
        raise SpecError("this system cannot be advised of reads: pass ahead='auto', 'read' or 'off'")


@dataclass(frozen=True, slots=True)
class _File:
    descriptor: int
    offset: int  # of the first byte of the array that has the images
    images: Array | EncodedImages
    mapping: mmap.mmap | None
    address: int  # of the first byte of that array in the mapping

    def spans(self, rows: Index) -> tuple[Index, Index]:
        """Return where slots begin and end in the file."""
        if isinstance(self.images, EncodedImages):
            starts, ends = self.images.spans_inside(rows)
            return starts + self.offset, ends + self.offset
        slot_bytes = self.images[:1].nbytes
        starts = rows * slot_bytes + self.offset
        return starts, starts + slot_bytes

    def ranges(self, rows: Index) -> Iterator[tuple[int, int]]:
        """Yield the byte ranges of slots, ascending; neighbors share a range."""
        starts, ends = self.spans(np.unique(rows))
        apart = np.flatnonzero(starts[1:] - ends[:-1] > _GAP_BYTES)
        firsts, lasts = np.append(0, apart + 1), np.append(apart, len(starts) - 1)
        for begin, end in zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True):
            for start in range(begin, end, _RANGE_BYTES):
                yield start, min(start + _RANGE_BYTES, end)


class ReadAhead:
    """The files of some slots, open for reading ahead. Only `stop` may be called from another thread.

    Args:
        slots: their images are read ahead; arrays in RAM are skipped.
        ahead: ``"advise"`` tells the system which ranges will be read, ``"read"`` reads them in threads, ``"auto"``
            advises where that works and reads otherwise, ``"off"`` does nothing.

    Attributes:
        active: whether there is anything to read ahead.
    """

    def __init__(self, slots: SlotArrays, ahead: Ahead = "auto") -> None:
        self._slots = slots
        self._stop = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._advise = hasattr(os, "posix_fadvise") and ahead != "read"
        self._must_advise = ahead == "advise"
        self._files: dict[int, _File] = {}
        for number, array in enumerate(slots.arrays):
            # If the store has been replaced, its path leads to another file, and only the mapping can be read.
            if (descriptor := array.open_file()) is not None:
                kept = cast("np.memmap[Any, Any]", array.kept)
                mapping = kept.base if isinstance(kept.base, mmap.mmap) else None
                settled = array.settled
                images = settled if isinstance(settled, EncodedImages) else kept
                self._files[number] = _File(descriptor, kept.offset, images, mapping, kept.ctypes.data)
        self.active = bool(self._files) and ahead != "off"

    def read(self, base: Index, *, probe: bool = True) -> bool:
        """Start to bring slots into memory. Errors of the disk are ignored here: copying the slots raises them.

        Args:
            base: int64, (k,): base numbers of the slots; see `SlotArrays`.
            probe: True skips files whose slots seem to be in memory. The check is cheap, but for a hole in a file the
                system says that it is in memory.

        Returns:
            True if a read was started.
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
        """Give the pages of slots back to the system, except for pages that they share with their neighbors."""
        for number, rows, _ in self._slots.split(base):
            file = self._files.get(number)
            if file is None:
                continue
            for begin, end in zip(*map(np.ndarray.tolist, file.spans(np.unique(rows))), strict=True):
                start = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
                size = end // mmap.PAGESIZE * mmap.PAGESIZE - start
                if size > 0:
                    _drop(file, start, size)

    def stop(self) -> None:
        """Make a `read` in another thread return soon."""
        self._stop.set()

    def close(self) -> None:
        """Close the files. No `read` may be running, and none may follow."""
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
                # The bytes are thrown away. They are in the page cache now, where the mapping finds them.
                with contextlib.suppress(OSError):
                    os.pread(descriptor, end - begin, begin)
        finally:
            self._room.release()


def _resident(file: _File, rows: Index) -> bool:
    """Whether a sample of the slots is in memory; False if the system cannot tell."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    starts, ends = file.spans(rows[:: max(len(rows) // _PROBES, 1)])
    middles, byte = ((starts + ends) // 2).tolist(), bytearray(1)
    # A read that may not wait starts to read ahead where nothing is in memory. If the disk is fast enough, the byte is
    # there before the call looks, and one page would stand for a slot that is not in memory.
    if any(_is_absent(file.address + middle - file.offset) for middle in middles):
        return False
    try:
        for middle in middles:
            os.preadv(file.descriptor, [byte], middle, os.RWF_NOWAIT)
    except OSError:  # not in memory, or this file system cannot tell
        return False
    return True


def _is_absent(address: int) -> bool:
    """Whether the page of a mapping is not in memory; False where it is not known: for files of other users."""
    mincore, told = _mincore(), ctypes.create_string_buffer(1)
    return mincore is not None and mincore(address - address % mmap.PAGESIZE, 1, told) == 0 and not told.raw[0] & 1


@cache
def _mincore() -> Any:
    mincore = getattr(ctypes.CDLL(None, use_errno=True), "mincore", None)
    if mincore is not None:
        mincore.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    return mincore


def _drop(file: _File, start: int, size: int) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # without these calls the pages stay
        if file.mapping is not None:
            # The system keeps pages that a mapping refers to, so the mapping lets go first. It starts at a page.
            first = file.offset - file.offset % mmap.ALLOCATIONGRANULARITY
            file.mapping.madvise(mmap.MADV_DONTNEED, start - first, size)
        os.posix_fadvise(file.descriptor, start, size, os.POSIX_FADV_DONTNEED)
