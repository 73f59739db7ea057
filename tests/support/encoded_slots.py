"""Slots of JPEGs beside the same slots of their pixels; some have failed, and all have what a store has."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from arraystore import Slots
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.slot_array import SlotArray
from support import jpegs
from support.slots import slots_of

COUNT, HEIGHT, WIDTH = 40, 36, 44
FAILED = [3, 17, 39]
STORED = np.delete(np.arange(COUNT), FAILED)


@cache
def files() -> list[bytes]:
    """The JPEG of each slot, empty where it failed."""
    return [b"" if slot in FAILED else data for slot, data in enumerate(jpegs.jpegs(COUNT, HEIGHT, WIDTH))]


@cache
def pair(layout: str) -> tuple[Slots, Slots]:
    """The slots of the JPEGs, and the slots of the pixels."""
    images = jpegs.encoded_of(files(), HEIGHT, WIDTH, layout=layout)
    return made(files(), images, layout), made(files(), jpegs.pixels_of(files(), HEIGHT, WIDTH, layout=layout), layout)


def made(data: list[bytes], images: Any, layout: str) -> Slots:
    """The slots of these images, and of these JPEGs."""
    status = np.array([1 if each else 2 for each in data], np.uint8)
    kept = data if isinstance(images, EncodedImages) else [image.tobytes() for image in images]
    sums = np.array([xxhash.xxh3_64_intdigest(each) for each in kept], np.uint64)
    numbers = np.arange(len(data))
    masks = np.tile(numbers.astype(np.uint8)[:, None, None], (1, HEIGHT, WIDTH))
    return _slots(SlotArray(images, status, sums, {"labels": numbers, "masks": masks}), layout)


def stored(slots: Slots, folder: Path) -> Slots:
    """The same slots, whose JPEGs are mapped from files."""
    (array,) = slots.__slot_arrays__.arrays
    images = jpegs.mapped(encoded_in(slots), folder)
    return _slots(SlotArray(images, array.status, array.checksums, array.targets), slots.layout)


def _slots(array: SlotArray, layout: str) -> Slots:
    statistics: dict[str, Any] = {"mean": (100.0, 110.0, 120.0), "std": (50.0, 60.0, 70.0)}
    return slots_of([array], layout=layout, masks={"masks": 255}, **statistics)


def encoded_in(slots: Slots) -> EncodedImages:
    (array,) = slots.__slot_arrays__.arrays
    assert isinstance(array.images, EncodedImages)
    return array.images


def same(batches: Any, expected: Any) -> None:
    """Both have the same arrays: batches of images alone, of tuples, or of dicts."""
    for batch, other in zip(batches, expected, strict=True):
        for array, wanted in zip(_arrays(batch), _arrays(other), strict=True):
            np.testing.assert_array_equal(array, wanted, strict=True)


def _arrays(batch: Any) -> list[Any]:
    return [batch] if isinstance(batch, np.ndarray) else [*(batch.values() if isinstance(batch, dict) else batch)]
