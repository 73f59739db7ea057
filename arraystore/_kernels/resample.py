"""The antialiased separable resampling kernel: interleaved pixels in, planar pixels in the slot.

Pixels are bit-identical with Pillow's ``Image.resize``, whose method this follows (its src/libImaging/Resample.c): for
each output row or column the filter's weights are computed in double precision, normalized, and rounded to 22-bit
fixed point; the result of the first pass is rounded to 8 bits before the second. What differs is the shape of the
work. Both passes here are one kernel, `blend_rows`: an output row is a weighted sum of whole input rows, so its inner
loop runs over contiguous bytes of all channels alike with the same weights, and the compiler turns it into vector
instructions. The horizontal pass is that kernel between two transposes.

That is the portable way. A processor with AVX-512 VBMI and VNNI takes `arraystore._kernels.resample_avx512` instead: the same
integers, several times as fast.

Everything heavy runs outside the interpreter's lock. Measured in benchmarks/build.py.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from arraystore._kernels import resample_avx512 as wide
from arraystore._kernels.compiled import compiled
from arraystore._kernels.filters import Weights, weights_for
from arraystore._kernels.scratch import Buffers, Pixels
from arraystore.spec import Filter

__all__ = ["blend_rows", "nearest", "resize"]

Box = tuple[float, float, float, float]


@compiled("void(uint8[:, ::1], int64[::1], int64[::1], int32[:, ::1], uint8[:, ::1])")
def blend_rows(
    rows: Pixels,
    first: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    weights: npt.NDArray[np.int32],
    out: Pixels,
) -> None:
    """Write ``out[i] = clip(round(sum of weights[i, t] * rows[first[i] + t]))``; a kernel for kernels.

    Offsets are unsigned: a signed index makes numba test for Python's negative indices, which stops vectorisation.
    Up to eight taps stay in registers; more go through a row of sums, four taps at a time. Taps beyond the count have
    weight zero and read the last row again.
    """
    length = np.uintp(rows.shape[1])
    source = rows.reshape(rows.size)
    target = out.reshape(out.size)
    half = np.int32(1 << 21)
    zero, top = np.int32(0), np.int32(255)
    sums = np.empty(rows.shape[1], np.int32)
    for row in range(first.size):
        o = np.uintp(row) * length
        a = np.uintp(first[row]) * length
        last = count[row] - 1
        k = weights[row]
        if last < 4:
            b = a + length * np.uintp(min(1, last))
            c = a + length * np.uintp(min(2, last))
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


_buffers = Buffers()


def resize(image: Pixels, out: Pixels, *, box: Box, name: Filter) -> None:
    """Resample part of an image into ``out``.

    Args:
        image: uint8, (H, W) or (H, W, 3), rows contiguous; read only.
        out: uint8, (h, w) or (h, w, 3) with as many channels; overwritten. Its rows are contiguous, or it is the view
            ``planes.transpose(1, 2, 0)`` of three planes whose rows are. Must not overlap ``image``.
        box: left, top, right, bottom of the part, in pixels of ``image``; may be fractional; inside the image.
        name: the filter.
    """
    height, width = out.shape[:2]
    left, top, right, bottom = box
    if name == "nearest":
        columns = nearest(left, right, width, image.shape[1])
        rows = nearest(top, bottom, height, image.shape[0])
        np.take(np.take(image, rows, axis=0), columns, axis=1, out=out, mode="clip")
        return
    across = weights_for(name, image.shape[1], left, right, width)
    down = weights_for(name, image.shape[0], top, bottom, height)
    # The order of the passes shows in the last bit. Pillow 13's rule: rows first where they shrink much more.
    shrink = image.shape[0] - height
    rows_first = shrink > 0 and shrink > 2 * (image.shape[1] - width)
    part = image[down.low : down.high, across.low : across.high]
    if _resize_wide(part, out, across, down, rows_first=rows_first):
        return
    # numpy calls an array of one row or column contiguous whatever its strides; OpenCV looks at the strides.
    dense = out.strides == (width * math.prod(out.shape[2:]), *out.shape[2:], 1)[: out.ndim]
    target = out if dense else _buffers.get("target", *out.shape)
    if rows_first:
        short = _buffers.get("short", height, *part.shape[1:])
        _blend(np.ascontiguousarray(part), down, short)
        _blend_columns(short, across, target)
    elif (left, right) == (0, width) and image.shape[1] == width:
        _blend(np.ascontiguousarray(part), down, target)  # Pillow skips the pass too; its weights would be 0 and 1
    else:
        narrow = _buffers.get("narrow", part.shape[0], width, *part.shape[2:])
        _blend_columns(part, across, narrow)
        _blend(narrow, down, target)
    if target is not out:
        if wide.is_planar(out):
            cv2.split(target, list(out.transpose(2, 0, 1)))
        else:
            out[...] = target


def _resize_wide(part: Pixels, out: Pixels, across: Weights, down: Weights, *, rows_first: bool) -> bool:
    """`resize` by `arraystore._kernels.resample_avx512`; False if that is not for this processor or these sizes."""
    planar = wide.is_planar(out)
    columns = wide.plan_columns(across, part.shape[2] if part.ndim == 3 else 1, planar=planar)
    rows = wide.plan_rows(down)
    if columns is None or rows is None:
        return False
    if rows_first:
        short = _buffers.get("short", out.shape[0], *part.shape[1:])
        wide.blend_rows(part, rows, short)
        wide.blend_columns(short, columns, out)
    else:
        # Columns that stay the same go through their pass as well: it turns pixels into planes on the way.
        narrow = _buffers.get("narrow", part.shape[0], out.shape[1], *part.shape[2:])
        if planar:
            narrow = narrow.reshape(3, *narrow.shape[:2]).transpose(1, 2, 0)
        wide.blend_columns(part, columns, narrow)
        wide.blend_rows(narrow, rows, out)
    return True


def _blend(image: Pixels, weights: Weights, out: Pixels) -> None:
    rows, target = image.reshape(image.shape[0], -1), out.reshape(out.shape[0], -1)
    blend_rows(rows, weights.first, weights.count, weights.weights, target)


def _blend_columns(image: Pixels, weights: Weights, out: Pixels) -> None:
    height, width, *channels = image.shape
    turned = _buffers.get("turned", width, height, *channels)
    blended = _buffers.get("blended", out.shape[1], height, *channels)
    cv2.transpose(image, turned)
    _blend(turned, weights, blended)
    cv2.transpose(blended, out)


def nearest(start: float, stop: npt.ArrayLike, out_size: int, in_size: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return indices of the nearest input rows, as Pillow's filter NEAREST has them: int64, (..., out).

    They are accumulated step by step, as Pillow does, so that rounding drifts the same way.

    Args:
        start: where the stretch that is resampled begins, in rows.
        stop: where it ends; one of these a stretch, (...).
        out_size: how many rows each becomes.
        in_size: how many rows the image has; one of these a stretch, (...).
    """
    step = np.asarray(np.asarray(stop, np.float32) - np.float32(start), np.float64) / out_size
    steps = np.repeat(np.asarray(step)[..., None], out_size, axis=-1)
    steps[..., 0] = float(np.float32(start)) + step * 0.5
    rows = np.add.accumulate(steps, axis=-1).astype(np.int64)
    inside: npt.NDArray[np.int64] = np.minimum(rows, np.asarray(in_size)[..., None] - 1)
    return inside
