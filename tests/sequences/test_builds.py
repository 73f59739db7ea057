"""Lazy sequences as sources: workers compute the items, and what cannot be computed is a bad image."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import images
from support.lazy_functions import kill_tall, photo, refuse_tall, with_mirrored
from support.store_contract import build

import arraystore
from arraystore import BadImagesError, Manifest, Store, StoreError, lazy

COUNT = 6
PAIRS = lazy(range(COUNT)).map(photo).memo(3).map(with_mirrored).flatten(2)
GIVEN = [part for seed in range(COUNT) for part in with_mirrored(photo(seed))]
TALL = [slot for slot, image in enumerate(GIVEN) if len(image) == 11]


@pytest.fixture(scope="module")
def oracle() -> Store:
    return build(GIVEN, labels=np.repeat(np.arange(COUNT), 2))


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("name", ["x.store", "x.h5", None])
@pytest.mark.parametrize("processes", [False, True])
def test_a_store_of_a_lazy_sequence_is_that_of_its_items(
    oracle: Store, tmp_path: Path, name: str | None, processes: bool
) -> None:
    target = None if name is None else tmp_path / name
    made = build(PAIRS, target, labels=np.repeat(np.arange(COUNT), 2), processes=processes)
    np.testing.assert_array_equal(made.images, oracle.images)
    np.testing.assert_array_equal(made.checksums, oracle.checksums)
    np.testing.assert_array_equal(made.labels, oracle.labels)
    assert made.samples["source"].to_pylist() == [f"item {slot}" for slot in range(2 * COUNT)]
    assert arraystore.verify(target, progress=False).ok if target else True


def test_an_encoded_store_of_a_lazy_sequence() -> None:
    encoded = build(GIVEN, encode="jpeg")
    np.testing.assert_array_equal(build(PAIRS, encode="jpeg").checksums, encoded.checksums)


def test_items_are_computed_by_workers_and_only_when_they_are_needed() -> None:
    threads: set[str] = set()
    items = []

    def compute(item: int) -> Any:
        threads.add(threading.current_thread().name)
        items.append(item)
        return photo(item)

    seq = lazy(range(30)).map(compute)
    assert repr(Manifest.of(seq)) == "<Manifest of 30 items of a lazy sequence; targets: none>"
    assert items == []
    build(seq, workers=2)
    assert sorted(items) == list(range(30))
    assert all(name.startswith("arraystore-fill") for name in threads)


def test_an_item_may_be_whatever_a_list_of_sources_may_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(photo(5)).save(path)
    given = [str(path), path, path.read_bytes(), Image.fromarray(photo(5)), photo(5), photo(5).tolist()[0]]
    made = build(lazy(range(6)).map(given.__getitem__), bad="keep")
    for slot in range(1, 5):
        np.testing.assert_array_equal(made.images[slot], made.images[0])
    assert made.images[0].any()
    (bad,) = made.bad()
    assert (bad.slot, bad.reason) == (
        5,
        "the item is a list, no image: map it to the image alone, and pass labels beside it",
    )
    by_path = build(lazy([path] * 2))
    np.testing.assert_array_equal(by_path.images[1], made.images[0])
    assert by_path.samples["source"].to_pylist() == [str(path)] * 2
    assert by_path.samples["bytes"][0].as_py() == path.stat().st_size


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("function", "processes", "why"),
    [
        (refuse_tall, False, "ValueError: too tall"),
        (refuse_tall, True, "ValueError: too tall"),
        (kill_tall, True, "the worker process that decoded it died twice (killed by SIGKILL, as when memory runs out)"),
    ],
)
def test_what_cannot_be_computed_is_a_bad_image(
    oracle: Store, tmp_path: Path, function: Callable[[Any], Any], processes: bool, why: str
) -> None:
    names = [f"{seed}.jpg" for seed in range(COUNT)]
    seq = lazy(names).map(seed_of).map(photo).map(with_mirrored).flatten(2).map(function)
    made = build(seq, tmp_path / "x", bad="keep", processes=processes, workers=2)
    assert [bad.slot for bad in made.bad()] == TALL
    assert [bad.source for bad in made.bad()] == [names[slot // 2] for slot in TALL]
    assert all(bad.reason.endswith(why) for bad in made.bad())
    good = np.flatnonzero(made.status == 1)
    np.testing.assert_array_equal(made.images[good], oracle.images[good])
    if function is refuse_tall:
        assert "test_builds.py:" in made.bad()[0].reason
        with pytest.raises(
            BadImagesError, match=rf"slot {TALL[0]}  2\.jpg: \.map\(refuse_tall\) at .*: ValueError: too"
        ):
            build(seq, processes=processes)


def seed_of(name: str) -> int:
    return int(name.removesuffix(".jpg"))


def test_an_executor_gets_the_sequence_with_its_jobs(oracle: Store) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as executor:
        np.testing.assert_array_equal(build(PAIRS, executor=executor).images, oracle.images)


@pytest.mark.usefixtures("warm")
def test_what_worker_processes_cannot_get_is_told() -> None:
    with pytest.raises(StoreError, match=r"cannot be sent to a worker process: .*lambda.*; build with threads"):
        build(lazy(range(3)).map(lambda item: photo(item + 1)), processes=True)


class StopError(Exception):
    """Ends a build in the middle."""


@pytest.mark.parametrize("key", [None, "first"])
def test_a_build_goes_on_only_with_a_key(tmp_path: Path, key: str | None) -> None:
    """Without a key nobody can know whether the functions do what they did."""
    computed: list[int] = []

    def compute(item: int) -> Any:
        computed.append(item)
        return photo(item)

    def stop(now: arraystore.Progress) -> None:
        if now.done >= 20:
            raise StopError

    def seq(key: str | None) -> arraystore.Lazy:
        return lazy(lazy(range(40)).map(compute), key=key)

    with pytest.raises(StopError):
        build(seq(key), tmp_path / "x", progress=stop, workers=1)
    assert 20 <= len(computed) < 40
    if key is not None:
        with pytest.raises(StoreError, match="unfinished"):
            build(seq("second"), tmp_path / "x")
    first = len(computed)
    made = build(seq(key), tmp_path / "x")
    np.testing.assert_array_equal(made.images, build([photo(item) for item in range(40)]).images)
    again = computed[first:]
    assert sorted(set(again)) == sorted(again)
    assert len(again) == 40 if key is None else len(again) <= 20


def test_slots_of_a_store_are_mapped_into_a_new_one(tmp_path: Path) -> None:
    source = images.write_tree(tmp_path / "photos", {"a": 3})
    store = build(source, layout="NHWC")
    brighter = store.starmap(lambda image, _label: 255 - image)
    made = build(brighter, labels=store.labels)
    np.testing.assert_array_equal(made.images, 255 - store.images.transpose(0, 3, 1, 2))
    assert made.samples["source"].to_pylist() == store.samples["source"].to_pylist()


def test_a_store_of_a_lazy_sequence_cannot_be_brought_up_to_date(tmp_path: Path) -> None:
    build(PAIRS, tmp_path / "x").close()
    with pytest.raises(StoreError, match="are not files: build it again"):
        arraystore.update(tmp_path / "x", PAIRS, progress=False)


def test_a_plan_computes_a_sample() -> None:
    forecast = arraystore.plan(PAIRS.map(refuse_tall), size=32, progress=False)
    assert forecast.count == 2 * COUNT
    assert {bad.slot for bad in forecast.bad} == set(TALL)
