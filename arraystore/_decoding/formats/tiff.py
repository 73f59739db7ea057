"""TIFF: its directory, and which decoder is right for its pixels."""

from dataclasses import dataclass
from enum import IntEnum
from struct import error as struct_error
from struct import unpack_from

import numpy as np

from arraystore._decoding.codecs import damaged, opencv, pillow
from arraystore._decoding.eight_bits import finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore._decoding.orientation import orientation_of
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec


class _Tag(IntEnum):
    """The tags that say how pixels are stored."""

    IMAGE_WIDTH = 256
    IMAGE_LENGTH = 257
    BITS_PER_SAMPLE = 258
    PHOTOMETRIC = 262
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    STRIP_BYTE_COUNTS = 279
    PLANAR_CONFIG = 284
    TILE_WIDTH = 322
    TILE_LENGTH = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339


class _Photometric(IntEnum):
    """What the samples of a pixel mean."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6
    CIELAB = 8


_PLANES_APART = 2  # of PLANAR_CONFIG
_UNSIGNED, _UNDEFINED = 1, 4  # of SAMPLE_FORMAT
_UNSPECIFIED, _PREMULTIPLIED, _STRAIGHT_ALPHA = 0, 1, 2  # of EXTRA_SAMPLES

_XMP_TAG = 700
_BYTE_TYPES = (1, 7)  # bytes and undefined

_SHORT, _LONG = 3, 4
# The types of whole numbers, with their letter for struct and their bytes: bytes, shorts, longs, offsets, longs of 8.
_TYPES = {1: ("B", 1), _SHORT: ("H", 2), _LONG: ("I", 4), 13: ("I", 4), 16: ("Q", 8)}
_KNOWN_TAGS = frozenset(_Tag)
# The lists that are long in good files too: where strips or tiles begin, and how long they are.
_STRIPS = frozenset((_Tag.STRIP_OFFSETS, _Tag.STRIP_BYTE_COUNTS, _Tag.TILE_OFFSETS, _Tag.TILE_BYTE_COUNTS))
_MOST_STRIPS = 1_048_576
_MOST_VALUES = 64  # of any other tag: one for each sample of a pixel at most
_MOST_SAMPLES = 6
_LEAST_TILE_LIMIT_PX = 1024 * 1024  # the tile of a small image may be larger than the image


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of a directory: whole numbers, the byte at which they begin, and the bytes of each."""

    values: tuple[int, ...]
    at: int
    item_bytes: int


_Entries = dict[int, _Entry]


def _entries(data: Data) -> _Entries:
    """Return the entries of the first directory that describe how its pixels are stored.

    Raises:
        DecodeError: the directory, or a list that it points to, lies outside the data, or is too long.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")  # BigTIFF: offsets and counts of 8 bytes
    entries: _Entries = {}
    try:
        first, number, entry, size = (8, "Q", "HHQ", 20) if big else (4, "I", "HHI", 12)
        (at,) = unpack_from(order + number, data, first)
        (count,) = unpack_from(order + ("Q" if big else "H"), data, at)
        at += 8 if big else 2
        # The end of the data bounds the walk, whatever the count says.
        for start in range(at, min(at + count * size, len(data)), size):
            tag, kind, length = unpack_from(order + entry, data, start)
            if tag not in _KNOWN_TAGS or tag in entries:  # libtiff, too, takes the first
                continue
            if kind not in _TYPES:
                reason = f"the tiff has values of type {kind} in tag {tag}, where whole numbers belong"
                raise DecodeError(reason, kind=Kind.DAMAGED)
            letter, width = _TYPES[kind]
            where = start + (12 if big else 8)
            if length * width > (8 if big else 4):
                (where,) = unpack_from(order + number, data, where)
            if where + length * width > len(data):
                reason = f"the tiff ends early: tag {tag} lies beyond its {len(data)} bytes"
                raise DecodeError(reason, kind=Kind.ENDS_EARLY)
            if length > _MOST_STRIPS and tag in _STRIPS:
                reason = f"the tiff has {length:,} strips or tiles; save it again with any image program"
                raise DecodeError(reason, kind=Kind.TOO_LARGE)
            length = length if tag in _STRIPS else min(length, _MOST_VALUES)
            entries[tag] = _Entry(unpack_from(f"{order}{length}{letter}", data, where), where, width)
    except (struct_error, OverflowError):  # OverflowError: an offset of 64 bits
        raise DecodeError("the tiff ends early: its directory is not whole", kind=Kind.ENDS_EARLY) from None
    return entries


def _value(entries: _Entries, tag: _Tag, default: int) -> int:
    return entries[tag].values[0] if tag in entries and entries[tag].values else default


def read_header(data: Data) -> Header:
    """Return the header of a TIFF.

    Raises:
        DecodeError: the directory is damaged or cut off, or does not state the size.
    """
    entries = _entries(data)
    height, width = _value(entries, _Tag.IMAGE_LENGTH, -1), _value(entries, _Tag.IMAGE_WIDTH, -1)
    if height < 0 or width < 0:
        raise DecodeError("the tiff does not state its size", kind=Kind.DAMAGED)
    if _Tag.ORIENTATION not in entries:
        return Header("tiff", height, width, orientation_of(xmp=_xmp(data)))
    orientation = _value(entries, _Tag.ORIENTATION, 1)
    return Header("tiff", height, width, orientation if 1 <= orientation <= 8 else 1)


def _xmp(data: Data) -> Data:
    """Return the packet of XMP in the first directory; empty where there is none."""
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    first, number, entry, size = (8, "Q", "HHQ", 20) if big else (4, "I", "HHI", 12)
    (at,) = unpack_from(order + number, data, first)
    (count,) = unpack_from(order + ("Q" if big else "H"), data, at)
    at += 8 if big else 2
    for start in range(at, min(at + count * size, len(data) - size + 1), size):
        tag, kind, length = unpack_from(order + entry, data, start)
        if tag == _XMP_TAG and kind in _BYTE_TYPES:
            (where,) = unpack_from(order + number, data, start + (12 if big else 8))
            return data[where : where + length]
    return b""


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a TIFF as stored, whatever its orientation."""
    entries = _entries(data)
    _check_strips(entries, header, len(data))
    _check_kind(entries, spec)
    bits, photometric = _value(entries, _Tag.BITS_PER_SAMPLE, 1), _value(entries, _Tag.PHOTOMETRIC, 1)
    if header.orientation != 1 and _Tag.ORIENTATION in entries:  # OpenCV would apply it
        data, entry = bytearray(data), entries[_Tag.ORIENTATION]
        one = (1).to_bytes(entry.item_bytes, "little" if data[:1] == b"I" else "big")
        data[entry.at : entry.at + entry.item_bytes] = one
    pixels = opencv(data) if _opencv_is_right(entries) else None
    premultiplied = False
    if pixels is None:
        pixels = pillow(data, header, "Tiff")
    elif pixels.ndim == 3 and pixels.shape[2] == 4:
        extra = _value(entries, _Tag.EXTRA_SAMPLES, _STRAIGHT_ALPHA)
        if photometric == _Photometric.CMYK or extra == _UNSPECIFIED:
            pixels = pixels[..., :3]
        # Without the tag the samples come as they are; with it, OpenCV has multiplied those of 8 bits.
        premultiplied = _Tag.EXTRA_SAMPLES in entries and (bits == 8 or extra == _PREMULTIPLIED)
    # OpenCV does not invert these samples of 16 bits, and gives those of 10 to 14 bits shifted.
    if pixels.dtype == np.uint16 and photometric == _Photometric.WHITE_IS_ZERO:
        pixels = 65_535 - pixels
    if 8 < bits < 16 and pixels.dtype == np.uint16:
        return finish(pixels >> (16 - bits), spec, maximum=(1 << bits) - 1)
    return finish(pixels, spec, premultiplied=premultiplied)


