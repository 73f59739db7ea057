"""A file of pixels that was cut short, or whose frame is damaged: what verify, open and repair say and do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.store_contract import build, count_decodes, plain

import arraystore
from arraystore import BadImagesError, FormatError, SpaceError, StoreError
from arraystore._stores import publishing

SLOT_BYTES = 3 * 16 * 24


def everything(target: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(target.iterdir())}


def repair(target: Path, **options: Any) -> arraystore.Store:
    return arraystore.repair(target, **({"progress": False, "workers": 2} | options))


def check(target: Path) -> arraystore.Verification:
    return arraystore.verify(target, progress=False)


@pytest.mark.parametrize(
    ("size", "lost"),
    [
        (4096 + 8 * SLOT_BYTES - 1, [7]),
        (4096 + 5 * SLOT_BYTES, [5, 6, 7]),
        (4096 + 2 * SLOT_BYTES + 7, [2, 3, 4, 5, 6, 7]),
        (4096, [*range(8)]),
        (100, [*range(8)]),
        (0, [*range(8)]),
    ],
)
def test_exactly_the_lost_slots_are_decoded_and_every_byte_is_as_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, lost: list[int]
) -> None:
    target = tmp_path / "x"
    build(folder, target).close()
    before = everything(target)
    os.truncate(target / "images.npy", size)
    found = check(target)
    assert [bad.slot for bad in found.damaged] == lost
    assert [fault.repairable for fault in found.faults] == [True]
    assert found.faults[0].message == (
        f"{target}/images.npy is {size:,} bytes long, but its last slot should end at {4096 + 8 * SLOT_BYTES:,}"
    )
    assert found.repairable
    with pytest.raises(FormatError):
        arraystore.open(target)
    decoded = count_decodes(monkeypatch)
    with repair(target) as store:
        assert len(store.images) == 8
    assert len(decoded) == len(lost)
    assert everything(target) == before
    assert check(target).ok


FRAMES: dict[str, Callable[[Path], object]] = {
    "bytes after the last slot": lambda file: file.write_bytes(file.read_bytes() + b"more"),
    "a header of zeros": lambda file: write_at(file, 0, bytes(100)),
    "a header of another shape": lambda file: write_at(file, 0, file.read_bytes()[:100].replace(b"(8, 3", b"(9, 3")),
}


def write_at(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b") as pixels:
        pixels.seek(offset)
        pixels.write(data)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_made_anew_without_decoding(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    target = tmp_path / "x"
    build(folder, target).close()
    before = everything(target)
    FRAMES[name](target / "images.npy")
    found = check(target)
    assert (found.ok, found.damaged, found.repairable) == (False, (), True)
    assert found.faults[0].advice == "a repair of the store makes the file anew"
    decoded = count_decodes(monkeypatch)
    repair(target).close()
    assert not decoded
    assert everything(target) == before


def test_the_published_file_is_not_written(folder: Path, tmp_path: Path) -> None:
    """A crash at any moment leaves what could be read before."""
    target = tmp_path / "x"
    build(folder, target).close()
    os.truncate(target / "images.npy", 4096 + 5 * SLOT_BYTES)
    before, number = everything(target), (target / "images.npy").stat().st_ino
    seen = []

    def interrupt(now: arraystore.Progress) -> None:
        if now.unit == "img":
            seen.append(everything(target) == before and (target / "images.npy").stat().st_ino == number)
            if now.done >= 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(target, progress=interrupt, workers=1)
    assert seen
    assert all(seen)
    assert everything(target) == before
    repair(target).close()
    assert check(target).ok
    assert not publishing.partial_of(target).exists()


def test_a_killed_publication_of_a_repair_leaves_one_of_the_two(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x"
    build(folder, target).close()
    whole = everything(target)
    os.truncate(target / "images.npy", 4096 + 5 * SLOT_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "tidy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            repair(target)
    arraystore.open(target).close()
    assert everything(target) == whole


def test_slots_beyond_the_end_that_had_failed_stay_failed(mixed: Path, tmp_path: Path) -> None:
    target = tmp_path / "x"
    build(mixed, target, bad="keep").close()
    before = everything(target)
    os.truncate(target / "images.npy", 4096)
    with repair(target) as store:
        assert [bad.slot for bad in store.bad()] == [2, 3, 7, 11]
    assert everything(target) == before


def test_a_lost_slot_whose_source_is_gone(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x"
    build(folder, target).close()
    os.truncate(target / "images.npy", 4096 + 5 * SLOT_BYTES)
    sorted(folder.rglob("*.*"))[6].unlink()
    before = everything(target)
    with pytest.raises(BadImagesError) as caught:
        repair(target)
    assert [bad.slot for bad in caught.value.bad] == [6]
    assert everything(target) == before
    with repair(target, bad="keep") as store:
        assert plain(store.status).tolist() == [1, 1, 1, 1, 1, 1, 2, 1]


def test_where_repair_refuses_verify_does_not_advise_it(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x"
    build(np.full((3, 16, 24, 3), 7, np.uint8), target).close()
    os.truncate(target / "images.npy", 4096 + 2 * SLOT_BYTES)
    assert not check(target).repairable
    with pytest.raises(StoreError, match=r"are not files: build it again$"):
        repair(target)
    build(folder, target, overwrite=True).close()
    os.truncate(target / "images.npy", 4096 + 2 * SLOT_BYTES)
    (target / "labels.npy").unlink()
    assert not check(target).repairable
    with pytest.raises((StoreError, FormatError)):
        repair(target)


def test_without_its_file_of_pixels_a_store_is_refused(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x"
    build(folder, target).close()
    (target / "images.npy").unlink()
    found = check(target)
    assert not found.repairable
    assert [fault.repairable for fault in found.faults] == [False]
    with pytest.raises(StoreError, match=r"images\.npy is missing; restore it from a copy, or build the store again$"):
        repair(target)


def test_an_hdf5_file_cut_short_is_refused_and_said(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.h5"
    build(folder, target).close()
    for size in (target.stat().st_size - 1, 12288 + 3 * SLOT_BYTES):
        os.truncate(target, size)
        found = check(target)
        assert not found.repairable
        assert found.faults[0].advice == "restore it from a copy, or write it again: what is left cannot be repaired"
        for call in (arraystore.open, repair):
            with pytest.raises(
                FormatError, match=r"; restore it from a copy, or write it again: what is left cannot be repaired$"
            ):
                call(target)


def test_bytes_after_an_hdf5_file_are_left_out(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.h5"
    build(folder, target).close()
    before = target.read_bytes()
    target.write_bytes(before + b"more")
    assert check(target).repairable
    repair(target).close()
    assert target.read_bytes() == before


def test_a_volume_without_room_leaves_the_store(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x"
    build(folder, target).close()
    os.truncate(target / "images.npy", 4096 + 5 * SLOT_BYTES)
    before = everything(target)
    monkeypatch.setattr("arraystore._common.limits.free_disk_bytes", lambda _: 1000)
    with pytest.raises(SpaceError):
        repair(target)
    assert everything(target) == before
