"""The cache: the right pixels whatever fits, each slot read once, and no more memory than was allowed."""

from __future__ import annotations

import multiprocessing
import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cache_memory import cache_growth
from support.slots import slots_of

from arraystore import Slots, SpaceError, SpecError, concatenate
from arraystore._common.checks import parse_bytes
from arraystore._kernels.copy_rows import gather
from arraystore._reading.cache import Cache
from arraystore._stores.slot_array import SlotArray

Array = npt.NDArray[Any]


def numbered(count: int, start: int = 0, width: int = 8) -> Slots:
    """Slots of ``width`` bytes whose pixels are their numbers."""
    pixels = np.repeat(np.arange(start, start + count, dtype=np.uint16), width // 2).reshape(count, -1)
    return slots_of([SlotArray(pixels, targets={"labels": np.arange(start, start + count)})])


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# --- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0, 0),
        (123, 123),
        (np.int64(5), 5),
        (8e9, 8 * 10**9),
        ("8", 8),
        ("8b", 8),
        ("8 GB", 8 * 10**9),
        ("8gb", 8 * 10**9),
        ("8G", 8 * 10**9),
        ("  1.5 MiB ", 3 << 19),
        ("500kB", 500_000),
        ("500 KiB", 500 << 10),
        ("2Ti", 2 << 40),
        (".5 TB", 5 * 10**11),
    ],
)
def test_sizes_are_numbers_or_texts(budget: Any, expected: int) -> None:
    assert parse_bytes(budget) == expected


