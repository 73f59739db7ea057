"""Targets with another number of items in each row, such as the boxes of each image, as two plain arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from arraystore._common.options import public
from arraystore.errors import FormatError, Kind, SpecError

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]

# In stores, pickles and digests a ragged target `boxes` is the arrays `boxes/values` and `boxes/offsets`. No target's
# name has a slash.
VALUES, OFFSETS = "/values", "/offsets"


@public
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Ragged:
    """A row for each image, with any number of items in a row: boxes, their categories, keypoints.

    The items of all rows lie end to end in one array. ``ragged[3]`` is row 3, a view of shape (items, ...);
    ``ragged[2:9]``, ``ragged[[5, 1]]`` and ``ragged[mask]`` are the `Ragged` of these rows. It cannot be changed.

    Attributes:
        values: (total, ...), the items of all rows: booleans, whole numbers or floats. Read-only, in C order; not
            copied if it is in C order.
        offsets: int64, (rows + 1,): row i is ``values[offsets[i]:offsets[i + 1]]``. Read-only; not copied if it is
            int64.

    Raises:
        SpecError: the values are no numbers, or the offsets do not begin with 0, fall, or do not end with the number of
            items.

    Example:
        >>> boxes = Ragged.from_rows([[[0, 0, 8, 8], [2, 2, 4, 4]], [], [[1, 0, 3, 5]]], dtype="float32")
        >>> boxes.offsets.tolist(), boxes.values.shape
        ([0, 2, 2, 3], (3, 4))
        >>> [len(row) for row in boxes[[2, 0]]]
        [1, 2]
    """

    values: Array
    offsets: Index

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _held(_checked_values(self.values)))
        object.__setattr__(self, "offsets", _held(checked_offsets(self.offsets, len(self.values))))

    @classmethod
    def from_rows(cls, rows: Sequence[Any], dtype: npt.DTypeLike | None = None) -> Ragged:
        """Return rows that are given one by one.

        Args:
            rows: an array for each row, or lists that make one: (items, ...). The shape of an item must be the same in
                all rows; a row may be empty.
            dtype: of the values; None takes the one that holds those of all rows.

        Raises:
            SpecError: a row is no array of numbers, or has items of another shape; or the dtype cannot hold a value.
        """
        try:
            lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        except TypeError:
            raise _odd_row(rows, ()) from None
        arrays = [row for row in rows if len(row)]
        try:
            values = np.concatenate(arrays) if arrays else _no_items(rows)
        except (ValueError, TypeError):
            raise _odd_row(rows, np.shape(arrays[0])[1:] if _is_regular(arrays[0]) else ()) from None
        for row in np.flatnonzero(lengths == 0).tolist():
            if np.shape(rows[row])[1:] not in ((), values.shape[1:]):
                raise _odd_row(rows, values.shape[1:])
        if values.dtype.kind not in "biuf":
            raise _odd_row(rows, values.shape[1:])
        if values.dtype.kind == "f" and not any(np.asarray(row).dtype.kind == "f" for row in arrays or [values]):
            raise SpecError("rows of int64 and of uint64 have no dtype in common that is exact: convert them to one")
        return cls(values if dtype is None else _cast(values, np.dtype(dtype)), offsets_of(lengths))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def item_shape(self) -> tuple[int, ...]:
        """The shape of one item: (4,) for boxes, () for categories."""
        return self.values.shape[1:]

    @property
    def lengths(self) -> Index:
        """How many items each row has: int64, (rows,)."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """The bytes of both arrays."""
        return int(self.values.nbytes + self.offsets.nbytes)

    def row_of(self, item: int) -> int:
        """Return the row of an item, given its index in the values."""
        return int(np.searchsorted(self.offsets, item, "right")) - 1

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Array]:
        for start, stop in pairwise(self.offsets.tolist()):
            yield np.asarray(self.values[start:stop])

    @overload
    def __getitem__(self, chosen: int | np.integer[Any]) -> Array: ...
    @overload
    def __getitem__(self, chosen: slice | Sequence[int] | Sequence[bool] | Array) -> Ragged: ...
    def __getitem__(self, chosen: Any) -> Array | Ragged:
        count = len(self)
        if isinstance(chosen, slice):
            start, stop, step = chosen.indices(count)
            if step != 1:
                return self.take(np.arange(start, stop, step))
            offsets = self.offsets[start : max(start, stop) + 1]
            return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])
        if not isinstance(chosen, list | tuple | np.ndarray):
            row = operator.index(chosen)
            if not -count <= row < count:
                raise IndexError(f"row {row} of {count:,}")
            row %= count
            return np.asarray(self.values[self.offsets[row] : self.offsets[row + 1]])
        rows = np.asarray(chosen)
        if rows.dtype == bool and rows.shape == (count,):
            return self.take(np.flatnonzero(rows))
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise IndexError(
                f"rows are chosen by a slice, a mask of {count:,}, or a list of integers, not by {rows.dtype} of shape "
                f"{rows.shape}"
            )
        rows = rows.astype(np.int64)
        return self.take(np.where(rows < 0, rows + count, rows))

    def take(self, rows: npt.ArrayLike) -> Ragged:
        """Return a copy of some rows, in the order given.

        Args:
            rows: integers, (k,), from 0 to ``len - 1``.

        Raises:
            IndexError: there is no such row.
        """
        wanted = np.asarray(rows, np.int64).reshape(-1)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows {wanted.min():,} to {wanted.max():,} of {len(self):,}")
        starts = self.offsets[wanted]
        lengths = self.offsets[wanted + 1] - starts
        offsets = offsets_of(lengths)
        items = np.repeat(starts - offsets[:-1], lengths)
        items += np.arange(len(items))
        return Ragged(np.asarray(self.values)[items], offsets)

    def __reduce__(self) -> tuple[Callable[..., Ragged], tuple[Any, ...]]:
        return Ragged, (self.values, self.offsets)  # so that the arrays are read-only again

    def __array__(self, *_args: Any, **_options: Any) -> Array:
        raise TypeError("rows of different lengths make no array: take .values and .offsets, or one row at a time")

    def __repr__(self) -> str:
        items = f"{len(self.values):,} items of {self.dtype}" + (f" {self.item_shape}" if self.item_shape else "")
        return f"<arraystore.Ragged of {len(self):,} rows, {items}>"


Target: TypeAlias = Array | Ragged


def offsets_of(lengths: Index) -> Index:
    """Return the offsets of rows with these lengths."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def rows_of_one_length(array: Array) -> Ragged:
    """Return an array (rows, items, ...) as rows that happen to have as many items each."""
    rows, items = array.shape[:2]
    return Ragged(array.reshape(rows * items, *array.shape[2:]), np.arange(rows + 1, dtype=np.int64) * items)


