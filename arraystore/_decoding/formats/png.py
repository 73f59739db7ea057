"""PNG: its chunks, and which of them a decoder is given."""

from collections.abc import Iterator
from struct import unpack_from
from typing import Any
from zlib import crc32, decompressobj
from zlib import error as zlib_error

import numpy as np
import numpy.typing as npt

from arraystore._decoding.codecs import damaged, no_numbers, opencv_or_fail
from arraystore._decoding.eight_bits import composite, finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore._decoding.orientation import orientation_of
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

_SIGNATURE_BYTES = 8
# The IHDR chunk comes first, so the bit depth and the color type stand at fixed bytes.
_DEPTH_AT, _COLOR_TYPE_AT = 24, 25
_GRAY, _PALETTE = 0, 3
_HEADER_END = 29  # of IHDR, before its checksum
_MODES = {2: "RGB", 4: "gray with alpha", 6: "RGBA"}  # of the color types that are no numbers
_SAMPLES_A_PIXEL = {_GRAY: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
_DEPTHS = {_GRAY: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # in bits, by color type
_END_CHUNK = b"\0\0\0\0IEND\xaeB`\x82"

_TEXT_KINDS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_RAW_EXIF, _XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"
_LONGEST_KEYWORD = 80  # and the zero behind it
_LONGEST_TEXT_BYTES = 1 << 20  # as Pillow
_LONGEST_PROFILE_BYTES = 16 << 20

# Writers cut the pixels into chunks of 8 KB and more: this is enough for gigabytes.
_MOST_CHUNKS = 262_144
# Small images may pack to more than twice their size, because of interlacing and the packing's own tables.
_SPARE_PACKED_BYTES = 65_536

Chunk = tuple[bytes, int, int]  # type, first byte and end of its body


def _chunks(data: Data) -> Iterator[Chunk]:
    """Yield type, first byte and end of each chunk's body, up to and with IEND.

    The last one may end beyond the data: the caller compares. Bytes that are no chunk's type end the walk.

    Raises:
        DecodeError: there are too many chunks.
    """
    at = _SIGNATURE_BYTES
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = unpack_from(">I4s", data, at)
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND" or not kind.isalpha():
            return
        at += 12 + length  # the length, the type and a checksum have 4 bytes each
    reason = f"the png has more than {_MOST_CHUNKS:,} chunks; save it again with any image program"
    raise DecodeError(reason, kind=Kind.TOO_LARGE)


def read_header(data: Data) -> Header:
    """Return the header of a PNG.

    Raises:
        DecodeError: the first chunk is not a header.
    """
    length, kind, width, height = unpack_from(">I4sII", data, _SIGNATURE_BYTES)
    if kind != b"IHDR" or length != 13:
        raise DecodeError("the png does not begin with an IHDR chunk", kind=Kind.DAMAGED)
    exif: Data = b""
    texts: dict[bytes, tuple[bytes, int, int]] = {}
    for chunk, start, end in _chunks(data):
        if chunk == b"eXIf":
            exif = data[start:end]
        elif chunk in _TEXT_KINDS:
            keyword = bytes(data[start : min(end, start + _LONGEST_KEYWORD)]).partition(b"\0")[0]
            if keyword in (_RAW_EXIF, _XMP):  # of several, the last one counts, so the others are not unpacked
                texts[keyword] = (chunk, start + len(keyword) + 1, end)
    if not exif and _RAW_EXIF in texts:
        exif = _raw_profile(_text(data, *texts[_RAW_EXIF]))
    xmp = _text(data, *texts[_XMP]) if _XMP in texts else b""
    return Header("png", height, width, orientation_of(exif, xmp))


def _text(data: Data, kind: bytes, at: int, end: int) -> bytes:
    """Return the text of a chunk, which begins behind its keyword; empty where it is damaged."""
    body = bytes(data[at:end])
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = body[:1] == b"\1"
        body = body[1:2] + body[2:].partition(b"\0")[2].partition(b"\0")[2]  # less the language and its keyword
    if packed and body[:1] != b"\0":  # the only method
        return b""
    if kind != b"tEXt":
        body = body[1:]
    if not packed:
        return body
    try:
        return decompressobj().decompress(body, _LONGEST_TEXT_BYTES)  # a kilobyte may hold a megabyte
    except zlib_error:
        return b""


def _raw_profile(text: bytes) -> bytes:
    """Return the EXIF that ImageMagick writes as text: lines of its name and its length, and of hexadecimal digits."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a PNG. One without an end is decoded if all pixels are there.

    Raises:
        DecodeError: the data is damaged, ends early or holds more packed pixels than the image can have.
    """
    whole, ended = _checked(data, header)
    key = _gray_key(data, whole)
    # OpenCV would give the first frame of an animation. Texts and profiles may inflate to gigabytes, without use.
    # It does not apply a transparent level of gray, and warns of some.
    kept_too = b"" if key is not None else b"tRNS"
    needed = [(kind, start, end) for kind, start, end in whole if kind[:1].isupper() or kind == kept_too]
    _check_sums(data, needed)
    if not ended or len(needed) < len(whole):
        # With an IEND added, OpenCV refuses the file only if pixels are missing.
        data = b"".join([data[:_SIGNATURE_BYTES], *_bytes_of(data, needed), _END_CHUNK])
    pixels = opencv_or_fail(data, header)
    if key is None or pixels.ndim != 2:
        return finish(pixels, spec)
    opaque = np.where(pixels == key, np.uint8(0), np.uint8(255))
    return composite(finish(pixels, spec)[..., None], opaque[..., None], spec.background)


def numbers(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[Any]:
    """Return the indices into the palette of a PNG, or its samples of gray, as they lie in the file: (H, W).

    Raises:
        DecodeError: it has colors or alpha, is damaged, or ends early.
    """
    del spec
    whole, _ = _checked(data, header)
    color_type, depth = data[_COLOR_TYPE_AT], data[_DEPTH_AT]
    if color_type not in (_GRAY, _PALETTE):
        raise no_numbers(_MODES[color_type])
    needed = [chunk for chunk in whole if chunk[0] in (b"IHDR", b"IDAT")]
    _check_sums(data, [chunk for chunk in whole if chunk[0][:1].isupper()])
    # As a gray PNG, whose samples no palette replaces.
    head = bytearray(data[_SIGNATURE_BYTES + 4 : _HEADER_END])
    head[_COLOR_TYPE_AT - _SIGNATURE_BYTES - 4] = _GRAY
    parts = [data[: _SIGNATURE_BYTES + 4], head, crc32(head).to_bytes(4, "big"), *_bytes_of(data, needed[1:])]
    samples = opencv_or_fail(b"".join([*parts, _END_CHUNK]), header)
    # OpenCV stretches those of less than 8 bits to 255.
    return samples if depth >= 8 else samples // np.uint8(255 // ((1 << depth) - 1))


def profile(data: Data) -> bytes:
    """Return the color profile of a PNG; empty where it has none, or a damaged one."""
    for kind, start, end in _chunks(data):
        if kind == b"iCCP":
            _, _, rest = bytes(data[start:end]).partition(b"\0")
            try:
                return decompressobj().decompress(rest[1:], _LONGEST_PROFILE_BYTES)
            except zlib_error:
                return b""
    return b""


def palette(data: Data) -> list[tuple[bytes, bytes]]:
    """Return type and body of the chunks of a PNG's palette: its colors, and how transparent they are."""
    if data[_COLOR_TYPE_AT] != _PALETTE:
        return []
    return [(kind, bytes(data[start:end])) for kind, start, end in _chunks(data) if kind in (b"PLTE", b"tRNS")]


def _checked(data: Data, header: Header) -> tuple[list[Chunk], bool]:
    """Return the chunks of a PNG but its last one, all of them whole, and whether that has its end.

    Raises:
        DecodeError: there is no such PNG, a chunk ends early, or there are more packed pixels than it can have.
    """
    color_type, depth = data[_COLOR_TYPE_AT], data[_DEPTH_AT]
    if depth not in _DEPTHS.get(color_type, ()):
        reason = f"the png header says color type {color_type} with {depth} bits a sample, which no png has"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    chunks = list(_chunks(data))
    whole = [(kind, start, end) for kind, start, end in chunks if end + 4 <= len(data) and kind != b"IEND"]
    ended = chunks[-1][0] == b"IEND"
    if len(whole) + ended < len(chunks):
        raise damaged(header)
    _check_packed(header, data, sum(end - start for kind, start, end in whole if kind == b"IDAT"))
    return whole, ended and chunks[-1][2] + 4 <= len(data)


def _check_sums(data: Data, chunks: list[Chunk]) -> None:
    for kind, start, end in chunks:
        if crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            reason = f"the png is damaged: the checksum of its {kind.decode('latin-1')} chunk is wrong"
            raise DecodeError(reason, kind=Kind.DAMAGED)


def _bytes_of(data: Data, chunks: list[Chunk]) -> list[Data]:
    """Return whole chunks, with their lengths and checksums."""
    return [data[start - 8 : end + 4] for _, start, end in chunks]


def _check_packed(header: Header, data: Data, packed_bytes: int) -> None:
    """Check that the packed pixels are no more than the image can need: a decoder would inflate them all."""
    samples = _SAMPLES_A_PIXEL.get(data[_COLOR_TYPE_AT], 1)
    row_bytes = 1 + header.width * samples * data[_DEPTH_AT] // 8  # 1: the filter of the row
    if packed_bytes > 2 * header.height * row_bytes + _SPARE_PACKED_BYTES:
        reason = f"the png has {packed_bytes:,} bytes of pixels, more than {header.width} x {header.height} need"
        raise DecodeError(reason, kind=Kind.TOO_LARGE)


def _gray_key(data: Data, chunks: list[Chunk]) -> int | None:
    """Return the gray level whose transparency OpenCV ignores, in 16 bits or stretched to 8, or None."""
    depth = data[_DEPTH_AT]
    found = [start for kind, start, end in chunks if kind == b"tRNS" and end - start == 2]
    if data[_COLOR_TYPE_AT] != _GRAY or not found:
        return None
    (level,) = unpack_from(">H", data, found[0])
    return int(level) if depth == 16 else (level & (1 << depth) - 1) * 255 // ((1 << depth) - 1)
