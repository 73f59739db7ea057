"""The resampling passes once more, for processors with AVX-512 VBMI and VNNI: no transposes, four taps at a time.

The same sums as `arraystore._kernels.resample.blend_rows`, bit for bit, several times as fast. One instruction (vpdpbusd)
multiplies 64 unsigned bytes with 64 signed bytes and adds each four neighboring products to one of 16 integers. The
pixels are bytes already. The 22-bit weights are not, so each is written as three signed digits to the base 256, and

    sum of k·pixel  =  sum of k0·pixel  +  256 · sum of k1·pixel  +  65536 · sum of k2·pixel    (modulo 2³²: exactly)

What remains is to bring the four bytes that belong together, a quad, side by side.

Down the columns (`blend_rows`) four rows are interleaved; saturating packs undo that order again:

    row a  a0 a1 a2 …                          sums of 16 quads   ┐
    row b  b0 b1 b2 …   →  a0 b0 c0 d0 a1 …  → in each of four    ├→  64 bytes of the output row
    row c  c0 c1 c2 …                          registers          ┘
    row d  d0 d1 d2 …

Along the rows (`blend_columns`) a permutation (vpermb) picks quads for 16 lanes, bytes of the output row, out of a
window of 64 bytes of the input row, straight from interleaved pixels; the same for every row, so it is a table:

    input row   r0 g0 b0 r1 g1 b1 r2 g2 b2 r3 g3 b3 r4 g4 …            (ratio 1.5: pixels 0…3 make pixel 1)
                └──────────── window: 64 bytes ────────────┘
    quads       lane 0: r0 r1 r2 ·   lane 1: g0 g1 g2 ·   lane 2: b0 b1 b2 ·   lane 3: r0 r1 r2 r3   …  lane 15

Where a lane has more than four taps, or a window does not reach all lanes' taps, there are further steps, each with
its own window, in which every lane takes as many of its next taps as the window holds, up to four. No window crosses
the ends of the row. Three times 16 lanes make a group, 16 pixels of three channels or 48 of one, so that the
permutation that ends it can hand out the lanes as they are, or as 16 bytes for each of three planes.

A processor that lacks the instructions, or an image too small for a window, is `None` to the planners: use the portable
kernel. Everything here is checked against it, and with memory that faults on both sides, in the tests.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from arraystore._kernels import avx512 as op
from arraystore._kernels.avx512 import compiled_wide, supported
from arraystore._kernels.filters import Weights

__all__ = [
    "Columns",
    "GROUP_LANES",
    "Rows",
    "blend_columns",
    "blend_rows",
    "columns_kernel",
    "fill_columns",
    "fill_rows",
    "group_starts",
    "is_planar",
    "lane_order",
    "plan_columns",
    "plan_rows",
    "rows_kernel",
]

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

GROUP_LANES = 48  # lanes that one turn of `columns_kernel` writes: three registers of 16 sums
_TILE = 16  # rows: few enough to stay in the first cache, enough to keep each group's tables in registers for a while
_STEP_BYTES = 3 * 4 * 64  # of `Columns.tables`


# Plans: the weights as digits, in the order in which the kernels read them.


class Columns(NamedTuple):
    """How rows of ``row_bytes`` become rows of ``lanes`` bytes."""

    row_bytes: int
    lanes: int
    targets: Integers  # (groups,): where in the output row each group's first 16 bytes go
    windows: Integers  # (groups, steps, 3): where in the input row each window begins
    tables: Pixels  # (groups, steps, 3, 4, 64): which bytes of the window; their weights' low, middle, high digits
    order: Pixels  # (64,): which byte of `pack`'s result is the i-th to be stored
    planar: bool


class Rows(NamedTuple):
    """How ``height`` rows become others."""

    height: int
    first: Integers  # (out,): the first input row
    last: Integers  # (out,): the last, counted from the first
    digits: Pixels  # (out, quads of rows, digits of the weights, from the lowest, 4)


def _digits(weights: npt.NDArray[np.int32]) -> npt.NDArray[np.int32] | None:
    """The weights' three signed digits, a byte each from the lowest, as one number; None if one has more digits."""
    # Adding 128 at each place makes the digits unsigned, that is, plain bytes; flipping their top bits takes it away.
    biased = weights + np.int32(0x808080)
    return biased ^ np.int32(0x808080) if biased.min() >= 0 and biased.max() < 1 << 24 else None


