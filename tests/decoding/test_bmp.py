"""BMP: every depth, header and kind of run has Pillow's pixels, and nothing that is missing is stored."""

from __future__ import annotations

import io
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.bmps import COLORS, bmp, noise, runs
from support.images import furthest

import arraystore
from arraystore._decoding.codecs import decode_any
from arraystore._decoding.header import read_header
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

Pixels = npt.NDArray[Any]
WHITE = ImageSpec(size=8)
DEPTHS = [1, 4, 8, 16, 24, 32]
SIZES = [40, 52, 56, 64, 108, 124]


def decode(data: bytes, spec: ImageSpec = WHITE) -> Pixels:
    return decode_any(data, read_header(data), spec)


def of_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("size", SIZES)
def test_depths_and_headers(bits: int, size: int) -> None:
    for width, height, file_header in product((1, 5, 8, 13, 32, 33), (7, -7), (True, False)):
        data = bmp(bits, noise(bits, width, height), width=width, height=height, size=size, file_header=file_header)
        # Pillow rounds five bits down, where this rounds to the nearest.
        bound = 1 if bits == 16 else 0
        assert furthest(decode(data), of_pillow(data)) <= bound, (width, height, file_header)


@pytest.mark.parametrize("bits", [1, 4, 8, 24])
@pytest.mark.parametrize("file_header", [True, False])
def test_headers_of_os_2(bits: int, *, file_header: bool) -> None:
    data = bmp(bits, noise(bits, 13, 7), width=13, height=7, size=12, file_header=file_header)
    assert furthest(decode(data), of_pillow(data)) == 0


def test_the_short_header_of_os_2_version_2() -> None:
    data = bmp(8, noise(8, 13, 7), width=13, height=7, size=16)
    assert furthest(decode(data), decode(bmp(8, noise(8, 13, 7), width=13, height=7))) == 0


def test_two_bits_a_pixel() -> None:
    data = bmp(2, bytes([0b00_01_10_11, 0, 0, 0]), width=4, height=1)
    assert furthest(decode(data), COLORS[None, :4, 2::-1]) == 0


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("used", [1, 2, 3, 14, 200])
def test_palettes_with_fewer_colors_than_indices(bits: int, used: int) -> None:
    used = min(used, 1 << bits)
    data = bmp(bits, noise(bits, 13, 7), width=13, height=7, used=used)
    assert furthest(decode(data), of_pillow(data)) == 0


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("size", [12, 40, 124])
def test_pixels_that_begin_at_or_in_the_palette(bits: int, size: int) -> None:
    whole = bmp(bits, noise(bits, 13, 7), width=13, height=7, size=size)
    whole_pixels = decode(whole)
    for start in (0, 14 + size):  # said wrongly: behind the header, or nowhere
        data = bmp(bits, noise(bits, 13, 7), width=13, height=7, size=size, start=start)
        assert furthest(decode(data), whole_pixels) == 0
        assert furthest(of_pillow(data), whole_pixels) == 0
    # A palette that is cut short without a word: the pixels are where the file header says.
    data = bmp(bits, noise(bits, 13, 7), width=13, height=7, size=size, start=14 + size + 6)
    assert furthest(decode(data), of_pillow(data)) == 0


def test_pixels_that_begin_in_the_header_are_an_error() -> None:
    with pytest.raises(DecodeError, match="its pixels begin inside its header") as caught:
        decode(bmp(24, noise(24, 13, 7), width=13, height=7, start=30))
    assert caught.value.kind is Kind.DAMAGED


# --- masks and alpha --------------------------------------------------------------------------------------------------

