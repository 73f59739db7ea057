import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import hostile
from support.gifs import COLORS, INDICES, frame, gif
from support.images import encode, furthest

from arraystore._decoding.codecs import decode_any
from arraystore._decoding.header import read_header
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

Pixels = npt.NDArray[Any]

HEIGHT, WIDTH = 37, 53
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([COLUMNS * 4, ROWS * 6, 255 - COLUMNS * 2 - ROWS], axis=-1).astype(np.uint8)
ALPHA = ((COLUMNS * 7 + ROWS * 3) % 256).astype(np.uint8)
GRAY = RGB[..., 0]
DEEP = (COLUMNS * 1237 + ROWS * 31).astype(np.uint16)
WHITE = ImageSpec(size=8)
TINTED = ImageSpec(size=8, background=(200, 13, 90))

MODES = {
    "RGB": Image.fromarray(RGB),
    "RGBA": Image.fromarray(np.dstack([RGB, ALPHA])),
    "L": Image.fromarray(GRAY),
    "LA": Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(ALPHA)]),
    "1": Image.fromarray(GRAY).convert("1"),
    "P": Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=64),
    "CMYK": Image.fromarray(RGB).convert("CMYK"),
    "YCbCr": Image.fromarray(RGB).convert("YCbCr"),
    "I;16": Image.fromarray(DEEP),
}


def decode(data: bytes | bytearray | memoryview, spec: ImageSpec = WHITE) -> Pixels:
    pixels = decode_any(data, read_header(data), spec)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    return pixels


def over(rgba: Pixels, background: Any = (255, 255, 255)) -> Pixels:
    """The definition: v * a / 255 + b * (255 - a) / 255, rounded to the nearest."""
    color, alpha = rgba[..., :3].astype(float), rgba[..., 3:].astype(float)
    return np.floor((color * alpha + np.array(background) * (255 - alpha)) / 255 + 0.5)


def pillow(data: bytes, background: Any = (255, 255, 255)) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode in ("I;16", "I"):
            return np.round(np.asarray(image) / 257)
        return over(np.asarray(image.convert("RGBA")), background)


# --- every format and mode that Pillow can write ----------------------------------------------------------------------

WRITERS = {
    "png": ("PNG", {}, "RGB RGBA L LA 1 P I;16"),
    "tiff": ("TIFF", {}, "RGB RGBA L LA 1 P CMYK YCbCr I;16"),
    "tiff lzw": ("TIFF", {"compression": "tiff_lzw"}, "RGB RGBA L LA 1 P CMYK I;16"),
    "tiff zstd": ("TIFF", {"compression": "zstd"}, "RGB RGBA L LA 1 P CMYK I;16"),
    "tiff jpeg": ("TIFF", {"compression": "jpeg"}, "RGB L CMYK"),
    "bigtiff": ("TIFF", {"big_tiff": True}, "RGB RGBA L I;16"),
    "bmp": ("BMP", {}, "RGB L 1 P"),
    "gif": ("GIF", {}, "RGB RGBA L P"),
    "gif with a hole": ("GIF", {"transparency": 3}, "P L"),
    "webp": ("WEBP", {}, "RGB RGBA L"),
    "webp lossless": ("WEBP", {"lossless": True, "exact": True}, "RGB RGBA LA"),
    "avif": ("AVIF", {}, "RGB RGBA L LA"),
    "jp2": ("JPEG2000", {}, "RGB RGBA L LA CMYK YCbCr I;16"),
    "j2k": ("JPEG2000", {"no_jp2": True}, "RGB RGBA L LA I;16"),
    "ppm": ("PPM", {}, "RGB L 1 I;16"),
    "jpeg": ("JPEG", {}, "RGB L CMYK"),
}
WRITTEN = [(name, mode) for name, (_, _, modes) in WRITERS.items() for mode in modes.split()]
INEXACT = {("tiff", "YCbCr"): 1}


def written(name: str, mode: str) -> bytes:
    kind, options, _ = WRITERS[name]
    return encode(MODES[mode], kind, **options)


