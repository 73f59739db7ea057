"""Fill one run, a contiguous range of slots: read each source, decode it into its slot, return the ledger rows."""

from __future__ import annotations

import logging
import math
import os
import stat
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.lazy import lazy
from arraystore._decoding.hooks import Decoders, decode_by
from arraystore._decoding.memory import MemoryNeededError
from arraystore._format.ledger import ledger_dtype, name_hash
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import FAILED, STORED
from arraystore._sources.given import is_pil_image, pillow_reason
from arraystore._sources.stamps import stamp_of
from arraystore._stores.medium import FilledRun
from arraystore.errors import DecodeError, ManifestError
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    from arraystore._decoding import decode
    from arraystore._kernels import sums
else:  # cv2 and numba take half a second
    decode, sums = lazy("arraystore._decoding.decode"), lazy("arraystore._kernels.sums")

_logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StoredSlot:
    """A source that a finished store holds already in a slot of ``file``.

    The slot's pixels are copied, with the facts on the source: fields of a ledger row and their values. If the pixels
    are damaged, ``source`` is decoded. The reason says why it could not be stored, if it failed; see `FilledRun` for
    the note.
    """

    file: SlotFile
    slot: int
    checksum: int
    facts: Mapping[str, int]
    source: str
    reason: str | None = None
    note: str | None = None

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


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A source that its owner could not give, such as the item of a data set whose own code failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class PillowImage:
    """An image of Pillow. One that cannot be loaded can still be sent to another process, with the reason."""

    image: Any

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            self.image.load()
        except Exception as error:  # noqa: BLE001 - its plugins raise errors of any class
            return Unloaded, (pillow_reason(error),)
        return PillowImage, (self.image,)


Source = str | bytes | Pixels | StoredSlot | Unloaded | PillowImage

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
    # What decoding one image may take. The slot of an image that takes more stays empty, unless it takes more than an
    # image may take that is decoded alone; then it fails.
    memory_bytes: float = math.inf
    most_memory_bytes: float = math.inf
    decoders: Decoders | None = None  # of the caller; see `arraystore.build`


def loaded(load: Callable[[int], Source], slot: int) -> Source:
    """Return the source of a slot. What fails in the caller's own data set concerns that slot alone.

    Raises:
        ManifestError: the source as a whole is not what it said, such as an iterable that ends early.
    """
    try:
        source = load(slot)
        return PillowImage(source) if is_pil_image(source) else source
    except ManifestError:
        raise
    except DecodeError as error:
        return Unloaded(_reason_of(error))
    except Exception as error:
        _logger.info("slot %d: the source failed", slot, exc_info=error)
        return Unloaded(f"the source gave {type(error).__name__}: {error}")


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

    def part(filled: FilledRun, stop: int) -> FilledRun:
        pixels = slots[filled.start - job.start : stop]
        if file is not None and not mapped:
            file.write(filled.start, pixels)
        rows = filled.rows[: stop - (filled.start - job.start)]
        return replace(filled, rows=rows, pixels=pixels if file is None else None)

    rows = np.zeros(count, ledger_dtype(job.spec.channels))
    filled, yielded_s = FilledRun(job.start, rows), time.monotonic()
    for i in range(count):
        first = filled.start - job.start
        if i > first and time.monotonic() - yielded_s > every_s:
            yield part(filled, i)
            filled, yielded_s = FilledRun(job.start + i, rows[i:]), time.monotonic()
        _fill_slot(job, i, slots[i], rows[i], filled)
    yield part(filled, count)


def fill_slots(job: Job, slots: Pixels, stop: threading.Event | None = None) -> FilledRun:
    """Decode each source of a run into its slot. When ``stop`` is set, the remaining slots stay empty (status 0).

    The slot of a source that cannot be stored gets zeros, status 2 and a reason, and the next slot is filled. A slot
    whose image needs more memory than the job allows stays empty too.
    """
    filled = FilledRun(job.start, np.zeros(len(job.sources), ledger_dtype(job.spec.channels)))
    for i in range(len(job.sources)):
        if stop is not None and stop.is_set():
            break
        _fill_slot(job, i, slots[i], filled.rows[i], filled)
    return filled


