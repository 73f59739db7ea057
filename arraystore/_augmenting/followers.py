"""Targets that follow the images' geometry: boxes, keypoints and masks.

Coordinates are in pixels and count edges, not middles: an image W pixels wide reaches from x = 0 to x = W, a box around
all of it is 0, 0, W, H, and mirroring takes x to W - x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.crops import Geometry
from arraystore.errors import SpecError

__all__ = ["FOLLOWERS", "Follower", "follow_boxes", "follow_keypoints", "follow_masks"]

Values = npt.NDArray[Any]
Size = tuple[int, int]
Follower = Literal["boxes", "mask", "keypoints"]


def follow_boxes(boxes: Values, geometry: Geometry, *, slot_size: Size, size: Size) -> Values:  # noqa: ARG001 - as masks
    """Return boxes moved, scaled and mirrored with their images, and clipped to them.

    A box that its image does not show has no width or no height left. NaN, where boxes are missing, stays NaN.

    Args:
        boxes: (n, ..., 4), floats or integers: left, top, right, bottom in pixels of the slot.
        geometry: (n,).
        slot_size: height and width of the slots.
        size: height and width of the images.

    Returns:
        A new array of the same shape and type; integers are rounded.

    Raises:
        SpecError: these are no boxes.
    """
    corners = _moved(_points("boxes", boxes, 4).reshape(*boxes.shape[:-1], 2, 2), geometry, size)
    mirrored = np.stack([geometry["hflip"], geometry["vflip"]], axis=-1) != 0
    # Mirroring makes the left side the right one.
    corners = np.where(_beside(mirrored, corners)[..., :1, :], corners[..., ::-1, :], corners)
    return _as(np.clip(corners, 0, size[::-1]).reshape(boxes.shape), boxes.dtype)


def follow_keypoints(points: Values, geometry: Geometry, *, slot_size: Size, size: Size) -> Values:  # noqa: ARG001
    """Return points moved, scaled and mirrored with their images; those that an image does not show lie outside it.

    Args:
        points: (n, ..., 2), floats or integers: x and y in pixels of the slot.
        geometry: (n,).
        slot_size: height and width of the slots.
        size: height and width of the images.

    Returns:
        A new array of the same shape and type; integers are rounded.

    Raises:
        SpecError: these are no points.
    """
    return _as(_moved(_points("keypoints", points, 2)[..., None, :], geometry, size)[..., 0, :], points.dtype)


def follow_masks(masks: Values, geometry: Geometry, *, slot_size: Size, size: Size) -> Values:
    """Return the part of each mask that its image shows: zero beyond the slot, and resampled as Pillow's NEAREST does.

    Args:
        masks: (n, H, W) or (n, C, H, W), any type: a value for each pixel of the slot.
        geometry: (n,).
        slot_size: height and width of the slots.
        size: height and width of the images.

    Returns:
        A new array of the same type, (n, h, w) or (n, C, h, w).

    Raises:
        SpecError: masks are not as high and wide as slots.
    """
    if masks.ndim not in {3, 4} or masks.shape[-2:] != slot_size:
        raise SpecError(
            f"a mask must have the {slot_size[0]} × {slot_size[1]} pixels of its slot, (N, H, W) or (N, C, H, W), "
            f"the target has shape {masks.shape}: take it out of follow="
        )
    out = np.zeros((*masks.shape[:-2], *size), masks.dtype)
    if _is_scaled(geometry, size):
        from arraystore._kernels.resample import nearest  # noqa: PLC0415 - loads the compiler, and only this needs it

        rows = geometry["top"][:, None] + nearest(0.0, geometry["height"], size[0], geometry["height"])
        columns = geometry["left"][:, None] + nearest(0.0, geometry["width"], size[1], geometry["width"])
        for i, turn in enumerate(_turns(geometry)):
            out[i][turn] = masks[i].take(rows[i], axis=-2).take(columns[i], axis=-1)
        return out
    for i, turn in enumerate(_turns(geometry)):
        top, left = int(geometry["top"][i]), int(geometry["left"][i])
        y, x = max(0, -top), max(0, -left)
        shown = masks[i][..., top + y : max(0, top + size[0]), left + x : max(0, left + size[1])]
        out[i][turn][..., y : y + shown.shape[-2], x : x + shown.shape[-1]] = shown
    return out


FOLLOWERS: dict[Follower, Callable[..., Values]] = {
    "boxes": follow_boxes,
    "mask": follow_masks,
    "keypoints": follow_keypoints,
}


def _points(what: str, values: Values, length: int) -> Values:
    if values.ndim < 2 or values.shape[-1] != length or values.dtype.kind not in "fiu":
        raise SpecError(
            f"{what} must be numbers, (N, ..., {length}), the target has shape {values.shape} and type {values.dtype}: "
            "take it out of follow="
        )
    return values.astype(np.float64)


def _moved(points: Values, geometry: Geometry, size: Size) -> Values:
    """Points (n, ..., k, 2), x before y, of the slots as points of the images."""
    corner, extent, turned = (
        _beside(np.stack([geometry[x], geometry[y]], axis=-1), points)
        for x, y in (("left", "top"), ("width", "height"), ("hflip", "vflip"))
    )
    ends = np.array(size[::-1], np.float64)
    moved = (points - corner) * (ends / extent)
    return np.where(turned != 0, ends - moved, moved)


def _beside(values: Values, points: Values) -> Values:
    """Values (n, 2) shaped so that they go with points (n, ..., k, 2)."""
    return values.reshape(len(values), *(1,) * (points.ndim - 2), 2)


def _as(values: Values, dtype: np.dtype[Any]) -> Values:
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _is_scaled(geometry: Geometry, size: Size) -> bool:
    return bool(((geometry["height"] != size[0]) | (geometry["width"] != size[1])).any())


def _turns(geometry: Geometry) -> list[tuple[Any, ...]]:
    """For each image what mirrors the last two axes of an array."""
    ways = slice(None), slice(None, None, -1)
    return [
        (..., ways[vflip], ways[hflip])
        for vflip, hflip in zip(geometry["vflip"].tolist(), geometry["hflip"].tolist(), strict=True)
    ]
