"""Options become batches: of any layout and type, from any array, the same however the work is split."""

from __future__ import annotations

import doctest
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support import images

from arraystore import Augment, CenterCrop, PadAndCrop, RandomCrop, RandomResizedCrop
from arraystore.errors import SpecError

MEAN, STD = (120.0, 110.0, 100.0), (50.0, 60.0, 70.0)
IMAGENET: Any = ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))


def slots(layout: str, count: int = 12, height: int = 64, width: int = 80) -> npt.NDArray[np.uint8]:
    stack = np.stack([images.photo(height, width, seed=seed) for seed in range(count)])
    return np.ascontiguousarray(stack.transpose(0, 3, 1, 2)) if layout == "NCHW" else stack


def batch(augment: Augment, stored: Any, rows: Any, layout: Any = "NCHW", **options: Any) -> npt.NDArray[Any]:
    rows = np.asarray(rows)
    shape, dtype = augment.output(stored.shape[1:], layout)
    geometry = augment.sample(rows, seed=3, epoch=1, slot_shape=stored.shape[1:], layout=layout)
    out = np.empty((len(rows), *shape), dtype)
    augment.apply(stored, rows, geometry, out, layout=layout, mean=MEAN, std=STD, **options)
    return out


def test_the_example_works() -> None:
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder(recurse=False).find(Augment, "Augment", globs={"np": np}):
        runner.run(example)
    results = runner.summarize()
    assert results.attempted > 8
    assert not results.failed


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("layout_out", [None, "NCHW", "NHWC"])
@pytest.mark.parametrize(
    "crop", [None, CenterCrop(48), RandomCrop((40, 56)), PadAndCrop(6, fill=7), RandomResizedCrop((48, 56))]
)
def test_batches_are_what_the_geometry_says(layout: Any, layout_out: Any, crop: Any) -> None:
    stored, rows = slots(layout), np.array([3, 3, 0, 11, 7, 1, 2])
    augment = Augment(crop=crop, hflip=0.5, vflip=0.5, layout=layout_out)
    out = batch(augment, stored, rows, layout)
    geometry = augment.sample(rows, seed=3, epoch=1, slot_shape=stored.shape[1:], layout=layout)
    for image, row, (top, left, height, width, hflip, vflip) in zip(out, rows, geometry.tolist(), strict=True):
        slot = stored[row] if layout == "NHWC" else stored[row].transpose(1, 2, 0)
        frame = ((6, 6), (6, 6), (0, 0))
        part = np.pad(slot, frame, constant_values=7)[top + 6 : top + 6 + height, left + 6 : left + 6 + width]
        if isinstance(crop, RandomResizedCrop):
            part = np.asarray(Image.fromarray(part).resize((56, 48), Image.Resampling.BILINEAR))
        part = part[:: -1 if vflip else 1, :: -1 if hflip else 1]
        shown = image if (layout_out or layout) == "NHWC" else image.transpose(1, 2, 0)
        np.testing.assert_array_equal(shown, part)
    assert len({tuple(row)[4:] for row in geometry.tolist()}) > 1


@pytest.mark.parametrize("normalize", [False, True, IMAGENET])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", [None, "NHWC"])
def test_floats(normalize: Any, dtype: Any, layout: Any) -> None:
    stored, rows = slots("NCHW"), np.arange(12)
    gray = batch(Augment(crop=PadAndCrop(4, fill=9), layout=layout), stored, rows)
    out = batch(Augment(crop=PadAndCrop(4, fill=9), layout=layout, dtype=dtype, normalize=normalize), stored, rows)
    exact = gray / 255
    if normalize is not False:
        mean, std = (MEAN, STD) if normalize is True else normalize
        shape = (-1, 1, 1) if layout is None else (-1,)
        exact = (gray - np.reshape(mean, shape)) / np.reshape(std, shape)
    values = (out.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else out
    digits = {"float32": 23, "float16": 10, "bfloat16": 7}[dtype]
    np.testing.assert_allclose(values, exact, rtol=2.0**-digits, atol=2.0**-20)


@pytest.mark.parametrize("crop", [RandomCrop(48), RandomResizedCrop(48)])
def test_any_split_over_threads_and_rows_gives_the_same_batch(crop: Any) -> None:
    stored = slots("NCHW")
    augment = Augment(crop=crop, hflip=0.5, dtype="float32", normalize=True)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 12, 200)
    whole = batch(augment, stored, rows)
    out = np.zeros_like(whole)

    def work(part: npt.NDArray[np.int64]) -> None:
        geometry = augment.sample(rows[part], seed=3, epoch=1, slot_shape=(3, 64, 80), layout="NCHW")
        augment.apply(stored, rows[part], geometry, out, layout="NCHW", mean=MEAN, std=STD, out_rows=part)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, np.array_split(rng.permutation(200), 13)))
    np.testing.assert_array_equal(out, whole)


