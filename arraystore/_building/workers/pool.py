"""Pools of workers that fill the runs of a build: threads, an executor of the caller's, or worker processes."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from arraystore._building.fill import Job, fill_run
from arraystore._building.workers.processes import START_LIMIT_S, WorkerProcesses
from arraystore._common.limits import usable_cpus
from arraystore._format.specification import EMPTY
from arraystore._stores.medium import FilledRun
from arraystore.errors import Kind, Option, StoreError

_logger = logging.getLogger(__name__)
_PENDING_RUNS_PER_WORKER = 3
_CLOSE_LIMIT_S = 5.0
_WAIT_LIMIT_S = 1.0
_KEPT = "A store on disk keeps what was done, and the next call continues from there"
_INSTEAD = "shut the executor down and pass {0} in its place, which replaces workers that crash or hang"


class WorkerPool(Protocol):
    """Takes jobs, and gives back filled runs, or parts of them, in any order."""

    size: int  # how many runs are filled at once

    @property
    def pending(self) -> int:
        """How many jobs are not yet collected as a whole."""

    def submit(self, job: Job) -> None:
        """Take a job; it may begin at once."""

    def collect(self) -> list[FilledRun]:
        """Wait until something is filled and return it; or raise the error that a worker raised."""

    def close(self) -> None:
        """Stop the work in progress, and end the workers unless they are the caller's; safe to call at any time."""


def worker_pool(slots: Any, options: Mapping[str, Any]) -> WorkerPool:
    """Return the pool that the options of a build ask for. Threads of this process pass ``slots`` to `Job.fill`."""
    workers, executor, timeout_s = options["workers"], options["executor"], options["timeout_s"]
    if options["processes"]:
        return WorkerProcesses(workers or usable_cpus(), timeout_s)
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        return _ThreadPool(slots, executor, workers)
    return _ExecutorPool(executor, workers, timeout_s)


def filled_runs(
    pool: WorkerPool,
    runs: Iterable[tuple[int, int]],
    job_of: Callable[..., Job],
    collecting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[FilledRun]:
    """Yield the results of runs, as they come; then, one at a time, those of slots that need much memory.

    Args:
        pool: fills a bounded number of runs at a time.
        runs: the first slot of each, and the one after its last.
        job_of: returns the job of a run; with ``alone=True``, that of a slot that was left empty.
        collecting: returns a context for waiting for the pool.
    """
    waiting, large = iter(runs), deque[int]()
    while True:
        while pool.pending < pool.size * _PENDING_RUNS_PER_WORKER and (run := next(waiting, None)) is not None:
            pool.submit(job_of(*run))
        if not pool.pending:
            if not large:
                return
            slot = large.popleft()
            pool.submit(job_of(slot, slot + 1, alone=True))
        with collecting():
            done = pool.collect()
        for filled in done:
            for trace in filled.traces:
                _logger.info("an internal error, which made an image bad: %s", trace)
            large += (filled.start + np.flatnonzero(filled.rows["status"] == EMPTY)).tolist()
            yield filled


class _ExecutorPool:
    """An executor of the caller's, most often of processes. It is not shut down, and its workers are not killed."""

    def __init__(self, executor: Executor, workers: int | None, timeout_s: float) -> None:
        self._executor = executor
        self.size = workers or getattr(executor, "_max_workers", None) or usable_cpus()
        self._timeout_s = timeout_s
        self._pending: dict[Future[FilledRun], Job] = {}
        self._failed: Future[FilledRun] | None = None

    @property
    def pending(self) -> int:
        return len(self._pending)

    def submit(self, job: Job) -> None:
        try:
            future = self._begin(job)
        except BrokenExecutor as error:  # `collect` raises it, when it has returned the runs that are finished
            future = Future()
            future.set_exception(error)
        self._pending[future] = job

    def collect(self) -> list[FilledRun]:
        if self._failed is None:
            done = sorted(self._wait(), key=lambda future: self._pending[future].start)
            self._failed = next((future for future in done if future.exception() is not None), None)
            good = [future for future in done if future.exception() is None]
            for future in good:
                del self._pending[future]
            if good:  # they are returned first, and the next call raises the error
                return [future.result() for future in good]
        try:
            return [] if self._failed is None else [self._failed.result()]
        except BrokenExecutor as error:
            raise StoreError(
                "a worker of the executor died: it could not start, was killed, ran out of memory, or crashed in a "
                f"decoder. {_KEPT}",
                advice=_INSTEAD,
                options=(Option("processes"),),
                kind=Kind.CRASHED,
            ) from error

    def close(self) -> None:
        # Workers that take longer than this do no harm: they write the same bytes that a later call writes.
        wait([future for future in self._pending if not future.cancel()], _CLOSE_LIMIT_S)

    def _begin(self, job: Job) -> Future[FilledRun]:
        return self._executor.submit(fill_run, job)

    def _wait(self) -> set[Future[FilledRun]]:
        """Wait for the first runs that are done, for as long as the largest pending run may take.

        The time is the sum of short waits. A clock would go on while the whole program is stopped with Ctrl-Z.
        """
        limit_s = START_LIMIT_S + self._timeout_s * max(len(job.sources) for job in self._pending.values())
        waited_s = 0.0
        while waited_s <= limit_s:
            done, _ = wait(self._pending, min(_WAIT_LIMIT_S, limit_s), return_when=FIRST_COMPLETED)
            if done:
                return done
            waited_s += _WAIT_LIMIT_S
        raise StoreError(
            f"the executor has finished no run in {limit_s:g} s, which is timeout_s = {self._timeout_s:g} for each "
            f"slot of a run, and time to start: its workers hang. {_KEPT}",
            advice=_INSTEAD,
            options=(Option("processes"),),
            kind=Kind.TOO_SLOW,
        )


class _ThreadPool(_ExecutorPool):
    """Threads of this process. They have no time limit, because a thread cannot be stopped."""

    def __init__(self, slots: Any, executor: ThreadPoolExecutor | None, workers: int | None) -> None:
        self._own = executor is None
        executor = executor or ThreadPoolExecutor(workers or usable_cpus(), thread_name_prefix="arraystore-fill")
        super().__init__(executor, workers, math.inf)
        self._slots = slots
        self._stop = threading.Event()

    def close(self) -> None:
        self._stop.set()
        if self._own:
            self._executor.shutdown(wait=True, cancel_futures=True)
        else:
            super().close()

    def _begin(self, job: Job) -> Future[FilledRun]:
        if not all(file.reserved for file in job.slot_files):
            return super()._begin(job)
        return self._executor.submit(job.fill, self._slots, self._stop)

    def _wait(self) -> set[Future[FilledRun]]:
        return wait(self._pending, return_when=FIRST_COMPLETED).done
