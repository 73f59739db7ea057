"""Instances of COCO: one JSON file that lists images, categories, and annotations with boxes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from arraystore._common.ragged import Ragged, offsets_of
from arraystore._sources.given import raw_paths
from arraystore._sources.kinds.found import Found, checked_root
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError, Option

COCO_SUFFIX = ".json"
TARGETS = ("boxes", "labels", "iscrowd")
_LIMIT_BYTES = 4 << 30
_LOOKED_FOR = 20  # files, before a folder counts as the wrong one
_MOST_PX = 1 << 24  # beyond it, float32 has no whole pixels
# Polygons are nine tenths of a file, and no target needs them: parsing their numbers would take most of the time. What
# is matched is a whole value of a member with this name, since quotes inside a text have a backslash before them.
_POLYGONS = re.compile(rb'"segmentation"\s*:\s*\[[-+.,0-9eE\s\[\]]*\]')
_NOTE = (
    "the boxes are left, top, right, bottom in pixels of the source images, not of the slots: "
    "store.in_slot_pixels() gives those of the slots"
)


class _Annotation(NamedTuple):
    """What is kept of an annotation while the file is parsed."""

    image: Any
    category: Any
    box: Any
    iscrowd: Any


def from_coco(
    path: str,
    *,
    root: str | os.PathLike[str] | None = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
) -> Found:
    """Return the images of a COCO file in its order, with the boxes of each.

    The targets are ``"boxes"`` (ragged float32, (items, 4): left, top, right, bottom in pixels of the source image),
    ``"labels"`` (ragged codes of the categories, in the order of their ids) and ``"iscrowd"`` (ragged uint8). The items
    of an image have the order of the file. An image without annotations has none.

    Args:
        path: the file.
        root: the folder that the names of images start from; None is the folder of the file.
        targets: which of these targets to take; None for all.

    Raises:
        ManifestError: the file cannot be read; an image, a category or an annotation is not what it should be, comes
            twice, or names another one that is not there; or none of the first images lies in the folder.
    """
    chosen = _chosen(path, targets)
    parsed = _parsed(path)
    names, row_of = _images(path, parsed.get("images"))
    folder = checked_root(root) or str(Path(path).absolute().parent)
    _check_folder(path, folder, names)
    found = Found(TextList.from_raw(raw_paths(names)), folder, place=path)
    found.origin = str(Path(path).absolute())
    annotations = parsed.get("annotations")
    if annotations is None and targets is None:
        return found  # the file of a test set
    categories, code_of = _categories(path, parsed.get("categories"))
    columns = _columns(path, annotations, row_of, code_of)
    found.targets = {name: columns[name] for name in chosen}
    if "labels" in chosen:
        found.classes["labels"] = categories
    if "boxes" in chosen:
        found.source_pixels = {"boxes": "boxes"}
        found.notes.append(f"{path}: {_NOTE}")
    return found


def _chosen(path: str, targets: Sequence[str] | Mapping[str, str] | None) -> Sequence[str]:
    if targets is None:
        return TARGETS
    if isinstance(targets, str | Mapping):
        raise ManifestError(f"{path}: targets must be a list of names, such as {list(TARGETS)}", kind=Kind.INVALID)
    for name in targets:
        if name not in TARGETS:
            raise ManifestError(
                f"{path}: a COCO file gives no target {name!r}: it gives {', '.join(map(repr, TARGETS))}",
                kind=Kind.INVALID,
            )
    return list(targets)


def _parsed(path: str) -> dict[str, Any]:
    """Return the object in the file, whose annotations are `_Annotation`."""
    if not Path(path).is_file():
        raise ManifestError(f"{path}: there is no such file", source=path, kind=Kind.MISSING)
    try:
        size = Path(path).stat().st_size
        if size > _LIMIT_BYTES:
            raise _refused(path, f"is larger than {_LIMIT_BYTES:,} bytes")
        text = _POLYGONS.sub(b'"segmentation":null', Path(path).read_bytes())
        parsed = json.loads(text, object_hook=_kept)
    except ManifestError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path}: the JSON cannot be read: {error}"
        raise ManifestError(message, source=path, reason=str(error), kind=Kind.UNREADABLE) from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("images"), list):
        raise _refused(path, "has no list 'images', so it is no COCO file")
    return parsed


def _kept(members: dict[str, Any]) -> Any:
    if "image_id" not in members:
        return members
    return _Annotation(members["image_id"], members.get("category_id"), members.get("bbox"), members.get("iscrowd", 0))


def _images(path: str, images: Any) -> tuple[list[str], dict[Any, int]]:
    """Return the names of the images, and the row of each id."""
    names: list[str] = []
    row_of: dict[Any, int] = {}
    seen: set[str] = set()
    for row, image in enumerate(images):
        where = f"image {row} (counted from 0)"
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not name:
            raise _refused(path, f"{where} has no text 'file_name'", row)
        if not _is_id(image.get("id")):
            raise _refused(path, f"{where}, {name!r}, has no whole number or text 'id'", row)
        if image["id"] in row_of or name in seen:
            what = f"the id {image['id']!r}" if image["id"] in row_of else "a name"
            raise _refused(path, f"{where}, {name!r}, has {what} that another image has: leave one out", row)
        row_of[image["id"]] = row
        seen.add(name)
        names.append(name)
    if not names:
        raise _refused(path, "has no images")
    return names, row_of


def _categories(path: str, categories: Any) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the names of the categories in the order of their ids, and the code of each id."""
    if not isinstance(categories, list):
        raise _refused(path, "has annotations but no list 'categories'")
    names: dict[Any, str] = {}
    for number, category in enumerate(categories):
        known = category if isinstance(category, dict) else {}
        name, key = known.get("name"), known.get("id")
        if not isinstance(name, str) or not _is_id(key):
            raise _refused(path, f"category {number} (counted from 0) has no 'id' and 'name'")
        if key in names or name in names.values():
            raise _refused(path, f"category {number} (counted from 0), {name!r}, has the id or name of another one")
        names[key] = name
    try:
        ids = sorted(names)
    except TypeError:
        raise _refused(path, "has categories whose ids are partly numbers, partly texts") from None
    return tuple(names[key] for key in ids), {key: code for code, key in enumerate(ids)}


