"""Slots of JPEGs that differ in height and width: read one by one, and loaded through crops that give them one size."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images, jpegs
from support.kept import FAILED, SIDES, STORED, encoded_of, pixels, slots
from support.readers import refused
from support.slots import slots_of

import arraystore
from arraystore import Augment, CenterCrop, PadAndCrop, RandomCrop, RandomResizedCrop, Slots, SpecError, concatenate
from arraystore._augmenting.crops import Chance, Crop
from arraystore._stores.slot_array import SlotArray

Array = npt.NDArray[Any]
LAYOUTS = pytest.mark.parametrize("layout", ["NCHW", "NHWC"])


def augmented(
    augment: Augment, image: Array, slot: int, layout: str, epoch: int = 0, *, seed: int = 2
) -> tuple[Array, Array]:
    """One image as augmentation makes it of the pixels of its slot alone, and its geometry."""
    about: Any = {"slot_shape": image.shape, "layout": layout}
    geometry = augment.sample(np.array([slot]), seed=seed, epoch=epoch, **about)
    shape, dtype = augment.output(image.shape, layout)  # type: ignore[arg-type]
    out = np.empty((1, *shape), dtype)
    statistics: Any = {"mean": (100.0, 110.0, 120.0), "std": (50.0, 60.0, 70.0)}
    augment.apply(image[None], np.array([0]), geometry, out, layout=layout, **statistics)  # type: ignore[arg-type]
    return out[0], geometry


# --- one by one ------------------------------------------------------------------------------------------------------


@LAYOUTS
def test_a_slot_is_one_image_of_its_own_sides(layout: str) -> None:
    store = slots(layout)
    own = (None, None)
    assert store.slot_shape == ((3, *own) if layout == "NCHW" else (*own, 3))
    assert repr(store) == f"<arraystore.Slots 24 x {'3 x H x W' if layout == 'NCHW' else 'H x W x 3'} uint8 {layout}>"
    np.testing.assert_array_equal(store.sides, SIDES)
    for slot, expected in enumerate(pixels(layout)):
        image, label = store[slot]
        np.testing.assert_array_equal(image, expected, strict=True)
        assert label == slot
    np.testing.assert_array_equal(store[-1][0], pixels(layout)[-1])
    chosen = store[[6, 1]]
    assert chosen.sides.tolist() == [list(SIDES[6]), list(SIDES[1])]
    np.testing.assert_array_equal(chosen[1][0], pixels(layout)[1])


@LAYOUTS
def test_slots_of_the_same_sides_are_taken_together(layout: str) -> None:
    store, wanted = slots(layout), [1, 9, 17]
    expected = np.stack([pixels(layout)[slot] for slot in wanted])
    np.testing.assert_array_equal(store.take(wanted), expected, strict=True)
    (array,) = store.__slot_arrays__.arrays
    np.testing.assert_array_equal(array.images[wanted], expected, strict=True)
    np.testing.assert_array_equal(array.images[wanted, 0], expected[:, 0], strict=True)
    message = (
        "these slots differ in height and width, such as 32 x 32 and 40 x 60 pixels, so no array holds them together: "
        "take one slot at a time, or make batches with a loader and a crop, such as "
        "augment=Augment(crop=RandomResizedCrop(224))"
    )
    refused(message, lambda: store.take([0, 5]))
    for call in (lambda: array.images[[0, 5]], lambda: array.images[:], lambda: np.asarray(array.images)):
        with pytest.raises(SpecError, match=r"^these slots differ in height and width, such as "):
            call()
    out = np.empty((1, 3, 1, 1), np.uint8)
    with pytest.raises(SpecError, match="out must be an array"):
        store.take([0], out=out)


def test_sides_of_slots_of_one_shape() -> None:
    assert _raw((3, 1, 5, 7), "NCHW").sides.tolist() == [[5, 7]] * 3
    assert _raw((3, 5, 7, 1), "NHWC").sides.tolist() == [[5, 7]] * 3
    refused("slots of shape (7,) and layout '' have no height and width", lambda: _raw((3, 7), "").sides)


def _raw(shape: tuple[int, ...], layout: str) -> Slots:
    return slots_of([SlotArray(np.zeros(shape, np.uint8))], layout=layout)


def test_they_are_sent_to_other_processes(tmp_path: Path) -> None:
    source = [images.photo(*sides, seed=slot) for slot, sides in enumerate(SIDES) if slot not in FAILED]
    for target in (tmp_path / "x.store", tmp_path / "x.h5", None):
        store = arraystore.build(source, target, size=32, fit="keep", encode="jpeg", progress=False)
        received = pickle.loads(pickle.dumps(store))
        np.testing.assert_array_equal(received.sides, store.sides)
        np.testing.assert_array_equal(received.images[7], store.images[7], strict=True)


# --- windows ---------------------------------------------------------------------------------------------------------


CROPS: list[Crop] = [
    CenterCrop((17, 23)),
    RandomCrop((30, 9)),
    PadAndCrop(20, (50, 44), fill=9),
    RandomResizedCrop((24, 17)),
    RandomResizedCrop((9, 40), scale=(0.01, 0.3), ratio=(0.2, 3)),
]


@settings(max_examples=80)
@given(st.data())
def test_windows_are_those_of_each_image_alone(data: st.DataObject) -> None:
    """Each image of a batch equals, to the last bit, the same augmentation of its JPEG decoded whole."""
    draw = data.draw
    sides = draw(st.lists(st.tuples(st.integers(30, 90), st.integers(30, 90)), min_size=1, max_size=6))
    channels, layout = draw(st.sampled_from([1, 3])), draw(st.sampled_from(["NCHW", "NHWC"]))
    options = {
        "quality": draw(st.integers(20, 100)),
        "restart": draw(st.integers(0, 4)),
        "sampling": draw(st.sampled_from(sorted(jpegs.SAMPLINGS))) if channels == 3 else "444",
    }
    files = [jpegs.jpeg(jpegs.picture(*each, seed, channels), **options) for seed, each in enumerate(sides)]
    encoded = encoded_of(files, sides, layout, channels)
    augment = Augment(
        crop=draw(st.sampled_from(CROPS)),
        hflip=0.5,
        vflip=0.5,
        layout=draw(st.sampled_from([None, "NHWC", "NCHW"])),
        dtype=draw(st.sampled_from(["uint8", "float32"])),
    )
    rows = np.array(draw(st.lists(st.integers(0, len(sides) - 1), min_size=1, max_size=9)), np.int64)
    about: Any = {"slot_shape": encoded.shape[1:], "layout": layout}
    geometry = augment.sample(rows, seed=2, epoch=0, sides=encoded.sides_of(rows), **about)
    shape, dtype = augment.output(*about.values())
    out = np.empty((len(rows), *shape), dtype)
    augment.apply(encoded, rows, geometry, out, layout=about["layout"])
    for image, drawn, row in zip(out, geometry, rows.tolist(), strict=True):
        whole = jpegs.pixels_of([files[row]], *sides[row], channels, layout)[0]
        alone, window = augmented(augment, whole, row, layout)
        assert drawn == window[0]
        np.testing.assert_array_equal(image, alone, strict=True)


@pytest.mark.parametrize("crop", [*CROPS, PadAndCrop(3, (1, 1)), RandomResizedCrop(8, ratio=(0.01, 0.02))])
def test_windows_of_many_slots_are_those_of_each(crop: Any) -> None:
    rng = np.random.default_rng(0)
    sides = rng.integers(30, 900, (200, 2))
    chance = Chance(np.arange(200), seed=1, epoch=0, draws=None)
    together = np.stack(crop.windows(chance, *sides.T))
    for slot, (height, width) in enumerate(sides.tolist()):
        alone = crop.windows(Chance(np.array([slot]), seed=1, epoch=0, draws=None), height, width)
        assert together[:, slot].tolist() == [each.item() for each in alone]


def test_geometry_of_other_slots_is_refused() -> None:
    store = slots("NCHW")
    (array,) = store.__slot_arrays__.arrays
    about: Any = {"slot_shape": store.slot_shape, "layout": "NCHW"}
    for crop in (CenterCrop(30), RandomResizedCrop(30, scale=(1, 1), ratio=(0.1, 9)), None):
        augment = Augment(crop=crop, hflip=0.5)
        drawn = augment.sample(np.array([7]), seed=0, epoch=0, sides=store.sides[[7]], **about)
        out = np.empty((1, 3, *(SIDES[7] if crop is None else (30, 30))), np.uint8)
        augment.apply(array.images, np.array([7]), drawn, out, layout="NCHW")
        with pytest.raises(ValueError, match=r"another Augment drew this geometry|the batch must be"):
            augment.apply(array.images, np.array([2]), drawn, out, layout="NCHW")


# --- loaders ---------------------------------------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("options", [{}, {"cache": 40_000}, {"cache": "1 MB", "drop_behind": True}])
def test_loaders(layout: str, options: dict[str, Any]) -> None:
    """The same batches for any number of threads and however they are asked for; failed slots are left out."""
    store = slots(layout)
    augment = Augment(crop=RandomResizedCrop(20), hflip=0.5, dtype="float32", normalize=True)
    loaders = [store.loader(5, seed=2, augment=augment, workers=workers, **options) for workers in (1, 3)]
    for epoch in range(2):
        first, second = ([*loader] for loader in loaders)
        seen: list[int] = []
        for number, (batch, other) in enumerate(zip(first, second, strict=True)):
            asked = loaders[0].batch(number, epoch=epoch)
            for array, same, again in zip(batch, other, asked, strict=True):
                np.testing.assert_array_equal(array, same, strict=True)
                np.testing.assert_array_equal(array, again, strict=True)
            for image, slot in zip(*batch, strict=True):
                expected, _ = augmented(augment, pixels(layout)[slot], int(slot), layout, epoch)
                np.testing.assert_array_equal(image, expected, strict=True)
            seen += batch[1].tolist()
        assert sorted(seen) == STORED


def test_sizes_by_epoch() -> None:
    augment = Augment(crop=RandomResizedCrop(sizes={0: 8, 1: 12}))
    loader = slots("NCHW").loader(8, augment=augment, shuffle=False)
    assert [batch[0].shape[1:] for _ in range(2) for batch in loader] == [(3, 8, 8)] * 3 + [(3, 12, 12)] * 3
    refused(
        "CenterCrop needs slots of at least 33 x 33 pixels, and slot 2 has 64 x 32; 9 of 21 slots are smaller: choose "
        "RandomResizedCrop, a smaller crop, or the slots that are large enough, "
        "store[(store.sides >= (33, 33)).all(axis=1)]",
        lambda: slots("NCHW").loader(augment=Augment(crop=CenterCrop(sizes={0: 8, 5: 33}))),
    )


@LAYOUTS
def test_a_transform_may_give_them_one_shape(layout: str) -> None:
    def corner(image: Array) -> Array:
        return image[-9:, :7]

    def last(image: Array) -> Array:
        return image if layout == "NHWC" else image.transpose(1, 2, 0)

    for augment in (None, Augment(hflip=1), Augment(hflip=1, layout="NHWC")):
        for batch, labels in slots(layout).loader(5, transform=corner, augment=augment, workers=2):
            for image, slot in zip(batch, labels, strict=True):
                whole = last(pixels(layout)[slot])
                np.testing.assert_array_equal(image, corner(whole if augment is None else whole[:, ::-1]))


def test_joined_and_chosen_slots_are_loaded() -> None:
    store = concatenate([slots("NCHW")[5:], slots("NCHW")[:5]])
    augment = Augment(crop=CenterCrop(24))
    (batch,) = store.loader(99, shuffle=False, augment=augment)
    order = [slot for slot in [*range(5, 24), *range(5)] if slot in STORED]
    assert batch[1].tolist() == order
    for image, slot in zip(batch[0], order, strict=True):
        np.testing.assert_array_equal(image, augmented(augment, pixels("NCHW")[slot], slot, "NCHW")[0])
    refused(
        "store 0 has slots of shape (3, None, None), store 1 has (3, 8, 8): only stores that are alike can be "
        "concatenated",
        lambda: concatenate([store, _raw((1, 3, 8, 8), "NCHW")]),
    )


def test_all_failed_slots_make_no_batch() -> None:
    none = slots("NCHW")[FAILED]
    assert [*none.loader(augment=Augment(crop=CenterCrop(24)))] == []
    assert [*none.loader(transform=lambda image: image)] == []


@pytest.mark.parametrize("augment", [None, Augment(), Augment(hflip=1), Augment(crop=PadAndCrop(4))])
def test_a_loader_needs_one_shape(augment: Augment | None) -> None:
    refused(
        "these slots differ in height and width, and the images of a batch must not: pass a crop with a size, such as "
        "augment=Augment(crop=RandomResizedCrop(224)), or a transform that gives all images one shape",
        lambda: slots("NCHW").loader(augment=augment),
    )


@pytest.mark.parametrize(
    ("crop", "least"),
    [(CenterCrop(33), 33), (RandomCrop((33, 33)), 33), (PadAndCrop(2, 37), 33), (PadAndCrop(2, 4), 1)],
)
def test_a_crop_fits_into_every_slot(crop: Crop, least: int) -> None:
    store = slots("NCHW")
    if least == 1:
        assert len([*store.loader(8, augment=Augment(crop=crop))]) == 3
        return
    with pytest.raises(SpecError, match=re.escape(f"{type(crop).__name__} needs slots of at least 33 x 33 pixels")):
        store.loader(augment=Augment(crop=crop))
    large = store[(store.sides >= (least, least)).all(axis=1)]
    assert sum(len(labels) for _, labels in large.loader(8, augment=Augment(crop=crop))) == len(large) == 12
    about: Any = {"slot_shape": store.slot_shape, "layout": "NCHW", "sides": store.sides[:3]}
    with pytest.raises(SpecError, match="is larger than the"):
        Augment(crop=crop).sample(np.arange(3), seed=0, epoch=0, **about)


# --- targets that follow ---------------------------------------------------------------------------------------------


def test_boxes_and_keypoints_follow_their_image() -> None:
    augment = Augment(crop=RandomResizedCrop(20), hflip=0.5, follow={"boxes": "boxes", "points": "keypoints"})
    store = slots("NCHW")
    names = ["labels", "boxes", "points"]
    for batch in store.loader(5, seed=2, augment=augment, targets=names, workers=2):
        for row, slot in enumerate(batch["labels"].tolist()):
            _, geometry = augmented(augment, pixels("NCHW")[slot], slot, "NCHW")
            targets = {name: store.target(name)[[slot]] for name in names[1:]}
            about: Any = {"slot_shape": pixels("NCHW")[slot].shape, "layout": "NCHW"}
            moved = augment.follow_geometry(targets, geometry, **about)
            for name in names[1:]:
                np.testing.assert_array_equal(batch[name][row], moved[name][0], strict=True)


def test_boxes_of_the_source_are_scaled_by_the_factor_of_each_image() -> None:
    """A box around the left half of each image is one around the left half of its slot, to a rounded pixel."""
    sides = [(40, 60), (300, 90), (20, 31), (64, 33)]
    source = [images.photo(*each, seed=slot) for slot, each in enumerate(sides)]
    boxes = np.array([[[0, 0, width / 2, height], [0, 0, 2 * width, height]] for height, width in sides])
    points = np.array([[[width, height]] for height, width in sides])
    store = arraystore.build(
        source, size=32, fit="keep", encode="jpeg", targets={"boxes": boxes, "points": points}, progress=False
    )
    moved = store.in_slot_pixels({"boxes": "boxes", "points": "keypoints"})
    assert store.sides.tolist() == [[32, 48], [107, 32], [20, 31], [62, 32]]
    for slot, (height, width) in enumerate(store.sides.tolist()):
        np.testing.assert_allclose(
            moved.target("boxes")[slot], [[0, 0, width / 2, height], [0, 0, width, height]], rtol=1e-6
        )
        np.testing.assert_allclose(moved.target("points")[slot], [[width, height]], rtol=1e-6)


def test_what_cannot_follow() -> None:
    store = slots("NCHW")
    follow: Any = {"boxes": "mask"}
    refused(
        "the target 'boxes' has masks of one height and width, and these slots differ in both: take it out of follow=",
        lambda: store.loader(augment=Augment(crop=RandomResizedCrop(8), follow=follow)),
    )
    refused(
        "targets follow images that get one size here, and these slots differ in height and width: pass a crop with a "
        "size, such as augment=Augment(crop=RandomResizedCrop(224), …)",
        lambda: store.loader(transform=len, augment=Augment(hflip=1, follow={"boxes": "boxes"})),
    )
