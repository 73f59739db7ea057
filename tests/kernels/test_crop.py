"""The kernels that crop, mirror, lay out and convert equal slow NumPy, bit for bit, and touch nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.fences import Fenced

from arraystore._kernels.crop import KINDS, form_of, places_of, write_crops, write_planes

Pixels = npt.NDArray[np.uint8]
TYPES = dict(zip(KINDS, (np.uint8, np.float32, np.float16, np.uint16), strict=True))


def slow(slot: Pixels, window: Any, fill: int) -> Pixels:
    """The window of a slot (C, H, W), by padding the slot on all sides."""
    top, left, height, width, hflip, vflip = window
    frame = max(abs(top), abs(left), abs(top + height), abs(left + width))
    padded = np.pad(slot, ((0, 0), (frame, frame), (frame, frame)), constant_values=fill)
    part = padded[:, top + frame : top + frame + height, left + frame : left + frame + width]
    return part[:, :: -1 if vflip else 1, :: -1 if hflip else 1]


def bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Rounded to the nearest of the two neighbors, to the even one in the middle; by comparing distances."""
    below = values.view(np.uint32) & np.uint32(0xFFFF0000)
    above = below + np.uint32(0x10000)
    exact = values.astype(np.float64)
    down, up = (np.abs(end.view(np.float32).astype(np.float64) - exact) for end in (below, above))
    odd = (below >> np.uint32(16)) & np.uint32(1)
    return (np.where((up < down) | ((up == down) & (odd == 1)), above, below) >> np.uint32(16)).astype(np.uint16)


def converted(pixels: Pixels, kind: str, scale: Any, bias: Any) -> npt.NDArray[Any]:
    if kind == "uint8":
        return pixels
    each = [np.asarray(values, np.float32)[:, None, None] for values in (scale, bias)]
    floats = pixels.astype(np.float32) * each[0] + each[1]
    if kind == "bfloat16":
        return bfloat16(floats)
    with np.errstate(over="ignore"):
        return floats.astype(TYPES[kind])


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    channels = draw(st.sampled_from([1, 3, 3, 3, 2, 4]))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 200))
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 200))
    if draw(st.booleans()):
        rows, columns = min(rows, height), min(columns, width)
        place = st.tuples(st.integers(0, height - rows), st.integers(0, width - columns))
    else:
        place = st.tuples(st.integers(-rows - 3, height + 3), st.integers(-columns - 3, width + 3))
    count = draw(st.integers(1, 4))
    flips = st.integers(0, 1)
    windows = [(*draw(place), rows, columns, draw(flips), draw(flips)) for _ in range(count)]
    return {
        "shape": (channels, height, width),
        "planar": (draw(st.booleans()), draw(st.booleans())),
        "windows": windows,
        "kind": draw(st.sampled_from(KINDS)),
        "fill": draw(st.integers(0, 255)),
        "seed": draw(st.integers(0, 2**31)),
    }


def check(case: dict[str, Any], place: Any = None) -> None:
    rng = np.random.default_rng(case["seed"])
    (channels, height, width), (planar, planar_out) = case["shape"], case["planar"]
    windows = np.array(case["windows"], np.int32)
    count, kind, (rows, columns) = len(windows), case["kind"], windows[0, 2:4]
    scale, bias = rng.uniform(-2, 2, channels), rng.uniform(-300, 300, channels)
    slots = rng.integers(0, 256, (6, channels, height, width), np.uint8)
    stored = np.ascontiguousarray(slots if planar else slots.transpose(0, 2, 3, 1))
    shape = (channels, rows, columns) if planar_out else (rows, columns, channels)
    dtype = np.dtype(TYPES[kind])
    out = np.full((count + 2, *shape), 77, np.uint8).astype(dtype)
    source, target = stored.reshape(-1), out.reshape(-1).view(np.uint8)
    if place is not None:
        source, target = place(source, target)
    source.flags.writeable = False
    chosen, places = rng.integers(0, 6, count), rng.permutation(count + 2)[:count]
    form = form_of(kind, channels, int(rows), int(columns), planar=planar_out, scale=scale, bias=bias)
    images = places_of(chosen, channels, height, width)
    write_crops(source, (channels, int(planar)), images, windows, target, places, form, case["fill"])
    out = target.view(dtype).reshape(out.shape)
    for i in range(count):
        expected = converted(slow(slots[chosen[i]], windows[i].tolist(), case["fill"]), kind, scale, bias)
        image = out[places[i]] if planar_out else out[places[i]].transpose(2, 0, 1)
        assert image.tobytes() == expected.tobytes()
    assert (np.delete(out, places, axis=0) == dtype.type(77)).all()


