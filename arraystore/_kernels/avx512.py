"""512-bit instructions that kernels can call, for `arraystore._kernels.resample_avx512` and processors that have them.

To a kernel a register is a value like a number, an address is a plain integer, and every function here stands for one
to eight instructions:

    register      64 bytes, or 16 sums of 32 bits
    digits, sums  three registers that belong together: the lowest, middle and highest digits of 22-bit weights to the
                  base 256, and what adds up of pixels times each of them

numba's cache on disk watches a kernel's own file only: a change here shows when the kernels' file is touched.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from arraystore._kernels.compiled import compiled

__all__ = [
    "add_products",
    "compiled_wide",
    "load",
    "load_digits",
    "load_quads",
    "no_products",
    "pack",
    "permute",
    "pixels",
    "pixels_of_quad",
    "spread_digits",
    "store_masked",
    "store_pieces",
    "supported",
]

_log = logging.getLogger(__name__)

_config: Any = numba.config  # typed in some versions only
_I32X16, _I16X32, _I8X64 = (ir.VectorType(ir.IntType(bits), 512 // bits) for bits in (32, 16, 8))


def _detect() -> bool:
    if os.environ.get("ARRAYSTORE_PORTABLE", "0") != "0" or _config.DISABLE_JIT:
        return False
    # Told to compile for another processor, or without AVX, numba would not know these instructions.
    if _config.CPU_NAME or _config.CPU_FEATURES or not _config.ENABLE_AVX:
        return False
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:
        return False  # LLVM cannot tell on this platform
    return all(features.get(name, False) for name in ("avx512bw", "avx512vbmi", "avx512vnni"))


_detected = _detect()
_failures: list[Exception] = []


def supported() -> bool:
    """Whether the instructions below can be used; with ``ARRAYSTORE_PORTABLE=1`` in the environment they are not."""
    return _detected and not _failures


def compiled_wide(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`compiled` for kernels that call the instructions below: left as they are where there are none."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not supported():
            return function
        try:
            return compiled(signature)(function)
        except Exception as error:  # noqa: BLE001 - whatever a future compiler dislikes, the portable kernel is there
            _log.warning("images are resampled by the portable kernel, several times slower: %s", error)
            _failures.append(error)
            return function

    return decorate


class _Register(types.Type):  # type: ignore[misc,unused-ignore]
    def __init__(self) -> None:
        super().__init__(name="Register512")


_register = _Register()
_types: Any = types  # typed in some versions only
_three = _types.UniTuple(_register, 3)
_four = _types.UniTuple(_register, 4)


@register_model(_Register)
class _RegisterModel(models.PrimitiveModel):  # type: ignore[misc,unused-ignore]
    def __init__(self, manager: Any, of_type: Any) -> None:
        super().__init__(manager, of_type, _I32X16)  # type: ignore[no-untyped-call,unused-ignore]


def _instruction(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make what ``emit(builder, *values)`` builds a function of kernels with these types."""

    def decorate(emit: Callable[..., Any]) -> Any:
        def typed(_context: Any, *_arguments: Any) -> Any:
            def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
                return emit(builder, *values)

            return result(*arguments), generate

        typed.__name__ = emit.__name__
        # numba matches arguments with names, and wants as many names as arguments.
        names = ("context", *(f"argument{i}" for i in range(len(arguments))))
        typed.__signature__ = Signature(  # type: ignore[attr-defined]
            [Parameter(name, Parameter.POSITIONAL_ONLY) for name in names]
        )
        return intrinsic(typed)

    return decorate


def _call(builder: Any, name: str, result: Any, *values: Any) -> Any:
    kind = ir.FunctionType(result, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call,unused-ignore]
    return builder.call(function, values)


