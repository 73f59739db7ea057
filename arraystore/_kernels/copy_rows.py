"""Copy rows of an array in several streams at once, past the processor's caches.

One memmove a row reads one stream, and the processor's prefetchers, which stop at the end of each page, idle half of
the time; and whatever it writes it first reads, to have it in the cache. Four streams at distances of two pages keep
them busy, and stores that bypass the cache need no such reads. `benchmarks/read.py` compares it with memcpy.

NumPy has no such loop, and numba's import alone takes longer than a first batch may. So it is LLVM's assembly, and
llvmlite, which numba brings, compiles it in a fiftieth of a second: for any processor, with the vectors that it has.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.fork_lock import lock_across_forks

__all__ = ["Place", "copy_rows", "gather"]

_SCRATCH_BYTES = 1 << 18
Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Place = tuple[Array, Index, Index | None]

_log = logging.getLogger(__name__)

_STREAMS = 4
_STREAM_BYTES = 8192
_VECTOR_BYTES = 64
# What is smaller stays in the cache for who reads it next.
_LEAST_BYTES = 1 << 18

_compiling = lock_across_forks()
_engines: list[Any] = []  # the code lives as long as what compiled it


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
        import llvmlite.binding as llvm  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - not for a few small slots

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
    """Return copy(array, rows, count, out, at, size): ``size`` bytes of each of ``count`` rows; at may be null.

    Large rows are copied one after the other, each in streams of its own; of small ones each is a stream.
    """
    streams = range(_STREAMS)
    pairs = ", ".join(f"i8* %s{k}, i8* %d{k}" for k in streams)
    chunk = _STREAMS * _STREAM_BYTES
    places = "".join(_pointers(f"%s{k}", f"%d{k}", f"%r{k}") for k in streams)
    numbers = "".join(f"\n  %r{k} = add i64 %g, {k}" for k in streams)
    starts = "".join(
        f"""
  %o{k} = mul i64 %stream, {k}
  %p{k} = add i64 %p, %o{k}
  %cs{k} = getelementptr i8, i8* %s, i64 %p{k}
  %cd{k} = getelementptr i8, i8* %d, i64 %p{k}"""
        for k in streams
    )
    chunks = ", ".join(f"i8* %cs{k}, i8* %cd{k}" for k in streams)
    return f"""
{_loop("together", [(f"%s{k}", f"%d{k}") for k in streams])}
{_loop("alone", [("%s0", "%d0")])}
define internal i64 @place(i64* %at, i64 %r) {{
  %inorder = icmp eq i64* %at, null
  br i1 %inorder, label %same, label %other
same:
  ret i64 %r
other:
  %p = getelementptr i64, i64* %at, i64 %r
  %v = load i64, i64* %p
  ret i64 %v
}}
define internal void @large(i8* %s, i8* %d, i64 %size) {{
entry:
  br label %chunk
chunk:
  %p = phi i64 [0, %entry], [%p.next, %chunk]
  %left = sub i64 %size, %p
  %whole = icmp sgt i64 %left, {chunk}
  %length = select i1 %whole, i64 {chunk}, i64 %left
  %part = udiv i64 %length, {_STREAMS}
  %stream = and i64 %part, {-_VECTOR_BYTES}
  %streamed = mul i64 %stream, {_STREAMS}{starts}
  call void @together({chunks}, i64 %stream)
  %q = add i64 %p, %streamed
  %rest.s = getelementptr i8, i8* %s, i64 %q
  %rest.d = getelementptr i8, i8* %d, i64 %q
  %rest = sub i64 %length, %streamed
  call void @alone(i8* %rest.s, i8* %rest.d, i64 %rest)
  %p.next = add i64 %p, %length
  %more = icmp slt i64 %p.next, %size
  br i1 %more, label %chunk, label %end
end:
  ret void
}}
define void @copy(i8* %array, i64* %rows, i64 %count, i8* %out, i64* %at, i64 %size) {{
entry:
  %small = icmp slt i64 %size, {chunk}
  br label %next
next:
  %g = phi i64 [0, %entry], [%g.group, %group], [%g.single, %single.end]
  %left = sub i64 %count, %g
  %enough = icmp sge i64 %left, {_STREAMS}
  %grouped = and i1 %small, %enough
  br i1 %grouped, label %group, label %single
group:{numbers}{places}
  call void @together({pairs}, i64 %size)
  %g.group = add i64 %g, {_STREAMS}
  %group.more = icmp slt i64 %g.group, %count
  br i1 %group.more, label %next, label %end
single:{_pointers("%s", "%d", "%g")}
  br i1 %small, label %alone, label %large
alone:
  call void @alone(i8* %s, i8* %d, i64 %size)
  br label %single.end
large:
  call void @large(i8* %s, i8* %d, i64 %size)
  br label %single.end
single.end:
  %g.single = add i64 %g, 1
  %single.more = icmp slt i64 %g.single, %count
  br i1 %single.more, label %next, label %end
end:
  ; other threads read the batch next, and such stores are not ordered by themselves
  fence seq_cst
  ret void
}}
!0 = !{{i32 1}}
"""


def _pointers(source: str, target: str, row: str) -> str:
    """Make the addresses of a row in the array and in ``out``."""
    return f"""
  {source}.p = getelementptr i64, i64* %rows, i64 {row}
  {source}.v = load i64, i64* {source}.p
  {source}.o = mul i64 {source}.v, %size
  {source} = getelementptr i8, i8* %array, i64 {source}.o
  {target}.v = call i64 @place(i64* %at, i64 {row})
  {target}.o = mul i64 {target}.v, %size
  {target} = getelementptr i8, i8* %out, i64 {target}.o"""


def _loop(name: str, pairs: list[tuple[str, str]]) -> str:
    """Make a function that copies n bytes, a multiple of a vector, from each source to its target, all at once."""
    vector = f"<{_VECTOR_BYTES // 8} x i64>"
    arguments = ", ".join(f"i8* {source}, i8* {target}" for source, target in pairs)
    loads = "".join(
        f"""
  {source}.i = getelementptr i8, i8* {source}, i64 %i
  {source}.v = bitcast i8* {source}.i to {vector}*
  {source}.x = load {vector}, {vector}* {source}.v, align 1"""
        for source, _ in pairs
    )
    stores = "".join(
        f"""
  {target}.i = getelementptr i8, i8* {target}, i64 %i
  {target}.v = bitcast i8* {target}.i to {vector}*
  store {vector} {source}.x, {vector}* {target}.v, align {_VECTOR_BYTES}, !nontemporal !0"""
        for source, target in pairs
    )
    return f"""
define internal void @{name}({arguments}, i64 %n) {{
entry:
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %loop, label %end
loop:
  %i = phi i64 [0, %entry], [%i.next, %loop]{loads}{stores}
  %i.next = add i64 %i, {_VECTOR_BYTES}
  %more = icmp slt i64 %i.next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}}"""


def gather(places: Iterable[Place], out: Array) -> None:
    """Copy rows of arrays to the rows of a batch.

    Large slots go through `arraystore._kernels.copy_rows`; for the others np.take with ``out`` and mode "clip" is one memmove a
    row outside the lock, faster than fancy indexing and than a compiled loop. The mode never acts; but with "raise"
    NumPy would copy ``out`` first.

    Args:
        places: where the rows lie.
        out: the batch, C-order, of the arrays' type.
    """
    for array, rows, at in places:
        if copy_rows(array, rows, out, at):
            continue
        if at is None:
            np.take(array, rows, axis=0, out=out, mode="clip")
            continue
        # Rows that are not neighbors in the batch: through no more memory than stays in the processor's cache.
        step = max(_SCRATCH_BYTES // max(out[:1].nbytes, 1), 1)
        for start in range(0, len(rows), step):
            out[at[start : start + step]] = array.take(rows[start : start + step], axis=0, mode="clip")
