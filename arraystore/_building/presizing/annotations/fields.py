"""The fields of a table: which are coordinates by their names, and how these follow an image that becomes smaller.

Coordinates that are shares of the sides, from 0 to 1, stay as they are; those in pixels are scaled. All values of one
kind in a table are of one of both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from arraystore._building.presizing.annotations.scaling import Smaller

_BEFORE, _GAP = r"(?:^|.*[_. -])", r"[_. -]?"
_X = re.compile(rf"{_BEFORE}(?:x\d*|left|right|cx|xc|x{_GAP}(?:min|max|center|centre)|(?:min|max|center){_GAP}x)$")
_Y = re.compile(rf"{_BEFORE}(?:y\d*|top|bottom|cy|yc|y{_GAP}(?:min|max|center|centre)|(?:min|max|center){_GAP}y)$")
_W = re.compile(rf"{_BEFORE}(?:w|bw|b?box{_GAP}(?:w|width))$")
_H = re.compile(rf"{_BEFORE}(?:h|bh|b?box{_GAP}(?:h|height))$")
_BOXES = re.compile(rf"{_BEFORE}b?box(?:es)?$")
_POINTS = re.compile(rf"{_BEFORE}(?:points?|polygons?|segmentation|keypoints?|landmarks?)$")
_AREA = re.compile(rf"{_BEFORE}areas?$")
_COORDINATES = (_X, _Y, _W, _H, _BOXES, _POINTS, _AREA)
_WIDTH, _HEIGHT = re.compile(r"(?:image_|img_)?width$"), re.compile(r"(?:image_|img_)?height$")
# Names that speak of places in an image, though not in a way that is known.
_SPEAKS = re.compile(
    r"(?:^|[_. -])(?:b?box(?:es)?|rect|roi|poly(?:gons?)?|segmentation|masks?|rle|key_?points?|landmarks?|joints|"
    r"points?|corners?|coords?|coordinates|center|centre|offset|crop|angle|rotation|radius|width|height|[xywh]\d*)"
    r"(?:$|[_. -])"
)
_PLAIN = re.compile(r"(?:.*_)?(?:ids?|categor(?:y|ies)|labels?|class(?:es)?|iscrowd|scores?)$")
_IMAGE = re.compile(r".*\.(?:jpe?g|png|webp|bmp|tiff?|gif)$", re.IGNORECASE)


class NotUnderstoodError(ValueError):
    """A value may be coordinates, and it is not known how to scale it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name!r} {reason}")
        self.name = name


class Fields:
    """What the fields of a table are, and how they follow.

    Every row is looked at before the first one is scaled, because shares are told from pixels by all values of a name.

    Args:
        unscaled: names of fields that stay as they are.
    """

    def __init__(self, unscaled: Collection[str]) -> None:
        self._unscaled = frozenset(unscaled)
        self._ranges: dict[str, tuple[float, float, bool]] = {}  # of coordinates: name → lowest, highest, any fraction
        self._looks = True

    def look(self, row: dict[str, Any]) -> None:
        """Look at a row.

        Raises:
            NotUnderstoodError: a field may be coordinates of a kind that is not known.
        """
        for name, value in row.items():
            self._scaled(name, value, _NOWHERE)

    def settle(self) -> list[str]:
        """End the looking, and return the names of the fields that are scaled.

        Raises:
            NotUnderstoodError: it cannot be told whether a field is in pixels or in shares.
        """
        self._looks = False
        for name, (low, high, fractions) in self._ranges.items():
            if low >= 0 and high == 1 and not fractions:
                raise NotUnderstoodError(name, "has only 0 and 1, which may be pixels or shares of a side")
        return sorted(name for name in self._ranges if not self._is_share(name))

    def scaled(self, row: dict[str, Any], smaller: Smaller) -> dict[str, Any]:
        """Return a row for the smaller image.

        Raises:
            NotUnderstoodError: a size is not that of the image.
            OutsideError: a coordinate lies outside the image.
        """
        return {name: self._scaled(name, value, smaller) for name, value in row.items()}

    def _is_share(self, name: str) -> bool:
        low, high, fractions = self._ranges[name]
        return low >= 0 and high <= 1 and fractions

    def _scaled(self, name: str, value: Any, smaller: Smaller) -> Any:
        key = name.lower()
        if name in self._unscaled or value is None or isinstance(value, bool):
            return value
        if isinstance(value, dict):
            return {each: self._scaled(each, inner, smaller) for each, inner in value.items()}
        if isinstance(value, str):
            _check_text(name, value)
            return value
        if _PLAIN.match(key):
            return value
        side = 1 if _WIDTH.match(key) else 0 if _HEIGHT.match(key) else None
        if side is not None:
            if not self._looks and value != smaller.before[side]:
                raise NotUnderstoodError(name, f"is not that of the upright image, {smaller.before[side]} pixels")
            return smaller.after[side]
        change = _change(name, value, smaller)
        if change is None:
            if _SPEAKS.search(key) or isinstance(value, list):
                raise NotUnderstoodError(name, "is not known")
            return value
        if self._looks:
            self._note(name, value)
            return value
        return value if self._is_share(name) else change()

    def _note(self, name: str, value: Any) -> None:
        numbers = [*_flat(value)]
        if not numbers:
            return
        low, high, fractions = self._ranges.get(name, (numbers[0], numbers[0], False))
        fractions = fractions or any(number != int(number) for number in numbers)
        self._ranges[name] = min(low, *numbers), max(high, *numbers), fractions


