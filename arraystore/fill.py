"""What a worker does: read the sources of one run, decode each into its slot, and say how it went.

A run is a contiguous range of slots. The result is small (a ledger row a slot), so a process sends back only that;
the pixels are in the file that it mapped itself.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore.errors import DecodeError
from arraystore.format import FAILED, STORED, SlotFile, ledger_dtype
from arraystore.spec import ImageSpec

__all__ = ["Filled", "Job", "StoredSlot", "fill_run", "fill_slots"]

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
            with open(self.file.path, "rb", buffering=0) as file:  # noqa: PTH123 - see _read
                read = os.preadv(file.fileno(), [slot.data.cast("B")], self.file.byte_of(self.slot))
        except OSError:
            return False
        return read == slot.nbytes and xxhash.xxh3_64_intdigest(slot.data) == self.checksum


Source = str | bytes | Pixels | StoredSlot


@dataclass(frozen=True, slots=True)
class Job:
    """One run to fill: everything that a worker in another process needs.

    Attributes:
        start: the run's first slot.
        sources: one a slot: a path, encoded bytes, or pixels.
        spec: how images become slots.
        file: where the slots lie, for a worker that maps them itself; None to have the pixels sent back.
    """

    start: int
    sources: Sequence[Source]
    spec: ImageSpec
    file: SlotFile | None = None


@dataclass(slots=True)
class Filled:
    """How a run went.

    Attributes:
        start: the run's first slot.
        rows: one ledger row a slot (`arraystore.format.ledger_dtype`).
        reasons: slot → why it failed.
        pixels: the slots themselves where the worker could not write them in place.
    """

    start: int
    rows: npt.NDArray[np.void]
    reasons: dict[int, str] = field(default_factory=dict)
    pixels: Pixels | None = None


def fill_run(job: Job) -> Filled:
    """Fill a run from another process, or where slots must not be mapped: map or write them, or send the pixels back.

    Raises:
        FormatError: the file is too short for the slots that it should hold.
        OSError: the volume is full or failed.
    """
    count = len(job.sources)
    if job.file is not None and job.file.reserved:
        return fill_slots(job, job.file.map(writable=True, start=job.start, count=count).view(np.ndarray))
    pixels = np.empty((count, *job.spec.slot_shape), np.uint8)
    filled = fill_slots(job, pixels)
    if job.file is None:
        filled.pixels = pixels
    else:
        job.file.write(job.start, pixels)
    return filled


def fill_slots(job: Job, slots: Pixels, stop: threading.Event | None = None) -> Filled:
    """Decode each source of a run into its slot.

    A source that cannot be stored leaves its slot zeroed, status 2 and a reason; it never stops the others.

    Args:
        job: the run.
        slots: uint8, (count, *slot_shape); overwritten.
        stop: when set, the rest of the run is left empty (status 0).
    """
    filled = Filled(job.start, np.zeros(len(job.sources), ledger_dtype(job.spec.channels)))
    for i, source in enumerate(job.sources):
        if stop is not None and stop.is_set():
            break
        try:
            reason = _fill_slot(source, slots[i], filled.rows[i], job.spec)
        except Exception as error:
            error.add_note(f"slot {job.start + i} ← {source if isinstance(source, str) else type(source).__name__}")
            raise
        if reason is not None:
            filled.reasons[job.start + i] = reason
    return filled


def _fill_slot(source: Source, slot: Pixels, row: np.void, spec: ImageSpec) -> str | None:
    """Fill one slot and its row; return why that failed, or None."""
    # Imported here because reading a store needs no decoder: cv2 and numba take half a second.
    from arraystore.decode import decode_into  # noqa: PLC0415
    from arraystore.stats import channel_sums  # noqa: PLC0415

    reason = None
    try:
        if isinstance(source, StoredSlot) and source.read_into(slot):
            for name in ("height", "width", "bytes", "mtime", "hash"):
                row[name] = getattr(source, name)
            reason = source.reason
        else:
            data, row["bytes"], row["mtime"] = _read(source.source if isinstance(source, StoredSlot) else source)
            if not isinstance(data, np.ndarray):
                row["hash"] = xxhash.xxh3_64_intdigest(data)
            row["height"], row["width"] = decode_into(data, slot, spec)
        row["sums"] = 0 if reason else channel_sums(slot, spec.layout)
        row["status"] = FAILED if reason else STORED
    except (DecodeError, OSError, MemoryError) as error:
        slot[...] = 0
        reason = _reason(error)
        row["status"] = FAILED
        if isinstance(error, MemoryError):
            row["bytes"] = row["mtime"] = 0  # as if not read: a later call, with more memory, tries again
    row["checksum"] = xxhash.xxh3_64_intdigest(slot.data)
    return reason


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)


def _read(source: str | bytes | Pixels) -> tuple[bytes | Pixels, int, int]:
    """The source's data, its size in bytes and its time of change in nanoseconds (0 for what is no file)."""
    if isinstance(source, np.ndarray):
        return source, source.nbytes, 0
    if isinstance(source, bytes | bytearray | memoryview):
        return source, len(source), 0
    info = os.stat(source)  # noqa: PTH116 - a Path costs as much again, for each image
    if not stat.S_ISREG(info.st_mode):  # opening a FIFO would wait for ever, opening a device may do anything
        raise DecodeError("not a regular file")
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, info.st_size + 1)
        while len(data) < info.st_size and (more := os.read(descriptor, info.st_size + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    return data, len(data), info.st_mtime_ns
