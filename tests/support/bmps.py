"""BMPs of every depth and header, written here, and the runs of those that are packed."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
COLORS = np.random.default_rng(8).integers(0, 256, (256, 4), np.uint8)


def bmp(
    bits: int,
    pixels: bytes,
    *,
    width: int,
    height: int,
    size: int = 40,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    used: int = 0,
    palette: bytes | None = None,
    start: int | None = None,
    file_header: bool = True,
) -> bytes:
    """A BMP; ``start`` is what its file header says of the pixels, behind which they are whatever it says."""
    colors = (used or 1 << bits) if bits <= 8 else 0
    if palette is None:
        palette = COLORS[:colors].tobytes() if size != 12 else COLORS[:colors, :3].tobytes()
    head = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, len(pixels), 0, 0, used, 0)
    if size == 12:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    head = (head[:size] + struct.pack(f"<{len(masks)}I", *masks)).ljust(size, b"\0")
    body = head + palette + pixels
    at = 14 + len(head) + len(palette) if start is None else start
    return (b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, at) if file_header else b"") + body


def noise(bits: int, width: int, height: int) -> bytes:
    return np.random.default_rng(bits).bytes((width * bits + 31) // 32 * 4 * abs(height))


def runs(width: int, height: int, padded: int, *, half_bytes: bool, literal: bool) -> tuple[bytes, Pixels]:
    """Runs of random rows, each coded up to ``padded`` pixels, and the indices that they mean."""
    rng = np.random.default_rng(width + padded)
    indices = rng.integers(0, 16 if half_bytes else 256, (height, padded), np.uint8)
    out = bytearray()
    for row in indices:
        at = 0
        while at < padded:
            if literal and padded - at >= 3:
                count = min(padded - at, 255)
                part = row[at : at + count]
                if half_bytes:
                    nibbles = np.append(part, np.zeros(count % 2, np.uint8))
                    body = bytes(nibbles[::2] << 4 | nibbles[1::2])
                else:
                    body = part.tobytes()
                out += bytes([0, count]) + body + bytes(len(body) % 2)
            elif half_bytes:
                count = min(padded - at, 2)
                out += bytes([count, row[at] << 4 | (row[at + 1] if count == 2 else 0)])
            else:
                count = 1
                out += bytes([1, row[at]])
            at += count
        out += b"\0\0"
    return bytes(out) + b"\0\1", indices[:, :width]
