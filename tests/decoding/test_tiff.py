"""TIFF: every layout and compression has Pillow's pixels, and nothing that is damaged or missing is stored."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from support import tiffs
from support.images import furthest
from support.tiffs import GRAY, PALETTE, RGB, Pixels, saved, tiff

from arraystore._decoding.codecs import decode_any
from arraystore._decoding.header import read_header
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

HEIGHT, WIDTH = 37, 53
WHITE = ImageSpec(size=8)
TINTED = ImageSpec(size=8, background=(200, 13, 90))
PACKINGS = {
    "none": tiffs.NONE,
    "lzw": tiffs.LZW,
    "deflate": tiffs.DEFLATE,
    "old deflate": tiffs.OLD_DEFLATE,
    "packbits": tiffs.PACKBITS,
    "lzma": tiffs.LZMA,
    "zstd": tiffs.ZSTD,
}


def decode(data: bytes | bytearray, spec: ImageSpec = WHITE) -> Pixels:
    return decode_any(data, read_header(data), spec)


def of_pillow(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I;16"):
            return np.round(np.asarray(image) / 257)
        return np.asarray(image.convert("RGB"))


def picture(channels: int, bits: int = 8) -> Pixels:
    """Samples of a picture that packs well in places and badly in others."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [(columns * (3 + k) + rows * (5 - k)) << 3 for k in range(channels)]
    levels = np.stack(planes, axis=-1)
    levels[:, 20:30] = 700
    levels[5:9] = np.random.default_rng(4).integers(0, 1 << 16, levels[5:9].shape)
    return (levels & (1 << bits) - 1).astype(np.uint8 if bits <= 8 else np.uint16)


# --- every layout -----------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {},
    "one strip": {"rows": HEIGHT},
    "strips of a row": {"rows": 1},
    "tiles": {"tile": (16, 32)},
    "one tile": {"tile": (64, 64)},
    "big endian": {"order": ">"},
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_layouts_of_eight_bits(packing: str, channels: int) -> None:
    samples = picture(channels)
    wanted = samples[..., 0] if channels == 1 else samples
    for layout, planar in product(LAYOUTS, (1, 2)):
        options = {"compression": PACKINGS[packing], "planar": planar, **LAYOUTS[layout]}
        data = tiff(samples, GRAY if channels == 1 else RGB, **options)
        assert furthest(decode(data), wanted) == 0, (layout, planar)
        assert furthest(of_pillow(data), wanted) == 0, (layout, planar)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_layouts_of_sixteen_bits(packing: str, channels: int) -> None:
    samples = picture(channels, 16)
    wanted = np.round(samples[..., 0] / 257) if channels == 1 else np.round(samples / 257)
    for layout, planar in product(LAYOUTS, (1, 2)):
        options = {"compression": PACKINGS[packing], "planar": planar, **LAYOUTS[layout]}
        data = tiff(samples, GRAY if channels == 1 else RGB, **options)
        assert furthest(decode(data), wanted) == 0, (layout, planar)


@pytest.mark.parametrize("packing", [name for name in PACKINGS if name not in ("none", "packbits")])
@pytest.mark.parametrize("bits", [8, 16])
def test_differences_are_added_up(packing: str, bits: int) -> None:
    samples = picture(3, bits)
    for layout, planar in product(LAYOUTS, (1, 2)):
        options = {"compression": PACKINGS[packing], "planar": planar, "predictor": 2, **LAYOUTS[layout]}
        data = tiff(samples, RGB, **options)
        assert furthest(decode(data), samples if bits == 8 else np.round(samples / 257)) == 0, (layout, planar)
        if bits == 8:
            assert furthest(of_pillow(data), samples) == 0, (layout, planar)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1])
def test_gray_of_any_number_of_bits(bits: int, photometric: int) -> None:
    levels = picture(1, bits)[..., 0]
    full = (1 << bits) - 1
    wanted = np.floor((levels if photometric else full - levels) / full * 255 + 0.5)
    for layout, options in LAYOUTS.items():
        data = tiff(levels, photometric, bits=bits, compression=tiffs.LZW, **options)
        assert furthest(decode(data), wanted) == 0, layout
        if bits in (1, 2, 4) and "tile" not in layout:
            assert furthest(of_pillow(data), wanted) == 0, layout


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_any_number_of_bits(bits: int) -> None:
    indices = picture(1, bits)[..., 0]
    colors = np.random.default_rng(bits).integers(0, 65_536, (3, 1 << bits))
    for layout, options in LAYOUTS.items():
        data = tiff(indices, PALETTE, bits=bits, more={320: ("H", colors.ravel().tolist())}, **options)
        assert furthest(decode(data), (colors >> 8).T[indices]) == 0, layout
        if bits > 1 or "tile" not in layout:
            assert furthest(of_pillow(data), (colors >> 8).T[indices]) == 0, layout


