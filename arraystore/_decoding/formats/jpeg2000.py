"""JPEG 2000: its header, and a check that it can be decoded in bounded memory.

Its pixels are cut into tiles, the tiles into precincts and the precincts into code-blocks. A header of a few hundred
bytes may ask for billions of them, and OpenJPEG takes 300 bytes to 6 KB for each before it reads a pixel. So they are
counted here.
"""

from collections.abc import Iterator
from struct import unpack_from

import numpy as np

from arraystore._decoding.codecs import opencv, opencv_or_fail, pillow
from arraystore._decoding.eight_bits import eight_bits, finish
from arraystore._decoding.formats.boxes import box, iso_boxes
from arraystore._decoding.header import Data, Header, Pixels
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

_WITH_PROFILE = (2, 3)  # ways to say what the colors are

# Markers: coding style of all components and of one; start of a tile, start of its data, end of the codestream.
_COD, _COC, _SOT, _SOD, _EOC = 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_END, _MOST_BYTES_BEHIND_END = b"\xff\xd9", 65_536
# A codestream begins with the markers SOC and SIZ.
_CODESTREAM = b"\xff\x4f\xff\x51"
_CMYK, _SYCC = 12, 18  # the numbers of inks, and of luma and chroma, among the color spaces
# Of palettes: the depth of a column, less one; how many colors there may be; that a channel has a column.
_EIGHT_BITS, _MOST_COLORS, _BY_PALETTE = b"\x07", 1_024, 1

# Encoders take code-blocks of 32 or 64 pixels a side. 178 megapixels in color are 700,000 of 32 x 32.
_MOST_BLOCKS = 1_048_576
# The decoder takes at least a step for each packet, and each layer, resolution, component and precinct has one.
_MOST_PACKETS = 16_777_216
_MOST_TILES = 4_096
_LEAST_TILE_PIXELS = 1_024
_MOST_SEGMENTS = 1_048_576
_MOST_STYLES = 32_768  # most files have one, and to check one takes 60 microseconds


