"""The two passes of `arraystore._kernels.resample` for processors with AVX-512 VBMI and VNNI.

They compute the same sums, bit for bit, several times as fast and without transposes.

**Weights as digits.** One instruction (vpdpbusd) multiplies 64 unsigned bytes by 64 signed bytes, and adds each four
neighboring products to one of 16 integers. Pixels are unsigned bytes already. A weight has 22 bits and a sign, so it is
written with three signed digits to the base 256, k = k0 + 256 × k1 + 65536 × k2, and the products with each digit are
summed apart. All is computed modulo 2³², and the result fits into 32 bits, so it is exact. The four bytes that one
output byte is made of, a quad, must be brought side by side.

**Down the columns** (`blend_rows`). Four input rows are loaded and interleaved; each quad then has the four bytes of
one output byte. Packing the sums to bytes puts them back in order:

    row a  a0 a1 a2 …                          sums of 16 quads   ┐
    row b  b0 b1 b2 …   →  a0 b0 c0 d0 a1 …  → in each of four    ├→  64 bytes of the output row
    row c  c0 c1 c2 …                          registers          ┘
    row d  d0 d1 d2 …

**Along the rows** (`blend_columns`). A lane is one byte of the output row. A chunk is 64 bytes of the input row, loaded
into one register. A permutation (vpermb) picks the quads of 16 lanes out of a chunk, straight from interleaved pixels.
Which bytes it picks is the same for all rows of the image, so it is computed once, as a table:

    input row   r0 g0 b0 r1 g1 b1 r2 g2 b2 r3 g3 b3 r4 g4 …            (ratio 1.5: pixels 0…3 make pixel 1)
                └──────────── chunk: 64 bytes ─────────────┘
    quads       lane 0: r0 r1 r2 ·   lane 1: g0 g1 g2 ·   lane 2: b0 b1 b2 ·   lane 3: r0 r1 r2 r3   …  lane 15

A lane may have more than four taps, and 16 lanes may need bytes that are further apart than a chunk is long. Then there
are more steps; each has its own chunk, and gives every lane as many of its next taps as the chunk holds, up to four. A
chunk never crosses the ends of the row. Three times 16 lanes make a group: 16 pixels of three channels, or 48 pixels of
one. A last permutation puts the bytes of a group in the order of the output row, or gathers the 16 bytes of each plane.

`arraystore._kernels.vectors.plan_avx512` makes the tables. If the processor lacks the instructions, or a row is too
short for a chunk or a group, there is no plan, and the caller uses the portable kernel.

The arguments ``source`` and ``target`` of kernels are addresses, and a step is a number of bytes from one row or plane
to the next. The other arguments are fields of `Columns` and `Rows`.
"""

import numpy as np

from arraystore._kernels.compiled import Integers, Pixels
from arraystore._kernels.vectors import avx512 as op
from arraystore._kernels.vectors.avx512 import compiled_avx512
from arraystore._kernels.vectors.plan_avx512 import STEP_BYTES, Columns, Rows

# A group's tables are used for so many rows before the next group's: few, so that the rows stay in the first cache.
_TILE_ROWS = 16


@compiled_avx512(
    "void(intp, intp, int64, int64[::1], int64[:, :, ::1], uint8[:, :, :, :, ::1], uint8[::1], intp, intp, intp)"
)
def columns_kernel(
    source: int,
    source_step: int,
    height: int,
    targets: Integers,
    chunks: Integers,
    tables: Pixels,
    order: Pixels,
    target: int,
    target_step: int,
    piece_step: int,
) -> None:
    """Do the work of `blend_columns`; called by kernels.

    ``piece_step`` is from one third of a group to the next: from plane to plane, or 16 if there are no planes.
    """
    arrange = op.load(order.ctypes.data)
    steps = chunks.shape[1]
    for top in range(0, height, _TILE_ROWS):
        bottom = min(top + _TILE_ROWS, height)
        for group in range(targets.size):
            table = tables.ctypes.data + group * steps * STEP_BYTES
            out = target + top * target_step + targets[group]
            if steps == 1:
                pick_a, digits_a = op.load(table), op.load_digits(table + 64)
                pick_b, digits_b = op.load(table + 256), op.load_digits(table + 320)
                pick_c, digits_c = op.load(table + 512), op.load_digits(table + 576)
                row = source + top * source_step
                a, b, c = row + chunks[group, 0, 0], row + chunks[group, 0, 1], row + chunks[group, 0, 2]
                for _ in range(top, bottom):
                    pixels_a = op.pixels_of_quad(op.permute(pick_a, op.load(a)), digits_a)
                    pixels_b = op.pixels_of_quad(op.permute(pick_b, op.load(b)), digits_b)
                    pixels_c = op.pixels_of_quad(op.permute(pick_c, op.load(c)), digits_c)
                    packed = op.pack(pixels_a, pixels_b, pixels_c, pixels_c)
                    op.store_pieces(out, piece_step, op.permute(arrange, packed))
                    a, b, c, out = a + source_step, b + source_step, c + source_step, out + target_step
                continue
            # Two rows share what is read from the tables. Of an odd number of rows the last is computed twice.
            for y in range(top, bottom, 2):
                row = source + y * source_step
                below = source_step if y + 1 < height else 0
                a0 = b0 = c0 = a1 = b1 = c1 = op.no_products()
                for step in range(steps):
                    entry = table + step * STEP_BYTES
                    chunk = row + chunks[group, step, 0]
                    pick, digits = op.load(entry), op.load_digits(entry + 64)
                    a0 = op.add_products(a0, op.permute(pick, op.load(chunk)), digits)
                    a1 = op.add_products(a1, op.permute(pick, op.load(chunk + below)), digits)
                    chunk = row + chunks[group, step, 1]
                    pick, digits = op.load(entry + 256), op.load_digits(entry + 320)
                    b0 = op.add_products(b0, op.permute(pick, op.load(chunk)), digits)
                    b1 = op.add_products(b1, op.permute(pick, op.load(chunk + below)), digits)
                    chunk = row + chunks[group, step, 2]
                    pick, digits = op.load(entry + 512), op.load_digits(entry + 576)
                    c0 = op.add_products(c0, op.permute(pick, op.load(chunk)), digits)
                    c1 = op.add_products(c1, op.permute(pick, op.load(chunk + below)), digits)
                packed = op.pack(op.pixels(a0), op.pixels(b0), op.pixels(c0), op.pixels(c0))
                op.store_pieces(out, piece_step, op.permute(arrange, packed))
                out += target_step if y + 1 < height else 0
                packed = op.pack(op.pixels(a1), op.pixels(b1), op.pixels(c1), op.pixels(c1))
                op.store_pieces(out, piece_step, op.permute(arrange, packed))
                out += target_step


