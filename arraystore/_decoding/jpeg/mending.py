"""Copies of a JPEG that libjpeg decodes without a warning, if nothing is wrong with its pixels.

libjpeg tells only the first of its warnings. One about a version number in the header would hide one about lost pixels.
So the header is written anew, without what libjpeg warns of, and a missing end marker is added. Whatever libjpeg says
of such a copy concerns the pixels.
"""

from arraystore._decoding.header import Data
from arraystore._decoding.jpeg.segments import START_OF_SCAN, segments

END = b"\xff\xd9"
_START = b"\xff\xd8"
_APP0, _APP14, _APP15, _COMMENT = 0xE0, 0xEE, 0xEF, 0xFE
_JFIF = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
# libjpeg takes shorter segments of these two for something else.
_JFIF_BYTES, _ADOBE_BYTES = 18, 16
_TRANSFORM_AT = 15
# What Adobe's segment may say of the colors, by their number; libjpeg warns of others, and takes the last one here.
_TRANSFORMS = {3: (0, 1), 4: (0, 2)}

# Coded pixels rarely have so many zeros in a row. A file that was not written to its end often has.
_EMPTY = bytes(16)
# The last byte of coded pixels may be a zero, or the one that follows an FF.
_KEPT_ZEROS = 2


def scan_of(data: Data) -> tuple[int, int]:
    """Return the byte of the first scan of a JPEG whose header has been read, and of its pixels."""
    return next((at, end) for marker, at, end in segments(data) if marker == START_OF_SCAN)


def with_plain_header(data: Data, components: int) -> tuple[bytes, int]:
    """Return a copy without stray bytes, profiles, comments and unknown versions, and the byte of its first scan.

    What says how the colors are meant is kept. The header has been read, so the data has a scan.
    """
    kept = [_START]
    last = len(_START)
    for marker, at, end in segments(data):
        stray = bytes(data[last:at])
        if _START in stray:  # which libjpeg refuses; of other stray bytes and lone markers it only warns
            kept.append(stray)
        if marker == START_OF_SCAN:
            header = b"".join(kept)
            return header + bytes(data[at:]), len(header)
        last = end
        segment = bytes(data[at:end])
        if marker == _APP0 and segment[4:9] == b"JFIF\0" and len(segment) >= _JFIF_BYTES:
            kept.append(_JFIF)
        elif marker == _APP14 and segment[4:9] == b"Adobe" and len(segment) >= _ADOBE_BYTES:
            kept.append(_known_colors(segment, components))
        elif not (_APP0 <= marker <= _APP15 or marker == _COMMENT):
            kept.append(segment)
    return bytes(data), 0


def _known_colors(segment: bytes, components: int) -> bytes:
    known = _TRANSFORMS.get(components, ())
    if not known or segment[_TRANSFORM_AT] in known:
        return segment
    return segment[:_TRANSFORM_AT] + bytes(known[-1:]) + segment[_TRANSFORM_AT + 1 :]


def with_end(data: bytes, scan: int) -> list[bytes]:
    """Return copies of a JPEG without an end marker, less what follows its pixels, with the marker; none if it has one.

    Some phones write data of their own where the marker belongs. Another image may follow. Zeros fill a file that was
    never written to its end, and they would be decoded as pixels: so the first copy is cut where they begin.

    Args:
        data: a JPEG.
        scan: the byte of its first scan.
    """
    other = data.find(_START, scan)
    if other >= 0:
        data = data[:other]
    if END in data[scan:]:
        return []
    filled = len(data.rstrip(b"\0"))
    empty = data.find(_EMPTY, scan)
    if empty >= 0:
        filled = min(filled, empty)
    copies = [data[: filled + _KEPT_ZEROS] + END]
    # A picture of one color may be coded as nothing but zeros.
    if empty >= 0 and not data.endswith(_EMPTY):
        copies.append(data + END)
    return copies
