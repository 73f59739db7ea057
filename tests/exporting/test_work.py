"""An export that is killed, interrupted or short of space leaves nothing under the target's name but whole exports."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.exported import encoded_slots, files_in, jpegs
from support.faults import in_steps
from support.nursery import KilledError, Nursery

import arraystore
from arraystore._exporting.writing.folder import Folder
from arraystore._format import renaming

COUNT = 7
TARGETS = ["f", "x.parquet", "x.tar", "shards"]
Form = Any


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery(modules=["arraystore._export", "exporting.test_work"])
    yield nursery
    nursery.close()


def export(target: Path, seed: int = 0, **options: Any) -> Any:
    """Export JPEGs with labels; those of another seed are others, of the same names."""
    data = jpegs(COUNT + seed)[seed:]
    slots = encoded_slots(data, targets={"labels": np.arange(COUNT) % 2}, categories={"labels": ("a", "b")})
    form: Form = "tar" if target.name == "shards" else None
    limits = {"max_bytes": 3000} if target.name == "shards" else {}
    return arraystore.export(slots, target, form, progress=False, workers=2, **limits, **options)


def export_in_steps(target: Path, *, die_at: int | None = None, exchange: bool = True, **options: Any) -> int:
    """See `in_steps`; without ``exchange`` as on a volume that cannot exchange names."""
    if not exchange:
        renaming._renameat2 = lambda *_about: False
    return in_steps(lambda: export(target, **options), target, die_at=die_at)


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_an_export_that_is_killed_anywhere_is_whole_or_not_there(tmp_path: Path, nursery: Nursery, name: str) -> None:
    (calm := tmp_path / "calm").mkdir()
    steps = nursery.run(export_in_steps, calm / name)
    wanted = files_in(calm / name)
    kills = 0
    for number in range(1, steps + 1):
        (place := tmp_path / f"killed-{number}").mkdir()
        with suppress(KilledError):
            nursery.run(export_in_steps, place / name, die_at=number)
            continue
        kills += 1
        if (place / name).exists():
            assert files_in(place / name) == wanted
        assert set(names(place)) <= {name, f"{name}.partial"}
        export(place / name, overwrite=True)
        assert files_in(place / name) == wanted
        assert names(place) == [name]
    assert kills > 5


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("name", ["f", "x.parquet"])
def test_one_that_replaces_another_and_is_killed_loses_neither(
    tmp_path: Path, nursery: Nursery, name: str, exchange: bool
) -> None:
    (calm := tmp_path / "calm").mkdir()
    export(calm / name)
    old = files_in(calm / name)
    steps = nursery.run(export_in_steps, calm / name, exchange=exchange, seed=5, overwrite=True)
    new = files_in(calm / name)
    assert old != new
    assert names(calm) == [name]
    gone = 0
    for number in {*range(max(steps - 25, 1), steps + 1), *random.Random(3).sample(range(1, steps), 4)}:
        (place := tmp_path / f"killed-{number}").mkdir()
        export(place / name)
        with suppress(KilledError):
            nursery.run(export_in_steps, place / name, die_at=number, exchange=exchange, seed=5, overwrite=True)
        gone += not (place / name).exists()
        with pytest.raises(arraystore.StoreExistsError):  # and brings an old one back that had stepped aside
            export(place / name, seed=5)
        assert files_in(place / name) in (old, new)
        assert names(place) == [name]
        export(place / name, seed=5, overwrite=True)
        assert files_in(place / name) == new
    # Only a folder has to step aside, and only where names cannot be exchanged.
    assert (gone > 0) is (name == "f" and not exchange)


def test_an_old_one_that_cannot_be_brought_back_is_kept_for_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path / "f")
    old = files_in(tmp_path / "f")

    def fail(*_about: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(renaming, "_renameat2", lambda *_about: False)
        broken.setattr(renaming, "rename_new", fail)
        with pytest.raises(OSError, match="Input/output error"):
            export(tmp_path / "f", seed=5, overwrite=True)
    assert names(tmp_path) == ["f.partial"]
    with pytest.raises(arraystore.StoreExistsError):
        export(tmp_path / "f", seed=5)
    assert files_in(tmp_path / "f") == old
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("name", TARGETS)
def test_ctrl_c_leaves_nothing(tmp_path: Path, name: str) -> None:
    def interrupt(state: arraystore.Progress) -> None:
        if state.done:
            raise KeyboardInterrupt

    data = encoded_slots(jpegs(COUNT))
    with pytest.raises(KeyboardInterrupt):
        arraystore.export(data, tmp_path / name, "tar" if name == "shards" else None, progress=interrupt)
    assert names(tmp_path) == []


def export_on_a_small_volume(target: Path, limit: int) -> tuple[str, str, list[str]]:
    """Export where no file may be larger than a limit, as on a volume with a quota."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        export(target)
    except arraystore.SpaceError as error:
        return str(error), str(error.kind), names(target.parent)
    return "", "", names(target.parent)


