"""WebP: lossy, lossless and with each kind of alpha, its chunks, and animations."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
from PIL import Image

from support import images
from support.variants.common import ALPHA, BACKGROUND, HEIGHT, PICTURE, RGB, RGBA, WIDTH, File, Pixels, modes

_ICC, _ALPHA_FLAG, _EXIF, _XMP = 0x20, 0x10, 0x08, 0x04


def saved(picture: Image.Image, **options: Any) -> bytes:
    return images.encode(picture, "WEBP", **options)


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extended(flags: int, *chunks: bytes, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides), *chunks)


def _pixels(data: bytes) -> bytes:
    """The chunk of pixels of a simple file."""
    return data[12:]


def _filtered(alpha: Pixels, how: int) -> Pixels:
    """Alpha less what is predicted of it: the sample to the left, the one above, or a gradient of both."""
    wide = np.pad(alpha.astype(np.int64), ((1, 0), (1, 0)))
    left, above, corner = wide[1:, :-1], wide[:-1, 1:], wide[:-1, :-1]
    predicted = [0 * left, left, above, np.clip(left + above - corner, 0, 255)][how]
    if how:  # the first row is predicted from the left, the first column from above
        predicted = predicted.copy()
        predicted[0, 1:], predicted[1:, 0] = alpha[0, :-1], alpha[:-1, 0]
        predicted[0, 0] = 0
    return ((alpha - predicted) % 256).astype(np.uint8)


def files() -> dict[str, File]:
    """Every variant by its name."""
    pictures = modes("L", "LA", "P", "RGB", "RGBA")
    made = {}
    for mode, picture in pictures.items():
        made[f"lossy {mode}"] = File(saved(picture))
        made[f"lossless {mode}"] = File(saved(picture, lossless=True, exact=True))
    for quality in (0, 1, 50, 100):
        made[f"lossy of quality {quality}"] = File(saved(PICTURE, quality=quality))
        made[f"lossless of quality {quality}"] = File(saved(PICTURE, lossless=True, quality=quality), RGB)
        made[f"alpha of quality {quality}"] = File(saved(pictures["RGBA"], alpha_quality=quality))
    for method in range(7):
        made[f"lossy by method {method}"] = File(saved(pictures["RGBA"], method=method))
        made[f"lossless by method {method}"] = File(saved(PICTURE, lossless=True, method=method), RGB)
    for colors in (2, 4, 16, 256):  # which lossless files pack as a palette
        few = PICTURE.quantize(colors).convert("RGB")
        made[f"lossless of {colors} colors"] = File(saved(few, lossless=True), np.asarray(few))
    for sides in ((1, 1), (1, 40), (40, 1), (16, 16), (17, 33)):
        pixels = images.noise(*sides)
        made[f"lossless {sides[0]} by {sides[1]}"] = File(saved(Image.fromarray(pixels), lossless=True), pixels)
        made[f"lossy {sides[0]} by {sides[1]}"] = File(saved(Image.fromarray(pixels)))
    lossy, exact = _pixels(saved(PICTURE)), _pixels(saved(PICTURE, lossless=True))
    made |= _chunks(lossy, exact) | _alpha(lossy) | _animated()
    done, data = cv2.imencode(".webp", RGB[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert done
    return made | {"lossless of OpenCV": File(data.tobytes(), RGB)}


def _chunks(lossy: bytes, exact: bytes) -> dict[str, File]:
    icc, exif = chunk(b"ICCP", b"of no meaning"), chunk(b"EXIF", b"Exif\0\0II*\0\x08\0\0\0\0\0")
    xmp, other = chunk(b"XMP ", b"<x:xmpmeta/>"), chunk(b"abcd", b"of some program")
    made = {}
    for name, pixels, wanted in (("lossy", lossy, None), ("lossless", exact, RGB)):
        made |= {
            f"{name} with a profile": File(extended(_ICC, icc, pixels), wanted),
            f"{name} with EXIF": File(extended(_EXIF, pixels, exif), wanted),
            f"{name} with XMP": File(extended(_XMP, pixels, xmp), wanted),
            f"{name} with all of them": File(extended(_ICC | _EXIF | _XMP, icc, pixels, exif, xmp), wanted),
            f"{name} with EXIF in front": File(extended(_EXIF, exif, pixels), wanted),
            f"{name} with metadata that no flag announces": File(extended(0, pixels, exif, xmp), wanted),
            f"{name} with flags of nothing": File(extended(_ICC | _EXIF | _XMP, pixels), wanted),
            f"{name} with an unknown chunk": File(extended(0, other, pixels, other), wanted),
            f"{name} and bytes behind": File(extended(0, pixels) + b"and more", wanted),
        }
    return made


def _alpha(lossy: bytes) -> dict[str, File]:
    """Alpha that is not packed, in each filter, beside lossy pixels."""
    with Image.open(io.BytesIO(riff(lossy))) as image:
        color = np.asarray(image.convert("RGB")).astype(float)
    alpha = ALPHA[..., None].astype(float)
    wanted = np.floor((color * alpha + np.array(BACKGROUND) * (255 - alpha)) / 255 + 0.5)
    made = {}
    for how in range(4):
        body = bytes([how << 2]) + _filtered(ALPHA, how).tobytes()
        made[f"alpha as it is, filter {how}"] = File(extended(_ALPHA_FLAG, chunk(b"ALPH", body), lossy), wanted)
    unsaid = extended(0, chunk(b"ALPH", b"\0" + ALPHA.tobytes()), lossy)
    opaque = chunk(b"ALPH", b"\0" + bytes([255]) * ALPHA.size)
    return made | {
        "alpha that no flag announces": File(unsaid),
        "alpha that is opaque": File(extended(_ALPHA_FLAG, opaque, lossy), color),
        "a flag without alpha": File(extended(_ALPHA_FLAG, lossy), color),
    }


def _animated() -> dict[str, File]:
    made = {}
    for mode, first in modes("RGB", "RGBA").items():
        turned = first.transpose(Image.Transpose.ROTATE_180)
        for name, options in {
            "lossy": {},
            "lossless": {"lossless": True, "exact": True},
            "mixed": {"allow_mixed": True},
            "on a background": {"lossless": True, "background": (1, 2, 3, 4)},
        }.items():
            more: dict[str, Any] = {"save_all": True, "append_images": [turned], **options}
            made[f"animated {mode}, {name}"] = File(saved(first, **more))
    return made


def damaged() -> dict[str, bytes]:
    """What is no WebP, or not all of one."""
    whole = saved(PICTURE)
    return {
        "cut in half": whole[: len(whole) // 2],
        "without its last bytes": whole[:-4],
        "an unknown first chunk": riff(chunk(b"VP8Z", bytes(30))),
        "no pixels": extended(0),
        "another size": extended(0, _pixels(whole), width=WIDTH + 1),
        "a signature of nothing": riff(chunk(b"VP8L", bytes(30))),
        "alpha alone": extended(_ALPHA_FLAG, chunk(b"ALPH", b"\0" + RGBA[..., 3].tobytes())),
    }
