"""GIF: its first frame, decoded alone and laid on its screen."""

from dataclasses import dataclass
from struct import pack, unpack_from

import numpy as np

from arraystore._decoding.codecs import check_size, opencv_or_fail
from arraystore._decoding.eight_bits import finish
from arraystore._decoding.header import Data, Header, Pixels
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

_MOST_EXTENSIONS = 65_536  # comments and the like; two or three are usual

# Bytes that begin a block, and the second byte of the extension that states transparency.
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, b";"
_GRAPHIC_CONTROL = 0xF9
# The flags of the screen at byte 10, which a palette follows at byte 13.
_SCREEN_FLAGS_AT, _SCREEN_END = 10, 13
_256_COLORS = 0xF7  # flags of a screen with a palette of 256 colors
_INTERLACED = 0x40  # in the flags of a frame


@dataclass(frozen=True, slots=True)
class _Frame:
    """The first frame of a GIF and the screen that it lies on."""

    screen_height: int
    screen_width: int
    left: int
    top: int
    height: int
    width: int
    control: bytes  # the graphic control extension before it (transparency), or nothing
    flags_at: int  # the byte of its flags, the last one of its descriptor


def _palette_bytes(flags: int) -> int:
    """Return the size of the palette that the flags of a screen or a frame announce; 0 for none."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: Data, at: int) -> int:
    """Return the byte after a row of blocks, each of which follows its length; an empty one ends the row."""
    while data[at]:
        at += 1 + data[at]
    return at + 1


def _first_frame(data: Data) -> _Frame:
    screen_width, screen_height, flags = unpack_from("<HHB", data, 6)
    at = _SCREEN_END + _palette_bytes(flags)
    control = b""
    extensions = 0
    while data[at] == _EXTENSION:
        extensions += 1
        if extensions > _MOST_EXTENSIONS:
            reason = f"the gif has more than {_MOST_EXTENSIONS:,} extensions before its first frame"
            raise DecodeError(reason, kind=Kind.TOO_LARGE)
        start = at
        at = _after_blocks(data, at + 2)
        if data[start + 1] == _GRAPHIC_CONTROL:
            control = bytes(data[start:at])
    if data[at] != _IMAGE:
        raise DecodeError("the gif has no image in it", kind=Kind.DAMAGED)
    left, top, width, height = unpack_from("<HHHH", data, at + 1)
    if not (width and height):
        raise DecodeError(f"the gif's first frame says {height} by {width} pixels", kind=Kind.DAMAGED)
    # A frame may reach beyond the screen; viewers then enlarge the screen, so nothing of it is lost.
    screen_height, screen_width = max(screen_height, top + height), max(screen_width, left + width)
    return _Frame(screen_height, screen_width, left, top, height, width, control, at + 9)


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
    screen_flags, flags = data[_SCREEN_FLAGS_AT], data[frame.flags_at]
    if not (screen_flags | flags) & 0x80:
        raise DecodeError("the gif has no table of colors", kind=Kind.DAMAGED)
    # A file of this frame alone: OpenCV fails at a damaged later frame, or one beyond the screen, and paints around it.
    palette = data[_SCREEN_END : _SCREEN_END + _palette_bytes(screen_flags)]
    own = data[frame.flags_at + 1 : frame.flags_at + 1 + _palette_bytes(flags)]
    alone = _alone(data, frame, screen_flags, bytes(palette) + frame.control, bytes([flags]) + own)
    pixels = finish(opencv_or_fail(alone, header), spec)
    if pixels.shape[:2] == (header.height, header.width):
        return pixels
    check_size(pixels.shape[:2], Header("gif", frame.height, frame.width))
    canvas = np.zeros((header.height, header.width, 3 if spec.background else 4), np.uint8)
    if spec.background:
        canvas[...] = spec.background
    part = canvas[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
    part[..., 3:] = 255
    part[..., : pixels.shape[2] if pixels.ndim == 3 else 3] = pixels if pixels.ndim == 3 else pixels[..., None]
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
    # With a palette whose color i is gray of level i, and nothing transparent, the colors are the indices.
    grays = bytes(level for level in range(256) for _ in range(3))
    pixels = opencv_or_fail(
        _alone(data, frame, _256_COLORS, grays, bytes([data[frame.flags_at] & _INTERLACED])), header
    )
    return np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 else pixels)


def _alone(data: Data, frame: _Frame, screen_flags: int, before: bytes, flags: bytes) -> bytes:
    """Return a GIF of one frame.

    Args:
        data: of the whole GIF.
        frame: of it.
        screen_flags: of the screen.
        before: what stands between the screen and the frame.
        flags: of the frame, with its palette.
    """
    # The pixels follow the frame's own palette and one byte, the size of a code.
    start = frame.flags_at + 1 + _palette_bytes(data[frame.flags_at])
    end = _after_blocks(data, start + 1)
    screen = b"GIF89a" + pack("<HHBBB", frame.width, frame.height, screen_flags, 0, 0)
    place = pack("<BHHHH", _IMAGE, 0, 0, frame.width, frame.height)
    return b"".join([screen, before, place, flags, data[start:end], _TRAILER])
