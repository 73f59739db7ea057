"""What the segments of a baseline JPEG say of its one scan: enough to find the codes in it.

Strict: what is unusual is refused, and such a file is left as it is.
"""

from dataclasses import dataclass, field
from struct import error as struct_error
from struct import unpack_from
from typing import NamedTuple

from arraystore._decoding.header import Data
from arraystore._decoding.jpeg.segments import START_OF_SCAN, segments
from arraystore.errors import DecodeError, Kind

TABLES, INTERVAL = 0xC4, 0xDD
_START = b"\xff\xd8"
_QUANTIZATION, _COMMENT = 0xDB, 0xFE
_FRAMES = (0xC0, 0xC1)  # of Huffman codes in one pass
_KEPT = frozenset((_QUANTIZATION, _COMMENT, *range(0xE0, 0xF0)))
_WHOLE = bytes((0, 63, 0))  # what a scan says that has all bits of all coefficients
_MOST_TABLES = 4  # of a kind
_MOST_BLOCKS_OF_UNIT = 10
_MOST_FACTOR = 4
_BLOCK_PX = 8

Codes = tuple[bytes, bytes]  # of a table: how many there are of 1 to 16 bits, and their symbols


class Scan(NamedTuple):
    """The scan of a baseline JPEG. A unit has a block, or several, of each component."""

    at: int  # where its segment begins
    pixels: int  # where its bytes begin
    intervals: tuple[tuple[int, int], ...]  # where the segments lie that say after how many units restart markers are
    interval: int  # what the last of them says; 0 for no markers
    units: int
    columns: int  # of units
    unit: tuple[tuple[int, int, int], ...]  # of each block: its component, and the places of its DC and its AC table
    dc: tuple[tuple[int, Codes], ...]  # of each DC table, in the order of their places: its number and its codes
    ac: tuple[Codes, ...]  # of each AC table, whose places are behind those


def scan_of(data: Data) -> Scan:
    """Read the segments up to the pixels.

    Raises:
        DecodeError: the file is no baseline JPEG, ends before its pixels, or says something unusual.
    """
    reader = _Reader(data)
    try:
        if data[:2] != _START:
            raise _refusal("there is no start")
        for marker, at, end in segments(data):
            if end > len(data):
                raise _refusal("it ends in its header")
            if marker == START_OF_SCAN:
                return reader.scan(at, end)
            reader.read(marker, at, end)
    except (struct_error, IndexError) as error:
        raise _refusal("it ends in its header") from error
    raise _refusal("there is no scan")


def _refusal(why: str) -> DecodeError:
    return DecodeError(f"the jpeg cannot get restart markers: {why}", kind=Kind.UNSUPPORTED)


@dataclass(slots=True)
class _Reader:
    data: Data
    tables: dict[int, Codes] = field(default_factory=dict)  # by their kinds (16 for AC) and numbers
    frame: list[tuple[int, int, int]] = field(default_factory=list)  # number and factors of each component
    intervals: list[tuple[int, int]] = field(default_factory=list)
    interval: int = 0
    height: int = 0
    width: int = 0

    def read(self, marker: int, at: int, end: int) -> None:
        """Read a segment before that of the scan.

        Raises:
            DecodeError: see `scan_of`.
        """
        if marker == TABLES:
            self._read_tables(bytes(self.data[at + 4 : end]))
        elif marker == INTERVAL:
            (self.interval,) = unpack_from(">H", self.data, at + 4)
            self.intervals.append((at, end))
            if end != at + 6:
                raise _refusal("its interval is damaged")
        elif marker in _FRAMES:
            self._read_frame(at, end)
        elif marker not in _KEPT:
            raise _refusal("it is not baseline")

    def _read_tables(self, body: bytes) -> None:
        at = 0
        while at + 17 <= len(body):
            kind, counts = body[at], body[at + 1 : at + 17]
            end = at + 17 + sum(counts)
            if kind & 0xEF >= _MOST_TABLES or end > len(body) or sum(counts) > 256:
                break
            self.tables[kind] = counts, body[at + 17 : end]
            at = end
        if at != len(body):
            raise _refusal("its tables of codes are damaged")

    def _read_frame(self, at: int, end: int) -> None:
        bits, self.height, self.width, count = unpack_from(">BHHB", self.data, at + 4)
        if self.frame or bits != 8 or count not in (1, 3, 4) or end != at + 10 + 3 * count:
            raise _refusal("its frame is not baseline")
        self.frame = [(self.data[i], self.data[i + 1] >> 4, self.data[i + 1] & 15) for i in range(at + 10, end, 3)]
        factors = [factor for _, *both in self.frame for factor in both]
        if not (self.height and self.width and all(1 <= factor <= _MOST_FACTOR for factor in factors)):
            raise _refusal("its frame is damaged")

    def scan(self, at: int, end: int) -> Scan:
        """Read the segment of the scan.

        Raises:
            DecodeError: see `scan_of`.
        """
        body, count = bytes(self.data[at + 4 : end]), len(self.frame)
        numbers = [number for number, _, _ in self.frame]
        if not count or len(body) != 4 + 2 * count or body[0] != count or body[-3:] != _WHOLE:
            raise _refusal("its scan does not have all components")
        if list(body[1:-3:2]) != numbers or len(set(numbers)) != count:
            raise _refusal("its components are in another order")
        used = [(kinds >> 4, kinds & 15) for kinds in body[2:-3:2]]
        dc, ac = (sorted({kinds[i] for kinds in used}) for i in range(2))
        if not {*dc, *(0x10 | number for number in ac)} <= self.tables.keys():
            raise _refusal("a table of codes is missing")
        # A scan of one component has one block in a unit, whatever its factors are.
        factors = [(1, 1)] if count == 1 else [(h, v) for _, h, v in self.frame]
        if sum(h * v for h, v in factors) > _MOST_BLOCKS_OF_UNIT:
            raise _refusal("its units are too large")
        columns, rows = (
            -(-side // (_BLOCK_PX * max(many)))
            for side, many in zip((self.width, self.height), zip(*factors, strict=True), strict=True)
        )
        places = [(dc.index(each), len(dc) + ac.index(other)) for each, other in used]
        return Scan(
            at,
            end,
            tuple(self.intervals),
            self.interval,
            columns * rows,
            columns,
            tuple((i, *places[i]) for i, (h, v) in enumerate(factors) for _ in range(h * v)),
            tuple((number, self.tables[number]) for number in dc),
            tuple(self.tables[0x10 | number] for number in ac),
        )