def read_header(data: Data) -> Header:
    """Return the header of a JPEG 2000, by the size in its codestream, which decoders use.

    Raises:
        DecodeError: its header is damaged, or asks for more parts than its pixels can need.
    """
    at = _codestream(data)
    right, bottom, left, top, tile_width, tile_height = unpack_from(">IIIIII", data, at + 8)
    (components,) = unpack_from(">H", data, at + 40)
    height, width = bottom - top, right - left
    if not (height > 0 and width > 0 and tile_width and tile_height):
        reason = f"the jp2 header says {height} by {width} pixels in tiles of {tile_height} by {tile_width}"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    if not 1 <= components <= 4:
        raise DecodeError(f"the jp2 has {components:,} samples a pixel; 1 to 4 can be decoded", kind=Kind.UNSUPPORTED)
    tiles = -(-right // tile_width) * -(-bottom // tile_height)
    if tiles > _MOST_TILES and height * width < tiles * _LEAST_TILE_PIXELS:
        reason = f"the jp2 has {tiles:,} tiles for {width} x {height} pixels; save it again with larger ones"
        raise DecodeError(reason, kind=Kind.TOO_LARGE)
    sides = min(height, tile_height), min(width, tile_width)
    styles = 0
    for marker, start in _segments(data, at + 2):
        if marker in (_COD, _COC):
            styles += 1
            if styles > _MOST_STYLES:
                reason = f"the jp2 has more than {_MOST_STYLES:,} coding styles; save it again with any image program"
                raise DecodeError(reason, kind=Kind.TOO_LARGE)
            _check_style(data, marker, start, sides, tiles * components)
    return Header("jp2", height, width)


def _codestream(data: Data) -> int:
    """Return the byte at which the codestream begins."""
    if data[:2] == _CODESTREAM[:2]:
        return 0
    head = box(data, "jp2h/ihdr", 0, len(data))
    if head is None:
        raise DecodeError("the jp2 has no image header", kind=Kind.DAMAGED)
    body = box(data, "jp2c", 0, len(data))
    if body is None:
        raise DecodeError("the jp2 has no codestream", kind=Kind.DAMAGED)
    if data[body[0] : body[0] + 4] != _CODESTREAM:
        raise DecodeError("the jp2 has a damaged codestream", kind=Kind.DAMAGED)
    (samples,), (stated,) = unpack_from(">H", data, body[0] + 40), unpack_from(">H", data, head[0] + 8)
    if samples != stated:
        reason = f"the jp2 header says {stated} samples a pixel, its codestream has {samples}"
        raise DecodeError(reason, kind=Kind.DAMAGED)
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
            if next_tile <= at:
                raise DecodeError("the jp2 has a tile that ends inside its own header", kind=Kind.DAMAGED)
            at = next_tile
            continue
        yield marker, at + 4
        at += 2 + max(length, 2)
    raise DecodeError("the jp2 has a header without an end", kind=Kind.TOO_LARGE)


def _check_style(data: Data, marker: int, at: int, sides_px: tuple[int, int], parts_in_all: int) -> None:
    """Check how many packets and code-blocks the coding style at a byte makes in tiles × components."""
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
        rows, columns = (-(-side >> min(levels, 32) - resolution) for side in sides_px)
        parts = _parts(rows, down) * _parts(columns, across)
        # Above the lowest resolution there are three bands, each of half the sides.
        halved = resolution > 0
        inside = [min(max(side - halved, 0), block) for side, block in ((down, block_height), (across, block_width))]
        bands = 3 if halved else 1
        in_band = _parts(-(-rows >> halved), inside[0]) * _parts(-(-columns >> halved), inside[1])
        blocks += bands * max(parts, in_band)
        precincts += parts
    if blocks * parts_in_all > _MOST_BLOCKS or layers * precincts * parts_in_all > _MOST_PACKETS:
        raise DecodeError(
            f"the jp2 is cut into {blocks * parts_in_all:,} blocks with layers up to {layers:,}, which would take a "
            "decoder too much memory and time; save it again with any image program",
            kind=Kind.TOO_LARGE,
        )


def _parts(side: int, exponent: int) -> int:
    return -(-side >> exponent)


def profile(data: Data) -> bytes:
    """Return the color profile of a JPEG 2000; empty where it has none."""
    found = box(data, "jp2h", 0, len(data)) if data[4:6] == b"jP" else None
    for name, start, end in iso_boxes(data, *found) if found else ():
        if name == b"colr" and data[start] in _WITH_PROFILE:
            return bytes(data[start + 3 : end])
    return b""


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a JPEG 2000.

    Raises:
        DecodeError: it is damaged, ends early, or is of a kind that cannot be decoded.
    """
    _check_end(data)
    palette = _palette(data)
    if palette is not None:
        return _with_palette(data, header, palette, spec)
    depths = _depths(data)
    # OpenCV converts sYCC wrongly, takes all components for as deep as the first one, and fails at CMYK, at gray with
    # alpha and at fewer than 8 bits.
    pixels = opencv(data) if len({*depths}) == 1 and not _has_colors(data, _SYCC) else None
    if pixels is None:
        return _decode_by_pillow(data, header, depths, spec)
    if pixels.dtype == np.uint8:
        return finish(pixels, spec)
    return finish(pixels, spec, maximum=(1 << min(depths[0], 16)) - 1)  # OpenCV gives 9 to 15 bits unscaled in 16


def _decode_by_pillow(data: Data, header: Header, depths: list[int], spec: ImageSpec) -> Pixels:
    pixels = pillow(data, header, "Jpeg2K")
    if _has_colors(data, _SYCC) or _has_colors(data, _CMYK):
        return finish(pixels, spec)
    # It moves samples of fewer bits up to 8 or 16, so that the largest is not white. Here they are moved back.
    if pixels.dtype == np.uint16:
        depth = min(depths[0], 16)
        return finish(pixels >> (16 - depth), spec, maximum=(1 << depth) - 1)
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    # Gray with alpha has become three equal colors with alpha.
    for number, depth in enumerate([depths[0]] * (channels.shape[2] - len(depths)) + depths):
        if depth < 8:
            channels[..., number] = eight_bits(channels[..., number] >> (8 - depth), (1 << depth) - 1)
    return finish(pixels, spec)


def _depths(data: Data) -> list[int]:
    """Return the bits of a sample of each component."""
    at = _codestream(data)
    (components,) = unpack_from(">H", data, at + 40)
    return [(data[at + 42 + 3 * number] & 0x7F) + 1 for number in range(components)]


def _check_end(data: Data) -> None:
    """Check that the codestream has its end marker, whose bytes are in no pixels: OpenCV does not miss it."""
    body = box(data, "jp2c", 0, len(data)) if data[4:6] == b"jP" else (0, len(data))
    start, stop = body or (0, len(data))
    if _END not in bytes(data[max(start, min(stop, len(data)) - _MOST_BYTES_BEHIND_END) : stop]):
        raise DecodeError("the jp2 ends early: it has no end marker", kind=Kind.ENDS_EARLY)


def _palette(data: Data) -> Pixels | None:
    """Return the palette of a file whose one component holds indices, (colors, 1 to 4); None where it has none.

    Raises:
        DecodeError: the palette is damaged or of a rare kind.
    """
    found = box(data, "jp2h/pclr", 0, len(data)) if data[4:6] == b"jP" else None
    if found is None:
        return None
    start, stop = found
    count, columns = unpack_from(">HB", data, start)
    depths = bytes(data[start + 3 : start + 3 + columns])
    order = _palette_order(data)
    odd_colors = _has_colors(data, _CMYK) or _has_colors(data, _SYCC)
    if odd_colors or depths != _EIGHT_BITS * columns or not 1 <= len(order) <= 4 or max(order) >= columns:
        reason = "the jp2 has a palette that is not one of RGB with 8 bits a sample; save it again without a palette"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    colors = np.frombuffer(data, np.uint8)[start + 3 + columns : min(stop, start + 3 + columns + count * columns)]
    if not 1 <= count <= _MOST_COLORS or colors.size < count * columns:
        raise DecodeError("the jp2 has a damaged palette", kind=Kind.DAMAGED)
    return colors.reshape(count, columns)[:, order]


def _palette_order(data: Data) -> list[int]:
    """Return which column of the palette each channel has, by the box that says so; none if channels have no column."""
    found = box(data, "jp2h/cmap", 0, len(data))
    if found is None:
        return []
    entries = [unpack_from(">HBB", data, at) for at in range(found[0], min(found[1], found[0] + 20) - 3, 4)]
    of_palette = all((component, kind) == (0, _BY_PALETTE) for component, kind, _ in entries)
    return [column for _, _, column in entries] if of_palette else []


def _with_palette(data: Data, header: Header, palette: Pixels, spec: ImageSpec) -> Pixels:
    # OpenCV decodes a codestream without its boxes to indices, and has no colors with them.
    indices = opencv_or_fail(data[_codestream(data) :], header)
    if indices.ndim != 2 or int(indices.max(initial=0)) >= len(palette):
        reason = f"the jp2 is damaged: its pixels name colors that its palette of {len(palette)} has not"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    return finish(palette[indices], spec)


def _has_colors(data: Data, space: int) -> bool:
    """Return whether its colors are those of a space, by the boxes that say so."""
    found = box(data, "jp2h", 0, len(data)) if data[4:6] == b"jP" else None
    return found is not None and any(
        name == b"colr" and data[start] == 1 and unpack_from(">I", data, start + 3)[0] == space
        for name, start, _ in iso_boxes(data, *found)
    )
