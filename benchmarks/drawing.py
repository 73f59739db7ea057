"""Draws the documents from results: fills in templates, and has the pictures drawn.

A template is Markdown with names in braces: ``{GROUP.NAME}`` is a figure of `figures`, ``{table.NAME}`` a table of
`tables`, ``{command.NAME}`` the command of a benchmark and ``{commands.NAME}`` all of them in a block,
``{question.NAME}`` its question. Whoever wants to say something else edits the template and draws again.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks import pictures, scaling_model
from benchmarks.figures import figures
from benchmarks.results import Results, keep
from benchmarks.suite import BENCHMARKS, FOLDER
from benchmarks.tables import TABLES

TEMPLATES = FOLDER / "templates"
NAME = re.compile(r"\{([a-z0-9_.]+)\}")
CODE = re.compile(r"`[^`]+`")
NO_BREAK = "\x00"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
WIDTH = 120
UNWRAPPED = ("|", "#", "!", "<", "```", "    ")
"""How paragraphs begin that are no prose."""


class Words(Mapping[str, str]):
    """What the names of templates stand for.

    Args:
        results: what all is drawn from.
    """

    def __init__(self, results: Results) -> None:
        self._words = figures(results)
        for name, table in TABLES.items():
            self._words[f"table.{name}"] = table(results)
        for benchmark in BENCHMARKS:
            shown = benchmark.shown()
            self._words[f"question.{benchmark.name}"] = benchmark.question
            self._words[f"command.{benchmark.name}"] = shown[0]
            self._words[f"commands.{benchmark.name}"] = "\n".join(["```sh", *shown, "```"])

    def __getitem__(self, name: str) -> str:
        return self._words[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)


def filled(template: Path, words: Mapping[str, str]) -> str:
    """Return a template with its names replaced, its prose wrapped.

    Raises:
        SystemExit: it has a name that stands for nothing.
    """

    def word(found: re.Match[str]) -> str:
        if found[1] not in words:
            raise SystemExit(
                f"{template.name}: there is nothing called {found[1]!r} in benchmarks/figures.py or tables.py"
            )
        return words[found[1]]

    text = NAME.sub(word, template.read_text(encoding="utf-8"))
    return "\n\n".join(map(wrapped, text.strip().split("\n\n"))) + "\n"


def wrapped(paragraph: str) -> str:
    """Return a paragraph of prose with even lines; anything else as it is."""
    if paragraph.startswith(UNWRAPPED):
        return paragraph
    whole = CODE.sub(lambda code: code[0].replace(" ", NO_BREAK), paragraph)
    lines = textwrap.fill(whole, WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines.replace(NO_BREAK, " ")


def between_marks(text: str, block: str, name: str) -> str:
    """Return a text with what stands between its marks replaced.

    Raises:
        SystemExit: it does not have one pair of marks.
    """
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{name}: the lines {BEGIN} and {END} were expected: between them the figures are drawn")
    return f"{before}{begin}\n{block}\n{end}{after}"


def scaling(results: Results) -> str:
    """Return the page of what larger machines and more images would take.

    Raises:
        SystemExit: results are missing.
    """
    try:
        return scaling_model.page(results.by_name())
    except scaling_model.MissingResultError as error:
        raise SystemExit(f"{results.folder}: {error}") from None


def draw(docs: Path, measured: Path | None = None) -> list[Path]:
    """Draw all documents and pictures from the results that are kept with them.

    Args:
        docs: a folder: gets ``benchmarks.md``, ``scaling.md`` and ``pictures/``; has the results in ``results/``. In a
            README.md beside it, what stands between the marks is replaced.
        measured: the folder of new results, which are first kept in ``docs/results``; None draws those that are there.

    Returns:
        The files of text that were written.

    Raises:
        SystemExit: results are missing, or a template has an unknown name.
    """
    if measured is not None:
        keep(measured, docs / "results")
    results = Results(docs / "results")
    words = Words(results)
    texts = {
        docs / "benchmarks.md": filled(TEMPLATES / "benchmarks.md", words),
        docs / "scaling.md": scaling(results),
    }
    readme = docs.parent / "README.md"
    if readme.exists():
        block = filled(TEMPLATES / "readme.md", words)
        texts[readme] = between_marks(readme.read_text(encoding="utf-8"), block, readme.name)
    pictures.draw(results, docs / "pictures")
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)
