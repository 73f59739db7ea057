"""What pycocotools makes of segmentations."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as pycocotools

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