@compiled_wide(
    "int64(int64[::1], int64[::1], int32[:, ::1], int64, int64, int64[::1], int64[:, :, ::1], uint8[:, :, :, :, ::1])"
)
def fill_columns(  # noqa: C901, PLR0913 - one flat loop nest: slices and calls inside cost more than the work
    first: Integers,
    count: Integers,
    digits: npt.NDArray[np.int32],
    channels: int,
    row_bytes: int,
    starts: Integers,
    windows: Integers,
    tables: Pixels,
) -> int:
    """Fill a plan's windows and tables, zeros before, as far as they have room; return how many steps it takes."""
    needed = 1
    pixel, place = np.empty(16, np.int64), np.empty(16, np.int64)
    tap, end = np.empty(16, np.int64), np.empty(16, np.int64)
    for group in range(starts.size):
        for block in range(3):
            lane = starts[group] + 16 * block
            for i in range(16):
                x = (lane + i) // channels
                pixel[i], place[i] = x, (first[x] - x) * channels + lane + i
                tap[i], end[i] = 0, count[x]
            step = 0
            while True:
                window = row_bytes
                for i in range(16):
                    x = pixel[i]
                    while tap[i] < end[i] and digits[x, tap[i]] == 0:
                        tap[i] += 1
                    if tap[i] < end[i]:
                        window = min(window, place[i] + tap[i] * channels)
                if window == row_bytes:
                    break
                window = min(window, row_bytes - 64)
                room = step < windows.shape[1]
                fitting = min(step, windows.shape[1] - 1)
                table = tables[group, fitting, block]
                if room:
                    windows[group, step, block] = window
                for i in range(16):
                    x = pixel[i]
                    t, last = tap[i], min(tap[i] + 4, end[i])
                    at = place[i] + t * channels - window
                    slot = 4 * i
                    while t < last and at < 64:
                        if room:
                            word = digits[x, t]
                            table[0, slot] = at
                            table[1, slot] = word & 255
                            table[2, slot] = (word >> 8) & 255
                            table[3, slot] = word >> 16
                        t, at, slot = t + 1, at + channels, slot + 1
                    tap[i] = t
                step += 1
            needed = max(needed, step)
    return needed


