"""AVIF and HEIF, whose files consist of boxes, and the walk over boxes, which JPEG 2000 needs too."""

from collections.abc import Iterator
from struct import unpack_from

import numpy as np

from arraystore._decoding.codecs import opencv, pillow
from arraystore._decoding.eight_bits import finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

# Where each turn leaves the pixels a b / c d, in reading order, and the EXIF orientation that does the same.
_ORIENTATIONS = {"abcd": 1, "badc": 2, "dcba": 3, "cdab": 4, "acbd": 5, "cadb": 6, "dbca": 7, "bdac": 8}

# An AVIF has a dozen boxes at each level, and numbers its properties with 15 bits.
_MOST_BOXES = 32_768
# The brands of AVIF and HEIF among all files of boxes.
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")


def iso_boxes(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and end of the body of each box between two bytes; the last may end beyond the data.

    Raises:
        DecodeError: a box is shorter than its own head, or there are too many.
    """
    for _ in range(_MOST_BOXES):
        if start + 8 > min(end, len(data)):
            return
        size, kind = unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            (size,) = unpack_from(">Q", data, body)
            body += 8
        stop = start + size if size else end
        if stop < body:
            raise DecodeError(f"the box {kind!r} at byte {start} has a size of {size}", kind=Kind.DAMAGED)
        yield kind, body, stop
        start = stop
    raise DecodeError(f"more than {_MOST_BOXES:,} boxes in a row, which is no image", kind=Kind.TOO_LARGE)


def box(data: Data, path: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the body of the box at a path such as ``"meta/iprp"``, or None."""
    for name in path.split("/"):
        found = next(((body, stop) for kind, body, stop in iso_boxes(data, start, end) if kind == name.encode()), None)
        if found is None:
            return None
        start, end = found[0], min(found[1], end)
        if name == "meta":
            start += 4  # version and flags
    return start, end


def _avif_properties(data: Data) -> list[tuple[bytes, int, int]]:
    """Return the boxes of properties of the primary image, in the order in which they apply."""
    size = len(data)
    meta = box(data, "meta", 0, size)
    container = box(data, "meta/iprp/ipco", 0, size)
    primary = meta and box(data, "pitm", *meta)
    links = meta and box(data, "iprp/ipma", *meta)
    if not (container and primary and links):
        raise DecodeError("the avif does not describe its primary image", kind=Kind.DAMAGED)
    properties = list(iso_boxes(data, *container))
    wide_id = data[primary[0]] > 0
    (wanted,) = unpack_from(">I" if wide_id else ">H", data, primary[0] + 4)
    at, end = links
    wide_id, wide_index = data[at] > 0, data[at + 3] & 1
    (count,) = unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(count, _MOST_BOXES)):
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


def read_header(data: Data) -> Header:
    """Return the header of an AVIF or HEIF.

    Raises:
        DecodeError: it is a file of boxes of another kind, or the boxes are damaged.
    """
    (size,) = unpack_from(">I", data, 0)
    brands = bytes(data[8 : min(size, 256)])
    if any(brand in brands for brand in _AVIF_BRANDS):
        kind = "avif"
    elif any(brand in brands for brand in _HEIF_BRANDS):
        kind = "heif"
    else:
        reason = f"not an image in a known format (a file of boxes of the kind {bytes(data[8:12])!r})"
        raise DecodeError(reason, kind=Kind.UNKNOWN_FORMAT)
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
    if pixels is None:  # OpenCV may have been built without AVIF
        return finish(pillow(data, header, "Avif"), spec)
    # OpenCV gives samples of 10 and 12 bits unscaled in 16.
    return finish(pixels, spec, maximum=255 if pixels.dtype == np.uint8 else (1 << avif_depth(data)) - 1)


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


def avif_depth(data: Data) -> int:
    """Return the number of bits of a sample of an AVIF: 8, 10 or 12."""
    container = box(data, "meta/iprp/ipco", 0, len(data))
    # All parts of an image share one depth, so any configuration will do, and a grid has none of its own.
    for name, start, _ in iso_boxes(data, *container) if container else ():
        if name == b"av1C":
            flags = data[start + 2]  # 0x40: more than 8 bits; 0x20: 12 of them
            return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    return 8
