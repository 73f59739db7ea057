"""Boxes and keypoints in pixels of the source images, as pixels of the slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import choice_of
from arraystore._common.ragged import Ragged, Target
from arraystore._reading.slot_arrays import SlotArrays
from arraystore.errors import SpecError
from arraystore.spec import ImageSpec

Coordinates = Literal["boxes", "keypoints"]
_LENGTHS = {"boxes": 4, "keypoints": 2}
_PLACES = np.dtype([(name, np.float64, 2) for name in ("corner", "scale", "start", "slot")])  # x before y


def in_slot_pixels(
    slots: SlotArrays, kinds: Mapping[str, Coordinates], spec: ImageSpec, sides: npt.NDArray[np.int64]
) -> SlotArrays:
    """Return all slots of one store, with some targets moved to pixels of the slots.

    Args:
        slots: all slots of the store.
        kinds: name of a target → what it holds.
        spec: of the store.
        sides: (N, 2): height and width of each upright source image, 0 where there is none.

    Raises:
        SpecError: there is no such target, or it does not have the shape of its kind.
    """
    places = _places(spec, sides)
    targets: dict[str, Any] = dict(slots.arrays[0].targets)
    for name, kind in kinds.items():
        choice_of(f"the kind of {name!r}", kind, get_args(Coordinates))
        targets[name] = _moved(name, kind, slots.target(name), places)
    pixels = {name: kind for name, kind in slots.source_pixels.items() if name not in kinds}
    return replace(slots, arrays=(replace(slots.arrays[0], targets=targets),), source_pixels=pixels)


def _places(spec: ImageSpec, sides: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """Return for each image how a point of it becomes a point of its slot; zeros where there is no image."""
    different, which = np.unique(sides, axis=0, return_inverse=True)
    places = np.zeros(len(different), _PLACES)
    for place, (height, width) in zip(places, different.tolist(), strict=True):
        if height and width:
            at = spec.place(height, width)
            left, top, right, bottom = at.box
            place["corner"] = left, top
            place["scale"] = at.width / (right - left), at.height / (bottom - top)
            place["start"] = at.left, at.top
            place["slot"] = spec.size[::-1] if spec.one_shape else (at.width, at.height)
    found: npt.NDArray[np.void] = places[which.reshape(-1)]
    return found


def _moved(name: str, kind: Coordinates, target: Target, places: npt.NDArray[np.void]) -> Target:
    values = np.asarray(target.values if isinstance(target, Ragged) else target)
    places = np.repeat(places, target.lengths) if isinstance(target, Ragged) else places
    if values.ndim < 2 or values.shape[-1] != _LENGTHS[kind] or values.dtype.kind not in "fiu":
        raise SpecError(
            f"{kind} must be numbers, (N, ..., {_LENGTHS[kind]}), and the target {name!r} has shape {values.shape} and "
            f"type {values.dtype}"
        )
    points = values.reshape(len(values), -1, 2).astype(np.float64)
    points -= places["corner"][:, None]
    points *= places["scale"][:, None]
    points += places["start"][:, None]
    if kind == "boxes":
        np.clip(points, 0, places["slot"][:, None], out=points)
    # Whole numbers become floats: a slot is often so much smaller that rounding would move a box visibly.
    moved = points.reshape(values.shape).astype(values.dtype if values.dtype.kind == "f" else np.float32)
    return Ragged(moved, target.offsets) if isinstance(target, Ragged) else moved
