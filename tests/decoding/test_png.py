"""PNGs of every color type and depth, as the specification lists them: the samples say what the pixels are."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support import images

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into

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


def decoded(data: bytes, height: int, width: int, background: int = 255) -> npt.NDArray[np.uint8]:
    slot = np.empty((height, width, 3), np.uint8)
    decode_into(data, slot, ImageSpec(size=(height, width), layout="NHWC", background=(background,) * 3))
    return slot


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


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), KINDS)
def test_every_color_type_and_depth(kind: int, depth: int, interlaced: bool) -> None:
    samples = samples_of(kind, depth)
    data = png_of(samples, kind, depth, interlaced=interlaced, before=head_of(kind, depth))
    assert images.furthest(decoded(data, 21, 30), wanted(samples, kind, depth)) <= (kind in (GRAY_ALPHA, RGB_ALPHA))
    if depth <= 8 and kind in (GRAY, RGB, PALETTE):
        with Image.open(io.BytesIO(data)) as image:
            assert images.furthest(decoded(data, 21, 30), image.convert("RGB")) == 0


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), [pair for pair in KINDS if pair[0] in (GRAY, RGB, PALETTE)])
def test_transparent_samples_of_every_kind_show_the_background(kind: int, depth: int, interlaced: bool) -> None:
    samples = samples_of(kind, depth)
    trns = [0, 77, 255, 128][: 1 << depth] if kind == PALETTE else samples[3, 4].tolist()
    data = png_of(samples, kind, depth, interlaced=interlaced, before=head_of(kind, depth, trns))
    for background in (255, 10):
        expected = wanted(samples, kind, depth, trns, background)
        assert images.furthest(decoded(data, 21, 30, background), expected) <= (kind == PALETTE)


@pytest.mark.parametrize("filters", [(0,), (1,), (2,), (3,), (4,), (4, 0, 3, 1, 2)])
@pytest.mark.parametrize(("kind", "depth"), [(GRAY, 2), (RGB, 8), (PALETTE, 4), (RGB_ALPHA, 16)])
def test_every_filter_of_rows(kind: int, depth: int, filters: Sequence[int]) -> None:
    samples = samples_of(kind, depth)
    data = png_of(samples, kind, depth, filters=filters, before=head_of(kind, depth), pieces=7)
    assert images.furthest(decoded(data, 21, 30), wanted(samples, kind, depth)) <= (kind == RGB_ALPHA)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 6, 7, 8, 9, 33])
def test_every_small_size(side: int, interlaced: bool) -> None:
    for kind, depth in ((PALETTE, 1), (PALETTE, 4), (GRAY, 1), (RGB, 8)):
        for height, width in ((side, side), (1, side), (side, 1)):
            samples = samples_of(kind, depth, height, width)
            data = png_of(samples, kind, depth, interlaced=interlaced, before=head_of(kind, depth))
            assert images.furthest(decoded(data, height, width), wanted(samples, kind, depth)) == 0


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"gAMA", struct.pack(">I", 100_000)),
        chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        chunk(b"sRGB", b"\0"),
        chunk(b"bKGD", struct.pack(">3H", 1, 2, 3)),
        chunk(b"pHYs", struct.pack(">IIB", 1, 4, 0)),
        chunk(b"tIME", struct.pack(">H5B", 2026, 1, 1, 0, 0, 0)),
        chunk(b"sBIT", b"\5\6\5"),
        chunk(b"tEXt", b"Title\0x"),
        chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"x")),
        chunk(b"iTXt", b"Title\0\0\0\0\0x"),
        chunk(b"prVt", b"of some program"),
    ],
    ids=lambda extra: extra[4:8].decode(),
)
def test_other_chunks_change_no_pixel(extra: bytes) -> None:
    samples = samples_of(RGB, 8)
    assert images.furthest(decoded(png_of(samples, RGB, 8, before=extra), 21, 30), wanted(samples, RGB, 8)) == 0


@pytest.mark.parametrize(("kind", "depth"), [(GRAY, 0), (GRAY, 3), (RGB, 4), (PALETTE, 16), (5, 8), (RGB_ALPHA, 2)])
def test_depths_that_a_color_type_has_not_are_errors(kind: int, depth: int) -> None:
    data = bytearray(png_of(samples_of(RGB, 8), RGB, 8))
    data[24:26] = depth, kind
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(DecodeError):
        decoded(bytes(data), 21, 30)


def test_a_palette_that_is_missing_is_an_error() -> None:
    with pytest.raises(DecodeError):
        decoded(png_of(samples_of(PALETTE, 4), PALETTE, 4), 21, 30)


def test_colors_beyond_the_end_of_a_palette_are_those_of_pillow() -> None:
    data = png_of(samples_of(PALETTE, 4), PALETTE, 4, before=chunk(b"PLTE", palette_of(4)[:3].tobytes()))
    with Image.open(io.BytesIO(data)) as image:
        assert images.furthest(decoded(data, 21, 30), image.convert("RGB")) == 0
