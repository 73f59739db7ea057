"""The folder in which a store on disk is under construction: its lock, plan, ledger, and the rename that publishes.

Nothing outside ``TARGET.partial/`` is written before the rename, and only files with names of ours are ever deleted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arraystore._common.limits import free_disk_bytes
from arraystore._format.files import fsync_path, read_json, write_at, write_json
from arraystore._format.ledger import Ledger, sealed
from arraystore._format.specification import FAILED
from arraystore._stores.build_lock import Lock
from arraystore._stores.draft import BuildKey, Filled, needed_bytes
from arraystore._stores.media import MEDIA, Medium, medium_of
from arraystore.errors import FormatError, Option, SpaceError, StoreError, StoreExistsError

__all__ = ["LEDGER", "PLAN", "PartialFolder", "finish_published", "partial_of", "reserve"]

LEDGER, PLAN, _REASONS, _LOCK = "ledger.npy", "plan.json", "reasons.jsonl", "lock"
_WORKING = (LEDGER, _REASONS, _LOCK, PLAN)  # in the order of removal: the plan says that it is not yet complete
_NEW_PLAN = PLAN + ".new"
_OURS = frozenset((*_WORKING, _NEW_PLAN, *(name for medium in MEDIA for name in (medium.pixels, *medium.names))))
_TRIES = 10
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def partial_of(target: Path) -> Path:
    """Return the folder in which the store ``target`` is built."""
    return target.with_name(target.name + ".partial")


class PartialFolder:
    """``TARGET.partial/``, held by this process alone.

    Attributes:
        path: the folder.
        resumed: True where it holds an earlier call's work on the same plan.
        reasons: slot → why it failed, as that call left them.
        same_decoders: whether that call had the same versions of what decodes.

    Raises:
        StoreExistsError: the target has its name already.
        StoreError: another build holds the folder, or it holds work on another plan and ``fresh`` is False.
        SpaceError: the volume is too small; nothing has been written.
        OSError: the folder cannot be made.
    """

    def __init__(  # noqa: PLR0913 - one call in each medium
        self,
        target: Path,
        key: BuildKey,
        medium: Medium,
        *,
        is_store: Callable[[Path], bool],
        overwrite: bool,
        fresh: bool,
    ) -> None:
        self.target = target
        self.path = partial_of(target)
        self.reasons: dict[int, str] = {}
        self.same_decoders = True
        self._key = key
        self._medium = medium
        self._pixels = self.path / medium.pixels
        self._held = ExitStack()
        self._overwrite = overwrite
        self._is_store = is_store
        self._check_target()
        self.resumed = self._has_work(fresh=fresh)
        if not self.resumed:
            self._check_space()
        with self.writing():
            self._lock = self._enter()
        self._held.callback(self._lock.release)
        try:
            # Another build may have published, or left, while this one looked.
            self._check_target()
            self.resumed = self._has_work(fresh=fresh)
            if self.resumed:
                self.reasons = _read_reasons(self.path / _REASONS)
                # A call that was killed while it published may have dropped rows, or known of others that failed.
                _clear(self.path, _names_of(self.path) - {*_WORKING, medium.pixels})
            else:
                # The plan first: without it, what is left counts as nothing.
                _clear(self.path, (PLAN, *(_names_of(self.path) - {_LOCK})))
            with self.writing():
                self._ledger = Ledger(self.path / LEDGER, key.count, key.spec.channels)
            self._held.callback(self._ledger.close)
            if self.resumed:
                self._withdraw_what_was_cut_off(medium.head_bytes)
        except BaseException:
            self.abandon()
            raise

    @property
    def ledger(self) -> npt.NDArray[np.void]:
        """A row a slot, as claimed so far; read-only."""
        return self._ledger.rows

    def start(self) -> npt.NDArray[np.bool_]:
        """Make everything durable that claims rest on, and write the plan: from here on a later call takes up the work.

        Call it when the slots are reserved.

        Returns:
            The slots that an earlier call has settled: bool, (N,).

        Raises:
            SpaceError: the volume is too small.
            OSError: the volume failed.
        """
        with self.writing():
            # Held from here on, because a volume reports what it failed to write to those who had the file open.
            self._pixels_descriptor = os.open(self._pixels, os.O_RDONLY | os.O_CLOEXEC)
            self._held.callback(os.close, self._pixels_descriptor)
            os.fsync(self._pixels_descriptor)
            with (self.path / _REASONS).open("ab") as file_of_reasons:
                if file_of_reasons.tell():
                    file_of_reasons.write(b"\n")  # ends a line that was cut short
            fsync_path(self.path)
            if not self.resumed:
                new = self.path / _NEW_PLAN
                write_json(new, self._key.to_json())
                new.replace(self.path / PLAN)
                fsync_path(self.path)
                fsync_path(self.path.parent)
        claimed = sealed(self._ledger.rows)
        failed = np.flatnonzero(claimed & (self._ledger.rows["status"] == FAILED)).tolist()
        claimed[[slot for slot in failed if slot not in self.reasons]] = False
        self.reasons = {slot: self.reasons[slot] for slot in failed if slot in self.reasons}
        return claimed

    def claim(self, runs: list[Filled]) -> None:
        """Make the pixels of finished runs durable, and then the rows that claim them.

        Raises:
            SpaceError: the volume is full.
            OSError: it failed.
        """
        with self.writing():
            os.fdatasync(self._pixels_descriptor)
            reasons = {slot: why for run in runs for slot, why in run.reasons.items()}
            if reasons:
                lines = "".join(json.dumps({"slot": slot, "reason": why}) + "\n" for slot, why in reasons.items())
                with (self.path / _REASONS).open("ab") as file:
                    file.write(lines.encode("ascii"))
                    file.flush()
                    os.fsync(file.fileno())
            for run in runs:
                self._ledger.claim(run.start, run.rows)
            self._ledger.sync()
        self._lock.touch()

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        """Claim these slots no more, durably: they will be written again.

        Raises:
            OSError: the volume failed.
        """
        self._ledger.withdraw(slots)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Tell of a volume that filled up what it means for the build.

        Raises:
            SpaceError: the volume is full.
        """
        try:
            yield
        except OSError as error:
            if isinstance(error, SpaceError) or error.errno not in _FULL:
                raise
            free = free_disk_bytes(self.target.parent)
            if not (self.path / PLAN).exists():  # nothing is begun, and nothing will be left
                raise _space_error(self.target.parent, needed_bytes(self._key.count, self._key.spec), free) from error
            raise SpaceError(
                f"the volume of {self.target.parent} filled up, {free / 1e9:.2f} GB are free: what is done is kept in "
                f"{self.path}; free some space, and the same call goes on from there",
                needed_bytes=needed_bytes(self._key.count, self._key.spec),
                free_bytes=free,
            ) from error

    def publish(self) -> None:
        """Give the target's name to the folder, or to the file of pixels if that holds everything by now."""
        if not self._medium.is_folder:
            fsync_path(self._pixels)
            self._pixels.replace(self.target)
            fsync_path(self.target.parent)
            _remove(self.path)
            self.release()
            return
        fsync_path(self.path)
        replaces = self.target.exists()
        (_exchange if replaces else os.rename)(self.path, self.target)
        fsync_path(self.target.parent)
        # After the rename: a crash in between leaves files too many, the other way round it would lose all the work.
        self.release()
        _tidy(self.target)

    def abandon(self) -> None:
        """Release it after a failure to begin; what was made for a new build is removed again."""
        if not (self.path / PLAN).exists():
            with contextlib.suppress(StoreError, OSError):  # the failure itself is what the caller must hear of
                _remove(self.path)
        self.release()

    def release(self) -> None:
        """Let another build take up the folder; what lies in it stays."""
        self._held.close()

    def _enter(self) -> Lock:
        """Make the folder, if need be, and lock it."""
        for _ in range(_TRIES):
            # Another build may give the folder its target's name, or remove it, at any moment.
            with contextlib.suppress(FileExistsError):
                self.path.mkdir()
            with contextlib.suppress(FileNotFoundError):
                return Lock(self.path / _LOCK, self.target)
        raise StoreError(f"other builds remove {self.path} again and again: wait for them, or choose another target")

    def _withdraw_what_was_cut_off(self, offset: int) -> None:
        """Whoever cut the file of pixels, what is gone is not claimed, before the file is made long again."""
        left = max(self._pixels.stat().st_size - offset, 0) // self._key.spec.slot_bytes
        self._ledger.withdraw(left + np.flatnonzero(sealed(self._ledger.rows)[left:]))

    def _check_target(self) -> None:
        if not os.path.lexists(self.target):
            if not self.target.parent.is_dir():
                raise StoreError(f"the folder {self.target.parent} does not exist: make it first")
            return
        if not self._overwrite:
            raise StoreExistsError(
                f"{self.target} exists already",
                advice="choose another name, remove it, or use {0} to replace it when the new store is finished",
                options=[Option("overwrite")],
            )
        if self.target.is_symlink() or not self._is_store(self.target):
            raise StoreExistsError(
                f"{self.target} exists and is not a store, so it is not replaced",
                advice="choose another name, or remove it",
            )

    def _has_work(self, *, fresh: bool) -> bool:
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise StoreError(f"{self.path} is in the way: it should be a folder; remove it")
        # Without the pixels that they speak of, plan and ledger are nothing.
        if fresh or not (self.path / PLAN).exists() or not self._pixels.is_file():
            return False
        try:
            was = read_json(self.path / PLAN)
        except FormatError as error:
            raise StoreError(
                error.message, advice="discard this unfinished build with {0}", options=[Option("fresh")]
            ) from error
        self.same_decoders = was.get("decoders") == self._key.decoders
        differing = self._key.differences(was)
        if differing:
            raise StoreError(
                f"{self.path} holds an unfinished build of something else: {'; '.join(differing)}",
                advice="finish it with the call that began it, or discard it with {0}",
                options=[Option("fresh")],
            )
        return True

    def _check_space(self) -> None:
        needed = needed_bytes(self._key.count, self._key.spec)
        free = free_disk_bytes(self.target.parent)
        if needed > free:
            raise _space_error(self.target.parent, needed, free)


