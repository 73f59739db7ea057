"""Of changed files that Pillow refuses, next to none may be stored without a word: at most one in two hundred."""

from __future__ import annotations

import io
import random
import resource
import time
import warnings

import numpy as np
import pytest
from PIL import Image
from support import coded_jpeg, hostile, images, tiffs

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into

MUTANTS = 800
LONG_S = 92.0  # for each format: 20 minutes for all
MOST_STORED = 0.005
# Without an end marker Pillow refuses many JPEGs whose pixels are all there.
MOST_NOTED = 0.015
SPEC = ImageSpec(size=8)
PICTURE = images.photo(30, 40)
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
    "png": [hostile.encode("PNG", mode, size=(20, 10)) for mode in ("RGB", "P", "LA", "I;16", "1")],
    "gif": [hostile.encode("GIF", "P", size=(20, 10)), hostile.encode("GIF", "L")],
    "jp2": [
        *(hostile.encode("JPEG2000", mode) for mode in ("RGB", "L", "RGBA")),
        hostile.encode("JPEG2000", no_jp2=True),
        hostile.encode("JPEG2000", irreversible=True),
    ],
    "bmp": [hostile.encode("BMP", mode, size=(21, 15)) for mode in ("RGB", "P", "RGBA", "1")]
    + [hostile.encode("DIB", size=(21, 15))],
    "ppm": [hostile.encode("PPM", mode, size=(9, 5)) for mode in ("RGB", "L", "1")]
    + [b"P2 3 2 15\n1 2 3\n4 5 6\n", b"P1 3 2\n1 0 1 0 1 0\n"],
    "tiff": [
        hostile.encode("TIFF"),
        hostile.encode("TIFF", "P"),
        tiffs.tiff(PICTURE, tiffs.RGB, tile=(16, 16)),
        tiffs.tiff(PICTURE, tiffs.RGB, planar=2),
    ],
    "packed tiff": [
        *(hostile.encode("TIFF", compression=f"tiff_{name}") for name in ("lzw", "adobe_deflate")),
        *(hostile.encode("TIFF", compression=name) for name in ("packbits", "zstd", "lzma", "jpeg")),
        hostile.encode("TIFF", "L", compression="tiff_lzw", tiffinfo={317: 2}),
        tiffs.tiff(PICTURE, tiffs.RGB, tile=(16, 16), compression=tiffs.LZW),
    ],
    "fax tiff": [hostile.encode("TIFF", "1", compression=name) for name in ("group4", "group3", "tiff_ccitt")],
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
    except Exception:  # of any class
        return True
    return False


class Counts:
    """How many changed files of a format there were; any other error than a DecodeError is a test that fails."""

    def __init__(self) -> None:
        self.tried = self.refused = self.stored = self.noted = 0

    def add(self, data: bytes, slot: images.Pixels) -> None:
        self.tried += 1
        try:
            note = decode_into(data, slot, SPEC).note
        except DecodeError:
            self.refused += pillow_refuses(data)
            return
        if pillow_refuses(data):
            self.refused += 1
            self.noted += note is not None
            self.stored += note is None

    def __str__(self) -> str:
        shares = (f"{100 * each / max(self.refused, 1):.2f} %" for each in (self.stored, self.noted))
        return "{:,} files, Pillow refuses {:,}; of these stored {}, with a note {}".format(
            self.tried, self.refused, *shares
        )


@pytest.mark.parametrize("name", BASES)
def test_mutants_that_pillow_refuses_are_not_stored(name: str) -> None:
    rng, counts, slot = random.Random(name), Counts(), np.empty(SPEC.slot_shape, np.uint8)
    for _ in range(MUTANTS):
        counts.add(mutant(rng.choice(BASES[name]), rng), slot)
    assert counts.refused > MUTANTS / 5
    assert counts.stored <= MOST_STORED * counts.refused
    assert counts.noted <= MOST_NOTED * counts.refused


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BASES)
def test_mutants_for_a_while(name: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    rng, counts, slot = random.Random(seed), Counts(), np.empty(SPEC.slot_shape, np.uint8)
    end_s = time.monotonic() + LONG_S
    while time.monotonic() < end_s:
        counts.add(mutant(rng.choice(BASES[name]), rng), slot)
    print(f"\n{name}: {counts}; seed {seed}; peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MB")
    assert counts.stored <= MOST_STORED * counts.refused


@pytest.mark.parametrize("length", range(60))
def test_a_png_that_ends_inside_its_header_is_a_decode_error(length: int) -> None:
    with pytest.raises(DecodeError):
        decode_into(hostile.encode("PNG")[:length], np.empty(SPEC.slot_shape, np.uint8), SPEC)