def fail_slot(job: Job, reason: str) -> FilledRun:
    """Return the result for a run of one slot that no worker could fill: zeros, status 2 and the reason.

    Size and time of the source are 0, as if it had not been read, so a later call with more time or memory tries again.
    """
    rows, pixels = np.zeros(1, ledger_dtype(job.spec.channels)), np.zeros((1, *job.spec.slot_shape), np.uint8)
    rows["checksum"] = xxhash.xxh3_64_intdigest(pixels.data)
    rows["status"] = FAILED
    rows["name"] = _name_of(job.sources[0])
    return FilledRun(job.start, rows, {job.start: reason}, pixels=pixels)


def _fill_slot(job: Job, i: int, slot: Pixels, row: np.void, filled: FilledRun) -> None:
    """Decode source ``i`` of a run; write its ledger row, and the reason if it cannot be stored.

    Whatever goes wrong with one image is that image's reason, so that no image can end a build.
    """
    source = job.sources[i]
    reason = note = None
    row["name"] = _name_of(source)
    try:
        reason, note = _read_into(slot, source, job, row)
    except MemoryNeededError as error:
        row["name"] = 0
        if error.needed_bytes <= job.most_memory_bytes:
            return  # its row is as if untouched: it is filled later, alone
        most = f"{job.most_memory_bytes / 1e9:.2f} GB"
        reason = f"{error}, more than the {most} that images may take (max_memory)"
    except (DecodeError, OSError, MemoryError) as error:
        reason = _reason_of(error)
    except Exception as error:  # noqa: BLE001 - a fault of a decoder, or of this package
        reason = f"internal error: {type(error).__name__}: {error}"
        filled.traces.append(f"slot {job.start + i}: {''.join(traceback.format_exception(error))}")
    if reason is not None:
        slot[...] = 0
        filled.reasons[job.start + i] = reason
    elif note is not None:
        filled.notes[job.start + i] = note
    row["status"] = STORED if reason is None else FAILED
    row["checksum"] = xxhash.xxh3_64_intdigest(slot.data)


def _read_into(slot: Pixels, source: Source, job: Job, row: np.void) -> tuple[str | None, str | None]:
    """Read a source into its slot, write what its row says of the source, and return reason and note."""
    if isinstance(source, StoredSlot) and source.read_into(slot):
        for name, value in source.facts.items():
            row[name] = value
        reason, note = source.reason, source.note
    else:
        reason = None
        try:
            data, row["bytes"], row["mtime"] = read_source(source, job.spec.max_pixels)
        except _RefusedError as error:
            row["bytes"], row["mtime"] = error.stamp  # not tried again before the file changes
            raise
        if isinstance(data, bytes | bytearray | memoryview):
            row["hash"] = xxhash.xxh3_64_intdigest(data)
            if job.decoders:
                pixels = decode_by(job.decoders, _file_name_of(source), data)
                data = data if pixels is None else pixels
        try:
            row["height"], row["width"], note = decode.decode_into(data, slot, job.spec, memory_bytes=job.memory_bytes)
        except MemoryError:
            row["bytes"] = row["mtime"] = row["hash"] = 0  # as if not read: a later call with more memory tries again
            raise
    if reason is None:
        row["sums"] = sums.channel_sums(slot, job.spec.layout)
    return reason, note


def _reason_of(error: DecodeError | OSError | MemoryError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    # A store keeps the reason. An option is written in one way in Python and in another in the command.
    return error.message if error.options else str(error)


def _file_name_of(source: Source) -> str:
    source = source.source if isinstance(source, StoredSlot) else source
    return source if isinstance(source, str) else ""


def _name_of(source: Source) -> int:
    return name_hash(source.source if isinstance(source, StoredSlot) else source)


class _RefusedError(DecodeError):
    """A file is not read, for what its stamp says."""

    def __init__(self, message: str, stamp: tuple[int, int]) -> None:
        super().__init__(message)
        self.stamp = stamp


def read_source(source: Source, max_pixels: int) -> tuple[Any, int, int]:
    """Return the data of a source, its size in bytes, and its time of change in nanoseconds (0 if it is not a file).

    Raises:
        DecodeError: the file is too large, or not a regular file; or the source could not be loaded.
    """
    if isinstance(source, StoredSlot):
        source = source.source
    if isinstance(source, np.ndarray):
        return source, source.nbytes, 0
    if isinstance(source, bytes | bytearray | memoryview):
        return source, len(source), 0
    if isinstance(source, PillowImage):
        return source.image, 0, 0
    if isinstance(source, Unloaded):
        raise DecodeError(source.reason)
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
