"""The report drawn with matplotlib: a picture with curves over time and bars for peaks, and SVG for the page."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import framework
from arraystore.errors import SpecError
from arraystore.memory.measurement import Measurement, ReportData
from arraystore.memory.showing.words import array_of, endings, headline, multiple, short_number, shorten, size, unit_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

__all__ = ["CARD", "INK", "LINE", "MARKERS", "PALETTE", "SOFT", "check", "curves_svg", "draw", "portrait_svg", "thin"]

INK, SOFT, LINE, CARD = "#1a1b1f", "#56585f", "#d9dae0", "#f7f7f9"  # text, soft text, grid, background of labels
# Okabe and Ito's colors, which color-blind readers can tell apart; their yellow is too pale on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", INK, "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v")
_DASHES = ("-", (0, (4, 1.2)), (0, (1.2, 1)), (0, (5, 1.2, 1.2, 1.2)))  # in line widths

# Each with the metadata that would differ from one drawing to the next: the date.
_SUFFIXES: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".png": {}, ".svg": {"Date": None}}
_PNG_DPI = 200
_EQUAL = 0.995  # of the peak: readings above it are as good as equal to it
_MOST_MARKS = 8  # with a label
_GAP_PX = 7.0  # around a label, and around the point beside it
_CURVE_POINTS, _PORTRAIT_POINTS = 900, 300  # steps of the time axis that a picture can show
# The user's own settings have no effect, names are never taken for formulas, and text stays text.
_SETTINGS = {
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.12,
    "font.size": 10.0,
    "grid.color": LINE,
    "hatch.linewidth": 0.7,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "arraystore",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "ytick.major.size": 0,
}


def check(path: Path) -> None:
    """Check, before anything long is measured, that a picture can be drawn in a file of that suffix.

    Raises:
        SpecError: the suffix names another format.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in _SUFFIXES:
        names = ", ".join(_SUFFIXES)
        raise SpecError(f"{path} cannot be drawn: its suffix must be one of {names}, and not {path.suffix!r}")
    framework("matplotlib", extra="plot")


def draw(report: ReportData, path: Path) -> None:
    """Draw the curves and the peaks of a report into a file, see `check`; the same report gives the same file."""
    check(path)
    suffix = path.suffix.lower()
    below = [line for ending in endings(report) for line in textwrap.wrap(ending, 170)]
    height_in = 1.6 + max(4.4, 0.46 * len(report.measurements)) + 0.17 * len(below)
    with _figure(13, height_in) as figure:
        title = shorten(report.title, 110) or "Memory"
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
        if below:
            figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=9, color=SOFT)
        curves, bars = figure.subplots(1, 2, width_ratios=(2.6, 1))
        curves.set_title("\n".join(textwrap.wrap(headline(report), 120)), loc="left", fontsize=10)
        _draw_bars(bars, report)
        _draw_curves(figure, curves, report)
        figure.savefig(path, format=suffix[1:], dpi=_PNG_DPI, metadata=_SUFFIXES[suffix])


def curves_svg(report: ReportData, *, brief: bool) -> str:
    """Return the curves of all calls as SVG; ``brief`` is for narrow windows."""
    with _figure(*((5, 4.8) if brief else (11.5, 5))) as figure:
        _draw_curves(figure, figure.subplots(), report, brief=brief)
        return _svg(figure)


def portrait_svg(measurement: Measurement, index: int, *, limit_bytes: float, array_bytes: int | None) -> str:
    """Return the memory of one call as SVG: anonymous, file-backed memory on top of it, PSS and RSS as lines.

    Args:
        measurement: the call, with at least one reading.
        index: its number in the report, which gives its color.
        limit_bytes: the upper end of the axis.
        array_bytes: the size of the array, which is a level line; None for no line.
    """
    curve = measurement.curve
    last_s = curve.seconds[-1] or 1.0
    kept = sorted(
        {at for values in (curve.held, curve.pss, curve.rss) for at in thin(curve.seconds, values, _PORTRAIT_POINTS)}
    )
    with _figure(4.4, 2.4) as figure:
        axes: Axes = figure.subplots()
        second, size_unit = _prepare(axes, last_s, limit_bytes, ticks=4)

        def column(values: Sequence[float], unit: float = size_unit) -> npt.NDArray[np.float64]:
            return np.array(values, np.float64)[kept] / unit

        seconds, held, color = column(curve.seconds, second), column(curve.held), PALETTE[index % len(PALETTE)]
        axes.fill_between(seconds, held, color=color, linewidth=0)
        axes.fill_between(seconds, held, held + column(curve.file), color=color, alpha=0.28, linewidth=0)
        axes.plot(seconds, column(curve.pss), color=INK, linewidth=1.2)
        axes.plot(seconds, column(curve.rss), color=INK, linewidth=1.2, linestyle="--")
        if array_bytes:
            axes.axhline(array_bytes / size_unit, color=INK, linewidth=1.2, linestyle=":")
        return _svg(figure)


