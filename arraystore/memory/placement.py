"""Where labels stand in a picture: none on another, none outside, and as few curves beneath them as can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import dist
from typing import Self

__all__ = ["Box", "Point", "place"]

Point = tuple[float, float]

_GAP_PX = 7.0
_CELL_PX = 6.0
_COLUMNS = 24
# What a covered cell is worth in pixels of distance: a label rather stands 40 px away than on 20 px of a curve.
_COVERED_PX = 12.0


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels, y downwards: its upper left corner, and its size."""

    x: float
    y: float
    width: float
    height: float

    def meets(self, other: Box) -> bool:
        """Whether any of the area is common."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )

    def nearest(self, point: Point) -> Point:
        """Return the point of this box that is nearest to another point."""
        x, y = point
        return min(max(x, self.x), self.x + self.width), min(max(y, self.y), self.y + self.height)

    def at(self, x: float, y: float) -> Self:
        """Return this box, moved there."""
        return type(self)(x, y, self.width, self.height)


def place(
    labels: Sequence[tuple[Point, float, float]],
    *,
    width: float,
    height: float,
    taken: Iterable[Box] = (),
    curves: Iterable[Sequence[Point]] = (),
) -> list[Box | None]:
    """Return where each label stands, near its point; None where there is no room for it.

    Labels are placed one after the other, the first where it likes best: the places around its point are tried, then a
    grid over the whole picture, and the nearest that covers least is taken.

    Args:
        labels: the point that each belongs to, its width and its height, in pixels.
        width: of the picture, in pixels.
        height: likewise; y runs downwards.
        taken: boxes that are occupied already.
        curves: what labels should not cover.
    """
    boxes = list(taken)
    covered = {(int(x // _CELL_PX), int(y // _CELL_PX)) for curve in curves for x, y in _dense(curve)}
    placed: list[Box | None] = []
    for point, wide, high in labels:
        best, least = None, float("inf")
        for box in _candidates(point, wide, high, width, height):
            distance = _distance(box, point)
            if distance >= least:
                break  # they come in the order of distance, and every cost is at least that
            if not any(box.meets(other) for other in boxes):
                cost = distance + _COVERED_PX * _cells(box, covered)
                if cost < least:
                    best, least = box, cost
        placed.append(best)
        if best is not None:
            boxes.append(best)
    return placed


def _candidates(point: Point, wide: float, high: float, width: float, height: float) -> list[Box]:
    """Return boxes inside the picture, the nearest first."""
    x, y = point
    across = (x - wide / 2, x - wide - _GAP_PX, x + _GAP_PX)
    near = [(left, top) for top in (y - high - _GAP_PX, y - high / 2, y + _GAP_PX) for left in across]
    rows = max(1, int(2 * height / high))
    step_x, step_y = (width - wide) / _COLUMNS, (height - high) / rows
    grid = [(column * step_x, row * step_y) for row in range(rows + 1) for column in range(_COLUMNS + 1)]
    boxes = [
        Box(left, top, wide, high)
        for left, top in near + grid
        if 0 <= left <= width - wide and 0 <= top <= height - high
    ]
    # The grid's may lie on the point itself, which its dot needs.
    return sorted(
        (box for box in boxes if _distance(box, point) >= min(_GAP_PX, 4)), key=lambda box: _distance(box, point)
    )


def _distance(box: Box, point: Point) -> float:
    return dist(box.nearest(point), point)


def _cells(box: Box, covered: set[tuple[int, int]]) -> int:
    across = range(int(box.x // _CELL_PX), int((box.x + box.width) // _CELL_PX) + 1)
    down = range(int(box.y // _CELL_PX), int((box.y + box.height) // _CELL_PX) + 1)
    return sum((column, row) in covered for column in across for row in down)


def _dense(curve: Sequence[Point]) -> Iterator[Point]:
    """Yield the points of a curve and others between them, so that it skips no cell."""
    yield from curve[:1]
    for (x0, y0), (x1, y1) in pairwise(curve):
        steps = int(dist((x0, y0), (x1, y1)) / _CELL_PX) + 1
        yield from ((x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(1, steps + 1))
