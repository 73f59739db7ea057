"""The sources of slots, and how a worker reads one: a file, bytes, pixels, or a slot of a finished store."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._building.masks import SlotMasks
from arraystore._format.slot_file import FilePart
from arraystore._sources.given import PillowImage, Unloaded, is_pil_image
from arraystore._sources.kinds.archives.members import PartOfFile
from arraystore._sources.kinds.sequences import LazyItem
from arraystore._sources.kinds.slots import KeptSlot
from arraystore._sources.stamps import stamp_of
from arraystore.errors import DecodeError, ManifestError

_logger = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StoredSlot:
    """A source that a finished store holds already in a slot of ``file``.

    The slot's pixels, or its JPEG, and its masks are copied, with the facts on the source: fields of a ledger row and
    their values. If they are damaged, ``source`` is decoded. The reason says why it could not be stored, if it failed;
    see `FilledRun` for the note.
    """

    part: FilePart
    checksum: int
    facts: Mapping[str, Any]
    source: str
    reason: str | None = None
    note: str | None = None
    masks: tuple[FilePart, ...] = ()
    mask_checksum: int = 0

    def read_into(self, slot: Pixels, masks: SlotMasks) -> bool:
        """Read the pixels into ``slot``, C-order, and the masks; return whether they have their checksums."""
        try:
            read = self.part.read_into(slot.data.cast("B"))
            return read == slot.nbytes and self._is_whole(slot.data, masks)
        except OSError:
            return False

    def read_jpeg(self, masks: SlotMasks) -> bytes | None:
        """Return the slot's JPEG and read its masks; None if one of these does not have its checksum."""
        try:
            if self.part.size > os.stat(self.part.path).st_size:  # damaged: it would take any amount of memory
                return None
            data = bytearray(self.part.size)
            return bytes(data) if self._is_whole(data[: self.part.read_into(memoryview(data))], masks) else None
        except OSError:
            return None

    def _is_whole(self, data: bytearray | memoryview, masks: SlotMasks) -> bool:
        if xxhash.xxh3_64_intdigest(data) != self.checksum:
            return False
        return not masks.sources or masks.copy(self.masks, self.mask_checksum)


Source = str | bytes | Pixels | StoredSlot | Unloaded | PillowImage | PartOfFile | KeptSlot | LazyItem

# The largest file of an image: its pixels, of at most four samples of 16 bits, and color profiles, previews and texts.
_PIXEL_LIMIT_BYTES = 8
_METADATA_LIMIT_BYTES = 1 << 28


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
    except Exception as error:
        if not isinstance(error, DecodeError):
            _logger.info("slot %d: the source failed", slot, exc_info=error)
        return Unloaded.of(error)


def file_name_of(source: Source) -> str:
    source = source.source if isinstance(source, StoredSlot) else source
    if isinstance(source, PartOfFile):
        return source.name
    return source if isinstance(source, str) else ""


class RefusedError(DecodeError):
    """A file is not read, for what its stamp says."""

    def __init__(self, message: str, stamp: tuple[int, int]) -> None:
        super().__init__(message)
        self.stamp = stamp


def read_source(source: Source, max_pixels: int) -> tuple[Any, int, int]:
    """Return the data of a source, its size in bytes, and its time of change in nanoseconds (0 if it is not a file).

    Raises:
        DecodeError: the file is too large, or not a regular file; or the source could not be loaded or computed.
    """
    most_bytes = max_pixels * _PIXEL_LIMIT_BYTES + _METADATA_LIMIT_BYTES
    if isinstance(source, StoredSlot):
        source = source.source
    if isinstance(source, LazyItem):
        computed = source.compute()
        source = PillowImage(computed) if is_pil_image(computed) else computed
    if isinstance(source, str):
        return _read_file(source, most_bytes)
    if isinstance(source, PillowImage):
        return source.image, 0, 0
    if isinstance(source, Unloaded):
        raise DecodeError(source.reason)
    if isinstance(source, PartOfFile):
        source = source.read(most_bytes)
    elif isinstance(source, KeptSlot):
        source = source.pixels
    data: Any = source
    return data, data.nbytes if isinstance(data, np.ndarray) else len(data), 0


def _read_file(path: str, most_bytes: int) -> tuple[bytes, int, int]:
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):  # to open a FIFO would wait for ever, to open a device may do anything
        raise DecodeError("not a regular file")
    # A sparse file may have any size without taking space on the volume; in memory it would take all of it.
    size, mtime = stamp_of(info)
    if size > most_bytes:
        raise RefusedError(f"a file of {size:,} bytes, more than an image of max_pixels can have", (size, mtime))
    # O_NONBLOCK in case a FIFO has just taken the place of the file: to open it would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = os.read(descriptor, size + 1)
        while len(data) < size and (more := os.read(descriptor, size + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    return data, len(data), mtime
