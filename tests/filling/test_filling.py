"""A store that is read while it fills itself: the same batches and, in the end, the same bytes as a built one."""

from __future__ import annotations

import gc
import json
import os
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import images
from support.command import run
from support.faults import contents
from support.store_contract import BAD, assert_equal, build, count_decodes, message_of

import arraystore
from arraystore import (
    Augment,
    BadImagesError,
    FillingStore,
    Loader,
    Masks,
    RandomCrop,
    RandomResizedCrop,
    SpecError,
    Store,
    StoreError,
)
from arraystore._building.filling.marks import Marks
from arraystore._stores.publishing import partial_of
from arraystore._stores.unfinished import followers

if TYPE_CHECKING:
    from support.nursery import Nursery

TARGETS = ["x.store", "x.h5", "", "x.jpegs", "jpegs.h5", "jpegs"]
IN_MEMORY = ("", "jpegs")
SOON_S = 60.0


def begin(source: Any, target: Path | None = None, **options: Any) -> FillingStore:
    store = build(source, target, wait=False, **options)
    assert isinstance(store, FillingStore)
    return store


def named(folder: Path, name: str) -> Path | None:
    return None if name in IN_MEMORY else folder / name


def form(name: str) -> dict[str, Any]:
    """How the slots of a target are kept."""
    return {"encode": "jpeg"} if "jpegs" in name else {}


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is filled ahead: readers decode what they need."""
    monkeypatch.setattr(Marks, "next_runs", lambda _marks, _most=1: [])


def batches(loader: Loader[Any]) -> list[tuple[Any, ...]]:
    return [tuple(np.array(each) for each in batch) for batch in loader]


def same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


# --- the same as a built store ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_epochs_and_the_finished_store_are_those_of_a_built_one(photos: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "filled").mkdir()
    built = build(photos, named(tmp_path / "built", name), targets={"score": np.arange(19.0)}, **form(name))
    store = begin(photos, named(tmp_path / "filled", name), targets={"score": np.arange(19.0)}, **form(name))
    assert (len(store), store.classes, store.target_names) == (19, built.classes, built.target_names)
    assert repr(store).startswith("<arraystore.FillingStore 19 x 3 x 16 x 24 uint8 NCHW")
    augment = Augment(hflip=0.5, dtype="float32")
    for options in ({}, {"augment": augment}, {"targets": ["score"], "shuffle": False}, {"balance": True}):
        loaders = [each.loader(5, seed=3, **options) for each in (store, built)]
        first, second = ([{**b} if isinstance(b, dict) else b for b in each] for each in loaders)
        for left, right in zip(first, second, strict=True):
            pairs = [(left[k], right[k]) for k in left] if isinstance(left, dict) else zip(left, right, strict=True)
            for a, b in pairs:
                np.testing.assert_array_equal(a, b)
    assert store.filled == 1.0
    assert store.mean == ()
    store.finish()
    store.finish()
    assert (store.mean, store.std, store.filled) == (built.mean, built.std, 1.0)
    assert store.samples.equals(built.samples)
    np.testing.assert_array_equal(np.asarray(store.images), np.asarray(built.images))
    np.testing.assert_array_equal(store.status, built.status)
    np.testing.assert_array_equal(store.checksums, built.checksums)
    assert contents(tmp_path / "filled") == contents(tmp_path / "built")
    assert store.verify(progress=False).ok
    if name not in IN_MEMORY:
        assert_equal(arraystore.open(tmp_path / "filled" / name), built)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_finish_is_needed(photos: Path, tmp_path: Path, name: str) -> None:
    store = begin(photos, named(tmp_path, name), **form(name))
    store.finish()
    assert_equal(store, build(photos, **form(name)))


SOURCE = [images.noise(12, 9, seed=seed) for seed in range(23)]
ORACLES = {each: build(SOURCE, labels=np.arange(23), **form(each)) for each in IN_MEMORY}


@given(
    st.lists(st.lists(st.integers(0, 22), max_size=40), max_size=6),
    st.integers(1, 4),
    st.integers(0, 2**32),
    st.booleans(),
    st.sampled_from(TARGETS),
)
def test_filling_in_any_order_by_any_workers_equals_building(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[int]], workers: int, seed: int, read: bool, name: str
) -> None:
    folder, oracle = tmp_path_factory.mktemp("any"), ORACLES["jpegs" if "jpegs" in name else ""]
    store = begin(SOURCE, named(folder, name), labels=np.arange(23), workers=workers, **form(name))
    with ThreadPoolExecutor(4) as threads:
        for slots, taken in zip(asked, threads.map(store.take, asked), strict=True):
            np.testing.assert_array_equal(taken, oracle.take(slots))
    if read:
        for found, expected in zip(store.loader(4, seed=seed), oracle.loader(4, seed=seed), strict=True):
            np.testing.assert_array_equal(found[0], expected[0])
    store.finish()
    assert_equal(store, oracle)
    store.close()


@pytest.mark.parametrize("name", ["x", "x.jpegs"])
def test_worker_processes_fill_too(photos: Path, tmp_path: Path, name: str) -> None:
    fill(photos, tmp_path / name, processes=True, **form(name))


def test_an_executor_fills_too(photos: Path, tmp_path: Path, nursery: Nursery) -> None:
    """Its processes are forks of one that has the decoders loaded and no threads yet."""
    nursery.run(fill_by_an_executor, photos, tmp_path / "x")


def fill_by_an_executor(photos: Path, target: Path) -> None:
    with ProcessPoolExecutor(2, get_context("fork")) as executor:
        executor.submit(os.getpid).result(SOON_S)  # forks both
        fill(photos, target, executor=executor, processes=False)


def fill(photos: Path, target: Path, **options: Any) -> None:
    store = begin(photos, target, workers=2, **options)
    built = build(photos, **form(target.name))
    for found, expected in zip(store.loader(4, seed=2), built.loader(4, seed=2), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
    store.finish()
    assert_equal(store, built)


# --- who fills what --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_workers")
def test_a_reader_decodes_what_it_needs_and_nothing_twice(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decodes(monkeypatch)
    store = begin(photos, tmp_path / "x")
    assert len(decoded) == 0
    store.take([3, 5, 3])
    assert (len(decoded), store.filled) == (2, 2 / 19)
    assert np.flatnonzero(store.status).tolist() == [3, 5]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(store.take, [range(19)] * 8))
    assert len(decoded) == 19
    assert store.filled == 1.0


def test_workers_fill_in_the_order_of_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are stopped until the loader has said what it will need; it is then not read any further."""
    source, filled = [images.noise(8, 8, seed=seed) for seed in range(64)], []
    go, next_runs = threading.Event(), Marks.next_runs

    def waiting(marks: Marks, most: int = 1) -> list[tuple[int, int]]:
        runs = next_runs(marks, most) if go.is_set() else []
        filled.extend(runs)
        return runs

    monkeypatch.setattr(Marks, "next_runs", waiting)
    store = begin(source, tmp_path / "x", workers=1)
    loader = store.loader(4, seed=5, in_flight=1, workers=1)
    iteration = iter(loader)
    go.set()
    wait_until(lambda: store.filled == 1.0)
    order = loader.order.draw(0, np.arange(64)).tolist()
    assert len(filled) > 32
    assert all(stop == start + 1 for start, stop in filled)
    places = [order.index(start) for start, _ in filled]
    assert places == sorted(places)
    del iteration


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


