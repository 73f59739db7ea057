"""From the bytes of a mask to its slot: its numbers are moved as the pixels of its image are, and never mixed."""

import math

import numpy as np

from arraystore._decoding.codecs import numbers_of
from arraystore._decoding.header import TRANSPOSED, X_REVERSED, Y_REVERSED, Data, read_header
from arraystore._decoding.memory import check_drawing, check_memory, check_pixels
from arraystore._decoding.notes import notice
from arraystore._kernels.resample import nearest
from arraystore._sources.targets.mask_sources import DrawnMask, Numbers, plain_numbers
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec, Placement


def decode_mask_into(
    data: Data | Numbers | DrawnMask,
    slot: Numbers,
    spec: ImageSpec,
    image: tuple[int, int],
    *,
    fill: int,
    memory_bytes: float = math.inf,
) -> None:
    """Write the mask of one image into its slot, with the geometry of the image.

    Args:
        data: an encoded mask with one number a pixel; or its numbers, upright.
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
    mask = mask_numbers(data, spec, image, memory_bytes=memory_bytes)
    deposit_mask(mask, slot, spec, image, fill=fill)


def mask_numbers(
    data: Data | Numbers | DrawnMask, spec: ImageSpec, image: tuple[int, int], *, memory_bytes: float = math.inf
) -> Numbers:
    """Return the numbers of the upright mask of one image: uint8 or uint16, (H, W). See `decode_mask_into`.

    Raises:
        MemoryNeededError: decoding it takes more than ``memory_bytes``.
        DecodeError: the data is no mask of the image, is damaged or ends early.
    """
    if isinstance(data, DrawnMask):
        _check_shape(data.shape, spec, image)
        check_drawing(*data.shape, memory_bytes)
        data = data.numbers()
    if isinstance(data, np.ndarray):
        numbers = plain_numbers(data)
        _check_shape(numbers.shape, spec, image)
        return numbers
    header = read_header(data)
    _check_shape(header.upright, spec, image)
    check_memory(data, header, memory_bytes)
    return _upright(numbers_of(data, header, spec), header.orientation)


def deposit_mask(mask: Numbers, slot: Numbers, spec: ImageSpec, image: tuple[int, int], *, fill: int) -> None:
    """Write the numbers of an upright mask into its slot. See `decode_mask_into`.

    Raises:
        DecodeError: a number is none that the slot holds.
    """
    largest = int(mask.max())
    if largest > np.iinfo(slot.dtype).max:
        raise DecodeError(
            f"it has the number {largest:,}, which 8 bits do not hold",
            kind=Kind.TOO_LARGE,
            advice='take it as a mask of 16 bits: the kind "mask16", or Masks(…, bits=16)',
        )
    placement = spec.place(*image)
    if (placement.height, placement.width) != spec.size:
        slot[...] = fill
        if largest == fill and not ((mask > 0) & (mask < fill)).any():
            notice(f"its mask has only 0 and {fill}, and {fill} also marks what lies beside the image")
    rows, columns = slice(placement.top, None), slice(placement.left, None)
    slot[rows, columns][: placement.height, : placement.width] = part_of_mask(mask, placement, image)


def _check_shape(shape: tuple[int, ...], spec: ImageSpec, image: tuple[int, int]) -> None:
    """Check that a mask is its image, scaled by one factor: each side is what the other one makes it, to a pixel.

    Raises:
        DecodeError: it is not, or it has too many pixels.
    """
    (height, width), (image_height, image_width) = shape, image
    check_pixels(height, width, spec)
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
