"""Whether slots that differ in height and width fit into batches, whose images have one shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.augment import Augment
from arraystore._augmenting.crops import Crop
from arraystore._augmenting.slot_sides import has_size, least_slot
from arraystore.errors import SpecError
from arraystore.spec import Layout

Column = tuple[tuple[Any, ...], np.dtype[Any]]
Integers = npt.NDArray[np.int64]


class Sided(Protocol):
    """Slots, of which this needs to know the shapes."""

    @property
    def masks(self) -> Mapping[str, int]:
        """The targets that are masks; where slots differ, each mask has the sides of its slot."""

    @property
    def differ(self) -> bool:
        """Whether slots differ in height and width."""

    @property
    def is_filling(self) -> bool:
        """Whether any slot may not be filled yet."""

    def column(self) -> Column:
        """Return the shape and dtype of one slot; None for the sides that differ."""

    def stored_sides(self) -> tuple[Integers, Integers]:
        """Return the slots that have an image, (k,), and height and width of each, (k, 2)."""


def augmented_column(slots: Sided, augment: Augment | None, layout: Layout, *, transforms: bool) -> Column:
    """Return shape and dtype of an image after its augmentation.

    Args:
        slots: that are read.
        augment: of them, with the size of one epoch; None for whole slots.
        layout: of the slots.
        transforms: whether a function of the user changes each image afterwards. It may then have any shape before,
            and None stands for the sides that differ.

    Raises:
        SpecError: nothing gives the images one shape; the crop is larger than a slot; or targets cannot follow.
    """
    slot_shape = slots.column()[0]
    if not slots.differ:
        return slots.column() if augment is None else augment.output(slot_shape, layout)
    sized = augment is not None and has_size(augment.crop)
    if not sized and not transforms:
        raise SpecError(
            "these slots differ in height and width, and the images of a batch must not: pass a crop with a size, such "
            "as augment=Augment(crop=RandomResizedCrop(224)), or a transform that gives all images one shape"
        )
    if augment is None:
        return slots.column()
    _refuse_arrays_of_masks(slots, augment)
    if sized:
        if not slots.is_filling:  # otherwise each batch is checked
            check_sides(augment.crop, *slots.stored_sides())
        return augment.output(slot_shape, layout)
    if augment.follow:
        raise SpecError(
            "targets follow images that get one size here, and these slots differ in height and width: pass a crop "
            "with a size, such as augment=Augment(crop=RandomResizedCrop(224), …)"
        )
    shape, dtype = augment.output(tuple(side or 1 for side in slot_shape), layout)
    sides = (None, None)
    return ((shape[0], *sides) if (augment.layout or layout) == "NCHW" else (*sides, shape[2])), dtype


def _refuse_arrays_of_masks(slots: Sided, augment: Augment) -> None:
    """Refuse masks that are to follow and do not have the sides of their slots, as those of one array cannot."""
    name = next((name for name, kind in augment.follow.items() if kind == "mask" and name not in slots.masks), None)
    if name is not None:
        raise SpecError(
            f"the target {name!r} has masks of one height and width, and these slots differ in both: take it out of "
            "follow="
        )


def check_sides(crop: Crop | None, chosen: Integers, sides: Integers) -> None:
    """Check that a crop fits into slots.

    Args:
        crop: of each.
        chosen: int64, (k,): the slots.
        sides: int64, (k, 2): height and width of each.

    Raises:
        SpecError: a slot is smaller.
    """
    height, width = least_slot(crop)
    small = np.flatnonzero((sides < (height, width)).any(axis=1))
    if small.size:
        own_height, own_width = sides[small[0]].tolist()
        raise SpecError(
            f"{type(crop).__name__} needs slots of at least {height:,} x {width:,} pixels, and slot "
            f"{chosen[small[0]]:,} has {own_height:,} x {own_width:,}; {small.size:,} of {len(chosen):,} slots are "
            f"smaller: choose RandomResizedCrop, a smaller crop, or the slots that are large enough, "
            f"store[(store.sides >= ({height}, {width})).all(axis=1)]"
        )
