"""Which height and width images get from slots, also where slots differ in these."""

from __future__ import annotations

from typing import Any

import numpy as np

from arraystore._augmenting.crops import Crop, PadAndCrop, RandomResizedCrop, Sides
from arraystore.errors import SpecError
from arraystore.spec import Layout

Shape = tuple[Any, ...]  # None for a side that differs between slots

_LARGEST_PX = 1 << 30


def sides_of(slot_shape: Shape, layout: Layout) -> tuple[int, Any, Any]:
    """Return channels, height and width; None for a side that differs between slots.

    Raises:
        SpecError: slots do not have three axes.
    """
    if len(slot_shape) != 3:
        raise SpecError(f"only slots with three axes can be augmented, these slots have shape {slot_shape}")
    first, second, third = slot_shape
    return (first, second, third) if layout == "NCHW" else (third, first, second)


def has_size(crop: Crop | None) -> bool:
    """Return whether a crop makes images of one size of slots that differ in height and width."""
    return crop is not None and not (isinstance(crop, PadAndCrop) and crop.size is None)


def image_size(crop: Crop | None, height: Sides | None, width: Sides | None) -> tuple[int, int]:
    """Return height and width of the images that slots become.

    Args:
        crop: of the images; None for whole slots.
        height: of all slots, or of each; None if it is not known, and then the crop may be too large.
        width: of them.

    Raises:
        SpecError: the images would differ in height and width; or the crop is larger than a slot, or has sizes by
            epoch.
    """
    if height is None or width is None:
        least = _LARGEST_PX, _LARGEST_PX
        differ = True
    else:
        least = int(np.min(height, initial=_LARGEST_PX)), int(np.min(width, initial=_LARGEST_PX))
        differ = bool((np.asarray(height) != least[0]).any() or (np.asarray(width) != least[1]).any())
    if differ and not has_size(crop):
        raise SpecError(
            "these slots differ in height and width, and the images of a batch must not: choose a crop with a size, "
            "such as RandomResizedCrop(224)"
        )
    return least if crop is None else crop.output_size(*least)


def least_slot(crop: Crop | None) -> tuple[int, int]:
    """Return height and width of the smallest slot that a crop fits into."""
    if crop is None or isinstance(crop, RandomResizedCrop):
        return 1, 1
    if isinstance(crop, PadAndCrop):
        height, width = crop.size or (1, 1)
        return max(height - 2 * crop.padding, 1), max(width - 2 * crop.padding, 1)
    return crop.one_size()
