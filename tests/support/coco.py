"""COCO files, and what pycocotools makes of their segmentations."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as pycocotools

from support import images

Pixels = npt.NDArray[np.uint8]


def pixels_of(segmentation: Any, height: int, width: int) -> Pixels:
    """The pixels (H, W) of a segmentation of a file, as `COCO.annToMask` gives them."""
    if isinstance(segmentation, list):
        runs = pycocotools.merge(pycocotools.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        runs = pycocotools.frPyObjects(segmentation, height, width)
    else:
        runs = segmentation
    with warnings.catch_warnings():  # of NumPy's, about pycocotools
        warnings.simplefilter("ignore", DeprecationWarning)
        found: Pixels = pycocotools.decode(runs)
    return found


def run_lengths(mask: npt.NDArray[Any], *, packed: bool) -> dict[str, Any]:
    """A mask as the run lengths of a file: packed as a text, or as a list."""
    if packed:
        letters = pycocotools.encode(np.asfortranarray(mask, np.uint8))["counts"]
        return {"size": list(mask.shape), "counts": letters.decode()}
    column = mask.T.reshape(-1) != 0
    edges = np.flatnonzero(np.diff(column)) + 1
    counts = np.diff([0, *([0] if column[0] else []), *edges.tolist(), column.size]).tolist()
    return {"size": list(mask.shape), "counts": counts}


CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
CODE_OF = {1: 0, 18: 1, 90: 2}  # in the order of the ids


def coco_folder(
    folder: Path, sides: Sequence[tuple[int, int]], annotations: Sequence[Mapping[str, Any]], **members: Any
) -> str:
    """Write photos of these heights and widths, 0.jpg, 1.jpg, …, and return the path of a COCO file beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for number, (height, width) in enumerate(sides):
        listed.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
        (folder / f"{number}.jpg").write_bytes(images.jpeg(images.photo(height, width, seed=number)))
    complete = [{"id": number + 1, "iscrowd": 0, **each} for number, each in enumerate(annotations)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": listed, "categories": CATEGORIES, "annotations": complete} | members))
    return str(path)


def instance(image: int, category: int, segmentation: Any, *, crowd: bool = False) -> dict[str, Any]:
    """An annotation; its box is not that of the segmentation."""
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [1, 2, 3, 4],
        "segmentation": segmentation,
        "iscrowd": int(crowd),
    }


def composed(
    annotations: Sequence[Mapping[str, Any]], height: int, width: int, numbers: Sequence[int]
) -> npt.NDArray[np.uint16]:
    """The mask of an image, from the pixels of each annotation: crowds first, then the others, large before small."""
    drawn = [pixels_of(each["segmentation"], height, width) for each in annotations]
    order = sorted(range(len(drawn)), key=lambda i: (not annotations[i]["iscrowd"], -int(drawn[i].sum())))
    mask = np.zeros((height, width), np.uint16)
    for i in order:
        mask[drawn[i] > 0] = numbers[i]
    return mask


def class_numbers(annotations: Sequence[Mapping[str, Any]], fill: int = 255) -> list[int]:
    """The number of each annotation in a mask of classes."""
    return [fill if each["iscrowd"] else CODE_OF[each["category_id"]] + 1 for each in annotations]
