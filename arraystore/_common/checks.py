"""Values that users give: checked, made unchangeable, and told apart."""

from __future__ import annotations

import math
import operator
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore.errors import SpecError

__all__ = ["check_workers", "choice_of", "held_array", "is_whole", "parse_bytes", "settle", "size_of", "whole_number"]

_LARGEST_SIDE_PX = 65_535
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


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


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are not."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def choice_of(name: str, value: object, allowed: tuple[str, ...]) -> object:
    """Return ``value``.

    Raises:
        SpecError: it is not one of those allowed.
    """
    if value not in allowed:
        raise SpecError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value


def size_of(size: object) -> tuple[int, int]:
    """Return the height and width that an option means.

    Raises:
        SpecError: it is neither a whole number of pixels nor two, or out of range.
    """
    sides = (size, size) if is_whole(size) else size
    if not (isinstance(sides, tuple | list) and len(sides) == 2 and all(is_whole(side) for side in sides)):
        raise SpecError(f"size must be a whole number of pixels, or (height, width), not {size!r}")
    height, width = (int(side) for side in sides)
    if not (1 <= height <= _LARGEST_SIDE_PX and 1 <= width <= _LARGEST_SIDE_PX):
        raise SpecError(f"size must be 1 to {_LARGEST_SIDE_PX} pixels on each side, not {size!r}")
    return height, width


def check_workers(workers: int | None) -> None:
    """Refuse a number of workers that cannot be; None stands for `usable_cpus`.

    Raises:
        SpecError: it is less than 1.
    """
    if workers is not None and workers < 1:
        raise SpecError(f"workers must be at least 1, not {workers!r}")


def parse_bytes(budget: float | str) -> int:
    """Return the bytes that a number or a text such as ``"8 GB"`` or ``"500MiB"`` means.

        >>> parse_bytes("1.5 GB")
        1500000000

    Raises:
        SpecError: it means none.
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
