"""Smaller images keep transparency and color profiles, and files that are written are those that other readers want."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms
from support import images

import arraystore
from arraystore import ImageSpec
from arraystore._decoding.encoding.profiles import kept_profile
from arraystore._decoding.encoding.writers import jpeg_of, mask_png_of, png_of
from arraystore._decoding.header import read_header
from arraystore._decoding.pictures import keeping_alpha

SIZE = (40, 30)


def profile(length: int = 0, space: bytes = b"RGB ") -> bytes:
    """A profile that is not that of sRGB, of at least this many bytes."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    made = made[:16] + space + made[20:]
    return made + np.random.default_rng(0).bytes(max(0, length - len(made)))


def presize(folder: Path, **options: Any) -> dict[str, Image.Image]:
    """What one call makes of the files in a folder."""
    target = folder.parent / f"small-{len([*folder.parent.iterdir()])}"
    arraystore.presize(
        folder, target, progress=False, workers=1, **({} if "size" in options else {"shorter": 20}) | options
    )
    found = {}
    for path in sorted(target.iterdir()):
        if path.is_file():
            with Image.open(path) as image:
                image.load()
                found[path.name] = image
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    return tmp_path / "p"


def ragged_alpha(seed: int = 0) -> Image.Image:
    """Noise in colors and alpha, with parts that are opaque, half transparent and invisible."""
    pixels = images.noise(*SIZE, 4, seed=seed)
    pixels[:10, :, 3], pixels[10:20, :, 3] = 255, 0
    return Image.fromarray(pixels)


# --- transparency -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("filter", ["bilinear", "lanczos", "nearest"])
def test_transparent_images_become_the_png_that_pillow_makes(folder: Path, kind: str, filter: Any) -> None:
    image = ragged_alpha()
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image.save(folder / f"x.{kind.lower()}", **options)
    found = presize(folder, filter=filter)["x.png"]
    wanted = image.resize((20, 27), Image.Resampling[filter.upper()])
    assert found.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_other_ways_to_be_transparent(folder: Path) -> None:
    gray = images.noise(*SIZE, 1, seed=3)
    Image.fromarray(np.dstack([gray, gray[::-1]])).save(folder / "gray-alpha.png")
    keyed = Image.fromarray(gray)
    keyed.info["transparency"] = int(gray[0, 0])
    keyed.save(folder / "keyed.png", transparency=int(gray[0, 0]))
    palette = Image.fromarray(images.noise(*SIZE, seed=4)).quantize(16)
    palette.save(folder / "palette.png", transparency=3)
    palette.save(folder / "frame.gif", transparency=3)
    found = presize(folder, filter="nearest", size=(20, 15))
    assert sorted(found) == ["frame.png", "gray-alpha.png", "keyed.png", "palette.png"]
    for name, image in found.items():
        with Image.open(folder / (name if name != "frame.png" else "frame.gif")) as source:
            wanted = np.asarray(source.convert("RGBA").resize((15, 20), Image.Resampling.NEAREST))
        assert image.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(image)[..., 3], wanted[..., 3])
        seen = wanted[..., 3] > 0
        np.testing.assert_array_equal(np.asarray(image)[seen], wanted[seen])


def test_a_small_frame_of_a_gif_is_transparent_around_itself(folder: Path) -> None:
    data = bytearray(images.encode(Image.fromarray(images.noise(20, 10, seed=5)).quantize(8), "GIF"))
    data[6:10] = (30).to_bytes(2, "little") + (40).to_bytes(2, "little")
    (folder / "x.gif").write_bytes(data)
    alpha = np.asarray(presize(folder, shorter=100)["x.png"])[..., 3]
    assert alpha.shape == (40, 30)
    assert (alpha[:20, :10] == 255).all()
    assert (alpha.sum() == 255 * 200).all()


