"""Slots: any choice of any stores reads as NumPy indexing does, and goes to other processes whole."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images
from support.slots import slots_of
from support.store_contract import build

import arraystore
from arraystore import BadImagesError, FormatError, Slots, SpecError, Store, StoreError, concatenate
from arraystore._stores.slot_array import SlotArray

Array = npt.NDArray[Any]


def said(kind: type[Exception], message: str, call: Any, *args: Any, **options: Any) -> None:
    with pytest.raises(kind, match="^" + re.escape(message) + "$"):
        call(*args, **options)


def numbered(count: int, start: int = 0, shape: tuple[int, ...] = (2,)) -> Slots:
    """Slots in RAM whose pixels and targets are their numbers."""
    numbers = np.arange(start, start + count)
    pixels = np.broadcast_to(numbers.reshape(-1, *(1 for _ in shape)), (count, *shape)).astype(np.int32)
    targets = {"labels": numbers, "twice": np.stack([numbers, -numbers], 1).astype(np.float32)}
    return slots_of([SlotArray(pixels, targets=targets)])


def read(slots: Slots) -> list[int]:
    """The numbers of slots, which must be alike in pixels and targets, whichever way they are read."""
    every = np.arange(len(slots))
    pixels, labels = slots.take(every), slots.take(every, "labels")
    np.testing.assert_array_equal(pixels, labels.reshape(-1, 1) + np.zeros(slots.slot_shape, int))
    np.testing.assert_array_equal(slots.take(every, "twice"), np.stack([labels, -labels], 1))
    np.testing.assert_array_equal(slots.labels, labels)
    np.testing.assert_array_equal(slots.target("twice")[:, 0], labels)
    assert [label for _, label in slots] == labels.tolist()
    return labels.tolist()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def stores(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    """The same images on every medium; tests only read them."""
    folder = tmp_path_factory.mktemp("stores")
    vectors = np.asfortranarray(np.arange(57, dtype=np.float32).reshape(19, 3))
    targets = {"ram": None, "npy": folder / "x.store", "hdf5": folder / "x.h5"}
    return {name: build(photos, target, targets={"vector": vectors}) for name, target in targets.items()}


# --- choosing --------------------------------------------------------------------------------------------------------


@st.composite
def choices(draw: st.DrawFn, count: int) -> Any:
    """A slice, a mask or a list that chooses of so many."""
    kind = draw(st.sampled_from(["slice", "mask", "list", "array"] if count else ["slice", "mask"]))
    if kind == "slice":
        return draw(st.slices(count))
    if kind == "mask":
        return np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    chosen = draw(st.lists(st.integers(-count, count - 1), max_size=12))
    dtype = draw(st.sampled_from([np.int8, np.int64] + ([] if min(chosen, default=0) < 0 else [np.uint8, np.uint64])))
    return chosen if kind == "list" else np.array(chosen, dtype)


@settings(max_examples=50)
@given(st.data(), st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_choices_of_choices_of_stores_are_numpy_indexing(data: st.DataObject, counts: list[int]) -> None:
    starts = np.cumsum([0, *counts])
    parts = [numbered(count, start) for count, start in zip(counts, starts.tolist(), strict=False)]
    expected = [np.arange(count) + start for count, start in zip(counts, starts.tolist(), strict=False)]
    for number, part in enumerate(parts):
        if data.draw(st.booleans()):
            chosen = data.draw(choices(len(part)))
            parts[number], expected[number] = part[chosen], expected[number][chosen]
    slots, numbers = concatenate(parts), np.concatenate(expected)
    assert read(slots) == numbers.tolist()
    for _ in range(data.draw(st.integers(0, 3))):
        chosen = data.draw(choices(len(slots)))
        slots, numbers = slots[chosen], numbers[chosen]
        assert read(slots) == numbers.tolist()


def test_one_slot_comes_with_its_label(stores: dict[str, Store]) -> None:
    oracle = stores["ram"]
    for store in stores.values():
        for chosen in (3, -1, np.int8(-19), np.uint64(18)):
            image, label = store[chosen]
            np.testing.assert_array_equal(image, oracle.images[int(chosen)])
            assert label == oracle.targets["labels"][int(chosen)]
            assert image.flags.writeable
    alone = slots_of([SlotArray(np.arange(6).reshape(3, 2))])
    np.testing.assert_array_equal(alone[-1], [4, 5])
    np.testing.assert_array_equal(alone[[2, 0]][1], [0, 1])
    np.testing.assert_array_equal(np.array(list(alone)), np.arange(6).reshape(3, 2))


@pytest.mark.parametrize("chosen", [3, -4, np.int64(3), 2**70])
def test_a_slot_that_does_not_exist_is_an_index_error(chosen: int) -> None:
    said(IndexError, f"slot {chosen} of 3", lambda: numbered(3)[chosen])


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([3], "slots must be -3 to 2, not 3 to 3"),
        ([0, -4], "slots must be -3 to 2, not -4 to 0"),
        (np.array([2**64 - 1], np.uint64), "slots must be -3 to 2, not 18,446,744,073,709,551,615 to {0}"),
        ([True, False], "slots are chosen by a slice, a mask of 3, or a list of integers, not by bool of shape (2,)"),
        ([1.0], "slots are chosen by a slice, a mask of 3, or a list of integers, not by float64 of shape (1,)"),
        ([[1]], "slots are chosen by a slice, a mask of 3, or a list of integers, not by int64 of shape (1, 1)"),
        ("ab", "slots are chosen by a slice, a mask of 3, or a list of integers, not by <U2 of shape ()"),
        (None, "slots are chosen by a slice, a mask of 3, or a list of integers, not by object of shape ()"),
    ],
)
def test_what_cannot_choose_is_refused(chosen: Any, message: str) -> None:
    said(SpecError, message.replace("{0}", "18,446,744,073,709,551,615"), numbered(3).__getitem__, chosen)


def test_nothing_chosen_is_fine() -> None:
    for chosen in ([], slice(2, 2), np.zeros(3, bool), np.empty(0)):
        slots = numbered(3)[chosen]
        assert (len(slots), read(slots)) == (0, [])
        assert (slots.slot_shape, slots.dtype) == ((2,), np.int32)
        assert list(slots.batches(4)) == []


def test_choosing_copies_nothing(stores: dict[str, Store]) -> None:
    for store in stores.values():
        assert store[::2].__slot_arrays__.arrays[0].images is store.__slot_arrays__.arrays[0].images is store.images
        assert concatenate([store, store[3:]]).__slot_arrays__.arrays[1].images is store.images


# --- taking ----------------------------------------------------------------------------------------------------------


def test_take_writes_where_it_is_told(stores: dict[str, Store]) -> None:
    wanted = [4, 18, 4, 0]
    for store in stores.values():
        out = np.full((4, 3, 16, 24), 7, np.uint8)
        assert store.take(wanted, out=out) is out
        np.testing.assert_array_equal(out, stores["ram"].images[wanted])
        vectors = np.zeros((4, 3), np.float32)
        assert store.take(np.array(wanted, np.uint8), "vector", out=vectors) is vectors
        np.testing.assert_array_equal(vectors, stores["ram"].targets["vector"][wanted])
        np.testing.assert_array_equal(store.take(2), stores["ram"].images[2:3])


@pytest.mark.parametrize(
    ("slots", "options", "message"),
    [
        ([3], {}, "slots must be 0 to 2, not 3 to 3"),
        ([-1], {}, "slots must be 0 to 2, not -1 to -1"),
        ([1.5], {}, "slots must be integers, not float64"),
        ([True, False, True], {}, "slots must be integers, not bool"),
        ([0], {"name": "z"}, "there is no target 'z': the targets are 'labels', 'twice'"),
        (
            [0],
            {"out": np.empty((2, 2), "i4")},
            "out must be an array of int32 and shape (1, 2), not of int32 and (2, 2)",
        ),
        (
            [0],
            {"out": np.empty((1, 2), "i8")},
            "out must be an array of int32 and shape (1, 2), not of int64 and (1, 2)",
        ),
    ],
)
def test_take_refuses_what_does_not_fit(slots: Any, options: dict[str, Any], message: str) -> None:
    said(SpecError, message, numbered(3).take, slots, **options)


def test_take_refuses_an_array_that_it_could_not_fill() -> None:
    message = "out must be writable and in C order: pass a whole array, such as np.empty makes"
    slots = numbered(3, shape=(2, 3))
    for out in (np.empty((2, 3, 2), np.int32).transpose(0, 2, 1), np.empty((4, 2, 3), np.int32)[::2]):
        said(SpecError, message, slots.take, [0, 1], out=out)
    fixed = np.zeros((2, 2, 3), np.int32)
    fixed.flags.writeable = False
    said(SpecError, message, slots.take, [0, 1], out=fixed)


def test_large_slots_are_never_written_to_a_read_only_mapping(tmp_path: Path) -> None:
    """The streams write by address, past NumPy's checks: a mapping of a file would end the process."""
    slots = slots_of([SlotArray(np.ones((20, 1 << 17), np.uint8))])
    (tmp_path / "out").write_bytes(bytes(20 << 17))
    out = np.memmap(tmp_path / "out", np.uint8, "r", shape=(20, 1 << 17))
    with pytest.raises(SpecError, match=r"^out must be writable"):
        slots.take(range(20), out=out)


