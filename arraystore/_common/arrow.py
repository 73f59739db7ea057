"""Columns of pyarrow, made of arrays and read as arrays through their buffers.

``pyarrow.array``, ``pyarrow.scalar`` and ``to_numpy`` import pandas where it is installed, which takes about a second.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = lazy("pyarrow")

# The names of the types in pyarrow and in NumPy; type.to_pandas_dtype() needs pandas in older versions.
_NUMBERS = {f"{kind}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_NUMBERS |= {"halffloat": "float16", "float": "float32", "double": "float64"}


def number_column(
    values: npt.NDArray[Any], kind: pa.DataType = None, *, valid: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Return numbers as a column, null where they are not ``valid``; ``kind`` is another type of the same width."""
    values = np.ascontiguousarray(values)
    kind = kind or pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [_bitmap(valid), pa.py_buffer(values)])


def time_column(microseconds: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_]) -> pa.Array:
    """Return times since 1970 as a column, null where they are not ``valid``.

    They count microseconds, because Python's datetime and many readers of Parquet have no nanoseconds.
    """
    return number_column(microseconds, pa.timestamp("us", "UTC"), valid=valid)


def text_column(texts: Sequence[str], valid: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Return texts as strings, or all as bytes if one is not valid UTF-8: a file name on Linux may be any bytes."""
    try:
        return bytes_column([text.encode() for text in texts], valid, are_texts=True)
    except UnicodeEncodeError:
        return bytes_column([os.fsencode(text) for text in texts], valid)


def bytes_column(
    raw: Sequence[bytes], valid: npt.NDArray[np.bool_] | None = None, *, are_texts: bool = False
) -> pa.Array:
    """Return bytes as a column; as one of strings if they ``are_texts`` in UTF-8."""
    ends = np.cumsum([0, *map(len, raw)])
    large = bool(ends[-1] > np.iinfo(np.int32).max)
    kinds = (pa.string(), pa.large_string()) if are_texts else (pa.binary(), pa.large_binary())
    offsets = ends.astype(np.int64 if large else np.int32)
    buffers = [_bitmap(valid), pa.py_buffer(offsets), pa.py_buffer(b"".join(raw))]
    return pa.Array.from_buffers(kinds[large], len(raw), buffers)


def numbers_in(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Return the numbers of a column, 0 where one is null: (N,), of the column's dtype.

    Raises:
        ValueError: the column holds something else.
    """
    name = str(column.type)
    if name not in _NUMBERS:
        raise ValueError(f"a column of {name} holds no numbers")
    dtype = np.dtype(_NUMBERS[name])
    parts = []
    for chunk in column.chunks:
        data = chunk.buffers()[1]
        values = np.frombuffer(b"" if data is None else data, dtype)[chunk.offset : chunk.offset + len(chunk)]
        parts.append(np.where(_nulls_of(chunk), np.zeros((), dtype), values) if chunk.null_count else values)
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype), *parts])


def nulls_in(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Return where a column is null: bool, (N,)."""
    return np.concatenate([np.zeros(0, bool), *map(_nulls_of, column.chunks)])


def _nulls_of(chunk: pa.Array) -> npt.NDArray[np.bool_]:
    bitmap = chunk.buffers()[0]
    if bitmap is None or not chunk.null_count:
        return np.full(len(chunk), pa.types.is_null(chunk.type))
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=chunk.offset + len(chunk), bitorder="little")
    nulls: npt.NDArray[np.bool_] = bits[chunk.offset :] == 0
    return nulls


def _bitmap(valid: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