def test_idle_alpha_is_left_out_and_a_background_takes_the_place_of_any(folder: Path) -> None:
    opaque = ragged_alpha()
    opaque.putalpha(255)
    opaque.save(folder / "opaque.png")
    ragged_alpha().save(folder / "x.png")
    assert {name: image.mode for name, image in presize(folder).items()} == {"opaque.jpg": "RGB", "x.png": "RGBA"}
    found = presize(folder, background=(10, 200, 30), format="png")
    assert {name: image.mode for name, image in found.items()} == {"opaque.png": "RGB", "x.png": "RGB"}
    spec = ImageSpec(size=(27, 20), background=(10, 200, 30), layout="NHWC")
    slot = arraystore.build([folder / "x.png"], spec=spec, progress=False).images[0]
    np.testing.assert_array_equal(np.asarray(found["x.png"]), slot)


def test_a_spec_that_keeps_alpha_is_otherwise_the_same() -> None:
    spec = ImageSpec(size=4, filter="box")
    kept = keeping_alpha(spec)
    assert (kept.background, kept.filter, spec.background) == (None, "box", (255, 255, 255))


# --- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("length", [600, 300_000])
def test_profiles_are_kept(folder: Path, kind: str, length: int) -> None:
    wanted = profile(length)
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    Image.fromarray(images.photo(*SIZE)).save(folder / f"x.{kind.lower()}", icc_profile=wanted)
    for options in ({}, {"format": "png"}):
        (found,) = presize(folder, **options).values()
        assert found.info["icc_profile"] == wanted
    with_alpha = folder / "alpha.png"
    ragged_alpha().save(with_alpha, icc_profile=wanted)
    assert presize(folder)["alpha.png"].info["icc_profile"] == wanted


def test_profiles_of_bmp_and_jpeg_2000_are_kept(folder: Path) -> None:
    wanted = profile()
    picture = Image.fromarray(images.photo(*SIZE))
    data = images.encode(picture, "JPEG2000")
    at = data.index(b"colr") - 4
    head = data.index(b"jp2h") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    box = (11 + len(wanted)).to_bytes(4, "big") + b"colr\2\0\0" + wanted
    grown = int.from_bytes(data[head : head + 4], "big") + len(box) - size
    (folder / "x.jp2").write_bytes(
        data[:head] + grown.to_bytes(4, "big") + data[head + 4 : at] + box + data[at + size :]
    )
    bitmap = images.encode(picture, "BMP")
    dib, body = bitmap[14:54], bitmap[54:]
    dib = (124).to_bytes(4, "little") + dib[4:] + bytes(16) + b"DEBM" + bytes(52)
    dib += (124 + len(body)).to_bytes(4, "little") + len(wanted).to_bytes(4, "little") + bytes(4)
    assert len(dib) == 124
    (folder / "y.bmp").write_bytes(bitmap[:10] + (14 + 124).to_bytes(4, "little") + dib + body + wanted)
    found = presize(folder)
    assert [found[name].info["icc_profile"] for name in ("x.jpg", "y.jpg")] == [wanted, wanted]


def test_a_profile_of_other_pixels_is_not_kept_and_that_is_noted(folder: Path) -> None:
    Image.fromarray(images.photo(*SIZE)[..., 0]).save(folder / "gray.jpg", icc_profile=profile())
    Image.fromarray(images.photo(*SIZE)).convert("CMYK").save(folder / "inks.jpg", icc_profile=profile(0, b"CMYK"))
    report = arraystore.presize(folder, folder.parent / "s", shorter=20, progress=False)
    assert {noted.source: noted.reason for noted in report.noted} == {
        "gray.jpg": "its color profile is not kept: it is one for RGB pixels, and these are GRAY",
        "inks.jpg": "its color profile is not kept: it is one for CMYK pixels, and these are RGB",
    }
    for path in (folder.parent / "s").glob("*.jpg"):
        with Image.open(path) as image:
            assert "icc_profile" not in image.info


