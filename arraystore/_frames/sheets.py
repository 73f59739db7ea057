"""A contact sheet for each frame: samples of the same slots, to see what an augmentation does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from arraystore._common.keyed_random import Purpose, key_of, permute
from arraystore._frames.samples import Samples
from arraystore._reading.slot_arrays import SlotArrays
from arraystore._viewing.preview import Cell
from arraystore._viewing.preview import draw_sheet as draw_cells


def draw_sheet(path: Path, samples: Samples, slots: SlotArrays, *, count: int, seed: int) -> None:
    """Draw samples of some slots, the same slots for every frame of a seed.

    A slot that has samples in this frame is drawn as its first one, any other as it would be.

    Raises:
        OSError: the file cannot be written.
    """
    able = slots.readable()
    count = min(count, len(able))
    drawn = np.sort(able[permute(np.arange(count), len(able), key_of(seed, 0, Purpose.FRAME))])
    labels = slots.target("labels") if "labels" in slots.target_names else None
    cells = []
    for place, slot in enumerate(drawn.tolist()):
        own = np.flatnonzero(samples.slots == slot)
        image = samples[int(own[0])] if own.size else samples.made(slot, len(samples) + place)
        cells.append(Cell(image, str(slot), None if labels is None else labels[slot]))
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_cells(path, cells, slots.categories.get("labels", ()))
