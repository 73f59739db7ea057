"""The curves of a report laid out in pixels, for whatever draws them: axes, lines, peaks, and where labels stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import dist, floor, log10

from arraystore.memory.placement import Box, Point, place
from arraystore.memory.report import Curve, Measurement, MemoryReport
from arraystore.memory.words import array_of, multiple, shorten, size, unit_for

__all__ = [
    "PALETTE",
    "Axis",
    "Chart",
    "Label",
    "Look",
    "Rule",
    "Series",
    "lay_out",
    "look",
    "memory_axis",
    "thin",
    "time_axis",
]

# Okabe and Ito's colours, which colour-blind readers can tell apart; their yellow is too pale on paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_DASHES: tuple[tuple[float, ...], ...] = ((), (7, 2), (2, 1.6), (8, 2, 2, 2))
_MARKERS = ("o", "s", "^", "D", "v")

_SYMBOL_PX = 15.0
_MOST_MARKS = 8
_EQUAL = 0.995
_TIMES = (("h", 3600.0, 7200.0), ("min", 60.0, 600.0), ("s", 1.0, 0.0))


@dataclass(frozen=True)
class Look:
    """How one call is drawn: no two of the first 35 have both colour and marker in common.

    Attributes:
        colour: as #rrggbb.
        dash: lengths of line and gap in turn, in pixels; () for a solid line.
        marker: "o", "s", "^", "D" or "v", as matplotlib calls them.
    """

    colour: str
    dash: tuple[float, ...]
    marker: str


@dataclass(frozen=True)
class Paper:
    """What a chart is drawn on.

    Attributes:
        width: of the area between the axes, in pixels.
        height: likewise.
        line_px: the height of a line of text.
        measure: gives the width of a line of text, in pixels.
    """

    width: float
    height: float
    line_px: float
    measure: Callable[[str], float]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: what it shows, and its unit.
        unit: the name of the unit that texts are in, and what it is in seconds or bytes.
        limit: the value at its far end, in seconds or bytes; it begins at 0.
        ticks: value and text of each.
    """

    title: str
    unit: tuple[str, float]
    limit: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Rule:
    """A level line across the chart: ``y`` in pixels, its text, and where that stands."""

    y: float
    text: str
    box: Box


@dataclass(frozen=True)
class Series:
    """The curve of one call, all in pixels.

    Attributes:
        index: of the call in the report, which gives its look.
        points: the curve.
        markers: points on it, far from each other, that tell it from others where lines cross.
        peak: the highest point; of several that are as good as equal the last one, where the curve leads to.
        stop: where it was killed or failed; None where it finished.
        marks: where the call said something.
    """

    index: int
    points: tuple[Point, ...]
    markers: tuple[Point, ...]
    peak: Point
    stop: Point | None
    marks: tuple[Point, ...]

    @property
    def rings(self) -> tuple[Point, ...]:
        """Where a ring shows the peak: nowhere, if the cross that shows the stop is there."""
        hidden = self.stop is not None and dist(self.stop, self.peak) < 8
        return () if hidden else (self.peak,)


@dataclass(frozen=True)
class Label:
    """Text beside a point of a curve.

    Attributes:
        index: of the call in the report.
        lines: the text.
        box: where it stands; the symbol of the call has the first ``symbol_px`` of it.
        point: what it belongs to.
        symbol_px: how wide the symbol is; 0 where there is none.
    """

    index: int
    lines: tuple[str, ...]
    box: Box
    point: Point
    symbol_px: float


@dataclass(frozen=True)
class Chart:
    """The curves of a report laid out on ``width`` times ``height`` pixels, y downwards."""

    width: float
    height: float
    x: Axis
    y: Axis
    rules: tuple[Rule, ...]
    series: tuple[Series, ...]
    labels: tuple[Label, ...]

    def x_px(self, seconds: float) -> float:
        """Return where a time lies."""
        return seconds / self.x.limit * self.width

    def y_px(self, size_bytes: float) -> float:
        """Return where a size lies."""
        return self.height - size_bytes / self.y.limit * self.height


