from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support import memory_reports

from arraystore import SpecError
from arraystore._common.lazy import framework
from arraystore.memory import MemoryReport
from arraystore.memory.measurement import Curve, Mark, Measurement
from arraystore.memory.showing import page, plot, table, words

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


def reports(calls: int) -> st.SearchStrategy[MemoryReport]:
    return st.builds(
        MemoryReport,
        title=texts,
        measurements=st.lists(measurements, max_size=calls).map(tuple),
        array_bytes=st.none() | counts,
        machine=st.dictionaries(texts, texts, max_size=3),
        command=texts,
    )


@given(reports(4))
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


@given(reports(2))  # each call has a picture of its own, which takes long
@settings(max_examples=3)
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
    assert words.short_number(value) == text


def test_the_result_in_words() -> None:
    report = memory_reports.report()
    assert words.headline(report) == (
        "Highest peak: list + np.vstack, 3.71 GiB, 2.02 × its array; "
        "lowest: arraystore, HDF5, 95.0 MiB, 0.05 × its array."
    )
    assert words.headline(ODD["no array"]) == "Highest peak: arraystore, RAM, 1.90 GiB; lowest: memmap, 95.0 MiB."
    assert words.headline(ODD["an array of its own"]).endswith("; lowest: grows, 80.0 MiB, 8.89 × its array.")
    assert words.headline(ODD["failed"]).startswith("Highest peak: fails, 300 MiB, 0.16 × its array (failed).")
    assert words.headline(ODD["only skipped"]) == "Nothing was measured."
    small = words.headline(replace(report, array_bytes=190 * MIB))
    assert small.endswith(" The array is small beside the 40.0 MiB of a process at its start: compare larger arrays.")
    assert "small" not in words.headline(replace(report, array_bytes=200 * MIB))