@pytest.mark.parametrize(("name", "mode"), WRITTEN)
def test_pixels_are_those_of_pillow(name: str, mode: str) -> None:
    data = written(name, mode)
    assert furthest(decode(data), pillow(data)) <= INEXACT.get((name, mode), 0)


@pytest.mark.parametrize(("name", "mode"), [pair for pair in WRITTEN if pair[1] in ("RGBA", "LA")])
def test_transparent_pixels_show_the_background(name: str, mode: str) -> None:
    data = written(name, mode)
    assert furthest(decode(data, TINTED), pillow(data, TINTED.background)) == 0


@pytest.mark.parametrize("name", ["png", "tiff", "bmp", "avif", "jp2", "ppm"])
def test_gray_stays_in_two_dimensions(name: str) -> None:
    assert decode(written(name, "L")).shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
@pytest.mark.parametrize(("name", "mode"), [(name, modes.split()[0]) for name, (_, _, modes) in WRITERS.items()])
def test_any_kind_of_bytes_will_do(kind: Any, name: str, mode: str) -> None:
    data = written(name, mode)
    assert np.array_equal(decode(kind(data)), decode(data))


@pytest.mark.parametrize(("name", "mode"), [("ppm", "RGB"), ("ppm", "L"), ("png", "RGB"), ("bmp", "L")])
def test_pixels_outlive_and_do_not_hold_the_bytes(name: str, mode: str) -> None:
    data = bytearray(written(name, mode))
    pixels = decode(data)
    before = pixels.copy()
    data[:] = bytes(len(data))
    assert np.array_equal(pixels, before)
    assert pixels.flags.writeable


def test_sixteen_bits_are_rounded_for_every_value() -> None:
    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    wanted = np.floor(every / 257 + 0.5)
    assert furthest(decode(encode(Image.fromarray(every), "PNG")), wanted) == 0


def test_alpha_is_rounded_for_every_value() -> None:
    level, alpha = np.mgrid[0:256, 0:256].astype(np.uint8)
    image = np.dstack([level, level, level, alpha])
    data = encode(Image.fromarray(image), "PNG")
    assert furthest(decode(data, TINTED), over(image, TINTED.background)) == 0


# --- orientation: never applied here ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "mode"),
    [("jpeg", "RGB"), ("jpeg", "CMYK"), ("png", "RGB"), ("webp", "RGBA"), ("avif", "RGB")]
    + [("tiff", mode) for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16")]
    + [("tiff zstd", "RGB"), ("bigtiff", "RGB")],
)
def test_pixels_are_as_stored_whatever_the_orientation(name: str, mode: str, orientation: int) -> None:
    kind, options, _ = WRITERS[name]
    if kind == "TIFF":
        turned = {**options, "tiffinfo": {274: orientation}}
    else:
        info = Image.Exif()
        info[274] = orientation
        turned = {**options, "exif": info}
    data = encode(MODES[mode], kind, **turned)
    assert read_header(data).orientation == orientation
    assert np.array_equal(decode(data), decode(encode(MODES[mode], kind, **options)))


@pytest.mark.parametrize(("order", "letter", "code"), [("<", "I", 4), (">", "I", 4), (">", "B", 1), (">", "H", 3)])
def test_the_orientation_of_a_tiff_may_be_of_any_whole_type(order: str, letter: str, code: int) -> None:
    samples = random_samples(np.uint8, 6, 5)
    data = bytearray(tiff(samples, 1, order=order))
    at = data.index(struct.pack(f"{order}HHI", 284, 4, 1))  # in the place of a tag that says nothing new
    data[at : at + 12] = struct.pack(f"{order}HHI", 274, code, 1) + struct.pack(f"{order}{letter}", 6).ljust(4, b"\0")
    assert read_header(data).orientation == 6
    assert furthest(decode(data), samples) == 0


# --- files that end early, lie, or are damaged ------------------------------------------------------------------------

