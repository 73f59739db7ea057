"""JPEGs of other writers get restart markers, without loss, so that readers cut windows out of their bytes.

`arraystore._kernels.restart_markers` moves the bits. Here are the segments before them.
"""

from functools import lru_cache
from struct import pack
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._common.scratch import Buffers
from arraystore._decoding.header import Data
from arraystore._decoding.jpeg.baseline import INTERVAL, TABLES, Codes, Scan, scan_of
from arraystore.errors import DecodeError
from arraystore.spec import Jpeg

if TYPE_CHECKING:
    from arraystore._kernels import huffman_tables, restart_markers
else:  # numba takes half a second
    huffman_tables = lazy("arraystore._kernels.huffman_tables")
    restart_markers = lazy("arraystore._kernels.restart_markers")

_LONGEST_INTERVAL = 65_535
_LONGEST_SCAN_BYTES = 1 << 27  # places of bits are kept in 32 bits
_MOST_BLOCKS = 1 << 23  # sixteen bytes of memory each; builds take up to 178 megapixels, which have no more
_LEAST_BITS = 2  # of a block: a code of each kind
_DC_SIZES = 12  # a DC value, or a difference of two, has 0 to 11 bits
_LONGEST_CODE = 16

_buffers = Buffers()


def with_restart_markers(data: Data, interval: int | None = None, *, most: int = Jpeg().restart) -> bytes | None:
    """Return a JPEG with restart markers, whose pixels are the same to the last bit; None if it cannot have them.

    A JPEG that can has one scan of Huffman codes of 8 bits, so it is not progressive, and is not damaged. All segments
    stay as they are, but for the one that says where the markers are; so do the bytes behind the pixels. A table of
    codes that lacks some gets them in a segment of its own. A file that has such markers already is returned unread.

    Args:
        data: the file.
        interval: units from one marker to the next, 1 to 65,535; a unit has a block, or several, of each component.
            None for the largest number up to ``most`` that divides the columns, as in stores of JPEGs.
        most: see ``interval``.

    Raises:
        ValueError: there is no such interval.
    """
    if interval is not None and not 1 <= interval <= _LONGEST_INTERVAL:
        raise ValueError(f"restart markers are set after 1 to {_LONGEST_INTERVAL:,} units, not after {interval}")
    try:
        scan = scan_of(data)
    except DecodeError:
        return None
    if interval is None:
        interval = next(count for count in range(min(most, scan.columns), 0, -1) if scan.columns % count == 0)
    return bytes(data) if scan.interval == interval else _moved(data, scan, interval)


# Most files have the tables of T.81, annex K. Making others takes about 0.05 ms.
@lru_cache(maxsize=64)
def _tables_of(dc: tuple[Codes, ...], ac: tuple[Codes, ...]) -> "huffman_tables.HuffmanTables | None":
    return huffman_tables.tables_of([*dc], [*ac])


def _moved(data: Data, scan: Scan, interval: int) -> bytes | None:
    """Return the file with other markers; None if its codes are damaged."""
    size, blocks_of_scan = len(data) - scan.pixels, scan.units * len(scan.unit)
    if size > _LONGEST_SCAN_BYTES or blocks_of_scan > min(8 * size // _LEAST_BITS, _MOST_BLOCKS):
        return None
    tables = _tables_of(tuple(codes for _, codes in scan.dc), scan.ac)
    complete = tuple(all_sizes for _, codes in scan.dc if (all_sizes := _with_all_sizes(codes)))
    if tables is None or len(complete) < len(scan.dc):
        return None
    file, unit = np.frombuffer(data, np.uint8), np.array(scan.unit, np.int64)
    bits = _buffers.get("bits", size + restart_markers.SPARE_BYTES)
    blocks = _buffers.get("blocks", blocks_of_scan * 16).view(np.int32).reshape(blocks_of_scan, 4)
    end = restart_markers.find_blocks(file, scan.pixels, unit, scan.units, scan.interval, *tables, bits, blocks)
    if end < 0:
        return None
    out = _buffers.get("out", restart_markers.room_for(size, blocks_of_scan, -(-scan.units // interval)))
    places = unit, scan.units, scan.interval, interval
    written = restart_markers.write_scan(bits, blocks, *places, _codes_of_sizes(complete), out)
    if written < 0:
        return None
    added = [_segment(number, codes) for (number, own), codes in zip(scan.dc, complete, strict=True) if codes != own]
    kept, last = [], 0
    for begin, stop in scan.intervals:
        kept.append(data[last:begin])
        last = stop
    kept.append(data[last : scan.at])
    head = *kept, *added, pack(">BBHH", 0xFF, INTERVAL, 4, interval), data[scan.at : scan.pixels]
    return b"".join((*head, out[:written].data, data[end:]))


@lru_cache(maxsize=64)
def _with_all_sizes(codes: Codes) -> Codes | None:
    """Return a DC table that has a code for each size; None if there is no room for one.

    A table that was made for the differences of a file may lack the sizes of values. Longer codes are added behind its
    last one, so that the others stay.
    """
    counts, symbols = codes
    missing = bytes(size for size in range(_DC_SIZES) if size not in symbols)
    if not missing:
        return codes
    lengths = [length for length, count in enumerate(counts, start=1) for _ in range(count)]
    free = (1 << _LONGEST_CODE) - sum(1 << (_LONGEST_CODE - length) for length in lengths)  # codes of so many bits
    for length in range(max(lengths, default=0) + 1, _LONGEST_CODE + 1):
        if free >> (_LONGEST_CODE - length) > len(missing):  # the code of ones is no code
            return counts[: length - 1] + bytes((len(missing),)) + counts[length:], symbols + missing
    return None


def _segment(number: int, codes: Codes) -> bytes:
    """Return the segment of a DC table."""
    body = bytes((number,)) + codes[0] + codes[1]
    return pack(">BBH", 0xFF, TABLES, 2 + len(body)) + body


@lru_cache(maxsize=64)
def _codes_of_sizes(tables: tuple[Codes, ...]) -> npt.NDArray[np.int64]:
    """Return the code of each size in some DC tables, and its bits: int64, (k, 12, 2)."""
    found = np.zeros((len(tables), _DC_SIZES, 2), np.int64)
    for table, (counts, symbols) in enumerate(tables):
        code, place = 0, 0
        for length, count in enumerate(counts, start=1):
            for symbol in symbols[place : place + count]:
                if symbol < _DC_SIZES:
                    found[table, symbol] = code, length
                code += 1
            code, place = code << 1, place + count
    return found