def look(index: int) -> Look:
    """Return how the call of that index is drawn."""
    return Look(PALETTE[index % len(PALETTE)], _DASHES[index % len(_DASHES)], _MARKERS[index % len(_MARKERS)])


def time_axis(seconds: float, *, count: int = 8) -> Axis:
    """Return the axis for a time, with at most ``count`` ticks after the 0, and ``count`` at least 3."""
    seconds = max(seconds or 1.0, 1e-3)
    name, unit_s, _ = next(unit for unit in _TIMES if seconds >= unit[2])
    return _axis("time since the call began", (name, unit_s), seconds, count)


def memory_axis(size_bytes: float, *, count: int = 7) -> Axis:
    """Return the axis for a size, with ticks as those of `time_axis`."""
    size_bytes = max(size_bytes or 1 << 20, 1 << 10)
    return _axis("anonymous memory", unit_for(size_bytes), size_bytes, count)


def _axis(title: str, unit: tuple[str, float], limit: float, count: int) -> Axis:
    ticks = tuple((value * unit[1], f"{value:,g}") for value in _ticks(limit / unit[1], count))
    return Axis(f"{title}, {unit[0]}", unit, limit, ticks)


def _ticks(limit: float, count: int) -> Iterator[float]:
    """Yield 0 and round values up to ``limit``."""
    power = 10.0 ** (floor(log10(limit)) - 1)
    step = next(factor * power for factor in (1, 2, 5, 10, 20, 50) if factor * power * count >= limit)
    yield from (round(index * step, 12) for index in range(int(limit / step * (1 + 1e-9)) + 1))


def thin(seconds: Sequence[float], values: Sequence[float], *, limit_s: float, columns: int) -> Iterator[int]:
    """Yield indices of the readings that a picture needs: the lowest, highest and last of each of its columns."""
    begin = 0
    for index in range(1, len(seconds) + 1):
        column = int(seconds[begin] / limit_s * columns)
        if index == len(seconds) or int(seconds[index] / limit_s * columns) != column:
            group = range(begin, index)
            yield from sorted({min(group, key=values.__getitem__), max(group, key=values.__getitem__), index - 1})
            begin = index


def lay_out(report: MemoryReport, paper: Paper, *, brief: bool = False) -> Chart:
    """Lay the curves of a report out; labels for which there is no room are left out.

    Args:
        report: what to draw.
        paper: what it is drawn on.
        brief: whether labels are short and on one line, for small pictures.
    """
    curves = [(index, each) for index, each in enumerate(report.measurements) if each.curve.seconds]
    highest = max((each.peak("held") for _, each in curves), default=0)
    # A quarter more than the highest peak: labels stand above it. A little after the last reading: its ring is round.
    x = time_axis(max((each.curve.seconds[-1] for _, each in curves), default=0) * 1.03, count=4 if brief else 8)
    y = memory_axis(max(highest, report.array_bytes or 0) * 1.25)
    empty = Chart(paper.width, paper.height, x, y, (), (), ())
    rules = tuple(_rules(report, empty, highest, paper))
    series = tuple(_series(empty, index, each) for index, each in curves)

    wanted = list(_wanted(report, series, brief=brief))
    sizes = [(max(map(paper.measure, lines)) + symbol, paper.line_px * len(lines)) for _, lines, _, symbol in wanted]
    levels = [paper.height, *(rule.y for rule in rules)]
    boxes = place(
        [(point, *area) for (_, _, point, _), area in zip(wanted, sizes, strict=True)],
        width=paper.width,
        height=paper.height,
        taken=[rule.box for rule in rules],
        curves=[each.points for each in series] + [((0, y), (paper.width, y)) for y in levels],
    )
    labels = tuple(
        Label(index, lines, box, point, symbol)
        for (index, lines, point, symbol), box in zip(wanted, boxes, strict=True)
        if box is not None
    )
    return replace(empty, rules=rules, series=series, labels=labels)


