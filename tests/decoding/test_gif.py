"""GIFs of every number of colors, interlaced or not, with and without a transparent color, in the pixels of Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import gifs, images

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into
from arraystore._decoding.header import read_header
from arraystore.errors import Kind

BACKGROUND = (10, 200, 90)
COLORED = gifs.COLORS[gifs.INDICES]


def decoded(data: bytes, height: int, width: int) -> images.Pixels:
    slot = np.empty((height, width, 3), np.uint8)
    decode_into(data, slot, ImageSpec(size=(height, width), layout="NHWC", background=BACKGROUND))
    return slot


def by_pillow(data: bytes) -> images.Pixels:
    with Image.open(io.BytesIO(data)) as image:
        rgba = image.convert("RGBA")
    below = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
    return np.asarray(Image.alpha_composite(below, rgba).convert("RGB"))


def drawn(colors: int, height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(colors)
    image = Image.fromarray(rng.integers(0, colors, (height, width), np.uint8), "P")
    image.putpalette(rng.integers(0, 256, 3 * colors, np.uint8).tobytes())
    return image


@pytest.mark.parametrize("clear", [None, 0, 1])
@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("colors", [2, 3, 4, 5, 8, 16, 17, 32, 64, 127, 128, 200, 256])
def test_any_number_of_colors(colors: int, interlace: int, clear: int | None) -> None:
    options: dict[str, Any] = {} if clear is None else {"transparency": clear}
    for height, width in ((33, 47), (16, 300), (1, 1), (7, 2)):
        data = images.encode(drawn(colors, height, width), "GIF", interlace=interlace, optimize=False, **options)
        assert images.furthest(decoded(data, height, width), by_pillow(data)) == 0, (height, width)


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_only_the_first_of_several_frames_counts(disposal: int) -> None:
    frames = [drawn(9, 20, 20) for _ in range(3)]
    data = images.encode(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=disposal, loop=0)
    assert images.furthest(decoded(data, 20, 20), by_pillow(data)) == 0


def test_long_runs_and_noise_fill_every_width_of_codes() -> None:
    for pixels in (np.zeros((300, 300), np.uint8), np.arange(90_000).reshape(300, 300).astype(np.uint8)):
        image = Image.fromarray(pixels, "P")
        image.putpalette(images.noise(256, 1).tobytes())
        data = images.encode(image, "GIF")
        assert images.furthest(decoded(data, 300, 300), by_pillow(data)) == 0


def test_an_index_that_no_palette_can_have_is_an_error() -> None:
    def of(index: int) -> bytes:
        codes = 512 | index << 10 | 513 << 20  # a clear, an index of nine bits, and the end
        return gifs.gif(1, 1, gifs.frame(np.zeros((1, 1)), packed=b"\x09" + gifs.blocks(codes.to_bytes(4, "little"))))

    assert decoded(of(200), 1, 1).ravel().tolist() == gifs.COLORS[200].tolist()
    with pytest.raises(DecodeError, match="the gif data is damaged or ends early"):
        decoded(of(300), 1, 1)


def test_codes_without_an_entry_are_an_error() -> None:
    packed = bytearray(gifs.lzw(gifs.INDICES))
    packed[3:6] = b"\xff\xff\xff"
    with pytest.raises(DecodeError, match="the gif data is damaged or ends early"):
        decoded(gifs.gif(30, 20, gifs.frame(gifs.INDICES, packed=bytes(packed))), 20, 30)


def test_a_gif_that_is_cut_off_anywhere_is_an_error() -> None:
    data = gifs.gif(30, 20, gifs.frame(gifs.INDICES, clear=3, palette=gifs.COLORS), palette=gifs.COLORS[:4], end=b"")
    for length in range(len(data) - 3):  # the last three bytes are the code that says end, and an empty block
        with pytest.raises(DecodeError):
            decoded(data[:length], 20, 30)


def test_blocks_of_extensions_without_an_end_are_an_error() -> None:
    long = gifs.extension(0xFE, *[b"x" * 255] * 9_000)  # two megabytes, as a profile may have
    assert images.furthest(decoded(gifs.gif(30, 20, long, gifs.frame(gifs.INDICES)), 20, 30), COLORED) == 0
    half = b"\x21\xfe" + b"\1x" * 600_000 + b"\0"
    with pytest.raises(DecodeError, match="more than 1,048,576 blocks of extensions before its first frame") as caught:
        read_header(gifs.gif(30, 20, half, half, gifs.frame(gifs.INDICES)))
    assert caught.value.kind is Kind.TOO_LARGE


def test_a_control_that_is_too_short_says_nothing() -> None:
    short = gifs.extension(0xF9, b"\1")
    data = gifs.gif(30, 20, short, gifs.frame(gifs.INDICES))
    assert images.furthest(decoded(data, 20, 30), COLORED) == 0