def finish_published(target: Path, key: BuildKey) -> bool:
    """Return whether a killed call had published ``plan`` but not tidied up; if so, tidy up.

    Raises:
        StoreError: that call is still running.
        OSError: what it left cannot be removed.
    """
    partial = partial_of(target)
    if target.is_file():
        with contextlib.suppress(OSError):  # that call's last step; a folder with anything in it stays
            partial.rmdir()
    # The plan lies in the folder that has become the store, or in the folder whose one file has become the store.
    medium = medium_of(target)
    is_file = not medium.is_folder and target.is_file() and not (partial / medium.pixels).exists()
    folder = partial if is_file else target
    try:
        if key.differences(read_json(folder / PLAN)):
            return False
    except FormatError:
        return False
    lock = Lock(folder / _LOCK, target)
    try:
        _remove(partial) if is_file else _tidy(target)
    finally:
        lock.release()
    return True


def _tidy(target: Path) -> None:
    """Remove what a store's folder needs no more once it has its name, and the store that it replaced.

    Raises:
        StoreError: the store that it replaced holds files of others, and was left.
    """
    partial = partial_of(target)
    try:
        replaced = partial.is_dir() and not (partial / PLAN).exists()
        if replaced and (lock := _lock_if_free(partial / _LOCK, target)):
            try:
                if not (partial / PLAN).exists():
                    _remove(partial)
            finally:
                lock.release()
    finally:
        for name in _WORKING:
            (target / name).unlink(missing_ok=True)


