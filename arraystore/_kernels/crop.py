"""The kernels that cut windows out of slots and write them into a batch: mirrored, in another layout, as floats.

One pass: each row of the window is moved from the slot to where it goes, or, where it becomes floats, through scratch
rows that stay in the first cache. The loops are plain; there is one for each pair of layouts and direction, so that
each has strides that the compiler knows and turns into vector instructions, mirrored and interleaved ones too.
Measured in benchmarks/augment.py against a plain copy of the bytes that are written.

Windows may lie partly outside the slot, where `fill` takes the pixels' place; nothing outside the arrays is touched.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from arraystore._kernels.compiled import compiled

__all__ = ["Form", "KINDS", "READ_ONLY", "form_of", "write_crops", "write_image"]

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Four = tuple[int, int, int, int]

KINDS = ("uint8", "float32", "float16", "bfloat16")
READ_ONLY = "Array(uint8, 1, 'C', True, aligned=True)"  # accepts writable arrays as well
_BAND_BYTES = 1024  # converted at once: enough to be worth a call, few enough to stay in the first cache with patterns


class Form(NamedTuple):
    """What images become.

    Attributes:
        sides: height, width, 1 for planes or 0 for interleaved channels, and the place of the type in `KINDS`.
        scale: float32: what each value of some output rows is multiplied with, (C, rows x width) in planes, or
            (1, rows x width x C); for uint8, empty.
        bias: likewise, what is added then.
    """

    sides: Four
    scale: Floats
    bias: Floats


def form_of(  # noqa: PLR0913 - what an image is, each once
    kind: str,
    channels: int,
    height: int,
    width: int,
    *,
    planar: bool,
    scale: npt.ArrayLike = 1,
    bias: npt.ArrayLike = 0,
) -> Form:
    """Return the form of images of this size.

    Args:
        kind: one of `KINDS`.
        channels: how many.
        height: rows.
        width: columns.
        planar: whether channels are planes, or interleaved.
        scale: (C,) or one for all: value x scale + bias, in single precision, is what a gray level becomes.
        bias: likewise.
    """
    sides = (height, width, int(planar), KINDS.index(kind))
    if kind == "uint8":
        nothing = np.empty((0, 0), np.float32)
        return Form(sides, nothing, nothing)
    pixels = width * min(height, max(1, _BAND_BYTES // (width * (1 if planar else channels))))
    patterns = []
    for values in (scale, bias):
        each = np.broadcast_to(np.asarray(values, np.float32), channels)
        patterns.append(np.repeat(each[:, None], pixels, axis=1) if planar else np.tile(each, pixels)[None])
    return Form(sides, *patterns)


@compiled(f"void({READ_ONLY}, uintp, uintp, boolean, uint8[::1], uintp, uintp, boolean, uintp, uintp, boolean)")
def _move_row(  # noqa: C901, PLR0912, PLR0913 - a loop for each pair of layouts, or the compiler cannot vectorise them
    source: Pixels,
    start: Any,
    source_plane: Any,
    source_planar: bool,  # noqa: FBT001 - compiled for plain arguments
    target: Pixels,
    place: Any,
    target_plane: Any,
    target_planar: bool,  # noqa: FBT001
    channels: Any,
    count: Any,
    mirrored: bool,  # noqa: FBT001
) -> None:
    """Move ``count`` pixels of one row. Offsets are unsigned: see `arraystore._kernels.resample`."""
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    last = count - one
    if channels == one or (source_planar and target_planar):
        for channel in range(channels):
            a, o = start + channel * source_plane, place + channel * target_plane
            if mirrored:
                a += last
                for i in range(count):
                    target[o + i] = source[a - i]
            else:
                for i in range(count):
                    target[o + i] = source[a + i]
    elif source_planar == target_planar and not mirrored:
        for i in range(count * channels):
            target[place + i] = source[start + i]
    elif channels != three:
        source_pixel, target_pixel = one if source_planar else channels, one if target_planar else channels
        for channel in range(channels):
            a = start + channel * (source_plane if source_planar else one)
            o = place + channel * (target_plane if target_planar else one)
            for i in range(count):
                target[o + i * target_pixel] = source[a + (last - i if mirrored else i) * source_pixel]
    elif source_planar:
        a, b, c = start, start + source_plane, start + source_plane * two
        if mirrored:
            a, b, c = a + last, b + last, c + last
            for i in range(count):
                target[place + i * three] = source[a - i]
                target[place + i * three + one] = source[b - i]
                target[place + i * three + two] = source[c - i]
        else:
            for i in range(count):
                target[place + i * three] = source[a + i]
                target[place + i * three + one] = source[b + i]
                target[place + i * three + two] = source[c + i]
    elif target_planar:
        a, b, c = place, place + target_plane, place + target_plane * two
        if mirrored:
            a, b, c = a + last, b + last, c + last
            for i in range(count):
                target[a - i] = source[start + i * three]
                target[b - i] = source[start + i * three + one]
                target[c - i] = source[start + i * three + two]
        else:
            for i in range(count):
                target[a + i] = source[start + i * three]
                target[b + i] = source[start + i * three + one]
                target[c + i] = source[start + i * three + two]
    else:
        end = start + last * three
        for i in range(count):
            target[place + i * three] = source[end - i * three]
            target[place + i * three + one] = source[end - i * three + one]
            target[place + i * three + two] = source[end - i * three + two]


@compiled("void(uint8[::1], float32[::1], float32[::1], uintp, uint8[::1], uintp, int64)")
def _convert(  # noqa: PLR0913 - compiled for plain arguments
    pixels: Pixels, scale: Floats, bias: Floats, count: Any, out: Pixels, place: Any, kind: int
) -> None:
    """Write ``pixels[i] * scale[i] + bias[i]``, i below ``count``, as values ``place`` and following of ``out``."""
    if kind == 1:
        floats = out.view(np.float32)
        for i in range(count):
            floats[place + i] = np.float32(pixels[i]) * scale[i] + bias[i]
        return
    # numba has neither type: rounded to the nearest, ties to even, as integers. It widens what 32 bits add up to.
    u32, halves = np.uint32, out.view(np.uint16)
    if kind == 3:
        for i in range(count):
            bits = np.float32(np.float32(pixels[i]) * scale[i] + bias[i]).view(np.uint32)
            halves[place + i] = np.uint16(u32(bits + u32(0x7FFF) + ((bits >> u32(16)) & u32(1))) >> u32(16))
        return
    # Fabian Giesen's float_to_half_fast3_rtne (gist.github.com/rygorous/2156668), without NaN, which cannot come here.
    for i in range(count):
        bits = np.float32(np.float32(pixels[i]) * scale[i] + bias[i]).view(np.uint32)
        size = u32(bits & u32(0x7FFFFFFF))
        normal = u32(size + u32(0xC8000FFF) + ((size >> u32(13)) & u32(1))) >> u32(13)
        # Adding a half moves the digits of a small number to where a subnormal one has them, and rounds.
        small = u32(np.float32(size.view(np.float32) + np.float32(0.5)).view(np.uint32) - u32(0x3F000000))
        half = small if size < u32(0x38800000) else min(normal, u32(0x7C00))
        halves[place + i] = np.uint16(half | ((bits ^ size) >> u32(16)))


@compiled(
    f"void({READ_ONLY}, int64, UniTuple(int64, 4), int32[::1], int64, uint8[::1], int64, UniTuple(int64, 4), "
    "float32[:, ::1], float32[:, ::1], uint8[::1])"
)
def write_image(  # noqa: PLR0913 - compiled for plain arguments
    source: Pixels,
    start: int,
    shape: Four,
    window: npt.NDArray[np.int32],
    fill: int,
    out: Pixels,
    place: int,
    sides: Four,
    scale: Floats,
    bias: Floats,
    band: Pixels,
) -> None:
    """Write one image's window; a kernel for kernels.

    Args:
        source: uint8, flat; only read.
        start: where the image begins in it.
        shape: the image's channels, height, width, and whether channels are planes.
        window: a row of `arraystore._augmenting.crops.GEOMETRY`, with the height and width of ``sides``.
        fill: what stands where the window is outside the image.
        out: uint8, flat: the bytes of a batch.
        place: which of its images is written.
        sides: of a `Form`; ``scale`` and ``bias`` too.
        scale: see there.
        bias: see there.
        band: uint8: scratch, a byte for each value of ``scale``.
    """
    channels, height, width, source_planar = shape
    rows, columns, planar, kind = sides
    first_row, left, mirrored = int(window[0]), int(window[1]), window[4] != 0
    low, high = max(0, -left), min(columns, width - left)  # the columns that show the image, before they are mirrored
    outside = first_row < 0 or first_row + rows > height or high - low < columns
    source_pixel, target_pixel = 1 if source_planar else channels, 1 if planar else channels
    runs, run = (channels, columns) if planar else (1, columns * channels)  # what lies side by side in an output row
    begin, plane = place * channels * rows * columns, rows * columns
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
            at = (y - top) * run
            if 0 <= down < height and low < high:
                _move_row(
                    source,
                    np.uintp(start + (down * width + left + low) * source_pixel),
                    np.uintp(height * width),
                    source_planar != 0,
                    target,
                    np.uintp(at + (columns - high if mirrored else low) * target_pixel),
                    np.uintp(target_plane),
                    planar != 0,
                    np.uintp(channels),
                    np.uintp(high - low),
                    mirrored,
                )
        if not direct:
            for i in range(runs):
                pixels = band[i * target_plane : (i + 1) * target_plane] if planar else band
                count, into = np.uintp((bottom - top) * run), np.uintp(begin + top * run + i * plane)
                _convert(pixels, scale[i], bias[i], count, out, into, kind)


@compiled(
    f"void({READ_ONLY}, UniTuple(int64, 4), int64[::1], int32[:, ::1], int64, uint8[::1], int64[::1], "
    "UniTuple(int64, 4), float32[:, ::1], float32[:, ::1])"
)
def _write_crops(  # noqa: PLR0913 - compiled for plain arguments
    source: Pixels,
    shape: Four,
    slots: Integers,
    windows: npt.NDArray[np.int32],
    fill: int,
    out: Pixels,
    places: Integers,
    sides: Four,
    scale: Floats,
    bias: Floats,
) -> None:
    slot_bytes = shape[0] * shape[1] * shape[2]
    band = np.empty(scale.size, np.uint8)
    for k in range(slots.size):
        start = slots[k] * slot_bytes
        write_image(source, start, shape, windows[k], fill, out, places[k], sides, scale, bias, band)


def write_crops(  # noqa: PLR0913 - as the kernel
    source: Pixels,
    shape: Four,
    slots: Integers,
    windows: npt.NDArray[np.int32],
    out: Pixels,
    places: Integers,
    form: Form,
    *,
    fill: int = 0,
) -> None:
    """Write the windows of some slots into a batch, outside the interpreter's lock. What is passed is not checked.

    Args:
        source: uint8, flat: slots one after another; only read.
        shape: of a slot: channels, height, width, and 1 where channels are planes.
        slots: int64, (k,): which slots.
        windows: int32, (k, 6): rows of `arraystore._augmenting.crops.GEOMETRY`, with the height and width of ``form``.
        out: uint8, flat: the bytes of a batch.
        places: int64, (k,): which of its images are written.
        form: what the images become.
        fill: the gray level where a window is outside its slot.
    """
    _write_crops(source, shape, slots, windows, fill, out, places, *form)