def test_targets_have_names() -> None:
    slots = numbered(3)
    assert slots.target_names == ("labels", "twice")
    said(SpecError, "there is no target 'z': the targets are 'labels', 'twice'", slots.target, "z")
    said(SpecError, "there is no target 'z': the targets are none", slots_of([SlotArray(np.zeros(3))]).target, "z")
    assert slots.target("twice") is slots.__slot_arrays__.arrays[0].targets["twice"]
    assert slots_of([SlotArray(np.zeros(3))]).labels is None


def test_slots_say_what_they_are(stores: dict[str, Store]) -> None:
    assert repr(stores["npy"][:7]) == "<arraystore.Slots 7 x 3 x 16 x 24 uint8 NCHW>"
    assert repr(numbered(3)) == "<arraystore.Slots 3 x 2 int32>"
    assert repr(numbered(3, shape=())) == "<arraystore.Slots 3 int32>"


# --- several stores --------------------------------------------------------------------------------------------------


def test_stores_of_all_media_are_one_sequence(stores: dict[str, Store]) -> None:
    whole = concatenate([stores["npy"], stores["ram"][::-2], stores["hdf5"]])
    rows = [*range(19), *range(18, -1, -2), *range(19)]
    np.testing.assert_array_equal(whole.take(range(len(rows))), stores["ram"].images[rows])
    np.testing.assert_array_equal(whole.labels, stores["ram"].targets["labels"][rows])
    np.testing.assert_array_equal(whole.target("vector"), stores["ram"].targets["vector"][rows])
    assert (whole.classes, whole.layout) == (stores["ram"].classes, "NCHW")
    backwards = np.concatenate([images for images, _ in whole[::-1].batches(7)])
    np.testing.assert_array_equal(backwards, stores["ram"].images[rows[::-1]])


