"""Options that change between epochs: a mapping from the first epoch of each value, or a function of the epoch."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from arraystore._common.checks import whole_number
from arraystore.errors import SpecError

T = TypeVar("T")
ByEpoch = Mapping[int, T] | Callable[[int], T]
Check = Callable[[Any, str], T]  # a value and its name, for errors → the value as it is used


def is_by_epoch(value: object) -> bool:
    """Return whether the value of an option changes between epochs."""
    return isinstance(value, Mapping) or callable(value)


def checked_by_epoch(name: str, given: object, check: Check[T]) -> ByEpoch[T]:
    """Return an option that changes between epochs: a function as it is, or a dict in the order of its epochs.

    Raises:
        SpecError: it is neither a mapping that begins at epoch 0 nor a function, or one of its values is invalid.
    """
    if isinstance(given, Mapping):
        firsts = sorted(whole_number(f"an epoch of {name}", first, 0) for first in given)
        if 0 not in firsts:
            raise SpecError(f"{name} must have a value for epoch 0, and its epochs are {firsts or 'none'}")
        return {first: check(given[first], f"{name}[{first}]") for first in firsts}
    if callable(given):
        return given
    raise SpecError(f"{name} must map epochs to values, or be a function of the epoch, not {given!r}")


def value_at(name: str, values: ByEpoch[Any], epoch: int, check: Check[T]) -> T:
    """Return the value that holds in an epoch.

    Args:
        name: of the option, for errors.
        values: from `checked_by_epoch`.
        epoch: its number.
        check: see `Check`; what a function returns is checked each time.

    Raises:
        SpecError: there is no such epoch, or the function returned an invalid value.
    """
    epoch = whole_number("epoch", epoch, 0)
    if isinstance(values, Mapping):
        first = max(first for first in values if first <= epoch)
        return check(values[first], f"{name}[{first}]")
    try:
        value = values(epoch)
    except Exception as error:
        error.add_note(f"{name} was called with epoch {epoch}")
        raise
    return check(value, f"{name}({epoch})")


def first_epochs(values: object) -> list[int]:
    """Return the epochs from which the values of an option hold, as far as they are known: 0 where it is no mapping."""
    return list(values) if isinstance(values, Mapping) else [0]
