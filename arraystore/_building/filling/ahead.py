"""The workers that fill slots before readers need them: threads of their own, or the pool of an ordinary build."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Protocol

import numpy as np

from arraystore._building.filling.jobs import Jobs
from arraystore._building.filling.marks import Marks
from arraystore._building.options import RunOptions
from arraystore._building.workers.pool import WorkerPool, worker_pool
from arraystore._common.limits import usable_cpus
from arraystore._common.progress import Progress
from arraystore._format.specification import EMPTY
from arraystore._stores.medium import Draft, FilledRun

TAKEN_SLOTS = 4  # at a time by one thread: few, so that all threads help with the batch that is needed first
_RUNS_PER_WORKER = 3  # of a pool, that are handed out at a time
_WAIT_LIMIT_S = 0.1
_REST_S = 0.01


class _Owner(Protocol):
    """What the workers work for."""

    def fill_taken(self, runs: Sequence[tuple[int, int]]) -> None:
        """Fill slots that this thread has taken, in this thread."""

    def record(self, runs: Sequence[FilledRun]) -> None:
        """Keep finished runs."""

    def fail(self, error: BaseException) -> None:
        """Let the next reader raise an error."""

    def is_over(self) -> bool:
        """Return whether nothing more is to be begun."""


class Ahead:
    """Fills what comes next by the marks, until nothing is left or its owner says that it is over."""

    def __init__(self, marks: Marks, jobs: Jobs, draft: Draft, options: RunOptions, progress: Progress) -> None:
        self._marks, self._jobs, self._draft, self._options = marks, jobs, draft, options
        self._progress = progress
        self._pool: WorkerPool | None = None

    def run(self, report: Callable[[Progress], None], owner: _Owner, *, in_threads: bool) -> None:
        """Fill; the progress is reported from the calling thread.

        The owner has this object, and this one keeps no reference to it: the slots of a store in memory would live on
        after the store, until a collection finds the cycle.
        """
        report(self._progress)
        if in_threads:
            self._fill_in_threads(report, owner)
            return
        pool = self._pool = worker_pool(self._draft.slots, self._options)
        with closing(pool):
            self._fill_in_pool(pool, report, owner)

    def kill(self) -> None:
        """End worker processes, whatever they do."""
        if self._pool is not None:
            with suppress(Exception):  # the thread that uses them may be closing them too
                self._pool.close()

    def _fill_in_threads(self, report: Callable[[Progress], None], owner: _Owner) -> None:
        count = self._options["workers"] or usable_cpus()
        threads = [
            threading.Thread(
                target=self._work, args=(owner, count - number), name=f"arraystore-fill-{number}", daemon=True
            )
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_WAIT_LIMIT_S)
                report(self._progress)
        report(self._progress)  # all of them may have ended before the first was waited for

    def _work(self, owner: _Owner, most_readers: int) -> None:
        """Fill what comes next while fewer threads that read do so themselves."""
        marks = self._marks
        try:
            while marks.left and not owner.is_over():
                if marks.readers >= most_readers:
                    time.sleep(_REST_S)  # whoever waits for the condition is woken for each slot
                    continue
                runs = marks.next_runs(TAKEN_SLOTS)
                owner.fill_taken(runs)
                with marks.changed:
                    if not runs and marks.left:  # threads that read have the rest
                        marks.changed.wait(_WAIT_LIMIT_S)
        except BaseException as error:  # the next reader raises it
            owner.fail(error)

    def _fill_in_pool(self, pool: WorkerPool, report: Callable[[Progress], None], owner: _Owner) -> None:
        marks, large = self._marks, deque[int]()
        while not owner.is_over() and (marks.left or pool.pending):
            while not large and pool.pending < pool.size * _RUNS_PER_WORKER and (runs := marks.next_runs()):
                pool.submit(self._jobs.of(*runs[0], file=self._draft.file))
            if not pool.pending and large:  # nothing else is decoded by workers meanwhile
                slot = large.popleft()
                pool.submit(self._jobs.of(slot, slot + 1, file=self._draft.file, alone=True))
            if not pool.pending:
                with marks.changed:
                    if marks.left:
                        marks.changed.wait(_WAIT_LIMIT_S)
            else:
                with self._draft.writing():
                    done = pool.collect()
                for filled in done:
                    large += (filled.start + np.flatnonzero(filled.rows["status"] == EMPTY)).tolist()
                    owner.record([filled])
            report(self._progress)
