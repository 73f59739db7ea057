"""PNG: the files of PngSuite by their names there, and what Pillow's suite adds."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from support import images, pngs
from support.pngs import GRAY, GRAY_ALPHA, KINDS, PALETTE, RGB, RGB_ALPHA, chunk, head_of, png_of, samples_of
from support.variants.common import BACKGROUND, HEIGHT, PICTURE, WIDTH, File, modes

_LETTERS = {GRAY: "0g", RGB: "2c", PALETTE: "3p", GRAY_ALPHA: "4a", RGB_ALPHA: "6a"}
_SIZES = (*range(1, 10), *range(32, 41))


def _made(
    kind: int, depth: int, *, trns: list[int] | None = None, extra: bytes = b"", height: int = HEIGHT, **options: Any
) -> File:
    samples = samples_of(kind, depth, height, options.pop("width", WIDTH))
    data = png_of(samples, kind, depth, before=extra + head_of(kind, depth, trns), **options)
    return File(data, pngs.wanted(samples, kind, depth, trns, np.array(BACKGROUND)))


def _transparent(kind: int, depth: int) -> list[int]:
    levels: list[int] = samples_of(kind, depth, HEIGHT, WIDTH)[3, 4].tolist()
    return [0, 77, 255, 128][: 1 << depth] if kind == PALETTE else levels


_WHITE_POINT = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
_PALETTE = b"\0".join([b"name", b"\x08" + bytes([1, 2, 3, 255, 0, 9])])
OTHER_CHUNKS: dict[str, tuple[int, int, bytes]] = {
    **{f"bgbn{letters}": (kind, depth, chunk(b"bKGD", body)) for letters, kind, depth, body in [
        ("4a08", GRAY_ALPHA, 8, b"\0\7"), ("4a16", GRAY_ALPHA, 16, b"\7\7"),
        ("6a08", RGB_ALPHA, 8, bytes(6)), ("6a16", RGB_ALPHA, 16, b"\xff" * 6),
    ]},
    "ccwn2c08": (RGB, 8, chunk(b"cHRM", _WHITE_POINT)),
    "ccwn3p08": (PALETTE, 8, chunk(b"cHRM", _WHITE_POINT)),
    **{f"cd{unit}n2c08": (RGB, 8, chunk(b"pHYs", struct.pack(">IIB", *ratio))) for unit, ratio in
       {"f": (1, 4, 0), "h": (4, 1, 0), "s": (1, 1, 0), "u": (1000, 1000, 1)}.items()},
    **{f"cm{year % 10}n0g04": (GRAY, 4, chunk(b"tIME", struct.pack(">H5B", year, 1, 1, 0, 0, 0))) for year in
       (2000, 1970 + 7, 1999)},
    **{f"cs{bits}n2c16": (RGB, 16, chunk(b"sBIT", bytes([bits] * 3))) for bits in (3, 13)},
    **{f"cs{bits}n2c08": (RGB, 8, chunk(b"sBIT", bytes([bits] * 3))) for bits in (5, 8)},
    **{f"cs{bits}n3p08": (PALETTE, 8, chunk(b"sBIT", bytes([bits] * 3))) for bits in (3, 5, 8)},
    "ct1n0g04": (GRAY, 4, chunk(b"tEXt", b"Title\0x")),
    "ctzn0g04": (GRAY, 4, chunk(b"zTXt", b"Title\0\0" + zlib.compress(b"x"))),
    "ctjn0g04": (GRAY, 4, chunk(b"iTXt", b"Title\0\0\0ja\0\xe9\0" + "題".encode())),
    **{f"g{gamma:02}n{_LETTERS[kind]}{depth:02}": (kind, depth, chunk(b"gAMA", struct.pack(">I", 10_000 * gamma)))
       for gamma in (3, 4, 5, 7, 10, 25) for kind, depth in ((GRAY, 16), (RGB, 8), (PALETTE, 4))},
    "pp0n2c16": (RGB, 16, chunk(b"PLTE", bytes(range(30)))),
    "pp0n6a08": (RGB_ALPHA, 8, chunk(b"PLTE", bytes(range(30)))),
    "ps1n0g08": (GRAY, 8, chunk(b"sPLT", _PALETTE)),
    "ps2n2c16": (RGB, 16, chunk(b"sPLT", b"name\0\x10" + bytes(10))),
    "a rendering intent": (RGB, 8, chunk(b"sRGB", b"\0")),
    "code points of color": (RGB, 8, chunk(b"cICP", b"\1\x0d\0\1")),
    "light levels": (RGB, 8, chunk(b"cLLi", bytes(8)) + chunk(b"mDCv", bytes(24))),
    "a profile of unknown packing": (RGB, 8, chunk(b"iCCP", b"name\0\1xyz")),
    "a private chunk": (RGB, 8, chunk(b"prVt", b"of some program")),
}  # fmt: skip


def files() -> dict[str, File]:
    """Every variant by its name."""
    made = {name: _made(kind, depth, extra=extra) for name, (kind, depth, extra) in OTHER_CHUNKS.items()}
    return made | _basic() | _filters_and_pieces() | _small() | _palettes() | _ends() | _by_pillow()


def _basic() -> dict[str, File]:
    made = {}
    for kind, depth in KINDS:
        letters = f"{_LETTERS[kind]}{depth:02}"
        for way, interlaced in (("n", False), ("i", True)):
            made[f"bas{way}{letters}"] = _made(kind, depth, interlaced=interlaced)
            if kind in (GRAY, RGB, PALETTE):
                trns = _transparent(kind, depth)
                made[f"tb{way}{letters} transparent"] = _made(kind, depth, trns=trns, interlaced=interlaced)
    return made


def _filters_and_pieces() -> dict[str, File]:
    made = {"f99n0g04": _made(GRAY, 4, filters=(4, 0, 3, 1, 2))}
    for kind in (GRAY, RGB):
        letters = _LETTERS[kind]
        made |= {f"f{how:02}n{letters}08": _made(kind, 8, filters=(how,)) for how in range(5)}
        made |= {f"oi{pieces}n{letters}16": _made(kind, 16, pieces=pieces) for pieces in (1, 2, 4)}
        made[f"oi9n{letters}16"] = _made(kind, 16, pieces=3000)  # of a byte each, and some of none
    for level in (0, 3, 6, 9):
        made[f"z{level:02}n2c08"] = File(images.encode(PICTURE, "PNG", compress_level=level), np.asarray(PICTURE))
    return made


def _small() -> dict[str, File]:
    made = {}
    for side in _SIZES:
        depth = 1 if side < 5 else 2 if side < 10 else 4
        for way, interlaced in (("n", False), ("i", True)):
            data = _made(PALETTE, depth, interlaced=interlaced, height=side, width=side)
            made[f"s{side:02}{way}3p{depth:02}"] = data
    return made


def _palettes() -> dict[str, File]:
    samples = samples_of(PALETTE, 4, HEIGHT, WIDTH)
    colors = pngs.palette_of(4)
    whole = chunk(b"PLTE", colors.tobytes())
    hist = chunk(b"hIST", bytes(range(32)))
    few = chunk(b"PLTE", colors[:11].tobytes())

    def made(before: bytes, trns: list[int] | None = None) -> File:
        return File(
            png_of(samples, PALETTE, 4, before=before),
            pngs.wanted(samples, PALETTE, 4, trns, np.array(BACKGROUND)),
        )

    return {
        "ch1n3p04": made(whole + hist),
        "a palette of fewer colors": File(png_of(samples % 11, PALETTE, 4, before=few), colors[samples[..., 0] % 11]),
        "tp1n3p08 one opacity": made(whole + chunk(b"tRNS", b"\0"), [0]),
        "tm3n3p02 opacities": made(whole + chunk(b"tRNS", bytes([0, 85, 170, 255])), [0, 85, 170, 255]),
        "opacities of all colors": made(whole + chunk(b"tRNS", bytes(range(0, 256, 17))), list(range(0, 256, 17))),
        "opacities of none": made(whole + chunk(b"tRNS", b"")),
    }


def _ends() -> dict[str, File]:
    samples = samples_of(RGB, 8, HEIGHT, WIDTH)
    data, wanted = png_of(samples, RGB, 8), samples.astype(np.uint8)
    end = data.index(b"IEND") - 4
    more = chunk(b"IDAT", b"more than the pixels")
    padded = _with_pixels(data, zlib.compress(pngs.packed_rows(samples, 8, (0,)) + bytes(500)))
    return {
        "bytes behind the end": File(data + b"and more", wanted),
        "a text behind the pixels": File(data[:end] + chunk(b"tEXt", b"Title\0x") + data[end:], wanted),
        "pixels behind the pixels": File(data[:end] + more + data[end:], wanted),
        "an empty piece of pixels": File(data[:end] + chunk(b"IDAT", b"") + data[end:], wanted),
        "rows behind the last": File(padded, wanted),
        "a cut end": File(data[:-4], wanted),
        **{f"a window of {1 << bits} bytes": File(_with_window(data, samples, bits), wanted) for bits in range(9, 16)},
    }


def _with_pixels(data: bytes, packed: bytes) -> bytes:
    return data[:33] + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def _with_window(data: bytes, samples: pngs.Samples, bits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return _with_pixels(data, packer.compress(pngs.packed_rows(samples, 8, (0,))) + packer.flush())


def _by_pillow() -> dict[str, File]:
    pictures = modes("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    made = {f"mode {mode}": File(images.encode(picture, "PNG")) for mode, picture in pictures.items()}
    for bits in (1, 2, 4, 8):
        made[f"mode P of {bits} bits"] = File(images.encode(pictures["P"].quantize(1 << bits), "PNG", bits=bits))
    turned = PICTURE.transpose(Image.Transpose.ROTATE_180)
    for name, options in {
        "an animation": {},
        "an animation behind an image": {"default_image": True},
        "an animation that is laid over": {"blend": 1},
        "an animation that clears": {"disposal": 1},
        "an animation that goes back": {"disposal": 2},
    }.items():
        for mode in ("RGB", "RGBA") if "disposal" in options else ("RGB", "RGBA", "P", "L"):
            more = [turned.convert(mode)]
            frames: dict[str, Any] = {"save_all": True, "append_images": more, **options}
            made[f"{name}, {mode}"] = File(images.encode(pictures[mode], "PNG", **frames))
    for mode in ("RGB", "L", "1", "P"):
        value = (int(np.asarray(PICTURE)[0, 0, 0]),) * 3 if mode == "RGB" else 0
        made[f"transparency in mode {mode}"] = File(images.encode(pictures[mode], "PNG", transparency=value))
    made["transparency of bytes"] = File(images.encode(pictures["P"], "PNG", transparency=bytes(range(0, 256, 4))))
    return made


def damaged() -> dict[str, bytes]:
    """The files of PngSuite that are no PNGs."""
    data = png_of(samples_of(GRAY, 8), GRAY, 8)
    color = png_of(samples_of(RGB, 8), RGB, 8)

    def head(at: int, value: int) -> bytes:
        changed = bytearray(color)
        changed[at] = value
        changed[29:33] = struct.pack(">I", zlib.crc32(changed[12:29]))
        return bytes(changed)

    def wrong_sum(name: bytes) -> bytes:
        (size,) = struct.unpack_from(">I", data, data.index(name) - 4)
        at = data.index(name) + 4 + size
        return data[:at] + b"\0\0\0\0" + data[at + 4 :]

    pixels = data.index(b"IDAT") - 4
    return {
        **{f"xs{number} a changed signature": data[: number - 1] + b"X" + data[number:] for number in (1, 2, 4, 7)},
        **{f"xc{color_type}n0g08 a color type": head(25, color_type) for color_type in (1, 9)},
        **{f"xd{depth}n2c08 a depth": head(24, depth) for depth in (0, 3, 99)},
        "xcrn0g04 returns added": data.replace(b"\n", b"\r\n"),
        "xlfn0g04 lines added": data.replace(b"\r\n", b"\n"),
        "xhdn0g08 the sum of the header": wrong_sum(b"IHDR"),
        "xcsn0g01 the sum of the pixels": wrong_sum(b"IDAT"),
        "xdtn0g01 no pixels": data[:pixels] + chunk(b"IEND", b""),
        "a header of another name": data.replace(b"IHDR", b"iHDR"),
        "a header that Apple puts first": data[:8] + chunk(b"CgBI", bytes(4)) + data[8:],
        "cut in half": color[: len(color) // 2],
    }
