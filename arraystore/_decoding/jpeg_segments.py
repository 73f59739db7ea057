"""The segments of a JPEG, and a check that its scans can be decoded in seconds.

A JPEG may code its pixels in any number of scans. Each scan passes over the whole image and may take a few bytes of the
file, so a file of a hundred kilobytes can keep a decoder busy for minutes. Such files are refused here. Measured with
libjpeg-turbo: a scan costs 0.1 to 1 ns a pixel with Huffman codes, 2 ns with arithmetic ones.
"""

import re
from collections.abc import Iterator

import numpy as np

from arraystore._decoding.header import Data
from arraystore.errors import DecodeError, Kind

END_OF_IMAGE, START_OF_SCAN = 0xD9, 0xDA
# These bytes after an FF begin no segment: a stray or fill byte, and markers that stand alone.
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9), 0xFF))
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
# A color profile and extended XMP take hundreds of segments; a file of nothing else would be walked for seconds.
_MOST_SEGMENTS = 65_536

# libjpeg writes 10 scans, optimizers up to 20, a script for cjpeg up to 100.
_ORDINARY_SCANS = 20
_MOST_SCANS = 100
_MOST_SCANNED_PIXELS = 4_000_000_000


def segments(data: Data) -> Iterator[tuple[int, int, int]]:
    """Yield marker, first byte and end of each segment. After the start of a scan, pixels may look like segments.

    The walk is libjpeg's: where the two could differ, libjpeg refuses the file.

    Raises:
        DecodeError: the data ends before a scan.
    """
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


def check_scans(data: Data, at: int, height: int, width: int) -> None:
    """Check that the scans, the first of which begins at a byte, can be decoded in seconds.

    Raises:
        DecodeError: they cannot.
    """
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
        if marker == END_OF_IMAGE or at + 4 > len(data):
            break
        scans += marker == START_OF_SCAN
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return scans
