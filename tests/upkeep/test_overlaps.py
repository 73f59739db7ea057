"""Calls on one store that overlap, end early or come late: each row keeps the pixels of its own source."""

from __future__ import annotations

import ctypes
import itertools
import os
import pickle
import random
import shutil
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.damage import damage
from support.faults import path_of, update_in_steps
from support.nursery import LIMIT_S, KilledError, Nursery
from support.store_contract import DEFAULTS, assert_equal, build, count_decodes, options_of, plain

import arraystore
from arraystore import FormatError, Kind, Store, StoreError
from arraystore._format import renaming
from arraystore._format.checking import verification
from arraystore._stores import publishing
from arraystore._stores.pinned import PinnedName
from arraystore._stores.unfinished.build_lock import Lock
from arraystore._upkeep import compare as compare_module
from arraystore._upkeep import update as update_module


# JPEGs share the names, the locks and the renames of a folder of pixels.
@pytest.fixture(params=["x.store", "x.h5", pytest.param("x.jpegs", marks=pytest.mark.long)])
def target(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in options_of(request.param).items():
        monkeypatch.setitem(DEFAULTS, name, value)
    return tmp_path / str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images in one class, that a test may change."""
    for number in range(6):
        write(tmp_path / "photos" / "a" / f"{number}.png", number)
    return tmp_path / "photos"


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.png(images.photo(30, 41, seed=seed)))


def update(path: Path, *args: Any, **options: Any) -> Store:
    return arraystore.update(path, *args, **({"progress": False, "workers": 2} | options))


def check(target: Path, folder: Path) -> None:
    """Each row has the pixels of its own source, and every source has a row; nothing else is left."""
    store, oracle = arraystore.open(target), build(folder)
    rows = dict(zip(oracle.samples["source"].to_pylist(), plain(oracle.images), strict=True))
    names = store.samples["source"].to_pylist()
    assert sorted(names) == sorted(rows)
    for slot, name in enumerate(names):
        np.testing.assert_array_equal(store.images[slot], rows[name], err_msg=name)
    assert arraystore.verify(target, progress=False).ok
    assert {path.name for path in target.parent.iterdir()} <= {target.name, folder.name, "link"}
    if target.is_dir():
        assert not {path.name for path in target.iterdir()} & {*publishing.WORKING, publishing.NEW_PLAN}


# --- slots of a store that is gone -----------------------------------------------------------------------------------


def test_changes_of_another_store_are_refused(target: Path, folder: Path) -> None:
    build(folder, target)
    write(folder / "a" / "9.png", 9)
    changes = arraystore.compare(target)
    first = (folder / "a" / "0.png").rename(folder.parent / "0.png")
    update(target)
    first.rename(folder / "a" / "0.png")
    with pytest.raises(StoreError, match="has been changed since these changes were found: compare again"):
        update(target, changes=changes)
    assert len(arraystore.open(target)) == 6
    update(target)
    check(target, folder)


def test_a_verification_of_another_store_is_refused(target: Path, folder: Path) -> None:
    build(folder, target)
    damage(target, 3)
    found = arraystore.verify(target, progress=False)
    assert [bad.slot for bad in found.damaged] == [3]
    (folder / "a" / "0.png").unlink()
    update(target)
    damage(target, 1)
    with pytest.raises(StoreError, match="has been changed since it was verified: verify it again"):
        arraystore.repair(target, verification=found, progress=False)
    arraystore.repair(target, progress=False)
    check(target, folder)


def update_after(flag: Path, target: Path) -> None:
    """Update, and wait for a file between the comparison and the copying."""
    original = update_module.compare

    def compare(*args: Any, **options: Any) -> Any:
        changes = original(*args, **options)
        while not flag.exists():
            time.sleep(0.001)
        return changes

    update_module.compare = compare
    (flag.parent / "compared").touch()
    update(target)


def test_an_update_that_another_one_overtakes_compares_again(
    nursery: Nursery, target: Path, folder: Path, tmp_path: Path
) -> None:
    build(folder, target)
    write(folder / "a" / "9.png", 9)
    (flags := tmp_path.parent / f"{tmp_path.name} flags").mkdir()
    first = nursery.start(update_after, flags / "go", target)
    while not (flags / "compared").exists():
        time.sleep(0.001)
    time.sleep(0.2)
    (folder / "a" / "0.png").unlink()
    update(target)
    (flags / "go").touch()
    first.result()
    check(target, folder)


def test_a_slot_is_copied_only_for_its_own_source(target: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the numbers of the slots were wrong, no row would get the pixels of another one."""
    build(folder, target)
    write(folder / "a" / "9.png", 9)
    original = compare_module._Comparison.changes

    def changes(self: Any, **options: Any) -> Any:
        made = original(self, **options)
        object.__setattr__(made, "slots", np.r_[np.roll(made.slots[:6], 1), -1])
        return made

    monkeypatch.setattr(compare_module._Comparison, "changes", changes)
    update(target)
    check(target, folder)


def verify_until(target: Path, end: Path) -> list[str]:
    told = []
    while not end.exists():
        found = arraystore.verify(target, progress=False, workers=1)
        told += [fault.message for fault in found.faults] + [bad.reason for bad in found.damaged]
    return told


def test_a_check_during_updates_finds_no_damage(nursery: Nursery, target: Path, folder: Path) -> None:
    build(folder, target)
    end = target.parent / "end"
    checks = [nursery.start(verify_until, target, end) for _ in range(2)]
    for turn in range(1, 13):
        write(folder / "a" / "9.png", turn % 2)
        os.utime(folder / "a" / "9.png", (turn, turn))
        update(target)
    end.touch()
    for each in checks:
        assert each.result() == []
    end.unlink()
    check(target, folder)


def test_a_check_that_lasts_for_updates_sees_that_the_store_is_another(
    target: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second update may give it the inode of the first store, if nothing keeps that one."""
    build(folder, target).close()
    original, turns = verification._Check._check_samples, iter(range(1, 7))

    def check_samples(self: Any, *args: Any) -> None:
        links = [link for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link)]
        assert target in {link.readlink() for link in links}
        for turn in turns:
            write(folder / "a" / f"1{turn}.png", turn)
            update(target).close()
        original(self, *args)

    monkeypatch.setattr(verification._Check, "_check_samples", check_samples)
    found = arraystore.verify(target, progress=False, workers=1)
    assert (found.faults, found.damaged, found.slots) == ((), (), 12)


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_pinned_name_knows_its_own(tmp_path: Path, *, is_folder: bool) -> None:
    path = tmp_path / "x"

    def make() -> None:
        path.mkdir() if is_folder else path.write_bytes(b"")

    make()
    with PinnedName(path) as name:
        assert name.still_leads_there()
        for _ in range(20):  # of which a volume gives some the inode of the first one, if that is free
            path.rmdir() if is_folder else path.unlink()
            assert not name.still_leads_there()
            make()
            assert not name.still_leads_there()
    with PinnedName(tmp_path / "nothing") as name:
        assert name.still_leads_there()
        (tmp_path / "nothing").touch()
        assert not name.still_leads_there()


# --- a store that is held --------------------------------------------------------------------------------------------


def test_a_held_store_keeps_its_tables(target: Path, folder: Path) -> None:
    (folder / "a" / "2.png").write_bytes(b"bad")
    build(folder, target, bad="keep")
    held = arraystore.open(target)
    write(folder / "a" / "2.png", 2)
    (folder / "a" / "0.png").unlink()
    (folder / "a" / "1.png").write_bytes(b"worse")
    update(target, bad="keep")
    assert held.samples["source"].to_pylist() == [f"a/{number}.png" for number in range(6)]
    assert [bad.slot for bad in held.bad()] == [2]
    assert held.dropped() == []
    assert [bad.slot for bad in arraystore.open(target).bad()] == [0]
    with pytest.raises(FormatError, match=r"was replaced or removed after it was opened: open it again"):
        pickle.loads(pickle.dumps(held))


def test_a_held_store_keeps_its_dropped_sources(target: Path, folder: Path) -> None:
    (folder / "a" / "2.png").write_bytes(b"bad")
    build(folder, target, bad="drop")
    held = arraystore.open(target)
    write(folder / "a" / "2.png", 2)
    update(target)
    assert [bad.source for bad in held.dropped()] == ["a/2.png"]
    assert arraystore.open(target).dropped() == []
    assert pickle.loads(pickle.dumps(arraystore.open(target))).samples.num_rows == 6


# --- updates that were killed ----------------------------------------------------------------------------------------


def kill_after(nursery: Nursery, target: Path, slots: int, **options: Any) -> None:
    """Start an update and kill it when it has claimed some slots."""
    with pytest.raises(KilledError):
        nursery.run(update_and_die, target, slots, **options)


def update_and_die(target: Path, slots: int, **options: Any) -> None:
    from arraystore._building import checkpoint
    from arraystore._stores.unfinished.partial import PartialFolder

    checkpoint._CLAIM_EVERY_S = 0.0
    original, claimed = PartialFolder.claim, []

    def claim(self: Any, runs: Any) -> None:
        original(self, runs)
        claimed.extend(slot for run in runs for slot in range(run.start, run.start + len(run.rows)))
        if len(claimed) >= slots:
            os.kill(os.getpid(), signal.SIGKILL)

    PartialFolder.claim = claim  # type: ignore[method-assign]
    arraystore.update(target, progress=False, workers=1, **options)


@pytest.mark.parametrize("name", ["00.png", "5x.png", "zz.png"])  # before all others, in the middle, after them
def test_a_killed_update_is_used_by_one_with_another_image(
    nursery: Nursery, target: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    build(folder, target)
    for number in range(8):
        write(folder / "a" / f"6{number}.png", 60 + number)
    kill_after(nursery, target, 14)
    assert publishing.partial_of(target).is_dir()
    write(folder / "a" / name, 99)
    decoded = count_decodes(monkeypatch)
    update(target, workers=1)
    assert len(decoded) == 1
    check(target, folder)


def test_a_killed_update_is_used_after_an_image_was_removed(
    nursery: Nursery, target: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(folder, target)
    for number in range(8):
        write(folder / "a" / f"6{number}.png", 60 + number)
    kill_after(nursery, target, 14)
    (folder / "a" / "1.png").unlink()
    (folder / "a" / "62.png").unlink()
    write(folder / "a" / "65.png", 98)
    decoded = count_decodes(monkeypatch)
    update(target, workers=1)
    assert len(decoded) == 1
    check(target, folder)


def test_what_cannot_be_used_is_still_refused(nursery: Nursery, target: Path, folder: Path) -> None:
    build(folder, target)
    write(folder / "a" / "9.png", 9)
    kill_after(nursery, target, 3)
    with pytest.raises(StoreError, match=r"holds an unfinished build of something else: .*fresh=True"):
        build(folder, target, size=8, overwrite=True)
    update(target)
    check(target, folder)


def test_content_counts_for_what_was_claimed_without_it(nursery: Nursery, target: Path, folder: Path) -> None:
    build(folder, target)
    write(folder / "a" / "9.png", 9)
    path = folder / "a" / "0.png"
    info = path.stat()
    kill_after(nursery, target, 7)
    data = bytearray(path.read_bytes())
    other = images.png(images.photo(30, 41, seed=77))
    data[:] = other[: len(data)].ljust(len(data), b"\0")  # bytes after the end of a PNG are ignored
    assert len(other) <= len(data), "the test needs a picture that is no larger"
    path.write_bytes(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    update(target, content=True)
    check(target, folder)


def die_before_tidying(target: Path, call: str, **options: Any) -> None:
    publishing.tidy = lambda *_about: os.kill(os.getpid(), signal.SIGKILL)
    if call == "update":
        arraystore.update(target, progress=False, **options)
    else:
        build(options.pop("source"), target, **options)


@pytest.mark.parametrize("call", ["update", "build"])
def test_a_call_after_a_kill_between_rename_and_tidying_does_its_own_work(
    nursery: Nursery, target: Path, folder: Path, call: str
) -> None:
    turns = itertools.count(1)

    def killed() -> None:
        write(folder / "a" / "9.png", turn := next(turns))
        os.utime(folder / "a" / "9.png", (turn, turn))
        options = {"source": folder, "overwrite": True} if call == "build" else {}
        with pytest.raises(KilledError):
            nursery.run(die_before_tidying, target, call, **options)

    build(folder, target)
    killed()
    write(folder / "a" / "7.png", 7)
    update(target)
    check(target, folder)

    killed()
    damage(target, 2)
    arraystore.repair(target, progress=False)
    check(target, folder)

    killed()
    write(folder / "a" / "9.png", 19)
    build(folder, target, overwrite=True)
    check(target, folder)

    killed()
    damage(target, 2)
    build(folder, target, overwrite=True, fresh=True)
    check(target, folder)

    for look in (arraystore.open, lambda path: arraystore.verify(path, progress=False), arraystore.compare):
        killed()
        assert publishing.partial_of(target).exists() or (target / "plan.json").exists()
        look(target)
        check(target, folder)


def test_a_build_that_was_killed_there_is_finished_by_the_same_call(
    nursery: Nursery, target: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KilledError):
        nursery.run(die_before_tidying, target, "build", source=folder)
    decoded = count_decodes(monkeypatch)
    assert_equal(build(folder, target), build(folder))
    assert len(decoded) == 6  # of the build in RAM
    check(target, folder)


@pytest.mark.parametrize("left", [[], ["plan.json"]])
def test_a_look_in_the_moment_in_which_a_call_ends_leaves_no_lock(
    nursery: Nursery, target: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, left: list[str]
) -> None:
    """The look has seen the plan, and locks; meanwhile the other call has deleted its lock, and perhaps the plan."""
    with pytest.raises(KilledError):
        nursery.run(die_before_tidying, target, "build", source=folder)
    original = publishing._lock_if_free

    def late(place: Path, of: Path) -> Any:
        publishing.clear(place, [name for name in publishing.WORKING if name not in left])
        return original(place, of)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_lock_if_free", late)
        arraystore.open(target)
    inside = {path.name for path in target.iterdir()} if target.is_dir() else set()
    assert not inside & {*publishing.WORKING}
    assert not publishing.partial_of(target).exists()
    check(target, folder)


def test_a_build_waits_for_one_that_only_looks(target: Path, folder: Path) -> None:
    """A look that deletes the files of a replaced store holds the lock for a moment, which a busy machine draws out."""
    partial = publishing.partial_of(target)
    partial.mkdir()
    lock = Lock(partial / "lock", target, brief=True)
    assert (partial / "lock").read_bytes() == b""
    timer = threading.Timer(1.0, lock.release)
    timer.start()
    build(folder, target)
    timer.join()
    check(target, folder)


def build_and_stop(source: Path, target: Path) -> None:
    """Build, and stop in the middle of the tidying, with the ledger gone and the plan there."""
    original = publishing._delete
    others = [] if target.suffix == ".store" else [publishing.partial_of(target)]
    stopped: list[str] = []

    def delete(folder: int, names: Any) -> None:
        for name in names:
            original(folder, [name])
            if name == publishing.LEDGER and path_of(folder) in (target, *others) and not stopped:
                stopped.append(name)
                os.kill(os.getpid(), signal.SIGSTOP)

    publishing._delete = delete
    build(source, target, overwrite=True)


@pytest.mark.parametrize("ends", ["goes on", "is killed"])
def test_a_store_is_not_replaced_while_the_call_that_made_it_tidies_up(
    nursery: Nursery, target: Path, folder: Path, ends: str
) -> None:
    build(folder, target)
    fork = nursery.start(build_and_stop, folder, target)
    while Path(f"/proc/{fork.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)
    write(folder / "a" / "9.png", 9)
    with pytest.raises(StoreError, match=rf"is running \(process {fork.pid} on ") as busy:
        update(target)
    assert busy.value.kind is Kind.BUSY
    if ends == "is killed":
        fork.kill()
    os.killpg(fork.pid, signal.SIGCONT)
    try:
        fork.result()
    except KilledError:
        assert ends == "is killed"
    fork.gone()
    update(target)
    check(target, folder)


@pytest.mark.parametrize("exchange", [True, False])
def test_an_update_that_is_killed_at_any_step_leaves_a_store(
    nursery: Nursery, target: Path, folder: Path, tmp_path: Path, *, exchange: bool
) -> None:
    build(folder, target)
    shutil.copytree(folder, tmp_path / "before")
    write(folder / "a" / "9.png", 9)
    (folder / "a" / "0.png").unlink()
    (measured := tmp_path / "measured").mkdir()
    shutil.copytree(target, measured / target.name) if target.is_dir() else shutil.copy(target, measured)
    last = nursery.run(update_in_steps, measured / target.name, exchange=exchange)
    kills = 0
    for die_at in range(max(last - 32, 1) + random.randrange(3), last + 1, 3):
        (place := tmp_path / str(die_at)).mkdir()
        shutil.copytree(target, place / target.name) if target.is_dir() else shutil.copy(target, place)
        shutil.copytree(folder, place / "photos")
        try:
            nursery.run(update_in_steps, place / target.name, die_at=die_at, exchange=exchange)
        except KilledError:
            kills += 1
        else:  # it needed fewer steps, because more slots were claimed at once
            assert die_at > last - 20
            continue
        assert len(arraystore.open(place / target.name)) == 6, "the next call did not bring a store back"
        update(place / target.name)
        check(place / target.name, place / "photos")
    assert kills > 3


# --- links, rights, locks --------------------------------------------------------------------------------------------


def test_through_a_link_the_store_behind_it_is_replaced(target: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / f"real{target.suffix}"
    link = tmp_path / "link"
    build(folder, real)
    link.symlink_to(f"elsewhere/{real.name}")
    write(folder / "a" / "9.png", 9)
    assert len(update(link)) == 7
    damage(real, 2)
    arraystore.repair(link, progress=False)
    named = tmp_path / f"link{target.suffix}"
    link.rename(named)
    write(folder / "a" / "9.png", 19)
    build(folder, named, overwrite=True)
    assert named.is_symlink()
    named.rename(link)
    assert [path.name for path in real.parent.iterdir()] == [real.name]
    shutil.move(real, target)
    link.unlink()
    real.parent.rmdir()
    check(target, folder)


@pytest.mark.parametrize("call", ["update", "repair", "overwrite"])
def test_rights_outlive_a_replacement(target: Path, folder: Path, call: str) -> None:
    build(folder, target)
    everything = [target, *target.iterdir()] if target.is_dir() else [target]
    for path in everything:
        path.chmod(0o750 if path.is_dir() else 0o640)
        if os.geteuid() == 0:
            os.chown(path, 1234, 5678)
    seen: list[int] = []

    def look(_now: arraystore.Progress) -> None:
        seen.append(stat.S_IMODE(publishing.partial_of(target).stat().st_mode))

    if call == "update":
        write(folder / "a" / "9.png", 9)
        update(target, progress=look)
    elif call == "repair":
        damage(target, 2)
        arraystore.repair(target, verification=arraystore.verify(target, progress=False), progress=look)
    else:
        build(folder, target, overwrite=True, progress=look)
    assert set(seen) == {0o750}, "others could read the pixels while they were written"
    for path in [target, *target.iterdir()] if target.is_dir() else [target]:
        info = path.stat()
        assert stat.S_IMODE(info.st_mode) == (0o750 if path.is_dir() else 0o640), path
        if os.geteuid() == 0:
            assert (info.st_uid, info.st_gid) == (1234, 5678), path
    check(target, folder)


def test_a_store_that_may_only_be_read_is_replaced(nursery: Nursery, target: Path, folder: Path) -> None:
    """Its owner may: the folder around it can be written. It stays as it was."""
    build(folder, target)
    if target.is_dir():
        for path in target.iterdir():
            path.chmod(0o440)
    target.chmod(0o550 if target.is_dir() else 0o440)
    write(folder / "a" / "9.png", 9)
    nursery.run(update_by_rights, target)
    assert stat.S_IMODE(target.stat().st_mode) == (0o550 if target.is_dir() else 0o440)
    check(target, folder)


def update_by_rights(target: Path) -> None:
    """Update, even as root with no more rights than the modes of files give their owner."""
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc = ctypes.CDLL(None)
    assert libc.capget(header, sets) == 0
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
    if target.is_dir():
        with pytest.raises(PermissionError):
            (target / "new").touch()
    update(target)


def build_and_hold(source: Path, target: Path, fork: str) -> None:
    """Build, and stop for long at the first slot, beside a child; tell its number in a file."""
    child_of = {"python": os.fork, "library": ctypes.CDLL(None).fork}[fork]

    def progress(now: arraystore.Progress) -> None:
        if now.done:
            child = child_of()
            if not child:
                time.sleep(300)
                os._exit(0)
            (target.parent / "now").write_text(str(child))
            (target.parent / "now").rename(target.parent / "child")
            time.sleep(300)

    build(source, target, workers=1, progress=progress)


@pytest.mark.parametrize("fork", ["python", "library"])
def test_a_child_of_a_killed_build_does_not_hold_its_lock(
    nursery: Nursery, target: Path, folder: Path, fork: str
) -> None:
    holding = nursery.start(build_and_hold, folder, target, fork)
    deadline_s = time.monotonic() + LIMIT_S
    while not (target.parent / "child").exists():
        assert not holding.ended()
        assert time.monotonic() < deadline_s, f"the build has no slot after {LIMIT_S} s"
        time.sleep(0.005)
    child = int((target.parent / "child").read_text())
    (target.parent / "child").unlink()
    try:
        with pytest.raises(StoreError, match=rf"is running \(process {holding.pid} on ") as busy:
            build(folder, target)
        assert busy.value.kind is Kind.BUSY
        holding.kill(alone=True)
        holding.wait_for_end()
        os.kill(child, 0)  # it lives
        build(folder, target)
    finally:
        holding.kill()
        os.kill(child, signal.SIGKILL)
    check(target, folder)


# --- what takes the name meanwhile -----------------------------------------------------------------------------------


def put(what: str, target: Path, other: Path) -> None:
    if what == "store":
        shutil.copytree(other, target) if other.is_dir() else shutil.copy(other, target)
    elif what == "link":
        target.symlink_to(other)
    elif what == "file":
        target.write_bytes(b"mine")
    else:
        target.mkdir()
        (target / "mine").touch()


def is_whole(what: str, target: Path) -> bool:
    if what == "store":
        return len(arraystore.open(target)) == 3 and arraystore.verify(target, progress=False).ok
    if what == "link":
        return target.is_symlink()
    if what == "file":
        return target.read_bytes() == b"mine"
    return [path.name for path in target.iterdir()] == ["mine"]


@pytest.mark.parametrize("what", ["store", "link", "file", "folder"])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("exchange", [True, False])
def test_what_takes_the_name_during_a_build_is_left(
    target: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    *,
    overwrite: bool,
    exchange: bool,
) -> None:
    if not exchange:
        monkeypatch.setattr(renaming, "_renameat2", lambda *_about: False)
    other = tmp_path / f"other{target.suffix}"
    build(np.zeros((3, 8, 8, 3), np.uint8), other)
    if overwrite:
        build(np.ones((3, 8, 8, 3), np.uint8), target)
    taken: list[str] = []

    def take(now: arraystore.Progress) -> None:
        if now.done == now.total and not taken:
            taken.append(what)
            if overwrite:
                target.rename(tmp_path / "was")
            put(what, target, other)

    with pytest.raises(arraystore.StoreExistsError, match="was put there while the new store was made") as told:
        build(folder, target, overwrite=overwrite, progress=take)
    assert f"the finished work is kept in {publishing.partial_of(target)}" in str(told.value)
    assert is_whole("store", other)
    assert is_whole(what, target)
    assert not publishing.aside_of(target).exists()
    target.rename(tmp_path / "moved")
    decoded = count_decodes(monkeypatch)
    build(folder, target)
    assert decoded == []
    for name in ("moved", "was", other.name):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    check(target, folder)


def test_a_store_that_stands_aside_by_itself_is_not_deleted(target: Path, folder: Path) -> None:
    """Nobody knows who put it there, so it may be the last of its pictures."""
    build(folder, target)
    aside = publishing.aside_of(target)
    shutil.copytree(target, aside) if target.is_dir() else shutil.copy(target, aside)
    write(folder / "a" / "9.png", 9)
    update(target)
    assert arraystore.verify(aside, progress=False).slots == 6
    shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
    check(target, folder)


def test_a_link_that_takes_the_name_after_the_rename_leads_nobody_into_another_store(
    target: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / f"other{target.suffix}"
    build(folder, other)
    if other.is_dir():
        (other / "plan.json").write_text("{}")
        (other / "lock").touch()
    original = publishing.tidy

    def tidy(path: Path, *about: Any) -> None:
        path.rename(tmp_path / "moved")
        path.symlink_to(other)
        original(path, *about)

    monkeypatch.setattr(publishing, "tidy", tidy)
    build(folder, target)
    if other.is_dir():
        assert (other / "plan.json").exists()
        assert (other / "lock").exists()
    assert arraystore.verify(other, progress=False).damaged == ()