def alike(**changes: Any) -> Slots:
    given: dict[str, Any] = {"images": np.zeros((3, 3, 4, 4), np.uint8), "targets": {"labels": np.arange(3)}} | changes
    layout, categories = given.pop("layout", "NCHW"), given.pop("categories", {"labels": ("a", "b")})
    return slots_of([SlotArray(**given)], layout=layout, categories=categories)


@pytest.mark.parametrize(
    ("changes", "first", "second"),
    [
        ({"images": np.zeros((3, 3, 4, 5), np.uint8)}, "slots of shape (3, 4, 4)", "(3, 4, 5)"),
        ({"images": np.zeros((3, 3, 4, 4), np.int8)}, "pixels of type uint8", "int8"),
        ({"layout": "NHWC"}, "layout NCHW", "NHWC"),
        ({"targets": {}}, "targets ['labels']", "[]"),
        ({"targets": {"labels": np.arange(3), "a": np.arange(3)}}, "targets ['labels']", "['a', 'labels']"),
        ({"categories": {"labels": ("b", "a")}}, "categories {'labels': ('a', 'b')}", "{'labels': ('b', 'a')}"),
        ({"targets": {"labels": np.arange(3.0)}}, "labels of (dtype('int64'),)", "(dtype('float64'),)"),
        ({"targets": {"labels": np.zeros((3, 2), int)}}, "labels of (dtype('int64'),)", "(dtype('int64'), 2)"),
    ],
)
def test_only_what_is_alike_is_concatenated(changes: dict[str, Any], first: str, second: str) -> None:
    message = f"store 0 has {first}, store 2 has {second}: only stores that are alike can be concatenated"
    said(SpecError, message, concatenate, [alike(), alike(), alike(**changes)])


def test_there_must_be_something_to_concatenate() -> None:
    said(SpecError, "there is nothing to concatenate: pass at least one store", concatenate, [])
    assert read(concatenate([numbered(3)])) == [0, 1, 2]
    again = concatenate([concatenate([numbered(2), numbered(1, 2)[[0, 0]]]), numbered(2, 5)])
    assert read(again) == [0, 1, 2, 2, 5, 6]


def test_the_order_of_targets_does_not_matter() -> None:
    one = slots_of([SlotArray(np.zeros(2), targets={"a": np.array([1, 2]), "b": np.array([3.0, 4.0])})])
    other = slots_of([SlotArray(np.zeros(2), targets={"b": np.array([7.0, 8.0]), "a": np.array([5, 6])})])
    both = concatenate([one, other])
    assert both.target("a").tolist() == [1, 2, 5, 6]
    assert both.target("b").tolist() == [3, 4, 7, 8]


