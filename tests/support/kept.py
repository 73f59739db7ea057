"""Slots of JPEGs that differ in height and width, and the pixels of each by another decoder."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore import Slots
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.slot_array import SlotArray
from support import jpegs
from support.slots import slots_of

SIDES = [(40, 60), (33, 90), (64, 32), (0, 0), (48, 31), (32, 32), (70, 33), (33, 130)] * 3
FAILED = [slot for slot, sides in enumerate(SIDES) if sides == (0, 0)]
STORED = [slot for slot in range(len(SIDES)) if slot not in FAILED]


def encoded_of(files: list[bytes], sides: list[tuple[int, int]], layout: str, channels: int = 3) -> EncodedImages:
    """These JPEGs as images of different shapes."""
    own = (None, None)
    shape = (channels, *own) if layout == "NCHW" else (*own, channels)
    data, shapes = np.frombuffer(b"".join(files), np.uint8), np.array(sides, np.int32).reshape(-1, 2)
    return EncodedImages(data, jpegs.offsets_of(files), (len(files), *shape), layout, "x.store", shapes=shapes)


@cache
def files() -> list[bytes]:
    """The JPEG of each slot, empty where it failed."""
    every = enumerate(SIDES)
    return [jpegs.jpeg(jpegs.picture(*sides, seed=slot)) if slot not in FAILED else b"" for slot, sides in every]


@cache
def pixels(layout: str) -> list[npt.NDArray[np.uint8]]:
    """The pixels of each slot."""
    every = zip(files(), SIDES, strict=True)
    return [jpegs.pixels_of([data], *sides, layout=layout)[0] for data, sides in every]


@cache
def slots(layout: str) -> Slots:
    """All slots, with labels, boxes and keypoints in pixels of the slots."""
    status = np.array([1 if data else 2 for data in files()], np.uint8)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 30, (len(SIDES), 2, 2, 2)).astype(np.float32)
    targets: dict[str, Any] = {
        "labels": np.arange(len(SIDES)),
        "boxes": np.sort(corners, axis=2).reshape(-1, 2, 4),
        "points": corners[:, :, 0],
    }
    images = encoded_of(files(), SIDES, layout)
    statistics: dict[str, Any] = {"mean": (100.0, 110.0, 120.0), "std": (50.0, 60.0, 70.0)}
    return slots_of([SlotArray(images, status, None, targets)], layout=layout, **statistics)
