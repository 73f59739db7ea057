"""The report as a page of HTML that needs nothing else: no script, no other file, no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from arraystore.memory.chart import PALETTE
from arraystore.memory.report import Measurement, MemoryReport
from arraystore.memory.svg import curves, element, escaped, portrait, swatch
from arraystore.memory.words import (
    GLOSSARY,
    MISSING,
    Column,
    array_of,
    columns,
    endings,
    figure,
    headline,
    reading_lines,
    size,
)

__all__ = ["page"]

_STARTS = {"fresh": "new interpreter", "forked": "copy of the caller", "here": "in the caller"}


def page(report: MemoryReport) -> str:
    """Return the page: the result in a sentence, the curves, each call by itself, the table, and how it was measured.

    The same report gives the same text. Names and texts of the report are shown as they are, never taken for markup.
    """
    title = escaped(report.title) or "Memory"
    sections = [*_opening(report, title)]
    if report.measurements:
        sections += [_chart(report), _calls(report), _table(report), _words(report)]
    sections.append(_method(report))
    head = (
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        # Nothing is loaded and nothing runs: the browser is told to hold the page to it.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        element("title", title),
        element("style", _style()),
    )
    body = element("body", element("main", *sections))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{"".join(head)}</head>\n{body}</html>\n'


def _opening(report: MemoryReport, title: str) -> Iterator[str]:
    yield element("h1", title)
    yield element("p", escaped(headline(report)), class_="lead")
    if report.array_bytes:
        text = f"The array takes {size(report.array_bytes)} ({report.array_bytes:,} bytes)."
        yield element("p", text, class_="soft")


def _chart(report: MemoryReport) -> str:
    title = f"Anonymous memory over time. {headline(report)}"
    caption = (
        "Anonymous memory is what the processes hold of their own: it cannot be taken back, and runs a machine out "
        "of memory. A ring is the peak of a call; a cross is where one was killed or failed."
    )
    pictures = curves(report, title), curves(report, title, brief=True)
    unfinished = element("ul", *(element("li", escaped(line)) for line in endings(report)))
    figcaption = element("figcaption", caption, unfinished if any(endings(report)) else "")
    return element("section", element("h2", "Over time"), element("figure", *pictures, figcaption, class_="card"))


def _calls(report: MemoryReport) -> str:
    held_and_file = (
        max((a + b for a, b in zip(each.curve.held, each.curve.file, strict=True)), default=0)
        for each in report.measurements
    )
    limit = max(*held_and_file, *(each.peak("rss") for each in report.measurements), report.array_bytes or 0)
    cards = [_card(report, each, index, limit) for index, each in enumerate(report.measurements)]
    legend = "".join(
        element("span", _key(kind), text)
        for kind, text in (
            ("held", "anonymous"),
            ("file", "file-backed, on top"),
            ("pss", "PSS"),
            ("rss", "RSS"),
            *([("array", "the array")] if any(array_of(report, each) for each in report.measurements) else []),
        )
    )
    return element(
        "section",
        element("h2", "Each call by itself"),
        element("p", "All have the same scale of memory, each its own time. ", legend, class_="legend"),
        element("div", *cards, class_="cards"),
    )


def _card(report: MemoryReport, measurement: Measurement, index: int, limit_bytes: int) -> str:
    name = escaped(measurement.name)
    parts = [element("h3", swatch(index), name)]
    if measurement.note:
        parts.append(element("p", escaped(measurement.note)))
    if measurement.outcome != "finished":
        reason = f": {measurement.reason}" if measurement.reason else ""
        parts.append(element("p", escaped(f"{measurement.outcome}{reason}"), class_="bad"))
    if measurement.curve.seconds:
        peaks = f"peaks at {size(measurement.peak('held'))} anonymous, {size(measurement.peak('file'))} file-backed"
        array_bytes = array_of(report, measurement)
        title = f"{measurement.name} {peaks}"
        parts.append(portrait(measurement, index, limit_bytes=limit_bytes, array_bytes=array_bytes, title=title))
        marks = [f"{escaped(mark.label)} from {figure(mark.seconds)} s" for mark in measurement.marks]
        parts.append(element("p", "; ".join([escaped(peaks), *marks]), class_="soft"))
    elif measurement.outcome == "finished":
        parts.append(element("p", "It was over before anything was read.", class_="soft"))
    return element("article", *parts, class_="card")


def _key(kind: str) -> str:
    shape = "M0 2H26V12H0Z" if kind in ("held", "file") else "M0 7H26"
    path = element("path", d=shape, class_=kind)
    return element("svg", element("g", path, class_="c0"), class_="swatch", viewBox="0 0 26 14", aria_hidden="true")


def _table(report: MemoryReport) -> str:
    listed = list(columns(report))
    heads = ["call", "outcome", *(_heading(column) for column in listed)]
    rows = [
        (
            swatch(index) + escaped(each.name),
            element("span", each.outcome, class_=None if each.outcome == "finished" else "bad"),
            *(column.cell(each) for column in listed),
        )
        for index, each in enumerate(report.measurements)
    ]
    note = f"Sizes are peaks. {MISSING}: there is none, or the system does not tell."
    return element("section", element("h2", "In figures"), _grid("In figures", heads, rows), element("p", note))


def _heading(column: Column) -> str:
    named = element("abbr", escaped(column.heading), title=GLOSSARY[column.heading])
    return named + (f" {element('span', column.unit, class_='soft')}" if column.unit else "")


def _grid(label: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are markup, in a frame that scrolls where the window is too narrow."""
    head = element("tr", *(element("th", cell, scope="col") for cell in heads))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body))
    return element("div", table, class_="frame", tabindex="0", role="region", aria_label=label)


