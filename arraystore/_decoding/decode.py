"""From the bytes of an image to its slot: `decode_into`; to slots of several specs: `decode_each`.

Where the image says how large its slot is, `decode_kept` makes the slot.

bytes → header → pixels (by the module of the format: `arraystore._sources.formats`) → upright → resampled → slot.
No step keeps a list or a second copy. Each thread has its own scratch memory and uses it again for the next image.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np

from arraystore._common.scratch import Buffers
from arraystore._decoding.codecs import decode_any
from arraystore._decoding.header import TRANSPOSED, X_REVERSED, Y_REVERSED, Header, Pixels, read_header
from arraystore._decoding.icc import to_srgb
from arraystore._decoding.jpeg import decoder as jpeg
from arraystore._decoding.memory import check_memory, check_pixels
from arraystore._decoding.notes import notice, noticed
from arraystore._decoding.pil_images import pixels_of
from arraystore._kernels.compiled import READ_ONLY_IMAGE, compiled
from arraystore._kernels.resample import Box, Turned, resize
from arraystore._sources.given import is_pil_image
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec, Placement

_buffers = Buffers()


class Decoded(NamedTuple):
    """What is known of an image whose slot is filled."""

    height: int  # of the whole upright image, in pixels
    width: int
    note: str | None = None  # what is odd about the file, though its pixels are right, or were asked for


_FLIP = {(True, True): -1, (True, False): 1, (False, True): 0}


def decode_into(data: Any, slot: Pixels, spec: ImageSpec, *, memory_bytes: float = math.inf) -> Decoded:
    """Decode one image into its slot.

    Args:
        data: an encoded image (`Data`); its pixels: uint8, (H, W), (H, W, 1) or (H, W, 3) in RGB order; or an image of
            Pillow. Not changed.
        slot: uint8, ``spec.slot_shape``, C-contiguous; overwritten. After an error its contents are undefined.
        spec: how the image becomes a slot.
        memory_bytes: what decoding it may take.

    Raises:
        MemoryNeededError: decoding it takes more than ``memory_bytes``.
        DecodeError: the data is not an image, is damaged or ends early, or has more than ``spec.max_pixels`` pixels.
    """
    noticed()  # forgets what was noticed in an image that failed
    image, sides, (placement,) = _opened(data, _header_of(data), [spec], memory_bytes)
    _deposit(_in_color(image, spec), placement, slot, spec)
    return Decoded(*sides, noticed())


def decode_kept(data: Any, spec: ImageSpec, *, memory_bytes: float = math.inf) -> tuple[Pixels, Decoded]:
    """Decode one image into a slot of its own size, with ``fit="keep"``.

    Args:
        data: see `decode_into`.
        spec: how the image becomes a slot; its layout is ``"NHWC"``.
        memory_bytes: see `decode_into`.

    Returns:
        The slot, uint8, (H, W, C), and what is known of the image.

    Raises:
        MemoryNeededError: see `decode_into`.
        DecodeError: see `decode_into`.
    """
    noticed()  # forgets what was noticed in an image that failed
    image, sides, (placement,) = _opened(data, _header_of(data), [spec], memory_bytes)
    slot = _own_slot(placement, spec)
    _deposit(_in_color(image, spec), placement, slot, spec)
    return slot, Decoded(*sides, noticed())


def _own_slot(placement: Placement, spec: ImageSpec) -> Pixels:
    return np.empty((placement.height, placement.width, spec.channels), np.uint8)


def decode_each(
    data: Any, slots: Sequence[Pixels], specs: Sequence[ImageSpec], *, memory_bytes: float = math.inf
) -> list[tuple[Pixels, Decoded] | Exception]:
    """Decode one image into a slot for each spec, as `decode_into` and `decode_kept` fill each of them alone.

    It is decoded once for all slots that are made of the same pixels. Where libjpeg may shrink it more for a small slot
    than for a large one, it is decoded for each factor: a build of one of the sizes alone would do so too.

    Args:
        data: see `decode_into`, as for ``memory_bytes``.
        slots: one for each spec; see `decode_into`. Those of specs whose slots differ in shape are not used.
        specs: how the image becomes each slot.
        memory_bytes: what decoding it may take.

    Returns:
        For each spec, the slot and what is known of the image, or the error that `decode_into` raises.
    """
    noticed()  # forgets what was noticed in an image that failed
    try:
        header = _header_of(data)
        ways = [(_factor(header, spec), _way(spec)) for spec in specs]
    except Exception as error:  # the caller raises it for each slot
        return [error] * len(specs)
    found: dict[int, tuple[Pixels, Decoded] | Exception] = {}
    for way in dict.fromkeys(ways):
        numbers = [number for number, each in enumerate(ways) if each == way]
        try:
            image, sides, placements = _opened(data, header, [specs[number] for number in numbers], memory_bytes)
            decoded = Decoded(*sides, noticed())
            turned = Turned() if len(numbers) > 1 else None
            image = _in_color(image, specs[numbers[0]])
            for number, placement in zip(numbers, placements, strict=True):
                slot = slots[number] if specs[number].one_shape else _own_slot(placement, specs[number])
                _deposit(image, placement, slot, specs[number], turned)
                found[number] = slot, decoded
        except Exception as error:  # as above
            found |= {number: error for number in numbers if number not in found}
    return [found[number] for number in range(len(specs))]


def _header_of(data: Any) -> Header | None:
    """Return the header of an encoded image; None of one that is pixels already."""
    return None if isinstance(data, np.ndarray) or is_pil_image(data) else read_header(data)


def _opened(
    data: Any, header: Header | None, specs: Sequence[ImageSpec], memory_bytes: float
) -> tuple[Pixels, tuple[int, int], list[Placement]]:
    """Return an image, height and width of the whole of it, and its placement by each spec, which decode it alike."""
    spec = specs[0]
    if header is None:
        image = checked_array(data) if isinstance(data, np.ndarray) else pixels_of(data, spec)
        height, width = image.shape[:2]
        return image, (height, width), [each.place(height, width) for each in specs]
    check_pixels(header.height, header.width, spec)
    height, width = header.upright
    placements = [each.place(height, width) for each in specs]
    image, placements = decode_upright(data, header, spec, placements, memory_bytes)
    return image, (height, width), placements


def _factor(header: Header | None, spec: ImageSpec) -> int:
    """Return by how much libjpeg may shrink an image for a slot of this spec."""
    if header is None or not header.scalable or spec.exact or spec.filter == "nearest":
        return 1
    return _reduction(spec.place(*header.upright))


@lru_cache(64)
def _way(spec: ImageSpec) -> ImageSpec:
    """Return what of a spec decides the pixels that are resampled, beside the factor: those of two are alike or not."""
    return spec.changed(size=(1, 1), fit="stretch", filter="bilinear", layout="NCHW", exact=False, encode=None)


def decode_upright(
    data: Any, header: Header, spec: ImageSpec, placements: Sequence[Placement], memory_bytes: float = math.inf
) -> tuple[Pixels, list[Placement]]:
    """Return an encoded image upright, shrunk if that is faster, and the placements in the image that is returned.

    It is shrunk no more than each of the placements allows. Its pixels may lie in this thread's scratch memory.

    Raises:
        MemoryNeededError: see `decode_into`.
        DecodeError: see `decode_into`.
    """
    factor, found = 1, list(placements)
    if header.scalable and not spec.exact and spec.filter != "nearest":
        factor = min(map(_reduction, found))
    check_memory(data, header, memory_bytes, factor)
    # A color profile is one of colors, so these are needed even for a gray slot.
    decoded_as = spec.changed(color="rgb") if spec.icc == "srgb" and spec.color != "rgb" else spec
    if header.format == "jpeg":
        image, factor, note = jpeg.decode_scaled(
            data,
            header,
            gray=decoded_as.color == "gray",
            factor=factor,
            keep_truncated=spec.truncated == "keep",
        )
        if note is not None:
            notice(note)
        if factor > 1:
            found = [replace(placement, box=_scaled_box(placement.box, header, factor)) for placement in found]
    else:
        image = decode_any(data, header, decoded_as)
    if spec.icc == "srgb":
        color = to_srgb(np.ascontiguousarray(image[..., :3]) if image.ndim == 3 else image, data, header)
        image = np.dstack([color, image[..., 3]]) if image.shape[2:] == (4,) else color
    return turned_upright(_in_color(image, spec), header.orientation), found


def checked_array(image: Pixels) -> Pixels:
    """Return the pixels of an image that is an array: (H, W) or (H, W, 3), C-contiguous.

    Raises:
        DecodeError: it is of another dtype or shape.
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or not image.size or image.ndim not in (2, 3) or channels not in (1, 3):
        given = f"{image.dtype} of shape {tuple(image.shape)}"
        reason = f"an array source must be uint8 of shape (H, W), (H, W, 1) or (H, W, 3), not {given}"
        raise DecodeError(reason, kind=Kind.INVALID)
    return np.ascontiguousarray(image[:, :, 0] if image.ndim == 3 and channels == 1 else image)


