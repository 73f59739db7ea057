"""What the tables of samples say of slots: the names of their sources, their texts, and why one has no image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from arraystore._common.arrow import number_column
from arraystore._reading.slot_arrays import Index, SlotArrays
from arraystore._sources.targets.own_columns import columns_beside

if TYPE_CHECKING:
    import pyarrow as pa

_TEXTS = ("string", "large_string", "binary", "large_binary")


class Samples:
    """The tables of samples of some slots, read as columns of Arrow, which take little more than their letters.

    Args:
        slots: some or all of those of one store or of several.

    Attributes:
        texts: the names of the targets that are texts in all stores.
    """

    def __init__(self, slots: SlotArrays) -> None:
        self._slots = slots
        records = slots.records if len(slots.records) == len(slots.arrays) else (None,) * len(slots.arrays)
        self._tables = [None if record is None else record.load_table("samples") for record in records]
        texts = [_texts_in(table, slots.masks) for table in self._tables]
        self.texts: tuple[str, ...] = tuple(name for name in texts[0] if all(name in each for each in texts))

    def sources(self, slots: Index) -> list[str]:
        """Return the names of the sources of slots, such as ``"slot 7"`` where a store has none."""
        return self._column("source", slots, [f"slot {slot}" for slot in slots.tolist()])

    def text(self, name: str, slots: Index) -> list[str]:
        """Return the texts of slots."""
        return self._column(name, slots, [""] * len(slots))

    def reasons(self, slots: Index) -> list[str]:
        """Return why slots have no image."""
        unknown = ["the slot is empty: the store is not finished"] * len(slots)
        return self._column("reason", slots, unknown)

    def _column(self, name: str, slots: Index, unknown: list[str]) -> list[str]:
        """Return texts of a column, and the unknown ones where a table lacks them."""
        found = unknown
        for number, rows, at in self._slots.split(self._slots.base(slots)):
            table = self._tables[number]
            if table is None:
                continue
            places = np.arange(len(rows)) if at is None else at
            cells = table[name].take(number_column(rows)).to_pylist()
            for place, cell in zip(places.tolist(), cells, strict=True):
                if cell:
                    found[place] = os.fsdecode(cell)
        return found


def _texts_in(table: pa.Table | None, masks: Iterable[str]) -> Sequence[str]:
    if table is None:
        return ()
    beside = columns_beside(table.schema.names, set(masks))
    return [name for name in beside if str(table.schema.field(name).type) in _TEXTS]
