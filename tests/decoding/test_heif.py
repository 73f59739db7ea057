"""HEIF, the photos of phones: decoded by pillow-heif, and equal to what its own plugin for Pillow gives."""

from __future__ import annotations

import io
import random
import sys
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps
from support import images

import arraystore
from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into

pillow_heif.register_heif_opener()
PICTURE = Image.fromarray(images.photo(40, 60))


def heif(image: Image.Image, **options: Any) -> bytes:
    return images.encode(image, "HEIF", **options)


def turned(orientation: int) -> bytes:
    exif = PICTURE.getexif()
    exif[0x0112] = orientation
    return heif(PICTURE, exif=exif.tobytes())


def deep() -> bytes:
    samples = (np.arange(40 * 60 * 3).reshape(40, 60, 3) * 9).astype(np.uint16)
    file = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=(60, 40), data=samples.tobytes()).save(file, quality=-1)
    return file.getvalue()


CASES = {
    "color": heif(PICTURE),
    "gray": heif(PICTURE.convert("L")),
    "alpha": heif(Image.merge("RGBA", (*PICTURE.split(), Image.linear_gradient("L").resize(PICTURE.size)))),
    **{f"orientation {number}": turned(number) for number in range(2, 9)},
    "orientation by XMP": heif(
        PICTURE, xmp=b"<x:xmpmeta><rdf:RDF><tiff:Orientation>6</tiff:Orientation></rdf:RDF></x:xmpmeta>"
    ),
    "12 bits": deep(),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_decoded_as_by_pillow(name: str) -> None:
    spec = ImageSpec(size=20, background=(9, 60, 200))
    slot = np.empty(spec.slot_shape, np.uint8)
    decoded = decode_into(CASES[name], slot, spec)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(CASES[name])))
    assert decoded[:2] == upright.size[::-1]
    if upright.mode == "RGBA":
        behind = Image.new("RGBA", upright.size, (9, 60, 200, 255))
        upright = Image.alpha_composite(behind, upright)
    wanted = np.asarray(upright.convert("RGB").resize((20, 20), Image.Resampling.BILINEAR), np.int16)
    # Pillow's plugin cuts 12 bits off to 8, and compositing may round otherwise.
    assert np.abs(slot.transpose(1, 2, 0) - wanted).max() <= (1 if name in ("12 bits", "alpha") else 0)


def test_without_the_extra_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    store = arraystore.build([CASES["color"], images.png(images.photo(9, 9))], size=8, bad="keep", progress=False)
    reason = "a heif needs a decoder that is not installed: pip install 'arraystore[heif]'"
    assert [(bad.slot, bad.reason) for bad in store.bad()] == [(0, reason)]


def test_damage_is_a_bad_image_and_nothing_worse() -> None:
    rng, spec = random.Random(5), ImageSpec(size=8, max_pixels=100_000)
    slot = np.empty(spec.slot_shape, np.uint8)
    for name, data in CASES.items():
        for turn in range(40):
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 9)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            try:
                decode_into(bytes(changed[: rng.randrange(30, len(changed))] if turn % 4 == 0 else changed), slot, spec)
            except DecodeError as error:
                assert str(error), name
