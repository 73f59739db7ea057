"""The directory of a TIFF: the tags that say how its pixels are stored, as whole numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import calcsize, unpack_from
from struct import error as struct_error
from typing import NamedTuple

from arraystore._decoding.header import Data
from arraystore.errors import DecodeError, Kind


class Tag(IntEnum):
    """The tags that say how pixels are stored."""

    IMAGE_WIDTH = 256
    IMAGE_LENGTH = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    PLANAR_CONFIG = 284
    T4_OPTIONS = 292
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532


class Photometric(IntEnum):
    """What the samples of a pixel mean."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6
    CIELAB = 8
    ICCLAB = 9


class Compression(IntEnum):
    """How the bytes of a strip or tile are packed, of those that are unpacked here."""

    NONE = 1
    FAX_RUNS = 2
    FAX_3 = 3
    FAX_4 = 4
    LZW = 5
    JPEG = 7
    DEFLATE = 8
    FAX_RUNS_OF_WORDS = 32771
    PACKBITS = 32773
    OLD_DEFLATE = 32946
    LZMA = 34925
    ZSTD = 50000


_SHORT, _LONG, _RATIONAL, _LAST_TYPE = 3, 4, 5, 18
# The types of whole numbers, with their letter for struct and their bytes: bytes, shorts, longs, offsets, longs of 8.
_TYPES = {1: ("B", 1), _SHORT: ("H", 2), _LONG: ("I", 4), 7: ("B", 1), 13: ("I", 4), 16: ("Q", 8)}
_KNOWN_TAGS = frozenset(Tag)
_XMP, _PROFILE, _BYTE_TYPES = 700, 34675, (1, 7)  # bytes and undefined
# The lists that are long in good files too, and how long they may be.
_MOST_STRIPS = 1_048_576
_STRIPS = frozenset((Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS, Tag.TILE_OFFSETS, Tag.TILE_BYTE_COUNTS))
_MOST: dict[int, int] = {Tag.COLOR_MAP: 3 * 256, Tag.JPEG_TABLES: 65_536}
_MOST_VALUES = 64  # of any other tag: one for each sample of a pixel at most
_LISTS = _STRIPS | frozenset(
    (
        Tag.BITS_PER_SAMPLE,
        Tag.COLOR_MAP,
        Tag.EXTRA_SAMPLES,
        Tag.ORIENTATION,  # as Pillow, which takes the first
        Tag.SAMPLE_FORMAT,
        Tag.JPEG_TABLES,
        Tag.YCBCR_COEFFICIENTS,
        Tag.YCBCR_SUBSAMPLING,
        Tag.REFERENCE_BLACK_WHITE,
    )
)
_FRACTIONS = frozenset((Tag.YCBCR_COEFFICIENTS, Tag.REFERENCE_BLACK_WHITE))


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a directory: whole numbers, the byte at which they begin, and the bytes of each."""

    values: tuple[int, ...]  # of fractions: numerator, denominator, numerator and so on
    at: int
    item_bytes: int


@dataclass(frozen=True, slots=True)
class Directory:
    """The entries of the first directory of a file that describe its pixels."""

    order: str  # of the bytes of a number: "<" or ">"
    entries: dict[int, Entry]
    is_odd: bool  # whether it has entries of types that no TIFF has

    def all(self, tag: Tag) -> tuple[int, ...]:
        """Return the values of a tag; none where it is missing."""
        return self.entries[tag].values if tag in self.entries else ()

    def one(self, tag: Tag, default: int) -> int:
        """Return the first value of a tag."""
        return next(iter(self.all(tag)), default)

    def fractions(self, tag: Tag, default: tuple[float, ...]) -> tuple[float, ...]:
        """Return the values of a tag of fractions."""
        values = self.all(tag)
        pairs = list(zip(values[::2], values[1::2], strict=True))
        return tuple(a / b for a, b in pairs) if len(pairs) == len(default) and all(b for _, b in pairs) else default


def read_directory(data: Data) -> Directory:
    """Return the first directory of a TIFF.

    Raises:
        DecodeError: the directory, or a list that it points to, lies outside the data, or is too long.
    """
    form = _form_of(data)
    entries: dict[int, Entry] = {}
    is_odd = False
    for tag, kind, length, where in _walk(data, form):
        is_odd |= kind > _LAST_TYPE
        if tag not in _KNOWN_TAGS or tag in entries:  # libtiff, too, takes the first
            continue
        if tag in _FRACTIONS and kind != _RATIONAL:
            continue
        try:
            entries[tag] = _entry(data, form, (tag, kind, length), where)
        except (struct_error, OverflowError):  # OverflowError: an offset of 64 bits
            raise _not_whole() from None
    return Directory(form.order, entries, is_odd)


def xmp_in(data: Data) -> Data:
    """Return the packet of XMP that the first directory of a TIFF names; empty where there is none.

    Raises:
        DecodeError: the directory lies outside the data.
    """
    return _block_in(data, _XMP)


def profile_in(data: Data) -> Data:
    """Return the color profile that the first directory of a TIFF names; empty where there is none.

    Raises:
        DecodeError: the directory lies outside the data.
    """
    return _block_in(data, _PROFILE)


def _block_in(data: Data, wanted: int) -> Data:
    form = _form_of(data)
    for tag, kind, length, where in _walk(data, form):
        if tag == wanted and kind in _BYTE_TYPES:
            (at,) = unpack_from(form.order + form.offset, data, where)
            return data[at : at + length]
    return b""


class _Form(NamedTuple):
    """How the numbers of a file are written, as letters of struct: a BigTIFF has offsets and counts of 8 bytes."""

    order: str
    offset: str
    entries: str
    entry: str
    first: int  # the byte that says where the first directory is


def _form_of(data: Data) -> _Form:
    order = "<" if data[:1] == b"I" else ">"
    return _Form(order, "Q", "Q", "HHQ", 8) if data[2:4] in (b"+\0", b"\0+") else _Form(order, "I", "H", "HHI", 4)


def _walk(data: Data, form: _Form) -> Iterator[tuple[int, int, int, int]]:
    """Yield tag, type and length of each entry of the first directory, and the byte of its value."""
    head, size = calcsize("<" + form.entry), calcsize("<" + form.entry + form.offset)
    try:
        (at,) = unpack_from(form.order + form.offset, data, form.first)
        (count,) = unpack_from(form.order + form.entries, data, at)
    except (struct_error, OverflowError):
        raise _not_whole() from None
    at += calcsize("<" + form.entries)
    if at + count * size > len(data):
        raise _not_whole()
    for start in range(at, at + count * size, size):
        yield *unpack_from(form.order + form.entry, data, start), start + head


def _not_whole() -> DecodeError:
    return DecodeError("the tiff ends early: its directory is not whole", kind=Kind.ENDS_EARLY)


def _entry(data: Data, form: _Form, head: tuple[int, int, int], where: int) -> Entry:
    """Return an entry by its head (tag, type and length) and the byte of its value, or of the place of its values."""
    tag, kind, length = head
    fraction = tag in _FRACTIONS
    if not fraction and kind not in _TYPES:
        reason = f"the tiff has values of type {kind} in tag {tag}, where whole numbers belong"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    if length != 1 and tag not in _LISTS:
        reason = f"the tiff is damaged: its tag {tag} has {length:,} values, where one belongs"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    letter, width = _TYPES[_LONG if fraction else kind]
    length *= 2 if fraction else 1
    if length * width > calcsize("<" + form.offset):
        (where,) = unpack_from(form.order + form.offset, data, where)
    if where + length * width > len(data):
        reason = f"the tiff ends early: tag {tag} lies beyond its {len(data)} bytes"
        raise DecodeError(reason, kind=Kind.ENDS_EARLY)
    if length > _MOST_STRIPS and tag in _STRIPS:
        reason = f"the tiff has {length:,} strips or tiles; save it again with any image program"
        raise DecodeError(reason, kind=Kind.TOO_LARGE)
    length = length if tag in _STRIPS else min(length, _MOST.get(tag, _MOST_VALUES))
    return Entry(unpack_from(f"{form.order}{length}{letter}", data, where), where, width)
