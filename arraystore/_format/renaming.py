"""Names and rights of files and folders: rename without replacing anything unseen, and exchange names in one step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Container
from functools import cache
from pathlib import Path

from arraystore.errors import StoreError

_NO_REPLACE, _EXCHANGE = 1, 2  # flags of renameat2
_HERE = -100  # the working folder, for relative paths
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM)
_RIGHTS = ("system.posix_acl_access", "system.posix_acl_default")  # extended attributes

Identity = tuple[int, int]


def identity_at(path: Path) -> Identity | None:
    """Return device and inode of what has a path, a link itself and not what it leads to; None if nothing has it."""
    try:
        info = path.lstat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


class TakenError(Exception):
    """Something else has the name."""


@cache
def _system_call() -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _renameat2(path: Path, other: Path, flags: int) -> bool:
    """Call Linux's renameat2; False if the system or the volume cannot do it.

    Raises:
        OSError: it failed for another reason.
    """
    call = _system_call()
    if call is None:
        return False
    if call(_HERE, os.fsencode(path), _HERE, os.fsencode(other), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(path), None, str(other))


def rename_new(path: Path, name: Path) -> None:
    """Rename a file or a folder to a name that nothing has.

    Raises:
        TakenError: something has the name.
    """
    try:
        if _renameat2(path, name, _NO_REPLACE):
            return
    except FileExistsError as error:
        raise TakenError from error
    if not path.is_dir():
        try:
            os.link(path, name, follow_symlinks=False)
        except FileExistsError as error:
            raise TakenError from error
        except OSError:  # a volume without hard links
            pass
        else:
            path.unlink()
            return
    if identity_at(name) is not None:
        raise TakenError
    path.rename(name)  # for a folder, this fails if the name has been taken by anything but an empty folder


def _exchange(path: Path, other: Path) -> bool:
    """Let two files or two folders swap their names in one step; False if the system or the volume cannot do it."""
    return _renameat2(path, other, _EXCHANGE)


def replace(new: Path, target: Path, aside: Path, expected: Identity) -> None:
    """Let ``new`` take the name of what has it, if that is what is expected.

    Afterwards, ``new`` names the old one; on a volume that cannot exchange the names of folders, ``aside`` does.

    Raises:
        TakenError: something else has the name; it keeps it.
        StoreError: something has the name ``aside``.
    """
    if identity_at(target) != expected:
        raise TakenError
    try:
        exchanged = _exchange(new, target)
    except FileNotFoundError as error:  # the old store was removed this instant
        raise TakenError from error
    if exchanged:
        if identity_at(new) == expected:
            return
        _exchange(new, target)  # something else took the name this instant: it gets it back
        raise TakenError
    if not new.is_dir():
        new.replace(target)
        return
    if identity_at(aside) is not None:
        raise StoreError(f"{aside} is in the way", source=str(aside), advice="move it away, and call again")
    target.rename(aside)
    if identity_at(aside) != expected:
        rename_new(aside, target)
        raise TakenError
    try:
        rename_new(new, target)
    except BaseException:
        with contextlib.suppress(TakenError, OSError):
            rename_new(aside, target)
        raise


def copy_rights(old: Path, new: Path, *, skip: Container[str] = ()) -> None:
    """Give a new store the mode, the owner and the access lists of the one that it replaces, as far as allowed.

    Files in it with names in ``skip`` keep theirs.
    """
    copy_mode(old, new)
    if not new.is_dir():
        return
    files = {file.name: file for file in old.iterdir() if file.is_file() and not file.is_symlink()}
    for file in new.iterdir():
        # A file that the old store does not have is as private as its largest one, that of the pixels.
        like = files.get(file.name) or max(files.values(), key=lambda each: each.stat().st_size, default=None)
        if like is not None and file.name not in skip:
            copy_mode(like, file)


def copy_mode(old: Path, new: Path) -> None:
    """Give one file or folder the mode, the owner and the access lists of another, as far as allowed."""
    info, mine = old.stat(), new.stat()
    if (info.st_uid, info.st_gid) != (mine.st_uid, mine.st_gid):
        for owner, group in ((info.st_uid, info.st_gid), (-1, info.st_gid)):
            try:
                os.chown(new, owner, group)
            except OSError:  # only the administrator may give files away, and a user only to groups of his own
                continue
            break
    mode = stat.S_IMODE(info.st_mode)
    if new.stat().st_gid != info.st_gid:
        mode &= ~stat.S_IRWXG  # rights of another group than was meant
    new.chmod(mode)
    for name in _RIGHTS:
        with contextlib.suppress(OSError, AttributeError):
            os.setxattr(new, name, os.getxattr(old, name))
