"""Packed bytes become bytes again: LZW and PackBits as TIFF has them, differences of a row, and samples of few bits.

Each kernel writes into a buffer of the size that the caller expects and returns how many bytes it has filled. Whatever
the packed bytes say, it reads and writes inside its arrays.
"""

import numpy as np

from arraystore._kernels.compiled import READ_ONLY, Pixels, compiled

DAMAGED = -1  # returned for codes that no encoder writes

_CLEAR, _END, _FIRST_FREE = 256, 257, 258
_LEAST_BITS, _MOST_BITS = 9, 12
_TABLE_SIZE = 5_120  # libtiff's, which has room for entries that no code can name


@compiled(f"int64({READ_ONLY}, uint8[::1], boolean)")
def lzw(packed: Pixels, out: Pixels, old: bool) -> int:
    """Unpack LZW until ``out`` is full.

    Every entry of LZW's table is a string that was written before, so the table holds where it begins in ``out`` and
    how long it is. Old files have the bits of a code in reverse, and wider codes begin one code later.

    Returns:
        The bytes written: fewer than ``out`` has where the codes end early. `DAMAGED` at a code without an entry.
    """
    starts = np.empty(_TABLE_SIZE, np.int64)
    lengths = np.empty(_TABLE_SIZE, np.int64)
    window, held, at, width = 0, 0, 0, _LEAST_BITS
    free, before, before_length, written = _FIRST_FREE, 0, 0, 0
    margin = 1 if old else 2
    while written < out.size:
        while held < width:
            if at == packed.size:
                return written
            value = int(np.int64(packed[at]))
            window = window | value << held if old else window << 8 | value
            at += 1
            held += 8
        held -= width
        if old:
            code = window & (1 << width) - 1
            window >>= width
        else:
            code = window >> held
            window &= (1 << held) - 1
        if code == _END:
            return written
        if code == _CLEAR:
            width, free, before_length = _LEAST_BITS, _FIRST_FREE, 0
            continue
        if before_length > 0:
            if free == _TABLE_SIZE:
                return DAMAGED
            # The string before and the byte after it, which is the first of this code: it is written below.
            starts[free], lengths[free] = before, before_length + 1
            free += 1
            if free > (1 << width) - margin and width < _MOST_BITS:
                width += 1
        if code < _CLEAR:
            before, before_length = written, 1
            out[written] = code
            written += 1
            continue
        if code >= free:
            return DAMAGED
        start, length = starts[code], lengths[code]
        before, before_length = written, length
        length = min(length, out.size - written)
        for i in range(length):  # forward: the last byte may be the first one written here
            out[written + i] = out[start + i]
        written += length
    return written


@compiled(f"int64({READ_ONLY}, uint8[::1])")
def packbits(packed: Pixels, out: Pixels) -> int:
    """Unpack PackBits until ``out`` is full.

    Returns:
        The bytes written: fewer than ``out`` has where the runs end early. `DAMAGED` at a run beyond its end.
    """
    at = written = 0
    while written < out.size and at < packed.size:
        head = int(np.int64(packed[at]))
        at += 1
        if head == 128:
            continue
        length = 257 - head if head > 128 else head + 1
        if written + length > out.size:
            return DAMAGED
        if head > 128:
            if at == packed.size:
                return written
            for i in range(length):
                out[written + i] = packed[at]
            at += 1
        else:
            if at + length > packed.size:
                return written
            for i in range(length):
                out[written + i] = packed[at + i]
            at += length
        written += length
    return written


@compiled("void(uint8[:, ::1], int64)", "void(uint16[:, ::1], int64)")
def add_up(rows: Pixels, step: int) -> None:
    """Add to each sample the one ``step`` before it in its row, in place: the inverse of horizontal differences."""
    for y in range(rows.shape[0]):
        for x in range(step, rows.shape[1]):
            rows[y, x] += rows[y, x - step]


@compiled("void(uint8[:, ::1], int64, uint8[:, ::1])", "void(uint8[:, ::1], int64, uint16[:, ::1])")
def widen(rows: Pixels, bits: int, out: Pixels) -> None:
    """Write samples of 1 to 16 bits, packed in rows of whole bytes with the highest bit first, one by one."""
    for y in range(out.shape[0]):
        window, held, at = 0, 0, 0
        for x in range(out.shape[1]):
            while held < bits:
                window = (window << 8 | int(np.int64(rows[y, at]))) & 0xFFFFFF
                at += 1
                held += 8
            held -= bits
            out[y, x] = window >> held & (1 << bits) - 1
