"""The kernel's pixels are Pillow's, bit for bit, whatever the sizes, the filter and the part of the image."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support import images

from arraystore import ImageSpec
from arraystore._common.scratch import Buffers
from arraystore._decoding.decode import decode_into
from arraystore._kernels.resample import resize
from arraystore.spec import Filter

METHODS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FILTERS = st.sampled_from(sorted(METHODS))
FITS = {"crop": ImageOps.fit, "pad": ImageOps.pad}


def test_every_filter_is_compared() -> None:
    assert set(METHODS) == set(get_args(Filter))


def check(pixels: images.Pixels, height: int, width: int, name: Any, box: Any = None) -> None:
    before = pixels.copy()
    out = np.full((height, width, *pixels.shape[2:]), 77, np.uint8)
    whole = (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
    resize(pixels, out, box=box or whole, name=name)
    expected = np.asarray(Image.fromarray(pixels).resize((width, height), METHODS[name], box or whole))
    np.testing.assert_array_equal(out, expected)
    # Into a part of a larger array, and there into planes: both are how slots are written.
    larger = np.full((3, height + 2, width + 5) if out.ndim == 3 else (height + 2, width + 5), 77, np.uint8)
    inside = larger[..., 1:-1, 2:-3]
    resize(pixels, inside.transpose(1, 2, 0) if out.ndim == 3 else inside, box=box or whole, name=name)
    np.testing.assert_array_equal(inside, expected.transpose(2, 0, 1) if out.ndim == 3 else expected)
    inside[...] = 77
    assert (larger == 77).all()
    np.testing.assert_array_equal(pixels, before)


@settings(max_examples=150)
@given(
    st.integers(1, 600), st.integers(1, 600), st.integers(1, 400), st.integers(1, 400), FILTERS, st.sampled_from([1, 3])
)
@example(1, 1, 1, 1, "lanczos", 3)
@example(1, 1, 400, 400, "bicubic", 3)
@example(600, 1, 1, 400, "hamming", 1)
@example(1, 600, 400, 1, "bilinear", 3)
@example(333, 222, 333, 222, "lanczos", 3)
@example(1, 9, 1, 9, "bilinear", 3)
@example(9, 1, 9, 1, "nearest", 1)
@example(333, 222, 333, 111, "box", 3)
@example(333, 222, 111, 222, "bicubic", 1)
def test_any_size_to_any_other_equals_pillow(
    height: int, width: int, to_height: int, to_width: int, name: Any, channels: int
) -> None:
    check(images.noise(height, width, channels), to_height, to_width, name)


@st.composite
def boxed(draw: st.DrawFn) -> tuple[int, int, tuple[float, float, float, float]]:
    height, width = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    sides = []
    for length in (width, height):
        start = draw(st.floats(0, length * 0.9))
        stop = draw(st.floats(start + length * 0.05, length))
        sides.append((start, stop))
    return height, width, (sides[0][0], sides[1][0], sides[0][1], sides[1][1])


@settings(max_examples=150)
@given(boxed(), st.integers(1, 150), st.integers(1, 150), FILTERS, st.sampled_from([1, 3]))
def test_any_part_equals_pillow(
    part: tuple[int, int, Any], to_height: int, to_width: int, name: Any, channels: int
) -> None:
    height, width, box = part
    check(images.noise(height, width, channels), to_height, to_width, name, box)


@pytest.fixture(params=["fastest", "portable"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kernels, whatever this processor has; where it lacks the instructions both are the portable one."""
    if request.param == "portable":
        monkeypatch.setattr("arraystore._kernels.vectors.plan_avx512.plan_columns", lambda *_args, **_options: None)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("name", METHODS)
def test_random_sizes_and_boxes_equal_pillow(name: str) -> None:
    rng = np.random.default_rng(20150101)
    for seed in range(60):
        height, width = rng.integers(1, 600, 2).tolist()
        to_height, to_width = rng.integers(1, 400, 2).tolist()
        box = None
        if seed % 2:
            left, right = sorted(rng.uniform(0, width, 2))
            top, bottom = sorted(rng.uniform(0, height, 2))
            if right - left < 0.01 or bottom - top < 0.01:
                continue
            box = (float(left), float(top), float(right), float(bottom))
        check(images.noise(height, width, 1 + 2 * (seed % 3 > 0), seed=seed), to_height, to_width, name, box)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("size", "to"),
    [
        ((1, 1), (1, 1)),
        ((1, 1), (7, 5)),
        ((1, 9), (9, 1)),
        ((5000, 3), (7, 3)),
        ((3, 5000), (3, 7)),
        ((5000, 2), (1, 1)),
        ((64, 64), (64, 64)),
        ((64, 64), (64, 63)),
        ((64, 64), (65, 64)),
        ((300, 200), (128, 86)),
    ],
)
def test_extremes_equal_pillow(size: tuple[int, int], to: tuple[int, int], name: str) -> None:
    check(images.noise(*size), *to, name)
    check(images.noise(*size, 1), *to, name)