NOISE = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.mark.parametrize("fraction", [0.5, 0.95, 0.99])
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("GIF", "P", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "L", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "RGB", {"compression": "zstd"}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("AVIF", "RGB", {}),
        ("JPEG2000", "RGB", {}),
        ("JPEG2000", "RGB", {"no_jp2": True}),
        ("PPM", "RGB", {}),
        ("PPM", "L", {}),
        ("JPEG", "CMYK", {}),
    ],
)
def test_a_file_that_ends_early_is_an_error(
    kind: Any, mode: str, options: dict[str, Any], fraction: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encode(Image.fromarray(NOISE).convert(mode), kind, **options)
    decode(data)
    with pytest.raises(DecodeError):
        decode(data[: int(len(data) * fraction)])
    assert "OpenCV" not in capfd.readouterr().err


def test_a_tiff_whose_directory_comes_first_is_not_half_gray() -> None:
    data = tiff(NOISE[..., 0], 1)
    with pytest.raises(DecodeError, match="the tiff ends early: its strip 1 of 1 lies beyond its 5,471 bytes"):
        decode(data[: len(data) // 2])


def test_opencv_logs_as_before_after_an_error() -> None:
    before = cv2.utils.logging.getLogLevel()
    with pytest.raises(DecodeError, match="the webp data is damaged or ends early"):
        decode(written("webp", "RGB")[:-9])
    assert cv2.utils.logging.getLogLevel() == before


@pytest.mark.parametrize("name", ["png", "webp", "avif", "jp2", "tiff"])
def test_a_header_of_another_size_than_the_pixels_is_an_error(name: str) -> None:
    data = written(name, "RGB")
    other = read_header(encode(MODES["RGB"].resize((9, 8)), WRITERS[name][0]))
    with pytest.raises(DecodeError, match=f"header says 8 by 9 pixels, the decoder gave {HEIGHT} by {WIDTH}"):
        decode_any(data, other, WHITE)


@cache
def small(name: str) -> bytes:
    kind, options, modes = WRITERS[name]
    return encode(MODES[modes.split()[0]].resize((12, 9)), kind, **options)


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("bigtiff", "tiff jpeg", "gif with a hole")])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6), cut=st.floats(0.5, 1))
@settings(max_examples=100, deadline=None)
def test_damage_gives_pixels_of_the_stated_size_or_a_reason(
    name: str, changes: list[tuple[float, int]], cut: float
) -> None:
    data = bytearray(small(name))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    data = data if cut > 0.9 else data[: int(len(data) * cut)]
    try:
        header = read_header(data)
        if header.height * header.width > 100_000:  # the caller's max_pixels
            return
        pixels = decode_any(data, header, WHITE)
    except DecodeError:
        return
    assert pixels.shape[:2] == (header.height, header.width)


