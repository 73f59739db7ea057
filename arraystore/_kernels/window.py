"""Resample one window of an image: bilinear, antialiased, at any size, mirrored or not.

The pixels equal those of Pillow's ``crop(box).resize(size, BILINEAR)``, bit for bit. Every window has a size of its
own, so its weights are computed when it comes, which takes a tenth of the time of applying them. To mirror a window,
its weights are listed in reverse. `arraystore._kernels.vectors.window_avx512` does the same on processors with AVX-512.
"""

import math

import numpy as np

from arraystore._kernels.compiled import READ_ONLY, Integers, Pixels, Words, compiled
from arraystore._kernels.filters import AXIS_WEIGHTS, BILINEAR, AxisWeights, fill_weights
from arraystore._kernels.resample import blend_rows, rows_come_first
from arraystore._kernels.vectors.transpose import transpose

# Where a window lies: the offset of its first byte, bytes from row to row, bytes from plane to plane, how many planes,
# bytes of a pixel in each plane, height, width. Written as a numba type, too.
SourceWindow = tuple[int, int, int, int, int, int, int]
SOURCE_WINDOW = "UniTuple(int64, 7)"


@compiled("int64(int64, int64)")
def taps_for(in_size: int, out_size: int) -> int:
    """Return how many weights an output row has at most, rounded up to a multiple of four."""
    taps = math.ceil(max(in_size / out_size, 1.0)) * 2 + 1
    return (taps + 3) // 4 * 4


@compiled(f"{AXIS_WEIGHTS}(int64, int64, int64, int64[::1], int64[::1], int32[::1])")
def fill_axis_weights(
    in_size: int, out_size: int, mirrored: int, first: Integers, count: Integers, weight_room: Words
) -> AxisWeights:
    """Compute the weights that resample ``in_size`` rows to ``out_size``, the last row first if mirrored.

    ``first`` and ``count`` are overwritten and returned; ``weight_room`` has room for `taps_for` weights for each row.
    """
    taps = taps_for(in_size, out_size)
    weights = weight_room[: out_size * taps].reshape(out_size, taps)
    weights[:] = 0
    fill_weights(BILINEAR, 1.0, in_size, 0.0, float(in_size), first, count, weights)
    if mirrored:
        for i in range(out_size // 2):
            j = out_size - 1 - i
            first[i], first[j] = first[j], first[i]
            count[i], count[j] = count[j], count[i]
            for t in range(taps):
                weights[i, t], weights[j, t] = weights[j, t], weights[i, t]
    return first, count, weights


@compiled(
    f"void({READ_ONLY}, {SOURCE_WINDOW}, {AXIS_WEIGHTS}, {AXIS_WEIGHTS}, uint8[::1], int64, uint8[::1], uint8[::1])"
)
def resample_window(
    source: Pixels,
    window: SourceWindow,
    across: AxisWeights,
    down: AxisWeights,
    target: Pixels,
    offset: int,
    scratch: Pixels,
    other_scratch: Pixels,
) -> None:
    """Resample a window, with the weights of its columns and its rows; called by kernels.

    The target is overwritten from byte ``offset`` on, with planes or interleaved pixels as in the source. Each scratch
    array has room for a plane with the larger of both heights and the larger of both widths.
    """
    start, row_step, plane_step, planes, unit, height, width = window
    out_height, out_width = down[0].size, across[0].size
    row_bytes = width * unit
    for plane in range(planes):
        first_byte = start + plane * plane_step
        out = target[offset + plane * out_height * out_width * unit :]
        # Columns of bytes become rows: a pixel of several bytes becomes as many rows, which are blended together.
        if rows_come_first(height, width, out_height, out_width):
            for y in range(height):
                o, a = np.uintp(y * row_bytes), np.uintp(first_byte + y * row_step)
                for i in range(np.uintp(row_bytes)):
                    scratch[o + i] = source[a + i]
            blend_rows(scratch, row_bytes, down, other_scratch)
            transpose(other_scratch, 0, row_bytes, out_height, row_bytes, scratch, 0, out_height)
            blend_rows(scratch, out_height * unit, across, other_scratch)
            transpose(other_scratch, 0, out_height, out_width * unit, out_height, out, 0, out_width * unit)
        else:
            transpose(source, first_byte, row_step, height, row_bytes, other_scratch, 0, height)
            blend_rows(other_scratch, height * unit, across, scratch)
            transpose(scratch, 0, height, out_width * unit, height, other_scratch, 0, out_width * unit)
            blend_rows(other_scratch, out_width * unit, down, out)
