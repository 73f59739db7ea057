"""The bytes of the smaller files of one image and of its masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from arraystore._building.presizing.recipe import JPEG, PASSED, PNG, Recipe
from arraystore._decoding.decode import checked_array, decode_upright
from arraystore._decoding.encoding.profiles import kept_profile
from arraystore._decoding.encoding.writers import jpeg_of, mask_png_of, png_of
from arraystore._decoding.formats import png
from arraystore._decoding.header import Data, Pixels, read_header
from arraystore._decoding.icc import jpeg_profile
from arraystore._decoding.masks import mask_numbers, part_of_mask
from arraystore._decoding.memory import check_pixels
from arraystore._decoding.notes import notice, noticed
from arraystore._decoding.pictures import keeping_alpha, resized, without_idle_alpha
from arraystore.spec import Placement


class Made(NamedTuple):
    """A file that was made."""

    form: int
    data: Data


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright image, and what is to be made of it.

    Attributes:
        height: of the whole image in pixels, as for ``width``.
        width: of it.
        pixels: uint8, (H, W), (H, W, 3) or (H, W, 4); a decoder may have shrunk them.
        placements: of each size, in ``pixels``.
        whole: of each size, in the whole image.
        profile: the color profile to keep; empty for none.
        source: the bytes to pass through where a size changes nothing; None if they may not be.
    """

    height: int
    width: int
    pixels: Pixels
    placements: Sequence[Placement]
    whole: Sequence[Placement]
    profile: bytes = b""
    source: Data | None = None


def picture_of(data: Data, pixels: Any, recipe: Recipe, memory_bytes: float = math.inf) -> Picture:
    """Return the image of encoded bytes, or of the pixels that the caller's own decoder has made of them.

    Raises:
        MemoryNeededError: decoding it takes more than ``memory_bytes``.
        DecodeError: it is no image, is damaged or ends early, or has too many pixels.
    """
    if pixels is not None:
        image = checked_array(np.asarray(pixels))
        height, width = image.shape[:2]
        check_pixels(height, width, recipe.spec)
        parts = recipe.placements(height, width)
        return Picture(height, width, image, parts, parts)
    header = read_header(data)
    check_pixels(header.height, header.width, recipe.spec)
    height, width = header.upright
    whole = recipe.placements(height, width)
    spec = keeping_alpha(recipe.spec) if recipe.keeps_alpha else recipe.spec
    image, placements = decode_upright(data, header, spec, whole, memory_bytes)
    note = noticed()
    if note is not None:
        notice(note)  # again, for the report
    image = without_idle_alpha(image)
    profile = kept_profile(data, header, min(image.ndim, 3)) if recipe.icc == "keep" else b""
    passes = header.format == "jpeg" and recipe.format == "jpeg" and header.orientation == 1 and note is None
    if passes and recipe.icc == "srgb":
        passes = not jpeg_profile(data)
    return Picture(height, width, image, placements, whole, profile, data if passes else None)


def files_of(image: Picture, recipe: Recipe) -> list[Made]:
    """Return the file of each size.

    Raises:
        DecodeError: a file of such sides cannot be written.
    """
    return [_file_of(image, number, recipe) for number in range(len(image.placements))]


def _file_of(image: Picture, number: int, recipe: Recipe) -> Made:
    if image.source is not None and _changes_nothing(image, image.whole[number]):
        return Made(PASSED, image.source)
    small = resized(image.pixels, image.placements[number], recipe.spec.filter)
    if recipe.format == "png" or small.shape[2:] == (4,):
        return Made(PNG, png_of(small, profile=image.profile))
    data = jpeg_of(small, quality=recipe.quality, subsampling=recipe.subsampling, profile=image.profile)
    return Made(JPEG, data)


def _changes_nothing(image: Picture, placement: Placement) -> bool:
    sides = placement.height, placement.width
    return sides == (image.height, image.width) and placement.box == (0, 0, image.width, image.height)


def masks_of(data: Data, image: Picture, recipe: Recipe, memory_bytes: float) -> list[Made]:
    """Return the PNG of a mask in each size, with the numbers that it has, and the palette of a PNG.

    Raises:
        MemoryNeededError: decoding it takes more than ``memory_bytes``.
        DecodeError: it is no mask of the image; see `mask_numbers`.
    """
    sides = image.height, image.width
    mask = mask_numbers(data, recipe.spec, sides, memory_bytes=memory_bytes)
    palette = png.palette(data) if read_header(data).format == "png" else []
    return [Made(PNG, mask_png_of(part_of_mask(mask, each, sides), palette)) for each in image.whole]
