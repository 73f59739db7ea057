"""What a JPEG says of itself before any pixel is decoded, and the EXIF block that other formats carry too.

A JPEG may code its pixels in any number of scans, each of which passes over the whole image and may take a few bytes of
the file. So a file of a hundred kilobytes can keep a decoder busy for minutes, which is refused here. Measured with
libjpeg-turbo: a scan costs 0.1 to 1 ns a pixel with Huffman codes, 2 ns with arithmetic ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from struct import error as struct_error
from struct import unpack_from
from typing import TypeAlias

import numpy as np

from arraystore.errors import DecodeError

__all__ = ["Data", "exif_orientation", "jpeg_frame"]

Data: TypeAlias = bytes | bytearray | memoryview

# Frame headers are C0 to CF, less Huffman tables (C4), extensions (C8) and arithmetic conditioning (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Those whose every scan refines what the scans before have coded, with Huffman or arithmetic codes.
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
# Not the beginning of a segment: a stray or fill byte, and markers that stand alone.
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9), 0xFF))
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
# A color profile and extended XMP take hundreds; a file of nothing else would be walked for seconds.
_MOST_SEGMENTS = 65_536

# libjpeg writes 10 scans, optimizers up to 20, a script for cjpeg up to 100.
_ORDINARY_SCANS = 20
_MOST_SCANS = 100
_MOST_SCANNED_PIXELS = 4_000_000_000


def jpeg_frame(data: Data) -> tuple[int, int, int, int]:
    """Return height and width as stored, EXIF orientation, and number of components of a JPEG.

    Raises:
        DecodeError: its header is damaged, it has no pixels, or it has more scans than any encoder writes.
        struct.error: the data ends before its pixels.
        IndexError: likewise.
    """
    orientation = 1
    exif_wanted = True
    frame = height = width = components = 0
    for marker, at, end in _segments(data):
        if marker == 0xDA and frame:
            if frame in _PROGRESSIVE or data[at + 4] < components:
                _check_scans(data, at, height, width)
            return height, width, orientation, components
        if marker in (0xD9, 0xDA) or end < at + 4:
            break
        if marker in _FRAMES and not frame:
            frame = marker
            height, width, components = unpack_from(">HHB", data, at + 5)
            if not (height and width and components):
                raise DecodeError(f"the jpeg header says {height} by {width} pixels in {components} components")
        elif exif_wanted and marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[at + 10 : end])
            exif_wanted = False
    raise DecodeError("the jpeg has no frame header before its pixels, or a damaged one")


def _segments(data: Data) -> Iterator[tuple[int, int, int]]:
    """Yield marker, first byte and end of each segment; what follows the start of a scan is not told from segments."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if data[at] != 0xFF or data[at + 1] in _WITHOUT_LENGTH:
            # Decoders skip stray bytes between segments, so they are no reason to refuse the image.
            found = _SEGMENT.search(data, at)
            if found is None:
                raise DecodeError("the file ends inside its header")
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
            "save it again with any image program"
        )


def _count_scans(data: Data, at: int) -> int:
    """Walk over the scans as a decoder does: what lies inside other segments, or behind the end, is no scan."""
    scans = 0
    while (found := _SEGMENT.search(data, at)) is not None:
        at = found.start()
        marker = data[at + 1]
        if marker == 0xD9 or at + 4 > len(data):
            break
        scans += marker == 0xDA
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return scans


def exif_orientation(exif: Data) -> int:
    """Return the orientation in a block of EXIF, which is a small TIFF; 1 where it is absent, invalid or cut off."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(exif[:4]))
    if order is None:
        return 1
    try:
        (first,) = unpack_from(f"{order}I", exif, 4)
        (count,) = unpack_from(f"{order}H", exif, first)
        entries = bytes(exif[first + 2 : first + 2 + 12 * count])
        tag = b"\x12\x01" if order == "<" else b"\x01\x12"
        at = entries.find(tag)
        while at % 12 and at >= 0:  # the two bytes may also occur inside another entry
            at = entries.find(tag, at + 1)
        if at < 0:
            return 1
        kind, _, value = unpack_from(f"{order}HIH", entries, at + 2)
        if kind == 4:
            (value,) = unpack_from(f"{order}I", entries, at + 8)
    except struct_error:
        return 1
    return value if kind in (3, 4) and 1 <= value <= 8 else 1
