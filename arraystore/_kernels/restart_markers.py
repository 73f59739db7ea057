"""Restart markers for the scan of a baseline JPEG that lacks them, or has others: bits to bits, without loss.

Between two restart markers a scan is coded by itself (ITU-T T.81, E.1.4): of each component, the first DC value is
coded as it is, and not as its difference from the one before. All other bits stay. So the codes are read once, to see
where each block begins (`find_blocks`), and then bits are copied from marker to marker (`write_scan`). No coefficient
is computed, and no pixel changes.
"""

from typing import Any

import numpy as np

from arraystore._kernels.compiled import READ_ONLY, Integers, Pixels, Words, compiled, inlined
from arraystore._kernels.huffman_tables import (
    END,
    LOOKED_UP_BITS,
    MOST_USED,
    STEPS,
    STEPS_AT,
    UNKNOWN,
    USED,
    Entries,
    ac_entry,
    dc_entry,
    signed,
    symbol_of,
)
from arraystore._kernels.vectors.instructions import (
    STEP_BYTES,
    copy_step,
    load_word,
    lowest_bit,
    ones,
    store_byte,
    store_word,
)

# Why a scan is left as it is.
BAD_CODE, ENDS_EARLY, LEFT_OVER, WRONG_MARKER, DC_RANGE, NO_ROOM = range(-1, -7, -1)

# What the array of bits has beside the bytes of the scan. A block has at most 64 codes of 16 bits, each with a value of
# up to 11; only where it ends is it compared with the end of the scan, and a word may be read there.
SPARE_BYTES = 64 * 27 // 8 + STEP_BYTES + 8
BEGIN, AC, STOP, DIFFERENCE = range(4)  # columns of blocks
_PLACES = 64
_LOOK_UPS = 57 // MOST_USED  # that a word is enough for
_LARGEST_DIFFERENCE = 2047  # of DC values
_COMPONENTS = 4
_MOST_CODED_BYTES = 4  # of a DC value: a code of 16 bits, and 11 bits


@inlined
def _window(address: int, at: int) -> Any:
    """Return at least 57 bits from bit ``at`` on, at the top of a word."""
    return load_word(address + (at >> 3)) << np.uint64(at & 7)


@inlined
def _unstuff(data: Pixels, at: int, bits: Pixels, to: int) -> tuple[int, int]:
    """Copy the bytes of an interval, less each zero behind an 0xFF, and return where they end in both arrays.

    There is a marker at the end, or the file ends. See `arraystore._kernels.jpeg_cut` for the steps.
    """
    source, target, size = data.ctypes.data, bits.ctypes.data, data.size
    while at < size:
        if at + STEP_BYTES < size:
            copy_step(target + to, source + at)
            found = ones(source + at)
            if not found:
                at, to = at + STEP_BYTES, to + STEP_BYTES
                continue
            first = lowest_bit(found)
            at, to = at + first, to + first
        if data[np.uintp(at)] == 0xFF:
            if at + 1 >= size or data[np.uintp(at + 1)] != 0:
                return at, to
            bits[np.uintp(to)] = 0xFF
            at, to = at + 2, to + 1
        else:
            bits[np.uintp(to)] = data[np.uintp(at)]
            at, to = at + 1, to + 1
    return at, to


