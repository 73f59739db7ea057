"""An export under construction: everything is written beside the target, which gets its name by one rename.

``TARGET.partial`` is a folder with a lock, and ``new``, which becomes the target. On a volume that cannot exchange
names, an earlier target steps aside first, to ``old``. What a killed call has left there is deleted by the next one,
which first brings an ``old`` back whose name nothing has. Nothing is deleted through a link.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from arraystore._common.limits import is_full, took_no_more
from arraystore._format.files import fsync_path, write_text
from arraystore._format.renaming import Identity, TakenError, copy_mode, identity_at, rename_new, replace
from arraystore._stores.publishing import partial_of, real_target
from arraystore._stores.unfinished.build_lock import Lock
from arraystore.errors import Option, StoreError, StoreExistsError

MARK = ".arraystore-export.json"  # in a folder: only what an export has made is replaced
_LOCK, _NEW, _OLD = "export.lock", "new", "old"


class Work:
    """The place in which this process alone writes an export. It is a context, which deletes what is left there.

    Args:
        target: the file or the folder that is to be made.
        is_folder: which of them.
        overwrite: True replaces an earlier export.

    Attributes:
        target: the same, absolute; where a link leads to if that is replaced.
        new: what is written: it is made where it is a folder.

    Raises:
        StoreExistsError: the target is there, and may not be replaced.
        StoreError: another call writes it, or something is in the way.
        OSError: it cannot be written.
    """

    def __init__(self, target: Path, *, is_folder: bool, overwrite: bool) -> None:
        self.target: Path = real_target(target) if overwrite else target.absolute()
        self._is_folder = is_folder
        self._partial = partial_of(self.target)
        self.new: Path = self._partial / _NEW
        self._old = self._partial / _OLD
        self._check_partial()
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._lock = self._locked()
        try:
            self._recover()
            self._replaces = self._replaced(overwrite=overwrite)
            if is_folder:
                self.new.mkdir()
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        full = None
        if isinstance(error, OSError) and is_full(error):
            full = took_no_more(self._partial, _bytes_in(self.new), error)
        self._end()
        if full is not None:
            raise full from error

    def publish(self, members: dict[str, Any]) -> None:
        """Make everything durable, and give it the name of the target.

        Args:
            members: of the file in a folder by which a later call knows that it may replace it.

        Raises:
            StoreExistsError: something has taken the name meanwhile; it was left.
        """
        if self._is_folder:
            write_text(self.new / MARK, json.dumps(members) + "\n")
        _sync_all(self.new)
        try:
            if self._replaces is None or identity_at(self.target) is None:
                rename_new(self.new, self.target)
            else:
                copy_mode(self.target, self.new)
                replace(self.new, self.target, self._old, self._replaces)
        except TakenError as error:
            raise StoreExistsError(
                f"{self.target} was put there while the export was written, and was left as it is: move it away, and "
                "export again",
                source=str(self.target),
            ) from error
        fsync_path(self.target.parent)

    def _locked(self) -> Lock:
        while True:
            self._partial.mkdir(exist_ok=True)
            try:
                return Lock(self._partial / _LOCK, self.target)
            except FileNotFoundError:  # another call has ended this instant, and deleted the folder
                continue

    def _check_partial(self) -> None:
        """Check that what has the name of the partial folder is one that an export has left.

        Raises:
            StoreError: it is something else.
        """
        if not os.path.lexists(self._partial):
            return
        is_folder = stat.S_ISDIR(self._partial.lstat().st_mode)
        if not is_folder or not {path.name for path in self._partial.iterdir()} <= {_LOCK, _NEW, _OLD}:
            raise StoreError(
                f"{self._partial} is in the way, and was not left by an export: move it away, or choose another target",
                source=str(self._partial),
            )

    def _recover(self) -> None:
        """Bring back what an export was replacing as it was killed, and delete the rest of its work."""
        if identity_at(self._old) is not None and identity_at(self.target) is None:
            rename_new(self._old, self.target)
            fsync_path(self.target.parent)
        _delete(self._old)
        _delete(self.new)

    def _replaced(self, *, overwrite: bool) -> Identity | None:
        """Return what has the name of the target and may be replaced; None if nothing has it.

        Raises:
            StoreExistsError: it may not.
        """
        found = identity_at(self.target)
        if found is None:
            return None
        if not overwrite:
            raise StoreExistsError(
                f"{self.target} is there already",
                source=str(self.target),
                advice="choose another target, or replace it with {0}",
                options=[Option("overwrite")],
            )
        mode = self.target.lstat().st_mode
        fits = (self.target / MARK).is_file() if self._is_folder else stat.S_ISREG(mode)
        if stat.S_ISDIR(mode) != self._is_folder or not fits:
            raise StoreExistsError(
                f"{self.target} is there already, and is no export of this form: choose another target",
                source=str(self.target),
            )
        return found

    def _end(self) -> None:
        """Delete what is left, and let others write the target. A call that waits for the lock sees it gone."""
        with suppress(OSError):
            # A target that could not be brought back stays.
            if identity_at(self._old) is None or identity_at(self.target) is not None:
                _delete(self._old)
            _delete(self.new)
            if identity_at(self._old) is None:
                (self._partial / _LOCK).unlink()
                self._partial.rmdir()
        self._lock.release()


def _delete(path: Path) -> None:
    if identity_at(path) is None:
        return
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()


def _bytes_in(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file())


def _sync_all(path: Path) -> None:
    """Make a file, or all files and names in a folder, last through a power loss.

    The system does it for the whole volume at once, where it can: to sync a million small files takes an hour.
    """
    if not path.is_dir():
        fsync_path(path)
        fsync_path(path.parent)
        return
    sync_volume = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if sync_volume is not None and sync_volume(descriptor) == 0:
            return
        error = ctypes.get_errno()
        if sync_volume is not None and error not in (errno.ENOSYS, errno.EOPNOTSUPP):
            raise OSError(error, os.strerror(error), str(path))
    finally:
        os.close(descriptor)
    for each in (*path.rglob("*"), path):
        fsync_path(each)
