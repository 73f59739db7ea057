"""Swap rows and columns of bytes, in blocks of 16 by 16, each of which is turned in registers."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from arraystore._kernels.compiled import READ_ONLY, Pixels, compiled
from arraystore._kernels.vectors.instructions import instruction

BLOCK = 16
_ROW = ir.VectorType(ir.IntType(8), BLOCK)
_HALVES = [
    ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [start + i // 2 + BLOCK * (i % 2) for i in range(BLOCK)])
    for start in (0, BLOCK // 2)
]


@instruction(types.void, types.intp, types.intp, types.intp, types.intp)
def _turn_block(builder: Any, address: Any, step: Any, to: Any, to_step: Any) -> None:
    """Turn a block: 16 rows of 16 bytes, from an address on, so many bytes apart. They must be inside their arrays.

    Row i is interleaved with row i + 8, for each i below 8. After four such rounds the rows are the columns.
    """
    rows = []
    for _ in range(BLOCK):
        rows.append(builder.load(builder.inttoptr(address, _ROW.as_pointer()), align=1))
        address = builder.add(address, step)
    for _ in range(4):
        pairs = zip(rows[: BLOCK // 2], rows[BLOCK // 2 :], strict=True)
        rows = [builder.shuffle_vector(upper, lower, half) for upper, lower in pairs for half in _HALVES]
    for row in rows:
        builder.store(row, builder.inttoptr(to, _ROW.as_pointer()), align=1)
        to = builder.add(to, to_step)


@compiled(f"void({READ_ONLY}, int64, int64, int64, int64, uint8[::1], int64, int64)")
def transpose(
    source: Pixels, start: int, step: int, rows: int, columns: int, target: Pixels, first: int, target_step: int
) -> None:
    """Write the columns of a matrix of bytes as rows: target[first + x·target_step + y] = source[start + y·step + x].

    Args:
        source: uint8, flat; it has ``rows`` rows of ``columns`` bytes from ``start`` on, each ``step`` bytes apart.
        start: see above, as for the others.
        step: see above.
        rows: see above.
        columns: see above.
        target: uint8, flat; it has room for ``columns`` rows of ``rows`` bytes, each ``target_step`` bytes apart.
        first: the first byte that is written.
        target_step: see above.
    """
    if rows < BLOCK or columns < BLOCK:
        for y in range(rows):
            for x in range(columns):
                target[first + x * target_step + y] = source[start + y * step + x]
        return
    address, to = source.ctypes.data + start, target.ctypes.data + first
    # The last block of a row or column lies over the one before it where the sides are not multiples of 16.
    for top in range(0, rows, BLOCK):
        y = min(top, rows - BLOCK)
        for left in range(0, columns, BLOCK):
            x = min(left, columns - BLOCK)
            _turn_block(
                np.intp(address + y * step + x), np.intp(step), np.intp(to + x * target_step + y), np.intp(target_step)
            )
