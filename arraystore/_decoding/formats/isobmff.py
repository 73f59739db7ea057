"""AVIF and HEIF: their headers, and what their decoders make of the pixels."""

from collections.abc import Iterable
from struct import unpack_from

import numpy as np

from arraystore._decoding.codecs import opencv, pillow
from arraystore._decoding.eight_bits import finish
from arraystore._decoding.formats.boxes import MOST_BOXES, box, iso_boxes
from arraystore._decoding.formats.isobmff_items import exif_and_xmp, primary_item
from arraystore._decoding.header import Data, Header, Pixels
from arraystore._decoding.orientation import UPRIGHT, orientation_beside_boxes
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

# Where each turn leaves the pixels a b / c d, in reading order, and the EXIF orientation that does the same.
_ORIENTATIONS = {"abcd": 1, "badc": 2, "dcba": 3, "cdab": 4, "acbd": 5, "cadb": 6, "dbca": 7, "bdac": 8}

_FULL_RANGE_AT = 10  # of the box of a color space, behind three numbers that name its parts
_BLACK, _WHITE = 16, 235  # of 8 bits, in the limited range
# The brands of AVIF and HEIF among all files of boxes.
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def _avif_properties(data: Data) -> list[tuple[bytes, int, int]]:
    """Return the boxes of properties of the primary image, in the order in which they apply."""
    size = len(data)
    meta = box(data, "meta", 0, size)
    container = box(data, "meta/iprp/ipco", 0, size)
    links = meta and box(data, "iprp/ipma", *meta)
    wanted = primary_item(data)
    if not (container and links) or wanted is None:
        raise DecodeError("the avif does not describe its primary image", kind=Kind.DAMAGED)
    properties = list(iso_boxes(data, *container))
    at, end = links
    wide_id, wide_index = data[at] > 0, data[at + 3] & 1
    (count,) = unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(count, MOST_BOXES)):
        if at >= end:
            break
        (item,) = unpack_from(">I" if wide_id else ">H", data, at)
        at += 4 if wide_id else 2
        linked = data[at]
        indices = unpack_from(f">{linked}{'H' if wide_index else 'B'}", data, at + 1)
        at += 1 + linked * (2 if wide_index else 1)
        if item == wanted:
            numbers = [index & (0x7FFF if wide_index else 0x7F) for index in indices]
            return [properties[number - 1] for number in numbers if 1 <= number <= len(properties)]
    raise DecodeError("the avif does not describe its primary image", kind=Kind.DAMAGED)


def _kind(data: Data) -> str:
    (size,) = unpack_from(">I", data, 0)
    brands = bytes(data[8 : min(size, 256)])
    if any(brand in brands for brand in _AVIF_BRANDS):
        return "avif"
    if any(brand in brands for brand in _HEIF_BRANDS):
        return "heif"
    reason = f"not an image in a known format (a file of boxes of the kind {bytes(data[8:12])!r})"
    raise DecodeError(reason, kind=Kind.UNKNOWN_FORMAT)


def read_header(data: Data) -> Header:
    """Return the header of an AVIF or HEIF.

    Raises:
        DecodeError: it is a file of boxes of another kind, or the boxes are damaged.
    """
    kind = _kind(data)
    height = width = 0
    turned = "abcd"
    for name, start, _ in _avif_properties(data):
        if name == b"ispe":
            width, height = unpack_from(">II", data, start + 4)
        elif name == b"clap" and kind == "heif":  # encoders fill images up to whole blocks, and say what to cut off
            across, a, down, b = unpack_from(">IIII", data, start)
            width, height = (across // a, down // b) if a and b else (0, 0)
        elif name == b"irot":  # quarter turns anticlockwise
            for _ in range(data[start] & 3):
                turned = turned[1] + turned[3] + turned[0] + turned[2]
        elif name == b"imir":  # 0 exchanges top and bottom, 1 left and right
            turned = turned[1::-1] + turned[:1:-1] if data[start] & 1 else turned[2:] + turned[:2]
    orientation = _ORIENTATIONS[turned]
    if kind == "avif" and orientation == UPRIGHT:
        orientation = orientation_beside_boxes(*exif_and_xmp(data))
    if kind == "heif":  # its decoder gives the upright image
        return Header(kind, *Header(kind, height, width, orientation).upright)
    return Header(kind, height, width, orientation)


def profile(data: Data) -> bytes:
    """Return the color profile of an AVIF or HEIF; empty where it has none.

    Raises:
        DecodeError: the boxes are damaged.
    """
    for name, start, end in _avif_properties(data):
        if name == b"colr" and data[start : start + 4] in (b"prof", b"rICC"):
            return bytes(data[start + 4 : end])
    return b""


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of an AVIF as stored, whatever its rotation and mirroring.

    Raises:
        DecodeError: it is a HEIF, or is damaged.
    """
    if header.format == "heif":
        return _decode_heif(data, spec)
    pixels = opencv(data)
    full_range = True if pixels is None or pixels.ndim == 3 else _has_full_range(data)
    # OpenCV gives samples of 10 and 12 bits unscaled in 16.
    depth = 8 if pixels is None or pixels.dtype == np.uint8 else avif_depth(data)
    # OpenCV may have been built without AVIF. Gray it takes as of full range. Where no box says so, or what the depth
    # is, Pillow knows.
    if pixels is None or full_range is None or depth is None:
        return finish(pillow(data, header, "Avif"), spec)
    if full_range:
        return finish(pixels, spec, maximum=(1 << depth) - 1)
    black, white = _BLACK << depth - 8, _WHITE << depth - 8
    return finish(np.maximum(pixels, black) - pixels.dtype.type(black), spec, maximum=white - black)


def _has_full_range(data: Data) -> bool | None:
    """Return whether the luma of an AVIF uses all of its range, by the box that says so; None where there is none."""
    for name, start, _ in _avif_properties(data):
        if name == b"colr" and data[start : start + 4] == b"nclx":
            return bool(data[start + _FULL_RANGE_AT] & 0x80)
    return None


def _decode_heif(data: Data, spec: ImageSpec) -> Pixels:
    try:
        import pillow_heif
    except ImportError:
        reason = "a heif needs a decoder that is not installed"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED, advice="pip install 'arraystore[heif]'") from None
    try:
        image = pillow_heif.open_heif(bytes(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        samples = np.array(image)
    except MemoryError:
        raise
    except Exception as error:  # it raises errors of several classes
        raise DecodeError(f"the heif data is damaged or ends early: {error}", kind=Kind.DAMAGED) from error
    depth = int(image.info["bit_depth"])
    return finish(samples, spec, maximum=(1 << depth) - 1, premultiplied=bool(image.premultiplied_alpha))


def avif_depth(data: Data) -> int | None:
    """Return the number of bits of a sample of an AVIF: 8, 10 or 12; None where the boxes leave it open.

    A grid has no depth of its own, but that of its tiles. Other images of the file, such as a thumbnail or a map of
    gain, may have another one.
    """
    depths = _depths(data, _avif_properties(data))
    if not depths:
        container = box(data, "meta/iprp/ipco", 0, len(data))
        depths = _depths(data, iso_boxes(data, *container)) if container else depths
    return depths.pop() if len(depths) == 1 else None


def _depths(data: Data, properties: Iterable[tuple[bytes, int, int]]) -> set[int]:
    # Of the flags, 0x40 means more than 8 bits, and 0x20 that there are 12 of them.
    configurations = [data[start + 2] for name, start, _ in properties if name == b"av1C"]
    return {(12 if flags & 0x20 else 10) if flags & 0x40 else 8 for flags in configurations}
