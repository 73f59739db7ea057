"""Stores of the JPEGs of their sources, byte for byte."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps
from support import images
from support.faults import contents
from support.store_contract import assert_equal
from typer.testing import CliRunner

import arraystore
from arraystore import Augment, CenterCrop, FormatError, ImageSpec, Jpeg, RandomResizedCrop, SpecError, Store
from arraystore.cli import app

NAMES = ("x.store", "x.h5")


def build(source: Any, target: Path | None = None, **options: Any) -> Store:
    return arraystore.build(source, target, **({"encode": "source", "progress": False, "workers": 2} | options))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of each orientation, of which some are squares; of other kinds; and one PNG."""
    folder = tmp_path_factory.mktemp("sources") / "photos"
    folder.mkdir()
    for way in range(1, 9):
        side = 40 + 7 * way * (way % 2)
        (folder / f"{way}.jpg").write_bytes(images.jpeg(images.photo(40, side, seed=way), orientation=way))
    whole = Image.fromarray(images.photo(33, 47))
    (folder / "gray.jpg").write_bytes(images.encode(whole.convert("L"), "jpeg"))
    (folder / "cmyk.jpg").write_bytes(images.encode(whole.convert("CMYK"), "jpeg"))
    (folder / "progressive.jpg").write_bytes(images.progressive(images.photo(50, 44)))
    (folder / "restart.jpg").write_bytes(
        images.encode(Image.fromarray(images.photo(90, 120)), "jpeg", restart_marker_blocks=1)
    )
    (folder / "png.png").write_bytes(images.png(images.photo(64, 48)))
    return folder


