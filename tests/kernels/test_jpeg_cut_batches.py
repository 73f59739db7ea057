"""Batches of JPEGs that are cut equal those of the decoded images, whatever the crop; no image touches another."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images, restart_jpegs
from support.restart_mutants import mutant

from arraystore import Augment, CenterCrop, FormatError, PadAndCrop, RandomCrop, RandomResizedCrop
from arraystore._stores.encoded import pieces
from arraystore._stores.encoded.images import EncodedImages
from arraystore.spec import Layout

Pixels = npt.NDArray[np.uint8]


def store_of(files: list[bytes], height: int, width: int, channels: int, layout: Layout = "NCHW") -> EncodedImages:
    offsets = np.cumsum([0, *map(len, files)]).astype(np.uint64)
    sides = (channels, height, width) if layout == "NCHW" else (height, width, channels)
    return EncodedImages(np.frombuffer(b"".join(files), np.uint8), offsets, (len(files), *sides), layout, "a store")


def some_files(
    height: int, width: int, sampling: str, restart: int, *, count: int = 5, quality: int = 90, seed: int = 0
) -> list[bytes]:
    pictures = [restart_jpegs.picture(height, width, sampling, seed=seed + i, noise=9) for i in range(count)]
    return [restart_jpegs.jpeg(pixels, sampling, restart, quality=quality) for pixels in pictures]


def decoded(files: list[bytes], layout: Layout) -> Pixels:
    pixels = np.stack([restart_jpegs.decoded(file) for file in files])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if layout == "NCHW" else pixels


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    sides = st.one_of(st.integers(1, 150), st.integers(100, 600))
    height, width, sampling = draw(sides), draw(sides), draw(st.sampled_from(list(restart_jpegs.SAMPLINGS)))
    columns, _ = restart_jpegs.units(height, width, sampling)
    regular = [number for number in range(1, 9) if columns % number == 0 or number % columns == 0]
    size, other_size = (draw(st.integers(1, height)), draw(st.integers(1, width))), st.integers(1, 250)
    return {
        "height": height,
        "width": width,
        "sampling": sampling,
        "restart": draw(st.one_of(st.sampled_from(regular), st.integers(1, 8))),
        "quality": draw(st.integers(1, 100)),
        "layout": draw(st.sampled_from(["NCHW", "NHWC"])),
        "seed": draw(st.integers(0, 2**31)),
        "crop": draw(
            st.one_of(
                st.sampled_from([None, CenterCrop(size), RandomCrop(size), PadAndCrop(5, size, fill=7)]),
                st.builds(RandomResizedCrop, other_size, scale=st.sampled_from([(0.01, 1.0), (0.1, 0.3)])),
            )
        ),
        "layout_out": draw(st.sampled_from([None, "NCHW", "NHWC"])),
        "dtype": draw(st.sampled_from(["uint8", "float32"])),
    }


@settings(max_examples=60)
@given(case=cases())
def test_parts_and_batches_have_the_pixels_of_the_decoded_images(case: dict[str, Any]) -> None:
    height, width, sampling, layout = case["height"], case["width"], case["sampling"], case["layout"]
    files = some_files(height, width, sampling, case["restart"], count=3, quality=case["quality"], seed=case["seed"])
    slots = decoded(files, layout)
    store = store_of(files, height, width, 1 if sampling == "gray" else 3, layout)
    rows, crop = np.array([2, 0, 1, 2]), case["crop"]
    augment = Augment(crop=crop, hflip=0.5, vflip=0.2, layout=case["layout_out"], dtype=case["dtype"])
    shape, dtype = augment.output(slots.shape[1:], layout)
    geometry = augment.sample(rows, seed=1, epoch=0, slot_shape=slots.shape[1:], layout=layout)
    expected, batch = np.zeros((4, *shape), dtype), np.ones((4, *shape), dtype)
    augment.apply(slots, rows, geometry, expected, layout=layout)
    augment.apply(store, rows, geometry, batch, layout=layout)
    np.testing.assert_array_equal(batch, expected)
    check_parts(store, slots if layout == "NHWC" else slots.transpose(0, 2, 3, 1), rows, geometry)


def check_parts(store: EncodedImages, slots: Pixels, rows: npt.NDArray[np.int64], geometry: Any) -> None:
    """Each part holds what its window shows of its image."""
    windows = np.ascontiguousarray(geometry).view(np.int32).reshape(-1, 6)
    seen = 0
    for part in store.parts(rows, windows):
        assert part.first == seen
        for k in range(part.first, part.stop):
            (begin, high, wide), (top, left) = part.places[k - part.first], part.origins[k - part.first]
            pixels = part.source[begin : begin + high * wide * slots.shape[3]].reshape(high, wide, slots.shape[3])
            y, x, rows_shown, columns_shown = windows[k, :4]
            bottom, right = min(y + rows_shown, slots.shape[1]), min(x + columns_shown, slots.shape[2])
            y, x = max(y, 0), max(x, 0)
            shown = pixels[y - top : bottom - top, x - left : right - left]
            np.testing.assert_array_equal(shown, slots[rows[k], y:bottom, x:right])
        seen = part.stop
    assert seen == len(rows)


@pytest.mark.parametrize(("sampling", "restart", "most"), [("420", 2, 0.75), ("444", 2, 0.7), ("gray", 4, 0.75)])
def test_resized_crops_are_cut_unless_they_show_all_blocks(sampling: str, restart: int, most: float) -> None:
    side, count = 256, 200
    files = some_files(side, side, sampling, restart, count=1)
    store = store_of(files, side, side, 1 if sampling == "gray" else 3)
    augment = Augment(crop=RandomResizedCrop(224))
    slot_shape = store.shape[1:]
    geometry = augment.sample(np.arange(count), seed=0, epoch=0, slot_shape=slot_shape, layout="NCHW")
    windows = np.ascontiguousarray(geometry).view(np.int32).reshape(-1, 6)
    rows = np.zeros(count, np.int64)
    places = np.concatenate([part.places for part in store.parts(rows, windows)])
    for (_, high, wide), (top, left, rows_shown, columns_shown, *_) in zip(
        places.tolist(), windows.tolist(), strict=True
    ):
        window = (left, top, left + columns_shown, top + rows_shown)
        box = restart_jpegs.box_of_cut(side, side, sampling, restart, window, pieces._MARGIN)
        assert (wide, high) == ((side, side) if box is None else (box[2] - box[0], box[3] - box[1]))
    decoded_share = (places[:, 1] * places[:, 2]).mean() / side**2
    assert decoded_share < most
    assert (places[:, 1] * places[:, 2] < side**2).mean() > 0.85


SMALL = (5, 8, 40, 50, 0, 0)  # of an image of 160 columns and 96 rows


@pytest.mark.parametrize("other", [(160, 96), (96, 176), (112, 160), (16, 16)])
def test_a_jpeg_of_other_sides_is_damaged_however_little_is_shown(other: tuple[int, int]) -> None:
    files = some_files(96, 160, "420", 2)
    files[1] = some_files(*other, "420", 1, count=1)[0]
    store = store_of(files, 96, 160, 3)
    for window in (SMALL, (0, 0, 96, 160, 0, 0)):
        with pytest.raises(FormatError, match="the JPEG of slot 1 is damaged") as caught:
            list(store.parts(np.arange(3), np.array([window] * 3, np.int32)))
        assert caught.value.slot == 1


def test_a_damaged_jpeg_leaves_the_others_as_they_are() -> None:
    rng, refused, kept = random.Random(0), 0, 0
    files = some_files(96, 160, "420", 2)
    slots = decoded(files, "NHWC")
    for _ in range(150):
        changed = [files[0], mutant(files[1], rng), files[2]]
        store = store_of(changed, 96, 160, 3)
        top, left = rng.randrange(90), rng.randrange(150)
        window = (top, left, rng.randrange(1, 97 - top), rng.randrange(1, 161 - left), 0, 0)
        try:
            (part,) = store.parts(np.arange(3), np.array([window] * 3, np.int32))
        except FormatError as error:
            assert error.slot == 1
            refused += 1
            continue
        kept += 1
        for k in (0, 2):
            (begin, high, wide), (y, x) = part.places[k], part.origins[k]
            pixels = part.source[begin : begin + high * wide * 3].reshape(high, wide, 3)
            np.testing.assert_array_equal(
                pixels[top - y :][: window[2]][:, left - x :][:, : window[3]],
                slots[k, top : top + window[2], left : left + window[3]],
            )
    assert refused > 20
    assert kept > 20


def test_images_without_restart_markers_are_decoded_whole() -> None:
    files = [images.jpeg(images.photo(96, 160, seed=i)) for i in range(3)]
    store = store_of(files, 96, 160, 3)
    (part,) = store.parts(np.arange(3), np.array([SMALL] * 3, np.int32))
    assert (part.places[:, 1:] == (96, 160)).all()
    assert (part.origins == 0).all()
