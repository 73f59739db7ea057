"""What a worker does: read the sources of one run, decode each into its slot, and say how it went.

A run is a contiguous range of slots. The result is small (a ledger row a slot), so a process sends back only that;
the pixels are in the file that it mapped itself.
"""

from __future__ import annotations

import math
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._format.ledger import ledger_dtype
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import FAILED, STORED
from arraystore._stores.medium import FilledRun
from arraystore.errors import DecodeError
from arraystore.spec import ImageSpec

__all__ = ["Job", "StoredSlot", "fail_slot", "fill_parts", "fill_run", "fill_slots", "read_source"]


Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StoredSlot:
    """A source that is in a finished store already: its pixels are taken over, if they are still what was stored.

    Attributes:
        file: where that store's slots lie.
        slot: which one.
        checksum: xxh3_64 of its bytes.
        height: of the upright image, in pixels.
        width: likewise.
        bytes: of the encoded source.
        mtime: when the source changed, in nanoseconds.
        hash: xxh3_64 of the encoded source.
        source: the path to decode where the pixels are damaged.
        reason: why the slot failed, or None.
    """

    file: SlotFile
    slot: int
    checksum: int
    height: int
    width: int
    bytes: int
    mtime: int
    hash: int
    source: str
    reason: str | None = None

    def read_into(self, slot: Pixels) -> bool:
        """Read the pixels into ``slot``, C-order, and return whether they are whole."""
        try:
            with open(self.file.path, "rb", buffering=0) as file:  # noqa: PTH123 - see read_source
                read = os.preadv(file.fileno(), [slot.data.cast("B")], self.file.byte_of(self.slot))
        except OSError:
            return False
        return read == slot.nbytes and xxhash.xxh3_64_intdigest(slot.data) == self.checksum


Source = str | bytes | Pixels | StoredSlot

# The largest pixel that is decoded (four samples of 16 bits), and room for color profiles, previews and texts.
_PIXEL_BYTES = 8
_BESIDE_PIXELS_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Job:
    """One run to fill: everything that a worker in another process needs.

    Attributes:
        start: the run's first slot.
        sources: one a slot: a path, encoded bytes, pixels, or a slot of a finished store.
        spec: how images become slots.
        file: where the slots lie, for a worker that maps them itself; None to have the pixels sent back.
    """

    start: int
    sources: Sequence[Source]
    spec: ImageSpec
    file: SlotFile | None = None


def fill_run(job: Job) -> FilledRun:
    """Fill a run from another process: map the slots' file, or write it if it must not be mapped, or send pixels back.

    Raises:
        FormatError: the file is too short for the slots that it should hold.
        OSError: the volume is full or failed.
    """
    (filled,) = fill_parts(job, math.inf)
    return filled


def fill_parts(job: Job, every_s: float) -> Iterator[FilledRun]:
    """Fill a run as `fill_run` does, and give what is done each time that ``every_s`` seconds have gone by.

    So whoever waits for the parts knows what was in progress if they stop: one slot, where images are slow.

    Raises:
        FormatError: the file is too short for the slots that it should hold.
        OSError: the volume is full or failed.
    """
    count, file = len(job.sources), job.file
    mapped = file is not None and file.reserved
    if file is not None and mapped:
        slots = file.map(writable=True, start=job.start, count=count).view(np.ndarray)
    else:
        slots = np.empty((count, *job.spec.slot_shape), np.uint8)
    rows = np.zeros(count, ledger_dtype(job.spec.channels))

    def part(first: int, stop: int) -> FilledRun:
        if file is not None and not mapped:
            file.write(job.start + first, slots[first:stop])
        return FilledRun(job.start + first, rows[first:stop], reasons, slots[first:stop] if file is None else None)

    first, reasons, given_s = 0, dict[int, str](), time.monotonic()
    for i in range(count):
        if i > first and time.monotonic() - given_s > every_s:
            yield part(first, i)
            first, reasons, given_s = i, {}, time.monotonic()
        _fill_slot(job, i, slots[i], rows[i], reasons)
    yield part(first, count)


