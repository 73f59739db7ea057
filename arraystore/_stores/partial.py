"""The folder ``TARGET.partial/`` in which a store on disk is built: its lock, plan, ledger, and its publication.

Nothing outside the folder is written before the publication, and only files with names of the format are deleted.

What one step makes durable (fsync), the next step relies on. A build that is killed between any two steps, or whose
machine loses power there, leaves a folder from which the same call continues:

1. The constructor takes the lock and makes a ledger whose rows claim nothing. The medium makes the file of the pixels.
2. `start` makes both files durable, and then writes plan.json. A folder without plan.json holds no work, so wherever
   there is a plan, the files that it speaks of are on disk.
3. `claim` makes the pixels of finished runs durable, then the reasons of the failed slots, then the ledger rows. A
   ledger row that is whole is a claim, so its pixels and its reason must be on disk before the row is written.
4. `withdraw` durably ends the claim on a slot before anything writes to that slot again.
5. When every slot is claimed, the medium writes all other files durably, and `publish` renames. The plan and the ledger
   are deleted only after the rename is durable: a crash before that leaves files too many, and never too few.
"""

import contextlib
import ctypes
import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arraystore._common.limits import free_disk_bytes
from arraystore._format.contents import JSON_ENTRY
from arraystore._format.files import fsync_path, read_json, write_json
from arraystore._format.ledger import Ledger, claimed_rows
from arraystore._format.specification import FAILED
from arraystore._stores.build_lock import Lock
from arraystore._stores.medium import BuildKey, FilledRun, Medium, needed_bytes
from arraystore.errors import FormatError, Option, SpaceError, StoreError, StoreExistsError

LEDGER, PLAN, _REASONS, _LOCK = "ledger.npy", "plan.json", "reasons.jsonl", "lock"
_WORKING = (LEDGER, _REASONS, _LOCK, PLAN)  # in the order of deletion: while the plan is there, the rest is not done
_NEW_PLAN = PLAN + ".new"
_ENTER_TRIES = 10
_FULL_VOLUME = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def partial_of(target: Path) -> Path:
    """Return the folder in which the store ``target`` is built."""
    return target.with_name(target.name + ".partial")


