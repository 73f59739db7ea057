"""Resized windows are Pillow's crop and resize, bit for bit, by both kernels, and no other byte is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import images
from support.fences import Fenced

from arraystore._kernels.crop import KINDS, form_of, places_of, write_crops
from arraystore._kernels.resized_crop import _prepare, _room_for, write_resized_crops
from arraystore._kernels.vectors import avx512, window_avx512

Pixels = npt.NDArray[np.uint8]
FLIPS = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM


@pytest.fixture(params=["fastest", "portable"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kernels, whatever this processor has; where it lacks the instructions both are the portable one."""
    if request.param == "portable":
        monkeypatch.setattr("arraystore._kernels.resized_crop.supported", lambda: False)


def pillow(slot: Pixels, window: Any, size: tuple[int, int]) -> Pixels:
    """The window of a slot (C, H, W), channel by channel."""
    top, left, height, width, *flips = window
    planes = []
    for plane in slot:
        image = Image.fromarray(plane).crop((left, top, left + width, top + height))
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
        for flip, flipped in zip(FLIPS, flips, strict=True):
            image = image.transpose(flip) if flipped else image
        planes.append(np.asarray(image))
    return np.stack(planes)


def check(slots: Pixels, windows: Any, size: tuple[int, int], planar: tuple[bool, bool], place: Any = None) -> None:
    count, channels, height, width = slots.shape
    stored = np.ascontiguousarray(slots if planar[0] else slots.transpose(0, 2, 3, 1))
    out = np.full((count + 1, channels, *size) if planar[1] else (count + 1, *size, channels), 77, np.uint8)
    source, target = stored.reshape(-1), out.reshape(-1)
    if place is not None:
        source, target = place(source, target)
        out = target.reshape(out.shape)
    source.flags.writeable = False
    chosen, out_indices = np.arange(count)[::-1].copy(), np.arange(1, count + 1)
    form = form_of("uint8", channels, *size, planar=planar[1])
    places = places_of(chosen, channels, height, width)
    write_resized_crops(
        source, (channels, int(planar[0])), places, np.array(windows, np.int32), target, out_indices, form
    )
    for i in range(count):
        image = out[i + 1] if planar[1] else out[i + 1].transpose(2, 0, 1)
        np.testing.assert_array_equal(image, pillow(slots[chosen[i]], windows[i], size))
    assert (out[0] == 77).all()


@st.composite
def cases(draw: st.DrawFn) -> tuple[Pixels, list[tuple[int, ...]], tuple[int, int], tuple[bool, bool]]:
    channels, height, width = draw(st.sampled_from([1, 3, 3, 4])), draw(st.integers(1, 150)), draw(st.integers(1, 200))
    windows = []
    for _ in range(draw(st.integers(1, 3))):
        rows, columns = draw(st.integers(1, height)), draw(st.integers(1, width))
        top, left = draw(st.integers(0, height - rows)), draw(st.integers(0, width - columns))
        windows.append((top, left, rows, columns, draw(st.integers(0, 1)), draw(st.integers(0, 1))))
    seed = draw(st.integers(0, 2**31))
    slots = np.random.default_rng(seed).integers(0, 256, (len(windows), channels, height, width), np.uint8)
    return (
        slots,
        windows,
        (draw(st.integers(1, 150)), draw(st.integers(1, 150))),
        (draw(st.booleans()), draw(st.booleans())),
    )


@settings(max_examples=150)
@given(case=cases())
def test_any_window_equals_pillow_by_the_fastest_kernel(case: Any) -> None:
    check(*case)


