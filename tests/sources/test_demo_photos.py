"""The sample: varied, reproducible, careful with what is there, and made without a network."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from arraystore._sources import demo_photos as sample
from arraystore._sources.demo_photos import write_sample
from arraystore.errors import MissingExtraError, SpecError, StoreExistsError

NAMES = ["astronaut", "camera", "chelsea", "coffee", "hubble", "retina", "rocket"]


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def opened(folder: Path) -> Mapping[str, Image.Image]:
    images = {path.stem: Image.open(io.BytesIO(path.read_bytes())) for path in sorted(folder.rglob("*.jpg"))}
    for image in images.values():
        image.load()
    return images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "photos"
    assert write_sample(root) == 200
    return root


@pytest.fixture(scope="module")
def images(folder: Path) -> Mapping[str, Image.Image]:
    return opened(folder)


def test_class_folders_hold_every_image_and_nothing_else(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    files = contents(folder)
    assert len(files) == 200
    assert len(set(files.values())) == 200, "two images are the same"
    assert "astronaut/astronaut-0003.jpg" in files
    per_class = [sum(name.startswith(f"{one}/{one}-") for name in files) for one in NAMES]
    assert sum(per_class) == 200
    assert max(per_class) - min(per_class) <= 1


def test_sizes_are_like_imagenet_with_some_larger(images: Mapping[str, Image.Image]) -> None:
    longer = np.array([max(image.size) for image in images.values()])
    assert longer.min() >= 200
    assert longer.max() <= 1600
    assert np.median(longer) == 500
    assert 10 <= (longer >= 800).sum() <= 40
    landscape = sum(image.width > image.height for image in images.values())
    portrait = sum(image.width < image.height for image in images.values())
    assert landscape > portrait >= 20
    assert landscape + portrait < 200, "no square image"


def test_every_kind_of_jpeg_occurs(images: Mapping[str, Image.Image]) -> None:
    everything = list(images.values())
    assert {image.format for image in everything} == {"JPEG"}
    assert 5 <= sum(image.mode == "L" for image in everything) <= 30
    assert 5 <= sum(bool(image.info.get("progressive")) for image in everything) <= 30
    sampling = [image.layer[0][1:3] for image in everything if image.mode == "RGB"]  # type: ignore[attr-defined]
    assert all(sampling.count(kind) >= 20 for kind in [(1, 1), (2, 1), (2, 2)])
    turned = [image.getexif()[0x0112] for image in everything if 0x0112 in image.getexif()]
    assert 5 <= len(turned) <= 30
    assert set(turned) == {3, 6, 8}
    # The first value of the luma table of a lower quality is larger: 3 at quality 90, 8 at 75, 2 at 95.
    tables = {image.quantization[0][0] for image in everything}  # type: ignore[attr-defined]
    assert min(tables) == 2
    assert max(tables) == 8


def test_turned_images_are_upright_once_their_orientation_is_followed(
    images: Mapping[str, Image.Image], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The first images once more, with the orientation left out: what a viewer shows must be the same.
    monkeypatch.setattr(cv2, "rotate", lambda pixels, _: pixels)
    monkeypatch.setattr(sample, "_with_orientation", lambda data, _: data)
    write_sample(tmp_path / "plain", count=80)
    upright = opened(tmp_path / "plain")
    compared = 0
    for name, image in images.items():
        if 0x0112 in image.getexif() and name in upright:
            shown = np.asarray(ImageOps.exif_transpose(image).convert("L"), np.float32)
            expected = np.asarray(upright[name].convert("L"), np.float32)
            assert shown.shape == expected.shape
            assert np.abs(shown - expected).mean() < 8, name  # a wrong turn: 30 and more
            compared += 1
    assert compared >= 5


def test_opencv_reads_every_image(folder: Path) -> None:
    for path in folder.rglob("*.jpg"):
        pixels = cv2.imread(str(path))
        assert pixels is not None
        assert pixels.std() > 3, f"{path} is blank"


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    write_sample(tmp_path / "a", count=15, seed=3)
    write_sample(tmp_path / "b", count=15, seed=3)
    write_sample(tmp_path / "c", count=15, seed=4)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "c").values())


def test_a_larger_count_keeps_the_first_images(folder: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "few", count=20)
    few = contents(tmp_path / "few")
    assert len(few) == 20
    assert few.items() <= contents(folder).items()


def test_fewer_images_than_photographs(tmp_path: Path) -> None:
    assert write_sample(tmp_path / "deep" / "er", count=2) == 2
    assert sorted(contents(tmp_path / "deep" / "er")) == ["astronaut/astronaut-0000.jpg", "camera/camera-0000.jpg"]


def test_an_empty_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_sample(".", count=1)
    assert list(contents(tmp_path)) == ["astronaut/astronaut-0000.jpg"]
    assert [path.name for path in tmp_path.iterdir()] == ["astronaut"]


def test_a_folder_that_holds_anything_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreExistsError, match="is not an empty folder; give a new folder, or an empty one"):
        write_sample(tmp_path, count=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_file_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "photos").write_text("mine")
    with pytest.raises(StoreExistsError, match="is not an empty folder"):
        write_sample(tmp_path / "photos", count=1)
    assert (tmp_path / "photos").read_text() == "mine"


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "photos" / "camera" / "theirs.txt"
    load = sample._load_photographs

    def load_and_intrude() -> dict[str, sample._Pixels]:
        theirs.parent.mkdir(parents=True)
        theirs.write_text("theirs")
        return load()

    monkeypatch.setattr(sample, "_load_photographs", load_and_intrude)
    with pytest.raises(FileExistsError):
        write_sample(tmp_path / "photos", count=3)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [theirs]
    assert theirs.read_text() == "theirs"


@pytest.mark.parametrize("kept", [True, False])
def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Any) -> None:
    root = tmp_path / "photos"
    if kept:
        root.mkdir()
    calls = threading.Semaphore(9)

    def fail_on_the_tenth(*_: object) -> bytes:
        if not calls.acquire(blocking=False):
            raise OSError(28, "No space left on device")
        return b"x"

    monkeypatch.setattr(sample, "_photo", fail_on_the_tenth)
    with pytest.raises(OSError, match="No space left"):
        write_sample(root, count=30)
    assert list(tmp_path.rglob("*")) == ([root] if kept else [])


def test_no_connection_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert write_sample(tmp_path / "photos", count=7) == 7


def test_without_scikit_image_the_error_has_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        write_sample(tmp_path / "photos")
    assert "pip install 'arraystore[sample]'" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_scikit_image_without_the_photographs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = ModuleSpec("skimage", None, is_package=True)
    elsewhere.submodule_search_locations = [str(tmp_path / "skimage")]
    monkeypatch.setattr(sample, "find_spec", lambda _: elsewhere)
    with pytest.raises(MissingExtraError) as caught:
        write_sample(tmp_path / "photos")
    assert str(tmp_path / "skimage" / "data" / "astronaut.png") in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "seed", "message"),
    [(0, 0, "count must be a whole number of 1 or more"), (1, -1, "seed must be a whole number of 0 or more")],
)
def test_impossible_options(tmp_path: Path, count: int, seed: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        write_sample(tmp_path / "photos", count=count, seed=seed)
    assert not list(tmp_path.iterdir())