@compiled(
    f"int64({READ_ONLY}, int64, int64[:, ::1], int64, int64, uint16[::1], int64[:, ::1], int64[:, ::1], uint8[:, ::1],"
    " uint8[::1], int32[:, ::1])"
)
def find_blocks(
    data: Pixels,
    at: int,
    unit: Integers,
    units: int,
    interval: int,
    entries: Entries,
    limits: Integers,
    firsts: Integers,
    symbols: Pixels,
    bits: Pixels,
    blocks: Words,
) -> int:
    """Find the blocks of a scan. No byte outside the arrays is read or written, whatever the file says.

    Args:
        data: the file.
        at: where the bytes of the scan begin, at most the size of the file.
        unit: int64, (b, 3): of each block of a unit, its component and the places of its DC and its AC table.
        units: of the scan, at least 1.
        interval: units from one restart marker to the next; 0 if there are none.
        entries: see `arraystore._kernels.huffman_tables.HuffmanTables`, as for the next three.
        limits: see there.
        firsts: see there.
        symbols: see there.
        bits: gets the bytes of the scan without stuffed ones and markers; each interval begins at a byte. It has at
            least the bytes of the file from ``at`` on, and `SPARE_BYTES`.
        blocks: int32, (units * b, 4): gets the bits at which each block, and its AC codes, begin and end, and its
            difference of DC values. There is at most one for each two bits of the file.

    Returns:
        Where the marker behind the scan is; or, below 0, why these are not the codes of so many blocks.
    """
    if not 0 <= at <= data.size or bits.size < data.size - at + SPARE_BYTES or blocks.shape[0] < units * unit.shape[0]:
        return NO_ROOM
    address = bits.ctypes.data
    done = number = row = 0
    stop = 0  # bytes of `bits`
    while done < units:
        position = 8 * stop
        at, stop = _unstuff(data, at, bits, stop)
        end = 8 * stop
        now = min(interval, units - done) if interval else units
        for _ in range(now):
            for b in range(unit.shape[0]):
                dc, ac = unit[b, 1], unit[b, 2]
                blocks[row, BEGIN] = position
                window = _window(address, position)
                entry = signed(
                    entries[np.uintp((dc << LOOKED_UP_BITS) + signed(window >> np.uint64(64 - LOOKED_UP_BITS)))]
                )
                if entry == UNKNOWN:
                    length, symbol = symbol_of(signed(window >> np.uint64(48)), limits[dc], firsts[dc], symbols[dc])
                    entry = signed(dc_entry(length, symbol))
                    if entry == UNKNOWN:
                        return BAD_CODE
                size = entry >> STEPS_AT
                difference = 0
                if size:
                    value = (window << np.uint64((entry & USED) - size)) >> np.uint64(64 - size)
                    difference = signed(value)
                    if difference < 1 << (size - 1):
                        difference += 1 - (1 << size)
                position += entry & USED
                blocks[row, AC], blocks[row, DIFFERENCE] = position, difference
                base, k = ac << LOOKED_UP_BITS, 1
                while k < _PLACES:
                    window = _window(address, position)
                    for _ in range(_LOOK_UPS):
                        entry = signed(entries[np.uintp(base + signed(window >> np.uint64(64 - LOOKED_UP_BITS)))])
                        if k + ((entry >> STEPS_AT) & STEPS) > _PLACES:  # too many places, or a code that is unknown
                            break
                        position += entry & USED
                        window <<= np.uint64(entry & USED)
                        k = _PLACES if entry >= END else k + (entry >> STEPS_AT)
                        if k >= _PLACES:
                            break
                    else:
                        continue
                    if k < _PLACES:
                        window = _window(address, position)
                        sixteen = signed(window >> np.uint64(48))
                        length, symbol = symbol_of(sixteen, limits[ac], firsts[ac], symbols[ac])
                        entry = signed(ac_entry(length, symbol))
                        if k + ((entry >> STEPS_AT) & STEPS) > _PLACES:
                            return BAD_CODE
                        position += entry & USED
                        k = _PLACES if entry >= END else k + (entry >> STEPS_AT)
                blocks[row, STOP] = position
                row += 1
                if position > end:
                    return ENDS_EARLY
        if end - position >= 8:
            return LEFT_OVER
        done, number = done + now, number + 1
        while at + 1 < data.size and data[at + 1] == 0xFF:  # padding
            at += 1
        if at + 1 >= data.size:
            return ENDS_EARLY
        expected = 0xD9 if done == units else 0xD0 + (number - 1 & 7)
        if data[at + 1] != expected:
            return WRONG_MARKER
        at += 2
    return at - 2


# Here an address stands for the array that is written: numba would count its users each time one is passed on.


@inlined
def _stuff(value: Any, to: int) -> int:
    """Write a byte, and a zero behind an 0xFF; return where they end."""
    store_byte(to, value)
    if value == np.uint64(0xFF):
        to += 1
        store_byte(to, np.uint64(0))
    return to + 1


@inlined
def _flush(word: Any, to: int) -> int:
    """Write the eight bytes of a word, stuffed; return where they end."""
    if word & ~(word + np.uint64(0x0101010101010101)) & np.uint64(0x8080808080808080):  # one may be an 0xFF
        for i in range(8):
            to = _stuff((word >> np.uint64(56 - 8 * i)) & np.uint64(0xFF), to)
        return to
    store_word(to, word)
    return to + 8


