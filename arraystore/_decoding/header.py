"""What an image says of itself before any pixel is decoded: format, size, orientation.

`read_header` runs once for every image of a build, under the interpreter's lock, so the JPEG path is a bare walk over
markers (a few microseconds) and nothing here imports NumPy or a decoder. The other formats' containers are parsed
too, with the parts that `arraystore._decoding.codecs` needs: the sizes do not depend on any decoder's opinion.

Every read is bounded: `struct.unpack_from` and indexing raise at the end of the data, and `read_header` turns that into
a DecodeError. Slices, which do not raise, are only taken where a short one cannot match. Every loop moves forward.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from struct import error as struct_error
from struct import unpack_from

from arraystore._decoding.isobmff import avif_frame
from arraystore._decoding.jpeg import Data, exif_orientation, jpeg_frame
from arraystore._decoding.jpeg2000 import jp2_size
from arraystore.errors import DecodeError

__all__ = [
    "GifFrame",
    "Header",
    "Netpbm",
    "TiffTag",
    "gif_frame",
    "netpbm_header",
    "png_chunks",
    "read_header",
    "tiff_tags",
]


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says of itself.

    Attributes:
        format: ``"jpeg"``, ``"png"``, ``"webp"``, ``"bmp"``, ``"tiff"``, ``"gif"``, ``"avif"``, ``"heif"``, ``"jp2"``
            or ``"ppm"`` (all of netpbm).
        height: rows as stored, before the orientation is applied.
        width: columns as stored.
        orientation: EXIF orientation, 1 to 8; 1 where the image states none. AVIF states rotation and mirroring in its
            own terms, given here as the EXIF orientation that does the same.
        components: of a JPEG, how many components it has (1 gray, 3 color, 4 CMYK); 0 for every other format.
    """

    format: str
    height: int
    width: int
    orientation: int
    components: int


def read_header(data: Data) -> Header:
    """Return format, size and orientation of an encoded image, decoding no pixel.

    Args:
        data: the whole file. Only its structure is read, so a file that ends early may still have a header.

    Raises:
        DecodeError: the data is empty, in no known format, or has a header that is damaged or has no pixels.
    """
    if isinstance(data, memoryview) and (data.format != "B" or data.ndim != 1):
        data = data.cast("B")
    try:
        if data[:3] == b"\xff\xd8\xff":
            return Header("jpeg", *jpeg_frame(data))
        header = _read_other(data)
    except (struct_error, IndexError):
        raise DecodeError("the file ends inside its header") from None
    if header.height < 1 or header.width < 1:
        raise DecodeError(f"the {header.format} header says {header.height} by {header.width} pixels")
    return header


def _read_other(data: Data) -> Header:
    start = bytes(data[:16])
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_png(data)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return _read_webp(data)
    if start[:2] == b"BM":
        return _read_bmp(data)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _read_tiff(data)
    if start[:6] in (b"GIF87a", b"GIF89a"):
        frame = gif_frame(data)
        return Header("gif", frame.screen_height, frame.screen_width, 1, 0)
    if start[4:8] == b"ftyp":
        kind, height, width, orientation = avif_frame(data)
        return Header(kind, height, width, orientation, 0)
    if start[4:12] == b"jP  \r\n\x87\n" or start[:4] == b"\xff\x4f\xff\x51":
        height, width = jp2_size(data)
        return Header("jp2", height, width, 1, 0)
    if re.match(rb"P[1-7][\s#]", start):
        netpbm = netpbm_header(data)
        return Header("ppm", netpbm.height, netpbm.width, 1, 0)
    if not start:
        raise DecodeError("the file is empty")
    raise DecodeError(f"not an image in a known format (starts with {start!r})")


# --- PNG, WebP, BMP --------------------------------------------------------------------------------------------------


# Writers cut the pixels into chunks of 8 KB and more: this is enough for gigabytes.
_MOST_CHUNKS = 262_144


