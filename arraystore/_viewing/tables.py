"""Tables of names and values in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from arraystore._common.lazy import lazy
from arraystore._common.wording import flat

if TYPE_CHECKING:
    from rich import console as rich_console
    from rich import table as rich_table
    from rich import text as rich_text
    from rich.console import Console
else:
    rich_console, rich_table, rich_text = lazy("rich.console"), lazy("rich.table"), lazy("rich.text")

_SHOWN_CLASSES = 20
_WIDTH_WITHOUT_TERMINAL = 10_000  # characters; a wrapped line would be two lines for grep


def class_rows(classes: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield one table row that lists the first classes; yield nothing where there are no classes."""
    if classes:
        lines = [f"{number:,}  {flat(name)}" for name, number in [*classes.items()][:_SHOWN_CLASSES]]
        if len(classes) > _SHOWN_CLASSES:
            lines.append(f"and {len(classes) - _SHOWN_CLASSES:,} more")
        yield f"classes ({len(classes):,})", "\n".join(lines)


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print a table of names and values."""
    table = rich_table.Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    # A plain str would be searched for markup, and a class may be called [red].
    for name, value in rows:
        table.add_row(rich_text.Text(name), rich_text.Text(value))
    console().print(table)


def print_table(cells: Sequence[Sequence[str]]) -> None:
    """Print a table of cells, its head first; all columns but the first are numbers."""
    head, *rows = cells
    table = rich_table.Table(box=None, padding=(0, 2, 0, 0))
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left", no_wrap=bool(number), overflow="fold")
    for row in rows:
        table.add_row(*(rich_text.Text(flat(cell)) for cell in row))
    console().print(table)


def console() -> Console:
    """Return the console that tables are printed on."""
    return rich_console.Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL, highlight=False)
