"""Cut a window out of a JPEG before any pixel is decoded: bytes to bytes.

A scan with restart markers (ITU-T T.81, E.1.4) is a list of intervals that are coded each by itself. The intervals
whose blocks touch a window are copied, their markers are numbered anew, and the frame header gets the sides of what was
copied. A decoder then gives the same pixels as for the whole file, except beside the cut sides, where libjpeg
interpolates chroma of fewer samples across blocks. So a window has a margin.
"""

import numpy as np

from arraystore._kernels.compiled import READ_ONLY, Integers, Pixels, Two, compiled, inlined
from arraystore._kernels.instructions import STEP_BYTES, copy_step, lowest_bit, ones

SPARE_BYTES = STEP_BYTES  # what a caller allocates beside the bytes of the file
_LEAST_COLUMNS = 3  # of chroma: libjpeg interpolates narrower components in another way


@inlined
def _two(data: Pixels, at: int) -> int:
    return (int(data[at]) << 8) | int(data[at + 1])


@compiled(f"int64({READ_ONLY}, int64, uint8[::1], int64, boolean)")
def _interval_end(data: Pixels, at: int, out: Pixels, to: int, wanted: bool) -> int:
    """Return where the interval that begins at a byte ends, the size of the file if it does not; copy it if wanted.

    A step that is copied may reach over the end of the interval. What follows there is written later.
    """
    source, target, size = data.ctypes.data, out.ctypes.data, data.size
    while at + STEP_BYTES < size:  # there is one byte more, which follows an 0xFF in the last one
        bits = ones(source + at)
        if wanted:
            copy_step(target + to, source + at)
        while bits:
            found = at + lowest_bit(bits)
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


