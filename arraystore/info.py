"""What a store says of itself: as plain values, and as a table for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore.format import FAILED, FORMAT_VERSION, STORED
from arraystore.stores import Store

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "class_rows",
    "console",
    "count_classes",
    "describe",
    "disk_bytes",
    "flat",
    "many",
    "print_facts",
    "print_rows",
    "readable",
]

_SHOWN_CLASSES = 20


def describe(store: Store, path: Path) -> dict[str, Any]:
    """Return what ``info`` says, as plain values."""
    spec = store.spec
    status = np.bincount(store.status, minlength=3)
    stored = store.status == STORED
    facts: dict[str, Any] = {
        "path": str(path),
        "medium": store.medium,
        "shape": list(store.images.shape),
        "layout": spec.layout,
        "colour": spec.colour,
        "fit": spec.fit,
        "filter": spec.filter,
        "background": list(spec.background),
        "exact": spec.exact,
        "image_bytes": int(store.images.nbytes),
        "disk_bytes": disk_bytes(path),
        "stored": int(status[STORED]),
        "failed": int(status[FAILED]),
        "classes": {} if store.labels is None else count_classes(store.labels[stored], store.classes),
        "targets": {
            name: {"dtype": str(target.dtype), "shape": list(target.shape)} for name, target in store.targets.items()
        },
        "mean": [float(value) for value in store.mean],
        "std": [float(value) for value in store.std],
    }
    for side in ("height", "width"):
        sides = np.asarray(store.samples[side])[stored]
        facts[f"source_{side}_px"] = [int(sides.min()), int(sides.max())] if len(sides) else None
    return facts | {"format_version": FORMAT_VERSION, "writer": store.description.writer}


def count_classes(codes: npt.NDArray[Any], names: Sequence[str]) -> dict[str, int]:
    """Return how many of ``codes`` each class has, name → number; a negative code is of no class."""
    if not names:
        return {}
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def class_rows(classes: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the row of a table that lists classes, the first ones of many; or none where there are no classes."""
    if classes:
        lines = [f"{number:,}  {flat(name)}" for name, number in [*classes.items()][:_SHOWN_CLASSES]]
        if len(classes) > _SHOWN_CLASSES:
            lines.append(f"and {len(classes) - _SHOWN_CLASSES:,} more")
        yield f"classes ({len(classes):,})", "\n".join(lines)


def print_facts(facts: dict[str, Any]) -> None:
    """Print what `describe` returned as a table."""
    print_rows(_rows(facts))


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print a table of names and values."""
    from rich.table import Table  # noqa: PLC0415 - only where a table is printed
    from rich.text import Text  # noqa: PLC0415

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    # As Text, because a plain str is searched for markup, and a class may be called [red].
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    console().print(table)


def _rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the rows of the table: a name, and the value as text."""
    count, *slot = facts["shape"]
    yield "store", flat(facts["path"])
    yield "medium", facts["medium"]
    yield "images", f"{count:,} of {' x '.join(map(str, slot))} uint8 ({facts['layout']}, {facts['colour']})"
    yield "bytes", f"{readable(facts['image_bytes'])} of pixels, {readable(facts['disk_bytes'])} on disk"
    yield "status", f"{facts['stored']:,} stored, {facts['failed']:,} failed"
    exact = ", exact" if facts["exact"] else ""
    yield "made by", f"fit {facts['fit']}, filter {facts['filter']}{exact}"
    if facts["fit"] == "pad":
        yield "background", ", ".join(map(str, facts["background"]))
    height, width = facts["source_height_px"], facts["source_width_px"]
    if height and width:
        yield "sources", f"{height[0]:,} to {height[1]:,} px high, {width[0]:,} to {width[1]:,} px wide"
    yield "mean", ", ".join(f"{value:.2f}" for value in facts["mean"])
    yield "std", ", ".join(f"{value:.2f}" for value in facts["std"])
    for name, target in facts["targets"].items():
        yield f"target {flat(name)}", f"{target['dtype']} ({', '.join(map(str, target['shape']))})"
    yield from class_rows(facts["classes"])
    yield "format", f"version {facts['format_version']}, written by {flat(facts['writer'])}"


def console() -> Console:
    """Return the console that tables are printed on: as wide as the terminal, or without end where there is none."""
    from rich.console import Console as RichConsole  # noqa: PLC0415 - only where a table is printed

    # Where there is no terminal there is no width to keep to: a wrapped line would be two for grep.
    return RichConsole(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def flat(text: str) -> str:
    """Return the text on one line: a file name may hold a line break, or worse."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def many(number: int, noun: str) -> str:
    """Return a number with its noun, of which there is one or more."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def disk_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def readable(size_bytes: float) -> str:
    """Return a size in decimal units, as disks are sold and as numpy counts."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.3g} TB"
