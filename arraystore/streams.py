"""Copy rows of an array in several streams at once, past the processor's caches: the gather of large slots.

One memmove a row reads one stream, and the processor's prefetchers, which stop at the end of each page, idle half of
the time; and whatever it writes it first reads, to have it in the cache. Four streams at distances of two pages keep
them busy, and stores that bypass the cache need no such reads. `benchmarks/read.py` compares it with memcpy.

NumPy has no such loop, and numba's import alone takes longer than a first batch may. So it is LLVM's assembly, and
llvmlite, which numba brings, compiles it in a fiftieth of a second: for any processor, with the vectors that it has.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore.locks import lock_across_forks

__all__ = ["copy_rows"]

_log = logging.getLogger(__name__)

_STREAMS = 4
_STREAM_BYTES = 8192
_VECTOR_BYTES = 64
# What is smaller stays in the cache for who reads it next, and np.take is as fast there.
_LEAST_BYTES = 1 << 20

_compiling = lock_across_forks()
_engines: list[Any] = []  # the code lives as long as what compiled it

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]


def copy_rows(array: Array, rows: Index, out: Array, at: Index | None = None) -> bool:
    """Copy rows of an array to rows of another, if that is faster this way.

    Args:
        array: C-order, of at least one row.
        rows: int64, (k,): which.
        out: C-order, writable, of the same type and shape but for axis 0.
        at: int64, (k,): the rows of ``out`` that they are copied to; None for 0 to k - 1.

    Returns:
        Whether they were copied: rows have to be multiples of 64 bytes, aligned in ``out``, and many.

    Raises:
        IndexError: a row does not exist, or there are not as many places as rows.
    """
    size = out[:1].nbytes
    place = out.ctypes.data
    if rows.size * size < _LEAST_BYTES or size % _VECTOR_BYTES or place % _VECTOR_BYTES or not _alike(array, out):
        return False
    copy = _compiled()
    if copy is None:
        return False
    rows = np.ascontiguousarray(rows, np.int64)
    _check(rows, len(array))
    if at is None:
        _check(np.array([rows.size - 1]), len(out))
    else:
        at = np.ascontiguousarray(at, np.int64)
        _check(at, len(out))
        if at.size != rows.size:
            raise IndexError(f"{rows.size} rows cannot be copied to {at.size}")
    copy(array.ctypes.data, rows.ctypes.data, rows.size, place, None if at is None else at.ctypes.data, size)
    return True


def _alike(array: Array, out: Array) -> bool:
    return (
        array.dtype == out.dtype
        and array.shape[1:] == out.shape[1:]
        and bool(array.flags.c_contiguous and out.flags.c_contiguous and out.flags.writeable)
        and not array.dtype.hasobject
    )


def _check(rows: Index, count: int) -> None:
    if not (int(rows.min()) >= 0 and int(rows.max()) < count):
        raise IndexError(f"rows must be 0 to {count - 1}, not {int(rows.min())} to {int(rows.max())}")


def _compiled() -> Callable[..., None] | None:
    with _compiling:
        return _compile()


@cache
def _compile() -> Callable[..., None] | None:
    try:
        import llvmlite.binding as llvm  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - for large slots only

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        module = llvm.parse_assembly(_assembly())
        module.verify()
        target = llvm.Target.from_default_triple().create_target_machine(
            opt=2, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
        )
        engine = llvm.create_mcjit_compiler(module, target)
        engine.finalize_object()
        _engines.append(engine)
        address = engine.get_function_address("copy")
    except Exception as error:  # noqa: BLE001 - whatever a future compiler dislikes, there is np.take
        _log.warning("slots are gathered by np.take, which is slower: %s", error)
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    # A call through ctypes lets go of the interpreter's lock.
    return ctypes.CFUNCTYPE(None, pointer, pointer, number, pointer, pointer, number)(address)


def _assembly() -> str:
    """Return copy(array, rows, count, out, at, size): ``size`` bytes of each of ``count`` rows; at may be null."""
    vector = f"<{_VECTOR_BYTES // 8} x i64>"

    def move(name: str, source: str, target: str, offset: str) -> tuple[str, str]:
        load = f"""
  %{name}.s = getelementptr i8, i8* {source}, i64 {offset}
  %{name}.sv = bitcast i8* %{name}.s to {vector}*
  %{name}.v = load {vector}, {vector}* %{name}.sv, align 1"""
        store = f"""
  %{name}.d = getelementptr i8, i8* {target}, i64 {offset}
  %{name}.dv = bitcast i8* %{name}.d to {vector}*
  store {vector} %{name}.v, {vector}* %{name}.dv, align {_VECTOR_BYTES}, !nontemporal !0"""
        return load, store

    streams = range(_STREAMS)
    starts = "".join(f"\n  %start{k} = mul i64 %stream, {k}" for k in streams)
    offsets = "".join(f"\n  %offset{k} = add i64 %i, %start{k}" for k in streams)
    moves = [move(f"m{k}", "%from", "%to", f"%offset{k}") for k in streams]
    loads, stores = ("".join(lines) for lines in zip(*moves, strict=True))
    last_load, last_store = move("last", "%from", "%to", "%j")
    return f"""
