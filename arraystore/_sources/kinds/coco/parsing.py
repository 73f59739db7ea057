"""The JSON of a COCO file becomes Python objects: of each annotation, what a target is made of."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arraystore.errors import Kind, ManifestError, Option

_LIMIT_BYTES = 4 << 30
# Polygons are nine tenths of a file, and few targets need them: parsing their numbers would take most of the time. What
# is matched is a whole value of a member with this name, since quotes inside a text have a backslash before them.
POLYGONS = re.compile(rb'"segmentation"\s*:\s*(\[[-+.,0-9eE\s\[\]]*\])')
_RUN_LENGTHS = {"size", "counts"}
NO_INSTANCES = ("caption", "segments_info")  # members of annotations in the files of captions and of panoptic regions


class Annotation(NamedTuple):
    """What is kept of an annotation.

    Attributes:
        box: as in the file; without one, which of `NO_INSTANCES` there is.
        region: the JSON of the segmentation, None without one; also None if regions were not asked for.
        keypoints: the numbers of the keypoints; as in the file if they are no numbers.
    """

    image: Any
    category: Any
    box: Any
    iscrowd: Any
    keypoints: Any
    region: bytes | None


def parse_file(path: str, *, regions: bool) -> dict[str, Any]:
    """Return the object in a file, with an `Annotation` for each object that names its image.

    Args:
        path: the file.
        regions: whether the segmentation of each annotation is kept.

    Raises:
        ManifestError: the file is missing, is too large, or holds something else.
    """
    if not Path(path).is_file():
        raise ManifestError(f"{path}: there is no such file", source=path, kind=Kind.MISSING)
    try:
        size = Path(path).stat().st_size
        if size > _LIMIT_BYTES:
            raise refused(path, f"is larger than {_LIMIT_BYTES:,} bytes")
        parsed = _with_regions(path) if regions else _without_regions(path)
    except ManifestError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        message = f"{path}: the JSON cannot be read: {error}"
        raise ManifestError(message, source=path, reason=str(error), kind=Kind.UNREADABLE) from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("images"), list):
        raise refused(path, "has no list 'images', so it is no COCO file")
    return parsed


def refused(
    path: str, reason: str, row: int | None = None, *, advice: str = "", options: Sequence[Option] = ()
) -> ManifestError:
    """Return the error that says what is wrong with a file, and in which row; see `ArraystoreError`."""
    message = f"{path}: {reason}"
    return ManifestError(
        message, slot=row, source=path, reason=reason, kind=Kind.INVALID, advice=advice, options=options
    )


def _without_regions(path: str) -> Any:
    text = POLYGONS.sub(b'"segmentation":null', Path(path).read_bytes())
    return json.loads(text, object_hook=_hook(None))


def _with_regions(path: str) -> Any:
    """Parse a file whose polygons are kept as the bytes that they are: as Python's lists they would take ten times it.

    In the text that is parsed, a member with a name that the file does not have says which polygons an annotation has.
    """
    text = Path(path).read_bytes()
    name = "polygons"
    while name.encode() in text:
        name += "_"
    kept: list[bytes] = []

    def keep(found: re.Match[bytes]) -> bytes:
        kept.append(found[1])
        return b'"%s":"%d"' % (name.encode(), len(kept) - 1)  # quoted, since digits might follow in a damaged file

    def region_of(members: dict[str, Any]) -> bytes | None:
        if name in members:
            polygons = kept[int(members[name])]
            return None if polygons.translate(None, b" \t\r\n") == b"[]" else polygons
        region = members.get("segmentation")
        return region if isinstance(region, bytes) or not region else json.dumps(region).encode()

    text = POLYGONS.sub(keep, text)
    return json.loads(text, object_hook=_hook(region_of))


def _hook(region_of: Callable[[dict[str, Any]], bytes | None] | None) -> Callable[[dict[str, Any]], Any]:
    """Return what makes an annotation of the members of an object, and leaves other objects as they are."""

    def kept(members: dict[str, Any]) -> Any:
        if "image_id" not in members:
            if members.keys() != _RUN_LENGTHS:
                return members
            # Run lengths in a list would take ten times the memory too.
            return json.dumps(members).encode() if region_of else None
        box = members.get("bbox")
        if box is None:
            box = next((name for name in NO_INSTANCES if name in members), None)
        keypoints = members.get("keypoints")
        return Annotation(
            members["image_id"],
            members.get("category_id"),
            box,
            members.get("iscrowd", 0),
            _packed(keypoints) if keypoints else None,
            region_of(members) if region_of else None,
        )

    return kept


def _packed(numbers: Any) -> Any:
    """Return a list of numbers in an eighth of the memory; anything else as it is."""
    if isinstance(numbers, list) and set(map(type, numbers)) <= {int, float}:
        try:
            return array("d", numbers)
        except OverflowError:
            return numbers
    return numbers
