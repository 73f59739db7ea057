"""How a comparison says how far it is: which strategy runs, since when, and what has been measured so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from arraystore.memory.report import MemoryReport

__all__ = ["Stage", "reporting"]


@dataclass(frozen=True)
class Stage:
    """How far a comparison is.

    Attributes:
        name: the strategy that begins now; "" at the end.
        total: how many strategies there are.
        report: what has been measured so far.
    """

    name: str
    total: int
    report: MemoryReport

    @property
    def number(self) -> int:
        """Which strategy begins, from 1; one more than there are at the end."""
        return len(self.report.measurements) + 1


@contextmanager
def reporting(progress: bool | Callable[[Stage], None]) -> Iterator[Callable[[Stage], None]]:  # noqa: FBT001 - the public option
    """Give the function to call with each stage; what it draws on a terminal is gone at the end."""
    if callable(progress):
        yield progress
    elif not progress:
        yield _silent
    else:
        from rich.console import Console  # noqa: PLC0415 - only who wants to see it pays for it
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        seen = console.is_terminal or console.is_jupyter
        with Progress(*columns, console=console, transient=True, disable=not seen) as bar:
            task = bar.add_task("", total=None)
            yield lambda stage: bar.reset(task, description=_text(stage))


def _text(stage: Stage) -> str:
    return f"{stage.number} of {stage.total}: {stage.name}" if stage.name else ""


def _silent(_stage: Stage) -> None:
    """Say nothing."""