def test_mapped_slots_are_read_and_an_empty_batch_is_none(tmp_path: Path) -> None:
    stored = slots("NCHW")
    np.save(tmp_path / "slots.npy", stored)
    mapped = np.load(tmp_path / "slots.npy", mmap_mode="r")
    for crop in (RandomCrop(48), RandomResizedCrop(48)):
        augment = Augment(crop=crop)
        np.testing.assert_array_equal(batch(augment, mapped, [5, 1]), batch(augment, stored, [5, 1]))
        assert batch(augment, mapped, np.empty(0, np.int64)).shape == (0, 3, 48, 48)


def test_targets_follow() -> None:
    augment = Augment(crop=RandomCrop(48), hflip=1, follow={"where": "boxes", "eyes": "keypoints", "area": "mask"})
    rows = np.arange(5)
    geometry = augment.sample(rows, seed=0, epoch=0, slot_shape=(64, 80, 3), layout="NHWC")
    labels = np.arange(5)
    targets = {
        "labels": labels,
        "where": np.full((5, 2, 4), [0.0, 0.0, 80.0, 64.0]),
        "eyes": np.stack([geometry["left"], geometry["top"]], axis=1),
        "area": np.ones((5, 64, 80), bool),
    }
    moved = augment.follow_geometry(targets, geometry, slot_shape=(64, 80, 3), layout="NHWC")
    assert moved["labels"] is labels
    assert (moved["where"] == [0, 0, 48, 48]).all()
    assert (moved["eyes"] == [48, 0]).all()
    assert moved["area"].shape == (5, 48, 48)
    with pytest.raises(SpecError) as error:
        augment.follow_geometry({"labels": labels}, geometry, slot_shape=(64, 80, 3), layout="NHWC")
    assert str(error.value) == "follow names 'where', the targets are 'labels'"


# --- options ---------------------------------------------------------------------------------------------------------


def test_doing_nothing_is_recognized() -> None:
    assert Augment().is_identity
    assert Augment(hflip=0, normalize=False, follow={"where": "boxes"}).is_identity
    for options in ({"crop": CenterCrop(9)}, {"hflip": 0.1}, {"vflip": 1}, {"dtype": "float16"}, {"layout": "NHWC"}):
        assert not Augment(**options).is_identity  # type: ignore[arg-type]
    stored = slots("NHWC")
    np.testing.assert_array_equal(batch(Augment(), stored, [4, 2], "NHWC"), stored[[4, 2]])


def test_options_are_values() -> None:
    augment = Augment(
        crop=RandomResizedCrop(9), normalize=([1, 2, 3], [4, 5, 6]), dtype="float32", follow={"b": "boxes"}
    )
    again = pickle.loads(pickle.dumps(augment))
    assert augment == again
    assert hash(augment) == hash(again)
    assert augment.normalize == ((1, 2, 3), (4, 5, 6))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ((3, 64, 80), "uint8")),
        ({"layout": "NHWC", "crop": RandomCrop((9, 8))}, ((9, 8, 3), "uint8")),
        ({"dtype": "float16", "crop": PadAndCrop(4)}, ((3, 64, 80), "float16")),
        ({"dtype": "bfloat16", "crop": RandomResizedCrop(300)}, ((3, 300, 300), "uint16")),
    ],
)
def test_output(options: Any, expected: tuple[Any, str]) -> None:
    shape, dtype = Augment(**options).output((3, 64, 80), "NCHW")
    assert (shape, dtype.name) == expected
    shape, dtype = Augment(**options | {"layout": "NHWC"}).output((64, 80, 3), "NHWC")
    assert shape == (tuple(np.roll(expected[0], -1)) if options.get("layout") is None else expected[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"crop": 224},
            "crop must be CenterCrop, RandomCrop, PadAndCrop or RandomResizedCrop with its size, or None, not 224",
        ),
        ({"hflip": 1.5}, "hflip must be a probability from 0 to 1, not 1.5"),
        ({"vflip": "yes"}, "vflip must be a probability from 0 to 1, not 'yes'"),
        ({"dtype": "int8"}, "dtype must be one of 'uint8', 'float32', 'float16', 'bfloat16', not 'int8'"),
        ({"layout": "CHW"}, "layout must be one of 'NCHW', 'NHWC', not 'CHW'"),
        ({"normalize": True}, "normalize makes floats: choose dtype='float32', 'float16' or 'bfloat16' with it"),
        (
            {"normalize": (1, 2), "dtype": "float32"},
            "normalize must be True, False, or (mean, std) with one number for each channel in both, not (1, 2)",
        ),
        (
            {"normalize": ((0.5,), (0.25,)), "dtype": "float32"},
            (
                "normalize takes gray levels from 0 to 255, not mean (0.5,) and std (0.25,): if these are from 0 to 1, "
                "multiply both by 255"
            ),
        ),
        (
            {"normalize": ((float("nan"),), (25,)), "dtype": "float32"},
            (
                "normalize takes gray levels from 0 to 255, not mean (nan,) and std (25.0,): if these are from 0 to 1, "
                "multiply both by 255"
            ),
        ),
        ({"follow": ["boxes"]}, "follow must map names of targets to their kinds, not ['boxes']"),
        (
            {"follow": {"a": "box"}},
            "follow['a'] must be one of 'boxes', 'mask', 'keypoints', not 'box'",
        ),
    ],
)
def test_options_that_cannot_be(options: Any, message: str) -> None:
    with pytest.raises(SpecError) as error:
        Augment(**options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("options", "statistics", "message"),
    [
        (
            {"normalize": True},
            {},
            "normalize=True needs the mean and std of the store, which has none: pass (mean, std)",
        ),
        (
            {"normalize": ((1,), (2,))},
            {},
            "normalize has 1 means and 1 standard deviations, slots have 3 channels",
        ),
        (
            {"normalize": True},
            {"mean": (0, 1, 2), "std": (5, 0, 5)},
            (
                "all pixels of a channel of the store have the same value, so normalize=True would divide by 0: "
                "pass (mean, std)"
            ),
        ),
    ],
)
def test_statistics_that_do_not_fit(options: Any, statistics: Any, message: str) -> None:
    stored, rows = slots("NCHW"), np.arange(2)
    augment = Augment(dtype="float32", **options)
    geometry = augment.sample(rows, seed=0, epoch=0, slot_shape=(3, 64, 80), layout="NCHW")
    with pytest.raises(SpecError) as error:
        augment.apply(stored, rows, geometry, np.empty((2, 3, 64, 80), np.float32), layout="NCHW", **statistics)
    assert str(error.value) == message


