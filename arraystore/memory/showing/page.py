"""The report as a page of HTML that needs no other file, no script and no network."""

import html
import re
from collections.abc import Iterable

from arraystore._common.wording import flat
from arraystore.memory.measurement import Measurement, ReportData
from arraystore.memory.showing import words
from arraystore.memory.showing.plot import CARD, INK, LINE, MARKERS, PALETTE, SOFT, curves_svg, portrait_svg

__all__ = ["page"]

_SIGNS = dict(zip(MARKERS, "●■▲◆▼", strict=True))


def page(report: ReportData) -> str:
    """Return the page: the result, the curves, each call by itself, the table, and how it was measured.

    The same report gives the same text. Names and texts of the report are shown as they are, never taken for markup.
    """
    title = _escaped(report.title) or "Memory"
    parts = [f"<h1>{title}</h1>", f'<p class="lead">{_escaped(words.headline(report))}</p>']
    if report.array_bytes:
        parts.append(
            f'<p class="soft">The array takes {words.size(report.array_bytes)} ({report.array_bytes:,} bytes).</p>'
        )
    if report.measurements:
        parts += [_chart(report), _calls(report), _figures(report)]
    parts.append(_method(report))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        # The browser itself refuses to load or run anything.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _escaped(text: str) -> str:
    """Return a text as HTML shows it, on one line."""
    return html.escape(flat(text))


def _chart(report: ReportData) -> str:
    title = f"Anonymous memory over time. {words.headline(report)}"
    pictures = (
        _embedded(curves_svg(report, brief=brief), title, shape, shape)
        for brief, shape in ((False, "wide"), (True, "brief"))
    )
    unfinished = "".join(f"<li>{_escaped(line)}</li>" for line in words.endings(report))
    return (
        f'<h2>Over time</h2><figure class="card">{"".join(pictures)}<figcaption>Anonymous memory is '
        f"{words.GLOSSARY['anonymous']}. A ring is the peak of a call; a cross shows where a call was killed or failed."
        f"<ul>{unfinished}</ul></figcaption></figure>"
    )


def _embedded(svg: str, title: str, shape: str, prefix: str) -> str:
    """Return matplotlib's SVG as an element of the page, with ids of its own and the colors of the style sheet."""
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    changes = {'id="': f'id="{prefix}-', 'xlink:href="#': f'href="#{prefix}-', "url(#": f"url(#{prefix}-"}
    changes |= {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)", CARD: "var(--card)"}

    def changed(tag: re.Match[str]) -> str:
        text = re.sub(r"(\.\d\d)\d+", r"\1", tag[0])  # a hundredth of a point is enough
        for old, new in changes.items():
            text = text.replace(old, new)
        return text

    opening, content = svg.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', opening)
    # Only within tags: a call may have a color or an id as its name.
    content = re.sub(r"<[^>]+>", changed, content).strip()
    return f'<svg {view[0] if view else ""} class="{shape}" role="img"><title>{_escaped(title)}</title>{content}'


def _calls(report: ReportData) -> str:
    peaks = (max(each.peak("pss"), each.peak("rss")) for each in report.measurements)
    limit = 1.05 * max(*peaks, report.array_bytes or 0, 1 << 10)
    kinds = {"held": "anonymous", "file": "file-backed, on top", "pss": "PSS", "rss": "RSS"}
    if any(words.array_of(report, each) for each in report.measurements):
        kinds["array"] = "the array"
    keys = "".join(f'<span><i class="key {kind}"></i>{text}</span>' for kind, text in kinds.items())
    cards = "".join(_card(report, each, index, limit) for index, each in enumerate(report.measurements))
    return (
        '<h2>Each call by itself</h2><p class="legend">All have the same scale of memory; each has its own scale of '
        f'time. {keys}</p><div class="cards">{cards}</div>'
    )


def _card(report: ReportData, measurement: Measurement, index: int, limit_bytes: float) -> str:
    parts = [f"<h3>{_named(measurement, index)}</h3>"]
    if measurement.note:
        parts.append(f"<p>{_escaped(measurement.note)}</p>")
    if measurement.outcome != "finished":
        reason = f": {measurement.reason}" if measurement.reason else ""
        parts.append(f'<p class="bad">{_escaped(measurement.outcome + reason)}</p>')
    if measurement.curve.seconds:
        held, file = words.size(measurement.peak("held")), words.size(measurement.peak("file"))
        peaks = f"peaks: {held} anonymous, {file} file-backed"
        svg = portrait_svg(measurement, index, limit_bytes=limit_bytes, array_bytes=words.array_of(report, measurement))
        parts.append(_embedded(svg, f"{measurement.name}, {peaks}", "portrait", f"call{index}"))
        marks = [f"{_escaped(mark.label)} from {words.short_number(mark.seconds)} s" for mark in measurement.marks]
        parts.append(f'<p class="soft">{"; ".join([peaks, *marks])}</p>')
    elif measurement.outcome == "finished":
        parts.append('<p class="soft">The call ended before the first reading.</p>')
    return f'<article class="card">{"".join(parts)}</article>'