def one_after_another(parts: Sequence[Ragged]) -> Ragged:
    """Return the rows of several, one after another; dtypes and shapes of items are alike."""
    lengths = np.concatenate([part.lengths for part in parts])
    values = np.concatenate([np.asarray(part.values) for part in parts], dtype=parts[0].dtype)
    return Ragged(values, offsets_of(lengths))


def merged_rows(new: Target, rows: Index, old: Target, slots: Index) -> Target:
    """Return a target whose row i is ``new[rows[i]]``; or ``old[slots[i]]``, where ``rows[i]`` is negative."""
    is_new = rows >= 0
    ours, theirs = new[rows[is_new]], old[slots[~is_new]]
    if isinstance(ours, Ragged) and isinstance(theirs, Ragged):
        places = np.concatenate([np.flatnonzero(is_new), np.flatnonzero(~is_new)])
        return one_after_another([ours, theirs]).take(np.argsort(places))
    column = np.empty((len(rows), *np.shape(ours)[1:]), ours.dtype)
    column[is_new], column[~is_new] = ours, theirs
    return column


def same_rows(one: Target, other: Target) -> bool:
    """Return whether two targets hold the same; NaN is the same as NaN."""
    if isinstance(one, Ragged) and isinstance(other, Ragged):
        return np.array_equal(one.offsets, other.offsets) and same_rows(one.values, other.values)
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def own_rows(rows: Ragged | list[Array]) -> list[Array]:
    """Return copies of the rows, which may be written."""
    if isinstance(rows, list):
        return [row.copy() for row in rows]
    values = np.array(rows.values)
    return [values[start:stop] for start, stop in pairwise(rows.offsets.tolist())]


def masks_in(target: Ragged, rows: Index, sides: Index) -> list[Array]:
    """Return the masks of slots that differ in height and width: views (H, W) of a target that has their numbers.

    Args:
        target: of all slots of a store.
        rows: int64, (k,): the slots.
        sides: int64, (k, 2): height and width of each.

    Raises:
        FormatError: a mask has not as many numbers as its slot has pixels.
    """
    masks = []
    for row, (height, width) in zip(rows.tolist(), sides.tolist(), strict=True):
        numbers = target[row]
        if numbers.size != height * width:
            raise FormatError(
                f"the mask of slot {row} has {numbers.size:,} numbers, and its slot {height:,} x {width:,} pixels",
                slot=row,
                kind=Kind.DAMAGED,
                advice="repair the store",
            )
        masks.append(numbers.reshape(height, width))
    return masks


