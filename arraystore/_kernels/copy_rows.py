"""Copy rows of an array in several streams at once, past the processor's caches.

One memmove per row reads a single stream. The processor's prefetchers stop at the end of each page, so they idle half
of the time. The memmove also reads each cache line before it overwrites it. Four streams, two pages apart, keep the
prefetchers busy, and non-temporal stores need no such reads. `benchmarks/read.py` compares this loop with memcpy.

NumPy has no such loop, and importing numba takes longer than a first batch may take. The loop is therefore written in
LLVM assembly. llvmlite, which numba installs, compiles it in 20 ms for the vectors of the processor at hand.
"""

import ctypes
import logging
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._common.forks import lock_across_forks
from arraystore._common.lazy import lazy

llvm: Any = lazy("llvmlite.binding")  # only large slots need it

_SCRATCH_BYTES = 1 << 18  # fits into the processor's cache
Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]


class Decodes(Protocol):
    """Images that are no array, because they are decoded when they are read."""

    def read(self, rows: Index, out: Array, at: Index | None = None) -> None:
        """Write the pixels of images into the first rows of a batch in C order, or into the rows ``at``."""


# What holds rows, the rows of it to read, and the rows of the batch to write; None writes the first rows, in order.
ChosenRows = tuple[Array | Decodes, Index, Index | None]

_log = logging.getLogger(__name__)

_STREAMS = 4
_STREAM_BYTES = 8192
_VECTOR_BYTES = 64
_LEAST_BYTES = 1 << 18  # smaller copies should stay in the cache, for the code that reads the batch next

_compiling = lock_across_forks()
_engines: list[Any] = []  # machine code lives as long as the engine that compiled it


def copy_rows(array: Array, rows: Index, out: Array, at: Index | None = None) -> bool:
    """Copy rows of an array to the first rows of another, or to the rows ``at``, and return True.

    Return False if the rows must be copied otherwise: a row is not a multiple of 64 bytes, ``out`` is not aligned to 64
    bytes, the rows are too few, or the arrays differ in more than the number of rows.

    Raises:
        IndexError: a row does not exist, or ``at`` and ``rows`` have different lengths.
    """
    size = out[:1].nbytes
    address = out.ctypes.data
    if rows.size * size < _LEAST_BYTES or size % _VECTOR_BYTES or address % _VECTOR_BYTES or not _alike(array, out):
        return False
    with _compiling:
        copy = _compile()
    if copy is None:
        return False
    rows = np.ascontiguousarray(rows, np.int64)
    _check(rows, len(array))
    at = np.arange(rows.size, dtype=np.int64) if at is None else np.ascontiguousarray(at, np.int64)
    _check(at, len(out))
    if at.size != rows.size:
        raise IndexError(f"{rows.size} rows cannot be copied to {at.size}")
    copy(array.ctypes.data, rows.ctypes.data, rows.size, address, at.ctypes.data, size)
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


@cache
def _compile() -> Callable[..., None] | None:
    try:
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
    except Exception as error:  # a future LLVM may refuse the assembly in any way; np.take still works
        _log.warning("slots are gathered by np.take, which is slower: %s", error)
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    # ctypes releases the interpreter's lock during the call.
    return ctypes.CFUNCTYPE(None, pointer, pointer, number, pointer, pointer, number)(address)


def _assembly() -> str:
    """Return copy(array, rows, count, out, at, size), which copies ``count`` rows of ``size`` bytes.

    Large rows are copied one after the other, each in four streams. Small rows are copied four at a time, one stream
    each.
    """
    streams = range(_STREAMS)
    pairs = ", ".join(f"i8* %s{k}, i8* %d{k}" for k in streams)
    chunk = _STREAMS * _STREAM_BYTES
    pointers = "".join(_pointers(f"%s{k}", f"%d{k}", f"%r{k}") for k in streams)
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
group:{numbers}{pointers}
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
  ; non-temporal stores are unordered: without the fence another thread could read the batch before they arrive
  fence seq_cst
  ret void
}}
!0 = !{{i32 1}}
"""


def _pointers(source: str, target: str, row: str) -> str:
    """Make the addresses of a row in the array and in ``out``."""
    return "".join(
        f"""
  {name}.p = getelementptr i64, i64* {chosen}, i64 {row}
  {name}.v = load i64, i64* {name}.p
  {name}.o = mul i64 {name}.v, %size
  {name} = getelementptr i8, i8* {array}, i64 {name}.o"""
        for name, chosen, array in ((source, "%rows", "%array"), (target, "%at", "%out"))
    )


def _loop(name: str, pairs: list[tuple[str, str]]) -> str:
    """Make a function that copies n bytes, a multiple of a vector, from each source to its target, interleaved."""
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


def gather(chosen: Iterable[ChosenRows], out: Array) -> None:
    """Copy rows of arrays to the rows of a batch; images that are decoded when they are read are decoded there.

    Large rows go through `copy_rows`. For the others, np.take with ``out`` and mode "clip" does one memmove per row
    outside the interpreter's lock, which is faster than fancy indexing and than a compiled loop. All rows exist, so
    the mode changes no index; but with mode "raise" NumPy would copy ``out`` first.
    """
    for array, rows, at in chosen:
        if not isinstance(array, np.ndarray):
            array.read(rows, out, at)
            continue
        if copy_rows(array, rows, out, at):
            continue
        if at is None:
            np.take(array, rows, axis=0, out=out, mode="clip")
            continue
        # The rows are not neighbors in the batch. Small steps keep the copy in between in the processor's cache.
        step = max(_SCRATCH_BYTES // max(out[:1].nbytes, 1), 1)
        for start in range(0, len(rows), step):
            out[at[start : start + step]] = array.take(rows[start : start + step], axis=0, mode="clip")