# --- bad images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("workers", [1, 3])
def test_no_loader_hands_out_a_bad_slot(mixed: Path, tmp_path: Path, name: str, workers: int) -> None:
    store = begin(mixed, named(tmp_path, name), bad="keep", targets={"row": np.arange(12)}, **form(name))
    oracle = build(mixed, bad="keep", targets={"row": np.arange(12)}, **form(name))
    for options in ({"shuffle": False}, {"seed": 4}, {"seed": 4, "rank": 1, "world_size": 2}):
        loader = store[:].loader(3, targets=["row"], workers=workers, last="pad", **options)
        read = list(loader)
        assert [len(batch["row"]) for batch in read] == [3] * len(loader)
        rows = np.concatenate([batch["row"] for batch in read])
        assert not {*rows.tolist()} & {*BAD}
        np.testing.assert_array_equal(np.concatenate([batch["images"] for batch in read]), oracle.images[rows])
        order = loader.order.draw(0, np.arange(12)).tolist()
        expected = []
        for number in range(len(loader)):
            for position in loader.share.positions(number, 0).tolist():
                at = position
                while order[at] in BAD:
                    at = (at + 1) % 12
                expected.append(order[at])
        assert rows.tolist() == expected
    assert [bad.slot for bad in store.bad()] == BAD
    store.finish()
    assert [bad.slot for bad in store.bad()] == BAD
    assert not {*np.concatenate([batch["row"] for batch in store.loader(3, targets=["row"])]).tolist()} & {*BAD}
    assert_equal(store, oracle)


