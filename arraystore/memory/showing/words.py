"""The words and figures that table, picture and page share."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from arraystore._common.wording import flat, many
from arraystore.memory.measurement import Measurement, ReportData

__all__ = [
    "GLOSSARY",
    "MISSING",
    "Column",
    "array_of",
    "columns",
    "endings",
    "headline",
    "multiple",
    "reading_lines",
    "short_number",
    "shorten",
    "size",
    "unit_for",
]

MISSING = "–"
GLOSSARY = {
    "anonymous": "the processes' own memory, shared memory included. The system cannot take it back: too much of it "
    "makes the machine run out of memory",
    "PSS": "proportional set size: all pages in memory; a page that other programs use as well counts in part",
    "file-backed": "pages of files in memory. The system takes them back when it needs room",
    "RSS": "resident set size: all pages in memory; a page that several processes share counts once for each. Most "
    "tools show this size",
    "wall": "seconds from the start of the call to its end",
    "CPU": "seconds of processor time of all processes and threads",
    "disk": "size of the files that the call left",
    "× array": "the column before it, as a multiple of the array's size",
}
_STARTS = {
    "fresh": "in a new interpreter",
    "forked": "in a copy of the calling process, whose pages are not counted",
    "here": "in the calling process, whose memory at the start is counted",
}
_UNITS = (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40))
_SMALL = 5  # times the memory of a process at its start


class Column(NamedTuple):
    """A column of the table: a word of `GLOSSARY`, the unit of its figures or "", and the text for a measurement."""

    heading: str
    unit: str
    cell: Callable[[Measurement], str]


def short_number(value: float) -> str:
    """Return a number with three digits, or with all digits before the point; 0 as "0"."""
    if not value:
        return "0"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}"


def unit_for(size_bytes: float, *, least: float = 1) -> tuple[str, int]:
    """Return name and bytes of the largest unit of which ``size_bytes`` is at least ``least``."""
    return next((unit for unit in reversed(_UNITS) if size_bytes >= least * unit[1]), _UNITS[0])


def size(size_bytes: float) -> str:
    """Return a size in binary units, as memory is counted: "1.83 GiB"."""
    name, unit_bytes = unit_for(size_bytes)
    return f"{short_number(size_bytes / unit_bytes)} {name}"


def array_of(report: ReportData, measurement: Measurement) -> int | None:
    """Return the size of the array that a call makes, in bytes: its own, or that of the report; None for none."""
    return measurement.array_bytes or report.array_bytes or None


def multiple(report: ReportData, measurement: Measurement, size_bytes: int | None) -> str:
    """Return a size as a multiple of the call's array: "2.02"; or `MISSING`."""
    array_bytes = array_of(report, measurement)
    return short_number(size_bytes / array_bytes) if size_bytes and array_bytes else MISSING


def shorten(text: str, length: int) -> str:
    """Return a text on one line, cut to at most ``length`` letters."""
    text = flat(text)
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def columns(report: ReportData) -> Iterator[Column]:
    """Yield the columns of the table that have figures in this report.

    All sizes have one unit, so they can be compared down the column and along the row.
    """
    measurements = report.measurements
    largest = max((max(each.peak("rss"), each.disk_bytes or 0) for each in measurements), default=0)
    name, unit_bytes = unit_for(largest, least=10)
    decimals = 0 if largest >= 1000 * unit_bytes else 1

    def column(heading: str, size_bytes: Callable[[Measurement], int | None]) -> Column:
        def cell(measurement: Measurement) -> str:
            value = size_bytes(measurement)
            return f"{value / unit_bytes:,.{decimals}f}" if value else MISSING

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
    yield Column("wall", "s", lambda each: short_number(each.wall_s) if each.wall_s else MISSING)
    yield Column("CPU", "s", lambda each: short_number(each.cpu_s) if each.wall_s else MISSING)
    if any(each.disk_bytes for each in measurements):
        yield column("disk", lambda each: each.disk_bytes)
        if has_array:
            yield times(lambda each: each.disk_bytes)


def endings(report: ReportData) -> Iterator[str]:
    """Yield a line for each call that did not finish: "np.vstack (killed): it went beyond 2 GB"."""
    for each in report.measurements:
        if each.outcome != "finished":
            yield f"{flat(each.name)} ({each.outcome})" + (f": {flat(each.reason)}" if each.reason else "")


def headline(report: ReportData) -> str:
    """Return the result in a sentence: the highest and the lowest peak."""
    measured = sorted((each for each in report.measurements if each.peak("held")), key=lambda each: -each.peak("held"))
    if not measured:
        return "Nothing was measured."
    result = f"Highest peak: {_peak_of(report, measured[0])}"
    result += f"; lowest: {_peak_of(report, measured[-1])}." if len(measured) > 1 else "."
    before = max(each.start_bytes for each in measured)
    if report.array_bytes and report.array_bytes < _SMALL * before:
        # Otherwise readers compare interpreters and libraries.
        result += f" The array is small beside the {size(before)} of a process at its start: compare larger arrays."
    return result


def _peak_of(report: ReportData, measurement: Measurement) -> str:
    held = measurement.peak("held")
    text = f"{shorten(measurement.name, 40)}, {size(held)}"
    if array_of(report, measurement):
        text += f", {multiple(report, measurement, held)} × its array"
    return text if measurement.outcome == "finished" else f"{text} ({measurement.outcome})"


def reading_lines(report: ReportData) -> Iterator[str]:
    """Yield sentences: how memory was read, how well the readings agree with the system's record, and their cost."""
    measured = [each for each in report.measurements if each.readings]
    for method in dict.fromkeys(each.method for each in measured if each.method):
        yield flat(method).rstrip(".") + "."
    for start, place in _STARTS.items():
        names = [flat(each.name) for each in measured if each.start == start]
        if names:
            yield f"{'Each call' if len(names) == len(measured) else '; '.join(names)} ran {place}."
    apart = [each.apart_from_kernel for each in measured if each.apart_from_kernel is not None]
    if apart:
        yield (
            f"The system itself recorded the RSS peak of {len(apart)} of {many(len(measured), 'call')}: the readings "
            f"differ from it by at most {max(apart):.1%}."
        )
    if measured:
        taken = many(sum(each.readings for each in measured), "reading")
        yield f"{taken} took at most {max(each.sampler_share for each in measured):.1%} of one core."
