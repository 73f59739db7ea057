"""Slots in one array, mapped from a file or in RAM, and how it is sent to another process."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeGuard, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.ragged import Target, joined_targets, split_targets
from arraystore._format.slot_file import map_file
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.unfinished.filling import FillingImages
from arraystore.errors import FormatError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class SlotArray:
    """Slots in one array, with the status, checksum and targets of each.

    It pickles. A mapped array is sent as the name of its file, and mapped again in the other process. An array in RAM
    is copied. The images are read-only and in C order. Without a status, every slot is stored. An array that another
    program made has no checksums. The identity is the digest of the store's store.json, which names all other contents
    by their digests; it is empty in memory, and for an array that another program made.
    """

    images: Array | EncodedImages | FillingImages
    status: npt.NDArray[np.uint8] | None = None
    checksums: npt.NDArray[np.uint64] | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    identity: str = ""
    _files: Mapping[str, tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.images, EncodedImages):  # they need to know which images may have no bytes
            object.__setattr__(self, "images", replace(self.images, status=self.status))
        mapped = {str(array.filename) for array in self._arrays() if _is_mapping(array)}
        object.__setattr__(self, "_files", {path: file_identity(path) for path in mapped})

    def _arrays(self) -> tuple[Array | None, ...]:
        images = self.images
        held: tuple[Any, ...] = (None if isinstance(images, FillingImages) else images,)
        if isinstance(images, EncodedImages):
            held = images.arrays
        return *held, self.status, self.checksums, *split_targets(self.targets).values()

    @property
    def kept(self) -> Array | None:
        """The array that the images are read from: their pixels, or their JPEGs; None if there is none yet."""
        images = self.settled
        return images.encoded if isinstance(images, EncodedImages) else images

    @property
    def settled(self) -> Array | EncodedImages | None:
        """The images; None as long as some are not filled."""
        if isinstance(self.images, FillingImages):
            return self.images.filler.kept if self.images.filler.is_complete else None
        return self.images

    @property
    def is_encoded(self) -> bool:
        """Whether images are JPEGs, which are decoded when they are read."""
        return isinstance(self.images, EncodedImages) or (
            isinstance(self.images, FillingImages) and self.images.is_encoded
        )

    def bytes_of(self, row: int) -> memoryview:
        """Return the bytes of a slot as they are kept, of which its checksum is: its pixels, or its JPEG.

        Raises:
            FormatError: the JPEGs are damaged; see `EncodedImages.spans`.
        """
        if self.is_encoded:
            return cast("EncodedImages | FillingImages", self.images).bytes_of(row)
        return np.ascontiguousarray(self.images[row]).reshape(-1).view(np.uint8).data.toreadonly()

    def is_turned(self, row: int) -> bool:
        """Return whether the JPEG of a slot is turned after it is decoded, as its orientation says."""
        images = self.settled
        return isinstance(images, EncodedImages) and images.turned(np.array([row])) is not None

    def open_file(self) -> int | None:
        """Open the images' file; the caller closes it. None if they lie in RAM, or the file was removed or replaced."""
        kept = self.kept
        if not _is_mapping(kept):
            return None
        path = str(kept.filename)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        info = os.fstat(descriptor)
        # A store that has filled itself maps its file only when it is finished.
        if path in self._files and (info.st_dev, info.st_ino) != self._files[path]:
            os.close(descriptor)
            return None
        return descriptor

    def __reduce__(self) -> tuple[Callable[..., SlotArray], tuple[Any, ...]]:
        targets = split_targets(self.targets)
        sent = [self._sendable(array) for array in (self.images, self.status, self.checksums, *targets.values())]
        return _receive, (tuple(targets), sent, self.identity)

    def _sendable(self, array: Array | EncodedImages | FillingImages | None) -> Any:
        if isinstance(array, FillingImages):
            return array
        if isinstance(array, EncodedImages):
            sent = [self._sendable(each) for each in array.arrays]
            return _Encoded(array.shape, array.layout, array.place, array.most_pixels, *sent)
        if not _is_mapping(array):
            if array is None or array.dtype.isnative:
                return array
            # NumPy's pickles turn numbers into the byte order of the machine.
            return _OtherOrder(array.view(array.dtype.newbyteorder("=")), array.dtype)
        path = str(array.filename)
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        return _Mapping(path, array.dtype, array.offset, array.shape, order, self._files[path])


@dataclass(frozen=True, slots=True)
class _Mapping:
    path: str
    dtype: Any
    offset: int
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    identity: tuple[int, int]

    def map(self) -> Array:
        try:
            if file_identity(self.path) == self.identity:
                return map_file(self.path, self.dtype, self.offset, self.shape, self.order)
        except (OSError, ValueError):  # the file was removed since the check, or was truncated
            pass
        raise FormatError(
            f"{self.path} was replaced or removed after it was opened",
            source=self.path,
            advice="open it again",
        )


@dataclass(frozen=True, slots=True)
class _OtherOrder:
    array: Array
    dtype: np.dtype[Any]

    def map(self) -> Array:
        return self.array.view(self.dtype)


@dataclass(frozen=True, slots=True)
class _Encoded:
    shape: tuple[int, ...]
    layout: str
    place: str
    most_pixels: int
    encoded: Any
    offsets: Any
    ends: Any
    shapes: Any

    def map(self) -> EncodedImages:
        encoded, offsets, ends, shapes = map(_mapped, (self.encoded, self.offsets, self.ends, self.shapes))
        form = self.shape, self.layout, self.place, ends
        return EncodedImages(encoded, offsets, *form, shapes=shapes, most_pixels=self.most_pixels)


def _mapped(sent: Any) -> Any:
    return sent.map() if isinstance(sent, _Mapping | _OtherOrder | _Encoded) else sent


def _receive(keys: tuple[str, ...], sent: list[Any], identity: str) -> SlotArray:
    images, status, checksums, *arrays = map(_mapped, sent)
    targets = joined_targets(dict(zip(keys, arrays, strict=True)))
    return SlotArray(images, status, checksums, targets, identity)


def _is_mapping(array: Array | None) -> TypeGuard[np.memmap[Any, Any]]:
    """Whether this is a whole mapping; a slice of one has the offset of the whole, so it cannot be mapped again."""
    if not isinstance(array, np.memmap):
        return False
    base: object = array.base
    return array.filename is not None and isinstance(base, mmap.mmap)


def file_identity(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return device and inode of the file or folder at a path; zeros if there is none."""
    try:
        info = Path(path).stat()
    except OSError:
        return 0, 0
    return info.st_dev, info.st_ino