def test_bad_images_are_an_error_at_the_end_of_the_epoch_and_of_finish(mixed: Path, tmp_path: Path) -> None:
    store = begin(mixed, tmp_path / "x")
    loader = store.loader(5)
    iteration = iter(loader)
    assert [len(next(iteration)[0]) for _ in range(3)] == [5, 5, 2]
    with pytest.raises(BadImagesError, match=r"^4 of 12 images could not be stored: bad='keep' stores them") as caught:
        next(iteration)
    assert ([bad.slot for bad in caught.value.bad], loader.at) == (BAD, (1, 0))
    assert "drop" not in str(caught.value).splitlines()[0]
    with pytest.raises(BadImagesError, match=r"^4 of 12 "):
        store.finish()
    store.close()
    # The same call that keeps them goes on from there.
    store = begin(mixed, tmp_path / "x", bad="keep")
    store.finish()
    assert_equal(store, build(mixed, bad="keep"))


@pytest.mark.parametrize("name", TARGETS)
def test_a_copy_in_another_process_hands_out_no_bad_slot_that_was_found_before(
    mixed: Path, tmp_path: Path, name: str
) -> None:
    store = begin(mixed, named(tmp_path, name), bad="keep", targets={"row": np.arange(12)}, **form(name))
    store.take(range(12))
    for copy in (pickle.loads(pickle.dumps(store)), pickle.loads(pickle.dumps(store[:]))):
        read = np.concatenate([batch["row"] for batch in copy.loader(3, targets=["row"])])
        assert len(read) == 12
        assert not {*read.tolist()} & {*BAD}
    store.close()


def test_too_many_bad_images_end_the_filling(tmp_path: Path) -> None:
    store = begin([b"no image"] * 30, tmp_path / "x", max_bad=3, bad="keep")
    with pytest.raises(BadImagesError, match=r"that is more than max_bad allows"):
        list(store.loader(4))


def test_only_bad_images_are_an_error_and_no_endless_search(tmp_path: Path) -> None:
    store = begin([b"no image"] * 30, tmp_path / "x", bad="keep")
    with pytest.raises(arraystore.DecodeError, match="or none at all: is this the right source"):
        next(iter(store.loader(4)))
    with pytest.raises(BadImagesError, match=r"^30 of 30 "):
        store.finish()


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("name", [each for each in TARGETS if each not in IN_MEMORY])
def test_the_same_call_goes_on_from_what_is_filled(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, *, wait: bool
) -> None:
    store = begin(photos, tmp_path / name, **form(name))
    store.take([0, 7, 18])
    store.close()
    assert partial_of(tmp_path / name).is_dir()
    decoded = count_decodes(monkeypatch)
    again = build(photos, tmp_path / name, wait=wait, **form(name))
    if not wait:
        assert again.filled == 3 / 19
        assert np.flatnonzero(again.status).tolist() == [0, 7, 18]
        again.take(range(19))
        again.finish()
    assert len(decoded) == 16
    assert_equal(again, build(photos, **form(name)))
    assert not partial_of(tmp_path / name).exists()


