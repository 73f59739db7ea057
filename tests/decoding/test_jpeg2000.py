"""JPEG 2000: every kind that Pillow writes has its pixels, and palettes have their colors."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from arraystore._decoding.codecs import decode_any
from arraystore._decoding.header import read_header
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

Pixels = npt.NDArray[Any]
WHITE, TINTED = ImageSpec(size=8), ImageSpec(size=8, background=(200, 13, 90))
RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (30, 40, 3), np.uint8)
INDICES = RNG.integers(0, 8, (30, 40), np.uint8)
COLORS = RNG.integers(0, 256, (8, 4), np.uint8)
_GRAY, _SRGB, _CMYK, _SYCC = 17, 16, 12, 18


def saved(image: Image.Image, **options: Any) -> bytes:
    with io.BytesIO() as file:
        image.save(file, "JPEG2000", **options)
        return file.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def with_palette(
    colors: Pixels, order: list[int], *, space: int = _SRGB, depth: int = 7, mapping: int = 1, cut: int = 0
) -> bytes:
    """A JP2 whose one component holds indices."""
    data = saved(Image.fromarray(INDICES))
    at = data.index(b"jp2h") - 4
    (size,) = struct.unpack_from(">I", data, at)
    head = data[at + 8 : at + size].replace(struct.pack(">BBBI", 1, 0, 0, _GRAY), struct.pack(">BBBI", 1, 0, 0, space))
    body = struct.pack(">HB", *colors.shape) + bytes([depth] * colors.shape[1]) + colors.tobytes()
    palette = box(b"pclr", body[: len(body) - cut])
    mapped = box(b"cmap", b"".join(struct.pack(">HBB", 0, mapping, column) for column in order))
    return data[:at] + box(b"jp2h", head + palette + mapped) + data[at + size :]


def decode(data: bytes, spec: ImageSpec = WHITE) -> Pixels:
    return decode_any(data, read_header(data), spec)


def of_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr"])
@pytest.mark.parametrize(
    "options",
    [
        {"irreversible": True},
        {"tile_size": (16, 16)},
        {"num_resolutions": 1},
        {"num_resolutions": 3, "progression": "RPCL"},
        {"quality_mode": "rates", "quality_layers": [20]},
        {"mct": 0},
        {"codeblock_size": (4, 4)},
        {"precinct_size": (32, 32)},
    ],
    ids=str,
)
def test_what_pillow_writes(mode: str, options: dict[str, Any]) -> None:
    data = saved(Image.fromarray(RGB).convert(mode), **options)
    pixels = decode(data)
    wanted = of_pillow(data)
    assert np.array_equal(np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels, wanted)


def test_a_palette_gives_colors() -> None:
    data = with_palette(COLORS[:, :3], [0, 1, 2])
    assert np.array_equal(decode(data), COLORS[INDICES, :3])
    assert np.array_equal(of_pillow(data), COLORS[INDICES, :3])


def test_a_palette_in_another_order() -> None:
    assert np.array_equal(decode(with_palette(COLORS[:, :3], [2, 0, 1])), COLORS[INDICES][..., [2, 0, 1]])


def test_a_palette_of_gray() -> None:
    assert np.array_equal(decode(with_palette(COLORS[:, :1], [0], space=_GRAY)), COLORS[INDICES, 0])


def test_a_palette_with_alpha() -> None:
    color, alpha = COLORS[INDICES, :3].astype(float), COLORS[INDICES, 3:].astype(float)
    wanted = np.floor((color * alpha + np.array(TINTED.background) * (255 - alpha)) / 255 + 0.5)
    assert np.array_equal(decode(with_palette(COLORS, [0, 1, 2, 3]), TINTED), wanted)


@pytest.mark.parametrize("bare", [False, True])
def test_a_codestream_without_its_end_is_an_error(*, bare: bool) -> None:
    data = saved(Image.fromarray(RGB), no_jp2=bare)
    for changed in (data[:-2] + b"\xff\x59", data[:-2] + b"\xfd\xd9"):
        with pytest.raises(DecodeError, match="the jp2 ends early: it has no end marker") as caught:
            decode(changed)
        assert caught.value.kind is Kind.ENDS_EARLY
    assert np.array_equal(decode(data + bytes(1000)), decode(data))


def test_headers_that_contradict_each_other_are_an_error() -> None:
    data = bytearray(saved(Image.fromarray(RGB)))
    data[data.index(b"ihdr") + 13] = 4
    with pytest.raises(DecodeError, match="the jp2 header says 4 samples a pixel, its codestream has 3"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"colors": COLORS[:5, :3]}, "its pixels name colors that its palette of 5 has not"),
        ({"colors": COLORS[:, :3], "cut": 4}, "the jp2 has a damaged palette"),
        ({"colors": COLORS[:, :3], "depth": 11}, "a palette that is not one of RGB with 8 bits"),
        ({"colors": COLORS[:, :3], "mapping": 0}, "a palette that is not one of RGB with 8 bits"),
        ({"colors": COLORS[:, :2]}, "a palette that is not one of RGB with 8 bits"),
        ({"colors": COLORS, "space": _CMYK}, "a palette that is not one of RGB with 8 bits"),
        ({"colors": COLORS[:, :3], "space": _SYCC}, "a palette that is not one of RGB with 8 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_palettes_that_are_damaged_or_rare_are_errors(options: dict[str, Any], reason: str) -> None:
    data = with_palette(order=[0, 1, 2], **options)
    with pytest.raises(DecodeError, match=reason) as caught:
        decode(data)
    assert caught.value.kind in (Kind.DAMAGED, Kind.UNSUPPORTED)


@pytest.mark.parametrize("bits", [1, 4, 8, 9, 12, 15, 16])
def test_of_signed_samples_the_lowest_is_black_and_the_largest_white(bits: int) -> None:
    """A signed sample is packed as an unsigned one less the middle of the range."""
    stored = 8 if bits <= 8 else 16
    levels = RNG.integers(0, 1 << bits, (30, 40))
    levels[0, :2] = 0, (1 << bits) - 1
    middle = (1 << stored - 1) - (1 << bits - 1)
    data = bytearray(saved(Image.fromarray((levels + middle).astype(f"u{stored // 8}")), no_jp2=True))
    for sign in (0, 0x80):
        data[42] = sign | bits - 1
        np.testing.assert_array_equal(decode(bytes(data)), np.floor(levels * 255 / ((1 << bits) - 1) + 0.5))


@pytest.mark.parametrize(
    "depths", [[8, 8, 8, 1], [8, 1], [1, 8], [5, 6, 5], [8, 4, 2], [4, 4, 4, 8], [1, 2, 3, 7]], ids=str
)
@pytest.mark.parametrize("boxes", [False, True])
def test_components_of_different_depths_are_each_scaled_by_its_own(depths: list[int], *, boxes: bool) -> None:
    levels = np.dstack([RNG.integers(0, 1 << bits, (30, 40)) for bits in depths])
    middles = [128 - (1 << bits - 1) for bits in depths]
    mode = {2: "LA", 3: "RGB", 4: "RGBA"}[len(depths)]
    image = Image.frombytes(mode, (40, 30), (levels + middles).astype(np.uint8).tobytes())
    options = {} if mode == "LA" else {"mct": 0}
    data = bytearray(saved(image, no_jp2=not boxes, **options))
    size = data.index(b"\xff\x4f\xff\x51") + 42
    for number, bits in enumerate(depths):
        data[size + 3 * number] = bits - 1
    scaled = np.floor(levels * 255 / ((1 << np.array(depths)) - 1) + 0.5)
    if len(depths) != 3:
        color, alpha = scaled[..., :-1], scaled[..., -1:]
        scaled = np.floor((color * alpha + np.array(TINTED.background) * (255 - alpha)) / 255 + 0.5)
    np.testing.assert_array_equal(decode(bytes(data), TINTED), scaled)


def test_a_tile_that_ends_inside_its_own_header_is_an_error() -> None:
    """Its header would be read again and again, a million times, with the counting of its blocks each time."""
    data = saved(Image.fromarray(RGB), no_jp2=True)
    tile, style = data.index(b"\xff\x90"), data.index(b"\xff\x52")
    (length,) = struct.unpack_from(">H", data, style + 2)
    again = data[style : style + 2 + length]
    short = data[: tile + 6] + struct.pack(">I", 14) + data[tile + 10 : tile + 12] + again + data[tile + 12 :]
    with pytest.raises(DecodeError, match="the jp2 has a tile that ends inside its own header"):
        read_header(short)
    good = data[: tile + 6] + struct.pack(">I", 0) + data[tile + 10 : tile + 12] + again + data[tile + 12 :]
    assert read_header(good).width == 40


def test_coding_styles_without_an_end_are_an_error() -> None:
    data = saved(Image.fromarray(RGB), no_jp2=True)
    at = data.index(b"\xff\x52")
    (length,) = struct.unpack_from(">H", data, at + 2)
    style = data[at : at + 2 + length]
    assert read_header(data[:at] + style * 99 + data[at:]).width == 40
    with pytest.raises(DecodeError, match="the jp2 has more than 32,768 coding styles") as caught:
        read_header(data[:at] + style * 32_768 + data[at:])
    assert caught.value.kind is Kind.TOO_LARGE
