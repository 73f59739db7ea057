"""Give a finished store its name, without a moment in which the old store could be lost.

A store takes the name of another one by an exchange (Linux's renameat2), after which the partial folder has the old
store. Before that, plan.json gets a mark: the identity of the finished store. If the process is killed at any moment
after the rename, the mark shows the next call that the store under the name is finished, and it deletes what is left
(`recover`). On a volume that cannot exchange, the old store steps aside first, to ``TARGET.partial.replaced``. If the
process is killed right after that, nothing has the name, and the next call brings the old store back.

Nothing is replaced or deleted that was not looked at right before, and nothing through a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from arraystore._common.checks import expanded
from arraystore._common.digests import digest_of
from arraystore._format import renaming
from arraystore._format.contents import JSON_ENTRY
from arraystore._format.files import fsync_path, read_json, write_json
from arraystore._format.renaming import Identity, TakenError, copy_mode, copy_rights, identity_at, rename_new
from arraystore._format.target_forms import array_keys, file_name
from arraystore._stores.medium import Medium, Opened
from arraystore._stores.unfinished.build_lock import Lock
from arraystore.errors import FormatError, StoreError, StoreExistsError

LEDGER, PLAN, REASONS, LOCK, MOVED = "ledger.npy", "plan.json", "reasons.jsonl", "lock", "moved.npy"
LOG = "encoded.log"  # JPEGs in the order in which they came
FOLLOWERS, SOCKET = "followers", "filler.sock"  # of a store that is read while it is filled
WORKING = (
    LOG,
    MOVED,
    FOLLOWERS,
    SOCKET,
    LEDGER,
    REASONS,
    LOCK,
    PLAN,
)  # in the order of deletion: while the plan is there, more is to be done
# Of all media that are folders: a store of one may replace a store of another.
FOLDER_NAMES = (
    *("images.npy", "encoded.npy", "offsets.npy", "shapes.npy", "sums.npy"),
    *("store.json", "status.npy", "checksums.npy", "samples.parquet", "dropped.parquet"),
)
HDF5_NAMES = ("images.h5", "encoded.h5")  # of all media that are HDF5 files, likewise
NEW_PLAN = PLAN + ".new"
# Members of plan.json: the identity of the finished store, and device and inode of the one that it replaces.
_MARK, _REPLACES = "finished", "replaces"
# Member of plan.json: the identities of the finished stores that one call builds together and that get their names one
# after the other. It is there before the first of them has its name. If the call is killed in between, the next one
# knows by it which stores are those of that call.
BESIDE = "beside"


def partial_of(target: Path) -> Path:
    """Return the folder in which the store ``target`` is built."""
    return target.with_name(target.name + ".partial")


def aside_of(target: Path) -> Path:
    """Return where the store ``target`` steps aside while it is replaced, on a volume that cannot exchange names."""
    return target.with_name(target.name + ".partial.replaced")


def is_being_replaced(target: Path) -> bool:
    """Return whether the store ``target`` has stepped aside, so that for a moment nothing has its name."""
    return identity_at(target) is None and _looks_like_store(aside_of(target))


def real_target(path: str | os.PathLike[str]) -> Path:
    """Return the path at which a store lies that is named by a link: the store is replaced, and the link stays."""
    absolute = expanded(path).absolute()  # a relative path must not move with the working folder
    return Path(os.path.realpath(absolute)) if absolute.is_symlink() else absolute


def store_identity(medium: Medium, path: Path) -> str:
    """Return the digest of store.json, which names all other contents by their digests.

    Raises:
        FormatError: there is no store at the path, or it is damaged.
    """
    return digest_of([medium.contents(path).text()])


def open_published(medium: Medium, path: Path, *, without_slots: bool = False) -> Opened:
    """Open the store at a path, with its identity; see `Medium.open_rest` for ``without_slots``.

    Raises:
        FormatError: there is no store at the path, or it is damaged.
    """
    open_it = medium.open_rest if without_slots and medium.open_rest is not None else medium.open
    opened = open_it(medium, path)
    return replace(opened, array=replace(opened.array, identity=store_identity(medium, path)))


# --- publish ---------------------------------------------------------------------------------------------------------


def publish(target: Path, medium: Medium, replaces: Identity | None) -> None:
    """Give the target's name to the finished store in its partial folder.

    Everything but the names is durable by now. The caller holds the lock, and calls `tidy` afterwards.

    Args:
        target: the name.
        medium: of the new store.
        replaces: what has the name and may be replaced; None if nothing has it.

    Raises:
        StoreExistsError: something else has the name. It was left, and so was the finished work.
    """
    folder = partial_of(target)
    new = finished_in(folder, medium)
    plan = read_json(folder / PLAN)
    write_plan(folder, plan | {_MARK: store_identity(medium, new), _REPLACES: replaces})
    try:
        if replaces is None or identity_at(target) is None:  # or it was removed meanwhile
            rename_new(new, target)
        else:
            if identity_at(target) == replaces:
                copy_rights(target, new, skip=WORKING)
            renaming.replace(new, target, aside_of(target), replaces)
    except (TakenError, NotADirectoryError, FileNotFoundError) as error:  # the latter if it was this instant
        raise StoreExistsError(
            f"{target} was put there while the new store was made, and was left as it is",
            source=str(target),
            advice=f"move it away, and call again: the finished work is kept in {folder}",
        ) from error
    fsync_path(target.parent)
    if not medium.is_folder:
        fsync_path(folder)


def finished_in(folder: Path, medium: Medium) -> Path:
    """Return where a finished store lies in a partial folder before it gets its name."""
    return folder if medium.is_folder else folder / medium.pixels


def note_beside(folder: Path, identities: Sequence[str]) -> None:
    """Durably note in a partial folder the stores that get their names together with its own; see `BESIDE`."""
    write_plan(folder, read_json(folder / PLAN) | {BESIDE: list(identities)})


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Durably write or replace the plan of a partial folder."""
    new = folder / NEW_PLAN
    write_json(new, plan)  # with fsync: the name must not last without the contents
    new.replace(folder / PLAN)
    fsync_path(folder)


