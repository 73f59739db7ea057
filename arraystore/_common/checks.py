"""Checks of the values that users give."""

import math
import operator
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore.errors import SpecError

_LARGEST_SIDE_PX = 65_535
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` at its start expanded; as it is where there is no such user, so that it is not found."""
    with suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number; True and False are not."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return an option as an int.

    Raises:
        SpecError: it is no whole number, less than ``low``, or more than ``high``.
    """
    if not is_whole(value) or value < low or (high is not None and value > high):
        limits = f"of {low:,} or more" if high is None else f"from {low:,} to {high:,}"
        raise SpecError(f"{name} must be a whole number {limits}, not {value!r}")
    return int(value)


def settle(made: object, **limits: tuple[int, int | None]) -> None:
    """Turn fields of a frozen dataclass into plain ints, and check each against its lowest and highest value."""
    for name, (low, high) in limits.items():
        object.__setattr__(made, name, whole_number(name, getattr(made, name), low, high))


def held_array(name: str, values: npt.ArrayLike, dtype: type[np.int64 | np.float64]) -> npt.NDArray[Any]:
    """Return a read-only copy of an option that is a row of numbers.

    Raises:
        SpecError: the values are not one row of numbers, or are not whole where the dtype is int64.
    """
    array = np.asarray(values)
    kinds, numbers = ("iu", "whole numbers") if dtype is np.int64 else ("iufb", "numbers")
    if array.ndim != 1 or (array.size and array.dtype.kind not in kinds):
        raise SpecError(f"{name} must be {numbers} in one row, not {array.dtype} of shape {array.shape}")
    held = array.astype(dtype)
    held.flags.writeable = False
    return held


def choice_of(name: str, value: object, allowed: tuple[str, ...]) -> object:
    """Return ``value``.

    Raises:
        SpecError: it is not one of the allowed values.
    """
    if value not in allowed:
        raise SpecError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value


def size_of(size: object, name: str = "size") -> tuple[int, int]:
    """Return the height and width that an option gives.

    Raises:
        SpecError: it is neither one nor two whole numbers of pixels, or is out of range.
    """
    sides = (size, size) if is_whole(size) else size
    if not (isinstance(sides, tuple | list) and len(sides) == 2 and all(is_whole(side) for side in sides)):
        raise SpecError(f"{name} must be a whole number of pixels, or (height, width), not {size!r}")
    height, width = (int(side) for side in sides)
    if not (1 <= height <= _LARGEST_SIDE_PX and 1 <= width <= _LARGEST_SIDE_PX):
        raise SpecError(f"{name} must be 1 to {_LARGEST_SIDE_PX} pixels on each side, not {size!r}")
    return height, width


def parse_bytes(budget: float | str) -> int:
    """Return the bytes that a number or a text such as ``"8 GB"`` or ``"500MiB"`` means.

    Raises:
        SpecError: it is neither a number of 0 or more nor such a text.
    """
    if isinstance(budget, str):
        found = re.fullmatch(r"([\d.]+)\s*([kmgt]?i?)b?", budget.strip().lower())
        try:
            if found is not None:
                return int(float(found[1]) * _UNITS[found[2]])
        except (KeyError, ValueError, OverflowError):
            pass
    elif isinstance(budget, int | float | np.integer) and 0 <= budget < math.inf:
        return int(budget)
    raise SpecError(f"a size in bytes must be a number, or a text such as '8 GB' or '500 MiB', not {budget!r}")
