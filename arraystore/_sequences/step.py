"""What every step of a lazy sequence is, and the error that says which step failed at which item."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from arraystore._common.wording import flat
from arraystore.errors import ArraystoreError, LazyError

_PACKAGE = str(Path(__file__).parents[1]) + os.sep


class Step:
    """One step over the steps that it reads from.

    Attributes:
        sources: the steps that it reads from.
        count: how many items it has.
        label: what it is, for messages.
        place: the file and line where it was written; empty where nobody wrote it.
        together: so many items in a row share work, and should be computed by the same worker.
        draws: how many steps up to this one draw random numbers, so that those of two steps differ.
    """

    def __init__(self, *sources: Step, count: int, label: str, place: str = "", together: int | None = None) -> None:
        self.sources: tuple[Step, ...] = sources
        self.count = count
        self.label = label
        self.place = place
        self.together: int = max([1, *(each.together for each in sources)]) if together is None else together
        self.draws: int = max([0, *(each.draws for each in sources)])
        self.connect(sources)

    def connect(self, sources: tuple[Step, ...]) -> None:
        """Read from these steps. A step keeps their functions, because to look one up costs as much as a call."""
        self.sources = sources

    def item(self, i: int) -> Any:
        """Return item ``i``, which must be from 0 to ``count - 1``.

        Raises:
            LazyError: it cannot be computed.
        """
        raise NotImplementedError

    def origin(self, i: int) -> tuple[int | None, str]:
        """Return the slot that item ``i`` is made of, and the name of its source; None and "" where not known."""
        for source in self.sources:
            slot, name = source.origin(i)
            if slot is not None or name:
                return slot, name
        return None, ""

    def failed(self, i: int, error: Exception) -> LazyError:
        """Return the error of an item that a step could not compute."""
        slot, source = self.origin(i)
        at = f" at {self.place}" if self.place else ""
        of = f" ← {flat(source)}" if source else f" ← slot {slot:,}" if slot is not None else ""
        reason = flat(f"{type(error).__name__}: {error}".removesuffix(": "))
        kind = error.kind if isinstance(error, ArraystoreError) else None
        message = f"item {i:,} of {self.label}{at}{of}: {reason}"
        facts: dict[str, Any] = {"item": i, "step": self.label, "place": self.place or None}
        return LazyError(message, slot=slot, source=source or None, reason=reason, kind=kind, **facts)


class OfOne(Step):
    """A step that reads from one other."""

    def connect(self, sources: tuple[Step, ...]) -> None:
        super().connect(sources)
        (self._get,) = (source.item for source in sources)


def every_step(last: Step) -> Iterator[Step]:
    """Yield each step once, those that a step reads from before it."""
    seen: set[int] = set()
    waiting = [(last, False)]
    while waiting:
        step, read = waiting.pop()
        if read:
            yield step
        elif id(step) not in seen:
            seen.add(id(step))
            waiting.append((step, True))
            waiting += [(source, False) for source in reversed(step.sources)]


def written_at() -> str:
    """Return the file and line of the caller that is not of this package."""
    frame = sys._getframe(1)  # noqa: SLF001 - a traceback of the whole stack takes a hundred times as long
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    file = frame.f_code.co_filename
    here = os.getcwd() + os.sep  # noqa: PTH109 - a Path takes ten times as long
    return f"{file.removeprefix(here)}:{frame.f_lineno}"


def name_of(function: Any) -> str:
    """Return the name of a function as messages have it."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__name__", None) or type(function).__name__
    return "lambda" if name == "<lambda>" else str(name)
