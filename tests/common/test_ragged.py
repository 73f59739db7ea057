"""Ragged: every choice is that of NumPy on a list of arrays, and nothing that is wrong becomes one."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arraystore
from arraystore import Ragged, SpecError
from arraystore._common.ragged import joined_targets, merged_rows, own_rows, same_rows, split_targets

Rows = list[npt.NDArray[Any]]
NO_ROW = "not a row of numbers: a row without items is an empty list"
NO_NUMBERS = "(counted from 0) holds something else than numbers, or lists of different lengths"
DTYPES = ["float32", "float64", "int64", "uint8", "bool", ">f4"]


@st.composite
def lists(draw: st.DrawFn) -> Rows:
    """Arrays of any lengths, whose items have one shape."""
    shape = draw(st.sampled_from([(), (4,), (3, 2)]))
    lengths = draw(st.lists(st.integers(0, 5), max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    dtype = draw(st.sampled_from(DTYPES))
    return [rng.integers(0, 200, (length, *shape)).astype(dtype) for length in lengths]


def ragged_of(rows: Rows) -> Ragged:
    return Ragged.from_rows(rows, rows[0].dtype if rows else None)


def check(ragged: Ragged, rows: Rows) -> None:
    assert len(ragged) == len(rows)
    for found, row in zip(ragged, rows, strict=True):
        np.testing.assert_array_equal(found, row, strict=True)
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.offsets.dtype == np.int64
    assert not ragged.values.flags.writeable
    assert not ragged.offsets.flags.writeable


@given(lists(), st.data())
def test_a_choice_is_that_of_a_list_of_arrays(rows: Rows, data: st.DataObject) -> None:
    ragged, count = ragged_of(rows), len(rows)
    check(ragged, rows)
    index = st.none() | st.integers(-9, 9)
    cut = slice(data.draw(index), data.draw(index), data.draw(st.none() | st.integers(1, 3) | st.integers(-3, -1)))
    check(ragged[cut], rows[cut])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    check(ragged[mask], [row for row, chosen in zip(rows, mask, strict=True) if chosen])
    if count:
        chosen = data.draw(st.lists(st.integers(-count, count - 1), max_size=12))
        check(ragged[chosen], [rows[i] for i in chosen])
        check(ragged[np.array(chosen, np.int32)], [rows[i] for i in chosen])
        check(ragged[chosen][::-1][:3], [rows[i] for i in chosen][::-1][:3])
        one = data.draw(st.integers(-count, count - 1))
        np.testing.assert_array_equal(ragged[one], rows[one], strict=True)
    if ragged.dtype.isnative:  # NumPy's pickles of small arrays forget another order of bytes
        check(pickle.loads(pickle.dumps(ragged)), rows)
    owned = own_rows(ragged)
    assert [row.tolist() for row in owned] == [row.tolist() for row in rows]
    assert all(
        row.flags.writeable and row.flags.c_contiguous and not np.shares_memory(row, ragged.values) for row in owned
    )


@given(lists(), lists(), st.data())
def test_rows_of_two_are_merged_in_their_places(new: Rows, old: Rows, data: st.DataObject) -> None:
    old = [np.resize(row, (len(row), *new[0].shape[1:])).astype(new[0].dtype) for row in old] if new else []
    if not new or not old:
        return
    places = st.lists(st.tuples(st.integers(-1, len(new) - 1), st.integers(0, len(old) - 1)), max_size=9)
    rows, slots = np.array(data.draw(places) or np.empty((0, 2)), np.int64).reshape(-1, 2).T
    merged = merged_rows(ragged_of(new), rows, ragged_of(old), slots)
    assert isinstance(merged, Ragged)
    check(merged, [new[row] if row >= 0 else old[slot] for row, slot in zip(rows, slots, strict=True)])


@given(lists())
def test_as_plain_arrays_and_back(rows: Rows) -> None:
    targets = {"a": ragged_of(rows), "b": np.arange(3)}
    arrays = split_targets(targets)
    assert list(arrays) == ["a/values", "a/offsets", "b"]
    back = joined_targets(arrays)
    assert list(back) == ["a", "b"]
    assert isinstance(back["a"], Ragged)
    check(back["a"], rows)


@pytest.mark.parametrize("other", [[[1.0, 2.0], [3.0]], [[1.0], [2.0, np.nan]], [[1.0, np.nan], [4.0]]])
def test_the_same_rows(other: Any) -> None:
    ragged = Ragged.from_rows([[1.0, np.nan], [3.0]])
    assert same_rows(ragged, Ragged.from_rows([[1.0, np.nan], [3.0]]))
    assert not same_rows(ragged, Ragged.from_rows(other))


def test_rows_are_lists_and_may_be_empty() -> None:
    ragged = Ragged.from_rows([[], [[1, 2]], [], [[3, 4], [5, 6.5]]])
    assert (ragged.dtype, ragged.item_shape, ragged.offsets.tolist()) == (np.float64, (2,), [0, 0, 1, 1, 3])
    assert ragged[3].tolist() == [[3, 4], [5, 6.5]]
    assert [ragged.row_of(item) for item in range(3)] == [1, 3, 3]
    assert Ragged.from_rows([[1], [2, 3]], "uint8").values.tolist() == [1, 2, 3]
    assert Ragged.from_rows([[1], [2, 3]], "uint8").dtype == np.uint8
    nothing = Ragged.from_rows([[], np.zeros((0, 4), np.float32)])
    assert (nothing.dtype, nothing.values.shape, len(nothing)) == (np.float32, (0, 4), 2)
    assert len(Ragged.from_rows([])) == 0
    assert repr(ragged) == "<arraystore.Ragged of 4 rows, 3 items of float64 (2,)>"
    assert repr(ragged[:2]) == "<arraystore.Ragged of 2 rows, 1 items of float64 (2,)>"
    assert ragged.nbytes == 3 * 2 * 8 + 5 * 8


def test_a_slice_copies_no_value() -> None:
    ragged = Ragged.from_rows([[1], [2, 3], [4]])
    assert np.shares_memory(ragged[1:].values, ragged.values)
    assert np.shares_memory(ragged[1], ragged.values)
    assert not np.shares_memory(ragged[[1, 2]].values, ragged.values)


def test_it_cannot_be_changed() -> None:
    ragged = Ragged.from_rows([[1], [2, 3]])
    with pytest.raises(AttributeError):
        ragged.values = np.zeros(3)  # type: ignore[misc]
    for array in (ragged.values, ragged.offsets, ragged[1], pickle.loads(pickle.dumps(ragged)).values):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_it_makes_no_array_in_silence() -> None:
    with pytest.raises(TypeError, match=r"make no array: take \.values and \.offsets"):
        np.asarray(Ragged.from_rows([[1], [2]]))


@pytest.mark.parametrize("chosen", [3, -4, [0, 3], [-4], [[0]], [0.5], np.ones(2, bool)])
def test_rows_that_do_not_exist_are_errors(chosen: Any) -> None:
    with pytest.raises(IndexError):
        Ragged.from_rows([[1], [2, 3], []])[chosen]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], 3], f"row 1 (counted from 0) holds a int, {NO_ROW}"),
        ([[1, 2], None], f"row 1 (counted from 0) holds a NoneType, {NO_ROW}"),
        (["ab", "c"], f"row 0 (counted from 0) holds a str, {NO_ROW}"),
        ([[1], ["a"]], f"row 1 {NO_NUMBERS}"),
        ([[1], [None, 1]], f"row 1 {NO_NUMBERS}"),
        ([[1], [[1, 2], [3]]], f"row 1 {NO_NUMBERS}"),
        (
            [[], [[1, 2]], [[1, 2, 3]]],
            "row 2 (counted from 0) holds items of shape (3,), and the first row that has items has them of shape (2,)",
        ),
        (
            [np.zeros((0, 5)), [[1, 2]]],
            "row 0 (counted from 0) holds items of shape (5,), and the first row that has items has them of shape (2,)",
        ),
        (
            [np.array([2**63], np.uint64), np.array([-1])],
            "rows of int64 and of uint64 have no dtype in common that is exact: convert them to one",
        ),
    ],
)
def test_rows_that_fit_together_in_no_way_are_named(rows: Any, message: str) -> None:
    with pytest.raises(SpecError, match="^" + re.escape(message) + "$"):
        Ragged.from_rows(rows)


@pytest.mark.parametrize(("rows", "dtype"), [([[300], []], "uint8"), ([[0.5], []], "int64"), ([[1], []], "U4")])
def test_a_dtype_that_cannot_hold_the_rows_is_refused(rows: Any, dtype: str) -> None:
    with pytest.raises(SpecError, match=r"cannot hold: choose another dtype$"):
        Ragged.from_rows(rows, dtype)


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        (np.array(["a"]), [0, 1], "values must be numbers, (total, ...), not <U1 of shape (1,)"),
        (np.float64(3), [0, 1], "values must be numbers, (total, ...), not float64 of shape ()"),
        (np.zeros(3), [], "offsets must be whole numbers, (rows + 1,), not float64 of shape (0,)"),
        (np.zeros(3), [0.0, 3.0], "offsets must be whole numbers, (rows + 1,), not float64 of shape (2,)"),
        (np.zeros(3), [[0, 3]], "offsets must be whole numbers, (rows + 1,), not int64 of shape (1, 2)"),
        (np.zeros(3), [0, 2], "offsets must go from 0 to 3, the number of items, not from 0 to 2"),
        (np.zeros(3), [1, 3], "offsets must go from 0 to 3, the number of items, not from 1 to 3"),
        (np.zeros(3), [0, 4], "offsets must go from 0 to 3, the number of items, not from 0 to 4"),
        (np.zeros(3), [0, 2, 1, 3], "offsets must not fall, but row 1 goes from 2 to 1"),
        (np.zeros(3), [0, 9, 3], "offsets must not fall, but row 1 goes from 9 to 3"),
        (np.zeros(3), [0, -5, 3], "offsets must not fall, but row 0 goes from 0 to -5"),
        (np.zeros(0), np.array([0, 2**64 - 1, 0], np.uint64), "offsets must not fall, but row 0 goes from 0 to -1"),
    ],
)
def test_offsets_that_lie_are_refused(values: Any, offsets: Any, message: str) -> None:
    with pytest.raises(SpecError, match="^" + re.escape(message) + "$"):
        Ragged(values, offsets)


def test_it_is_documented_and_public() -> None:
    assert arraystore.Ragged is Ragged
    assert Ragged.__module__ == "arraystore"
