"""Resample images with an antialiasing filter: first along one axis, then along the other.

The pixels equal those of Pillow's ``Image.resize``, bit for bit, and the method is Pillow's. Each pass makes pixels of
8 bits; `arraystore._kernels.filters` computes the weights:

    pixel = clip((2²¹ + sum of weight × pixel) >> 22, 0, 255)          (2²¹ is one half: it rounds to nearest)

The order of the work differs from Pillow's. Both passes are one kernel, `blend_rows`: an output row is a weighted sum
of whole input rows, so its inner loop runs over contiguous bytes, with the same weights for all bytes, and the compiler
makes vector instructions of it. The pass along the rows is the same kernel between two transposes.

This is the portable way. On processors with AVX-512 VBMI and VNNI, `arraystore._kernels.vectors.resample_avx512`
computes the same integers several times as fast. Measured in benchmarks/build.py.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from arraystore._common.scratch import Buffers
from arraystore._kernels.compiled import READ_ONLY, Integers, Pixels, compiled
from arraystore._kernels.filters import AXIS_WEIGHTS, AxisWeights, Weights, weights_for
from arraystore._kernels.vectors import plan_avx512, resample_avx512

Box = tuple[float, float, float, float]


@compiled(f"void({READ_ONLY}, int64, {AXIS_WEIGHTS}, uint8[::1])")
def blend_rows(source: Pixels, row_bytes: int, axis: AxisWeights, target: Pixels) -> None:
    """Make each output row from its input rows: the first pass or the second; both arrays are flat.

    A tap is one weight × pixel. Sums of up to six taps stay in registers. Longer ones are kept in a row of sums, to
    which four taps are added at a time. Where ``count`` is not a multiple of the taps read together, the rest have
    weight zero and read the last row again, because the rows after it may not exist.

    Offsets are unsigned: for a signed index numba checks whether it is negative, as Python's may be, and then the
    compiler makes no vector instructions.
    """
    first, count, weights = axis
    length = np.uintp(row_bytes)
    half = np.int32(1 << 21)
    zero, top = np.int32(0), np.int32(255)
    sums = np.empty(row_bytes, np.int32)
    for row in range(first.size):
        o = np.uintp(row) * length
        a = np.uintp(first[row]) * length
        last = count[row] - 1
        k = weights[row]
        if last < 2:
            b = a + length * np.uintp(last)
            k0, k1 = k[0], k[1]
            for i in range(length):
                v = half + k0 * np.int32(source[a + i]) + k1 * np.int32(source[b + i])
                target[o + i] = np.uint8(min(max(v >> 22, zero), top))
        elif last < 4:
            b = a + length
            c = a + length * np.uintp(2)
            d = a + length * np.uintp(min(3, last))
            k0, k1, k2, k3 = k[0], k[1], k[2], k[3]
            for i in range(length):
                v = half + k0 * np.int32(source[a + i]) + k1 * np.int32(source[b + i])
                v += k2 * np.int32(source[c + i]) + k3 * np.int32(source[d + i])
                target[o + i] = np.uint8(min(max(v >> 22, zero), top))
        elif last < 6:
            b, c, d, e = a + length, a + length * np.uintp(2), a + length * np.uintp(3), a + length * np.uintp(4)
            f = a + length * np.uintp(min(5, last))
            k0, k1, k2, k3, k4, k5 = k[0], k[1], k[2], k[3], k[4], k[5]
            for i in range(length):
                v = half + k0 * np.int32(source[a + i]) + k1 * np.int32(source[b + i])
                v += k2 * np.int32(source[c + i]) + k3 * np.int32(source[d + i])
                v += k4 * np.int32(source[e + i]) + k5 * np.int32(source[f + i])
                target[o + i] = np.uint8(min(max(v >> 22, zero), top))
        else:
            for i in range(length):
                sums[i] = half
            for t in range(0, last + 1, 4):
                p = a + length * np.uintp(t)
                b = a + length * np.uintp(min(t + 1, last))
                c = a + length * np.uintp(min(t + 2, last))
                d = a + length * np.uintp(min(t + 3, last))
                k0, k1, k2, k3 = k[t], k[t + 1], k[t + 2], k[t + 3]
                for i in range(length):
                    v = k0 * np.int32(source[p + i]) + k1 * np.int32(source[b + i])
                    sums[i] += v + k2 * np.int32(source[c + i]) + k3 * np.int32(source[d + i])
            for i in range(length):
                target[o + i] = np.uint8(min(max(sums[i] >> 22, zero), top))


@compiled("boolean(int64, int64, int64, int64)")
def rows_come_first(height: int, width: int, out_height: int, out_width: int) -> bool:
    """Return whether Pillow 13 changes the height first, and the width then. The order shows in the last bit of pixels.

    It does if the height shrinks, and by more than twice the pixels that the width shrinks by.
    """
    shrink = height - out_height
    return shrink > 0 and shrink > 2 * (width - out_width)


_buffers = Buffers()


class Turned:
    """The transpose of an image, which all sizes that are made of the image have in common. The image must not change.

    It lies in this thread's scratch memory, and is valid until another one is made.
    """

    def __init__(self) -> None:
        self._of: tuple[int, tuple[int, ...]] | None = None
        self._pixels: Pixels

    def of(self, part: Pixels) -> Pixels:
        """Return the transpose of the image or of a part of it, made now if it is not that of the last call."""
        which = part.ctypes.data, part.shape
        if self._of != which:
            self._pixels = _turned(part, "turned once")
            self._of = which
        return self._pixels


def _turned(image: Pixels, name: str) -> Pixels:
    height, width, *channels = image.shape
    turned = _buffers.get(name, width, height, *channels)
    cv2.transpose(image, turned)
    return turned


def resize(image: Pixels, out: Pixels, *, box: Box, name: str, turned: Turned | None = None) -> None:
    """Resample part of an image into ``out``, outside the interpreter's lock.

    Args:
        image: uint8, (H, W) or (H, W, 3), with contiguous rows; only read.
        out: uint8, (h, w) or (h, w, 3) with as many channels; overwritten. Its rows are contiguous, or it is the view
            ``planes.transpose(1, 2, 0)`` of three planes with contiguous rows. Must not overlap ``image``.
        box: left, top, right, bottom of the part, in pixels of ``image``; may be fractional; inside the image.
        name: of the filter: ``"nearest"``, or one of those in `arraystore._kernels.filters`.
        turned: of this image, where other sizes are made of it too.
    """
    height, width = out.shape[:2]
    left, top, right, bottom = box
    is_as_high, is_as_wide = bottom - top == height == image.shape[0], right - left == width == image.shape[1]
    if is_as_high and is_as_wide:
        _copy(image, out)  # every filter keeps the pixels
        return
    if name == "nearest":
        columns = nearest(left, right, width, image.shape[1])
        rows = nearest(top, bottom, height, image.shape[0])
        np.take(np.take(image, rows, axis=0), columns, axis=1, out=out, mode="clip")
        return
    across = weights_for(name, image.shape[1], left, right, width)
    down = weights_for(name, image.shape[0], top, bottom, height)
    rows_first = rows_come_first(*image.shape[:2], height, width)
    part = image[down.low : down.high, across.low : across.high]
    if _resize_avx512(part, out, across, down, rows_first=rows_first):
        return
    # For arrays of one row or column NumPy's flag says contiguous whatever the strides; OpenCV needs true strides.
    dense = out.strides == (width * math.prod(out.shape[2:]), *out.shape[2:], 1)[: out.ndim]
    target = out if dense else _buffers.get("target", *out.shape)
    if rows_first:
        short = _buffers.get("short", height, *part.shape[1:])
        _blend(np.ascontiguousarray(part), down, short)
        _blend_columns(_turned(short, "turned"), across, target)
    elif (left, right) == (0, width) and image.shape[1] == width:
        # The columns stay as they are: every weight is 0 or 1, and Pillow skips this pass as well.
        _blend(np.ascontiguousarray(part), down, target)
    else:
        narrow = _buffers.get("narrow", part.shape[0], width, *part.shape[2:])
        _blend_columns(_turned(part, "turned") if turned is None else turned.of(part), across, narrow)
        _blend(narrow, down, target)
    if target is not out:
        _copy(target, out)


def _copy(image: Pixels, out: Pixels) -> None:
    if resample_avx512.is_planar(out):
        cv2.split(image, list(out.transpose(2, 0, 1)))
    else:
        out[...] = image


def _resize_avx512(part: Pixels, out: Pixels, across: Weights, down: Weights, *, rows_first: bool) -> bool:
    """Do the work of `resize` with AVX-512; return False where the processor or the sizes do not allow it."""
    planar = resample_avx512.is_planar(out)
    columns = plan_avx512.plan_columns(across, part.shape[2] if part.ndim == 3 else 1, planar=planar)
    rows = plan_avx512.plan_rows(down)
    if columns is None or rows is None:
        return False
    if rows_first:
        short = _buffers.get("short", out.shape[0], *part.shape[1:])
        resample_avx512.blend_rows(part, rows, short)
        resample_avx512.blend_columns(short, columns, out)
    else:
        # This pass also runs where the width stays as it is, because it separates the pixels into planes.
        narrow = _buffers.get("narrow", part.shape[0], out.shape[1], *part.shape[2:])
        if planar:
            narrow = narrow.reshape(3, *narrow.shape[:2]).transpose(1, 2, 0)
        resample_avx512.blend_columns(part, columns, narrow)
        resample_avx512.blend_rows(narrow, rows, out)
    return True


def _blend(image: Pixels, weights: Weights, out: Pixels) -> None:
    axis = (weights.first, weights.count, weights.weights)
    blend_rows(image.reshape(-1), image[0].size, axis, out.reshape(-1))


def _blend_columns(turned: Pixels, weights: Weights, out: Pixels) -> None:
    """Make the columns of ``out`` from those of an image, of which the transpose is given."""
    blended = _buffers.get("blended", out.shape[1], *turned.shape[1:])
    _blend(turned, weights, blended)
    cv2.transpose(blended, out)


def nearest(start: float, stop: npt.ArrayLike, out_size: int, in_size: npt.ArrayLike) -> Integers:
    """Return which input row each output row shows, as Pillow's filter NEAREST chooses it.

    ``stop`` and ``in_size`` may be arrays, (...): the end of a stretch of rows, and how many rows its image has. The
    result is int64, (..., out_size). Positions are accumulated step by step, so that they are rounded as in Pillow.
    """
    step = np.asarray(np.asarray(stop, np.float32) - np.float32(start), np.float64) / out_size
    steps = np.repeat(np.asarray(step)[..., None], out_size, axis=-1)
    steps[..., 0] = float(np.float32(start)) + step * 0.5
    rows = np.add.accumulate(steps, axis=-1).astype(np.int64)
    inside: Integers = np.minimum(rows, np.asarray(in_size)[..., None] - 1)
    return inside
