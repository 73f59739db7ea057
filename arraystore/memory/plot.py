"""The report as a picture, drawn with matplotlib: curves over time, and a bar for each peak."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from arraystore._common.extras import framework
from arraystore.errors import SpecError
from arraystore.memory.chart import Chart, Label, Look, Paper, Series, lay_out, look
from arraystore.memory.placement import Point
from arraystore.memory.report import Measurement, MemoryReport
from arraystore.memory.words import array_of, endings, headline, multiple, shorten, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check", "draw"]

# Each with what else would differ from one picture of the same report to the next: the time of its making.
_SUFFIXES: dict[str, dict[str, str | None]] = {".pdf": {"CreationDate": None}, ".png": {}, ".svg": {"Date": None}}

_DPI = 100
_PRINTED_DPI = 200
_WIDTH_IN = 13.0
_CURVES_IN, _BARS_IN = (0.8, 7.9), (9.15, 3.1)  # left edge and width
_ROW_IN = 0.44
_LEAST_IN, _LEAST_ROWS = 4.6, 7
_FONT_PT = 9.0
_LINE_IN = 0.165
# What keeps text legible on lines. An outline would as well, but turns text into shapes.
_BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4}
_SOFT, _GRID = "#55575e", "#dcdce2"

# Whatever the user's own settings are, names are never taken for formulas, and texts stay texts.
_SETTINGS = {
    "font.family": "sans-serif",
    "font.size": _FONT_PT,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "arraystore",
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.7,
}


def check(path: Path) -> None:
    """Find out, before anything long is measured, whether a picture can be drawn there.

    Args:
        path: the file that is to be written; its suffix, .png, .svg or .pdf, names the format.

    Raises:
        SpecError: the suffix names no format.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in _SUFFIXES:
        names = ", ".join(_SUFFIXES)
        raise SpecError(f"{path} cannot be drawn: its suffix must be one of {names}, and not {path.suffix!r}")
    framework("matplotlib", extra="plot")


def draw(report: MemoryReport, path: Path) -> None:
    """Draw the curves and the peaks of a report; the same report gives the same file.

    Args:
        report: what to draw.
        path: the file to write, or to replace, as for `check`.

    Raises:
        SpecError: the suffix names no format.
        MissingExtraError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    check(path)
    suffix = path.suffix.lower()
    import matplotlib.style  # noqa: PLC0415 - an extra, and half a second

    with matplotlib.style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # A letter that the font lacks is a box in the picture, and no reason to stop.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = _figure(report)
        figure.savefig(path, format=suffix[1:], dpi=_PRINTED_DPI, metadata=_SUFFIXES[suffix])


def _figure(report: MemoryReport) -> Figure:
    from matplotlib.figure import Figure as NewFigure  # noqa: PLC0415 - an extra

    above = textwrap.wrap(headline(report), 140)
    below = [line for ending in endings(report) for line in textwrap.wrap(ending, 170)]
    top, bottom = 0.85 + _LINE_IN * len(above), 0.68 + _LINE_IN * len(below)
    middle = max(_LEAST_IN, _ROW_IN * len(report.measurements))
    height = top + middle + bottom
    figure = NewFigure((_WIDTH_IN, height), dpi=_DPI, facecolor="white")

    left = 0.3 / _WIDTH_IN
    title = shorten(report.title, 110) or "Memory"
    figure.text(left, 1 - 0.3 / height, title, fontsize=14, fontweight="bold", va="center")
    figure.text(left, 1 - 0.48 / height, "\n".join(above), va="top", linespacing=1.25)
    figure.text(left, 0.1 / height, "\n".join(below), va="bottom", color=_SOFT, fontsize=8.5, linespacing=1.25)

    def axes(place: tuple[float, float]) -> Axes:
        return figure.add_axes((place[0] / _WIDTH_IN, bottom / height, place[1] / _WIDTH_IN, middle / height))

    paper = Paper(_CURVES_IN[1] * _DPI, middle * _DPI, _LINE_IN * _DPI, _width_px)
    _draw_curves(axes(_CURVES_IN), lay_out(report, paper))
    _draw_bars(axes(_BARS_IN), report)
    return figure


def _width_px(text: str) -> float:
    """Return how wide a line of text is; as bold, which the first line of a label is."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415 - an extra
    from matplotlib.textpath import TextPath  # noqa: PLC0415

    width_pt: float = TextPath((0, 0), text, size=_FONT_PT, prop=FontProperties(weight="bold")).get_extents().width
    return width_pt * _DPI / 72


def _draw_curves(axes: Axes, chart: Chart) -> None:
    """Draw the chart in its own pixels, so that labels stand where they were placed."""
    axes.set_xlim(0, chart.width)
    axes.set_ylim(chart.height, 0)
    axes.set_xticks([chart.x_px(value) for value, _ in chart.x.ticks], [text for _, text in chart.x.ticks])
    axes.set_yticks([chart.y_px(value) for value, _ in chart.y.ticks], [text for _, text in chart.y.ticks])
    axes.set_xlabel(chart.x.title, color=_SOFT)
    axes.set_ylabel(chart.y.title, color=_SOFT)
    axes.tick_params(colors=_SOFT, length=3)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_SOFT)
    for rule in chart.rules:
        axes.axhline(rule.y, color="black", linewidth=1.1, linestyle=(0, (1, 2)), zorder=2)
        axes.text(
            rule.box.x,
            rule.box.y + rule.box.height,
            rule.text,
            color=_SOFT,
            va="bottom",
            bbox=_BEHIND,
            zorder=5,
        )
    for series in chart.series:
        _draw_series(axes, series)
    for label in chart.labels:
        _draw_label(axes, label)


