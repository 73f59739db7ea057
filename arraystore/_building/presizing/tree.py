"""One tree of smaller images: its lock, its ledger, and how files get their names in it.

Beside the images a tree has one folder of its own, ``.presize``: the lock, the recipe, the ledger, and ``new/`` with
files that have no name yet. A folder that begins with a dot is passed over by every scan. Nothing outside the tree is
written, and no folder of it is entered through a link.

What one step makes durable (fsync), the next step relies on:

1. A worker writes a file under a temporary name, in ``new/``.
2. `claim` makes the files durable, then their lines in the ledger, and then renames them. A line holds only while a
   file with its name, size and time is there, so a kill between the two lets the source be made again.
3. Files that a source had before under another name are deleted last, and only if they are as the ledger knows them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from arraystore._building.presizing.ledger import Entry, Ledger, Stamp
from arraystore._common.lazy import cached
from arraystore._format.files import fsync_path, read_json, write_json
from arraystore._format.renaming import TakenError, rename_new
from arraystore._stores.unfinished.build_lock import Lock
from arraystore.errors import Kind, Option, StoreError, StoreExistsError

OWN = ".presize"
_SYNCS = 8  # at once
_LOCK, _RECIPE, _LEDGER, _NEW = "lock", "recipe.json", "ledger.jsonl", "new"


class NewFiles(NamedTuple):
    """The files of one source that wait in ``new/``: path in the tree → temporary path; and what the ledger gets."""

    entry: Entry  # without its files
    temporary: dict[str, str]


class Tree:
    """A tree that this process alone writes.

    Args:
        path: of its folder, which is made.
        recipe: of its images, as JSON; a tree has images of one recipe.
        fresh: True takes a tree of another recipe, and makes all of it again.

    Attributes:
        path: of its folder.
        new: the folder of temporary files.
        ledger: of it.
        claimed_bytes: of all files that were claimed, in bytes.

    Raises:
        StoreExistsError: the folder has files and is no such tree.
        StoreError: its images were made in another way, another call writes it, or something is in the way.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, recipe: Mapping[str, Any], *, fresh: bool = False) -> None:
        self.path = path
        self._prefix = f"{path}/"
        own = path / OWN
        check_tree(path)
        own.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(own / _LOCK, path)
        try:
            self.new = own / _NEW
            self.new.mkdir(exist_ok=True)
            for left in self.new.iterdir():
                left.unlink()
            earlier = _recipe_in(own)
            if earlier is not None and not fresh:
                _check_recipe(path, earlier, recipe)
            self.ledger = Ledger(own / _LEDGER)
        except BaseException:
            self._lock.release()
            raise
        if len(self.ledger) and (fresh or earlier is None):
            self.ledger.forget()
        if earlier != recipe:
            write_json(own / f"{_RECIPE}.new", recipe)
            (own / f"{_RECIPE}.new").replace(own / _RECIPE)
            fsync_path(own)
        self.claimed_bytes: int = 0
        self._adopts = fresh
        self._folders: set[str] = set()
        self._syncing = ThreadPoolExecutor(_SYNCS, thread_name_prefix="arraystore-sync")

    @cached
    def _owned(self) -> dict[str, str]:
        """The path of each file in the tree that is known → its source."""
        return {name: entry.source for entry in self.ledger.entries() for name in entry.files}

    def close(self) -> None:
        """Let others write the tree."""
        self._syncing.shutdown()
        self.ledger.close()
        self._lock.release()

    def has(self, entry: Entry) -> bool:
        """Return whether the files of an entry are in the tree, as they were written."""
        return all(_stamp_at(self._prefix + name) == known for name, known in entry.files.items())

    def has_file(self, name: str, known: Stamp) -> bool:
        """Return whether a file is in the tree, as it was written."""
        return _stamp_at(self._prefix + name) == known

    def check_free(self, source: str, names: Iterable[str]) -> None:
        """Check that files of these names replace nothing but earlier files of the source, or of one that is gone.

        Raises:
            StoreExistsError: another file has one of the names, or one that was made of another source.
        """
        for name in names:
            owner = self._owned.get(name)
            if owner is None and os.path.lexists(self.path / name):
                what, advice, options = "is there already", "move it away", []
            elif owner is not None and owner != source and not self._adopts and os.path.lexists(owner):
                what, options = f"was made of {owner}", [Option("fresh")]
                advice = "choose another target, or make the whole tree again with {0}"
            else:
                continue
            raise StoreExistsError(
                f"{self.path / name} {what}, and {source} would get its name",
                source=source,
                advice=advice,
                options=options,
            )

    def claim(self, made: Sequence[NewFiles]) -> None:
        """Give finished files their names, as the text of the module says.

        Raises:
            StoreError: something else has a name, or is in the way.
            OSError: the volume failed.
        """
        before = {each.entry.source: self.ledger.get(each.entry.source) for each in made}
        files = self._durable([path for each in made for path in each.temporary.values()])
        entries = [
            each.entry._replace(files={name: files[path] for name, path in each.temporary.items()}) for each in made
        ]
        self.ledger.add(entries)
        self.claimed_bytes += sum(size for entry in entries for size, _ in entry.files.values())
        touched: set[str] = set()
        for entry, each in zip(entries, made, strict=True):
            for name, temporary in each.temporary.items():
                folder = os.path.dirname(name)
                self._make_folder(folder)
                touched.add(folder)
                self._rename(temporary, name, entry)
            earlier = before[entry.source]
            if earlier is not None:
                self.remove({name: known for name, known in earlier.files.items() if name not in entry.files})
        for folder in touched:
            fsync_path(self.path / folder)

    def _durable(self, paths: Sequence[str]) -> dict[str, Stamp]:
        """Make files durable, and return their stamps.

        Several are synced at once, because a file system then writes its journal once for all of them. The stamps are
        taken afterwards, because a file system of another machine may choose the time when it writes.
        """

        def durable(path: str) -> Stamp:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
                info = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            return info.st_size, info.st_mtime_ns

        return dict(zip(paths, self._syncing.map(durable, paths), strict=True))

    def stale(self, sources: AbstractSet[str]) -> list[Entry]:
        """Return the entries of other sources than these, with those of their files that are still as they were."""
        found: list[Entry] = []
        for source in self.ledger.sources() - sources:
            entry = self.ledger.get(source)
            if entry is not None:
                files = {name: known for name, known in entry.files.items() if self.has_file(name, known)}
                found += [entry._replace(files=files)] if files else []
        return found

    def prune(self, entries: Sequence[Entry]) -> None:
        """Delete the files of entries, and let the ledger forget them."""
        self.ledger.add(entry._replace(stamp=None, files={}) for entry in entries)
        for entry in entries:
            self.remove(entry.files)

    def remove(self, files: Mapping[str, Stamp]) -> None:
        """Delete files that are as the ledger knows them; others are somebody else's."""
        for name, known in files.items():
            path = self.path / name
            if is_name(name) and self._is_own_folder(path.parent) and _stamp_at(str(path)) == known:
                path.unlink()
            self._owned.pop(name, None)

    def _rename(self, temporary: str, name: str, entry: Entry) -> None:
        target = f"{self.path}/{name}"
        try:
            if name in self._owned:
                os.replace(temporary, target)
            else:
                rename_new(Path(temporary), Path(target))
        except (TakenError, IsADirectoryError) as error:
            self.ledger.add([entry._replace(stamp=None, files={})])
            raise StoreExistsError(
                f"{target} has appeared meanwhile, and {entry.source} would get its name: move it away",
                source=entry.source,
            ) from error
        self._owned[name] = entry.source

    def _make_folder(self, name: str) -> None:
        """Make a folder of the tree and those around it; none of them may be a link, which could lead elsewhere."""
        if name in self._folders or not name:
            return
        self._make_folder(os.path.dirname(name))
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        if not _is_folder(folder):
            raise StoreError(f"{folder} is in the way: it should be a folder, and not a link to one; move it away")
        fsync_path(folder.parent)
        self._folders.add(name)

    def _is_own_folder(self, folder: Path) -> bool:
        """Return whether a folder lies in the tree without a link on the way."""
        while folder != self.path:
            if not _is_folder(folder):
                return False
            folder = folder.parent
        return True