@pytest.mark.usefixtures("no_workers")
def test_only_changed_sources_are_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = images.write_tree(tmp_path / "source", {"a": 6})
    files = sorted(source.rglob("*.*"))
    with begin(source, tmp_path / "x") as store:
        store.take(range(6))
    files[2].write_bytes(images.png(images.noise(30, 30, seed=99)))
    decoded = count_decodes(monkeypatch)
    store = begin(source, tmp_path / "x")
    assert store.filled == 5 / 6
    store.take(range(6))
    store.finish()
    assert len(decoded) == 1
    assert_equal(store, build(source))


def test_another_spec_is_an_error_that_says_the_difference(photos: Path, tmp_path: Path) -> None:
    with begin(photos, tmp_path / "x") as store:
        store.take([1])
    with pytest.raises(StoreError, match=r"holds an unfinished build of something else: size was \(16, 24\), is"):
        begin(photos, tmp_path / "x", size=16)


def test_the_state_of_a_loader_holds_in_the_next_call_and_when_it_is_finished(photos: Path, tmp_path: Path) -> None:
    whole = batches(build(photos).loader(4, seed=6))
    with begin(photos, tmp_path / "x") as store:
        loader = store.loader(4, seed=6)
        iteration = iter(loader)
        next(iteration)
        state = loader.state_dict()
        del iteration
    with begin(photos, tmp_path / "x") as store:
        loader = store.loader(4, seed=6)
        loader.load_state_dict(state)
        assert same(batches(loader), whole[1:])
        store.finish()
    with begin(photos, tmp_path / "x") as store:
        loader = store.loader(4, seed=6)
        loader.load_state_dict(state)
        assert same(batches(loader), whole[1:])


def test_a_finished_store_of_the_same_sources_is_opened(photos: Path, tmp_path: Path) -> None:
    build(photos, tmp_path / "x")
    store = begin(photos, tmp_path / "x")
    assert store.filled == 1.0
    assert store.mean == arraystore.open(tmp_path / "x").mean
    store.finish()
    assert_equal(store, build(photos))
    pickled = pickle.loads(pickle.dumps(store))
    assert_equal(pickled, build(photos))


def test_a_store_of_other_sources_is_not_replaced_unless_asked(photos: Path, tmp_path: Path) -> None:
    source = images.write_tree(tmp_path / "source", {"a": 3})
    build(source, tmp_path / "x")
    assert "exists already" in message_of(arraystore.StoreExistsError, begin, photos, tmp_path / "x")
    store = begin(photos, tmp_path / "x", overwrite=True)
    assert len(arraystore.open(tmp_path / "x")) == 3
    store.finish()
    assert_equal(arraystore.open(tmp_path / "x"), build(photos))


def test_info_shows_how_far_it_is(photos: Path, tmp_path: Path, no_workers: None) -> None:
    del no_workers
    with begin(photos, tmp_path / "x.store") as store:
        store.take(range(7))
        wait_until(lambda: arraystore.open(tmp_path / "x.store", partial=True).status.sum() == 7)
        text = run("info", f"{tmp_path}/x.store.partial").stdout
        assert "7 of 19, 36.8 %" in text
        assert "7 stored, 0 failed, 12 empty" in text
        assert "a process is filling it" in text
    facts = json.loads(run("info", f"{tmp_path}/x.store.partial", "--json").stdout)
    assert (facts["stored"], facts["empty"], facts["in_progress"]) == (7, 12, False)


