"""A repair refills exactly the damaged slots, and publishes a store that is what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.damage import damage
from support.store_contract import assert_equal, build, count_decodes, file_of_slots, plain

import arraystore
from arraystore import BadImagesError, SpecError, StoreError


def repair(target: Path, **options: Any) -> arraystore.Store:
    return arraystore.repair(target, **({"progress": False, "workers": 2} | options))


def everything(target: Path) -> dict[str, bytes]:
    files = sorted(target.iterdir()) if target.is_dir() else [target]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("bad", ["raise", "keep", "drop"])
def test_exactly_the_damaged_slots_are_decoded_and_every_byte_is_as_it_was(
    folder: Path, mixed: Path, target: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    build(folder if bad == "raise" else mixed, target, bad=bad)
    before = everything(target)
    damage(target, 0, 5)
    assert everything(target) != before
    decoded = count_decodes(monkeypatch)
    store = repair(target)
    assert len(decoded) == 2
    assert store.verify(progress=False).ok
    assert everything(target) == before


def test_a_whole_store_is_left_alone(folder: Path, target: Path) -> None:
    build(folder, target)
    place = file_of_slots(target)
    before = place.stat()
    assert_equal(repair(target), arraystore.open(target))
    assert (place.stat().st_ino, place.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_those_who_hold_the_damaged_store_are_not_disturbed(folder: Path, target: Path) -> None:
    build(folder, target)
    damage(target, 3)
    held = arraystore.open(target)
    pixels = plain(held.images)
    repair(target)
    np.testing.assert_array_equal(plain(held.images), pixels)


def test_a_source_that_is_gone_is_an_error_and_the_store_stays(folder: Path, target: Path, tmp_path: Path) -> None:
    build(folder, target)
    damage(target, 1, 2)
    before = everything(target)
    sorted(folder.rglob("*.*"))[1].unlink()
    with pytest.raises(BadImagesError) as caught:
        repair(target)
    assert [bad.slot for bad in caught.value.bad] == [1]
    assert caught.value.bad[0].reason == "cannot be read: No such file or directory"
    assert everything(target) == before
    store = repair(target, bad="keep")
    assert [bad.slot for bad in store.bad()] == [1]
    assert not store.images[1].any()
    assert store.verify(progress=False).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["photos", target.name])


def test_a_repair_drops_no_slot(folder: Path, target: Path) -> None:
    build(folder, target)
    damage(target, 1, 2)
    before = everything(target)
    files = sorted(folder.rglob("*.*"))
    files[1].unlink()
    with pytest.raises(SpecError, match=r"has no bad='drop': use bad='keep', which stores zeros with status 2, or"):
        repair(target, bad="drop")
    with pytest.raises(BadImagesError) as caught:
        repair(target)
    assert "drop" not in str(caught.value)
    assert everything(target) == before
    assert repair(target, bad="keep").verify(progress=False).ok


@pytest.mark.parametrize("was", ["keep", "drop"])
def test_an_update_may_drop_what_was_kept_and_dropped(mixed: Path, target: Path, was: str) -> None:
    build(mixed, target, bad=was)
    images.write_tree(mixed / "c", {"new": 1})
    store = arraystore.update(target, bad="drop", progress=False, labels=None)
    assert (len(store), len(store.dropped())) == (9, 4)
    assert store.verify(progress=False).ok
    assert not arraystore.compare(target)


def test_what_is_more_than_pixels_is_refused(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x"
    build(folder, target)
    labels = target / "labels.npy"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\1")
    with pytest.raises(StoreError) as caught:
        repair(target)
    assert str(caught.value).startswith(f"{target} cannot be repaired, because more than pixels is damaged: {labels} ")


def test_sources_in_memory_cannot_be_read_again(target: Path) -> None:
    build(np.full((3, 16, 24, 3), 7, np.uint8), target)
    damage(target, 1)
    with pytest.raises(StoreError, match=r"are not files: build it again$"):
        repair(target)


def test_an_interrupted_repair_goes_on(folder: Path, target: Path) -> None:
    build(folder, target)
    before = everything(target)
    damage(target, 1, 6)

    def interrupt(now: arraystore.Progress) -> None:
        if now.unit == "img" and now.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(target, progress=interrupt, workers=1)
    repair(target)
    assert everything(target) == before


def test_processes_repair_too(folder: Path, target: Path) -> None:
    build(folder, target)
    before = everything(target)
    damage(target, 7)
    repair(target, processes=True, workers=1)
    assert everything(target) == before