def check_tree(path: Path) -> None:
    """Check that a path is that of a tree, of an empty folder, or of nothing.

    Raises:
        StoreExistsError: it is that of something else.
    """
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise StoreExistsError(f"{path} is there already, and is no folder: choose another target", source=str(path))
    own = path / OWN
    if own.is_symlink() or (own.exists() and not own.is_dir()):
        raise StoreExistsError(f"{own} is in the way: it should be a folder; move it away", source=str(path))
    if not own.exists() and any(path.iterdir()):
        raise StoreExistsError(
            f"{path} is there already, and was not made by presize: choose another target, or an empty folder",
            source=str(path),
        )


def is_name(name: str) -> bool:
    """Return whether a text is a path inside a tree."""
    parts = name.split("/")
    return bool(name) and "\0" not in name and not any(part in ("", ".", "..", OWN) for part in parts)


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode) if os.path.lexists(path) else False


def _stamp_at(path: str) -> Stamp | None:
    """Return the stamp of a regular file, not of what a link leads to; None for anything else."""
    try:
        info = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (info.st_size, info.st_mtime_ns) if stat.S_ISREG(info.st_mode) else None


def _recipe_in(own: Path) -> dict[str, Any] | None:
    with suppress(FileNotFoundError, ValueError):
        if (own / _RECIPE).exists():
            return read_json(own / _RECIPE)
    return None


def _check_recipe(path: Path, earlier: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    names = [name for name in {**earlier, **recipe} if earlier.get(name) != recipe.get(name)]
    if names:
        pairs = ", ".join(f"{name} {earlier.get(name)!r}, now {recipe.get(name)!r}" for name in names)
        raise StoreError(
            f"the images in {path} were made in another way: {pairs}",
            source=str(path),
            kind=Kind.EXISTS,
            advice="choose another target, or make them again with {0}",
            options=[Option("fresh")],
        )