@pytest.mark.parametrize("name", TARGETS)
def test_a_pickled_store_reads_what_is_filled_and_decodes_the_rest(
    photos: Path, tmp_path: Path, name: str, no_workers: None
) -> None:
    del no_workers
    store = begin(photos, named(tmp_path, name), **form(name))
    store.take([1, 2])
    sent = pickle.loads(pickle.dumps(store))
    assert isinstance(sent, FillingStore)
    assert same(batches(sent.loader(4, seed=3)), batches(build(photos, **form(name)).loader(4, seed=3)))
    assert [sent.status[3] == 1, store.filled > 0] == [True, True] if name in IN_MEMORY else True
    np.testing.assert_array_equal(sent[4:9].take(range(5)), store[4:9].take(range(5)))
    if name in IN_MEMORY:
        with pytest.raises(StoreError, match=r"^this process has a copy of a store in memory: call finish where"):
            sent.finish()
    sent.close()
    store.take(range(19))
    store.finish()
    assert_equal(store, build(photos, **form(name)))


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_workers")
def test_a_closed_store_gives_nothing_that_is_not_safe(photos: Path, tmp_path: Path) -> None:
    store = begin(photos, tmp_path / "x")
    chosen, loader = store[:4], store.loader(4, shuffle=False)
    copy = store.images[1]
    np.testing.assert_array_equal(copy, build(photos).images[1])
    assert copy.flags.writeable
    store.close()
    for read in (lambda: chosen.take([1]), lambda: next(iter(loader))):
        with pytest.raises(StoreError, match=r"^the store was closed before all of it was filled"):
            read()
    with pytest.raises(StoreError, match=r"^the store was closed: open it again to read it$"):
        _ = store.images
    store.close()


def test_loaders_of_a_finished_store_live_on_after_close(photos: Path, tmp_path: Path) -> None:
    store = begin(photos, tmp_path / "x")
    loader = store.loader(4, seed=1)
    store.finish()
    store.close()
    assert same(batches(loader), batches(build(photos).loader(4, seed=1)))


def test_a_store_that_nobody_has_ends_its_threads_and_its_lock(photos: Path, tmp_path: Path) -> None:
    store = begin(photos, tmp_path / "x")
    driver = store.images.filler._driver  # type: ignore[attr-defined]
    store.take([0])
    del store
    gc.collect()
    wait_until(lambda: not driver.is_alive())
    with begin(photos, tmp_path / "x") as store:
        store.finish()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is freed but what nothing refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("name", IN_MEMORY)
@pytest.mark.parametrize("how", ["built", "filled", "read", "finished"])
def test_the_slots_of_a_store_in_memory_go_with_it(photos: Path, how: str, name: str) -> None:
    """A collection may come long after: what it has to find, such as a cycle, holds gigabytes until then."""
    store = build(photos, **form(name)) if how == "built" else begin(photos, **form(name))
    if how in ("read", "finished"):
        for _ in store.loader(4, seed=1):
            pass
    wait_until(lambda each=store: each.filled == 1)
    if how == "finished":
        store.finish()
    slots = weakref.ref(store.__slot_arrays__.arrays[0].kept)
    assert slots() is not None
    del store
    wait_until(lambda: slots() is None)


@pytest.mark.parametrize(
    "chosen",
    [3, -1, slice(2, 9, 3), [5, 0, 5], [[1, 2], [3, 4]], (3, 0), ([0, 1], [0, 2]), ([4, 4], slice(1)), (..., 5),
     (slice(3, 5), [0, 2]), (None, 2), (2, slice(None), [0, 3], [1, 2]), ()],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("name", IN_MEMORY)
def test_images_are_indexed_as_an_array_is(photos: Path, chosen: Any, name: str) -> None:
    with begin(photos, **form(name)) as store:
        np.testing.assert_array_equal(store.images[chosen], build(photos, **form(name)).images[chosen], strict=True)


@pytest.mark.parametrize("collected_by", ["this thread", "another one"])
def test_a_store_that_is_left_in_an_epoch_ends_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collected_by: str
) -> None:
    """Its workers are told what comes next by nothing that keeps the store alive, and its lock is free again."""
    source, before = [images.noise(8, 8, seed=seed) for seed in range(64)], {*threading.enumerate()}

    def begun() -> set[threading.Thread]:
        return {*threading.enumerate()} - before  # those of other tests may still be ending

    monkeypatch.setattr(Marks, "next_runs", lambda *_: [])  # workers use up no order
    store = begin(source, tmp_path / "x")
    iteration = iter(store.loader(4, seed=1, in_flight=1, workers=1))
    next(iteration)
    assert 0 < store.filled < 1
    assert begun()
    del iteration, store
    if collected_by == "this thread":
        gc.collect()
    else:
        with ThreadPoolExecutor(1) as threads:
            threads.submit(gc.collect).result(SOON_S)
    wait_until(lambda: not begun())
    monkeypatch.undo()
    with begin(source, tmp_path / "x") as again:
        again.finish()
        assert_equal(again, build(source))


