"""AVX-512 instructions as functions that kernels can call; used by `arraystore._kernels.vectors.resample_avx512`.

numba has no vector types. Here a new numba type stands for one register of 512 bits, and each function below makes one
to eight instructions of LLVM's intermediate language when a kernel that calls it is compiled. In a kernel:

    address       a plain integer
    register      64 bytes, or 16 integers of 32 bits
    quads         a register seen as 16 groups of four bytes: four pixels that one output byte is made of
    digits        three registers: the low, middle and high base-256 digits of 22-bit weights
    sums          three registers: the sums of pixel × low digit, pixel × middle digit and pixel × high digit

When you change this file, touch the files of the kernels as well: numba's cache on disk recompiles a kernel only if the
kernel's own file has changed.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.extending import models, register_model

from arraystore._kernels.compiled import compiled
from arraystore._kernels.vectors.instructions import call, instruction

_logger = logging.getLogger(__name__)

_config: Any = numba.config  # typed in some versions only
_I32X16, _I16X32, _I8X64 = (ir.VectorType(ir.IntType(bits), 512 // bits) for bits in (32, 16, 8))


def _detect() -> bool:
    if os.environ.get("ARRAYSTORE_PORTABLE", "0") != "0" or _config.DISABLE_JIT:
        return False
    # With these settings numba compiles for another processor, or without AVX, and has no such instructions.
    if _config.CPU_NAME or _config.CPU_FEATURES or not _config.ENABLE_AVX:
        return False
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:
        return False  # LLVM does not know the processor's features on this platform
    return all(features.get(name, False) for name in ("avx512bw", "avx512vbmi", "avx512vnni"))


_detected = _detect()
_failures: list[Exception] = []


def supported() -> bool:
    """Return whether the instructions can be used; ``ARRAYSTORE_PORTABLE=1`` in the environment turns them off."""
    return _detected and not _failures


def compiled_avx512(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a kernel that calls the instructions below; where they are not supported, leave it a Python function."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not supported():
            return function
        try:
            return compiled(signature)(function)
        except Exception as error:  # any: future versions of numba and LLVM may fail in other ways than today's
            message = "images are resampled by the portable kernel, several times slower, because this one failed: %s"
            _logger.warning(message, function.__name__, exc_info=True)
            _failures.append(error)
            return function

    return decorate


class _Register(types.Type):  # type: ignore[misc,unused-ignore]
    """A register of 512 bits."""


_register = _Register("Register512")  # type: ignore[no-untyped-call,unused-ignore]
_types: Any = types  # typed in some versions only
_three = _types.UniTuple(_register, 3)
_four = _types.UniTuple(_register, 4)


@register_model(_Register)
class _RegisterModel(models.PrimitiveModel):  # type: ignore[misc,unused-ignore]
    def __init__(self, manager: Any, of_type: Any) -> None:
        super().__init__(manager, of_type, _I32X16)  # type: ignore[no-untyped-call,unused-ignore]


def _tuple(builder: Any, values: list[Any]) -> Any:
    together = ir.Constant(ir.ArrayType(_I32X16, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        together = builder.insert_value(together, builder.bitcast(value, _I32X16), i)
    return together


def _read(builder: Any, address: Any, offset: int = 0) -> Any:
    address = builder.add(address, address.type(offset))
    return builder.load(builder.inttoptr(address, _I32X16.as_pointer()), align=1)


def _splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_I32X16, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(_I32X16, [0] * 16))


def _each(value: int) -> Any:
    return ir.Constant(_I32X16, [value] * 16)


def _multiply_add(builder: Any, sums: Any, pixels: Any, weights: Any) -> Any:
    # vpdpbusd: multiply 64 unsigned bytes (pixels) by 64 signed bytes (weights), and add each four neighboring products
    # to one of 16 sums. From LLVM 22 on the operands are declared as bytes; it still accepts this older declaration.
    return call(builder, "llvm.x86.avx512.vpdpbusd.512", _I32X16, sums, pixels, weights)


@instruction(_register, types.intp)
def load(builder: Any, address: Any) -> Any:
    """Load a register from memory."""
    return _read(builder, address)


@instruction(_three, types.intp)
def load_digits(builder: Any, address: Any) -> Any:
    """Load three registers that lie one after the other in memory."""
    return _tuple(builder, [_read(builder, address, 64 * i) for i in range(3)])


@instruction(_three, types.intp)
def spread_digits(builder: Any, address: Any) -> Any:
    """Load three 32-bit words from memory, and repeat each 16 times to fill a register."""
    words = builder.inttoptr(address, ir.ArrayType(ir.IntType(32), 3).as_pointer())
    loaded = builder.load(words, align=4)
    return _tuple(builder, [_splat(builder, builder.extract_value(loaded, i)) for i in range(3)])


@instruction(types.void, types.intp, types.uint64, _register)
def store_masked(builder: Any, address: Any, mask: Any, register: Any) -> Any:
    """Store the bytes of a register whose bits are set in the mask; leave the memory of the others alone."""
    pointer = builder.inttoptr(address, _I8X64.as_pointer())
    bits = builder.bitcast(mask, ir.VectorType(ir.IntType(1), 64))
    pixels = builder.bitcast(register, _I8X64)
    call(builder, "llvm.masked.store.v64i8.p0", ir.VoidType(), pixels, pointer, ir.IntType(32)(1), bits)


@instruction(types.void, types.intp, types.intp, _register)
def store_pieces(builder: Any, address: Any, step: Any, register: Any) -> Any:
    """Store the first three quarters of a register, 16 bytes each, at addresses that are ``step`` bytes apart."""
    for piece in range(3):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 4), list(range(4 * piece, 4 * piece + 4)))
        quarter = builder.shuffle_vector(register, register, mask)
        builder.store(quarter, builder.inttoptr(address, quarter.type.as_pointer()), align=1)
        address = builder.add(address, step)


@instruction(_register, _register, _register)
def permute(builder: Any, index: Any, register: Any) -> Any:
    """Reorder bytes (vpermb): byte i of the result is byte ``index[i]`` of the register."""
    register, index = (builder.bitcast(value, _I8X64) for value in (register, index))
    return builder.bitcast(call(builder, "llvm.x86.avx512.permvar.qi.512", _I8X64, register, index), _I32X16)


@instruction(_four, types.intp, types.intp, types.intp, types.intp, types.uint64)
def load_quads(builder: Any, *rows_and_mask: Any) -> Any:
    """Load 64 bytes from each of four rows, and interleave them: quad i has byte i of each row.

    The 64 quads fill four registers, not in the order of i, but as the processor's instructions interleave: within each
    quarter of a register (16 bytes). `pack` works within quarters too, and so restores the order. Bytes whose bits are
    not set in the mask are not read and count as zero.
    """
    *rows, mask = rows_and_mask
    bits, nothing = builder.bitcast(mask, ir.VectorType(ir.IntType(1), 64)), ir.Constant(_I8X64, [0] * 64)
    pointers = [builder.inttoptr(row, _I8X64.as_pointer()) for row in rows]
    a, b, c, d = (
        call(builder, "llvm.masked.load.v64i8.p0", _I8X64, pointer, ir.IntType(32)(1), bits, nothing)
        for pointer in pointers
    )

    def interleave(x: Any, y: Any, kind: Any, *, upper: bool) -> Any:
        quarter = kind.count // 4
        picks = [q * quarter + upper * quarter // 2 + i for q in range(4) for i in range(quarter // 2)]
        mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [p for i in picks for p in (i, kind.count + i)])
        return builder.shuffle_vector(builder.bitcast(x, kind), builder.bitcast(y, kind), mask)

    quads = []
    for upper in (False, True):
        ab, cd = interleave(a, b, _I8X64, upper=upper), interleave(c, d, _I8X64, upper=upper)
        quads += [interleave(ab, cd, _I16X32, upper=half) for half in (False, True)]
    return _tuple(builder, quads)


@instruction(_three, _three, _register, _three)
def add_products(builder: Any, sums: Any, quads: Any, weights: Any) -> Any:
    """Add 16 quads, multiplied by the digits of their weights, to the sums of each digit."""
    digits = ((builder.extract_value(sums, i), builder.extract_value(weights, i)) for i in range(3))
    return _tuple(builder, [_multiply_add(builder, total, quads, digit) for total, digit in digits])


@instruction(_three)
def no_products(builder: Any) -> Any:
    """Return sums to start from: zero, and in the low digit 2²¹, one half, so that `pixels` rounds to the nearest."""
    return _tuple(builder, [_each(1 << 21), _each(0), _each(0)])


@instruction(_register, _three)
def pixels(builder: Any, sums: Any) -> Any:
    """Return 16 pixels, not yet clamped to bytes: (low + 256 × middle + 65536 × high) >> 22."""
    low, middle, high = (builder.extract_value(sums, i) for i in range(3))
    middle = builder.add(middle, builder.shl(high, _each(8)))
    return builder.ashr(builder.add(low, builder.shl(middle, _each(8))), _each(22))


@instruction(_register, _register, _three)
def pixels_of_quad(builder: Any, quads: Any, weights: Any) -> Any:
    """Return 16 pixels that are made of one quad each, in fewer instructions than `add_products` and `pixels`.

    One sum starts with the high digit, and is shifted left by 8 bits before each lower digit is added.
    """
    low, middle, high = (builder.extract_value(weights, i) for i in range(3))
    total = _multiply_add(builder, _each(1 << 5), quads, high)  # two shifts make it 1 << 21, the half that rounds
    total = _multiply_add(builder, builder.shl(total, _each(8)), quads, middle)
    total = _multiply_add(builder, builder.shl(total, _each(8)), quads, low)
    return builder.ashr(total, _each(22))


@instruction(_register, _register, _register, _register, _register)
def pack(builder: Any, *pixels: Any) -> Any:
    """Clamp four registers of 16 integers to 0 … 255; each quarter of the result is made of a quarter of each."""
    pairs = [call(builder, "llvm.x86.avx512.packssdw.512", _I16X32, *pixels[i : i + 2]) for i in (0, 2)]
    return builder.bitcast(call(builder, "llvm.x86.avx512.packuswb.512", _I8X64, *pairs), _I32X16)
