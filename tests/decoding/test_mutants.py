"""Of changed files that Pillow refuses, next to none may be stored without a word: at most one in two hundred."""

from __future__ import annotations

import io
import random
import warnings

import numpy as np
import pytest
from PIL import Image
from support import coded_jpeg, hostile, images

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into

MUTANTS = 1500
MOST_STORED = 0.005
# Without an end marker Pillow refuses many JPEGs whose pixels are all there.
MOST_NOTED = 0.015
SPEC = ImageSpec(size=8)
BASES = {
    "jpeg": [
        images.jpeg(images.noise(20, 24)),
        images.jpeg(images.photo(40, 50), orientation=6),
        images.jpeg(images.noise(20, 24, 1)),
        hostile.encode("JPEG", restart_marker_blocks=1),
    ],
    "progressive jpeg": [images.progressive(images.photo(30, 40)), hostile.scan_bomb(30, 40, 12, components=3)],
    "cmyk jpeg": [hostile.encode("JPEG", "CMYK"), hostile.encode("JPEG", "CMYK", progressive=True)],
    "webp": [
        hostile.encode("WEBP"),
        hostile.encode("WEBP", lossless=True),
        hostile.encode("WEBP", "RGBA", exif=bytes(30)),
    ],
    "png": [hostile.encode("PNG", size=(20, 10)), hostile.encode("PNG", "P", size=(20, 10))],
    "odd jpeg": [
        coded_jpeg.layout_jpeg([(4, 2), (1, 1), (1, 1)]),
        coded_jpeg.layout_jpeg([(1, 1), (2, 2), (2, 2)], apart=True),
        coded_jpeg.layout_jpeg([(2, 1), (1, 1), (1, 1), (1, 1)]),
        coded_jpeg.lossless_jpeg(30, 40, 3),
        coded_jpeg.any_frame(0xC9, 30, 40),
    ],
    "larger jpeg": [
        images.jpeg(images.photo(200, 260)),
        images.progressive(images.photo(100, 150)),
        hostile.encode("JPEG", size=(200, 150), restart_marker_rows=1),
    ],
}


def mutant(base: bytes, rng: random.Random) -> bytes:
    data = bytearray(base)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, length = rng.randrange(len(data)), rng.randrange(64)
        change = rng.choice(("flip", "flip", "flip", "set", "cut", "remove", "repeat", "copy"))
        if change == "flip":
            data[at] ^= 1 << rng.randrange(8)
        elif change == "set":
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif change == "cut":
            del data[max(at, 1) :]
        elif change == "remove" and len(data) > length:
            del data[at : at + length]
        elif change == "repeat":
            data[at:at] = data[at : at + length]
        elif change == "copy":
            data[at : at + length] = data[at // 2 : at // 2 + length]
    return bytes(data)


def pillow_refuses(data: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                image.convert("RGB")
    except Exception:  # noqa: BLE001 - of any class
        return True
    return False


@pytest.mark.parametrize("name", BASES)
def test_mutants_that_pillow_refuses_are_not_stored(name: str) -> None:
    rng = random.Random(name)
    slot = np.empty(SPEC.slot_shape, np.uint8)
    refused = stored = noted = 0
    for _ in range(MUTANTS):
        data = mutant(rng.choice(BASES[name]), rng)
        if not pillow_refuses(data):
            continue
        refused += 1
        try:
            note = decode_into(data, slot, SPEC).note
        except DecodeError:
            continue
        noted += note is not None
        stored += note is None
    assert refused > MUTANTS / 5
    assert stored <= MOST_STORED * refused
    assert noted <= MOST_NOTED * refused
