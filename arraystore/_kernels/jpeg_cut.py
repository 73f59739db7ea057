"""Cut a window out of a JPEG before any pixel is decoded: bytes to bytes.

A scan with restart markers (ITU-T T.81, E.1.4) is a list of intervals that are coded each by itself. The intervals
whose blocks touch a window are copied, their markers are numbered anew, and the frame header gets the sides of what was
copied. A decoder then gives the same pixels as for the whole file, except beside the cut sides, where libjpeg
interpolates chroma of fewer samples across blocks. So a window has a margin.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import READ_ONLY, Integers, Pixels, Two, compiled, inlined
from arraystore._kernels.vectors.instructions import STEP_BYTES, copy_step, lowest_bit, ones

SPARE_BYTES = STEP_BYTES  # what a caller allocates beside the bytes of the file
_FEW_COLUMNS = 2  # of chroma: libjpeg interpolates components that are so narrow in another way


# Numbers in a header. Of a byte alone numba makes an unsigned number, and of that and a signed one a float.


@inlined
def _one(data: Pixels, at: int) -> Any:
    return np.int64(data[at])


@inlined
def _two(data: Pixels, at: int) -> Any:
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@compiled(f"int64({READ_ONLY}, int64, uint8[::1], int64, boolean)")
def _interval_end(data: Pixels, at: int, out: Pixels, to: int, wanted: bool) -> int:
    """Return where the interval that begins at a byte ends, the size of the file if it does not; copy it if wanted.

    A step that is copied may reach over the end of the interval. What follows there is written later. The caller sees
    to it that ``to`` is at most ``at``, and that ``out`` has `SPARE_BYTES` more than ``data``.
    """
    source, target, size = data.ctypes.data, out.ctypes.data, data.size
    while at + STEP_BYTES < size:  # there is one byte more, which follows an 0xFF in the last one
        bits = ones(source + at)
        if wanted:
            copy_step(target + to, source + at)
        while bits:
            found: int = at + lowest_bit(bits)
            if data[np.uintp(found + 1)] != 0:
                return found
            bits &= bits - np.uint32(1)
        at, to = at + STEP_BYTES, to + STEP_BYTES
    while at < size:
        if data[np.uintp(at)] == 0xFF and (at + 1 == size or data[np.uintp(at + 1)] != 0):
            return at
        if wanted:
            out[np.uintp(to)] = data[np.uintp(at)]
        at, to = at + 1, to + 1
    return at


class _Header(NamedTuple):
    """What the segments before the pixels say; all is 0 if the file is not one that is cut."""

    scan: int  # where the pixels begin in the file
    written: int  # bytes of the segments that were copied
    frame: int  # where the frame header is among these
    width: int
    height: int
    across: int  # blocks of a unit: the component with the most samples has as many
    down: int
    narrowest: int  # blocks of a unit across, in the component with the fewest samples
    subsampled: bool  # the components differ in that
    interval: int  # units from one restart marker to the next
    components: int


_NOTHING = _Header(0, 0, 0, 0, 0, 0, 0, 0, False, 0, 0)


@inlined
def _copy_header(data: Pixels, out: Pixels) -> _Header:
    """Read and copy the segments before the pixels."""
    size = data.size
    if size < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return _NOTHING
    frame = interval = height = width = components = widest = tallest = narrowest = 0
    subsampled = False
    out[0], out[1] = 0xFF, 0xD8
    at = written = 2
    while True:
        while at + 1 < size and data[at] == 0xFF and data[at + 1] == 0xFF:  # padding
            at += 1
        if at + 4 > size or data[at] != 0xFF:
            return _NOTHING
        marker, length = _one(data, at + 1), _two(data, at + 2)
        end = at + 2 + length
        if length < 2 or end > size:
            return _NOTHING
        if marker in (0xC0, 0xC1):
            if frame or length < 11 or data[at + 4] != 8:
                return _NOTHING
            frame = written
            height, width, components = _two(data, at + 5), _two(data, at + 7), _one(data, at + 9)
            if not height or not width or components not in (1, 3, 4) or length != 8 + 3 * components:
                return _NOTHING
            narrowest = 4
            for i in range(components):
                factors = _one(data, at + 11 + 3 * i)
                across, down = factors >> 4, factors & 15
                if not (1 <= across <= 4 and 1 <= down <= 4):
                    return _NOTHING
                subsampled |= i > 0 and (across != widest or down != tallest)
                widest, tallest, narrowest = max(widest, across), max(tallest, down), min(narrowest, across)
            if components == 1:  # such a scan has one block in a unit, whatever the factors are
                widest = tallest = narrowest = 1
        elif marker == 0xDD:
            if length != 4:
                return _NOTHING
            interval = _two(data, at + 4)
        elif marker == 0xDA:
            whole = length == 6 + 2 * components and data[at + 4] == components
            if not frame or not whole or data[end - 3] != 0 or data[end - 2] != 63 or data[end - 1] != 0:
                return _NOTHING
        elif not (marker in (0xC4, 0xDB, 0xFE) or 0xE0 <= marker <= 0xEF):
            return _NOTHING
        # Comments and what applications write are left out, but for the two that say which colors the components are.
        if marker != 0xFE and not (0xE1 <= marker <= 0xEF and marker != 0xEE):
            for i in range(end - at):  # assigning a slice takes seconds to compile
                out[written + i] = data[at + i]
            written += end - at
        at = end
        if marker == 0xDA:
            return _Header(
                at, written, frame, width, height, widest, tallest, narrowest, subsampled, interval, components
            )


@compiled(f"int64({READ_ONLY}, int64[::1], UniTuple(int64, 2), uint8[::1], int64[::1])")
def cut(data: Pixels, window: Integers, sides: Two, out: Pixels, placed: Integers) -> int:
    """Write the JPEG of a window of a JPEG.

    Only a baseline JPEG of Huffman codes is cut, with one scan of all components and exactly the restart markers that
    its sides ask for, whose intervals divide the rows of units or consist of whole ones. No byte outside the arrays is
    read or written, whatever the file and the window say; but the arrays must have the shapes below.

    Args:
        data: the file.
        window: int64, (5,): left, top, right and bottom in pixels of the stored image; and the factor by which the cut
            will be decoded smaller: 1, 2, 4 or 8. Where chroma has fewer samples, the cut reaches over the window by
            as many pixels, which is one that is decoded.
        sides: width and height of the image; a file that says otherwise is not cut.
        out: gets the JPEG. It has at least the bytes of the file and `SPARE_BYTES`.
        placed: int64, (4,): gets the left and top side of what was cut, and its width and height.

    Returns:
        The bytes that were written; 0 if the file cannot be cut, or the cut would be the whole.
    """
    size = data.size
    if out.size < size + SPARE_BYTES:
        return 0
    header = _copy_header(data, out)
    width, height, interval = header.width, header.height, header.interval
    if not interval or (width, height) != sides:
        return 0
    columns, rows = -(-width // (8 * header.across)), -(-height // (8 * header.down))  # of units
    if columns % interval == 0:
        interval_width, interval_height = 8 * header.across * interval, 8 * header.down
    elif interval % columns == 0:
        interval_width, interval_height = 8 * header.across * columns, 8 * header.down * (interval // columns)
    else:
        return 0
    columns, rows = -(-width // interval_width), -(-height // interval_height)  # of intervals, from here on

    scale = window[4]
    margin = scale if header.subsampled else 0
    left, top = max(window[0] - margin, 0), max(window[1] - margin, 0)
    right, bottom = min(window[2] + margin, width), min(window[3] + margin, height)
    if left >= right or top >= bottom:
        return 0
    first, last = left // interval_width, (right - 1) // interval_width
    upper, lower = top // interval_height, (bottom - 1) // interval_height
    narrow = _FEW_COLUMNS * header.across * scale // header.narrowest  # pixels
    while last - first + 1 < columns and min((last + 1) * interval_width, width) - first * interval_width <= narrow:
        if first > 0:
            first -= 1
        else:
            last += 1
    if last - first + 1 == columns and lower - upper + 1 == rows:
        return 0

    placed[0], placed[1] = first * interval_width, upper * interval_height
    placed[2] = min((last + 1) * interval_width, width) - placed[0]
    placed[3] = min((lower + 1) * interval_height, height) - placed[1]
    frame, at, written = header.frame, header.scan, header.written
    out[frame + 5], out[frame + 6] = placed[3] >> 8, placed[3] & 255
    out[frame + 7], out[frame + 8] = placed[2] >> 8, placed[2] & 255

    # The cut never gets ahead of the file: each interval of the cut but the first has its marker, and so has the file.
    chosen = number = 0
    for row in range(rows):
        for column in range(columns):
            wanted = first <= column <= last and upper <= row <= lower
            if wanted and chosen:
                out[written], out[written + 1] = 0xFF, 0xD0 + (chosen - 1 & 7)
                written += 2
            end = _interval_end(data, at, out, written, wanted)
            if wanted:
                written += end - at
                chosen += 1
            at = end
            while at + 1 < size and data[at] == 0xFF and data[at + 1] == 0xFF:  # padding
                at += 1
            number += 1
            expected = 0xD9 if number == rows * columns else 0xD0 + (number - 1 & 7)
            if at + 1 >= size or data[at + 1] != expected:
                return 0
            at += 2
    out[written], out[written + 1] = 0xFF, 0xD9
    return written + 2


@compiled(f"void({READ_ONLY}, int64[::1], int64[::1], int64[:, ::1], uint8[::1], boolean[::1])")
def find_plain(
    data: Pixels, starts: Integers, ends: Integers, sides: Integers, room: Pixels, plain: npt.NDArray[np.bool_]
) -> None:
    """Find the JPEGs of some images that any decoder decodes in one pass, to gray or to colors.

    They are baseline JPEGs of Huffman codes, gray or in three components, with one scan of all of them.

    Args:
        data: the files.
        starts: int64, (k,): where each begins.
        ends: int64, (k,): where each ends; between the starts and the size of ``data``.
        sides: int64, (k, 2): the width and height that each image must have.
        room: is overwritten. It has at least the bytes of the longest file; longer ones count as not plain.
        plain: bool, (k,): gets whether each is one.
    """
    for k in range(starts.size):
        file = data[starts[k] : ends[k]]
        plain[k] = False
        if file.size <= room.size:
            header = _copy_header(file, room)
            has_sides = header.width == sides[k, 0] and header.height == sides[k, 1]
            plain[k] = has_sides and header.components in (1, 3)


@compiled(f"void({READ_ONLY}, int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], uint8[::1], int64[:, ::1])")
def cut_many(
    data: Pixels,
    starts: Integers,
    ends: Integers,
    windows: Integers,
    sides: Integers,
    out: Pixels,
    placed: Integers,
) -> None:
    """Cut windows out of several JPEGs that lie in one array.

    Numbers may be hostile, but the arrays must have the shapes below. Only what begins and ends inside ``data``, in
    this order, and has enough room in ``out`` is cut.

    Args:
        data: the files.
        starts: int64, (k,): where each begins.
        ends: int64, (k,): where each ends.
        windows: int64, (k, 5): see `cut`.
        sides: int64, (k, 2): width and height of each image.
        out: gets the cuts. It has at least the bytes of the files, and `SPARE_BYTES` for each.
        placed: int64, (k, 6): gets where each cut begins and ends in ``out``; then as `cut`. Both are 0 if the file
            is to be decoded whole.
    """
    begin = 0
    for k in range(starts.size):
        inside = 0 <= starts[k] <= ends[k] <= data.size
        file = data[starts[k] : ends[k]] if inside else data[:0]
        room = file.size + SPARE_BYTES
        size = cut(file, windows[k], (sides[k, 0], sides[k, 1]), out[begin : begin + room], placed[k, 2:])
        if size:
            placed[k, 0], placed[k, 1] = begin, begin + size
            begin += room
        else:
            placed[k, 0], placed[k, 1], placed[k, 2], placed[k, 3] = 0, 0, 0, 0
            placed[k, 4], placed[k, 5] = sides[k, 0], sides[k, 1]
