"""What the mask of one image may be, and how a changed one is known without decoding it.

It is a path, the bytes of a file, an array of numbers, a part of an archive, a `DrawnMask`, or an `Unloaded`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._sources.given import Unloaded, pillow_reason
from arraystore._sources.stamps import feed_file, file_stamp
from arraystore.errors import DecodeError, Kind

Numbers: TypeAlias = npt.NDArray[Any]  # uint8 or uint16, (H, W)

CONVERT = "convert masks, such as with mask.astype(np.uint8) where no number is negative or above 255"
_MOST_BYTES = 1 << 30  # of a part of a file
_TRANSPOSED = (5, 6, 7, 8)  # orientations of EXIF
_ORIENTATION = 0x0112


class DrawnMask(ABC):
    """A mask whose numbers are made by the worker that stores it, such as one of polygons. It pickles."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright mask, known before it is drawn."""

    @abstractmethod
    def numbers(self) -> Numbers:
        """Return the numbers of the upright mask: uint8 or uint16, of `shape`.

        Raises:
            DecodeError: it cannot be drawn.
        """

    @abstractmethod
    def digest(self) -> int:
        """Return a hash, of 64 bits, of everything that the numbers are made of."""


class PartOfData(Protocol):
    """A mask that is a part of a file."""

    def read(self, most_bytes: int) -> bytes: ...

    def digest(self) -> int: ...


MaskSource: TypeAlias = str | bytes | Numbers | DrawnMask | PartOfData | Unloaded


class PillowMask(DrawnMask):
    """An image of Pillow as a mask: its palette indices, or its samples of gray."""

    def __init__(self, image: Any) -> None:
        self._image = image

    def __reduce__(self) -> tuple[Any, ...]:
        # An image that was opened holds its file, which no other process has.
        try:
            return _as_it_is, (self.numbers(),)
        except DecodeError as error:
            return Unloaded.of, (error,)

    @property
    def shape(self) -> tuple[int, int]:
        width, height = self._image.size
        try:
            turned = self._image.getexif().get(_ORIENTATION) in _TRANSPOSED
        except Exception:  # its plugins raise errors of any class; `numbers` says which
            turned = False
        return (width, height) if turned else (height, width)

    def numbers(self) -> Numbers:
        """Return its numbers, upright. An image that was opened and not loaded is loaded now.

        Raises:
            DecodeError: it has colors or alpha, or cannot be loaded.
        """
        from PIL import ImageOps

        self.check_mode()
        try:
            return plain_numbers(np.asarray(ImageOps.exif_transpose(self._image)))
        except (DecodeError, MemoryError):
            raise
        except Exception as error:  # plugins raise errors of any class
            raise DecodeError(pillow_reason(error), kind=Kind.DAMAGED) from error

    def digest(self) -> int:
        return _digest_of(self.numbers())

    def check_mode(self) -> None:
        """Check that it has one number a pixel; it is not loaded.

        Raises:
            DecodeError: it has colors, alpha or numbers of 32 bits.
        """
        mode = self._image.mode
        if mode not in ("P", "L", "1") and not mode.startswith("I;16"):
            raise DecodeError(
                f"its pixels are {mode}, not numbers of classes",
                kind=Kind.UNSUPPORTED,
                advice='pass images of Pillow with one number a pixel: of mode "P", "L", "I;16" or "1"',
            )


def _as_it_is(numbers: Numbers) -> Numbers:
    return numbers


def plain_numbers(mask: npt.NDArray[Any]) -> Numbers:
    """Return an array of numbers as uint8 or uint16, (H, W).

    Raises:
        DecodeError: it has another shape, or numbers of another type.
    """
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[:, :, 0]
    if mask.ndim != 2 or not mask.size:
        raise DecodeError(
            f"it is an array of shape {mask.shape}, not (H, W)",
            kind=Kind.INVALID,
            advice="give each pixel one number, the number of its class",
        )
    if mask.dtype == np.bool_:
        # Not just another view of it: the bytes of Pillow's bools are 0 and 255.
        return np.not_equal(mask.view(np.uint8), 0).astype(np.uint8)
    if mask.dtype.kind != "u" or mask.dtype.itemsize > 2:
        raise DecodeError(f"its numbers are {mask.dtype}, not uint8 or uint16", kind=Kind.INVALID, advice=CONVERT)
    return mask.astype(mask.dtype.newbyteorder("="), copy=False)


def masks_stamp(masks: Sequence[MaskSource]) -> int:
    """Return a number that tells other masks of an image; 0 where it has none.

    Of a file it covers size and time of change in microseconds, as in the samples of a store; of any other source its
    contents, or the place where it lies and the stamp of the file there.
    """
    if not masks:
        return 0
    return xxhash.xxh3_64_intdigest(b"".join(map(_stamp, masks)))


def _stamp(mask: MaskSource) -> bytes:
    size, second = 0, 0
    if isinstance(mask, str):
        size, time_ns = file_stamp(mask)
        second = time_ns // 1000
    elif isinstance(mask, bytes):
        size, second = len(mask), xxhash.xxh3_64_intdigest(mask)
    elif not isinstance(mask, Unloaded):
        try:
            second = mask.digest() if not isinstance(mask, np.ndarray) else _digest_of(plain_numbers(mask))
        except Exception:  # reading it will say what is wrong
            second = 0
    return np.array([size, second & 0xFFFF_FFFF_FFFF_FFFF], "<u8").tobytes()


def masks_hash(masks: Sequence[MaskSource]) -> int:
    """Return the xxh3_64 of what the masks of an image hold, one after the other; 0 where one cannot be read."""
    digest = xxhash.xxh3_64()
    for mask in masks:
        if isinstance(mask, str):
            if not feed_file(digest, mask):
                return 0
            continue
        try:
            digest.update(contents_of(mask))
        except Exception:  # as of a file that cannot be read
            return 0
    return int(digest.intdigest()) if masks else 0


def contents_of(mask: bytes | Numbers | DrawnMask | PartOfData | Unloaded) -> bytes:
    """Return what a mask that is no file holds: the bytes of a file, or the numbers with their type and shape.

    Raises:
        DecodeError: it cannot be read, or is no mask.
        OSError: it cannot be read.
    """
    if isinstance(mask, bytes):
        return mask
    if isinstance(mask, Unloaded):
        raise DecodeError(mask.reason)
    if isinstance(mask, np.ndarray):
        return _bytes_of(plain_numbers(mask))
    return _bytes_of(mask.numbers()) if isinstance(mask, DrawnMask) else mask.read(_MOST_BYTES)


def _digest_of(numbers: Numbers) -> int:
    return int(xxhash.xxh3_64_intdigest(_bytes_of(numbers)))


def _bytes_of(numbers: npt.NDArray[Any]) -> bytes:
    return json.dumps([numbers.dtype.str, numbers.shape]).encode() + numbers.tobytes()
