"""Run lengths of BMP: pairs of a count and a color, and codes that move on."""

import numpy as np

from arraystore._kernels.compiled import READ_ONLY, Pixels, compiled

_END_OF_ROW, _END, _MOVE = 0, 1, 2


@compiled(f"int64({READ_ONLY}, uint8[:, ::1], boolean)")
def bmp_runs(packed: Pixels, out: Pixels, half_bytes: bool) -> int:
    """Write indices (H, W) of a palette, the first row first. Pixels that are passed over keep their value.

    What a row has beyond its right edge is left out: some writers fill rows up to four bytes.

    Args:
        packed: pairs of bytes.
        out: overwritten where the runs say so.
        half_bytes: whether an index has four bits, and a run alternates between two of them.

    Returns:
        How many pixels the runs have come by: fewer than ``out`` has where they end early.
    """
    height, width = len(out), len(out[0])
    at = x = y = 0
    while y < height and at + 1 < packed.size:
        count, value = int(np.int64(packed[at])), int(np.int64(packed[at + 1]))
        at += 2
        if count > 0:
            high, low = (value >> 4, value & 15) if half_bytes else (value, value)
            for i in range(min(count, width - x)):
                out[y, x + i] = low if i & 1 else high
            x = min(x + count, width)
        elif value == _END_OF_ROW:
            if x > 0:  # zeros in the place of lost bytes would be ends of empty rows; Pillow ignores these too
                x = 0
                y += 1
        elif value == _END:
            break
        elif value == _MOVE:
            if at + 1 >= packed.size:
                break
            x += int(np.int64(packed[at]))
            y += int(np.int64(packed[at + 1])) + x // width
            x %= width
            at += 2
        else:  # so many pixels as they are, up to a whole pair of bytes
            size = (value + 1) // 2 if half_bytes else value
            if at + size > packed.size:
                break
            for i in range(min(value, width - x)):
                if half_bytes:
                    out[y, x + i] = packed[at + i // 2] & 15 if i & 1 else packed[at + i // 2] >> 4
                else:
                    out[y, x + i] = packed[at + i]
            x = min(x + value, width)
            at += size + (size & 1)
    return min(y * width + x, height * width)
