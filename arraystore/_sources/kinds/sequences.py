"""Lazy sequences as sources: workers compute the items."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from arraystore._common.wording import a
from arraystore._sequences.lazy import Lazy
from arraystore._sequences.step import Step, every_step
from arraystore._sequences.steps import Keyed
from arraystore._sources.given import is_pil_image
from arraystore._sources.kinds.found import Found, SourceList
from arraystore.errors import DecodeError, Kind, LazyError


@dataclass(frozen=True, slots=True)
class LazyItem:
    """An item of a lazy sequence as a source.

    Attributes:
        step: the last step of the sequence; None on the way to a worker process, which has it already.
        item: the number of the item.
    """

    step: Step | None
    item: int

    def compute(self) -> Any:
        """Return the item: a path, the bytes of a file, an array, or an image of Pillow.

        Raises:
            DecodeError: it cannot be computed, or is none of these.
        """
        if self.step is None:
            raise DecodeError("its sequence is in another process", kind=Kind.INVALID)
        try:
            value = self.step.item(self.item)
        except LazyError as error:
            at = f" at {error.place}" if error.place else ""
            raise DecodeError(f"{error.step}{at}: {error.reason}", kind=error.kind) from error
        if isinstance(value, str | os.PathLike):
            return os.fsdecode(value)
        if isinstance(value, bytes) or is_pil_image(value):
            return value
        try:
            if isinstance(value, tuple | list | dict):
                raise TypeError("map it to the image alone, and pass labels beside it")  # noqa: TRY301
            return np.asarray(value)
        except Exception as error:
            raise DecodeError(f"the item is {a(type(value).__name__)}, no image: {error}", kind=Kind.INVALID) from error


class LazyImages(SourceList):
    """The items of a lazy sequence."""

    noun: ClassVar[str] = "items of a lazy sequence"

    def __init__(self, step: Step) -> None:
        self._step = step

    def __len__(self) -> int:
        return self._step.count

    def __getitem__(self, slot: Any) -> Any:
        return LazyItem(self._step, int(slot))

    def name(self, slot: int) -> str:
        return self._step.origin(slot)[1] or f"item {slot}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        yield ["lazy", [step.label for step in every_step(self._step)]], ()

    @property
    def is_fixed(self) -> bool:
        """Whether the caller says with a key that the items are the same as before."""
        return isinstance(self._step, Keyed)


def is_lazy(source: Any) -> bool:
    """Return whether a source is a lazy sequence."""
    return isinstance(source, Lazy)


def from_lazy(source: Lazy) -> Found:
    """Return the items of a lazy sequence; none is computed."""
    return Found(LazyImages(source.__lazy_step__), place="the lazy sequence")


def parted(sources: Sequence[Any]) -> tuple[Step | None, Sequence[Any]]:
    """Return the sequence that sources are items of, or None, and the sources without it.

    So a worker process gets the sequence once, and not with each of its jobs.
    """
    first = sources[0]
    if not isinstance(first, LazyItem):
        return None, sources
    return first.step, [LazyItem(None, source.item) for source in sources]


def joined(sources: Sequence[Any], step: Step | None) -> Sequence[Any]:
    """Return sources with the sequence that `parted` has left out."""
    return [LazyItem(step, each.item) if isinstance(each, LazyItem) and each.step is None else each for each in sources]
