"""Tables (CSV, TSV, JSONL and Parquet), which become the paths and targets of a manifest."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._sources.text_list import CATEGORY_LIMIT, TextList
from arraystore.errors import Kind, ManifestError, Option

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pa_csv
    import pyarrow.json as pa_json
    import pyarrow.parquet as pa_parquet
else:
    pa, pc, pa_csv = lazy("pyarrow"), lazy("pyarrow.compute"), lazy("pyarrow.csv")
    pa_json, pa_parquet = lazy("pyarrow.json"), lazy("pyarrow.parquet")

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
PATH_COLUMNS = ("file_name", "path", "source", "filename", "file", "image", "image_path")
# pyarrow cannot read a row that spans two blocks, and one long vector as JSON fills its default of 1 MB.
_BLOCK_BYTES = 16 << 20

# The first of these columns in a table becomes the target "labels"; a second one keeps its own name.
_LABEL_COLUMNS = ("labels", "label", "class")

_CHOOSE_PATHS = "choose the column of paths with {0}"
_CHOSEN_TARGETS = Option("targets", ["…"])


@dataclass(frozen=True, slots=True)
class Table:
    """The paths and targets of N sources that `read_table` gives; the names are of targets, not of columns."""

    paths: TextList
    targets: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    texts: dict[str, TextList] = field(default_factory=dict)


def column_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of a table's columns from its first rows; for JSONL, the keys of the first row."""
    path = _checked_path(path)
    suffix = _suffix(path)
    with _causes(path):
        if suffix == ".parquet":
            return list(pa_parquet.read_schema(path).names)
        if suffix == ".jsonl":
            with Path(path).open(encoding="utf-8") as lines:
                first = next((line for line in lines if line.strip()), "null")
            row = json.loads(first)
            if not isinstance(row, dict):
                raise ValueError("its first line is not a JSON object")
            return list(row)
        with pa_csv.open_csv(path, **_csv_options(path)) as reader:
            return list(reader.schema.names)


def read_table(
    path: str | os.PathLike[str], *, path_column: str | None = None, targets: Sequence[str] | None = None
) -> Table:
    """Read a table whose rows are images: one column of paths, every other column a target.

    Integers become int64; booleans and floats keep their type; lists of one length become (N, D). A missing float is
    NaN, because pandas writes NaN as a missing value. Any other missing value is an error; so is an empty cell among
    the categories of a CSV, which looks like a missing one. Texts become int64 codes with their names, sorted by code
    point, in ``classes``; more than `CATEGORY_LIMIT` distinct texts stay text. The first of the columns labels, label
    and class becomes the target ``"labels"``.

    Raises:
        ManifestError: the file is missing or cannot be parsed, or a column is missing or is no target; the message
            names the file, the column and the row, counted from 0.
    """
    path = _checked_path(path)
    if isinstance(targets, str):
        message = "targets must be a list of column names, not one text"
        raise ManifestError(message, advice="pass {0}", options=[Option("targets", [targets])])
    with _causes(path):
        names = column_names(path)
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ManifestError(f"{path}: there are two columns named {repeated[0]!r}: rename one")
        chosen = _path_column(path, names, path_column)
        # A column that the first row of a JSONL file lacks is not in ``names``, so JSONL is always read whole.
        read = None if targets is None else [name for name in names if name == chosen or name in targets]
        table = _read(path, chosen, read)
        if not len(table):
            raise ManifestError(f"{path}: the table has no rows")
        present = table.column_names
        wanted = [name for name in present if name != chosen] if targets is None else list(targets)
        for name in wanted:
            if name == chosen or name not in present:
                detail = "it is the column of paths" if name == chosen else "there is no such column"
                columns = names + [column for column in present if column not in names]
                message = f"{path}: column {name!r} cannot be a target: {detail}; the columns are {_listed(columns)}"
                raise ManifestError(message)
        result = Table(_paths(path, chosen, table.column(chosen)))
        main = next((name for name in _LABEL_COLUMNS if name in wanted), None)
        for name in wanted:
            _convert(result, "labels" if name == main else name, _Column(path, name, table.column(name)))
    return result


@contextmanager
def _causes(path: str) -> Iterator[None]:
    """Turn the errors of pyarrow and the system into a ManifestError that names the file."""
    try:
        yield
    except ManifestError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        message = f"{path}: the table cannot be read: {error}"
        raise ManifestError(message, source=path, reason=str(error), kind=Kind.UNREADABLE) from error


def _checked_path(path: str | os.PathLike[str]) -> str:
    path = os.fspath(path)
    if _suffix(path) not in TABLE_SUFFIXES:
        message = f"{path}: not a table that can be read: its suffix must be one of {_listed(TABLE_SUFFIXES)}"
        raise ManifestError(message)
    if not Path(path).is_file():
        what = "is a folder, not a table" if Path(path).is_dir() else "there is no such table"
        raise ManifestError(f"{path}: {what}: pass a file that exists", source=path, kind=Kind.MISSING)
    return path


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _path_column(path: str, names: list[str], wanted: str | None) -> str:
    found = next((name for name in PATH_COLUMNS if name in names), None) if wanted is None else wanted
    if found is None:
        message = f"{path}: no column of paths: none of {_listed(PATH_COLUMNS)} is among the columns {_listed(names)}"
        raise ManifestError(message, advice=_CHOOSE_PATHS, options=[Option("path_column", "…")])
    if found not in names:
        raise ManifestError(f"{path}: there is no column {found!r}: the columns are {_listed(names)}")
    return found


def _csv_options(path: str) -> dict[str, Any]:
    delimiter = "\t" if _suffix(path) == ".tsv" else ","
    return {
        "read_options": pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
        # Captions hold quoted line ends.
        "parse_options": pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
    }