def keep_private(target: Path, folder: Path) -> None:
    """Give the partial folder the rights of the store that it will replace, so that nobody else reads it meanwhile.

    Its owner can write in it, even if the store is read-only.
    """
    mode = stat.S_IMODE(target.stat().st_mode)
    with contextlib.suppress(OSError):
        copy_mode(target, folder)
        if not target.is_dir():  # a user who may read the file may enter the folder
            mode |= (mode & 0o444) >> 2
        folder.chmod(mode | stat.S_IRWXU)
        for file in folder.iterdir():
            if file.is_file() and not file.is_symlink():
                file.chmod(file.stat().st_mode | stat.S_IRUSR | stat.S_IWUSR)


# --- afterwards ------------------------------------------------------------------------------------------------------


def tidy(target: Path, medium: Medium) -> None:
    """Delete what a published store has replaced, and then the working files of its build."""
    partial = partial_of(target)
    if not medium.is_folder:
        remove_partial(partial, medium)
        return
    try:
        aside = aside_of(target)
        if identity_at(aside) is not None and _replaced_by(target) == identity_at(aside):
            remove_partial(aside, medium)
        if partial.is_dir() and not partial.is_symlink() and not (partial / PLAN).exists():
            with contextlib.suppress(OSError):  # a store that was made read-only
                partial.chmod(partial.stat().st_mode | stat.S_IRWXU)
            # If another build has begun there, it has the lock, and deletes the files itself.
            with _lock_if_free(partial, target) as locked:
                if locked and not (partial / PLAN).exists():
                    remove_partial(partial, medium)
    finally:
        with contextlib.suppress(NotADirectoryError, FileNotFoundError), _folder(target) as descriptor:
            _delete(descriptor, WORKING)


def _replaced_by(target: Path) -> Identity | None:
    try:
        device, inode = read_json(target / PLAN)[_REPLACES]
        return int(device), int(inode)
    except (FormatError, KeyError, TypeError, ValueError):
        return None


def recover(target: Path, media: Iterable[Medium]) -> dict[str, Any] | None:
    """Finish a publication in which an earlier call was killed. Nothing happens where there is none.

    Returns:
        the plan of the build whose store has the name now, if that was left to do; otherwise None.

    Raises:
        OSError: names of files cannot be changed here.
    """
    partial, aside = partial_of(target), aside_of(target)
    if is_being_replaced(target):
        # If a live call is in the middle of this, it has the lock.
        with _lock_if_free(partial, target) as locked, contextlib.suppress(TakenError):
            if locked and is_being_replaced(target):
                rename_new(aside, target)
                fsync_path(target.parent)
    for folder, medium in _published_folders(target, media):
        if _finished_plan(folder, target, medium) is None:
            continue
        with _lock_if_free(folder, target) as locked:  # if not, a live call is doing it
            plan = _finished_plan(folder, target, medium) if locked else None
            if plan is not None:
                tidy(target, medium)
            elif locked:
                _remove_own_lock(folder, medium)
            return plan
    for medium in media:
        _remove_workless(target, medium)
    return None


