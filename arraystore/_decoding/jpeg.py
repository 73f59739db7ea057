"""JPEG: its header, and a check that it can be decoded in seconds.

A JPEG may code its pixels in any number of scans. Each scan passes over the whole image and may take a few bytes of the
file, so a file of a hundred kilobytes can keep a decoder busy for minutes. Such files are refused here. Measured with
libjpeg-turbo: a scan costs 0.1 to 1 ns a pixel with Huffman codes, 2 ns with arithmetic ones.
"""

import re
from collections.abc import Iterator
from struct import unpack_from

import numpy as np

from arraystore._decoding.codecs import decode_plain
from arraystore._decoding.header import Data, Header
from arraystore._decoding.tiff import exif_orientation
from arraystore.errors import DecodeError, Kind

# For CMYK (within one level of Pillow) and after warnings; `arraystore._decoding.decode` decodes all other JPEGs.
decode = decode_plain

_END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_EXIF_PREFIX = b"Exif\0\0"
# Frame headers are C0 to CF, less Huffman tables (C4), extensions (C8) and arithmetic conditioning (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# In these frames every scan refines the pixels of the scans before.
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
# These bytes after an FF begin no segment: a stray or fill byte, and markers that stand alone.
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9), 0xFF))
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
# A color profile and extended XMP take hundreds of segments; a file of nothing else would be walked for seconds.
_MOST_SEGMENTS = 65_536

# libjpeg writes 10 scans, optimizers up to 20, a script for cjpeg up to 100.
_ORDINARY_SCANS = 20
_MOST_SCANS = 100
_MOST_SCANNED_PIXELS = 4_000_000_000


def read_header(data: Data) -> Header:
    """Return the header of a JPEG.

    Raises:
        DecodeError: it is damaged, it has no pixels, or it has more scans than any encoder writes.
    """
    orientation = 1
    exif_wanted = True
    frame = height = width = components = 0
    for marker, at, end in _segments(data):
        if marker == _START_OF_SCAN and frame:
            if frame in _PROGRESSIVE or data[at + 4] < components:
                _check_scans(data, at, height, width)
            return Header("jpeg", height, width, orientation, components)
        if marker in (_END_OF_IMAGE, _START_OF_SCAN) or end < at + 4:
            break
        if marker in _FRAMES and not frame:
            frame = marker
            height, width, components = unpack_from(">HHB", data, at + 5)
            if not (height and width and components):
                reason = f"the jpeg header says {height} by {width} pixels in {components} components"
                raise DecodeError(reason, kind=Kind.DAMAGED)
        elif exif_wanted and marker == _APP1 and data[at + 4 : at + 10] == _EXIF_PREFIX:
            orientation = exif_orientation(data[at + 10 : end])
            exif_wanted = False
    raise DecodeError("the jpeg has no frame header before its pixels, or a damaged one", kind=Kind.DAMAGED)


def _segments(data: Data) -> Iterator[tuple[int, int, int]]:
    """Yield marker, first byte and end of each segment. After the start of a scan, pixels may look like segments."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if data[at] != 0xFF or data[at + 1] in _WITHOUT_LENGTH:
            # Decoders skip stray bytes between segments, so they are no reason to refuse the image.
            found = _SEGMENT.search(data, at)
            if found is None:
                raise DecodeError("the file ends inside its header", kind=Kind.ENDS_EARLY)
            at = found.start()
        end = at + 2 + (data[at + 2] << 8 | data[at + 3])
        yield data[at + 1], at, end
        at = end


def _check_scans(data: Data, at: int, height: int, width: int) -> None:
    """Check that the scans, the first of which begins at a byte, can be decoded in seconds."""
    # In coded pixels these two bytes never meet, so this counts every scan, and rarely more.
    words = (np.frombuffer(data, "<u2", (len(data) - start) // 2, start) for start in (at, at + 1))
    scans = sum(int(np.count_nonzero(word == 0xDAFF)) for word in words)
    if scans <= _ORDINARY_SCANS:
        return
    scans = _count_scans(data, at)
    if scans > _MOST_SCANS or (scans > _ORDINARY_SCANS and scans * height * width > _MOST_SCANNED_PIXELS):
        raise DecodeError(
            f"a JPEG of {scans:,} scans over {width} x {height} pixels would keep a decoder busy for too long; "
            "save it again with any image program",
            kind=Kind.TOO_LARGE,
        )


def _count_scans(data: Data, at: int) -> int:
    """Count the scans as a decoder does: bytes inside other segments, or after the end, are no scans."""
    scans = 0
    while (found := _SEGMENT.search(data, at)) is not None:
        at = found.start()
        marker = data[at + 1]
        if marker == _END_OF_IMAGE or at + 4 > len(data):
            break
        scans += marker == _START_OF_SCAN
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return scans
