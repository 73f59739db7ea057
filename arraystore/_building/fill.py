"""Fill one run, a contiguous range of slots: read each source, decode it into its slot, return the ledger rows."""

from __future__ import annotations

import math
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.lazy import lazy
from arraystore._format.ledger import ledger_dtype, name_hash
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import FAILED, STORED
from arraystore._sources.stamps import stamp_of
from arraystore._stores.medium import FilledRun
from arraystore.errors import DecodeError
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    from arraystore._decoding import decode
    from arraystore._kernels import sums
else:  # cv2 and numba take half a second
    decode, sums = lazy("arraystore._decoding.decode"), lazy("arraystore._kernels.sums")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StoredSlot:
    """A source that a finished store holds already in a slot of ``file``.

    The slot's pixels are copied, with the facts on the source: fields of a ledger row and their values. If the pixels
    are damaged, ``source`` is decoded. The reason says why it could not be stored, if it failed.
    """

    file: SlotFile
    slot: int
    checksum: int
    facts: Mapping[str, int]
    source: str
    reason: str | None = None

    def read_into(self, slot: Pixels) -> bool:
        """Read the pixels into ``slot``, C-order, and return whether they have their checksum."""
        try:
            descriptor = os.open(self.file.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                read = os.preadv(descriptor, [slot.data.cast("B")], self.file.byte_of(self.slot))
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return read == slot.nbytes and xxhash.xxh3_64_intdigest(slot.data) == self.checksum


Source = str | bytes | Pixels | StoredSlot

# The largest file of an image: its pixels, of at most four samples of 16 bits, and color profiles, previews and texts.
_PIXEL_LIMIT_BYTES = 8
_METADATA_LIMIT_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Job:
    """One run to fill, from slot ``start`` on, with everything that a worker in another process needs."""

    start: int
    sources: Sequence[Source]
    spec: ImageSpec
    file: SlotFile | None = None  # None if another process must send the pixels back


def load_decoders() -> None:
    """Import and compile everything that filling a slot needs, so that the first image takes no longer than others."""
    _ = decode.decode_into, sums.channel_sums


def fill_run(job: Job) -> FilledRun:
    """Fill a run in another process; without a file, the pixels are part of the result."""
    (filled,) = fill_parts(job, math.inf)
    return filled


def fill_parts(job: Job, every_s: float) -> Iterator[FilledRun]:
    """Fill a run as `fill_run` does, and yield the part that is done whenever ``every_s`` seconds have passed.

    If the parts stop, their receiver then knows which slot was in progress, provided that the images are slow.
    """
    count, file = len(job.sources), job.file
    mapped = file is not None and file.reserved  # see `SlotFile`
    if file is not None and mapped:
        slots = file.map(writable=True, start=job.start, count=count).view(np.ndarray)
    else:
        slots = np.empty((count, *job.spec.slot_shape), np.uint8)
    rows = np.zeros(count, ledger_dtype(job.spec.channels))

    def part(first: int, stop: int) -> FilledRun:
        if file is not None and not mapped:
            file.write(job.start + first, slots[first:stop])
        return FilledRun(job.start + first, rows[first:stop], reasons, slots[first:stop] if file is None else None)

    first, reasons, yielded_s = 0, dict[int, str](), time.monotonic()
    for i in range(count):
        if i > first and time.monotonic() - yielded_s > every_s:
            yield part(first, i)
            first, reasons, yielded_s = i, {}, time.monotonic()
        _fill_slot(job, i, slots[i], rows[i], reasons)
    yield part(first, count)


def fill_slots(job: Job, slots: Pixels, stop: threading.Event | None = None) -> FilledRun:
    """Decode each source of a run into its slot. When ``stop`` is set, the remaining slots stay empty (status 0).

    The slot of a source that cannot be stored gets zeros, status 2 and a reason, and the next slot is filled.
    """
    filled = FilledRun(job.start, np.zeros(len(job.sources), ledger_dtype(job.spec.channels)))
    for i in range(len(job.sources)):
        if stop is not None and stop.is_set():
            break
        _fill_slot(job, i, slots[i], filled.rows[i], filled.reasons)
    return filled


def fail_slot(job: Job, reason: str) -> FilledRun:
    """Return the result for a run of one slot that no worker could fill: zeros, status 2 and the reason.

    Size and time of the source are 0, as if it had not been read, so a later call with more time or memory tries again.
    """
    rows, pixels = np.zeros(1, ledger_dtype(job.spec.channels)), np.zeros((1, *job.spec.slot_shape), np.uint8)
    rows["checksum"] = xxhash.xxh3_64_intdigest(pixels.data)
    rows["status"] = FAILED
    rows["name"] = _name_of(job.sources[0])
    return FilledRun(job.start, rows, {job.start: reason}, pixels)


def _fill_slot(job: Job, i: int, slot: Pixels, row: np.void, reasons: dict[int, str]) -> None:
    """Decode source ``i`` of a run; write its ledger row, and the reason if it cannot be stored."""
    source = job.sources[i]
    reason = None
    row["name"] = _name_of(source)
    try:
        if isinstance(source, StoredSlot) and source.read_into(slot):
            for name, value in source.facts.items():
                row[name] = value
            reason = source.reason
        else:
            data, row["bytes"], row["mtime"] = read_source(source, job.spec.max_pixels)
            if not isinstance(data, np.ndarray):
                row["hash"] = xxhash.xxh3_64_intdigest(data)
            row["height"], row["width"] = decode.decode_into(data, slot, job.spec)
        if reason is None:
            row["sums"] = sums.channel_sums(slot, job.spec.layout)
    except (DecodeError, OSError, MemoryError) as error:
        slot[...] = 0
        reason = _reason_of(error)
        if isinstance(error, _RefusedError):
            row["bytes"], row["mtime"] = error.stamp  # not tried again before the file changes
        if isinstance(error, MemoryError):
            row["bytes"] = row["mtime"] = 0  # as if not read, so a later call with more memory tries again
    except Exception as error:
        error.add_note(f"slot {job.start + i} ← {source if isinstance(source, str) else type(source).__name__}")
        raise
    row["status"] = STORED if reason is None else FAILED
    row["checksum"] = xxhash.xxh3_64_intdigest(slot.data)
    if reason is not None:
        reasons[job.start + i] = reason


def _reason_of(error: DecodeError | OSError | MemoryError) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    return f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def _name_of(source: Source) -> int:
    return name_hash(source.source if isinstance(source, StoredSlot) else source)


class _RefusedError(DecodeError):
    """A file is not read, for what its stamp says."""

    def __init__(self, message: str, stamp: tuple[int, int]) -> None:
        super().__init__(message)
        self.stamp = stamp


def read_source(source: Source, max_pixels: int) -> tuple[bytes | Pixels, int, int]:
    """Return the data of a source, its size in bytes, and its time of change in nanoseconds (0 if it is not a file).

    Raises:
        DecodeError: the file is too large, or not a regular file.
    """
    if isinstance(source, StoredSlot):
        source = source.source
    if isinstance(source, np.ndarray):
        return source, source.nbytes, 0
    if isinstance(source, bytes | bytearray | memoryview):
        return source, len(source), 0
    info = os.stat(source)
    if not stat.S_ISREG(info.st_mode):  # to open a FIFO would wait for ever, to open a device may do anything
        raise DecodeError("not a regular file")
    # A sparse file may have any size without taking space on the volume; in memory it would take all of it.
    size, mtime = stamp_of(info)
    if size > max_pixels * _PIXEL_LIMIT_BYTES + _METADATA_LIMIT_BYTES:
        raise _RefusedError(f"a file of {size:,} bytes, more than an image of max_pixels can have", (size, mtime))
    # O_NONBLOCK in case a FIFO has just taken the place of the file: to open it would wait for ever.
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = os.read(descriptor, size + 1)
        while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    return data, len(data), mtime
