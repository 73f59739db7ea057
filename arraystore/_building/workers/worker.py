"""The program of a worker process: it receives jobs from its parent, fills their slots, and sends back the results.

Parent and worker talk through one pair of sockets; the worker's end is its standard input. A message is its length in
8 bytes, followed by the pickled object. Nothing else is shared, so neither process leaves anything behind.
"""

import socket
from dataclasses import replace
from typing import Any

from arraystore._building.fill import Job, load_decoders
from arraystore._sources.kinds.sequences import joined
from arraystore._workers.messages import LENGTH_BYTES, Raised, WithFunctions, cannot_read, pack, parents_channel, unpack

# A fast worker then sends one message a run, and the parent knows to 50 ms when a slow image was begun.
REPORT_EVERY_S = 0.05


def work() -> None:
    """Fill the parent's jobs until it ends or closes its socket. A first message, None, says that all is loaded."""
    channel = parents_channel()
    load_decoders()  # before the first image, whose time is limited: this takes a second, and compiling takes longer
    try:
        _serve(channel)
    except OSError:
        return  # the parent has closed its end


def _serve(channel: socket.socket) -> None:
    jobs = channel.makefile("rb")
    _send(channel, None)
    sequence = None
    while len(length := jobs.read(LENGTH_BYTES)) == LENGTH_BYTES:
        size = int.from_bytes(length, "little")
        data = jobs.read(size)
        if len(data) < size:
            return
        try:
            message: Job | WithFunctions = unpack(data)
            if isinstance(message, WithFunctions):
                sequence = message.load()
                continue
        except Exception as error:  # whatever a class of the caller raises
            _send(channel, Raised.of(cannot_read("the job", error)))
            continue
        try:
            job = replace(message, sources=joined(message.sources, sequence))
            for filled in job.parts(REPORT_EVERY_S):
                _send(channel, filled)
        except Exception as error:  # any error is raised in the parent
            _send(channel, Raised.of(error))


def _send(channel: socket.socket, message: Any) -> None:
    for part in pack(message):
        channel.sendall(part)
