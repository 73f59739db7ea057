"""The program of a worker process that computes items, and the form of its answers.

The parent sends the sequence, and then numbers of items. An answer is the sizes of its parts, an object pickled without
its arrays, and the bytes of each array: an array is neither pickled nor copied into a message.
"""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Callable
from typing import Any

from arraystore._workers.messages import LENGTH_BYTES, Pickler, Raised, cannot_read, parents_channel, unpack
from arraystore.errors import Kind, LazyError

HEAD = struct.Struct("<QQ")  # the bytes of the object, and how many arrays there are
NUMBER = struct.Struct("<Q")


def work() -> None:
    """Answer the parent's questions until it ends or closes its socket."""
    channel = parents_channel()
    try:
        _answer(channel, _read_sequence(channel))
    except OSError:
        return  # the parent has closed its end


def received(channel: socket.socket, buffer: memoryview) -> memoryview:
    """Fill a buffer with what comes through a socket, and return it.

    Raises:
        OSError: the other end is closed; a TimeoutError, if the socket has a limit and it is over.
    """
    filled = 0
    while filled < len(buffer):
        count = channel.recv_into(buffer[filled:])
        if not count:
            raise ConnectionResetError("the other process has ended")
        filled += count
    return buffer


def _read_sequence(channel: socket.socket) -> Callable[[int], Any]:
    """Return the function that computes an item, and say that the sequence is there."""
    (size,) = NUMBER.unpack(received(channel, memoryview(bytearray(LENGTH_BYTES))))
    data = received(channel, memoryview(bytearray(size)))
    try:
        compute: Callable[[int], Any] = unpack(data).load().item
    except Exception as error:  # whatever a class of the caller raises
        refused = cannot_read("the sequence", error)

        def compute(_: int) -> Any:
            raise refused

    channel.sendall(b"!")
    return compute


def _answer(channel: socket.socket, compute: Callable[[int], Any]) -> None:
    while True:
        (number,) = NUMBER.unpack(received(channel, memoryview(bytearray(NUMBER.size))))
        for part in _parts_of(number, compute):
            channel.sendall(part)


def _parts_of(number: int, compute: Callable[[int], Any]) -> list[Any]:
    """Compute an item, and return the parts of the answer: the item in a tuple, or what was raised."""
    try:
        item = compute(number)
    except Exception as error:  # any error is raised in the parent
        return _parts(Raised.of(error))
    try:
        return _parts((item,))
    except Exception as error:  # whatever a class of the caller raises
        told = LazyError(
            f"item {number:,} cannot be sent by a worker process: {type(error).__name__}: {error}",
            item=number,
            kind=Kind.INVALID,
            advice="use threads, or map it to arrays, numbers and texts",
        )
        told.__cause__ = error
        return _parts(Raised.of(told))


def _parts(answer: Any) -> list[Any]:
    """Return the parts of an answer: its sizes, the object, and its arrays."""
    buffers: list[Any] = []
    file = io.BytesIO()
    Pickler(file, buffers.append).dump(answer)
    data = file.getvalue()
    arrays = [buffer.raw() for buffer in buffers]
    sizes = b"".join(NUMBER.pack(array.nbytes) for array in arrays)
    return [HEAD.pack(len(data), len(arrays)) + sizes, data, *arrays]
