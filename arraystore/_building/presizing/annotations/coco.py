"""A COCO file whose images become smaller: boxes, areas, keypoints, polygons and run lengths follow."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from arraystore._building.presizing.annotations.rle import smaller_rle
from arraystore._building.presizing.annotations.scaling import OneFile, OutsideError, Smaller, not_understood, refused
from arraystore._building.presizing.names import Names
from arraystore.errors import Kind, ManifestError

_LIMIT_BYTES = 4 << 30
_IMAGE_KEYS = frozenset(("id", "file_name", "width", "height", "license"))
# Numbers and lists of an annotation that are no coordinates.
_PLAIN_KEYS = frozenset(("id", "image_id", "category_id", "iscrowd", "ignore", "num_keypoints", "score"))
_LISTS = frozenset(("images", "annotations"))
_PLAIN_LISTS = frozenset(("info", "licenses", "categories"))


class Coco(OneFile):
    """The annotations of a COCO file; see `Annotations`.

    Args:
        path: of the file.
        names: of the images that become smaller.
        unscaled: members that are no coordinates.

    Raises:
        ManifestError: it is no COCO file, none of its images becomes smaller, or something in it is not understood.
    """

    def __init__(self, path: str, names: Names, unscaled: Collection[str]) -> None:
        self.path = path
        self._unscaled = frozenset(unscaled)
        self._whole = _parsed(path)
        self._row_of = self._matched(names)
        self._check()
        self.scaled = ["area", "bbox", "keypoints", "segmentation"]

    def written(self, name: str, smaller: Mapping[int, Smaller]) -> bytes:
        """See `Annotations`.

        Raises:
            ManifestError: an image has another size than the file says, or a box lies outside.
        """
        by_id = {key: smaller[row] for key, row in self._row_of.items() if row in smaller}
        images = [self._image(image, by_id[image["id"]]) for image in self._whole["images"] if image["id"] in by_id]
        annotations = [
            self._annotation(number, each, by_id[each["image_id"]])
            for number, each in enumerate(self._whole.get("annotations", ()))
            if each["image_id"] in by_id
        ]
        whole = {**self._whole, "images": images}
        if "annotations" in self._whole:
            whole["annotations"] = annotations
        return json.dumps(whole).encode()

    def _matched(self, names: Names) -> dict[Any, int]:
        """Return the row of each id of an image: that of its path, or else that of its name, if only one has it."""
        row_of: dict[str, int | None] = {}  # None for a name that several have
        paths = [source[len(names.base.rstrip("/")) + 1 :] for source in names.sources]
        for at, path in enumerate(paths):
            base = PurePosixPath(path).name
            row_of[base] = None if base in row_of else at
        row_of.update((path, at) for at, path in enumerate(paths))
        found: dict[Any, int] = {}
        taken: set[int] = set()
        for number, image in enumerate(self._whole["images"]):
            where = f"image {number} (counted from 0)"
            if not isinstance(image, dict) or type(image.get("id")) not in (int, str):
                raise refused(self.path, f"{where} has no whole number or text 'id'")
            name = image.get("file_name")
            if not isinstance(name, str):
                raise refused(self.path, f"{where} has no text 'file_name'")
            row = row_of.get(name, row_of.get(PurePosixPath(name).name))
            if image["id"] in found or row in taken:
                raise refused(self.path, f"{where}, {name!r}, comes twice")
            if row is not None:
                found[image["id"]] = row
                taken.add(row)
        if not found:
            raise ManifestError(
                f"{self.path}: none of its images is among those in {names.base}", source=self.path, kind=Kind.MISSING
            )
        return found

    def _check(self) -> None:
        """Refuse what is not understood; with a scale of 1, everything else is gone through."""
        for key, value in self._whole.items():
            if isinstance(value, list | dict) and key not in _LISTS | _PLAIN_LISTS | self._unscaled:
                raise not_understood(self.path, "the file", key, value)
        ids = set()
        for number, image in enumerate(self._whole["images"]):
            ids.add(image["id"])
            self._check_plain(f"image {number} (counted from 0)", image, _IMAGE_KEYS)
        for number, each in enumerate(self._whole.get("annotations", ())):
            where = f"annotation {number} (counted from 0)"
            if not isinstance(each, dict) or type(each.get("image_id")) not in (int, str):
                raise refused(self.path, f"{where} has no 'image_id'")
            if each["image_id"] not in ids:
                raise refused(self.path, f"{where} is of the image {each['image_id']!r:.60}, which is not there")
            self._check_plain(where, each, _PLAIN_KEYS | {"bbox", "area", "segmentation", "keypoints"})
        boxes = [each.get("bbox") for each in self._whole.get("annotations", ())]
        numbers = [number for box in boxes if isinstance(box, list) for number in box if type(number) in (int, float)]
        if numbers and all(0 <= number <= 1 for number in numbers) and any(number % 1 for number in numbers):
            raise refused(self.path, "all its boxes lie between 0 and 1, so they are shares of the sides, not pixels")

    def _check_plain(self, where: str, members: Mapping[str, Any], known: Collection[str]) -> None:
        for key, value in members.items():
            plain = value is None or isinstance(value, str | bool)
            if key not in known and key not in self._unscaled and not plain:
                raise not_understood(self.path, where, key, value)

    def _image(self, image: Mapping[str, Any], smaller: Smaller) -> dict[str, Any]:
        said = tuple(image.get(key, side) for key, side in zip(("height", "width"), smaller.before, strict=True))
        if said != smaller.before:
            height, width = smaller.before
            raise refused(
                self.path,
                f"the image {image['file_name']!r} has {said[1]} x {said[0]} pixels in this file, and upright it has "
                f"{width} x {height}, so its boxes are those of another image",
            )
        return {**image, "file_name": smaller.name, "height": smaller.after[0], "width": smaller.after[1]}

    def _annotation(self, number: int, members: Mapping[str, Any], smaller: Smaller) -> dict[str, Any]:
        where = f"annotation {number} (counted from 0)"
        change = {"bbox": _box, "area": _area, "segmentation": _segmentation, "keypoints": _keypoints}
        changed = dict(members)
        for key in change.keys() & members.keys() - self._unscaled:
            try:
                changed[key] = change[key](members[key], smaller)
            except OutsideError as error:
                raise refused(self.path, f"{where}: {key!r}: {error} of {smaller.name!r}") from error
            except (TypeError, ValueError, KeyError):
                raise not_understood(self.path, where, key, members[key]) from None
        return changed


def _parsed(path: str) -> dict[str, Any]:
    try:
        if Path(path).stat().st_size > _LIMIT_BYTES:
            raise refused(path, f"is larger than {_LIMIT_BYTES:,} bytes")
        whole = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no such file", source=path, kind=Kind.MISSING) from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ManifestError):
            raise
        message = f"{path}: the JSON cannot be read: {error}"
        raise ManifestError(message, source=path, reason=str(error), kind=Kind.UNREADABLE) from error
    lists = isinstance(whole, dict) and isinstance(whole.get("images"), list)
    if not lists or not isinstance(whole.get("annotations", []), list):
        raise refused(path, "has no list 'images', or its 'annotations' are none, so it is no COCO file")
    parsed: dict[str, Any] = whole
    return parsed


def _box(value: Any, smaller: Smaller) -> list[float]:
    left, top, width, height = value
    return [smaller.x(left), smaller.y(top), smaller.x(width), smaller.y(height)]


def _area(value: Any, smaller: Smaller) -> float:
    return smaller.area(value)


def _keypoints(value: Any, smaller: Smaller) -> list[Any]:
    if len(value) % 3:
        raise ValueError("keypoints come as x, y and visibility")
    return smaller.pairs(value, 3)


def _segmentation(value: Any, smaller: Smaller) -> Any:
    if isinstance(value, dict):
        if tuple(value["size"]) != smaller.before:
            raise ValueError("its size is not that of its image")
        return smaller_rle(value, smaller.after)
    if any(len(polygon) % 2 for polygon in value):
        raise ValueError("polygons come as x and y")
    return [smaller.pairs(polygon) for polygon in value]
