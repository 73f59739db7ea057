"""What `describe` and `time` print."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from arraystore._common.wording import many
from arraystore._sequences.step import Step, every_step

_LONGEST_LINE = 6  # steps


def in_a_line(last: Step) -> str:
    """Return the steps of a sequence from the first on, where each reads from one; the last ones if there are many."""
    labels: list[str] = []
    step: Step | None = last
    while step is not None and len(labels) < _LONGEST_LINE:
        labels.insert(0, step.label)
        step = step.sources[0] if step.sources else None
    return ("…" if step is not None else "") + "".join(labels)


def describe(last: Step) -> None:
    """Print a line for each step; those that a step reads from stand before it."""
    steps = list(every_step(last))
    rows = [[step.label, many(step.count, "item"), step.place] for step in steps]
    _write(rows, left=(0, 2))


def time_steps(last: Step, items: int) -> None:
    """Compute items, and print the time that each step took by itself, for one item of the last step."""
    clocks: list[_Clock] = []
    stack: list[_Clock] = []  # of the steps that are at work
    made: dict[int, Step] = {}
    for step in every_step(last):
        again = copy.copy(step)
        again.connect(tuple(made[id(source)] for source in step.sources))
        clocks.append(_Clock(step, again.item, stack))
        again.item = clocks[-1].item  # type: ignore[method-assign]
        made[id(step)] = again
    count = min(items, last.count)
    for number in range(count):
        made[id(last)].item(number * last.count // count)
    total = clocks[-1].seconds
    own = {id(clock.step): clock.seconds for clock in clocks}
    for clock in clocks:  # the time of a step has that of the steps that it called
        for caller, seconds in clock.by_caller.items():
            own[caller] -= seconds
    rows = [["step", "µs an item", "%", "calls", ""]]
    for clock in clocks:
        seconds = own[id(clock.step)]
        share = 100 * seconds / total if total else 0.0
        cost = f"{1e6 * seconds / max(count, 1):,.1f}"
        rows.append([clock.step.label, cost, f"{share:.0f}", f"{clock.calls:,}", clock.step.place])
    rows.append([f"all of {many(count, 'item')}", f"{1e6 * total / max(count, 1):,.1f}", "100", "", ""])
    _write(rows, left=(0, 4))


class _Clock:
    """Counts the calls of a step and their seconds, in all and by the step that called."""

    def __init__(self, step: Step, compute: Callable[[int], Any], stack: list[_Clock]) -> None:
        self.step = step
        self._compute = compute
        self._stack = stack
        self.calls = 0
        self.seconds = 0.0
        self.by_caller: dict[int, float] = {}

    def item(self, i: int) -> Any:
        self._stack.append(self)
        start_s = time.perf_counter()
        try:
            return self._compute(i)
        finally:
            took_s = time.perf_counter() - start_s
            self._stack.pop()
            self.calls += 1
            self.seconds += took_s
            if self._stack:
                caller = id(self._stack[-1].step)
                self.by_caller[caller] = self.by_caller.get(caller, 0.0) + took_s


def _write(rows: Sequence[Sequence[str]], left: Sequence[int]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