@pytest.fixture(scope="module")
def stores(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    for name in NAMES:
        build(photos, folder / name)
    return {name: folder / name for name in NAMES}


def files(photos: Path) -> list[Path]:
    return sorted(photos.iterdir())


def upright(file: Path) -> npt.NDArray[np.uint8]:
    """The pixels of an image as people see it, (3, H, W)."""
    with Image.open(file) as image:
        turned = ImageOps.exif_transpose(image)
        assert turned is not None
        return np.asarray(turned.convert("RGB")).transpose(2, 0, 1)


@pytest.mark.parametrize("name", [*NAMES, None])
def test_bytes_are_those_of_the_sources_and_pixels_are_upright(
    photos: Path, stores: dict[str, Path], name: str | None
) -> None:
    store = build(photos) if name is None else arraystore.open(stores[name])
    assert store.images.shape == (13, 3, None, None)
    for slot, file in enumerate(files(photos)):
        expected = upright(file)
        assert store.sides[slot].tolist() == list(expected.shape[1:])
        if file.suffix == ".jpg":
            assert bytes(store.encoded(slot)) == file.read_bytes()
            np.testing.assert_array_equal(store.images[slot], expected, strict=True)
        else:
            with Image.open(io.BytesIO(store.encoded(slot))) as made:
                np.testing.assert_array_equal(store.images[slot], np.asarray(made).transpose(2, 0, 1))
    ((slot, reason),) = [(each.slot, each.reason) for each in store.noted()]
    assert (files(photos)[slot].name, reason) == (
        "png.png",
        "it is of the format png, so it is kept as a JPEG of quality 90",
    )
    pixels = [store.images[slot].reshape(3, -1) for slot in range(13) if files(photos)[slot].suffix == ".jpg"]
    pixels.append(upright(photos / "png.png").reshape(3, -1))  # before it was encoded
    np.testing.assert_allclose(store.mean, np.concatenate(pixels, axis=1).mean(axis=1, dtype=np.float64), rtol=1e-12)
    assert store.verify(progress=False).ok


def test_restart_markers_are_added_without_loss(photos: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    marked = Jpeg(source=True, markers=True)
    store, plain = build(photos, tmp_path / "y.store", encode=marked), arraystore.open(stores["x.store"])
    assert store.spec.encode == marked
    np.testing.assert_array_equal(store.sides, plain.sides)
    np.testing.assert_array_equal(store.mean, plain.mean)
    for slot, file in enumerate(files(photos)):
        np.testing.assert_array_equal(store.images[slot], plain.images[slot])
        assert (b"\xff\xdd" in bytes(store.encoded(slot))) == (file.name != "progressive.jpg"), file
        assert file.name not in ("progressive.jpg", "png.png") or store.encoded(slot) == plain.encoded(slot)
    augment = Augment(crop=RandomResizedCrop((24, 20)), hflip=0.5)
    for batch, other in zip(*(each.loader(5, seed=4, augment=augment) for each in (store, plain)), strict=True):
        np.testing.assert_array_equal(batch[0], other[0])
    assert store.verify(progress=False).ok
    assert contents(build(stores["x.store"], tmp_path / "z.store", encode=marked).path) != {}
    again = arraystore.open(tmp_path / "z.store")
    assert [bytes(again.encoded(slot)) for slot in range(13)] == [bytes(store.encoded(slot)) for slot in range(13)]
    (photos_now := tmp_path / "photos").mkdir()
    for file in files(photos):
        shutil.copy2(file, photos_now / file.name)
    (photos_now / "1.jpg").write_bytes(images.jpeg(images.photo(41, 52, seed=70)))
    updated = arraystore.update(tmp_path / "y.store", photos_now, progress=False)
    assert b"\xff\xdd" in bytes(updated.encoded(0))
    np.testing.assert_array_equal(updated.images[0], upright(photos_now / "1.jpg"))


@pytest.mark.parametrize("options", [{"markers": True}, {"source": True, "markers": True, "restart": 0}])
def test_markers_are_for_sources(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="markers=True is for JPEGs of sources: pass source=True, and a restart of 1"):
        Jpeg(**options)


def test_media_and_workers_make_the_same(photos: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    in_ram = build(photos, workers=1)
    assert_equal(arraystore.open(stores["x.store"]), in_ram)
    in_hdf5 = arraystore.open(stores["x.h5"])  # which has another text for no note
    np.testing.assert_array_equal(in_hdf5.images.shapes, in_ram.images.shapes, strict=True)
    assert all(in_hdf5.encoded(slot) == in_ram.encoded(slot) for slot in range(13))
    assert (in_hdf5.noted(), in_hdf5.mean) == (in_ram.noted(), in_ram.mean)
    build(photos, tmp_path / "x.store", workers=2, processes=True)
    assert contents(tmp_path / "x.store") == contents(stores["x.store"])


def test_what_lies_on_disk(stores: dict[str, Path]) -> None:
    shapes = np.load(stores["x.store"] / "shapes.npy")
    assert (shapes.dtype, shapes.shape) == (np.int32, (13, 3))
    assert shapes[:8, 2].tolist() == list(range(1, 9))
    assert (shapes[8:, 2] == 1).all()


@pytest.mark.parametrize("options", [{}, {"cache": "1 MB"}])
@pytest.mark.parametrize("crop", [RandomResizedCrop((24, 20)), CenterCrop(30)])
def test_windows_are_those_of_the_upright_image(stores: dict[str, Path], crop: Any, options: dict[str, Any]) -> None:
    store, augment = arraystore.open(stores["x.store"]), Augment(crop=crop, hflip=0.5)
    for _ in range(2):
        (batch,) = store.loader(99, shuffle=False, augment=augment, seed=3, **options)
        for slot, image in enumerate(batch):
            whole = store.images[slot]
            about: Any = {"slot_shape": whole.shape, "layout": "NCHW"}
            geometry = augment.sample(np.array([slot]), seed=3, epoch=0, **about)
            out = np.empty((1, *image.shape), np.uint8)
            augment.apply(whole[None], np.array([0]), geometry, out, layout="NCHW")
            np.testing.assert_array_equal(image, out[0], err_msg=str(slot))


def test_boxes_are_those_of_the_upright_image(photos: Path) -> None:
    """The slot has the size of its upright image, so a box in pixels of that does not move."""
    every = files(photos)[:8]
    boxes = np.array([[[0, 0, *upright(file).shape[:0:-1]], [3, 4, 20, 30]] for file in every], np.float32)
    store = build([str(file) for file in every], targets={"boxes": boxes})
    np.testing.assert_array_equal(store.in_slot_pixels({"boxes": "boxes"}).target("boxes"), boxes)


def test_a_source_that_cannot_be_decoded_is_a_bad_image(photos: Path, tmp_path: Path) -> None:
    good = (photos / "1.jpg").read_bytes()
    sources = [good, good[: len(good) // 2], b"this is no image", good]
    store = build(sources, tmp_path / "x.store", bad="keep")
    assert [bad.slot for bad in store.bad()] == [1, 2]
    assert store.sides.tolist() == [[40, 47], [0, 0], [0, 0], [40, 47]]
    assert store.verify(progress=False).ok


@pytest.mark.parametrize("name", NAMES)
def test_updates_and_repairs(photos: Path, tmp_path: Path, name: str) -> None:
    folder, target = Path(shutil.copytree(photos, tmp_path / "photos")), tmp_path / name
    (folder / "png.png").unlink()
    build(folder, target)
    (folder / "3.jpg").unlink()
    (folder / "z.jpg").write_bytes(images.jpeg(images.photo(70, 50), orientation=8))
    arraystore.update(target, progress=False)
    assert_equal(arraystore.open(target), expected := build(folder))
    file = target / "encoded.npy" if target.is_dir() else target
    data = bytearray(file.read_bytes())
    data[data.find(bytes(expected.encoded(4))) + 400] ^= 0xFF
    file.write_bytes(data)
    assert [bad.slot for bad in arraystore.verify(target, progress=False).damaged] == [4]
    arraystore.repair(target, progress=False)
    assert_equal(arraystore.open(target), expected)


def test_conversions(photos: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    store = arraystore.open(stores["x.store"])
    copied = arraystore.build(store, tmp_path / "copied.store", progress=False)
    assert (copied.spec, copied.noted() != []) == (store.spec, True)
    np.testing.assert_array_equal(
        np.load(tmp_path / "copied.store" / "shapes.npy"), np.load(stores["x.store"] / "shapes.npy")
    )
    assert all(copied.encoded(slot) == store.encoded(slot) for slot in range(13))

    smaller = arraystore.build(store, size=32, fit="keep", encode="jpeg", exact=True, progress=False)
    direct = arraystore.build(photos, size=32, fit="keep", encode="jpeg", exact=True, progress=False)
    for slot, file in enumerate(files(photos)):
        assert (smaller.encoded(slot) == direct.encoded(slot)) == (file.suffix == ".jpg")

    squares = arraystore.build(photos, size=24, encode="jpeg", progress=False)
    kept = build(squares)  # whose JPEGs are sources too
    assert all(kept.encoded(slot) == squares.encoded(slot) for slot in range(13))
    both = arraystore.build(arraystore.concatenate([store, smaller]), progress=False)
    assert [bytes(both.encoded(slot)) for slot in (5, 18)] == [bytes(store.encoded(5)), bytes(smaller.encoded(5))]
    np.testing.assert_array_equal(both.images[5], store.images[5])


def test_exports_are_upright(photos: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    """The JPEG of a turned image is not copied: not every reader turns it."""
    arraystore.export(arraystore.open(stores["x.store"]), tmp_path / "out", form="folder", progress=False)
    made = sorted(path for path in (tmp_path / "out").rglob("*.jpg"))
    assert len(made) == 13
    for file, path in zip(files(photos), made, strict=True):
        with Image.open(path) as image:
            assert image.size == upright(file).shape[:0:-1]
        copied = path.read_bytes() == file.read_bytes()
        assert copied == (file.suffix == ".jpg" and file.stem not in "2345678")


@pytest.mark.parametrize("way", [-1, 9])
def test_an_orientation_that_is_none_is_an_error(stores: dict[str, Path], tmp_path: Path, way: int) -> None:
    shutil.copytree(stores["x.store"], tmp_path / "x.store")
    shapes = np.load(tmp_path / "x.store" / "shapes.npy")
    shapes[0, 2] = way
    np.save(tmp_path / "x.store" / "shapes.npy", shapes)
    with pytest.raises(FormatError, match=f"the JPEG of slot 0 is damaged: its orientation is {way}"):
        arraystore.open(tmp_path / "x.store").images[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 8}, "encode='source' keeps images in their own size, and size is 8: leave it out, or pass "),
        ({"fit": "crop"}, "encode='source' keeps the bytes of JPEGs as they are, and fit is 'crop': leave it out, or "),
        ({"icc": "srgb"}, "encode='source' keeps the bytes of JPEGs as they are, and icc is 'srgb': leave it out, or "),
        ({"truncated": "keep"}, "encode='source' keeps the bytes of JPEGs as they are, and truncated is 'keep': leave"),
        ({"encode": "sources"}, 'encode must be "jpeg", an arraystore.Jpeg, '),
    ],
)
def test_options_that_ask_for_other_pixels(options: dict[str, Any], message: str) -> None:
    for call in (lambda: ImageSpec(**{"encode": "source"} | options), lambda: build([b"x"], **options)):
        with pytest.raises(SpecError) as caught:
            call()
        assert str(caught.value).startswith(message)


def test_the_spec_is_kept(stores: dict[str, Path]) -> None:
    spec = arraystore.open(stores["x.h5"]).spec
    assert spec == ImageSpec(encode="source") == ImageSpec(encode=Jpeg(source=True), fit="keep")
    assert ImageSpec.from_dict(spec.to_dict()) == spec
    assert (spec.size, spec.slot_shape) == ((0, 0), (3, None, None))
    with pytest.raises(SpecError, match=r"^source must be True or False, not 1$"):
        Jpeg(source=1)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"^size is missing: pass size=256"):
        ImageSpec(encode="jpeg")


def test_the_command(photos: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    said("build", str(photos), str(tmp_path / "x.store"), "--encode", "source", "--quality", "80")
    assert arraystore.open(tmp_path / "x.store").spec.encode == Jpeg(80, source=True)
    told = said("info", str(tmp_path / "x.store"))
    assert "sources as they are, others as JPEG, quality 80" in told
    assert "resized by" not in told
    assert "13 of 3 x H x W uint8" in said("plan", str(photos), "--encode", "source")
    assert "so their bytes are not counted" in said("plan", str(photos), "--encode", "source", "--sample", "0")
