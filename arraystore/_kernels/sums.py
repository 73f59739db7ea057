"""Mean and standard deviation of each channel, from integer sums of each slot.

A slot is summed right after it is written, while it is in the processor's cache. Integer sums do not depend on their
order, so the results are the same for any number of workers.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import Pixels, compiled


@compiled("void(uint8[:, :, :], uint64[:, ::1])")
def _sum_planes(planes: Pixels, out: npt.NDArray[np.uint64]) -> None:
    for channel in range(planes.shape[0]):
        total, squares = np.uint64(0), np.uint64(0)
        for y in range(planes.shape[1]):
            # A row has at most 65,535 pixels, so 32 bits hold its sum of squares. Sums of 32 bits need half the
            # vector registers that sums of 64 bits need.
            row_total, row_squares = np.uint32(0), np.uint32(0)
            row = planes[channel, y]
            for x in range(row.size):
                value = np.uint32(row[x])
                row_total += value
                row_squares += value * value
            total += np.uint64(row_total)
            squares += np.uint64(row_squares)
        out[channel, 0] = total
        out[channel, 1] = squares


def channel_sums(slot: Pixels, layout: str) -> npt.NDArray[np.uint64]:
    """Return for each channel of a slot the sum of its pixels and the sum of their squares: uint64, (C, 2)."""
    planes = slot if layout == "NCHW" else slot.transpose(2, 0, 1)
    sums = np.empty((planes.shape[0], 2), np.uint64)
    _sum_planes(planes, sums)
    return sums


def mean_and_std(sums: Sequence[tuple[int, int]], pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return each channel's mean and standard deviation, on the scale 0 to 255; 0 if a channel has no pixels.

    ``sums`` are those of `channel_sums`, added as Python integers, which do not overflow.
    """
    if pixels == 0:
        zeros = (0.0,) * len(sums)
        return zeros, zeros
    mean = tuple(total / pixels for total, _ in sums)
    # The numerator of the variance is an exact integer: in floating point the subtraction would lose digits.
    std = tuple(math.sqrt((squares * pixels - total * total) / (pixels * pixels)) for total, squares in sums)
    return mean, std
