"""The lock that keeps two builds out of one partial folder; it ends with the process that holds it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from arraystore._common.forks import OwnDescriptor
from arraystore.errors import Kind, StoreError

# On a file system without locks, a holder that this machine cannot see counts as dead after this time without a sign of
# life. It gives one far more often, and the clocks of the machines differ by less than this.
_SILENCE_LIMIT_S = 600.0
_SIGN_EVERY_S = 20.0
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_TRIES = 6
_RETRY_S = 0.02
_BRIEF_LIMIT_S = 20.0  # to delete the files of a replaced store takes less


@dataclass(frozen=True, slots=True)
class _Holder:
    """The process that a lock file names.

    A number alone does not say which process: it is used again later, and each container counts from 1.
    """

    host: str
    pid: int
    began: str = ""  # the time of its start in ticks of the clock
    system: str = ""  # the boot of the machine and the namespace of the number

    @classmethod
    def of_this_process(cls) -> _Holder:
        return cls(socket.gethostname(), os.getpid(), _began("self"), _system())

    def is_dead(self) -> bool:
        """Return whether the process has certainly ended."""
        if not self.system or self.system != _system():
            return False
        return _began(self.pid) != self.began


class Lock:
    """A lock file, held until `release` or the end of the process.

    The kernel keeps the lock (flock, which NFS passes on to its server). On a network file system without locks, the
    file itself serves as the lock: it names its holder, and its time of change shows that the holder lives.

    Args:
        path: of the lock file.
        target: of the build, for messages.
        tries: how often it is tried before another process counts as busy.
        brief: True for a moment's work. The file then names no holder, and others wait for the end of it, however busy
            the machine is.

    Raises:
        StoreError: another process has the lock.
        FileNotFoundError: the folder of the lock is gone.
    """

    def __init__(self, path: Path, target: Path, *, tries: int = _TRIES, brief: bool = False) -> None:
        self._path, self._target, self._brief = path, target, brief
        self._silent: threading.Event | None = None
        patient_until_s = time.monotonic() + _BRIEF_LIMIT_S
        for attempt in count(1):
            # Not through a link (O_NOFOLLOW), because the file is emptied.
            self._file = OwnDescriptor(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            try:
                if self._take():
                    return
            except BaseException:
                self.release()
                raise
            # Its holder deleted or replaced the file after it was opened here, or is about to begin or to end.
            holder = self._holder()
            self.release()
            is_patient = tries > 1 and holder is None and time.monotonic() < patient_until_s
            if attempt >= tries and not is_patient:
                raise self._busy(holder)
            time.sleep(_RETRY_S)

    def release(self) -> None:
        """Let another process take the lock. The file stays."""
        if self._silent is not None:
            self._silent.set()
            self._silent = None
            _held_here.discard(self._file.identity())
        self._file.close()

    def _take(self) -> bool:
        locked = True
        try:
            fcntl.flock(self._file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            locked = False
            if error.errno in _HELD:
                self._remove_orphan()
                return False
            if error.errno not in _NO_LOCKS:
                raise
            if self._seems_held():
                return False
        if not self._file.is_at(self._path):
            return False
        # Without locks of the kernel, the name is the lock.
        text = "" if self._brief and locked else json.dumps(asdict(_Holder.of_this_process())) + "\n"
        try:
            os.ftruncate(self._file.number, 0)
            os.pwrite(self._file.number, text.encode(), 0)
        except OSError:  # a full volume
            if not locked:
                raise
        if not locked:
            self._silent = threading.Event()
            _held_here.add(self._file.identity())
            signs = threading.Thread(target=self._give_signs, args=(self._silent,), name="arraystore-lock", daemon=True)
            signs.start()
        return True

    def _give_signs(self, silent: threading.Event) -> None:
        while not silent.wait(_SIGN_EVERY_S):
            with contextlib.suppress(OSError):  # a missed sign of life is no reason to stop
                os.utime(self._file.number)

    def _remove_orphan(self) -> None:
        """Delete the lock file if its holder is dead and the kernel's lock is held by what the holder has forked.

        Python's own forks close the descriptor (`OwnDescriptor`). Forks of other libraries keep it.
        """
        with _alone(self._path.parent) as alone:
            # With the folder locked, no other process can be at the same, so a file that is here now is the orphan.
            if alone and self._file.is_at(self._path) and (holder := self._holder()) and holder.is_dead():
                self._path.unlink(missing_ok=True)

    def _holder(self) -> _Holder | None:
        """Return the process that the file names; None if it names none."""
        try:
            members: Any = json.loads(self._file.read())
            return _Holder(
                str(members["host"]), int(members["pid"]), str(members.get("began", "")), str(members.get("system", ""))
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _seems_held(self) -> bool:
        holder = self._holder()
        if holder is None or holder.is_dead():
            return False
        if holder == _Holder.of_this_process():
            return self._file.identity() in _held_here
        if holder.system and holder.system == _system():
            return True
        return time.time() - os.fstat(self._file.number).st_mtime < _SILENCE_LIMIT_S

    def _busy(self, holder: _Holder | None) -> StoreError:
        told = f" (process {holder.pid} on {holder.host})" if holder is not None and holder.host else ""
        return StoreError(
            f"another build into {self._target} is running{told}: wait for it, or choose another target",
            source=str(self._target),
            kind=Kind.BUSY,
        )


def is_locked(path: Path) -> bool:
    """Return whether a process holds a lock file now, as far as the kernel knows."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _HELD
    else:
        return False
    finally:
        os.close(descriptor)


_held_here: set[tuple[int, int]] = set()  # the lock files of this process where the kernel keeps no locks


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Lock a folder itself for a moment, and yield whether that succeeded."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _began(pid: int | str) -> str:
    """Return the start of a process in ticks of the clock; "" if it does not run or the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # the name of the program may hold spaces and brackets
    # A zombie has ended, and only its parent has not noticed.
    return fields[19] if len(fields) > 19 and fields[0] not in ("Z", "X") else ""


def _system() -> str:
    """Return the boot of this machine and the namespace of its process numbers; "" if the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except (OSError, ValueError):
        return ""
