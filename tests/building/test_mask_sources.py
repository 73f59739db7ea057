"""Masks that are no files: arrays, bytes, images of Pillow, and masks that are drawn in the worker."""

from __future__ import annotations

import io
import random
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from support import images, masks
from support.faults import build_in_steps, contents
from support.nursery import KilledError, Nursery
from support.store_contract import build, count_decodes

import arraystore
from arraystore import BadImagesError, ImageSpec, ManifestError, Masks, StoreError
from arraystore._sources.targets.mask_sources import DrawnMask

COUNT = 11
SPEC = ImageSpec(size=(24, 16), fit="pad")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and one of masks; tests only read it."""
    return masks.write(tmp_path_factory.mktemp("sources"), COUNT).parent


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[Path]:
    return [folder / f"i/{i:02}.png" for i in range(COUNT)]


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    return [folder / f"m/{i:02}.png" for i in range(COUNT)]


@pytest.fixture(scope="module")
def expected(folder: Path) -> Any:
    return masks.slots(folder, SPEC, COUNT)


def arrays_of(files: list[Path]) -> list[Any]:
    return [np.asarray(Image.open(path)) for path in files]


class Drawn(DrawnMask):
    """A mask of a number of its own; ``drawn`` counts how often one is asked for its numbers."""

    drawn = 0

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.mask.shape
        return height, width

    def numbers(self) -> Any:
        Drawn.drawn += 1
        return self.mask

    def digest(self) -> int:
        return hash(self.mask[:99, :99].tobytes()) & 0xFFFF_FFFF


class DrawnList:
    """What a kind of source makes of masks that are drawn."""

    may_name_files = False
    is_fixed = False

    def __init__(self, drawn: list[Any]) -> None:
        self.drawn = drawn

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, slot: int) -> Any:
        return self.drawn[slot]

    def name(self, slot: int) -> str:
        return f"drawn {slot}"

    def identity(self) -> Any:
        yield ["drawn"], ()


FORMS = {
    "arrays": arrays_of,
    "bytes": lambda files: [path.read_bytes() for path in files],
    "images of Pillow": lambda files: [Image.open(path) for path in files],
    "drawn": lambda files: DrawnList([Drawn(mask) for mask in arrays_of(files)]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{"workers": 2}, {"processes": True, "workers": 1}])
def test_masks_of_every_form_become_what_their_files_become(
    form: str, options: dict[str, Any], paths: list[Path], files: list[Path], expected: Any, tmp_path: Path
) -> None:
    given = FORMS[form](files)
    store = build(paths, tmp_path / "x.store", spec=SPEC, targets={"mask": Masks(given)}, **options)
    np.testing.assert_array_equal(store.targets["mask"], expected)
    assert dict(store.description.masks) == {"mask": 255}
    assert store.verify(progress=False).ok


@pytest.mark.parametrize("kind", ["array", "memmap", "list of rows", "of torch's shape"])
def test_one_array_of_all_masks(kind: str, tmp_path: Path) -> None:
    source = [images.noise(9, 12, seed=i) for i in range(4)]
    numbers = np.random.default_rng(0).integers(0, 255, (4, 9, 12), np.uint8)
    numbers.flags.writeable = False
    given: Any = numbers
    if kind == "memmap":
        np.save(tmp_path / "m.npy", numbers)
        given = np.load(tmp_path / "m.npy", mmap_mode="r")
    elif kind == "list of rows":
        given = list(numbers)
    elif kind == "of torch's shape":
        given = numbers[..., None]
    store = build(source, size=(6, 6), fit="crop", targets={"mask": Masks(given)})
    np.testing.assert_array_equal(store.targets["mask"], [masks.by_pillow(each, store.spec) for each in numbers])


def test_columns_are_lists_whatever_their_index(paths: list[Path], files: list[Path], expected: Any) -> None:
    names, data = list(map(str, files)), [path.read_bytes() for path in files]
    columns = [pd.Series(values, index=range(100, 100 + COUNT)) for values in (arrays_of(files), names, data)]
    columns += [pl.Series(names), pa.chunked_array([data[:3], data[3:]]), np.array(names)]
    for column in columns:
        store = build(paths, spec=SPEC, targets={"mask": Masks(column)})
        np.testing.assert_array_equal(store.targets["mask"], expected)


def test_arrays_that_are_read_lazily_are_read_one_at_a_time(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 9, (5, 8, 8), np.uint8)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["masks"] = numbers
    with h5py.File(tmp_path / "m.h5") as file:
        store = build(np.zeros((5, 8, 8), np.uint8), size=8, color="gray", targets={"mask": Masks(file["masks"])})
    np.testing.assert_array_equal(store.targets["mask"], numbers)


def test_a_mask_of_bool_is_0_and_1_and_others_keep_their_numbers() -> None:
    source = [images.noise(8, 8)] * 2
    yes = np.random.default_rng(0).integers(0, 2, (2, 8, 8)).astype(bool)
    store = build(source, size=8, targets={"mask": Masks(yes), "list": Masks(list(yes))})
    for name in ("mask", "list"):
        np.testing.assert_array_equal(store.targets[name], yes.astype(np.uint8))
    deep = np.random.default_rng(0).integers(0, 65_536, (2, 8, 8)).astype(">u2")
    store = build(source, size=8, targets={"mask": Masks(deep, bits=16)})
    np.testing.assert_array_equal(store.targets["mask"], deep)
    assert store.targets["mask"].dtype == np.uint16


@pytest.mark.parametrize("mode", ["P", "L", "1", "I;16", "I;16B"])
def test_an_image_of_pillow_gives_the_numbers_that_pillow_has(mode: str) -> None:
    mask = masks.numbers(8, 8, classes=2)
    image = masks.with_palette(mask) if mode == "P" else Image.fromarray(mask > 0)
    if mode.startswith("I;16"):
        image = Image.fromarray(mask.astype(np.uint16) * 700).convert(mode)
    elif mode == "L":
        image = Image.fromarray(mask * 33)
    assert image.mode == mode
    store = build([images.noise(8, 8)], size=8, targets={"mask": Masks([image], bits=16)})
    np.testing.assert_array_equal(store.targets["mask"][0], np.asarray(image))


def test_an_image_of_pillow_is_turned_upright_like_its_file(tmp_path: Path) -> None:
    mask = masks.numbers(8, 14)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, source in (("i.png", images.noise(8, 14)), ("m.png", mask)):
        Image.fromarray(source).save(tmp_path / name, exif=exif)
    by_file, by_pillow = (
        build([tmp_path / "i.png"], size=(14, 8), targets={"mask": Masks([each])}).targets["mask"]
        for each in (tmp_path / "m.png", Image.open(tmp_path / "m.png"))
    )
    np.testing.assert_array_equal(by_file[0], mask[::-1].T)
    np.testing.assert_array_equal(by_pillow, by_file)


# --- what is refused -------------------------------------------------------------------------------------------------

CONVERT = r"convert masks, such as with mask\.astype\(np\.uint8\)"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.zeros((2, 8, 8), np.int64), f"the masks have dtype int64, not uint8 or uint16: {CONVERT}"),
        (np.zeros((2, 8, 8), np.float32), f"the masks have dtype float32, not uint8 or uint16: {CONVERT}"),
        (np.zeros((8, 8), np.uint8), r"an array of shape \(8, 8\) is one mask: pass masks\[None\]"),
        (np.zeros((2, 1, 8, 8), np.uint8), r"have shape \(2, 1, 8, 8\), with a channel: pass masks\[:, 0\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"have shape \(2, 8, 8, 3\), not \(N, H, W\): give each pixel one number"),
        (np.ma.masked_equal(np.zeros((2, 8, 8), np.uint8), 0), r"whose holes have no number: pass masks\.filled"),
        ([np.zeros((8, 8), np.int32)] * 2, f"mask 0: its numbers are int32, not uint8 or uint16; {CONVERT}"),
        ([np.zeros((8, 8, 3), np.uint8)] * 2, r"mask 0: it is an array of shape \(8, 8, 3\), not \(H, W\)"),
        ([b"x", np.zeros((8, 8), np.uint8)], "row 1 of the masks: expected one as in row 0, found a ndarray"),
        ([np.zeros((8, 8), np.uint8), b"x"], "row 1 of the masks: expected one as in row 0, found a bytes"),
        ([b"x", "a.png"], "row 1 of the masks: expected one as in row 0, found a str"),
        (["a.png", b"x"], "row 1: expected a path, found a bytes"),
        ([1, 2], "mask 0: it is an int, no mask"),
        (Image.new("P", (8, 8)), "masks are a list, one for each image, not an Image"),
    ],
)
def test_what_is_no_mask_is_refused_before_the_build(given: Any, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        build([images.noise(8, 8)] * 2, size=8, targets={"mask": Masks(given)})


def test_root_is_for_paths() -> None:
    with pytest.raises(ManifestError, match="root is for masks that are paths: leave it out"):
        Masks([b"x"], root="/ds")


class Broken:
    """A mask that its owner cannot give."""

    def __array__(self, *_args: Any, **_options: Any) -> Any:
        raise RuntimeError("the disk of its owner is gone")


BAD_ARRAYS = {
    2: (np.zeros(images.SIZES[2], np.float32), r"mask 'mask': its numbers are float32, not uint8 or uint16"),
    4: (np.full(images.SIZES[4], 256, np.uint16), r"mask 'mask': it has the number 256, which 8 bits do not hold"),
    5: (np.zeros((5, 40), np.uint8), r"mask 'mask': it is 40 x 5 pixels, but its upright image"),
    7: (None, r"mask 'mask': it is a NoneType, no mask as the first one is"),
    8: (Broken(), r"mask 'mask': the source gave RuntimeError: the disk of its owner is gone"),
}


@pytest.mark.parametrize("options", [{"workers": 2}, {"processes": True, "workers": 1}])
def test_one_bad_array_is_one_bad_image(
    options: dict[str, Any], paths: list[Path], files: list[Path], expected: Any
) -> None:
    given = arrays_of(files)
    for slot, (mask, _) in BAD_ARRAYS.items():
        given[slot] = mask
    store = build(paths, spec=SPEC, bad="keep", targets={"mask": Masks(given)}, **options)
    assert {each.slot for each in store.bad()} == {*BAD_ARRAYS}
    for each in store.bad():
        assert re.match(BAD_ARRAYS[each.slot][1], each.reason), each.reason
    good = np.setdiff1d(np.arange(COUNT), [*BAD_ARRAYS])
    np.testing.assert_array_equal(store.targets["mask"][good], expected[good])
    assert (store.targets["mask"][[*BAD_ARRAYS]] == 255).all()


@pytest.mark.parametrize("options", [{"workers": 2}, {"processes": True, "workers": 1}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "PA", "CMYK", "I", "F", "damaged"])
def test_images_of_pillow_with_colors_are_refused_by_their_mode(mode: str, options: dict[str, Any]) -> None:
    if mode == "damaged":
        image, reason = (
            Image.open(io.BytesIO(images.png(masks.numbers(80, 80))[:1000])),
            "mask 'mask': Pillow cannot load it",
        )
    else:
        image = Image.new("P", (8, 8)).convert("RGBA").convert(mode) if mode != "PA" else Image.new("PA", (8, 8))
        reason = f"mask 'mask': its pixels are {mode}, not numbers of classes"
    good = Image.new("L", (80, 80))
    with pytest.raises(BadImagesError) as caught:
        build([images.noise(80, 80)] * 2, size=8, targets={"mask": Masks([good, image])}, **options)
    assert [bad.slot for bad in caught.value.bad] == [1]
    assert caught.value.bad[0].reason.startswith(reason)
    if mode != "damaged":
        with pytest.raises(ManifestError, match=f"mask 0: its pixels are {mode}, not numbers of classes.*of mode"):
            Masks([image, good])
    assert mode == "damaged" or 'of mode "P", "L", "I;16" or "1"' in caught.value.bad[0].reason


def test_a_drawn_mask_of_another_shape_is_not_drawn(paths: list[Path]) -> None:
    Drawn.drawn = 0
    given = DrawnList([Drawn(np.broadcast_to(np.uint8(0), (1 << 20, 1 << 20)))] * COUNT)
    with pytest.raises(BadImagesError, match="pixels, more than max_pixels"):
        build(paths, spec=SPEC, targets={"mask": Masks(given)})
    assert Drawn.drawn == 0


# --- changes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_second_call_decodes_only_slots_whose_mask_has_changed(
    form: str, paths: list[Path], files: list[Path], expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.store"
    own = shutil.copytree(files[0].parent, tmp_path / "own")
    here = [own / path.name for path in files]
    Image.new("L", (40, 5)).save(here[7])
    given = FORMS[form](here)
    with pytest.raises(BadImagesError):
        build(paths, target, spec=SPEC, targets={"mask": Masks(given)})
    decoded = count_decodes(monkeypatch)
    with pytest.raises(BadImagesError):
        build(paths, target, spec=SPEC, targets={"mask": Masks(given)})
    assert decoded == []
    if form == "bytes":
        return  # the digest of the manifest covers them, so others are another build
    new = masks.numbers(*images.SIZES[2], seed=99)
    Image.fromarray(new).save(own / "02.png")
    shutil.copy(files[7], here[7])
    store = build(paths, target, spec=SPEC, targets={"mask": Masks(FORMS[form](here))})
    assert len(decoded) == 2
    expected = expected.copy()
    expected[2] = masks.by_pillow(new, SPEC)
    np.testing.assert_array_equal(store.targets["mask"], expected)


def test_other_bytes_are_another_build(paths: list[Path], files: list[Path], tmp_path: Path) -> None:
    given = [path.read_bytes() for path in files]
    with pytest.raises(BadImagesError):
        build(paths, tmp_path / "x.store", spec=SPEC, targets={"mask": Masks([*given[:-1], b"x"])})
    with pytest.raises(StoreError, match="it had other values of the masks 'mask'"):
        build(paths, tmp_path / "x.store", spec=SPEC, targets={"mask": Masks(given)})


def test_a_build_with_arrays_that_is_killed_anywhere_is_finished_with_the_same_bytes(
    paths: list[Path], files: list[Path], tmp_path: Path, nursery: Nursery
) -> None:
    options: dict[str, Any] = {"spec": SPEC, "targets": {"mask": Masks(arrays_of(files))}, "workers": 2}
    (calm := tmp_path / "calm").mkdir()
    steps = nursery.run(build_in_steps, paths, calm / "x.store", **options)
    wanted, rng, kills = contents(calm), random.Random(11), 0
    for round_ in range(4):
        (place := tmp_path / f"{round_}").mkdir()
        for _ in range(4):
            fork = nursery.start(build_in_steps, paths, place / "x.store", die_at=rng.randint(1, steps), **options)
            try:
                fork.result()
                break
            except KilledError:
                kills += 1
            except arraystore.StoreExistsError:
                break
            finally:
                fork.gone()
        if not (place / "x.store").exists():
            build(paths, place / "x.store", **options)
        arraystore.open(place / "x.store").close()
        assert contents(place) == wanted
    assert kills > 1  # a build takes a few steps more or less, as its threads go
