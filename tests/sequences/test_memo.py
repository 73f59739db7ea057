"""Memos: one computation an item at a time, the last items are kept, errors are not, and nobody waits for others."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from arraystore import LazyError, lazy
from arraystore._sequences.memo import size_of

LIMIT_S = 400.0


class Count:
    """A function that counts its calls."""

    def __init__(self, result: Any = None) -> None:
        self.result = result
        self.calls: list[int] = []

    def __call__(self, item: int) -> Any:
        self.calls.append(item)
        return item if self.result is None else self.result(item)


@given(st.lists(st.integers(0, 4), min_size=20, max_size=40), st.integers(1, 5))
def test_the_items_that_were_read_last_are_kept(reads: list[int], size: int) -> None:
    count = Count()
    seq = lazy(range(5)).map(count).memo(size)
    kept: list[int] = []
    misses = []
    for item in reads:
        assert seq[item] == item
        if item in kept:
            kept.remove(item)
        else:
            misses.append(item)
        kept = [*kept, item][-size:]
    assert count.calls == misses


def test_a_memo_of_bytes_keeps_as_many_as_fit() -> None:
    count = Count(lambda item: np.zeros(50_000 if item == 3 else 10_000, np.uint8))
    seq = lazy(range(6)).map(count).memo("32 kB")
    for item in (0, 1, 2, 0, 3, 0, 1, 2, 4, 1, 2, 4, 0, 3):
        assert len(seq[item]) == (50_000 if item == 3 else 10_000)
    assert count.calls == [0, 1, 2, 3, 4, 0, 3]  # item 3 is too large to keep, item 4 takes the place of 0


def test_dropped_items_are_freed() -> None:
    seq = lazy(range(4)).map(lambda item: np.zeros(item + 1)).memo(1)
    first = weakref.ref(seq[0])
    assert first() is not None
    assert len(seq[1]) == 2
    gc.collect()
    assert first() is None


def test_what_an_item_takes() -> None:
    array = np.zeros((3, 5))
    assert size_of(array) == 120
    assert size_of((array, [array, {"a": array}])) == 3 * 120 + 2 * 8 * 2 + 100
    assert size_of(Image.new("RGB", (4, 5))) == 60
    assert size_of("x" * 1000) > 1000
    assert size_of(memoryview(array)) == 120
    assert size_of(object()) > 0


def test_threads_that_want_one_item_wait_for_one_computation() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def compute(item: int) -> list[int]:
        begun.set()
        assert go_on.wait(LIMIT_S)
        return [item]

    count = Count(compute)
    seq = lazy(range(3)).map(count).memo(3)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(seq.__getitem__, 2) for _ in range(4)]
        assert begun.wait(LIMIT_S)
        go_on.set()
        results = [future.result(LIMIT_S) for future in waiting]
    assert count.calls == [2]
    assert all(result is results[0] for result in results)


def test_nobody_waits_for_another_item() -> None:
    """Two threads meet in the middle of their computations; with one lock for all items, neither would get there."""
    meeting = threading.Barrier(2, timeout=LIMIT_S)

    def compute(item: int) -> int:
        meeting.wait()
        return item

    seq = lazy(range(2)).map(compute).memo(2)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(seq.__getitem__, [0, 1], timeout=LIMIT_S)) == [0, 1]


def test_an_item_that_is_not_kept_reaches_all_who_wait() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def compute(item: int) -> Any:
        begun.set()
        assert go_on.wait(LIMIT_S)
        return np.full(10_000, item)

    seq = lazy(range(2)).map(compute).memo("1 kB")
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(seq.__getitem__, 1)]
        assert begun.wait(LIMIT_S)
        both.append(pool.submit(seq.__getitem__, 1))
        go_on.set()
        assert [int(future.result(LIMIT_S)[0]) for future in both] == [1, 1]
    assert not seq.__lazy_step__._kept  # type: ignore[attr-defined]


def test_an_error_is_not_kept_and_whoever_waits_tries_again() -> None:
    begun, go_on = threading.Event(), threading.Event()
    fails = [True]

    def compute(item: int) -> int:
        begun.set()
        assert go_on.wait(LIMIT_S)
        if fails.pop() if fails else False:
            raise ValueError("once")
        return item

    seq = lazy(range(3)).map(compute).memo(3)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(seq.__getitem__, 1)
        assert begun.wait(LIMIT_S)
        second = pool.submit(seq.__getitem__, 1)
        go_on.set()
        errors = [future.exception(LIMIT_S) for future in (first, second)]
    assert isinstance(errors[0], LazyError)
    assert errors[1] is None
    assert seq[1] == 1


def test_an_item_that_needs_itself_is_an_error() -> None:
    holder: list[Any] = []
    seq = lazy(range(3)).map(lambda item: holder[0][item if item == 2 else item + 1]).memo(3)
    holder.append(seq)
    with pytest.raises(LazyError, match=r"RecursionError: the item is needed to compute itself"):
        seq[2]


def test_many_threads_get_the_right_items() -> None:
    seq = lazy(range(50)).map(lambda item: (item, -item)).memo(5)
    wanted = np.random.default_rng(0).integers(0, 50, 4000).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(seq.__getitem__, wanted)) == [(item, -item) for item in wanted]
    step = seq.__lazy_step__
    assert len(step._kept) == len(step._sizes) == 5  # type: ignore[attr-defined]
    assert not step._at_work  # type: ignore[attr-defined]


def test_a_copy_begins_empty() -> None:
    seq = lazy(["x" * 100_000]).memo(1)
    assert len(seq[0]) == 100_000
    assert seq[0] is seq[0]
    again = pickle.loads(pickle.dumps(seq))
    assert not again.__lazy_step__._kept
    assert again[0] == seq[0]


def test_a_fork_waits_for_no_thread_of_its_parent() -> None:
    begun, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    def compute(item: int) -> int:
        if os.getpid() == parent:
            begun.set()
            assert go_on.wait(LIMIT_S)
        return item

    seq = lazy(range(2)).map(compute).memo(2)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(seq.__getitem__, 1)
        assert begun.wait(LIMIT_S)
        child = os.fork()
        if child == 0:
            os._exit(seq[1] + 10)  # waits for ever if it takes the item for one that is being computed
        _, status = os.waitpid(child, 0)
        go_on.set()
        assert future.result(LIMIT_S) == 1
    assert os.waitstatus_to_exitcode(status) == 11