@pytest.mark.parametrize("name", TARGETS)
def test_a_sample_of_slots_gives_mean_and_std_until_all_are_known(mixed: Path, tmp_path: Path, name: str) -> None:
    built = build(mixed, bad="keep", **form(name))
    sample = [slot for slot in (0, 2, 5, 8, 11) if built.status[slot] == 1]
    pixels = np.asarray(built.images)[sample].astype(float)
    with begin(mixed, named(tmp_path, name), bad="keep", statistics=5, **form(name)) as store:
        np.testing.assert_allclose(store.mean, pixels.mean((0, 2, 3)))
        np.testing.assert_allclose(store.std, pixels.std((0, 2, 3)))
        loader = store.loader(4, shuffle=False, augment=Augment(dtype="float32", normalize=True))
        first = next(iter(loader))[0][0]
        shape = (3, 1, 1)
        mean, std = np.reshape(store.mean, shape), np.reshape(store.std, shape)
        np.testing.assert_allclose(first, (built.images[0] - mean) / std, rtol=1e-4, atol=1e-4)
        with pickle.loads(pickle.dumps(store)) as sent:
            assert (sent.mean, sent.std) == (store.mean, store.std)
        store.finish()
        assert store.mean == built.mean  # of JPEGs, that of the pixels before they were encoded
    with pytest.raises(SpecError, match="statistics were asked of a sample"):
        build(mixed, bad="keep", statistics=5)


@pytest.mark.parametrize(("name", "file"), [("x", "images.npy"), ("x.jpegs", "encoded.log")])
def test_what_is_written_wrongly_is_found_at_the_end_and_filled_again(
    photos: Path, tmp_path: Path, name: str, file: str
) -> None:
    store = begin(photos, tmp_path / name, **form(name))
    store.take(range(19))
    with (partial_of(tmp_path / name) / file).open("r+b") as opened:
        opened.seek(4096 + 2000)
        opened.write(b"not what was decoded")
    store.finish()
    assert_equal(store, build(photos, **form(name)))
    assert store.verify(progress=False).ok


@pytest.mark.parametrize("name", ["x.jpegs", "jpegs.h5"])
def test_the_room_of_the_log_is_free_when_the_store_is_finished(photos: Path, tmp_path: Path, name: str) -> None:
    store = begin(photos, tmp_path / name, **form(name))
    store.take([18, 3])
    for _ in store.loader(4, seed=1):
        pass
    store.finish()
    assert held_logs(tmp_path) == []
    np.testing.assert_array_equal(store.take([3]), build(photos, **form(name)).take([3]))
    store.close()
    store = begin(photos, tmp_path / f"other.{name}", **form(name))
    copy = pickle.loads(pickle.dumps(store))
    for each in (store, copy):
        each.take([3])
        each.close()
    assert held_logs(tmp_path) == []


def held_logs(folder: Path) -> list[str]:
    """The logs below a folder that this process has open or mapped."""
    held = Path("/proc/self/maps").read_text().splitlines()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that this loop reads them by
            held.append(str(link.readlink()))
    return [each for each in held if str(folder) in each and "encoded.log" in each]


def test_before_the_end_a_store_says_what_it_does_not_know(photos: Path, tmp_path: Path) -> None:
    store = begin(photos, tmp_path / "x")
    for read in (lambda: store.samples, store.noted, store.dropped):
        with pytest.raises(StoreError, match=r"^a store that is being filled has no \w+ yet: call finish\(\) first$"):
            read()
    for read in (lambda: store.checksums, lambda: store.verify(progress=False)):
        with pytest.raises(StoreError, match=r"^this store is still being filled: call finish\(\) first$"):
            read()
    with pytest.raises(SpecError, match=r"^normalize=True needs the mean and std of all slots, and some are not"):
        store.loader(4, augment=Augment(dtype="float32", normalize=True))
    store.finish()
    built = build(photos)
    augment = Augment(dtype="float32", normalize=True)
    assert same(batches(store.loader(4, augment=augment)), batches(built.loader(4, augment=augment)))


