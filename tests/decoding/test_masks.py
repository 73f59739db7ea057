"""Masks: their numbers are those that lie in the file, and each pixel of a slot is the one of Pillow's NEAREST."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support import images, masks

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.masks import decode_mask_into, mask_numbers
from arraystore._decoding.memory import MemoryNeededError
from arraystore._decoding.notes import noticed
from arraystore._sources.targets.mask_sources import DrawnMask


def decoded(data: bytes, size: tuple[int, int], *, bits: int = 8, **options: Any) -> npt.NDArray[Any]:
    """The mask of an image of its own size, as it is."""
    dtype = np.dtype(f"u{bits // 8}")
    slot = np.empty(size, dtype)
    decode_mask_into(data, slot, ImageSpec(size=size), size, fill=int(np.iinfo(dtype).max), **options)
    return slot


def opened(data: bytes) -> npt.NDArray[Any]:
    """The numbers that Pillow reads."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


# --- the numbers of each format --------------------------------------------------------------------------------------

PALETTES = {
    "png": ("PNG", {}),
    "interlaced gif": ("GIF", {"interlace": 1}),
    "gif": ("GIF", {"interlace": 0}),
    "transparent gif": ("GIF", {"transparency": 1}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate": ("TIFF", {"compression": "tiff_deflate"}),
    "packbits": ("TIFF", {"compression": "packbits"}),
}


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("name", PALETTES)
def test_indices_of_a_palette_are_kept_and_not_its_colors(name: str, bits: int) -> None:
    kind, options = PALETTES[name]
    mask = masks.numbers(13, 17, classes=1 << bits)
    image = Image.fromarray(mask).convert("P")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 3 << bits, np.uint8).tobytes())
    data = images.encode(image, kind, **options | ({"bits": bits} if kind == "PNG" else {}))
    # Pillow leaves unused colors out of a GIF, so what it wrote is asked for.
    wanted = opened(data) if kind == "GIF" else mask
    np.testing.assert_array_equal(decoded(data, mask.shape), wanted)


@pytest.mark.parametrize("transparency", [0, 3, bytes(range(0, 256, 8))])
def test_a_transparent_palette_changes_no_number(transparency: Any) -> None:
    mask = masks.numbers(20, 20)
    data = images.encode(masks.with_palette(mask), "PNG", transparency=transparency)
    np.testing.assert_array_equal(decoded(data, mask.shape), mask)


def png_of(rows: bytes, width: int, height: int, depth: int, color_type: int = 0, *chunks: bytes) -> bytes:
    """A PNG of packed rows, each with its filter."""
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x00\xa5"), (2, b"\x00\x1b\xe4"), (4, b"\x00\x01\x23\xef\xff")])
def test_gray_of_few_bits_is_not_scaled(depth: int, row: bytes) -> None:
    """Pillow makes 255 of the largest sample; a class 3 of a mask of 2 bits must not become 255."""
    values = np.unpackbits(np.frombuffer(row[1:], np.uint8)).reshape(-1, depth) @ (1 << np.arange(depth)[::-1])
    data = png_of(row * 2, len(values), 2, depth)
    np.testing.assert_array_equal(decoded(data, (2, len(values))), np.stack([values] * 2))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_gray_is_kept(kind: str) -> None:
    mask = masks.numbers(13, 17, classes=256)
    data = images.encode(Image.fromarray(mask), kind)
    np.testing.assert_array_equal(decoded(data, mask.shape), opened(data) if kind == "GIF" else mask)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {})])
def test_one_bit_is_0_and_1(kind: str, options: dict[str, Any]) -> None:
    mask = masks.numbers(13, 17, classes=2)
    data = images.encode(Image.fromarray(mask > 0), kind, **options)
    np.testing.assert_array_equal(decoded(data, mask.shape), mask)


