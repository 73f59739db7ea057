"""WebP: the three kinds of its header, and its chunks. OpenCV decodes its pixels."""

from collections.abc import Iterator
from struct import pack, unpack_from

from arraystore._decoding.codecs import damaged, opencv_or_fail
from arraystore._decoding.eight_bits import finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore._decoding.orientation import orientation_of
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

_FIRST_CHUNK_AT = 12  # behind "RIFF", the size of the file and "WEBP"
_EXIF, _XMP = b"EXIF", b"XMP "
_EXTENDED, _ANIMATION, _ALPHA = b"VP8X", b"ANIM", b"ALPH"
_PIXELS = (b"VP8 ", b"VP8L")
_MOST_CHUNKS = 65_536


def read_header(data: Data) -> Header:
    """Return the header of a WebP.

    Raises:
        DecodeError: it is damaged.
    """
    kind = bytes(data[_FIRST_CHUNK_AT : _FIRST_CHUNK_AT + 4])
    if kind == b"VP8X":  # extended
        # Each side is stored in 24 bits, less one, after flags and three reserved bytes.
        width_low, width_high, height_low, height_high = unpack_from("<HBHB", data, 24)
        width, height = (width_low | width_high << 16) + 1, (height_low | height_high << 16) + 1
        return Header("webp", height, width, _orientation(data))
    if kind == b"VP8L":  # lossless: each side in 14 bits, less one
        signature, bits = unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise DecodeError("the webp has a damaged lossless header", kind=Kind.DAMAGED)
        return Header("webp", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    if kind == b"VP8 ":  # lossy: each side in 14 bits, below 2 bits of scaling
        signature, width, height = unpack_from("<3sHH", data, 23)
        if signature != b"\x9d\x01\x2a":
            raise DecodeError("the webp has a damaged lossy header", kind=Kind.DAMAGED)
        return Header("webp", height & 0x3FFF, width & 0x3FFF)
    raise DecodeError(f"the webp begins with an unknown chunk {kind!r}", kind=Kind.DAMAGED)


def _chunks(data: Data) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and end of each chunk's body; the last may end beyond the data.

    Raises:
        DecodeError: there are too many.
    """
    at = _FIRST_CHUNK_AT
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        kind, size = unpack_from("<4sI", data, at)
        yield kind, at + 8, at + 8 + size
        at += 8 + size + (size & 1)
    raise DecodeError(f"the webp has more than {_MOST_CHUNKS:,} chunks", kind=Kind.TOO_LARGE)


def _orientation(data: Data) -> int:
    blocks: dict[bytes, Data] = {}
    for kind, start, end in _chunks(data):
        if kind in (_EXIF, _XMP):
            blocks.setdefault(kind, data[start:end])
    return orientation_of(blocks.get(_EXIF, b""), blocks.get(_XMP, b""))


def profile(data: Data) -> bytes:
    """Return the color profile of a WebP; empty where it has none."""
    for kind, start, end in _chunks(data):
        if kind == b"ICCP" and end <= len(data):
            return bytes(data[start:end])
    return b""


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a WebP, the first frame of an animation.

    Raises:
        DecodeError: its chunks do not fit into each other, or its pixels are damaged.
    """
    return finish(opencv_or_fail(_checked(data, header), header), spec)


def _checked(data: Data, header: Header) -> Data:
    """Return the file without what it has besides its pixels, if each chunk ends inside the file.

    OpenCV would read on into the next chunk where pixels are missing, and does not look at the sizes of the others.
    """
    (size,) = unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise damaged(header)
    data = data[: size + 8]
    kept: list[tuple[bytes, int, int]] = []
    for kind, start, end in _chunks(data):
        if end > len(data):
            raise damaged(header)
        if kind == _ANIMATION:
            return data
        if kind in (_EXTENDED, _ALPHA, *_PIXELS) and not any(kind == other for other, _, _ in kept):
            kept.append((kind, start, end))
            if kind in _PIXELS and kept[0][0] != _EXTENDED:
                break
    body = b"".join(bytes(data[start - 8 : end]) + bytes(end - start & 1) for _, start, end in kept)
    return b"RIFF" + pack("<I", len(body) + 4) + b"WEBP" + body
