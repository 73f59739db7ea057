"""The regions of COCO's annotations as masks, which workers draw, each that of its image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.lazy import lazy
from arraystore._common.ragged import Ragged
from arraystore._sources.kinds.coco.annotations import Annotations
from arraystore._sources.kinds.coco.drawing import MOST_COVERS, draw
from arraystore._sources.kinds.coco.parsing import refused
from arraystore._sources.targets.class_names import mask_classes, recoded
from arraystore._sources.targets.mask_sources import DrawnMask
from arraystore._sources.text_list import TextList
from arraystore.errors import DecodeError, Kind, ManifestError, Option

if TYPE_CHECKING:
    from arraystore._kernels.packed import regions as kernels
else:  # it loads numba
    kernels = lazy("arraystore._kernels.packed.regions")

_MOST_OF_8_BITS, _MOST_OF_16_BITS = 254, 65_534  # one more is the fill


@dataclass(frozen=True, slots=True)
class DrawnRegions(DrawnMask):
    """The mask of one image.

    Attributes:
        height: in pixels, as the file has it.
        width: in pixels.
        regions: the JSON of each segmentation; empty without one.
        paints: the number of each region in the mask.
        crowds: 1 for the region of a crowd.
        places: of each annotation in the file, for messages.
    """

    height: int
    width: int
    regions: tuple[bytes, ...]
    paints: tuple[int, ...]
    crowds: tuple[int, ...]
    places: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the upright mask."""
        return self.height, self.width

    def numbers(self) -> npt.NDArray[np.uint16]:
        """Return the numbers: uint16, (H, W). A smaller region is in front of a larger one, and crowds are behind.

        Raises:
            DecodeError: an annotation has no segmentation, or one that cannot be drawn.
        """
        height, width = self.shape
        pixels = height * width
        mask = np.zeros((width, height), np.uint16)
        sizes = np.full((width, height), 2 * pixels + 1, np.int32)
        work = 0
        for text, paint, crowd, place in zip(self.regions, self.paints, self.crowds, self.places, strict=True):
            try:
                region = draw(text, height, width, most_work=MOST_COVERS * pixels - work)
            except DecodeError as error:
                raise DecodeError(f"annotation {place} (counted from 0) {error.message}", kind=error.kind) from error
            work += region.work
            size = region.size + pixels if crowd else region.size
            kernels.paint(region.pixels, region.column, region.row, paint, size, sizes, mask)
        return mask.T

    def digest(self) -> int:
        """Return a hash, of 64 bits, of everything that the numbers are made of."""
        lengths = [len(text) for text in self.regions]
        told = np.array([*self.shape, *lengths, *self.paints, *self.crowds], np.int64)
        return int(xxhash.xxh3_64_intdigest(told.tobytes() + b"".join(self.regions)))


