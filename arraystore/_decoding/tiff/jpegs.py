"""A strip or tile of a TIFF that is a JPEG: its tables may lie in the directory, and its colors are said there."""

from collections.abc import Iterator
from struct import pack
from typing import TYPE_CHECKING

from arraystore._common.lazy import lazy
from arraystore._decoding.header import Pixels
from arraystore._decoding.jpeg.segments import DCT_FRAMES, FRAMES, START_OF_SCAN, check_scans, segments
from arraystore._decoding.tiff.packing import PackingError
from arraystore.errors import DecodeError

if TYPE_CHECKING:
    import simplejpeg
else:
    simplejpeg = lazy("simplejpeg")

_START_OF_IMAGE = b"\xff\xd8"
_QUANTIZATION, _HUFFMAN, _ARITHMETIC, _RESTART = 0xDB, 0xC4, 0xCC, 0xDD
_TABLES = frozenset((_QUANTIZATION, _HUFFMAN, _ARITHMETIC, _RESTART))
_COLORS = {1: "GRAY", 3: "RGB", 4: "CMYK"}
_NO_TRANSFORM, _LUMA_AND_CHROMA = 0, 1  # of Adobe's segment


def unpack_jpeg(
    packed: bytes, tables: bytes, shape: tuple[int, int, int], *, most_rows: int, luma_and_chroma: bool
) -> Pixels:
    """Return pixels (rows, columns, channels): gray, RGB or CMYK.

    Args:
        packed: a JPEG, with or without tables of its own.
        tables: a JPEG of tables alone, or nothing.
        shape: the rows, columns and channels that it must have.
        most_rows: how many rows it may have; those behind the last one that it must have are left out.
        luma_and_chroma: whether its three channels are to be converted to RGB.

    Raises:
        PackingError: the decoder warned, or the JPEG has another size.
    """
    try:
        plain, found = _plain(packed, tables, luma_and_chroma=luma_and_chroma)
    except (DecodeError, IndexError):
        raise PackingError("its JPEG has no whole header") from None
    rows, columns, channels = shape
    if not rows <= found[0] <= most_rows or found[1:] != (columns, channels):
        raise PackingError(f"its JPEG has the shape {found}, not {shape}")
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(plain, colorspace=_COLORS[channels], strict=True)
    except ValueError as error:
        raise PackingError(str(error)) from None
    return pixels[:rows]


def _plain(packed: bytes, tables: bytes, *, luma_and_chroma: bool) -> tuple[bytes, tuple[int, int, int]]:
    """Return a JPEG whose colors are plain to a decoder, whatever its segments said of them; rows, columns, channels.

    Raises:
        DecodeError: it has no whole header.
        IndexError: it ends in a header.
    """
    adobe = b"Adobe" + pack(">HHHB", 100, 0, 0, _LUMA_AND_CHROMA if luma_and_chroma else _NO_TRANSFORM)
    parts = [_START_OF_IMAGE, b"\xff\xee" + pack(">H", len(adobe) + 2), adobe]
    if tables:
        parts += [tables[at:end] for marker, at, end in _header(tables) if marker in _TABLES]
    shape = (0, 0, 0)
    for marker, at, end in _header(packed):
        if marker in FRAMES:
            if marker not in DCT_FRAMES or packed[at + 4] != 8:
                raise PackingError("its JPEG is of a kind that cannot be decoded")
            sides = packed[at + 5 : at + 9]
            shape = int.from_bytes(sides[:2], "big"), int.from_bytes(sides[2:], "big"), packed[at + 9]
        if marker in FRAMES or marker in _TABLES:
            parts.append(packed[at:end])
        if marker == START_OF_SCAN:
            check_scans(packed, at, *shape[:2])
            parts.append(packed[at:])
    return b"".join(parts), shape


def _header(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the segments up to the start of the scan, or to the end of a JPEG of tables."""
    if data[:2] != _START_OF_IMAGE:
        raise PackingError("its JPEG has no start")
    for marker, at, end in segments(data):
        yield marker, at, end
        if marker == START_OF_SCAN or end + 4 > len(data):  # no room for another segment
            return
