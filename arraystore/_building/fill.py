"""Fill one run, a contiguous range of slots: read each source, decode it into its slot, return the ledger rows."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._building.bad import failure_of
from arraystore._building.masks import HeldMask, MaskJob, SlotMasks, held_mask
from arraystore._building.sides import Sides, check_sides, note_on_turn
from arraystore._building.workers.reading import RefusedError, Source, StoredSlot, file_name_of, read_source
from arraystore._common.lazy import lazy
from arraystore._decoding.hooks import Decoders, decode_by
from arraystore._decoding.memory import MemoryNeededError
from arraystore._format.ledger import ledger_dtype, name_hash, side_fields
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import FAILED, STORED
from arraystore._sources.kinds.slots import KeptSlot
from arraystore._sources.targets.mask_sources import MaskSource
from arraystore._sources.targets.own_columns import MASK_FIELDS
from arraystore._stores.medium import FilledRun
from arraystore.errors import DecodeError
from arraystore.spec import ImageSpec, Jpeg

if TYPE_CHECKING:
    from arraystore._decoding import decode, header
    from arraystore._decoding.decode import Decoded
    from arraystore._decoding.encoding import writers
    from arraystore._decoding.jpeg import restarting
    from arraystore._kernels import sums
else:  # cv2 and numba take half a second
    decode, header = lazy("arraystore._decoding.decode"), lazy("arraystore._decoding.header")
    sums, restarting = lazy("arraystore._kernels.sums"), lazy("arraystore._decoding.jpeg.restarting")
    writers = lazy("arraystore._decoding.encoding.writers")

_logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]
Run = TypeVar("Run", bound=FilledRun)


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
    masks: MaskJob | None = None
    sides: Mapping[int, Sides] = field(default_factory=dict)  # of some slots, also of other runs; see `Manifest`
    pixels: ImageSpec = field(init=False)  # how images are decoded, also where their slots are encoded afterwards

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", self.spec.decoded)

    def empty_run(self) -> FilledRun:
        """Return the result of this job before anything is filled."""
        masks = () if self.masks is None else self.masks.empty(len(self.sources), self.spec)
        rows = np.zeros(len(self.sources), ledger_dtype(self.spec, masked=self.masks is not None))
        encoded = [] if self.spec.encode is None else [b""] * len(self.sources)
        return FilledRun(self.start, rows, masks=masks, encoded=encoded)

    def masks_of(self, slot: int, filled: FilledRun) -> SlotMasks:
        """Return the masks of a slot, which become part of a result."""
        if self.masks is None:
            return SlotMasks()
        arrays = [array[slot - filled.start] for array in filled.masks]
        return SlotMasks(self.masks.dtypes, self.masks.sources[slot], arrays, self.spec.one_shape)

    # How a job gets at images. A job that shares them with others does it in other ways.
    def read(self, source: Source) -> tuple[Any, int, int]:
        """See `read_source`."""
        return read_source(source, self.spec.max_pixels)

    def decoded_by_caller(self, source: Source, data: Any) -> Any:
        """Return what the decoders of the caller make of a file, or None."""
        return decode_by(self.decoders, file_name_of(source), data) if self.decoders else None

    def decode(self, data: Any, slot: Pixels) -> tuple[Pixels, Decoded]:
        """Decode an image into a slot, and return the slot, which is another array where it has sides of its own."""
        if self.spec.one_shape:
            return slot, decode.decode_into(data, slot, self.pixels, memory_bytes=self.memory_bytes)
        return decode.decode_kept(data, self.pixels, memory_bytes=self.memory_bytes)

    def mask(self, source: MaskSource, image: tuple[int, int]) -> HeldMask:
        """Read and decode a mask of an image of this height and width."""
        limit = self.spec.max_pixels
        return held_mask(source, lambda mask: bytes(read_source(mask, limit)[0]), self.spec, image, self.memory_bytes)

    # What pools call. A job of another kind does other work in these.
    @property
    def slot_files(self) -> tuple[SlotFile, ...]:
        """The files of slots that its worker writes."""
        return () if self.file is None else (self.file,)

    def parts(self, every_s: float) -> Iterator[FilledRun]:
        """See `fill_parts`."""
        return fill_parts(self, every_s)

    def fill(self, slots: Pixels, stop: threading.Event) -> FilledRun:
        """See `fill_slots`; ``slots`` are all of the build, or none where slots are encoded."""
        own = slots[self.start : self.start + len(self.sources)] if self.spec.encode is None else self.scratch()
        return fill_slots(self, own, stop)

    def scratch(self) -> Pixels:
        """Return memory for the pixels of slots before they are encoded: of one, which all use.

        Slots that differ in shape have memory of their own, and do not use it.
        """
        return np.zeros((1, *(side or 0 for side in self.pixels.slot_shape)), np.uint8)

    def failed(self, reason: str) -> FilledRun:
        """See `fail_slot`."""
        return fail_slot(self, reason)


def load_decoders() -> None:
    """Import and compile everything that filling a slot needs, so that the first image takes no longer than others."""
    _ = decode.decode_into, sums.channel_sums


def fill_run(job: Job) -> FilledRun:
    """Fill a run in another process; without a file, the pixels are part of the result."""
    (filled,) = job.parts(math.inf)
    return filled


def fill_parts(job: Job, every_s: float) -> Iterator[FilledRun]:
    """Fill a run as `fill_run` does, and yield the part that is done whenever ``every_s`` seconds have passed.

    If the parts stop, their receiver then knows which slot was in progress, provided that the images are slow.
    """
    slots = room_of(job)

    def fill(i: int, row: np.void, filled: FilledRun) -> None:
        fill_slot(job, i, slots[i % len(slots)], row, filled)

    for filled in timed_parts(job.empty_run(), fill, every_s):
        yield delivered(job, filled, slots)


def room_of(job: Job) -> Pixels:
    """Return where another process writes the pixels of a run: in the file of the slots, or in memory.

    Where slots are encoded, all of them use the memory of one.
    """
    if job.spec.encode is not None:
        return job.scratch()
    if job.file is not None and job.file.reserved:  # see `SlotFile`
        return job.file.map(writable=True, start=job.start, count=len(job.sources)).view(np.ndarray)
    return np.empty((len(job.sources), *job.spec.slot_shape), np.uint8)


def delivered(job: Job, filled: FilledRun, slots: Pixels) -> FilledRun:
    """Return a part of a run as it goes to the process that has the ledger: with its pixels, if nobody wrote them.

    Args:
        job: of the run.
        filled: the part.
        slots: from `room_of`.
    """
    if job.spec.encode is not None or (job.file is not None and job.file.reserved):
        return filled
    first = filled.start - job.start
    pixels = slots[first : first + len(filled.rows)]
    if job.file is not None:
        job.file.write(filled.start, pixels)
    return replace(filled, pixels=pixels if job.file is None else None)


def timed_parts(whole: Run, fill: Callable[[int, np.void, Run], None], every_s: float) -> Iterator[Run]:
    """Fill a run, and yield the part that is done whenever ``every_s`` seconds have passed.

    Args:
        whole: the result before anything is filled.
        fill: fills one slot: which of the run, its row, and the part that it belongs to.
        every_s: see `fill_parts`.
    """
    filled, yielded_s = whole, time.monotonic()
    for i in range(len(whole.rows)):
        done = whole.start + i - filled.start
        if done and time.monotonic() - yielded_s > every_s:
            yield filled.until(done)
            filled = whole.since(i)
            yielded_s = time.monotonic()
        fill(i, whole.rows[i], filled)
    yield filled


def fill_slots(job: Job, slots: Pixels, stop: threading.Event | None = None) -> FilledRun:
    """Decode each source of a run into its slot. When ``stop`` is set, the remaining slots stay empty (status 0).

    The slot of a source that cannot be stored gets zeros, status 2 and a reason, and the next slot is filled. A slot
    whose image needs more memory than the job allows stays empty too.
    """
    filled = job.empty_run()
    for i in range(len(job.sources)):
        if stop is not None and stop.is_set():
            break
        fill_slot(job, i, slots[i % len(slots)], filled.rows[i], filled)
    return filled


def fail_slot(job: Job, reason: str) -> FilledRun:
    """Return the result for a run of one slot that no worker could fill: zeros, status 2 and the reason.

    Size and time of the source are 0, as if it had not been read, so a later call with more time or memory tries again.
    """
    filled, pixels = job.empty_run(), job.scratch()
    masks, row = job.masks_of(job.start, filled), filled.rows[0]
    row["name"] = _name_of(job.sources[0], masks.sources)
    _settle(job, job.start, row, pixels[0], b"", masks, filled, failed=True)
    return replace(filled, reasons={job.start: reason}, pixels=pixels if job.spec.encode is None else None)


def fill_slot(job: Job, i: int, slot: Pixels, row: np.void, filled: FilledRun) -> None:
    """Decode source ``i`` of a run; write its ledger row, and the reason if it cannot be stored.

    Whatever goes wrong with one image is that image's reason, so that no image can end a build.
    """
    source, masks = job.sources[i], job.masks_of(job.start + i, filled)
    reason = note = None
    jpeg = b""
    row["name"] = _name_of(source, masks.sources)
    try:
        if masks.sources:
            row["mask_stamp"] = masks.stamp()  # before they are read: what changes meanwhile is tried again
        sides = job.sides.get(job.start + i)
        if job.spec.encode is None:
            reason, note, *_ = _read_into(slot, masks, source, job, row, sides)
        else:
            reason, note, jpeg = _encode(slot, masks, source, job, row, sides)
    except Exception as error:  # no image ends a build
        if isinstance(error, MemoryNeededError):
            row["name"] = 0
        reason = failure_of(error, job.start + i, job.most_memory_bytes, filled)
        if reason is None:
            return  # its row is as if untouched: it is filled later, alone
    if reason is not None:
        filled.reasons[job.start + i] = reason
    elif note is not None:
        filled.notes[job.start + i] = note
    _settle(job, job.start + i, row, slot, jpeg, masks, filled, failed=reason is not None)


def _settle(
    job: Job, number: int, row: np.void, slot: Pixels, jpeg: bytes, masks: SlotMasks, filled: FilledRun, *, failed: bool
) -> None:
    """Write the status of a slot and the checksums of what it contains and of its masks; a failed slot is cleared."""
    row["status"] = FAILED if failed else STORED
    if failed:
        slot[...] = 0
        jpeg, row["sums"] = b"", 0
        masks.clear()
        for name in side_fields(job.spec):
            row[name] = 0
    if job.spec.encode is None:
        row["checksum"] = xxhash.xxh3_64_intdigest(slot.data)
    else:
        row["checksum"] = xxhash.xxh3_64_intdigest(jpeg)
        filled.encoded[number - filled.start] = jpeg + masks.after_jpeg()
    if masks.sources:
        row["mask_checksum"] = masks.checksum()


def _read_into(
    slot: Pixels, masks: SlotMasks, source: Source, job: Job, row: np.void, sides: Sides | None
) -> tuple[str | None, str | None, Pixels, bytes]:
    """Read a source into its slot and masks, and write what its row says of both.

    Returns:
        reason and note; the slot, which is another array where it has sides of its own; and the bytes of the source
        where these are kept as they are, or none.
    """
    reason, note, jpeg = None, None, b""
    if isinstance(source, KeptSlot):
        if not job.spec.one_shape:
            slot = source.own_slot(job.pixels)
        is_taken = not masks.sources and source.read_into(slot, job.pixels.layout)
    else:
        is_taken = isinstance(source, StoredSlot) and source.read_into(slot, masks)
    if not is_taken:
        slot, note, jpeg = _decode(slot, masks, source, job, row, sides)
    if isinstance(source, KeptSlot) or (isinstance(source, StoredSlot) and is_taken):
        reason, note = source.reason, note or source.note
        for name, value in source.facts.items():
            row[name] = value
    if reason is None:
        _check_sides(row, masks, sides)
        row["sums"] = sums.channel_sums(slot, job.pixels.layout)
    return reason, note, slot, jpeg


def _check_sides(row: np.void, masks: SlotMasks, sides: Sides | None) -> None:
    try:
        check_sides((int(row["height"]), int(row["width"])), sides)
    except DecodeError:
        _forget(row, masks)  # the source of the coordinates may be mended, and then a later call tries again
        raise


def _encode(
    slot: Pixels, masks: SlotMasks, source: Source, job: Job, row: np.void, sides: Sides | None
) -> tuple[str | None, str | None, bytes]:
    """Do as `_read_into`, with ``slot`` as memory for the pixels, and return the slot's JPEG in place of its pixels."""
    if isinstance(source, StoredSlot):
        jpeg = source.read_jpeg(masks)
        if jpeg is not None:
            for name, value in source.facts.items():
                row[name] = value
            if source.reason is None:
                _check_sides(row, masks, sides)
            return source.reason, source.note, jpeg
        source = source.source
    encode = job.spec.encode or Jpeg()
    reason, note, slot, jpeg = _read_into(slot, masks, source, job, row, sides)
    if isinstance(source, KeptSlot) and (encode.source or source.encode == encode) and source.fits(slot):
        jpeg = source.jpeg
    jpeg = jpeg or writers.slot_jpeg_of(slot, encode)
    if encode.markers:
        jpeg = restarting.with_restart_markers(jpeg, most=encode.restart) or jpeg
    for name, value in zip(side_fields(job.spec), slot.shape[:2], strict=False):
        row[name] = value
    if encode.source:
        row["slot_orientation"] = header.read_header(jpeg).orientation
    return reason, note, jpeg


