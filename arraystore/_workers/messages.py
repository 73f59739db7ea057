"""What this process and its worker processes send each other, through one pair of sockets.

A message is its length in 8 bytes, followed by the pickled object. Only processes of this package, at the two ends of
such a pair, read these messages.
"""

import io
import os
import select
import socket
import threading
import traceback
from collections.abc import Callable, Iterable
from copyreg import dispatch_table
from dataclasses import dataclass
from multiprocessing import spawn
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self

from arraystore.errors import ArraystoreError, Kind, StoreError

LENGTH_BYTES = 8
_PARENT_CHECK_EVERY_S = 1.0
_loading_main = threading.Event()


@dataclass(frozen=True, slots=True)
class Raised:
    """An error of a worker, as it is sent to the parent."""

    error: Exception
    trace: str  # a traceback itself cannot be pickled
    cause: Self | None = None  # the error that it was raised from, which an error does not take along either

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Wrap an error; one that cannot be pickled is replaced by a StoreError with its message."""
        trace = "".join(traceback.format_exception(error))
        cause = cls.of(error.__cause__) if isinstance(error.__cause__, Exception) else None
        try:
            unpack(pack(error)[1])
        except Exception:  # the class of the error may raise anything when it is pickled
            replaced = StoreError(f"a worker process met {type(error).__name__}: {error}")
            for note in getattr(error, "__notes__", ()):
                replaced.add_note(note)
            return cls(replaced, trace, cause)
        return cls(error, trace, cause)

    def rebuilt(self) -> Exception:
        """Return the error with what it was raised from; the innermost is raised from the text of its traceback."""
        self.error.__cause__ = WorkerTraceError(self.trace) if self.cause is None else self.cause.rebuilt()
        return self.error


class WorkerTraceError(Exception):
    """The traceback of an error in a worker, as text. As the cause of that error here, it is shown with it."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def pack(message: Any) -> tuple[memoryview, memoryview]:
    """Return the two parts of a message: its length, and the pickled object."""
    data = memoryview(ForkingPickler.dumps(message, 5))  # protocol 5 copies arrays as raw bytes
    return memoryview(data.nbytes.to_bytes(LENGTH_BYTES, "little")), data


def unpack(data: bytes | memoryview, buffers: Iterable[memoryview] | None = None) -> Any:
    """Return the object of a message that the process at the other end has packed; ``buffers`` hold its arrays."""
    return ForkingPickler.loads(data, buffers=buffers)


def parents_channel() -> socket.socket:
    """Return a worker's end of the socket to its parent, and end this process as soon as the parent has ended."""
    channel = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # a decoder that reads its standard input must not take the messages
    os.close(null)
    threading.Thread(target=_end_with_parent, args=(channel, os.getppid()), daemon=True).start()
    return channel


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


# --- what the caller has ---------------------------------------------------------------------------------------------


class Pickler(ForkingPickler):
    """Pickles what the caller has: without the ways of PyTorch to share memory, which need its own processes.

    Attributes:
        found_main: whether there are functions or classes of the script that runs, which is no module to import.
    """

    found_main = False

    def __init__(self, file: io.BytesIO, buffers: Callable[[Any], Any] | None = None) -> None:
        super().__init__(file, 5, True, buffers)
        self.dispatch_table = dispatch_table

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, type) or callable(thing):
            self.found_main |= getattr(thing, "__module__", None) == "__main__"
        return NotImplemented


@dataclass(frozen=True, slots=True)
class WithFunctions:
    """Something that holds functions of the caller, pickled once for all workers.

    Attributes:
        data: it, pickled.
        main: how a worker imports the script that has its functions, as multiprocessing does; empty where it need not.
    """

    data: bytes
    main: dict[str, Any]

    @classmethod
    def of(cls, thing: Any) -> Self:
        """Pickle something."""
        file = io.BytesIO()
        pickler = Pickler(file)
        pickler.dump(thing)
        main: dict[str, Any] = {}
        if pickler.found_main:
            facts = spawn.get_preparation_data("arraystore")
            main = {name: value for name, value in facts.items() if name.startswith("init_main")}
        return cls(file.getvalue(), main)

    def load(self) -> Any:
        """Return it, in a worker."""
        if self.main:
            _loading_main.set()
            try:
                spawn.prepare(self.main)
            finally:
                _loading_main.clear()
        return unpack(self.data)


def cannot_read(what: str, error: Exception) -> ArraystoreError:
    """Return the error of what a worker cannot unpickle, such as a function that a notebook has defined."""
    if isinstance(error, ArraystoreError):
        return error
    made = StoreError(
        f"a worker process cannot read {what} that it was given: {error}",
        kind=Kind.INVALID,
        advice="use threads, or define functions and classes in a module, which worker processes import",
    )
    made.__cause__ = error
    return made


def is_loading_main() -> bool:
    """Return whether this is a worker that is importing the script of its parent."""
    return _loading_main.is_set()
