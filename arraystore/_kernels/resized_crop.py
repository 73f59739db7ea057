"""Cut windows out of slots, resample each to one size, and write them into a batch, outside the interpreter's lock.

Each window is resampled by `arraystore._kernels.vectors.window_avx512` or, where that is not possible, by
`arraystore._kernels.window`: straight into the batch; or, if the layout or the type changes, into a scratch image that
`arraystore._kernels.crop` then writes into the batch. benchmarks/augment.py compares this with Pillow.
"""

import numpy as np

from arraystore._common.scratch import Buffers
from arraystore._kernels.compiled import READ_ONLY, Four, Integers, Pixels, Two, Words, compiled
from arraystore._kernels.crop import FORM, Form, write_image
from arraystore._kernels.filters import AXIS_WEIGHTS, AxisWeights
from arraystore._kernels.vectors.avx512 import supported
from arraystore._kernels.vectors.window_avx512 import CHUNK_BYTES, TABLES, Tables, resample_window_avx512, tables_for
from arraystore._kernels.window import SOURCE_WINDOW, SourceWindow, fill_axis_weights, resample_window, taps_for

# Room for the weights of a window's rows, or of its columns: the arguments of `fill_axis_weights` that it overwrites.
_Room = tuple[Integers, Integers, Words]
_ROOM = "Tuple((int64[::1], int64[::1], int32[::1]))"


@compiled(f"{_ROOM}(int64, int64)")
def _room_for(in_size: int, out_size: int) -> _Room:
    weights = out_size * taps_for(in_size, out_size)
    return np.empty(out_size, np.int64), np.empty(out_size, np.int64), np.empty(weights, np.int32)


@compiled(
    f"Tuple(({SOURCE_WINDOW}, {AXIS_WEIGHTS}, {AXIS_WEIGHTS}))"
    f"(UniTuple(int64, 2), int64[::1], int32[::1], UniTuple(int64, 4), {_ROOM}, {_ROOM})"
)
def _prepare(
    layout: Two, place: Integers, window: Words, sides: Four, across: _Room, down: _Room
) -> tuple[SourceWindow, AxisWeights, AxisWeights]:
    """Return where a window lies in the source, the weights of its columns, and the weights of its rows."""
    channels, planar = layout
    height, width = place[1], place[2]
    planes, unit = (channels, 1) if planar else (1, channels)
    top, left, rows, columns = int(window[0]), int(window[1]), int(window[2]), int(window[3])
    start = place[0] + (top * width + left) * unit
    return (
        (start, width * unit, height * width, planes, unit, rows, columns),
        fill_axis_weights(columns, sides[1], int(window[4]), across[0], across[1], across[2]),
        fill_axis_weights(rows, sides[0], int(window[5]), down[0], down[1], down[2]),
    )


_BATCH = (
    f"{READ_ONLY}, UniTuple(int64, 2), int64[:, ::1], int32[:, ::1], uint8[::1], int64[::1], {FORM}, "
    "UniTuple(int64, 2), uint8[::1], uint8[::1], uint8[::1]"
)


# Compiled once for ``tables`` of None, and once more with AVX-512 where there is. numba leaves a branch out of the
# machine code if an argument of None decides that it is never taken.
@compiled(f"void({_BATCH}, none)", *([f"void({_BATCH}, {TABLES})"] if supported() else []))
def _write_resized_crops(
    source: Pixels,
    layout: Two,
    places: Integers,
    windows: Words,
    out: Pixels,
    out_indices: Integers,
    form: Form,
    largest: Two,
    image: Pixels,
    scratch: Pixels,
    other_scratch: Pixels,
    tables: Tables | None,
) -> None:
    sides, scale, _ = form
    across_room, down_room = _room_for(largest[1], sides[1]), _room_for(largest[0], sides[0])
    direct = image.size == 0
    target, image_bytes = out if direct else image, layout[0] * sides[0] * sides[1]
    image_shape = (layout[0], sides[0], sides[1], layout[1])
    whole, band = np.zeros(6, np.int32), np.empty(scale.size, np.uint8)
    for k in range(out_indices.size):
        window, across, down = _prepare(layout, places[k], windows[k], sides, across_room, down_room)
        offset = out_indices[k] * image_bytes if direct else 0
        if tables is None or not resample_window_avx512(source, window, across, down, target, offset, scratch, tables):
            resample_window(source, window, across, down, target, offset, scratch, other_scratch)
        if not direct:
            write_image(image, 0, image_shape, whole, 0, out, out_indices[k], form, band)


_buffers = Buffers()


def write_resized_crops(
    source: Pixels,
    layout: Two,
    places: Integers,
    windows: Words,
    out: Pixels,
    out_indices: Integers,
    form: Form,
) -> None:
    """Write the windows of some images into a batch, each resampled to the batch's size.

    See `arraystore._kernels.crop.write_crops`; but each window lies inside its image, and has any height and width.
    """
    channels, planar = layout
    height, width = places[:, 1:].max(axis=0).tolist()
    rows, columns, planar_out, kind = form[0]
    unit = 1 if planar else channels
    plane = max(height, rows) * max(width, columns) * unit + CHUNK_BYTES
    direct = kind == 0 and (planar == planar_out or channels == 1)
    image = _buffers.get("image", 0 if direct else channels * rows * columns)
    scratch = image, _buffers.get("scratch", plane), _buffers.get("other scratch", plane)
    tables = tables_for(height, width, unit, rows, columns) if supported() else None
    _write_resized_crops(source, layout, places, windows, out, out_indices, form, (height, width), *scratch, tables)
