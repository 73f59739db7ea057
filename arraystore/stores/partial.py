"""The folder in which a store on disk is under construction: its lock, plan, ledger, and the rename that publishes.

Nothing outside ``TARGET.partial/`` is written before the rename, and only files with names of ours are ever deleted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arraystore.errors import FormatError, SpaceError, StoreError, StoreExistsError
from arraystore.format import fsync_path, ledger_dtype, read_json, write_json
from arraystore.limits import free_disk_bytes
from arraystore.stores.base import Plan

__all__ = ["PartialFolder", "reserve"]

_LEDGER, _PLAN, _REASONS, _LOCK = "ledger.npy", "plan.json", "reasons.json", "lock"
_OURS = frozenset(
    (
        *(_PLAN, _REASONS, _LEDGER, _LOCK),
        *("store.json", "images.npy", "status.npy", "checksums.npy", "samples.parquet", "dropped.parquet"),
        *("images.h5", "head.h5"),
    )
)


class PartialFolder:
    """``TARGET.partial/``, held by this process alone.

    Attributes:
        path: the folder.
        resumed: True where it holds an earlier call's work on the same plan.
        reasons: slot → why it failed, as that call left them.

    Raises:
        StoreExistsError: the target has its name already.
        StoreError: another build holds the folder, or it holds work on another plan and ``fresh`` is False.
        SpaceError: the volume is too small; nothing has been written.
        OSError: the folder cannot be made.
    """

    def __init__(  # noqa: PLR0913 - one call in each medium
        self,
        target: Path,
        plan: Plan,
        *,
        needed_bytes: int,
        is_store: Callable[[Path], bool],
        overwrite: bool,
        fresh: bool,
    ) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".partial")
        self.reasons: dict[int, str] = {}
        self._plan = plan
        self._overwrite = overwrite
        self._is_store = is_store
        self._check_target()
        self.resumed = self._has_work(fresh=fresh)
        if not self.resumed:
            self._check_space(needed_bytes)
        self.path.mkdir(exist_ok=True)
        self._lock = self._take_lock()
        try:
            self._check_target()  # another build may have published while this one waited for nothing
            if self.resumed:
                self.reasons = {int(slot): why for slot, why in read_json(self.path / _REASONS).items()}
            else:
                _clear(self.path, keep=_LOCK)
                write_json(self.path / _REASONS, {})
        except BaseException:
            self.abandon()
            raise

    def start(self) -> None:
        """Write the plan: from here on a later call takes up the work. Call it when the slots are reserved."""
        if not self.resumed:
            write_json(self.path / _PLAN, self._plan.to_json())

    def map_ledger(self) -> npt.NDArray[np.void]:
        """Map the ledger, new or as it was left: file-backed, so that it costs no anonymous memory whatever N.

        Raises:
            FormatError: it does not fit the plan.
        """
        path = self.path / _LEDGER
        dtype = ledger_dtype(self._plan.spec.channels)
        shape = (self._plan.count,)
        if self.resumed:
            try:
                ledger: npt.NDArray[np.void] = np.lib.format.open_memmap(path, mode="r+")
            except (OSError, ValueError) as error:
                raise FormatError(f"{path} cannot be read: {error}; call again with fresh=True") from error
            if ledger.dtype != dtype or ledger.shape != shape:
                raise FormatError(f"{path} does not fit its plan; call again with fresh=True", source=str(path))
            return ledger
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)

    def save_reasons(self, reasons: dict[int, str]) -> None:
        """Keep why slots failed, for a later call."""
        write_json(self.path / _REASONS, {str(slot): why for slot, why in reasons.items()})

    def publish_folder(self) -> None:
        """Give the folder itself the target's name."""
        fsync_path(self.path)
        replaces = self.target.exists()
        (_exchange if replaces else os.rename)(self.path, self.target)
        fsync_path(self.target.parent)
        # After the rename: a crash in between leaves files too many, the other way round it would lose all the work.
        for name in (_LEDGER, _REASONS, _PLAN, _LOCK):
            (self.target / name).unlink()
        self.release()
        if replaces:
            _remove(self.path)  # the old store, which has the partial folder's name now

    def publish_file(self, name: str) -> None:
        """Give one file of the folder the target's name, and remove the folder."""
        fsync_path(self.path / name)
        (self.path / name).replace(self.target)
        fsync_path(self.target.parent)
        _remove(self.path)
        self.release()

    def abandon(self) -> None:
        """Release it after a failure to begin; what was made for a new build is removed again."""
        if not self.resumed and not (self.path / _PLAN).exists():
            with contextlib.suppress(StoreError, OSError):  # the failure itself is what the caller must hear of
                _remove(self.path)
        self.release()

    def release(self) -> None:
        """Let another build take up the folder; what lies in it stays."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_target(self) -> None:
        if not os.path.lexists(self.target):
            if not self.target.parent.is_dir():
                raise StoreError(f"the folder {self.target.parent} does not exist: make it first")
            return
        if not self._overwrite:
            raise StoreExistsError(
                f"{self.target} exists already: choose another name, remove it, or pass overwrite=True to replace it "
                "when the new store is finished"
            )
        if self.target.is_symlink() or not self._is_store(self.target):
            raise StoreExistsError(f"{self.target} exists and is not a store, so overwrite=True does not replace it")

    def _has_work(self, *, fresh: bool) -> bool:
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise StoreError(f"{self.path} is in the way: it should be a folder; remove it")
        if fresh or not (self.path / _PLAN).exists():
            return False
        was, now = read_json(self.path / _PLAN), self._plan.to_json()
        differing = [f"{key} was {was.get(key)!r}, is now {now[key]!r}" for key in now if was.get(key) != now[key]]
        if differing:
            raise StoreError(
                f"{self.path} holds an unfinished build of something else: {'; '.join(differing)}. Finish that one by "
                "the call that began it, or discard it with fresh=True (--fresh)"
            )
        return True

    def _check_space(self, needed: int) -> None:
        free = free_disk_bytes(self.target.parent)
        if needed > free:
            raise _space_error(self.target.parent, needed, free)

    def _take_lock(self) -> int:
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # falls with the process, however it ends
        except OSError as error:
            # Some network file systems have no locks; there the caller must not start two builds.
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                return descriptor
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise self._busy() from None
            raise
        if not _same_file(descriptor, self.path / _LOCK):  # the other build published between opening and locking
            os.close(descriptor)
            raise self._busy()
        return descriptor

    def _busy(self) -> StoreError:
        return StoreError(f"another build into {self.target} is running: wait for it, or choose another target")


def reserve(path: Path, size: int, *, header: bytes = b"") -> None:
    """Make a file ``size`` bytes long with all blocks reserved, so that no later write can find the volume full.

    What the file has already stays, but for a new ``header``; what is behind ``size`` is cut off.

    Raises:
        SpaceError: the volume is too small.
    """
    try:
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.write(header)
            file.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            os.ftruncate(file.fileno(), size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _space_error(path.parent, size, free_disk_bytes(path.parent)) from error
        raise


def _space_error(folder: Path, needed: int, free: int) -> SpaceError:
    return SpaceError(
        f"the store needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free on the volume of {folder}: "
        "free some space, choose another volume, or a smaller size",
        needed_bytes=needed,
        free_bytes=free,
    )


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


def _exchange(path: Path, other: Path) -> None:
    """Let two folders swap their names, by one rename where the system can (renameat2 of Linux), else by three."""
    libc = ctypes.CDLL(None, use_errno=True)
    at_working_folder, exchange = -100, 2
    if hasattr(libc, "renameat2") and not libc.renameat2(
        at_working_folder, os.fsencode(path), at_working_folder, os.fsencode(other), exchange
    ):
        return
    aside = path.with_name(path.name + ".replaced")
    other.rename(aside)
    path.rename(other)
    aside.rename(path)


def _names_of(folder: Path) -> set[str]:
    """The names of ours in a folder: the fixed ones, and the targets that its plan or description tells of."""
    names = set(_OURS)
    for told in (_PLAN, "store.json"):
        with contextlib.suppress(FormatError):
            targets = read_json(folder / told).get("targets")
            names.update(f"{name}.npy" for name in targets or () if isinstance(name, str))
    return names


def _clear(folder: Path, *, keep: str = "") -> None:
    """Delete the files of ours in a folder; anything else is left."""
    for name in _names_of(folder) - {keep}:
        file = folder / name
        if file.is_file() and not file.is_symlink():
            file.unlink()


def _remove(folder: Path) -> None:
    _clear(folder)
    try:
        folder.rmdir()
    except OSError as error:
        raise StoreError(f"{folder} holds files that are not arraystore's; it was left: {error.strerror}") from error