def test_a_palette_of_eight_bits_is_taken_as_it_is() -> None:
    indices, colors = picture(1)[..., 0], np.random.default_rng(1).integers(0, 256, (3, 256))
    data = tiff(indices, PALETTE, more={320: ("H", colors.ravel().tolist())})
    assert furthest(decode(data), colors.T[indices]) == 0


def test_a_palette_that_is_too_short_is_an_error() -> None:
    with pytest.raises(DecodeError, match="a palette of 30 numbers, where 8 bits need 768"):
        decode(tiff(picture(1), PALETTE, more={320: ("H", [7] * 30)}))


@pytest.mark.parametrize("packing", PACKINGS)
def test_bits_in_reverse(packing: str) -> None:
    data = tiff(picture(3), RGB, compression=PACKINGS[packing], reverse=True)
    assert furthest(decode(data), picture(3)) == 0


@pytest.mark.parametrize("extra", [None, 0, 1, 2])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_beside_the_color_are_what_their_tag_says(
    extra: int | None, planar: int, bits: int, channels: int
) -> None:
    samples = picture(channels + 1, bits)
    if extra == 1:
        samples[..., :-1] = np.minimum(samples[..., :-1], samples[..., -1:])
    more = {} if extra is None else {338: ("H", [extra])}
    data = tiff(samples, GRAY if channels == 1 else RGB, planar=planar, more=more, compression=tiffs.DEFLATE)
    small = np.round(samples / (1 if bits == 8 else 257))
    tint, alpha = np.array(TINTED.background), small[..., -1:]
    straight = np.floor((small[..., :-1] * alpha + tint * (255 - alpha)) / 255 + 0.5)
    wanted = {
        0: small[..., :-1],
        1: small[..., :-1] + np.round(tint * (255 - alpha) / 255),
        2: straight,
        None: straight if channels == 3 else small[..., :-1],
    }[extra]
    wanted = wanted if wanted.shape[-1] == 3 else wanted[..., 0]
    assert furthest(decode(data, TINTED), wanted) == 0


def test_more_samples_than_the_color_are_left_out() -> None:
    samples = picture(6)
    for count in (5, 6):
        data = tiff(samples[..., :count], RGB, more={338: ("H", [0] * (count - 3))})
        assert furthest(decode(data), samples[..., :3]) == 0
        assert furthest(of_pillow(data), samples[..., :3]) == 0
    data = tiff(samples[..., :5], tiffs.CMYK, more={338: ("H", [0])})
    assert furthest(decode(data), of_pillow(data)) == 0


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("packing", PACKINGS)
def test_inks_are_those_of_pillow(planar: int, packing: str) -> None:
    samples = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    data = tiff(samples, tiffs.CMYK, planar=planar, compression=PACKINGS[packing])
    assert furthest(decode(data), of_pillow(data)) == 0


def test_a_palette_with_alpha() -> None:
    samples, colors = picture(2, 4), np.random.default_rng(1).integers(0, 65_536, (3, 16))
    data = tiff(samples, PALETTE, bits=4, more={320: ("H", colors.ravel().tolist()), 338: ("H", [2])})
    alpha, tint = samples[..., 1:] * 17.0, np.array(TINTED.background)
    wanted = np.floor(((colors >> 8).T[samples[..., 0]] * alpha + tint * (255 - alpha)) / 255 + 0.5)
    assert furthest(decode(data, TINTED), wanted) == 0


# --- luma and chroma, CIELab ------------------------------------------------------------------------------------------


def units(samples: Pixels, across: int, down: int) -> bytes:
    """Luma of some pixels, and the chroma of the first of them, one unit after the other."""
    height, width = samples.shape[:2]
    padded = np.pad(samples, ((0, -height % down), (0, -width % across), (0, 0)))
    return b"".join(
        padded[top : top + down, left : left + across, 0].tobytes() + padded[top, left, 1:].tobytes()
        for top in range(0, padded.shape[0], down)
        for left in range(0, padded.shape[1], across)
    )


