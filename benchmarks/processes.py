"""Cases in processes of their own, and fresh processes that measure themselves.

A case that forks workers, or fills its process with a framework's threads, must not do so where others are timed; and
pages that a process has mapped cannot be dropped from the page cache while it has them.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from benchmarks.common import evict, keep_memory, take_turns

Run = Callable[[int], int]
"""Runs the epoch of that number and returns how many images it read; in epoch 0 it compares them with the slots."""


@dataclass(frozen=True)
class Job:
    """What a case is run on.

    Attributes:
        store: path of the store, whose labels are the slots' numbers.
        folder: where a case may put files of its own.
        batch: images of a batch.
        threads: or worker processes.
        count: how many images the case reads, at most.
        image_bytes: of an image that is handed over.
        files: a list of paths, as JSON, for cases that read photographs.
    """

    store: Path
    folder: Path
    batch: int
    threads: int
    count: int
    image_bytes: int
    files: Path | None = None


class Host:
    """A process that opens cases and runs their epochs. A context manager; leaving it ends the process."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=serve, args=(theirs,))
        self._process.start()
        theirs.close()

    def ask(self, *asked: Any) -> Any:
        """Have something done by `serve`, and return its answer.

        Raises:
            SystemExit: the process died.
        """
        try:
            self._connection.send(asked)
            return self._connection.recv()
        except (EOFError, ConnectionError):
            raise SystemExit("the process of a case died; its last words are above") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._connection.close()
        self._process.join()


class Case:
    """A case in another process; a call runs one epoch there, and the first one is checked.

    Args:
        host: the process.
        name: module and function, such as "read_cases.loader"; it opens the case of a job.
        job: what the case is run on.
        evicted: a file that is dropped from the page cache before each call but the first; the case is then opened
            anew in each call.

    Attributes:
        stayed: the greatest share of that file's pages that could not be dropped.
    """

    def __init__(self, host: Host, name: str, job: Job, evicted: Path | None = None) -> None:
        self.host, self.job, self.stayed = host, job, 0.0
        self._name, self._evicted, self._epoch = name, evicted, 0

    def __call__(self) -> float:
        """Run an epoch, and return the seconds that ``job.count`` images take."""
        if self._evicted is not None and self._epoch:
            self.stayed = max(self.stayed, evict(self._evicted))
        seconds: float = self.host.ask(id(self), self._name, self.job, self._epoch)
        if self._evicted is not None:
            self.host.ask(None)  # what the case has mapped could not be dropped
        self._epoch += 1
        return seconds


def serve(connection: Connection) -> None:
    """Run epochs of cases, opened when they are first asked for, until the other end closes."""
    warnings.simplefilter("ignore")  # frameworks have much to say of their options
    keep_memory()
    opened: dict[int, Run] = {}
    with suppress(EOFError):
        while True:
            key, *asked = connection.recv()
            if key is None:
                opened.clear()
                gc.collect()
                connection.send(None)
                continue
            name, job, epoch = asked
            if key not in opened:
                module, _, function = name.partition(".")
                opened[key] = getattr(import_module(f"benchmarks.{module}"), function)(job)
            run = opened[key]
            start = time.perf_counter()
            images = run(epoch)
            connection.send((time.perf_counter() - start) * job.count / images)
            del run


def time_cases(cases: Mapping[str, Case], rounds: int) -> dict[str, list[float]]:
    """Run cases in turn, and close them."""
    seconds = take_turns(cases, rounds)
    for host in {case.host for case in cases.values()}:
        host.ask(None)
    return seconds


def python(*arguments: str, **variables: str) -> str:
    """Run a fresh interpreter, and return what it printed.

    Raises:
        SystemExit: it failed.
    """
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def fresh(code: str, *arguments: str) -> dict[str, Any]:
    """Run code in a fresh interpreter, and return the JSON that it prints; it can call `READINGS`' functions."""
    told: dict[str, Any] = json.loads(python("-c", READINGS + code, *arguments))
    return told


# Peaks are read from /proc, because the peak that getrusage gives a new process may be its parent's.
READINGS = """
import json, os, sys, time
def peak_bytes():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
def anonymous_bytes():
    with open("/proc/self/statm") as file:
        resident, shared = map(int, file.read().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGESIZE")
"""
