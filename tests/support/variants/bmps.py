"""BMP: the files of the bmpsuite by their names there, with and without a file header, and what Pillow writes."""

from __future__ import annotations

from typing import Any

import numpy as np

from support import images
from support.bmps import COLORS, bmp, noise, runs
from support.variants.common import BACKGROUND, File, Pixels, modes

_WIDTH, _HEIGHT = 13, 7
_XRGB = (0xFF0000, 0xFF00, 0xFF)
_BGRA, _RGBA, _ABGR = (
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
    (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
)


def _made(bits: int, **options: Any) -> bytes:
    sides = {"width": _WIDTH, "height": _HEIGHT} | options
    pixels = sides.pop("pixels", None) or noise(bits, sides["width"], sides["height"])
    return bmp(bits, pixels, **sides)


def _by_masks(bits: int, masks: tuple[int, ...], *, opaque: bool = False, **options: Any) -> File:
    """Pixels of random words, and what the masks make of them."""
    kind = f"<u{bits // 8}"
    words = np.random.default_rng(bits).integers(0, 1 << bits, (_HEIGHT, 14), np.dtype(kind))
    if opaque:
        words &= np.dtype(kind).type(~masks[3] & (1 << bits) - 1)
    levels = [_levels(words, mask) for mask in masks if mask]
    pixels = np.stack(levels, axis=-1)[::-1]
    if len(levels) == 4 and not opaque:
        alpha = pixels[..., 3:].astype(float)
        pixels = np.floor((pixels[..., :3] * alpha + np.array(BACKGROUND) * (255 - alpha)) / 255 + 0.5)
    data = bmp(bits, words.tobytes(), width=14, height=_HEIGHT, masks=masks, **{"compression": 3} | options)
    return File(data, pixels[..., :3])


def _levels(words: Pixels, mask: int) -> Pixels:
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    return np.floor(((words & mask) >> shift).astype(np.int64) * 255 / most + 0.5)


def files() -> dict[str, File]:
    """Every variant by its name."""
    made: dict[str, bytes] = {}
    for bits in (1, 4, 8):
        made[f"pal{bits}"] = _made(bits)
        made[f"pal{bits} of fewer colors"] = _made(bits, used=max(1 << bits - 1, 2))
        made[f"pal{bits}p1"] = _made(bits, used=1, pixels=bytes(len(noise(bits, _WIDTH, _HEIGHT))))
        made[f"pal{bits} black on white"] = _made(bits, palette=bytes([255, 255, 255, 0]) + bytes((4 << bits) - 4))
        made[f"pal{bits} gray"] = _made(bits, palette=_grays(bits))
        made[f"pal{bits}v4"] = _made(bits, size=108)
        made[f"pal{bits}v5"] = _made(bits, size=124)
        made[f"pal{bits}topdown"] = _made(bits, height=-_HEIGHT)
        made[f"pal{bits}os2"] = _made(bits, size=12)
        made[f"pal{bits}os2sp"] = bmp(
            bits, noise(bits, _WIDTH, _HEIGHT), width=_WIDTH, height=_HEIGHT, size=12, palette=_short_palette(bits)
        )
        made[f"pal{bits}os2v2"] = _made(bits, size=64)
        made[f"pal{bits}offs"] = _made(bits, pixels=bytes(100) + noise(bits, _WIDTH, _HEIGHT), start=_start(bits) + 100)
        made[f"pal{bits} without a file header"] = _made(bits, file_header=False)
        made[f"pal{bits} bytes behind"] = _made(bits) + b"and more"
    made |= {f"pal8w{width}": _made(8, width=width, height=2) for width in (124, 125, 126, 127)}
    for bits in (16, 24, 32):
        made[f"rgb{bits}"] = _made(bits)
        made[f"rgb{bits}topdown"] = _made(bits, height=-_HEIGHT)
        made[f"rgb{bits}v4"] = _made(bits, size=108)
        made[f"rgb{bits}v5"] = _made(bits, size=124)
        made[f"rgb{bits} without a file header"] = _made(bits, file_header=False)
        made[f"rgb{bits}pal"] = _with_palette(bits)
    made["rgb24os2"] = _made(24, size=12)
    made["rgb24prof"] = _made(24, size=124) + bytes(500)
    made["rgb32fakealpha"] = _made(32)
    files = {name: File(data) for name, data in made.items()}
    return files | _masks() | _runs() | _unknown_to_pillow() | _by_pillow()


def _grays(bits: int) -> bytes:
    count = 1 << bits
    return b"".join(bytes([level * 255 // (count - 1)] * 3 + [0]) for level in range(count))


def _short_palette(bits: int) -> bytes:
    return COLORS[: 1 << bits, :3].tobytes()


def _start(bits: int) -> int:
    return 54 + (4 << bits)


def _with_palette(bits: int) -> bytes:
    """A palette that pixels without indices do not need."""
    data = _made(bits, palette=COLORS.tobytes())
    return data[:46] + (256).to_bytes(4, "little") + data[50:]


def _masks() -> dict[str, File]:
    return {
        "rgb16-565": _by_masks(16, (0xF800, 0x7E0, 0x1F)),
        "rgb16bfdef": _by_masks(16, (0x7C00, 0x3E0, 0x1F)),
        "rgb16-231": _by_masks(16, (0x30, 0xE, 0x1)),
        "rgb32bf": _by_masks(32, (0xFF00000, 0xFF, 0xFF000)),
        "rgb32bfdef": _by_masks(32, _XRGB),
        "rgb32bf-xbgr": _by_masks(32, _BGRA[:3], size=124),
        "rgb32-111110": _by_masks(32, (0xFFE00000, 0x1FFC00, 0x3FF)),
        "rgb32h52": _by_masks(32, _XRGB, size=52),
        "rgb32-xbgr": _by_masks(32, (0xFF000000, 0xFF0000, 0xFF00)),
        "rgba32": _by_masks(32, _ABGR, size=124),
        "rgba32h56": _by_masks(32, _ABGR, size=56),
        "rgba32v4": _by_masks(32, _ABGR, size=108),
        "rgba32abf": _by_masks(32, _ABGR, compression=6),
        "rgb32bf-rgba": _by_masks(32, _BGRA, size=124),
        "rgb32bf-abgr": _by_masks(32, _RGBA, size=124),
        "rgba16-4444": _by_masks(16, (0xF00, 0xF0, 0xF, 0xF000), size=124),
        "rgba16-5551": _by_masks(16, (0x7C00, 0x3E0, 0x1F, 0x8000), size=124),
        "rgba16-1924": _by_masks(16, (0x8000, 0x7FC0, 0x30, 0xF), size=124),
        "rgba32 without alpha anywhere": _by_masks(32, _ABGR, size=124, opaque=True),
        "rgb32bf-rgba without alpha anywhere": _by_masks(32, _BGRA, size=124, opaque=True),
    }


def _runs() -> dict[str, File]:
    made = {}
    for name, half_bytes in (("pal4rle", True), ("pal8rle", False)):
        bits, compression = (4, 2) if half_bytes else (8, 1)
        for literal in (False, True):
            for width, padded in ((8, 8), (9, 9), (13, 16), (300, 300)):
                packed, indices = runs(width, _HEIGHT, padded, half_bytes=half_bytes, literal=literal)
                data = bmp(bits, packed, width=width, height=_HEIGHT, compression=compression)
                kind = f"{name} {'literal ' * literal}{width}" + f" filled to {padded}" * (padded > width)
                made[kind] = File(data, COLORS[indices[::-1], 2::-1])
        packed, indices = runs(8, _HEIGHT, 8, half_bytes=half_bytes, literal=False)
        data = bmp(bits, packed[:-2], width=8, height=_HEIGHT, compression=compression)
        made[f"{name} without an end"] = File(data, COLORS[indices[::-1], 2::-1])
        moves = bytes([2, 0x77, 0, 2, 1, 1, 1, 0x99, 0, 0, 4, 0x55, 0, 1])
        made[f"{name}trns"] = File(bmp(bits, moves, width=4, height=3, compression=compression))
        made[f"{name}cut"] = File(bmp(bits, bytes([4, 0x77, 0, 0, 0, 1]), width=4, height=1, compression=compression))
    return made


def _unknown_to_pillow() -> dict[str, File]:
    two = np.random.default_rng(2).integers(0, 4, (_HEIGHT, 16))
    packed = (two.reshape(_HEIGHT, 4, 4) << [6, 4, 2, 0]).sum(2).astype(np.uint8)
    os2 = noise(8, _WIDTH, _HEIGHT)
    rows = np.frombuffer(os2, np.uint8).reshape(_HEIGHT, 16)[::-1, :_WIDTH]
    return {
        "pal2": File(bmp(2, packed.tobytes(), width=16, height=_HEIGHT), COLORS[two[::-1], 2::-1]),
        "pal8os2v2-16": File(bmp(8, os2, width=_WIDTH, height=_HEIGHT, size=16), COLORS[rows, 2::-1]),
        "pal8oversizepal": File(
            bmp(8, os2, width=_WIDTH, height=_HEIGHT, used=300, palette=COLORS.tobytes() + bytes(44 * 4)),
            COLORS[rows, 2::-1],
        ),
    }


def _by_pillow() -> dict[str, File]:
    made = {}
    for mode, picture in modes("1", "L", "P", "RGB", "RGBA").items():
        made[f"mode {mode}"] = File(images.encode(picture, "BMP"))
        made[f"DIB, mode {mode}"] = File(images.encode(picture, "DIB"))
    return made


def damaged() -> dict[str, bytes]:
    """The files of the bmpsuite that are no BMPs."""
    whole = _made(8)

    def changed(at: int, value: bytes) -> bytes:
        return whole[:at] + value + whole[at + len(value) :]

    return {
        "badbitcount": changed(28, b"\x37\1"),
        "badheadersize": changed(14, (66).to_bytes(4, "little")),
        "badpalettesize": changed(46, b"\xff\xff\xff\xff"),
        "badwidth": changed(18, b"\0\0\0\xff"),
        "shortfile": whole[: len(whole) // 2],
        "reallybig": changed(18, (3_000_000).to_bytes(4, "little") * 2),
        "rgb24jpeg": changed(30, b"\4"),
        "rgb24png": changed(30, b"\5"),
    }
