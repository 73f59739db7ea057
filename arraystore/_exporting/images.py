"""The bytes of exported images: those of an encoded store as they are, and pixels encoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._decoding.encoding.writers import jpeg_of, png_of
from arraystore._exporting.options import Format
from arraystore._kernels.interleave import interleaved
from arraystore._reading.slot_arrays import Index, SlotArrays
from arraystore._sources.kinds.slots import check_images
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import FormatError, Kind
from arraystore.spec import Subsampling

_JPEG_START = b"\xff\xd8\xff"


class ImageBytes:
    """Makes a JPEG or a PNG of each slot. A slot is checked against its checksum first.

    Args:
        slots: to be exported.
        form: of the images. JPEGs that a store has are copied, whatever their quality.
        quality: of JPEGs that are encoded.
        subsampling: of their chroma.

    Attributes:
        suffix: of the files, with a dot.
        slot_bytes: of the pixels of one slot, the largest.

    Raises:
        ManifestError: the slots are no images of 8 bits.
    """

    def __init__(self, slots: SlotArrays, *, form: Format, quality: int, subsampling: Subsampling) -> None:
        check_images(slots)
        self._slots, self._form = slots, form
        self._jpeg: dict[str, Any] = {"quality": quality, "subsampling": subsampling}
        self.suffix: str = ".png" if form == "png" else ".jpg"
        sides = (
            slots.slot_shape
            if not slots.differ
            else (3, *slots.sides_of(slots.base(np.arange(len(slots)))).max(axis=0))
        )
        self.slot_bytes: int = max(int(np.prod(sides)), 1)

    def of(self, slots: Index) -> tuple[list[bytes], int]:
        """Return the bytes of the images of some slots, and how many of them were copied.

        Raises:
            FormatError: a slot is damaged.
        """
        made = [b""] * len(slots)
        copied = 0
        for number, rows, at in self._slots.split(self._slots.base(slots)):
            array = self._slots.arrays[number]
            places = range(len(rows)) if at is None else at.tolist()
            for place, row in zip(places, rows.tolist(), strict=True):
                made[place], is_copy = self._image(array, row, int(slots[place]))
                copied += is_copy
        return made, copied

    def _image(self, array: SlotArray, row: int, slot: int) -> tuple[bytes, bool]:
        data = array.bytes_of(row)
        _check(array, row, slot, data)
        if array.is_encoded:
            if data[:3] != _JPEG_START:
                raise _damaged(slot, "it has no JPEG")
            # Not every reader turns an image as its orientation says.
            if self._form == "jpeg" and not array.is_turned(row):
                return bytes(data), True
        return self._encoded(np.ascontiguousarray(array.images[row])), False

    def _encoded(self, pixels: npt.NDArray[np.uint8]) -> bytes:
        if pixels.ndim == 3 and self._slots.layout == "NCHW":
            pixels = pixels[0] if len(pixels) == 1 else interleaved(pixels)
        elif pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        return png_of(pixels) if self._form == "png" else jpeg_of(pixels, **self._jpeg)


def _check(array: SlotArray, row: int, slot: int, data: memoryview) -> None:
    if array.checksums is not None and xxhash.xxh3_64_intdigest(data) != int(array.checksums[row]):
        raise _damaged(slot, "its bytes are not those that were stored")


def _damaged(slot: int, what: str) -> FormatError:
    return FormatError(
        f"slot {slot} is damaged: {what}",
        slot=slot,
        kind=Kind.DAMAGED,
        advice="repair the store with arraystore.repair, or export a choice of slots without this one",
    )
