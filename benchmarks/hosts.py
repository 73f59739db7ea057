"""Cases in processes of their own, which open, run and close them when they are told to.

A case that forks workers, or fills its process with a framework's threads, must not do so where others are timed; and
what none has open the system lets be dropped from its page cache. A module of cases has ``CASES``: name → function of a
`Job` that opens it and returns its `Run`. `Host` starts ``hosts.py MODULE`` and talks to it in lines of JSON.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from common import keep_memory

Run = Callable[[int, bool], Mapping[str, float]]
"""Runs an epoch of that number, checks all that it yields if that is asked for, and returns figures, by name: the
``images`` that it read, where that is what it does."""


@dataclass(frozen=True)
class Job:
    """What a case is run on.

    Attributes:
        store: the store, of labels that are the slots' numbers.
        folder: where a case may put files of its own; None where it needs none.
        batch: images of a batch.
        threads: or worker processes.
        count: how many images the case reads, at most.
        augment: a name of `read_cases.AUGMENTS`, or "" for whole slots.
        bytes_per_image: of what is handed over.
    """

    store: str
    folder: str | None
    batch: int
    threads: int
    count: int
    bytes_per_image: int
    augment: str = ""


class Host:
    """The process of some cases. A context manager; leaving it ends the process.

    Args:
        module: of the cases.
        folder: for its log.
    """

    def __init__(self, module: str, folder: Path) -> None:
        self._log = folder / f"{module}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this very script
                [sys.executable, __file__, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def open(self, key: str, name: str, job: Job) -> dict[str, Any]:
        """Open a case under a key, and return what its process holds then, as ``anonymous_bytes``."""
        return self._ask("open", key=key, name=name, job=asdict(job))

    def run(self, key: str, epoch: int, *, check: bool) -> dict[str, Any]:
        """Run an epoch of a case that is open, and return its figures with ``wall_s`` and ``anonymous_bytes``."""
        return self._ask("run", key=key, epoch=epoch, check=check)

    def close(self) -> None:
        """Close all cases."""
        self._ask("close")

    def _ask(self, what: str, **about: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"what": what, **about}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{what} {about}: the process died\n{self._log.read_text(errors='replace')}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()  # which closes its input, and so it ends


class Hosts:
    """The processes of a run, started when they are first needed. A context manager; leaving it ends them.

    Args:
        folder: for their logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hosts: dict[str, Host] = {}
        self._stack = ExitStack()

    def of(self, module: str, key: str | None = None) -> Host:
        """Return the process of a module, or the one that has it for something else alone."""
        key = key or module
        if key not in self._hosts:
            self._hosts[key] = self._stack.enter_context(Host(module, self._folder))
        return self._hosts[key]

    def close(self) -> None:
        """Close all cases."""
        for host in self._hosts.values():
            host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._stack.close()


def serve(cases: Mapping[str, Callable[[Job], Run]]) -> None:
    """Do what is asked on the standard input until that is closed."""
    # Whatever is printed here by others goes to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    opened: dict[str, Run] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        if asked["what"] == "open":
            opened[asked["key"]] = cases[asked["name"]](Job(**asked["job"]))
        elif asked["what"] == "run":
            start = time.perf_counter()
            figures = opened[asked["key"]](asked["epoch"], asked["check"])
            answer = {"wall_s": time.perf_counter() - start, **figures}
        else:
            opened.clear()
            gc.collect()
        print(json.dumps({**answer, "anonymous_bytes": anonymous_bytes()}), file=answers, flush=True)


def anonymous_bytes() -> int:
    """Return what this process holds of memory that is no file's; 0 where the system does not say."""
    try:
        resident, shared = Path("/proc/self/statm").read_text(encoding="ascii").split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what frameworks have to say of their options
    importlib.invalidate_caches()
    if sys.argv[1] != "read_opening":  # which is about a process that has just begun
        keep_memory()  # as users' loops do, which live for longer than these
    # As a module, for what it defines is compared by its users.
    importlib.import_module("hosts").serve(importlib.import_module(sys.argv[1]).CASES)
