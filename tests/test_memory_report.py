from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import matplotlib as mpl
import memory_reports
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from arraystore import SpecError
from arraystore.memory import chart, page, placement, plot, svg, table, words
from arraystore.memory.report import Curve, Mark, Measurement, MemoryReport

ODD = memory_reports.odd()
EVERY = {"realistic": memory_reports.report(), **ODD}
MIB = memory_reports.MIB

# --- the report itself -----------------------------------------------------------------------------------------------

counts = st.integers(0, 1 << 50)
seconds = st.floats(0, 1e6)
texts = st.text(max_size=20)


@st.composite
def curves(draw: st.DrawFn, *, least: int = 0) -> Curve:
    length = draw(st.integers(least, 5))
    times = sorted(draw(st.lists(seconds, min_size=length, max_size=length)))
    columns = [tuple(draw(st.lists(counts, min_size=length, max_size=length))) for _ in range(5)]
    return Curve(tuple(times), *columns)


measurements = st.builds(
    Measurement,
    name=texts,
    outcome=st.sampled_from(["finished", "failed", "killed", "skipped"]),
    reason=texts,
    wall_s=seconds,
    cpu_s=seconds,
    disk_bytes=st.none() | counts,
    curve=curves(),
    marks=st.lists(st.builds(Mark, seconds, texts), max_size=3).map(tuple),
    start=st.sampled_from(["fresh", "forked", "here"]),
    start_bytes=counts,
    kernel_peak_bytes=st.none() | counts,
    processes=st.integers(1, 9),
    readings=st.integers(0, 9),
    sampler_cpu_s=seconds,
    method=texts,
    note=texts,
    array_bytes=st.none() | counts,
)
reports = st.builds(
    MemoryReport,
    title=texts,
    measurements=st.lists(measurements, max_size=4).map(tuple),
    array_bytes=st.none() | counts,
    machine=st.dictionaries(texts, texts, max_size=3),
    command=texts,
)


@given(reports)
@settings(max_examples=60)
def test_json_brings_a_report_back_whole(report: MemoryReport) -> None:
    assert MemoryReport.from_json(report.to_json()) == report


@pytest.mark.parametrize("text", ["[]", "{}", '{"version": 2, "title": "later"}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a memory report of version 1"):
        MemoryReport.from_json(text)


def test_a_peak_held_counts_shared_memory_where_both_were() -> None:
    curve = Curve((0.0, 1.0), anonymous=(5, 3), file=(0, 0), shmem=(0, 4), pss=(5, 7), rss=(5, 7))
    measurement = Measurement("x", "finished", curve=curve)
    assert (measurement.peak(), measurement.peak("held"), curve.held) == (5, 7, (5, 7))


@given(reports)
@settings(max_examples=40)
def test_every_report_can_be_shown(report: MemoryReport) -> None:
    assert_well_formed(report.to_html())
    assert printed(report, 80)


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 KiB"), (512, "0.50 KiB"), (92 * MIB, "92.0 MiB"), (1_966_080_000, "1.83 GiB"), (1 << 52, "4,096 TiB")],
)
def test_sizes_are_in_binary_units(value: int, text: str) -> None:
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.052, "0.05"), (2.019, "2.02"), (9.996, "10.0"), (99.96, "100"), (1234.5, "1,234")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert words.figure(value) == text


def test_the_result_in_words() -> None:
    assert words.headline(memory_reports.report()) == (
        "list + np.vstack peaked at 2.02 times the array; list + np.stack at 2.02; arraystore, RAM at 1.04; "
        "np.append, image by image was killed at 1.03; arraystore, .npy at 0.05; arraystore, HDF5 at 0.05."
    )
    assert words.headline(ODD["no array"]) == "arraystore, RAM peaked at 1.90 GiB; memmap at 95.0 MiB."
    assert words.headline(ODD["an array of its own"]).endswith("; grows at 8.89 times its own array of 9.00 MiB.")
    assert words.headline(ODD["failed"]) == "fails failed at 0.16 times the array."
    assert words.headline(ODD["only skipped"]) == "Nothing was measured."
    whole = memory_reports.report()
    small = words.headline(replace(whole, array_bytes=190 * memory_reports.MIB))
    assert small.endswith(
        " The array is small beside the 40.0 MiB that a process holds when it begins: compare larger ones."
    )
    assert "small" not in words.headline(replace(whole, array_bytes=200 * memory_reports.MIB))
    many = words.headline(ODD["twelve"])
    assert many.startswith("Of 12 calls, $x_1$ and _hidden 10 peaked at 0.85 times the array, the highest peak; xxx")
    assert many.endswith("at 0.05, the lowest.")


