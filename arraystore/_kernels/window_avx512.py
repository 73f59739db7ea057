"""`arraystore._kernels.window` for processors with AVX-512 VBMI and VNNI: the same pixels, several times as fast.

Tables for `arraystore._kernels.resample_avx512` are made as each window comes. Its windows of 64 bytes may reach beyond a narrow
part of the image, where weights are zero, but never beyond the source.

numba's cache on disk watches a kernel's own file only: a change in `arraystore._kernels.resample_avx512` shows when this file is
touched.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arraystore._kernels.avx512 import compiled_wide
from arraystore._kernels.crop import READ_ONLY
from arraystore._kernels.resample_avx512 import (
    GROUP_LANES,
    columns_kernel,
    fill_columns,
    fill_rows,
    group_starts,
    lane_order,
    rows_kernel,
)
from arraystore._kernels.window import SOURCE_WINDOW, SPAN, SourceWindow, Span, rows_come_first, taps_for

__all__ = ["READ_BYTES", "TABLES", "Tables", "resample_window_wide", "tables_for"]

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

READ_BYTES = 64  # at once: scratch has so many behind its end

# Room for the largest window's: first lanes of the groups, order, windows, tables, digits, last rows, digits of rows.
Tables = tuple[Integers, Pixels, Integers, Pixels, npt.NDArray[np.int32], Integers, Pixels]
TABLES = "Tuple((int64[::1], uint8[::1], int64[::1], uint8[::1], int32[::1], int64[::1], uint8[::1]))"
_STEP_BYTES = 3 * 4 * 64  # of tables


def tables_for(height: int, width: int, unit: int, out_height: int, out_width: int) -> Tables:
    """Return room for the tables of windows of at most this size; for one thread.

    Args:
        height: of the largest window.
        width: likewise.
        unit: bytes that a pixel has side by side.
        out_height: rows that each becomes.
        out_width: columns.
    """
    starts = group_starts(max(out_width * unit, GROUP_LANES))
    steps = starts.size * taps_for(width, out_width)  # no more than a step for each tap, see `resample_window_wide`
    return (
        starts,
        lane_order(planar=False),
        np.empty(steps * 3, np.int64),
        np.empty(steps * _STEP_BYTES, np.uint8),
        np.empty(max(out_width * taps_for(width, out_width), out_height * taps_for(height, out_height)), np.int32),
        np.empty(out_height, np.int64),
        np.empty(out_height * taps_for(height, out_height) * 3, np.uint8),
    )


@compiled_wide("int32[:, ::1](int32[:, ::1], int32[::1])")
def _digits(weights: npt.NDArray[np.int32], room: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The weights' signed digits to the base 256, see `arraystore._kernels.resample_avx512`; those of this filter have three."""
    digits = room[: weights.size].reshape(weights.shape)
    for i in range(weights.shape[0]):
        for t in range(weights.shape[1]):
            digits[i, t] = (weights[i, t] + 0x808080) ^ 0x808080
    return digits


@compiled_wide(f"boolean({READ_ONLY}, {SOURCE_WINDOW}, {SPAN}, {SPAN}, uint8[::1], int64, uint8[::1], {TABLES})")
def resample_window_wide(  # noqa: PLR0913 - compiled for plain arguments
    source: Pixels, part: SourceWindow, across: Span, down: Span, target: Pixels, place: int, some: Pixels, room: Tables
) -> bool:
    """`arraystore._kernels.window.resample_window`; False, with nothing written, if it is not for this window.

    ``some`` has `READ_BYTES` more there; ``room`` is from `tables_for`.
    """
    start, row_step, plane_step, planes, unit, height, width = part
    starts, order, windows_room, tables_room, digits_room, last, rows_room = room
    out_height, out_width = down[0].size, across[0].size
    lanes, run = out_width * unit, width * unit
    row_bytes = max(run, READ_BYTES)
    if lanes < GROUP_LANES or start + (planes - 1) * plane_step + (height - 1) * row_step + row_bytes > source.size:
        return False
    first, count, weights = across
    digits = _digits(weights, digits_room)
    steps, needed = 0, (count.max() + 3) // 4
    most = 4 * needed  # windows that serve few lanes each are no gain
    windows, tables = windows_room[:0].reshape(0, 0, 3), tables_room[:0].reshape(0, 0, 3, 4, 64)
    while steps != needed:
        steps = needed
        size = starts.size * steps
        windows = windows_room[: size * 3].reshape(starts.size, steps, 3)
        tables = tables_room[: size * _STEP_BYTES].reshape(starts.size, steps, 3, 4, 64)
        windows[:] = 0
        tables[:] = 0
        needed = fill_columns(first, count, digits, unit, row_bytes, starts, windows, tables)
        if needed > most:
            return False
    first, count, weights = down
    taps = weights.shape[1]
    by_digit = rows_room[: out_height * taps * 3].reshape(out_height, taps // 4, 3, 4)
    fill_rows(count, _digits(weights, digits_room), last, by_digit)
    address, middle, out = source.ctypes.data + start, some.ctypes.data, target.ctypes.data + place
    if rows_come_first(height, width, out_height, out_width):
        for plane in range(planes):
            rows_kernel(address + plane * plane_step, 0, row_step, 1, run, first, last, by_digit, middle, 0, run)
            columns_kernel(
                middle, run, out_height, starts, windows, tables, order, out + plane * out_height * lanes, lanes, 16
            )
    else:
        for plane in range(planes):
            begin = address + plane * plane_step
            columns_kernel(begin, row_step, height, starts, windows, tables, order, middle, lanes, 16)
            into = out + plane * out_height * lanes
            rows_kernel(middle, 0, lanes, 1, lanes, first, last, by_digit, into, 0, lanes)
    return True
