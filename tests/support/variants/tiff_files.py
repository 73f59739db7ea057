"""TIFF: depths, colors, packings and layouts that the suites name, and what Pillow's libtiff writes."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from support import images, tiffs
from support.tiffs import tiff
from support.variants.common import (
    ALPHA,
    BACKGROUND,
    DEEP,
    GRAY,
    HEIGHT,
    PICTURE,
    RGB,
    RGBA,
    WIDTH,
    File,
    Pixels,
    modes,
)

_WHITE_ZERO, _BLACK_ZERO = 0, 1
_PACKINGS = {
    "raw": tiffs.NONE,
    "lzw": tiffs.LZW,
    "deflate": tiffs.OLD_DEFLATE,
    "adobe deflate": tiffs.DEFLATE,
    "packbits": tiffs.PACKBITS,
    "lzma": tiffs.LZMA,
    "zstd": tiffs.ZSTD,
}
_LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {},
    "one strip": {"rows": HEIGHT},
    "tiles": {"tile": (16, 16)},
    "big-endian strips": {"order": ">"},
    "big-endian tiles": {"order": ">", "tile": (16, 16)},
}
_NO_ALPHA, _PREMULTIPLIED, _STRAIGHT = 0, 1, 2
_EXTRA_SAMPLES, _COLOR_MAP = 338, 320


def _rounded(samples: Pixels, bits: int) -> Pixels:
    return np.floor(samples.astype(np.int64) * 255 / ((1 << bits) - 1) + 0.5)


def _over(levels: Pixels) -> Pixels:
    color, alpha = levels[..., :-1].astype(float), levels[..., -1:].astype(float)
    return np.floor((color * alpha + np.array(BACKGROUND) * (255 - alpha)) / 255 + 0.5)


def _of_bits(bits: int, channels: int = 1) -> Pixels:
    if bits == 16:
        return {1: DEEP[..., :1], 3: DEEP, 4: np.dstack([DEEP, ALPHA.astype(np.uint16) * 257 ^ 5])}[channels]
    picture = {1: GRAY[..., None], 3: RGB, 4: RGBA}[channels]
    return np.floor(picture / 255.0 * ((1 << bits) - 1) + 0.5).astype(np.uint8 if bits <= 8 else np.uint16)


def files() -> dict[str, File]:
    """Every variant by its name."""
    return _grays() | _deep_colors() | _palettes() | _packings() | _extra_samples() | _odd_directories() | _by_pillow()


def _grays() -> dict[str, File]:
    made = {}
    for bits, meaning, reverse, order in product((1, 2, 4, 8, 16), (0, 1), (False, True), "<>"):
        if bits == 16 and meaning == _WHITE_ZERO:
            continue  # below
        samples = _of_bits(bits)[..., 0]
        wanted = _rounded(samples if meaning == _BLACK_ZERO else ((1 << bits) - 1) - samples, bits)
        name = f"gray {bits}{'I' * (not meaning)}{'R' * reverse}{' MM' * (order == '>')}"
        made[name] = File(tiff(samples, meaning, bits=bits, reverse=reverse, order=order), wanted)
    for bits in (10, 12, 14, 16):
        samples = _of_bits(bits)[..., 0]
        made[f"pattern_{bits}uc1"] = File(tiff(samples, _BLACK_ZERO, bits=bits), _rounded(samples, bits))
        inverted = ((1 << bits) - 1) - samples
        made[f"pattern_{bits}uc1, white is zero"] = File(
            tiff(inverted, _WHITE_ZERO, bits=bits), _rounded(samples, bits)
        )
    made["12in16bit"] = File(tiff(DEEP[..., 0] >> 4, _BLACK_ZERO), _rounded(DEEP[..., 0] >> 4, 16))
    return made


def _deep_colors() -> dict[str, File]:
    made = {}
    for bits, channels in product((10, 12, 14, 16), (3, 4)):
        samples = _of_bits(bits, channels)
        levels = _rounded(samples, bits)
        wanted = levels if channels == 3 else _over(levels)
        more = {} if channels == 3 else {_EXTRA_SAMPLES: ("H", [_STRAIGHT])}
        made[f"pattern_{bits}uc{channels}"] = File(tiff(samples, tiffs.RGB, bits=bits, more=more), wanted)
        if bits == 16:
            for planar, (layout, options) in product((1, 2), _LAYOUTS.items()):
                name = f"16 bits of {channels}, planar {planar}, {layout}"
                made[name] = File(tiff(samples, tiffs.RGB, planar=planar, more=more, **options), wanted)
    return made


def _palettes() -> dict[str, File]:
    made = {}
    for bits, (layout, options) in product((1, 2, 4, 8), _LAYOUTS.items()):
        indices = _of_bits(bits)[..., 0]
        colors = np.random.default_rng(bits).integers(0, 65_536, (3, 1 << bits))
        more = {_COLOR_MAP: ("H", colors.ravel().tolist())}
        data = tiff(indices, tiffs.PALETTE, bits=bits, more=more, **options)
        made[f"palette {bits}, {layout}"] = File(data, (colors >> 8).T[indices])
    return made


def _packings() -> dict[str, File]:
    made = {}
    kinds = {"gray": (GRAY, _BLACK_ZERO), "RGB": (RGB, tiffs.RGB)}
    for (packing, code), (kind, (samples, meaning)), (layout, options) in product(
        _PACKINGS.items(), kinds.items(), _LAYOUTS.items()
    ):
        planars = (1,) if kind == "gray" else (1, 2)
        predictors = (1,) if packing in ("raw", "packbits") else (1, 2)
        for planar, predictor in product(planars, predictors):
            data = tiff(samples, meaning, compression=code, planar=planar, predictor=predictor, **options)
            differences = ", differences" * (predictor == 2)
            made[f"{kind} {packing}{differences}, planar {planar}, {layout}"] = File(data, samples)
    return made


def _extra_samples() -> dict[str, File]:
    straight = _over(RGBA)
    premultiplied = RGBA.copy()
    premultiplied[..., :3] = np.minimum(premultiplied[..., :3], premultiplied[..., 3:])
    laid = premultiplied[..., :3] + np.floor(np.array(BACKGROUND) * (255.0 - ALPHA[..., None]) / 255 + 0.5)
    gray = np.dstack([GRAY, ALPHA])
    inks = np.dstack([RGB, GRAY])

    def made(samples: Pixels, meaning: int, extra: list[int] | None, planar: int = 1) -> bytes:
        more = {} if extra is None else {_EXTRA_SAMPLES: ("H", extra)}
        return tiff(samples, meaning, more=more, planar=planar)

    files = {
        "RGB and a sample unsaid": File(made(RGBA, tiffs.RGB, None), straight),
        "gray and a sample unsaid": File(made(gray, _BLACK_ZERO, None), GRAY),
    }
    for planar in (1, 2):
        files |= {
            f"RGBX, planar {planar}": File(made(RGBA, tiffs.RGB, [_NO_ALPHA], planar), RGB),
            f"RGBa, planar {planar}": File(made(premultiplied, tiffs.RGB, [_PREMULTIPLIED], planar), laid),
            f"RGBA, planar {planar}": File(made(RGBA, tiffs.RGB, [_STRAIGHT], planar), straight),
            f"RGBXX, planar {planar}": File(made(np.dstack([RGB, gray]), tiffs.RGB, [0, 0], planar), RGB),
            f"RGBAX, planar {planar}": File(made(np.dstack([RGBA, GRAY]), tiffs.RGB, [2, 0], planar), straight),
            f"RGBAXX, planar {planar}": File(made(np.dstack([RGBA, gray]), tiffs.RGB, [2, 0, 0], planar), straight),
            f"LX, planar {planar}": File(made(gray, _BLACK_ZERO, [_NO_ALPHA], planar), GRAY),
            f"LA, planar {planar}": File(made(gray, _BLACK_ZERO, [_STRAIGHT], planar), _over(gray)),
            f"CMYK, planar {planar}": File(made(inks, tiffs.CMYK, None, planar)),
            f"CMYKX, planar {planar}": File(made(np.dstack([inks, GRAY]), tiffs.CMYK, [0], planar)),
            f"CMYKXX, planar {planar}": File(made(np.dstack([inks, gray]), tiffs.CMYK, [0, 0], planar)),
        }
    return files


def _odd_directories() -> dict[str, File]:
    short_depth = {258: ("H", [8])}
    endless = {278: ("I", [0xFFFFFFFF])}
    rows = [RGB.tobytes()]
    made = {
        "depths of fewer samples": File(tiff(RGB, tiffs.RGB, more=short_depth), RGB),
        "depths of more samples": File(tiff(RGB, tiffs.RGB, more={258: ("H", [8, 8, 8, 8])}), RGB),
        "an endless strip": File(tiff(RGB, tiffs.RGB, packed=rows, more=endless), RGB),
        "planes apart of one sample": File(tiff(GRAY, _BLACK_ZERO, more={284: ("H", [2])}), GRAY),
        "sides as shorts": File(tiff(RGB, tiffs.RGB, more={256: ("H", [WIDTH]), 257: ("H", [HEIGHT])}), RGB),
        "offsets as shorts": File(tiff(RGB, tiffs.RGB, rows=HEIGHT, more={273: ("H", [8])}), RGB),
        "a subfile": File(tiff(RGB, tiffs.RGB, more={254: ("I", [0]), 297: ("H", [0, 0])}), RGB),
        "a private tag": File(tiff(RGB, tiffs.RGB, more={65_000: ("B", [1, 2, 3])}), RGB),
        "RDF": File(tiff(RGB, tiffs.RGB, more={700: ("B", list(b"<rdf:RDF/>"))}), RGB),
    }
    del_rows = tiff(RGB, tiffs.RGB, packed=rows, rows=HEIGHT).replace(b"\x16\x01\4\0", b"\x17\x80\4\0")
    made["no rows per strip"] = File(del_rows, RGB)
    return made | _luma()


def _luma() -> dict[str, File]:
    """JPEGs in strips and tiles, and luma and chroma that nothing packs."""
    made = {}
    padded = np.pad(RGB, ((0, -HEIGHT % 16), (0, -WIDTH % 16), (0, 0)), mode="edge")
    for subsampling, share in ((0, (1, 1)), (1, (2, 1)), (2, (2, 2))):
        for layout in ("strip", "tile"):
            across = 16 if layout == "tile" else WIDTH
            bottom = HEIGHT if layout == "strip" else len(padded)
            parts = [
                Image.fromarray(padded[top : min(top + 16, bottom), left : left + across].copy())
                for top, left in product(range(0, HEIGHT, 16), range(0, WIDTH, across))
            ]
            packed = [images.encode(part, "JPEG", subsampling=subsampling, quality=95) for part in parts]
            tile = (16, 16) if layout == "tile" else None
            options: dict[str, Any] = {"compression": tiffs.JPEG, "rows": 16, "tile": tile, "packed": packed}
            data = tiff(RGB, tiffs.YCBCR, more={530: ("H", list(share))}, **options)
            made[f"{layout}_ycbcr_jpeg_{share[0]}x{share[1]}_sampling"] = File(data)
    jpeg = images.encode(PICTURE, "JPEG", quality=95)
    old = {513: ("I", [8]), 514: ("I", [len(jpeg)]), 530: ("H", [2, 2])}
    made["old-style-jpeg-compression"] = File(
        tiff(RGB, tiffs.YCBCR, compression=6, rows=HEIGHT, packed=[jpeg], more=old)
    )
    return made


def _by_pillow() -> dict[str, File]:
    pictures = modes("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16")
    made = {}
    for mode, picture in pictures.items():
        for compression in ("raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "lzma", "zstd"):
            if (mode, compression == "raw") not in {("YCbCr", False), ("LAB", False)}:
                made[f"mode {mode}, {compression}"] = File(images.encode(picture, "TIFF", compression=compression))
        made[f"mode {mode}, bigtiff"] = File(images.encode(picture, "TIFF", big_tiff=True))
        for turn in range(1, 9):
            made[f"mode {mode}, orientation {turn}"] = File(images.encode(picture, "TIFF", tiffinfo={274: turn}))
    for mode in ("L", "RGB", "CMYK"):
        made[f"mode {mode}, jpeg"] = File(images.encode(pictures[mode], "TIFF", compression="jpeg", quality=95))
    for compression in ("tiff_ccitt", "group3", "group4"):
        for turn in (1, 6):
            options: dict[str, Any] = {"compression": compression, "tiffinfo": {274: turn}}
            made[f"{compression}, orientation {turn}"] = File(images.encode(pictures["1"], "TIFF", **options))
    more = [PICTURE.transpose(Image.Transpose.ROTATE_180), pictures["1"]]
    made["several pages"] = File(images.encode(PICTURE, "TIFF", save_all=True, append_images=more))
    made["a profile"] = File(images.encode(PICTURE, "TIFF", icc_profile=b"of no meaning"))
    made["I;16B"] = File(images.encode(Image.fromarray(DEEP[..., 0].astype(">u2")), "TIFF"))
    return made


def damaged() -> dict[str, bytes]:
    """What has no levels of 8 or 16 bits, or not all of them."""
    whole = tiff(RGB, tiffs.RGB)
    kinds = {"8S": (np.int8, 2), "16S": (np.int16, 2), "32S": (np.int32, 2), "32U": (np.uint32, 1)}
    kinds |= {"32F": (np.float32, 3), "64F": (np.float64, 3), "16F": (np.float16, 3)}
    made = {}
    for name, (dtype, kind) in kinds.items():
        bits = np.dtype(dtype).itemsize * 8
        samples = GRAY.astype(dtype)
        packed = [samples.tobytes()]
        made[name] = tiff(samples, _BLACK_ZERO, bits=bits, rows=HEIGHT, packed=packed, more={339: ("H", [kind])})
    floats = GRAY.astype(np.float32)
    return made | {
        "cut in half": whole[: len(whole) // 2],
        "no width": tiff(RGB, tiffs.RGB, more={256: ("I", [0])}),
        "fewer strips than rows need": tiff(RGB, tiffs.RGB, more={257: ("I", [HEIGHT * 2])}),
        "webp in strips": tiff(RGB, tiffs.RGB, compression=50_001),
        "SGILOG": tiff(RGB, 32_845, compression=34_676),
        "differences of floats": tiff(
            floats, _BLACK_ZERO, bits=32, predictor=3, compression=8, rows=HEIGHT, packed=[b"x"], more={339: ("H", [3])}
        ),
    }