def _named(measurement: Measurement, index: int) -> str:
    sign = _SIGNS[MARKERS[index % len(MARKERS)]]
    return f'<b class="c{index % len(PALETTE)}" aria-hidden="true">{sign}</b> {_escaped(measurement.name)}'


def _figures(report: ReportData) -> str:
    listed = list(words.columns(report))
    terms = {column.heading: f"{words.GLOSSARY[column.heading]}." for column in listed}
    return (
        f"{_table('In figures', enumerate(report.measurements), [_OUTCOME, *listed])}"
        f"<p>Sizes are peaks. {words.MISSING}: none, or not known.</p>"
        f"<h2>What the words mean</h2>{_list(terms.items())}"
    )


def _table(title: str, calls: Iterable[tuple[int, Measurement]], columns: Iterable[words.Column]) -> str:
    """Return a heading, and a table with a row for each call and its index; the cells of the columns are HTML."""
    headings = ("call", *(f"{column.heading} <span>{column.unit}</span>" for column in columns))
    heads = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    rows = []
    for index, each in calls:
        cells = "".join(f"<td>{column.cell(each)}</td>" for column in columns)
        rows.append(f'<tr><th scope="row">{_named(each, index)}</th>{cells}</tr>')
    return (
        f'<h2>{title}</h2><div class="frame" tabindex="0" role="region" aria-label="{title}"><table><thead><tr>'
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


_OUTCOME = words.Column(
    "outcome",
    "",
    lambda each: each.outcome if each.outcome == "finished" else f'<span class="bad">{each.outcome}</span>',
)
_METHOD = (
    words.Column("readings", "", lambda each: f"{each.readings:,}"),
    words.Column("their cost", "% of a core", lambda each: f"{100 * each.sampler_share:.2f}"),
    words.Column("processes", "", lambda each: f"{each.processes:,}"),
    words.Column("memory at the start", "", lambda each: words.size(each.start_bytes)),
    words.Column(
        "RSS peak recorded by the system",
        "",
        lambda each: words.size(each.kernel_peak_bytes) if each.kernel_peak_bytes else words.MISSING,
    ),
)


def _list(texts: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{_escaped(term)}</dt><dd>{_escaped(text)}</dd>' for term, text in texts)}</dl>"


def _method(report: ReportData) -> str:
    parts = []
    measured = [(index, each) for index, each in enumerate(report.measurements) if each.readings]
    if measured:
        lines = "".join(f"<li>{_escaped(line)}</li>" for line in words.reading_lines(report))
        parts.append(f"{_table('How it was measured', measured, _METHOD)}<ul>{lines}</ul>")
    if report.machine:
        parts.append(f"<h2>The machine</h2>{_list(report.machine.items())}")
    if report.command:
        parts.append(f"<h2>Measure it again</h2><pre><code>{_escaped(report.command)}</code></pre>")
    return "".join(parts)


_STYLE = (
    f"""
:root{{--page:#fff;--ink:{INK};--soft:{SOFT};--line:{LINE};--card:{CARD};--bad:#a33f00}}
@media screen and (prefers-color-scheme:dark){{
:root{{--page:#131417;--ink:#ececf0;--soft:#adaeb8;--line:#3b3d45;--card:#1c1d22;--bad:#ffa36b}}
}}
{"".join(f".c{i}{{color:{'var(--ink)' if color == INK else color}}}" for i, color in enumerate(PALETTE))}
"""
    """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1240px;margin:0 auto;padding:24px 20px 48px;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 12px}
h2{font-size:1.2rem;margin:40px 0 12px}
h3{font-size:1rem;margin:0 0 6px}
p,ul,dl{margin:0 0 10px}
ul{padding-left:20px}
p,li,dd{max-width:90ch}
.lead{font-size:1.15rem}
.soft,figcaption,th span{color:var(--soft)}
th span{white-space:nowrap}
.bad{color:var(--bad)}
.card,pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px;margin:0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr));gap:14px}
.cards p,figcaption,dl,pre{font-size:.9rem}
svg{display:block;width:100%;height:auto}
svg *{stroke-linejoin:round}
svg text{font-family:system-ui,-apple-system,"Segoe UI",sans-serif!important}
svg.brief{display:none;max-width:600px;margin:auto}
.legend span{display:inline-block;margin-right:16px}
.key{display:inline-block;width:26px;height:10px;margin-right:7px;background:#0072b2}
.key.file{opacity:.28}
.pss,.rss,.array{height:4px;background:none!important;border-top:2px solid var(--ink)}
.rss{border-top-style:dashed}
.array{border-top-style:dotted}
.frame{overflow-x:auto;border:1px solid var(--line);border-radius:8px;margin-bottom:10px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--line);vertical-align:bottom}
th:first-child{text-align:left;min-width:140px;overflow-wrap:anywhere}
td{white-space:nowrap}
dl{display:grid;grid-template-columns:minmax(90px,max-content) 1fr;gap:4px 18px}
dt{font-weight:600}
dd{margin:0}
pre{white-space:pre-wrap}
@media screen and (max-width:900px){
main{padding:16px 12px}
svg.wide{display:none}
svg.brief{display:block}
.card{padding:10px}
}
@media print{
table{font-size:7.5pt}
.card,tr{break-inside:avoid}
}
"""
)