def test_how_it_was_measured_in_words() -> None:
    lines = list(words.reading_lines(memory_reports.report()))
    assert lines == [
        f"{memory_reports.METHOD}.",
        "Each call ran in a new interpreter.",
        "The system itself recorded the RSS peak of 6 of 6 calls: the readings differ from it by at most 0.8%.",
        "3,240 readings took at most 0.6% of one core.",
    ]
    curve = memory_reports.curve(1.0, lambda _: 9 * MIB)
    here = memory_reports.measured("me", 1.0, curve, start="here", kernel_peak_bytes=None)
    lines = list(words.reading_lines(memory_reports.report(here, memory_reports.ram())))
    assert "me ran in the calling process, whose memory at the start is counted." in lines
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
    assert "Measure again: arraystore profile photos --size 256 --count 10000 --limit 2GB" in lines


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
        assert picture.get("role") == "img"
        assert picture[0].tag == "title"
        assert not re.search(r"\b(nan|inf)\b", " ".join(str(path.get("d")) for path in picture.iter("path")))
    ids = [attributes["id"] for _, attributes in parser.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    return parser.seen


@cache
def page_of(name: str) -> str:
    """The page of one of the reports. To draw it takes seconds, so the tests share it."""
    return EVERY[name].to_html()


def pictures(text: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


@pytest.mark.parametrize("name", EVERY)
def test_the_page_is_well_formed_and_needs_nothing_else(name: str) -> None:
    text = page_of(name)
    seen = assert_well_formed(text)
    assert re.search(r"https?:|//|url\((?!#)|@import|javascript:", text) is None
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & {tag for tag, _ in seen}
    for tag, attributes in seen:
        assert not [key for key in attributes if key.startswith("on") or key in ("src", "xlink:href")]
        assert str(attributes.get("href", "#")).startswith("#")
        assert tag != "th" or attributes["scope"] in ("col", "row")
    assert "default-src 'none'" in text


# What a program may have set for pictures of its own.
LOOKS = {"lines.linewidth": 9, "font.size": 30, "axes.facecolor": "red", "savefig.bbox": "tight"}


def test_a_page_depends_on_the_report_alone() -> None:
    expected = page_of("failed")
    with framework("matplotlib").rc_context(LOOKS):
        assert EVERY["failed"].to_html() == expected


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
    assert page._escaped(evil) in text


def test_the_page_tells_everything() -> None:
    report = memory_reports.report()
    text = page_of("realistic")
    facts = [report.title, words.headline(report), report.command, *report.machine.values(), *words.endings(report)]
    facts += [each.note for each in report.measurements] + [each.name for each in report.measurements]
    facts += [*words.reading_lines(report), *words.GLOSSARY, *words.GLOSSARY.values()]
    for fact in facts:
        assert page._escaped(fact) in text
    assert "np.vstack from 19.6 s" in text
    assert [each.get("class") for each in pictures(text)] == ["wide", "brief", *["portrait"] * 6]


def test_the_page_tells_how_each_call_was_measured() -> None:
    call = memory_reports.ram()
    other = replace(call, name="forked", kernel_peak_bytes=None, readings=1234, processes=3, sampler_cpu_s=0.0)
    text = memory_reports.report(call, memory_reports.skipped(), other).to_html()
    section = text[text.index("<h2>How it was measured") :]
    rows = [re.sub(r"<[^>]+>", "|", row) for row in re.findall("<tr>.*?</tr>", section)]
    heads, first, second = ([cell.strip() for cell in row.split("|") if cell.strip()] for row in rows)
    assert heads[:4] == ["call", "readings", "their cost", "% of a core"]
    assert heads[4:] == ["processes", "memory at the start", "RSS peak recorded by the system"]
    assert first[1:] == [call.name, "600", "0.60", "1", "40.0 MiB", words.size(call.kernel_peak_bytes or 0)]
    assert second[1:] == ["forked", "1,234", "0.00", "3", "40.0 MiB", words.MISSING]


def test_pictures_of_the_page_follow_its_colors() -> None:
    wide, _, portrait, *_ = pictures(page_of("realistic"))
    for picture in (wide, portrait):
        styles = " ".join(str(each.get("style")) for each in picture.iter())
        assert {"var(--ink)", "var(--soft)", "var(--line)"} <= set(re.findall(r"var\(--\w+\)", styles))
        assert not {plot.INK, plot.SOFT, plot.LINE, plot.CARD, "#ffffff"} & set(re.findall(r"#\w{6}", styles))
    uses = [each.get("href", "")[1:] for each in wide.iter("use")]
    assert set(uses) <= {each.get("id") for each in wide.iter()}
    assert len(uses) > 10


def test_a_name_that_looks_like_a_color_or_an_id_stays() -> None:
    name = f'{plot.INK} id="x" url(#y)'
    call = memory_reports.measured(name, 1.0, memory_reports.curve(1.0, lambda _: 9 * MIB))
    wide, *_ = pictures(memory_reports.report(call).to_html())
    assert name in "".join(wide.itertext())


def test_texts_are_legible_in_light_and_dark() -> None:
    """Contrast as WCAG counts it: 4.5 for text."""

    def luminance(color: str) -> float:
        digits = color * 2 if len(color) == 3 else color
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light_sheet, dark_sheet, *_ = re.findall(r":root{[^}]*}", page._STYLE)
    for sheet in (light_sheet, dark_sheet):
        colors = dict(re.findall(r"--(\w+):#(\w+)", sheet))
        for front in ("ink", "soft", "bad"):
            for back in ("page", "card"):
                light, dark = sorted((luminance(colors[front]), luminance(colors[back])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, back)


# --- the picture -----------------------------------------------------------------------------------------------------


def colors_in(path: Path) -> set[str]:
    pixels = cv2.imread(str(path))
    packed = np.unique(pixels.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32))
    return {f"#{int(value):06x}" for value in packed}


def test_a_png_shows_every_call_in_its_color(tmp_path: Path) -> None:
    curves = [memory_reports.curve(4.0, lambda share, at=at: 50 * MIB * (at + share)) for at in range(7)]
    report = memory_reports.report(
        *(memory_reports.measured(f"call {at}", 4.0, each) for at, each in enumerate(curves))
    )
    report.plot(tmp_path / "out.png")
    found = colors_in(tmp_path / "out.png")
    assert set(plot.PALETTE) <= found
    ODD["one"].plot(str(tmp_path / "one.PNG"))
    assert plot.PALETTE[0] in colors_in(tmp_path / "one.PNG")
    assert plot.PALETTE[1] not in colors_in(tmp_path / "one.PNG")


def drawn(name: str) -> str:
    with TemporaryDirectory() as folder:
        EVERY[name].plot(Path(folder, "out.svg"))
        return Path(folder, "out.svg").read_text("utf-8")


drawn_once = cache(drawn)


@pytest.mark.parametrize("name", ["realistic", "failed", "only skipped", "twelve"])  # others are drawn for the page
def test_every_report_can_be_drawn(name: str) -> None:
    shown = "".join(ET.fromstring(drawn_once(name)).itertext())
    assert EVERY[name].title in shown
    for each in EVERY[name].measurements:
        if len(each.name) < 18:
            assert each.name.replace("\n", "\\n") in shown
        if each.outcome == "skipped":
            assert f"{each.name} (skipped): {each.reason}" in shown


def test_a_picture_depends_on_the_report_alone(tmp_path: Path) -> None:
    mpl = framework("matplotlib")
    first = drawn_once("failed")
    with mpl.rc_context(LOOKS):
        before = dict(mpl.rcParams)
        assert drawn("failed") == first
        assert dict(mpl.rcParams) == before
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
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=400
    )
    return result.stdout


def test_without_matplotlib_the_table_is_left(tmp_path: Path) -> None:
    path = str(tmp_path / "out.png")
    output = subprocess_output(
        "import sys; sys.modules['matplotlib'] = None\n"
        "from support import memory_reports\n"
        "from arraystore import MissingExtraError\n"
        "report = memory_reports.report()\n"
        "report.print()\n"
        f"for show in (lambda: report.plot({path!r}), report.to_html):\n"
        "    try: show()\n"
        "    except MissingExtraError as error: print(error)\n"
    )
    assert output.splitlines()[-2:] == ["matplotlib is not installed; pip install 'arraystore[plot]'"] * 2
    assert not Path(path).exists()


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    output = subprocess_output(
        "import sys\nfrom support import memory_reports\n"
        f"memory_reports.odd()['one reading'].plot({str(tmp_path / 'out.svg')!r})\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)\n"
    )
    assert output == "True False\n"


# --- what the picture says -------------------------------------------------------------------------------------------


@cache
def boxes_in(name: str) -> dict[str, Any]:
    return boxes_of(EVERY[name])


def boxes_of(report: MemoryReport, *, brief: bool = False) -> dict[str, Any]:
    """The labels of the curves, and the space that each takes in pixels."""
    extent = framework("matplotlib.text").Text.get_window_extent
    with plot._figure(11.5, 5) as figure:
        axes = figure.subplots()
        plot._draw_curves(figure, axes, report, brief=brief)
        figure.draw_without_rendering()
        frame = axes.get_window_extent()
        found = {}
        for text in axes.texts:
            box = extent(text)
            assert frame.x0 <= box.x0
            assert box.x1 <= frame.x1
            assert frame.y0 <= box.y0
            assert box.y1 <= frame.y1
            found[text.get_text()] = box
        return found


@pytest.mark.parametrize("name", EVERY)
def test_every_peak_has_its_label_and_no_label_lies_on_another(name: str) -> None:
    found = boxes_in(name)
    for each in EVERY[name].measurements:
        if each.curve.seconds:
            assert any(text.startswith(words.shorten(each.name, 34)) for text in found)
    boxes = list(found.values())
    for index, box in enumerate(boxes):
        assert box.count_overlaps(boxes[index + 1 :]) == 0


def test_what_the_labels_say() -> None:
    said = set(boxes_in("realistic"))
    assert {"the array, 1.83 GiB", "twice the array", "np.vstack", "np.stack"} <= said
    assert "list + np.vstack\n3.71 GiB, 2.02× its array" in said
    reason = "it went beyond the limit of 2.00 GB with 1,…"
    assert f"np.append, image by image\nkilled at 1.89 GiB, 1.03× its array\n{reason}" in said
    assert "decoding" not in said, "it began with the call"
    assert "twice the array" not in boxes_in("one")
    assert "twice the array" not in boxes_in("tiny array")
    assert not any("the array" in text for text in boxes_in("no array"))
    brief = set(boxes_of(memory_reports.report(), brief=True))
    assert "np.append, image…: 1.03×" in brief
    assert "np.vstack" not in brief


def test_many_marks_are_not_labeled() -> None:
    curve = memory_reports.curve(9.0, lambda share: MIB * share)
    marks = tuple(Mark(float(second), f"phase {second}") for second in range(1, 9))
    few = memory_reports.report(memory_reports.measured("x", 9.0, curve, marks=marks), array_bytes=None)
    assert len(boxes_of(few)) == 9
    more = memory_reports.measured("x", 9.0, curve, marks=(*marks, Mark(8.5, "one more")))
    assert len(boxes_of(memory_reports.report(more, array_bytes=None))) == 1


@given(curves(least=1), st.integers(1, 9))
def test_thinning_loses_no_peak_and_not_the_end(curve: Curve, columns: int) -> None:
    kept = list(plot.thin(curve.seconds, curve.rss, columns))
    assert kept == sorted(set(kept))
    assert len(kept) <= 3 * (columns + 1)
    assert kept[-1] == len(curve.seconds) - 1
    assert max(curve.rss[at] for at in kept) == max(curve.rss)
    assert min(curve.rss[at] for at in kept) == min(curve.rss)


@pytest.mark.parametrize(("seconds", "unit"), [(0.5, "s"), (599, "s"), (601, "min"), (7199, "min"), (7201, "h")])
def test_units_of_time(seconds: float, unit: str) -> None:
    with plot._figure(5, 5) as figure:
        axes = figure.subplots()
        plot._prepare(axes, seconds, MIB, ticks=5)
        assert (axes.get_xlabel(), axes.get_ylabel()) == (unit, "MiB")


def test_looks_differ() -> None:
    looks = [plot._look(index) for index in range(35)]
    assert len({(each["color"], each["marker"]) for each in looks}) == 35
    for first, second in pairwise(looks):
        for key in ("color", "marker", "linestyle"):
            assert first[key] != second[key]


def test_check_draws_nothing(tmp_path: Path) -> None:
    plot.check(tmp_path / "out.svg")
    assert list(tmp_path.iterdir()) == []
