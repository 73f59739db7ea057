"""Tables (CSV, TSV, JSONL and Parquet), which become the paths and targets of a manifest."""

import codecs
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arraystore._common.lazy import lazy
from arraystore._common.wording import a
from arraystore._sources.kinds.found import Found
from arraystore._sources.kinds.rows.columns import ColumnImages, mask_columns
from arraystore._sources.targets.class_labels import add_class_names, class_names
from arraystore._sources.targets.columns import CHOOSE_PATHS, Column, add_target, chosen_rows, paths_of
from arraystore._sources.targets.masks import BITS, Masks
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError, Option

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.json as pa_json
    import pyarrow.parquet as pa_parquet
else:
    pa, pa_csv = lazy("pyarrow"), lazy("pyarrow.csv")
    pa_json, pa_parquet = lazy("pyarrow.json"), lazy("pyarrow.parquet")

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
PATH_COLUMNS = ("file_name", "path", "source", "filename", "file", "image", "image_path")
# pyarrow cannot read a row that spans two blocks, and one long vector as JSON fills its default of 1 MB.
_BLOCK_BYTES = 16 << 20
_HEADER_LETTERS = 1 << 20

# The first of these columns in a table becomes the target "labels"; a second one keeps its own name.
_LABEL_COLUMNS = ("labels", "label", "class")


def column_names(path: str | os.PathLike[str], separator: str | None = None) -> list[str]:
    """Return the names of a table's columns from its first rows; for JSONL, the keys of the first row."""
    path = _checked_path(path)
    suffix = _suffix(path)
    with reading_table(path):
        if suffix == ".parquet":
            return list(pa_parquet.read_schema(path).names)
        if suffix == ".jsonl":
            with Path(path).open(encoding=encoding_of(path)) as lines:
                first = next((line for line in lines if line.strip()), "null")
            row = json.loads(first)
            if not isinstance(row, dict):
                raise ValueError("its first line is not a JSON object")
            return list(row)
        with pa_csv.open_csv(_utf8(path), **_csv_options(path, separator)) as reader:
            return list(reader.schema.names)


def read_table(
    path: str | os.PathLike[str],
    *,
    path_column: str | None = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
    suffix: str = "",
    separator: str | None = None,
    where: str | Mapping[str, Any] | None = None,
) -> Found:
    """Read a table whose rows are images: one column of paths, every other column a target.

    Integers become int64; booleans and floats keep their type; lists of one length become (N, D). A missing float is
    NaN, because pandas writes NaN as a missing value. Any other missing value is an error; so is an empty cell among
    the categories of a CSV, which looks like a missing one. Texts become int64 codes with their names, sorted by code
    point, in ``classes``; more than `CATEGORY_LIMIT` distinct texts stay text. The first of the columns labels, label
    and class becomes the target ``"labels"``. Codes keep the names that Hugging Face's metadata in a Parquet has.

    Raises:
        ManifestError: the file is missing or cannot be parsed, or a column is missing or is no target; the message
            names the file, the column and the row, counted from 0.
    """
    path = _checked_path(path)
    if targets is not None and (isinstance(targets, str) or not isinstance(targets, Sequence | Mapping)):
        meant = [targets] if isinstance(targets, str) else ["…"]
        message = f"targets must be a list of column names, not {a(type(targets).__name__)}"
        raise ManifestError(message, advice="pass {0}", options=[Option("targets", meant)])
    if not isinstance(suffix or "", str):
        raise ManifestError(f"suffix must be a text such as '.jpg', not {suffix!r}")
    with reading_table(path):
        _check_separator(path, separator)
        names = column_names(path, separator)
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise ManifestError(f"{path}: there are two columns named {repeated[0]!r}: rename one")
        chosen = path_column_of(path, names, path_column)
        # A column that the first row of a JSONL file lacks is not in ``names``, so JSONL is always read whole.
        conditions = conditions_of(where)
        needed = {chosen, *(targets or ()), *conditions}
        read = None if targets is None else [name for name in names if name in needed]
        table = chosen_rows(path, _read(path, chosen, read, separator), conditions)
        if not len(table):
            raise ManifestError(f"{path}: the table has no rows")
        found = Found(paths_of(Column(path, chosen, table.column(chosen)), suffix), place=path)
        target_of = add_targets(found, table, chosen, targets, conditions, names)
    add_class_names(found, target_of, class_names(table.schema))
    return found


def add_targets(
    found: Found,
    table: Any,
    image_column: str,
    targets: Sequence[str] | Mapping[str, str] | None,
    conditions: Mapping[str, str],
    names: Sequence[str] = (),
) -> dict[str, str]:
    """Add the columns of a table of pyarrow that become targets.

    Args:
        found: gets them.
        table: its rows that were chosen by ``conditions``.
        image_column: the column of the images, which is no target.
        targets: the columns, or what each becomes; None for all but the columns of ``conditions``.
        conditions: see `conditions_of`.
        names: of all columns, where ``table`` has only the ones that are needed.

    Returns:
        The names of the targets: column → target.

    Raises:
        ManifestError: a column is missing or is no target.
    """
    present = table.column_names
    everything = [name for name in present if name != image_column and name not in conditions]
    wanted = everything if targets is None else list(targets)
    kinds = targets if isinstance(targets, Mapping) else {}
    for name in wanted:
        if name == image_column or name not in present:
            what = "paths" if isinstance(found.sources, TextList) else "images"
            detail = f"it is the column of {what}" if name == image_column else "there is no such column"
            columns = _listed([*names, *(column for column in present if column not in names)])
            raise ManifestError(
                f"{found.place}: column {name!r} cannot be a target: {detail}; the columns are {columns}"
            )
    main = next((name for name in _LABEL_COLUMNS if name in wanted and kinds.get(name) not in BITS), None)
    target_of = {name: "labels" if name == main else name for name in wanted}
    held, _ = mask_columns(table.schema, kinds)
    for name, target in target_of.items():
        if name in held:
            folder = found.root or str(Path(found.place).absolute().parent)
            found.masks[target] = Masks(ColumnImages(table.column(name), folder), bits=held[name])
            continue
        add_target(found, target, Column(found.place, name, table.column(name)), kinds.get(name))
    return target_of


