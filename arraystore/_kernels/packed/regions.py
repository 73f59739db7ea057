"""Regions of an image as COCO has them: polygons, and run lengths column by column. Pixel for pixel as pycocotools.

Regions are (W, H), because their runs go down the columns.
"""

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import READ_ONLY, Four, Integers, Pixels, Words, compiled, inlined

DAMAGED = -1  # returned for letters that no encoder writes

# A polygon's corners are rounded to a grid that is five times as fine as the pixels.
_STEPS = 5
_POINTS = "Array(float64, 2, 'C', True, aligned=True)"
_MOST_LETTERS = 7  # of one run, five bits each: a longer one would not fit any image


@inlined
def _row(at: int, height: int) -> int:
    """Return the first row whose center lies below a place of the fine grid."""
    return int(np.ceil(min(max((at + 0.5) / _STEPS - 0.5, 0.0), height)))


@compiled(f"UniTuple(int64, 4)({_POINTS}, int64, int64)")
def polygon_box(points: npt.NDArray[np.float64], width: int, height: int) -> Four:
    """Return the part of an image that a polygon may cover: first column, first row, and the ends of both.

    Args:
        points: (corners, 2): x, y in pixels, from -2²⁴ to 2²⁴.
        width: of the image.
        height: of the image.
    """
    left = right = int(_STEPS * points[0, 0] + 0.5)
    top = bottom = int(_STEPS * points[0, 1] + 0.5)
    for i in range(1, len(points)):
        x, y = int(_STEPS * points[i, 0] + 0.5), int(_STEPS * points[i, 1] + 0.5)
        left, right = min(left, x), max(right, x)
        top, bottom = min(top, y), max(bottom, y)
    # The center of column c lies between places 5 c + 2 and 5 c + 3.
    first, end = max(-((2 - left) // _STEPS), 0), min((right - 3) // _STEPS + 1, width)
    return first, _row(top, height), max(first, end), _row(bottom, height)


@compiled(f"void({_POINTS}, UniTuple(int64, 4), int64, int64, int64, uint8[:, ::1])")
def add_polygon(
    points: npt.NDArray[np.float64], box: Four, height: int, start_column: int, start_row: int, region: Pixels
) -> None:
    """Write 1 where a polygon is: a pixel is inside if an odd number of edges cross its column above its center.

    The edges are those that pycocotools walks along, step by step. Here only the steps are looked at that cross the
    center of a column, so that the corners may lie anywhere.

    Args:
        points: as for `polygon_box`.
        box: what this function returned.
        height: of the image.
        start_column: of the region, in the image.
        start_row: of the region, in the image.
        region: (columns, rows), a part of the image that has all of the box.
    """
    left, top, end, bottom = box
    if left >= end or top >= bottom:
        return
    crossed = np.zeros((end - left, bottom - top + 1), np.uint8)
    corners = len(points)
    for i in range(corners):
        j = i + 1 if i + 1 < corners else 0
        x, y = int(_STEPS * points[i, 0] + 0.5), int(_STEPS * points[i, 1] + 0.5)
        to_x, to_y = int(_STEPS * points[j, 0] + 0.5), int(_STEPS * points[j, 1] + 0.5)
        across, down = abs(to_x - x), abs(to_y - y)
        flat = across >= down
        if (flat and x > to_x) or (not flat and y > to_y):
            x, y, to_x, to_y = to_x, to_y, x, y
        first = max(-((2 - min(x, to_x)) // _STEPS), left)
        last = min((max(x, to_x) - 3) // _STEPS, end - 1)
        if first > last:
            continue
        slope = (to_y - y) / across if flat else (to_x - x) / down
        for column in range(first, last + 1):
            beyond = _STEPS * column + 3  # the first place on the right of the center
            if flat:
                step = beyond - x
                at = min(int(y + slope * (step - 1) + 0.5), int(y + slope * step + 0.5))
            else:
                # The first step on the other side. It is computed, and the rounding of each step decides at the end.
                step = int((beyond - 0.5 - x) / slope)
                step = min(max(step, 1), down)
                rises = slope > 0
                while step > 1 and (int(x + slope * (step - 1) + 0.5) >= beyond) == rises:
                    step -= 1
                while step < down and (int(x + slope * step + 0.5) >= beyond) != rises:
                    step += 1
                at = y + step - 1
            crossed[column - left, _row(at, height) - top] ^= 1
    for column in range(end - left):
        inside = 0
        for row in range(bottom - top):
            inside ^= int(crossed[column, row])
            if inside:
                region[left - start_column + column, top - start_row + row] = 1


@compiled(f"int64({READ_ONLY}, int64[::1])")
def unpack_runs(letters: Pixels, runs: Integers) -> int:
    """Unpack the lengths of runs from letters of six bits. From the fourth on, each is the change to the last but one.

    Args:
        letters: bytes of ASCII.
        runs: overwritten; one for each letter is enough.

    Returns:
        How many runs there are; `DAMAGED` at other letters, and at a number that does not end or is too large.
    """
    at = count = 0
    while at < letters.size:
        value = shift = 0
        more = True
        while more:
            if at == letters.size or shift == _MOST_LETTERS:
                return DAMAGED
            letter = int(np.int64(letters[at])) - 48
            if not 0 <= letter < 64:
                return DAMAGED
            value |= (letter & 31) << 5 * shift
            more = letter & 32 != 0
            at += 1
            shift += 1
            if not more and letter & 16 != 0:
                value |= -1 << 5 * shift
        runs[count] = value + runs[count - 2] if count > 2 else value
        count += 1
    return count


@compiled("void(int64[::1], uint8[::1])")
def add_runs(runs: Integers, region: Pixels) -> None:
    """Write 1 where runs are inside a region: they take turns, the first one outside.

    Args:
        runs: none negative, and in all no more pixels than the region has.
        region: the columns, end to end.
    """
    at = 0
    for i in range(len(runs)):
        if i & 1:
            region[at : at + runs[i]] = 1
        at += runs[i]


@compiled("void(uint8[:, ::1], int64, int64, int64, int64, int32[:, ::1], uint16[:, ::1])")
def paint(
    region: Pixels, start_column: int, start_row: int, number: int, size: int, sizes: Words, mask: Pixels
) -> None:
    """Give the pixels of a region its number, but not those of a smaller region that was painted before.

    Args:
        region: (columns, rows), 1 where it is.
        start_column: of the region, in the image.
        start_row: of the region, in the image.
        number: of the region.
        size: of the region, in pixels.
        sizes: (W, H), of the region that each pixel belongs to, or more where there is none; overwritten.
        mask: (W, H), overwritten.
    """
    for column in range(region.shape[0]):
        for row in range(region.shape[1]):
            x, y = start_column + column, start_row + row
            if region[column, row] and sizes[x, y] >= size:
                sizes[x, y] = size
                mask[x, y] = number
