"""The report as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from arraystore._common.tables import console
from arraystore._common.wording import flat
from arraystore.memory.report import Measurement, MemoryReport
from arraystore.memory.words import MISSING, Column, columns, endings, headline, reading_lines, size

__all__ = ["print_report"]

_ENDLESS = 10_000
_MEANING = (
    "Sizes are peaks. anonymous: the processes' own memory, shared memory included, which is what runs a machine out; "
    "file-backed: pages of files, which the system takes back at need; PSS: all of it, pages that other programs use "
    "in part; RSS: all of it, pages that several processes share once for each."
)


def print_report(report: MemoryReport) -> None:
    """Print the table of a report: a row a call, and beneath it why some did not finish and what the words mean.

    On a narrow terminal the outcome stands beneath the name, and headings take two lines. Without a terminal no line
    is wrapped, and nothing is coloured.
    """
    out = console()
    listed = list(columns(report))
    table = _table(report, listed, narrow=False)
    if out.measure(table, options=out.options.update(max_width=_ENDLESS)).maximum > out.width:
        table = _table(report, listed, narrow=True)
    out.print(Text(flat(report.title) or "Memory", style="bold"))
    for line in _opening(report):
        out.print(Text(line))
    if report.measurements:
        out.print(table)
    for line in _closing(report):
        out.print(Text(line))


def _table(report: MemoryReport, listed: Sequence[Column], *, narrow: bool) -> Table:
    table = Table(box=None, padding=(0, 1 if narrow else 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    if not narrow:
        table.add_column("outcome")
    for column in listed:
        words = f"{column.heading} {column.unit}".rstrip()
        heading = words.replace(" ", "\n").replace("-", "-\n") if narrow else words
        table.add_column(Text(heading), justify="right", no_wrap=True)
    # As Text, because a plain str is searched for markup, and a call may be named [red].
    for each in report.measurements:
        cells = [Text(column.cell(each)) for column in listed]
        table.add_row(*_name_cells(each, narrow=narrow), *cells)
    return table


def _name_cells(measurement: Measurement, *, narrow: bool) -> Iterator[Text]:
    style = "" if measurement.outcome == "finished" else "yellow"
    if not narrow:
        yield Text(flat(measurement.name))
        yield Text(measurement.outcome, style=style)
        return
    name = Text(flat(measurement.name))
    if measurement.outcome != "finished":
        name.append(f"\n{measurement.outcome}", style=style)
    yield name


def _opening(report: MemoryReport) -> Iterator[str]:
    """Yield what stands between the title and the table, a paragraph each."""
    if report.array_bytes:
        yield f"The array takes {size(report.array_bytes)} ({report.array_bytes:,} bytes)."
    yield headline(report)
    yield ""


def _closing(report: MemoryReport) -> Iterator[str]:
    """Yield what stands beneath the table, a paragraph each."""
    unfinished = list(endings(report))
    if unfinished:
        yield ""
        yield from unfinished
    yield ""
    yield _MEANING
    if any(MISSING in column.cell(each) for column in columns(report) for each in report.measurements):
        yield f"{MISSING}: there is none, or the system does not tell."
    reading = " ".join(reading_lines(report))
    if reading:
        yield reading
    if report.machine:
        yield "Machine: " + ", ".join(f"{flat(name)} {flat(text)}" for name, text in report.machine.items())
    if report.command:
        yield f"Again: {flat(report.command)}"
