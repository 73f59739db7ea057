"""A cut of a JPEG has the pixels that the whole JPEG has there, bit for bit, and it is made where it can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import restart_jpegs

from arraystore._kernels.jpeg_cut import SPARE_BYTES, cut
from arraystore._stores.encoded_images import _MARGIN

if TYPE_CHECKING:
    from support.restart_jpegs import Box

Pixels = npt.NDArray[np.uint8]


def cut_of(data: bytes, window: Box, sides: tuple[int, int], margin: int = _MARGIN) -> tuple[bytes, Box] | None:
    """The cut and the box that it shows; None if the kernel does not cut the file."""
    file, placed = np.frombuffer(data, np.uint8), np.full(4, -1, np.int64)
    out = np.empty(len(data) + SPARE_BYTES, np.uint8)
    size = cut(file, np.array([*window, margin], np.int64), sides, out, placed)
    assert 0 <= size <= len(data)
    left, top, width, height = placed.tolist()
    return (out[:size].tobytes(), (left, top, left + width, top + height)) if size else None


def check_pixels(data: bytes, whole: Pixels, window: Box, margin: int = _MARGIN) -> Box | None:
    """Compare a cut with the whole where the window is; return the box of the cut, None if there is none."""
    made = cut_of(data, window, whole.shape[1::-1], margin)
    if made is None:
        return None
    (left, top, right, bottom), (box_left, box_top, box_right, box_bottom) = window, made[1]
    part = restart_jpegs.decoded(made[0])
    assert part.shape == (box_bottom - box_top, box_right - box_left, whole.shape[2])
    shown = part[top - box_top : bottom - box_top, left - box_left : right - box_left]
    np.testing.assert_array_equal(shown, whole[top:bottom, left:right])
    return made[1]


@st.composite
def spans(draw: st.DrawFn, size: int) -> tuple[int, int]:
    """A range of pixels: anywhere, or at an end, or a few pixels beside the side of a block."""
    begin = draw(st.one_of(st.integers(0, size - 1), st.just(0), st.integers(0, (size - 1) // 8).map(lambda b: 8 * b)))
    end = draw(st.one_of(st.integers(begin + 1, size), st.just(size), st.integers(begin + 1, min(begin + 40, size))))
    return begin, end


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    sides = st.one_of(st.integers(1, 600), st.integers(1, 70))
    height, width, sampling = draw(sides), draw(sides), draw(st.sampled_from(list(restart_jpegs.SAMPLINGS)))
    columns, _ = restart_jpegs.units(height, width, sampling)
    regular = [number for number in range(1, 9) if columns % number == 0 or number % columns == 0]
    windows = [(draw(spans(width)), draw(spans(height))) for _ in range(4)]
    return {
        "height": height,
        "width": width,
        "sampling": sampling,
        "restart": draw(st.one_of(st.sampled_from(regular), st.integers(1, 8), st.just(columns), st.just(2 * columns))),
        "quality": draw(st.integers(1, 100)),
        "noise": draw(st.sampled_from([0, 5, 60])),
        "seed": draw(st.integers(0, 2**31)),
        "windows": [(left, top, right, bottom) for (left, right), (top, bottom) in windows],
    }


@settings(max_examples=250)
@given(case=cases())
@example(  # chroma of one column at the right end
    case={
        "height": 16,
        "width": 65,
        "sampling": "420",
        "restart": 1,
        "quality": 90,
        "noise": 60,
        "seed": 0,
        "windows": [(64, 0, 65, 16), (63, 0, 65, 1), (47, 0, 48, 16)],
    }
)
def test_a_cut_has_the_pixels_of_the_whole(case: dict[str, Any]) -> None:
    sides, sampling, restart = (case["height"], case["width"]), case["sampling"], case["restart"]
    pixels = restart_jpegs.picture(*sides, sampling, seed=case["seed"], noise=case["noise"])
    data = restart_jpegs.jpeg(pixels, sampling, restart, quality=case["quality"])
    whole = restart_jpegs.decoded(data)
    for window in case["windows"]:
        expected = restart_jpegs.box_of_cut(*sides, sampling, restart, window, _MARGIN)
        assert check_pixels(data, whole, window) == expected
