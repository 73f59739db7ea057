"""Volumes that are too small, fill up, are read-only or have no locks; mounted where only these tests see them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.faults import contents, path_of
from support.nursery import LIMIT_S, Nursery
from support.store_contract import build as build_small
from support.store_contract import count_decodes

import arraystore
from arraystore import Progress, SpaceError, StoreError
from arraystore._stores.publishing import partial_of
from arraystore._stores.unfinished.build_lock import Lock, _Holder
from arraystore._stores.unfinished.partial import PartialFolder

RESERVE = os.posix_fallocate
NAMES = ["x.store", "x.h5"]
PAGE = 4096


@pytest.fixture(scope="module")
def volumes() -> Iterator[Nursery]:
    """A nursery whose forks may mount volumes, as root or not."""
    nursery = Nursery("unshare", "--map-root-user", "--mount")
    yield nursery
    nursery.close()


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def source(count: int) -> list[Any]:
    """Images whose slots take a page each; the one in the middle is bad, if there are few."""
    data: list[Any] = [images.png(images.noise(64, 64, 1, seed=i)) for i in range(count)]
    if count < 100:
        data[count // 2] = b"bad"
    return data


def build(target: Path, count: int, **options: Any) -> arraystore.Store:
    return build_small(source(count), target, **({"size": 64, "color": "gray", "bad": "keep"} | options))


def undisturbed(folder: Path, name: str, count: int) -> dict[str, bytes]:
    (place := folder / "undisturbed").mkdir()
    build(place / name, count)
    return contents(place)


def fill_up(folder: Path, *, leave: int = 0) -> None:
    """Take all room of a volume but ``leave`` bytes."""
    with (folder / "ballast").open("wb") as file, suppress(OSError):
        RESERVE(file.fileno(), 0, os.statvfs(folder).f_bavail * PAGE - leave)
    with (folder / "ballast").open("ab", buffering=0) as file, suppress(OSError):
        while leave == 0:
            file.write(bytes(PAGE))


def without_reservation() -> None:
    """As on a volume that takes the call and sets nothing aside for the pixels.

    For the ledger it does: to read what was never written takes room on this kind of volume, and on no other.
    """

    def reserve(descriptor: int, offset: int, size: int) -> None:
        if "images." not in path_of(descriptor).name:
            RESERVE(descriptor, offset, size)

    os.posix_fallocate = reserve


# --- volumes that fill up --------------------------------------------------------------------------------------------


def leave_each(folder: Path, name: str, expected: dict[str, bytes], *, reserves: bool) -> list[str]:
    """Build with 0, 1, 2 ... pages free until one build has enough: each other must fail, and go on with more room."""
    if not reserves:
        without_reservation()
    PartialFolder._check_space = lambda _self: None  # type: ignore[method-assign]  # another process was faster
    told = []
    for pages in range(100):
        with mounted(folder, 100 * PAGE):
            fill_up(folder, leave=pages * PAGE)
            error = error_of(folder / name)
            if error is None:
                return told
            told.append(str(error))
            assert error.needed_bytes >= 6 * PAGE
            assert 0 <= error.free_bytes <= pages * PAGE
            kept = f"is kept in {partial_of(folder / name)};" in str(error)
            assert partial_of(folder / name).exists() == kept, told[-1]
            (folder / "ballast").unlink()
            build(folder / name, 6, workers=2)
            assert contents(folder) == expected
    raise AssertionError(told)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reserves", [True, False])
def test_a_volume_may_fill_up_at_any_page(volumes: Nursery, tmp_path: Path, name: str, *, reserves: bool) -> None:
    (folder := tmp_path / "volume").mkdir()
    told = volumes.run(leave_each, folder, name, undisturbed(tmp_path, name, 6), reserves=reserves)
    needs = rf"the store needs 0\.00 GB, 0\.00 GB are free on the volume of {re.escape(str(folder))}: free some space, "
    filled = rf"the volume of {re.escape(str(folder))} filled up, 0\.00 GB are free: what is done is kept in "
    assert all(re.match(f"{needs}|{filled}", message) for message in told)
    assert re.match(needs, told[0])
    assert re.match(filled, told[-1])
    assert len(told) > 8


def error_of(target: Path) -> SpaceError | None:
    try:
        build(target, 6, workers=2)
    except SpaceError as error:
        return error
    return None


def fill_up_meanwhile(folder: Path, name: str, expected: dict[str, bytes], **options: Any) -> tuple[str, int]:
    """Let somebody else fill the volume while slots are filled; return what is told, and how many were claimed."""
    without_reservation()

    def fill(now: Progress) -> None:
        if now.done >= 16 and not (folder / "ballast").exists():
            fill_up(folder)

    with mounted(folder, 4 << 20):
        with pytest.raises(SpaceError) as told:
            build(folder / name, 200, progress=fill, **options)
        with arraystore.open(folder / name, partial=True) as store:
            claimed = int(np.count_nonzero(store.status))
        (folder / "ballast").unlink()
        build(folder / name, 200)
        assert contents(folder) == expected
    return str(told.value), claimed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{"workers": 2}, {"workers": 1, "processes": True}], ids=str)
def test_a_volume_that_fills_up_meanwhile_is_told_and_nothing_is_lost(
    volumes: Nursery, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    (folder := tmp_path / "volume").mkdir()
    told, claimed = volumes.run(fill_up_meanwhile, folder, name, undisturbed(tmp_path, name, 200), **options)
    assert told == (
        f"the volume of {folder} filled up, 0.00 GB are free: what is done is kept in {folder / name}.partial; free "
        "some space, and the same call continues from there"
    )
    assert claimed < 200


def fill_up_before_publishing(folder: Path, name: str, expected: dict[str, bytes]) -> None:
    def fill(now: Progress) -> None:
        if now.done == now.total:
            fill_up(folder)

    with mounted(folder, 4 << 20), pytest.MonkeyPatch.context() as patch:
        with pytest.raises(SpaceError, match=r"filled up, 0\.00 GB are free: what is done is kept in"):
            build(folder / name, 200, progress=fill, bad="raise")
        assert not (folder / name).exists()
        (folder / "ballast").unlink()
        decoded = count_decodes(patch)
        build(folder / name, 200)
        assert decoded == []
        assert contents(folder) == expected


@pytest.mark.parametrize("name", NAMES)
def test_no_room_to_publish_costs_no_slot(volumes: Nursery, tmp_path: Path, name: str) -> None:
    (folder := tmp_path / "volume").mkdir()
    volumes.run(fill_up_before_publishing, folder, name, undisturbed(tmp_path, name, 200))


def run_out_of_files(folder: Path, name: str) -> list[str]:
    """Return what is told with 2, 3, 4 ... files allowed, until they are enough."""
    told = []
    for files in range(2, 30):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=64M,nr_inodes={files}", "none", folder], check=True)
        try:
            error = error_of(folder / name)
            if error is None:
                return told
            told.append(str(error))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
    raise AssertionError(told)


@pytest.mark.parametrize("name", NAMES)
def test_a_volume_without_room_for_another_file_is_told(volumes: Nursery, tmp_path: Path, name: str) -> None:
    (folder := tmp_path / "volume").mkdir()
    told = volumes.run(run_out_of_files, folder, name)
    assert told
    for message in told:
        assert message.startswith(f"the volume of {folder} has no room for another file, though bytes are free")
        assert "needs" not in message
        assert "0.00 GB" not in message


def write_protect(folder: Path, name: str, expected: dict[str, bytes]) -> None:
    def stop(now: Progress) -> None:
        if now.done:
            raise KeyboardInterrupt

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)

    with mounted(folder, 4 << 20):
        for begun in (False, True):
            remount("ro")
            before = contents(folder)
            with pytest.raises(OSError, match=re.escape(str(partial_of(folder / name)))) as told:
                build(folder / name, 20)
            assert told.value.errno == errno.EROFS
            assert contents(folder) == before
            remount("rw")
            if not begun:
                with pytest.raises(KeyboardInterrupt):
                    build(folder / name, 20, progress=stop)
        build(folder / name, 20)
        assert contents(folder) == expected
        remount("ro")
        assert len(arraystore.open(folder / name)) == 20


@pytest.mark.parametrize("name", NAMES)
def test_a_volume_that_is_read_only_is_told_and_not_touched(volumes: Nursery, tmp_path: Path, name: str) -> None:
    (folder := tmp_path / "volume").mkdir()
    volumes.run(write_protect, folder, name, undisturbed(tmp_path, name, 20))


# --- volumes without locks -------------------------------------------------------------------------------------------


def refuse_locks(number: int) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    fcntl.flock = flock


@pytest.fixture(params=["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def no_locks(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    monkeypatch.setattr(fcntl, "flock", fcntl.flock)
    refuse_locks(number := getattr(errno, request.param))
    return number


def hold(number: int, target: Path) -> None:
    """Be a build that has begun, and nothing more."""
    refuse_locks(number)
    partial_of(target).mkdir()
    Lock(partial_of(target) / "lock", target)
    time.sleep(LIMIT_S)


def wait_for(file: Path) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not (file.exists() and file.stat().st_size):
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def test_without_locks_a_live_build_is_found_and_a_dead_one_taken_over(
    nursery: Nursery, no_locks: int, tmp_path: Path
) -> None:
    target = tmp_path / "x.store"
    holder = nursery.start(hold, no_locks, target)
    wait_for(tmp_path / "x.store.partial" / "lock")
    for options in ({}, {"fresh": True}):
        with pytest.raises(StoreError) as told:
            build(target, 3, **options)
        assert str(told.value) == (
            f"another build into {target} is running (process {holder.pid} on {socket.gethostname()}): wait for it, or "
            "choose another target"
        )
    holder.kill()
    holder.gone()
    build(target, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["x.store"]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_build_elsewhere_is_dead_when_it_is_long_silent(tmp_path: Path) -> None:
    target = tmp_path / "x.store"
    (lock := partial_of(target) / "lock").parent.mkdir()
    lock.write_text(json.dumps({"host": "elsewhere.example", "pid": 12}) + "\n")
    now_s = time.time()
    for silent_s in (-3600, 0, 500):
        os.utime(lock, (now_s - silent_s, now_s - silent_s))
        with pytest.raises(StoreError, match=r"is running \(process 12 on elsewhere\.example\): wait for it, or"):
            build(target, 3)
    os.utime(lock, (now_s - 700, now_s - 700))
    build(target, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["x.store"]


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 1}', '{"host": "x", "pid": "y"}', "\xff"])
def test_without_locks_a_lock_that_names_nobody_holds_nobody_up(tmp_path: Path, text: str) -> None:
    target = tmp_path / "x.store"
    (lock := partial_of(target) / "lock").parent.mkdir()
    lock.write_text(text, encoding="latin-1")
    build(target, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["x.store"]


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_build_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arraystore._stores.unfinished.build_lock._SIGN_EVERY_S", 0.01)
    lock, seen = tmp_path / "x.store.partial" / "lock", list[float]()

    def look(_now: Progress) -> None:
        seen.append(lock.stat().st_mtime)
        os.utime(lock, (1, 1))
        deadline_s = time.monotonic() + LIMIT_S
        while lock.stat().st_mtime == 1 and time.monotonic() < deadline_s:
            time.sleep(0.001)

    began_s = time.time()
    build(tmp_path / "x.store", 30, progress=look, workers=1)
    assert sum(mtime >= began_s - 1 for mtime in seen) > 1


def test_a_lock_that_fails_in_another_way_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", fcntl.flock)
    refuse_locks(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        build(tmp_path / "x.store", 3)


def test_a_lock_is_never_taken_through_a_link(tmp_path: Path) -> None:
    """It would empty the file that it leads to."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "x.store.partial").mkdir()
    (tmp_path / "x.store.partial" / "lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        build(tmp_path / "x.store", 3)
    assert (tmp_path / "mine").read_text() == "mine"


# --- who holds a lock ------------------------------------------------------------------------------------------------


def holder(**changes: Any) -> str:
    return json.dumps(asdict(_Holder.of_this_process()) | changes) + "\n"


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("changes", "silent_s", "held"),
    [
        ({}, 0, False),  # this process, which has released it
        ({"began": "1"}, 0, False),  # the number was used again
        ({"pid": 1 << 30}, 0, False),
        ({"pid": 1, "system": "this boot, another namespace"}, 0, True),  # the same number means another process there
        ({"pid": 1 << 30, "system": "this boot, another namespace"}, 0, True),
        ({"pid": 1 << 30, "system": "this boot, another namespace"}, 700, False),
        ({"pid": 1 << 30, "system": ""}, 0, True),
    ],
)
def test_without_locks_only_a_holder_that_is_surely_dead_is_replaced(
    tmp_path: Path, changes: dict[str, Any], silent_s: int, *, held: bool
) -> None:
    target = tmp_path / "x.store"
    (lock := partial_of(target) / "lock").parent.mkdir()
    lock.write_text(holder(**changes))
    os.utime(lock, (time.time() - silent_s,) * 2)
    if held:
        with pytest.raises(StoreError, match="another build into"):
            build(target, 3)
    else:
        build(target, 3)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_two_threads_of_a_process_exclude_each_other(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock", tmp_path / "x")
    with pytest.raises(StoreError, match="another build into"):
        Lock(tmp_path / "lock", tmp_path / "x", tries=1)
    lock.release()
    Lock(tmp_path / "lock", tmp_path / "x", tries=1).release()


def test_a_lock_that_a_living_process_holds_is_not_taken_for_an_orphan(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock", tmp_path / "x")
    for text in ("", "{", holder(), holder(system="elsewhere")):
        (tmp_path / "lock").write_text(text)
        with pytest.raises(StoreError, match="another build into"):
            Lock(tmp_path / "lock", tmp_path / "x", tries=2)
        assert (tmp_path / "lock").read_text() == text
    lock.release()
