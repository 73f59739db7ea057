"""Which frame each epoch reads, and what it is made with, where both may be changed while a training runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """One frame in time.

    Attributes:
        number: of the frame.
        first: the first epoch that reads it.
        epochs: how many epochs read it.
        per_class: see `arraystore.Frame`.
        before: how many samples of each class the frames before it have.
        numbers: the numbers that the transform is called with, by name.
    """

    number: int
    first: int
    epochs: int
    per_class: int | None
    before: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)

    @property
    def stop(self) -> int:
        """The first epoch of the next frame."""
        return self.first + self.epochs

    def next(self, changes: Mapping[str, Any]) -> Span:
        """Return the next frame, with these changes."""
        numbers = {name: changes.get(name, value) for name, value in self.numbers.items()}
        return replace(
            self,
            number=self.number + 1,
            first=self.stop,
            epochs=changes.get("epochs", self.epochs),
            per_class=changes.get("per_class", self.per_class),
            before=self.before + (self.per_class or 0),
            numbers=numbers,
        )


class Schedule:
    """The frames of a training. A change that comes at the end of an epoch holds from the next frame on.

    Args:
        first: frame 0.

    Attributes:
        changes: each epoch at whose end something was changed, and what, in order.
    """

    def __init__(self, first: Span) -> None:
        self.changes: list[tuple[int, dict[str, Any]]] = []
        self._spans = [first]

    def at(self, epoch: int) -> Span:
        """Return the frame that an epoch reads, as far as is known now."""
        while (last := self._spans[-1]).stop <= epoch:
            changed: dict[str, Any] = {}
            for at, changes in self.changes:
                if last.first <= at < last.stop:
                    changed |= changes
            self._spans.append(last.next(changed))
        # The last ones are asked for most.
        return next(span for span in reversed(self._spans) if span.first <= epoch)

    def change(self, epoch: int, changes: dict[str, Any]) -> None:
        """Note what was changed at the end of an epoch; frames that begin after it are planned anew."""
        self.changes.append((epoch, changes))
        self._spans = [span for span in self._spans if span.first <= epoch]

    def settings(self) -> dict[str, Any]:
        """Return what the next frame is made with, after all changes."""
        first = self._spans[0]
        settings = {"epochs": first.epochs, "per_class": first.per_class, **first.numbers}
        for _, changes in self.changes:
            settings |= changes
        return settings

    def restore(self, changes: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Take over the changes of another run."""
        self.changes = [(int(epoch), dict(each)) for epoch, each in changes]
        self._spans = self._spans[:1]