def thin(seconds: Sequence[float], values: Sequence[float], columns: int) -> Iterator[int]:
    """Yield indices of the readings that a picture needs: the lowest, highest and last in each of its columns."""
    limit_s = seconds[-1] or 1.0
    begin = 0
    for index in range(1, len(seconds) + 1):
        column = int(seconds[begin] / limit_s * columns)
        if index == len(seconds) or int(seconds[index] / limit_s * columns) != column:
            group = range(begin, index)
            yield from sorted({min(group, key=values.__getitem__), max(group, key=values.__getitem__), index - 1})
            begin = index


@contextmanager
def _figure(width_in: float, height_in: float) -> Iterator[Figure]:
    framework("matplotlib", extra="plot")
    with import_module("matplotlib.style").context(["default", _SETTINGS]), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, and is no reason to stop.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield import_module("matplotlib.figure").Figure((width_in, height_in), layout="constrained")


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=_SUFFIXES[".svg"])
    return file.getvalue()


def _look(index: int) -> dict[str, Any]:
    """Return how the call of that index is drawn; no two of the first 35 have both color and marker in common."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def _prepare(axes: Axes, last_s: float, top_bytes: float, *, ticks: int) -> tuple[float, int]:
    """Set the scales, from 0 to these limits; return the units of both, in seconds and bytes."""
    time, second = ("h", 3600) if last_s >= 7200 else ("min", 60) if last_s >= 600 else ("s", 1)
    unit, unit_bytes = unit_for(top_bytes)
    axes.set(xlim=(0, last_s / second), ylim=(0, top_bytes / unit_bytes), xlabel=time, ylabel=unit)
    axes.locator_params(nbins=ticks, steps=[1, 2, 5, 10])
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return second, unit_bytes


def _draw_curves(figure: Figure, axes: Axes, report: ReportData, *, brief: bool = False) -> None:
    shown = [(index, each) for index, each in enumerate(report.measurements) if each.curve.seconds]
    last_s = max((each.curve.seconds[-1] for _, each in shown), default=0) or 1.0
    highest, array_bytes = max((each.peak("held") for _, each in shown), default=0), report.array_bytes or 0
    # Room for the last ring, and for labels above the highest peak.
    top_bytes = 1.3 * max(highest, array_bytes, 1 << 10)
    second, unit = _prepare(axes, 1.03 * last_s, top_bytes, ticks=5 if brief else 8)
    axes.set(xlabel=f"time since the call began, {axes.get_xlabel()}", ylabel=f"anonymous memory, {axes.get_ylabel()}")
    notes = _Notes(figure, axes)
    levels, labels, marks = [], [], []
    for times, text in ((1, f"the array, {size(array_bytes)}"), (2, "twice the array")):
        if array_bytes and (times == 1 or 1.9 * array_bytes <= highest < 10 * array_bytes):
            axes.axhline(times * array_bytes / unit, color=INK, linewidth=1.1, linestyle=":")
            levels.append((text, (0, times * array_bytes / unit), "none"))
    for index, each in shown:
        held = np.array(each.curve.held) / unit
        seconds = np.array(each.curve.seconds) / second
        kept = [*thin(each.curve.seconds, each.curve.held, _CURVE_POINTS)]
        look = _look(index)
        axes.plot(seconds[kept], held[kept], **look, markevery=(0.03 + index % 4 * 0.02, 0.12), markersize=5)
        notes.avoid(seconds, held)
        # Of several equal peaks the last one: there the curve ends.
        at = int(np.flatnonzero(held >= _EQUAL * held.max())[-1])
        stopped = each.outcome in ("killed", "failed")
        if not stopped or held[-1] < 0.95 * held[at]:  # else the cross shows the peak
            axes.scatter(seconds[at], held[at], s=50, linewidth=1.5, facecolor=CARD, edgecolor=look["color"], zorder=4)
        if stopped:
            at = len(held) - 1
            axes.scatter(seconds[at], held[at], s=50, marker="x", linewidth=2.6, color=look["color"], zorder=4)
        labels.append((_peak_text(report, each, brief=brief), (seconds[at], held[at]), look["color"]))
        for mark in each.marks:
            point = mark.seconds / second, np.interp(mark.seconds / second, seconds, held)
            axes.scatter(*point, s=60, marker="|", color=look["color"], zorder=4)
            # A mark at the very beginning or end says nothing about the curve.
            if 0.02 < mark.seconds / (each.curve.seconds[-1] or 1) < 0.98 and not brief:
                marks.append((shorten(mark.label, 24), point, look["color"]))
    labels.sort(key=lambda label: -label[1][1])
    labels += marks if len(marks) <= _MOST_MARKS else []
    for _, point, _ in labels:
        notes.keep_free(point)
    for label in levels + labels:
        notes.write(*label)


class _Notes:
    """Texts beside points of the curves: none on another, and none on a curve if there is room elsewhere."""

    def __init__(self, figure: Figure, axes: Axes) -> None:
        figure.draw_without_rendering()  # gives the axes their place,
        figure.set_layout_engine("none")  # which they keep
        self._axes = axes
        self._points_per_px = 72 / figure.dpi
        self._box = import_module("matplotlib.transforms").Bbox.from_bounds
        self._frame = axes.get_window_extent()
        self._taken: list[Bbox] = []
        self._dots = np.empty((0, 2))

    def avoid(self, x: Sequence[float] | npt.NDArray[Any], y: Sequence[float] | npt.NDArray[Any]) -> None:
        """Add a curve on which no text should stand."""
        grid = np.linspace(x[0], x[-1], max(len(x), 200))
        dots = self._axes.transData.transform(np.column_stack([grid, np.interp(grid, x, y)]))
        self._dots = np.concatenate([self._dots, dots])

    def keep_free(self, point: tuple[float, float]) -> None:
        """Keep the ring or mark at a point visible."""
        x, y = self._axes.transData.transform(point)
        self._taken.append(self._box(x - _GAP_PX, y - _GAP_PX, 2 * _GAP_PX, 2 * _GAP_PX))

    def write(self, text: str, point: tuple[float, float], color: str) -> None:
        """Write a text near a point, in a frame of this color; leave it out if there is no room."""
        note = self._axes.annotate(
            text,
            point,
            (0, 0),
            textcoords="offset points",
            va="bottom",
            fontsize=9,
            zorder=6 - len(self._taken) / 100,  # beneath earlier ones, which its line must not cross
            bbox={"boxstyle": "round,pad=0.25", "facecolor": CARD, "edgecolor": color, "linewidth": 0.8, "alpha": 0.9},
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkB": 3},
        )
        note.set_in_layout(False)
        extent, frame = note.get_window_extent(), self._frame
        width, height = extent.width + _GAP_PX, extent.height + _GAP_PX
        x, y = self._axes.transData.transform(point)
        places = []
        for left in (x + _GAP_PX, x - width - _GAP_PX, x - width / 2, x + 40, x - width - 40):
            for low in np.arange(y - 150, y + 150, 6):
                box = self._box(left, low, width, height)
                outside = left < frame.x0 or low < frame.y0 or box.x1 > frame.x1 or box.y1 > frame.y1
                if not outside and not box.count_overlaps(self._taken):
                    away = hypot(max(left - x, x - box.x1, 0), max(low - y, y - box.y1, 0))
                    places.append((away + 12 * box.count_contains(self._dots), left, low, box))
        if not places:
            note.remove()
            return
        _, left, low, box = min(places, key=lambda place: place[:3])
        self._taken.append(box)
        pad = _GAP_PX / 2
        note.xyann = self._points_per_px * (left - x + pad), self._points_per_px * (low - y + pad)


def _peak_text(report: ReportData, measurement: Measurement, *, brief: bool) -> str:
    held = measurement.peak("held")
    times = f"{multiple(report, measurement, held)}×" if held and array_of(report, measurement) else ""
    if brief:
        return f"{shorten(measurement.name, 18)}: {times or size(held)}"
    figures = f"{size(held)}, {times} its array" if times else size(held)
    if measurement.outcome == "finished":
        return f"{shorten(measurement.name, 34)}\n{figures}"
    reason = f"\n{shorten(measurement.reason, 44)}" if measurement.reason else ""
    return f"{shorten(measurement.name, 34)}\n{measurement.outcome} at {figures}{reason}"


def _draw_bars(axes: Axes, report: ReportData) -> None:
    """Draw a bar for each call: anonymous memory filled, file-backed memory hatched."""
    relative = all(array_of(report, each) for each in report.measurements)
    names, end = [], 0.0
    for row, each in enumerate(report.measurements):
        scale = (array_of(report, each) or 1) if relative else 1
        held, file, color = each.peak("held") / scale, each.peak("file") / scale, PALETTE[row % len(PALETTE)]
        text = "not run" if each.outcome == "skipped" else "no readings"
        if held + file:
            axes.barh(row, held, height=0.5, color=color, edgecolor=color)
            axes.barh(row, file, left=held, height=0.5, color="white", edgecolor=color, hatch="/////")
            text = " + ".join(f"{short_number(part)}×" if relative else size(part) for part in (held, file))
        axes.annotate(text, (held + file, row), (5, 0), textcoords="offset points", va="center")
        ending = "" if each.outcome == "finished" else f"\n({each.outcome})"
        names.append("\n".join(textwrap.wrap(shorten(each.name, 34), 18)) + ending)
        end = max(end, held + file)
    axes.set(xlim=(0, end * 1.75 or 1), ylim=(max(len(names), 7) - 0.4, -0.6))
    axes.set_xticks([])
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.spines.bottom.set_visible(False)
    title = "Peaks as multiples of the array" if relative else "Peaks"
    axes.set_title(f"{title}:\nanonymous (filled) + file-backed (hatched)", loc="left", fontsize=10)
    if relative:
        axes.axvline(1, color=INK, linewidth=1.1, linestyle=":", zorder=0)