def _reduction(placement: Placement) -> int:
    """Return the power of two by which libjpeg may shrink: the part stays at least twice the target on both axes.

    Other factors than powers of two are slower than decoding in full. Pillow calls this a reducing gap of 2.
    """
    left, top, right, bottom = placement.box
    for factor in (8, 4, 2):
        if bottom - top >= 2 * factor * placement.height and right - left >= 2 * factor * placement.width:
            return factor
    return 1


def _scaled_box(box: Box, header: Header, factor: int) -> Box:
    """Return the box in the shrunken upright image.

    The last stored row and column may cover less than a whole pixel. Where an axis was reversed to make the image
    upright, that partial pixel comes first.
    """
    left, top, right, bottom = (side / factor for side in box)
    height, width = header.upright
    shift_x = math.ceil(width / factor) - width / factor if header.orientation in X_REVERSED else 0.0
    shift_y = math.ceil(height / factor) - height / factor if header.orientation in Y_REVERSED else 0.0
    return left + shift_x, top + shift_y, right + shift_x, bottom + shift_y


def turned_upright(image: Pixels, orientation: int) -> Pixels:
    """Return an image as it is stored, (H, W) or (H, W, C), turned as its orientation says."""
    if orientation in TRANSPOSED:
        image = np.ascontiguousarray(cv2.transpose(image), np.uint8)
    flip = _FLIP.get((orientation in X_REVERSED, orientation in Y_REVERSED))
    return image if flip is None else np.ascontiguousarray(cv2.flip(image, flip), np.uint8)