@settings(max_examples=80)
@given(case=cases())
def test_any_window_equals_pillow_by_the_portable_kernel(case: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arraystore._kernels.resized_crop.supported", lambda: False)
        check(*case)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("planar", [(True, True), (True, False), (False, True), (False, False)])
def test_the_usual_windows(planar: tuple[bool, bool]) -> None:
    slots = np.stack([images.photo(256, 256, seed=seed).transpose(2, 0, 1) for seed in range(6)])
    windows = [
        (0, 0, 256, 256, 0, 0),
        (10, 20, 224, 224, 1, 0),  # no change of size
        (0, 100, 256, 150, 0, 1),  # the rows shrink, the columns grow: rows come first
        (193, 194, 63, 62, 1, 1),  # narrower than a register, and at the end of the last slot
        (100, 3, 90, 250, 0, 0),
        (255, 255, 1, 1, 0, 0),
    ]
    check(slots, windows, (224, 224), planar)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("size", [(17, 20), (7, 90), (90, 7)])
def test_windows_that_shrink_much_have_many_taps(size: tuple[int, int]) -> None:
    slots = np.random.default_rng(0).integers(0, 256, (3, 3, 300, 500), np.uint8)
    for planar in (True, False):
        windows = [(0, 0, 300, 500, 0, 0), (3, 5, 290, 480, 1, 1), (0, 1, 300, 40, 1, 0)]
        check(slots, windows, size, (planar, planar))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("planar", [True, False])
def test_floats_are_the_gray_levels_converted(kind: str, *, planar: bool) -> None:
    """One rounding to 8 bits in between, as torchvision's ToTensor after a resize has."""
    slots = np.random.default_rng(1).integers(0, 256, (2, 3, 90, 80), np.uint8)
    windows, places = np.array([(4, 5, 70, 60, 1, 0), (0, 0, 90, 80, 0, 1)], np.int32), np.arange(2)
    whole = np.array([(0, 0, 64, 72, 0, 0)] * 2, np.int32)
    gray = np.empty((2, 3, 64, 72), np.uint8)
    form = form_of("uint8", 3, 64, 72, planar=True)
    slot_places = places_of(places, 3, 90, 80)
    write_resized_crops(slots.reshape(-1), (3, 1), slot_places, windows, gray.reshape(-1), places, form)
    out, expected = (np.empty(gray.size, np.float32 if kind == "float32" else np.uint16) for _ in range(2))
    form = form_of(kind, 3, 64, 72, planar=planar, scale=(0.1, 0.2, 0.3), bias=(1, -2, 3))
    write_resized_crops(slots.reshape(-1), (3, 1), slot_places, windows, out.view(np.uint8), places, form)
    write_crops(gray.reshape(-1), (3, 1), places_of(places, 3, 64, 72), whole, expected.view(np.uint8), places, form, 0)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("at_end", [True, False])
def test_no_byte_outside_the_arrays_is_touched(*, at_end: bool) -> None:
    read, written = Fenced(2 * 3 * 120 * 160), Fenced(3 * 3 * 130 * 130)
    rng = np.random.default_rng(2)

    def place(source: Pixels, target: Pixels) -> tuple[Pixels, Pixels]:
        fenced = read.place(source.shape, at_end=at_end), written.place(target.shape, at_end=at_end)
        fenced[0][...], fenced[1][...] = source, target
        return fenced

    for _ in range(60):
        height, width = (int(side) for side in (rng.integers(1, 120), rng.integers(1, 160)))
        rows, columns = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        slots = rng.integers(0, 256, (2, int(rng.choice([1, 3])), height, width), np.uint8)
        flips = rng.integers(0, 2, 2).tolist()
        windows = [(0, 0, rows, columns, *flips), (height - rows, width - columns, rows, columns, *flips)]
        size = int(rng.integers(1, 130)), int(rng.integers(1, 130))
        check(slots, windows, size, tuple(rng.integers(0, 2, 2).astype(bool).tolist()), place)


def test_the_usual_windows_are_not_left_to_the_portable_kernel() -> None:
    """Only those are at whose end a register would reach beyond the source, or that are made very small."""
    if not avx512.supported():
        return
    source, scratch = np.zeros(2 * 3 * 256 * 256, np.uint8), np.empty(300 * 300 * 3 + 64, np.uint8)
    target = np.empty(3 * 224 * 224, np.uint8)

    def is_done(slot: int, window: tuple[int, ...], size: tuple[int, int], *, planar: bool) -> bool:
        layout, sides = (3, int(planar)), (*size, int(planar), 0)
        across, down = _room_for(256, size[1]), _room_for(256, size[0])
        (at,) = places_of(np.array([slot]), 3, 256, 256)
        place, columns, rows = _prepare(layout, at, np.array(window, np.int32), sides, across, down)
        tables = window_avx512.tables_for(256, 256, 1 if planar else 3, *size)
        done: bool = window_avx512.resample_window_avx512(source, place, columns, rows, target, 0, scratch, tables)
        return done

    for planar in (True, False):
        for side in range(20, 257, 6):
            assert is_done(0, (0, 0, side, side, 1, 1), (224, 224), planar=planar)
            assert is_done(0, (256 - side, 256 - side, side, side, 0, 0), (224, 224), planar=planar)
        assert is_done(1, (236, 236, 20, 20, 0, 0), (224, 224), planar=planar) == (20 * (1 if planar else 3) >= 64)
    assert not is_done(0, (0, 0, 100, 100, 0, 0), (40, 47), planar=True)


def test_the_portable_kernel_where_the_instructions_are_not_to_be_used() -> None:
    code = (
        "from types import FunctionType\nfrom arraystore._kernels import resized_crop\n"
        "from arraystore._kernels.vectors import window_avx512\n"
        "assert isinstance(window_avx512.resample_window_avx512, FunctionType), 'compiled nevertheless'\n"
        "assert len(resized_crop._write_resized_crops.signatures) == 1, 'compiled for its tables'\n"
        "import test_resized_crop as tests\ntests.test_the_usual_windows((True, False))\n"
    )
    env = {**os.environ, "ARRAYSTORE_PORTABLE": "1"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *(path for path in sys.path if path)])
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=400)
