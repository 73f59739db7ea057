"""The progress of a comparison: which strategy runs, and what has been measured so far."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

from arraystore.memory.comparison import MemoryReport

__all__ = ["Stage", "reporting"]


@dataclass(frozen=True)
class Stage:
    """The progress of a comparison.

    Attributes:
        name: the strategy that begins now; "" at the end.
        total: the number of strategies.
        report: the measurements so far.
    """

    name: str
    total: int
    report: MemoryReport


@contextmanager
def reporting(progress: bool | Callable[[Stage], None]) -> Iterator[Callable[[Stage], None]]:
    """Give the function to call with each stage; its line on the terminal is removed at the end."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda _stage: None
    else:
        rich = import_module("rich.progress")  # takes 50 ms to load, and only a shown bar needs it
        console = import_module("rich.console").Console(stderr=True)
        columns = (rich.SpinnerColumn(), rich.TextColumn("{task.description}", markup=False), rich.TimeElapsedColumn())
        seen = console.is_terminal or console.is_jupyter
        with rich.Progress(*columns, console=console, transient=True, disable=not seen) as bar:
            task = bar.add_task("", total=None)

            def show(stage: Stage) -> None:
                text = f"{len(stage.report.measurements) + 1} of {stage.total}: {stage.name}"
                bar.reset(task, description=text if stage.name else "")

            yield show
