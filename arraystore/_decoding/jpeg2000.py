"""What a JPEG 2000 says of itself, and whether it can be decoded in bounded memory.

Its pixels are cut into tiles, those into precincts and those into code-blocks, and a header of a few hundred bytes may
ask for billions of them, for each of which OpenJPEG takes 300 bytes to 6 KB before it reads a pixel. So they are
counted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

from arraystore._decoding.isobmff import box, iso_boxes
from arraystore._decoding.jpeg import Data
from arraystore.errors import DecodeError

__all__ = ["jp2_depth", "jp2_is_sycc", "jp2_size"]

_SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9

# Encoders take code-blocks of 32 or 64 pixels a side. 178 megapixels in color are 700,000 of 32 x 32.
_MOST_BLOCKS = 1_048_576
# Every packet is at least a step of the decoder, and there is one a layer, resolution, component and precinct.
_MOST_PACKETS = 16_777_216
_MOST_TILES = 4_096
_LEAST_TILE_PIXELS = 1_024
_MOST_SEGMENTS = 1_048_576


def jp2_size(data: Data) -> tuple[int, int]:
    """Return height and width of a JPEG 2000, from the part that decoders go by.

    Raises:
        DecodeError: its header is damaged, or asks for more parts than its pixels can need.
        struct.error: the data ends inside its header.
        IndexError: likewise.
    """
    at = _codestream(data)
    right, bottom, left, top, tile_width, tile_height = unpack_from(">IIIIII", data, at + 8)
    (components,) = unpack_from(">H", data, at + 40)
    height, width = bottom - top, right - left
    if not (height > 0 and width > 0 and tile_width and tile_height):
        raise DecodeError(f"the jp2 header says {height} by {width} pixels in tiles of {tile_height} by {tile_width}")
    if not 1 <= components <= 4:
        raise DecodeError(f"the jp2 has {components:,} samples a pixel; 1 to 4 can be decoded")
    tiles = -(-right // tile_width) * -(-bottom // tile_height)
    if tiles > _MOST_TILES and height * width < tiles * _LEAST_TILE_PIXELS:
        raise DecodeError(f"the jp2 has {tiles:,} tiles for {width} x {height} pixels; save it again with larger ones")
    for marker, start in _segments(data, at + 2):
        if marker in (_COD, _COC):
            _check_style(data, marker, start, min(height, tile_height), min(width, tile_width), components, tiles)
    return height, width


def _codestream(data: Data) -> int:
    """Return the byte at which the codestream begins."""
    if data[:2] == b"\xff\x4f":
        return 0
    if box(data, "jp2h/ihdr", 0, len(data)) is None:
        raise DecodeError("the jp2 has no image header")
    body = box(data, "jp2c", 0, len(data))
    if body is None:
        raise DecodeError("the jp2 has no codestream")
    if data[body[0] : body[0] + 4] != b"\xff\x4f\xff\x51":
        raise DecodeError("the jp2 has a damaged codestream")
    return body[0]


def _segments(data: Data, at: int) -> Iterator[tuple[int, int]]:
    """Yield marker and first byte of each segment of the header, and of every tile's, where the data holds it whole."""
    next_tile = len(data)
    for _ in range(_MOST_SEGMENTS):
        if at + 12 > len(data):
            return
        marker, length = unpack_from(">HH", data, at)
        if marker == _EOC:
            return
        if marker == _SOT:
            (part,) = unpack_from(">I", data, at + 6)
            next_tile = at + part if part >= 14 else len(data)
        if marker == _SOD:
            at = next_tile
            continue
        yield marker, at + 4
        at += 2 + max(length, 2)
    raise DecodeError("the jp2 has a header without an end")


def _check_style(  # noqa: PLR0913 - one call
    data: Data, marker: int, at: int, height: int, width: int, components: int, tiles: int
) -> None:
    """Check how many packets and code-blocks a coding style makes of all tiles of one size."""
    flags = data[at]
    layers = 1
    if marker == _COC:
        at += 1  # the component's number, of one byte for up to 256
        flags = data[at]
    else:
        (layers,) = unpack_from(">H", data, at + 2)
        at += 4
    levels, block_width, block_height = data[at + 1] & 0x3F, (data[at + 2] & 15) + 2, (data[at + 3] & 15) + 2
    blocks = precincts = 0
    for resolution in range(min(levels, 32) + 1):
        # The sides of the largest power-of-two part, as exponents; 15 where none are stated.
        size = data[at + 6 + resolution] if flags & 1 else 0xFF
        down, across = size >> 4, size & 15
        rows, columns = (-(-side >> min(levels, 32) - resolution) for side in (height, width))
        parts = _parts(rows, down) * _parts(columns, across)
        # Above the lowest resolution there are three bands, each of half the sides.
        halved = resolution > 0
        inside = [min(max(side - halved, 0), block) for side, block in ((down, block_height), (across, block_width))]
        bands = 3 if halved else 1
        in_band = _parts(-(-rows >> halved), inside[0]) * _parts(-(-columns >> halved), inside[1])
        blocks += bands * max(parts, in_band)
        precincts += parts
    total = tiles * components
    if blocks * total > _MOST_BLOCKS or layers * precincts * total > _MOST_PACKETS:
        raise DecodeError(
            f"the jp2 is cut into {blocks * total:,} blocks with layers up to {layers:,}, which would take a decoder "
            "too much memory and time; save it again with any image program"
        )


def _parts(side: int, exponent: int) -> int:
    return -(-side >> exponent)


def jp2_depth(data: Data) -> int:
    """Return how many bits a sample of the first component has.

    Raises:
        DecodeError: the header is damaged.
        struct.error: the data ends inside it.
        IndexError: likewise.
    """
    return (data[_codestream(data) + 42] & 0x7F) + 1


def jp2_is_sycc(data: Data) -> bool:
    """Return whether its colors are luma and chroma, by the box that says so.

    Raises:
        DecodeError: the boxes are damaged.
        struct.error: likewise.
        IndexError: likewise.
    """
    found = box(data, "jp2h", 0, len(data)) if data[4:6] == b"jP" else None
    return found is not None and any(
        name == b"colr" and data[start] == 1 and unpack_from(">I", data, start + 3)[0] == 18
        for name, start, _ in iso_boxes(data, *found)
    )
