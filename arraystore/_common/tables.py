"""TODO."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from arraystore._common.wording import flat

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["class_rows", "console", "print_rows"]

_SHOWN_CLASSES = 20


def class_rows(classes: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the row of a table that lists classes, the first ones of many; or none where there are no classes."""
    if classes:
        lines = [f"{number:,}  {flat(name)}" for name, number in [*classes.items()][:_SHOWN_CLASSES]]
        if len(classes) > _SHOWN_CLASSES:
            lines.append(f"and {len(classes) - _SHOWN_CLASSES:,} more")
        yield f"classes ({len(classes):,})", "\n".join(lines)


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


def console() -> Console:
    """Return the console that tables are printed on: as wide as the terminal, or without end where there is none."""
    from rich.console import Console as RichConsole  # noqa: PLC0415 - only where a table is printed

    # Where there is no terminal there is no width to keep to: a wrapped line would be two for grep.
    return RichConsole(width=None if sys.stdout.isatty() else 10_000, highlight=False)
