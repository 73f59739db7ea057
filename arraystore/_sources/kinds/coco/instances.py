"""A COCO file as a source: its images, and the targets that its annotations give."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._sources.given import raw_paths
from arraystore._sources.kinds.coco.annotations import MOST_PX, Annotations
from arraystore._sources.kinds.coco.keypoints import has_keypoints, keypoints_of
from arraystore._sources.kinds.coco.parsing import parse_file, refused
from arraystore._sources.kinds.coco.regions import class_masks, instance_masks, regions_of
from arraystore._sources.kinds.found import Found, checked_root
from arraystore._sources.targets.masks import Masks
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError, Option

COCO_SUFFIX = ".json"
_ALWAYS = ("boxes", "labels", "iscrowd")
_KEYPOINTS = ("keypoints", "visibility")
_MASKS = ("masks", "instance_masks")
_TARGETS = (*_ALWAYS, *_KEYPOINTS, *_MASKS)
_LOOKED_FOR = 20  # files, before a folder counts as the wrong one
_COORDINATES = {"boxes": "left, top, right, bottom", "keypoints": "x, y"}


def from_coco(
    path: str,
    *,
    root: str | os.PathLike[str] | None = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
) -> Found:
    """Return the images of a COCO file in its order, with the targets of each.

    The targets are ``"boxes"`` (ragged float32, (items, 4): left, top, right, bottom in pixels of the source image),
    ``"labels"`` (ragged codes of the categories, in the order of their ids) and ``"iscrowd"`` (ragged uint8). Where an
    annotation has keypoints there are also ``"keypoints"`` (ragged float32, (items, K, 2): x, y as in the file) and
    ``"visibility"`` (ragged uint8, (items, K)). The items of an image have the order of the file. An image without
    annotations has none.

    Only on request there are ``"masks"``, of classes, and ``"instance_masks"``, see `RegionMasks`.

    Args:
        path: the file.
        root: the folder that the names of images start from; None is the folder of the file.
        targets: which of these targets to take; None for all but the masks.

    Raises:
        ManifestError: the file cannot be read; an image, a category or an annotation is not what it should be, comes
            twice, or names another one that is not there; or none of the first images lies in the folder.
    """
    chosen = _chosen(path, targets)
    parsed = parse_file(path, regions=bool(chosen & {*_MASKS}))
    images = parsed["images"]
    names, row_of = _images(path, images)
    folder = checked_root(root) or str(Path(path).absolute().parent)
    _check_folder(path, folder, names)
    found = Found(TextList.from_raw(raw_paths(names)), folder, place=path)
    found.origin = str(Path(path).absolute())
    entries = parsed.get("annotations")
    if not chosen or (entries is None and targets is None):
        return found  # images alone, or the file of a test set
    categories, code_of = _categories(path, parsed.get("categories"))
    annotations = Annotations.of(path, entries, row_of, code_of)
    if targets is None and has_keypoints(annotations):
        chosen |= {*_KEYPOINTS}
    _add_items(found, chosen, annotations, categories)
    if chosen & {*_KEYPOINTS}:
        points, visibility = keypoints_of(annotations, parsed["categories"])
        every = {"keypoints": annotations.ragged(points), "visibility": annotations.ragged(visibility)}
        found.targets |= {name: every[name] for name in _KEYPOINTS if name in chosen}
    sides = _sides(images)
    if chosen & {*_MASKS}:
        _check_sides(path, names, sides)
        _add_masks(found, chosen, annotations, categories, sides)
    found.source_pixels = {name: name for name in _COORDINATES if name in chosen}
    if found.source_pixels:
        found.source_sides = sides
        told = " and ".join(f"the {name} ({_COORDINATES[name]})" for name in found.source_pixels)
        found.notes.append(
            f"{path}: {told} are in pixels of the source images, not of the slots: store.in_slot_pixels() gives those "
            "of the slots"
        )
    return found


def _chosen(path: str, targets: Sequence[str] | Mapping[str, str] | None) -> set[str]:
    if targets is None:
        return {*_ALWAYS}
    if isinstance(targets, str | Mapping):
        raise ManifestError(f"{path}: targets must be a list of names, such as {list(_ALWAYS)}", kind=Kind.INVALID)
    for name in targets:
        if name not in _TARGETS:
            raise ManifestError(
                f"{path}: a COCO file gives no target {name!r}: it gives {', '.join(map(repr, _TARGETS))}",
                kind=Kind.INVALID,
            )
    return {*targets}


def _add_items(found: Found, chosen: set[str], annotations: Annotations, categories: tuple[str, ...]) -> None:
    """Add the targets that have one value or one box for each annotation."""
    if "boxes" in chosen:
        found.targets["boxes"] = annotations.ragged(annotations.boxes())
    if "labels" in chosen:
        found.targets["labels"] = annotations.ragged(annotations.labels())
        found.classes["labels"] = categories
    if "iscrowd" in chosen:
        found.targets["iscrowd"] = annotations.ragged(annotations.crowds())


def _add_masks(
    found: Found,
    chosen: set[str],
    annotations: Annotations,
    categories: tuple[str, ...],
    sides: npt.NDArray[np.int64],
) -> None:
    regions = regions_of(annotations)
    if "masks" in chosen:
        masks = class_masks(annotations, sides, regions, categories)
        found.masks["masks"] = Masks(masks, bits=masks.bits)
        found.classes["masks"] = masks.classes
    if "instance_masks" in chosen:
        masks = instance_masks(annotations, sides, regions)
        found.masks["instance_masks"] = Masks(masks, bits=masks.bits)


def _images(path: str, images: Any) -> tuple[list[str], dict[Any, int]]:
    """Return the names of the images, and the row of each id."""
    names: list[str] = []
    row_of: dict[Any, int] = {}
    seen: set[str] = set()
    for row, image in enumerate(images):
        where = f"image {row} (counted from 0)"
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise refused(path, f"{where} has no text 'file_name'", row)
        if not _is_id(image.get("id")):
            raise refused(path, f"{where}, {name!r}, has no whole number or text 'id'", row)
        if image["id"] in row_of or name in seen:
            what = f"the id {image['id']!r}" if image["id"] in row_of else "a name"
            raise refused(path, f"{where}, {name!r}, has {what} that another image has: leave one out", row)
        row_of[image["id"]] = row
        seen.add(name)
        names.append(name)
    if not names:
        raise refused(path, "has no images")
    return names, row_of


def _categories(path: str, categories: Any) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the names of the categories in the order of their ids, and the code of each id."""
    if not isinstance(categories, list):
        raise refused(path, "has annotations but no list 'categories'")
    names: dict[Any, str] = {}
    for number, category in enumerate(categories):
        known = category if isinstance(category, dict) else {}
        name, key = known.get("name"), known.get("id")
        if not isinstance(name, str) or not _is_id(key):
            raise refused(path, f"category {number} (counted from 0) has no 'id' and 'name'")
        if key in names or name in names.values():
            raise refused(path, f"category {number} (counted from 0), {name!r}, has the id or name of another one")
        names[key] = name
    try:
        ids = sorted(names)
    except TypeError:
        raise refused(path, "has categories whose ids are partly numbers, partly texts") from None
    return tuple(names[key] for key in ids), {key: code for code, key in enumerate(ids)}


def _sides(images: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Return height and width of each image, (N, 2): 0 where the file does not say it in whole pixels."""

    def side(value: Any) -> int:
        return int(value) if type(value) in (int, float) and 0 < value <= MOST_PX and value == int(value) else 0

    return np.array([(side(image.get("height")), side(image.get("width"))) for image in images], np.int64)


def _check_sides(path: str, names: Sequence[str], sides: npt.NDArray[np.int64]) -> None:
    unknown = np.flatnonzero((sides == 0).any(axis=1))
    if len(unknown):
        row = int(unknown[0])
        reason = f"{names[row]!r}, has no 'height' and 'width' in pixels, which masks need"
        raise refused(path, f"image {row} (counted from 0), {reason}", row)


def _check_folder(path: str, folder: str, names: Sequence[str]) -> None:
    """Refuse a folder that has none of the first images: then the names start from another one."""
    if any(os.path.lexists(Path(folder, name)) for name in names[:_LOOKED_FOR] if "\0" not in name):
        return
    raise ManifestError(
        f"{path}: the image {names[0]!r} is not in {folder}",
        source=path,
        kind=Kind.MISSING,
        advice="pass the folder of the images as {0}",
        options=[Option("root", "…")],
    )


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)
