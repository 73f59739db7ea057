"""The program of a worker process: it receives jobs from its parent, fills their slots, and sends back the results.

Parent and worker talk through one pair of sockets; the worker's end is its standard input. A message is its length in
8 bytes, followed by the pickled object. Nothing else is shared, so neither process leaves anything behind.
"""

import os
import select
import socket
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

from arraystore._building.fill import Job, load_decoders
from arraystore.errors import Kind, StoreError

LENGTH_BYTES = 8
# A fast worker then sends one message a run, and the parent knows to 50 ms when a slow image was begun.
REPORT_EVERY_S = 0.05
_PARENT_CHECK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Raised:
    """An error that ended a run, as it is sent to the parent."""

    error: Exception
    trace: str  # a traceback itself cannot be pickled

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Wrap an error; one that cannot be pickled is replaced by a StoreError with its message."""
        trace = "".join(traceback.format_exception(error))
        try:
            unpack(pack(error)[1])
        except Exception:  # noqa: BLE001 - the class of the error may raise anything when it is pickled
            replaced = StoreError(f"a worker process met {type(error).__name__}: {error}")
            for note in getattr(error, "__notes__", ()):
                replaced.add_note(note)
            return cls(replaced, trace)
        return cls(error, trace)


def pack(message: Any) -> tuple[memoryview, memoryview]:
    """Return the two parts of a message: its length, and the pickled object."""
    data = memoryview(ForkingPickler.dumps(message, 5))  # protocol 5 copies arrays as raw bytes
    return memoryview(data.nbytes.to_bytes(LENGTH_BYTES, "little")), data


def unpack(data: bytes | memoryview) -> Any:
    """Return the object of a message that the process at the other end has packed."""
    return ForkingPickler.loads(data)


def work() -> None:
    """Fill the parent's jobs until it ends or closes its socket. A first message, None, says that all is loaded."""
    channel = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # a decoder that reads its standard input must not take the messages
    os.close(null)
    threading.Thread(target=_end_with_parent, args=(channel, os.getppid()), daemon=True).start()
    load_decoders()  # before the first image, whose time is limited: this takes a second, and compiling takes longer
    try:
        _serve(channel)
    except OSError:
        return  # the parent has closed its end


def _serve(channel: socket.socket) -> None:
    jobs = channel.makefile("rb")
    _send(channel, None)
    while len(length := jobs.read(LENGTH_BYTES)) == LENGTH_BYTES:
        size = int.from_bytes(length, "little")
        data = jobs.read(size)
        if len(data) < size:
            return
        try:
            job: Job = unpack(data)
        except Exception as error:  # noqa: BLE001 - whatever a class of the caller raises
            _send(channel, Raised.of(_unreadable(error)))
            continue
        try:
            for filled in job.parts(REPORT_EVERY_S):
                _send(channel, filled)
        except Exception as error:  # noqa: BLE001 - any error is raised in the parent
            _send(channel, Raised.of(error))


def _unreadable(error: Exception) -> StoreError:
    """Return the error of a job that cannot be unpickled, such as one with a function that a notebook has defined."""
    made = StoreError(
        f"a worker process cannot read the job that it was given: {error}",
        kind=Kind.INVALID,
        advice="build with threads, or define functions and classes in a module, which worker processes import",
    )
    made.__cause__ = error
    return made


def _send(channel: socket.socket, message: Any) -> None:
    for part in pack(message):
        channel.sendall(part)


def _end_with_parent(channel: socket.socket, parent: int) -> None:
    """End this process as soon as the parent has ended, in the middle of an image too.

    When the parent ends, its end of the channel closes, unless another process that the parent forked holds it open. So
    the number of the parent is checked too.
    """
    closed = select.poll()
    closed.register(channel, 0)  # only for the hang-up, which is always reported
    while not closed.poll(_PARENT_CHECK_EVERY_S * 1000) and os.getppid() == parent:
        pass
    os._exit(1)