# --- PNG --------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, depth: int, kind: int, rows: list[bytes], *, extra: bytes = b"", pieces: int = 1
) -> bytes:
    stream = zlib.compress(b"".join(b"\0" + row for row in rows))
    step = -(-len(stream) // pieces)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    pixels = b"".join(chunk(b"IDAT", stream[at : at + step]) for at in range(0, len(stream), step))
    return head + extra + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("missing", [1, 4, 8, 12])
def test_a_png_that_lacks_only_its_end_is_decoded(missing: int) -> None:
    data = written("png", "RGB")
    assert np.array_equal(decode(data[:-missing]), RGB)


def test_a_png_cut_between_two_pieces_of_its_pixels_is_an_error() -> None:
    data = png(120, 90, 8, 2, [row.tobytes() for row in NOISE], pieces=4)
    assert np.array_equal(decode(data), NOISE)
    assert np.array_equal(decode(data[:-12]), NOISE)
    last = data.rindex(b"IDAT") - 4
    with pytest.raises(DecodeError, match="the png data is damaged or ends early"):
        decode(data[:last])


def test_a_damaged_png_is_an_error() -> None:
    data = bytearray(written("png", "RGB"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DecodeError, match="the png is damaged: the checksum of its IDAT chunk is wrong"):
        decode(data)


@pytest.mark.parametrize(
    ("depth", "level", "row"), [(1, 1, b"\x40"), (2, 1, b"\x10"), (4, 1, b"\x01"), (8, 1, b"\0\x01")]
)
def test_a_transparent_level_of_gray_shows_the_background(depth: int, level: int, row: bytes) -> None:
    data = png(2, 1, depth, 0, [row], extra=chunk(b"tRNS", struct.pack(">H", level)))
    assert decode(data, TINTED).tolist() == [[[0, 0, 0], list(TINTED.background)]]


def test_transparent_levels_of_sixteen_bits_are_compared_as_such() -> None:
    gray = png(2, 1, 16, 0, [struct.pack(">2H", 1000, 1001)], extra=chunk(b"tRNS", struct.pack(">H", 1000)))
    assert decode(gray, TINTED).tolist() == [[list(TINTED.background), [4, 4, 4]]]
    rows = [struct.pack(">6H", 1000, 2000, 3000, 1001, 2000, 3000)]
    rgb = png(2, 1, 16, 2, rows, extra=chunk(b"tRNS", struct.pack(">3H", 1000, 2000, 3000)))
    assert decode(rgb, TINTED).tolist() == [[list(TINTED.background), [4, 8, 12]]]


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x40"), (2, b"\x10"), (4, b"\x01"), (8, b"\0\x01")])
def test_palettes_of_every_depth_with_and_without_transparency(depth: int, row: bytes) -> None:
    palette = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
    assert decode(png(2, 1, depth, 3, [row], extra=palette)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    clear = palette + chunk(b"tRNS", b"\0")
    assert decode(png(2, 1, depth, 3, [row], extra=clear), TINTED).tolist() == [[list(TINTED.background), [40, 50, 60]]]


@pytest.mark.parametrize("kind", ["gray", "rgb"])
def test_sixteen_bits_with_alpha(kind: Any) -> None:
    values = (40_000, 30_000) if kind == "gray" else (40_000, 20_000, 10_000, 30_000)
    data = png(1, 1, 16, 4 if kind == "gray" else 6, [struct.pack(f">{len(values)}H", *values)])
    small = [round(value / 257) for value in values]
    rgba = np.array([[[small[0]] * 3 + small[1:] if kind == "gray" else small]], np.uint8)
    assert furthest(decode(data), over(rgba)) == 0


# --- animations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"default_image": True}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("WEBP", {"lossless": True, "background": (255, 0, 0, 255)}),
        ("AVIF", {}),
        ("GIF", {"disposal": 2}),
        ("TIFF", {}),
    ],
)
def test_of_an_animation_only_the_first_frame_counts(kind: Any, options: dict[str, Any]) -> None:
    first = MODES["RGBA"]
    more = [first.transpose(Image.Transpose.ROTATE_180), first.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    data = encode(first, kind, save_all=True, append_images=more, **options)
    assert furthest(decode(data), pillow(data)) == 0


# --- GIF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clear", [None, 7, 9])
def test_what_a_partial_frame_does_not_cover_is_background(clear: int | None) -> None:
    pixels = decode(gif(40, 32, frame(INDICES, 3, 5, clear)), TINTED)
    wanted = np.full((32, 40, 3), TINTED.background)
    wanted[5:25, 3:33] = COLORS[INDICES]
    if clear is not None:
        wanted[5:25, 3:33][clear == INDICES] = TINTED.background
    assert furthest(pixels, wanted) == 0


def test_a_frame_beyond_the_screen_is_whole() -> None:
    pixels = decode(gif(10, 10, frame(INDICES, 3, 5)), TINTED)
    assert pixels.shape == (25, 33, 3)
    assert furthest(pixels[5:, 3:], COLORS[INDICES]) == 0


@pytest.mark.parametrize("palette", [True, False])
def test_a_frame_may_bring_its_own_palette(palette: Any) -> None:
    data = gif(30, 20, frame(INDICES, palette=COLORS[::-1]), palette=COLORS if palette else None)
    assert furthest(decode(data), COLORS[::-1][INDICES]) == 0


def test_damage_after_the_first_frame_does_not_matter() -> None:
    data = gif(30, 20, frame(INDICES), frame(INDICES))
    assert furthest(decode(data[:-200]), COLORS[INDICES]) == 0


def test_a_gif_with_too_few_pixels_or_no_palette_is_an_error() -> None:
    short = frame(INDICES[:10]).replace(struct.pack("<HH", 30, 10), struct.pack("<HH", 30, 20))
    with pytest.raises(DecodeError, match="the gif data is damaged or ends early"):
        decode(gif(30, 20, short))
    with pytest.raises(DecodeError, match="no table of colors"):
        decode(gif(30, 20, frame(INDICES), palette=None))


# --- netpbm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"P1\n# c\n3 1\n1 0 1", [[0, 255, 0]]),
        (b"P1 3 1 101", [[0, 255, 0]]),
        (b"P2 3 1 100\n0 50 100", [[0, 128, 255]]),
        (b"P2 3 1 255 0 1 255", [[0, 1, 255]]),
        (b"P2 3 1 1000\n0 500 1000\n", [[0, 128, 255]]),
        (b"P3 1 1 15 0 1 15\n", [[[0, 17, 255]]]),
        (b"P4 10 1\n\xaa\x40", [[0, 255, 0, 255, 0, 255, 0, 255, 255, 0]]),
        (b"P5 3 1 100\n\x00\x32\x64", [[0, 128, 255]]),
        (b"P5 3 1 1000\n\x00\x00\x01\xf4\x03\xe8", [[0, 128, 255]]),
        (b"P5 2 1 100\n\x64\xff", [[255, 255]]),
        (b"P6 1 1 1\n\x00\x01\x00", [[[0, 255, 0]]]),
        (b"P6 1 1 65535\n\x00\x00\x80\x00\xff\xff", [[[0, 128, 255]]]),
        (b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nTUPLTYPE BLACKANDWHITE\nENDHDR\n\x01\x00", [[255, 0]]),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nENDHDR\n\x0a\x80", [[[132, 132, 132]]]),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nENDHDR\n\x0a\x14\x1e\x00", [[[255, 255, 255]]]),
    ],
)
def test_netpbm_samples_are_scaled_by_the_largest(data: bytes, wanted: Any) -> None:
    assert decode(data).tolist() == wanted


