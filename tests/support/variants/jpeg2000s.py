"""JPEG 2000: what Pillow can write of it, deeper samples, and the boxes around a codestream."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from PIL import Image

from support import images
from support.variants.common import ALPHA, DEEP, GRAY, PICTURE, RGB, File, Pixels, modes


def saved(picture: Image.Image, **options: Any) -> bytes:
    return images.encode(picture, "JPEG2000", **options)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


_WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "codestream alone": {"no_jp2": True},
    "irreversible": {"irreversible": True},
    "without a color transform": {"mct": 0},
    "tiles": {"tile_size": (16, 16)},
    "tiles, lossy": {"tile_size": (16, 16), "irreversible": True, "quality_layers": [30, 10]},
    "one resolution": {"num_resolutions": 1},
    "three resolutions": {"num_resolutions": 3},
    "layers by rate": {"quality_layers": [40, 20, 10]},
    "layers by decibel": {"quality_mode": "dB", "quality_layers": [30, 40]},
    "small blocks": {"codeblock_size": (4, 4)},
    "long blocks": {"codeblock_size": (4, 64)},
    "precincts": {"precinct_size": (32, 32)},
    "packet lengths": {"plt": True},
    "a comment": {"comment": "by nobody"},
    "an offset": {"offset": (3, 5), "tile_offset": (3, 5), "tile_size": (32, 32)},
    **{f"progression {order}": {"progression": order} for order in ("LRCP", "RLCP", "RPCL", "PCRL", "CPRL")},
}


def files() -> dict[str, File]:
    """Every variant by its name."""
    pictures = modes("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")
    made = {}
    for mode, picture in pictures.items():
        for way, options in _WAYS.items():
            if mode in ("L", "LA", "I;16") and "mct" in options:
                continue
            made[f"{mode}, {way}"] = File(saved(picture, **options))
    return made | _deep() | _boxes()


def _deep() -> dict[str, File]:
    """Samples of 9 to 16 bits: written as of 16 around their middle, and then stated to be fewer."""
    made = {}
    for bits in (9, 10, 12, 14, 15):
        levels = DEEP[..., 0] >> (16 - bits)
        data = bytearray(saved(Image.fromarray((levels + (32_768 - (1 << bits - 1))).astype(np.uint16)), no_jp2=True))
        data[42] = bits - 1
        made[f"{bits}bit"] = File(bytes(data), _scaled(levels, bits))
    made["16bit"] = File(saved(Image.fromarray(DEEP[..., 0])), _scaled(DEEP[..., 0], 16))
    for bits in (1, 2, 4, 7):
        levels = GRAY >> (8 - bits)
        data = bytearray(saved(Image.fromarray((levels + (128 - (1 << bits - 1))).astype(np.uint8)), no_jp2=True))
        data[42] = bits - 1
        made[f"{bits}bit"] = File(bytes(data), _scaled(levels, bits))
    return made


def _scaled(levels: Pixels, bits: int) -> Pixels:
    return np.floor(levels.astype(np.int64) * 255 / ((1 << bits) - 1) + 0.5)


def _boxes() -> dict[str, File]:
    data = saved(PICTURE)
    stream = data.index(b"jp2c") - 4
    head, code = data[:stream], data[stream + 8 :]
    long = struct.pack(">I4sQ", 1, b"jp2c", 16 + len(code)) + code
    inside = head.index(b"jp2h")
    size = struct.unpack_from(">I", head, inside - 4)[0]

    def with_inner(*boxes: bytes) -> bytes:
        added = b"".join(boxes)
        start, end = inside - 4, inside - 4 + size
        return (
            head[:start] + struct.pack(">I", size + len(added)) + head[inside:end] + added + head[end:] + data[stream:]
        )

    resolution = box(b"res ", box(b"resc", bytes(10)))
    made = {
        "a length of the rest": File(head + struct.pack(">I4s", 0, b"jp2c") + code, RGB),
        "a length of 64 bits": File(head + long, RGB),
        "XML in front": File(head + box(b"xml ", b"<x/>") + data[stream:], RGB),
        "a UUID in front": File(head + box(b"uuid", bytes(16) + b"x") + data[stream:], RGB),
        "a box behind": File(data + box(b"xml ", b"<x/>"), RGB),
        "zero_dpi": File(with_inner(resolution), RGB),
        "a box of bits": File(with_inner(box(b"bpcc", bytes([7, 7, 7]))), RGB),
        "a profile": File(data.replace(struct.pack(">BBBI", 1, 0, 0, 16), struct.pack(">BBBI", 2, 0, 0, 16)), RGB),
    }
    red_last = struct.pack(">H", 3) + b"".join(struct.pack(">HHH", at, 0, 3 - at) for at in range(3))
    made["channels in reverse"] = File(with_inner(box(b"cdef", red_last)), RGB[..., ::-1])
    gray = saved(Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(ALPHA)]))
    return made | {"gray with alpha": File(gray)}


def damaged() -> dict[str, bytes]:
    """What is no JPEG 2000, or not all of one."""
    whole = saved(PICTURE)
    bare = bytearray(saved(PICTURE, no_jp2=True))
    no_rows = bare.copy()
    struct.pack_into(">I", no_rows, 12, 0)
    return {
        "not enough data": whole[: len(whole) // 2],
        "without an end": whole[:-2],
        "zero height": bytes(no_rows),
        "no codestream": whole[: whole.index(b"jp2c") - 4],
        "no header": whole.replace(b"jp2h", b"jp2x"),
    }
