"""Polygons and run lengths: pixel for pixel those of pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.coco import Pixels, pixels_of, run_lengths

from arraystore._kernels.packed.regions import DAMAGED, add_polygon, add_runs, paint, polygon_box, unpack_runs


def polygon(corners: Any, height: int, width: int) -> Pixels:
    points = np.ascontiguousarray(corners, np.float64)
    box = polygon_box(points, width, height)
    left, top, right, bottom = box
    inside = np.zeros((width, height), np.uint8)
    region = np.zeros((right - left, bottom - top), np.uint8)
    add_polygon(points, box, height, left, top, region)
    inside[left:right, top:bottom] = region
    add_polygon(points, box, height, 0, 0, whole := np.zeros((width, height), np.uint8))
    np.testing.assert_array_equal(whole, inside)
    return inside.T


def polygon_of_pycocotools(corners: Any, height: int, width: int) -> Pixels:
    return pixels_of([np.asarray(corners, float).ravel().tolist()], height, width)


sides = st.integers(1, 50)
coordinates = (
    st.floats(-20, 70)
    | st.integers(-20, 70)
    | st.integers(-200, 700).map(lambda fifth: fifth / 10)  # where the fine grid rounds up or down
    | st.floats(-2e4, 2e4)
)
corner_lists = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12)


@settings(max_examples=250)
@given(corner_lists, sides, sides)
@example([(3, 3), (3, 3), (3, 3)], 9, 9)
@example([(0.5, 0.5), (8.5, 0.5), (8.5, 8.5), (0.5, 8.5)], 9, 9)
@example([(-9, -9), (40, -9), (40, 40), (-9, 40)], 9, 9)
def test_a_polygon_is_that_of_pycocotools(corners: Any, height: int, width: int) -> None:
    np.testing.assert_array_equal(
        polygon(corners, height, width), polygon_of_pycocotools(corners, height, width), str(corners)
    )


def test_many_polygons_are_those_of_pycocotools() -> None:
    """Hypothesis would take seconds to make as many."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        shape = (rng.integers(3, 13), 2)
        near, far = rng.uniform(-20, 70, shape), rng.uniform(-2e4, 2e4, shape)
        kinds = np.stack([near, np.rint(near), rng.integers(-200, 701, shape) / 10, far])
        corners = np.take_along_axis(kinds, rng.choice(4, (1, *shape), p=[0.3, 0.3, 0.3, 0.1]), axis=0)[0]
        height, width = rng.integers(1, 51, 2).tolist()
        expected = polygon_of_pycocotools(corners, height, width)
        np.testing.assert_array_equal(polygon(corners, height, width), expected, str(corners))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=9), st.floats(0.1, 9))
def test_edges_along_the_grid_and_corners_that_come_again(corners: Any, scale: float) -> None:
    scaled = np.array(corners) * scale
    np.testing.assert_array_equal(polygon(scaled, 30, 40), polygon_of_pycocotools(scaled, 30, 40), str(corners))


def test_a_polygon_of_an_outline_like_those_of_people() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 60))
        radius = rng.uniform(20, 300) * (1 + 0.2 * rng.normal(size=60))
        x, y = 320 + radius * np.cos(angles), 240 + radius * np.sin(angles)
        corners = np.stack([x, y], axis=1).round(2)
        np.testing.assert_array_equal(polygon(corners, 480, 640), polygon_of_pycocotools(corners, 480, 640))


def test_corners_far_away_take_no_time_and_no_memory() -> None:
    """pycocotools would walk along 160 million steps."""
    far = [(-(2**24), -(2**24)), (2**24, -(2**24)), (2**24, 2**24), (-(2**24), 2**24)]
    assert polygon(far, 5, 7).all()
    assert not polygon([(x + 2**24, y) for x, y in far[:2]] + [(2**24, 0)], 5, 7).any()


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), sides, sides, st.floats(0, 1))
def test_run_lengths_are_those_of_pycocotools(seed: int, height: int, width: int, share: float) -> None:
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    letters = run_lengths(mask, packed=True)["counts"].encode()
    runs = np.zeros(len(letters), np.int64)
    count = unpack_runs(np.frombuffer(letters, np.uint8), runs)
    assert runs[:count].tolist() == run_lengths(mask, packed=False)["counts"]
    inside = np.zeros((width, height), np.uint8)
    add_runs(runs[:count], inside.reshape(-1))
    np.testing.assert_array_equal(inside.T, mask)


@pytest.mark.parametrize(
    ("letters", "runs"),
    [
        (b"", []),
        (b"05", [0, 5]),
        (b"0", [0]),
        (b"@", [-16]),
        (b"_1", [47]),
        (b"P", None),  # one more letter was to come
        (b"PPPPPPP", None),
        (b"PPPPPPP0", None),  # forty bits
        (b"PPPPPP0", [0]),
        (b"/", None),
        (b"p", None),
        (b"\xff", None),
        (b"1111O", [1, 1, 1, 2, 0]),
    ],
)
def test_letters_of_run_lengths(letters: bytes, runs: list[int] | None) -> None:
    found = np.zeros(len(letters), np.int64)
    count = unpack_runs(np.frombuffer(letters, np.uint8), found)
    assert (None if count == DAMAGED else found[:count].tolist()) == runs


def test_smaller_regions_are_in_front() -> None:
    mask, sizes = np.zeros((4, 3), np.uint16), np.full((4, 3), 99, np.int32)
    whole, part = np.ones((4, 3), np.uint8), np.array([[1, 0], [1, 1]], np.uint8)
    paint(part, 1, 1, 7, 3, sizes, mask)
    paint(whole, 0, 0, 300, 12, sizes, mask)
    paint(part[:1], 0, 0, 5, 12, sizes, mask)  # as large, and later
    assert mask.T.tolist() == [[5, 300, 300, 300], [300, 7, 7, 300], [300, 300, 7, 300]]
