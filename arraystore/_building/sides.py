"""The sizes of images that coordinates are for: boxes and keypoints of other images would lie elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arraystore._common.lazy import lazy
from arraystore.errors import DecodeError, Kind

if TYPE_CHECKING:
    from arraystore._decoding import header
else:  # it takes half a second
    header = lazy("arraystore._decoding.header")

Sides = tuple[int, int]  # height and width of an upright image


def check_sides(found: Sides, sides: Sides | None) -> None:
    """Refuse an image of another size than the one that its coordinates are for; None if that is not known.

    Raises:
        DecodeError: it has another size.
    """
    if sides is not None and found != sides:
        raise DecodeError(
            f"the upright image is {found[1]} x {found[0]} pixels, but its coordinates are for one of "
            f"{sides[1]} x {sides[0]}, so they would lie elsewhere",
            kind=Kind.INVALID,
        )


def note_on_turn(data: object, sides: Sides | None) -> str | None:
    """Return the note on an image whose size does not tell whether its coordinates are for the upright one.

    Args:
        data: an encoded image, or one that has no orientation any more.
        sides: what its coordinates are for; None where it has none.
    """
    if sides is None or not isinstance(data, bytes | bytearray | memoryview):
        return None
    orientation = header.read_header(data).orientation
    has_other_sides = orientation in header.TRANSPOSED and sides[0] != sides[1]
    if orientation == 1 or has_other_sides:
        return None
    return f"its orientation is {orientation}, and its coordinates are taken as those of the upright image"