def png_chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and end of each chunk's body, up to and with IEND.

    The last one may end beyond the data: the caller compares. Bytes that cannot be a chunk end the walk.

    Raises:
        DecodeError: there are too many.
    """
    at = 8
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = unpack_from(">I4s", data, at)
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND" or not kind.isalpha():
            return
        at += 12 + length
    raise DecodeError(f"the png has more than {_MOST_CHUNKS:,} chunks; save it again with any image program")


def _read_png(data: Data) -> Header:
    length, kind, width, height = unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise DecodeError("the png does not begin with an IHDR chunk")
    orientation = 1
    for chunk, start, end in png_chunks(data):
        if chunk == b"eXIf":
            orientation = exif_orientation(data[start:end])
            break
    return Header("png", height, width, orientation, 0)


def _read_webp(data: Data) -> Header:
    kind = bytes(data[12:16])
    if kind == b"VP8X":
        # 24-bit sides, each less one, after flags and three reserved bytes.
        width_low, width_high, height_low, height_high = unpack_from("<HBHB", data, 24)
        width, height = (width_low | width_high << 16) + 1, (height_low | height_high << 16) + 1
        return Header("webp", height, width, _webp_orientation(data), 0)
    if kind == b"VP8L":
        signature, bits = unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise DecodeError("the webp has a damaged lossless header")
        return Header("webp", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, 1, 0)
    if kind == b"VP8 ":
        signature, width, height = unpack_from("<3sHH", data, 23)
        if signature != b"\x9d\x01\x2a":
            raise DecodeError("the webp has a damaged lossy header")
        return Header("webp", height & 0x3FFF, width & 0x3FFF, 1, 0)
    raise DecodeError(f"the webp begins with an unknown chunk {kind!r}")


def _webp_orientation(data: Data) -> int:
    at = 12
    while at + 8 <= len(data):
        kind, size = unpack_from("<4sI", data, at)
        if kind == b"EXIF":
            exif = data[at + 8 : at + 8 + size]
            # Some writers copy JPEG's prefix into the chunk.
            return exif_orientation(exif[6:] if exif[:6] == b"Exif\0\0" else exif)
        at += 8 + size + (size & 1)
    return 1


def _read_bmp(data: Data) -> Header:
    (size,) = unpack_from("<I", data, 14)
    if size == 12:
        width, height = unpack_from("<HH", data, 18)
    elif 16 <= size <= 256:
        width, height = unpack_from("<ii", data, 18)
    else:
        raise DecodeError(f"the bmp has an unknown header of {size} bytes")
    return Header("bmp", abs(height), width, 1, 0)  # a negative height only says that rows run from the top


# --- TIFF ------------------------------------------------------------------------------------------------------------

_TIFF_TYPES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 13: ("I", 4), 16: ("Q", 8)}
# Where strips or tiles begin, and how long they are: the lists that are long in good files too.
_TIFF_STRIPS = frozenset({273, 279, 324, 325})
_TIFF_WANTED = _TIFF_STRIPS | {256, 257, 258, 259, 262, 274, 277, 284, 322, 323, 338, 339}
_MOST_STRIPS = 1_048_576
_MOST_VALUES = 64  # of any other tag: one a sample of a pixel at most


@dataclass(frozen=True, slots=True)
class TiffTag:
    """One entry of a TIFF directory.

    Attributes:
        values: its whole numbers.
        at: the byte at which they begin.
        item_bytes: how many bytes each has.
    """

    values: tuple[int, ...]
    at: int
    item_bytes: int


def tiff_tags(data: Data) -> dict[int, TiffTag]:
    """Return the entries of the first directory that describe how its pixels are stored.

    Raises:
        DecodeError: the directory, or a list that it points to, lies outside the data, or is endless.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    tags: dict[int, TiffTag] = {}
    try:
        first, number, entry, size = (8, "Q", "HHQ", 20) if big else (4, "I", "HHI", 12)
        (at,) = unpack_from(order + number, data, first)
        (count,) = unpack_from(order + ("Q" if big else "H"), data, at)
        at += 8 if big else 2
        # Bounded by the data, whatever count says.
        for start in range(at, min(at + count * size, len(data)), size):
            tag, kind, length = unpack_from(order + entry, data, start)
            if tag not in _TIFF_WANTED or tag in tags:  # libtiff, too, takes the first
                continue
            if kind not in _TIFF_TYPES:
                raise DecodeError(f"the tiff has values of type {kind} in tag {tag}, where whole numbers belong")
            letter, width = _TIFF_TYPES[kind]
            where = start + (12 if big else 8)
            if length * width > (8 if big else 4):
                (where,) = unpack_from(order + number, data, where)
            if where + length * width > len(data):
                raise DecodeError(f"the tiff ends early: tag {tag} lies beyond its {len(data)} bytes")
            if length > _MOST_STRIPS and tag in _TIFF_STRIPS:
                raise DecodeError(f"the tiff has {length:,} strips or tiles; save it again with any image program")
            length = length if tag in _TIFF_STRIPS else min(length, _MOST_VALUES)
            tags[tag] = TiffTag(unpack_from(f"{order}{length}{letter}", data, where), where, width)
    except (struct_error, OverflowError):  # the latter of an offset of 64 bits
        raise DecodeError("the tiff ends early: its directory is not whole") from None
    return tags