@pytest.mark.parametrize(
    "data", [b"P1 3 2 101", b"P2 3 2 255\n1 2 3", b"P3 1 1 9 1 x 3", b"P5 3 1 255\n\0\0", b"P4 9 1\n\0"]
)
def test_netpbm_with_too_few_samples_is_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError, match="the ppm data is damaged or ends early"):
        decode(data)


# --- TIFF -------------------------------------------------------------------------------------------------------------


def tiff(
    samples: Pixels,
    photometric: int,
    extra: list[int] | None = None,
    *,
    order: str = "<",
    planar: int = 1,
    bits: int | None = None,
    width: int | None = None,
    colors: list[int] | None = None,
    kind: int = 1,
) -> bytes:
    """An uncompressed TIFF with its directory in front and its pixels, one strip or one a plane, at the end."""
    height, columns, channels = (*samples.shape, 1)[:3]
    depth = bits or samples.dtype.itemsize * 8
    planes = [samples] if planar == 1 else [samples[..., plane] for plane in range(channels)]
    strips = [plane.astype(plane.dtype.newbyteorder(order)).tobytes() for plane in planes]
    tags = {256: [width or columns], 257: [height], 258: [depth] * channels, 259: [1], 262: [photometric]}
    tags |= {273: strips, 277: [channels], 278: [height], 279: [len(strip) for strip in strips], 284: [planar]}
    tags |= {339: [kind] * channels} | ({338: extra} if extra else {}) | ({320: colors} if colors else {})
    far, body = 10 + 12 * len(tags), b""
    first = far + sum(len(tags[tag]) * 4 for tag in tags if len(tags[tag]) > 1)
    tags[273] = [first + sum(map(len, strips[:at])) for at in range(len(strips))]
    entries = b""
    for tag, values in sorted(tags.items()):
        letter, code = ("H", 3) if tag == 320 else ("I", 4)
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        entries += struct.pack(f"{order}HHI", tag, code, len(values))
        entries += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", far + len(body))
        body += packed if len(packed) > 4 else b""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return start + entries + body.ljust(first - far, b"\0") + b"".join(strips)


