"""Processes of their own for frameworks: they start threads, and read their settings when they are first imported."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, set_start_method
from typing import Any

LIMIT_S = 400
EXIT_S = 200


class Apart:
    """A process in which functions of a test module are called; their errors are raised here."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_prepare, initargs=(dict(settings),))

    def begin(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        return self._pool.submit(function, *args)

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.begin(function, *args).result(LIMIT_S)

    def check_all(self, names: Mapping[str, Any]) -> None:
        """Call every function of a test module whose name begins with ``check_``, and raise their errors together."""
        failed = []
        for name in sorted(names):
            if name.startswith("check_"):
                try:
                    self(names[name])
                except Exception as error:  # it is raised below, and the others are to be seen too
                    error.add_note(name)
                    failed.append(error)
        if failed:
            raise ExceptionGroup(f"{len(failed)} checks failed", failed)

    def close(self) -> None:
        processes = list((self._pool._processes or {}).values())
        waiting = self._pool._executor_manager_thread
        self._pool.shutdown(wait=False, cancel_futures=True)
        if waiting is not None:  # to wait for the process here as well would race with it
            waiting.join(EXIT_S)
        left = [process for process in processes if process.is_alive()]
        for process in left:
            process.kill()
            process.join()
        assert not left, f"{len(left)} processes did not end"


def _prepare(settings: dict[str, str]) -> None:
    os.environ.update(settings)
    set_start_method("fork", force=True)  # as in a process that was not spawned itself
    fail_at_warnings()


def fail_at_warnings() -> None:
    """Make warnings errors in this process, but for those that frameworks have of their own affairs."""
    warnings.filterwarnings("error", module=r"arraystore|test_")


@contextmanager
def apart(**settings: str) -> Iterator[Apart]:
    process = Apart(settings)
    try:
        yield process
    finally:
        process.close()
