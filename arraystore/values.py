"""Values that users give: checked, made unchangeable, and told apart."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore.digests import digest_of
from arraystore.errors import SpecError

__all__ = ["array_digest", "held_array", "settle", "whole_number"]


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return an option as an int.

    Raises:
        SpecError: it is no whole number, less than ``low``, or more than ``high``.
    """
    try:
        number = low - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high):
        limits = f"of {low:,} or more" if high is None else f"from {low:,} to {high:,}"
        raise SpecError(f"{name} must be a whole number {limits}, not {value!r}")
    return number


def settle(made: object, **limits: tuple[int, int | None]) -> None:
    """Make fields of a frozen dataclass plain ints, each from the one limit to the other; see `whole_number`.

    Raises:
        SpecError: a field is no whole number, or beyond a limit.
    """
    for name, (low, high) in limits.items():
        object.__setattr__(made, name, whole_number(name, getattr(made, name), low, high))


def held_array(name: str, values: npt.ArrayLike, dtype: type[np.int64 | np.float64]) -> npt.NDArray[Any]:
    """Return a read-only copy that nobody else can change.

    Raises:
        SpecError: these are not numbers in one row, or not whole ones where the dtype is.
    """
    array = np.asarray(values)
    kinds, numbers = ("iu", "whole numbers") if dtype is np.int64 else ("iufb", "numbers")
    if array.ndim != 1 or (array.size and array.dtype.kind not in kinds):
        raise SpecError(f"{name} must be {numbers} in one row, not {array.dtype} of shape {array.shape}")
    held = array.astype(dtype)
    held.flags.writeable = False
    return held


def array_digest(values: npt.NDArray[Any]) -> str:
    """Return the digest of an array's values, the same on every machine."""
    return digest_of([values.astype(values.dtype.newbyteorder("<"), copy=False).data])