@compiled(f"int64({READ_ONLY}, int64[::1], uint8[::1], int64[::1])")
def cut(data: Pixels, window: Integers, out: Pixels, placed: Integers) -> int:
    """Write the JPEG of a window of a JPEG.

    Only a baseline JPEG of Huffman codes is cut, with one scan of all components and exactly the restart markers that
    its sides ask for, whose intervals divide the rows of blocks or consist of whole ones. No byte outside the arrays
    is read or written, whatever the file says.

    Args:
        data: the file.
        window: int64, (5,): left, top, right and bottom in pixels of the stored image; and by how many more pixels
            the cut reaches in each direction at least, where the image does not end and chroma has fewer samples: the
            factor by which it will be decoded smaller.
        out: gets the JPEG. It has at least the bytes of the file and `SPARE_BYTES`.
        placed: int64, (4,): gets the left and top side of what was cut, and its width and height.

    Returns:
        The bytes that were written; 0 if the file cannot be cut, or the cut would be the whole.
    """
    size = data.size
    if out.size < size + SPARE_BYTES or size < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return 0
    frame = interval = height = width = components = widest = tallest = narrowest = at = 0
    subsampled = False
    written = 2
    out[0], out[1] = 0xFF, 0xD8
    at = 2
    while True:
        while at + 1 < size and data[at] == 0xFF and data[at + 1] == 0xFF:  # padding
            at += 1
        if at + 4 > size or data[at] != 0xFF:
            return 0
        marker, length = int(data[at + 1]), _two(data, at + 2)
        end = at + 2 + length
        if length < 2 or end > size:
            return 0
        if marker in (0xC0, 0xC1):
            if frame or length < 11 or data[at + 4] != 8:
                return 0
            frame = written
            height, width, components = _two(data, at + 5), _two(data, at + 7), int(data[at + 9])
            if not height or not width or components not in (1, 3, 4) or length != 8 + 3 * components:
                return 0
            narrowest = 4
            for i in range(components):
                factors = int(data[at + 11 + 3 * i])
                across, down = factors >> 4, factors & 15
                if not (1 <= across <= 4 and 1 <= down <= 4):
                    return 0
                subsampled |= i > 0 and (across != widest or down != tallest)
                widest, tallest, narrowest = max(widest, across), max(tallest, down), min(narrowest, across)
            if components == 1:  # such a scan has one block in a unit, whatever the factors are
                widest = tallest = narrowest = 1
        elif marker == 0xDD:
            if length != 4:
                return 0
            interval = _two(data, at + 4)
        elif marker == 0xDA:
            whole = length == 6 + 2 * components and data[at + 4] == components
            if not frame or not whole or data[end - 3] != 0 or data[end - 2] != 63 or data[end - 1] != 0:
                return 0
        elif not (marker in (0xC4, 0xDB, 0xFE) or 0xE0 <= marker <= 0xEF):
            return 0
        # Comments and what applications write are left out, but for the two that say which colors the components are.
        if marker != 0xFE and not (0xE1 <= marker <= 0xEF and marker != 0xEE):
            out[written : written + end - at] = data[at:end]
            written += end - at
        at = end
        if marker == 0xDA:
            break
    if not interval:
        return 0

    unit_width, unit_height = 8 * widest, 8 * tallest
    columns, rows = -(-width // unit_width), -(-height // unit_height)
    margin = window[4] if subsampled else 0
    left, top = max(window[0] - margin, 0), max(window[1] - margin, 0)
    right, bottom = min(window[2] + margin, width), min(window[3] + margin, height)
    if left >= right or top >= bottom:
        return 0
    if columns % interval == 0:
        across, down = interval, 1
    elif interval % columns == 0:
        across, down = columns, interval // columns
    else:
        return 0
    # Intervals, not blocks, from here on.
    first, last = left // (across * unit_width), (right - 1) // (across * unit_width)
    least = -(-_LEAST_COLUMNS * widest // narrowest)  # pixels
    while first > 0 and min((last + 1) * across * unit_width, width) - first * across * unit_width < least:
        first -= 1
    upper, lower = top // (down * unit_height), (bottom - 1) // (down * unit_height)
    a_row, all_rows = columns // across, -(-rows // down)
    if last - first + 1 == a_row and lower - upper + 1 == all_rows:
        return 0

    placed[0], placed[1] = first * across * unit_width, upper * down * unit_height
    placed[2] = min((last + 1) * across * unit_width, width) - placed[0]
    placed[3] = min((lower + 1) * down * unit_height, height) - placed[1]
    out[frame + 5], out[frame + 6] = placed[3] >> 8, placed[3] & 255
    out[frame + 7], out[frame + 8] = placed[2] >> 8, placed[2] & 255

    chosen, column, row = 0, 0, 0
    for number in range(a_row * all_rows):
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
        expected = 0xD9 if number == a_row * all_rows - 1 else 0xD0 + (number & 7)
        if at + 1 >= size or data[at + 1] != expected:
            return 0
        at += 2
        column += 1
        if column == a_row:
            column, row = 0, row + 1
    out[written], out[written + 1] = 0xFF, 0xD9
    return written + 2


@compiled(f"void({READ_ONLY}, int64[::1], int64[::1], int64[:, ::1], UniTuple(int64, 2), uint8[::1], int64[:, ::1])")
def cut_many(
    data: Pixels,
    starts: Integers,
    ends: Integers,
    windows: Integers,
    sides: Two,
    out: Pixels,
    placed: Integers,
) -> None:
    """Cut windows out of several JPEGs that lie in one array.

    Args:
        data: the files.
        starts: int64, (k,): where each begins.
        ends: int64, (k,): where each ends; between the starts and the size of ``data``.
        windows: int64, (k, 5): see `cut`.
        sides: width and height of the images.
        out: gets the cuts. It has at least the bytes of the files, and `SPARE_BYTES` for each.
        placed: int64, (k, 6): gets where each cut begins and ends in ``out``; then as `cut`. Both are 0 if the file
            is to be decoded whole.
    """
    begin = 0
    for k in range(starts.size):
        file = data[starts[k] : ends[k]]
        room = file.size + SPARE_BYTES
        size = cut(file, windows[k], out[begin : begin + room], placed[k, 2:])
        if size:
            placed[k, 0], placed[k, 1] = begin, begin + size
            begin += room
        else:
            placed[k, 0], placed[k, 1], placed[k, 2], placed[k, 3] = 0, 0, 0, 0
            placed[k, 4], placed[k, 5] = sides
