"""WebP: the three kinds of its header. OpenCV decodes it."""

from struct import unpack_from

from arraystore._decoding.codecs import decode_plain
from arraystore._decoding.header import Data, Header
from arraystore._decoding.orientation import orientation_of
from arraystore.errors import DecodeError, Kind

decode = decode_plain

_FIRST_CHUNK_AT = 12  # behind "RIFF", the size of the file and "WEBP"
_EXIF, _XMP = b"EXIF", b"XMP "


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


def _orientation(data: Data) -> int:
    blocks: dict[bytes, Data] = {}
    at = _FIRST_CHUNK_AT
    while at + 8 <= len(data):
        kind, size = unpack_from("<4sI", data, at)
        if kind in (_EXIF, _XMP):
            blocks.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size + (size & 1)
    return orientation_of(blocks.get(_EXIF, b""), blocks.get(_XMP, b""))