@pytest.mark.usefixtures("no_workers")
def test_an_error_of_the_volume_reaches_the_reader(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = begin(photos, tmp_path / "x")
    filler = store.images.filler  # type: ignore[attr-defined]

    def fails(*_args: Any) -> None:
        raise OSError(5, "the disk is gone")

    monkeypatch.setattr(filler._draft, "claim", fails)
    store.take(range(19))
    for end in (store.finish, store.close):
        with pytest.raises(OSError, match="the disk is gone"):
            end()


def test_progress_counts_all_slots(photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    store = begin(photos, tmp_path / "x", progress=lambda state: seen.append((state.done, state.total)))
    store.finish()
    assert seen[0][1] == 19
    assert seen[-1] == (19, 19)


# --- what cannot be filled while it is read --------------------------------------------------------------------------


@pytest.mark.usefixtures("no_workers")
def test_what_does_not_work_is_said_at_once(photos: Path, tmp_path: Path) -> None:
    with begin(photos, encode="jpeg") as store:
        assert message_of(SpecError, store[:].cached) == (
            "a cache of JPEGs needs all of them, and some are not filled yet: finish the store first"
        )
    assert message_of(SpecError, begin, photos, tmp_path / "x", bad="drop") == (
        "dropping moves slots, which other processes may be reading: pass bad='keep': no loader of this store hands "
        "out a bad slot; or build with wait=True"
    )
    masks = Masks([images.noise(8, 8, 1)] * 19)
    assert "masks cannot be read while" in message_of(
        arraystore.ManifestError, begin, photos, tmp_path / "x", targets={"mask": masks}
    )

    class Once:
        def __len__(self) -> int:
            return 3

        def __iter__(self) -> Iterator[Any]:
            yield from SOURCE[:3]

    assert "only be read once" in message_of(arraystore.ManifestError, begin, Once(), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# --- slots that differ in height and width ---------------------------------------------------------------------------

DIFFERING: list[dict[str, Any]] = [{"fit": "keep", "size": 16, "encode": "jpeg"}, {"size": None, "encode": "source"}]


def by_row(loader: Loader[Any]) -> list[dict[int, Any]]:
    """What two epochs have of each row."""
    return [
        {int(row): image.copy() for batch in loader for row, image in zip(batch["row"], batch["images"], strict=True)}
        for _ in range(2)
    ]


@pytest.mark.parametrize("options", DIFFERING, ids=["kept", "source"])
@pytest.mark.parametrize("name", ["x.store", "x.h5", ""])
def test_slots_that_differ_are_filled_too(mixed: Path, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "filled").mkdir()
    every = options | {"bad": "keep", "targets": {"row": np.arange(12)}}
    built = build(mixed, named(tmp_path / "built", name), **every)
    store = begin(mixed, named(tmp_path / "filled", name), **every)
    augment = Augment(crop=RandomResizedCrop(8), hflip=0.5)
    found, expected = (by_row(each.loader(3, seed=3, augment=augment, targets=["row"])) for each in (store, built))
    good = np.flatnonzero(built.status == 1).tolist()
    for epoch, images_of in zip(found, expected, strict=True):
        assert sorted(epoch) == sorted(images_of) == good
        for row, image in images_of.items():
            np.testing.assert_array_equal(epoch[row], image)
    for slot in good:
        np.testing.assert_array_equal(store.images[slot], built.images[slot])
        assert bytes(store.encoded(slot)) == bytes(built.encoded(slot))
    np.testing.assert_array_equal(store.sides, built.sides)
    store.finish()
    assert contents(tmp_path / "filled") == contents(tmp_path / "built")
    assert_equal(store, built)


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("options", DIFFERING, ids=["kept", "source"])
def test_a_copy_fills_slots_that_differ(photos: Path, options: dict[str, Any]) -> None:
    store, built = begin(photos, **options), build(photos, **options)
    store.encoded(2)
    sent = pickle.loads(pickle.dumps(store))
    augment = Augment(crop=RandomResizedCrop(8))
    assert same(*(batches(each.loader(4, seed=3, augment=augment)) for each in (sent, built)))
    assert same(
        *(batches(each.loader(4, seed=4, augment=augment)) for each in (pickle.loads(pickle.dumps(sent)), built))
    )
    assert (store.filled, sent.filled) == (1 / 19, 1.0)
    store.close()


@pytest.mark.usefixtures("no_workers")
def test_a_crop_that_does_not_fit_is_an_error_when_the_slot_is_read() -> None:
    source = [images.noise(side, 30, seed=side) for side in (30, 31, 12, 33)]
    store = begin(source, fit="keep", size=64, encode="jpeg")
    loader = store.loader(1, augment=Augment(crop=RandomCrop(20)), shuffle=False)
    assert store.filled == 0  # nobody waits for all of them to be measured
    with pytest.raises(SpecError, match="RandomCrop needs slots of at least 20 x 20 pixels, and slot 2 has 12 x 30"):
        list(loader)
    store.close()


# --- several stores, and slots of stores -----------------------------------------------------------------------------


def test_stores_that_are_filled_are_concatenated_and_chosen(photos: Path, tmp_path: Path) -> None:
    built = build(photos)
    both = arraystore.concatenate([begin(photos, tmp_path / "x"), built, begin(photos)])[::2]
    expected = arraystore.concatenate([built, built, built])[::2]
    assert same(batches(both.loader(4, seed=3)), batches(expected.loader(4, seed=3)))
    for cache in ("1 kB", "5 MB"):
        assert same(batches(both.loader(4, seed=3, cache=cache)), batches(expected.loader(4, seed=3)))


def test_a_store_is_filled_from_slots_of_another(photos: Path, tmp_path: Path) -> None:
    build(photos, tmp_path / "from")
    store = begin(tmp_path / "from", tmp_path / "x", size=8)
    store.finish()
    assert_equal(store, build(tmp_path / "from", size=8))


@pytest.mark.parametrize("name", TARGETS)
def test_a_store_that_has_filled_itself_is_built_from_and_exported_as_a_built_one_is(
    mixed: Path, tmp_path: Path, name: str
) -> None:
    store, built = begin(mixed, named(tmp_path, name), bad="keep", **form(name)), build(mixed, bad="keep", **form(name))
    for early in (lambda: build(store, bad="keep"), lambda: arraystore.export(store, tmp_path / "e", progress=False)):
        with pytest.raises(StoreError, match="call finish"):
            early()
    early_choice = store[1:]
    store.finish()
    assert store.unreadable().tolist() == store[:].unreadable().tolist() == BAD
    assert build(early_choice, bad="keep").status.tolist() == build(built[1:], bad="keep").status.tolist()
    assert store[::-1].unreadable().tolist() == sorted(11 - slot for slot in BAD)
    for encode in ("none", "jpeg", "source"):
        options: dict[str, Any] = {"bad": "keep", "encode": encode} | ({"size": None} if encode == "source" else {})
        ours, theirs = build(store, **options), build(built, **options)
        assert ours.status.tolist() == built.status.tolist()
        np.testing.assert_array_equal(ours.checksums, theirs.checksums)
    reports = [
        arraystore.export(each, tmp_path / folder, bad="drop", progress=False)
        for each, folder in ((store, "e1"), (built, "e2"))
    ]
    assert reports[0].copied == reports[1].copied == (8 if "jpegs" in name else 0)
    assert contents(tmp_path / "e1") == contents(tmp_path / "e2")


def test_the_lock_of_followers_lets_nobody_write_what_others_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followers, "_WAIT_LIMIT_S", 0.1)
    begin(photos, tmp_path / "x").close()
    place = followers.follow(partial_of(tmp_path / "x"))
    assert place is not None
    with pytest.raises(StoreError, match=r"^a process of an earlier call still reads the unfinished store .*x: end it"):
        build(photos, tmp_path / "x")
    place.close()
    store: Store = begin(photos, tmp_path / "x")
    store.finish()
    assert_equal(store, build(photos))
