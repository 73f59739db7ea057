"""The weights of the antialiasing filters, as Pillow computes them (its src/libImaging/Resample.c).

In double precision, normalized, then rounded to 22-bit fixed point. The same for rows and for columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from arraystore._kernels.compiled import compiled

__all__ = ["Weights", "fill_weights", "weights_for"]

_SUPPORT = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
_CODE = {name: code for code, name in enumerate(_SUPPORT)}


def _filter_weight(code: int, x: float) -> float:  # noqa: C901 - five filters, compiled into one loop
    """The filter's weight at distance ``x``; the constants, single precision ones included, are Pillow's."""
    if code == 0:
        return 1.0 if -0.5 < x <= 0.5 else 0.0
    if code == 4:
        if not -3.0 <= x < 3.0:
            return 0.0
        if x == 0.0:
            return 1.0
        a = x * math.pi
        b = x / 3.0 * math.pi
        return math.sin(a) / a * (math.sin(b) / b)
    x = abs(x)
    if code == 1:
        return max(1.0 - x, 0.0)
    if code == 2:
        if x == 0.0:
            return 1.0
        if x >= 1.0:
            return 0.0
        x *= math.pi
        return math.sin(x) / x * float(np.float32(0.54) + np.float32(0.46) * math.cos(x))
    if x < 1.0:
        return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return 0.0


_filter_weight_kernel = njit(nogil=True, error_model="numpy", inline="always")(_filter_weight)


@compiled("void(int64, float64, int64, float64, float64, int64[::1], int64[::1], int32[:, ::1])")
def fill_weights(  # noqa: PLR0913 - compiled for plain arguments
    code: int,
    support: float,
    in_size: int,
    start: float,
    span: float,
    first: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    weights: npt.NDArray[np.int32],
) -> None:
    """Fill in the fields of `Weights` for the filter with this code and support; a kernel for kernels.

    Args:
        code: of the filter, its place in `_SUPPORT`.
        support: of the filter.
        in_size: how many rows the image has.
        start: where the stretch that is resampled begins.
        span: how long it is.
        first: int64, (out,): each output row's first input row, counted from 0.
        count: int64, (out,).
        weights: int32, (out, taps): zeros, ceil(support * max(span / out, 1)) * 2 + 1 taps or more.
    """
    out_size = first.size
    scale = span / out_size
    filter_scale = max(scale, 1.0)
    reach = support * filter_scale
    step = 1.0 / filter_scale
    exact = np.empty(weights.shape[1], np.float64)
    for i in range(out_size):
        center = start + (i + 0.5) * scale
        low = max(int(center - reach + 0.5), 0)
        n = min(int(center + reach + 0.5), in_size) - low
        total = 0.0
        for j in range(n):
            exact[j] = _filter_weight_kernel(code, (j + low - center + 0.5) * step)
            total += exact[j]
        for j in range(n):
            weight = exact[j] / total if total != 0.0 else exact[j]
            # 22 bits: 32 less 8 for the pixel and 2 for the overshoot of filters with negative lobes.
            weights[i, j] = int(weight * (1 << 22) + (-0.5 if weight < 0.0 else 0.5))
        # `blend_rows` reads unchecked memory: whatever the arithmetic did, every row that it reads exists.
        first[i] = min(low, in_size - 1)
        count[i] = max(n, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What each output row takes of the input rows ``low`` to ``high``.

    Attributes:
        first: int64, (out,): the first input row, counted from ``low``.
        count: int64, (out,): how many.
        weights: int32, (out, taps): their weights in 22-bit fixed point, padded with zeros to a multiple of four.
        low: the first input row that any output row takes.
        high: behind the last.
    """

    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int32]
    low: int
    high: int


@lru_cache(maxsize=1024)
def weights_for(name: str, in_size: int, start: float, stop: float, out_size: int) -> Weights:
    """Return the weights that resample a stretch of rows; kept, because a folder has few distinct sizes.

    Args:
        name: the filter, any but ``"nearest"``.
        in_size: how many rows the image has.
        start: where the stretch begins, in rows; may be fractional.
        stop: where it ends.
        out_size: how many rows it becomes.
    """
    # Pillow keeps the box in single precision: the subtraction must round as it does there.
    span = float(np.float32(stop) - np.float32(start))
    support = _SUPPORT[name]
    taps = math.ceil(support * max(span / out_size, 1.0)) * 2 + 1
    first = np.empty(out_size, np.int64)
    count = np.empty(out_size, np.int64)
    weights = np.zeros((out_size, -(-taps // 4) * 4), np.int32)  # `blend_rows` takes four at a time
    fill_weights(_CODE[name], support, in_size, float(np.float32(start)), span, first, count, weights)
    low, high = int(first.min()), int((first + count).max())
    return Weights(first - low, count, weights, low, high)
