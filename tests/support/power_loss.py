"""A model of what a volume may hold after a power loss, from a record of what a build did to one folder.

What was synced lasts. Of what was not, each sector of each file holds, by itself, any content that it has had since
the file was last synced, and the file has any size that it has had since. Names (made, renamed, removed) last when
their folder was synced; of those that were not, the first few of each folder may have lasted, in the order of their
making, by themselves for each folder. So a name may last without its contents, and contents without their name.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arraystore._building import fill
from arraystore._format import renaming
from support.faults import path_of

if TYPE_CHECKING:
    import pytest

SECTOR_BYTES = 512
ROOT = 0  # the number of the folder that is watched


@dataclass(frozen=True)
class Change:
    """Names that one call has changed: pairs of (folder, name) and what they stand for now, None for nothing."""

    folder: int  # whose sync makes it last
    names: tuple[tuple[int, str, int | None], ...]


@dataclass
class Disk:
    """What lasts, and what may.

    Attributes:
        files: number → the contents since the last sync; the first of them lasts.
        lasting: folder → name → number, as synced.
        changes: names that were changed since, oldest first.
        event: what was done last.
    """

    files: dict[int, list[bytes]] = field(default_factory=dict)
    lasting: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})
    changes: list[Change] = field(default_factory=list)
    event: str = ""

    def copy(self) -> Disk:
        files = {number: list(versions) for number, versions in self.files.items()}
        return replace(
            self, files=files, lasting={at: dict(names) for at, names in self.lasting.items()}, changes=[*self.changes]
        )

    def names(self, chosen: dict[int, int]) -> dict[int, dict[str, int]]:
        """Folder → name → number, with the first ``chosen[folder]`` changes of each folder."""
        names = {at: dict(entries) for at, entries in self.lasting.items()}
        left = dict(chosen)
        for change in self.changes:
            if left.get(change.folder, 0) > 0:
                left[change.folder] -= 1
                apply(names, change)
        return names

    def pending(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for change in self.changes:
            counts[change.folder] = counts.get(change.folder, 0) + 1
        return counts


def apply(names: dict[int, dict[str, int]], change: Change) -> None:
    for folder, name, number in change.names:
        entries = names.setdefault(folder, {})
        entries.pop(name, None)
        if number is not None:
            entries[name] = number


# --- recording -------------------------------------------------------------------------------------------------------


class Recorder:
    """Watches one folder; `disks` has its state after each event."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disks: list[Disk] = []
        self._disk = Disk()
        self._now: dict[int, dict[str, int]] = {ROOT: {}}  # the names as they are
        self._numbers: dict[int, int] = {folder.stat().st_ino: ROOT}  # those that have a name now, by inode
        self._next = ROOT + 1
        self._lock = threading.RLock()
        self.look("begin")
        self.sync(folder.stat().st_ino)
        for path in folder.rglob("*"):
            self.sync(path.stat().st_ino)
        self.disks = [self._disk.copy()]

    @contextmanager
    def event(self, name: str) -> Iterator[None]:
        with self._lock:
            self.look(f"before {name}")
            yield
            self.look(name)

    def number_of(self, path: Path) -> int:
        return self._numbers[path.stat().st_ino]

    def change(self, folder: int, *names: tuple[int, str, int | None]) -> None:
        change = Change(folder, names)
        self._disk.changes.append(change)
        apply(self._now, change)

    def removed(self, path: Path) -> None:
        at = self.number_of(path.parent)
        self.change(at, (at, path.name, None))

    def renamed(self, path: Path, other: Path) -> None:
        was, now, number = self.number_of(path.parent), self.number_of(other.parent), self.number_of(path)
        self.change(now, (was, path.name, None), (now, other.name, number))

    def exchanged(self, path: Path, other: Path) -> None:
        at, one, two = self.number_of(path.parent), self.number_of(path), self.number_of(other)
        beside = self.number_of(other.parent)
        self.change(beside, (at, path.name, two), (beside, other.name, one))

    def sync(self, inode: int) -> None:
        """What a file has, or the names of a folder, last from now on."""
        number = self._numbers.get(inode)
        if number is None:
            return
        if number in self._disk.files:
            self._disk.files[number] = self._disk.files[number][-1:]
        rest = []
        for change in self._disk.changes:
            if change.folder == number:
                apply(self._disk.lasting, change)
            else:
                rest.append(change)
        self._disk.changes = rest

    def look(self, event: str) -> None:
        """Take note of new names, and of every content that has changed."""
        with self._lock:
            self._scan(self.folder, ROOT)
            named = {number for entries in self._now.values() for number in entries.values()}
            self._numbers = {
                inode: number for inode, number in self._numbers.items() if number in named or number == ROOT
            }
            self._disk.event = event
            if not self.disks or self._differs(self.disks[-1]):
                self.disks.append(self._disk.copy())

    def _differs(self, other: Disk) -> bool:
        mine = self._disk
        return (mine.files, mine.lasting, mine.changes) != (other.files, other.lasting, other.changes)

    def _scan(self, folder: Path, at: int) -> None:
        entries = list(os.scandir(folder))
        assert {entry.name for entry in entries} >= set(self._now.get(at, {})), "a name went unseen"
        for entry in entries:
            number = self._numbers.get(entry.inode())
            if number is None:
                number = self._numbers[entry.inode()] = self._next
                self._next += 1
                if not entry.is_dir():
                    self._disk.files[number] = [b""]
                self.change(at, (at, entry.name, number))
            assert self._now[at].get(entry.name) == number, f"{entry.path} went another way than was seen"
            if entry.is_dir():
                self._now.setdefault(number, {})
                self._scan(Path(entry.path), number)
            else:
                data = Path(entry.path).read_bytes()
                if data != self._disk.files[number][-1]:
                    self._disk.files[number].append(data)