@pytest.mark.parametrize(
    "budget",
    ["", "GB", "8 XB", "8 G B", "-8 GB", "1.2.3 GB", ".", "8 i", "1e3", "9" * 400, -1, -0.5, float("inf"), float("nan"),
     None, b"8", [8]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_size_is_refused(budget: Any) -> None:
    message = f"a size in bytes must be a number, or a text such as '8 GB' or '500 MiB', not {budget!r}"
    with pytest.raises(SpecError, match="^" + re.escape(message) + "$"):
        parse_bytes(budget)


def test_a_budget_that_is_no_size_is_refused_wherever_it_is_given() -> None:
    slots = numbered(4)
    for call in (slots.load, slots.cached, lambda budget: slots.loader(cache=budget)):
        with pytest.raises(SpecError, match=r"^a size in bytes must be a number, or a text such as '8 GB'"):
            call("much")


def test_memory_that_is_too_small_is_an_error_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arraystore._reading.cache.available_memory_bytes", lambda: 20_000_000)
    slots = slots_of([SlotArray(np.zeros((1000, 30_000), np.uint8))])
    for call in (slots.load, slots.cached, lambda: slots.loader(cache="1 TB")):
        with pytest.raises(SpaceError) as caught:
            call()
        assert str(caught.value) == (
            "a cache of 1,000 slots needs 0.03 GB of memory, 0.02 GB are free: pass a smaller budget"
        )
        assert (caught.value.needed_bytes, caught.value.free_bytes) == (30_004_000, 20_000_000)
    assert len(slots.load("15 MB")) == 1000
    monkeypatch.setattr("arraystore._reading.cache.available_memory_bytes", lambda: None)
    assert len(slots.cached()) == 1000


# --- what is kept ----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data(), st.integers(0, 30), st.booleans())
def test_pixels_are_right_whatever_fits(data: st.DataObject, fits: int, filled: bool) -> None:
    """A cache of any size, filled or as it comes, of stores, choices and choices of choices."""
    slots = concatenate([numbered(7), numbered(5, 7)[[4, 0, 1, 1, 2]], numbered(6, 12)])
    if data.draw(st.booleans()):
        slots = slots[data.draw(st.lists(st.integers(0, 17), min_size=1))]
    numbers = slots.target("labels").copy()
    budget = f"{fits * 8 + 7}"
    slots = slots.load(budget) if filled else slots.cached(budget)
    assert slots.__slot_arrays__.cache is not None
    kept = slots.__slot_arrays__.cache._kept
    assert kept == (min(fits, len(slots), len(set(numbers.tolist()))) if filled else 0)
    for _ in range(data.draw(st.integers(1, 4))):
        wanted = np.array(data.draw(st.lists(st.integers(0, len(slots) - 1))), int)
        np.testing.assert_array_equal(slots.take(wanted)[:, 0], numbers[wanted])
        np.testing.assert_array_equal(slots.take(wanted, "labels"), numbers[wanted])
        assert kept <= slots.__slot_arrays__.cache._kept <= min(fits, len(slots))
        kept = slots.__slot_arrays__.cache._kept
    half = slots[::2]
    assert half.__slot_arrays__.cache is slots.__slot_arrays__.cache
    np.testing.assert_array_equal(half.take(range(len(half)))[:, 0], numbers[::2])


def test_what_is_read_first_stays_and_is_read_once() -> None:
    pixels = np.arange(10, dtype=np.uint16).reshape(10, 1)
    slots = slots_of([SlotArray(pixels)]).cached("12")
    assert slots.take([9, 3, 9]).ravel().tolist() == [9, 3, 9]
    assert slots.take([1, 5, 2, 8, 0]).ravel().tolist() == [1, 5, 2, 8, 0]
    assert slots.__slot_arrays__.cache is not None
    assert slots.__slot_arrays__.cache._kept == 6
    pixels += 100  # whatever comes from the cache is as it was
    assert slots.take(range(10)).ravel().tolist() == [100, 1, 2, 3, 104, 5, 106, 107, 8, 9]
    assert slots.__slot_arrays__.cache.missing(np.arange(10)).tolist() == [0, 4, 6, 7]


def test_load_keeps_the_first_of_a_choice() -> None:
    pixels = np.arange(2000, dtype=np.uint16).reshape(2000, 1)
    slots = slots_of([SlotArray(pixels)])[::-1].load("2.0 kB")
    whole = slots_of([SlotArray(pixels)])[::-1].load()
    pixels[...] = 7
    assert slots.take(range(2000)).ravel().tolist() == [*range(1999, 999, -1), *[7] * 1000]
    assert whole.take(range(2000)).ravel().tolist() == [*range(1999, -1, -1)]


def test_a_loader_reads_each_slot_once() -> None:
    pixels = np.arange(50, dtype=np.uint16).reshape(50, 1)
    loader = slots_of([SlotArray(pixels)]).loader(8, cache="60", workers=3)
    assert sorted(np.concatenate(list(loader)).ravel().tolist()) == [*range(50)]
    cache = loader._slots.cache
    assert cache is not None
    kept = np.setdiff1d(np.arange(50), cache.missing(np.arange(50)))
    assert len(kept) == cache._kept == 30
    pixels += 1000
    for _ in range(2):
        expected = np.arange(50) + 1000 * ~np.isin(np.arange(50), kept)
        assert sorted(np.concatenate(list(loader)).ravel().tolist()) == sorted(expected.tolist())
    assert cache._kept == 30


def test_an_error_while_slots_are_read_is_nobody_elses() -> None:
    slots, fails = numbered(6).__slot_arrays__, True

    def read(base: Any) -> Any:
        if fails:
            raise OSError("the disk")
        return slots.chosen_rows(base)

    cache = Cache(None, (6, 6), slots.column(), read)
    with pytest.raises(OSError, match="the disk"):
        list(cache.chosen_rows(np.array([2, 3])))
    fails = False
    # What should have been kept then is read where it lies, for ever; the rest is kept.
    out = np.empty((6, 4), np.uint16)
    for _ in range(2):
        gather(cache.chosen_rows(np.arange(6)), out)
        assert out[:, 0].tolist() == [*range(6)]
    assert cache.missing(np.arange(6)).tolist() == [2, 3]


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("fits", [0, 1, 37, 150, 200])
def test_threads_that_hammer_it_get_the_right_pixels(fits: int) -> None:
    """Slots that one thread is reading are read elsewhere by the others, and nobody sees them half there."""
    slots = concatenate([numbered(90, width=64), numbered(110, 90, width=64)]).cached(str(fits * 64))
    begin = threading.Barrier(6)

    def work(seed: int) -> bool:
        random, right = np.random.default_rng(seed), True
        begin.wait(200)
        for _ in range(60):
            wanted = random.integers(0, 200, random.integers(1, 40))
            right &= bool((slots.take(wanted) == wanted[:, None]).all())
        return right

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    cache = slots.__slot_arrays__.cache
    assert cache is not None
    assert cache._kept == fits
    assert len(cache.missing(np.arange(200))) == 200 - fits
    assert sorted(cache._images[:, 0].tolist()) == sorted(set(cache._images[:, 0].tolist()))  # none is kept twice


def test_it_takes_the_memory_that_it_may_and_no_more(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        made, filled, freed = pool.submit(cache_growth, tmp_path).result(timeout=400)
    mib = 1 << 20
    assert made < 2 * mib  # nothing is taken before it is needed
    assert 44 * mib < filled < 52 * mib
    assert freed < 6 * mib