@pytest.mark.parametrize(("name", "limit"), [("f", 500), ("x.parquet", 3000), ("x.arrow", 3000), ("x.tar", 3000)])
def test_a_full_volume_is_told_and_nothing_is_left(tmp_path: Path, nursery: Nursery, name: str, limit: int) -> None:
    message, kind, left = nursery.run(export_on_a_small_volume, tmp_path / name, limit)
    assert "refuses to take more" in message
    assert "ask for a larger quota" in message
    assert (kind, left) == ("no space", [])


def test_a_volume_that_is_full_is_told_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_about: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Folder, "finish", refuse)
    monkeypatch.setattr("arraystore._common.limits.free_disk_bytes", lambda _folder: 0)
    message = r"filled up after 0\.00 GB, 0\.00 GB are free: free some space, or choose another volume$"
    with pytest.raises(arraystore.SpaceError, match=message) as info:
        export(tmp_path / "f")
    assert info.value.needed_bytes == sum(map(len, jpegs(COUNT)))
    assert names(tmp_path) == []


def test_a_damaged_slot_ends_it_and_nothing_is_left(tmp_path: Path) -> None:
    slots = encoded_slots(jpegs(COUNT))
    images = slots.__slot_arrays__.arrays[0].images
    spoiled = np.array(images.encoded)
    spoiled[int(images.offsets[4]) + 300] ^= 1
    object.__setattr__(images, "encoded", spoiled)
    if hasattr(images, "_bytes"):
        object.__setattr__(images, "_bytes", spoiled)
    with pytest.raises(arraystore.FormatError, match="slot 4 is damaged: its bytes are not those") as info:
        arraystore.export(slots, tmp_path / "f", progress=False)
    assert (info.value.slot, info.value.kind) == (4, "damaged")
    assert names(tmp_path) == []
    assert arraystore.export(slots[[0, 1, 2, 3, 5, 6]], tmp_path / "f", progress=False).images == 6


def test_damaged_pixels_are_not_exported(tmp_path: Path, photos: Path) -> None:
    store = arraystore.build(photos, tmp_path / "x.store", size=8, progress=False)
    with (tmp_path / "x.store" / "images.npy").open("r+b") as file:
        file.seek(4096 + 3 * 8 * 8 * 9)
        file.write(b"#")
    with pytest.raises(arraystore.FormatError, match="slot 9 is damaged"):
        arraystore.export(store, tmp_path / "f", progress=False)
    with pytest.raises(arraystore.FormatError, match="slot 0 is damaged"):
        arraystore.export(store[[9]], tmp_path / "f", progress=False)


# --- names that are taken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_that_is_there_is_kept_unless_told(tmp_path: Path, name: str) -> None:
    export(tmp_path / name)
    old = files_in(tmp_path / name)
    with pytest.raises(arraystore.StoreExistsError, match="is there already: choose another target, or replace it"):
        export(tmp_path / name, seed=5)
    assert files_in(tmp_path / name) == old
    export(tmp_path / name, seed=5, overwrite=True)
    assert files_in(tmp_path / name) != old
    assert names(tmp_path) == [name]