@dataclass(frozen=True, slots=True)
class RegionMasks:
    """The masks of all images of a file, of classes or of instances.

    In both, 0 is the background. In masks of classes a category has its code and 1, and a crowd has the fill: it is
    outlined coarsely around a group, with gaps that belong to others, so neither its class nor the background would be
    right for all of its pixels. In masks of instances item i has the number i + 1, a crowd too.

    Attributes:
        shapes: int64, (N, 2): height and width of each image.
        regions: the JSON of each item's segmentation, image by image; empty where there is none.
        items: ragged int64, (N, items, 3): the number of each item in its mask, 1 for a crowd, and its place in the
            file.
        classes: what the numbers mean, from 0 on; empty for masks of instances.
    """

    shapes: npt.NDArray[np.int64]
    regions: TextList
    items: Ragged
    classes: tuple[str, ...]

    may_name_files = False
    is_fixed = True

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, slot: int) -> DrawnRegions:
        start, stop = self.items.offsets[slot : slot + 2].tolist()
        numbers, crowds, places = self.items.values[start:stop].T
        if self.classes:
            numbers = np.where(crowds, (1 << self.bits) - 1, numbers)
        height, width = self.shapes[slot].tolist()
        regions = tuple(map(self.regions.raw, range(start, stop)))
        return DrawnRegions(height, width, regions, *(tuple(each.tolist()) for each in (numbers, crowds, places)))

    @property
    def bits(self) -> int:
        """The bits of a number: 8, or 16 where 254 numbers and the fill are not enough."""
        most = int(self.items.values[:, 0].max(initial=0)) if not self.classes else len(self.classes) - 1
        return 8 if most <= _MOST_OF_8_BITS else 16

    def name(self, slot: int) -> str:
        """Return the mask of a slot as text."""
        return f"regions {slot}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        """Yield what tells these masks from others."""
        values = np.ascontiguousarray(self.items.values[:, :2])
        columns = (self.shapes, self.items.offsets, values, self.regions.offsets, self.regions.blob)
        yield ["regions", bool(self.classes)], columns

    def with_classes(self, target: str, classes: tuple[str, ...]) -> RegionMasks:
        """Return masks with other numbers of their classes.

        Args:
            target: the name of these masks.
            classes: what the numbers mean, from 0 on.

        Raises:
            ManifestError: 0 is not the background, or an item has a class that is not among them.
        """
        if not self.classes:
            return self
        expected = mask_classes(classes[1:])
        if classes != expected:
            raise ManifestError(
                f"the classes of {target!r} begin with {classes[0] if classes else None!r}, but number 0 of masks is "
                f"{expected[0]!r}",
                kind=Kind.INVALID,
                advice="put it before the names of the categories, or give only those, {0}",
                options=[Option("classes", ["…"])],
            )
        values = self.items.values.copy()
        used = Ragged(np.where(values[:, 1], -1, values[:, 0]), self.items.offsets)  # crowds do not use their number
        known = cast("Ragged", recoded(target, used, self.classes, classes))
        values[:, 0] = np.maximum(known.values, 0)
        return replace(self, items=Ragged(values, self.items.offsets), classes=classes)


def class_masks(
    annotations: Annotations, shapes: npt.NDArray[np.int64], regions: TextList, categories: Sequence[str]
) -> RegionMasks:
    """Return masks whose numbers are those of classes: the code of a category and 1.

    Args:
        annotations: of the file.
        shapes: int64, (N, 2): height and width of each image.
        regions: see `regions_of`.
        categories: the name of each code.

    Raises:
        ManifestError: a category or a mark of a crowd is not right.
    """
    numbers = annotations.labels()[annotations.order] + 1
    return RegionMasks(shapes, regions, _items(annotations, numbers), mask_classes(categories))


def instance_masks(annotations: Annotations, shapes: npt.NDArray[np.int64], regions: TextList) -> RegionMasks:
    """Return masks whose numbers are those of items: 1 for the first one of an image.

    Args:
        annotations: see `class_masks`, as for the others.
        shapes: of the images.
        regions: of the items.

    Raises:
        ManifestError: a mark of a crowd is not right.
    """
    first = np.repeat(annotations.offsets[:-1], np.diff(annotations.offsets))
    numbers = np.arange(len(first)) - first + 1
    return RegionMasks(shapes, regions, _items(annotations, numbers), ())


def regions_of(annotations: Annotations) -> TextList:
    """Return the JSON of each item's segmentation, image by image; empty where there is none.

    Raises:
        ManifestError: no annotation has any.
    """
    texts = annotations.column("region")
    if texts and not any(texts):
        reason = "has no 'segmentation', nor has any other one"
        raise annotations.fault(0, reason, "leave out the masks, such as with {0}", ["boxes", "labels", "iscrowd"])
    return TextList.from_raw(texts[place] or b"" for place in annotations.order.tolist())


def _items(annotations: Annotations, numbers: npt.NDArray[np.int64]) -> Ragged:
    most = int(numbers.max(initial=0))
    if most > _MOST_OF_16_BITS:
        raise refused(annotations.path, f"needs the number {most:,}, which masks of 16 bits do not have")
    crowds = annotations.crowds()[annotations.order]
    return Ragged(np.stack([numbers, crowds, annotations.order], axis=1, dtype=np.int64), annotations.offsets)
