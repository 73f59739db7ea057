"""The weights of the antialiasing filters, computed as Pillow computes them (its src/libImaging/Resample.c).

A filter is a function of the distance between the center of an output pixel and that of an input pixel. Where an image
shrinks, the filter is stretched by the same factor, so that every input pixel counts. The weights of one output pixel
are computed in double precision, divided by their sum, and rounded to fixed point: an integer k stands for k / 2²².
Rows and columns are treated alike; the texts below say "row" for both.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import compiled, inlined

_SUPPORT = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
_CODE = {name: code for code, name in enumerate(_SUPPORT)}
_BOX, BILINEAR, _HAMMING, _LANCZOS = (_CODE[name] for name in ("box", "bilinear", "hamming", "lanczos"))


# The constants of the filters are Pillow's, those in single precision included.


@inlined
def _hamming(x: float) -> float:
    if x == 0.0:
        return 1.0
    if x >= 1.0:
        return 0.0
    x *= math.pi
    return math.sin(x) / x * float(np.float32(0.54) + np.float32(0.46) * math.cos(x))


@inlined
def _bicubic(x: float) -> float:
    if x < 1.0:
        return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    return 0.0


@inlined
def _lanczos(x: float) -> float:
    if not -3.0 <= x < 3.0:
        return 0.0
    if x == 0.0:
        return 1.0
    a = x * math.pi
    b = x / 3.0 * math.pi
    return math.sin(a) / a * (math.sin(b) / b)


@inlined
def _filter_weight(code: int, x: float) -> float:
    """Return the filter's weight at distance ``x``."""
    if code == _BOX:
        return 1.0 if -0.5 < x <= 0.5 else 0.0
    if code == _LANCZOS:
        return _lanczos(x)
    x = abs(x)
    if code == BILINEAR:
        return max(1.0 - x, 0.0)
    if code == _HAMMING:
        return _hamming(x)
    return _bicubic(x)


@compiled("void(int64, float64, int64, float64, float64, int64[::1], int64[::1], int32[:, ::1])")
def fill_weights(
    code: int,
    support: float,
    in_size: int,
    start: float,
    length: float,
    first: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    weights: npt.NDArray[np.int32],
) -> None:
    """Fill in the fields of `Weights`; called by kernels.

    Args:
        code: the filter: its index in `_SUPPORT`.
        support: the distance beyond which the filter is zero.
        in_size: how many rows the image has.
        start: where the resampled stretch of rows begins.
        length: how many rows the stretch has; may be fractional.
        first: int64, (out,): overwritten; each output row's first input row, counted from 0.
        count: int64, (out,): overwritten.
        weights: int32, (out, taps), all zero; taps is at least ceil(support * max(length / out, 1)) * 2 + 1.
    """
    out_size = first.size
    scale = length / out_size
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
            exact[j] = _filter_weight(code, (j + low - center + 0.5) * step)
            total += exact[j]
        for j in range(n):
            weight = exact[j] / total if total != 0.0 else exact[j]
            # Sums of weight x pixel are kept in 32 bits: 8 for the pixel, and 2 for the sign and for filters with
            # negative lobes, whose sums exceed 255. That leaves 22 bits for the weight.
            weights[i, j] = int(weight * (1 << 22) + (-0.5 if weight < 0.0 else 0.5))
        # `blend_rows` does not check indices: every row that it reads must exist, whatever the arithmetic gave.
        first[i] = min(low, in_size - 1)
        count[i] = max(n, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Which input rows each output row is made of, and with which weights.

    Attributes:
        first: int64, (out,): the first input row, counted from ``low``.
        count: int64, (out,): how many input rows.
        weights: int32, (out, taps): their weights in 22-bit fixed point; zeros fill up to a multiple of four.
        low: the first input row that any output row is made of.
        high: one past the last such row.
    """

    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int32]
    low: int
    high: int


@lru_cache(maxsize=1024)
def weights_for(name: str, in_size: int, start: float, stop: float, out_size: int) -> Weights:
    """Return the weights that resample a stretch of rows. They are cached: a folder has few distinct sizes.

    Args:
        name: of the filter; any but ``"nearest"``.
        in_size: how many rows the image has.
        start: where the stretch begins, in rows; may be fractional.
        stop: where it ends.
        out_size: how many rows it becomes.
    """
    # Pillow keeps the box in single precision; this subtraction must round as Pillow's does.
    length = float(np.float32(stop) - np.float32(start))
    support = _SUPPORT[name]
    taps = math.ceil(support * max(length / out_size, 1.0)) * 2 + 1
    first = np.empty(out_size, np.int64)
    count = np.empty(out_size, np.int64)
    weights = np.zeros((out_size, -(-taps // 4) * 4), np.int32)  # `blend_rows` takes four at a time
    fill_weights(_CODE[name], support, in_size, float(np.float32(start)), length, first, count, weights)
    low, high = int(first.min()), int((first + count).max())
    return Weights(first - low, count, weights, low, high)