@contextmanager
def reading_table(path: str) -> Iterator[None]:
    """Turn the errors of pyarrow and the system into a ManifestError that names the file.

    Raises:
        ManifestError: the table cannot be read.
    """
    try:
        yield
    except ManifestError:
        raise
    except (UnicodeError, OSError, ValueError, TypeError, RecursionError, pa.ArrowException) as error:
        message, advice = f"{path}: the table cannot be read: {error}", "correct the file, or write it again"
        if isinstance(error, UnicodeError) or "invalid UTF8" in str(error):
            message = f"{path}: the table cannot be read: invalid UTF8 data, and no byte order mark"
            advice = "save it as UTF-8"
        reason = str(error)
        raise ManifestError(message, source=path, reason=reason, kind=Kind.UNREADABLE, advice=advice) from error


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


def path_column_of(path: str, names: Sequence[str], wanted: str | None) -> str:
    """Return the column of paths: the one that is wanted, or the first of `PATH_COLUMNS`.

    Raises:
        ManifestError: there is no such column.
    """
    found = next((name for name in PATH_COLUMNS if name in names), None) if wanted is None else wanted
    if found is None:
        message = f"{path}: no column of paths: none of {_listed(PATH_COLUMNS)} is among the columns {_listed(names)}"
        raise ManifestError(message, advice=CHOOSE_PATHS, options=[Option("path_column", "…")])
    if found not in names:
        raise ManifestError(f"{path}: there is no column {found!r}: the columns are {_listed(names)}")
    return found


def conditions_of(where: str | Mapping[str, Any] | None) -> dict[str, str]:
    """Return the values that columns must have: name of a column → text.

    Raises:
        ManifestError: a text has no column or no value.
    """
    if where is None:
        return {}
    if not isinstance(where, str | Mapping):
        raise ManifestError(
            f"where must be a text or a mapping of columns to values, not {a(type(where).__name__)}",
            advice="pass {0}",
            options=[Option("where", "split=train")],
        )
    if isinstance(where, str):
        name, equals, value = where.partition("=")
        if not (name and equals):
            raise ManifestError(
                f"where is {where!r}, not a column and a value",
                advice="pass {0}",
                options=[Option("where", "split=train")],
            )
        return {name.strip(): value.strip()}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in where.items()}


def _check_separator(path: str, separator: str | None) -> None:
    """Refuse a CSV whose cells another character separates, by its first line."""
    if separator is not None:
        if not isinstance(separator, str) or len(separator) != 1 or not separator.isascii() or separator in '"\r\n':
            raise ManifestError(f"separator must be one character, such as ';', not {separator!r}")
        return
    if _suffix(path) not in (".csv", ".tsv"):
        return
    with Path(path).open(encoding=encoding_of(path), errors="replace") as lines:
        header = lines.readline(_HEADER_LETTERS)
    known = _known_separator(path)
    found = next((each for each in ";\t|," if each in header and each != known), None)
    if known not in header and found is not None:
        raise ManifestError(
            f"{path}: the first line has no {known!r}, but {found!r}",
            source=path,
            kind=Kind.INVALID,
            advice="if that separates the cells, pass {0}",
            options=[Option("separator", found)],
        )


def _known_separator(path: str) -> str:
    return "\t" if _suffix(path) == ".tsv" else ","


def encoding_of(path: str) -> str:
    """Return the encoding of a text file by its byte order mark, or by zeros between ASCII letters; else UTF-8."""
    with Path(path).open("rb") as file:
        start = file.read(4)
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if len(start) == 4 and (start[1], start[3]) == (0, 0) and start[0] and start[2]:
        return "utf-16-le"
    if len(start) == 4 and (start[0], start[2]) == (0, 0) and start[1] and start[3]:
        return "utf-16-be"
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _utf8(path: str) -> Any:
    """Return a text file for pyarrow, as UTF-8 without a byte order mark."""
    encoding = encoding_of(path)
    if encoding != "utf-8-sig":
        return pa.transcoding_input_stream(pa.OSFile(path), encoding, "utf-8")
    file = pa.OSFile(path)
    file.seek(len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0)
    return file


def _csv_options(path: str, separator: str | None) -> dict[str, Any]:
    delimiter = separator or _known_separator(path)
    return {
        "read_options": pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
        # Captions hold quoted line ends.
        "parse_options": pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
    }


def _read(path: str, path_column: str, columns: list[str] | None, separator: str | None) -> Any:
    """Return the pyarrow table; the path column is text even where its cells look like numbers or dates."""
    if _suffix(path) == ".parquet":
        # Not parquet.read_table, which reads folder names such as "label=3" as further columns. Without pre_buffer no
        # thread of pyarrow outlives the call.
        with pa_parquet.ParquetFile(path, pre_buffer=False) as file:
            return file.read(columns=columns)
    if _suffix(path) == ".jsonl":
        schema = pa.schema([(path_column, pa.string())])
        return pa_json.read_json(
            _utf8(path),
            read_options=pa_json.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pa_json.ParseOptions(explicit_schema=schema),
        )
    convert = pa_csv.ConvertOptions(column_types={path_column: pa.string()}, include_columns=columns)
    return pa_csv.read_csv(_utf8(path), **_csv_options(path, separator), convert_options=convert)