@compiled(f"void({READ_ONLY_IMAGE}, uint8[:, ::1])")
def _luma(image: Pixels, out: Pixels) -> None:
    """Write ITU-R 601 luma in 16-bit fixed point, rounded, equal to Pillow's ``convert("L")``."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            red, green, blue = np.uint32(image[y, x, 0]), np.uint32(image[y, x, 1]), np.uint32(image[y, x, 2])
            out[y, x] = np.uint8((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16)


def _in_color(image: Pixels, spec: ImageSpec) -> Pixels:
    """Return an image in the color of the spec; a gray one stays (H, W), because one plane is resampled, not three."""
    return image if spec.color == "rgb" or image.ndim == 2 else luma(image)


def luma(image: Pixels) -> Pixels:
    """Return ITU-R 601 luma, (H, W), of an image of red, green and blue."""
    gray = np.empty(image.shape[:2], np.uint8)
    _luma(image, gray)
    return gray


def _deposit(image: Pixels, placement: Placement, slot: Pixels, spec: ImageSpec, turned: Turned | None = None) -> None:
    """Resample the placement's part of an upright image into its part of the slot; fill the rest with background."""
    rows = slice(placement.top, placement.top + placement.height)
    columns = slice(placement.left, placement.left + placement.width)
    planes = slot if spec.layout == "NCHW" else slot.transpose(2, 0, 1)
    if (placement.height, placement.width) != planes.shape[1:]:
        background = np.array(spec.background, np.uint8).reshape(1, 1, 3)
        planes[...] = _in_color(background, spec).reshape(-1, 1, 1)
    part = planes[:, rows, columns]
    if image.ndim == 3:
        resize(image, part.transpose(1, 2, 0), box=placement.box, name=spec.filter, turned=turned)
    elif part.strides[2] == 1:
        resize(image, part[0], box=placement.box, name=spec.filter, turned=turned)
        part[1:] = part[0]
    else:
        small = _buffers.get("small", placement.height, placement.width)
        resize(image, small, box=placement.box, name=spec.filter, turned=turned)
        part[...] = small