@pytest.mark.parametrize("compression", ["group3", "group4", "raw", "tiff_lzw"])
def test_a_tiff_of_one_bit_is_0_and_1_where_white_is_0_too(compression: str) -> None:
    mask = masks.numbers(13, 17, classes=2)
    data = images.encode(Image.fromarray(mask > 0), "TIFF", compression=compression)
    np.testing.assert_array_equal(decoded(data, mask.shape), mask)
    white_is_zero = images.encode(Image.fromarray(mask > 0), "TIFF", compression=compression, tiffinfo={262: 0})
    np.testing.assert_array_equal(decoded(white_is_zero, mask.shape), opened(white_is_zero))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_numbers_of_16_bits(kind: str) -> None:
    mask = np.random.default_rng(0).integers(0, 65_536, (13, 17)).astype(np.uint16)
    data = images.encode(Image.fromarray(mask), kind)
    np.testing.assert_array_equal(decoded(data, mask.shape, bits=16), mask)
    few = images.encode(Image.fromarray(mask // 257), kind)
    np.testing.assert_array_equal(decoded(few, mask.shape), mask // 257)
    with pytest.raises(DecodeError, match=r'the number 65,\d+, which 8 bits do not hold: take it as .*"mask16"'):
        decoded(data, mask.shape)


def test_a_pgm_has_its_own_numbers_whatever_its_maximum() -> None:
    data = b"P5 3 2 20\n" + bytes([0, 1, 2, 18, 19, 20])
    np.testing.assert_array_equal(decoded(data, (2, 3)), [[0, 1, 2], [18, 19, 20]])
    np.testing.assert_array_equal(decoded(b"P2 3 1 20\n5 0 20\n", (1, 3)), [[5, 0, 20]])
    np.testing.assert_array_equal(decoded(b"P1 3 1\n1 0 1\n", (1, 3)), [[0, 1, 0]])


# --- what is no mask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind", "what"),
    [
        ("RGB", "PNG", "RGB"),
        ("RGBA", "PNG", "RGBA"),
        ("LA", "PNG", "gray with alpha"),
        ("RGB", "BMP", "RGB"),
        ("RGB", "TIFF", "RGB"),
        ("LA", "TIFF", "colors, or samples with others beside them"),
        ("CMYK", "TIFF", "colors, or samples with others beside them"),
        ("RGB", "PPM", "3 samples each"),
        ("L", "JPEG", "those of a jpeg, which may be changed by its compression"),
        ("RGB", "WEBP", "those of a webp, which may be changed by its compression"),
        ("L", "JPEG2000", "those of a jp2, which may be changed by its compression"),
    ],
)
def test_colors_and_lossy_files_are_refused(mode: str, kind: str, what: str) -> None:
    data = images.encode(Image.fromarray(masks.numbers(8, 8)).convert(mode), kind)
    with pytest.raises(DecodeError) as caught:
        decoded(data, (8, 8))
    assert caught.value.message == f"its pixels are {what}, not numbers of classes"
    assert "PNG with a palette (mode P) or in gray (mode L)" in caught.value.advice


def test_a_tiff_with_a_jpeg_inside_is_refused() -> None:
    data = images.encode(Image.fromarray(masks.numbers(16, 16)), "TIFF", compression="jpeg")
    with pytest.raises(DecodeError, match="packed in a way that may change them"):
        decoded(data, (16, 16))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_a_mask_that_ends_early_is_damaged(kind: str) -> None:
    data = images.encode(masks.with_palette(masks.numbers(40, 40)) if kind != "PPM" else Image.new("L", (40, 40)), kind)
    for end in (0, 10, len(data) // 2, len(data) * 3 // 4):
        with pytest.raises(DecodeError):
            decoded(data[:end], (40, 40))


def test_a_png_with_a_wrong_checksum_is_damaged() -> None:
    data = bytearray(images.encode(masks.with_palette(masks.numbers(40, 40)), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(DecodeError, match="checksum of its IDAT chunk is wrong"):
        decoded(bytes(data), (40, 40))


def test_a_gif_that_does_not_cover_its_screen_is_refused() -> None:
    data = bytearray(images.encode(masks.with_palette(masks.numbers(8, 8)), "GIF"))
    data[6] = 12  # the width of the screen
    with pytest.raises(DecodeError, match="does not cover its screen"):
        decoded(bytes(data), (8, 12))


def test_memory_and_pixels_are_bounded() -> None:
    data = images.encode(Image.new("P", (4000, 4000)), "PNG")
    with pytest.raises(MemoryNeededError):
        decode_mask_into(data, np.empty((4, 4), np.uint8), ImageSpec(size=4), (4000, 4000), fill=255, memory_bytes=1e6)
    with pytest.raises(DecodeError, match="more than max_pixels"):
        decode_mask_into(data, np.empty((4, 4), np.uint8), ImageSpec(size=4, max_pixels=9999), (4000, 4000), fill=255)


def test_the_memory_of_a_mask_that_is_drawn_is_bounded() -> None:
    class Drawn(DrawnMask):
        shape = (4000, 4000)

        def numbers(self) -> npt.NDArray[Any]:
            return np.full(self.shape, 7, np.uint8)

        def digest(self) -> int:
            return 0

    def draw(memory_bytes: float) -> npt.NDArray[Any]:
        return mask_numbers(Drawn(), ImageSpec(size=4), (4000, 4000), memory_bytes=memory_bytes)

    with pytest.raises(MemoryNeededError, match=re.escape("its 4000 x 4000 pixels would take 0.16 GB")) as caught:
        draw(1e8)
    assert (draw(caught.value.needed_bytes) == 7).all()


# --- geometry --------------------------------------------------------------------------------------------------------

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["stretch", "crop", "pad"]))
def test_each_pixel_is_the_one_that_pillow_takes(height: int, width: int, high: int, wide: int, fit: Any) -> None:
    spec, mask = ImageSpec(size=(high, wide), fit=fit), masks.numbers(height, width, seed=height * 97 + width)
    placement = spec.place(height, width)
    if fit == "pad" and not (round(height / width * wide) and round(width / height * high)):
        return  # Pillow makes an image of no pixels
    slot = np.empty(spec.size, np.uint8)
    decode_mask_into(images.png(mask), slot, spec, (height, width), fill=255)
    np.testing.assert_array_equal(slot, masks.by_pillow(mask, spec))
    beside = np.ones(spec.size, bool)
    rows, columns = placement.top + np.arange(placement.height), placement.left + np.arange(placement.width)
    beside[np.ix_(rows, columns)] = False
    assert (slot[beside] == 255).all()


@given(st.integers(2, 30), st.integers(2, 30), st.integers(2, 5), st.sampled_from(["stretch", "crop", "pad"]))
def test_a_mask_of_another_scale_shows_the_same(height: int, width: int, factor: int, fit: Any) -> None:
    """The mask of an image that is k times as large, and one that is k times as large as its image."""
    spec, mask = ImageSpec(size=(24, 24), fit=fit), masks.numbers(height, width)
    whole, small = np.empty(spec.size, np.uint8), np.empty(spec.size, np.uint8)
    decode_mask_into(images.png(mask), small, spec, (height * factor, width * factor), fill=255)
    image = Image.fromarray(mask)
    if fit == "stretch":
        np.testing.assert_array_equal(small, masks.by_pillow(mask, spec))
    if fit == "crop":
        box = tuple(side / factor for side in spec.place(height * factor, width * factor).box)
        np.testing.assert_array_equal(small, image.resize((24, 24), Image.Resampling.NEAREST, box=box))
    large = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    decode_mask_into(images.png(large), whole, spec, (height, width), fill=255)
    inside = whole != 255
    np.testing.assert_array_equal(inside, masks.by_pillow(mask, spec) != 255)
    assert set(whole[inside]) <= set(mask.ravel())


@pytest.mark.parametrize(
    ("mask", "image"),
    [((10, 20), (20, 10)), ((375, 501), (375, 500)), ((374, 500), (375, 500)), ((64, 64), (48, 64)), ((7, 7), (7, 9))],
)
def test_a_mask_of_another_shape_is_refused(mask: tuple[int, int], image: tuple[int, int]) -> None:
    with pytest.raises(DecodeError, match=r"but its upright image .* of another shape: a mask shows all of its image"):
        decode_mask_into(
            images.png(masks.numbers(*mask)), np.empty((8, 8), np.uint8), ImageSpec(size=8), image, fill=255
        )


@pytest.mark.parametrize(
    ("mask", "image"), [((187, 250), (375, 501)), ((188, 250), (375, 500)), ((750, 1000), (375, 500))]
)
def test_a_scale_whose_sides_are_rounded_is_accepted(mask: tuple[int, int], image: tuple[int, int]) -> None:
    decode_mask_into(images.png(masks.numbers(*mask)), np.empty((8, 8), np.uint8), ImageSpec(size=8), image, fill=255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_a_mask_is_turned_as_its_file_says(orientation: int, bits: int) -> None:
    mask = masks.numbers(9, 14).astype(np.uint16 if bits == 16 else np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = images.encode(Image.fromarray(mask), "PNG", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decoded(data, upright.shape, bits=bits), upright)


def test_a_mask_of_0_and_255_is_noted_where_255_also_marks_the_padding() -> None:
    binary = masks.numbers(10, 20, classes=2) * np.uint8(255)
    slot = np.empty((16, 16), np.uint8)
    for fit, mask, said in (
        ("pad", binary, "its mask has only 0 and 255, and 255 also marks what lies beside the image"),
        ("stretch", binary, None),
        ("pad", masks.numbers(10, 20), None),
        ("pad", np.where(binary, 255, masks.numbers(10, 20)).astype(np.uint8), None),  # 255 is void
    ):
        noticed()
        decode_mask_into(images.png(mask), slot, ImageSpec(size=16, fit=fit), (10, 20), fill=255)  # type: ignore[arg-type]
        assert noticed() == said