def random_samples(dtype: type[np.generic], *shape: int) -> Pixels:
    return np.random.default_rng(3).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_eight_and_sixteen_bits(dtype: type[np.generic], order: str) -> None:
    divisor = 1 if dtype == np.uint8 else 257
    gray, rgb = random_samples(dtype, 6, 5), random_samples(dtype, 6, 5, 3)
    assert furthest(decode(tiff(gray, 1, order=order)), np.round(gray / divisor)) == 0
    assert furthest(decode(tiff(gray, 0, order=order)), 255 - np.round(gray / divisor)) == 0
    assert furthest(decode(tiff(rgb, 2, order=order)), np.round(rgb / divisor)) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("extra", [None, [0], [1], [2]])
def test_the_fourth_channel_of_a_tiff_is_what_its_tag_says(dtype: type[np.generic], extra: Any) -> None:
    samples = random_samples(dtype, 6, 5, 4)
    if extra == [1]:
        samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
    small = np.round(samples / (1 if dtype == np.uint8 else 257))
    wanted = over(small, TINTED.background)
    if extra == [0]:
        wanted = small[..., :3]
    elif extra == [1]:
        wanted = small[..., :3] + np.round(np.array(TINTED.background) * (255 - small[..., 3:]) / 255)
    assert furthest(decode(tiff(samples, 2, extra), TINTED), wanted) == 0


def test_tiff_planes_apart() -> None:
    rgb = random_samples(np.uint8, 6, 5, 3)
    assert furthest(decode(tiff(rgb, 2, planar=2)), rgb) == 0
    deep = random_samples(np.uint16, 6, 5, 3)
    assert furthest(decode(tiff(deep, 2, planar=2)), np.round(deep / 257)) == 0


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_tiff_of_few_bits(bits: int) -> None:
    packed = random_samples(np.uint8, 6, bits)  # eight pixels a row
    levels = np.packbits(np.unpackbits(packed).reshape(-1, bits)[:, ::-1], axis=1, bitorder="little").reshape(6, 8)
    scale = 255 // ((1 << bits) - 1)
    for photometric in (0, 1):
        wanted = levels * scale if photometric else 255 - levels * scale
        assert furthest(decode(tiff(packed, photometric, bits=bits, width=8)), wanted) == 0
    colors = np.arange(3 << bits) * 257
    wanted = colors.reshape(3, -1).T[levels] // 257
    data = tiff(packed, 3, bits=bits, width=8, colors=colors.tolist())
    assert furthest(decode(data), wanted) == 0


@pytest.mark.parametrize("photometric", [0, 1])
def test_tiff_of_twelve_bits(photometric: int) -> None:
    levels = random_samples(np.uint16, 6, 8) >> 4
    bits = (levels[..., None] >> np.arange(11, -1, -1)) & 1
    packed = np.packbits(bits.astype(np.uint8).reshape(6, -1), axis=1)
    wanted = np.round(levels / 4095 * 255)
    data = tiff(packed, photometric, bits=12, width=8)
    assert furthest(decode(data), wanted if photometric else 255 - wanted) <= 0


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, 3), (np.int16, 2), (np.uint32, 1), (np.int8, 2)])
def test_samples_that_are_not_levels_are_refused(dtype: type[np.generic], kind: Any) -> None:
    with pytest.raises(DecodeError, match="convert it to 8 or 16 bits"):
        decode(tiff(np.ones((6, 5), dtype), 1, kind=kind))