ALPHA_MASKS = {
    "bgra": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "rgba": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "abgr": (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
    "one bit": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "four bits": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "none": (32, (0, 0, 0, 0)),
}


def words(bits: int, masks: tuple[int, ...], *, alpha: bool) -> bytes:
    kind = np.uint32 if bits == 32 else np.uint16
    values = np.random.default_rng(2).integers(0, 1 << bits, (6, 8), kind)
    mask = masks[3] or 0xFF000000
    return (values if alpha else values & kind(~mask & (1 << bits) - 1)).astype(kind).tobytes()


@pytest.mark.parametrize("name", ALPHA_MASKS)
@pytest.mark.parametrize("size", [40, 56, 108, 124])
def test_alpha_that_is_nowhere_does_not_count(name: str, size: int) -> None:
    bits, masks = ALPHA_MASKS[name]
    compression = 6 if size == 40 else 3
    options = {"width": 8, "height": 6, "compression": compression, "masks": masks, "size": size}
    opaque = words(bits, masks, alpha=False)
    pixels = decode(bmp(bits, opaque, **options))
    without = {**options, "masks": masks[:3], "size": 40, "compression": 3} if any(masks) else {"width": 8, "height": 6}
    assert furthest(pixels, decode(bmp(bits, opaque, **without))) == 0
    assert pixels.std() > 40
    # Alpha that is somewhere counts.
    data = bmp(bits, words(bits, masks, alpha=True), **options)
    assert furthest(decode(data), pixels) > 40
    if bits == 32 and size > 40 and name != "none":
        with Image.open(io.BytesIO(data)) as image:
            rgba = np.asarray(image.convert("RGBA")).astype(float)
        wanted = np.floor((rgba[..., :3] * rgba[..., 3:] + 255 * (255 - rgba[..., 3:])) / 255 + 0.5)
        assert furthest(decode(data), wanted) == 0


def test_white_of_sixteen_bits_is_white() -> None:
    assert (decode(bmp(16, b"\xff" * 28 * 7, width=13, height=7)) == 255).all()


def test_a_mask_with_a_gap_is_an_error() -> None:
    data = bmp(32, noise(32, 13, 7), width=13, height=7, compression=3, masks=(0xF0F0, 0xFF00, 0xFF))
    with pytest.raises(DecodeError, match="0xf0f0"):
        decode(data)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_bytes", [False, True])
@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize(("width", "padded"), [(8, 8), (5, 8), (5, 6), (9, 16), (1, 4), (250, 256), (301, 304)])
def test_runs_past_the_right_edge_are_left_out(width: int, padded: int, *, half_bytes: bool, literal: bool) -> None:
    packed, indices = runs(width, 7, padded, half_bytes=half_bytes, literal=literal)
    bits, compression = (4, 2) if half_bytes else (8, 1)
    data = bmp(bits, packed, width=width, height=7, compression=compression)
    wanted = COLORS[indices[::-1], 2::-1]
    assert furthest(decode(data), wanted) == 0
    if not literal or width == padded:  # Pillow shifts what follows pixels as they are that are too many
        assert furthest(of_pillow(data), wanted) == 0


@pytest.mark.parametrize("half_bytes", [False, True])
def test_one_run_past_the_right_edge(*, half_bytes: bool) -> None:
    bits, compression, value = (4, 2, 0x21) if half_bytes else (8, 1, 2)
    data = bmp(bits, bytes([12, value, 0, 0]) * 3 + b"\0\1", width=9, height=3, compression=compression)
    row = [2, 1] * 5 if half_bytes else [2] * 10
    assert furthest(decode(data), COLORS[[row[:9]] * 3, 2::-1]) == 0
    assert furthest(of_pillow(data), COLORS[[row[:9]] * 3, 2::-1]) == 0


def test_pixels_that_runs_pass_over_have_the_first_color() -> None:
    packed = bytes([2, 7, 0, 0, 0, 2, 1, 1, 1, 9, 0, 0, 3, 5, 0, 1])  # the cursor moves one right and one up
    data = bmp(8, packed + b"\0\0\0\1", width=4, height=4, compression=1)
    wanted = np.zeros((4, 4), int)
    wanted[0, :2], wanted[2, 1], wanted[3, :3] = 7, 9, 5
    with pytest.raises(DecodeError, match=r"its runs have 15 of 16 pixels"):
        decode(data[:-4])
    ended = bmp(8, packed[:-2] + b"\0\0\0\1", width=4, height=4, compression=1)
    assert furthest(decode(ended), COLORS[wanted[::-1], 2::-1]) == 0
    assert furthest(of_pillow(ended), COLORS[wanted[::-1], 2::-1]) == 0


def test_zeros_in_the_place_of_runs_are_an_error() -> None:
    packed, _ = runs(8, 7, 8, half_bytes=False, literal=False)
    data = bmp(8, packed[:40] + bytes(60) + packed[100:], width=8, height=7, compression=1)
    with pytest.raises(DecodeError, match="the bmp ends early: its runs have"):
        decode(data)


@pytest.mark.parametrize("size", [11, 20, 32, 41, 125, 256])
def test_headers_of_other_sizes_are_an_error(size: int) -> None:
    with pytest.raises(DecodeError, match=f"the bmp has an unknown header of {size} bytes"):
        decode(bmp(8, noise(8, 8, 7), width=8, height=7, size=size))


@pytest.mark.parametrize("cut", [2, 3, 10, 40, 59])
@pytest.mark.parametrize("literal", [False, True])
def test_runs_that_end_early_are_an_error(cut: int, *, literal: bool) -> None:
    packed, _ = runs(8, 7, 8, half_bytes=False, literal=literal)
    data = bmp(8, packed[: -cut - 4], width=8, height=7, compression=1)
    with pytest.raises(DecodeError, match="the bmp ends early: its runs have") as caught:
        decode(data)
    assert caught.value.kind is Kind.ENDS_EARLY


@pytest.mark.parametrize(("bits", "compression"), [(8, 2), (4, 1), (24, 1), (8, 4), (8, 5), (0, 4), (1, 3), (5, 0)])
def test_kinds_that_no_bmp_has_are_named(bits: int, compression: int) -> None:
    data = bmp(bits, bytes(999), width=8, height=7, compression=compression)
    with pytest.raises(DecodeError, match=f"compression {compression} with {bits} bits a pixel") as caught:
        decode(data)
    assert caught.value.kind is Kind.UNSUPPORTED


@pytest.mark.parametrize("bits", DEPTHS)
def test_rows_that_are_missing_are_an_error_and_what_fills_them_up_is_not(bits: int) -> None:
    width, height = 9, 7
    pixels = noise(bits, width, height)
    data = bmp(bits, pixels, width=width, height=height)
    spare = len(pixels) // height - (width * bits + 7) // 8
    assert furthest(decode(data[: len(data) - spare]), decode(data)) == 0
    for cut in (spare + 1, 3 * len(pixels) // height):
        with pytest.raises(DecodeError, match="the bmp data is damaged or ends early"):
            decode(data[: len(data) - cut])


def test_a_folder_of_files_without_file_headers_is_built(tmp_path: Any) -> None:
    for level in range(3):
        Image.new("RGB", (8, 8), (level * 50, 90, 9)).save(tmp_path / f"{level}.dib")
    store = arraystore.build(tmp_path, size=8, progress=False)
    assert store.images[:, :, 0, 0].tolist() == [[0, 90, 9], [50, 90, 9], [100, 90, 9]]
