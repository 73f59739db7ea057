"""What a worker process runs: it takes jobs from its parent, fills their slots, and sends back what is filled.

Parent and worker talk through one pair of sockets, the worker's end being its standard input. A message is its length,
8 bytes, and then the pickled object; nothing else is shared, and nothing is left behind however either ends.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

from arraystore._building.fill import Job, fill_parts
from arraystore.errors import StoreError

__all__ = ["LENGTH_BYTES", "PART_S", "Raised", "pack", "unpack", "work"]

LENGTH_BYTES = 8
# One message a run at full speed; yet whoever waits knows to 50 ms when an image was begun.
PART_S = 0.05
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Raised:
    """An error that ended a run, on its way to the parent.

    Attributes:
        error: the error, with its notes.
        trace: where it was raised, as text, since a traceback cannot travel.
    """

    error: Exception
    trace: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Wrap an error; one that cannot be pickled is told of by a StoreError."""
        trace = "".join(traceback.format_exception(error))
        try:
            unpack(pack(error)[1])
        except Exception:  # noqa: BLE001 - whatever a foreign class does when it is pickled
            told = StoreError(f"a worker process met {type(error).__name__}: {error}")
            for note in getattr(error, "__notes__", ()):
                told.add_note(note)
            return cls(told, trace)
        return cls(error, trace)


def pack(message: Any) -> tuple[memoryview, memoryview]:
    """Return a message as it travels: its length, then the pickled object."""
    data = memoryview(ForkingPickler.dumps(message, 5))  # 5 takes arrays as they lie
    return memoryview(data.nbytes.to_bytes(LENGTH_BYTES, "little")), data


def unpack(data: bytes | memoryview) -> Any:
    """Return the object of a message that our own other end has packed."""
    return ForkingPickler.loads(data)


def work() -> None:
    """Serve the parent until it wants no more or has ended; None is sent first, when all is loaded."""
    channel = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # a decoder that reads its standard input must not take the messages
    os.close(null)
    threading.Thread(target=_end_with_parent, args=(channel, os.getppid()), daemon=True).start()
    # Loading takes a second, compiling far longer: it must not count as the time that the first image takes.

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
            for filled in fill_parts(job, PART_S):
                _send(channel, filled)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever called build
            _send(channel, Raised.of(error))


def _send(channel: socket.socket, message: Any) -> None:
    for part in pack(message):
        channel.sendall(part)


def _end_with_parent(channel: socket.socket, parent: int) -> None:
    """End this process when the parent has ended, however it ended, and in the middle of an image too.

    The parent's end of the channel closes at once then, unless another process that the parent forked still holds it;
    so the parent itself is looked for as well.
    """
    closed = select.poll()
    closed.register(channel, 0)  # nothing but the hang-up
    while not closed.poll(_LOOK_S * 1000) and os.getppid() == parent:
        pass
    os._exit(1)