def _lock_if_free(path: Path, target: Path) -> Lock | None:
    try:
        return Lock(path, target)
    except StoreError:  # another build has begun there already, and clears it
        return None


def reserve(path: Path, size: int, *, header: bytes | bytearray = b"") -> bool:
    """Make a file ``size`` bytes long with all blocks reserved, so that no later write can find the volume full.

    What the file has already stays, but for a new ``header``; what is behind ``size`` is cut off.

    Returns:
        Whether the volume keeps such a promise; one that compresses or copies on write may not.

    Raises:
        OSError: the volume is too small, or failed.
    """
    with path.open("r+b" if path.exists() else "w+b") as file:
        write_at(file.fileno(), memoryview(header), 0)
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        except AttributeError:
            pass  # a system without it
        os.ftruncate(file.fileno(), size)
        return os.fstat(file.fileno()).st_blocks * 512 >= size


def _space_error(folder: Path, needed: int, free: int) -> SpaceError:
    return SpaceError(
        f"the store needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free on the volume of {folder}: "
        "free some space, choose another volume, or a smaller size",
        needed_bytes=needed,
        free_bytes=free,
    )


def _read_reasons(path: Path) -> dict[int, str]:
    """The reasons that lines tell of; a line that was cut short tells of none."""
    reasons: dict[int, str] = {}
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
                members = json.loads(line)
                reasons[int(members["slot"])] = str(members["reason"])
    return reasons


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
    for told in (PLAN, "store.json"):
        with contextlib.suppress(FormatError):
            targets = read_json(folder / told).get("targets")
            if isinstance(targets, list | dict):
                # Whatever these files say, no name leads out of the folder.
                names.update(f"{name}.npy" for name in targets if isinstance(name, str) and "/" not in name)
    return names


def _clear(folder: Path, names: Iterable[str]) -> None:
    """Delete the files in a folder that have these names of ours; of a link, the link alone."""
    for name in names:
        file = folder / name
        if file.is_symlink() or file.is_file():
            file.unlink()


def _remove(folder: Path) -> None:
    """Delete a folder of ours; last what says what it is, so that a call that was killed meanwhile can be finished."""
    _clear(folder, sorted(_names_of(folder), key=lambda name: name in (PLAN, "store.json")))
    try:
        folder.rmdir()
    except OSError as error:
        raise StoreError(f"{folder} holds files that are not arraystore's; it was left: {error.strerror}") from error
