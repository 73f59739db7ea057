"""Slots as a source of Grain's: records that it shuffles, maps and batches itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arraystore._reading.loader import batch_targets

if TYPE_CHECKING:
    from arraystore._reading.slot_arrays import Slots

__all__ = ["Source"]


class Source:
    """Slots as ``grain.MapDataset.source`` and ``grain.DataLoader`` take them; it needs no Grain to be made.

    A record is ``(image, label)``; the image alone where there are no labels, or with ``targets=()``; with another
    name in ``targets`` it has that target in place of the label; with a list of names it is a dict of ``"images"`` and
    them. Arrays are the caller's own. Slots that hold no image are left out, so record i is the i-th that does.

    It may be read by any threads, and pickles, so that Grain's worker processes map the same files again. Where Grain
    asks for many records at once they are gathered together, and share their memory.

    Args:
        slots: a store, or what was chosen of stores.
        targets: see above; None for the labels.

    Attributes:
        slots: those that hold an image.

    Raises:
        SpecError: there is no such target.
    """

    def __init__(self, slots: Slots, targets: str | Sequence[str] | None = None) -> None:
        self._names, self._single = batch_targets(slots, targets)
        readable = np.ones(len(slots), bool)
        readable[slots.unreadable()] = False
        self.slots = slots.same() if readable.all() else slots.choose(readable)

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, index: int) -> Any:
        return self._getitems([index])[0]

    def _getitems(self, indices: Sequence[int]) -> list[Any]:
        """Return many records; Grain looks for a method of this name."""
        columns = {"images": self.slots.take(indices)} | {name: self.slots.take(indices, name) for name in self._names}
        records = zip(*columns.values(), strict=True)
        if not self._single:
            return [dict(zip(columns, record, strict=True)) for record in records]
        return [record if self._names else record[0] for record in records]

    def __repr__(self) -> str:
        # Grain keeps it in checkpoints, and goes on from one only where it is the same.
        return f"arraystore.Source({self.slots!r}, targets={self._names!r})"