@pytest.mark.parametrize("name", METHODS)
def test_black_and_white_edges_are_clipped(name: str) -> None:
    stripes = np.zeros((90, 91, 3), np.uint8)
    stripes[::7] = 255
    stripes[:, 13:40] = 255
    check(stripes, 64, 64, name)
    check(stripes, 200, 233, name)


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("name", METHODS)
def test_one_color_stays_that_color(name: Any, value: int) -> None:
    out = np.zeros((37, 41, 3), np.uint8)
    resize(np.full((123, 77, 3), value, np.uint8), out, box=(0.3, 0.7, 76.1, 122.9), name=name)
    assert (out == value).all()


@pytest.mark.parametrize("color", ["rgb", "gray"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", METHODS)
def test_crop_and_pad_equal_pillow(fit: str, name: Any, layout: Any, color: Any) -> None:
    rng = np.random.default_rng(7)
    for seed in range(12):
        height, width = rng.integers(1, 250, 2).tolist()
        size = tuple(rng.integers(1, 120, 2).tolist())
        spec = ImageSpec(size=size, fit=fit, filter=name, layout=layout, color=color, background=(200, 100, 50))  # type: ignore[arg-type]
        pixels = images.noise(height, width, seed=seed)
        before = pixels.copy()
        slot = np.empty(spec.slot_shape, np.uint8)
        assert decode_into(pixels, slot, spec)[:2] == (height, width)
        image = Image.fromarray(pixels)
        options: dict[str, Any] = {} if fit == "crop" else {"color": (200, 100, 50)}
        if color == "gray":
            image = image.convert("L")
            options = (
                {}
                if fit == "crop"
                else {"color": Image.new("RGB", (1, 1), (200, 100, 50)).convert("L").getpixel((0, 0))}
            )
        expected = np.asarray(FITS[fit](image, size[::-1], METHODS[name], **options)).reshape(*size, -1)
        shown = slot.transpose(1, 2, 0) if layout == "NCHW" else slot
        np.testing.assert_array_equal(shown, expected, err_msg=f"{height} x {width} to {size}")
        np.testing.assert_array_equal(pixels, before)


@settings(max_examples=80)
@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 200), st.integers(1, 200), st.sampled_from(sorted(FITS))
)
def test_any_crop_and_pad_equals_pillow(height: int, width: int, to_height: int, to_width: int, fit: Any) -> None:
    # Where a side would round to nothing Pillow shows background alone; here one row or column of the image stays.
    assume(fit == "crop" or min(round(height / width * to_width), round(width / height * to_height)) >= 1)
    spec = ImageSpec(size=(to_height, to_width), fit=fit, layout="NHWC", background=(0, 0, 0))
    pixels = images.noise(height, width)
    slot = np.empty(spec.slot_shape, np.uint8)
    decode_into(pixels, slot, spec)
    expected = FITS[fit](Image.fromarray(pixels), (to_width, to_height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(slot, np.asarray(expected))


@pytest.mark.parametrize("size", [(1, 200), (200, 1)])
def test_padding_never_loses_the_image(size: tuple[int, int]) -> None:
    spec = ImageSpec(size=50, fit="pad", layout="NHWC", background=(0, 0, 0))
    slot = np.empty(spec.slot_shape, np.uint8)
    decode_into(np.full((*size, 3), 255, np.uint8), slot, spec)
    assert (slot == 255).all(axis=2).sum() == 50


def test_parts_of_wider_arrays_are_read_where_they_lie() -> None:
    wide = images.noise(80, 90)
    out = np.empty((20, 30, 3), np.uint8)
    resize(wide[10:70], out, box=(0.0, 0.0, 90.0, 60.0), name="bicubic")
    expected = Image.fromarray(wide[10:70]).resize((30, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(out, np.asarray(expected))


def test_threads_do_not_share_scratch_memory() -> None:
    cases = [(images.noise(100 + 13 * i, 220 - 17 * i, seed=i), (30 + i, 50 - i)) for i in range(8)]

    def shrink(case: tuple[images.Pixels, tuple[int, int]]) -> images.Pixels:
        pixels, size = case
        out = np.empty((*size, 3), np.uint8)
        resize(pixels, out, box=(0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0])), name="lanczos")
        return out

    expected = [shrink(case) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(shrink, cases * 20), expected * 20, strict=True):
            np.testing.assert_array_equal(got, want)


def test_scratch_memory_is_kept_but_not_what_one_huge_image_needed() -> None:
    buffers = Buffers()
    small = buffers.get("x", 10, 10)
    assert small.shape == (10, 10)
    assert np.shares_memory(buffers.get("x", 7, 3), small)
    assert not np.shares_memory(buffers.get("y", 10), small)
    huge = buffers.get("x", Buffers.keep_bytes + 1)
    assert not np.shares_memory(buffers.get("x", 9), huge)
    others: list[bool] = []
    thread = threading.Thread(target=lambda: others.append(np.shares_memory(buffers.get("x", 5), small)))
    thread.start()
    thread.join()
    assert others == [False]
