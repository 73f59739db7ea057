"""Look-up tables for the Huffman codes of a JPEG (ITU-T T.81, annex C), for loops that need no values of coefficients.

Such a loop only counts: how many bits are used, and by how many of a block's 64 places it goes on. So one look-up may
stand for several codes and the bits of their values.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import Integers, Pixels, compiled, inlined

LOOKED_UP_BITS = 12  # of what follows, by which a table is looked up
MOST_BITS = 16  # of a code
DC_SIZES = 12  # a difference of DC values has 0 to 11 bits
_AC_SIZE = 10  # bits that other values have at most
_ENTRIES = 1 << LOOKED_UP_BITS

# An entry: its lowest six bits are how many bits are used, the next seven by how many places the block goes on, and one
# more is set where it ends. Of a DC code, the seven are the bits of its value.
USED, STEPS_AT, STEPS, END = 63, 6, 127, 1 << 13  # a processor shifts by six bits: it need not mask them
UNKNOWN = STEPS << STEPS_AT  # no block has as many places: the caller has to look for the code bit by bit
MOST_USED = 19  # by an entry that is looked up: then a word is enough for three

_EOB, _ZRL = 0x00, 0xF0  # no more values in the block; sixteen zeros

Entries = npt.NDArray[np.uint16]


class HuffmanTables(NamedTuple):
    """Some tables of codes: k of them, by the places in which the caller has put them."""

    entries: Entries  # (k * 4,096): for each beginning of what follows
    limits: Integers  # (k, 17): 16 bits that are smaller begin with a code of so many bits, or fewer
    firsts: Integers  # (k, 17): to be added to a code of so many bits, to get the place of its symbol
    symbols: Pixels  # (k, 256)


@inlined
def signed(number: Any) -> Any:
    """Return a number with a sign. Of an unsigned number and a signed one numba makes a float."""
    return np.int64(number)


@inlined
def symbol_of(sixteen: int, limits: Integers, firsts: Integers, symbols: Pixels) -> tuple[int, int]:
    """Return how many bits the code has that some 16 bits begin with, and its symbol; 0 bits if there is none."""
    for length in range(1, MOST_BITS + 1):
        if sixteen < limits[length]:
            place = firsts[length] + (sixteen >> (MOST_BITS - length))
            return length, signed(symbols[np.uintp(place)])
    return 0, 0


@inlined
def dc_entry(length: int, symbol: int) -> int:
    """Return the entry of a code for a difference of DC values; `UNKNOWN` if no such file has it."""
    if length == 0 or symbol >= DC_SIZES:
        return UNKNOWN
    return (length + symbol) | (symbol << STEPS_AT)


@inlined
def ac_entry(length: int, symbol: int) -> int:
    """Return the entry of a code for the other values; `UNKNOWN` if no such file has it."""
    run, size = symbol >> 4, symbol & 15
    if length == 0 or size > _AC_SIZE:
        return UNKNOWN
    if symbol == _EOB:  # a step, because there must be a place left
        return length | (1 << STEPS_AT) | END
    if size == 0 and symbol != _ZRL:
        return UNKNOWN
    return (length + size) | ((run + 1) << STEPS_AT)


@compiled("boolean(uint8[:, ::1], uint8[:, ::1], int64, uint16[::1], int64[:, ::1], int64[:, ::1])")
def _fill(
    counts: Pixels, symbols: Pixels, dc_tables: int, entries: Entries, limits: Integers, firsts: Integers
) -> bool:
    """Fill in `HuffmanTables`; the first ``dc_tables`` are of DC values. Return False if codes do not fit in."""
    known, lengths = np.empty(_ENTRIES, np.uint16), np.empty(_ENTRIES, np.uint8)
    for table in range(counts.shape[0]):
        is_dc = table < dc_tables
        known[:] = UNKNOWN
        code = place = 0
        for length in range(1, MOST_BITS + 1):
            count = signed(counts[table, length - 1])
            firsts[table, length] = place - code
            if code + count > 1 << length or place + count > symbols.shape[1]:
                return False
            # First each entry has one code, if that is not longer than what is looked up.
            for _ in range(count):
                if length <= LOOKED_UP_BITS:
                    symbol = signed(symbols[table, place])
                    entry = dc_entry(length, symbol) if is_dc else ac_entry(length, symbol)
                    if entry & USED <= MOST_USED:
                        alike = 1 << (LOOKED_UP_BITS - length)
                        for start in range(code * alike, (code + 1) * alike):
                            known[start], lengths[start] = entry, length
                code, place = code + 1, place + 1
            limits[table, length] = code << (MOST_BITS - length)
            code <<= 1
        # Then the codes that follow are added to it, as long as all of their bits are known.
        for start in range(_ENTRIES):
            entry = signed(known[start])
            while not is_dc and entry < END:
                used = entry & USED
                if used >= LOOKED_UP_BITS:
                    break
                following = (start << used) & (_ENTRIES - 1)
                more = signed(known[following])
                steps = (entry >> STEPS_AT) + ((more >> STEPS_AT) & STEPS)
                together = used + (more & USED)
                if steps >= STEPS or lengths[following] > LOOKED_UP_BITS - used or together > MOST_USED:
                    break
                entry = together | (steps << STEPS_AT) | (more & END)
            entries[(table << LOOKED_UP_BITS) + start] = entry
    return True


def tables_of(dc: list[tuple[bytes, bytes]], ac: list[tuple[bytes, bytes]]) -> HuffmanTables | None:
    """Return tables of codes: those of DC values, and then the others. None if there are more codes than bits allow.

    Args:
        dc: of each table, how many codes there are of 1 to 16 bits, and their symbols, at most 256.
        ac: the same.
    """
    counts = np.array([[*lengths] for lengths, _ in (*dc, *ac)], np.uint8)
    symbols = np.array([[*values.ljust(256, b"\0")] for _, values in (*dc, *ac)], np.uint8)
    count = len(counts)
    tables = HuffmanTables(
        np.empty(count * _ENTRIES, np.uint16),
        np.empty((count, MOST_BITS + 1), np.int64),
        np.empty((count, MOST_BITS + 1), np.int64),
        symbols,
    )
    return tables if _fill(counts, symbols, len(dc), tables.entries, tables.limits, tables.firsts) else None
