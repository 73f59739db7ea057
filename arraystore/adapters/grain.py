"""Slots as a source of Grain's: records that it shuffles, maps and batches itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arraystore._common.ragged import own_rows
from arraystore._reading.loader import batch_targets
from arraystore._reading.options import Targets
from arraystore._reading.slot_arrays import HasSlots
from arraystore._reading.slots import Slots

__all__ = ["Source"]


class Source:
    """Slots as ``grain.MapDataset.source`` and ``grain.DataLoader`` take them. Making one does not need Grain.

    A record is ``(image, label)``, or the image alone if there are no labels or with ``targets=()``. With the name of
    a target in ``targets``, that target takes the place of the label. With a list of names, a record is a dict of
    ``"images"`` and these targets. Of a `Ragged` target, a record has its row, (items, ...): pad it before Grain makes
    batches. Arrays are the caller's own. Slots without an image are left out, so record i is
    the i-th slot with an image.

    Any thread may read it. It pickles, so that Grain's worker processes map the same files again. If Grain asks for
    many records at once, they are gathered together and share their memory.

    Args:
        slots: a store, or a choice of stores.
        targets: the name of a target, several names, or ``()`` for none; None for the labels.

    Attributes:
        slots: the slots with an image.

    Raises:
        SpecError: there is no such target.
    """

    def __init__(self, slots: HasSlots, targets: Targets = None) -> None:
        arrays = slots.__slot_arrays__
        self._names, self._single = batch_targets(arrays, targets)
        readable = np.ones(len(arrays), bool)
        readable[arrays.unreadable()] = False
        self.slots: Slots = Slots(arrays if readable.all() else arrays.choose(readable))

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, index: int) -> Any:
        return self._getitems([index])[0]

    def _getitems(self, indices: Sequence[int]) -> list[Any]:
        """Return many records; Grain looks for a method of this name."""
        slots = self.slots.__slot_arrays__
        if slots.may_fail:
            indices = slots.with_images(indices).tolist()
        # Where slots differ in height and width, no array holds them together.
        images = [self.slots.take([each])[0] for each in indices] if slots.differ else self.slots.take(indices)
        columns: dict[str, Any] = {"images": images}
        for name in self._names:
            if slots.is_ragged(name):
                columns[name] = own_rows(slots.list_rows(slots.base(np.asarray(indices, np.int64)), name))
            else:
                columns[name] = self.slots.take(indices, name)
        records = zip(*columns.values(), strict=True)
        if not self._single:
            return [dict(zip(columns, record, strict=True)) for record in records]
        return [record if self._names else record[0] for record in records]

    def __repr__(self) -> str:
        # Grain writes it into checkpoints, and goes on from a checkpoint only if it is the same.
        return f"arraystore.Source({self.slots!r}, targets={self._names!r})"