def _read(path: str, path_column: str, columns: list[str] | None) -> Any:
    """Return the pyarrow table; the path column is text even where its cells look like numbers or dates."""
    if _suffix(path) == ".parquet":
        # Not parquet.read_table, which reads folder names such as "label=3" as further columns. Without pre_buffer no
        # thread of pyarrow outlives the call.
        with pa_parquet.ParquetFile(path, pre_buffer=False) as file:
            return file.read(columns=columns)
    if _suffix(path) == ".jsonl":
        schema = pa.schema([(path_column, pa.string())])
        return pa_json.read_json(
            path,
            read_options=pa_json.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pa_json.ParseOptions(explicit_schema=schema),
        )
    convert = pa_csv.ConvertOptions(column_types={path_column: pa.string()}, include_columns=columns)
    return pa_csv.read_csv(path, **_csv_options(path), convert_options=convert)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of pyarrow, with its file and name for messages."""

    path: str
    name: str
    data: Any

    def refuse(self, row: int | None, reason: str, advice: str = "", option: Option = _CHOSEN_TARGETS) -> ManifestError:
        where = "" if row is None else f" row {row} (counted from 0):"
        return ManifestError(
            f"{self.path}: column {self.name!r}:{where} {reason}",
            slot=row,
            source=self.path,
            reason=reason,
            kind=Kind.INVALID,
            advice=advice,
            options=[option] if advice else [],
        )

    def missing(self, row: int) -> ManifestError:
        return self.refuse(row, "the value is missing", "fill it in, drop the row, or leave the column out with {0}")


def _first(mask: Any) -> int | None:
    """Return the first row where a pyarrow column of booleans is true."""
    found = np.flatnonzero(mask.to_numpy())
    return int(found[0]) if len(found) else None


def _is_text(kind: Any) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _text_array(data: Any) -> Any:
    """Return a pyarrow column of text as one array, whose 64-bit offsets hold more than 2 GB."""
    return data.cast(pa.large_binary() if pa.types.is_binary(data.type) else pa.large_string()).combine_chunks()


def text_list(data: Any) -> TextList:
    """Return a pyarrow column of texts, or of bytes where the texts are not UTF-8."""
    texts = _text_array(data)
    _, ends, blob = texts.buffers()
    offsets = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    # pyarrow leaves out the buffer of texts that are all empty.
    raw = np.frombuffer(b"" if blob is None else blob, np.uint8)
    return TextList(raw[first:last], offsets - first)


def _paths(path: str, name: str, data: Any) -> TextList:
    column = _Column(path, name, data)
    if not _is_text(data.type):
        raise column.refuse(None, f"holds {data.type}, not paths", _CHOOSE_PATHS, Option("path_column", "…"))
    row = _first(data.is_null())
    if row is not None:
        raise column.refuse(row, "the path is missing: fill it in, or drop the row")
    paths = text_list(data)
    empty = np.flatnonzero(np.diff(paths.offsets) == 0)
    if len(empty):
        raise column.refuse(int(empty[0]), "the path is empty: fill it in, or drop the row")
    nul = np.flatnonzero(paths.blob == 0)
    if len(nul):
        row = int(np.searchsorted(paths.offsets, nul[0], side="right")) - 1
        raise column.refuse(row, "the path holds a NUL character, which no file name has")
    return paths


def _convert(result: Table, target: str, column: _Column) -> None:
    """Add a column to ``result``, under the name of its target."""
    types, kind = pa.types, column.data.type
    row = _first(column.data.is_null())
    if row is not None and not types.is_floating(kind):
        raise column.missing(row)
    if _is_text(kind):
        _convert_text(result, target, column)
    elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        result.targets[target] = _vectors(column)
    else:
        result.targets[target] = _numbers(column, column.data, per_row=1)


def _convert_text(result: Table, target: str, column: _Column) -> None:
    encoded = _text_array(column.data).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if len(names) > CATEGORY_LIMIT:
        result.texts[target] = text_list(column.data)
        return
    codes = encoded.indices.to_numpy()
    if "" in names and _suffix(column.path) in {".csv", ".tsv"}:
        raise column.missing(int(np.argmax(codes == names.index(""))))
    order = sorted(range(len(names)), key=names.__getitem__)
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    result.targets[target] = ranks[codes]
    result.classes[target] = tuple(names[i] for i in order)


def _numbers(column: _Column, data: Any, *, per_row: int) -> npt.NDArray[Any]:
    """Return pyarrow numbers as an array. Messages need ``per_row``, how many of them make a row."""
    types = pa.types
    if not (types.is_floating(data.type) or types.is_integer(data.type) or types.is_boolean(data.type)):
        raise column.refuse(None, f"holds {column.data.type}, which is no target", "choose other columns with {0}")
    place = None if types.is_floating(data.type) else _first(data.is_null())
    if place is not None:
        raise column.missing(place // per_row)
    if not types.is_integer(data.type):  # to_numpy turns missing floats into NaN
        return np.asarray(data.to_numpy())
    try:
        return np.asarray(data.cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid as error:
        raise column.refuse(None, f"a whole number does not fit int64: {error}") from error


def _vectors(column: _Column) -> npt.NDArray[Any]:
    lengths = pc.list_value_length(column.data).to_numpy()
    width = int(lengths[0])
    odd = np.flatnonzero(lengths != width)
    if len(odd):
        row = int(odd[0])
        reason = f"expected {width} values as in row 0, found {lengths[row]}: give every row as many"
        raise column.refuse(row, reason)
    return _numbers(column, pc.list_flatten(column.data), per_row=width).reshape(len(lengths), width)
