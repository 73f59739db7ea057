"""Instructions of LLVM's intermediate language as functions that kernels can call.

When you change this file, touch the files of the kernels as well: numba's cache on disk recompiles a kernel only if the
kernel's own file has changed.
"""

from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# 32 bytes: one or two registers of most processors. LLVM makes what others need.
STEP_BYTES = 32
_STEP = ir.VectorType(ir.IntType(8), STEP_BYTES)
_I32, _I64 = ir.IntType(32), ir.IntType(64)


def instruction(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a function that kernels can call of ``emit(builder, *values)``, which appends its instructions."""

    def decorate(emit: Callable[..., Any]) -> Any:
        def typed(_context: Any, *_arguments: Any) -> Any:
            def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
                return emit(builder, *values)

            return result(*arguments), generate

        function: Any = typed
        function.__name__ = emit.__name__
        # numba matches a call's arguments with the parameters' names, so there must be a name for each.
        names = ("context", *(f"argument{i}" for i in range(len(arguments))))
        function.__signature__ = Signature([Parameter(name, Parameter.POSITIONAL_ONLY) for name in names])
        return intrinsic(function)

    return decorate


def call(builder: Any, name: str, result: Any, *values: Any) -> Any:
    """Append a call of one of LLVM's own functions."""
    kind = ir.FunctionType(result, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call,unused-ignore]
    return builder.call(function, values)


def _load_step(builder: Any, address: Any) -> Any:
    return builder.load(builder.inttoptr(address, _STEP.as_pointer()), align=1)


@instruction(types.uint32, types.intp)
def ones(builder: Any, address: Any) -> Any:
    """Return which of the `STEP_BYTES` bytes from an address on are 0xFF: bit i of the result is that of byte i.

    The caller sees to it that all of them are inside an array.
    """
    same = builder.icmp_unsigned("==", _load_step(builder, address), ir.Constant(_STEP, [0xFF] * STEP_BYTES))
    return builder.bitcast(same, _I32)


@instruction(types.void, types.intp, types.intp)
def copy_step(builder: Any, to: Any, address: Any) -> None:
    """Copy `STEP_BYTES` bytes. The caller sees to it that they are inside their arrays, at both addresses."""
    builder.store(_load_step(builder, address), builder.inttoptr(to, _STEP.as_pointer()), align=1)


@instruction(types.intp, types.uint32)
def lowest_bit(builder: Any, bits: Any) -> Any:
    """Return the number of the lowest bit that is set; there must be one."""
    lowest = call(builder, "llvm.cttz.i32", _I32, bits, ir.IntType(1)(1))
    return builder.zext(lowest, _I64)


@instruction(types.uint64, types.intp)
def load_word(builder: Any, address: Any) -> Any:
    """Return the eight bytes from an address on as one number, the first byte highest; see `ones`."""
    word = builder.load(builder.inttoptr(address, _I64.as_pointer()), align=1)
    return call(builder, "llvm.bswap.i64", _I64, word)


@instruction(types.void, types.intp, types.uint64)
def store_word(builder: Any, address: Any, word: Any) -> None:
    """Write a number as eight bytes, its highest byte first; see `copy_step`."""
    turned = call(builder, "llvm.bswap.i64", _I64, word)
    builder.store(turned, builder.inttoptr(address, _I64.as_pointer()), align=1)


@instruction(types.void, types.intp, types.uint64)
def store_byte(builder: Any, address: Any, value: Any) -> None:
    """Write the lowest eight bits of a number as one byte; see `copy_step`."""
    byte = builder.trunc(value, ir.IntType(8))
    builder.store(byte, builder.inttoptr(address, ir.IntType(8).as_pointer()), align=1)
