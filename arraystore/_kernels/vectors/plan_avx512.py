"""Plans for `arraystore._kernels.vectors.resample_avx512`: weights as digits, in the order in which kernels read them.

That module explains the words: digits, lanes, chunks, quads, steps, groups.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from arraystore._kernels.compiled import Integers, Pixels, Words, inlined
from arraystore._kernels.filters import Weights
from arraystore._kernels.vectors.avx512 import compiled_avx512, supported

GROUP_LANES = 48  # three registers of 16 sums
STEP_BYTES = 3 * 4 * 64  # of `Columns.tables`


class Columns(NamedTuple):
    """A plan for `blend_columns`: how rows of ``row_bytes`` bytes become rows of ``lanes`` bytes."""

    row_bytes: int
    lanes: int
    targets: Integers  # (groups,): the byte of the output row, or of each plane's row, that a group begins at
    chunks: Integers  # (groups, steps, 3): the byte of the input row that each chunk begins at; one for each 16 lanes
    tables: Pixels  # (groups, steps, 3, 4, 64): which bytes of the chunk; the low, middle, high digits of their weights
    order: Pixels  # (64,): which byte of the result of `pack` is stored as byte i
    planar: bool  # whether the output has three planes


class Rows(NamedTuple):
    """A plan for `blend_rows`: how ``height`` rows become others."""

    height: int
    first: Integers  # (out,): the first input row
    last: Integers  # (out,): the last input row, counted from the first
    digits: Pixels  # (out, taps / 4, 3, 4): the low, middle and high digits of four weights


@compiled_avx512("boolean(int32[:, ::1], int32[:, ::1])")
def fill_digits(weights: Words, digits: Words) -> bool:
    """Write the three signed digits of each weight, one in each of the low three bytes of a word.

    Adding 128 to each digit makes all of them unsigned, so that they are the bytes of the sum; inverting the top bit of
    a byte subtracts 128 again. Returns False if a weight has more digits.
    """
    for i in range(weights.shape[0]):
        for t in range(weights.shape[1]):
            biased = weights[i, t] + 0x808080
            if not 0 <= biased < 1 << 24:
                return False
            digits[i, t] = biased ^ 0x808080
    return True


@inlined
def _next_chunk(
    pixel: Integers, offset: Integers, tap: Integers, end: Integers, digits: Words, channels: int, row_bytes: int
) -> int:
    """Skip weights of zero, and return the first byte that any of 16 lanes still needs; ``row_bytes`` if none does."""
    chunk = row_bytes
    for i in range(16):
        x = pixel[i]
        while tap[i] < end[i] and digits[x, tap[i]] == 0:
            tap[i] += 1
        if tap[i] < end[i]:
            chunk = min(chunk, offset[i] + tap[i] * channels)
    return chunk


@compiled_avx512(
    "int64(int64[::1], int64[::1], int32[:, ::1], int64, int64, int64[::1], int64[:, :, ::1], uint8[:, :, :, :, ::1])"
)
def _fill_steps(
    first: Integers,
    count: Integers,
    digits: Words,
    channels: int,
    row_bytes: int,
    starts: Integers,
    chunks: Integers,
    tables: Pixels,
) -> int:
    """Fill in `Columns.chunks` and `Columns.tables`, both all zero, and return how many steps are needed.

    If there are more than the arrays have room for, the rest is only counted.
    """
    needed = 1
    # Of each of 16 lanes: its output pixel, its first tap's byte of the input row, its next tap, one past its last tap.
    pixel, offset = np.empty(16, np.int64), np.empty(16, np.int64)
    tap, end = np.empty(16, np.int64), np.empty(16, np.int64)
    for group in range(starts.size):
        for block in range(3):
            lane = starts[group] + 16 * block
            for i in range(16):
                x = (lane + i) // channels
                pixel[i], offset[i] = x, (first[x] - x) * channels + lane + i
                tap[i], end[i] = 0, count[x]
            step = 0
            while True:
                chunk = _next_chunk(pixel, offset, tap, end, digits, channels, row_bytes)
                if chunk == row_bytes:
                    break
                chunk = min(chunk, row_bytes - 64)
                room = step < chunks.shape[1]
                fitting = min(step, chunks.shape[1] - 1)
                table = tables[group, fitting, block]
                if room:
                    chunks[group, step, block] = chunk
                for i in range(16):
                    x = pixel[i]
                    t, last = tap[i], min(tap[i] + 4, end[i])
                    byte = offset[i] + t * channels - chunk
                    entry = 4 * i
                    while t < last and byte < 64:
                        if room:
                            word = digits[x, t]
                            table[0, entry] = byte
                            table[1, entry] = word & 255
                            table[2, entry] = (word >> 8) & 255
                            table[3, entry] = word >> 16
                        t, byte, entry = t + 1, byte + channels, entry + 1
                    tap[i] = t
                step += 1
            needed = max(needed, step)
    return needed


@compiled_avx512("Tuple((int64[:, :, ::1], uint8[:, :, :, :, ::1]))(int64[::1], uint8[::1], int64, int64)")
def column_tables(chunk_room: Integers, table_room: Pixels, groups: int, steps: int) -> tuple[Integers, Pixels]:
    """Return `Columns.chunks` and `Columns.tables` as views of the beginning of two flat arrays."""
    size = groups * steps
    return (
        chunk_room[: size * 3].reshape(groups, steps, 3),
        table_room[: size * STEP_BYTES].reshape(groups, steps, 3, 4, 64),
    )


@compiled_avx512("int64(int64[::1], int64[::1], int32[:, ::1], int64, int64, int64[::1], int64[::1], uint8[::1])")
def fill_columns(
    first: Integers,
    count: Integers,
    digits: Words,
    channels: int,
    row_bytes: int,
    starts: Integers,
    chunk_room: Integers,
    table_room: Pixels,
) -> int:
    """Fill in `Columns.chunks` and `Columns.tables` at the beginning of two flat arrays, and return how many steps.

    The arrays have room for as many steps as ``digits`` has taps. A row has interleaved channels, and at least 64
    bytes. The result is 0 if the chunks would serve so few lanes each that the portable kernel is as fast.
    """
    steps, needed = 0, (count.max() + 3) // 4
    most = 4 * needed
    while steps != needed:
        steps = needed
        chunks, tables = column_tables(chunk_room, table_room, starts.size, steps)
        chunks[:] = 0
        tables[:] = 0
        needed = _fill_steps(first, count, digits, channels, row_bytes, starts, chunks, tables)
        if needed > most:
            return 0
    return steps


@lru_cache(maxsize=512)  # most plans have 10 to 40 KB; making one takes 0.03 ms
def plan_columns(weights: Weights, channels: int, *, planar: bool) -> Columns | None:
    """Return a plan for images of 1 or 3 interleaved channels, or None where the portable kernel must be used."""
    row_bytes, lanes = (weights.high - weights.low) * channels, weights.first.size * channels
    digits = np.empty_like(weights.weights)
    if not supported() or row_bytes < 64 or lanes < GROUP_LANES or not fill_digits(weights.weights, digits):
        return None
    starts = group_starts(lanes)
    most = starts.size * digits.shape[1]
    room = np.empty(most * 3, np.int64), np.empty(most * STEP_BYTES, np.uint8)
    steps = fill_columns(weights.first, weights.count, digits, channels, row_bytes, starts, *room)
    if not steps:
        return None
    chunks, tables = (array.copy() for array in column_tables(*room, starts.size, steps))
    planar = planar and channels == 3
    targets = starts // 3 if planar else starts
    return Columns(row_bytes, lanes, targets, chunks, tables, lane_order(planar=planar), planar)


def group_starts(lanes: int) -> Integers:
    """Return the first lane of each group. The last group may overlap the one before, and writes the same bytes."""
    return np.minimum(np.arange(0, lanes, GROUP_LANES), lanes - GROUP_LANES)


def lane_order(*, planar: bool) -> Pixels:
    """Return `Columns.order`."""
    lane = np.arange(64) % GROUP_LANES
    if planar:
        lane = lane % 16 * 3 + lane // 16
    return (lane % 16 // 4 * 16 + lane // 16 * 4 + lane % 4).astype(np.uint8)


@compiled_avx512("void(int64[::1], int32[:, ::1], int64[::1], uint8[:, :, :, ::1])")
def fill_rows(count: Integers, digits: Words, last: Integers, by_digit: Pixels) -> None:
    """Fill in `Rows.last` and `Rows.digits`: ``last`` and ``by_digit``."""
    for i in range(last.size):
        used = 0
        for t in range(digits.shape[1]):
            word = digits[i, t]
            if word != 0:
                used = t
            by_digit[i, t // 4, 0, t % 4] = word & 255
            by_digit[i, t // 4, 1, t % 4] = (word >> 8) & 255
            by_digit[i, t // 4, 2, t % 4] = word >> 16
        last[i] = min(used, count[i] - 1)


@lru_cache(maxsize=512)
def plan_rows(weights: Weights) -> Rows | None:
    """Return a plan, or None where the portable kernel must be used."""
    digits = np.empty_like(weights.weights)
    if not supported() or not fill_digits(weights.weights, digits):
        return None
    last = np.empty(weights.first.size, np.int64)
    by_digit = np.empty((last.size, digits.shape[1] // 4, 3, 4), np.uint8)
    fill_rows(weights.count, digits, last, by_digit)
    return Rows(weights.high - weights.low, weights.first, last, by_digit)