def test_profiles_are_converted(folder: Path) -> None:
    with_profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = with_profile.replace(b"sRGB", b"abcd").replace("sRGB".encode("utf-16-be"), "abcd".encode("utf-16-be"))
    picture = Image.fromarray(images.photo(18, 18))
    picture.save(folder / "x.jpg", icc_profile=other)  # small and upright, but not to be passed through
    picture.save(folder / "plain.jpg")
    found = presize(folder, icc="srgb")
    assert "icc_profile" not in found["x.jpg"].info
    assert (folder.parent / "small-1" / "plain.jpg").read_bytes() == (folder / "plain.jpg").read_bytes()
    assert (folder.parent / "small-1" / "x.jpg").read_bytes() != (folder / "x.jpg").read_bytes()
    slot = arraystore.build([folder / "x.jpg"], size=18, icc="srgb", layout="NHWC", progress=False).images[0]
    ragged_alpha().save(folder / "alpha.png", icc_profile=other)
    found = presize(folder, icc="srgb", format="png", exact=True)
    np.testing.assert_array_equal(np.asarray(found["x.png"]), slot)
    assert found["alpha.png"].mode == "RGBA"


@pytest.mark.parametrize("harm", ["cut", "bomb", "numbers"])
def test_hostile_profiles(harm: str) -> None:
    picture = Image.fromarray(images.photo(8, 8))
    data = images.encode(picture, "PNG" if harm == "bomb" else "JPEG", icc_profile=profile(200_000))
    if harm == "bomb":
        data = images.encode(picture, "PNG", icc_profile=profile()[:128] + bytes(64 << 20))
    elif harm == "cut":
        data = data[: data.index(b"ICC_PROFILE") + 5]
    else:
        data = data.replace(b"ICC_PROFILE\0\x02", b"ICC_PROFILE\0\x01")
    try:
        found = kept_profile(data, read_header(data), 3)
    except arraystore.DecodeError:
        return
    assert len(found) <= 16 << 20


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_profiles_of_mutated_files_are_read_without_a_fault(kind: str) -> None:
    data = images.encode(Image.fromarray(images.photo(8, 8)), kind, icc_profile=profile(600))
    rng = np.random.default_rng(5)
    read = 0
    for _ in range(400):
        mutant = bytearray(data[: rng.integers(16, len(data) + 1)] if rng.integers(2) else data)
        for at in rng.integers(0, len(mutant), rng.integers(0, 5)):
            mutant[at] = rng.integers(0, 256)
        try:
            header = read_header(bytes(mutant))
        except arraystore.DecodeError:
            continue
        read += 1
        assert len(kept_profile(bytes(mutant), header, 3)) <= 2 * len(data)
    assert read > 20


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (16, 17)])
def test_small_jpegs_and_pngs(size: tuple[int, int]) -> None:
    for pixels in (images.photo(*size), np.ascontiguousarray(images.photo(*size)[..., 0]), images.noise(*size, 4)):
        with Image.open(io.BytesIO(png_of(pixels))) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels)
        if pixels.shape[2:] != (4,):
            with Image.open(io.BytesIO(jpeg_of(pixels, quality=100, subsampling="444"))) as image:
                assert images.furthest(np.asarray(image), pixels) < 9


def test_a_jpeg_has_its_longest_side() -> None:
    line = np.zeros((1, 65_501), np.uint8)
    with pytest.raises(arraystore.DecodeError, match=r"65501 x 1 pixels are too many for a JPEG.*write format='png'"):
        jpeg_of(line, quality=90, subsampling="420")
    assert png_of(line)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_masks_in_gray(dtype: Any) -> None:
    numbers = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (7, 5), dtype)
    with Image.open(io.BytesIO(mask_png_of(numbers))) as image:
        np.testing.assert_array_equal(np.asarray(image), numbers)


def test_masks_with_a_palette() -> None:
    numbers = images.noise(9, 4, 1) % 3
    colors = [(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])), (b"tRNS", bytes([0]))]
    with Image.open(io.BytesIO(mask_png_of(numbers, colors))) as image:
        assert (image.mode, image.getpalette()) == ("P", [255, 0, 0, 0, 255, 0, 0, 0, 255])
        np.testing.assert_array_equal(np.asarray(image), numbers)
        assert image.info["transparency"] == 0