def record(patch: pytest.MonkeyPatch, folder: Path, *, forgotten: Callable[[str, str], bool]) -> Recorder:
    """Watch a folder from here on; ``forgotten(call, file name)`` tells which syncs do nothing."""
    recorder = Recorder(folder)
    for name in ("fsync", "fdatasync"):
        _record_sync(patch, recorder, name, forgotten)
    for name in ("pwrite", "ftruncate", "posix_fallocate", "utime"):
        _record_call(patch, recorder, os, name)
    _record_call(patch, recorder, fill, "fill_slot")
    for name in ("unlink", "rmdir"):
        _record_names(patch, recorder, os, name, recorder.removed)
    for name in ("rename", "replace"):
        _record_names(patch, recorder, os, name, recorder.renamed)
    _record_renameat2(patch, recorder)
    return recorder


def _record_renameat2(patch: pytest.MonkeyPatch, recorder: Recorder) -> None:
    original = renaming._renameat2

    def call(path: Path, other: Path, flags: int) -> bool:
        exchanges = flags == renaming._EXCHANGE
        with recorder.event(f"{'exchange' if exchanges else 'rename'} {path.name} {other.name}"):
            (recorder.exchanged if exchanges else recorder.renamed)(path, other)
            return original(path, other, flags)

    patch.setattr(renaming, "_renameat2", call)


def _record_call(patch: pytest.MonkeyPatch, recorder: Recorder, module: Any, name: str) -> None:
    original = getattr(module, name)

    def call(*args: Any, **options: Any) -> Any:
        with recorder.event(name):
            return original(*args, **options)

    patch.setattr(module, name, call)


def _record_sync(
    patch: pytest.MonkeyPatch, recorder: Recorder, name: str, forgotten: Callable[[str, str], bool]
) -> None:
    def call(descriptor: int) -> None:
        path = path_of(descriptor)
        with recorder.event(f"{name} {path.name}"):
            if not forgotten(name, path.name):
                recorder.sync(os.fstat(descriptor).st_ino)

    patch.setattr(os, name, call)


def _record_names(
    patch: pytest.MonkeyPatch, recorder: Recorder, module: Any, name: str, changes: Callable[..., None]
) -> None:
    original = getattr(module, name)

    def call(path: Any, *other: Any, **options: Any) -> Any:
        folder = options.get("dir_fd")
        whole = Path(path) if folder is None else path_of(folder) / path
        if not str(whole).startswith(str(recorder.folder)):
            return original(path, *other, **options)
        with recorder.event(f"{name} {' '.join(Path(arg).name for arg in (path, *other))}"):
            if whole.exists():
                changes(whole, *map(Path, other))
            return original(path, *other, **options)

    patch.setattr(module, name, call)


# --- what may be left ------------------------------------------------------------------------------------------------

Contents = Callable[[int, list[bytes]], bytes]


def states(disk: Disk, rng: random.Random, count: int) -> Iterator[tuple[str, dict[str, bytes | None]]]:
    """Give extreme states, and ``count`` random ones: path → bytes, None for a folder."""
    pending = disk.pending()
    nothing: dict[int, int] = {}
    newest = max(disk.files, key=lambda number: len(disk.files[number]), default=None)

    def oldest(_number: int, versions: list[bytes]) -> bytes:
        return versions[0]

    def latest(_number: int, versions: list[bytes]) -> bytes:
        return versions[-1]

    def size_alone(_number: int, versions: list[bytes]) -> bytes:
        return versions[0].ljust(len(versions[-1]), b"\0")[: len(versions[-1])]

    def newest_alone(number: int, versions: list[bytes]) -> bytes:
        return versions[-1 if number == newest else 0]

    def any_sector(_number: int, versions: list[bytes]) -> bytes:
        if len(versions) == 1:
            return versions[0]
        size = len(rng.choice(versions))
        sectors = []
        for at in range(0, size, SECTOR_BYTES):
            end = min(at + SECTOR_BYTES, size)
            sectors.append(rng.choice(versions)[at:end].ljust(end - at, b"\0"))
        return b"".join(sectors)

    yield "nothing that was not synced", materialize(disk, nothing, oldest)
    yield "everything", materialize(disk, pending, latest)
    yield "names alone", materialize(disk, pending, oldest)
    yield "names and sizes", materialize(disk, pending, size_alone)
    yield "contents alone", materialize(disk, nothing, latest)
    yield "the newest file alone", materialize(disk, pending, newest_alone)
    for i in range(count):
        chosen = {folder: rng.randint(0, most) for folder, most in pending.items()}
        yield f"random {i}", materialize(disk, chosen, any_sector)


def materialize(disk: Disk, chosen: dict[int, int], contents: Contents) -> dict[str, bytes | None]:
    names, tree = disk.names(chosen), dict[str, bytes | None]()

    def walk(at: int, path: str) -> None:
        for name, number in names.get(at, {}).items():
            if number in disk.files:
                tree[path + name] = contents(number, disk.files[number])
            else:
                tree[path + name] = None
                walk(number, f"{path}{name}/")

    walk(ROOT, "")
    return tree


def write(tree: dict[str, bytes | None], folder: Path) -> None:
    folder.mkdir()
    for name, data in tree.items():
        if data is None:
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).write_bytes(data)
