"""Stores of JPEGs whose slots keep the aspect ratio of their images, and so differ in height and width."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import images
from support.faults import contents
from support.store_contract import assert_equal
from typer.testing import CliRunner

import arraystore
from arraystore import FormatError, ImageSpec, Jpeg, Masks, SpecError, Store
from arraystore._building.presizing.options import PresizeOptions
from arraystore._building.presizing.recipe import recipe_of
from arraystore._common.options import complete
from arraystore._decoding.encoding.writers import slot_jpeg_of
from arraystore._viewing.preview import draw_preview
from arraystore.cli import app
from arraystore.errors import Kind

SIZE = 32
SIDES = [(40, 60), (33, 90), (64, 32), (20, 31), (100, 47), (32, 32), (1, 7), (129, 128), (31, 500), (65, 64)]
WANTED = [(32, 48), (32, 87), (64, 32), (20, 31), (68, 32), (32, 32), (1, 7), (32, 32), (31, 500), (33, 32)]
BAD = 4
TURNED = 1  # its file is stored on its side
KEEP: dict[str, Any] = {"size": SIZE, "fit": "keep", "encode": Jpeg(95, "444"), "exact": True}
NAMES = ("x.store", "x.h5")


def build(source: Any, target: Path | None = None, **options: Any) -> Store:
    return arraystore.build(source, target, **({"progress": False, "workers": 2} | KEEP | options))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images, of which one is turned and one is gray."""
    folder = tmp_path_factory.mktemp("kept") / "photos"
    folder.mkdir()
    for slot, (height, width) in enumerate(SIDES):
        pixels = images.photo(height, width, seed=slot)
        data = images.png(pixels if slot != 5 else np.ascontiguousarray(pixels[..., 0]))
        if slot == TURNED:
            data = images.jpeg(np.ascontiguousarray(np.rot90(pixels)), orientation=6, quality=100, subsampling="444")
        (folder / f"{slot}.{'jpg' if slot == TURNED else 'png'}").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def stores(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store of them on each medium; tests do not change these."""
    folder = tmp_path_factory.mktemp("stores")
    for name in NAMES:
        build(photos, folder / name)
    return {name: folder / name for name in NAMES}


def reference(photos: Path, slot: int) -> npt.NDArray[np.uint8]:
    """What the slot is before it is encoded, by Pillow: (H, W, 3)."""
    (file,) = photos.glob(f"{slot}.*")
    with Image.open(file) as image:
        whole = Image.fromarray(images.photo(*SIDES[slot], seed=slot)) if slot == TURNED else image.convert("RGB")
    height, width = WANTED[slot]
    return np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR))


# --- what a slot is --------------------------------------------------------------------------------------------------


@given(height=st.integers(1, 5000), width=st.integers(1, 5000), size=st.integers(1, 1000))
def test_the_sides_are_those_of_presizing(height: int, width: int, size: int) -> None:
    every = complete("presize", PresizeOptions, {"shorter": size})
    (expected,) = recipe_of(every).placements(height, width)
    assert ImageSpec(size=size, fit="keep", encode="jpeg").place(height, width) == expected
    shorter, longer = sorted((expected.height, expected.width))
    assert shorter == min(size, height, width)
    assert abs(longer - max(height, width) * shorter / min(height, width)) <= 0.5


@pytest.mark.parametrize("name", [*NAMES, None])
def test_slots_are_the_shrunken_images(photos: Path, stores: dict[str, Path], name: str | None) -> None:
    store = build(photos) if name is None else arraystore.open(stores[name])
    assert (store.slot_shape, store.images.shape, len(store)) == ((3, None, None), (10, 3, None, None), 10)
    assert store.description.shape == (3, None, None)
    assert store.sides.tolist() == [list(sides) for sides in WANTED]
    assert f"10 x 3 x H x W uint8 NCHW, {store.medium}" in repr(store)
    every = [reference(photos, slot) for slot in range(10)]
    for slot, pixels in enumerate(every):
        with Image.open(io.BytesIO(store.encoded(slot))) as jpeg:
            decoded = np.asarray(jpeg)
        assert decoded.shape == (*WANTED[slot], 3)
        np.testing.assert_array_equal(store.images[slot], decoded.transpose(2, 0, 1), strict=True)
        np.testing.assert_array_equal(store[slot], store.images[slot])
        assert np.abs(decoded.astype(int) - pixels).mean() < 3
        if slot != TURNED:  # its source has lost something as a JPEG
            assert bytes(store.encoded(slot)) == slot_jpeg_of(np.ascontiguousarray(pixels), Jpeg(95, "444"))
    assert store.verify(progress=False).ok


def test_mean_and_std_are_those_of_all_pixels(photos: Path, tmp_path: Path) -> None:
    for slot in range(10):
        if slot != TURNED:
            shutil.copy(photos / f"{slot}.png", tmp_path)
    store = build(tmp_path)
    pixels = np.concatenate([reference(photos, slot).reshape(-1, 3) for slot in range(10) if slot != TURNED]).astype(
        float
    )
    np.testing.assert_allclose(store.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(store.std, pixels.std(0), rtol=1e-12)


def test_media_hold_the_same(photos: Path, stores: dict[str, Path]) -> None:
    in_ram = build(photos, workers=1)
    for path in stores.values():
        assert_equal(arraystore.open(path), in_ram)


def test_what_lies_on_disk(stores: dict[str, Path]) -> None:
    folder = stores["x.store"]
    shapes = np.load(folder / "shapes.npy")
    assert (shapes.dtype, shapes.tolist()) == (np.int32, [list(sides) for sides in WANTED])
    described = json.loads((folder / "store.json").read_text())
    assert (described["shape"], described["spec"]["size"], described["spec"]["fit"]) == ([3, None, None], SIZE, "keep")
    with h5py.File(stores["x.h5"]) as file:
        np.testing.assert_array_equal(file["shapes"][...], shapes, strict=True)


def test_workers_of_any_kind_make_the_same_bytes(photos: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    for number, options in enumerate(({"workers": 1}, {"workers": 2, "processes": True})):
        build(photos, tmp_path / f"{number}.store", **options)
        assert contents(tmp_path / f"{number}.store") == contents(stores["x.store"])


@pytest.mark.parametrize("options", [{"layout": "NHWC"}, {"color": "gray"}, {"color": "gray", "icc": "srgb"}])
def test_other_layouts_and_colors(photos: Path, options: dict[str, Any]) -> None:
    store = build(photos, **options)
    channels = 1 if "color" in options else 3
    for slot, (height, width) in enumerate(WANTED):
        shape = (height, width, channels) if "layout" in options else (channels, height, width)
        assert store.images[slot].shape == shape
        with Image.open(io.BytesIO(store.encoded(slot))) as jpeg:
            expected = np.asarray(jpeg).reshape(height, width, channels)
        found = store.images[slot] if "layout" in options else store.images[slot].transpose(1, 2, 0)
        np.testing.assert_array_equal(found, expected)


def test_an_image_that_is_too_long_for_a_jpeg_is_a_bad_one() -> None:
    long = np.zeros((1, 65_501, 3), np.uint8)
    store = build([long, long[:, :65_500]], bad="keep")
    (bad,) = store.bad()
    assert (bad.slot, bad.reason) == (
        0,
        "its slot of 65501 x 1 pixels is too large for a JPEG, whose sides have up to 65,500",
    )
    assert store.sides.tolist() == [[0, 0], [1, 65_500]]


# --- bad images, repair and update -----------------------------------------------------------------------------------


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """The same images, which a test may change."""
    return Path(shutil.copytree(photos, tmp_path / "photos"))


@pytest.mark.parametrize("name", [*NAMES, None])
def test_a_failed_slot_has_no_pixels(folder: Path, tmp_path: Path, name: str | None) -> None:
    (folder / f"{BAD}.png").write_bytes(b"this is no image")
    kept = build(folder, name and tmp_path / name, bad="keep")
    assert (kept.sides[BAD].tolist(), bytes(kept.encoded(BAD)), kept[BAD].shape) == ([0, 0], b"", (3, 0, 0))
    assert kept.verify(progress=False).ok
    dropped = build(folder, name and tmp_path / name, bad="drop", overwrite=True)
    assert sorted(dropped.sides.tolist()) == sorted(list(each) for slot, each in enumerate(WANTED) if slot != BAD)
    assert dropped.mean == kept.mean
    assert dropped.verify(progress=False).ok


@pytest.mark.parametrize("name", NAMES)
def test_updates_and_repairs_give_what_a_build_gives(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    build(folder, target)
    (folder / "3.png").unlink()
    (folder / "6.png").write_bytes(images.png(images.photo(50, 70, seed=99)))
    (folder / "new.png").write_bytes(images.png(images.photo(70, 50, seed=98)))
    updated = arraystore.update(target, progress=False)
    assert len(updated) == 10
    expected = build(folder)
    assert_equal(arraystore.open(target), expected)

    data = bytearray((target / "encoded.npy" if target.is_dir() else target).read_bytes())
    at = data.find(bytes(expected.encoded(2)))
    data[at + 300] ^= 0xFF
    (target / "encoded.npy" if target.is_dir() else target).write_bytes(data)
    assert [bad.slot for bad in arraystore.verify(target, progress=False).damaged] == [2]
    arraystore.repair(target, progress=False)
    assert_equal(arraystore.open(target), expected)


def test_an_unfinished_build_is_read_and_finished(folder: Path, tmp_path: Path) -> None:
    good = (folder / "7.png").read_bytes()
    (folder / "7.png").write_bytes(b"bad")
    with pytest.raises(arraystore.BadImagesError):
        build(folder, tmp_path / "x.store")
    partial = arraystore.open(tmp_path / "x.store", partial=True)
    assert partial.sides[3:].tolist() == [[0, 0] if slot == 7 else list(WANTED[slot]) for slot in range(3, 10)]
    (folder / "7.png").write_bytes(good)
    np.testing.assert_array_equal(partial.images[8], build(folder, tmp_path / "x.store").images[8])


# --- from and to other stores ----------------------------------------------------------------------------------------


def test_conversions(stores: dict[str, Path], tmp_path: Path) -> None:
    store = arraystore.open(stores["x.store"])
    copied = arraystore.build(store[::-1], tmp_path / "copied.h5", progress=False)
    assert [bytes(copied.encoded(slot)) for slot in range(10)] == [bytes(store.encoded(9 - slot)) for slot in range(10)]
    np.testing.assert_array_equal(copied.sides, store.sides[::-1])

    smaller = build(store, size=16, encode="jpeg")
    assert smaller.sides.min(axis=1).tolist() == [min(16, *sides) for sides in WANTED]

    squares = arraystore.build(store, size=24, fit="crop", encode="none", exact=True, progress=False)
    assert squares.images.shape == (10, 3, 24, 24)
    expected = arraystore.build(list(map(_channels_last, store.images)), size=24, fit="crop", progress=False)
    np.testing.assert_array_equal(squares.images, expected.images)
    raised = _said(lambda: arraystore.build(store, encode="none", progress=False))
    assert raised == (
        "fit='keep' makes slots of different heights and widths, and only JPEGs may differ in these: pass "
        "encode='jpeg' with it, or another fit"
    )


def test_stores_of_two_sizes_are_joined(photos: Path, stores: dict[str, Path]) -> None:
    first = arraystore.open(stores["x.store"])
    both = arraystore.concatenate([first, build(photos, size=16)])
    made = arraystore.build(both, progress=False)
    assert (made.spec.height, made.spec.encode) == (SIZE, first.spec.encode)
    np.testing.assert_array_equal(made.sides, both.sides)
    assert all(made.encoded(slot) == both.encoded(slot) for slot in range(20))
    other = arraystore.build(arraystore.concatenate([first, build(photos, encode=Jpeg(50))]), progress=False)
    assert other.spec.encode == Jpeg()  # and so all are encoded alike
    assert other.encoded(0) != first.encoded(0)


def test_slots_of_pixels_become_such_slots(photos: Path) -> None:
    raw = arraystore.build(photos, size=(40, 90), progress=False)
    made = build(raw)
    assert made.sides.tolist() == [[32, 72]] * 10


def _channels_last(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(image.transpose(1, 2, 0))


def _said(call: Callable[[], object]) -> str:
    with pytest.raises(SpecError) as caught:
        call()
    return str(caught.value)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (32, 32)}, "fit='keep' takes one number as size, the shorter side in pixels, not (32, 32)"),
        ({"encode": None}, "only JPEGs may differ in these: pass encode='jpeg' with it, or another fit"),
        ({"encode": "none"}, "only JPEGs may differ in these: pass encode='jpeg' with it, or another fit"),
    ],
)
def test_options_that_do_not_go_with_it(options: dict[str, Any], message: str) -> None:
    assert _said(lambda: ImageSpec(**KEEP | options)).endswith(message)
    assert _said(lambda: build([np.zeros((4, 4, 3), np.uint8)], **options)).endswith(message)


def test_masks_of_slots_of_one_shape_become_masks_of_slots_that_differ() -> None:
    pixels, mask = [np.zeros((4, 6, 3), np.uint8)], np.arange(24, dtype=np.uint8).reshape(4, 6)
    targets: Any = {"regions": Masks([mask])}
    raw = arraystore.build(pixels, size=(4, 6), targets=targets, progress=False)
    for source in (raw, build(raw)):
        np.testing.assert_array_equal(build(source).take([0], "regions")[0], mask)
    assert arraystore.plan(pixels, targets=targets, progress=False, **KEEP).store_bytes > mask.nbytes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((32, 49), "the JPEG of slot 0 is damaged: it has 32 by 48 pixels of jpeg, not 32 by 49 of jpeg"),
        ((0, 48), "the JPEG of slot 0 is damaged: it should have 0 by 48 pixels"),
        ((-1, 48), "the JPEG of slot 0 is damaged: it should have -1 by 48 pixels"),
        ((65_535, 65_535), "the JPEG of slot 0 is damaged: it should have 65,535 by 65,535 pixels"),
        ((2**31 - 1, 1), "the JPEG of slot 0 is damaged: it should have 2,147,483,647 by 1 pixels"),
    ],
)
def test_wrong_sides_are_an_error(
    stores: dict[str, Path], tmp_path: Path, name: str, sides: tuple[int, int], message: str
) -> None:
    """Neither wrong pixels nor any amount of memory."""
    target = tmp_path / name
    if name == "x.store":
        shutil.copytree(stores[name], target)
        shapes = np.load(target / "shapes.npy")
        shapes[0] = sides
        np.save(target / "shapes.npy", shapes)
    else:
        shutil.copy(stores[name], target)
        with h5py.File(target, "r+") as file:
            file["shapes"][0] = sides
    store = arraystore.open(target)
    with pytest.raises(FormatError, match=re.escape(message)) as caught:
        store.images[0]
    assert (caught.value.slot, caught.value.kind) == (0, Kind.DAMAGED)
    assert store.images[1].shape == (3, *WANTED[1])
    assert not store.verify(progress=False).ok


@pytest.mark.parametrize("shapes", [np.zeros((10, 2), np.int64), np.zeros((10, 3), np.int32), np.zeros(20, np.int32)])
def test_shapes_of_another_form_are_an_error(stores: dict[str, Path], tmp_path: Path, shapes: Any) -> None:
    shutil.copytree(stores["x.store"], tmp_path / "x.store")
    np.save(tmp_path / "x.store" / "shapes.npy", shapes)
    with pytest.raises(FormatError):
        arraystore.open(tmp_path / "x.store")


# --- the command, and what people look at ----------------------------------------------------------------------------


def test_the_command(photos: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    how = ("--size", "32", "--fit", "keep", "--encode", "jpeg")
    assert "10 images of 3 x H x W (NCHW)" in said("build", str(photos), str(tmp_path / "x.store"), *how)
    told = said("info", str(tmp_path / "x.store"))
    assert "10 of 3 x H x W uint8" in told
    assert "1 to 68 px high, 7 to 500 px wide" in told
    planned = said("plan", str(photos), *how)
    assert "10 of 3 x H x W uint8" in planned
    assert ".npy folder" not in planned
    assert CliRunner().invoke(app, ["build", str(photos), "y", "--size", "32x40", *how[2:]]).exit_code != 0


def test_plans_count_the_pixels_of_the_sample(photos: Path) -> None:
    planned = arraystore.plan(photos, **KEEP)
    assert planned.pixel_bytes == 3 * sum(height * width for height, width in WANTED)
    assert set(planned.media) == {"ram", "encoded", "encoded-hdf5"}
    assert planned.medium == "encoded"


def test_a_preview_shows_slots_of_different_shapes(folder: Path, tmp_path: Path) -> None:
    (folder / f"{BAD}.png").write_bytes(b"bad")
    store = build(folder, bad="keep")
    draw_preview(store, tmp_path / "x.png", slots=[0, BAD, 8, 2])
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.size[0] > 4 * 192