def _draw_series(axes: Axes, series: Series) -> None:
    chosen = look(series.index)
    axes.plot(*_columns(series.points), color=chosen.colour, linestyle=_style(chosen), linewidth=1.7, zorder=3)
    dots: dict[str, tuple[tuple[Point, ...], float, str]] = {
        chosen.marker: (series.markers, 26, chosen.colour),
        "peak": (series.rings, 42, "white"),
    }
    for kind, (points, area, face) in dots.items():
        marker = "o" if kind == "peak" else kind
        axes.scatter(*_columns(points), s=area, marker=marker, facecolor=face, edgecolor=chosen.colour, zorder=4)
    axes.scatter(*_columns(series.marks), s=60, marker="|", color=chosen.colour, zorder=4)
    if series.stop is not None:
        axes.scatter(*series.stop, s=80, marker="x", color=chosen.colour, linewidth=2.6, zorder=4)


def _draw_label(axes: Axes, label: Label) -> None:
    box, chosen = label.box, look(label.index)
    near = box.nearest(label.point)
    if abs(near[0] - label.point[0]) + abs(near[1] - label.point[1]) > 12:
        axes.plot(*_columns((label.point, near)), color=chosen.colour, linewidth=0.8, zorder=3)
    line = box.height / len(label.lines)
    if label.symbol_px:
        axes.scatter(box.x + 5, box.y + line / 2, s=26, marker=chosen.marker, color=chosen.colour, zorder=6)
    for number, text in enumerate(label.lines):
        axes.text(
            box.x + label.symbol_px,
            box.y + line * (number + 0.5),
            text,
            fontweight="bold" if label.symbol_px and not number else "normal",
            color="black" if label.symbol_px else _SOFT,
            va="center_baseline",
            bbox=_BEHIND,
            zorder=6,
        )


def _draw_bars(axes: Axes, report: MemoryReport) -> None:
    """Draw a row for each call, which is the legend as well: its sign and name, and beneath them its peaks."""
    from matplotlib.patches import Patch  # noqa: PLC0415 - an extra

    relative = all(array_of(report, each) for each in report.measurements)
    scales = [array_of(report, each) or 1 if relative else 1 for each in report.measurements]
    ends = [
        (each.peak("held") + each.peak("file")) / scale for each, scale in zip(report.measurements, scales, strict=True)
    ]
    limit = max(ends, default=0) * 1.55 or 1
    axes.set_xlim(0, limit)
    axes.set_ylim(max(len(ends), _LEAST_ROWS) - 0.45, -0.75)
    axes.set_axis_off()
    axes.set_title(
        "Peaks as multiples of the array" if relative else "Peaks",
        loc="left",
        fontsize=_FONT_PT,
        fontweight="bold",
        y=1.0,
    )
    for row, (each, scale) in enumerate(zip(report.measurements, scales, strict=True)):
        chosen, held, file = look(row), each.peak("held") / scale, each.peak("file") / scale
        sign = [limit * 0.09 * share for share in (0, 0.5, 1)]
        axes.plot(sign, [row - 0.42] * 3, color=chosen.colour, linestyle=_style(chosen), linewidth=1.7)
        axes.scatter(sign[1], row - 0.42, s=24, marker=chosen.marker, color=chosen.colour, zorder=3)
        ending = "" if each.outcome == "finished" else f" ({each.outcome})"
        axes.text(limit * 0.115, row - 0.42, shorten(each.name, 36 - len(ending)) + ending, va="center_baseline")
        if held + file:
            axes.barh(row, held, height=0.34, color=chosen.colour, edgecolor=chosen.colour)
            axes.barh(row, file, left=held, height=0.34, facecolor="white", edgecolor=chosen.colour, hatch="/////")
            if relative:
                axes.plot((1, 1), (row - 0.24, row + 0.24), color="black", linewidth=1.1, linestyle=(0, (1, 2)))
        beside = _bar_text(report, each, relative=relative)
        axes.text(ends[row] + limit * 0.02, row, beside, va="center_baseline", bbox=_BEHIND, zorder=3)
    keys = [
        Patch(facecolor=_SOFT, edgecolor=_SOFT, label="anonymous"),
        Patch(facecolor="white", edgecolor=_SOFT, hatch="/////", label="+ file-backed"),
    ]
    axes.legend(handles=keys, loc="upper left", bbox_to_anchor=(-0.02, 0.0), ncols=2, frameon=False, borderaxespad=0.6)


def _bar_text(report: MemoryReport, measurement: Measurement, *, relative: bool) -> str:
    held, file = measurement.peak("held"), measurement.peak("file")
    if not held + file:
        return "not run" if measurement.outcome == "skipped" else "no readings"
    return " + ".join(multiple(report, measurement, each) + "×" if relative else size(each) for each in (held, file))


def _columns(points: tuple[Point, ...]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _style(chosen: Look) -> str | tuple[float, tuple[float, ...]]:
    # matplotlib counts dashes in widths of the line.
    return (0, tuple(length / 1.7 for length in chosen.dash)) if chosen.dash else "solid"
