"""A table of metadata whose images become smaller: its paths, sizes and coordinates follow, the rest stays as it is."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arraystore._building.presizing.annotations.fields import Fields, NotUnderstoodError
from arraystore._building.presizing.annotations.scaling import OneFile, OutsideError, Smaller, refused
from arraystore._building.presizing.names import Names
from arraystore._sources.tables import column_names, encoding_of, path_column_of
from arraystore.errors import ManifestError, Option

_LIMIT_BYTES = 4 << 30
_LONGEST_CELL = 1 << 24
_TABS, _LINES = ".tsv", ".jsonl"
_SUFFIXES = (".csv", _TABS, _LINES)

Row = dict[str, Any]


class Table(OneFile):
    """A CSV, TSV or JSONL file that lists the images; see `Annotations`.

    Args:
        path: of the file.
        names: of the images that become smaller.
        options: ``root``, ``path_column``, ``suffix`` and ``separator``, as the images were listed with; ``unscaled``.

    Attributes:
        scaled: the names of the columns that are coordinates in pixels.

    Raises:
        ManifestError: it is of another format, or a column is not understood.
    """

    def __init__(self, path: str, names: Names, options: Mapping[str, Any]) -> None:
        self.path = path
        self._kind = Path(path).suffix.lower()
        if self._kind not in _SUFFIXES:
            raise refused(path, "a table of this format cannot be written for the smaller images", "save it as CSV")
        if Path(path).stat().st_size > _LIMIT_BYTES:
            raise refused(path, f"is larger than {_LIMIT_BYTES:,} bytes")
        self._fields = Fields(options["unscaled"])
        self._separator = options["separator"] or ("\t" if self._kind == _TABS else ",")
        self._columns = column_names(path, options["separator"])
        self._image = path_column_of(path, self._columns, options["path_column"])
        self._suffix = options["suffix"]
        self._root = os.fspath(options["root"] or Path(path).absolute().parent)
        self._row_of = {source: row for row, source in enumerate(names.sources)}
        self.scaled: list[str] = []
        found = self._look()
        if found != len(names.sources):
            raise refused(
                path,
                f"{found:,} of its rows name images that become smaller, which are {len(names.sources):,}, so it "
                "cannot be written for them",
            )

    def written(self, name: str, smaller: Mapping[int, Smaller]) -> bytes:
        """See `Annotations`.

        Raises:
            ManifestError: a coordinate lies outside of its image, or a size is not that of its image.
        """
        rows = (
            self._smaller(number, row, smaller[at])
            for number, row, at in self._rows()
            if at is not None and at in smaller
        )
        if self._kind == _LINES:
            return "".join(json.dumps(row) + "\n" for row in rows).encode()
        with io.StringIO(newline="") as text:
            writer = csv.DictWriter(text, self._columns, delimiter=self._separator, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            return text.getvalue().encode()

    def _look(self) -> int:
        """Refuse columns that are not understood before any image is made; return how many rows have an image."""
        found = 0
        for number, row, at in self._rows():
            if at is not None:
                found += 1
                with self._understanding(number):
                    self._fields.look(self._parsed(row))
        with self._understanding(None):
            self.scaled = self._fields.settle()
        return found

    def _smaller(self, number: int, row: Row, smaller: Smaller) -> Row:
        parsed = self._parsed(row)
        with self._understanding(number):
            new = self._fields.scaled(parsed, smaller)
        changed = {name: value if value == parsed[name] else self._cell(value) for name, value in new.items()}
        same = {name: row[name] for name in new if new[name] == parsed[name]}
        return {**row, **changed, **same, self._image: smaller.name}

    def _parsed(self, row: Row) -> Row:
        """Return the values of a row but its image; those of cells that are numbers or JSON."""
        cells = {name: value for name, value in row.items() if name != self._image}
        return cells if self._kind == _LINES else {name: _value(cell) for name, cell in cells.items()}

    def _cell(self, value: Any) -> Any:
        return value if self._kind == _LINES else json.dumps(value)

    @contextmanager
    def _understanding(self, number: int | None) -> Iterator[None]:
        """Name the file and the row in what is raised.

        Raises:
            ManifestError: a field is not understood, or lies outside of its image.
        """
        where = "" if number is None else f"row {number} (counted from 0): "
        try:
            yield
        except NotUnderstoodError as error:
            raise refused(
                self.path,
                f"{where}{error}, and it may be coordinates",
                "if it is none, pass {0}; otherwise leave it out, or write it as boxes of COCO",
                Option("unscaled", [error.name]),
            ) from None
        except OutsideError as error:
            raise refused(self.path, f"{where}{error}") from error

    def _rows(self) -> Iterator[tuple[int, Row, int | None]]:
        """Yield the number of each row, the row, and the row of the manifest that is its image, if there is one."""
        for number, row in enumerate(self._read()):
            cell = row.get(self._image)
            if not isinstance(cell, str):
                yield number, row, None
                continue
            path = cell if cell.endswith(self._suffix) else cell + self._suffix
            yield number, row, self._row_of.get(os.path.normpath(Path(self._root, path)))

    def _read(self) -> Iterator[Row]:
        try:
            with Path(self.path).open(encoding=encoding_of(self.path), newline="") as file:
                if self._kind == _LINES:
                    for line in file:
                        if line.strip():
                            yield dict(json.loads(line))
                    return
                before = csv.field_size_limit(_LONGEST_CELL)
                try:
                    for row in csv.DictReader(file, delimiter=self._separator, strict=True):
                        if None in row:
                            raise ValueError("a row has more cells than there are columns")
                        yield row
                finally:
                    csv.field_size_limit(before)
        except (ValueError, TypeError, csv.Error, RecursionError) as error:
            if isinstance(error, ManifestError):
                raise
            raise refused(self.path, f"the table cannot be read: {error}") from error


def _value(cell: Any) -> Any:
    """Return what a cell of a CSV holds: a number, a list or a mapping; or its text."""
    try:
        value = json.loads(cell)
    except (ValueError, TypeError, RecursionError):
        return cell
    if isinstance(value, bool) or not isinstance(value, int | float | list | dict):
        return cell
    return cell if isinstance(value, float) and not math.isfinite(value) else value
