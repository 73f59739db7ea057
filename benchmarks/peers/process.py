"""A peer's process as the runner sees it: a place of its own, a time limit for all it does, and what its tree holds.

A peer may leave files in the temporary directory, empty it, hang, or die with workers: so it has a temporary directory,
a home and caches of its own, and a session of its own that is killed whole when its time is over.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from arraystore.memory.trace import Watch

CHILD = Path(__file__).with_name("child.py")
CLOSE_S = 5  # for what a peer has to clear up, such as shared memory
LATER_S = 10  # after its limit a process ends by itself, if nobody is there any more who could kill it


class PeerError(Exception):
    """A peer that could not do what it was asked; the message is its row's reason.

    Attributes:
        missing: whether a module is not installed.
    """

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class Process:
    """The process of one peer. A context manager; leaving it ends the process, and kills what does not end with it.

    Args:
        command: that starts it; see `command`.
        folder: of the peer's own, empty: its files, temporary files, home, caches and log.
        workers: how many threads the libraries below a peer may use.
        limit_s: seconds until it is killed, whatever it does.
    """

    def __init__(self, command: list[str], *, folder: Path, workers: int, limit_s: float) -> None:
        self.log = folder / "log"
        self._limit_s, self._deadline = limit_s, time.monotonic() + limit_s
        self._unread = b""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this very script, and an adapter that the user names
                [*command, str(math.ceil(limit_s) + LATER_S)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=environment(folder, workers),
                start_new_session=True,
            )

    def ask(self, step: str, **about: Any) -> dict[str, Any]:
        """Have a step done, and return what it tells; see `child.Peer`.

        Raises:
            PeerError: it failed, died, or is out of time.
        """
        with contextlib.suppress(BrokenPipeError):
            pipe(self._process.stdin).write(json.dumps({"step": step, **about}).encode() + b"\n")
            pipe(self._process.stdin).flush()
        answer: dict[str, Any] = json.loads(self._line(step))
        if "error" in answer:
            raise PeerError(f"{step}: {answer['error']}", missing=answer["missing"])
        return answer

    def watched(self, step: str, **about: Any) -> dict[str, Any]:
        """Do the same, and add the greatest memory of the process and its children meanwhile, as ``peak_bytes``."""
        watch = Watch(self._process.pid)
        try:
            answer = self.ask(step, **about)
        finally:
            columns = watch.end()["columns"]
        held = [one + other for one, other in zip(columns["anonymous"], columns["shmem"], strict=True)]
        return {**answer, "peak_bytes": max(held)}

    def _line(self, step: str) -> bytes:
        out = pipe(self._process.stdout)
        while b"\n" not in self._unread:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                raise PeerError(f"{step}: killed, because it was not done after {self._limit_s:,.0f} s")
            got = os.read(out.fileno(), 1 << 16)
            if not got:
                raise PeerError(f"{step}: the process died: {last_line(self.log)}")
            self._unread += got
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe(self._process.stdin).close()  # which ends it, if it is well
        try:
            self._process.wait(max(0.0, min(CLOSE_S, self._deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            Watch(self._process.pid).end(kill=True)  # also what has left the group, such as a daemon
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        pipe(self._process.stdout).close()
        self._process.wait()


def command(python: str, adapters: Path, name: str) -> list[str]:
    """Return the command that starts an adapter of a folder in an interpreter."""
    return [python, str(CHILD), str(adapters.absolute()), name]


def environment(folder: Path, workers: int) -> Mapping[str, str]:
    """Return the environment of a peer that has this folder, and make the folders that it names."""
    own = {"HOME": "home", "XDG_CACHE_HOME": "home/cache", "HF_HOME": "home/hf", "KERAS_HOME": "home/keras"}
    own |= {"TMPDIR": "tmp", "TEMP": "tmp", "TMP": "tmp"}
    for name in own.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS")
    return {
        **os.environ,
        **{name: str(folder / path) for name, path in own.items()},
        **dict.fromkeys(threads, str(workers)),
        # No network is assumed: nobody asks a hub whether there is something newer.
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }


def pipe(file: IO[bytes] | None) -> IO[bytes]:
    """Return an end of a pipe that is there."""
    assert file is not None
    return file


def last_line(log: Path) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")[:300]
