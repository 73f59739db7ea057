"""Sources in memory: arrays that may only be read, and images of Pillow, which count as the files they came from."""

from __future__ import annotations

import io
import itertools
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from support import images

import arraystore
from arraystore import ImageSpec
from arraystore._decoding.decode import decode_into


def slot_of(source: Any, **options: Any) -> np.ndarray[Any, Any]:
    spec = ImageSpec(**{"size": (7, 9)} | options)
    slot = np.empty(spec.slot_shape, np.uint8)
    decode_into(source, slot, spec)
    return slot


OPTIONS = [
    {"fit": fit, "filter": name, "color": color, "layout": layout}
    for fit, name, color, layout in itertools.product(
        ("stretch", "crop", "pad"), ("nearest", "box", "bicubic"), ("rgb", "gray"), ("NCHW", "NHWC")
    )
]


@pytest.mark.parametrize("kernels", ["own", "portable"])
@pytest.mark.parametrize("shape", [(30, 40, 3), (30, 40, 1), (30, 40), (5, 6, 3)], ids=str)
def test_an_array_that_may_only_be_read_gives_the_same_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: str, shape: tuple[int, ...]
) -> None:
    if kernels == "portable":
        monkeypatch.setattr("arraystore._kernels.vectors.plan_avx512.plan_columns", lambda *_args, **_options: None)
    free = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.save(tmp_path / "x.npy", free)
    for options in OPTIONS:
        wanted = slot_of(free, **options)
        for locked in (np.load(tmp_path / "x.npy", mmap_mode="r"), np.frombuffer(free.tobytes(), np.uint8)):
            assert np.array_equal(slot_of(locked.reshape(shape), **options), wanted), options


PICTURE = Image.fromarray(images.photo(60, 90))
ROUND = Image.fromarray(images.photo(60, 90)).convert("RGBA")
ROUND.putalpha(Image.radial_gradient("L").resize(ROUND.size))


FILES = {
    "RGB": images.encode(PICTURE, "PNG"),
    "gray": images.encode(PICTURE.convert("L"), "PNG"),
    "1 bit": images.encode(PICTURE.convert("1"), "PNG"),
    "16 bits": images.encode(Image.fromarray(np.arange(5400, dtype=np.uint16).reshape(60, 90) * 12), "PNG"),
    "palette": images.encode(PICTURE.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
    "palette with a transparent color": images.encode(PICTURE.quantize(16), "PNG", transparency=3),
    "alpha": images.encode(ROUND, "PNG"),
    "gray with alpha": images.encode(ROUND.convert("LA"), "PNG"),
    "CMYK": images.encode(PICTURE.convert("CMYK"), "TIFF"),
    "JPEG": images.encode(PICTURE, "JPEG"),
    **{f"orientation {k}": images.jpeg(images.photo(60, 90), orientation=k) for k in range(2, 9)},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("loaded", [False, True])
def test_an_image_of_pillow_gives_what_its_file_gives(name: str, *, loaded: bool) -> None:
    data = FILES[name]
    for options in ({}, {"color": "gray"}, {"background": (9, 200, 30)}):
        image = Image.open(io.BytesIO(data))
        if loaded:
            image.load()
        assert np.array_equal(slot_of(image, exact=True, **options), slot_of(data, exact=True, **options)), options


def test_modes_that_no_file_has() -> None:
    for mode in ("HSV", "YCbCr"):
        wanted = slot_of(np.asarray(PICTURE.convert(mode).convert("RGB")))
        assert np.array_equal(slot_of(PICTURE.convert(mode)), wanted)
    with pytest.raises(arraystore.DecodeError, match="samples of 32 bits are not images of 8 or 16 bits"):
        slot_of(PICTURE.convert("F"))


def test_a_build_of_images_of_pillow() -> None:
    turned = FILES["orientation 6"]
    cut = Image.open(io.BytesIO(turned[:-700]))
    sources = [Image.open(io.BytesIO(data)) for data in (turned, FILES["palette"])]
    for options in ({}, {"processes": True, "workers": 1}):
        store = arraystore.build([*sources, cut], size=20, bad="keep", progress=False, **options)
        assert store.status.tolist() == [1, 1, 2]
        assert store.bad()[0].reason.startswith("Pillow cannot load it: image file is truncated")
        for slot, source in enumerate(sources):
            upright = ImageOps.exif_transpose(source).convert("RGB").resize((20, 20), Image.Resampling.BILINEAR)
            assert np.array_equal(store.images[slot].transpose(1, 2, 0), np.asarray(upright))
    with pytest.raises(arraystore.BadImagesError, match=r"90 x 60 pixels, more than max_pixels = 100"):
        arraystore.build([sources[0]], size=8, max_pixels=100, progress=False)


def test_a_module_that_is_being_imported_has_no_images_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", types.ModuleType("PIL.Image"))
    data = images.png(images.photo(9, 9))
    assert np.array_equal(slot_of(data), slot_of(data))


def test_images_of_pillow_are_decoded_again_when_a_build_goes_on(tmp_path: Path) -> None:
    """They have no hash that would tell whether they are those of the call before."""
    with pytest.raises(arraystore.BadImagesError):
        arraystore.build([Image.new("RGB", (8, 8), (10, 10, 10)), Image.new("F", (8, 8))], tmp_path / "x", size=8)
    with arraystore.build([Image.new("RGB", (8, 8), (200, 200, 200))] * 2, tmp_path / "x", size=8) as store:
        assert store.images[:, 0, 0, 0].tolist() == [200, 200]
