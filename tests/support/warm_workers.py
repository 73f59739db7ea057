"""Worker processes of builds that start in milliseconds: forks of a process that has the decoders loaded.

A new interpreter takes one or two seconds of processor time to load them. Tests of how workers start, and of what they
inherit, use real ones.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from arraystore._building.workers import processes, worker

ROOT = Path(__file__).resolve().parents[2]
NAME = "warm worker"  # as /proc/PID/comm says it
_SET_NAME, _SET_SUBREAPER = 15, 36  # of prctl


class WarmPopen(subprocess.Popen[bytes]):
    """Popen, but a worker is a fork of the server. It is a child of this process all the same, as its owner expects."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        if isinstance(args, list) and processes._WORKER_CODE in args:
            stdin = rest[9]
            self.pid = _fork(args[args.index(processes._WORKER_CODE) + 1 :], stdin)
            self._child_created = True
        else:
            super()._execute_child(args, *rest)  # type: ignore[misc]


def _fork(path: Sequence[str], stdin: int) -> int:
    ours, theirs = socket.socketpair()
    asked = pickle.dumps((dict(os.environ), path, str(Path.cwd()), signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    with ours, theirs:
        _prctl(_SET_SUBREAPER, 1)  # an orphan becomes a child of this process
        try:
            socket.send_fds(_own[0] if _own else _server(), [b"!"], [theirs.fileno(), stdin, 1, 2])
            ours.sendall(len(asked).to_bytes(8, "little") + asked)
            said = ours.recv(8, socket.MSG_WAITALL)
        finally:
            _prctl(_SET_SUBREAPER, 0)
    assert said, "the server of warm workers has ended"
    return int.from_bytes(said, "little")


def _prctl(what: int, *values: Any) -> None:
    assert ctypes.CDLL(None).prctl(what, *values, *[0] * (4 - len(values))) == 0


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-c", "from support import warm_workers; warm_workers.serve()"],
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            stdin=theirs,
        )
    atexit.register(lambda: (ours.close(), server.wait(400)))
    return ours


_own: list[socket.socket] = []


def fork_server() -> None:
    """Let a fork of this process, which has loaded all and has one thread, be the server; and make workers warm."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        os.dup2(theirs.fileno(), 0)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # whoever waits for the end of this process looks at its sockets
        try:
            serve()
        finally:
            os._exit(0)
    theirs.close()
    _own.append(ours)
    subprocess.Popen = WarmPopen  # type: ignore[misc]


def serve() -> None:
    """Fork a worker for each message, until the other end closes."""
    worker.load_decoders()
    requests = socket.socket(fileno=os.dup(0))
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 1, 4)
        if not data:
            return
        middle = os.fork()
        if middle == 0:
            middle = os.getpid()
            if os.fork():
                os._exit(0)  # the worker is an orphan now
            requests.close()
            _begin(middle, *descriptors)
        os.waitpid(middle, 0)
        for each in descriptors:
            os.close(each)


def _begin(middle: int, channel: int, *descriptors: int) -> NoReturn:
    """Become what a new interpreter would be, work, and end."""
    status = 1
    try:
        while os.getppid() == middle:
            time.sleep(0.0005)
        with socket.socket(fileno=channel) as talk:
            size = int.from_bytes(talk.recv(8, socket.MSG_WAITALL), "little")
            environment, path, folder, blocked = pickle.loads(talk.recv(size, socket.MSG_WAITALL))
            _prctl(_SET_NAME, NAME.encode())
            talk.sendall(os.getpid().to_bytes(8, "little"))
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        os.chdir(folder)
        first = Path(environment.get("PYTHONPATH", "").partition(":")[0], "sitecustomize.py")
        if first.exists():
            runpy.run_path(str(first))
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        worker.work()
        status = 0
    except BaseException:  # as an interpreter does
        traceback.print_exc()
    finally:
        os._exit(status)
