"""What the faces of a memory report say: figures as text, the columns of the table, and what its words mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from arraystore._common.wording import flat, many
from arraystore.memory.report import Measurement, MemoryReport

__all__ = [
    "GLOSSARY",
    "MISSING",
    "UNITS",
    "Column",
    "array_of",
    "columns",
    "endings",
    "figure",
    "headline",
    "multiple",
    "reading_lines",
    "shorten",
    "size",
    "unit_for",
]

MISSING = "–"
UNITS = (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40))

GLOSSARY = {
    "anonymous": "memory that the processes hold of their own, shared memory included. The system cannot take it back: "
    "it is what runs a machine out of memory",
    "PSS": "proportional set size: all pages in memory, those that other programs use as well only in part",
    "file-backed": "pages of files that are in memory. The system takes them back when it needs the room",
    "RSS": "resident set size: all pages in memory, those that several processes share once for each of them. Most "
    "tools show this one",
    "wall": "seconds from the first line of the call to the last",
    "CPU": "seconds of processor time, of all processes and threads together",
    "disk": "what the call left on disk",
    "× array": "the column before it as a multiple of the array's size",
}
_MOST_NAMED = 8
_SMALL = 5  # times what a process holds when it begins


@dataclass(frozen=True)
class Column:
    """A column of the table, after the names.

    Attributes:
        heading: a word of `GLOSSARY`.
        unit: of its figures; "" where they have none.
        cell: gives the text for a measurement.
    """

    heading: str
    unit: str
    cell: Callable[[Measurement], str]


def figure(value: float) -> str:
    """Return a number with three digits, or all that stand before the point; nothing is "0"."""
    if not value:
        return "0"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}"


def unit_for(size_bytes: float, *, least: float = 1) -> tuple[str, int]:
    """Return the name and the bytes of the largest unit of which ``size_bytes`` is at least ``least``."""
    return next((unit for unit in reversed(UNITS) if size_bytes >= least * unit[1]), UNITS[0])


def size(size_bytes: float) -> str:
    """Return a size in binary units, as memory is counted: "1.83 GiB"."""
    name, unit_bytes = unit_for(size_bytes)
    return f"{figure(size_bytes / unit_bytes)} {name}"


def array_of(report: MemoryReport, measurement: Measurement) -> int | None:
    """Return the size of the array that a call makes: its own, or that of the report; None where there is none."""
    return measurement.array_bytes or report.array_bytes or None


def multiple(report: MemoryReport, measurement: Measurement, size_bytes: int | None) -> str:
    """Return a size as a multiple of the call's array: "2.02"; or the sign for nothing."""
    array_bytes = array_of(report, measurement)
    return figure(size_bytes / array_bytes) if size_bytes and array_bytes else MISSING


def shorten(text: str, length: int) -> str:
    """Return a text on one line, cut to at most ``length`` letters."""
    text = flat(text)
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def columns(report: MemoryReport) -> Iterator[Column]:
    """Yield the columns of the table; those that nothing of the report is in are left out.

    All sizes are in one unit, so that they can be compared down the column and along the row.
    """
    measurements = report.measurements
    largest = max((max(each.peak("rss"), each.disk_bytes or 0) for each in measurements), default=0)
    name, unit_bytes = unit_for(largest, least=10)
    whole = largest >= 1000 * unit_bytes

    def column(heading: str, size_bytes: Callable[[Measurement], int | None]) -> Column:
        def cell(measurement: Measurement) -> str:
            value = size_bytes(measurement)
            return f"{value / unit_bytes:,.{0 if whole else 1}f}" if value else MISSING

        return Column(heading, name, cell)

    def times(size_bytes: Callable[[Measurement], int | None]) -> Column:
        return Column("× array", "", lambda each: multiple(report, each, size_bytes(each)))

    has_array = any(array_of(report, each) for each in measurements)
    yield column("anonymous", lambda each: each.peak("held"))
    if has_array:
        yield times(lambda each: each.peak("held"))
    yield column("PSS", lambda each: each.peak("pss"))
    yield column("file-backed", lambda each: each.peak("file"))
    yield column("RSS", lambda each: each.peak("rss"))
    yield Column("wall", "s", lambda each: figure(each.wall_s) if each.wall_s else MISSING)
    yield Column("CPU", "s", lambda each: figure(each.cpu_s) if each.wall_s else MISSING)
    if any(each.disk_bytes for each in measurements):
        yield column("disk", lambda each: each.disk_bytes)
        if has_array:
            yield times(lambda each: each.disk_bytes)