_NOWHERE = Smaller("", (1, 1), (1, 1))


def _check_text(name: str, value: str) -> None:
    if _IMAGE.match(value):
        raise NotUnderstoodError(name, "names another image, which would not be made smaller with it")
    key = name.lower()
    if value and (_SPEAKS.search(key) or any(pattern.match(key) for pattern in _COORDINATES)):
        raise NotUnderstoodError(name, "is a text")


def _change(name: str, value: Any, smaller: Smaller) -> Callable[[], Any] | None:
    """Return what makes a value of this name follow, if it is one of coordinates; None for names of other things."""
    key = name.lower()
    for pattern, change in ((_X, smaller.x), (_W, smaller.x), (_Y, smaller.y), (_H, smaller.y), (_AREA, smaller.area)):
        if pattern.match(key):
            _check_numbers(name, value)
            return partial(_each, value, change)
    for pattern, lengths in ((_BOXES, (4,)), (_POINTS, (2, 3))):
        if pattern.match(key):
            _check_groups(name, value, lengths)
            return partial(_grouped, value, smaller)
    return None


def _flat(value: Any) -> Iterator[float]:
    """Yield the numbers that are places: of groups of three, the third says how visible a point is."""
    if not isinstance(value, list):
        yield value
    elif len(value) == 3 and not any(isinstance(each, list) for each in value):
        yield from value[:2]
    else:
        for each in value:
            yield from _flat(each)


def _each(value: Any, change: Callable[[float], float]) -> Any:
    return [_each(each, change) for each in value] if isinstance(value, list) else change(value)


def _grouped(value: Any, smaller: Smaller) -> Any:
    """Return lists of x, y and so on, at any depth; lists of four alternate, so corners and sizes follow alike."""
    if any(isinstance(each, list) for each in value):
        return [_grouped(each, smaller) for each in value]
    return smaller.pairs(value, 3 if len(value) == 3 else 2)


def _check_numbers(name: str, value: Any) -> None:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, list):
            _check_numbers(name, each)
        elif type(each) not in (int, float) or not math.isfinite(each):
            raise NotUnderstoodError(name, "is no number")


def _check_groups(name: str, value: Any, lengths: Collection[int]) -> None:
    if not isinstance(value, list):
        raise NotUnderstoodError(name, "is no list")
    if any(isinstance(each, list) for each in value):
        for each in value:
            _check_groups(name, each, lengths)
        return
    if value and len(value) not in lengths:
        raise NotUnderstoodError(name, f"has no lists of {' or '.join(map(str, lengths))} numbers")
    _check_numbers(name, value)
