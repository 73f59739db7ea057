"""The lock that keeps two builds out of one partial folder; it ends with the process that holds it."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from arraystore._stores.slot_array import file_identity
from arraystore.errors import Kind, StoreError

# On a file system without locks, a build on another machine counts as dead after this time without a sign of life. It
# touches its lock file about once a second, and the clocks of the machines differ by less than this.
_SILENCE_LIMIT_S = 600.0
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class Lock:
    """A lock file, held until `release` or the end of the process.

    The kernel keeps the lock (flock, which NFS passes on to its server). On a network file system without locks, the
    file itself serves as the lock: it names the process and the machine that hold it, and its time of change shows that
    the process lives.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self._path = path
        # Not through a link (O_NOFOLLOW), because the file is emptied.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            self._take(target)
        except BaseException:
            self.release()
            raise

    def touch(self) -> None:
        """Show that the holder of the lock lives."""
        with contextlib.suppress(OSError):  # a missed sign of life is no reason to stop
            os.utime(self._descriptor)

    def release(self) -> None:
        """Let another process take the lock. The file stays."""
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
        if not self._is_at_its_path():  # its holder deleted it after it was opened here
            raise self._busy(target)
        holder = json.dumps({"host": socket.gethostname(), "pid": os.getpid()}) + "\n"
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, holder.encode(), 0)
        except OSError:  # a full volume
            if not locked:
                raise

    def _holder(self) -> tuple[str, int]:
        """Return the machine and the process that the file names; ("", 0) if it names none."""
        try:
            members: Any = json.loads(os.pread(self._descriptor, 4096, 0))
            return str(members["host"]), int(members["pid"])
        except (OSError, ValueError, TypeError, KeyError):
            return "", 0

    def _seems_held(self) -> bool:
        host, pid = self._holder()
        if host == socket.gethostname():
            return pid != os.getpid() and _lives(pid)
        return bool(host) and time.time() - os.fstat(self._descriptor).st_mtime < _SILENCE_LIMIT_S

    def _busy(self, target: Path) -> StoreError:
        host, pid = self._holder()
        holder = f" (process {pid} on {host})" if host else ""
        return StoreError(
            f"another build into {target} is running{holder}: wait for it, or choose another target",
            source=str(target),
            kind=Kind.BUSY,
        )

    def _is_at_its_path(self) -> bool:
        held = os.fstat(self._descriptor)
        return (held.st_dev, held.st_ino) == file_identity(self._path)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH  # the process may belong to somebody else
    return True
