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

from arraystore._kernels.compiled import Integers, Words, compiled, inlined

_SUPPORT = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
_CODE = {name: code for code, name in enumerate(_SUPPORT)}
_BOX, BILINEAR, _HAMMING, _LANCZOS = (_CODE[name] for name in ("box", "bilinear", "hamming", "lanczos"))


# The weights of some output rows as kernels take them: the fields ``first``, ``count`` and ``weights`` of `Weights`.
AxisWeights = tuple[Integers, Integers, Words]
AXIS_WEIGHTS = "Tuple((int64[::1], int64[::1], int32[:, ::1]))"

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
    first: Integers,
    count: Integers,
    weights: Words,
) -> None:
    """Fill in the fields of `Weights`, where ``first`` is counted from row 0; called by kernels.

    ``code`` is the filter's index in `_SUPPORT`, and beyond the distance ``support`` the filter is zero. The resampled
    stretch of the image's ``in_size`` rows begins at ``start`` and has ``length`` rows; both may be fractional.
    ``weights`` are all zero at first, and taps at least ceil(support * max(length / out, 1)) * 2 + 1.
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
    """Which input rows each output row is made of, and with which weights."""

    first: Integers  # (out,): the first input row, counted from ``low``
    count: Integers  # (out,): how many input rows
    weights: Words  # (out, taps): in 22-bit fixed point; zeros fill up to a multiple of four
    low: int  # the first input row that any output row is made of
    high: int  # one past the last such row


@lru_cache(maxsize=1024)
def weights_for(name: str, in_size: int, start: float, stop: float, out_size: int) -> Weights:
    """Return the weights that resample an image's rows from ``start`` to ``stop``, which may be fractional.

    They are cached: a folder has few distinct sizes.
    """
    # Pillow keeps the box in single precision; this subtraction must round as Pillow's does.
    length = float(np.float32(stop) - np.float32(start))
    support = _SUPPORT[name]
    taps = math.ceil(support * max(length / out_size, 1.0)) * 2 + 1
    first, count = np.empty(out_size, np.int64), np.empty(out_size, np.int64)
    weights = np.zeros((out_size, -(-taps // 4) * 4), np.int32)  # `blend_rows` takes four at a time
    fill_weights(_CODE[name], support, in_size, float(np.float32(start)), length, first, count, weights)
    low, high = int(first.min()), int((first + count).max())
    return Weights(first - low, count, weights, low, high)
