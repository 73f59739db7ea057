"""GIFs written here: any frame, palette and kind of LZW."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]

INDICES = np.random.default_rng(6).integers(0, 256, (20, 30), dtype=np.uint8)
COLORS = np.random.default_rng(5).integers(0, 256, (256, 3), dtype=np.uint8)
_MOST_CODES = 4096


def _codes(indices: bytes, bits: int, *, first_clear: bool, full: str) -> Iterator[tuple[int, int]]:
    """Yield codes and their widths. A full table is emptied or kept; ``"never"``: it is emptied before it grows."""
    clear = 1 << bits
    table: dict[bytes, int] = {}
    free, width, string = clear + 2, bits + 1, b""
    if first_clear:
        yield clear, width
    for value in indices:
        longer = string + bytes([value])
        if len(longer) == 1 or longer in table:
            string = longer
            continue
        yield table.get(string, string[0]), width
        string = bytes([value])
        if free == (1 << width) - 1 and full == "never":
            yield clear, width
            table, free = {}, clear + 2
        elif free < _MOST_CODES:
            width += free == 1 << width
            table[longer] = free
            free += 1
        elif full == "clear":
            yield clear, width
            table, free, width = {}, clear + 2, bits + 1
    if string:
        yield table.get(string, string[0]), width
    # The decoder adds a code for what it has read last.
    yield clear + 1, width + (free == 1 << width and width < 12)


def lzw(indices: Pixels, bits: int = 8, *, first_clear: bool = True, full: str = "clear", end: bool = True) -> bytes:
    """The data of a frame: the width of its indices, and blocks of codes."""
    codes = list(_codes(indices.astype(np.uint8).tobytes(), bits, first_clear=first_clear, full=full))
    value = held = 0
    for code, width in codes if end else codes[:-1]:
        value |= code << held
        held += width
    return bytes([bits]) + blocks(value.to_bytes(-(-held // 8), "little"))


def blocks(data: bytes, size: int = 255) -> bytes:
    return (
        b"".join(bytes([len(data[at : at + size])]) + data[at : at + size] for at in range(0, len(data), size)) + b"\0"
    )


def extension(kind: int, *bodies: bytes) -> bytes:
    return bytes([0x21, kind]) + b"".join(bytes([len(body)]) + body for body in bodies) + b"\0"


def frame(
    indices: Pixels,
    left: int = 0,
    top: int = 0,
    clear: int | None = None,
    *,
    palette: Pixels | None = None,
    disposal: int = 0,
    interlaced: bool = False,
    packed: bytes | None = None,
) -> bytes:
    """A frame, with a palette of its own or without; ``clear`` is the index that is transparent."""
    height, width = indices.shape
    control = (
        b""
        if clear is None and not disposal
        else extension(0xF9, bytes([disposal << 2 | (clear is not None), 0, 0, clear or 0]))
    )
    flags = (0x80 | _exponent(palette) if palette is not None else 0) | 0x40 * interlaced
    place = b"\x2c" + struct.pack("<HHHHB", left, top, width, height, flags)
    if interlaced:
        indices = np.concatenate([indices[start::step] for start, step in ((0, 8), (4, 8), (2, 4), (1, 2))])
    own = b"" if palette is None else _filled(palette)
    return control + place + own + (lzw(indices) if packed is None else packed)


def gif(
    width: int,
    height: int,
    *parts: bytes,
    palette: Pixels | None = COLORS,
    background: int = 9,
    version: bytes = b"89a",
    end: bytes = b";",
) -> bytes:
    """A GIF of frames and extensions."""
    flags = 0x70 if palette is None else 0xF0 | _exponent(palette)
    head = b"GIF" + version + struct.pack("<HHBBB", width, height, flags, background, 0)
    return head + (b"" if palette is None else _filled(palette)) + b"".join(parts) + end


def _exponent(palette: Pixels) -> int:
    return max(len(palette) - 1, 1).bit_length() - 1


def _filled(palette: Pixels) -> bytes:
    return palette.astype(np.uint8).tobytes().ljust(3 << _exponent(palette) + 1, b"\0")