def _read_tiff(data: Data) -> Header:
    tags = tiff_tags(data)
    width, height, orientation = (tags[tag].values[:1] if tag in tags else () for tag in (256, 257, 274))
    if not (width and height):
        raise DecodeError("the tiff does not state its size")
    valid = bool(orientation) and 1 <= orientation[0] <= 8
    return Header("tiff", height[0], width[0], orientation[0] if valid else 1, 0)


# --- GIF -------------------------------------------------------------------------------------------------------------


_MOST_EXTENSIONS = 65_536  # comments and the like; two or three are usual


@dataclass(frozen=True, slots=True)
class GifFrame:
    """The first frame of a GIF and the screen that it lies on.

    Attributes:
        screen_height: rows of the logical screen, or more where the frame reaches beyond it.
        screen_width: columns, likewise.
        left: column of the screen at which the frame begins.
        top: row of the screen at which it begins.
        height: its rows.
        width: its columns.
        control: the graphic control extension before it (transparency), or nothing.
        at: the byte at which its image descriptor begins.
    """

    screen_height: int
    screen_width: int
    left: int
    top: int
    height: int
    width: int
    control: bytes
    at: int


def gif_frame(data: Data) -> GifFrame:
    """Return where the first frame of a GIF lies.

    Raises:
        DecodeError: there is none, or it cannot be found in a reasonable time.
        struct.error: the data ends before it.
        IndexError: likewise.
    """
    screen_width, screen_height, flags = unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    control = b""
    extensions = 0
    while data[at] == 0x21:
        extensions += 1
        if extensions > _MOST_EXTENSIONS:
            raise DecodeError(f"the gif has more than {_MOST_EXTENSIONS:,} extensions before its first frame")
        start = at
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
        if data[start + 1] == 0xF9:
            control = bytes(data[start:at])
    if data[at] != 0x2C:
        raise DecodeError("the gif has no image in it")
    left, top, width, height = unpack_from("<HHHH", data, at + 1)
    if not (width and height):
        raise DecodeError(f"the gif's first frame says {height} by {width} pixels")
    # A frame may reach beyond the screen; viewers then enlarge the screen, so nothing of it is lost.
    screen_height, screen_width = max(screen_height, top + height), max(screen_width, left + width)
    return GifFrame(screen_height, screen_width, left, top, height, width, control, at)


# --- netpbm ----------------------------------------------------------------------------------------------------------

_LONGEST_NETPBM_HEADER = 65_536  # comments may be long, but not endless


@dataclass(frozen=True, slots=True)
class Netpbm:
    """The header of a PBM, PGM, PPM or PAM.

    Attributes:
        kind: 1 to 7, the digit after the P.
        height: rows.
        width: columns.
        depth: samples a pixel.
        maximum: the value that means full intensity.
        at: the byte at which the samples begin.
    """

    kind: int
    height: int
    width: int
    depth: int
    maximum: int
    at: int


def netpbm_header(data: Data) -> Netpbm:
    """Return the header of a netpbm image.

    Raises:
        DecodeError: it is damaged or cut off.
    """
    text = bytes(data[:_LONGEST_NETPBM_HEADER])
    kind = int(text[1:2])
    if kind == 7:
        return _pam_header(text)
    count = 2 if kind in (1, 4) else 3
    # A comment runs to the end of its line; one white space ends the header.
    found = re.match(rb"P\d" + rb"(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})" * count + rb"(?:#[^\r\n]*)?\s", text)
    if found is None:
        raise DecodeError("the netpbm header is damaged or cut off")
    width, height, maximum = (*map(int, found.groups()), 1)[:3]
    return _checked(Netpbm(kind, height, width, 3 if kind in (3, 6) else 1, maximum, found.end()))


def _pam_header(text: bytes) -> Netpbm:
    end = text.find(b"\nENDHDR\n")
    if end < 0:
        raise DecodeError("the netpbm header is damaged or cut off")
    fields = dict(re.findall(rb"^(HEIGHT|WIDTH|DEPTH|MAXVAL)\s+(\d{1,9})\s*$", text[:end], re.MULTILINE))
    if len(fields) < 4:
        raise DecodeError("the netpbm header does not state its width, height, depth and maximum")
    height, width, depth, maximum = (int(fields[name]) for name in (b"HEIGHT", b"WIDTH", b"DEPTH", b"MAXVAL"))
    return _checked(Netpbm(7, height, width, depth, maximum, end + len(b"\nENDHDR\n")))


def _checked(header: Netpbm) -> Netpbm:
    if not 1 <= header.maximum <= 65_535:
        raise DecodeError(f"the netpbm header says that the largest sample is {header.maximum}")
    return header
