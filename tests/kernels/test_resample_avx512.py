"""The AVX-512 passes equal the portable ones and Pillow, bit for bit, and touch no byte outside their arrays.

On machines without the instructions the same tests hold that the planners hand every image to the portable kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.fences import Fenced

from arraystore._kernels import resample
from arraystore._kernels.filters import weights_for
from arraystore._kernels.vectors import avx512, plan_avx512, resample_avx512
from arraystore.spec import Filter

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]

FILTERS: dict[Filter, Image.Resampling] = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def like(image: Pixels, height: int, width: int, *, planar: bool) -> Pixels:
    if planar and image.ndim == 3:
        return np.zeros((3, height, width), np.uint8).transpose(1, 2, 0)
    return np.zeros((height, width, *image.shape[2:]), np.uint8)


def plans(
    image: Pixels, box: Box, out: Pixels, name: Filter
) -> tuple[Pixels, bool, plan_avx512.Columns | None, plan_avx512.Rows | None]:
    """The part of the image that counts, whether rows come first, and the plans."""
    left, top, right, bottom = box
    height, width = out.shape[:2]
    across = weights_for(name, image.shape[1], left, right, width)
    down = weights_for(name, image.shape[0], top, bottom, height)
    rows_first = resample.rows_come_first(*image.shape[:2], height, width)
    channels = 3 if image.ndim == 3 else 1
    columns = plan_avx512.plan_columns(across, channels, planar=resample_avx512.is_planar(out))
    part = image[down.low : down.high, across.low : across.high]
    return part, rows_first, columns, plan_avx512.plan_rows(down)


def resize(image: Pixels, box: Box, out: Pixels, name: Filter) -> bool:
    """Both passes; False, with ``out`` left alone, if they are not for this image."""
    part, rows_first, columns, rows = plans(image, box, out, name)
    if not avx512.supported():
        assert columns is None
        assert rows is None
    if columns is None or rows is None:
        return False
    if rows_first:
        between = like(image, out.shape[0], part.shape[1], planar=False)
        resample_avx512.blend_rows(part, rows, between)
        resample_avx512.blend_columns(between, columns, out)
    else:
        between = like(image, part.shape[0], out.shape[1], planar=resample_avx512.is_planar(out))
        resample_avx512.blend_columns(part, columns, between)
        resample_avx512.blend_rows(between, rows, out)
    return True


def check(image: Pixels, box: Box, size: tuple[int, int], name: Filter, *, planar: bool) -> bool:
    out = like(image, *size, planar=planar)
    done = resize(image, box, out, name)
    if done:
        portable = like(image, *size, planar=False)
        resample.resize(image, portable, box=box, name=name)
        np.testing.assert_array_equal(out, portable)
        pillow = Image.fromarray(image).resize(size[::-1], FILTERS[name], box=box)
        np.testing.assert_array_equal(out, np.asarray(pillow))
    return done


def random_pixels(rng: np.random.Generator, shape: tuple[int, ...]) -> Pixels:
    """Noise, or black and white, which overshoots the most, or one value, which must stay as it is."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(0, 256, shape, np.uint8)
    if kind == 1:
        return (rng.integers(0, 2, shape) * 255).astype(np.uint8)
    return np.full(shape, rng.choice([0, 1, 128, 254, 255]), np.uint8)


@st.composite
def _cases(draw: st.DrawFn) -> tuple[Pixels, Box, tuple[int, int], Filter, bool]:
    height, width = draw(st.integers(1, 600)), draw(st.integers(1, 600))
    shape = (height, width, 3) if draw(st.booleans()) else (height, width)
    image = random_pixels(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), shape)
    box = (0.0, 0.0, float(width), float(height))
    if draw(st.booleans()):
        whole = draw(st.booleans())
        left, top = draw(st.floats(0, width - 1)), draw(st.floats(0, height - 1))
        right, bottom = draw(st.floats(left + 1, width)), draw(st.floats(top + 1, height))
        box = (left, top, right, bottom)
        if whole:
            box = (float(int(left)), float(int(top)), float(int(right)), float(int(bottom)))
    size = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    return image, box, size, draw(st.sampled_from(sorted(FILTERS))), draw(st.booleans())


@settings(max_examples=150, deadline=None)
@given(_cases())
def test_equals_the_portable_kernel_and_pillow(case: tuple[Pixels, Box, tuple[int, int], Filter, bool]) -> None:
    image, box, size, name, planar = case
    check(image, box, size, name, planar=planar)


