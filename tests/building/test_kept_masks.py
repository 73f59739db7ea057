"""Masks of slots that differ in height and width: each has the sides of its slot, whatever builds it and stops it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from support import images, masks
from support.faults import build_in_steps, contents, wrong_claims
from support.nursery import KilledError, Nursery
from support.store_contract import count_decodes

import arraystore
from arraystore import Augment, BadImagesError, FormatError, Masks, PadAndCrop, RandomResizedCrop, SpecError, Store
from arraystore._stores.encoded.draft import LogDraft

COUNT = masks.COUNT
FORMS: dict[str, dict[str, Any]] = {
    "kept": {"size": 16, "fit": "keep", "encode": "jpeg"},
    "source": {"encode": "source"},
}
NAMES = ["x.store", "x.h5", ""]


def build(source: Any, target: Path | None = None, form: str = "kept", **options: Any) -> Store:
    every: dict[str, Any] = {"targets": masks.TARGETS, "progress": False} | FORMS[form] | options
    return arraystore.build(source, target, **every)


def named(folder: Path, name: str) -> Path | None:
    return folder / name if name else None


def mask_of(store: Store, slot: int, name: str = "mask") -> Any:
    (mask,) = store.take([slot], name)
    return mask


def expected(folder: Path, store: Store, slot: int) -> Any:
    """What Pillow makes of the mask of a slot."""
    height, width = store.sides[slot].tolist()
    mask = Image.open(folder / f"m/{slot:02}.png")
    return np.asarray(mask.resize((width, height), Image.Resampling.NEAREST))


def check(store: Store, folder: Path, bad: tuple[int, ...] = ()) -> None:
    for slot in range(len(store)):
        if slot in bad:
            assert store.sides[slot].tolist() == [0, 0]
            assert mask_of(store, slot).shape == (0, 0)
        else:
            np.testing.assert_array_equal(mask_of(store, slot), expected(folder, store, slot), strict=True)
    assert store.verify(progress=False).ok


# --- the same for any source, medium and worker -----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_mask_has_the_sides_of_its_slot(table: Path, tmp_path: Path, name: str, form: str) -> None:
    store = build(table, named(tmp_path, name), form)
    assert dict(store.description.masks) == {"mask": 255}
    check(store, table.parent)
    np.testing.assert_array_equal(store.labels, np.arange(COUNT) % 3)
    flat = store.target("mask")
    np.testing.assert_array_equal(flat.lengths, store.sides.prod(axis=1))
    assert flat.dtype == np.uint8
    if name == "x.store":
        values, offsets = (
            np.load(tmp_path / name / f"mask.{part}.npy", mmap_mode="r") for part in ("values", "offsets")
        )
        sides = np.load(tmp_path / name / "shapes.npy")[:, :2]
    elif name:
        with h5py.File(tmp_path / name) as file:
            values, offsets = file["targets/mask/values"][:], file["targets/mask/offsets"][:]
            sides = file["shapes"][:, :2]
    else:
        values, offsets, sides = flat.values, flat.offsets, store.sides
    for slot in (0, 7, 18):
        plain = values[offsets[slot] : offsets[slot + 1]].reshape(sides[slot])
        np.testing.assert_array_equal(plain, expected(table.parent, store, slot))
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(mask_of(again, 5), mask_of(store, 5))
    assert [path.name for path in tmp_path.iterdir()] == ([name] if name else [])


@pytest.mark.parametrize("name", NAMES[:2])
def test_any_workers_write_the_same_and_several_masks_lie_apart(table: Path, tmp_path: Path, name: str) -> None:
    small = [masks.numbers(*images.SIZES[i % len(images.SIZES)], seed=i) for i in range(COUNT)]
    deep = [mask.astype(np.uint16) + 1000 for mask in small]
    folder = table.parent
    sources = [folder / f"i/{i:02}.png" for i in range(COUNT)]
    given = {"mask": Masks([folder / f"m/{i:02}.png" for i in range(COUNT)]), "deep": Masks(deep, bits=16)}
    found = []
    for number, options in enumerate(({"workers": 1}, {"workers": 3}, {"workers": 2, "processes": True})):
        (place := tmp_path / str(number)).mkdir()
        store = build(sources, place / name, targets=given, **options)
        found.append(contents(place))
    assert found[0] == found[1] == found[2]
    for slot in range(COUNT):
        height, width = store.sides[slot].tolist()
        wanted = Image.fromarray(small[slot]).resize((width, height), Image.Resampling.NEAREST)
        assert mask_of(store, slot, "deep").dtype == np.uint16
        np.testing.assert_array_equal(mask_of(store, slot, "deep"), np.asarray(wanted).astype(int) + 1000)
    check(store, folder)


def test_several_stores_of_one_decode_have_their_own_masks(table: Path, tmp_path: Path) -> None:
    stores = arraystore.build(
        table, {tmp_path / "a.store": 16, tmp_path / "b.store": 24}, targets=masks.TARGETS, fit="keep", encode="jpeg",
        progress=False,
    )  # fmt: skip
    for store in stores.values():
        check(store, table.parent)


# --- bad images and kills ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_slot_without_an_image_has_no_mask(own: Path, tmp_path: Path, name: str) -> None:
    (own.parent / "m/03.png").unlink()
    (own.parent / "i/05.png").write_bytes(b"no image")
    with pytest.raises(BadImagesError, match=r"^2 of 19 "):
        build(own, named(tmp_path, name))
    store = build(own, named(tmp_path, name), bad="keep")
    check(store, own.parent, bad=(3, 5))
    for batch in store.loader(4, targets=["mask"], augment=Augment(crop=RandomResizedCrop(8))):
        assert batch["mask"].shape[1:] == (8, 8)
    dropped = build(own, named(tmp_path, f"d{name}" if name else ""), bad="drop")
    rows = [int(str(name)[2:4]) for name in dropped.samples["mask"].to_pylist()]
    assert sorted(rows) == [row for row in range(COUNT) if row not in (3, 5)]
    for slot, row in enumerate(rows):
        np.testing.assert_array_equal(mask_of(dropped, slot), mask_of(store, row))
    assert dropped.verify(progress=False).ok


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_build_that_is_killed_after_any_step_continues(
    table: Path, tmp_path: Path, nursery: Nursery, name: str
) -> None:
    options = {"targets": masks.TARGETS, **FORMS["kept"], "workers": 1}
    (calm := tmp_path / "calm").mkdir()
    steps = nursery.run(build_in_steps, table, calm / name, **options)
    wanted, oracle, kills = contents(calm), build(table), 0
    for step in range(2, steps, max(steps // 8, 1)):
        (place := tmp_path / str(step)).mkdir()
        try:
            nursery.run(build_in_steps, table, place / name, die_at=step, **options)
        except KilledError:
            kills += 1
        assert wrong_claims(place / name, oracle) == []
        if not (place / name).exists():
            build(table, place / name, workers=1)
        arraystore.open(place / name).close()  # deletes what a kill has left
        assert contents(place) == wanted
    assert kills > 5


def test_a_log_that_was_cut_is_filled_again(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_args: Any) -> None:
        raise OSError(5, "the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(LogDraft, "_finish_slots", fails)
        with pytest.raises(OSError, match="the disk is gone"):
            build(table, tmp_path / "x.store")
    log = tmp_path / "x.store.partial" / "encoded.log"
    os.truncate(log, log.stat().st_size - 7)  # the end of a mask
    decoded = count_decodes(monkeypatch)
    store = build(table, tmp_path / "x.store")
    assert len(decoded) == 1
    check(store, table.parent)


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_masks_follow_their_images(table: Path, tmp_path: Path, name: str) -> None:
    store = build(table, named(tmp_path, name))
    for crop in (RandomResizedCrop(8), PadAndCrop(4, size=12)):
        augment = Augment(crop=crop, hflip=0.5, vflip=0.5)
        loader = store.loader(4, seed=5, targets=["labels", "mask"], augment=augment, shuffle=False)
        loader.set_epoch(1)
        got = np.concatenate([batch["mask"] for batch in loader])
        for slot in range(COUNT):
            height, width = store.sides[slot].tolist()
            one: dict[str, Any] = {"slot_shape": (3, height, width), "layout": "NCHW"}
            geometry = augment.sample(np.array([slot]), seed=5, epoch=1, **one)
            follows = Augment(crop=crop, hflip=0.5, vflip=0.5, follow={"mask": "mask"})
            wanted = follows.follow_geometry(
                {"mask": mask_of(store, slot)[None]}, geometry, outside={"mask": 255}, **one
            )
            np.testing.assert_array_equal(got[slot], wanted["mask"][0])


def test_whole_masks_are_lists_and_belong_to_the_batch(table: Path) -> None:
    store = build(table)
    loader = store.loader(4, targets=["mask"], transform=lambda image: np.resize(image, (3, 3)), shuffle=False)
    batch = next(iter(loader))
    assert isinstance(batch["mask"], list)
    for slot, mask in enumerate(batch["mask"]):
        np.testing.assert_array_equal(mask, mask_of(store, slot))
        mask[...] = 7
    np.testing.assert_array_equal(mask_of(store, 0), expected(table.parent, store, 0))
    with pytest.raises(SpecError, match="these slots differ in height and width"):
        store.take([0, 1], "mask")
    with pytest.raises(SpecError, match="masks of one height and width, and these slots differ"):
        next(iter(store.loader(4, augment=Augment(crop=RandomResizedCrop(8), follow={"labels": "mask"}))))
    boxes = Augment(crop=RandomResizedCrop(8), follow={"mask": "boxes"})
    with pytest.raises(SpecError, match="boxes must be numbers, and the target is a mask of each image"):
        next(iter(store.loader(4, targets=["mask"], augment=boxes)))


def test_choices_and_stores_together_keep_masks_with_their_images(table: Path, tmp_path: Path) -> None:
    one, two = build(table, tmp_path / "x.store"), build(table)
    both = arraystore.concatenate([one, two])[::-3]
    for place, slot in enumerate(range(2 * COUNT - 1, -1, -3)):
        np.testing.assert_array_equal(both.take([place], "mask")[0], mask_of(one, slot % COUNT))
    flat = both.target("mask")
    np.testing.assert_array_equal(flat[3], both.take([3], "mask").reshape(-1))
    assert both[:0].take([], "mask").shape == (0, 0, 0)
    np.testing.assert_array_equal(build(both, targets=None).take([3], "mask"), both.take([3], "mask"))
    loader = both.loader(4, targets=["mask"], augment=Augment(crop=RandomResizedCrop(8)))
    assert sum(len(batch["mask"]) for batch in loader) == len(both)


# --- a finished store -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_changed_mask_alone_is_decoded_again(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    build(own, tmp_path / name).close()
    masks.with_palette(masks.numbers(*images.SIZES[4], seed=50)).save(own.parent / "m/04.png")
    decoded = count_decodes(monkeypatch)
    store = arraystore.update(tmp_path / name, own, targets=masks.TARGETS, progress=False)
    assert len(decoded) == 1
    check(store, own.parent)


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_damaged_mask_is_found_and_repaired(own: Path, tmp_path: Path, name: str) -> None:
    build(own, tmp_path / name).close()
    before = contents(tmp_path)
    if name == "x.store":
        file, start = tmp_path / name / "mask.values.npy", 4096
    else:
        file = tmp_path / name
        with h5py.File(file) as opened:
            start = opened["targets/mask/values"].id.get_offset()
    with arraystore.open(tmp_path / name) as store:
        begin = int(store.target("mask").offsets[6])
    data = bytearray(file.read_bytes())
    data[start + begin + 3] ^= 1
    file.unlink()
    file.write_bytes(data)
    found = arraystore.verify(tmp_path / name, progress=False)
    assert [bad.slot for bad in found.damaged] == [6]
    assert "its mask has checksum" in found.damaged[0].reason
    check(arraystore.repair(tmp_path / name, progress=False), own.parent)
    assert contents(tmp_path) == before


def test_offsets_that_do_not_fit_the_sides_are_found_and_give_no_pixels(table: Path, tmp_path: Path) -> None:
    build(table, tmp_path / "x.store").close()
    path = tmp_path / "x.store" / "mask.offsets.npy"
    offsets = np.load(path)
    offsets[4] += 5
    path.unlink()
    np.save(path, offsets)
    messages = [fault.message for fault in arraystore.verify(tmp_path / "x.store", progress=False).faults]
    assert any("mask.offsets.npy" in message for message in messages)
    store = arraystore.open(tmp_path / "x.store")
    with pytest.raises(FormatError, match=r"^the mask of slot 3 has [\d,]+ numbers, and its slot \d+ x \d+ pixels"):
        mask_of(store, 3)


@pytest.mark.parametrize("form", FORMS)
def test_masks_are_exported_and_built_from(table: Path, tmp_path: Path, form: str) -> None:
    store = build(table, tmp_path / "x.store", form)
    arraystore.export(store, tmp_path / "folder", progress=False)
    for slot in range(COUNT):
        (path,) = (tmp_path / "folder/masks/mask").rglob(f"{slot:02}.png")
        np.testing.assert_array_equal(np.asarray(Image.open(path)), mask_of(store, slot))
    for options in (FORMS["kept"], {"size": (24, 16), "fit": "pad", "encode": "none"}):
        again = arraystore.build(store, progress=False, **options)
        for slot in range(COUNT):
            mask = mask_of(store, slot)
            if again.spec.one_shape:
                wanted = masks.by_pillow(mask, again.spec)
            else:
                size = again.sides[slot].tolist()[::-1]
                wanted = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
            np.testing.assert_array_equal(mask_of(again, slot), wanted)
