"""The segments of a JPEG, and its scans: whether they can be decoded in seconds, and whether all of them are there.

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
# Frame headers are C0 to CF, less Huffman tables (C4), extensions (C8) and arithmetic conditioning (CC).
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# In these frames every scan refines the pixels of the scans before.
PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
# The frames of a cosine transform that decoders have; the others are lossless or hierarchical.
DCT_FRAMES = frozenset((0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
_ARITHMETIC = frozenset((0xC9, 0xCA))
# These bytes after an FF begin no segment: a stray or fill byte, and markers that stand alone.
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9), 0xFF))
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
# A color profile and extended XMP take hundreds of segments; a file of nothing else would be walked for seconds.
_MOST_SEGMENTS = 65_536

# libjpeg writes 10 scans, optimizers up to 20, a script for cjpeg up to 100.
_ORDINARY_SCANS = 20
_MOST_SCANS = 100
_MOST_SCANNED_PIXELS = 4_000_000_000

_COEFFICIENTS = 64
_ALL_BITS = 16


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
    scans = sum(1 for _ in _scans(data, at))
    if scans > _MOST_SCANS or (scans > _ORDINARY_SCANS and scans * height * width > _MOST_SCANNED_PIXELS):
        raise DecodeError(
            f"a JPEG of {scans:,} scans over {width} x {height} pixels would keep a decoder busy for too long; "
            "save it again with any image program",
            kind=Kind.TOO_LARGE,
        )


def _scans(data: Data, at: int) -> Iterator[int]:
    """Yield the byte of each scan, as a decoder finds it: bytes in other segments, or after the end, are no scans."""
    while (found := _SEGMENT.search(data, at)) is not None:
        at = found.start()
        marker = data[at + 1]
        if marker == END_OF_IMAGE or at + 4 > len(data):
            return
        if marker == START_OF_SCAN:
            yield at
        at += 2 + (data[at + 2] << 8 | data[at + 3])


def has_every_scan(data: bytes, at: int) -> bool:
    """Return whether the scans, the first of which begins at a byte, code each component to its last bit.

    A file may end between two scans. Its decoder does not notice: the image is only coarser, or lacks a color. Of
    arithmetic codes it does not notice any end, so nothing is known of them.
    """
    frames = ((marker, data[start + 10 : end : 3]) for marker, start, end in segments(data) if marker in FRAMES)
    frame, numbers = next(frames)
    if frame in _ARITHMETIC:
        return False
    # Of each component, how many low bits of each coefficient have not come yet.
    missing = {number: [_ALL_BITS] * _COEFFICIENTS for number in numbers}
    for start in _scans(data, at):
        count = sum(data[start + 4 : start + 5])  # 0 where the data ends here
        numbers, rest = data[start + 5 : start + 5 + 2 * count : 2], data[start + 5 + 2 * count :][:3]
        if len(rest) < 3:
            return False
        first, last, low_bits = (rest[0], rest[1], rest[2] & 15) if frame in PROGRESSIVE else (0, _COEFFICIENTS - 1, 0)
        for number in missing.keys() & set(numbers):
            missing[number][first : last + 1] = [low_bits] * len(missing[number][first : last + 1])
    return not any(map(any, missing.values()))