def test_pooled_mean_and_std_are_those_of_numpy(photos: Path, mixed: Path, tmp_path: Path) -> None:
    parts: list[Slots] = [build(photos), build(mixed, tmp_path / "x.store", bad="keep")]
    alike = replace(parts[0].__slot_arrays__, categories=parts[1].categories)
    parts[0] = Slots(alike)
    whole = concatenate(parts)
    pixels = np.concatenate([part.__slot_arrays__.arrays[0].images for part in parts]).astype(float)
    pixels = np.delete(pixels, whole.unreadable(), axis=0)
    assert len(pixels) == 19 + 8
    np.testing.assert_allclose(whole.mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(whole.std, pixels.std((0, 2, 3)), rtol=1e-10)
    assert whole[:3].mean == whole.mean
    parts[1] = Slots(replace(parts[1].__slot_arrays__, mean=()))
    assert concatenate(parts).mean == concatenate(parts).std == ()


# --- slots without an image ------------------------------------------------------------------------------------------


def test_failed_slots_are_unreadable_in_every_choice(mixed: Path, tmp_path: Path) -> None:
    stores = [build(mixed, target, bad="keep") for target in (None, tmp_path / "x.store", tmp_path / "x.h5")]
    for store in stores:
        assert store.unreadable().tolist() == [2, 3, 7, 11]
        assert store[::-1].unreadable().tolist() == [0, 4, 8, 9]
        assert store[[0, 7, 7, 1, 3]].unreadable().tolist() == [1, 2, 4]
        assert store[[0, 1]].unreadable().tolist() == []
        # What failed can be read, as zeros.
        assert not store.take([2, 3, 7, 11]).any()
    whole = concatenate([*stores, build(mixed, bad="drop")])
    assert whole.unreadable().tolist() == [*(12 * part + slot for part in range(3) for slot in (2, 3, 7, 11))]
    assert np.concatenate([labels for _, labels in whole.batches(5)]).size == 3 * 8 + 8


def test_slots_that_are_not_done_yet_are_unreadable(mixed: Path, tmp_path: Path) -> None:
    for name in ("x.store", "x.h5"):
        with pytest.raises(BadImagesError):
            build(mixed, tmp_path / name)
        store = arraystore.open(tmp_path / name, partial=True)
        status = np.array(store.status)
        status[5] = 0
        store = slots_of([SlotArray(store.images, status, store.checksums)])
        assert store.unreadable().tolist() == [2, 3, 5, 7, 11]
        assert sum(len(batch) for batch in store.batches(4)) == 7


# --- other processes -------------------------------------------------------------------------------------------------


def test_every_medium_is_sent_whole(stores: dict[str, Store]) -> None:
    for name, store in stores.items():
        data = pickle.dumps(store)
        assert len(data) < (100_000 if name == "ram" else 3_000)
        again = pickle.loads(data)
        assert type(again) is Store
        assert (again.medium, again.path, again.spec, again.description) == (
            store.medium,
            store.path,
            store.spec,
            store.description,
        )
        assert (again.mean, again.std, again.classes) == (store.mean, store.std, store.classes)
        assert isinstance(again.images, np.memmap) is (name != "ram")
        np.testing.assert_array_equal(again.images, store.images)
        np.testing.assert_array_equal(again.status, store.status)
        np.testing.assert_array_equal(again.checksums, store.checksums)
        for target, values in store.targets.items():
            np.testing.assert_array_equal(again.targets[target], values)
        assert again.samples.equals(store.samples)
        again = pickle.loads(pickle.dumps(store[[5, 2]].load()))
        assert again.__slot_arrays__.cache is None
        np.testing.assert_array_equal(again.take([0, 1]), store.images[[5, 2]])


def test_another_process_reads_the_same(stores: dict[str, Store], tmp_path: Path) -> None:
    whole = concatenate([stores["npy"], stores["hdf5"][::-1], stores["ram"][:4]])
    (tmp_path / "slots").write_bytes(pickle.dumps(whole))
    code = (
        "import pickle, sys\n"
        "slots = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print([int(image.astype(int).sum()) + 10**9 * int(label) for image, label in slots])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "slots")]
    result = subprocess.run(command, check=True, timeout=400, capture_output=True, text=True)
    assert result.stdout.strip() == str([int(image.astype(int).sum()) + 10**9 * int(label) for image, label in whole])


def test_a_file_that_was_replaced_is_not_sent_for_another(photos: Path, tmp_path: Path) -> None:
    for name, file in (("x.store", "x.store/images.npy"), ("x.h5", "x.h5")):
        store = build(photos, tmp_path / name)
        data = pickle.dumps(store[3:])
        message = f"{tmp_path / file} was replaced or removed after it was opened: open it again"
        build(photos, tmp_path / name, overwrite=True)
        said(FormatError, message, pickle.loads, data)
        said(FormatError, message, pickle.loads, pickle.dumps(store))
        (tmp_path / file).unlink()
        said(FormatError, message, pickle.loads, data)
        assert store[0][0].any()  # whoever holds the old one keeps its pixels
    path = tmp_path / "x.npy"
    np.save(path, np.ones((9, 4096)))
    data = pickle.dumps(arraystore.open_array(path))
    os.truncate(path, 5000)
    message = f"{path} was replaced or removed after it was opened: open it again"
    said(FormatError, message, pickle.loads, data)


def test_a_target_in_fortrans_order_is_sent_in_it(tmp_path: Path) -> None:
    values = np.asfortranarray(np.arange(12).reshape(4, 3))
    np.save(tmp_path / "target.npy", values)
    mapped = np.load(tmp_path / "target.npy", mmap_mode="r")
    again = pickle.loads(pickle.dumps(SlotArray(np.zeros(4), targets={"mapped": mapped})))
    assert isinstance(again.targets["mapped"], np.memmap)
    np.testing.assert_array_equal(again.targets["mapped"], values)


def test_a_part_of_a_mapping_is_sent_by_its_values(tmp_path: Path) -> None:
    """A slice of a np.memmap says the offset of the whole."""
    np.save(tmp_path / "x.npy", np.arange(10))
    half = np.load(tmp_path / "x.npy", mmap_mode="r")[5:]
    again = pickle.loads(pickle.dumps(slots_of([SlotArray(half, targets={"half": half})])))
    np.testing.assert_array_equal(again.take(range(5)), np.arange(5, 10))
    np.testing.assert_array_equal(again.target("half"), np.arange(5, 10))


# --- closing ---------------------------------------------------------------------------------------------------------


CLOSED: list[Callable[[Store], object]] = [
    lambda store: store[0],
    lambda store: store[:3],
    lambda store: store.take([0]),
    lambda store: store.target("labels"),
    lambda store: store.labels,
    lambda store: next(store.batches(4)),
    lambda store: concatenate([store]),
    lambda store: store.images,
    lambda store: store.status,
    lambda store: store.checksums,
    lambda store: store.targets,
    lambda store: store.samples,
    lambda store: store.dropped_samples,
    lambda store: store.slot_shape,
    lambda store: store.dtype,
    lambda store: store.target_names,
    lambda store: iter(store.loader(2)),
    lambda store: next(iter(store)),
    lambda store: store[np.arange(19) < 3],
    lambda store: store.cached("1 MB"),
    Store.bad,
    Store.noted,
    Store.dropped,
    Store.unreadable,
    Store.loader,
    Store.load,
    pickle.dumps,
]


def test_a_closed_store_says_so(photos: Path, tmp_path: Path) -> None:
    message = "the store was closed: open it again to read it"
    for target in (None, tmp_path / "x.store", tmp_path / "x.h5"):
        store = build(photos, target)
        kept, loader, chosen = store[:], store.loader(4), store[:3]
        store.close()
        for use in CLOSED:
            said(StoreError, message, use, store)
        assert (len(store), store.classes, store.path) == (19, ("ash", "größe 日本", "oak"), target)
        assert store.spec.size == (16, 24)
        assert len(store.mean) == len(store.std) == store.description.shape[0] == 3
        assert repr(store).startswith("<arraystore.Store 19 x 3 x 16 x 24")
        # What was made of it before goes on.
        assert kept.take([0]).any()
        assert chosen[0][0].any()
        assert sum(len(labels) for _, labels in loader) == 19


def test_a_closed_store_holds_no_mapping(tmp_path: Path) -> None:
    code = (
        "import sys, arraystore\n"
        "for path in sys.argv[1:]:\n"
        "    store = arraystore.open(path)\n"
        "    store.unreadable(), store.labels, next(store.batches(2))\n"
        "    assert path in open('/proc/self/maps').read()\n"
        "    store.close()\n"
        "    assert path not in open('/proc/self/maps').read()\n"
    )
    paths = [tmp_path / "x.store", tmp_path / "x.h5"]
    for path in paths:
        build([images.noise(4, 4)] * 2, path, labels=[0, 1])
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True, timeout=400)
