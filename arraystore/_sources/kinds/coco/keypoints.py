"""The keypoints of a COCO file: their coordinates, and how visible each is."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.wording import many
from arraystore._sources.kinds.coco.annotations import MOST_PX, Annotations
from arraystore._sources.kinds.coco.parsing import refused

_VISIBILITIES = 0.0, 1.0, 2.0  # not labeled, hidden, visible


def has_keypoints(annotations: Annotations) -> bool:
    """Return whether an annotation has keypoints."""
    return any(each.keypoints is not None for each in annotations.entries)


def keypoints_of(
    annotations: Annotations, categories: Sequence[Any]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Return the keypoints of each annotation: x, y as in the file, and their visibility, 0, 1 or 2.

    An annotation without keypoints has as many as the others, whose visibility is 0.

    Args:
        annotations: of the file.
        categories: of the file, which may name the keypoints: that counts where no annotation has any.

    Returns:
        (annotations, K, 2) and (annotations, K).

    Raises:
        ManifestError: there are none; or an annotation has another number of keypoints than others, or what are no
            keypoints.
    """
    every = annotations.column("keypoints")
    first = next((number for number, each in enumerate(every) if each is not None), None)
    if first is None:
        named = [each["keypoints"] for each in categories if isinstance(each.get("keypoints"), list)]
        size = 3 * max(map(len, named), default=0)
        if not size:
            raise refused(annotations.path, "has no keypoints", advice="leave them out of the targets")
    else:
        size = len(every[first]) if isinstance(every[first], array) else 0
    for number, each in enumerate(every):
        if each is None:
            continue
        if not isinstance(each, array) or not len(each) or len(each) % 3:
            raise annotations.fault(number, "has 'keypoints' that are not x, y and visibility, one after the other")
        if len(each) != size:
            raise annotations.fault(
                number,
                f"has {many(len(each) // 3, 'keypoint')}, but annotation {first} has {size // 3}",
                "write a file for each number of keypoints, or leave them out, such as with {0}",
                ["boxes", "labels", "iscrowd"],
            )
    nothing = array("d", bytes(8 * size))
    joined = b"".join((nothing if each is None else each).tobytes() for each in every)
    points = np.frombuffer(joined, np.float64).reshape(len(every), size // 3, 3)
    good = (np.abs(points[:, :, :2]) <= MOST_PX).all(axis=2) & np.isin(points[:, :, 2], _VISIBILITIES)  # NaN is neither
    if not good.all():
        number, point = np.argwhere(~good)[0].tolist()
        raise annotations.fault(
            number,
            f"has the keypoint {points[number, point].tolist()}, which is not x and y in pixels and 0, 1 or 2 for its "
            "visibility",
        )
    return points[:, :, :2].astype(np.float32), points[:, :, 2].astype(np.uint8)
