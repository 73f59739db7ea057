"""Who fills the runs of a build: threads, the caller's executor, or worker processes. To a build all are alike."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

from arraystore._building.fill import Job, fill_run, fill_slots
from arraystore._building.processes import START_S, WorkerProcesses
from arraystore._common.limits import usable_cpus
from arraystore._stores.medium import FilledRun, Pixels
from arraystore.errors import StoreError

__all__ = ["Crew", "crew_for"]

_logger = logging.getLogger(__name__)
_LET_GO_S = 5.0
_TURN_S = 1.0


class Crew(Protocol):
    """Takes jobs and gives back what is filled, in whatever order and parts it comes.

    Attributes:
        size: how many runs it fills at once.
    """

    size: int

    @property
    def pending(self) -> int:
        """How many jobs, whole or in part, are not collected yet."""

    def submit(self, job: Job) -> None:
        """Take a job; it may be begun at once."""

    def collect(self) -> list[FilledRun]:
        """Wait until something is filled and return it, or raise what a worker has raised."""

    def close(self) -> None:
        """Stop what is in progress and end the workers that are not the caller's; safe to call at any time."""


def crew_for(
    slots: Pixels,
    *,
    workers: int | None,
    executor: Executor | None,
    processes: bool,
    timeout_s: float,
) -> Crew:
    """Return the crew that a build asks for.

    Args:
        slots: uint8, (N, *slot_shape): threads of this process write here.
        workers: how many runs are filled at once; None is as many as the executor has workers, or one a processor.
        executor: the caller's, to be used and not shut down; or None.
        processes: True is worker processes of our own, where there is no executor.
        timeout_s: how long one image may take in a worker process.
    """
    if processes:
        return WorkerProcesses(workers or usable_cpus(), timeout_s)
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        return _Threads(slots, executor, workers)
    return _Executor(executor, workers, timeout_s)


class _Threads:
    """Threads of this process: no limit of time is possible, for nothing can stop a thread."""

    def __init__(self, slots: Pixels, executor: ThreadPoolExecutor | None, workers: int | None) -> None:
        self._slots = slots
        self._own = executor is None
        self._pool = executor or ThreadPoolExecutor(workers or usable_cpus(), thread_name_prefix="arraystore-fill")
        self.size = _size(self._pool, workers)
        self._stop = threading.Event()
        self._pending: dict[Future[FilledRun], Job] = {}

    @property
    def pending(self) -> int:
        return len(self._pending)

    def submit(self, job: Job) -> None:
        try:
            if job.file is None or job.file.reserved:
                slots = self._slots[job.start : job.start + len(job.sources)]
                future = self._pool.submit(fill_slots, job, slots, self._stop)
            else:
                future = self._pool.submit(fill_run, job)
            self._pending[future] = job
        except BrokenExecutor as error:
            raise _died() from error

    def collect(self) -> list[FilledRun]:
        done, _ = wait(self._pending, return_when=FIRST_COMPLETED)
        try:
            return _results(done, self._pending)
        except BrokenExecutor as error:
            raise _died() from error

    def close(self) -> None:
        self._stop.set()
        if self._own:
            self._pool.shutdown(wait=True, cancel_futures=True)
        else:
            _let_go(self._pending)


class _Executor:
    """The caller's executor, most often of processes; if it breaks or stalls, worker processes of our own go on."""

    def __init__(self, executor: Executor, workers: int | None, timeout_s: float) -> None:
        self._executor = executor
        self.size = _size(executor, workers)
        self._timeout_s = timeout_s
        self._pending: dict[Future[FilledRun], Job] = {}
        self._successor: WorkerProcesses | None = None

    @property
    def pending(self) -> int:
        return len(self._pending) + (self._successor.pending if self._successor else 0)

    def submit(self, job: Job) -> None:
        successor = self._successor
        if successor is None:
            try:
                self._pending[self._executor.submit(fill_run, job)] = job
            except BrokenExecutor as error:
                successor = self._hand_over(error)
            else:
                return
        successor.submit(job)

    def collect(self) -> list[FilledRun]:
        if self._successor is not None:
            return self._successor.collect()
        done = self._wait()
        try:
            return _results(done, self._pending)
        except BrokenExecutor as error:
            self._hand_over(error)
            return []

    def close(self) -> None:
        try:
            _let_go(self._pending)
        finally:
            if self._successor is not None:
                self._successor.close()

    def _wait(self) -> set[Future[FilledRun]]:
        """Wait for the first runs that are done; after too long a time, for none.

        Turns are counted, and not the clock, which goes on while all processes are stopped with Ctrl-Z.
        """
        limit_s = START_S + self._timeout_s * max(len(job.sources) for job in self._pending.values())
        waited_s = 0.0
        while waited_s <= limit_s:
            done, _ = wait(self._pending, min(_TURN_S, limit_s), return_when=FIRST_COMPLETED)
            if done:
                return done
            waited_s += _TURN_S
        stalled = f"the executor has finished no run in {limit_s:g} s"
        if not _worker_processes(self._executor):
            raise StoreError(
                f"{stalled}, which is timeout_s = {self._timeout_s:g} for each slot of a run, and time to start: its "
                "workers hang. What was done is kept; the same call goes on from there"
            )
        self._hand_over(TimeoutError(stalled))
        return set()

    def _hand_over(self, why: BaseException) -> WorkerProcesses:
        """Let worker processes of our own do what the executor has not done."""
        _logger.warning("the executor broke or stalled (%s); worker processes of the build's own go on", why)
        # A worker of it that still lived could change a slot after that is settled: it must end first.
        for process in (workers := _worker_processes(self._executor)):
            process.kill()
        for process in workers:
            process.join(_LET_GO_S)
        self._successor = WorkerProcesses(self.size, self._timeout_s)
        jobs = sorted(self._pending.values(), key=lambda job: job.start)
        self._pending.clear()
        for job in jobs:
            self._successor.submit(job)
        return self._successor


def _size(executor: Executor, workers: int | None) -> int:
    return workers or getattr(executor, "_max_workers", None) or usable_cpus()


def _worker_processes(executor: Executor) -> list[BaseProcess]:
    """The processes of a ProcessPoolExecutor; none for other executors, which have no name for theirs.

    The attribute is private, but before Python 3.14 there is no other way to end a pool whose workers hang, and without
    one the build would wait for ever; if it is missing one day, a stall is an error and no longer survived.
    """
    return list((getattr(executor, "_processes", None) or {}).values())


def _results(done: Iterable[Future[FilledRun]], pending: dict[Future[FilledRun], Job]) -> list[FilledRun]:
    """Take what is done out of ``pending``; a future that raises stays there."""
    filled: list[FilledRun] = []
    for future in sorted(done, key=lambda future: pending[future].start):
        if filled and future.exception() is not None:
            break  # what is filled is told first, and the error next time
        filled.append(future.result())
        del pending[future]
    return filled


def _let_go(pending: Iterable[Future[FilledRun]]) -> None:
    """Cancel what has not begun, and wait a little for the rest.

    A longer wait gains nothing, for these workers write what they would write anyway.
    """
    pending = [future for future in pending if not future.cancel()]
    wait(pending, _LET_GO_S)


def _died() -> StoreError:
    return StoreError(
        "a worker died: it could not start, was killed, ran out of memory, or crashed in a decoder. What was done is "
        "kept; the same call goes on from there"
    )
