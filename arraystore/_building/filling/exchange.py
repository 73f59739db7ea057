"""How followers send what they have decoded to the process that fills a store: a socket in the folder of the build.

Nothing depends on it. If the socket cannot be made or reached, if the filler is slow or dead, the follower has the
pixels for its own batch all the same, and the filler decodes the slot when it comes to it.

A message is a head, the slot's row of the ledger, the text of its note, and its pixels or its JPEG, of which the row
says how long it is. What does not fit, or does not have the checksum of its row, ends the connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from arraystore._format.ledger import ledger_dtype
from arraystore._format.specification import STORED
from arraystore._stores.medium import FilledRun
from arraystore._stores.publishing import SOCKET
from arraystore.spec import ImageSpec

_log = logging.getLogger(__name__)

_HEAD = struct.Struct("<4sQI")  # the mark of a message, the slot, the bytes of the text
_MARK, _END_MARK = b"asf1", b"asfe"
_FINISH = "finish"
_TEXT_LIMIT_BYTES = 1 << 16
_SLOT_LIMIT_BYTES = 1 << 31  # of a JPEG; that of an image in memory fits many times
_SEND_LIMIT_S = 5.0
_WAIT_LIMIT_S = 5.0
_BACKLOG = 128


class Inbox:
    """Receives slots from other processes, in a thread for each of them.

    Args:
        folder: of the build.
        count: how many slots there are.
        spec: of the slots.
        take: is called with each slot that came whole, from any thread.
        finish: is called where a follower asks for the end of the filling.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        spec: ImageSpec,
        take: Callable[[FilledRun], None],
        finish: Callable[[], object],
    ) -> None:
        self._folder, self._count, self._spec, self._take, self._finish = folder, count, spec, take, finish
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._listener: socket.socket | None = None
        try:
            (folder / SOCKET).unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                with _short_name(folder) as name:
                    listener.bind(name)
                listener.listen(_BACKLOG)
                listener.settimeout(_WAIT_LIMIT_S)  # not every system wakes this thread when the socket is closed
            except BaseException:
                listener.close()
                raise
        except (OSError, AttributeError):  # this volume or system has no such sockets
            return
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="arraystore-inbox", daemon=True).start()

    def close(self) -> None:
        """Take nothing any more."""
        with self._lock:
            self._closed.set()
            for each in (*self._open, *([self._listener] if self._listener else ())):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._open.clear()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                (self._folder / SOCKET).unlink(missing_ok=True)
        self._listener = None

    def close_in_fork(self) -> None:
        """Close the copies of a forked process, so that connections end with this process."""
        for each in (*self._open, *([self._listener] if self._listener else ())):
            each.close()

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            connection.settimeout(None)
            with self._lock:
                if self._closed.is_set():
                    connection.close()
                    return
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="arraystore-inbox", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while (run := _received(stream, self._count, self._spec)) is not None:
                    if isinstance(run, FilledRun):
                        self._take(run)
                    else:
                        self._finish()
        except Exception as error:  # the follower sees that the connection has ended
            _log.info("a connection of a follower has ended: %s", error)
        finally:
            with self._lock:
                self._open.discard(connection)


class Outbox:
    """Sends slots to the process that fills a store, for as long as that takes them."""

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(_SEND_LIMIT_S)
                with _short_name(folder) as name:
                    connection.connect(name)
            except BaseException:
                connection.close()
                raise
        except (OSError, AttributeError):
            return
        self._socket = connection

    @property
    def is_open(self) -> bool:
        """Whether the process at the other end lives, as far as the system tells."""
        with self._lock:
            if self._socket is None:
                return False
            try:  # nothing is ever sent back, so there are bytes to read only at the end
                self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                pass
            self.close()
            return False

    def ask_to_finish(self) -> None:
        """Ask the process at the other end to finish the store."""
        self._send([_HEAD.pack(_END_MARK, 0, 0)])

    def send(self, run: FilledRun) -> None:
        """Send one slot that is stored; nothing is sent any more after the first error."""
        text = run.notes.get(run.start, "").encode()[:_TEXT_LIMIT_BYTES]
        if run.pixels is None:
            run.rows["length"] = len(run.encoded[0])
        data = run.encoded[0] if run.pixels is None else run.pixels.reshape(-1).data
        self._send([_HEAD.pack(_MARK, run.start, len(text)), run.rows.tobytes(), text, data])

    def _send(self, parts: Sequence[bytes | memoryview]) -> None:
        with self._lock:
            if self._socket is None:
                return
            try:
                for part in parts:
                    self._socket.sendall(part)
            except OSError:
                self.close()

    def close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()


def _received(stream: Any, count: int, spec: ImageSpec) -> FilledRun | str | None:
    """Return the next slot of a connection, or `_FINISH`; None if it ends, or sends what is no slot of this store."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    mark, slot, size = _HEAD.unpack(head)
    if mark == _END_MARK:
        return _FINISH
    if mark != _MARK or slot >= count or size > _TEXT_LIMIT_BYTES:
        return None
    dtype = ledger_dtype(spec)
    data, text = stream.read(dtype.itemsize), stream.read(size)
    if len(data) < dtype.itemsize or len(text) < size:
        return None
    rows = np.frombuffer(data, dtype).copy()
    length = spec.slot_bytes if spec.encode is None else int(rows["length"][0])
    if length > _SLOT_LIMIT_BYTES and spec.encode is not None:
        return None
    slot_bytes = stream.read(length)
    if len(slot_bytes) < length:
        return None
    # What failed is not taken: it may be for want of memory or files in that process alone.
    if rows["status"][0] != STORED or xxhash.xxh3_64_intdigest(slot_bytes) != int(rows["checksum"][0]):
        return None
    run = FilledRun(slot, rows, notes={slot: text.decode(errors="replace")} if size else {})
    if spec.encode is None:
        run.pixels = np.frombuffer(slot_bytes, np.uint8).reshape(1, *spec.slot_shape)
    else:
        run.encoded = [slot_bytes]
    return run


@contextlib.contextmanager
def _short_name(folder: Path) -> Iterator[str]:
    """Yield a name of the socket: the system takes no more than about a hundred bytes, and folders lie deep."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{descriptor}/{SOCKET}"
        yield short if Path("/proc/self/fd").is_dir() else str(folder / SOCKET)
    finally:
        os.close(descriptor)