def _remove_own_lock(folder: Path, medium: Medium) -> None:
    """Delete the lock file of this call, where the call that left a plan has ended after this one had seen the plan.

    That call has deleted its own lock file, and nobody would delete this one. The caller holds the lock.
    """
    with contextlib.suppress(OSError):
        if not (folder / PLAN).exists():
            clear(folder, [LOCK])
            if not medium.is_folder:  # it is the partial folder, which is a store of its own otherwise
                folder.rmdir()


def finish_tidying(target: Path, medium: Medium) -> None:
    """Tidy a store that is about to be replaced, if the call that published it has not done so.

    Otherwise its working files would go on with it, and would be taken for work.

    Raises:
        StoreError: that call is at it.
    """
    if medium.is_folder and _finished_plan(target, target, medium) is not None:
        lock = Lock(target / LOCK, target, brief=True)
        try:
            tidy(target, medium)
        finally:
            lock.release()


@contextmanager
def _lock_if_free(folder: Path, target: Path) -> Iterator[bool]:
    """Lock a partial folder for a moment, and yield whether that succeeded."""
    try:
        lock = Lock(folder / LOCK, target, tries=1, brief=True)
    except (StoreError, FileNotFoundError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _looks_like_store(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and (folder / JSON_ENTRY).is_file()


def _published_folders(target: Path, media: Iterable[Medium]) -> Iterator[tuple[Path, Medium]]:
    """Yield the folders in which the plan of a published store may lie."""
    for medium in media:
        folder = target if medium.is_folder else partial_of(target)
        published = medium.pixel_file(target).is_file() and not target.is_symlink()
        if published and (folder / PLAN).is_file() and not folder.is_symlink():
            yield folder, medium


def _finished_plan(folder: Path, target: Path, medium: Medium) -> dict[str, Any] | None:
    """Return the plan in a folder if the store that it speaks of has the target's name."""
    try:
        plan = read_json(folder / PLAN)
        return plan if _MARK in plan and plan[_MARK] == store_identity(medium, target) else None
    except FormatError:
        return None


def _remove_workless(target: Path, medium: Medium) -> None:
    """Delete the partial folder of a call that was killed before it had a plan, if no other call is using it."""
    partial = partial_of(target)
    try:
        names = {file.name for file in partial.iterdir()}
    except OSError:
        return
    if not names and not medium.is_folder and target.is_file() and not partial.is_symlink():
        with contextlib.suppress(OSError):  # another call has begun there
            partial.rmdir()
    if LOCK not in names or PLAN in names or not names <= names_of(partial, medium):
        return
    with _lock_if_free(partial, target) as locked:
        if locked and not (partial / PLAN).exists():
            remove_partial(partial, medium)


# --- delete ----------------------------------------------------------------------------------------------------------


def names_of(folder: Path, medium: Medium) -> set[str]:
    """Return the format's names for files in a folder, with those of the targets that its plan or store.json lists."""
    names = {*WORKING, NEW_PLAN, medium.pixels, *medium.names, *(FOLDER_NAMES if medium.is_folder else ())}
    for source in (PLAN, JSON_ENTRY):
        with contextlib.suppress(FormatError):
            # The files may be damaged or hostile: no name may lead out of the folder, and `file_name` sees to that.
            names.update(map(file_name, array_keys(read_json(folder / source).get("targets"))))
    return names


def clear(folder: Path, names: Iterable[str]) -> None:
    """Delete the files in a folder that have these names. A link is deleted, and the file that it leads to is not."""
    with _folder(folder) as descriptor:
        _delete(descriptor, names)


def remove_partial(folder: Path, medium: Medium) -> None:
    """Delete a folder and the format's files in it; nothing if it does not exist.

    The lock, plan.json and store.json go last: if this call is killed, the next call still knows what the folder is.
    Without the lock, another build into the target may begin in the folder, which is then left to it.

    Raises:
        StoreError: the folder holds other files.
    """
    names = names_of(folder, medium)
    try:
        clear(folder, sorted(names, key=(LOCK, PLAN, JSON_ENTRY).count))
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno == errno.ENOTEMPTY and _holds_only(folder, names):
            return
        raise StoreError(f"{folder} holds files that are not arraystore's; it was left: {error.strerror}") from error


def _holds_only(folder: Path, names: set[str]) -> bool:
    try:
        return names.issuperset(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return True


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """Open a folder to delete files in it, not through a link: whatever takes its name, this folder is meant."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & stat.S_IWUSR:
            yield descriptor
            return
        os.fchmod(descriptor, mode | stat.S_IRWXU)  # a store that was made read-only
        try:
            yield descriptor
        finally:
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _delete(folder: int, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISSOCK(mode):
                os.unlink(name, dir_fd=folder)
