"""What became of each image, and how coordinates in its pixels follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from arraystore.errors import Kind, ManifestError, Option

_DECIMALS = 6
_OUTSIDE_PX, _OUTSIDE_SHARE = 2.0, 0.05  # of annotations that reach over the edge a little


@dataclass(frozen=True, slots=True)
class Smaller:
    """An image that was made smaller: its name in the tree, and heights and widths in pixels, before and after."""

    name: str
    before: tuple[int, int]
    after: tuple[int, int]

    @property
    def across(self) -> float:
        """By what horizontal coordinates are multiplied."""
        return self.after[1] / self.before[1]

    @property
    def down(self) -> float:
        """By what vertical coordinates are multiplied."""
        return self.after[0] / self.before[0]

    def x(self, value: float) -> float:
        """Return a horizontal coordinate, or a width, in pixels of the smaller image.

        Raises:
            OutsideError: it is no coordinate in pixels of the image before.
        """
        return _scaled(value, self.across, self.before[1])

    def y(self, value: float) -> float:
        """Return a vertical coordinate, or a height; see `x`.

        Raises:
            OutsideError: see `x`.
        """
        return _scaled(value, self.down, self.before[0])

    def area(self, value: float) -> float:
        """Return an area in pixels of the smaller image."""
        return round(value * self.across * self.down, _DECIMALS)

    def pairs(self, values: list[Any], step: int = 2) -> list[Any]:
        """Return a flat list of x, y and what else belongs to each point; that stays as it is.

        Raises:
            OutsideError: see `x`.
        """
        return [
            self.x(value) if i % step == 0 else self.y(value) if i % step == 1 else value
            for i, value in enumerate(values)
        ]


class OutsideError(ValueError):
    """A value is no coordinate in pixels of its image."""


def _scaled(value: float, factor: float, side: int) -> float:
    slack = max(_OUTSIDE_PX, side * _OUTSIDE_SHARE)
    if not -slack <= value <= side + slack:
        raise OutsideError(f"{value:g} lies outside an image of {side} pixels")
    return round(value * factor, _DECIMALS)


class Annotations(Protocol):
    """One file of annotations, or a folder of them, that goes with the images of a manifest.

    Making it checks that everything in one file is understood.
    """

    path: str  # of the file or folder
    scaled: list[str]  # the names of what is scaled in it

    def sources(self) -> dict[str, str]:
        """Return path in the tree → absolute path of the file that it is made of."""

    def row_of(self, name: str) -> int | None:
        """Return the row of the only image that the file for a path in the tree is about; None if it is about all."""

    def checked(self, name: str) -> object:
        """Check that the file for a path in the tree is understood.

        Raises:
            ManifestError: it is not.
        """

    def written(self, name: str, smaller: Mapping[int, Smaller]) -> bytes | None:
        """Return the file for a path in the tree, with the images of these rows alone; None where it has none.

        Raises:
            ManifestError: it does not fit the images.
        """


class OneFile:
    """The base of `Annotations` that are one file about all images, which is checked when it is read."""

    path: str

    def sources(self) -> dict[str, str]:
        """See `Annotations`."""
        return {Path(self.path).name: self.path}

    def row_of(self, name: str) -> None:
        """See `Annotations`."""

    def checked(self, name: str) -> None:
        """See `Annotations`; the whole file was checked when it was read."""


def refused(path: str, reason: str, advice: str = "", *options: Option) -> ManifestError:
    """Return the error of annotations that are not understood."""
    return ManifestError(
        f"{path}: {reason}", source=path, reason=reason, kind=Kind.INVALID, advice=advice, options=options
    )


def not_understood(path: str, where: str, name: str, value: Any) -> ManifestError:
    """Return the error of a value that may be coordinates, and of which it is not known how they are scaled."""
    return refused(
        path,
        f"{where}: {name!r} is {value!r:.60}, which may be coordinates, and is not understood",
        "if it has none, pass {0}; otherwise leave it out, or write it as boxes of COCO",
        Option("unscaled", [name]),
    )