def _words(report: MemoryReport) -> str:
    used = dict.fromkeys(column.heading for column in columns(report))
    terms = [element("dt", escaped(word)) + element("dd", escaped(GLOSSARY[word]) + ".") for word in used]
    return element("section", element("h2", "What the words mean"), element("dl", *terms))


def _method(report: MemoryReport) -> str:
    lines = [element("li", escaped(line)) for line in reading_lines(report)]
    parts = [element("h2", "How it was measured"), element("ul", *lines)] if lines else []
    measured = [each for each in report.measurements if each.readings]
    if measured:
        heads = (
            "call",
            "ran in",
            "memory at its start",
            "processes",
            "readings",
            "cost of reading",
            "RSS peak kept by the system",
        )
        rows = (
            (
                escaped(each.name),
                _STARTS[each.start],
                size(each.start_bytes),
                f"{each.processes:,}",
                f"{each.readings:,}",
                f"{each.sampler_share:.2%} of a core",
                size(each.kernel_peak_bytes) if each.kernel_peak_bytes else MISSING,
            )
            for each in measured
        )
        parts.append(_grid("How it was measured", heads, rows))
    if report.machine:
        facts = [element("dt", escaped(name)) + element("dd", escaped(text)) for name, text in report.machine.items()]
        parts += [element("h2", "The machine"), element("dl", *facts)]
    if report.command:
        parts += [element("h2", "Measure it again"), element("pre", element("code", escaped(report.command)))]
    return element("section", *parts)


def _style() -> str:
    """Return the style sheet, with the colours of the calls; black is white on a dark screen."""
    light = "".join(f".c{index}{{--c:{colour}}}" for index, colour in enumerate(PALETTE))
    dark = light.replace("#000000", "#f0f0f0")
    return f"{_STYLE}{light}@media screen and (prefers-color-scheme:dark){{{_DARK}{dark}}}"


_DARK = """
:root{--page:#131417;--ink:#ececf0;--soft:#adaeb8;--line:#3b3d45;--card:#1c1d22;--bad:#ffa36b}
"""