def flat_masks(masks: Sequence[Array], dtype: np.dtype[Any]) -> Ragged:
    """Return masks (H, W) of different heights and widths as rows of numbers."""
    values = np.concatenate([np.empty(0, dtype), *(mask.reshape(-1) for mask in masks)])
    return Ragged(values, offsets_of(np.array([mask.size for mask in masks], np.int64)))


def split_targets(targets: Mapping[str, Target]) -> dict[str, Array]:
    """Return targets as plain arrays: a ragged one becomes two, as `VALUES` says."""
    arrays: dict[str, Array] = {}
    for name, target in targets.items():
        if isinstance(target, Ragged):
            arrays |= {name + VALUES: target.values, name + OFFSETS: target.offsets}
        else:
            arrays[name] = target
    return arrays


def joined_targets(arrays: Mapping[str, Array]) -> dict[str, Target]:
    """Return the targets that `split_targets` made plain arrays of.

    Raises:
        SpecError: values and offsets do not belong together.
    """
    targets: dict[str, Target] = {}
    for key, array in arrays.items():
        name, slash, _ = key.rpartition("/")
        if not slash:
            targets[key] = array
        elif name not in targets:
            try:
                targets[name] = Ragged(arrays[name + VALUES], arrays[name + OFFSETS])
            except SpecError as error:
                raise SpecError(f"target {name!r}: {error}") from error
    return targets


def _held(array: Array) -> Array:
    """Return an array that cannot be written. A read-only one is returned itself: it may be the mapping of a file."""
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def _checked_values(values: Any) -> Array:
    array = values if isinstance(values, np.ndarray) else np.asarray(values)
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise SpecError(f"values must be numbers, (total, ...), not {array.dtype} of shape {array.shape}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def checked_offsets(offsets: Any, total: int) -> Index:
    """Return the offsets of rows that have ``total`` items in all, as int64.

    Raises:
        SpecError: they are no such offsets.
    """
    array = offsets if isinstance(offsets, np.ndarray) else np.asarray(offsets)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise SpecError(f"offsets must be whole numbers, (rows + 1,), not {array.dtype} of shape {array.shape}")
    if array.dtype != np.int64 or not array.flags.c_contiguous:
        array = array.astype(np.int64)
    if array[0] != 0 or array[-1] != total:
        raise SpecError(f"offsets must go from 0 to {total:,}, the number of items, not from {array[0]} to {array[-1]}")
    falls = np.flatnonzero(array[1:] < array[:-1])
    if len(falls):
        row = int(falls[0])
        raise SpecError(f"offsets must not fall, but row {row} goes from {array[row]} to {array[row + 1]}", slot=row)
    return array


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return values in a dtype that holds them; floats may be rounded to other floats."""
    with np.errstate(invalid="ignore"):
        cast = values.astype(dtype)
    if dtype.kind not in "biuf" or (dtype.kind != "f" and not np.array_equal(cast, values)):
        raise SpecError(f"the rows hold {values.dtype} that {dtype} cannot hold: choose another dtype")
    return cast


def _no_items(rows: Sequence[Any]) -> Array:
    """Return the values of rows that are all empty: the first array that has a shape of items says which."""
    shaped = next((row for row in rows if np.ndim(row) > 1), rows[0] if len(rows) else [])
    return np.asarray(shaped)


def _is_regular(row: Any) -> bool:
    try:
        return np.asarray(row).dtype.kind in "biuf"
    except ValueError:
        return False


def _odd_row(rows: Sequence[Any], shape: tuple[int, ...]) -> SpecError:
    """Return the error that names the first row which is no array of numbers, or has items of another shape."""
    for number, row in enumerate(rows):
        if not hasattr(row, "__len__") or isinstance(row, str | bytes):
            found = f"a {type(row).__name__}, not a row of numbers: a row without items is an empty list"
        elif not _is_regular(row):
            found = "something else than numbers, or lists of different lengths"
        elif np.shape(row)[1:] == shape or (not len(row) and np.ndim(row) == 1):
            continue
        else:
            found = f"items of shape {np.shape(row)[1:]}, and the first row that has items has them of shape {shape}"
        return SpecError(f"row {number} (counted from 0) holds {found}", slot=number, reason=f"holds {found}")
    return SpecError("the rows cannot be joined: give arrays of numbers whose items have one shape")
