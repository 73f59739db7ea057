"""The step from decoded samples (8 or 16 bits, with or without alpha) to uint8 gray or RGB."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from arraystore._decoding.header import Pixels
from arraystore._decoding.notes import notice
from arraystore.spec import ImageSpec

_BAND_SAMPLES = 1 << 20
_FULL_SAMPLE, _SMALL_SAMPLE = 65_535, 8_192  # of 16 bits


def bands(pixels: npt.NDArray[Any]) -> Iterator[slice]:
    """Yield the rows of an image in slices of about a million samples: arithmetic takes up to twelve bytes a sample."""
    height = pixels.shape[0]
    rows = max(1, _BAND_SAMPLES * height // max(pixels.size, 1))
    return (slice(start, start + rows) for start in range(0, height, rows))


def finish(
    pixels: npt.NDArray[Any], spec: ImageSpec, *, maximum: int | None = None, premultiplied: bool = False
) -> Pixels:
    """Return 8-bit gray (H, W) or RGB (H, W, 3) of decoded pixels (H, W) or (H, W, 1 to 4), red first.

    Where the spec is one that keeps alpha (`composite`), transparent images are (H, W, 4).

    Args:
        pixels: uint8 or uint16.
        spec: says what is behind transparent pixels, and which sample of 16 bits is white.
        maximum: the largest sample, where the file says that it has fewer bits.
        premultiplied: whether the colors have been multiplied by alpha.
    """
    if maximum in (None, _FULL_SAMPLE) and pixels.dtype == np.uint16:
        maximum = _levels(pixels, spec)
    small = eight_bits(pixels, maximum)
    if small.ndim == 2:
        return small
    channels = small.shape[2]
    if channels in (2, 4):
        color, alpha = small[..., : channels - 1], small[..., channels - 1 :]
        return composite(color, alpha, spec.background, premultiplied=premultiplied)
    return small[..., 0] if channels == 1 else small


def _levels(pixels: npt.NDArray[Any], spec: ImageSpec) -> int:
    """Return which sample of a file of 16 bits is full intensity. A file whose samples are all small is noted."""
    if spec.levels is not None:
        return spec.levels
    largest = int(pixels.max(initial=0))
    if 0 < largest < _SMALL_SAMPLE:
        notice(
            f"its largest sample is {largest:,} of 65,535, so it is nearly black, unless levels is "
            f"{(1 << largest.bit_length()) - 1}"
        )
    return _FULL_SAMPLE


def eight_bits(pixels: npt.NDArray[Any], maximum: int | None) -> Pixels:
    """Return round(255 * v / maximum) of each sample v; a sample above the maximum counts as the maximum."""
    if maximum is None:
        maximum = 255 if pixels.dtype == np.uint8 else 65_535
    if maximum == 255 and pixels.dtype == np.uint8:
        return cast("Pixels", pixels)
    small = np.empty(pixels.shape, np.uint8)
    for rows in bands(pixels):
        wide = np.minimum(pixels[rows], maximum).astype(np.uint32)
        wide *= 510
        wide += maximum
        wide //= 2 * maximum
        small[rows] = wide
    return small


def from_inks(inks: Pixels) -> Pixels:
    """Return RGB of cyan, magenta, yellow and black (H, W, 4); equal to Pillow's conversion."""
    pixels = np.empty((*inks.shape[:2], 3), np.uint8)
    for rows in bands(inks):
        white = 255 - inks[rows, :, 3:].astype(np.int32)
        product = inks[rows, :, :3] * white + 128
        pixels[rows] = np.maximum(white - ((product >> 8) + product >> 8), 0)
    return pixels


def composite(
    color: Pixels, alpha: Pixels, background: tuple[int, int, int] | None, *, premultiplied: bool = False
) -> Pixels:
    """Return colors (H, W, 1 or 3) with alpha (H, W, 1) over a background, as (H, W, 3).

    That is round((v * a + b * (255 - a)) / 255), whose numerator and rounding both fit 16 bits. Without a background
    (`arraystore._decoding.pictures`), colors and alpha are returned, as (H, W, 4).
    """
    if background is None:
        return _with_alpha(color, alpha, premultiplied=premultiplied)
    result = np.empty((*alpha.shape[:2], 3), np.uint8)
    behind = np.array(background, np.uint16)
    for rows in bands(result):
        total = (255 - alpha[rows]).astype(np.uint16) * behind
        if not premultiplied:
            total += color[rows] * alpha[rows].astype(np.uint16)
        total += 127
        total //= 255
        result[rows] = np.minimum(total + color[rows], 255) if premultiplied else total
    return result


def _with_alpha(color: Pixels, alpha: Pixels, *, premultiplied: bool) -> Pixels:
    result = np.empty((*alpha.shape[:2], 4), np.uint8)
    result[..., 3:] = alpha
    for rows in bands(result):
        result[rows, :, :3] = color[rows]
        if premultiplied:
            result[rows, :, :3] = divided(result[rows, :, :3], alpha[rows])
    return result


def divided(color: npt.NDArray[np.uint8], alpha: Pixels) -> Pixels:
    """Return colors that were multiplied by alpha (H, W, 1) as they were before; equal to Pillow's ``RGBa``."""
    whole = np.minimum(color.astype(np.int32) * 255 // np.maximum(alpha, 1), 255).astype(np.uint8)
    return np.where(alpha == 0, color, whole)


def multiplied(color: npt.NDArray[np.uint8], alpha: Pixels) -> Pixels:
    """Return colors (H, W, 3) multiplied by alpha (H, W, 1); equal to Pillow's ``RGBa``."""
    result = np.empty(color.shape, np.uint8)
    for rows in bands(result):
        product = color[rows] * alpha[rows].astype(np.uint16) + np.uint16(128)
        result[rows] = (product >> 8) + product >> 8
    return result