def test_how_it_was_measured_in_words() -> None:
    lines = list(words.reading_lines(memory_reports.report()))
    assert lines == [
        f"{memory_reports.METHOD}.",
        "Each call ran in a new interpreter.",
        "Of RSS the system itself keeps the peak, here for 6 of 6 calls: the readings' own is at most 0.8% away.",
        "3,240 readings took at most 0.6% of one core.",
    ]
    curve = memory_reports.curve(1.0, lambda _: 9 * MIB)
    here = memory_reports.measured("me", 1.0, curve, start="here", kernel_peak_bytes=None)
    lines = list(words.reading_lines(memory_reports.report(here, memory_reports.ram())))
    assert "me ran in the calling process, whose memory at the beginning is counted." in lines
    assert "arraystore, RAM ran in a new interpreter." in lines


# --- the table -------------------------------------------------------------------------------------------------------


def printed(report: MemoryReport, width: int) -> str:
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "console", lambda: Console(file=out, width=width, highlight=False))
        report.print()
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", EVERY)
def test_the_table_keeps_to_the_width(name: str, width: int) -> None:
    text = printed(EVERY[name], width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert not set("│┃━─…") & set(text.replace("xxx…", ""))  # nothing is framed, and no cell is cut


def test_the_table_at_200_columns() -> None:
    lines = printed(memory_reports.report(), 200).splitlines()
    heads = "outcome anonymous MiB × array PSS MiB file-backed MiB RSS MiB wall s CPU s disk MiB × array"
    rows = {line[:28].strip(): line[28:].split() for line in lines[4:12]}
    assert rows[""] == heads.split()
    assert " ".join(rows["list + np.vstack"]) == "finished 3,794 2.02 3,826 45 3,870 22.3 40.1 – –"
    assert " ".join(rows["arraystore, .npy"]) == "finished 95 0.05 1,311 1,738 1,847 11.0 19.8 1,875 1.00"
    assert rows["list + np.stack as float32"] == ["skipped", *"–––––––––"]
    assert lines[0] == "10,000 images (143, repeated) as 3×256×256 uint8"
    assert lines[1] == "The array takes 1.83 GiB (1,966,080,000 bytes)."
    assert (
        "np.append, image by image (killed): it went beyond the limit of 2.00 GB with 1,204 of 10,000 images read"
        in lines
    )
    assert "Again: arraystore profile photos --size 256 --count 10000 --limit 2GB" in lines


def test_the_table_at_80_columns() -> None:
    text = printed(memory_reports.report(), 80)
    assert "\nlist + np.vstack            3,794  2.02 3,826     45 3,870 22.3 40.1     –     –\n" in text
    assert re.search(r"\nnp.append, image by  +1,935.*\nimage *\nkilled *\n", text)
    assert "file-backed: pages of files" in text.replace("\n", " ")


def test_a_table_without_a_terminal_has_a_line_a_call(capsys: pytest.CaptureFixture[str]) -> None:
    ODD["twelve"].print()
    text = capsys.readouterr().out
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if " finished " in line]
    assert len(rows) == 12
    assert rows[3].startswith("[red]a & b[/red] 3 ")
    assert rows[5].startswith(r"a\nb 5 ")


# --- the page --------------------------------------------------------------------------------------------------------


