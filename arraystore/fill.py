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

__all__ = ["Filled", "Job", "fill_run", "fill_slots"]

Pixels = npt.NDArray[np.uint8]
Source = str | bytes | Pixels

# The largest pixel that is decoded (four samples of 16 bits), and room for colour profiles, previews and texts.
_PIXEL_BYTES = 8
_BESIDE_PIXELS_BYTES = 1 << 28


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
    """Fill a run from another process: map the slots' file, or send the pixels back.

    Raises:
        FormatError: the file is too short for the slots that it should hold.
    """
    count = len(job.sources)
    if job.file is None:
        pixels = np.empty((count, *job.spec.slot_shape), np.uint8)
        filled = fill_slots(job, pixels)
        filled.pixels = pixels
        return filled
    return fill_slots(job, job.file.map(writable=True, start=job.start, count=count).view(np.ndarray))


def fill_slots(job: Job, slots: Pixels, stop: threading.Event | None = None) -> Filled:
    """Decode each source of a run into its slot.

    A source that cannot be stored leaves its slot zeroed, status 2 and a reason; it never stops the others.

    Args:
        job: the run.
        slots: uint8, (count, *slot_shape); overwritten.
        stop: when set, the rest of the run is left empty (status 0).
    """
    # Imported here because reading a store needs no decoder: cv2 and numba take half a second.
    from arraystore.decode import decode_into  # noqa: PLC0415
    from arraystore.stats import channel_sums  # noqa: PLC0415

    filled = Filled(job.start, np.zeros(len(job.sources), ledger_dtype(job.spec.channels)))
    for i, source in enumerate(job.sources):
        if stop is not None and stop.is_set():
            break
        slot, row = slots[i], filled.rows[i]
        try:
            data, row["bytes"], row["mtime"] = _read(source, job.spec.max_pixels * _PIXEL_BYTES + _BESIDE_PIXELS_BYTES)
            row["height"], row["width"] = decode_into(data, slot, job.spec)
            row["sums"] = channel_sums(slot, job.spec.layout)
            row["status"] = STORED
        except (DecodeError, OSError, MemoryError) as error:
            slot[...] = 0
            row["status"] = FAILED
            filled.reasons[job.start + i] = _reason(error)
        except Exception as error:
            error.add_note(f"slot {job.start + i} ← {source if isinstance(source, str) else type(source).__name__}")
            raise
        row["checksum"] = xxhash.xxh3_64_intdigest(slot)
    return filled


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)


def _read(source: Source, most_bytes: int) -> tuple[bytes | Pixels, int, int]:
    """The source's data, its size in bytes and its time of change in nanoseconds (0 for what is no file)."""
    if isinstance(source, np.ndarray):
        return source, source.nbytes, 0
    if isinstance(source, bytes | bytearray | memoryview):
        return source, len(source), 0
    info = os.stat(source)  # noqa: PTH116 - a Path costs as much again, for each image
    if not stat.S_ISREG(info.st_mode):  # opening a FIFO would wait for ever, opening a device may do anything
        raise DecodeError("not a regular file")
    if info.st_size > most_bytes:  # a file with holes may claim any size, and takes no room but in memory
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
