"""The steps of lazy sequences. Each computes one item from items of the steps before it, and keeps nothing.

Items are counted from 0, and no step checks the number again: `Lazy` does it once.
"""

from __future__ import annotations

import bisect
import inspect
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.keyed_random import Purpose, generator_of, key_of
from arraystore._sequences.step import OfOne, Step, name_of

_TAKEN = object()


class Root(Step):
    """The sequence itself.

    Args:
        sequence: has a length and items by number.
        name: of its kind, for messages.
        place: see `Step`.
    """

    def __init__(self, sequence: Any, name: str, place: str) -> None:
        self.sequence = sequence
        super().__init__(count=len(sequence), label=f"lazy({name})", place=place)

    def item(self, i: int) -> Any:
        try:
            return self.sequence[i]
        except Exception as error:
            raise self.failed(i, error) from error

    def origin(self, i: int) -> tuple[int | None, str]:
        if hasattr(type(self.sequence), "__source_name__"):  # slots of a store
            return i, self.sequence.__source_name__(i)
        if isinstance(self.sequence, list | tuple | np.ndarray):  # to ask another one may take long
            item = self.sequence[i]
            path = item[0] if isinstance(item, tuple | list) and item else item
            if isinstance(path, str | os.PathLike):
                return None, os.fsdecode(path)
        return None, ""


class Keyed(OfOne):
    """The same items, with a key that stands for what they are."""

    def __init__(self, source: Step, key: str, place: str) -> None:
        self.key = key
        super().__init__(source, count=source.count, label=f"lazy(key={key!r})", place=place)

    def item(self, i: int) -> Any:
        return self._get(i)


class Map(OfOne):
    """A function of each item."""

    word = "map"

    def __init__(self, source: Step, function: Callable[..., Any], seed: int, place: str) -> None:
        self._function = function
        super().__init__(source, count=source.count, label=f".{self.word}({name_of(function)})", place=place)
        self._key: int | None = None
        if takes_rng(function):
            self._key = key_of(seed, self.draws, Purpose.LAZY_STEP)
            self.draws += 1

    def item(self, i: int) -> Any:
        value = self._get(i)  # its errors are those of another step
        try:
            if self._key is None:
                return self._function(value)
            return self._function(value, rng=generator_of(self._key, i))
        except Exception as error:
            raise self.failed(i, error) from error


class Starmap(Map):
    """A function of the parts of each item."""

    word = "starmap"

    def item(self, i: int) -> Any:
        values = self._get(i)
        try:
            if self._key is None:
                return self._function(*values)
            return self._function(*values, rng=generator_of(self._key, i))
        except Exception as error:
            raise self.failed(i, error) from error


class Zip(Step):
    """Tuples of the items of several sequences."""

    def __init__(self, sources: Sequence[Step], place: str) -> None:
        super().__init__(*sources, count=sources[0].count, label=f".zip of {len(sources)}", place=place)

    def connect(self, sources: tuple[Step, ...]) -> None:
        super().connect(sources)
        self._gets = [source.item for source in sources]

    def item(self, i: int) -> Any:
        return tuple([get(i) for get in self._gets])


