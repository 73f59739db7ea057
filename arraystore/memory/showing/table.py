"""The report as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from arraystore._common.wording import flat
from arraystore._viewing.tables import console
from arraystore.memory.measurement import ReportData
from arraystore.memory.showing import words

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_report"]

_ENDLESS_COLUMNS = 10_000


def print_report(report: ReportData) -> None:
    """Print the table of a report: a row for each call, and beneath it the reasons and the meaning of the words.

    On a narrow terminal the outcome stands beneath the name, and headings take two lines. Without a terminal no line
    is wrapped, and nothing is colored.
    """
    text = import_module("rich.text").Text  # a plain str would be searched for markup, and a call may be named [red]
    out = console()
    listed = list(words.columns(report))
    table = _table(report, listed, narrow=False)
    if out.measure(table, options=out.options.update(max_width=_ENDLESS_COLUMNS)).maximum > out.width:
        table = _table(report, listed, narrow=True)
    out.print(text(flat(report.title) or "Memory", style="bold"))
    if report.array_bytes:
        out.print(text(f"The array takes {words.size(report.array_bytes)} ({report.array_bytes:,} bytes)."))
    out.print(text(f"{words.headline(report)}\n"))
    if report.measurements:
        out.print(table)
    for line in _closing(report, listed):
        out.print(text(line))


def _table(report: ReportData, listed: Sequence[words.Column], *, narrow: bool) -> Table:
    text = import_module("rich.text").Text
    table: Table = import_module("rich.table").Table(
        box=None, padding=(0, 1 if narrow else 2, 0, 0), pad_edge=False, header_style="bold"
    )
    table.add_column("", overflow="fold")
    if not narrow:
        table.add_column("outcome")
    for column in listed:
        heading = f"{column.heading} {column.unit}".rstrip()
        heading = heading.replace(" ", "\n").replace("-", "-\n") if narrow else heading
        table.add_column(text(heading), justify="right", no_wrap=True)
    for each in report.measurements:
        name, outcome = text(flat(each.name)), text(each.outcome, style="" if each.outcome == "finished" else "yellow")
        if narrow and each.outcome != "finished":
            name.append("\n").append(outcome)
        table.add_row(name, *([] if narrow else [outcome]), *(text(column.cell(each)) for column in listed))
    return table


def _closing(report: ReportData, listed: Sequence[words.Column]) -> Iterator[str]:
    """Yield the paragraphs beneath the table."""
    unfinished = list(words.endings(report))
    if unfinished:
        yield ""
        yield from unfinished
    yield "\nSizes are peaks."
    for word in ("anonymous", "PSS", "file-backed", "RSS"):
        yield f"{word}: {words.GLOSSARY[word]}."
    if any(words.MISSING in column.cell(each) for column in listed for each in report.measurements):
        yield f"{words.MISSING}: none, or not known."
    reading = " ".join(words.reading_lines(report))
    if reading:
        yield f"\n{reading}"
    if report.machine:
        yield "Machine: " + ", ".join(f"{flat(name)} {flat(text)}" for name, text in report.machine.items())
    if report.command:
        yield f"Measure again: {flat(report.command)}"
