"""Rows of Parquet files, of which only those that are decoded next are read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._sources.stamps import file_stamp
from arraystore.errors import DecodeError, Kind

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet
else:
    pa, pa_parquet = lazy("pyarrow"), lazy("pyarrow.parquet")

_ROWS_A_READ = 16
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Group:
    """One row group: its file, its number in there, and its first row of all rows."""

    file: int
    number: int
    start: int


class ParquetRows:
    """Some columns of Parquet files, of which only the rows that are asked for are read; those asked in order, once.

    Args:
        paths: of the files, absolute.
        columns: the names.
        rows: the chosen rows, counted through all files; int64.
        stamps: of each file before it was listed, see `file_stamp`.
        counts: of rows, in each group of each file.
    """

    def __init__(
        self,
        paths: Sequence[str],
        columns: Sequence[str],
        rows: npt.NDArray[np.int64],
        stamps: Sequence[tuple[int, int]],
        counts: Sequence[Sequence[int]],
    ) -> None:
        self._paths = list(paths)
        self._columns = list(columns)
        self.rows = rows
        self._stamps = stamps
        self._counts = counts
        self._place()

    def _place(self) -> None:
        sizes = [(file, number, size) for file, sizes in enumerate(self._counts) for number, size in enumerate(sizes)]
        self._starts = np.cumsum([0, *(size for _, _, size in sizes)], dtype=np.int64)
        self._groups = [
            _Group(file, number, int(start)) for (file, number, _), start in zip(sizes, self._starts, strict=False)
        ]
        self._cursor: _Cursor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_starts", "_groups", "_cursor")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._place()

    def cell(self, column: str, slot: int) -> tuple[Any, str]:
        """Return a cell of a chosen row, and the folder of its file. Those of one row are read together.

        Raises:
            DecodeError: the file was changed or cannot be read.
        """
        row = int(self.rows[slot])
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        if self._cursor is None or not self._cursor.reaches(group, row):
            if self._cursor is not None:
                self._cursor.close()
            self._cursor = self._open(group)
        return self._cursor.cell(row, column), os.path.dirname(self._paths[self._groups[group].file])

    def _open(self, group: int) -> "_Cursor":
        place = self._groups[group]
        path = self._paths[place.file]
        if file_stamp(path) != self._stamps[place.file]:
            raise DecodeError(f"{path} was changed after it was listed: build again", source=path)
        return _Cursor(path, place, self._columns, group, int(self._starts[group + 1]))

    @property
    def header(self) -> list[Any]:
        """What tells these files from others: values of JSON."""
        return [[os.path.basename(path) for path in self._paths], self._stamps, self._counts]


class _Cursor:
    """Reads the rows of one group from first to last, a few at a time."""

    def __init__(self, path: str, place: _Group, columns: Sequence[str], group: int, stop: int) -> None:
        self._path = path
        self._group = group
        self._stop = stop
        try:
            self._file = pa_parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except (OSError, pa.ArrowException) as error:
            raise DecodeError(f"{path} cannot be read: {error}", source=path, kind=Kind.UNREADABLE) from error
        self._batches = self._file.iter_batches(
            _ROWS_A_READ, row_groups=[place.number], columns=list(columns), use_threads=False
        )
        self._cells: Any = None
        self._start = self._end = place.start

    def reaches(self, group: int, row: int) -> bool:
        """Return whether a row lies in this group and has not been passed."""
        return group == self._group and self._start <= row < self._stop

    def cell(self, row: int, column: str) -> Any:
        """Return the cell of a row that is reached."""
        try:
            while row >= self._end:
                self._cells = next(self._batches)
                self._start, self._end = self._end, self._end + len(self._cells)
            return self._cells.column(column)[row - self._start].as_py()
        except (OSError, pa.ArrowException, StopIteration, UnicodeDecodeError, KeyError) as error:
            self._stop = self._start  # what follows in this group is read anew
            raise DecodeError(f"{self._path}: row {row} cannot be read: {error}", kind=Kind.DAMAGED) from error

    def close(self) -> None:
        self._file.close()