# --- AVIF, JPEG 2000, WebP, JPEG --------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 10, 12])
def test_avif_of_more_than_eight_bits_is_scaled(depth: int) -> None:
    largest = (1 << depth) - 1
    image = np.full((64, 64, 3), largest, np.uint8 if depth == 8 else np.uint16)
    image[:32] //= 2
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
    data = cv2.imencode(".avif", image, options)[1].tobytes()
    pixels = decode(data)
    assert abs(int(pixels[0, 0, 0]) - 127) <= 1
    assert pixels[-1, -1].tolist() == [255, 255, 255]


def test_jpeg_2000_of_twelve_bits_is_scaled() -> None:
    levels = (DEEP >> 4).astype(np.uint16)
    # Stored without loss around the middle of 16 bits, then stated to be 12: the decoder adds the middle of 12.
    data = bytearray(encode(Image.fromarray(levels + np.uint16(32_768 - 2048)), "JPEG2000", no_jp2=True))
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 11
    assert furthest(decode(data), np.round(levels / 4095 * 255)) == 0


@pytest.mark.parametrize("transform", [None, 0, 2])
def test_cmyk_jpegs_with_and_without_the_marker_of_their_writer(transform: int | None) -> None:
    data = encode(MODES["CMYK"], "JPEG")
    at = data.index(b"\xff\xee")
    segment = data[at : at + 16]
    data = data.replace(segment, b"" if transform is None else segment[:-1] + bytes([transform]))
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(image.convert("RGB"))
    assert furthest(decode(data), wanted) <= 1


def test_where_pillow_would_be_needed_its_absence_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    data, other = thunderscan(random_samples(np.uint8, 4, 8) & 15), written("png", "RGB")
    decode(data)
    for module in [name for name in sys.modules if name.startswith("PIL")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DecodeError, match=r"pip install 'arraystore\[formats\]'$") as caught:
        decode(data)
    assert caught.value.kind is Kind.UNSUPPORTED
    assert decode(other).shape == (HEIGHT, WIDTH, 3)


def test_pillow_does_not_warn_of_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(written("jp2", "CMYK")).shape == (HEIGHT, WIDTH, 3)


def thunderscan(levels: Pixels, more: dict[int, tuple[int, int, int]] | None = None) -> bytes:
    """A TIFF of four bits that only Pillow decodes: each pixel is coded as a byte of two ones and its level."""
    height, width = levels.shape
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 4), 259: (3, 1, 32_809), 262: (3, 1, 1)}
    entries |= {273: (4, 1, 0), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, levels.size)} | (more or {})
    entries[273] = (4, 1, 14 + 12 * len(entries))
    return hostile.tiff(entries, (levels | 0xC0).tobytes())


def test_what_pillow_decodes_can_be_written() -> None:
    levels = random_samples(np.uint8, 4, 8) & 15
    pixels = decode(thunderscan(levels))
    assert furthest(pixels, levels * 17) == 0
    assert pixels.flags.writeable


@pytest.mark.parametrize("workers", [1, 4])
def test_pillow_does_not_warn_of_damaged_tags_in_any_number_of_threads(workers: int) -> None:
    data = thunderscan(np.zeros((4, 8), np.uint8), {305: (2, 5000, 60_000)})
    before = list(warnings.filters)
    with ThreadPoolExecutor(workers) as pool:
        for pixels in pool.map(decode, [data] * 40):
            assert pixels.shape == (4, 8)
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="larger than file"), Image.open(io.BytesIO(data)):
        pass  # the file is one that Pillow warns of


def test_a_large_image_is_scaled_and_composited_in_bands_as_at_once() -> None:
    deep = np.random.default_rng(5).integers(0, 65_536, (1500, 900, 4), np.uint16)
    small = np.round(deep / 257)
    done, data = cv2.imencode(".png", deep[..., [2, 1, 0, 3]])
    assert done
    assert furthest(decode(data.tobytes(), TINTED), over(small, TINTED.background)) == 0


def test_offsets_beyond_any_memory_are_errors() -> None:
    for data in (b"II+\0\x08\0\0\0" + b"\xff" * 8, encode(MODES["RGB"], "TIFF", big_tiff=True)[:8] + b"\xfe" * 40):
        with pytest.raises(DecodeError, match=r"ends (early|inside)"):
            read_header(data)