class Nesting(HTMLParser):
    """Every element is closed by its own name."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_well_formed(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Nesting()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    for picture in pictures(text):
        names = [child.tag for child in picture]
        assert picture.get("aria-hidden") == "true" or (picture.get("role") == "img" and names[0] == "title")
        numbers = re.findall(r"-?[\d.]+(?:e[+-]\d+)?|nan|inf", ET.tostring(picture, "unicode"))
        assert not {"nan", "inf"} & set(numbers)
    return parser.seen


def pictures(text: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]  # noqa: S314 - our own


@pytest.mark.parametrize("name", EVERY)
def test_the_page_is_well_formed_and_needs_nothing_else(name: str) -> None:
    text = EVERY[name].to_html()
    seen = assert_well_formed(text)
    assert text == EVERY[name].to_html()
    assert re.search(r"https?:|//|url\(|@import|javascript:", text) is None
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in seen}
    for tag, attributes in seen:
        assert not [key for key in attributes if key.startswith("on") or key in ("src", "href", "style")]
        assert tag != "th" or attributes["scope"] in ("col", "row")
    assert "default-src 'none'" in text


def test_nothing_in_a_report_is_taken_for_markup() -> None:
    evil = "</title></style><script>alert(1)</script>\"'&<b>"
    curve = memory_reports.curve(1.0, lambda _: 9 * MIB)
    call = memory_reports.measured(
        evil, 1.0, curve, note=evil, method=evil, reason=evil, outcome="failed", marks=(Mark(0.5, evil),)
    )
    text = memory_reports.report(call, title=evil, machine={evil: evil}, command=evil).to_html()
    assert "<script" not in text
    assert "<b>" not in text
    assert text.count("</style>") == 1
    assert_well_formed(text)
    assert svg.escaped(evil) in text


def test_the_page_tells_everything() -> None:
    report = memory_reports.report()
    text = report.to_html()
    facts = [report.title, words.headline(report), report.command, *report.machine.values(), *words.endings(report)]
    facts += [each.note for each in report.measurements] + [each.name for each in report.measurements]
    facts += [*words.reading_lines(report), *words.GLOSSARY, *words.GLOSSARY.values()]
    for fact in facts:
        assert svg.escaped(fact) in text
    assert "np.vstack from 19.6 s" in text
    portraits = [each for each in pictures(text) if each.get("class") == "portrait"]
    assert len(portraits) == 6
    kinds = {path.get("class") for path in portraits[0].iter("path")}
    assert kinds == {"held", "file", "pss", "rss"}


def test_texts_are_legible_in_light_and_dark() -> None:
    """Contrast as WCAG counts it: 4.5 for text."""

    def luminance(color: str) -> float:
        digits = color * 2 if len(color) == 3 else color
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for sheet in (page._STYLE, page._DARK):
        colors = dict(re.findall(r"--(\w+):#(\w+)", sheet))
        for front in ("ink", "soft", "bad"):
            for back in ("page", "card"):
                light, dark = sorted((luminance(colors[front]), luminance(colors[back])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)


# --- the picture -----------------------------------------------------------------------------------------------------


def colors_in(path: Path) -> set[str]:
    pixels = cv2.imread(str(path))
    packed = np.unique(pixels.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32))
    return {f"#{int(value):06X}" for value in packed}


def test_a_png_shows_every_call_in_its_color(tmp_path: Path) -> None:
    curves = [memory_reports.curve(4.0, lambda share, at=at: 50 * MIB * (at + share)) for at in range(7)]
    report = memory_reports.report(
        *(memory_reports.measured(f"call {at}", 4.0, each) for at, each in enumerate(curves))
    )
    report.plot(tmp_path / "out.png")
    found = colors_in(tmp_path / "out.png")
    assert set(chart.PALETTE) <= found
    ODD["one"].plot(str(tmp_path / "one.PNG"))
    assert chart.PALETTE[0] in colors_in(tmp_path / "one.PNG")
    assert chart.PALETTE[1] not in colors_in(tmp_path / "one.PNG")


def drawn(report: MemoryReport, path: Path) -> str:
    report.plot(path)
    return path.read_text("utf-8")


@pytest.mark.parametrize("name", EVERY)
def test_every_report_can_be_drawn(name: str, tmp_path: Path) -> None:
    text = drawn(EVERY[name], tmp_path / "out.svg")
    shown = "".join(ET.fromstring(text).itertext())  # noqa: S314 - our own
    assert EVERY[name].title in shown
    for each in EVERY[name].measurements:
        if len(each.name) < 20:
            assert each.name.replace("\n", "\\n") in shown
        if each.outcome == "skipped":
            assert f"{each.name} (skipped): {each.reason}" in shown


def test_a_picture_depends_on_the_report_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    first = drawn(ODD["failed"], tmp_path / "first.svg")
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        assert drawn(ODD["failed"], tmp_path / "second.svg") == first
    for suffix in ("png", "pdf"):
        files = [tmp_path / f"{number}.{suffix}" for number in range(2)]
        for file in files:
            ODD["one reading"].plot(file)
        assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("name", ["out.gif", "out", "out.png.txt"])
def test_a_suffix_that_names_no_format(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(SpecError) as caught:
        memory_reports.report().plot(path)
    assert str(caught.value) == (
        f"{path} cannot be drawn: its suffix must be one of .pdf, .png, .svg, and not {path.suffix!r}"
    )
    assert not path.exists()


def subprocess_output(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout


def test_without_matplotlib_all_but_the_picture_works(tmp_path: Path) -> None:
    path = str(tmp_path / "out.png")
    output = subprocess_output(
        "import sys; sys.modules['matplotlib'] = None\n"
        "import memory_reports\n"
        "from arraystore import MissingExtraError\n"
        "report = memory_reports.report()\n"
        "report.to_html(); report.print()\n"
        f"try: report.plot({path!r})\n"
        "except MissingExtraError as error: print(error)\n"
    )
    assert output.splitlines()[-1] == "matplotlib is not installed; pip install 'arraystore[plot]'"
    assert not Path(path).exists()


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    output = subprocess_output(
        f"import sys, memory_reports\nmemory_reports.odd()['one'].plot({str(tmp_path / 'out.svg')!r})\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)\n"
    )
    assert output == "True False\n"


# --- layout ----------------------------------------------------------------------------------------------------------

PAPER = chart.Paper(800, 400, 16, lambda text: 7.5 * len(text))


def inside(box: placement.Box, paper: chart.Paper) -> bool:
    return 0 <= box.x <= paper.width - box.width + 0.01 and -0.01 <= box.y <= paper.height - box.height + 0.01


@given(
    st.lists(
        st.tuples(st.tuples(st.floats(0, 300), st.floats(0, 200)), st.floats(5, 120), st.floats(5, 40)), max_size=9
    ),
    st.lists(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 200)), max_size=4), max_size=3),
)
@settings(max_examples=60)
def test_labels_never_overlap_and_never_leave_the_picture(
    labels: list[tuple[placement.Point, float, float]], curves: list[list[placement.Point]]
) -> None:
    taken = placement.Box(0, 0, 90, 20)
    boxes = placement.place(labels, width=300, height=200, taken=[taken], curves=curves)
    placed = [box for box in boxes if box is not None]
    for box in placed:
        assert inside(box, chart.Paper(300, 200, 16, len))
    for one, other in combinations([taken, *placed], 2):
        assert not one.meets(other)
    assert boxes == placement.place(labels, width=300, height=200, taken=[taken], curves=curves)


def test_a_label_stands_beside_its_point_and_off_the_curve() -> None:
    (box,) = placement.place([((150, 100), 60, 16)], width=300, height=200, curves=[[(0, 100), (300, 100)]])
    assert box is not None
    assert 4 <= abs(box.nearest((150, 100))[1] - 100) <= 10
    assert placement.place([((5, 5), 60, 16)], width=50, height=200) == [None]
    first, second = placement.place([((150, 100), 60, 16)] * 2, width=300, height=200)
    assert first is not None
    assert second is not None
    assert not first.meets(second)


@pytest.mark.parametrize("name", EVERY)
def test_every_peak_has_its_label(name: str) -> None:
    laid = chart.lay_out(EVERY[name], PAPER)
    named = [label.index for label in laid.labels if label.symbol_px]
    assert sorted(named) == [at for at, each in enumerate(EVERY[name].measurements) if each.curve.seconds]
    boxes = [label.box for label in laid.labels] + [rule.box for rule in laid.rules]
    assert not any(one.meets(other) for one, other in combinations(boxes, 2))
    assert all(inside(box, PAPER) for box in boxes)


def test_levels_and_what_labels_say() -> None:
    laid = chart.lay_out(memory_reports.report(), PAPER)
    assert [rule.text for rule in laid.rules] == ["the array, 1.83 GiB", "twice the array"]
    assert laid.y_px(memory_reports.ARRAY_BYTES) == laid.rules[0].y
    said = {label.lines for label in laid.labels}
    assert ("list + np.vstack", "3.71 GiB, 2.02× the array") in said
    assert (
        "np.append, image by image",
        "killed at 1.89 GiB, 1.03× the array",
        "it went beyond the limit of 2.00 GB with 1,…",
    ) in said
    assert ("np.vstack",) in said
    assert ("decoding",) not in said, "it began with the call"
    stopped = [series.index for series in laid.series if series.stop]
    assert stopped == [2]
    assert [rule.text for rule in chart.lay_out(ODD["one"], PAPER).rules] == ["the array, 1.83 GiB"]
    assert [rule.text for rule in chart.lay_out(ODD["tiny array"], PAPER).rules] == ["the array, 1.00 MiB"]
    assert chart.lay_out(ODD["no array"], PAPER).rules == ()
    brief = chart.lay_out(memory_reports.report(), PAPER, brief=True)
    assert ("np.append, image…: 1.03×",) in {label.lines for label in brief.labels}


def test_many_marks_are_not_labeled() -> None:
    curve = memory_reports.curve(9.0, lambda share: MIB * share)
    marks = tuple(Mark(float(second), f"phase {second}") for second in range(1, 9))
    few = memory_reports.report(memory_reports.measured("x", 9.0, curve, marks=marks))
    assert len(chart.lay_out(few, PAPER).labels) == 9
    many = memory_reports.report(memory_reports.measured("x", 9.0, curve, marks=(*marks, Mark(8.5, "one more"))))
    assert len(chart.lay_out(many, PAPER).labels) == 1


@given(curves(least=1), st.integers(1, 9))
def test_thinning_loses_no_peak_and_not_the_end(curve: Curve, columns: int) -> None:
    kept = list(chart.thin(curve.seconds, curve.rss, limit_s=curve.seconds[-1] + 1, columns=columns))
    assert kept == sorted(set(kept))
    assert len(kept) <= 3 * (columns + 1)
    assert kept[-1] == len(curve.seconds) - 1
    assert max(curve.rss[at] for at in kept) == max(curve.rss)
    assert min(curve.rss[at] for at in kept) == min(curve.rss)


@given(st.floats(1e-3, 1e8), st.integers(3, 10))
def test_ticks_are_few_and_begin_at_nothing(limit: float, count: int) -> None:
    for axis in (chart.time_axis(limit, count=count), chart.memory_axis(limit * 1e6, count=count)):
        values = [value for value, _ in axis.ticks]
        assert values[0] == 0
        assert axis.limit / 2 <= values[-1] <= axis.limit * 1.001
        assert len(values) <= count + 1
        assert len({text for _, text in axis.ticks}) == len(values)


def test_units_of_time() -> None:
    titles = [chart.time_axis(value).title.rpartition(" ")[2] for value in (0, 3, 599, 601, 7199, 7201)]
    assert titles == ["s", "s", "s", "min", "min", "h"]


def looks() -> Iterator[tuple[str, str]]:
    for index in range(35):
        chosen = chart.look(index)
        yield chosen.color, chosen.marker


def test_looks_differ() -> None:
    assert len(set(looks())) == 35
    for one, other in zip(range(34), range(1, 35), strict=True):
        first, second = chart.look(one), chart.look(other)
        assert first.color != second.color
        assert first.marker != second.marker
        assert first.dash != second.dash


def test_check_draws_nothing(tmp_path: Path) -> None:
    plot.check(tmp_path / "out.svg")
    assert list(tmp_path.iterdir()) == []