def _columns(path: str, annotations: Any, row_of: Mapping[Any, int], code_of: Mapping[Any, int]) -> dict[str, Ragged]:
    """Return the targets."""
    if not isinstance(annotations, list):
        raise _refused(path, "has no list 'annotations'")
    # A million of them: one by one they are looked at only to name the first that has a fault.
    count, fits = len(annotations), False
    with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):
        images, categories, boxes, crowds = (list(map(attrgetter(name), annotations)) for name in _Annotation._fields)
        rows = np.fromiter(map(row_of.__getitem__, images), np.int64, count)
        codes = np.fromiter(map(code_of.__getitem__, categories), np.int64, count)
        sides = np.array(boxes or np.empty((0, 4)), np.float64)
        fits = sides.shape == (count, 4) and set(crowds) <= {0, 1} and set(map(type, chain(*boxes))) <= {int, float}
    if not fits:
        number, reason = _first_fault(annotations, row_of, code_of)
        raise _refused(path, f"annotation {number} (counted from 0) {reason}")
    inside = (np.abs(sides) <= _MOST_PX).all(axis=1) & (sides[:, 2:] >= 0).all(axis=1)  # NaN is neither
    if not inside.all():
        number = int(np.argmin(inside))
        raise _refused(path, f"annotation {number} (counted from 0) {_no_box(boxes[number])}")
    sides[:, 2:] += sides[:, :2]
    order = np.argsort(rows, kind="stable")
    offsets = offsets_of(np.bincount(rows, minlength=len(row_of)))
    every: dict[str, Any] = {"boxes": sides.astype(np.float32), "labels": codes, "iscrowd": np.array(crowds, np.uint8)}
    return {name: Ragged(values[order], offsets) for name, values in every.items()}


def _first_fault(annotations: Any, row_of: Mapping[Any, int], code_of: Mapping[Any, int]) -> tuple[int, str]:
    """Return which annotation has a fault, and what it is."""
    for number, each in enumerate(annotations):
        if not isinstance(each, _Annotation):
            return number, "has no 'image_id'"
        if not _is_in(each.image, row_of):
            return number, f"is of the image {each.image!r:.100}, which is not among the images"
        if each.box is None:
            return number, "has no 'bbox': only the files of instances can be read"
        if not _is_in(each.category, code_of):
            return number, f"is of the category {each.category!r:.100}, which is not among the categories"
        numbers = each.box if isinstance(each.box, list) else []
        if len(numbers) != 4 or not set(map(type, numbers)) <= {int, float} or max(map(abs, numbers)) > _MOST_PX:
            return number, _no_box(each.box)
        if each.iscrowd not in (0, 1):
            return number, f"has 'iscrowd' {each.iscrowd!r:.100}, which is neither 0 nor 1"
    return 0, "or another one cannot be read"


def _no_box(box: Any) -> str:
    return f"has the bbox {box!r:.100}, which is not left, top, width and height in pixels"


def _is_in(key: Any, known: Mapping[Any, int]) -> bool:
    return not isinstance(key, list | dict) and key in known


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


def _refused(path: str, reason: str, row: int | None = None) -> ManifestError:
    return ManifestError(f"{path}: {reason}", slot=row, source=path, reason=reason, kind=Kind.INVALID)
