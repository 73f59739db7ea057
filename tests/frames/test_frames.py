"""Frames of augmented samples: made once, read for some epochs, and the same whoever makes them."""

from __future__ import annotations

import gc
import pickle
import threading
import time
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lazy_functions import noisy

import arraystore
from arraystore import Augment, CenterCrop, Frame, LazyError, Loader, RandomCrop, SpaceError, SpecError, Store
from arraystore._building.filling.marks import Marks
from arraystore._frames.choosing import chosen_slots
from arraystore._frames.schedule import Span

SOON_S = 60.0
SEED = 5

Pixels = npt.NDArray[np.uint8]


def store_of(counts: dict[str, int], size: int = 12, **options: Any) -> Store:
    """A store of random images with this many of each class."""
    labels = [name for name, count in counts.items() for _ in range(count)]
    images = np.random.default_rng(1).integers(0, 256, (len(labels), size, size, 3), np.uint8)
    return arraystore.build(list(images), size=size, labels=labels, progress=False, **options)


def epoch(loader: Loader[Any], number: int | None = None) -> tuple[Pixels, npt.NDArray[Any]]:
    """The images and labels of the next epoch, or of a given one."""
    if number is not None:
        loader.set_epoch(number)
    pairs = [(np.array(images), np.array(labels)) for images, labels in loader]
    return np.concatenate([images for images, _ in pairs]), np.concatenate([labels for _, labels in pairs])


def rows(images: Pixels) -> Counter[bytes]:
    return Counter(image.tobytes() for image in images)


