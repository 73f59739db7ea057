"""Options that change between epochs: which value holds when, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraystore._common.checks import whole_number
from arraystore._ordering.by_epoch import checked_by_epoch, first_epochs, is_by_epoch, value_at
from arraystore.errors import SpecError


def count(value: Any, name: str) -> int:
    return whole_number(name, value, 1)


@given(st.dictionaries(st.integers(0, 30), st.integers(1, 99)), st.integers(1, 99), st.integers(0, 40))
def test_a_value_holds_from_its_epoch_to_the_next(values: dict[int, int], first: int, epoch: int) -> None:
    values[0] = first
    steps = checked_by_epoch("sizes", values, count)
    held = first
    for each in range(epoch + 1):  # the plain way: day after day
        held = values.get(each, held)
    assert value_at("sizes", steps, epoch, count) == held
    assert first_epochs(steps) == sorted(values)


def test_a_function_is_called_with_the_epoch() -> None:
    steps = checked_by_epoch("sizes", lambda epoch: 10 + epoch, count)
    assert [value_at("sizes", steps, epoch, count) for epoch in (0, 3, 2)] == [10, 13, 12]
    assert first_epochs(steps) == [0]


def test_what_changes_between_epochs() -> None:
    assert [is_by_epoch(value) for value in ({0: 1}, count, 3, np.int64(3), None, (3, 4), "8")] == [True] * 2 + [
        False
    ] * 5


def test_epochs_and_values_become_plain_numbers_in_order() -> None:
    steps: Any = checked_by_epoch("sizes", {np.int64(9): np.int32(2), 0: np.int8(1)}, count)
    assert list(steps.items()) == [(0, 1), (9, 2)]
    assert {type(number) for pair in steps.items() for number in pair} == {int}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "sizes must have a value for epoch 0, and its epochs are none"),
        ({6: 8, 2: 8}, "sizes must have a value for epoch 0, and its epochs are [2, 6]"),
        ({0: 8, -1: 8}, "an epoch of sizes must be a whole number of 0 or more, not -1"),
        ({0: 8, 1.5: 8}, "an epoch of sizes must be a whole number of 0 or more, not 1.5"),
        ({False: 8}, "an epoch of sizes must be a whole number of 0 or more, not False"),
        ({0: 8, 6: 0}, "sizes[6] must be a whole number of 1 or more, not 0"),
        (8, "sizes must map epochs to values, or be a function of the epoch, not 8"),
        ([8, 9], "sizes must map epochs to values, or be a function of the epoch, not [8, 9]"),
    ],
)
def test_what_cannot_be(given: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        checked_by_epoch("sizes", given, count)
    assert str(caught.value) == message


def test_what_a_function_returns_is_checked() -> None:
    with pytest.raises(SpecError, match=r"^sizes\(7\) must be a whole number of 1 or more, not 0$"):
        value_at("sizes", lambda epoch: 7 - epoch, 7, count)
    with pytest.raises(ZeroDivisionError) as caught:
        value_at("sizes", lambda epoch: 7 // epoch, 0, count)
    assert caught.value.__notes__ == ["sizes was called with epoch 0"]


@pytest.mark.parametrize("epoch", [-1, 0.5, True, "0"])
def test_an_epoch_that_cannot_be(epoch: Any) -> None:
    for values in ({0: 8}, lambda _: 8):
        with pytest.raises(SpecError, match=r"^epoch must be a whole number of 0 or more, not "):
            value_at("sizes", values, epoch, count)
