"""The kernel that resamples one window of an image, bilinear and antialiased, at whichever size and either way round.

Pixels are those of Pillow's ``crop(box).resize(size, BILINEAR)``, bit for bit: `arraystore._kernels.resample` says how. There an
image comes from a folder with few sizes, so plans are kept; here every window has a size of its own, and its weights
are computed as it comes, which takes a tenth of the time of applying them. A mirrored window is one whose weights are
listed backwards. `arraystore._kernels.window_avx512` does the same on a processor with AVX-512 VBMI and VNNI.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import compiled
from arraystore._kernels.crop import READ_ONLY
from arraystore._kernels.filters import fill_weights
from arraystore._kernels.resample import blend_rows

__all__ = [
    "SOURCE_WINDOW",
    "SourceWindow",
    "SPAN",
    "Span",
    "fill_span",
    "resample_window",
    "rows_come_first",
    "taps_for",
]

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

# The window: where it begins, bytes from row to row and from plane to plane, planes, bytes a pixel has in each, height
# and width.
SourceWindow = tuple[int, int, int, int, int, int, int]
SOURCE_WINDOW = "UniTuple(int64, 7)"
# Weights of rows or of columns: first and count int64, (out,), weights int32, (out, taps), as in `Weights`.
Span = tuple[Integers, Integers, npt.NDArray[np.int32]]
SPAN = "Tuple((int64[::1], int64[::1], int32[:, ::1]))"


@compiled("int64(int64, int64)")
def taps_for(in_size: int, out_size: int) -> int:
    """Return how many weights an output row needs at most, a multiple of four."""
    taps = math.ceil(max(in_size / out_size, 1.0)) * 2 + 1
    return (taps + 3) // 4 * 4


@compiled(f"{SPAN}(int64, int64, boolean, int64[::1], int64[::1], int32[::1])")
def fill_span(  # noqa: PLR0913 - compiled for plain arguments
    in_size: int,
    out_size: int,
    mirrored: bool,  # noqa: FBT001
    first: Integers,
    count: Integers,
    room: npt.NDArray[np.int32],
) -> Span:
    """Fill in the weights that make ``out_size`` rows of all ``in_size``, the last one first if mirrored.

    ``first`` and ``count`` have a place for each; ``room`` has `taps_for` places for each, and they are returned.
    """
    taps = taps_for(in_size, out_size)
    weights = room[: out_size * taps].reshape(out_size, taps)
    weights[:] = 0
    fill_weights(1, 1.0, in_size, 0.0, float(in_size), first, count, weights)
    if mirrored:
        for i in range(out_size // 2):
            j = out_size - 1 - i
            first[i], first[j] = first[j], first[i]
            count[i], count[j] = count[j], count[i]
            for t in range(taps):
                weights[i, t], weights[j, t] = weights[j, t], weights[i, t]
    return first, count, weights


@compiled("boolean(int64, int64, int64, int64)")
def rows_come_first(height: int, width: int, out_height: int, out_width: int) -> bool:
    """Whether Pillow 13 resamples down the columns first: it shows in the last bit. See `arraystore._kernels.resample`."""
    shrink = height - out_height
    return shrink > 0 and shrink > 2 * (width - out_width)


@compiled("void(uint8[::1], int64, int64, int64, uint8[::1])")
def _transpose(pixels: Pixels, rows: int, columns: int, unit: int, target: Pixels) -> None:
    """Swap rows and columns of pixels of ``unit`` bytes, in blocks that stay in the first cache."""
    source_step, target_step, wide = np.uintp(columns * unit), np.uintp(rows * unit), np.uintp(unit)
    for top in range(0, rows, 16):
        bottom = min(top + 16, rows)
        for x in range(np.uintp(columns)):
            for y in range(np.uintp(top), np.uintp(bottom)):
                for k in range(wide):
                    target[x * target_step + y * wide + k] = pixels[y * source_step + x * wide + k]


@compiled("void(uint8[::1], int64, " + SPAN + ", uint8[::1], int64)")
def _blend(pixels: Pixels, row_bytes: int, span: Span, target: Pixels, place: int) -> None:
    first, count, weights = span
    size = first.size * row_bytes
    rows = pixels[: pixels.size // row_bytes * row_bytes].reshape(pixels.size // row_bytes, row_bytes)
    blend_rows(rows, first, count, weights, target[place : place + size].reshape(first.size, row_bytes))


@compiled(f"void({READ_ONLY}, {SOURCE_WINDOW}, {SPAN}, {SPAN}, uint8[::1], int64, uint8[::1], uint8[::1])")
def resample_window(  # noqa: PLR0913 - compiled for plain arguments
    source: Pixels,
    part: SourceWindow,
    across: Span,
    down: Span,
    target: Pixels,
    place: int,
    some: Pixels,
    other: Pixels,
) -> None:
    """Resample a window; a kernel for kernels.

    Args:
        source: uint8, flat; only read.
        part: which window of it.
        across: its columns' weights.
        down: its rows' weights.
        target: uint8, flat; overwritten from ``place`` on: as many planes, or interleaved pixels.
        place: where in it.
        some: scratch: a plane of the larger of both heights and the larger of both widths.
        other: likewise.
    """
    start, row_step, plane_step, planes, unit, height, width = part
    out_height, out_width = down[0].size, across[0].size
    run = width * unit
    for plane in range(planes):
        at = np.uintp(start + plane * plane_step)
        for y in range(height):
            o, a = np.uintp(y * run), at + np.uintp(y * row_step)
            for i in range(np.uintp(run)):
                some[o + i] = source[a + i]
        rows = height
        if rows_come_first(height, width, out_height, out_width):
            _blend(some, run, down, other, 0)
            some, other = other, some
            rows = out_height
        _transpose(some, rows, width, unit, other)
        _blend(other, rows * unit, across, some, 0)
        begin = place + plane * out_height * out_width * unit
        if rows == height:
            _transpose(some, out_width, rows, unit, other)
            _blend(other, out_width * unit, down, target, begin)
        else:
            _transpose(some, out_width, rows, unit, target[begin:])