@lru_cache(maxsize=512)  # most are 10 to 40 KB; making one costs 0.03 ms
def plan_columns(weights: Weights, channels: int, *, planar: bool) -> Columns | None:
    """Plan for `blend_columns`, or None where the portable kernel has to do it.

    Args:
        weights: of the columns.
        channels: of the image, 1 or 3, interleaved.
        planar: whether each channel is to be written to its own plane.
    """
    row_bytes, lanes = (weights.high - weights.low) * channels, weights.first.size * channels
    if not supported() or row_bytes < 64 or lanes < GROUP_LANES:
        return None
    digits = _digits(weights.weights)
    if digits is None:
        return None
    starts = group_starts(lanes)
    steps, needed = 0, -(-int(weights.count.max()) // 4)
    most = 4 * needed
    while steps != needed:
        steps = needed
        windows = np.zeros((starts.size, steps, 3), np.int64)
        tables = np.zeros((starts.size, steps, 3, 4, 64), np.uint8)
        needed = fill_columns(weights.first, weights.count, digits, channels, row_bytes, starts, windows, tables)
        if needed > most:  # windows that serve few lanes each are no gain
            return None
    planar = planar and channels == 3
    order = lane_order(planar=planar)
    return Columns(row_bytes, lanes, starts // 3 if planar else starts, windows, tables, order, planar)


def group_starts(lanes: int) -> Integers:
    """Return the first lane of each group; the last group overlaps the one before."""
    return np.minimum(np.arange(0, lanes, GROUP_LANES), lanes - GROUP_LANES)


def lane_order(*, planar: bool) -> Pixels:
    """Return `Columns.order`."""
    lane = np.arange(64) % GROUP_LANES
    if planar:
        lane = lane % 16 * 3 + lane // 16
    return (lane % 16 // 4 * 16 + lane // 16 * 4 + lane % 4).astype(np.uint8)


@compiled_wide("void(int64[::1], int32[:, ::1], int64[::1], uint8[:, :, :, ::1])")
def fill_rows(count: Integers, digits: npt.NDArray[np.int32], last: Integers, by_digit: Pixels) -> None:
    """Fill `Rows.last` and `Rows.digits`."""
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
    """Plan for `blend_rows`, or None where the portable kernel has to do it."""
    if not supported():
        return None
    digits = _digits(weights.weights)
    if digits is None:
        return None
    last = np.empty(weights.first.size, np.int64)
    by_digit = np.empty((last.size, digits.shape[1] // 4, 3, 4), np.uint8)
    fill_rows(weights.count, digits, last, by_digit)
    return Rows(weights.high - weights.low, weights.first, last, by_digit)


@compiled_wide(
    "void(intp, intp, int64, int64[::1], int64[:, :, ::1], uint8[:, :, :, :, ::1], uint8[::1], intp, intp, intp)"
)
def columns_kernel(  # noqa: PLR0913 - addresses and strides
    source: int,
    source_step: int,
    height: int,
    targets: Integers,
    windows: Integers,
    tables: Pixels,
    order: Pixels,
    target: int,
    target_step: int,
    piece_step: int,
) -> None:
    """`blend_columns` of one plane; a kernel for kernels. ``piece_step`` is 16 where the output is not planar."""
    arrange = op.load(order.ctypes.data)
    steps = windows.shape[1]
    for top in range(0, height, _TILE):
        bottom = min(top + _TILE, height)
        for group in range(targets.size):
            table = tables.ctypes.data + group * steps * _STEP_BYTES
            out = target + top * target_step + targets[group]
            if steps == 1:
                pick_a, digits_a = op.load(table), op.load_digits(table + 64)
                pick_b, digits_b = op.load(table + 256), op.load_digits(table + 320)
                pick_c, digits_c = op.load(table + 512), op.load_digits(table + 576)
                row = source + top * source_step
                a, b, c = row + windows[group, 0, 0], row + windows[group, 0, 1], row + windows[group, 0, 2]
                for _ in range(top, bottom):
                    pixels_a = op.pixels_of_quad(op.permute(pick_a, op.load(a)), digits_a)
                    pixels_b = op.pixels_of_quad(op.permute(pick_b, op.load(b)), digits_b)
                    pixels_c = op.pixels_of_quad(op.permute(pick_c, op.load(c)), digits_c)
                    packed = op.pack(pixels_a, pixels_b, pixels_c, pixels_c)
                    op.store_pieces(out, piece_step, op.permute(arrange, packed))
                    a, b, c, out = a + source_step, b + source_step, c + source_step, out + target_step
                continue
            # Two rows share what is read from the tables; an odd last row is done twice.
            for y in range(top, bottom, 2):
                row = source + y * source_step
                below = source_step if y + 1 < height else 0
                a0 = b0 = c0 = a1 = b1 = c1 = op.no_products()
                for step in range(steps):
                    at = table + step * _STEP_BYTES
                    place, pick, digits = row + windows[group, step, 0], op.load(at), op.load_digits(at + 64)
                    a0 = op.add_products(a0, op.permute(pick, op.load(place)), digits)
                    a1 = op.add_products(a1, op.permute(pick, op.load(place + below)), digits)
                    place, pick, digits = row + windows[group, step, 1], op.load(at + 256), op.load_digits(at + 320)
                    b0 = op.add_products(b0, op.permute(pick, op.load(place)), digits)
                    b1 = op.add_products(b1, op.permute(pick, op.load(place + below)), digits)
                    place, pick, digits = row + windows[group, step, 2], op.load(at + 512), op.load_digits(at + 576)
                    c0 = op.add_products(c0, op.permute(pick, op.load(place)), digits)
                    c1 = op.add_products(c1, op.permute(pick, op.load(place + below)), digits)
                packed = op.pack(op.pixels(a0), op.pixels(b0), op.pixels(c0), op.pixels(c0))
                op.store_pieces(out, piece_step, op.permute(arrange, packed))
                out += target_step if y + 1 < height else 0
                packed = op.pack(op.pixels(a1), op.pixels(b1), op.pixels(c1), op.pixels(c1))
                op.store_pieces(out, piece_step, op.permute(arrange, packed))
                out += target_step


@compiled_wide("void(intp, intp, intp, int64, int64, int64[::1], int64[::1], uint8[:, :, :, ::1], intp, intp, intp)")
def rows_kernel(  # noqa: PLR0913 - addresses and strides
    source: int,
    source_plane_step: int,
    source_step: int,
    planes: int,
    row_bytes: int,
    first: Integers,
    last: Integers,
    digits: Pixels,
    target: int,
    target_plane_step: int,
    target_step: int,
) -> None:
    """`blend_rows`; a kernel for kernels."""
    for row in range(first.size):
        table = digits.ctypes.data + row * digits.shape[1] * 12
        end = last[row]
        single = op.spread_digits(table)
        for plane in range(planes):
            out = target + plane * target_plane_step + row * target_step
            start = source + plane * source_plane_step + first[row] * source_step
            b, c, d = source_step * min(1, end), source_step * min(2, end), source_step * min(3, end)
            for x in range(0, row_bytes, 64):
                mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - min(64, row_bytes - x))
                a = start + x
                if end < 4:
                    q0, q1, q2, q3 = op.load_quads(a, a + b, a + c, a + d, mask)
                    p0, p1 = op.pixels_of_quad(q0, single), op.pixels_of_quad(q1, single)
                    p2, p3 = op.pixels_of_quad(q2, single), op.pixels_of_quad(q3, single)
                else:
                    s0 = s1 = s2 = s3 = op.no_products()
                    for tap in range(0, end + 1, 4):
                        b, c, d = (
                            source_step * min(1, end - tap),
                            source_step * min(2, end - tap),
                            source_step * min(3, end - tap),
                        )
                        q0, q1, q2, q3 = op.load_quads(a, a + b, a + c, a + d, mask)
                        weights = op.spread_digits(table + tap * 3)
                        s0, s1 = op.add_products(s0, q0, weights), op.add_products(s1, q1, weights)
                        s2, s3 = op.add_products(s2, q2, weights), op.add_products(s3, q3, weights)
                        a += 4 * source_step
                    p0, p1, p2, p3 = op.pixels(s0), op.pixels(s1), op.pixels(s2), op.pixels(s3)
                op.store_masked(out + x, mask, op.pack(p0, p1, p2, p3))


def is_planar(image: Pixels) -> bool:
    """Whether (H, W, 3) pixels are the view of three planes with their axes moved, not interleaved."""
    return image.ndim == 3 and image.strides[1] == 1


def _layout(image: Pixels) -> tuple[int, int, int, int, int]:
    """The address, how many planes, bytes from plane to plane and from row to row, and bytes in a row of a plane."""
    channels = image.shape[2] if image.ndim == 3 else 1
    if is_planar(image):
        return image.ctypes.data, channels, image.strides[2], image.strides[0], image.shape[1]
    if image.strides[1:] not in ((1,), (channels, 1)):
        raise ValueError(f"pixels of a row must lie side by side, in planes or interleaved, not {image.strides} apart")
    return image.ctypes.data, 1, 0, image.strides[0], image.shape[1] * channels


def blend_columns(image: Pixels, plan: Columns, out: Pixels) -> None:
    """Resample along the rows.

    Args:
        image: uint8, (H, W) or (H, W, 3), W columns as planned; the bytes of a row lie side by side. Only read.
        plan: from `plan_columns`.
        out: uint8, (H, w) or (H, w, 3); overwritten. Rows as of ``image``, or planes if planned so: a view of an
            array (3, H, w) whose axes are moved. Must not overlap ``image``.
    """
    source, _, _, source_step, row_bytes = _layout(image)
    target, planes, plane_step, target_step, lanes = _layout(out)
    height = image.shape[0]
    fits = (row_bytes, lanes * planes, planes == 3) == (plan.row_bytes, plan.lanes, plan.planar)
    if not fits or out.shape[0] != height or is_planar(image) or not out.flags.writeable:
        raise ValueError(f"planned for other arrays than {image.shape} and {out.shape}")
    tables = (plan.targets, plan.windows, plan.tables, plan.order)
    columns_kernel(source, source_step, height, *tables, target, target_step, plane_step if plan.planar else 16)


def blend_rows(image: Pixels, plan: Rows, out: Pixels) -> None:
    """Resample down the columns.

    Args:
        image: uint8, (H, W) or (H, W, 3), H rows as planned; interleaved, or planes (see `blend_columns`). Only read.
        plan: from `plan_rows`.
        out: as ``image``, h rows; overwritten. Must not overlap ``image``.
    """
    source, planes, source_plane_step, source_step, row_bytes = _layout(image)
    target, *others, target_plane_step, target_step, out_bytes = _layout(out)
    fits = (image.shape[0], out.shape[0], [planes], row_bytes) == (plan.height, plan.first.size, others, out_bytes)
    if not fits or not out.flags.writeable:
        raise ValueError(f"planned for other arrays than {image.shape} and {out.shape}")
    steps = (source_plane_step, source_step, planes, row_bytes)
    rows_kernel(source, *steps, plan.first, plan.last, plan.digits, target, target_plane_step, target_step)