def _rules(report: MemoryReport, chart: Chart, highest: int, paper: Paper) -> Iterator[Rule]:
    """Yield the level of the array, and that of two arrays if a call comes near it."""
    if not report.array_bytes:
        return
    for times, text in ((1, f"the array, {size(report.array_bytes)}"), (2, "twice the array")):
        y = chart.y_px(times * report.array_bytes)
        near = chart.y_px(0) - chart.y_px(report.array_bytes) < 2 * paper.line_px
        if times == 1 or (highest >= 1.9 * report.array_bytes and not near):
            # Above the line and at the left, where most curves are still low.
            yield Rule(y, text, Box(4, y - paper.line_px - 1, paper.measure(text), paper.line_px))


def _series(chart: Chart, index: int, measurement: Measurement) -> Series:
    curve, held = measurement.curve, measurement.curve.held

    def point(reading: int) -> Point:
        return chart.x_px(curve.seconds[reading]), chart.y_px(held[reading])

    kept = thin(curve.seconds, held, limit_s=chart.x.limit, columns=int(chart.width))
    least = _EQUAL * max(held)
    stopped = measurement.outcome in ("killed", "failed")
    return Series(
        index=index,
        points=tuple(map(point, kept)),
        markers=tuple(map(point, _apart(curve, chart.x.limit, index))),
        peak=point(max(at for at, value in enumerate(held) if value >= least)),
        stop=point(len(held) - 1) if stopped else None,
        marks=tuple(point(_reading_at(curve, mark.seconds)) for mark in measurement.marks),
    )


def _apart(curve: Curve, limit_s: float, index: int) -> list[int]:
    """Return readings at which markers stand: an eighth of the axis apart, and each call's at other times."""
    step_s = limit_s / 8
    times = [(number + 0.25 + index % 4 / 6) * step_s for number in range(8)]
    found = [_reading_at(curve, seconds) for seconds in times if seconds <= curve.seconds[-1]]
    return found or [len(curve.seconds) // 2]


def _reading_at(curve: Curve, seconds: float) -> int:
    """Return the index of the first reading at a time or after it; of the last, if it was over by then."""
    return next((index for index, time in enumerate(curve.seconds) if time >= seconds), len(curve.seconds) - 1)


def _wanted(
    report: MemoryReport, series: Sequence[Series], *, brief: bool
) -> Iterator[tuple[int, tuple[str, ...], Point, float]]:
    """Yield index, lines, point and width of the symbol of each label, the highest first, and marks after peaks."""
    for each in sorted(series, key=lambda each: each.peak[1]):
        measurement = report.measurements[each.index]
        lines = _peak_lines(report, measurement, brief=brief)
        yield each.index, lines, each.stop or each.peak, _SYMBOL_PX
    # What is said at the very beginning or end tells nothing about the curve.
    marks = [
        (each.index, mark.label, point)
        for each in series
        for mark, point in zip(report.measurements[each.index].marks, each.marks, strict=True)
        if 0.02 < point[0] / max(each.points[-1][0], 1) < 0.98
    ]
    if not brief and len(marks) <= _MOST_MARKS:
        yield from ((index, (shorten(label, 24),), point, 0.0) for index, label, point in marks)


def _peak_lines(report: MemoryReport, measurement: Measurement, *, brief: bool) -> tuple[str, ...]:
    held = measurement.peak("held")
    times = multiple(report, measurement, held) + "×" if held and array_of(report, measurement) else ""
    if brief:
        return (f"{shorten(measurement.name, 18)}: {times or size(held)}",)
    name, figures = shorten(measurement.name, 34), size(held)
    if times:
        own = measurement.array_bytes not in (None, report.array_bytes)
        figures += f", {times} {'its own array' if own else 'the array'}"
    if measurement.outcome == "finished":
        return name, figures
    return (
        name,
        f"{measurement.outcome} at {figures}",
        *([shorten(measurement.reason, 44)] if measurement.reason else []),
    )
