"""Windows of slots, resampled to one size and written into a batch: one call for all, outside the interpreter's lock.

Each window is resampled by `arraystore._kernels.window_avx512`, or where that is not for it by `arraystore._kernels.window`, straight
into the batch, or, where layout or type change, into a scratch image from which `arraystore._kernels.crop` takes it.
Measured in benchmarks/augment.py against Pillow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arraystore._kernels.avx512 import compiled_wide, supported
from arraystore._kernels.compiled import compiled
from arraystore._kernels.crop import READ_ONLY, Form, write_image
from arraystore._kernels.scratch import Buffers
from arraystore._kernels.window import SOURCE_WINDOW, SPAN, SourceWindow, Span, fill_span, resample_window, taps_for
from arraystore._kernels.window_avx512 import READ_BYTES, TABLES, Tables, resample_window_wide, tables_for

__all__ = ["write_resized_crops"]

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Window = npt.NDArray[np.int32]
Four = tuple[int, int, int, int]
Room = tuple[Integers, Integers, npt.NDArray[np.int32]]
_ROOM = "Tuple((int64[::1], int64[::1], int32[::1]))"
_BATCH = (
    f"{READ_ONLY}, UniTuple(int64, 4), int64[::1], int32[:, ::1], uint8[::1], int64[::1], UniTuple(int64, 4), "
    "float32[:, ::1], float32[:, ::1], uint8[::1], uint8[::1], uint8[::1]"
)


@compiled(f"Tuple(({_ROOM}, {_ROOM}))(UniTuple(int64, 4), UniTuple(int64, 4))")
def _rooms(shape: Four, sides: Four) -> tuple[Room, Room]:
    """Room for the weights of columns and of rows, for any window of a slot."""
    height, width = sides[0], sides[1]
    return (
        (np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width * taps_for(shape[2], width), np.int32)),
        (
            np.empty(height, np.int64),
            np.empty(height, np.int64),
            np.empty(height * taps_for(shape[1], height), np.int32),
        ),
    )


@compiled(
    f"Tuple(({SOURCE_WINDOW}, {SPAN}, {SPAN}))(int64, UniTuple(int64, 4), int32[::1], UniTuple(int64, 4), {_ROOM}, {_ROOM})"
)
def _prepare(  # noqa: PLR0913 - compiled for plain arguments
    slot: int, shape: Four, window: Window, sides: Four, across: Room, down: Room
) -> tuple[SourceWindow, Span, Span]:
    """What the kernels of one window want to know: where it is, and its weights."""
    channels, height, width, planar = shape
    planes, unit = (channels, 1) if planar else (1, channels)
    top, left, rows, columns = int(window[0]), int(window[1]), int(window[2]), int(window[3])
    start = slot * channels * height * width + (top * width + left) * unit
    return (
        (start, width * unit, height * width, planes, unit, rows, columns),
        fill_span(columns, sides[1], window[4] != 0, across[0], across[1], across[2]),
        fill_span(rows, sides[0], window[5] != 0, down[0], down[1], down[2]),
    )


@compiled(f"void({_BATCH})")
def _write_resized_crops(  # noqa: PLR0913 - compiled for plain arguments
    source: Pixels,
    shape: Four,
    slots: Integers,
    windows: Window,
    out: Pixels,
    places: Integers,
    sides: Four,
    scale: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    image: Pixels,
    some: Pixels,
    other: Pixels,
) -> None:
    columns, rows = _rooms(shape, sides)
    direct = image.size == 0
    target, image_bytes = out if direct else image, shape[0] * sides[0] * sides[1]
    image_shape = (shape[0], sides[0], sides[1], shape[3])
    whole, band = np.zeros(6, np.int32), np.empty(scale.size, np.uint8)
    for k in range(slots.size):
        part, across, down = _prepare(slots[k], shape, windows[k], sides, columns, rows)
        at = places[k] * image_bytes if direct else 0
        resample_window(source, part, across, down, target, at, some, other)
        if not direct:
            write_image(image, 0, image_shape, whole, 0, out, places[k], sides, scale, bias, band)


@compiled_wide(f"void({_BATCH}, {TABLES})")
def _write_resized_crops_wide(  # noqa: PLR0913 - compiled for plain arguments
    source: Pixels,
    shape: Four,
    slots: Integers,
    windows: Window,
    out: Pixels,
    places: Integers,
    sides: Four,
    scale: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    image: Pixels,
    some: Pixels,
    other: Pixels,
    tables: Tables,
) -> None:
    columns, rows = _rooms(shape, sides)
    direct = image.size == 0
    target, image_bytes = out if direct else image, shape[0] * sides[0] * sides[1]
    image_shape = (shape[0], sides[0], sides[1], shape[3])
    whole, band = np.zeros(6, np.int32), np.empty(scale.size, np.uint8)
    for k in range(slots.size):
        part, across, down = _prepare(slots[k], shape, windows[k], sides, columns, rows)
        at = places[k] * image_bytes if direct else 0
        if not resample_window_wide(source, part, across, down, target, at, some, tables):
            resample_window(source, part, across, down, target, at, some, other)
        if not direct:
            write_image(image, 0, image_shape, whole, 0, out, places[k], sides, scale, bias, band)


_buffers = Buffers()


def write_resized_crops(  # noqa: PLR0913 - as the kernel
    source: Pixels,
    shape: Four,
    slots: Integers,
    windows: Window,
    out: Pixels,
    places: Integers,
    form: Form,
) -> None:
    """Write the windows of some slots into a batch, each resampled to the batch's size. What is passed is not checked.

    Args:
        source: uint8, flat: slots one after another; only read.
        shape: of a slot: channels, height, width, and 1 where channels are planes.
        slots: int64, (k,): which slots.
        windows: int32, (k, 6): rows of `arraystore._augmenting.crops.GEOMETRY`, each inside the slot.
        out: uint8, flat: the bytes of a batch.
        places: int64, (k,): which of its images are written.
        form: what the images become.
    """
    channels, height, width, planar = shape
    rows, columns, planar_out, kind = form.sides
    unit = 1 if planar else channels
    plane = max(height, rows) * max(width, columns) * unit + READ_BYTES
    direct = kind == 0 and (planar == planar_out or channels == 1)
    image = _buffers.get("image", 0 if direct else channels * rows * columns)
    arguments = (source, shape, slots, windows, out, places, *form)
    scratch = image, _buffers.get("some", plane), _buffers.get("other", plane)
    if supported():
        _write_resized_crops_wide(*arguments, *scratch, tables_for(height, width, unit, rows, columns))
    else:
        _write_resized_crops(*arguments, *scratch)
