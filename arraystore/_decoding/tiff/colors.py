"""From the samples of a TIFF to RGB: palettes, luma and chroma, and CIELab."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._decoding.eight_bits import bands
from arraystore._decoding.header import Pixels

_Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int32]

# Luma and chroma of TIFF, unless the file says otherwise: ITU-R 601.
DEFAULT_COEFFICIENTS = (0.299, 0.587, 0.114)
DEFAULT_REFERENCES = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)


def from_palette(indices: npt.NDArray[Any], color_map: tuple[int, ...]) -> Pixels:
    """Return RGB (H, W, 3) of indices (H, W) into a map of all reds, then all greens, then all blues, in 16 bits."""
    colors = np.array(color_map, np.uint16).reshape(3, -1).T
    if colors.max(initial=0) > 255:  # some writers give 8 bits, as libtiff allows them
        colors >>= 8
    pixels: Pixels = colors.astype(np.uint8)[indices]
    return pixels


def full_chroma(packed: Pixels, rows: int, columns: int, subsampling: tuple[int, int]) -> Pixels:
    """Return luma and chroma (rows, columns, 3) of units: the luma of some pixels, and the chroma that they share."""
    across, down = subsampling
    units = packed.reshape(-(-rows // down), -(-columns // across), across * down + 2)
    luma = units[..., :-2].reshape(*units.shape[:2], down, across).transpose(0, 2, 1, 3)
    chroma = units[..., -2:].repeat(down, axis=0).repeat(across, axis=1)
    return np.dstack([luma.reshape(chroma.shape[:2]), chroma])[:rows, :columns]


def from_luma(pixels: Pixels, coefficients: tuple[float, ...], references: tuple[float, ...]) -> Pixels:
    """Return RGB of luma and chroma (H, W, 3); equal to libtiff's conversion, in fixed point.

    Args:
        pixels: luma, blue and red.
        coefficients: of red, green and blue in luma.
        references: the samples of no and of full intensity, of luma, blue and red.
    """
    luma, red, blue, green_of_red, green_of_blue = _luma_tables(coefficients, references)
    result = np.empty(pixels.shape, np.uint8)
    for rows in bands(pixels):
        y, cb, cr = luma[pixels[rows, :, 0]], pixels[rows, :, 1], pixels[rows, :, 2]
        green = (green_of_blue[cb] + green_of_red[cr]) >> 16
        for channel, part in enumerate((red[cr], green, blue[cb])):
            result[rows, :, channel] = np.clip(y + part, 0, 255)
    return result


@cache
def _luma_tables(coefficients: tuple[float, ...], references: tuple[float, ...]) -> tuple[_Integers, ...]:
    of_red, of_green, of_blue = coefficients
    half = 1 << 15

    def fixed(value: float) -> int:
        return int(min(max(value, -128.0), 128.0) * 65_536 + 0.5)

    def level(at: npt.NDArray[Any], black: float, white: float, full: int) -> _Integers:
        scaled = (at - black) * full / ((white - black) or 1)
        return np.clip(scaled, -1e6, 1e6).astype(np.int32)

    at = np.arange(256) - 128.0
    luma = level(at + 128, references[0], references[1], 255)
    blue = level(at, references[2] - 128, references[3] - 128, 127).clip(-4096, 4096).astype(np.int64)
    red = level(at, references[4] - 128, references[5] - 128, 127).clip(-4096, 4096).astype(np.int64)
    green = of_green or 1.0
    tables = (
        luma,
        (fixed(2 - 2 * of_red) * red + half) >> 16,
        (fixed(2 - 2 * of_blue) * blue + half) >> 16,
        -fixed(of_red * (2 - 2 * of_red) / green) * red,
        -fixed(of_blue * (2 - 2 * of_blue) / green) * blue + half,
    )
    return tuple(table.clip(-(1 << 30), 1 << 30).astype(np.int32) for table in tables)


# XYZ under D50, the white of CIELab, to linear sRGB, whose white is D65: the matrix of sRGB after Bradford's.
_WHITE_XYZ = np.array([0.96422, 1.0, 0.82521], np.float32)
_TO_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]],
    np.float32,
)


def from_lab(pixels: npt.NDArray[Any], bits: int, *, signed: bool) -> Pixels:
    """Return sRGB of CIELab (H, W, 3); within 2 levels of a color management's.

    Args:
        pixels: lightness, then green to red, then blue to yellow.
        bits: of a sample, 8 or 16.
        signed: whether the last two are in two's complement. Others are shifted by half their range.
    """
    result = np.empty(pixels.shape, np.uint8)
    scale = 1 << (bits - 8)
    for rows in bands(pixels):
        part = pixels[rows].astype(np.float32)
        ab = part[..., 1:] / scale
        ab = np.where(ab >= 128, ab - 256, ab) if signed else ab - 128
        middle = (part[..., 0] * (100 / ((1 << bits) - 1)) + 16) / 116
        roots = np.stack([middle + ab[..., 0] / 500, middle, middle - ab[..., 1] / 200], axis=-1)
        xyz = np.where(roots > 6 / 29, roots**3, (roots - 16 / 116) * (3 * (6 / 29) ** 2)) * _WHITE_XYZ
        linear = np.clip(xyz @ _TO_SRGB.T, 0, 1)
        levels: _Floats = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
        result[rows] = np.floor(levels * 255 + 0.5)
    return result