class PartialFolder:
    """``TARGET.partial/``, held by this process alone."""

    def __init__(self, target: Path, key: BuildKey, medium: Medium, *, overwrite: bool, fresh: bool) -> None:
        self.target = target
        self.path = partial_of(target)
        self.reasons: dict[int, str] = {}
        self.same_decoders = True
        self._key = key
        self._needed_bytes = needed_bytes(key.count, key.spec)
        self._medium = medium
        self._pixels = self.path / medium.pixels
        self._held = ExitStack()
        self._overwrite = overwrite
        self._check_target()
        if not self._has_work(fresh=fresh):
            self._check_space()
        with self.writing():
            self._lock = self._enter()
        self._held.callback(self._lock.release)
        try:
            # Another build may have published, or ended, since the checks above. Now the lock keeps others out.
            self._check_target()
            self._resumed = self._has_work(fresh=fresh)
            if self._resumed:
                self.reasons = _read_reasons(self.path / _REASONS)
                # A call that was killed while it published left files of a store. They are written anew: that call may
                # have dropped rows, or have seen other slots fail.
                _clear(self.path, _names_of(self.path, medium) - {*_WORKING, medium.pixels})
            else:
                # The plan goes first: without it, the files that are left count as no work.
                _clear(self.path, (PLAN, *(_names_of(self.path, medium) - {_LOCK})))
            with self.writing():
                self._ledger = Ledger(self.path / LEDGER, key.count, key.spec.channels)
            self._held.callback(self._ledger.close)
            if self._resumed:
                # The file of pixels may have been truncated, and it is extended again after this.
                left = max(self._pixels.stat().st_size - medium.head_bytes, 0) // key.spec.slot_bytes
                self._ledger.withdraw(left + np.flatnonzero(claimed_rows(self._ledger.rows)[left:]))
        except BaseException:
            self.abandon()
            raise

    @property
    def ledger(self) -> npt.NDArray[np.void]:
        """One row a slot, as claimed so far; read-only."""
        return self._ledger.rows

    def start(self) -> npt.NDArray[np.bool_]:
        """Make the files that claims rely on durable, and write the plan: from then on a later call continues the work.

        The file of the pixels must exist. Returned are the slots that an earlier call has claimed: bool, (N,).
        """
        with self.writing():
            # It stays open, because the system reports a failed write only to descriptors that were open at that time.
            self._pixels_descriptor = os.open(self._pixels, os.O_RDONLY | os.O_CLOEXEC)
            self._held.callback(os.close, self._pixels_descriptor)
            os.fsync(self._pixels_descriptor)
            with (self.path / _REASONS).open("ab") as file_of_reasons:
                if file_of_reasons.tell():
                    file_of_reasons.write(b"\n")  # the last line may have been cut short, and must not take in the next
            fsync_path(self.path)
            if not self._resumed:
                new = self.path / _NEW_PLAN
                write_json(new, self._key.to_json())  # with fsync: the name must not last without the contents
                new.replace(self.path / PLAN)
                fsync_path(self.path)
                fsync_path(self.path.parent)
        claimed = claimed_rows(self._ledger.rows)
        failed = np.flatnonzero(claimed & (self._ledger.rows["status"] == FAILED)).tolist()
        claimed[[slot for slot in failed if slot not in self.reasons]] = False  # to be filled again
        self.reasons = {slot: self.reasons[slot] for slot in failed if slot in self.reasons}
        return claimed

    def claim(self, runs: list[FilledRun]) -> None:
        """See `Draft`, as for the other methods of a draft."""
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
        self._ledger.withdraw(slots)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the error of a full volume into a SpaceError with advice.

        Raises:
            SpaceError: the volume is full.
        """
        try:
            yield
        except OSError as error:
            if isinstance(error, SpaceError) or error.errno not in _FULL_VOLUME:
                raise
            free = free_disk_bytes(self.target.parent)
            if not (self.path / PLAN).exists():  # no work has been done, and `abandon` removes the files
                raise self._space_error(free) from error
            raise SpaceError(
                f"the volume of {self.target.parent} filled up, {free / 1e9:.2f} GB are free: what is done is kept in "
                f"{self.path}; free some space, and the same call continues from there",
                needed_bytes=self._needed_bytes,
                free_bytes=free,
            ) from error

    def publish(self) -> None:
        """Give the target's name to the folder, or to the one file that the store is, and delete the working files."""
        if not self._medium.is_folder:
            fsync_path(self._pixels)
            self._pixels.replace(self.target)
            fsync_path(self.target.parent)
            _remove(self.path, self._medium)
            self.release()
            return
        fsync_path(self.path)
        replaces = self.target.exists()
        (_exchange if replaces else os.rename)(self.path, self.target)
        fsync_path(self.target.parent)
        self.release()
        _tidy(self.target, self._medium)

    def abandon(self) -> None:
        """Release the folder after a failure to begin, and delete it if it holds no work."""
        if not (self.path / PLAN).exists():
            with contextlib.suppress(StoreError, OSError):  # the caller is to get the error of the failure itself
                _remove(self.path, self._medium)
        self.release()

    def release(self) -> None:
        """Unlock the folder, and leave its files for another build."""
        self._held.close()

    def _enter(self) -> Lock:
        """Make the folder if it does not exist, and lock it."""
        for _ in range(_ENTER_TRIES):
            # Another build may rename or remove the folder at any moment.
            with contextlib.suppress(FileExistsError):
                self.path.mkdir()
            with contextlib.suppress(FileNotFoundError):
                return Lock(self.path / _LOCK, self.target)
        raise StoreError(f"other builds remove {self.path} again and again: wait for them, or choose another target")

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
        if self.target.is_symlink() or not self._is_store():
            raise StoreExistsError(
                f"{self.target} exists and is not a store, so it is not replaced",
                advice="choose another name, or remove it",
            )

    def _is_store(self) -> bool:
        """Return whether a store of this medium has the target's name. It may be damaged."""
        if not self._medium.pixel_file(self.target).is_file():
            return False
        try:
            return bool(self._medium.contents(self.target).text())
        except FormatError:
            return False

    def _has_work(self, *, fresh: bool) -> bool:
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise StoreError(f"{self.path} is in the way: it should be a folder; remove it")
        # Plan and ledger describe the file of pixels. Without it, they are worth nothing.
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
        free = free_disk_bytes(self.target.parent)
        if self._needed_bytes > free:
            raise self._space_error(free)

    def _space_error(self, free: int) -> SpaceError:
        needed, folder = self._needed_bytes, self.target.parent
        return SpaceError(
            f"the store needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free on the volume of {folder}: "
            "free some space, choose another volume, or a smaller size",
            needed_bytes=needed,
            free_bytes=free,
        )


