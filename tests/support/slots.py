"""Slots made of arrays in RAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arraystore import Slots
from arraystore._reading.slot_arrays import SlotArrays
from arraystore._stores.slot_array import SlotArray


def slots_of(arrays: Sequence[SlotArray], **options: Any) -> Slots:
    return Slots(SlotArrays(tuple(arrays), **options))
