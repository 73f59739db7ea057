"""The curves as SVG inside a page: small, and with nothing that a style sheet cannot recolour."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence

from arraystore._common.wording import flat
from arraystore.memory.chart import (
    PALETTE,
    Chart,
    Label,
    Look,
    Paper,
    Series,
    lay_out,
    look,
    memory_axis,
    thin,
    time_axis,
)
from arraystore.memory.placement import Point
from arraystore.memory.report import Measurement, MemoryReport
from arraystore.memory.words import figure

__all__ = ["curves", "element", "escaped", "portrait", "swatch"]

_WIDE_PX, _BRIEF_PX = (900.0, 440.0), (360.0, 340.0)
_FONT_PX = 13.0
_LINE_PX = 16.0
_PORTRAIT_PX = (320.0, 170.0)


def escaped(text: object) -> str:
    """Return a text as HTML shows it, on one line."""
    return html.escape(flat(str(text)))


def element(tag: str, *content: str, **attributes: object) -> str:
    """Return an element of HTML or SVG.

    Args:
        tag: its name.
        content: markup, which is not escaped.
        attributes: values, which are; an underscore in a name stands for a hyphen, one at its end for nothing. Numbers
            are rounded to a tenth. None leaves the attribute out.
    """
    parts = [
        f' {name.rstrip("_").replace("_", "-")}="{_number(value) if isinstance(value, float) else escaped(value)}"'
        for name, value in attributes.items()
        if value is not None
    ]
    return f"<{tag}{''.join(parts)}>{''.join(content)}</{tag}>"


def curves(report: MemoryReport, title: str, *, brief: bool = False) -> str:
    """Return the chart of all calls; ``brief`` is one for narrow windows.

    Args:
        report: what to draw.
        title: what the chart says, for those who do not see it.
        brief: whether the window is narrow.
    """
    width, height = _BRIEF_PX if brief else _WIDE_PX
    left, right, top, bottom = (40, 6, 20, 40) if brief else (52, 8, 22, 44)
    chart = lay_out(report, Paper(width - left - right, height - top - bottom, _LINE_PX, _width_px), brief=brief)
    drawn = [_axes(chart), *(_line(chart.width, rule.y) for rule in chart.rules), *map(_curve, chart.series)]
    drawn += [_leader(label) for label in chart.labels]
    drawn += [_point(each) for each in chart.series]
    drawn += [_text(rule.box.x, rule.box.y + 12, rule.text, class_="soft halo") for rule in chart.rules]
    drawn += [_label(label) for label in chart.labels]
    inside = element("g", *drawn, transform=f"translate({left} {top})")
    return _picture(title, width, height, inside, class_="brief" if brief else "wide")


def portrait(measurement: Measurement, index: int, *, limit_bytes: float, array_bytes: int | None, title: str) -> str:
    """Return the small chart of one call: anonymous memory, file-backed memory on top of it, PSS and RSS as lines.

    Args:
        measurement: the call, of which something was read.
        index: of it in its report, which gives its look.
        limit_bytes: the upper end of the axis.
        array_bytes: where the line for the array is; None for no line.
        title: what the chart says, for those who do not see it.
    """
    width, height = _PORTRAIT_PX
    left, top, bottom = 44.0, 8.0, 20.0
    across, down = width - left - 8, height - top - bottom
    curve = measurement.curve
    axis, levels = time_axis(curve.seconds[-1], count=4), memory_axis(limit_bytes, count=4)

    def line(values: Sequence[float]) -> list[Point]:
        kept = thin(curve.seconds, values, limit_s=axis.limit, columns=int(across))
        return [(curve.seconds[at] / axis.limit * across, down - values[at] / levels.limit * down) for at in kept]

    both = [held + file for held, file in zip(curve.held, curve.file, strict=True)]
    drawn = [_text(-left, down + 16, levels.unit[0], class_="soft")]
    for value, text in levels.ticks:
        y = down - value / levels.limit * down
        drawn.append(element("line", x2=across, y1=y, y2=y, class_="grid"))
        drawn.append(_text(-5, y + 4, text, text_anchor="end", class_="soft"))
    for seconds, text in axis.ticks:
        x = seconds / axis.limit * across
        if x < across - 50:  # the end has a text of its own
            drawn.append(_text(x, down + 16, text, text_anchor="middle", class_="soft"))
    drawn.append(
        _text(
            across, down + 16, f"{figure(axis.limit / axis.unit[1])} {axis.unit[0]}", text_anchor="end", class_="soft"
        )
    )
    drawn += [
        element("path", d=_area(line(both), down), class_="file"),
        element("path", d=_area(line(curve.held), down), class_="held"),
        element("path", d=_path(line(curve.rss)), class_="rss"),
        element("path", d=_path(line(curve.pss)), class_="pss"),
    ]
    if array_bytes:
        drawn.append(_line(across, down - array_bytes / levels.limit * down))
    inside = element("g", *drawn, transform=f"translate({left:g} {top:g})", class_=_colour(index))
    return _picture(title, width, height, inside, class_="portrait")


def swatch(index: int) -> str:
    """Return the sign of a call, for a line of text."""
    chosen = look(index)
    drawn = (element("path", d="M1 7H25", class_="line", stroke_dasharray=_dashes(chosen)), _marker(chosen, (13, 7)))
    group = element("g", *drawn, class_=_colour(index))
    return element("svg", group, class_="swatch", viewBox="0 0 26 14", aria_hidden="true")


def _picture(title: str, width: float, height: float, content: str, **attributes: object) -> str:
    named = element("title", escaped(title))
    return element("svg", named, content, viewBox=f"0 0 {width:g} {height:g}", role="img", **attributes)


def _axes(chart: Chart) -> str:
    bottom = chart.height
    drawn = [_text(-46 if chart.width > 400 else -36, -8, chart.y.title, class_="soft")]
    for value, text in chart.y.ticks:
        y = chart.y_px(value)
        drawn.append(element("line", x2=chart.width, y1=y, y2=y, class_="grid"))
        drawn.append(_text(-6, y + 4, text, text_anchor="end", class_="soft"))
    for value, text in chart.x.ticks:
        x = chart.x_px(value)
        drawn.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="tick"))
        drawn.append(_text(x, bottom + 17, text, text_anchor="middle", class_="soft"))
    drawn.append(_text(chart.width / 2, bottom + 34, chart.x.title, text_anchor="middle", class_="soft"))
    return element("g", *drawn)


def _line(width: float, y: float) -> str:
    return element("line", x2=width, y1=y, y2=y, class_="array")


def _curve(series: Series) -> str:
    chosen = look(series.index)
    drawn = [element("path", d=_path(series.points), class_="line", stroke_dasharray=_dashes(chosen))]
    drawn += [_marker(chosen, point) for point in series.markers]
    return element("g", *drawn, class_=_colour(series.index))


def _point(series: Series) -> str:
    drawn = [element("circle", cx=x, cy=y, r=4.5, class_="peak") for x, y in series.rings]
    drawn += [element("path", d=f"M{x:.1f} {y - 5:.1f}v10", class_="mark") for x, y in series.marks]
    if series.stop is not None:
        x, y = series.stop
        drawn.append(element("path", d=f"M{x - 6:.1f} {y - 6:.1f}l12 12m0 -12l-12 12", class_="stop"))
    return element("g", *drawn, class_=_colour(series.index))


def _leader(label: Label) -> str:
    x, y = label.box.nearest(label.point)
    if abs(x - label.point[0]) + abs(y - label.point[1]) < _LINE_PX:
        return ""
    path = _path((label.point, (x, y)))
    return element("path", d=path, class_=f"leader {_colour(label.index)}")


def _label(label: Label) -> str:
    box, titled = label.box, len(label.lines) > 1
    drawn = [
        _text(
            box.x + label.symbol_px,
            box.y + 12.5 + _LINE_PX * line,
            text,
            class_="name" if titled and not line else None,
        )
        for line, text in enumerate(label.lines)
    ]
    if label.symbol_px:
        drawn.append(_marker(look(label.index), (box.x + 6, box.y + _LINE_PX / 2)))
    return element("g", *drawn, class_=f"halo {_colour(label.index)}")


def _marker(chosen: Look, point: Point) -> str:
    x, y = point
    if chosen.marker == "o":
        return element("circle", cx=x, cy=y, r=4.0, class_="marker")
    corners = {
        "s": "m-3.6 -3.6h7.2v7.2h-7.2z",
        "^": "m0 -4.8l4.6 8h-9.2z",
        "v": "m0 4.8l4.6 -8h-9.2z",
        "D": "m0 -5l5 5l-5 5l-5 -5z",
    }
    return element("path", d=f"M{x:.1f} {y:.1f}{corners[chosen.marker]}", class_="marker")


def _text(x: float, y: float, text: str, **attributes: object) -> str:
    return element("text", escaped(text), x=float(x), y=float(y), **attributes)


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _area(points: Sequence[Point], bottom: float) -> str:
    return f"{_path(points)}L{points[-1][0]:.1f} {bottom:.1f}L{points[0][0]:.1f} {bottom:.1f}Z"


def _dashes(chosen: Look) -> str | None:
    return " ".join(f"{length:g}" for length in chosen.dash) or None


def _colour(index: int) -> str:
    return f"c{index % len(PALETTE)}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _width_px(text: str) -> float:
    """Return about how wide a line of text is, rather too wide than too narrow: fonts differ."""
    widths = (1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.58 for letter in text)
    return _FONT_PX * sum(widths)
