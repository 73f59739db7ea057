from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import images

from arraystore._building.build import _exact_sums
from arraystore._kernels.sums import channel_sums, mean_and_std


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 3), (64, 64)])
def test_sums_are_those_of_numpy(size: tuple[int, int], layout: str, channels: int) -> None:
    pixels = images.noise(*size, channels).reshape(*size, channels)
    slot = pixels if layout == "NHWC" else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    wide = pixels.astype(np.uint64)
    expected = np.stack([wide.sum((0, 1)), (wide * wide).sum((0, 1))], axis=1)
    sums = channel_sums(slot, layout)
    assert sums.dtype == np.uint64
    np.testing.assert_array_equal(sums, expected)


def test_the_longest_row_of_white_does_not_overflow() -> None:
    white = np.full((1, 2, 65_535), 255, np.uint8)
    total = 2 * 65_535 * 255
    assert channel_sums(white, "NCHW").tolist() == [[total, total * 255]]


def test_no_pixels_give_zeros() -> None:
    assert mean_and_std([(0, 0)] * 3, 0) == ((0.0,) * 3, (0.0,) * 3)


@given(st.integers(0, 255), st.integers(1, 10**18))
def test_one_color_has_no_spread_however_many_pixels(value: int, pixels: int) -> None:
    mean, std = mean_and_std([(value * pixels, value * value * pixels)], pixels)
    assert mean == (value,)
    assert std == (0.0,)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_mean_and_std_are_those_of_numpy(values: list[int]) -> None:
    mean, std = mean_and_std([(sum(values), sum(value * value for value in values))], len(values))
    assert mean[0] == pytest.approx(np.mean(values), rel=1e-14)
    assert std[0] == pytest.approx(np.std(values), rel=1e-12, abs=1e-12)


def test_sums_beyond_64_bits_are_exact() -> None:
    pixels = 10**16
    half = pixels // 2
    mean, std = mean_and_std([(half * 255, half * 255 * 255)], pixels)
    assert mean[0] == 127.5
    assert std[0] == 127.5
    # One pixel in 10^16 differs: in doubles the variance would be lost entirely.
    mean, std = mean_and_std([(254 * pixels + 1, 254 * 254 * (pixels - 1) + 255 * 255)], pixels)
    assert std[0] == pytest.approx(math.sqrt((1 - 1e-16) / pixels), rel=1e-9)


def test_the_sums_of_many_slots_are_added_without_overflow() -> None:
    sums: Any = np.full((5, 2, 2), 2**64 - 1, np.uint64)
    assert list(_exact_sums(sums)) == [(5 * (2**64 - 1), 5 * (2**64 - 1))] * 2