def fill_slots(job: Job, slots: Pixels, stop: threading.Event | None = None) -> FilledRun:
    """Decode each source of a run into its slot.

    A source that cannot be stored leaves its slot zeroed, status 2 and a reason; it never stops the others.

    Args:
        job: the run.
        slots: uint8, (count, *slot_shape); overwritten.
        stop: when set, the rest of the run is left empty (status 0).
    """
    filled = FilledRun(job.start, np.zeros(len(job.sources), ledger_dtype(job.spec.channels)))
    for i in range(len(job.sources)):
        if stop is not None and stop.is_set():
            break
        _fill_slot(job, i, slots[i], filled.rows[i], filled.reasons)
    return filled


def fail_slot(job: Job, reason: str) -> FilledRun:
    """Settle a run of one slot that no worker could fill: pixels of zeros, status 2 and the reason.

    Size and time of the source stay 0, as if it was not read: a later call, with more time or memory, tries again.
    """
    rows, pixels = np.zeros(1, ledger_dtype(job.spec.channels)), np.zeros((1, *job.spec.slot_shape), np.uint8)
    rows["checksum"] = xxhash.xxh3_64_intdigest(pixels.data)
    rows["status"] = FAILED
    return FilledRun(job.start, rows, {job.start: reason}, pixels)


def _fill_slot(job: Job, i: int, slot: Pixels, row: np.void, reasons: dict[int, str]) -> None:
    """Decode source ``i`` of a run; fill in its ledger row, and the reason if it failed."""
    # Imported here because reading a store needs no decoder: cv2 and numba take half a second.
    from arraystore._decoding.decode import decode_into  # noqa: PLC0415
    from arraystore._kernels.sums import channel_sums  # noqa: PLC0415

    source = job.sources[i]
    reason = None
    try:
        if isinstance(source, StoredSlot) and source.read_into(slot):
            for name in ("height", "width", "bytes", "mtime", "hash"):
                row[name] = getattr(source, name)
            reason = source.reason
        else:
            data, row["bytes"], row["mtime"] = read_source(source, job.spec.max_pixels)
            if not isinstance(data, np.ndarray):
                row["hash"] = xxhash.xxh3_64_intdigest(data)
            row["height"], row["width"] = decode_into(data, slot, job.spec)
        if reason is None:
            row["sums"] = channel_sums(slot, job.spec.layout)
    except (DecodeError, OSError, MemoryError) as error:
        slot[...] = 0
        reason = _reason(error)
        if isinstance(error, MemoryError):
            row["bytes"] = row["mtime"] = 0  # as if not read: a later call, with more memory, tries again
    except Exception as error:
        error.add_note(f"slot {job.start + i} ← {source if isinstance(source, str) else type(source).__name__}")
        raise
    row["status"] = STORED if reason is None else FAILED
    row["checksum"] = xxhash.xxh3_64_intdigest(slot.data)
    if reason is not None:
        reasons[job.start + i] = reason


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)


def read_source(source: Source, max_pixels: int) -> tuple[bytes | Pixels, int, int]:
    """Return the source's data, its size in bytes and its time of change in nanoseconds (0 for what is no file).

    Args:
        source: what to read; data is returned as it is.
        max_pixels: of the spec; a file that is larger than any image of so many pixels is not read.

    Raises:
        DecodeError: it is not a regular file, or too large.
        OSError: it cannot be read.
    """
    if isinstance(source, StoredSlot):
        source = source.source
    if isinstance(source, np.ndarray):
        return source, source.nbytes, 0
    if isinstance(source, bytes | bytearray | memoryview):
        return source, len(source), 0
    info = os.stat(source)  # noqa: PTH116 - a Path costs as much again, for each image
    if not stat.S_ISREG(info.st_mode):  # opening a FIFO would wait for ever, opening a device may do anything
        raise DecodeError("not a regular file")
    # A file with holes may claim any size, and takes no room but in memory.
    if info.st_size > max_pixels * _PIXEL_BYTES + _BESIDE_PIXELS_BYTES:
        raise DecodeError(f"a file of {info.st_size:,} bytes, more than an image of max_pixels can have")
    # Without O_NONBLOCK, a FIFO that has just taken the file's place would keep this waiting.
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = os.read(descriptor, info.st_size + 1)
        while len(data) < info.st_size and (more := os.read(descriptor, info.st_size + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    return data, len(data), info.st_mtime_ns
