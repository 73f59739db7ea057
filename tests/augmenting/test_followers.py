"""Boxes, keypoints and masks stay on what they mark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arraystore._augmenting.crops import GEOMETRY, Geometry
from arraystore._augmenting.followers import Sizes, follow_boxes, follow_keypoints, follow_masks
from arraystore.errors import SpecError

SLOT = (40, 60)


def geometry(*rows: tuple[int, ...]) -> Geometry:
    return np.array([tuple(row) for row in rows], GEOMETRY)


@st.composite
def cases(draw: st.DrawFn, *, scaled: bool | None = None) -> tuple[Geometry, tuple[int, int]]:
    """Windows inside the slot that are resized, or of one size and anywhere."""
    height, width = SLOT
    size = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        flips = draw(st.integers(0, 1)), draw(st.integers(0, 1))
        if draw(st.booleans()) if scaled is None else scaled:
            h, w = draw(st.integers(1, height)), draw(st.integers(1, width))
            rows.append((draw(st.integers(0, height - h)), draw(st.integers(0, width - w)), h, w, *flips))
        else:
            rows.append((draw(st.integers(-75, 45)), draw(st.integers(-75, 65)), *size, *flips))
    return geometry(*rows), size


def slow_point(x: float, y: float, row: Any, size: tuple[int, int]) -> tuple[float, float]:
    top, left, height, width, hflip, vflip = row
    x, y = (x - left) / width * size[1], (y - top) / height * size[0]
    return (size[1] - x if hflip else x), (size[0] - y if vflip else y)


@given(cases(), st.integers(0, 2**31), st.sampled_from(["float32", "float64", "int64", "int16"]))
def test_points_and_boxes_move_as_one_by_one(case: Any, seed: int, dtype: str) -> None:
    rows, size = case
    rng = np.random.default_rng(seed)
    points = rng.uniform(-20, 80, (len(rows), 5, 2)).astype(dtype)
    moved = follow_keypoints(points, rows, Sizes(SLOT, size))
    sides = np.sort(rng.uniform(0, 60, (len(rows), 3, 2, 2)), axis=2).reshape(len(rows), 3, 4).astype(dtype)
    boxes = follow_boxes(sides, rows, Sizes(SLOT, size))
    assert (moved.dtype, boxes.dtype, boxes.shape) == (points.dtype, points.dtype, sides.shape)
    tolerance = {"rtol": 1e-5, "atol": 1e-3 if dtype == "float32" else 1e-9 if dtype == "float64" else 0.5 + 1e-6}
    for i, row in enumerate(rows.tolist()):
        expected = [slow_point(*point, row, size) for point in points[i].astype(float).tolist()]
        np.testing.assert_allclose(moved[i], expected, **tolerance)
        for box, found in zip(sides[i].astype(float).tolist(), boxes[i], strict=True):
            corners = np.array([slow_point(*box[:2], row, size), slow_point(*box[2:], row, size)])
            low, high = (np.clip(end, 0, size[::-1]) for end in (corners.min(axis=0), corners.max(axis=0)))
            np.testing.assert_allclose(found, [*low, *high], **tolerance)


def test_a_box_around_all_stays_around_all() -> None:
    rows = geometry((0, 0, 40, 60, 1, 1), (5, 10, 20, 30, 1, 0), (-4, -4, 40, 60, 0, 0))
    boxes = np.array([[0, 0, 60, 40]] * 3)
    assert follow_boxes(boxes[:2], rows[:2], Sizes(SLOT, (80, 80))).tolist() == [[0, 0, 80, 80]] * 2
    assert follow_boxes(boxes[2:], rows[2:], Sizes(SLOT, (40, 60))).tolist() == [[4, 4, 60, 40]]


def test_a_box_that_is_not_shown_has_no_area_and_none_stays_none() -> None:
    rows = geometry((10, 10, 20, 20, 1, 0))
    boxes = np.array([[[0, 0, 10, 10], [50, 12, 60, 14], [np.nan] * 4]], np.float32)
    moved = follow_boxes(boxes, rows, Sizes(SLOT, (20, 20)))
    assert moved.tolist()[0][:2] == [[20, 0, 20, 0], [0, 2, 0, 4]]
    assert np.isnan(moved[0, 2]).all()
    assert boxes[0, 0].tolist() == [0, 0, 10, 10]  # what was passed stays as it was


def test_points_at_the_ends_of_small_integers_do_not_wrap() -> None:
    rows = geometry((0, 0, 1, 1, 0, 0))
    assert follow_keypoints(np.array([[60, 0]], np.uint8), rows, Sizes(SLOT, (70, 70))).tolist() == [[255, 0]]


@given(cases(scaled=True), st.integers(0, 2**31), st.booleans())
def test_resized_masks_are_pillows_nearest(case: Any, seed: int, several: bool) -> None:
    rows, size = case
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 256, (len(rows), *((2,) if several else ()), *SLOT), np.uint8)
    moved = follow_masks(masks, rows, Sizes(SLOT, size))
    for i, (top, left, height, width, hflip, vflip) in enumerate(rows.tolist()):
        for plane, found in zip(masks[i].reshape(-1, *SLOT), moved[i].reshape(-1, *size), strict=True):
            image = Image.fromarray(plane).crop((left, top, left + width, top + height))
            image = image.resize(size[::-1], Image.Resampling.NEAREST)
            expected = np.asarray(image)[:: -1 if vflip else 1, :: -1 if hflip else 1]
            np.testing.assert_array_equal(found, expected)


@given(cases(scaled=False), st.sampled_from(["bool", "int64", "float32"]), st.booleans())
def test_cropped_masks_are_zero_beyond_the_slot(case: Any, dtype: str, several: bool) -> None:
    rows, size = case
    shape = (len(rows), *((2,) if several else ()), *SLOT)
    masks = np.random.default_rng(0).integers(1, 200, shape).astype(dtype)
    moved = follow_masks(masks, rows, Sizes(SLOT, size))
    assert (moved.dtype, moved.shape) == (masks.dtype, (*shape[:-2], *size))
    frame = ((0, 0),) * (masks.ndim - 2) + ((200, 200), (200, 200))
    padded = np.pad(masks, frame)
    for i, (top, left, height, width, hflip, vflip) in enumerate(rows.tolist()):
        part = padded[i][..., top + 200 : top + 200 + height, left + 200 : left + 200 + width]
        np.testing.assert_array_equal(moved[i], part[..., :: -1 if vflip else 1, :: -1 if hflip else 1])


@pytest.mark.parametrize(
    ("follow", "values", "message"),
    [
        (
            follow_boxes,
            np.zeros((1, 3)),
            "boxes must be numbers, (N, ..., 4), the target has shape (1, 3) and type float64",
        ),
        (follow_boxes, np.zeros(4), "boxes must be numbers, (N, ..., 4), the target has shape (4,) and type float64"),
        (
            follow_keypoints,
            np.zeros((1, 2), bool),
            "keypoints must be numbers, (N, ..., 2), the target has shape (1, 2) and type bool",
        ),
        (
            follow_masks,
            np.zeros((1, 60, 40)),
            (
                "a mask must have the 40 × 60 pixels of its slot, (N, H, W) or (N, C, H, W), "
                "the target has shape (1, 60, 40)"
            ),
        ),
    ],
)
def test_targets_that_cannot_follow(follow: Any, values: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        follow(values, geometry((0, 0, 40, 60, 0, 0)), Sizes(SLOT, (40, 60)))
    assert str(error.value) == f"{message}: take it out of follow="
