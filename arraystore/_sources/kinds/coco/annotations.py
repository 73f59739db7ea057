"""The annotations of a COCO file become targets: the items of each image, in the order of the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from math import isnan
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.ragged import Ragged, offsets_of
from arraystore._sources.kinds.coco.parsing import NO_INSTANCES, Annotation, refused
from arraystore.errors import ManifestError, Option

MOST_PX = 1 << 24  # beyond it, float32 has no whole pixels
_ADVICE = {
    "caption": "make a table of one caption for each image, a CSV or JSONL with the columns file_name and caption",
    "segments_info": "take the file of instances, or write masks of classes as PNG files and pass them as a target",
}
_OTHER_FILES = {
    "caption": "a file of captions, which has several texts for an image",
    "segments_info": "a panoptic file, whose regions are in PNG files of colors",
}


@dataclass(frozen=True, slots=True)
class Annotations:
    """The annotations of a file, image by image.

    Attributes:
        path: of the file.
        entries: the annotations, in the order of the file.
        row_of: the row of each image's id.
        code_of: the code of each category's id.
        order: int64: the annotation of each item, where the items of an image follow each other.
        offsets: int64: where the items of each row begin and end.
    """

    path: str
    entries: Sequence[Annotation]
    row_of: Mapping[Any, int]
    code_of: Mapping[Any, int]
    order: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, path: str, entries: Any, row_of: Mapping[Any, int], code_of: Mapping[Any, int]) -> Annotations:
        """Return the annotations of a file.

        Raises:
            ManifestError: one of them is none, or is of an image that is not there.
        """
        if not isinstance(entries, list):
            raise refused(path, "has no list 'annotations'")
        # A million of them: here and below, they are looked at one by one only to name the first that has a fault.
        try:
            images = map(row_of.__getitem__, map(attrgetter("image"), entries))
            rows = np.fromiter(images, np.int64, len(entries))
        except (AttributeError, KeyError, TypeError):
            rows = np.array([_row_of(path, number, each, row_of) for number, each in enumerate(entries)], np.int64)
        offsets = offsets_of(np.bincount(rows, minlength=len(row_of)))
        return cls(path, entries, row_of, code_of, np.argsort(rows, kind="stable"), offsets)

    def ragged(self, values: npt.NDArray[Any]) -> Ragged:
        """Return values, one an annotation, as the target that has them image by image."""
        return Ragged(values[self.order], self.offsets)

    def column(self, name: str) -> list[Any]:
        """Return one part of each annotation."""
        return list(map(attrgetter(name), self.entries))

    def fault(self, number: int, reason: str, advice: str = "", targets: Sequence[str] | None = None) -> ManifestError:
        """Return the error that says what is wrong with an annotation, and whether it is of another kind of file.

        Args:
            number: of the annotation.
            reason: what is wrong.
            advice: what to do.
            targets: those to take instead, which the advice names as ``{0}``.
        """
        other = self.entries[number].box
        if isinstance(other, str) and other in NO_INSTANCES:
            reason = f"is of {_OTHER_FILES[other]}: the files of instances and of keypoints can be read"
            advice, targets = _ADVICE[other], None
        options = () if targets is None else (Option("targets", list(targets)),)
        return refused(self.path, f"annotation {number} (counted from 0) {reason}", advice=advice, options=options)

    def labels(self) -> npt.NDArray[np.int64]:
        """Return the code of each category.

        Raises:
            ManifestError: a category is not among the categories.
        """
        every = self.column("category")
        with suppress(KeyError, TypeError):
            return np.fromiter(map(self.code_of.__getitem__, every), np.int64, len(every))
        number = next(number for number, key in enumerate(every) if not _is_in(key, self.code_of))
        raise self.fault(number, f"is of the category {every[number]!r:.100}, which is not among the categories")

    def boxes(self) -> npt.NDArray[np.float32]:
        """Return left, top, right and bottom of each box: (annotations, 4).

        Raises:
            ManifestError: there is a box of another kind, or none.
        """
        every = self.column("box")
        with suppress(TypeError, ValueError, OverflowError):
            sides = np.array(every or np.empty((0, 4)), np.float64)
            if sides.shape == (len(every), 4) and set(map(type, chain(*every))) <= {int, float}:
                good = (np.abs(sides) <= MOST_PX).all(axis=1) & (sides[:, 2:] >= 0).all(axis=1)  # NaN is neither
                if good.all():
                    sides[:, 2:] += sides[:, :2]
                    return sides.astype(np.float32)
        number = next(number for number, box in enumerate(every) if not _is_box(box))
        if every[number] is None:
            raise self.fault(number, "has no 'bbox'", "leave out the boxes, such as with {0}", ["labels"])
        raise self.fault(
            number, f"has the bbox {every[number]!r:.100}, which is not left, top, width and height in pixels"
        )

    def crowds(self) -> npt.NDArray[np.uint8]:
        """Return 1 for each crowd, 0 for each single object.

        Raises:
            ManifestError: an annotation says something else.
        """
        every = self.column("iscrowd")
        for number, mark in enumerate(every):
            if mark not in (0, 1):
                raise self.fault(number, f"has 'iscrowd' {mark!r:.100}, which is neither 0 nor 1")
        return np.array(every, np.uint8)


def _row_of(path: str, number: int, entry: Any, row_of: Mapping[Any, int]) -> int:
    if not isinstance(entry, Annotation):
        raise refused(path, f"annotation {number} (counted from 0) has no 'image_id'")
    if not _is_in(entry.image, row_of):
        reason = f"is of the image {entry.image!r:.100}, which is not among the images"
        raise refused(path, f"annotation {number} (counted from 0) {reason}")
    return row_of[entry.image]


def _is_in(key: Any, known: Collection[Any]) -> bool:
    return not isinstance(key, list | dict) and key in known


def _is_box(box: Any) -> bool:
    if not isinstance(box, list) or len(box) != 4 or not set(map(type, box)) <= {int, float}:
        return False
    return max(map(abs, box)) <= MOST_PX and min(box[2:]) >= 0 and not any(map(isnan, box))
