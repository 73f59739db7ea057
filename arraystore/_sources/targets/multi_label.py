"""Columns with several names in a cell, which become one column of zeros and ones for each name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._common.wording import flat, many
from arraystore.errors import Kind, ManifestError, Option

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    pa, pc = lazy("pyarrow"), lazy("pyarrow.compute")

KIND = "multi-label"
# By name too, because the command separates its columns by commas.
_SEPARATORS = {"bar": "|", "semicolon": ";", "comma": ",", "space": " "}
_MOST_NAMES = 10_000  # each takes a byte in every row


class _Refuse(Protocol):
    def __call__(self, place: int | None, reason: str, advice: str = "", *options: Option) -> ManifestError: ...


def indicators(
    name: str, data: Any, separator: str, refuse: _Refuse
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...], list[str]]:
    """Return a uint8 array (N, names) with a 1 where a row has a name, the sorted names, and notes.

    Args:
        name: of the column.
        data: a pyarrow column of texts, or of lists of texts.
        separator: of the names in a text, as a character or in words; empty to find it.
        refuse: makes the error.

    Raises:
        ManifestError: the separator cannot be told, a value is missing, or there are too many names.
    """
    column = data.combine_chunks() if isinstance(data, pa.ChunkedArray) else data
    notes: list[str] = []
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        lists = column
    else:
        texts = column.cast(pa.large_string())
        chosen = _SEPARATORS.get(separator, separator) or _found(name, texts, refuse)
        if chosen is not None:
            shown = next((words for words, each in _SEPARATORS.items() if each == chosen), repr(chosen))
            notes += [] if separator else [f"column {name!r}: names in a cell are separated by a {shown}"]
        lists = pc.split_pattern(texts, chosen or "|")
    rows, members = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists)
    missing = np.flatnonzero(members.is_null().to_numpy(zero_copy_only=False))
    if len(missing):
        raise refuse(int(rows[missing[0]]), "a name is missing: leave it out of the list")
    encoded = pc.utf8_trim_whitespace(members.cast(pa.large_string())).dictionary_encode()
    found, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    names = tuple(sorted(each for each in found if each))
    if not names or len(names) > _MOST_NAMES:
        reason = f"has {many(len(names), 'name')}, but should have 1 to {_MOST_NAMES:,}: is it the right column?"
        raise refuse(None, reason)
    place = {each: at for at, each in enumerate(names)}
    places = np.array([place.get(each, -1) for each in found], np.int64)[codes]
    made = np.zeros((len(lists), len(names)), np.uint8)
    made[rows[places >= 0], places[places >= 0]] = 1
    return made, names, notes


def _found(name: str, texts: Any, refuse: _Refuse) -> str | None:
    """Return the character that separates the names in the cells, or None where each cell has one name."""
    inside = pc.utf8_trim_whitespace(texts)
    found = [each for each in _SEPARATORS.values() if pc.any(pc.match_substring(inside, each)).as_py()]
    marks = [each for each in found if each != " "]  # a name may have spaces
    if len(marks) < 2:
        return next(iter(marks or found), None)
    row = int(np.argmax(pc.match_substring(inside, marks[1]).to_numpy(zero_copy_only=False)))
    words = next(words for words, each in _SEPARATORS.items() if each == marks[0])
    raise refuse(
        row,
        f"the cells have {' and '.join(map(repr, marks))}, so it cannot be told which one separates the names",
        "say it: pass {0}, or with bar, semicolon, comma or space",
        Option("targets", {name: f"{KIND}:{words}"}),
    )


def names_in(row: npt.NDArray[Any], names: Sequence[str]) -> list[str]:
    """Return the names that a row of `indicators` has."""
    return [names[at] for at in np.flatnonzero(row).tolist()]


def reordered(
    target: str, made: npt.NDArray[Any], names: Sequence[str], classes: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """Return an array of `indicators` with a column for each of ``classes``, in their order.

    Raises:
        ManifestError: a name that has rows is not among the classes.
    """
    column_of = {name: at for at, name in enumerate(classes)}
    result = np.zeros((len(made), len(classes)), np.uint8)
    for at, name in enumerate(names):
        if name in column_of:
            result[:, column_of[name]] = made[:, at]
        elif made[:, at].any():
            raise not_given(target, int(np.argmax(made[:, at])), "name", name, len(classes))
    return result


def not_given(target: str, row: int, noun: str, name: str, count: int) -> ManifestError:
    """Return the error that a row has a name, or is of a class, that is not among ``count`` given ones."""
    return ManifestError(
        f"target {target!r}: row {row} (counted from 0) has the {noun} {flat(name)!r}, which is not among the "
        f"{count:,} given ones",
        slot=row,
        reason=f"unknown {noun} {name!r}",
        kind=Kind.INVALID,
        advice="add it at the end of {0}, or leave its images out",
        options=[Option("classes", None)],
    )
