"""The columns of a table, which become the paths and targets of a manifest."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._common.ragged import Ragged, offsets_of
from arraystore._sources.entries import has_image_suffix
from arraystore._sources.kinds.found import Found
from arraystore._sources.options import KINDS
from arraystore._sources.targets.class_names import order_note
from arraystore._sources.targets.masks import BITS, Masks
from arraystore._sources.targets.multi_label import KIND, indicators
from arraystore._sources.text_list import CATEGORY_LIMIT, TextList
from arraystore.errors import Kind, ManifestError, Option

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    pa, pc = lazy("pyarrow"), lazy("pyarrow.compute")

CHOOSE_PATHS = "choose the column of paths with {0}"
CHOSEN_TARGETS = Option("targets", ["…"])
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_LISTED_NUMBERS = r"[\[(][-+.,;0-9eE\s\[\]()]*[\])]"
_DECIMAL_COMMA = r"[+-]?\d+,\d+"
_ROW = "\0row"  # no column has this name
_CHECKED_NAMES = 1000
_MANY_NAMES = 20


@dataclass(frozen=True, slots=True)
class Column:
    """A column of pyarrow, with its file and name for messages.

    Of a column of lists, the data may be the items of all rows, end to end; then row i has those from ``offsets[i]`` up
    to ``offsets[i + 1]``. Places in the data become rows in messages.
    """

    path: str
    name: str
    data: Any
    offsets: npt.NDArray[np.int64] | None = None

    def refuse(self, place: int | None, reason: str, advice: str = "", *options: Option) -> ManifestError:
        row = place
        if place is not None and self.offsets is not None:
            row = int(np.searchsorted(self.offsets, place, "right")) - 1
        where = "" if row is None else f" row {row} (counted from 0):"
        return ManifestError(
            f"{self.path}: column {self.name!r}:{where} {reason}",
            slot=row,
            source=self.path,
            reason=reason,
            kind=Kind.INVALID,
            advice=advice,
            options=(options or [CHOSEN_TARGETS]) if advice else [],
        )

    def missing(self, place: int) -> ManifestError:
        return self.refuse(place, "the value is missing", "fill it in, drop the row, or leave the column out with {0}")


def _first(mask: Any) -> int | None:
    """Return the first row where a pyarrow column of booleans is true."""
    found = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    return int(found[0]) if len(found) else None


def _is_text(kind: Any) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _text_array(data: Any) -> Any:
    """Return a pyarrow column of text as one array, whose 64-bit offsets hold more than 2 GB."""
    texts = data.cast(pa.large_binary() if pa.types.is_binary(data.type) else pa.large_string())
    return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts


def text_list(data: Any) -> TextList:
    """Return a pyarrow column of texts, or of bytes where the texts are not UTF-8."""
    texts = _text_array(data)
    _, ends, blob = texts.buffers()
    offsets = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    # pyarrow leaves out the buffer of texts that are all empty.
    raw = np.frombuffer(b"" if blob is None else blob, np.uint8)
    return TextList(raw[first:last], offsets - first)


def paths_of(column: Column, suffix: str = "") -> TextList:
    """Return a column of paths; a suffix is added to each that does not end in it.

    Raises:
        ManifestError: the column holds no texts, or one is missing, empty or no file name.
    """
    data = column.data
    if not _is_text(data.type):
        raise column.refuse(None, f"holds {data.type}, not paths", CHOOSE_PATHS, Option("path_column", "…"))
    row = _first(data.is_null())
    if row is not None:
        raise column.refuse(row, "the path is missing: fill it in, or drop the row")
    if suffix:
        texts = _text_array(data)
        added, nothing = (pa.scalar(text, pa.large_string()) for text in (suffix, ""))
        joined = pc.binary_join_element_wise(texts, added, nothing)
        # An empty cell stays empty, so that it is found below.
        data = pc.if_else(pc.or_(pc.ends_with(texts, suffix), pc.equal(texts, nothing)), texts, joined)
    paths = text_list(column.data)
    empty = np.flatnonzero(np.diff(paths.offsets) == 0)
    if len(empty):
        raise column.refuse(int(empty[0]), "the path is empty: fill it in, or drop the row")
    nul = np.flatnonzero(paths.blob == 0)
    if len(nul):
        row = int(np.searchsorted(paths.offsets, nul[0], side="right")) - 1
        raise column.refuse(row, "the path holds a NUL character, which no file name has")
    return text_list(data)


def chosen_rows(path: str, table: Any, conditions: Mapping[str, str]) -> Any:
    """Return the rows of a table whose columns have these values.

    Raises:
        ManifestError: there is no such column, or no row has the value.
    """
    for name, value in conditions.items():
        if name not in table.column_names:
            raise ManifestError(
                f"{path}: there is no column {name!r} to choose rows by: the columns are {table.column_names}"
            )
        texts = table.column(name).cast(pa.string())
        chosen = table.filter(pc.fill_null(pc.equal(texts, value), False))
        if not len(chosen):
            found = sorted(str(each) for each in pc.unique(texts).to_pylist()[:10])
            raise Column(path, name, texts).refuse(
                None,
                f"no row has {value!r}, but {', '.join(found)}",
                "choose one of these with {0}",
                Option("where", None),
            )
        table = chosen
    return table


def numbered_rows(path: str, table: Any, conditions: Mapping[str, str]) -> tuple[Any, npt.NDArray[np.int64]]:
    """Return the rows of a table as `chosen_rows` does, and their numbers in it.

    Raises:
        ManifestError: see `chosen_rows`.
    """
    chosen = chosen_rows(path, table.append_column(_ROW, pa.array(np.arange(len(table)))), conditions)
    return chosen.drop_columns([_ROW]), chosen.column(_ROW).to_numpy()


def add_target(found: Found, target: str, column: Column, kind: str | None) -> None:
    """Add a column to ``found`` under the name of its target.

    Args:
        found: gets the target.
        target: its name.
        column: its values.
        kind: ``"number"``, ``"category"``, ``"multi-label"`` (with its separator, as ``"multi-label:;"``, where that
            cannot be found), ``"text"``, ``"mask"`` or ``"mask16"``; None and ``"auto"`` decide by the type of the
            column, and never take paths as those of masks.

    Raises:
        ManifestError: a value is missing, or is not of the kind.
    """
    kind, separator = _kind_of(column, kind)
    if pa.types.is_binary(column.data.type) or pa.types.is_large_binary(column.data.type):
        raise column.refuse(None, "holds bytes that are not UTF-8: save the table as UTF-8")
    if kind in BITS:
        if not _is_text(column.data.type):
            raise column.refuse(None, f"holds {column.data.type}, not the paths of masks", "leave it out with {0}")
        found.masks[target] = Masks(paths_of(column), bits=BITS[kind])
    elif kind == KIND:
        _add_names(found, target, column, separator)
    else:
        _add_values(found, target, column, kind)


def _add_values(found: Found, target: str, column: Column, kind: str | None) -> None:
    types, arrow = pa.types, column.data.type
    if kind == "number" and _is_text(arrow):
        found.targets[target] = _parsed(column)
        return
    row = _first(column.data.is_null())
    if row is not None and kind == "number" and types.is_integer(arrow):
        found.targets[target] = column.data.cast(pa.float64()).to_numpy()
        return
    if row is not None and not types.is_floating(arrow):
        raise column.missing(row)
    if _is_list(arrow):
        _add_lists(found, target, column, kind)
    elif kind == "text":
        found.texts[target] = text_list(column.data.cast(pa.string()))
    elif kind == "category" and types.is_floating(arrow) and row is not None:
        raise column.missing(row)
    elif kind == "category" or (kind is None and _is_text(arrow)):
        _add_categories(found, target, column, chosen=kind is not None)
    else:
        found.targets[target] = _numbers(column, column.data, per_row=1)


def _kind_of(column: Column, text: str | None) -> tuple[str | None, str]:
    """Return the kind that an option names, None to decide by the column, and the separator after it."""
    kind, _, separator = (text or "auto").partition(":")
    if kind not in (*KINDS, "auto") or (separator and kind != KIND):
        known = ", ".join(map(repr, KINDS))
        raise column.refuse(None, f"cannot become a {text!r}: the kinds are {known}")
    return None if kind == "auto" else kind, separator


def _add_names(found: Found, target: str, column: Column, separator: str) -> None:
    types, arrow = pa.types, column.data.type
    lists = types.is_list(arrow) or types.is_large_list(arrow)
    values = arrow.value_type if lists else arrow
    if not (_is_text(values) or (lists and types.is_integer(values))):
        raise column.refuse(None, f"holds {arrow}, not names", "choose another kind in {0}", CHOSEN_TARGETS)
    row = _first(column.data.is_null())
    if row is not None:
        raise column.missing(row)
    made, names, notes = indicators(column.name, column.data, separator, column.refuse)
    found.targets[target], found.classes[target] = made, names
    found.notes.extend(f"{column.path}: {note}" for note in notes)


def _parsed(column: Column) -> npt.NDArray[np.float64]:
    """Return texts as numbers; an empty or missing one is NaN."""
    texts = pc.utf8_trim_whitespace(_text_array(column.data))
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    odd = _first(pc.fill_null(pc.invert(pc.match_substring_regex(texts, _NUMBER)), False))
    if odd is not None:
        raise column.refuse(odd, f"{texts[odd].as_py()!r} is no number: correct it, or leave the cell empty")
    return np.asarray(texts.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _check_categories(column: Column, names: Sequence[str]) -> None:
    """Refuse texts that are numbers but for a few, and texts that are the paths of images.

    Raises:
        ManifestError: they are.
    """
    some = names if len(names) <= _CHECKED_NAMES else names[:: len(names) // _CHECKED_NAMES]
    as_texts, as_labels = Option("targets", {column.name: "text"}), Option("targets", {column.name: "category"})
    if len(some) > 1 and 2 * sum(has_image_suffix(os.fsencode(name)) for name in some) > len(some):
        reason = f"holds the paths of images, such as {some[0]!r}, which would become {len(names):,} categories"
        advice = "if they are masks, pass {0} and the other columns; {1} keeps them as text; or leave them out"
        raise column.refuse(None, reason, advice, Option("targets", {column.name: "mask"}), as_texts)
    if 2 * sum(re.fullmatch(_LISTED_NUMBERS, name.strip()) is not None for name in some) > len(some):
        reason = f"holds lists of numbers as texts, such as {some[0][:40]!r}, which would become categories"
        raise column.refuse(
            None, f"{reason}; save the table as JSONL or Parquet", "or keep it as text with {0}", as_texts
        )
    numeric = [re.fullmatch(_NUMBER, name.strip()) is not None for name in names]
    commas = [re.fullmatch(_DECIMAL_COMMA, name.strip()) is not None for name in names]
    if len(names) > 2 and 2 * (sum(numeric) + sum(commas)) > len(names) and not all(numeric):
        other = names[numeric.index(False)]
        row = int(np.argmax(pc.equal(_text_array(column.data), other).to_numpy(zero_copy_only=False)))
        reason = f"{other!r} is no number, but most values are, so all would become {len(names):,} categories"
        raise column.refuse(
            row, reason, "leave the cell empty or correct it; if they are categories, pass {0}", as_labels
        )


def _add_categories(found: Found, target: str, column: Column, *, chosen: bool) -> None:
    data = column.data if _is_text(column.data.type) else column.data.cast(pa.string())
    encoded = _text_array(data).dictionary_encode()
    names = encoded.dictionary.to_pylist()
    is_label = target == "labels"
    if not chosen:
        _check_categories(column, names)
        if len(names) > CATEGORY_LIMIT:
            if column.offsets is not None:
                raise column.refuse(
                    None, f"has {len(names):,} different texts in its lists", "leave the column out with {0}"
                )
            found.texts[target] = text_list(column.data)
            return
    codes = encoded.indices.to_numpy()
    if "" in names and Path(column.path).suffix.lower() in {".csv", ".tsv"}:
        raise column.missing(int(np.argmax(codes == names.index(""))))
    if not chosen and not is_label and len(names) == len(codes) and len(names) >= _MANY_NAMES:
        found.notes.append(f"{column.path}: column {column.name!r} has {len(names):,} categories, one for each row")
    numbers = not _is_text(column.data.type)
    order = sorted(range(len(names)), key=lambda i: (float(names[i]), "") if numbers else (0.0, names[i]))
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    found.targets[target] = ranks[codes]
    found.classes[target] = tuple(names[i] for i in order)
    note = order_note(found.classes[target]) if not numbers else None
    if note:
        found.notes.append(f"{column.path}: column {column.name!r}: {note}")


def _numbers(column: Column, data: Any, *, per_row: int) -> npt.NDArray[Any]:
    """Return pyarrow numbers as an array. Messages need ``per_row``, how many of them make a place of the column."""
    types = pa.types
    if not (types.is_floating(data.type) or types.is_integer(data.type) or types.is_boolean(data.type)):
        raise column.refuse(None, f"holds {column.data.type}, which is no target", "choose other columns with {0}")
    place = None if types.is_floating(data.type) else _first(data.is_null())
    if place is not None:
        raise column.missing(place // max(per_row, 1))
    if not types.is_integer(data.type):  # to_numpy turns missing floats into NaN
        return np.asarray(data.to_numpy())
    try:
        return np.asarray(data.cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid as error:
        raise column.refuse(None, f"a whole number does not fit int64: {error}") from error


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_list_of_items(kind: Any) -> bool:
    """Return whether a type of pyarrow is of lists that may become a target: of numbers, of lists of them, of names."""
    if not _is_list(kind):
        return False
    item = kind.value_type
    while _is_list(item):
        item = item.value_type
    return bool(pa.types.is_primitive(item)) or _is_text(kind.value_type)


def _add_lists(found: Found, target: str, column: Column, kind: str | None) -> None:
    """Add a column of lists: ragged if the lists differ in length, or are the names of categories.

    Raises:
        ManifestError: lists inside the lists differ in length, or hold something else than numbers or names.
    """
    lengths = pc.list_value_length(column.data).to_numpy().astype(np.int64)
    offsets = offsets_of(lengths)
    items = replace(column, data=pc.list_flatten(column.data), offsets=offsets)
    if kind == "text":
        raise column.refuse(None, "holds lists, which are no texts", "leave the column out with {0}")
    if kind == "category" or _is_text(items.data.type):
        missing = _first(items.data.is_null())
        if missing is not None:
            raise items.missing(missing)
        _add_categories(found, target, items, chosen=kind is not None)
        found.targets[target] = Ragged(np.asarray(found.targets[target]), offsets)
        return
    data = items.data
    shape: tuple[int, ...] = ()
    while _is_list(data.type):
        data, width = _flattened(items, data, max(math.prod(shape), 1))
        shape = (*shape, width)
    values = _numbers(items, data, per_row=math.prod(shape)).reshape(int(offsets[-1]), *shape)
    if len(set(lengths.tolist())) > 1:
        found.targets[target] = Ragged(values, offsets)
    else:
        found.targets[target] = values.reshape(len(lengths), int(lengths[0]), *shape)


def _flattened(items: Column, data: Any, per_item: int) -> tuple[Any, int]:
    """Return what lists inside the items hold, end to end, and the length that all of these lists have.

    Raises:
        ManifestError: one is missing, or has another length.
    """
    missing = _first(data.is_null())
    if missing is not None:
        raise items.missing(missing // per_item)
    lengths = pc.list_value_length(data).to_numpy()
    width = int(lengths[0]) if len(lengths) else 0
    odd = np.flatnonzero(lengths != width)
    if len(odd):
        reason = f"expected {width} values in each item as in the first, found {lengths[odd[0]]}: give each as many"
        raise items.refuse(int(odd[0]) // per_item, reason)
    return pc.list_flatten(data), width
