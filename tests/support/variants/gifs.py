"""GIF: what Pillow's and OpenCV's suites have, by what is odd about it."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from support import images
from support.gifs import COLORS, INDICES, blocks, extension, frame, gif, lzw
from support.variants.common import BACKGROUND, PICTURE, File, Pixels, modes

_HEIGHT, _WIDTH = INDICES.shape
_FEW = INDICES % 4
_PIXELS = COLORS[INDICES]
_OTHER = frame(INDICES[::-1])
_LOOPS = extension(0xFF, b"NETSCAPE2.0", b"\1\0\0")
_COMMENT = extension(0xFE, b"a comment")


def _whole(*parts: bytes, **options: Any) -> bytes:
    return gif(_WIDTH, _HEIGHT, *parts, **options)


def _clear(index: int, indices: Pixels = INDICES) -> Pixels:
    return np.where((indices == index)[..., None], np.array(BACKGROUND), COLORS[indices])


def _on_screen(left: int, top: int, height: int, width: int, clear: int | None = None) -> Pixels:
    screen = np.full((height, width, 3), BACKGROUND)
    screen[top : top + _HEIGHT, left : left + _WIDTH] = _PIXELS if clear is None else _clear(clear)
    return screen


def files() -> dict[str, File]:
    """Every variant by its name."""
    made = {
        "of 1987": File(_whole(frame(INDICES), version=b"87a"), _PIXELS),
        "interlaced": File(_whole(frame(INDICES, interlaced=True)), _PIXELS),
        "a palette of the frame": File(_whole(frame(INDICES, palette=COLORS[::-1])), COLORS[::-1][INDICES]),
        "a palette of the frame alone": File(
            _whole(frame(INDICES, palette=COLORS[::-1]), palette=None), COLORS[::-1][INDICES]
        ),
        "a part of the screen": File(gif(40, 32, frame(INDICES, 3, 5)), _on_screen(3, 5, 32, 40)),
        "a transparent part of the screen": File(gif(40, 32, frame(INDICES, 3, 5, 7)), _on_screen(3, 5, 32, 40, 7)),
        "a frame beyond the screen": File(gif(10, 10, frame(INDICES, 3, 5)), _on_screen(3, 5, 25, 33)),
        "a screen of no size": File(gif(0, 0, frame(INDICES)), _PIXELS),
        "a background outside the palette": File(
            _whole(frame(_FEW, 0, 0, 1), palette=COLORS[:4], background=77), _clear(1, _FEW)
        ),
        "a transparent background": File(_whole(frame(INDICES, 0, 0, 9)), _clear(9)),
        "a transparent color outside the palette": File(
            _whole(frame(_FEW, 0, 0, 77), palette=COLORS[:4]), COLORS[_FEW]
        ),
        "no end": File(_whole(frame(INDICES), end=b""), _PIXELS),
        "bytes behind the end": File(_whole(frame(INDICES), end=b"; and more"), _PIXELS),
        "no palette": File(_whole(frame(INDICES), palette=None)),
    }
    made |= {f"transparent {index}": File(_whole(frame(INDICES, 0, 0, index)), _clear(index)) for index in (0, 7, 255)}
    for disposal in range(8):
        data = _whole(_LOOPS, frame(INDICES, 0, 0, 7, disposal=disposal), _OTHER)
        made[f"disposal {disposal} of the first frame"] = File(data, _clear(7))
        data = _whole(_LOOPS, frame(INDICES, disposal=disposal), _OTHER)
        made[f"disposal {disposal} of the first frame, opaque"] = File(data, _PIXELS)
    return made | _extensions() | _codes() | _by_pillow()


def _extensions() -> dict[str, File]:
    text = extension(0x01, bytes(12), b"plain text")
    image = frame(INDICES)
    parts: dict[str, list[bytes]] = {
        "a comment": [_COMMENT, image],
        "several comments": [_COMMENT, _COMMENT, image],
        "a comment of several blocks": [extension(0xFE, *[b"x" * 255] * 3, b"end"), image],
        "a comment of no blocks": [extension(0xFE), image],
        "a comment behind the only frame": [image, _COMMENT],
        "comments of several frames": [_COMMENT, image, _COMMENT, _OTHER, _COMMENT],
        "loops": [_LOOPS, image],
        "loops said twice": [_LOOPS, _LOOPS, image, _OTHER],
        "loops of no number": [extension(0xFF, b"NETSCAPE2.0"), image],
        "XMP": [extension(0xFF, b"XMP DataXMP", b"<x:xmpmeta/>"), image],
        "a profile": [extension(0xFF, b"ICCRGBG1012", bytes(128)), image],
        "plain text in front": [text, image],
        "an unknown extension": [extension(0x77, b"abc"), image],
        "control twice": [extension(0xF9, bytes([1, 0, 0, 3])), extension(0xF9, bytes([1, 0, 0, 7])), image],
        "control of no transparency": [extension(0xF9, bytes([0, 9, 0, 7])), image],
        "control that waits for the user": [extension(0xF9, bytes([2, 9, 0, 7])), image],
        "two equal frames": [image, image],
    }
    wanted = dict.fromkeys(parts, _PIXELS) | {"control twice": _clear(7)}
    return {name: File(_whole(*each), wanted[name]) for name, each in parts.items()}


def _codes() -> dict[str, File]:
    tall = np.random.default_rng(1).integers(0, 3, (300, 200), np.uint8)  # its codes use all of the table
    made = {
        "codes without a first clear": File(_whole(frame(INDICES, packed=lzw(INDICES, first_clear=False))), _PIXELS),
        "codes without an end": File(_whole(frame(INDICES, packed=lzw(INDICES, end=False))), _PIXELS),
        "codes that never grow": File(_whole(frame(INDICES, packed=lzw(INDICES, full="never"))), _PIXELS),
        "bytes behind the codes": File(_whole(frame(INDICES, packed=lzw(INDICES)[:-1] + blocks(b"and more"))), _PIXELS),
        "rows behind the last": File(
            _whole(frame(INDICES, packed=lzw(np.concatenate([INDICES, INDICES[:3]])))), _PIXELS
        ),
        **{
            f"a full table that is {'emptied' if full == 'clear' else 'kept'}": File(
                gif(200, 300, frame(tall, packed=lzw(tall, full=full))), COLORS[tall]
            )
            for full in ("clear", "keep")
        },
    }
    packed = lzw(INDICES)
    codes = b"".join(packed[at + 1 : at + 1 + packed[at]] for at in range(1, len(packed) - 1, 256))
    made["blocks of a byte"] = File(_whole(frame(INDICES, packed=packed[:1] + blocks(codes, 1))), _PIXELS)
    for bits in range(2, 12):
        few = INDICES & (1 << min(bits, 8)) - 1
        data = _whole(frame(few, packed=lzw(few, bits)), palette=COLORS[: 1 << bits])
        made[f"codes of {bits} bits"] = File(data, COLORS[few])
        few = few % 3
        data = _whole(frame(few, packed=lzw(few, bits)), palette=COLORS[:4])
        made[f"codes of {bits} bits for a palette of 4"] = File(data, COLORS[few])
    beyond = _whole(frame(INDICES % 8), palette=COLORS[:4])
    return made | {"indices outside the palette": File(beyond)}


def _by_pillow() -> dict[str, File]:
    pictures = modes("1", "L", "P", "RGB", "RGBA", "LA")
    made = {f"mode {mode}": File(images.encode(picture, "GIF")) for mode, picture in pictures.items()}
    turned = PICTURE.transpose(Image.Transpose.ROTATE_180)
    for mode in ("L", "P", "RGB", "RGBA"):
        for disposal in range(4):
            more: dict[str, Any] = {"save_all": True, "append_images": [turned.convert(mode)], "disposal": disposal}
            made[f"animated {mode}, disposal {disposal}"] = File(images.encode(pictures[mode], "GIF", **more))
    made["not interlaced"] = File(images.encode(pictures["P"], "GIF", interlace=0))
    made["optimized"] = File(images.encode(pictures["P"], "GIF", optimize=True))
    return made


def damaged() -> dict[str, bytes]:
    """What is no GIF, or not all of one."""
    data = _whole(frame(INDICES))
    return {
        "frame of no size": _whole(frame(INDICES[:, :0], packed=lzw(INDICES))),
        "no frame": _whole(),
        "fewer rows than it says": _whole(frame(INDICES, packed=lzw(INDICES[:9]))),
        "codes of 0 bits": _whole(frame(INDICES, packed=b"\0" + lzw(INDICES)[1:])),
        "codes of 12 bits": _whole(frame(INDICES, packed=b"\x0c" + lzw(INDICES)[1:])),
        "cut in half": data[: len(data) // 2],
    }
