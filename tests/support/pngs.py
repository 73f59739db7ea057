"""PNGs of every color type and depth, written here: the samples say what the pixels are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from support import images

Samples = npt.NDArray[np.int64]

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
KINDS = [
    *((GRAY, depth) for depth in (1, 2, 4, 8, 16)),
    *((RGB, depth) for depth in (8, 16)),
    *((PALETTE, depth) for depth in (1, 2, 4, 8)),
    *((kind, depth) for kind in (GRAY_ALPHA, RGB_ALPHA) for depth in (8, 16)),
]
# First row and column of each pass of Adam7, and its steps.
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def packed_rows(samples: Samples, depth: int, filters: Sequence[int]) -> bytes:
    """The rows of an image or of a pass, each after its filter."""
    if not samples.size:
        return b""
    flat = samples.reshape(len(samples), -1)
    if depth == 16:
        rows = flat.astype(">u2").view(np.uint8).reshape(len(flat), -1)
    elif depth == 8:
        rows = flat.astype(np.uint8)
    else:
        bits = flat[:, :, None] >> np.arange(depth - 1, -1, -1) & 1
        rows = np.packbits(bits.reshape(len(flat), -1).astype(np.uint8), axis=1)
    step = max(1, samples.shape[2] * depth // 8)
    return b"".join(
        bytes([how]) + filtered(rows, number, step, how)
        for number, how in ((number, filters[number % len(filters)]) for number in range(len(rows)))
    )


def filtered(rows: npt.NDArray[np.uint8], number: int, step: int, how: int) -> bytes:
    row = rows[number].astype(np.int64)
    above = rows[number - 1].astype(np.int64) if number else np.zeros_like(row)
    left, corner = (np.concatenate([np.zeros(step, np.int64), each])[: len(row)] for each in (row, above))
    distances = [abs(left + above - corner - each) for each in (left, above, corner)]
    paeth = np.where(
        (distances[0] <= distances[1]) & (distances[0] <= distances[2]),
        left,
        np.where(distances[1] <= distances[2], above, corner),
    )
    return ((row - [0 * row, left, above, (left + above) // 2, paeth][how]) % 256).astype(np.uint8).tobytes()


def png_of(
    samples: Samples,
    kind: int,
    depth: int,
    *,
    interlaced: bool = False,
    filters: Sequence[int] = (0,),
    before: bytes = b"",
    pieces: int = 1,
) -> bytes:
    """A PNG of these samples, (H, W, C); ``before`` are chunks in front of the pixels, which lie in several chunks."""
    parts = [samples[top::down, left::right] for top, left, down, right in PASSES] if interlaced else [samples]
    pixels = zlib.compress(b"".join(packed_rows(part, depth, filters) for part in parts))
    cuts = np.linspace(0, len(pixels), pieces + 1).astype(int)
    data = b"".join(chunk(b"IDAT", pixels[a:b]) for a, b in pairwise(cuts))
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, kind, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + data + chunk(b"IEND", b"")


def samples_of(kind: int, depth: int, height: int = 21, width: int = 30) -> Samples:
    return np.random.default_rng(kind * 16 + depth).integers(0, 1 << depth, (height, width, CHANNELS[kind]))


def palette_of(depth: int) -> npt.NDArray[np.uint8]:
    return images.noise(1 << depth, 1, seed=depth)[:, 0]


def wanted(samples: Samples, kind: int, depth: int, trns: Sequence[int] | None = None, background: int = 255) -> Any:
    """What the specification says: levels in proportion, palettes looked up, alpha composited."""
    most = (1 << depth) - 1
    alpha = np.ones(samples.shape[:2])
    if kind == PALETTE:
        colors = palette_of(depth)[samples[..., 0]].astype(float)
        if trns is not None:
            alpha = np.array([*trns, *[255] * (1 << depth)])[samples[..., 0]] / 255
    else:
        levels = np.floor(samples * 255 / most + 0.5)
        count = 3 if kind in (RGB, RGB_ALPHA) else 1
        colors = np.broadcast_to(levels[..., :count], (*samples.shape[:2], 3))
        if kind in (GRAY_ALPHA, RGB_ALPHA):
            alpha = levels[..., -1] / 255
        elif trns is not None:
            alpha = (samples != np.array(trns)).any(axis=2).astype(float)
    return np.floor(colors * alpha[..., None] + background * (1 - alpha[..., None]) + 0.5)


def head_of(kind: int, depth: int, trns: Sequence[int] | None = None) -> bytes:
    """The chunks that come before the pixels: the palette, and which samples are transparent."""
    plte = chunk(b"PLTE", palette_of(depth).tobytes()) if kind == PALETTE else b""
    if trns is None:
        return plte
    body = bytes(trns) if kind == PALETTE else struct.pack(f">{len(trns)}H", *trns)
    return plte + chunk(b"tRNS", body)