def test_equals_them_for_a_thousand_random_images() -> None:
    rng = np.random.default_rng(5)
    done = 0
    for _ in range(1000):
        height, width, h, w = (int(n) for n in (*rng.integers(1, 400, 2), *rng.integers(16, 300, 2)))
        shape = (height, width, 3) if rng.random() < 0.7 else (height, width)
        left, top = rng.random() * width * 0.3, rng.random() * height * 0.3
        box = (left, top, width - rng.random() * width * 0.3, height - rng.random() * height * 0.3)
        name = list(FILTERS)[rng.integers(5)]
        done += check(random_pixels(rng, shape), box, (h, w), name, planar=bool(rng.integers(2)))
    assert done > 700 if avx512.supported() else done == 0


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("planar", [True, False])
@pytest.mark.parametrize(
    ("image_size", "size"),
    [
        ((375, 500), (256, 256)),
        ((480, 640), (224, 224)),
        ((756, 1008), (256, 256)),
        ((256, 256), (256, 256)),
        ((150, 150), (256, 256)),
        ((500, 375), (64, 48)),
        ((1500, 90), (16, 80)),  # the rows shrink much more: they come first
    ],
)
@pytest.mark.parametrize("channels", [(3,), ()])
def test_common_shapes_are_not_left_to_the_portable_kernel(
    *, name: Filter, planar: bool, image_size: tuple[int, int], size: tuple[int, int], channels: tuple[int, ...]
) -> None:
    image = random_pixels(np.random.default_rng(1), (*image_size, *channels))
    box = (0.0, 0.0, float(image_size[1]), float(image_size[0]))
    assert check(image, box, size, name, planar=planar) == avx512.supported()


@pytest.mark.parametrize("shape", [(40, 21, 3), (40, 63), (40, 22, 3), (40, 64)])
@pytest.mark.parametrize("width", [15, 16, 17, 47, 48, 49])
def test_a_row_must_hold_a_window_and_a_group(shape: tuple[int, ...], width: int) -> None:
    channels = 3 if len(shape) == 3 else 1
    fits = shape[1] * channels >= 64 and width * channels >= 48
    image = random_pixels(np.random.default_rng(2), shape)
    box = (0.0, 0.0, float(shape[1]), 40.0)
    assert check(image, box, (30, width), "bilinear", planar=True) == (fits and avx512.supported())


@pytest.mark.parametrize("at_end", [True, False])
def test_no_byte_outside_the_arrays_is_touched(*, at_end: bool) -> None:
    rng = np.random.default_rng(3)
    source, target, between = Fenced(300 * 300 * 3), Fenced(200 * 200 * 3), Fenced(300 * 300 * 3)
    done = 0
    for _ in range(300):
        height, width, h, w = (int(n) for n in (*rng.integers(1, 300, 2), *rng.integers(1, 200, 2)))
        color = (3,) if rng.random() < 0.7 else ()
        image = source.place((height, width, *color), at_end=at_end)
        image[...] = rng.integers(0, 256, image.shape, np.uint8)
        planar = bool(color) and rng.random() < 0.5
        target.place((target.room,), at_end=at_end)[:] = 77

        def fenced(memory: Fenced, rows: int, columns: int, *, planes: bool, color: tuple[int, ...] = color) -> Pixels:
            if planes:
                return memory.place((3, rows, columns), at_end=at_end).transpose(1, 2, 0)
            return memory.place((rows, columns, *color), at_end=at_end)

        out = fenced(target, h, w, planes=planar)
        name = list(FILTERS)[rng.integers(5)]
        box = (0.0, 0.0, float(width), float(height))
        part, _, columns, rows = plans(image, box, out, name)
        if columns is None or rows is None:
            continue
        done += 1
        narrow = fenced(between, part.shape[0], w, planes=planar)
        resample_avx512.blend_columns(part, columns, narrow)
        resample_avx512.blend_rows(narrow, rows, out)
        everything = target.place((target.room,), at_end=at_end)
        beyond = everything[: -out.size] if at_end else everything[out.size :]
        assert (beyond == 77).all()
        short = fenced(between, h, part.shape[1], planes=False)
        resample_avx512.blend_rows(part, rows, short)
        resample_avx512.blend_columns(short, columns, out)
        assert (beyond == 77).all()
    assert done > 150 if avx512.supported() else done == 0


def test_a_fence_faults() -> None:
    """The test above would notice: a read one byte past the end kills the process."""
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import ctypes\nfrom support.fences import Fenced\n"
        "last = Fenced(10).place((10,), at_end=True)\n"
        "ctypes.string_at(last.ctypes.data, 10)\nprint('inside', flush=True)\nctypes.string_at(last.ctypes.data, 11)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout == "inside\n", result.stderr
    assert result.returncode < 0


