"""Parquet files whose rows hold the images themselves; only the rows that are decoded next are read."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._sources.kinds.found import Found, SourceList
from arraystore._sources.kinds.rows.cells import add_class_names, check_targets, class_names, image_column, image_of
from arraystore._sources.stamps import file_stamp
from arraystore._sources.tables import add_targets, conditions_of, reading_table
from arraystore._sources.targets.columns import numbered_rows, text_list
from arraystore._sources.text_list import TextList
from arraystore.errors import DecodeError, Kind, ManifestError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pa_parquet
else:
    pa, pa_parquet = lazy("pyarrow"), lazy("pyarrow.parquet")

_ROWS_A_READ = 16
_BUFFER_BYTES = 1 << 20
_NO_COLUMN = "\0rows"  # no column has this name
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.parquet")


@dataclass(frozen=True, slots=True)
class _Group:
    """One row group: its file, its number in there, and its first row of all rows."""

    file: int
    number: int
    start: int


class ParquetImages(SourceList):
    """The images in a column of Parquet files. Rows that are asked for in order are read once.

    Args:
        paths: of the files, absolute.
        column: of the images.
        rows: the chosen rows, counted through all files; int64.
        names: the path that each chosen row gives its image, perhaps empty; None if there are none.
        stamps: of each file before it was listed, see `file_stamp`.
        counts: of rows, in each group of each file.
    """

    noun: ClassVar[str] = "rows of Parquet files"
    may_name_files: ClassVar[bool] = True

    def __init__(
        self,
        paths: Sequence[str],
        column: str,
        rows: npt.NDArray[np.int64],
        names: TextList | None,
        stamps: Sequence[tuple[int, int]],
        counts: Sequence[Sequence[int]],
    ) -> None:
        self._paths = list(paths)
        self._column = column
        self._rows = rows
        self._names = names
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

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, slot: Any) -> Any:
        row = int(self._rows[slot])
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        if self._cursor is None or not self._cursor.reaches(group, row):
            if self._cursor is not None:
                self._cursor.close()
            self._cursor = self._open(group)
        image = image_of(self._cursor.cell(row), self.name(slot))
        folder = os.path.dirname(self._paths[self._groups[group].file])
        return image if isinstance(image, bytes) else os.path.join(folder, image)

    def _open(self, group: int) -> "_Cursor":
        place = self._groups[group]
        path = self._paths[place.file]
        if file_stamp(path) != self._stamps[place.file]:
            raise DecodeError(f"{path} was changed after it was listed: build again", source=path)
        return _Cursor(path, place, self._column, group, int(self._starts[group + 1]))

    def name(self, slot: int) -> str:
        path = "" if self._names is None else self._names[slot]
        return path or f"row {self._rows[slot]}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        names = () if self._names is None else (self._names.offsets, self._names.blob)
        files = [os.path.basename(path) for path in self._paths]
        yield ["parquet", files, self._stamps, self._column, self._counts], (self._rows, *names)


class _Cursor:
    """Reads the rows of one group from first to last, a few at a time."""

    def __init__(self, path: str, place: _Group, column: str, group: int, stop: int) -> None:
        self._path = path
        self._group = group
        self._stop = stop
        try:
            self._file = pa_parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except (OSError, pa.ArrowException) as error:
            raise DecodeError(f"{path} cannot be read: {error}", source=path, kind=Kind.UNREADABLE) from error
        self._batches = self._file.iter_batches(
            _ROWS_A_READ, row_groups=[place.number], columns=[column], use_threads=False
        )
        self._cells: Any = None
        self._start = self._end = place.start

    def reaches(self, group: int, row: int) -> bool:
        """Return whether a row lies in this group and has not been passed."""
        return group == self._group and self._start <= row < self._stop

    def cell(self, row: int) -> Any:
        """Return the cell of a row that is reached."""
        try:
            while row >= self._end:
                self._cells = next(self._batches).column(0)
                self._start, self._end = self._end, self._end + len(self._cells)
            return self._cells[row - self._start].as_py()
        except (OSError, pa.ArrowException, StopIteration, UnicodeDecodeError) as error:
            self._stop = self._start  # what follows in this group is read anew
            raise DecodeError(f"{self._path}: row {row} cannot be read: {error}", kind=Kind.DAMAGED) from error

    def close(self) -> None:
        self._file.close()


def has_images(path: str, wanted: str | None = None) -> bool:
    """Return whether the rows of a Parquet file hold images.

    Raises:
        ManifestError: it cannot be read.
    """
    with reading_table(path):
        return image_column(path, pa_parquet.read_schema(path), wanted) is not None


def from_parquet(
    source: str | Sequence[str],
    *,
    path_column: str | None = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
    where: str | Mapping[str, Any] | None = None,
) -> Found:
    """Return the images and targets of Parquet files, in the order of the files. No image is read.

    The codes of a Hugging Face ``ClassLabel`` keep their names.

    Raises:
        ManifestError: a file cannot be read, has other columns than the first, or belongs to another split; or a
            column is missing or is no target.
    """
    paths = [str(Path(path).absolute()) for path in ([source] if isinstance(source, str) else source)]
    conditions = conditions_of(where)
    notes = _check_shards(paths)
    tables, names, counts = [], [], []
    bytes_are_missing = True
    stamps = [file_stamp(path) for path in paths]
    with reading_table(paths[0]):
        schema = pa_parquet.read_schema(paths[0])
        column = image_column(paths[0], schema, path_column)
        if column is None:
            raise ManifestError(f"{paths[0]}: no column holds images: {schema.names}", source=paths[0])
        needed = check_targets(paths[0], schema, column, targets, conditions)
        kind = schema.field(column).type
        named = pa.types.is_struct(kind) and any(field.name == "path" for field in kind)
    for path in paths:
        with reading_table(path), pa_parquet.ParquetFile(path, pre_buffer=False) as file:
            if file.schema_arrow.names != schema.names:
                message = f"{path}: has the columns {file.schema_arrow.names}, {paths[0]} has {schema.names}"
                raise ManifestError(f"{message}: pass files with the same ones", source=path, kind=Kind.INVALID)
            tables.append(file.read(columns=needed))
            if named:
                cells = file.read(columns=[f"{column}.path"]).column(0).combine_chunks()
                chunks = cells.chunks if isinstance(cells, pa.ChunkedArray) else [cells]
                names += [chunk.flatten()[0] for chunk in chunks]
            groups = range(file.metadata.num_row_groups)
            counts.append([file.metadata.row_group(group).num_rows for group in groups])
            bytes_are_missing = bytes_are_missing and named and _holds_no_bytes(file.metadata, f"{column}.bytes")
        if tables[-1].num_columns == 0:  # a table without columns has no rows
            tables[-1] = pa.table({_NO_COLUMN: np.zeros(sum(counts[-1]), np.int64)})
    with reading_table(paths[0]):
        table = pa.concat_tables(tables, promote_options="permissive")
        table, rows = numbered_rows(paths[0], table, conditions)
        if not len(rows):
            raise ManifestError(f"{paths[0]}: the table has no rows", source=paths[0], kind=Kind.MISSING)
        paths_in = text_list(pa.chunked_array(names).cast(pa.string()).fill_null("").take(rows)) if named else None
        if bytes_are_missing and paths_in is not None:
            sources: Any = paths_in  # these are files as in any other list
        else:
            sources = ParquetImages(paths, column, rows, paths_in, stamps, counts)
        found = Found(sources, str(Path(paths[0]).parent), notes=notes, place=paths[0])
        table = table.drop_columns([name for name in table.column_names if name == _NO_COLUMN])
        target_of = add_targets(found, table, column, targets, conditions, schema.names)
    add_class_names(found, target_of, class_names(schema))
    return found


def _holds_no_bytes(metadata: Any, column: str) -> bool:
    """Return whether all cells of a column are null, as far as the file's statistics tell."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        parts = [group.column(i) for i in range(group.num_columns)]
        found = next((part.statistics for part in parts if part.path_in_schema == column), None)
        if found is None or not found.has_null_count or found.null_count < group.num_rows:
            return False
    return True


def _check_shards(paths: Sequence[str]) -> list[str]:
    """Return notes on shards that are missing, by names such as train-00003-of-00010.parquet.

    Raises:
        ManifestError: the files are shards of several splits.
    """
    shards: dict[tuple[str, int], set[int]] = defaultdict(set)
    for path in paths:
        found = _SHARD.fullmatch(os.path.basename(path))
        if found:
            shards[found[1], int(found[3])].add(int(found[2]))
    splits = sorted({split for split, _ in shards})
    if len(splits) > 1:
        shown = ", ".join(map(repr, splits))
        folder = os.path.dirname(paths[0])
        raise ManifestError(
            f"{folder}: the files are shards of several splits, {shown}",
            source=folder,
            kind=Kind.INVALID,
            advice=f"build each of its own, such as {folder}/{splits[0]}-*.parquet",
        )
    return [
        f"{count - len(present):,} of the {count:,} shards of {split!r} are missing"
        for (split, count), present in shards.items()
        if len(present) < count
    ]