@inlined
def _put(value: Any, count: int, word: Any, free: int, to: int) -> tuple[Any, int, int]:
    """Add up to 57 bits to a word that has some bits free, and write it where it is full.

    Returns:
        The word, its free bits, and where the next one is to be written.
    """
    if count < free:
        return (word << np.uint64(count)) | value, free - count, to
    over = np.uint64(count - free)
    to = _flush((word << np.uint64(free)) | (value >> over), to)
    return value & ((np.uint64(1) << over) - np.uint64(1)), 64 - signed(over), to


@inlined
def _copy(bits: int, begin: int, end: int, word: Any, free: int, to: int) -> tuple[Any, int, int]:
    """Add the bits from one to another; see `_put`."""
    while begin < end:
        count = min(end - begin, 57)
        word, free, to = _put(_window(bits, begin) >> np.uint64(64 - count), count, word, free, to)
        begin += count
    return word, free, to


@inlined
def _end_interval(word: Any, free: int, to: int) -> int:
    """Fill up the last byte with ones, and write what the word has; return where it ends."""
    padding = free & 7
    word = (word << np.uint64(padding)) | ((np.uint64(1) << np.uint64(padding)) - np.uint64(1))
    for shift in range(56 - (free & ~7), -8, -8):
        to = _stuff((word >> np.uint64(shift)) & np.uint64(0xFF), to)
    return to


@compiled("int64(int64, int64, int64)")
def room_for(scan_bytes: int, blocks: int, intervals: int) -> int:
    """Return how many bytes `write_scan` writes at most: each of them may be stuffed."""
    return 2 * (scan_bytes + _MOST_CODED_BYTES * blocks + intervals) + 2 * intervals + STEP_BYTES


@compiled(f"int64({READ_ONLY}, int32[:, ::1], int64[:, ::1], int64, int64, int64, int64[:, :, ::1], uint8[::1])")
def write_scan(
    bits: Pixels,
    blocks: Words,
    unit: Integers,
    units: int,
    interval: int,
    new_interval: int,
    codes: Integers,
    out: Pixels,
) -> int:
    """Write the bytes of a scan with restart markers after each so many units.

    Args:
        bits: from `find_blocks`, as the next one.
        blocks: see there.
        unit: what `find_blocks` was told, as for the next two.
        units: see there.
        interval: see there.
        new_interval: units from one restart marker to the next, at least 1.
        codes: int64, (k, 12, 2): of each DC table, the code for each size, and its bits, at most 16.
        out: gets the bytes. It has at least those of `room_for`.

    Returns:
        How many bytes were written; or, below 0, why that is not possible.
    """
    intervals = -(-units // new_interval)
    if out.size < room_for(blocks[blocks.shape[0] - 1, STOP] // 8 + 1, blocks.shape[0], intervals):
        return NO_ROOM
    source, target = bits.ctypes.data, out.ctypes.data
    # The DC value of each component: in the file, and as the scan that is written has it.
    level, written = np.zeros(_COMPONENTS, np.int64), np.zeros(_COMPONENTS, np.int64)
    word, free, to = np.uint64(0), 64, target
    row = copied = marker = 0
    for number in range(units):
        renewed, marked = interval != 0 and number % interval == 0, number % new_interval == 0
        if renewed:
            level[:] = 0
        if marked:
            written[:] = 0
        if number and (renewed or marked):
            word, free, to = _copy(source, copied, signed(blocks[row - 1, STOP]), word, free, to)
            copied = signed(blocks[row, BEGIN])
        if number and marked:
            to = _end_interval(word, free, to)
            word, free = np.uint64(0), 64
            store_byte(to, np.uint64(0xFF))
            store_byte(to + 1, np.uint64(0xD0 + marker))
            marker, to = (marker + 1) & 7, to + 2
        for b in range(unit.shape[0]):
            component, table = unit[b, 0], unit[b, 1]
            level[component] += blocks[row, DIFFERENCE]
            difference = level[component] - written[component]
            written[component] = level[component]
            if difference != blocks[row, DIFFERENCE]:
                absolute, size = abs(difference), 0
                if absolute > _LARGEST_DIFFERENCE:
                    return DC_RANGE
                while absolute >> size:
                    size += 1
                word, free, to = _copy(source, copied, signed(blocks[row, BEGIN]), word, free, to)
                low = difference if difference >= 0 else difference + (1 << size) - 1
                value = np.uint64((codes[table, size, 0] << size) | low)
                word, free, to = _put(value, codes[table, size, 1] + size, word, free, to)
                copied = signed(blocks[row, AC])
            row += 1
    word, free, to = _copy(source, copied, signed(blocks[row - 1, STOP]), word, free, to)
    return _end_interval(word, free, to) - target