def finish_published(target: Path, key: BuildKey, medium: Medium) -> bool:
    """Return whether a call with this key was killed after the rename; if so, do the rest of that call's work."""
    partial = partial_of(target)
    if target.is_file():
        with contextlib.suppress(OSError):  # only an empty folder can be removed so
            partial.rmdir()
    # The plan lies in the folder that has become the store, or in the folder whose one file has become the store.
    is_file = not medium.is_folder and target.is_file() and not (partial / medium.pixels).exists()
    folder = partial if is_file else target
    try:
        if key.differences(read_json(folder / PLAN)):
            return False
    except FormatError:
        return False
    lock = Lock(folder / _LOCK, target)
    try:
        _remove(partial, medium) if is_file else _tidy(target, medium)
    finally:
        lock.release()
    return True


def _tidy(target: Path, medium: Medium) -> None:
    """Delete the store that a published folder has replaced, and then the working files of the build."""
    partial = partial_of(target)  # has the replaced store since the exchange, or the work of yet another build
    try:
        if not partial.is_dir() or (partial / PLAN).exists():
            return
        try:
            lock = Lock(partial / _LOCK, target)
        except StoreError:  # another build has begun there, and deletes the files itself
            return
        try:
            if not (partial / PLAN).exists():
                _remove(partial, medium)
        finally:
            lock.release()
    finally:
        for name in _WORKING:
            (target / name).unlink(missing_ok=True)


def _read_reasons(path: Path) -> dict[int, str]:
    """Read the reasons, one in each line; a line that was cut short is passed over."""
    reasons: dict[int, str] = {}
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
                members = json.loads(line)
                reasons[int(members["slot"])] = str(members["reason"])
    return reasons


def _exchange(path: Path, other: Path) -> None:
    """Let two folders swap their names: by one rename where the system can (Linux's renameat2), otherwise by three."""
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


def _names_of(folder: Path, medium: Medium) -> set[str]:
    """Return the format's names for files in a folder, with those of the targets that its plan or store.json lists."""
    names = {*_WORKING, _NEW_PLAN, medium.pixels, *medium.names}
    for source in (PLAN, JSON_ENTRY):
        with contextlib.suppress(FormatError):
            targets = read_json(folder / source).get("targets")
            if isinstance(targets, list | dict):
                # The files may be damaged or hostile: no name may lead out of the folder.
                names.update(f"{name}.npy" for name in targets if isinstance(name, str) and "/" not in name)
    return names


def _clear(folder: Path, names: Iterable[str]) -> None:
    """Delete the files in a folder that have these names. A link is deleted, and the file that it leads to is not."""
    for name in names:
        file = folder / name
        if file.is_symlink() or file.is_file():
            file.unlink()


def _remove(folder: Path, medium: Medium) -> None:
    """Delete a folder and the format's files in it.

    plan.json and store.json go last: if this call is killed, the next call still knows what the folder is.
    """
    _clear(folder, sorted(_names_of(folder, medium), key=lambda name: name in (PLAN, JSON_ENTRY)))
    try:
        folder.rmdir()
    except OSError as error:
        raise StoreError(f"{folder} holds files that are not arraystore's; it was left: {error.strerror}") from error
