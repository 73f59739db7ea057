"""`arraystore._kernels.window` for processors with AVX-512 VBMI and VNNI: the same pixels, several times as fast.

The tables that `arraystore._kernels.vectors.resample_avx512` needs are computed for each window. A chunk of 64 bytes
may reach beyond the right edge of a narrow window, to bytes whose weights are zero, but never beyond the source.

When you change the kernels that this module imports, touch this file as well: see `arraystore._kernels.vectors.avx512`.
"""

import numpy as np

from arraystore._kernels.compiled import READ_ONLY, Integers, Pixels, Words
from arraystore._kernels.filters import AXIS_WEIGHTS, AxisWeights
from arraystore._kernels.resample import rows_come_first
from arraystore._kernels.vectors import plan_avx512 as plan
from arraystore._kernels.vectors.avx512 import compiled_avx512
from arraystore._kernels.vectors.resample_avx512 import columns_kernel, rows_kernel
from arraystore._kernels.window import SOURCE_WINDOW, SourceWindow, taps_for

CHUNK_BYTES = 64  # the kernels may read so many bytes beyond the end of a scratch plane

# Room for the tables of the largest window: the first lanes of groups, `Columns.order`, `Columns.chunks`,
# `Columns.tables`, the digits of weights as words, `Rows.last`, `Rows.digits`. Written as a numba type, too.
Tables = tuple[Integers, Pixels, Integers, Pixels, Words, Integers, Pixels]
TABLES = "Tuple((int64[::1], uint8[::1], int64[::1], uint8[::1], int32[::1], int64[::1], uint8[::1]))"


def tables_for(height: int, width: int, unit: int, out_height: int, out_width: int) -> Tables:
    """Return room for the tables of windows of at most this size; for one thread."""
    starts = plan.group_starts(max(out_width * unit, plan.GROUP_LANES))
    column_weights, row_weights = out_width * taps_for(width, out_width), out_height * taps_for(height, out_height)
    steps = starts.size * taps_for(width, out_width)  # `fill_columns` makes at most one step for each tap
    return (
        starts,
        plan.lane_order(planar=False),
        np.empty(steps * 3, np.int64),
        np.empty(steps * plan.STEP_BYTES, np.uint8),
        np.empty(max(column_weights, row_weights), np.int32),
        np.empty(out_height, np.int64),
        np.empty(row_weights * 3, np.uint8),
    )


@compiled_avx512(
    f"boolean({READ_ONLY}, {SOURCE_WINDOW}, {AXIS_WEIGHTS}, {AXIS_WEIGHTS}, uint8[::1], int64, uint8[::1], {TABLES})"
)
def resample_window_avx512(
    source: Pixels,
    window: SourceWindow,
    across: AxisWeights,
    down: AxisWeights,
    target: Pixels,
    offset: int,
    scratch: Pixels,
    room: Tables,
) -> bool:
    """Do the work of `arraystore._kernels.window.resample_window`, or return False if the window does not allow it.

    If so, nothing is written. ``scratch`` has `CHUNK_BYTES` more than there; ``room`` is from `tables_for`.
    """
    start, row_step, plane_step, planes, unit, height, width = window
    starts, order, chunk_room, table_room, digit_room, last, row_room = room
    out_height, out_width = down[0].size, across[0].size
    lanes, row_bytes = out_width * unit, width * unit
    readable = max(row_bytes, CHUNK_BYTES)
    if lanes < plan.GROUP_LANES or start + (planes - 1) * plane_step + (height - 1) * row_step + readable > source.size:
        return False
    first, count, weights = across
    digits = digit_room[: weights.size].reshape(weights.shape)
    plan.fill_digits(weights, digits)  # the weights of this filter never have more than three digits
    steps = plan.fill_columns(first, count, digits, unit, readable, starts, chunk_room, table_room)
    if steps == 0:
        return False
    chunks, tables = plan.column_tables(chunk_room, table_room, starts.size, steps)
    first, count, weights = down
    digits = digit_room[: weights.size].reshape(weights.shape)
    plan.fill_digits(weights, digits)
    by_digit = row_room[: weights.size * 3].reshape(out_height, weights.shape[1] // 4, 3, 4)
    plan.fill_rows(count, digits, last, by_digit)
    between = scratch.ctypes.data
    for plane in range(planes):
        begin = source.ctypes.data + start + plane * plane_step
        out = target.ctypes.data + offset + plane * out_height * lanes
        if rows_come_first(height, width, out_height, out_width):
            rows_kernel(begin, 0, row_step, 1, row_bytes, first, last, by_digit, between, 0, row_bytes)
            columns_kernel(between, row_bytes, out_height, starts, chunks, tables, order, out, lanes, 16)
        else:
            columns_kernel(begin, row_step, height, starts, chunks, tables, order, between, lanes, 16)
            rows_kernel(between, 0, lanes, 1, lanes, first, last, by_digit, out, 0, lanes)
    return True