@settings(max_examples=400)
@given(cases())
@example(
    {
        "shape": (3, 32, 32),
        "planar": (True, True),
        "windows": [(-4, 4, 32, 32, 1, 0)],
        "kind": "uint8",
        "fill": 9,
        "seed": 0,
    }
)
def test_any_window_equals_numpy(case: dict[str, Any]) -> None:
    check(case)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("planar", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("hflip", [0, 1])
def test_the_usual_crop(kind: str, planar: tuple[bool, bool], hflip: int) -> None:
    windows = [(7, 30, 224, 224, hflip, 0), (0, 0, 224, 224, hflip, 1), (32, 32, 224, 224, hflip, 0)]
    check({"shape": (3, 256, 256), "planar": planar, "windows": windows, "kind": kind, "fill": 0, "seed": 1})


@pytest.mark.parametrize("at_end", [True, False])
def test_no_byte_outside_the_arrays_is_touched(*, at_end: bool) -> None:
    read, written = Fenced(6 * 4 * 40 * 90), Fenced(6 * 4 * 40 * 90 * 4)
    rng = np.random.default_rng(2)

    def place(source: Pixels, target: Pixels) -> tuple[Pixels, Pixels]:
        fenced = read.place(source.shape, at_end=at_end), written.place(target.shape, at_end=at_end)
        fenced[0][...], fenced[1][...] = source, target
        return fenced

    for _ in range(300):
        height, width = (int(side) for side in (rng.integers(1, 40), rng.integers(1, 90)))
        size = int(rng.integers(1, 40)), int(rng.integers(1, 90))
        corners = rng.integers((-size[0], -size[1]), (height + 1, width + 1), (4, 2))
        case = {
            "shape": (int(rng.choice([1, 3, 4])), height, width),
            "planar": tuple(rng.integers(0, 2, 2).astype(bool).tolist()),
            "windows": [(*corner, *size, *rng.integers(0, 2, 2)) for corner in corners.tolist()],
            "kind": str(rng.choice(KINDS)),
            "fill": 3,
            "seed": int(rng.integers(1000)),
        }
        check(case, place)


@pytest.mark.parametrize("kind", KINDS[2:])
def test_halves_are_rounded_to_the_nearest_everywhere(kind: str) -> None:
    """Every exponent that single precision has but the infinite one: subnormal, ties and overflow among them."""
    pixels = np.arange(256, dtype=np.uint8)
    rng = np.random.default_rng(3)
    whole = np.array([(0, 0, 1, 256, 0, 0)], np.int32)
    exponents = range(-140, 119) if kind == "bfloat16" else range(-40, 18)
    for exponent in exponents:
        for scale, bias in ((2.0**exponent, 0.0), (-(2.0**exponent) * rng.uniform(1, 2), 2.0**exponent)):
            out = np.empty((1, 1, 256), np.uint16)
            form = form_of(kind, 1, 1, 256, planar=True, scale=[scale], bias=[bias])
            zero = np.zeros(1, np.int64)
            write_crops(
                pixels, (1, 1), places_of(zero, 1, 1, 256), whole, out.reshape(-1).view(np.uint8), zero, form, 0
            )
            expected = converted(pixels.reshape(1, 1, 256), kind, [scale], [bias])
            np.testing.assert_array_equal(out, expected.view(np.uint16))


@pytest.mark.parametrize("pixels", [0, 1, 15, 16, 17, 250])
@pytest.mark.parametrize("at_end", [False, True])
def test_channels_become_planes_inside_their_arrays(pixels: int, at_end: bool) -> None:
    source, out = (Fenced(1000).place((3 * pixels,), at_end=at_end) for _ in range(2))
    source[:] = np.random.default_rng(pixels).integers(0, 256, source.size)
    write_planes(source, out)
    np.testing.assert_array_equal(out.reshape(3, pixels), source.reshape(pixels, 3).T)
