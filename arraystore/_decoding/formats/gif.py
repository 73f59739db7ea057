"""GIF: its first frame, laid on its screen.

It is decoded here, because OpenCV refuses frames with more codes than pixels, and some that it does not know how to
remove, which matters to later frames alone.
"""

from dataclasses import dataclass
from struct import unpack_from
from typing import TYPE_CHECKING

import numpy as np

from arraystore._common.lazy import lazy
from arraystore._decoding.codecs import damaged
from arraystore._decoding.header import Data, Header, Pixels
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import cv2

    from arraystore._kernels.packed import gif_codes as codes
else:
    cv2 = lazy("cv2")
    codes = lazy("arraystore._kernels.packed.gif_codes")

_MOST_EXTENSIONS = 65_536  # comments and the like; two or three are usual
_MOST_BLOCKS = 1_048_576  # of extensions; a profile of a megabyte has 4,000, and walking over more takes seconds

# Bytes that begin a block, and the second byte of the extension that states transparency.
_EXTENSION, _IMAGE = 0x21, 0x2C
_GRAPHIC_CONTROL, _CONTROL_BYTES = 0xF9, 4
# The flags of the screen at byte 10, which a palette follows at byte 13.
_SCREEN_FLAGS_AT, _SCREEN_END = 10, 13
_MOST_COLORS = 256
_INTERLACED = 0x40  # in the flags of a frame
_PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))  # of interlaced rows: the first one, and the step to the next


@dataclass(frozen=True, slots=True)
class _Frame:
    """The first frame of a GIF and the screen that it lies on."""

    screen_height: int
    screen_width: int
    left: int
    top: int
    height: int
    width: int
    clear: int | None  # the index that is transparent
    flags_at: int  # the byte of its flags, the last one of its descriptor


def _palette_bytes(flags: int) -> int:
    """Return the size of the palette that the flags of a screen or a frame announce; 0 for none."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: Data, at: int, blocks: int) -> tuple[int, int]:
    """Return the byte after a row of blocks, each of which follows its length, and how many there were until here.

    Args:
        data: the file.
        at: the byte of the first block's length. An empty block ends the row.
        blocks: how many there were before.

    Raises:
        DecodeError: there are too many.
    """
    while data[at]:
        blocks += 1
        if blocks > _MOST_BLOCKS:
            raise _too_many(f"{_MOST_BLOCKS:,} blocks of extensions")
        at += 1 + data[at]
    return at + 1, blocks


def _too_many(what: str) -> DecodeError:
    reason = f"the gif has more than {what} before its first frame; save it again with any image program"
    return DecodeError(reason, kind=Kind.TOO_LARGE)


def _first_frame(data: Data) -> _Frame:
    screen_width, screen_height, flags = unpack_from("<HHB", data, 6)
    at = _SCREEN_END + _palette_bytes(flags)
    clear = None
    extensions = blocks = 0
    while data[at] == _EXTENSION:
        extensions += 1
        if extensions > _MOST_EXTENSIONS:
            raise _too_many(f"{_MOST_EXTENSIONS:,} extensions")
        start = at
        at, blocks = _after_blocks(data, at + 2, blocks)
        if data[start + 1] == _GRAPHIC_CONTROL and data[start + 2] >= _CONTROL_BYTES:
            has_clear, index = data[start + 3] & 1, data[start + 6]
            clear = index if has_clear else None
    if data[at] != _IMAGE:
        raise DecodeError("the gif has no image in it", kind=Kind.DAMAGED)
    left, top, width, height = unpack_from("<HHHH", data, at + 1)
    if not (width and height):
        raise DecodeError(f"the gif's first frame says {height} by {width} pixels", kind=Kind.DAMAGED)
    # A frame may reach beyond the screen; viewers then enlarge the screen, so nothing of it is lost.
    screen_height, screen_width = max(screen_height, top + height), max(screen_width, left + width)
    return _Frame(screen_height, screen_width, left, top, height, width, clear, at + 9)


def read_header(data: Data) -> Header:
    """Return the header of a GIF."""
    frame = _first_frame(data)
    return Header("gif", frame.screen_height, frame.screen_width)


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the first frame of a GIF on its screen; the background is where the frame does not reach.

    Raises:
        DecodeError: the frame is damaged or ends early, or there are no colors.
    """
    frame = _first_frame(data)
    # Black beyond the end of the palette, as Pillow has it. Without a background there is alpha.
    colors = np.zeros((_MOST_COLORS, 3 if spec.background else 4), np.uint8)
    colors[:, 3:] = 255
    palette = _palette(data, frame, header)
    colors[: len(palette), :3] = palette
    if frame.clear is not None:
        colors[frame.clear, 3:] = 0
        if spec.background:
            colors[frame.clear] = spec.background
    indices = _indices(data, frame, header)
    pixels = np.asarray(cv2.merge([cv2.LUT(indices, plane) for plane in np.ascontiguousarray(colors.T)]), np.uint8)
    if pixels.shape[:2] == (header.height, header.width):
        return pixels
    canvas = np.zeros((header.height, header.width, colors.shape[1]), np.uint8)
    if spec.background:
        canvas[...] = spec.background
    canvas[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = pixels
    return canvas


def numbers(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the indices into the palette of the first frame of a GIF: (H, W).

    Raises:
        DecodeError: the frame is smaller than its screen, is damaged, or ends early.
    """
    del spec
    frame = _first_frame(data)
    if (frame.height, frame.width) != (header.height, header.width):
        raise DecodeError("the gif's first frame does not cover its screen", kind=Kind.UNSUPPORTED)
    return _indices(data, frame, header)


def _palette(data: Data, frame: _Frame, header: Header) -> Pixels:
    """Return the palette of a frame, or that of the screen: (colors, 3)."""
    for flags_at, start in ((frame.flags_at, frame.flags_at + 1), (_SCREEN_FLAGS_AT, _SCREEN_END)):
        size = _palette_bytes(data[flags_at])
        if start + size > len(data):
            raise damaged(header)
        if size:
            return np.frombuffer(data, np.uint8, size, start).reshape(-1, 3)
    raise DecodeError("the gif has no table of colors", kind=Kind.DAMAGED)


def _indices(data: Data, frame: _Frame, header: Header) -> Pixels:
    flags = data[frame.flags_at]
    rows = np.empty((frame.height, frame.width), np.uint8)
    packed_at = frame.flags_at + 1 + _palette_bytes(flags)
    if codes.gif_codes(np.frombuffer(data, np.uint8), packed_at, rows.reshape(-1)) < rows.size:
        raise damaged(header)
    if not flags & _INTERLACED:
        return rows
    indices = np.empty_like(rows)
    indices[np.concatenate([np.arange(start, frame.height, step) for start, step in _PASSES])] = rows
    return indices
