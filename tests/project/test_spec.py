from __future__ import annotations

import doctest
import json
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arraystore import ImageSpec, SpecError

SIDES = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must be 1 to 65535 pixels on each side, not 0"),
        ({"size": (5, 65_536)}, "size must be 1 to 65535 pixels on each side, not (5, 65536)"),
        ({"size": -3}, "size must be 1 to 65535 pixels on each side, not -3"),
        ({"size": 2.5}, "size must be a whole number of pixels, or (height, width), not 2.5"),
        ({"size": "256"}, "size must be a whole number of pixels, or (height, width), not '256'"),
        ({"size": True}, "size must be a whole number of pixels, or (height, width), not True"),
        ({"size": (1, 2, 3)}, "size must be a whole number of pixels, or (height, width), not (1, 2, 3)"),
        ({"size": (1, 2.0)}, "size must be a whole number of pixels, or (height, width), not (1, 2.0)"),
        ({"size": None}, "size is missing: pass size=256, or (height, width), in pixels"),
        ({"fit": "cover"}, "fit must be one of 'stretch', 'crop', 'pad', 'keep', not 'cover'"),
        (
            {"filter": "area"},
            "filter must be one of 'nearest', 'box', 'bilinear', 'hamming', 'bicubic', 'lanczos', not 'area'",
        ),
        (
            {"filter": None},
            "filter must be one of 'nearest', 'box', 'bilinear', 'hamming', 'bicubic', 'lanczos', not None",
        ),
        ({"color": "bgr"}, "color must be one of 'rgb', 'gray', not 'bgr'"),
        ({"layout": "CHW"}, "layout must be one of 'NCHW', 'NHWC', not 'CHW'"),
        ({"layout": ["NCHW"]}, "layout must be one of 'NCHW', 'NHWC', not ['NCHW']"),
        ({"background": (0, 0, 256)}, "background must be (red, green, blue), each 0 to 255, not (0, 0, 256)"),
        ({"background": (0, 0)}, "background must be (red, green, blue), each 0 to 255, not (0, 0)"),
        ({"background": 255}, "background must be (red, green, blue), each 0 to 255, not 255"),
        ({"background": (0.0, 0, 0)}, "background must be (red, green, blue), each 0 to 255, not (0.0, 0, 0)"),
        ({"max_pixels": 0}, "max_pixels must be a whole number of 1 or more, not 0"),
        ({"max_pixels": 1e9}, "max_pixels must be a whole number of 1 or more, not 1000000000.0"),
        ({"max_pixels": True}, "max_pixels must be a whole number of 1 or more, not True"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        ImageSpec(**({"size": 8} | options))
    assert str(caught.value) == message
    assert caught.value.reason == message


def test_the_defaults() -> None:
    assert ImageSpec(size=256).to_dict() == {
        "size": [256, 256],
        "fit": "stretch",
        "filter": "bilinear",
        "color": "rgb",
        "layout": "NCHW",
        "background": [255, 255, 255],
        "exact": False,
        "max_pixels": 178_000_000,
    }


def test_numbers_of_numpy_become_plain_ones() -> None:
    spec = ImageSpec(size=(np.int64(5), np.uint8(7)), background=[np.uint8(1)] * 3, max_pixels=np.int32(9))  # type: ignore[arg-type]
    assert json.loads(json.dumps(spec.to_dict())) == spec.to_dict()
    assert spec == ImageSpec(size=(5, 7), background=(1, 1, 1), max_pixels=9)


def test_a_spec_cannot_change() -> None:
    spec = ImageSpec(size=8)
    with pytest.raises(FrozenInstanceError):
        spec.fit = "pad"  # type: ignore[misc]
    assert hash(spec) == hash(ImageSpec(size=(8, 8)))
    assert spec != ImageSpec(size=(8, 9))


def test_options_are_keywords() -> None:
    with pytest.raises(TypeError):
        ImageSpec(8)  # type: ignore[call-arg, misc]


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_shape_of_a_slot(color: Any, layout: Any) -> None:
    spec = ImageSpec(size=(5, 7), color=color, layout=layout)
    channels = 3 if color == "rgb" else 1
    assert spec.channels == channels
    assert spec.slot_shape == ((channels, 5, 7) if layout == "NCHW" else (5, 7, channels))
    assert spec.slot_bytes == channels * 35
    assert (spec.height, spec.width) == (5, 7)


@given(
    st.tuples(st.integers(1, 65_535), st.integers(1, 65_535)),
    st.sampled_from(["stretch", "crop", "pad"]),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.booleans(),
)
def test_a_spec_round_trips(size: tuple[int, int], fit: Any, background: tuple[int, int, int], exact: bool) -> None:
    spec = ImageSpec(size=size, fit=fit, background=background, exact=exact)
    assert ImageSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize(
    ("values", "detail"),
    [({"size": 8, "b": 1, "a": 2}, "unknown fields ['a', 'b']"), ({"fit": "pad"}, "no field 'size'")],
)
def test_what_is_no_spec_is_refused(values: dict[str, Any], detail: str) -> None:
    with pytest.raises(SpecError) as caught:
        ImageSpec.from_dict(values)
    known = (
        "['background', 'color', 'encode', 'exact', 'filter', 'fit', 'icc', 'layout', 'levels', 'max_pixels', "
        "'size', 'truncated']"
    )
    assert str(caught.value) == f"this is not the spec of an image: {detail}; known fields are {known}"


# --- geometry --------------------------------------------------------------------------------------------------------


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["stretch", "crop", "pad"]))
def test_every_placement_lies_in_the_image_and_in_the_slot(
    height: int, width: int, slot_height: int, slot_width: int, fit: Any
) -> None:
    spec = ImageSpec(size=(slot_height, slot_width), fit=fit)
    place = spec.place(height, width)
    left, top, right, bottom = place.box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert place.height >= 1
    assert place.width >= 1
    assert 0 <= place.top <= slot_height - place.height
    assert 0 <= place.left <= slot_width - place.width
    if fit == "stretch":
        assert place.box == (0, 0, width, height)
    if fit != "pad":
        assert (place.height, place.width, place.top, place.left) == (slot_height, slot_width, 0, 0)
    if fit == "crop":
        assert place.box[:2] == (0, 0) or left == 0 or top == 0
        ratio = (right - left) / (bottom - top)
        assert ratio == pytest.approx(slot_width / slot_height, rel=1e-9)
        assert left == pytest.approx(width - right, abs=1e-9)
    if fit == "pad":
        assert place.height == slot_height or place.width == slot_width


def test_the_examples_in_the_text_are_right() -> None:
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(ImageSpec, "ImageSpec", module=False, globs={"ImageSpec": ImageSpec}):
        runner.run(example)
    result = runner.summarize()
    assert (result.failed, result.attempted) == (0, 3)
