"""Files of 16 bits a sample that hold fewer, and color profiles."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms
from support import images

import arraystore
from arraystore import ImageSpec, SpecError, plan
from arraystore._decoding.decode import decode_into


def slot_of(data: Any, **options: Any) -> tuple[np.ndarray[Any, Any], str | None]:
    spec = ImageSpec(**{"size": (6, 8)} | options)
    slot = np.empty(spec.slot_shape, np.uint8)
    return slot, decode_into(data, slot, spec).note


# --- levels ----------------------------------------------------------------------------------------------------------

TWELVE = (np.arange(48, dtype=np.uint16) * 87).reshape(6, 8)  # 0 to 4089


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_levels_say_what_is_white(form: str) -> None:
    data = images.encode(Image.fromarray(TWELVE), form)
    slot, note = slot_of(data, levels=4095)
    assert np.array_equal(slot[0], (TWELVE.astype(int) * 510 + 4095) // (2 * 4095))
    assert note is None
    slot, note = slot_of(data)
    assert slot.max() == 16
    assert note == ("its largest sample is 4,089 of 65,535, so it is nearly black, unless levels is 4095")
    assert slot_of(data, levels=1000)[0].max() == 255


def test_files_that_say_how_many_bits_they_hold_need_no_levels() -> None:
    data = b"P5 8 6 4095\n" + TWELVE.astype(">u2").tobytes()
    slot, note = slot_of(data)
    assert np.array_equal(slot[0], (TWELVE.astype(int) * 510 + 4095) // (2 * 4095))
    assert note is None


def test_bright_and_black_files_have_no_note() -> None:
    for samples in (TWELVE * 16, TWELVE * 0):
        assert slot_of(images.encode(Image.fromarray(samples), "PNG"))[1] is None


def test_plan_tells_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(images.encode(Image.fromarray(TWELVE), "PNG"))
    notes = plan(tmp_path, size=8, progress=False).notes
    assert any(
        "1 image of the sample would be stored with a note, such as: its largest sample is 4,089" in n for n in notes
    )


@pytest.mark.parametrize("levels", [0, 65_536, 1.5, "12"])
def test_levels_that_are_none_are_refused(levels: Any) -> None:
    with pytest.raises(SpecError, match="levels"):
        ImageSpec(size=8, levels=levels)


# --- profiles --------------------------------------------------------------------------------------------------------


def rgb_profile(gamma: float) -> bytes:
    """A profile with the primaries of sRGB that exchanges red and green, and a gamma of its own."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack_from(">I", srgb, 128)[0]
    tags = {srgb[132 + 12 * i : 136 + 12 * i]: struct.unpack_from(">II", srgb, 136 + 12 * i) for i in range(count)}
    bodies = {name: srgb[at : at + size] for name, (at, size) in tags.items()}
    bodies[b"rXYZ"], bodies[b"gXYZ"] = bodies[b"gXYZ"], bodies[b"rXYZ"]
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    bodies.update(dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))
    text = "odd".encode("utf-16-be")
    bodies[b"desc"] = (
        b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(text), 28) + text + bytes(2)
    )
    table, data, at = b"", b"", 132 + 12 * len(bodies)
    for name, body in bodies.items():
        body += bytes(-len(body) % 4)  # noqa: PLW2901
        table += name + struct.pack(">II", at + len(data), len(body))
        data += body
    whole = srgb[4:128] + struct.pack(">I", len(bodies)) + table + data
    return struct.pack(">I", len(whole) + 4) + whole


ODD = rgb_profile(1.8)
PICTURE = Image.fromarray(images.photo(60, 80))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_pixels_are_converted_to_srgb(form: str, color: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = images.encode(PICTURE, form, icc_profile=ODD, **options)
    opened = Image.open(io.BytesIO(data))
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(ODD)), ImageCms.createProfile("sRGB")
    wanted = ImageCms.profileToProfile(opened, source, target, outputMode="RGB")
    if color == "gray":
        wanted = wanted.convert("L")
    resized = np.atleast_3d(np.asarray(wanted.resize((8, 6), Image.Resampling.BILINEAR)))
    slot, note = slot_of(data, icc="srgb", exact=True, color=color)
    assert np.array_equal(slot.transpose(1, 2, 0), resized)
    assert note is None
    if color == "rgb":  # red and green have changed places
        plain = slot_of(data, exact=True)[0].astype(int)
        assert np.abs(slot.astype(int) - plain).max() > 20


def test_the_profile_of_a_heic_is_read_without_a_plugin_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    file, photo = io.BytesIO(), images.photo(64, 64)
    heif = pillow_heif.from_pillow(Image.fromarray(photo))
    heif.info["icc_profile"] = rgb_profile(1.0)
    heif.save(file, quality=-1)
    plain, _ = slot_of(file.getvalue(), size=64)
    monkeypatch.setattr(Image, "OPEN", {})  # as where no plugin for the format is registered
    converted, note = slot_of(file.getvalue(), size=64, icc="srgb")
    assert note is None
    assert converted.mean() > plain.mean() + 20  # linear light is brighter in sRGB


def test_srgb_and_no_profile_change_nothing() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (
        images.encode(PICTURE, "PNG"),
        images.encode(PICTURE, "PNG", icc_profile=srgb),
        images.encode(PICTURE, "PNG", icc_profile=b"?"),
    ):
        assert np.array_equal(slot_of(data, icc="srgb")[0], slot_of(data)[0])


def test_a_profile_of_other_channels_is_noted() -> None:
    data = images.encode(PICTURE.convert("L"), "PNG", icc_profile=ODD)
    slot, note = slot_of(data, icc="srgb")
    assert note == "its color profile was not applied: it is one for RGB pixels"
    assert np.array_equal(slot, slot_of(data)[0])


def test_threads_and_processes_convert_alike(tmp_path: Path) -> None:
    for number in range(12):
        profile = ODD if number % 2 else rgb_profile(2.4)
        (tmp_path / f"{number:02d}.png").write_bytes(images.encode(PICTURE.rotate(number), "PNG", icc_profile=profile))
    one = arraystore.build(tmp_path, size=8, icc="srgb", workers=1, progress=False)
    many = arraystore.build(tmp_path, size=8, icc="srgb", workers=6, progress=False)
    assert np.array_equal(one.images, many.images)


def test_plan_counts_profiles(tmp_path: Path) -> None:
    for number in range(6):
        options = {"icc_profile": ODD} if number % 3 == 0 else {}
        (tmp_path / f"{number}.jpg").write_bytes(images.encode(PICTURE, "JPEG", **options))
    (tmp_path / "6.jpg").write_bytes(b"no image")
    told = "2 images of the sample with a color profile that is not sRGB: their pixels are taken as they are; "
    assert told + 'icc="srgb" converts them' in plan(tmp_path, size=8, progress=False).notes
    assert not [note for note in plan(tmp_path, size=8, icc="srgb", progress=False).notes if "profile" in note]