def test_parts_of_larger_arrays() -> None:
    """Rows that are further apart than they are long, read only on one side, and bytes between them left alone."""
    rng = np.random.default_rng(4)
    whole = rng.integers(0, 256, (120, 200, 3), np.uint8)
    whole.flags.writeable = False
    part = whole[11:101, 13:113]
    slots = np.full((3, 80, 90), 77, np.uint8)
    out = slots[:, 5:65, 7:77].transpose(1, 2, 0)
    box = (0.0, 0.0, 100.0, 90.0)
    if resize(part, box, out, "bicubic"):
        expected = Image.fromarray(part).resize((70, 60), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(out, np.asarray(expected))
    else:
        assert not avx512.supported()
        assert (out == 77).all()
    slots[:, 5:65, 7:77] = 77
    assert (slots == 77).all()


def test_arrays_that_were_not_planned_for_are_refused() -> None:
    image, out = np.zeros((40, 100, 3), np.uint8), np.zeros((30, 50, 3), np.uint8)
    _, _, columns, rows = plans(image, (0.0, 0.0, 100.0, 40.0), out, "bilinear")
    if columns is None or rows is None:
        assert not avx512.supported()
        return
    narrow = np.zeros((40, 50, 3), np.uint8)
    frozen, frozen_out = narrow.copy(), out.copy()
    frozen.flags.writeable = frozen_out.flags.writeable = False
    for bad_image, bad_out in (
        (image[:, 1:], narrow),
        (image[1:], narrow),
        (image, narrow[:, 1:]),
        (image, frozen),
        (image[:, :, 0].copy(), narrow),
        (image, np.zeros((3, 40, 50), np.uint8).transpose(1, 2, 0)),
        (np.zeros((3, 40, 100), np.uint8).transpose(1, 2, 0), narrow),
    ):
        with pytest.raises(ValueError, match="planned for other arrays"):
            resample_avx512.blend_columns(bad_image, columns, bad_out)
    for bad_image, bad_out in (
        (narrow[1:], out),
        (narrow, out[1:]),
        (narrow, frozen_out),
        (narrow[:, 1:], out),
        (narrow[:, :, 0].copy(), out),
    ):
        with pytest.raises(ValueError, match="planned for other arrays"):
            resample_avx512.blend_rows(bad_image, rows, bad_out)
    with pytest.raises(ValueError, match="side by side"):
        resample_avx512.blend_columns(image[:, ::2], columns, narrow)


def test_weights_of_more_than_three_digits_are_refused() -> None:
    weights = weights_for("bilinear", 100, 0.0, 100.0, 50)
    heavy = weights.weights.copy()
    heavy[7, 1] = 128 << 16
    assert plan_avx512.plan_columns(replace(weights, weights=heavy), 3, planar=True) is None
    assert plan_avx512.plan_rows(replace(weights, weights=heavy)) is None


def test_an_output_row_without_weights_reads_its_first_row_only() -> None:
    weights = weights_for("bilinear", 100, 0.0, 100.0, 50)
    rows = plan_avx512.plan_rows(replace(weights, weights=np.zeros_like(weights.weights)))
    assert (rows is not None) == avx512.supported()
    if rows is not None:
        assert (rows.last < weights.count).all()
        out = np.ones((50, 80), np.uint8)
        resample_avx512.blend_rows(np.full((100, 80), 255, np.uint8), rows, out)
        assert not out.any()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ARRAYSTORE_PORTABLE", "1"),
        ("NUMBA_CPU_NAME", "generic"),
        ("NUMBA_DISABLE_JIT", "1"),
        pytest.param("NUMBA_CPU_FEATURES", "+sse2", marks=pytest.mark.long),
        pytest.param("NUMBA_ENABLE_AVX", "0", marks=pytest.mark.long),
    ],
)
def test_the_portable_kernel_where_the_instructions_are_not_to_be_used(variable: str, value: str) -> None:
    code = (
        "from types import FunctionType\nfrom arraystore._kernels.vectors import avx512, resample_avx512\n"
        "assert not avx512.supported()\n"
        "assert isinstance(resample_avx512.rows_kernel, FunctionType), 'compiled nevertheless'\n"
    )
    env = {**os.environ, variable: value, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=400)


def test_a_processor_without_all_the_instructions_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: {"avx512bw": True, "avx512vbmi": True})
    assert not avx512._detect()


def test_llvm_that_cannot_tell_means_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> None:
        raise RuntimeError("no features on this platform")

    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", unknown)
    assert not avx512._detect()


def test_a_kernel_that_does_not_compile_means_not_supported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(avx512, "_detected", True)
    monkeypatch.setattr(avx512, "_failures", [])

    def broken(number: int) -> int:
        return number.no_such_attribute  # type: ignore[attr-defined,no-any-return]

    assert avx512.compiled_avx512("int64(int64)")(broken) is broken
    assert not avx512.supported()
    assert "resampled by the portable kernel" in caplog.text
