"""Reading ahead: threads or worker processes compute the items that a loop will come to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from arraystore._common.checks import whole_number
from arraystore._common.limits import usable_cpus
from arraystore._sequences.children import Children
from arraystore._sequences.choosing import chosen_items
from arraystore._sequences.step import Step
from arraystore._workers.pipeline import Batch, Pipeline
from arraystore.errors import Option, SpecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Outcomes = deque[tuple[Any, Exception | None]]


class Prefetch:
    """The items of a lazy sequence, computed ahead of each loop over it; see `Lazy.prefetch`.

    Raises:
        SpecError: an option is invalid.
    """

    def __init__(
        self,
        step: Step,
        *,
        workers: int | None,
        processes: bool,
        order: Sequence[int] | npt.NDArray[np.integer[Any]] | None,
        buffer: int | None,
        timeout_s: float | None,
    ) -> None:
        self._step = step
        self._workers = usable_cpus() if workers is None else whole_number("workers", workers, 1)
        self._processes = bool(processes)
        self._order = range(step.count) if order is None else chosen_items(order, step.count)
        self._run = step.together if order is None else 1
        if buffer is None:
            self._ahead = 2 * self._workers
        else:
            self._run = min(self._run, whole_number("buffer", buffer, 1))
            self._ahead = buffer // self._run
        if timeout_s is not None and not (processes and timeout_s > 0):
            raise SpecError(
                f"timeout_s must be a number of seconds above 0, and goes with worker processes, not {timeout_s!r}"
                if processes
                else "timeout_s has no meaning for threads, because a thread cannot be stopped",
                advice="leave out {0}" if processes else "use {1}, or leave out {0}",
                options=[Option("timeout_s", None), Option("processes")],
            )
        self._timeout_s = timeout_s

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Any]:
        stopped = threading.Event()
        children = Children(self._step, self._timeout_s, spare=self._ahead * self._run) if self._processes else None
        compute = self._step.item if children is None else children.compute

        def stop() -> None:
            stopped.set()
            if children is not None:
                children.halt()

        runs = (_Run(numbers, compute, stopped) for numbers in self._runs())
        pipeline = Pipeline(runs, workers=self._workers, in_flight=self._ahead, on_stop=stop)
        pipeline.start()
        try:
            while (outcomes := _taken(pipeline)) is not None:
                while outcomes:  # no variable here keeps an item while the loop waits for the next one
                    if outcomes[0][1] is not None:
                        raise outcomes.popleft()[1]  # type: ignore[misc]
                    yield outcomes.popleft()[0]
        finally:
            pipeline.stop()
            if children is not None:
                children.close()

    def _runs(self) -> Iterator[list[int]]:
        for start in range(0, len(self._order), self._run):
            yield [int(number) for number in self._order[start : start + self._run]]

    def __repr__(self) -> str:
        kind = "processes" if self._processes else "threads"
        return f"<prefetch of {len(self):,} items by {self._workers:,} {kind}>"


class _Run(Batch):
    """Some items that one worker computes in a row. The first that fails is the last: the loop ends there."""

    def __init__(self, numbers: list[int], compute: Callable[[int], Any], stopped: threading.Event) -> None:
        super().__init__([(0, len(numbers))], "an item")
        self._numbers = numbers
        self._compute = compute
        self._stopped = stopped
        self._outcomes: Outcomes = deque()

    def fill(self, start: int, stop: int) -> None:
        for number in self._numbers[start:stop]:
            if self._stopped.is_set():
                return
            try:
                self._outcomes.append((self._compute(number), None))
            except Exception as error:  # the loop raises it when it comes to this item
                self._outcomes.append((None, error))
                return

    def finish(self) -> Outcomes:
        outcomes, self._outcomes = self._outcomes, deque()
        return outcomes


def _taken(pipeline: Pipeline) -> Outcomes | None:
    try:
        taken: Outcomes = pipeline.take()
    except StopIteration:
        return None
    return taken
