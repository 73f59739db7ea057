"""From the bytes of a mask to its slot: its numbers are moved as the pixels of its image are, and never mixed."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._decoding.codecs import numbers_of
from arraystore._decoding.header import TRANSPOSED, X_REVERSED, Y_REVERSED, Data, Header, read_header
from arraystore._decoding.memory import check_memory, check_pixels
from arraystore._decoding.notes import notice
from arraystore._kernels.resample import nearest
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec, Placement

Numbers = npt.NDArray[Any]  # uint8 or uint16


def decode_mask_into(
    data: Data, slot: Numbers, spec: ImageSpec, image: tuple[int, int], *, fill: int, memory_bytes: float = math.inf
) -> None:
    """Decode the mask of one image into its slot, with the geometry of the image.

    Args:
        data: an encoded mask with one number a pixel.
        slot: uint8 or uint16, (H, W) of the spec; overwritten. After an error its contents are undefined.
        spec: how the image becomes a slot; its filter is not used.
        image: height and width of the upright image.
        fill: the number of the pixels beside the image, which no class has.
        memory_bytes: what decoding it may take.

    Raises:
        MemoryNeededError: decoding it takes more than ``memory_bytes``.
        DecodeError: the data is no mask, is damaged or ends early, has another shape than the image, or has numbers
            that the slot does not hold.
    """
    mask = decode_mask(data, spec, image, memory_bytes=memory_bytes)
    largest = int(mask.max())
    if largest > np.iinfo(slot.dtype).max:
        raise DecodeError(
            f"it has the number {largest:,}, which 8 bits do not hold",
            kind=Kind.TOO_LARGE,
            advice='take it as a mask of 16 bits: the kind "mask16", or MaskFiles(…, bits=16)',
        )
    placement = spec.place(*image)
    if (placement.height, placement.width) != spec.size:
        slot[...] = fill
        if largest == fill and not ((mask > 0) & (mask < fill)).any():
            notice(f"its mask has only 0 and {fill}, and {fill} also marks what lies beside the image")
    rows, columns = slice(placement.top, None), slice(placement.left, None)
    slot[rows, columns][: placement.height, : placement.width] = part_of_mask(mask, placement, image)


def decode_mask(data: Data, spec: ImageSpec, image: tuple[int, int], *, memory_bytes: float = math.inf) -> Numbers:
    """Return the mask of an image upright, in its own size: uint8 or uint16, (H, W); the rest as `decode_mask_into`.

    Raises:
        MemoryNeededError: decoding it takes more than ``memory_bytes``.
        DecodeError: the data is no mask, is damaged or ends early, or has another shape than the image.
    """
    header = read_header(data)
    check_pixels(header.height, header.width, spec)
    _check_shape(header, image)
    check_memory(data, header, memory_bytes)
    return _upright(numbers_of(data, header, spec), header.orientation)


def _check_shape(header: Header, image: tuple[int, int]) -> None:
    """Check that a mask is its image, scaled by one factor: each side is what the other one makes it, to a pixel.

    Raises:
        DecodeError: it is not.
    """
    (height, width), (image_height, image_width) = header.upright, image
    difference = abs(width * image_height - height * image_width)
    if difference >= min(image_height, image_width):
        raise DecodeError(
            f"it is {width} x {height} pixels, but its upright image {image_width} x {image_height}, of another shape",
            kind=Kind.INVALID,
            advice="a mask shows all of its image, in as many pixels or at another scale",
        )


def _upright(mask: Numbers, orientation: int) -> Numbers:
    if orientation in TRANSPOSED:
        mask = mask.T
    return mask[:: -1 if orientation in Y_REVERSED else 1, :: -1 if orientation in X_REVERSED else 1]


def part_of_mask(mask: Numbers, placement: Placement, image: tuple[int, int]) -> Numbers:
    """Return the placement's part of an upright mask at its size, pixel by pixel, as Pillow's NEAREST takes them.

    Args:
        mask: of an image, at any scale.
        placement: of the image.
        image: its height and width.
    """
    down, across = mask.shape[0] / image[0], mask.shape[1] / image[1]
    left, top, right, bottom = placement.box
    rows = nearest(top * down, bottom * down, placement.height, mask.shape[0])
    columns = nearest(left * across, right * across, placement.width, mask.shape[1])
    part: Numbers = mask.take(rows, axis=0).take(columns, axis=1)
    return part