@pytest.mark.parametrize("packing", ["lzw", "deflate"])
@pytest.mark.parametrize(("across", "down"), [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (1, 2)])
@pytest.mark.parametrize(
    "more", [{}, {532: ("R", [16, 235, 128, 240, 128, 240])}, {529: ("R", [0.2126, 0.7152, 0.0722])}]
)
def test_luma_and_chroma_are_those_of_libtiff(packing: str, across: int, down: int, more: dict[int, Any]) -> None:
    samples = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    rows = 8
    packed = [
        tiffs.pack(units(samples[top : top + rows], across, down), PACKINGS[packing], 1)
        for top in range(0, HEIGHT, rows)
    ]
    more = more | {530: ("H", [across, down])}
    data = tiff(samples, tiffs.YCBCR, compression=PACKINGS[packing], rows=rows, packed=packed, more=more)
    assert furthest(decode(data), of_pillow(data)) == 0


EXACTLY = 0x0100  # cmsFLAGS_NOOPTIMIZE: Pillow's usual conversion interpolates in a grid, and is up to 38 levels off


def test_cielab_is_that_of_color_management() -> None:
    lab = Image.fromarray(np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).convert("LAB")
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    exact = ImageCms.applyTransform(lab, ImageCms.buildTransform(*profiles, "LAB", "RGB", flags=EXACTLY))
    assert furthest(decode(saved(lab)), np.asarray(exact)) <= 1
    gray = saved(Image.new("LAB", (5, 4), (128, 128, 128)))
    assert decode(gray)[0, 0].tolist() == [119, 119, 119]


# --- what libtiff writes ----------------------------------------------------------------------------------------------

COMPRESSIONS = ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd", "jpeg"]
FAXES: dict[str, dict[str, Any]] = {
    "runs": {"compression": "tiff_ccitt"},
    "group 3": {"compression": "group3"},
    "group 3 in two dimensions": {"compression": "group3", "tiffinfo": {292: 1}},
    "group 3 with whole bytes": {"compression": "group3", "tiffinfo": {292: 4}},
    "group 3 in two dimensions with whole bytes": {"compression": "group3", "tiffinfo": {292: 5}},
    "group 4": {"compression": "group4"},
}


def _strips(data: bytes) -> Iterator[tuple[int, int]]:
    with Image.open(io.BytesIO(data)) as image:
        yield from zip(image.tag_v2[273], image.tag_v2[279], strict=True)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "RGBA", "LA", "I;16"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_pillow_writes(mode: str, compression: str) -> None:
    if compression == "jpeg" and mode not in ("RGB", "L", "CMYK"):
        return  # libtiff does not write them
    image = Image.fromarray(picture(3)).convert("L" if mode == "I;16" else mode)
    image = Image.fromarray(picture(1, 16)[..., 0]) if mode == "I;16" else image
    data = saved(image, compression=compression)
    assert furthest(decode(data), of_pillow(data)) == 0