def test_slots_that_are_no_images() -> None:
    with pytest.raises(SpecError, match="only slots with three axes can be augmented, these slots have shape"):
        Augment().output((64, 80), "NCHW")


@pytest.mark.parametrize("crop", [RandomCrop(48), RandomResizedCrop(48)])
def test_arrays_that_do_not_fit_are_refused_before_any_memory_is_touched(crop: Any) -> None:
    stored, rows, out = slots("NCHW"), np.arange(4), np.empty((4, 3, 48, 48), np.uint8)
    augment = Augment(crop=crop)
    geometry = augment.sample(rows, seed=0, epoch=0, slot_shape=(3, 64, 80), layout="NCHW")
    frozen = out.copy()
    frozen.flags.writeable = False
    above, below, larger = geometry.copy(), geometry.copy(), geometry.copy()
    above["top"][1], below["top"][1], larger["height"][2] = -1, 60, 65
    for change in (
        {"images": stored.astype(np.int16)},
        {"images": stored[:, :, ::-1]},
        {"rows": rows + 9},
        {"rows": rows - 1},
        {"rows": rows[:3]},
        {"rows": rows.astype(np.int32)},
        {"geometry": geometry[:3]},
        {"geometry": larger},
        *([{"geometry": above}, {"geometry": below}] if isinstance(crop, RandomResizedCrop) else []),
        {"out": out[:3]},
        {"out": out[:, :, :, ::-1]},
        {"out": frozen},
        {"out": out.astype(np.float32)},
        {"out_rows": rows + 1},
        {"out_rows": rows[:2]},
    ):
        arguments: Any = {"images": stored, "rows": rows, "geometry": geometry, "out": out} | change
        with pytest.raises(
            ValueError, match=r"slots must be|the batch must be|must be int64|rows have|another Augment drew"
        ):
            augment.apply(**arguments, layout="NCHW")


def test_the_compiler_is_loaded_by_the_first_batch_only() -> None:
    code = (
        "import sys, numpy as np\nfrom arraystore import Augment, RandomCrop\n"
        "augment = Augment(crop=RandomCrop(2), follow={'m': 'mask'})\nrows = np.arange(3)\n"
        "geometry = augment.sample(rows, seed=0, epoch=0, slot_shape=(3, 4, 4), layout='NCHW')\n"
        "augment.follow_geometry({'m': np.zeros((3, 4, 4))}, geometry, slot_shape=(3, 4, 4), layout='NCHW')\n"
        "assert not {'numba', 'cv2'} & set(sys.modules)\n"
        "slots, out = np.zeros((3, 3, 4, 4), np.uint8), np.zeros((3, 3, 2, 2), np.uint8)\n"
        "augment.apply(slots, rows, geometry, out, layout='NCHW')\n"
        "assert 'numba' in sys.modules and 'cv2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=400)