class Batch(OfOne):
    """Several items in a row as one."""

    def __init__(
        self, source: Step, size: int, collate: Callable[[list[Any]], Any], place: str, *, drop_last: bool
    ) -> None:
        self._size = size
        self._collate = collate
        count = source.count // size if drop_last else -(-source.count // size)
        together = -(-source.together // size)
        super().__init__(source, count=count, label=f".batch({size})", place=place, together=together)

    def item(self, i: int) -> Any:
        start = i * self._size
        items = list(map(self._get, range(start, min(start + self._size, self.sources[0].count))))
        try:
            return self._collate(items)
        except Exception as error:
            raise self.failed(i, error) from error

    def origin(self, i: int) -> tuple[int | None, str]:
        return None, ""


class Flatten(OfOne):
    """The parts of each item, one after the other. Every item must have the same number of parts.

    Each thread holds the parts of the item that it computed last until they are taken, so that to read them in order
    computes the item once. A part is taken once only: whoever changes it in place changes no later one.
    """

    def __init__(self, source: Step, parts: int, place: str) -> None:
        self._parts = parts
        self._held = threading.local()
        together = source.together * parts
        super().__init__(source, count=source.count * parts, label=f".flatten({parts})", place=place, together=together)

    def item(self, i: int) -> Any:
        whole, part = divmod(i, self._parts)
        number: int
        held: list[Any]
        number, held = getattr(self._held, "last", (-1, []))
        if number != whole or held[part] is _TAKEN:
            held = self._split(self._get(whole), i)
            self._held.last = whole, held
        value, held[part] = held[part], _TAKEN
        return value

    def _split(self, item: Any, i: int) -> list[Any]:
        try:
            held = list(item)
            if len(held) != self._parts:
                raise ValueError(f"the item before it has {len(held):,} parts, not {self._parts:,}")  # noqa: TRY301
        except Exception as error:
            raise self.failed(i, error) from error
        return held

    def origin(self, i: int) -> tuple[int | None, str]:
        return self.sources[0].origin(i // self._parts)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_held"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._held = threading.local()


class Choice(OfOne):
    """Chosen items, in the order of the choice."""

    def __init__(self, source: Step, chosen: range | npt.NDArray[np.int64], place: str) -> None:
        self._chosen = chosen
        in_a_row = isinstance(chosen, range) and chosen.step == 1
        label = f"[{len(chosen):,} of {source.count:,}]"
        together = None if in_a_row else 1
        super().__init__(source, count=len(chosen), label=label, place=place, together=together)

    def connect(self, sources: tuple[Step, ...]) -> None:
        super().connect(sources)
        self._number = self._chosen.__getitem__ if isinstance(self._chosen, range) else self._chosen.item

    def item(self, i: int) -> Any:
        return self._get(self._number(i))

    def origin(self, i: int) -> tuple[int | None, str]:
        return self.sources[0].origin(self._number(i))


class Concatenated(Step):
    """Sequences one after the other."""

    def __init__(self, sources: Sequence[Step], place: str) -> None:
        self._ends = list(accumulate(source.count for source in sources))
        super().__init__(*sources, count=self._ends[-1], label=f"concatenate of {len(sources)}", place=place)

    def connect(self, sources: tuple[Step, ...]) -> None:
        super().connect(sources)
        self._parts = [(source.item, end - source.count) for source, end in zip(sources, self._ends, strict=True)]

    def item(self, i: int) -> Any:
        get, start = self._parts[bisect.bisect_right(self._ends, i)]
        return get(i - start)

    def origin(self, i: int) -> tuple[int | None, str]:
        number = bisect.bisect_right(self._ends, i)
        return self.sources[number].origin(i - self._parts[number][1])


def takes_rng(function: Any) -> bool:
    """Return whether a function has a parameter ``rng`` that its caller has not given."""
    if isinstance(function, partial) and "rng" in function.keywords:
        return False
    try:
        parameter = inspect.signature(function).parameters.get("rng")
    except (TypeError, ValueError):  # a function of C without a signature
        return False
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def stacked(items: list[Any]) -> Any:
    """Return items as one: arrays and numbers as an array, tuples and mappings part by part, all others as a list.

    Raises:
        ValueError: arrays differ in shape, or tuples in length.
    """
    first = items[0]
    if isinstance(first, np.ndarray | np.number | np.bool_ | bool | int | float | complex):
        if len({getattr(item, "dtype", type(item)) for item in items}) > 1 and isinstance(first, np.ndarray):
            raise ValueError("arrays of different types are not stacked: convert them to one type before")
        return np.stack(items)
    if isinstance(first, tuple):
        columns = [stacked(list(column)) for column in zip(*items, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    if isinstance(first, dict):
        if any(item.keys() != first.keys() for item in items):
            raise ValueError("the items have different names")
        return {name: stacked([item[name] for item in items]) for name in first}
    return items
