"""Columns of pyarrow from arrays and back equal what pyarrow itself makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from arraystore._common.arrow import bytes_column, nulls_in, number_column, numbers_in, text_column, time_column

VALID = np.arange(21) % 3 != 1


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint32", "int64", "uint64", "float32", "float64"])
def test_numbers_there_and_back(dtype: str) -> None:
    values = np.arange(21).astype(dtype)
    column = number_column(values, valid=VALID)
    assert column.equals(pa.array(values, mask=~VALID))
    every = pa.chunked_array([column, column.slice(5, 9), column[:0], pa.array(values)])
    found = numbers_in(every)
    np.testing.assert_array_equal(found, every.fill_null(0).to_numpy())
    assert found.dtype == dtype
    np.testing.assert_array_equal(nulls_in(every), every.is_null().to_numpy())


def test_a_column_without_rows() -> None:
    empty = pa.chunked_array([], pa.uint32())
    assert (numbers_in(empty).tolist(), numbers_in(empty).dtype, nulls_in(empty).tolist()) == ([], "uint32", [])
    assert numbers_in(pa.chunked_array([number_column(np.zeros(0, np.int64))])).tolist() == []


def test_times_count_microseconds() -> None:
    times = np.array([7, 0, 9], np.int64)
    wanted = pa.array(times, pa.timestamp("us", "UTC"), mask=times == 0)
    assert time_column(times, times != 0).equals(wanted)


@pytest.mark.parametrize(
    ("texts", "kind"), [(["a", "", "é"], pa.string()), (["a", "", "x\udcff"], pa.binary()), ([], pa.string())]
)
def test_texts(texts: list[str], kind: Any) -> None:
    raw = [text.encode("utf-8", "surrogateescape") for text in texts]
    valid = np.array([text != "" for text in texts], bool)
    wanted = pa.array(raw, pa.binary(), mask=~valid)
    made = text_column(texts, valid)
    assert made.type == kind
    assert made.cast(pa.binary()).equals(wanted)
    assert bytes_column(raw, valid).equals(wanted)
    np.testing.assert_array_equal(nulls_in(pa.chunked_array([made])), ~valid)


@pytest.mark.parametrize("column", [pa.array(["a"]), pa.array([[1]]), pa.array([True]), pa.array([1], "timestamp[us]")])
def test_what_holds_no_numbers_is_refused(column: Any) -> None:
    with pytest.raises(ValueError, match="holds no numbers"):
        numbers_in(pa.chunked_array([column]))
