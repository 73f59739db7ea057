"""A store as its medium opened it: plain data. `Store` is the face that users get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arraystore._format.specification import Description
from arraystore._stores.slot_array import SlotArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Opened"]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a medium gives when it opens a store. It pickles: mapped arrays are mapped again in the other process.

    Attributes:
        medium: its name, ``"ram"``, ``"npy"`` or ``"hdf5"``.
        path: the folder or file; None for RAM.
        array: the slots with their status, checksums and targets.
        description: store.json.
        load_table: reads the table ``"samples"`` or ``"dropped"``; None where the store has no table of that name.
    """

    medium: str
    path: Path | None
    array: SlotArray
    description: Description
    load_table: Callable[[str], pa.Table | None]
