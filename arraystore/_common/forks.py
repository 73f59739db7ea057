"""What a fork inherits and must not keep: locks that are held during the fork, and descriptors that hold a file."""

import os
import threading
from pathlib import Path
from weakref import WeakSet


def lock_across_forks() -> threading.Lock:
    """Return a new lock that every fork acquires first, so it is open in the child.

    An ordinary lock that is held during a fork stays shut in the child. The process keeps this one until it ends, so
    create such locks at module level. Code that holds the lock must be quick and must not fork.
    """
    lock = threading.Lock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


class OwnDescriptor:
    """A descriptor of a file that is closed in every forked child.

    A lock of a file (flock) belongs to all copies of its descriptor. If a child kept one, the lock of a build that was
    killed would be held for as long as the child lives.
    """

    def __init__(self, path: str | os.PathLike[str], flags: int) -> None:
        self.number = os.open(path, flags | os.O_CLOEXEC, 0o666)
        _own.add(self)

    def close(self) -> None:
        """Close it; a second call has no effect."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def read(self, size: int = 4096) -> bytes:
        """Read from the start of the file."""
        return os.pread(self.number, size, 0)

    def identity(self) -> tuple[int, int]:
        """Return device and inode of the open file."""
        info = os.fstat(self.number)
        return info.st_dev, info.st_ino

    def is_at(self, path: Path) -> bool:
        """Return whether the open file still has this path."""
        try:
            info = path.lstat()
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self.identity()


_own: WeakSet[OwnDescriptor] = WeakSet()


def _close_all() -> None:
    for descriptor in list(_own):
        descriptor.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
