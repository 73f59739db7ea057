"""What an exported folder says of its images: a table of their paths and of all that goes with them."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from arraystore._common.arrow import text_column
from arraystore._exporting.columns import Column, Values
from arraystore._exporting.writing import hugging_face
from arraystore._exporting.writing.shards import Shards
from arraystore._exporting.writing.tables import Tables

FILE_NAME = "file_name"
_ROW_BYTES = 1 << 10  # of a row without an image, about
# Texts that readers of CSV take for something else; so they do with all that looks like a number.
_NO_TEXTS = frozenset(
    ("#n/a", "#na", "n/a", "na", "nan", "null", "none", "nil", "<na>", "true", "false", "inf", "infinity")
)


class Metadata(Protocol):
    """A table that is being written."""

    @property
    def size_bytes(self) -> int:
        """Of the finished file."""

    def add(self, paths: Sequence[str], values: Sequence[Values]) -> None:
        """Take rows: the paths of images, and the values of each column."""

    def finish(self) -> None:
        """Make the file durable and close it."""

    def abandon(self) -> None:
        """Close the file as it is, because its export has failed."""


def metadata_for(folder: Path, columns: Sequence[Column]) -> Metadata:
    """Begin the table of a folder: CSV where every reader takes each cell for what it is, else Parquet."""
    return _Csv(folder, columns) if all(map(_fits_csv, columns)) else _Parquet(folder, columns)


def _fits_csv(column: Column) -> bool:
    return column.kind == "value" and all(map(_is_read_as_text, column.classes))


def _is_read_as_text(name: str) -> bool:
    if not name or name != name.strip() or name.lower() in _NO_TEXTS or not name.isprintable():
        return False
    # Numbers with their separators, dates and times, and what begins like one.
    return not (name[0].isdigit() or name[0] in "+-.#\"'")


class _Csv:
    def __init__(self, folder: Path, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._file = (folder / "metadata.csv").open("x", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow([FILE_NAME, *(column.name for column in columns)])
        self.size_bytes: int = 0

    def add(self, paths: Sequence[str], values: Sequence[Values]) -> None:
        cells = [_cells(column, np.asarray(each)) for column, each in zip(self._columns, values, strict=True)]
        self._rows.writerows(zip(paths, *cells, strict=True))

    def finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self.size_bytes = os.fstat(self._file.fileno()).st_size
        self._file.close()

    def abandon(self) -> None:
        self._file.close()


def _cells(column: Column, values: Any) -> list[Any]:
    cells = values.tolist()
    if column.classes:
        return [column.classes[code] for code in cells]
    return ["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in cells]


class _Parquet:
    def __init__(self, folder: Path, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._shards = Shards(folder / "metadata.parquet", ".parquet", None)
        self._schema = hugging_face.schema_of(columns, FILE_NAME)
        self._tables = Tables(self._shards, "parquet", self._schema)

    @property
    def size_bytes(self) -> int:
        return self._shards.size_bytes

    def add(self, paths: Sequence[str], values: Sequence[Values]) -> None:
        named = dict(zip([column.name for column in self._columns], values, strict=True))
        batch = hugging_face.batch_of(self._schema, self._columns, paths, text_column(paths), named)
        self._tables.add(batch, [_ROW_BYTES] * len(paths))

    def finish(self) -> None:
        self._tables.finish()

    def abandon(self) -> None:
        self._tables.abandon()
