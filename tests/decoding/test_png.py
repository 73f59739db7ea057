"""PNGs of every color type and depth, as the specification lists them: the samples say what the pixels are."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support import images
from support.pngs import (
    GRAY,
    GRAY_ALPHA,
    KINDS,
    PALETTE,
    RGB,
    RGB_ALPHA,
    chunk,
    head_of,
    palette_of,
    png_of,
    samples_of,
    wanted,
)

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into


def decoded(data: bytes, height: int, width: int, background: int = 255) -> npt.NDArray[np.uint8]:
    slot = np.empty((height, width, 3), np.uint8)
    decode_into(data, slot, ImageSpec(size=(height, width), layout="NHWC", background=(background,) * 3))
    return slot


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