def folder(path: Path) -> None:
    path.mkdir()
    (path / "mine.txt").write_text("mine")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("f", folder),
        ("f", lambda path: path.write_text("mine")),
        ("x.parquet", folder),
        ("x.tar", lambda path: path.mkdir()),
    ],
)
def test_what_is_no_export_is_never_replaced(tmp_path: Path, name: str, make: Callable[[Path], object]) -> None:
    make(tmp_path / name)
    before = files_in(tmp_path / name)
    with pytest.raises(arraystore.StoreExistsError, match="is there already, and is no export of this form"):
        export(tmp_path / name, overwrite=True)
    assert files_in(tmp_path / name) == before
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("make", [folder, lambda path: path.write_text("mine"), lambda path: path.symlink_to("..")])
def test_what_another_program_has_put_in_the_way_is_left(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "f.partial")
    with pytest.raises(arraystore.StoreError, match=r"f\.partial is in the way, and was not left by an export"):
        export(tmp_path / "f")
    assert names(tmp_path) == ["f.partial"]


def test_an_unfinished_build_is_in_the_way(tmp_path: Path) -> None:
    folder(tmp_path / "f.partial")
    (tmp_path / "f.partial" / "plan.json").write_text("{}")
    (tmp_path / "f.partial" / "lock").write_text("")
    with pytest.raises(arraystore.StoreError, match="is in the way"):
        export(tmp_path / "f", overwrite=True)
    assert names(tmp_path / "f.partial") == ["lock", "mine.txt", "plan.json"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    export(tmp_path / "real" / "f")
    (tmp_path / "f").symlink_to("real/f")
    old = files_in(tmp_path / "real" / "f")
    with pytest.raises(arraystore.StoreExistsError):
        export(tmp_path / "f", seed=5)
    report = export(tmp_path / "f", seed=5, overwrite=True)
    assert report.target == tmp_path / "real" / "f"
    assert (tmp_path / "f").is_symlink()
    assert files_in(tmp_path / "real" / "f") != old
    assert names(tmp_path / "real") == ["f"]


def test_what_appears_meanwhile_is_left(tmp_path: Path) -> None:
    def appear(state: arraystore.Progress) -> None:
        if state.done and not (tmp_path / "f").exists():
            folder(tmp_path / "f")

    with pytest.raises(arraystore.StoreExistsError, match="was put there while the export was written"):
        arraystore.export(encoded_slots(jpegs(2)), tmp_path / "f", progress=appear)
    assert files_in(tmp_path / "f") == {"mine.txt": b"mine"}
    assert names(tmp_path) == ["f"]


def test_two_calls_at_once(tmp_path: Path) -> None:
    errors = []

    def again(state: arraystore.Progress) -> None:
        if state.done and not errors:
            with pytest.raises(arraystore.StoreError, match="is running") as info:
                export(tmp_path / "f")
            errors.append(info.value)

    arraystore.export(encoded_slots(jpegs(2)), tmp_path / "f", progress=again)
    assert [error.kind for error in errors] == ["busy"]
    assert names(tmp_path) == ["f"]


def test_folders_above_the_target_are_made_and_rights_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "x.tar"
    export(target)
    target.chmod(0o600)
    export(target, overwrite=True, seed=1)
    assert target.stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_into_a_store(tmp_path: Path, photos: Path) -> None:
    store = arraystore.build(photos, tmp_path / "x.store", size=8, progress=False)
    before = files_in(tmp_path / "x.store")
    for target in (tmp_path / "x.store" / "f", tmp_path / "x.store" / "a" / "x.tar"):
        with pytest.raises(arraystore.SpecError, match=r"lies in the store .*x\.store: choose a target outside"):
            arraystore.export(store, target, progress=False)
    with pytest.raises(arraystore.StoreExistsError, match="is no export of this form"):
        arraystore.export(store, tmp_path / "x.store", overwrite=True, progress=False)
    assert files_in(tmp_path / "x.store") == before
