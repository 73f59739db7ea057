"""Cut windows out of slots and write them into a batch: mirrored, in another layout, as floats.

All happens in one pass. Each row of a window is moved from the slot into the batch; if it becomes floats, it is moved
into scratch rows first, which stay in the first cache. There is one plain loop for each pair of layouts and each
direction, so that the compiler knows the distances between bytes and makes vector instructions, also for mirrored and
interleaved pixels. benchmarks/augment.py compares this with a plain copy of the bytes that are written.

Windows may lie partly outside the slot; these pixels are filled with one value. No byte outside the arrays is touched.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import READ_ONLY, Floats, Four, Integers, Pixels, Two, Words, compiled, inlined
from arraystore._kernels.vectors import channels as vector_channels

Offset = Any  # np.uintp; see `blend_rows` in `arraystore._kernels.resample` for why offsets are unsigned

KINDS = ("uint8", "float32", "float16", "bfloat16")
# A band is as many rows as are converted to floats at once: enough to be worth a call, few enough to stay in the first
# cache together with their scales and biases.
_BAND_BYTES = 1024


# The form of a batch's images: sides, scale, bias. The sides are height, width, 1 for planes or 0 for interleaved
# channels, and the index of the type in `KINDS`. Scale and bias are the factor and the summand of each value of a band
# of output rows, (C, rows x width) for planes, or (1, rows x width x C); they are empty for uint8.
Form = tuple[Four, Floats, Floats]
FORM = "Tuple((UniTuple(int64, 4), float32[:, ::1], float32[:, ::1]))"


def form_of(
    kind: str,
    channels: int,
    height: int,
    width: int,
    *,
    planar: bool,
    scale: npt.ArrayLike = 1,
    bias: npt.ArrayLike = 0,
) -> Form:
    """Return the form of images of this size, of one of `KINDS`.

    A gray level becomes value × scale + bias, in single precision; both are (C,), or one number for all channels.
    """
    sides = (height, width, int(planar), KINDS.index(kind))
    if kind == "uint8":
        nothing = np.empty((0, 0), np.float32)
        return sides, nothing, nothing
    pixels = width * min(height, max(1, _BAND_BYTES // (width * (1 if planar else channels))))
    patterns = []
    for values in (scale, bias):
        each = np.broadcast_to(np.asarray(values, np.float32), channels)
        patterns.append(np.repeat(each[:, None], pixels, axis=1) if planar else np.tile(each, pixels)[None])
    return sides, patterns[0], patterns[1]


# Each of these moves ``count`` pixels of one row from offset a of the source to offset o of the target. Planes are
# ``plane`` bytes apart.


@inlined
def _copy(source: Pixels, a: Offset, target: Pixels, o: Offset, count: Offset, mirrored: int) -> None:
    """Move pixels of one channel."""
    if mirrored:
        a += count - np.uintp(1)
        for i in range(count):
            target[o + i] = source[a - i]
    else:
        for i in range(count):
            target[o + i] = source[a + i]


@inlined
def _interleave(
    source: Pixels, a: Offset, plane: Offset, target: Pixels, o: Offset, count: Offset, mirrored: int
) -> None:
    """Move pixels of three channels from planes to interleaved channels."""
    one, two, three, step = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(vector_channels.PIXELS)
    together = count // step * step
    for i in range(np.uintp(0), together, step):
        begin = count - i - step if mirrored else i
        address, to = np.uintp(source.ctypes.data) + a + begin, np.uintp(target.ctypes.data) + o + i * three
        vector_channels.interleave(np.intp(address), np.intp(plane), np.intp(to), mirrored != 0)
    for i in range(together, count):
        begin = a + (count - one - i if mirrored else i)
        target[o + i * three] = source[begin]
        target[o + i * three + one] = source[begin + plane]
        target[o + i * three + two] = source[begin + plane * two]


@inlined
def _separate(
    source: Pixels, a: Offset, target: Pixels, o: Offset, plane: Offset, count: Offset, mirrored: int
) -> None:
    """Move pixels of three interleaved channels to planes."""
    one, two, three, step = np.uintp(1), np.uintp(2), np.uintp(3), np.uintp(vector_channels.PIXELS)
    together = count // step * step
    for i in range(np.uintp(0), together, step):
        begin = count - i - step if mirrored else i
        address, to = np.uintp(source.ctypes.data) + a + i * three, np.uintp(target.ctypes.data) + o + begin
        vector_channels.separate(np.intp(address), np.intp(to), np.intp(plane), mirrored != 0)
    for i in range(together, count):
        begin = o + (count - one - i if mirrored else i)
        target[begin] = source[a + i * three]
        target[begin + plane] = source[a + i * three + one]
        target[begin + plane * two] = source[a + i * three + two]


@inlined
def _mirror_interleaved(source: Pixels, a: Offset, target: Pixels, o: Offset, count: Offset) -> None:
    """Mirror pixels of three interleaved channels."""
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    a += (count - one) * three
    for i in range(count):
        target[o + i * three] = source[a - i * three]
        target[o + i * three + one] = source[a - i * three + one]
        target[o + i * three + two] = source[a - i * three + two]


@inlined
def _copy_strided(
    source: Pixels, a: Offset, a_step: Offset, target: Pixels, o: Offset, o_step: Offset, count: Offset, mirrored: int
) -> None:
    """Move pixels of one channel; they are ``a_step`` and ``o_step`` bytes apart."""
    last = count - np.uintp(1)
    for i in range(count):
        target[o + i * o_step] = source[a + (last - i if mirrored else i) * a_step]


@compiled(f"void({READ_ONLY}, uintp, uintp, int64, uint8[::1], uintp, uintp, int64, uintp, uintp, int64)")
def _move_row(
    source: Pixels,
    a: Offset,
    source_plane: Offset,
    source_planar: int,
    target: Pixels,
    o: Offset,
    target_plane: Offset,
    target_planar: int,
    channels: Offset,
    count: Offset,
    mirrored: int,
) -> None:
    """Move ``count`` pixels of one row, of any layout and number of channels, to another layout."""
    one, three = np.uintp(1), np.uintp(3)
    if channels == one or (source_planar and target_planar):
        for channel in range(channels):
            _copy(source, a + channel * source_plane, target, o + channel * target_plane, count, mirrored)
    elif source_planar == target_planar and not mirrored:
        _copy(source, a, target, o, count * channels, 0)
    elif channels != three:
        a_step, o_step = one if source_planar else channels, one if target_planar else channels
        a_channel, o_channel = source_plane if source_planar else one, target_plane if target_planar else one
        for _ in range(channels):
            _copy_strided(source, a, a_step, target, o, o_step, count, mirrored)
            a, o = a + a_channel, o + o_channel
    elif source_planar:
        _interleave(source, a, source_plane, target, o, count, mirrored)
    elif target_planar:
        _separate(source, a, target, o, target_plane, count, mirrored)
    else:
        _mirror_interleaved(source, a, target, o, count)


@compiled("void(uint8[::1], float32[::1], float32[::1], uintp, uint8[::1], uintp, int64)")
def _convert(pixels: Pixels, scale: Floats, bias: Floats, count: Offset, out: Pixels, begin: Offset, kind: int) -> None:
    """Write ``pixels[i] * scale[i] + bias[i]`` for each i below ``count`` as value ``begin + i`` of ``out``."""
    if kind == 1:
        floats = out.view(np.float32)
        for i in range(count):
            floats[begin + i] = np.float32(pixels[i]) * scale[i] + bias[i]
        return
    # numba has neither bfloat16 nor float16. The bits of a float32 are rounded as an integer, to nearest, ties to even.
    # numba makes 64-bit integers of sums of 32-bit ones, hence the conversions.
    u32, halves = np.uint32, out.view(np.uint16)
    if kind == 3:  # bfloat16 is the upper half of a float32
        for i in range(count):
            bits = np.float32(np.float32(pixels[i]) * scale[i] + bias[i]).view(np.uint32)
            halves[begin + i] = np.uint16(u32(bits + u32(0x7FFF) + ((bits >> u32(16)) & u32(1))) >> u32(16))
        return
    # float16: Fabian Giesen's float_to_half_fast3_rtne (gist.github.com/rygorous/2156668), without its case for NaN,
    # which no gray level becomes. ``size`` is the number without its sign. ``normal`` is the result from 2**-14 on: the
    # bias of the exponent changes from 127 to 15. The constant is (15 - 127) << 23, and 0xFFF, which rounds.
    for i in range(count):
        bits = np.float32(np.float32(pixels[i]) * scale[i] + bias[i]).view(np.uint32)
        size = u32(bits & u32(0x7FFFFFFF))
        normal = u32(size + u32(0xC8000FFF) + ((size >> u32(13)) & u32(1))) >> u32(13)
        # Below 2**-14 float16 counts in units of 2**-24. That is the last digit of 0.5 as a float32, so adding 0.5
        # rounds to it, and subtracting the bits of 0.5 leaves the count.
        small = u32(np.float32(size.view(np.float32) + np.float32(0.5)).view(np.uint32) - u32(0x3F000000))
        half = small if size < u32(0x38800000) else min(normal, u32(0x7C00))
        halves[begin + i] = np.uint16(half | ((bits ^ size) >> u32(16)))


@compiled(f"void({READ_ONLY}, int64, UniTuple(int64, 4), int32[::1], int64, uint8[::1], int64, {FORM}, uint8[::1])")
def write_image(
    source: Pixels,
    start: int,
    shape: Four,
    window: Words,
    fill: int,
    out: Pixels,
    out_index: int,
    form: Form,
    band: Pixels,
) -> None:
    """Write the window of the image that begins at byte ``start`` of the source into a batch; called by kernels.

    See `write_crops`. ``band`` is scratch memory, a byte for each value of the form's scale.
    """
    channels, height, width, source_planar = shape
    sides, scale, bias = form
    rows, columns, planar, kind = sides
    first_row, left, mirrored = int(window[0]), int(window[1]), int(window[4])
    low, high = max(0, -left), min(columns, width - left)  # the window's columns inside the image, not mirrored yet
    outside = first_row < 0 or first_row + rows > height or high - low < columns
    source_pixel, target_pixel = 1 if source_planar else channels, 1 if planar else channels
    # An output row consists of ``runs`` runs, each of ``run`` contiguous bytes.
    runs, run = (channels, columns) if planar else (1, columns * channels)
    begin, plane = out_index * channels * rows * columns, rows * columns
    direct = kind == 0
    height_of_band = rows if direct else scale.shape[1] // run
    target, target_plane = (
        (out[begin : begin + channels * plane], plane) if direct else (band, height_of_band * columns)
    )
    for top in range(0, rows, height_of_band):
        bottom = min(top + height_of_band, rows)
        if outside:
            target[:] = fill
        for y in range(top, bottom):
            down = first_row + (rows - 1 - y if window[5] else y)
            row_offset = (y - top) * run
            if 0 <= down < height and low < high:
                _move_row(
                    source,
                    np.uintp(start + (down * width + left + low) * source_pixel),
                    np.uintp(height * width),
                    source_planar,
                    target,
                    np.uintp(row_offset + (columns - high if mirrored else low) * target_pixel),
                    np.uintp(target_plane),
                    planar,
                    np.uintp(channels),
                    np.uintp(high - low),
                    mirrored,
                )
        if not direct:
            for i in range(runs):
                pixels = band[i * target_plane : (i + 1) * target_plane] if planar else band
                count, first = np.uintp((bottom - top) * run), np.uintp(begin + top * run + i * plane)
                _convert(pixels, scale[i], bias[i], count, out, first, kind)


@compiled(f"void({READ_ONLY}, UniTuple(int64, 2), int64[:, ::1], int32[:, ::1], uint8[::1], int64[::1], {FORM}, int64)")
def write_crops(
    source: Pixels,
    layout: Two,
    places: Integers,
    windows: Words,
    out: Pixels,
    out_indices: Integers,
    form: Form,
    fill: int,
) -> None:
    """Write the windows of some images into a batch, outside the interpreter's lock. Arguments are not checked.

    Args:
        source: uint8, flat: images; only read.
        layout: of the images: how many channels, and 1 if these are planes, else 0.
        places: int64, (k, 3): the first byte of each image in the source, its height and its width.
        windows: int32, (k, 6): rows of `arraystore._augmenting.crops.GEOMETRY`, with the height and width of ``form``.
        out: uint8, flat: the bytes of a batch.
        out_indices: int64, (k,): which images of the batch are written.
        form: of the images of the batch.
        fill: the gray level of pixels outside the image.
    """
    band = np.empty(form[1].size, np.uint8)
    for k in range(out_indices.size):
        shape = (layout[0], places[k, 1], places[k, 2], layout[1])
        write_image(source, places[k, 0], shape, windows[k], fill, out, out_indices[k], form, band)


@compiled(f"void({READ_ONLY}, uint8[::1])")
def write_planes(source: Pixels, out: Pixels) -> None:
    """Write a whole image of three channels: from interleaved channels to planes, of as many bytes."""
    _separate(source, np.uintp(0), out, np.uintp(0), np.uintp(out.size // 3), np.uintp(out.size // 3), 0)


def places_of(slots: Integers, channels: int, height: int, width: int) -> Integers:
    """Return the places of slots in an array of slots; see `write_crops`."""
    places = np.empty((slots.size, 3), np.int64)
    places[:, 0] = slots * (channels * height * width)
    places[:, 1:] = height, width
    return places
