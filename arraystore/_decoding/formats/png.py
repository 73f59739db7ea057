"""PNG: its chunks, and which of them a decoder is given."""

from collections.abc import Iterator
from struct import pack, unpack_from
from typing import Any
from zlib import crc32, decompressobj
from zlib import error as zlib_error

import numpy as np
import numpy.typing as npt

from arraystore._decoding.codecs import LONGEST_SIDE_PX, damaged, no_numbers, opencv_or_fail
from arraystore._decoding.eight_bits import composite, finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore._decoding.notes import notice
from arraystore._decoding.orientation import orientation_of
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

_SIGNATURE_BYTES = 8
# The IHDR chunk comes first, so the bit depth and the color type stand at fixed bytes.
_DEPTH_AT, _COLOR_TYPE_AT = 24, 25
_GRAY, _RGB, _PALETTE = 0, 2, 3
_METHODS_AT = 26  # of packing and of filtering, which are 0, and of interlacing, which is 0 or 1
_HEADER_END = 29  # of IHDR, before its checksum
_MODES = {_RGB: "RGB", 4: "gray with alpha", 6: "RGBA"}  # of the color types that are no numbers
_SAMPLES_A_PIXEL = {_GRAY: 1, _RGB: 3, _PALETTE: 1, 4: 2, 6: 4}  # by color type
_DEPTHS = {  # in bits, by color type
    _GRAY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    4: (8, 16),
    6: (8, 16),
}
_LONGEST_PALETTE_BYTES = 768
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
    color_type = data[_COLOR_TYPE_AT]
    _check_critical(whole, color_type)
    # OpenCV would give the first frame of an animation. Texts and profiles may inflate to gigabytes, without use. The
    # palette that images without indices suggest is for old screens.
    kinds = (b"IHDR", b"PLTE", b"IDAT") if color_type == _PALETTE else (b"IHDR", b"IDAT")
    needed = [chunk for chunk in whole if chunk[0] in kinds]
    clear = _transparency(data, whole)
    _check_sums(data, needed)
    if clear or not ended or len(needed) < len(whole):
        parts = _bytes_of(data, needed)
        if clear and color_type != _GRAY:  # OpenCV does not apply a transparent level of gray
            parts.insert(len(parts) - sum(chunk[0] == b"IDAT" for chunk in needed), _chunk(b"tRNS", clear))
        # With an IEND added, OpenCV refuses the file only if pixels are missing.
        data = b"".join([data[:_SIGNATURE_BYTES], *parts, _END_CHUNK])
    pixels = opencv_or_fail(data, header)
    if not clear or color_type != _GRAY or pixels.ndim != 2:
        return finish(pixels, spec)
    depth = data[_DEPTH_AT]
    level = int.from_bytes(clear, "big")
    key = level if depth == 16 else level * 255 // ((1 << depth) - 1)
    opaque = np.where(pixels == key, np.uint8(0), np.uint8(255))
    return composite(finish(pixels, spec)[..., None], opaque[..., None], spec.background)


def _check_critical(whole: list[Chunk], color_type: int) -> None:
    """Check that the chunks without which a PNG is none are there, each where it belongs.

    libpng would refuse the file too, but say why in the standard error of the process.
    """
    kinds = [kind for kind, _, _ in whole]
    palettes = [end - start for kind, start, end in whole if kind == b"PLTE"]
    unknown = [kind for kind in kinds if kind[:1].isupper() and kind not in (b"IHDR", b"PLTE", b"IDAT")]
    if b"IDAT" not in kinds:
        raise DecodeError("the png is damaged or ends early: it has no pixels", kind=Kind.DAMAGED)
    wrong = None
    if unknown:
        wrong = f"an unknown chunk {unknown[0].decode('latin-1')}, which it declares to be critical"
    elif kinds.count(b"IHDR") > 1:
        wrong = "a second header"
    elif color_type == _PALETTE and b"PLTE" not in kinds[: kinds.index(b"IDAT")]:
        wrong = "no palette before its pixels"
    elif color_type == _PALETTE and len(palettes) > 1:
        wrong = f"{len(palettes)} palettes"
    elif color_type == _PALETTE and (not 0 < palettes[0] <= _LONGEST_PALETTE_BYTES or palettes[0] % 3):
        wrong = f"a palette of {palettes[0]:,} bytes"
    if wrong:
        raise DecodeError(f"the png is damaged: it has {wrong}", kind=Kind.DAMAGED)


def _transparency(data: Data, whole: list[Chunk]) -> bytes:
    """Return what is transparent: the opacities of the palette, or one color or level of gray; empty where nothing is.

    As Pillow has it: of several chunks the last one counts, wherever it stands, and what is too long is cut off.
    """
    color_type = data[_COLOR_TYPE_AT]
    found = [chunk for chunk in whole if chunk[0] == b"tRNS"]
    if not found or color_type not in (_GRAY, _RGB, _PALETTE):
        return b""
    _check_sums(data, found[-1:])
    body = bytes(data[found[-1][1] : found[-1][2]])
    if color_type == _PALETTE:
        colors = next((end - start) // 3 for kind, start, end in whole if kind == b"PLTE")
        return body[: min(colors, 1 << data[_DEPTH_AT])]
    samples = _SAMPLES_A_PIXEL[color_type]
    if len(body) < 2 * samples:
        reason = f"the png is damaged: its tRNS chunk has {len(body)} of {2 * samples} bytes"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    # Of samples of less than 16 bits, the upper ones mean nothing.
    most = (1 << data[_DEPTH_AT]) - 1
    return pack(f">{samples}H", *(sample & most for sample in unpack_from(f">{samples}H", body)))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return pack(">I", len(body)) + kind + body + pack(">I", crc32(kind + body))


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
    _check_critical(whole, color_type)
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
    """Return the chunks of a PNG but its last one, all of them whole, and whether that has its end; notice if not.

    Raises:
        DecodeError: there is no such PNG, a chunk ends early, or there are more packed pixels than it can have.
    """
    color_type, depth = data[_COLOR_TYPE_AT], data[_DEPTH_AT]
    if depth not in _DEPTHS.get(color_type, ()):
        reason = f"the png header says color type {color_type} with {depth} bits a sample, which no png has"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    methods = tuple(data[_METHODS_AT : _METHODS_AT + 3])
    if methods[:2] != (0, 0) or methods[2] > 1:
        raise DecodeError(f"the png header names the methods {methods}, which no png has", kind=Kind.DAMAGED)
    if max(header.height, header.width) > LONGEST_SIDE_PX:
        raise damaged(header)
    chunks = list(_chunks(data))
    whole = [(kind, start, end) for kind, start, end in chunks if end + 4 <= len(data) and kind != b"IEND"]
    ended = chunks[-1][0] == b"IEND"
    if len(whole) + ended < len(chunks):
        raise damaged(header)
    _check_packed(header, data, sum(end - start for kind, start, end in whole if kind == b"IDAT"))
    # libpng would warn of a damaged one in the standard error of the process.
    ended = ended and data[chunks[-1][1] - 8 : chunks[-1][2] + 4] == _END_CHUNK
    if not ended:
        notice("the png has no end chunk; all its pixels are there")
    return whole, ended


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