def fax_pictures() -> Iterator[Pixels]:
    rng = np.random.default_rng(9)
    for width, height in [(1, 1), (7, 3), (8, 8), (53, 37), (2700, 9), (3000, 40)]:
        for share in (0.0, 0.02, 0.3, 0.5, 0.98, 1.0):
            yield rng.random((height, width)) < share
        # Runs of any length, and rows that are like the one above.
        ends = np.cumsum(rng.integers(1, max(width // 3, 2), 64))
        row = np.searchsorted(ends, np.arange(width)) & 1
        yield np.stack([np.roll(row, shift) for shift in rng.integers(-4, 5, height)]).astype(bool)


@pytest.mark.parametrize("kind", FAXES)
def test_faxes_are_those_of_pillow(kind: str) -> None:
    for picture_of_bits in fax_pictures():
        data = saved(Image.fromarray(picture_of_bits), **FAXES[kind])
        assert furthest(decode(data), picture_of_bits * 255) == 0


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("reverse", [False, True])
def test_faxes_with_either_meaning_and_order_of_bits(photometric: int, *, reverse: bool) -> None:
    bits = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.2
    good = saved(Image.fromarray(bits), compression="group4")
    ((at, count),) = _strips(good)
    packed = [good[at : at + count]]
    options = {"bits": 1, "compression": tiffs.FAX_4, "rows": HEIGHT, "packed": packed, "reverse": reverse}
    data = tiff(bits.astype(np.uint8), photometric, **options)
    assert furthest(decode(data), (bits if photometric else ~bits) * 255) == 0
    assert furthest(of_pillow(data), (bits if photometric else ~bits) * 255) == 0


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("photometric", [RGB, tiffs.YCBCR])
@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_jpegs_in_strips_and_tiles(subsampling: int, photometric: int, layout: str) -> None:
    samples = picture(3)
    side = 16 if layout == "strips" else 32
    tile = None if layout == "strips" else (16, 32)
    padded = np.pad(samples, ((0, -HEIGHT % 16), (0, -WIDTH % 32), (0, 0)), mode="edge")
    columns = WIDTH if tile is None else side
    parts = [
        padded[top : min(top + 16, HEIGHT if tile is None else 999), left : left + columns]
        for top in range(0, HEIGHT, 16)
        for left in range(0, WIDTH, columns)
    ]
    packed = []
    for part in parts:
        with io.BytesIO() as file:
            Image.fromarray(np.ascontiguousarray(part)).save(file, "JPEG", subsampling=subsampling, quality=90)
            packed.append(file.getvalue())
    more = {530: ("H", [(1, 1), (2, 1), (2, 2)][subsampling])} if photometric == tiffs.YCBCR else {}
    data = tiff(samples, photometric, compression=tiffs.JPEG, rows=16, tile=tile, packed=packed, more=more)
    if photometric == tiffs.YCBCR or subsampling == 0:  # libtiff refuses the others
        assert furthest(decode(data), of_pillow(data)) == 0


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_as_stored_in_every_orientation(orientation: int, *, big: bool) -> None:
    image = Image.fromarray(picture(3))
    data = saved(image, compression="tiff_lzw", tiffinfo={274: orientation}, big_tiff=big)
    assert furthest(decode(data), picture(3)) == 0
    assert read_header(data).orientation == orientation


def test_old_lzw_has_the_bits_in_reverse() -> None:
    samples = picture(3)
    packed = [tiffs.lzw(samples[top : top + 7].tobytes(), old=True) for top in range(0, HEIGHT, 7)]
    data = tiff(samples, RGB, compression=tiffs.LZW, packed=packed)
    assert furthest(decode(data), samples) == 0
    assert furthest(of_pillow(data), samples) == 0


def test_lzw_of_a_strip_that_fills_the_table_many_times() -> None:
    samples = np.random.default_rng(5).integers(0, 256, (200, 300, 3), np.uint8)
    for old in (False, True):
        packed = [tiffs.lzw(samples.tobytes(), old=old)]
        data = tiff(samples, RGB, compression=tiffs.LZW, rows=200, packed=packed)
        assert furthest(decode(data), samples) == 0


@pytest.mark.parametrize("packing", ["lzw", "deflate", "packbits", "lzma"])
def test_a_last_strip_may_be_filled_up(packing: str) -> None:
    samples = picture(3)
    filled = np.pad(samples, ((0, 5), (0, 0), (0, 0)))
    packed = [tiffs.pack(filled[top : top + 7].tobytes(), PACKINGS[packing], WIDTH * 3) for top in range(0, HEIGHT, 7)]
    data = tiff(samples, RGB, compression=PACKINGS[packing], packed=packed)
    assert furthest(decode(data), samples) == 0
    assert furthest(of_pillow(data), samples) == 0


def test_counts_of_unpacked_strips_are_not_needed() -> None:
    data = bytearray(tiff(picture(3), RGB))
    at = data.index(struct.pack("<HHI", 279, 4, 6))
    data[at : at + 2] = struct.pack("<H", 280)
    assert furthest(decode(data), picture(3)) == 0


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [0, 9, 10, 33_003, 33_005, 34_712, 34_892, 50_001, 50_002, 50_013, 65_535])
def test_a_compression_that_is_not_known_is_named(compression: int) -> None:
    with pytest.raises(DecodeError, match=f"compression {compression} is not supported; save it again") as caught:
        decode(tiff(picture(3), RGB, compression=compression))
    assert caught.value.kind is Kind.UNSUPPORTED


@pytest.mark.parametrize("packing", [name for name in PACKINGS if name != "none"])
@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("damage", ["zeros", "cut", "empty", "noise"])
def test_a_damaged_part_is_an_error_that_names_it(packing: str, layout: str, damage: str) -> None:
    samples, count = picture(3), 6

    def gather(parts: list[bytes]) -> bytes:
        return tiff(samples, RGB, compression=PACKINGS[packing], packed=parts, **LAYOUTS[layout])

    tile = LAYOUTS[layout].get("tile")
    parts = tiffs.parts(samples, 1, tile, 7)
    packed = [tiffs.pack(part.tobytes(), PACKINGS[packing], part[0].size) for part in parts]
    assert furthest(decode(gather(packed)), samples) == 0
    at = count // 2
    packed[at] = {
        "zeros": bytes(len(packed[at])),
        "cut": packed[at][: len(packed[at]) // 2],
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(len(packed[at]) // 4),
    }[damage]
    name = "tile" if tile else "strip"
    with pytest.raises(DecodeError, match=f"the tiff is damaged at {name} {at + 1}: ") as caught:
        decode(gather(packed))
    assert caught.value.kind is Kind.DAMAGED


@pytest.mark.parametrize("kind", FAXES)
@pytest.mark.parametrize("damage", ["zeros", "cut", "empty"])
def test_a_damaged_fax_is_an_error(kind: str, damage: str) -> None:
    bits = np.random.default_rng(1).random((400, 300)) < 0.1
    data = bytearray(saved(Image.fromarray(bits), **FAXES[kind]))
    at, count = next(_strips(bytes(data)))
    if damage == "zeros":
        data[at + count // 2 : at + count // 2 + 40] = bytes(40)
    else:
        where = data.index(struct.pack("<HHI", 279, 4, 1)) + 8
        data[where : where + 4] = struct.pack("<I", count // 2 if damage == "cut" else 0)
    with pytest.raises(DecodeError, match="the tiff is damaged at strip 1: "):
        decode(data)


@pytest.mark.parametrize("damage", ["zeros", "cut", "size"])
def test_a_damaged_jpeg_in_a_strip_is_an_error(damage: str) -> None:
    data = bytearray(saved(Image.fromarray(picture(3)), compression="jpeg"))
    at, count = next(_strips(bytes(data)))
    if damage == "zeros":
        data[at + count // 2 : at + count - 2] = bytes(count - count // 2 - 2)
    elif damage == "cut":
        data[at + count - 40 : at + count] = b"\xff\xd9" * 20
    else:
        frame = data.index(b"\xff\xc0", at)
        data[frame + 5 : frame + 7] = b"\0\x09"
    with pytest.raises(DecodeError, match="the tiff is damaged at strip 1: "):
        decode(data)


@pytest.mark.parametrize("height", [HEIGHT + 6, HEIGHT * 2, 1_000, 100_000])
def test_fewer_strips_than_rows_need_are_an_error(height: int) -> None:
    data = bytearray(tiff(picture(3), RGB))
    where = data.index(struct.pack("<HHI", 257, 4, 1)) + 8
    data[where : where + 4] = struct.pack("<I", height)
    needed = -(-height // 7)
    with pytest.raises(DecodeError, match=f"the tiff has 6 of the {needed:,} strips that its {height:,} rows need"):
        decode(data)


@pytest.mark.parametrize("planar", [1, 2])
def test_fewer_tiles_than_the_image_needs_are_an_error(planar: int) -> None:
    data = bytearray(tiff(picture(3), RGB, tile=(16, 32), planar=planar))
    where = data.index(struct.pack("<HHI", 256, 4, 1)) + 8
    data[where : where + 4] = struct.pack("<I", WIDTH + 32)
    with pytest.raises(
        DecodeError, match=f"the tiff has {6 * (1, 3)[planar - 1]} of the .* tiles that its 37 rows need"
    ):
        decode(data)


def test_fewer_planes_than_samples_are_an_error() -> None:
    samples = picture(3)
    packed = [samples[..., plane].tobytes() for plane in range(2)]
    with pytest.raises(DecodeError, match="the tiff has 2 of the 3 strips"):
        decode(tiff(samples, RGB, planar=2, rows=HEIGHT, packed=packed))


def test_fewer_samples_than_the_color_has_are_an_error() -> None:
    with pytest.raises(DecodeError, match="the tiff has 2 samples a pixel, where its colors have 3"):
        decode(tiff(picture(2), RGB))


def test_a_strip_beyond_the_file_is_an_error() -> None:
    data = bytearray(tiff(picture(3), RGB, compression=tiffs.LZW))
    where = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 273, 4, 6)) + 8)[0]
    struct.pack_into("<I", data, where + 8, len(data) - 3)
    with pytest.raises(DecodeError, match=r"the tiff ends early: its strip 3 of 6 lies beyond") as caught:
        decode(data)
    assert caught.value.kind is Kind.ENDS_EARLY


@pytest.mark.parametrize("kind", [0, 3, 513])
def test_planes_of_another_kind_are_an_error(kind: int) -> None:
    with pytest.raises(DecodeError, match=f"the tiff is damaged: it has planes of the kind {kind}"):
        decode(tiff(picture(3), RGB, more={284: ("H", [kind])}))


@pytest.mark.parametrize("tag", [257, 259, 262, 277, 278, 284])
def test_tags_of_one_value_have_one(tag: int) -> None:
    data = bytearray(tiff(picture(3), RGB))
    at = data.index(struct.pack("<HH", tag, 4 if tag in (257, 278) else 3), 8 + HEIGHT * WIDTH * 3)
    data[at + 4 : at + 8] = struct.pack("<I", 2)
    with pytest.raises(DecodeError, match=f"its tag {tag} has 2 values, where one belongs") as caught:
        read_header(data)
    assert caught.value.kind is Kind.DAMAGED


def test_a_directory_that_is_not_whole_is_an_error() -> None:
    data = tiff(picture(1), GRAY)
    with pytest.raises(DecodeError, match="its directory is not whole"):
        read_header(data[: HEIGHT * WIDTH + 100])


def test_strips_that_begin_behind_the_file_are_an_error_whether_or_not_their_length_is_said() -> None:
    data = bytearray(tiff(picture(1), GRAY, compression=tiffs.LZW, rows=HEIGHT))
    at = data.index(struct.pack("<HHI", 273, 4, 1)) + 8
    data[at : at + 4] = struct.pack("<I", len(data) + 10)
    counts = data.index(struct.pack("<HHI", 279, 4, 1))
    for tag in (279, 280):
        data[counts : counts + 2] = struct.pack("<H", tag)
        with pytest.raises(DecodeError, match="its strip 1 of 1 lies beyond"):
            decode(data)


@pytest.mark.parametrize(("kind", "fails"), [(4, False), (99, True)])
def test_lengths_of_packed_strips_may_be_missing_in_a_directory_without_faults(kind: int, *, fails: bool) -> None:
    data = bytearray(tiff(picture(1), GRAY, compression=tiffs.LZW, rows=HEIGHT))
    counts = data.index(struct.pack("<HHI", 279, 4, 1))
    data[counts : counts + 4] = struct.pack("<HH", 280, kind)
    if fails:
        with pytest.raises(DecodeError, match="it does not say how long its strips are"):
            decode(data)
    else:
        assert furthest(decode(data), picture(1)[..., 0]) == 0


def test_millions_of_tiny_parts_are_refused() -> None:
    data = tiff(np.zeros((1000, 1000), np.uint8), GRAY, tile=(1, 1), packed=[b"\0"] * 1_000_000)
    with pytest.raises(DecodeError, match="1,000,000 tiles for 1000 x 1000 pixels") as caught:
        decode(data)
    assert caught.value.kind is Kind.TOO_LARGE


@pytest.mark.parametrize(("name", "missed"), [("lzw", 0), ("deflate", 0), ("packbits", 0), ("group4", 0), ("jpeg", 0)])
def test_all_damage_that_libtiff_reports_is_reported(name: str, missed: int) -> None:
    """A good file whose bytes are lost in 32 places each, and many whose bits flip."""
    rng = random.Random(name)
    image = Image.fromarray(np.kron(picture(3), np.ones((4, 4, 1), np.uint8)))
    image = image.convert("1") if name == "group4" else image
    good = saved(image, compression={"lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate"}.get(name, name))
    strips = list(_strips(good))
    reported = stored = 0
    for number in range(300):
        data = bytearray(good)
        at, count = strips[rng.randrange(len(strips))]
        place = at + rng.randrange(count)
        if number % 3:
            data[place] ^= 1 << rng.randrange(8)
        else:
            data[place : place + 32] = bytes(32)
        try:
            of_pillow(bytes(data))
        except OSError:
            reported += 1
            try:
                decode(data)
                stored += 1
            except DecodeError:
                pass
    assert reported > {"lzw": 100, "deflate": 100, "packbits": 0, "group4": 0, "jpeg": -1}[name]
    assert stored == missed