class Counted:
    """A transform that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        with self._lock:
            self.calls += 1
        return noisy(image, rng)


# --- what is in a batch ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("encode", [None, "jpeg"])
def test_samples_are_augmented_and_transformed_and_floats_are_made_as_batches_are_read(
    layout: str, encode: str | None
) -> None:
    store = store_of({"a": 5, "b": 4}, layout=layout, **({} if encode is None else {"encode": encode}))
    augment = Augment(crop=CenterCrop(8), hflip=1.0, dtype="float32", normalize=True, layout="NHWC")
    loader = store.loader(4, shuffle=False, augment=augment, transform=lambda image: image // 2, frame=Frame())
    images, labels = epoch(loader)
    pixels = np.asarray(store.images)
    pixels = pixels.transpose(0, 2, 3, 1) if layout == "NCHW" else pixels
    expected = (pixels[:, 2:10, 2:10][:, :, ::-1] // 2 - np.array(store.mean)) / np.array(store.std)
    np.testing.assert_allclose(images, expected, atol=1e-4)
    assert labels.tolist() == store.target("labels").tolist()
    assert loader.frame.images.dtype == np.uint8


def test_a_frame_is_read_for_its_epochs_and_each_sample_is_made_once() -> None:
    store, transform = store_of({"a": 7, "b": 6}), Counted()
    loader = store.loader(4, seed=SEED, transform=transform, frame=Frame(epochs=3))
    first = [epoch(loader)[0] for _ in range(3)]
    assert all(rows(each) == rows(first[0]) for each in first)
    assert not np.array_equal(first[0], first[1]), "each epoch has an order of its own"
    second = epoch(loader)[0]
    assert not rows(second) & rows(first[0])
    wait_for(lambda: transform.calls >= 1 + 3 * 13)  # the third frame is made while the second is read
    assert transform.calls == 1 + 3 * 13, "one more shows the shape"


def test_no_frame_is_made_twice_and_the_next_one_is_there_at_the_change() -> None:
    store, transform = store_of({"a": 9}), Counted()
    loader = store.loader(4, transform=transform, frame=Frame(epochs=2))
    for _ in range(2):
        epoch(loader)
    wait_for(lambda: transform.calls == 1 + 2 * 9)
    with_next = epoch(loader)[0]
    assert rows(epoch(loader)[0]) == rows(with_next)


def test_no_frame_stays_in_memory_until_a_collection() -> None:
    store = store_of({"a": 9})
    loader = store.loader(4, transform=noisy, frame=Frame(epochs=1))
    gc.collect()
    gc.disable()
    try:
        frames = []
        for _ in range(4):
            for _ in loader:
                pass
            frames.append(weakref.ref(loader.frame.__slot_arrays__.arrays[0].kept))
        wait_for(lambda: [frame() is None for frame in frames] == [True, True, True, False])
    finally:
        gc.enable()


def wait_for(is_so: Any) -> None:
    until = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_sizes_by_epoch_hold_for_the_frame_that_begins_there() -> None:
    store = store_of({"a": 5})
    augment = Augment(crop=CenterCrop(sizes={0: 6, 3: 8, 5: 10}), dtype="float32")
    loader = store.loader(5, shuffle=False, augment=augment, frame=Frame(epochs=2))
    for number, size in enumerate((6, 6, 6, 6, 8, 8, 10)):
        images, _ = epoch(loader)
        inset = (12 - size) // 2
        expected = np.asarray(store.images)[:, :, inset : inset + size, inset : inset + size] / 255
        np.testing.assert_allclose(images, expected, atol=1e-6, err_msg=str(number))


def test_originals_are_read_for_validation() -> None:
    store = store_of({"a": 5, "b": 3})
    options: dict[str, Any] = {"augment": Augment(hflip=1.0), "transform": noisy, "shuffle": False}
    images, _ = epoch(store.loader(3, frame=Frame(augment=False), **options))
    np.testing.assert_array_equal(images, store.images)


def test_targets_come_with_their_samples_and_boxes_follow() -> None:
    store = store_of({"a": 4, "b": 3})
    boxes = np.tile(np.array([1.0, 2, 5, 6], np.float32), (7, 1, 1))
    with_boxes = arraystore.build(store, targets={"boxes": boxes, "score": np.arange(7.0)}, progress=False)
    augment = Augment(hflip=0.5, crop=RandomCrop(8), follow={"boxes": "boxes"})
    options: dict[str, Any] = {"shuffle": False, "augment": augment, "targets": ["boxes", "score", "labels"]}
    plain, framed = (with_boxes.loader(7, **options, **more) for more in ({}, {"frame": Frame(per_class=5)}))
    (batch,) = plain
    assert set(batch) == {"images", "boxes", "score", "labels"}
    found = [each for batch in framed for each in zip(*(batch[n] for n in ("images", "boxes", "score")), strict=True)]
    assert len(found) == 10
    for image, (moved,), score in found:
        whole = with_boxes.images[int(score)]
        places = [
            (top, left, flip)
            for top in range(5)
            for left in range(5)
            for flip in (False, True)
            if np.array_equal(image, whole[:, top : top + 8, left : left + 8][..., :: -1 if flip else 1])
        ]
        ((top, left, flip),) = places
        x0, x1 = np.clip([1 - left, 5 - left], 0, 8)
        y0, y1 = np.clip([2 - top, 6 - top], 0, 8)
        assert moved.tolist() == [*((8 - x1, y0, 8 - x0) if flip else (x0, y0, x1)), y1]


# --- which slots -----------------------------------------------------------------------------------------------------


def test_every_class_has_as_many_samples_and_rare_ones_repeat_their_slots() -> None:
    store = store_of({"cat": 3, "dog": 40})
    loader = store.loader(10, seed=SEED, transform=noisy, frame=Frame(epochs=1, per_class=8, unique=True))
    dogs: list[int] = []
    for _ in range(5):
        images, labels = epoch(loader)
        assert np.bincount(labels).tolist() == [8, 8]
        assert max(rows(images).values()) == 1
        dogs += [nearest(store, image) for image, label in zip(images, labels, strict=True) if label == 1]
        cats = Counter(nearest(store, image) for image, label in zip(images, labels, strict=True) if label == 0)
        assert set(cats.values()) <= {2, 3, 4}
        assert len(cats) == 3
    assert sorted(dogs) == list(range(3, 43)), "all slots of a class are read before one is read again"


def nearest(store: Store, image: Pixels) -> int:
    """The slot that a sample was made of."""
    return int(np.abs(np.asarray(store.images).astype(int) - image).sum((1, 2, 3)).argmin())


@settings(max_examples=60)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_slots_of_a_class_come_in_turn(counts: list[int], per_class: int, frames: int, unique: bool) -> None:
    store = store_of({f"class {number}": count for number, count in enumerate(counts)}, size=1)
    drawn: Counter[int] = Counter()
    span = Span(0, 0, 1, per_class)
    for _ in range(frames + 1):
        choice = chosen_slots(store.__slot_arrays__, span, SEED, unique=unique)
        assert np.bincount(choice.classes).tolist() == [per_class] * len(counts)
        assert choice.classes.tolist() == store.target("labels")[choice.slots].tolist()
        drawn += Counter(choice.slots.tolist())
        for code in range(len(counts)):
            often = [drawn[slot] for slot in np.flatnonzero(store.target("labels") == code).tolist()]
            assert max(often) - min(often) <= 1
        span = span.next({})


def test_what_unique_cannot_find_is_an_error_that_says_what_there_is() -> None:
    store = store_of({"cat": 3, "dog": 5})
    loader = store.loader(8, augment=Augment(hflip=0.5), frame=Frame(per_class=100, unique=True))
    message = "class 'cat': 3 slots and this augmentation give only 6 different samples, 100 asked"
    with pytest.raises(LazyError, match=message) as caught:
        epoch(loader)
    assert caught.value.slot in range(3)
    images, _ = epoch(store.loader(8, augment=Augment(hflip=0.5), frame=Frame(per_class=6, unique=True)))
    assert max(rows(images).values()) == 1


def test_slots_with_equal_pixels_give_different_samples_too() -> None:
    image = np.random.default_rng(2).integers(0, 256, (12, 12, 3), np.uint8)
    store = arraystore.build([image] * 4, size=12, labels=["a"] * 4, progress=False)
    images, _ = epoch(store.loader(4, augment=Augment(crop=RandomCrop(10)), frame=Frame(unique=True)))
    assert max(rows(images).values()) == 1


# --- the same whoever makes them -------------------------------------------------------------------------------------


@pytest.mark.parametrize("unique", [False, True])
def test_a_frame_is_the_same_for_any_threads_processes_and_ranks(unique: bool, tmp_path: Path) -> None:
    store = store_of({"a": 3, "b": 11})
    options: dict[str, Any] = {"seed": SEED, "transform": noisy, "augment": Augment(crop=RandomCrop(8))}
    form: dict[str, Any] = {"epochs": 1, "per_class": 9, "unique": unique}
    expected = [epoch(store.loader(4, frame=Frame(workers=1, **form), **options), number) for number in range(3)]
    variants: list[dict[str, Any]] = [{"workers": 2}, {"workers": 8}, {"processes": True, "workers": 2}]
    variants += [{"keep": tmp_path / "frames"}]
    for more in variants:
        loader = store.loader(4, frame=Frame(**form, **more), **options)
        for images, labels in expected:
            again = epoch(loader)
            np.testing.assert_array_equal(again[0], images)
            np.testing.assert_array_equal(again[1], labels)
    for number, (images, _) in enumerate(expected):
        ranks = [store.loader(1, rank=r, world_size=4, frame=Frame(**form), **options) for r in range(4)]
        parts = [epoch(loader, number)[0] for loader in ranks]
        np.testing.assert_array_equal(
            np.concatenate([p for k in range(5) for p in (x[k : k + 1] for x in parts)]), images
        )


def test_a_state_goes_on_in_the_middle_of_a_frame() -> None:
    store = store_of({"a": 6, "b": 7})
    options: dict[str, Any] = {"seed": SEED, "transform": noisy, "frame": Frame(epochs=2)}
    loader = store.loader(4, **options)
    for _ in range(3):
        epoch(loader)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    rest = [images for images, _ in batches]
    again = store.loader(4, **options)
    again.load_state_dict(state)
    np.testing.assert_array_equal(np.concatenate([images for images, _ in again]), np.concatenate(rest))
    other = store.loader(4, **options | {"frame": Frame(epochs=3)})
    with pytest.raises(SpecError, match="other slots"):
        other.load_state_dict(state)


def test_a_loader_with_frames_can_be_pickled_and_asked_for_batches_by_number() -> None:
    store = store_of({"a": 6})
    loader = store.loader(4, seed=SEED, transform=noisy, frame=Frame(epochs=2))
    first = epoch(loader, 2)[0]
    again = pickle.loads(pickle.dumps(loader))
    np.testing.assert_array_equal(np.concatenate([again.batch(n, epoch=2)[0] for n in (0, 1)]), first)


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_an_error_of_the_transform_says_which_sample_and_slot() -> None:
    store = store_of({"a": 20})
    last = np.asarray(store.images)[19, :, 0, 0]

    def too_bright(image: Pixels) -> Pixels:
        if np.array_equal(image[0, 0], last):
            raise ValueError("too bright")
        return image

    loader = store.loader(20, transform=too_bright, frame=Frame())
    with pytest.raises(LazyError, match=r"sample 19 of frame 0 could not be made of slot 19 .*ValueError: too bright"):
        epoch(loader)


def test_images_of_another_shape_are_an_error_and_not_resized() -> None:
    store = store_of({"a": 20})
    last = np.asarray(store.images)[19, :, 0, 0]

    def half_of_one(image: Pixels) -> Pixels:
        return image[:6] if np.array_equal(image[0, 0], last) else image

    loader = store.loader(20, transform=half_of_one, frame=Frame())
    with pytest.raises(LazyError, match=r"slot 19 .*shape \(6, 12, 3\), and \(12, 12, 3\) for the first"):
        epoch(loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transform": lambda image: image / 2},
            r"transform returned float64 of shape \(12, 12, 3\), and a frame keeps",
        ),
        ({"balance": True}, "balance does not go with a frame"),
        ({"weights": np.ones(6)}, "weights does not go with a frame"),
        ({"cache": "1 MB"}, "cache does not go with a frame"),
        ({"frame": Frame(unique=True), "augment": Augment(hflip=0.5, follow={"x": "boxes"})}, "targets cannot follow"),
    ],
)
def test_options_that_do_not_go_with_frames_are_refused(options: dict[str, Any], message: str) -> None:
    store = store_of({"a": 6})
    with pytest.raises(SpecError, match=message):
        store.loader(4, **{"frame": Frame()} | options)


def test_a_loader_for_one_epoch_takes_no_frame() -> None:
    with pytest.raises(SpecError, match=r"use store\.loader"):
        store_of({"a": 6}).batches(4, frame=Frame())


def test_invalid_frames_are_refused(tmp_path: Path) -> None:
    for options in ({"epochs": 0}, {"per_class": 0}, {"unique": 1}, {"keep": 2.5}, {"samples": -1}):
        with pytest.raises(SpecError):
            Frame(**options)
    unlabeled = arraystore.build([np.zeros((4, 4, 3), np.uint8)], size=4, progress=False)
    with pytest.raises(SpecError, match="per_class needs labels"):
        unlabeled.loader(1, frame=Frame(per_class=2))
    with pytest.raises(SpecError, match="there is none: pass frame"):
        unlabeled.loader(1, control=tmp_path / "control.json")
    with pytest.raises(SpaceError, match=r"two frames of 6 samples take 5.18 kB, and keep allows 5 kB"):
        store_of({"a": 6}).loader(4, frame=Frame(keep="5 kB"))


def test_slots_that_are_still_being_filled_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marks, "next_runs", lambda _marks, _most=1: [])
    filling = arraystore.build([np.zeros((4, 4, 3), np.uint8)], size=4, progress=False, wait=False)
    with pytest.raises(SpecError, match="still being filled"):
        filling.loader(1, frame=Frame())
    filling.close()
