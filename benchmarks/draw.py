"""Draws the documents from docs/results: fills in templates, and draws the pictures.

A template is Markdown with names in braces: ``{BENCHMARK.NAME}`` is a figure, ``{BENCHMARK.table.NAME}`` a table,
``{BENCHMARK.command}`` its command, ``{BENCHMARK.question}`` its question, and ``{BENCHMARK.machine}`` the processor
that it was measured on; ``{machine.NAME}`` is what most were measured on. To say something else, edit the template and
draw again.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from arraystore import MemoryReport
from benchmarks.common import Row, Rows, markdown
from benchmarks.headline import REPORT
from benchmarks.registry import NAMES, command, load, question

TEMPLATES = Path(__file__).with_name("templates")
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"
WIDTH = 120


def read_results(folder: Path, name: str) -> tuple[Row, Rows]:
    """Return the header and the rows of a benchmark's results.

    Raises:
        SystemExit: there are none.
    """
    path = folder / f"{name}.jsonl"
    if not path.exists():
        raise SystemExit(f"{path}: there are no such results; measure them with  {command(name)} --out {folder}")
    header, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return header, Rows(rows)


def words_of(folder: Path) -> dict[str, str]:
    """Return what the names of templates stand for."""
    words: dict[str, str] = {}
    took_s = 0.0
    for name in NAMES:
        header, rows = read_results(folder, name)
        figures = getattr(load(name), "figures", lambda _rows: {})
        took_s += header["took_s"] if name != "peers" else 0
        words |= {f"{name}.{key}": text for key, text in figures(rows).items()}
        words |= {f"{name}.table.{key}": markdown(table) for key, table in load(name).tables(rows).items()}
        words |= {f"{name}.command": command(name), f"{name}.question": question(name)}
        words[f"{name}.machine"] = "{cores} cores of {cpu}".format(**header["machine"])
    machine = read_results(folder, "build")[0]["machine"]
    words |= {f"machine.{key}": str(value) for key, value in machine.items()}
    words["machine.memory"] = f"{machine['memory_bytes'] / 2**30:,.0f} GiB"
    words["machine.packages"] = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    words["machine.opencv"] = machine["versions"]["opencv-python-headless"]
    return words | {"machine.minutes": f"{took_s / 60:,.0f}"}


def filled(template: str, words: Mapping[str, str]) -> str:
    """Return a template with its names replaced, and its prose wrapped.

    Raises:
        SystemExit: it has a name that stands for nothing.
    """
    unknown = [name for name in re.findall(r"\{([\w.]+)\}", template) if name not in words]
    if unknown:
        raise SystemExit(f"the templates have names that stand for nothing: {', '.join(unknown)}")
    text = re.sub(r"\{([\w.]+)\}", lambda found: words[found[1]], template)
    return "\n\n".join(map(wrapped, text.strip().split("\n\n"))) + "\n"


def wrapped(paragraph: str) -> str:
    """Return a paragraph of prose with even lines, and code in it unbroken; anything else as it is."""
    if paragraph.startswith(("|", "#", "!", "<", "`" * 3, "    ", "- ")):
        return paragraph
    whole = re.sub(r"`[^`]+`", lambda code: code[0].replace(" ", "\x00"), paragraph)
    lines = textwrap.fill(whole, WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\x00", " ")


def draw(docs: Path) -> None:
    """Write all documents and the pictures anew from the results in ``docs/results``.

    Raises:
        SystemExit: results are missing, a template has an unknown name, or README.md lacks the marks of its figures.
    """
    words = words_of(docs / "results")
    for template in sorted(TEMPLATES.glob("*.md")):
        text = filled(template.read_text(encoding="utf-8"), words)
        path = docs / template.name
        if template.name == "readme.md":
            path = docs.parent / "README.md"
            before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
            _, end, after = rest.partition(END)
            if not begin or not end:
                raise SystemExit(f"{path}: the lines {BEGIN.strip()} and {END} were expected, with the figures between")
            text = f"{before}{begin}\n{text}\n{end}{after}"
        path.write_text(text, encoding="utf-8")
    (docs / "pictures").mkdir(exist_ok=True)
    MemoryReport.from_json((docs / "results" / REPORT).read_text(encoding="utf-8")).plot(
        docs / "pictures" / "memory.svg"
    )
    for name in ("encoded", "fill"):
        load(name).picture(read_results(docs / "results", name)[1], docs / "pictures" / f"{name}.svg")
