"""Processes that start in milliseconds: forks of one that has everything loaded."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from support import disk

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 400.0  # no wait is longer, however busy the machine


class KilledError(Exception):
    """The fork ended without a result."""


class Fork:
    """A process of its own session that runs one function."""

    def __init__(self, channel: socket.socket) -> None:
        channel.settimeout(LIMIT_S)
        self._messages = channel.makefile("rb")
        self._channel = channel
        self._over = False
        self.pid: int = pickle.load(self._messages)

    def result(self) -> Any:
        """Wait for what the function returns, or raise what it raised."""
        try:
            returned, value = pickle.load(self._messages)
        except (EOFError, ConnectionResetError) as error:
            self.wait_for_end()
            raise KilledError from error
        finally:
            self._over = True
            self.close()
        if not returned:
            raise value
        return value

    def wait_for_end(self) -> None:
        """Wait until the process has ended: a killed one closes its socket before it gives up its locks of files."""
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                assert select.select([descriptor], [], [], LIMIT_S)[0], f"process {self.pid} does not end"
            finally:
                os.close(descriptor)

    def ended(self) -> bool:
        """Whether there is a result, or never will be one."""
        self._channel.setblocking(False)
        try:
            self._channel.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        finally:
            self._channel.settimeout(LIMIT_S)
        return True

    def kill(self, *, alone: bool = False) -> None:
        """Kill the whole group, as a closed terminal does or a batch system, or the process alone.

        Only once, and not after the result: another process has its number soon, in a long run of tests.
        """
        if not self._over:
            self._over = True
            with suppress(ProcessLookupError):
                (os.kill if alone else os.killpg)(self.pid, signal.SIGKILL)

    def close(self) -> None:
        self._messages.close()
        self._channel.close()

    def gone(self, limit_s: float = LIMIT_S) -> None:
        """Wait until no process of the group is left."""
        deadline_s = time.monotonic() + limit_s
        with suppress(ProcessLookupError):
            while True:
                os.killpg(self.pid, 0)
                assert time.monotonic() < deadline_s, f"processes of {self.pid} are still there after {limit_s} s"
                time.sleep(0.001)


class Nursery:
    """A process that has all loaded that a build needs, and forks: Python's start and numba's would take a second each.

    Args:
        prefix: a command that runs the process, such as unshare.
        modules: what is loaded besides.
        environment: variables to set.
    """

    def __init__(self, *prefix: str, modules: Sequence[str] = (), **environment: str) -> None:
        self._socket, theirs = socket.socketpair()
        path = f"{ROOT}:{ROOT / 'tests'}"
        with theirs:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-c", f"from support import nursery; nursery.serve({(*modules,)})"],
                env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | environment,
                stdin=theirs,
            )
        self._forks: list[Fork] = []

    def start(self, function: Callable[..., Any], *args: Any, **options: Any) -> Fork:
        """Run a function of a test module, or of a helper, in a new fork."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._socket, [b"!"], [theirs.fileno()])
        ours.sendall(pickle.dumps((function.__module__, function.__name__, args, options)))
        fork = Fork(ours)
        self._forks.append(fork)
        return fork

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.start(function, *args, **options).result()

    def close(self) -> None:
        for fork in self._forks:
            fork.kill()
            fork.close()
        self._socket.close()
        self._process.wait(LIMIT_S)


def serve(modules: Sequence[str]) -> None:
    """Fork for each descriptor that arrives; what the nursery runs."""
    for name in (
        *modules,
        "arraystore._build",
        "arraystore._building.build",
        "arraystore._decoding.decode",
        "arraystore._decoding.formats",
        "arraystore._kernels.sums",
        "arraystore._upkeep.repair",
        "arraystore._upkeep.update",
        "arraystore._upkeep.verify",
        "h5py",
        "pyarrow.compute",
        "pyarrow.parquet",
        "pytest",
        "support.faults",
        "support.images",
        "support.warm_workers",
    ):
        importlib.import_module(name)
    disk.skip_syncs()
    importlib.import_module("pyarrow").array([1])  # loads pandas, where it is installed: this takes a second
    gc.freeze()  # a collection in a fork would copy all pages
    become_subreaper = 36  # orphans of a fork come to this process, where nobody has to wait for them
    assert ctypes.CDLL(None).prctl(become_subreaper, 1, 0, 0, 0) == 0
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    requests = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
        except ConnectionResetError:
            return
        if not data:
            return
        if os.fork() == 0:
            requests.close()
            _run(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _run(channel: socket.socket) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with channel.makefile("rwb") as messages:
        module, name, args, options = pickle.load(messages)
        function = getattr(importlib.import_module(module), name)
        pickle.dump(os.getpid(), messages)
        messages.flush()
        if options.get("processes"):
            warm_workers = importlib.import_module("support.warm_workers")
            warm_workers.fork_server()
        try:
            answer: tuple[bool, Any] = True, function(*args, **options)
        except BaseException as error:  # it is raised where the result is asked for
            error.add_note(traceback.format_exc())
            answer = False, error
        pickle.dump(answer, messages)
    os._exit(0)
