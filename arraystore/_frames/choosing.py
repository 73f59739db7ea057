"""Which slot each sample of a frame shows: a pure function of seed, frame and the labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arraystore._common.keyed_random import Purpose, key_of, permute
from arraystore._frames.schedule import Span
from arraystore._reading.slot_arrays import SlotArrays

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choice:
    """The slots of a frame's samples.

    Attributes:
        slots: int64, (M,): the slot of each sample.
        starts: int64, (groups,): the first sample of each group of samples that could be equal, ascending; samples of
            one group are neighbors. Empty where that does not matter.
        classes: int64, (M,): the code of each sample's class; empty without labels.
    """

    slots: Index
    starts: Index
    classes: Index


def chosen_slots(slots: SlotArrays, span: Span, seed: int, *, unique: bool) -> Choice:
    """Choose the slots of a frame.

    Args:
        slots: of which those with an image are chosen.
        span: the frame.
        seed: of the loader.
        unique: whether samples that could be equal are to be found.
    """
    labels = class_codes(slots)
    able = slots.readable()
    if span.per_class is not None and labels is not None:
        classes = np.unique(labels[able]).tolist()
        able = np.concatenate(
            [_in_turn(able[labels[able] == code], span, span.per_class, seed, code) for code in classes]
        )
    starts = np.empty(0, np.int64)
    if unique:
        contents = _contents(slots)[able]
        codes = np.zeros(len(able), np.int64) if labels is None else labels[able]
        sort = np.lexsort((able, contents, codes))
        able, contents, codes = able[sort], contents[sort], codes[sort]
        begins = np.flatnonzero((np.diff(contents) != 0) | (np.diff(codes) != 0)) + 1
        starts = np.concatenate([np.zeros(min(len(able), 1), np.int64), begins])
    return Choice(able, starts, np.empty(0, np.int64) if labels is None else labels[able])


def class_codes(slots: SlotArrays) -> Index | None:
    """Return the class of each slot; None where slots have no single whole number as a label."""
    if "labels" not in slots.target_names or slots.is_ragged("labels"):
        return None
    labels = np.asarray(slots.target("labels"))
    return labels.astype(np.int64) if labels.ndim == 1 and labels.dtype.kind in "iub" else None


def _in_turn(of_class: Index, span: Span, samples: int, seed: int, code: int) -> Index:
    """Return the slots of a class for a frame: the next ones of a row of permutations, ascending."""
    count = len(of_class)
    turns, places = np.divmod(span.before + np.arange(samples), count)
    drawn = [
        permute(places[turns == turn], count, key_of(seed, code & (2**64 - 1), turn, Purpose.FRAME))
        for turn in np.unique(turns).tolist()
    ]
    return np.sort(of_class[np.concatenate(drawn)])


def _contents(slots: SlotArrays) -> npt.NDArray[np.uint64]:
    """Return a number for each slot; slots with equal ones have equal pixels."""
    if any(array.checksums is None for array in slots.arrays):
        return np.arange(len(slots)).astype(np.uint64)
    every = np.concatenate([np.asarray(array.checksums, np.uint64) for array in slots.arrays])
    return every[slots.base(np.arange(len(slots)))]
