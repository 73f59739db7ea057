"""What tables of Markdown are made of."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.results import Line


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return a table of Markdown: the first columns left, the others right."""
    lines = [header, ["---"] * left + ["--:"] * (len(header) - left), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def between(values: Sequence[float], digits: int = 0) -> str:
    """Return the least and the greatest value as text."""
    return f"{min(values):,.{digits}f}–{max(values):,.{digits}f}"


def middle(values: Sequence[float], digits: int = 0) -> list[str]:
    """Return two cells: the median, and the least and the greatest."""
    return [f"{statistics.median(values):,.{digits}f}", between(values, digits)]


def rates(line: Line, count: int) -> list[float]:
    """Return how many images a second were done, a round each."""
    return [count / seconds for seconds in line["wall_s"]]
