"""Targets that are moved and mirrored with their images: boxes, keypoints and masks.

Coordinates are in pixels. They are those of edges, not of the centers of pixels: an image that is W pixels wide reaches
from x = 0 to x = W, a box around all of it is (0, 0, W, H), and mirroring makes W - x of x.

The functions `follow_…` take an array with a row for each image, and the geometry of the images. They return a new
array of the same type; integers are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.crops import Geometry
from arraystore._common.lazy import lazy
from arraystore._common.ragged import Ragged
from arraystore.errors import SpecError

if TYPE_CHECKING:
    from arraystore._kernels import resample
else:  # it loads numba, and only masks need it
    resample = lazy("arraystore._kernels.resample")

Values = npt.NDArray[Any]
Size = tuple[int, int]
Follower = Literal["boxes", "mask", "keypoints"]


class Sizes(NamedTuple):
    """Height and width in pixels, of slots and of images; and what masks have outside their slots."""

    slot: Size | tuple[None, None]
    image: Size
    outside: int = 0


def follow_boxes(boxes: Values, geometry: Geometry, sizes: Sizes) -> Values:
    """Return boxes (n, ..., 4) of left, top, right, bottom, moved with their images and clipped to them.

    The width or height of a box outside its image becomes 0. NaN, which stands for missing boxes, stays NaN.
    """
    corners = _moved(_points("boxes", boxes, 4).reshape(*boxes.shape[:-1], 2, 2), geometry, sizes.image)
    mirrored = np.stack([geometry["hflip"], geometry["vflip"]], axis=-1) != 0
    # Mirroring makes the right side of the left side.
    corners = np.where(_beside(mirrored, corners)[..., :1, :], corners[..., ::-1, :], corners)
    return _as(np.clip(corners, 0, sizes.image[::-1]).reshape(boxes.shape), boxes.dtype)


def follow_keypoints(points: Values, geometry: Geometry, sizes: Sizes) -> Values:
    """Return points (n, ..., 2) of x, y, moved with their images; they may lie outside them afterwards."""
    return _as(_moved(_points("keypoints", points, 2)[..., None, :], geometry, sizes.image)[..., 0, :], points.dtype)


def follow_masks(masks: Values | list[Values], geometry: Geometry, sizes: Sizes) -> Values:
    """Return the part of each mask that its image shows; it is resampled like Pillow's NEAREST.

    Masks are (n, H, W) or (n, C, H, W), the result is (n, h, w) or (n, C, h, w). Of slots that differ in height and
    width they are a list of arrays (H, W).

    Raises:
        SpecError: masks do not have the height and width of slots.
    """
    size = sizes.image
    if isinstance(masks, list):
        out = np.full((len(masks), *size), sizes.outside, masks[0].dtype if masks else np.uint8)
        for i, mask in enumerate(masks):
            if mask.size:
                own = Sizes(mask.shape, size, sizes.outside)
                out[i] = follow_masks(mask[None], geometry[i : i + 1], own)[0]
        return out
    if sizes.slot[0] is None:
        raise SpecError(
            "a target has masks of one height and width, and these slots differ in both: take it out of follow="
        )
    if masks.ndim not in {3, 4} or masks.shape[-2:] != sizes.slot:
        height, width = sizes.slot
        raise SpecError(
            f"a mask must have the {height} × {width} pixels of its slot, (N, H, W) or (N, C, H, W), "
            f"the target has shape {masks.shape}: take it out of follow="
        )
    out = np.full((*masks.shape[:-2], *size), sizes.outside, masks.dtype)
    if ((geometry["height"] != size[0]) | (geometry["width"] != size[1])).any():
        rows = geometry["top"][:, None] + resample.nearest(0.0, geometry["height"], size[0], geometry["height"])
        columns = geometry["left"][:, None] + resample.nearest(0.0, geometry["width"], size[1], geometry["width"])
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


def follow(kind: Follower, target: Any, geometry: Geometry, sizes: Sizes) -> Any:
    """Return a target of some images, moved with them; each item of a ragged one moves as its image does.

    Raises:
        SpecError: the target has no shape of its kind.
    """
    if isinstance(target, list):
        if kind != "mask":
            raise SpecError(f"{kind} must be numbers, and the target is a mask of each image: take it out of follow=")
        return follow_masks(target, geometry, sizes)
    if not isinstance(target, Ragged):
        return FOLLOWERS[kind](np.asarray(target), geometry, sizes)
    values = FOLLOWERS[kind](np.asarray(target.values), np.repeat(geometry, target.lengths), sizes)
    return Ragged(values, target.offsets)


def _points(kind: str, values: Values, length: int) -> Values:
    if values.ndim < 2 or values.shape[-1] != length or values.dtype.kind not in "fiu":
        raise SpecError(
            f"{kind} must be numbers, (N, ..., {length}), the target has shape {values.shape} and type {values.dtype}: "
            "take it out of follow="
        )
    return values.astype(np.float64)


def _moved(points: Values, geometry: Geometry, size: Size) -> Values:
    """Return points of the slots, (n, ..., k, 2), x before y, as points of the images."""
    corner, extent, turned = (
        _beside(np.stack([geometry[x], geometry[y]], axis=-1), points)
        for x, y in (("left", "top"), ("width", "height"), ("hflip", "vflip"))
    )
    ends = np.array(size[::-1], np.float64)
    moved = (points - corner) * (ends / extent)
    return np.where(turned != 0, ends - moved, moved)


def _beside(values: Values, points: Values) -> Values:
    """Reshape values (n, 2) so that they broadcast with points (n, ..., k, 2)."""
    return values.reshape(len(values), *(1,) * (points.ndim - 2), 2)


def _as(values: Values, dtype: np.dtype[Any]) -> Values:
    """Convert floats to a type; integers are rounded, and clipped to the limits of the type."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _turns(geometry: Geometry) -> list[tuple[Any, ...]]:
    """Return for each image an index that mirrors the last two axes of an array."""
    ways = slice(None), slice(None, None, -1)
    return [
        (..., ways[vflip], ways[hflip])
        for vflip, hflip in zip(geometry["vflip"].tolist(), geometry["hflip"].tolist(), strict=True)
    ]