def _decode(
    slot: Pixels, masks: SlotMasks, source: Source, job: Job, row: np.void, sides: Sides | None
) -> tuple[Pixels, str | None, bytes]:
    """Decode a source and its masks, and write what its row says of them.

    Returns:
        The slot, which is another array where it has sides of its own; what the decoders noticed; and the bytes of the
        source where these are kept as they are, or none.
    """
    try:
        data, row["bytes"], row["mtime"] = job.read(source)
    except RefusedError as error:
        row["bytes"], row["mtime"] = error.stamp  # not tried again before the file changes
        raise
    if isinstance(data, bytes | bytearray | memoryview):
        row["hash"] = xxhash.xxh3_64_intdigest(data)
        pixels = job.decoded_by_caller(source, data)
        data = data if pixels is None else pixels
    try:
        slot, decoded = job.decode(data, slot)
        row["height"], row["width"], note = decoded
        if masks.sources:
            note = _decode_masks(masks, job, decoded, row)
        jpeg, note_on_form = _kept_bytes(data, job.spec)
        note = "; ".join(each for each in (note, note_on_turn(data, sides), note_on_form) if each) or None
    except (MemoryError, OSError):
        _forget(row, masks)  # a later call, with more memory or with the rights to read a mask, tries again
        raise
    return slot, note, jpeg


def _kept_bytes(data: Any, spec: ImageSpec) -> tuple[bytes, str | None]:
    """Return the bytes of a source if they are kept as they are; otherwise none, and a note on a file."""
    if spec.encode is None or not spec.encode.source or not isinstance(data, bytes | bytearray | memoryview):
        return b"", None
    form = header.read_header(data).format
    if form == "jpeg":
        return bytes(data), None
    return b"", f"it is of the format {form}, so it is kept as a JPEG of quality {spec.encode.quality}"


def _forget(row: np.void, masks: SlotMasks) -> None:
    """Write the row of a source as if it had not been read."""
    for name in ("bytes", "mtime", "hash", *(MASK_FIELDS if masks.sources else ())):
        row[name] = 0


def _decode_masks(masks: SlotMasks, job: Job, image: Decoded, row: np.void) -> str | None:
    """Decode the masks of an image, write what its row says of them, and return the note on both."""
    sides = image.height, image.width
    row["mask_hash"], note = masks.decode(lambda mask: job.mask(mask, sides), job.spec, sides)
    return "; ".join(each for each in (image.note, note) if each) or None


def _name_of(source: Source, masks: Sequence[Any]) -> int:
    return name_hash(source.source if isinstance(source, StoredSlot) else source, masks)
