"""Masks of a finished store: changed ones are decoded again, whole ones are copied, and damaged ones are found."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from support import images, masks
from support.store_contract import build, count_decodes, plain

import arraystore
from arraystore import Changes, ImageSpec, ManifestError, Masks, Store, StoreError

COUNT = 12
SPEC = ImageSpec(size=(24, 16), fit="pad")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return masks.write(tmp_path / "own", COUNT)


@pytest.fixture(params=["x.store", "x.h5"])
def target(table: Path, request: pytest.FixtureRequest) -> Path:
    build(table, path := table.parents[1] / request.param, spec=SPEC, targets=masks.TARGETS).close()
    return path


def files_of(target: Path) -> dict[str, bytes]:
    files = target.iterdir() if target.is_dir() else [target]
    return {path.name: path.read_bytes() for path in files}


def compared(table: Path, target: Path, **options: Any) -> Changes:
    return arraystore.compare(target, table, targets=masks.TARGETS, **options)


def updated(table: Path, target: Path, **options: Any) -> Store:
    return arraystore.update(target, table, targets=masks.TARGETS, progress=False, **options)


def expected(table: Path) -> Any:
    return masks.slots(table.parent, SPEC, COUNT)


def flip(file: Path, at: int, by: int = 1) -> None:
    """Change a byte of a file that others may have mapped."""
    data = bytearray(file.read_bytes())
    data[at] ^= by
    file.unlink()
    file.write_bytes(data)


def place_of(target: Path, name: str) -> tuple[Path, int]:
    """The file of the images or the masks of a store, and where they begin in it."""
    if target.is_dir():
        return target / f"{name}.npy", 4096
    with h5py.File(target) as file:
        return target, file[name if name == "images" else f"targets/{name}"].id.get_offset()


def damage(target: Path, *slots: int) -> None:
    file, start = place_of(target, "mask")
    for slot in slots:
        flip(file, start + slot * 24 * 16 + 200)


# --- compare and update ----------------------------------------------------------------------------------------------


def test_nothing_has_changed(table: Path, target: Path) -> None:
    assert not compared(table, target)
    assert not compared(table, target, content=True)


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("change", ["numbers", "older", "another file"])
def test_a_changed_mask_is_decoded_again(
    table: Path, target: Path, change: str, content: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask, other = table.parent / "m/04.png", table.parent / "m/other.png"
    Image.fromarray(masks.numbers(*images.SIZES[4])).save(mask, compress_level=0)
    build(table, target, spec=SPEC, targets=masks.TARGETS, overwrite=True).close()
    Image.fromarray(masks.numbers(*images.SIZES[4], seed=50)).save(other, compress_level=0)
    assert mask.stat().st_size == other.stat().st_size
    if change == "numbers":
        other.rename(mask)
    elif change == "older":  # than it was, and than its image
        other.rename(mask)
        os.utime(mask, (10**9, 10**9))
    else:
        shutil.copystat(mask, other)
        table.write_text(table.read_text().replace("m/04.png", "m/other.png"))
    changes = compared(table, target, content=content)
    assert (list(changes.changed), changes.unchanged) == (["i/04.png"], COUNT - 1)
    decoded = count_decodes(monkeypatch)
    store = updated(table, target, content=content)
    assert len(decoded) == 1
    wanted = masks.by_pillow(masks.numbers(*images.SIZES[4], seed=50), SPEC)
    np.testing.assert_array_equal(store.targets["mask"][4], wanted)
    others = np.delete(np.arange(COUNT), 4)
    np.testing.assert_array_equal(store.targets["mask"][others], expected(table)[others])
    assert store.verify(progress=False).ok
    assert not compared(table, target)


def test_a_touched_mask_is_the_same_by_its_contents(table: Path, target: Path) -> None:
    os.utime(table.parent / "m/04.png")
    assert list(compared(table, target).changed) == ["i/04.png"]
    assert not compared(table, target, content=True)


def test_rows_come_go_and_are_renamed_with_their_masks(
    table: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, old = table.parent, expected(table)
    (folder / "i/02.png").unlink()
    for kind in "im":
        (folder / f"{kind}/05.png").rename(folder / f"{kind}/new.png")
    (folder / "i/06.png").rename(folder / "i/moved.png")  # whose mask is another one now
    Image.fromarray(masks.numbers(*images.SIZES[6], seed=60)).save(folder / "m/06.png")
    (folder / "i/12.png").write_bytes(images.png(images.noise(8, 9)))
    masks.with_palette(masks.numbers(8, 9, seed=70)).save(folder / "m/12.png")
    rows = [row for row in table.read_text().splitlines() if "i/02" not in row]
    text = "\n".join([*rows, "i/12.png,1,m/12.png"]).replace("/05.png", "/new.png").replace("i/06", "i/moved")
    table.write_text(text + "\n")
    changes = compared(table, target)
    assert list(changes.renamed) == [("i/05.png", "i/new.png")]
    assert sorted(changes.added) == ["i/12.png", "i/moved.png"]
    decoded = count_decodes(monkeypatch)
    store = updated(table, target)
    assert len(decoded) == 2
    for slot, name in enumerate(store.samples["mask"].to_pylist()):
        wanted = masks.by_pillow(Image.open(folder / str(name)), SPEC)
        np.testing.assert_array_equal(store.targets["mask"][slot], wanted, err_msg=str(name))
    np.testing.assert_array_equal(store.targets["mask"][:2], old[:2])
    assert store.verify(progress=False).ok
    assert not compared(table, target)


def test_removed_rows_can_be_kept_with_their_masks(table: Path, target: Path) -> None:
    wanted = expected(table)
    for kind in "im":
        (table.parent / f"{kind}/03.png").unlink()
    table.write_text("\n".join(row for row in table.read_text().splitlines() if "i/03" not in row) + "\n")
    os.utime(table.parent / "m/00.png")
    store = updated(table, target, removed="keep")
    np.testing.assert_array_equal(store.targets["mask"], wanted)
    assert store.samples["mask"][3].as_py() == "m/03.png"
    assert not compared(table, target, removed="keep")


@pytest.mark.parametrize("bad", ["keep", "drop"])
def test_a_mask_that_is_mended_is_tried_again_and_one_that_is_not_stays_bad(
    table: Path, target: Path, bad: Any
) -> None:
    wanted, folder = expected(table), table.parent
    whole = (folder / "m/07.png").read_bytes()
    (folder / "m/07.png").unlink()
    (folder / "m/08.png").write_bytes(whole[:50])
    store = updated(table, target, bad=bad)
    assert len(store) == (COUNT if bad == "keep" else COUNT - 2)
    assert not compared(table, target)
    (folder / "m/07.png").write_bytes(whole)
    changes = compared(table, target)
    assert [*changes.changed, *changes.added] == ["i/07.png"]
    store = updated(table, target)
    names = [str(name) for name in store.samples["mask"].to_pylist()]
    np.testing.assert_array_equal(store.targets["mask"][names.index("m/07.png")], wanted[7])
    assert len(store) == (COUNT if bad == "keep" else COUNT - 1)
    assert store.verify(progress=False).ok
    assert not compared(table, target)


def test_a_mask_that_may_not_be_read_is_tried_again(table: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arraystore._building import fill

    original = fill.read_source

    def forbidding(source: Any, max_pixels: int) -> Any:
        if str(source).endswith("m/07.png"):
            raise PermissionError(13, "Permission denied")
        return original(source, max_pixels)

    os.utime(table.parent / "m/07.png")
    with monkeypatch.context() as patch:
        patch.setattr(fill, "read_source", forbidding)
        store = updated(table, target, bad="keep")
        assert list(compared(table, target).retried) == ["i/07.png"]
        updated(table, target).close()
        assert not compared(table, target)
    reason = f"cannot be read: mask {table.parent}/m/07.png: Permission denied"
    assert [(each.slot, each.reason) for each in store.bad()] == [(7, reason)]
    os.utime(table.parent / "m/07.png", (9, 9))
    assert list(compared(table, target).changed) == ["i/07.png"]
    np.testing.assert_array_equal(updated(table, target).targets["mask"], expected(table))


def test_other_targets_than_those_of_the_store_are_refused(table: Path, target: Path) -> None:
    with pytest.raises(ManifestError, match=r"mask \(masks of 8 bits\) is only in the store"):
        arraystore.compare(target, table, targets=["label"])
    deep = {"label": "auto", "mask": "mask16"}
    with pytest.raises(ManifestError, match="mask is masks of 8 bits in the store, and masks of 16 bits in the source"):
        arraystore.compare(target, table, targets=deep)


def test_lists_are_updated_too(table: Path, tmp_path: Path) -> None:
    folder = table.parent
    paths, names = [[folder / f"{kind}/{i:02}.png" for i in range(COUNT)] for kind in "im"]
    build(paths, tmp_path / "y.store", spec=SPEC, targets={"mask": Masks(names)}).close()
    Image.fromarray(masks.numbers(*images.SIZES[4], seed=50)).save(names[4])
    store = arraystore.update(tmp_path / "y.store", paths, targets={"mask": Masks(names)}, progress=False)
    np.testing.assert_array_equal(store.targets["mask"], expected(table))


# --- damage ----------------------------------------------------------------------------------------------------------


def test_verify_names_the_slots_of_damaged_masks_and_repair_restores_them(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_of(target)
    damage(target, 2, 9)
    file, start = place_of(target, "images")
    flip(file, start + 5 * SPEC.slot_bytes)
    found = arraystore.verify(target, progress=False)
    assert [(bad.slot, bad.reason[:27]) for bad in found.damaged] == [
        (2, "its mask has checksum " + found.damaged[0].reason[22:27]),
        (5, "its pixels have checksum " + found.damaged[1].reason[25:27]),
        (9, "its mask has checksum " + found.damaged[2].reason[22:27]),
    ]
    assert found.faults == ()
    decoded = count_decodes(monkeypatch)
    store = arraystore.repair(target, progress=False)
    assert len(decoded) == 3
    assert store.verify(progress=False).ok
    assert files_of(target) == before


@pytest.mark.parametrize("target", ["x.store"], indirect=True)
def test_a_change_outside_the_masks_is_a_fault(target: Path) -> None:
    flip(target / "mask.npy", 4000, ord(" ") ^ ord("\t"))  # in the header, which still says the same
    assert not arraystore.verify(target, progress=False).ok
    with pytest.raises(StoreError, match="cannot be repaired, because more than pixels is damaged"):
        arraystore.repair(target, progress=False)
    flip(target / "mask.npy", 4000, ord(" ") ^ ord("\t"))
    assert arraystore.verify(target, progress=False).ok
    os.truncate(target / "mask.npy", 5000)
    (fault,) = arraystore.verify(target, progress=False).faults
    assert "mask.npy is 5,000 bytes long, by its own header it should be" in fault.message


def test_an_update_never_copies_a_damaged_mask(table: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(target, 2, 9)
    os.utime(table.parent / "m/00.png")
    decoded = count_decodes(monkeypatch)
    store = updated(table, target)
    assert len(decoded) == 3
    np.testing.assert_array_equal(store.targets["mask"], expected(table))
    assert store.verify(progress=False).ok


def test_a_repair_keeps_what_the_store_says_of_masks_that_have_changed_since(table: Path, target: Path) -> None:
    """Their slots are copied, so a later update must still see that their files have changed."""
    Image.fromarray(masks.numbers(*images.SIZES[4], seed=50)).save(table.parent / "m/04.png")
    old = plain(arraystore.open(target).targets["mask"])
    damage(target, 2)
    store = arraystore.repair(target, progress=False)
    np.testing.assert_array_equal(store.targets["mask"], old)
    assert list(compared(table, target).changed) == ["i/04.png"]
    np.testing.assert_array_equal(updated(table, target).targets["mask"], expected(table))


def test_a_repair_takes_another_mask_with_a_warning_and_from_another_folder_never(
    table: Path, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = table.parents[1] / "moved"
    shutil.copytree(table.parent, moved)
    for folder in (table.parent, moved):
        Image.fromarray(masks.numbers(*images.SIZES[4], seed=50)).save(folder / "m/04.png")
    damage(target, 4)
    with pytest.raises(arraystore.BadImagesError) as caught:
        arraystore.repair(target, moved, progress=False)
    assert [bad.reason for bad in caught.value.bad] == ["has another mask than the stored one"]
    store = arraystore.repair(target, progress=False)
    np.testing.assert_array_equal(store.targets["mask"], expected(table))
    assert "slot 4 gets other pixels: i/04.png has another mask than the stored one" in caplog.text


@pytest.mark.parametrize("name", ["note", "hash", "mask_checksum", "label"])
@pytest.mark.parametrize("medium", ["x.store", "x.h5"])
def test_masks_may_have_the_name_of_a_column_of_samples(table: Path, name: str, medium: str) -> None:
    folder, target = table.parent, table.parents[1] / medium
    given = {name: arraystore.Masks(folder / "m")}
    build(folder / "i", target, spec=SPEC, targets=given).close()
    assert arraystore.verify(target, progress=False).ok
    np.testing.assert_array_equal(arraystore.open(target).targets[name], expected(table))
    copy = arraystore.build(target, table.parents[1] / f"copy-{medium}", progress=False)
    assert (list(copy.targets), copy.verify(progress=False).ok) == ([name], True)
    assert not [each for each in copy.samples.column_names if each.endswith("_text")]
    if name == "label":
        assert not arraystore.compare(target, folder / "i", targets=given)
        return
    with pytest.raises(arraystore.StoreError, match="has the name of a column that samples have for themselves"):
        arraystore.compare(target, folder / "i", targets=given)


@pytest.mark.parametrize("name", ["note", "mask_stamp"])
@pytest.mark.parametrize("medium", ["x.store", "x.h5"])
def test_texts_may_have_the_name_of_a_column_that_only_some_samples_have(table: Path, name: str, medium: str) -> None:
    text = table.with_name("text.csv")
    text.write_text(f"path,{name}\n" + "".join(f"i/{i:02}.png,says {i}\n" for i in range(COUNT)))
    target = table.parents[1] / medium
    store = build(text, target, spec=SPEC, targets={name: "text"})
    assert store.samples[f"{name}_text"].to_pylist()[:2] == ["says 0", "says 1"]
    assert store.verify(progress=False).ok


def test_an_update_that_is_interrupted_goes_on(table: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(COUNT):
        Image.fromarray(masks.numbers(*images.SIZES[i % 8], seed=80 + i)).save(table.parent / f"m/{i:02}.png")

    def interrupt(now: arraystore.Progress) -> None:
        if now.done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        arraystore.update(target, table, targets=masks.TARGETS, progress=interrupt, workers=1)
    # Another row has come first meanwhile, so slots of the interrupted update belong to other rows now.
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *lines[3:], *lines[1:3]]) + "\n")
    decoded = count_decodes(monkeypatch)
    store = updated(table, target, workers=1)
    assert 0 < len(decoded) < COUNT
    for slot, name in enumerate(store.samples["mask"].to_pylist()):
        wanted = masks.by_pillow(Image.open(table.parent / str(name)), SPEC)
        np.testing.assert_array_equal(store.targets["mask"][slot], wanted)
    assert store.verify(progress=False).ok


def test_an_interrupted_update_does_not_take_the_mask_of_another_name(table: Path, target: Path) -> None:
    """Even if the two have the same size and time."""
    for i in range(COUNT):
        numbers = masks.numbers(*images.SIZES[i % 8], seed=80 + i)
        Image.fromarray(numbers).save(table.parent / f"m/{i:02}.png", compress_level=0)

    def interrupt(now: arraystore.Progress) -> None:
        if now.done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        arraystore.update(target, table, targets=masks.TARGETS, progress=interrupt, workers=1)
    mask, other = table.parent / "m/02.png", table.parent / "m/other.png"
    Image.fromarray(masks.numbers(*images.SIZES[2], seed=50)).save(other, compress_level=0)
    shutil.copystat(mask, other)
    assert mask.stat().st_size == other.stat().st_size
    table.write_text(table.read_text().replace("m/02.png", "m/other.png"))
    store = updated(table, target)
    np.testing.assert_array_equal(store.targets["mask"][2], masks.by_pillow(Image.open(other), SPEC))
    others = np.delete(np.arange(COUNT), 2)
    np.testing.assert_array_equal(store.targets["mask"][others], expected(table)[others])


def test_a_store_in_memory_checks_its_masks_by_form_alone(table: Path) -> None:
    assert build(table, spec=SPEC, targets=masks.TARGETS).verify(progress=False).ok


@pytest.mark.parametrize("target", ["x.store"], indirect=True)
@pytest.mark.parametrize(
    "value", [[], {"mask": -1}, {"mask": "255"}, {"other": 255}, {"labels": 255}, {"mask": 65535}, {"mask": 7}]
)
def test_a_description_with_false_masks_is_damaged(target: Path, value: Any) -> None:
    import json

    members = json.loads((target / "store.json").read_text()) | {"masks": value}
    (target / "store.json").write_text(json.dumps(members))
    with pytest.raises(arraystore.FormatError, match="is damaged"):
        arraystore.open(target)
