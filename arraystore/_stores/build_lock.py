"""The lock that keeps two builds out of one partial folder, and falls with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from arraystore.errors import StoreError

__all__ = ["Lock"]

# Where the file system has no locks: how long a build on another machine may be silent before it counts as dead. It
# touches its lock about once a second; clocks of machines differ by less.
_SILENT_S = 600.0
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Lock:
    """A lock file, held until `release` or the end of the process, however it ends.

    The kernel keeps the lock (flock, which NFS passes on to its server). A network file system that has no locks gets
    the next best: the file says which process of which machine holds it, and its time of change that it still lives.

    Args:
        path: the lock file; its folder must exist.
        target: what is being built, for the message.

    Raises:
        StoreError: another process holds it.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self._path = path
        # Never through a link: the file is emptied.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            self._take(target)
        except BaseException:
            self.release()
            raise

    def touch(self) -> None:
        """Show that the holder lives."""
        with contextlib.suppress(OSError):  # a missed sign of life is no reason to stop
            os.utime(self._descriptor)

    def release(self) -> None:
        """Let others take it. The file stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take(self, target: Path) -> None:
        locked = True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            locked = False
            if error.errno in _NO_LOCKS:
                if self._seems_held():
                    raise self._busy(target) from None
            elif error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise self._busy(target) from None
            else:
                raise
        if not self._is_at_its_path():  # its holder removed it between our opening and locking
            raise self._busy(target)
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}) + "\n"
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, holder.encode(), 0)
        except OSError:  # a full volume
            if not locked:
                raise

    def _holder(self) -> tuple[str, int]:
        """Machine and process that wrote the file last; ("", 0) where it does not say."""
        try:
            members: Any = json.loads(os.pread(self._descriptor, 4096, 0))
            return str(members["host"]), int(members["pid"])
        except (OSError, ValueError, TypeError, KeyError):
            return "", 0

    def _seems_held(self) -> bool:
        host, pid = self._holder()
        if host == socket.gethostname():
            return pid != os.getpid() and _lives(pid)
        return bool(host) and time.time() - os.fstat(self._descriptor).st_mtime < _SILENT_S

    def _busy(self, target: Path) -> StoreError:
        host, pid = self._holder()
        who = f" (process {pid} on {host})" if host else ""
        return StoreError(
            f"another build into {target} is running{who}: wait for it, or choose another target", source=str(target)
        )

    def _is_at_its_path(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(self._descriptor)
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True
