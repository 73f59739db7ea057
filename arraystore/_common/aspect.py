"""The sides of a smaller image of the same aspect ratio: one rule for builds and for presizing."""


def scaled_sides(height: int, width: int, size: int, *, longer: bool = False) -> tuple[int, int]:
    """Return height and width of an image whose shorter side becomes ``size``, or the longer one; never enlarged.

    The other side is rounded to the nearest pixel, halves up, and is at least 1.
    """
    side = max(height, width) if longer else min(height, width)
    if side <= size:
        return height, width
    return _rounded(height, size, side), _rounded(width, size, side)


def _rounded(side: int, part: int, whole: int) -> int:
    """Return ``side`` × ``part`` / ``whole``, rounded to the nearest; halves go up."""
    return max(1, (2 * side * part + whole) // (2 * whole))
