"""The codes of GIF become indices of a palette: LZW whose bits run upward, in blocks that follow their lengths."""

import numpy as np

from arraystore._kernels.compiled import READ_ONLY, Pixels, compiled

DAMAGED = -1  # returned for codes that no encoder writes

_MOST_CODE_BITS = 12
_MOST_INDEX_BITS = 11  # some writers say more than the 8 that an index can have
_MOST_INDEX = 255
_TABLE_SIZE = 1 << _MOST_CODE_BITS


@compiled(f"int64({READ_ONLY}, int64, uint8[::1])")
def gif_codes(data: Pixels, at: int, out: Pixels) -> int:
    """Unpack codes until ``out`` is full; what follows is not read.

    Every entry of the table is a string that was written before, so the table holds where it begins in ``out`` and how
    long it is. A full table is kept until the file empties it.

    Args:
        data: a file, flat.
        at: the byte that says how many bits an index has. The first block follows it.
        out: overwritten, as far as there are codes.

    Returns:
        The indices written: fewer than ``out`` has where the codes end early. `DAMAGED` at a code without an entry.
    """
    starts = np.empty(_TABLE_SIZE, np.int64)
    lengths = np.empty(_TABLE_SIZE, np.int64)
    if at >= data.size:
        return 0
    bits = int(np.int64(data[at]))
    if not 1 <= bits <= _MOST_INDEX_BITS:
        return DAMAGED
    at += 1
    clear = 1 << bits
    window, held, width, in_block = 0, 0, bits + 1, 0
    free, before, before_length, written = clear + 2, 0, 0, 0
    while written < out.size:
        while held < width:
            if in_block == 0 and at < data.size:
                in_block = int(np.int64(data[at]))
                at += 1
            if in_block == 0 or at >= data.size:
                return written
            window |= int(np.int64(data[at])) << held
            at += 1
            held += 8
            in_block -= 1
        code = window & (1 << width) - 1
        window >>= width
        held -= width
        if code == clear + 1:
            return written
        if code == clear:
            width, free, before_length = bits + 1, clear + 2, 0
            continue
        if before_length > 0 and free < _TABLE_SIZE:
            # The string before and the index after it, which is the first of this code: it is written below.
            starts[free], lengths[free] = before, before_length + 1
            free += 1
            if free == 1 << width and width < _MOST_CODE_BITS:
                width += 1
        if code < clear:
            if code > _MOST_INDEX:
                return DAMAGED
            before, before_length = written, 1
            out[written] = code
            written += 1
            continue
        if code >= free:
            return DAMAGED
        before, before_length = written, lengths[code]
        length = min(before_length, out.size - written)
        for i in range(length):  # forward: the last index may be the first one written here
            out[written + i] = out[starts[code] + i]
        written += length
    return written