def endings(report: MemoryReport) -> Iterator[str]:
    """Yield a line for each call that did not finish: "np.vstack (killed): it went beyond 2 GB"."""
    for each in report.measurements:
        if each.outcome != "finished":
            yield f"{flat(each.name)} ({each.outcome})" + (f": {flat(each.reason)}" if each.reason else "")


def headline(report: MemoryReport) -> str:
    """Return the result in words, the largest peak first."""
    measured = sorted((each for each in report.measurements if each.peak("held")), key=lambda each: -each.peak("held"))
    if not measured:
        return "Nothing was measured."
    named = measured if len(measured) <= _MOST_NAMED else [measured[0], measured[-1]]
    first, *others = (_peak_of(report, each, first=index == 0) for index, each in enumerate(named))
    if len(named) < len(measured):
        result = f"Of {many(len(measured), 'call')}, {first}, the highest peak; {others[0]}, the lowest."
    else:
        result = f"{'; '.join([first, *others])}."
    before = max(each.start_bytes for each in measured)
    if report.array_bytes and report.array_bytes < _SMALL * before:
        # Otherwise interpreter and libraries are what is compared.
        result += (
            f" The array is small beside the {size(before)} that a process holds when it begins: compare larger ones."
        )
    return result


def _peak_of(report: MemoryReport, measurement: Measurement, *, first: bool) -> str:
    held = measurement.peak("held")
    peak, verb, noun = size(held), "peaked at", ""
    if array_of(report, measurement):
        peak, noun = multiple(report, measurement, held), " times the array"
        if measurement.array_bytes not in (None, report.array_bytes):
            noun = f" times its own array of {size(measurement.array_bytes or 0)}"
        elif not first:
            noun = ""
    if measurement.outcome in ("killed", "failed"):
        verb = "was killed at" if measurement.outcome == "killed" else "failed at"
    elif not first:
        verb = "at"
    return f"{shorten(measurement.name, 40)} {verb} {peak}{noun}"


def reading_lines(report: MemoryReport) -> Iterator[str]:
    """Yield how memory was read, how far the system's own record agrees, and what reading cost, a sentence each."""
    measured = [each for each in report.measurements if each.readings]
    for method in dict.fromkeys(each.method for each in measured if each.method):
        yield flat(method).rstrip(".") + "."
    for start, meaning in _STARTS.items():
        names = [flat(each.name) for each in measured if each.start == start]
        if names:
            which = "Each call" if len(names) == len(measured) else "; ".join(names)
            yield f"{which} ran {meaning}."
    apart = [each.apart_from_kernel for each in measured if each.apart_from_kernel is not None]
    if apart:
        yield (
            f"Of RSS the system itself keeps the peak, here for {len(apart)} of {many(len(measured), 'call')}: the "
            f"readings' own is at most {max(apart):.1%} away."
        )
    if measured:
        taken = sum(each.readings for each in measured)
        cost = max(each.sampler_share for each in measured)
        yield f"{many(taken, 'reading')} took at most {cost:.1%} of one core."


_STARTS = {
    "fresh": "in a new interpreter",
    "forked": "in a copy of the calling process, whose pages are not counted",
    "here": "in the calling process, whose memory at the beginning is counted",
}
