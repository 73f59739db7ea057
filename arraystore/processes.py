"""A pool of worker processes that a command can be interrupted and killed with."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from arraystore.limits import usable_cpus

__all__ = ["process_pool"]


@contextmanager
def process_pool(workers: int | None, *, wanted: bool) -> Iterator[ProcessPoolExecutor | None]:
    """Lend a pool of ``workers`` processes, or of one a core for None; or no pool, if none is wanted.

    Processes are spawned, because a fork of a process that has threads (OpenCV, numba) may deadlock.
    """
    if not wanted:
        yield None
        return
    count = workers or usable_cpus()
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_end_with_parent)
    # Ctrl-C goes to every process of the terminal. The workers are started now, while SIGINT is blocked, and inherit
    # that: only this process is interrupted, and it alone decides and reports. An initializer that ignores the signal
    # would come too late for a Ctrl-C during a worker's imports. Other threads, such as numpy's, may still take the
    # signal for this process, and an exception between starting a worker and telling it what to do would strand it: so
    # here a Ctrl-C is only noted.
    noted: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(count):
            pool.submit(os.getpid)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, handler)
    try:
        if noted:
            raise KeyboardInterrupt
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Make a worker end when the command is killed; it would wait for work for ever."""
    parent = parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
