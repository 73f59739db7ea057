"""Move 16 pixels of three channels between planes and interleaved channels.

LLVM knows these shuffles: it makes the few instructions of them that the processor has for the purpose.
"""

from typing import Any

from llvmlite import ir
from numba import types

from arraystore._kernels.vectors.instructions import instruction

PIXELS = 16
_PLANE = ir.VectorType(ir.IntType(8), PIXELS)
_ALL = ir.VectorType(ir.IntType(8), 3 * PIXELS)


def _mask(*places: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places))


_CHANNELS = [_mask(*range(channel, 3 * PIXELS, 3)) for channel in range(3)]
_REVERSED = _mask(*range(PIXELS - 1, -1, -1))
_TOGETHER = _mask(*range(2 * PIXELS))
_INTERLEAVED = _mask(*(channel * PIXELS + pixel for pixel in range(PIXELS) for channel in range(3)))


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


@instruction(types.void, types.intp, types.intp, types.intp, types.boolean)
def separate(builder: Any, address: Any, to: Any, plane: Any, mirrored: Any) -> None:
    """Move `PIXELS` interleaved pixels to planes, so many bytes apart; the last pixel first if they are mirrored.

    The caller sees to it that all bytes are inside their arrays, as for `interleave`.
    """
    pixels = builder.load(_at(builder, address, _ALL), align=1)
    for channel in _CHANNELS:
        values = builder.shuffle_vector(pixels, ir.Constant(_ALL, ir.Undefined), channel)
        turned = builder.shuffle_vector(values, ir.Constant(_PLANE, ir.Undefined), _REVERSED)
        builder.store(builder.select(mirrored, turned, values), _at(builder, to, _PLANE), align=1)
        to = builder.add(to, plane)


@instruction(types.void, types.intp, types.intp, types.intp, types.boolean)
def interleave(builder: Any, address: Any, plane: Any, to: Any, mirrored: Any) -> None:
    """Move `PIXELS` pixels from planes, so many bytes apart, to interleaved channels; see `separate`."""
    values = []
    for _ in range(3):
        each = builder.load(_at(builder, address, _PLANE), align=1)
        turned = builder.shuffle_vector(each, ir.Constant(_PLANE, ir.Undefined), _REVERSED)
        values.append(builder.select(mirrored, turned, each))
        address = builder.add(address, plane)
    first = builder.shuffle_vector(values[0], values[1], _TOGETHER)
    second = builder.shuffle_vector(values[2], ir.Constant(_PLANE, ir.Undefined), _TOGETHER)
    builder.store(builder.shuffle_vector(first, second, _INTERLEAVED), _at(builder, to, _ALL), align=1)