@compiled_avx512("void(intp, intp, intp, int64, int64, int64[::1], int64[::1], uint8[:, :, :, ::1], intp, intp, intp)")
def rows_kernel(
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
    """Do the work of `blend_rows`; called by kernels."""
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
                        left = end - tap
                        b, c, d = source_step * min(1, left), source_step * min(2, left), source_step * min(3, left)
                        q0, q1, q2, q3 = op.load_quads(a, a + b, a + c, a + d, mask)
                        weights = op.spread_digits(table + tap * 3)
                        s0, s1 = op.add_products(s0, q0, weights), op.add_products(s1, q1, weights)
                        s2, s3 = op.add_products(s2, q2, weights), op.add_products(s3, q3, weights)
                        a += 4 * source_step
                    p0, p1, p2, p3 = op.pixels(s0), op.pixels(s1), op.pixels(s2), op.pixels(s3)
                op.store_masked(out + x, mask, op.pack(p0, p1, p2, p3))


def is_planar(image: Pixels) -> bool:
    """Return whether (H, W, 3) pixels are a transposed view of three planes, and not interleaved."""
    return image.ndim == 3 and image.strides[1] == 1


def _layout(image: Pixels) -> tuple[int, int, int, int, int]:
    """Return the address, how many planes, the steps from plane to plane and row to row, bytes in a plane's row."""
    channels = image.shape[2] if image.ndim == 3 else 1
    if is_planar(image):
        return image.ctypes.data, channels, image.strides[2], image.strides[0], image.shape[1]
    if image.strides[1:] not in ((1,), (channels, 1)):
        raise ValueError(f"pixels of a row must lie side by side, in planes or interleaved, not {image.strides} apart")
    return image.ctypes.data, 1, 0, image.strides[0], image.shape[1] * channels


def blend_columns(image: Pixels, plan: Columns, out: Pixels) -> None:
    """Resample along the rows of an image, (H, W) or (H, W, 3); the bytes of a row lie side by side.

    The output, (H, w) or (H, w, 3), must not overlap the image. If the plan is planar, it is the view
    ``planes.transpose(1, 2, 0)`` of planes (3, H, w); else its rows lie as those of the image.

    Raises:
        ValueError: the arrays do not fit the plan.
    """
    source, _, _, source_step, row_bytes = _layout(image)
    target, planes, plane_step, target_step, lanes = _layout(out)
    height = image.shape[0]
    fits = (row_bytes, lanes * planes, planes == 3) == (plan.row_bytes, plan.lanes, plan.planar)
    if not fits or out.shape[0] != height or is_planar(image) or not out.flags.writeable:
        raise ValueError(f"planned for other arrays than {image.shape} and {out.shape}")
    tables = (plan.targets, plan.chunks, plan.tables, plan.order)
    columns_kernel(source, source_step, height, *tables, target, target_step, plane_step if plan.planar else 16)


def blend_rows(image: Pixels, plan: Rows, out: Pixels) -> None:
    """Resample down the columns; interleaved pixels or planes, as ``out`` of `blend_columns`, become the same.

    Raises:
        ValueError: the arrays do not fit the plan.
    """
    source, planes, source_plane_step, source_step, row_bytes = _layout(image)
    target, *others, target_plane_step, target_step, out_bytes = _layout(out)
    fits = (image.shape[0], out.shape[0], [planes], row_bytes) == (plan.height, plan.first.size, others, out_bytes)
    if not fits or not out.flags.writeable:
        raise ValueError(f"planned for other arrays than {image.shape} and {out.shape}")
    steps = (source_plane_step, source_step, planes, row_bytes)
    rows_kernel(source, *steps, plan.first, plan.last, plan.digits, target, target_plane_step, target_step)