_STYLE = """
:root{--page:#fff;--ink:#1a1b1f;--soft:#56585f;--line:#d9dae0;--card:#f7f7f9;--bad:#a33f00}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1240px;margin:0 auto;padding:24px 20px 48px}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 12px;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:40px 0 12px}
h3{font-size:1rem;margin:0 0 6px;overflow-wrap:anywhere}
p,ul,dl{margin:0 0 10px;overflow-wrap:anywhere}
ul{padding-left:20px}
p,li,dd,figcaption{max-width:80ch}
.lead{font-size:1.15rem}
.soft{color:var(--soft);fill:var(--soft)}
.bad{color:var(--bad)}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px;margin:0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr));gap:14px}
.cards p{font-size:.9rem}
.cards p:last-child{margin:8px 0 0}
main .legend{max-width:none}
figcaption{font-size:.9rem;color:var(--soft);margin-top:10px}
figcaption ul{margin:8px 0 0}
svg{display:block;width:100%;height:auto;overflow:visible}
svg.swatch{display:inline-block;width:26px;height:14px;margin-right:7px;vertical-align:-2px}
svg.brief{display:none}
.legend span{display:inline-block;white-space:nowrap;margin-right:16px}
text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:var(--ink)}
text.soft{fill:var(--soft)}
.name{font-weight:600}
.portrait text{font-size:12px}
.halo text,text.halo{paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
.grid{stroke:var(--line);stroke-width:1}
.tick{stroke:var(--soft)}
.array{stroke:var(--ink);stroke-width:1.3;stroke-dasharray:1 3;stroke-linecap:round;fill:none}
.line{stroke:var(--c);stroke-width:2;fill:none;stroke-linejoin:round}
.marker{fill:var(--c)}
.peak{fill:var(--card);stroke:var(--c);stroke-width:2.2}
.mark{stroke:var(--c);stroke-width:2}
.stop{stroke:var(--c);stroke-width:3;fill:none}
.leader{stroke:var(--c);stroke-width:1;fill:none}
.held{fill:var(--c);stroke:none}
.file{fill:var(--c);fill-opacity:.28;stroke:none}
.pss{fill:none;stroke:var(--ink);stroke-width:1.4}
.rss{fill:none;stroke:var(--ink);stroke-width:1.4;stroke-dasharray:5 3}
.frame{overflow-x:auto;border:1px solid var(--line);border-radius:8px;margin-bottom:10px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--line);vertical-align:top}
tbody tr:last-child>*{border-bottom:0}
thead th{font-weight:600;vertical-align:bottom}
th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}
tbody th{font-weight:600;min-width:150px;max-width:340px;overflow-wrap:anywhere}
td{white-space:nowrap}
abbr{text-decoration:underline dotted;text-underline-offset:3px;cursor:help;white-space:nowrap}
dl{display:grid;grid-template-columns:minmax(90px,max-content) 1fr;gap:4px 18px}
dt{font-weight:600;overflow-wrap:anywhere}
dd{margin:0}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:.9rem}
@media screen and (max-width:960px){
table{font-size:.82rem}
th,td{padding:6px 5px}
tbody th{min-width:120px}
}
@media screen and (max-width:640px){
main{padding:16px 12px 32px}
h1{font-size:1.35rem}
svg.wide{display:none}
svg.brief{display:block}
tbody th,thead th:first-child{position:sticky;left:0;background:var(--page);min-width:120px;max-width:150px}
.card{padding:10px}
}
@media print{
@page{size:A4;margin:14mm}
body{font-size:10.5pt}
main{max-width:none;padding:0}
.cards{grid-template-columns:1fr 1fr}
.frame{overflow:visible;border:0}
table{font-size:7.5pt}
th,td{padding:3px 4px}
tbody th{min-width:80px}
.card,tr,figure{break-inside:avoid}
h2,h3,.legend{break-after:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""
