"""Rows and columns of bytes change places, and nothing else is read or written."""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arraystore._kernels.interleave import interleaved
from arraystore._kernels.vectors.transpose import transpose

SIDES = st.one_of(st.integers(1, 40), st.integers(1, 300))


@settings(max_examples=150)
@given(rows=SIDES, columns=SIDES, gaps=st.tuples(*[st.integers(0, 20)] * 4), seed=st.integers(0, 9999))
def test_it_is_that_of_numpy(rows: int, columns: int, gaps: tuple[int, int, int, int], seed: int) -> None:
    start, first, gap, target_gap = gaps
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, start + rows * (columns + gap), np.uint8)
    target = rng.integers(0, 256, first + columns * (rows + target_gap), np.uint8)
    expected = target.copy()
    turned = expected[first:].reshape(columns, rows + target_gap)
    turned[:, :rows] = source[start:].reshape(rows, columns + gap)[:, :columns].T
    transpose(source, start, columns + gap, rows, columns, target, first, rows + target_gap)
    np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (17, 31), (64, 64), (1, 5), (5, 1), (40, 16)])
def test_no_byte_beyond_the_arrays_is_touched(rows: int, columns: int) -> None:
    """Both end at the end of a mapping, behind which a page may not be there."""
    size = rows * columns
    ends = [
        np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE * (1 + size // mmap.PAGESIZE)), np.uint8)[-size:] for _ in range(2)
    ]
    source, target = ends
    source[:] = np.arange(size) % 251
    transpose(source, 0, columns, rows, columns, target, 0, rows)
    np.testing.assert_array_equal(target.reshape(columns, rows), source.reshape(rows, columns).T)


@given(hnp.arrays(st.sampled_from(["u1", "u2", "f4", "f8", "?"]), hnp.array_shapes(min_dims=3, max_dims=3, min_side=1)))
def test_planes_become_pixels_with_their_channels_side_by_side(planes: npt.NDArray[np.generic]) -> None:
    pixels = interleaved(planes)
    np.testing.assert_array_equal(pixels, planes.transpose(1, 2, 0), strict=True)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert not np.shares_memory(pixels, planes)