def _check_kind(entries: _Entries, spec: ImageSpec) -> None:
    """Check that the pixels are of a kind that is decoded rightly, and in bounded memory."""
    bits, samples = _value(entries, _Tag.BITS_PER_SAMPLE, 1), _value(entries, _Tag.SAMPLES_PER_PIXEL, 1)
    if samples > _MOST_SAMPLES:
        reason = f"the tiff has {samples:,} samples a pixel; 1 to {_MOST_SAMPLES} can be decoded"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    tile_width, tile_height = _value(entries, _Tag.TILE_WIDTH, 1), _value(entries, _Tag.TILE_LENGTH, 1)
    if tile_width * tile_height > max(spec.max_pixels, _LEAST_TILE_LIMIT_PX):
        reason = f"the tiff has tiles of {tile_width} x {tile_height} pixels; save it again"
        raise DecodeError(reason, kind=Kind.TOO_LARGE)
    if _value(entries, _Tag.SAMPLE_FORMAT, _UNSIGNED) not in (_UNSIGNED, _UNDEFINED) or bits > 16:
        reason = f"the tiff has signed, float or {bits}-bit samples; convert it to 8 or 16 bits first"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    if bits == 16 and samples > 1 and _value(entries, _Tag.PLANAR_CONFIG, 1) == _PLANES_APART:
        reason = "the tiff has 16-bit planes apart, which are not decoded rightly; save it interleaved"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)


def _check_strips(entries: _Entries, header: Header, size: int) -> None:
    """Check that every strip or tile lies inside the file: libtiff silently fills missing ones."""
    strips, tiles = (_Tag.STRIP_OFFSETS, _Tag.STRIP_BYTE_COUNTS), (_Tag.TILE_OFFSETS, _Tag.TILE_BYTE_COUNTS)
    for offsets, lengths in (strips, tiles):
        if offsets in entries and lengths in entries:
            ends = map(int.__add__, entries[offsets].values, entries[lengths].values)
            if max(ends, default=0) > size:
                raise damaged(header)


def _opencv_is_right(entries: _Entries) -> bool:
    """Return whether OpenCV decodes these pixels: it drops the alpha of gray, and makes palettes of 1 bit gray."""
    bits, photometric = _value(entries, _Tag.BITS_PER_SAMPLE, 1), _value(entries, _Tag.PHOTOMETRIC, 1)
    samples = _value(entries, _Tag.SAMPLES_PER_PIXEL, 1)
    gray = photometric in (_Photometric.WHITE_IS_ZERO, _Photometric.BLACK_IS_ZERO)
    if _Tag.BITS_PER_SAMPLE in entries and len(set(entries[_Tag.BITS_PER_SAMPLE].values)) > 1:
        return False
    if samples == 1:
        if gray:
            return bits in (1, 8, 10, 12, 14, 16)
        return photometric == _Photometric.PALETTE and bits in (4, 8)
    if samples == 2:
        return gray and bits == 8 and _value(entries, _Tag.EXTRA_SAMPLES, _UNSPECIFIED) == _UNSPECIFIED
    if bits == 8:
        return photometric in (_Photometric.RGB, _Photometric.CMYK, _Photometric.YCBCR, _Photometric.CIELAB)
    return bits == 16 and photometric == _Photometric.RGB