define void @copy(i8* %array, i64* %rows, i64 %count, i8* %out, i64* %at, i64 %size) {{
entry:
  %any = icmp sgt i64 %count, 0
  %inorder = icmp eq i64* %at, null
  br i1 %any, label %row, label %end
row:
  %r = phi i64 [0, %entry], [%r.next, %row.end]
  %row.p = getelementptr i64, i64* %rows, i64 %r
  %row.v = load i64, i64* %row.p
  %row.o = mul i64 %row.v, %size
  %row.from = getelementptr i8, i8* %array, i64 %row.o
  br i1 %inorder, label %place, label %elsewhere
elsewhere:
  %at.p = getelementptr i64, i64* %at, i64 %r
  %at.v = load i64, i64* %at.p
  br label %place
place:
  %place.v = phi i64 [%r, %row], [%at.v, %elsewhere]
  %place.o = mul i64 %place.v, %size
  %row.to = getelementptr i8, i8* %out, i64 %place.o
  br label %chunk
chunk:
  %p = phi i64 [0, %place], [%p.next, %chunk.end]
  %left = sub i64 %size, %p
  %whole = icmp sgt i64 %left, {_STREAMS * _STREAM_BYTES}
  %length = select i1 %whole, i64 {_STREAMS * _STREAM_BYTES}, i64 %left
  %quarter = udiv i64 %length, {_STREAMS}
  %stream = and i64 %quarter, {-_VECTOR_BYTES}
  %streamed = mul i64 %stream, {_STREAMS}{starts}
  %from = getelementptr i8, i8* %row.from, i64 %p
  %to = getelementptr i8, i8* %row.to, i64 %p
  %some = icmp sgt i64 %stream, 0
  br i1 %some, label %streams, label %rest
streams:
  %i = phi i64 [0, %chunk], [%i.next, %streams]{offsets}{loads}{stores}
  %i.next = add i64 %i, {_VECTOR_BYTES}
  %i.more = icmp slt i64 %i.next, %stream
  br i1 %i.more, label %streams, label %rest
rest:
  %left.over = icmp slt i64 %streamed, %length
  br i1 %left.over, label %single, label %chunk.end
single:
  %j = phi i64 [%streamed, %rest], [%j.next, %single]{last_load}{last_store}
  %j.next = add i64 %j, {_VECTOR_BYTES}
  %j.more = icmp slt i64 %j.next, %length
  br i1 %j.more, label %single, label %chunk.end
chunk.end:
  %p.next = add i64 %p, %length
  %p.more = icmp slt i64 %p.next, %size
  br i1 %p.more, label %chunk, label %row.end
row.end:
  %r.next = add i64 %r, 1
  %r.more = icmp slt i64 %r.next, %count
  br i1 %r.more, label %row, label %end
end:
  ; other threads read the batch next, and such stores are not ordered by themselves
  fence seq_cst
  ret void
}}
!0 = !{{i32 1}}
"""