def _tuple(builder: Any, values: list[Any]) -> Any:
    together = ir.Constant(ir.ArrayType(_I32X16, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        together = builder.insert_value(together, builder.bitcast(value, _I32X16), i)
    return together


def _read(builder: Any, address: Any, at: int = 0) -> Any:
    place = builder.add(address, address.type(at))
    return builder.load(builder.inttoptr(place, _I32X16.as_pointer()), align=1)


def _splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_I32X16, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(_I32X16, [0] * 16))


def _each(value: int) -> Any:
    return ir.Constant(_I32X16, [value] * 16)


def _multiply_add(builder: Any, sums: Any, pixels: Any, weights: Any) -> Any:
    # Declared as before LLVM 22, which takes bytes: newer ones still read the older form.
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", _I32X16, sums, pixels, weights)


@_instruction(_register, types.intp)
def load(builder: Any, address: Any) -> Any:
    """A register from memory."""
    return _read(builder, address)


@_instruction(_three, types.intp)
def load_digits(builder: Any, address: Any) -> Any:
    """Three registers from memory, one after another."""
    return _tuple(builder, [_read(builder, address, 64 * i) for i in range(3)])


@_instruction(_three, types.intp)
def spread_digits(builder: Any, address: Any) -> Any:
    """Three 32-bit words from memory, each to all 16 places of a register."""
    words = builder.inttoptr(address, ir.ArrayType(ir.IntType(32), 3).as_pointer())
    loaded = builder.load(words, align=4)
    return _tuple(builder, [_splat(builder, builder.extract_value(loaded, i)) for i in range(3)])


@_instruction(types.void, types.intp, types.uint64, _register)
def store_masked(builder: Any, address: Any, mask: Any, register: Any) -> Any:
    """Store the bytes whose bit is set in the mask; no others are touched."""
    place = builder.inttoptr(address, _I8X64.as_pointer())
    bits = builder.bitcast(mask, ir.VectorType(ir.IntType(1), 64))
    pixels = builder.bitcast(register, _I8X64)
    _call(builder, "llvm.masked.store.v64i8.p0", ir.VoidType(), pixels, place, ir.IntType(32)(1), bits)


@_instruction(types.void, types.intp, types.intp, _register)
def store_pieces(builder: Any, address: Any, step: Any, register: Any) -> Any:
    """The first three quarters of a register, 16 bytes each, ``step`` bytes apart."""
    for piece in range(3):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), 4), list(range(4 * piece, 4 * piece + 4)))
        quarter = builder.shuffle_vector(register, register, mask)
        builder.store(quarter, builder.inttoptr(address, quarter.type.as_pointer()), align=1)
        address = builder.add(address, step)


@_instruction(_register, _register, _register)
def permute(builder: Any, index: Any, register: Any) -> Any:
    """Byte i of the result is byte ``index[i]`` of the register."""
    register, index = (builder.bitcast(value, _I8X64) for value in (register, index))
    return builder.bitcast(_call(builder, "llvm.x86.avx512.permvar.qi.512", _I8X64, register, index), _I32X16)


@_instruction(_four, types.intp, types.intp, types.intp, types.intp, types.uint64)
def load_quads(builder: Any, *rows_and_mask: Any) -> Any:
    """Interleave four rows: 64 quads of a byte of each.

    As the processor's unpacking does within each quarter of a register; `pack` undoes it. Bytes outside the mask are
    not read and count as zero.
    """
    *rows, mask = rows_and_mask
    bits, nothing = builder.bitcast(mask, ir.VectorType(ir.IntType(1), 64)), ir.Constant(_I8X64, [0] * 64)
    places = [builder.inttoptr(row, _I8X64.as_pointer()) for row in rows]
    a, b, c, d = (
        _call(builder, "llvm.masked.load.v64i8.p0", _I8X64, place, ir.IntType(32)(1), bits, nothing) for place in places
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


@_instruction(_three, _three, _register, _three)
def add_products(builder: Any, sums: Any, quads: Any, weights: Any) -> Any:
    """Add 16 quads times their weights to the sums, digit by digit."""
    digits = ((builder.extract_value(sums, i), builder.extract_value(weights, i)) for i in range(3))
    return _tuple(builder, [_multiply_add(builder, total, quads, digit) for total, digit in digits])


@_instruction(_three)
def no_products(builder: Any) -> Any:
    """Sums of nothing, but for the half that makes dropping the fraction round."""
    return _tuple(builder, [_each(1 << 21), _each(0), _each(0)])


@_instruction(_register, _three)
def pixels(builder: Any, sums: Any) -> Any:
    """Put the digits of 16 sums together, and drop the fraction."""
    low, middle, high = (builder.extract_value(sums, i) for i in range(3))
    middle = builder.add(middle, builder.shl(high, _each(8)))
    return builder.ashr(builder.add(low, builder.shl(middle, _each(8))), _each(22))


@_instruction(_register, _register, _three)
def pixels_of_quad(builder: Any, quads: Any, weights: Any) -> Any:
    """`pixels` where four taps are all: the highest digit first, shifted up under way, spares two additions."""
    low, middle, high = (builder.extract_value(weights, i) for i in range(3))
    total = _multiply_add(builder, _each(1 << 5), quads, high)  # the half that rounds, 1 << 21, after two shifts
    total = _multiply_add(builder, builder.shl(total, _each(8)), quads, middle)
    total = _multiply_add(builder, builder.shl(total, _each(8)), quads, low)
    return builder.ashr(total, _each(22))


@_instruction(_register, _register, _register, _register, _register)
def pack(builder: Any, *pixels: Any) -> Any:
    """Clamp four times 16 integers to bytes; each quarter of the result has a quarter of all four."""
    pairs = [_call(builder, "llvm.x86.avx512.packssdw.512", _I16X32, *pixels[i : i + 2]) for i in (0, 2)]
    return builder.bitcast(_call(builder, "llvm.x86.avx512.packuswb.512", _I8X64, *pairs), _I32X16)
