"""Pixels of black and white that are packed as fax machines do: by run lengths (T.4), or by the row above (T.6)."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import READ_ONLY, Pixels, compiled

DAMAGED, ENDS_EARLY, UNCOMPRESSED = -1, -2, -3  # returned in place of the number of rows

# The words of run lengths, as T.4 prints them. Lengths from 64 come before one below 64.
_WHITE = """
00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100 110101 101010 101011 0100111
0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011 0100100 0011000 00000010 00000011 00011010 00011011
00010010 00010011 00010100 00010101 00010110 00010111 00101000 00101001 00101010 00101011 00101100 00101101 00000100
00000101 00001010 00001011 01010010 01010011 01010100 01010101 00100100 00100101 01011000 01011001 01011010 01011011
01001010 01001011 00110010 00110011 00110100
11011 10010 010111 0110111 00110110 00110111 01100100 01100101 01101000 01100111 011001100 011001101 011010010
011010011 011010100 011010101 011010110 011010111 011011000 011011001 011011010 011011011 010011000 010011001 010011010
011000 010011011
"""
_BLACK = """
0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111 000011000 0000010111
0000011000 0000001000 00001100111 00001101000 00001101100 00000110111 00000101000 00000010111 00000011000 000011001010
000011001011 000011001100 000011001101 000001101000 000001101001 000001101010 000001101011 000011010010 000011010011
000011010100 000011010101 000011010110 000011010111 000001101100 000001101101 000011011010 000011011011 000001010100
000001010101 000001010110 000001010111 000001100100 000001100101 000001010010 000001010011 000000100100 000000110111
000000111000 000000100111 000000101000 000001011000 000001011001 000000101011 000000101100 000001011010 000001100110
000001100111
0000001111 000011001000 000011001001 000001011011 000000110011 000000110100 000000110101 0000001101100 0000001101101
0000001001010 0000001001011 0000001001100 0000001001101 0000001110010 0000001110011 0000001110100 0000001110101
0000001110110 0000001110111 0000001010010 0000001010011 0000001010100 0000001010101 0000001011010 0000001011011
0000001100100 0000001100101
"""
_LONG = """
00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101 000000010110 000000010111
000000011100 000000011101 000000011110 000000011111
"""  # of both colors: 1792, 1856 and so on
_LONGEST_WORD = 13
_PASS, _HORIZONTAL, _EXTENSION = 10, 11, 12
_MODES = {  # the others say by how much a change is moved against the row above
    "1": 0,
    "011": 1,
    "000011": 2,
    "0000011": 3,
    "010": -1,
    "000010": -2,
    "0000010": -3,
    "0001": _PASS,
    "001": _HORIZONTAL,
    "0000001": _EXTENSION,
}
_MODE_BIAS = 3  # so that no entry is negative


def _runs(words: str) -> dict[str, int]:
    lengths = [*range(64), *range(64, 1729, 64)]
    return dict(zip(words.split(), lengths, strict=True)) | {
        word: 1792 + 64 * at for at, word in enumerate(_LONG.split())
    }


def _table(words: Mapping[str, int]) -> npt.NDArray[np.int32]:
    """Return, for each thirteen bits that may come next, value × 16 + length of the word that they begin with; or 0."""
    table = np.zeros(1 << _LONGEST_WORD, np.int32)
    for word, value in words.items():
        rest = _LONGEST_WORD - len(word)
        table[int(word, 2) << rest : int(word, 2) + 1 << rest] = value << 4 | len(word)
    return table


_RUN_TABLES = np.stack([_table(_runs(_WHITE)), _table(_runs(_BLACK))])
_MODE_TABLE = _table({word: mode + _MODE_BIAS for word, mode in _MODES.items()})
_EOL_BITS = 12  # eleven zeros, or more, and a one


@compiled(f"int64({READ_ONLY}, int64)")
def _peek(packed: Pixels, at: int) -> int:
    """Return the thirteen bits at a bit; zeros stand behind the end."""
    byte = at >> 3
    window = 0
    for i in range(3):
        window = window << 8 | (int(np.int64(packed[byte + i])) if byte + i < packed.size else 0)
    return window >> (24 - _LONGEST_WORD - (at & 7)) & (1 << _LONGEST_WORD) - 1


@compiled(f"UniTuple(int64, 2)({READ_ONLY}, int64, int64)")
def _run(packed: Pixels, at: int, color: int) -> tuple[int, int]:
    """Return the length of the run at a bit, negative where there is none, and the bit behind it."""
    total = 0
    while True:
        found = int(np.int64(_RUN_TABLES[color, _peek(packed, at)]))
        if found == 0:
            return -1, at
        at += found & 15
        length = found >> 4
        total += length
        if length < 64:
            return total, at
        if at > packed.size * 8:
            return -1, at


@compiled(f"UniTuple(int64, 2)({READ_ONLY}, int64)")
def _after_eol(packed: Pixels, at: int) -> tuple[int, int]:
    """Return how many ends of line stand at a bit, 0 or 1, and the bit behind them."""
    zeros = 0
    while at + zeros < packed.size * 8:
        here = at + zeros
        if packed[here >> 3] >> (7 - (here & 7)) & 1:
            return (1, here + 1) if zeros >= _EOL_BITS - 1 else (0, at)
        zeros += 1
    return 0, at


@compiled(f"int64({READ_ONLY}, uint8[:, ::1], int64, boolean, boolean, int64)")
def unfax(packed: Pixels, out: Pixels, group: int, two_dimensional: bool, ends_of_line: bool, align: int) -> int:
    """Write pixels, 0 for white and 1 for black, until ``out`` is full.

    Args:
        packed: the highest bit of each byte first.
        out: (rows, columns), overwritten.
        group: 4 for T.6, 3 for T.4.
        two_dimensional: whether a bit behind each end of line says if the row depends on the one above.
        ends_of_line: whether rows may begin with ends of line.
        align: rows begin at a multiple of so many bits; 1 if at any.

    Returns:
        The number of rows, all that ``out`` has; or `DAMAGED`, `ENDS_EARLY` or `UNCOMPRESSED`, the first fault met.
    """
    width = out.shape[1]
    # Where the color changes, from white to black at even places: in the row above, and in this one.
    above = np.full(width + 6, width, np.int64)
    changes = np.empty(width + 6, np.int64)
    end = packed.size * 8
    at = 0
    for y in range(out.shape[0]):
        at = (at + align - 1) // align * align
        by_row_above = group == 4
        if ends_of_line:
            found, at = _after_eol(packed, at)
            if two_dimensional:
                if found == 0:
                    return DAMAGED if at < end else ENDS_EARLY
                by_row_above = _peek(packed, at) >> (_LONGEST_WORD - 1) == 0
                at += 1
        count, color, place, b = 0, 0, -1, 0
        while place < width:
            if at >= end:
                return ENDS_EARLY
            mode = _HORIZONTAL
            if by_row_above:
                found = int(np.int64(_MODE_TABLE[_peek(packed, at)]))
                if found == 0:
                    return DAMAGED
                at += found & 15
                mode = (found >> 4) - _MODE_BIAS
                # b is the place, in the row above, of the next change to the other color.
                while b >= 2 and above[b - 2] > place:
                    b -= 2
                while above[b] <= place and above[b] < width:
                    b += 2
            if mode == _EXTENSION:
                return UNCOMPRESSED
            if mode == _PASS:
                place = above[b + 1]
                continue
            first, second = 0, -1
            if mode == _HORIZONTAL:
                length, at = _run(packed, at, color)
                if length < 0:
                    return DAMAGED
                first = max(place, 0) + length
                if by_row_above:
                    length, at = _run(packed, at, 1 - color)
                    if length < 0:
                        return DAMAGED
                    second = first + length
            else:
                first = above[b] + mode
                if first < max(place, 0):
                    return DAMAGED
            for change in (first, second):
                if change < 0:
                    continue
                if change > width:
                    return DAMAGED
                if count > 0 and changes[count - 1] == change:
                    count -= 1  # a run of no pixels changes nothing
                elif change < width:
                    changes[count] = change
                    count += 1
                place = change
            if second < 0:
                color = 1 - color
                b += 1
        if at > end:
            return ENDS_EARLY
        for i in range(count, count + 5):
            changes[i] = width
        start = 0
        for i in range(count + 1):
            out[y, start : changes[i]] = i & 1
            start = changes[i]
        above, changes = changes, above
    return len(out)
