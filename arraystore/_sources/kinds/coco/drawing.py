"""The segmentation of one annotation becomes pixels: polygons, or run lengths as a list or as a text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._sources.kinds.coco.annotations import MOST_PX
from arraystore.errors import DecodeError, Kind

if TYPE_CHECKING:
    from arraystore._kernels.packed import regions as kernels
else:  # it loads numba
    kernels = lazy("arraystore._kernels.packed.regions")

# How often the regions of an image may cover it, each counted with the box around it and the columns of its edges.
# Photographs come to a few times, and what is far beyond that would take a worker minutes.
MOST_COVERS = 1000
_LEAST_CORNERS = 3


class Region(NamedTuple):
    """The pixels of one annotation, in a part of its image.

    Attributes:
        pixels: uint8, (columns, rows): 1 where the region is.
        column: the first column of the part, in the image.
        row: the first row of the part.
        work: how many pixels were looked at, and columns of edges.
    """

    pixels: npt.NDArray[np.uint8]
    column: int
    row: int
    work: int

    @property
    def size(self) -> int:
        """The number of its pixels."""
        return int(np.count_nonzero(self.pixels))


_NOTHING = Region(np.zeros((0, 0), np.uint8), 0, 0, 0)


def draw(text: bytes, height: int, width: int, *, most_work: int) -> Region:
    """Return the pixels of a segmentation.

    Args:
        text: its JSON; empty if the annotation has none.
        height: of the image.
        width: of the image.
        most_work: how many pixels, and columns of edges, may be looked at.

    Raises:
        DecodeError: it is no segmentation, is one of an image of another size, or covers too much.
    """
    if not text:
        raise _invalid("has no 'segmentation', so its pixels are not known")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"has a segmentation that cannot be read: {error}") from error
    if isinstance(parsed, dict):
        return _from_runs(_runs(parsed, height, width), height, most_work)
    if not isinstance(parsed, list):
        raise _invalid(f"has the segmentation {parsed!r:.100}, neither polygons nor run lengths")
    return _from_polygons(list(map(_polygon, parsed)), height, width, most_work)


def _polygon(numbers: Any) -> npt.NDArray[np.float64]:
    """Return the corners of a polygon, (corners, 2)."""
    if not isinstance(numbers, list) or not set(map(type, numbers)) <= {int, float}:
        raise _invalid(f"has the polygon {numbers!r:.100}, which is no list of x and y, one after the other")
    if len(numbers) % 2 or len(numbers) < 2 * _LEAST_CORNERS:
        raise _invalid(
            f"has a polygon of {len(numbers)} numbers: a polygon has x and y of {_LEAST_CORNERS} corners or more"
        )
    try:
        corners = np.array(numbers, np.float64).reshape(-1, 2)
    except OverflowError:
        corners = np.full((1, 2), np.inf)
    if not (np.abs(corners) <= MOST_PX).all():  # NaN is no such number
        raise _invalid(f"has the polygon {numbers!r:.100}, whose corners are no pixels")
    return corners


def _from_polygons(polygons: list[npt.NDArray[np.float64]], height: int, width: int, most_work: int) -> Region:
    """Return the pixels that lie in any of some polygons."""
    boxes = [kernels.polygon_box(polygon, width, height) for polygon in polygons]
    seen = np.array([box for box in boxes if box[0] < box[2] and box[1] < box[3]], np.int64).reshape(-1, 4)
    if not len(seen):
        return _NOTHING
    column, row = seen[:, :2].min(axis=0).tolist()
    columns, rows = (seen[:, 2:].max(axis=0) - (column, row)).tolist()
    work = columns * rows + int((seen[:, 2:] - seen[:, :2]).prod(axis=1).sum())
    work += sum(_columns_of_edges(polygon, width) for polygon in polygons)
    _check_work(work, most_work)
    pixels = np.zeros((columns, rows), np.uint8)
    for polygon, box in zip(polygons, boxes, strict=True):
        kernels.add_polygon(polygon, box, height, column, row, pixels)
    return Region(pixels, column, row, work)


def _columns_of_edges(corners: npt.NDArray[np.float64], width: int) -> int:
    """Return how many columns of the image the edges of a polygon cross, each counted by itself.

    A polygon that goes to and fro in a flat box has many more of them than pixels.
    """
    x = corners[:, 0].clip(0, width)
    return int(np.abs(np.diff(x, append=x[:1])).sum())


def _runs(members: dict[str, Any], height: int, width: int) -> npt.NDArray[np.int64]:
    """Return run lengths that take turns outside and inside, column by column, through all of the image."""
    size, counts = members.get("size"), members.get("counts")
    if size != [height, width]:
        raise _invalid(f"has run lengths of the size {size!r:.100}, but its image is {[height, width]} (height, width)")
    if isinstance(counts, str) and counts.isascii():
        letters = np.frombuffer(counts.encode(), np.uint8)
        runs = np.zeros(len(letters), np.int64)
        count = kernels.unpack_runs(letters, runs)
        if count == kernels.DAMAGED:
            raise _invalid("has run lengths whose letters cannot be read")
        runs = runs[:count]
    elif isinstance(counts, list) and set(map(type, counts)) <= {int}:
        if not all(0 <= length <= height * width for length in counts):
            raise _invalid("has run lengths that are negative, or longer than its image")
        runs = np.array(counts, np.int64)
    else:
        raise _invalid(f"has the run lengths {counts!r:.100}, which are neither whole numbers nor a text")
    if not len(runs) or runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise _invalid(f"has run lengths that do not make the {height * width:,} pixels of its image")
    return runs


def _from_runs(runs: npt.NDArray[np.int64], height: int, most_work: int) -> Region:
    """Return the pixels of run lengths, in the columns that have some."""
    inside = np.flatnonzero(runs[1::2]) * 2 + 1
    if not len(inside):
        return _NOTHING
    ends = runs.cumsum()
    column, end = int(ends[inside[0] - 1]) // height, -(-int(ends[inside[-1]]) // height)
    _check_work((end - column) * height, most_work)
    pixels = np.zeros((end - column, height), np.uint8)
    first, last = inside[0] - 1, inside[-1]
    runs[first] = ends[first] - column * height
    kernels.add_runs(runs[first : last + 1], pixels.reshape(-1))
    return Region(pixels, column, 0, pixels.size)


def _check_work(work: int, most_work: int) -> None:
    if work > most_work:
        raise _invalid(f"and those before it cover their image more than {MOST_COVERS:,} times")


def _invalid(reason: str) -> DecodeError:
    return DecodeError(reason, kind=Kind.INVALID)
