"""BufferPool: memory is used again when nothing refers to it, and never before."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arraystore import SpecError
from arraystore._workers.buffers import BufferPool

Array = npt.NDArray[Any]
COLUMNS: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
    "images": ((4, 3, 5, 5), np.dtype(np.uint8)),
    "labels": ((4,), np.dtype(np.int64)),
    "scores": ((4, 3), np.dtype(np.float32)),
}


class Counted:
    """Memory, and how often it was asked for."""

    def __init__(self) -> None:
        self.blocks: list[Array] = []

    def __call__(self, size: int) -> Array:
        self.blocks.append(np.zeros(size, np.uint8))
        return self.blocks[-1]


def leases(*, spare: int = 2, columns: Any = COLUMNS) -> tuple[BufferPool, Counted]:
    counted = Counted()
    return BufferPool(columns, spare=spare, allocate=counted), counted


# --- what is lent ----------------------------------------------------------------------------------------------------


def test_arrays_have_their_shapes_and_are_whole() -> None:
    pool, _ = leases()
    lent = pool.take()
    assert {name: (array.shape, array.dtype) for name, array in lent.items()} == COLUMNS
    for array in lent.values():
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.ctypes.data % 64 == 0


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 5), min_size=1, max_size=4),
            st.sampled_from(["u1", "?", "<i8", ">f4", "c16", "f2", "U3", "M8[s]", "u1,<f4"]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_the_arrays_of_a_batch_share_no_memory(columns: list[tuple[list[int], str]]) -> None:
    """Any shapes and types, with none at all of something too."""
    wanted = {f"c{number}": (tuple(shape), np.dtype(kind)) for number, (shape, kind) in enumerate(columns)}
    pool, _ = leases(columns=wanted)
    for _ in range(2):
        lent = pool.take()
        assert {name: (array.shape, array.dtype) for name, array in lent.items()} == wanted
        values = {name: np.random.default_rng(3).bytes(array.nbytes) for name, array in lent.items()}
        for name, array in lent.items():
            array[...] = np.frombuffer(values[name], array.dtype).reshape(array.shape)
        assert {name: array.tobytes() for name, array in lent.items()} == values
        del lent, array
    assert len(pool._free) == 1


def test_two_that_are_out_are_different() -> None:
    pool, counted = leases()
    out = [pool.take() for _ in range(5)]
    for number, lent in enumerate(out):
        for array in lent.values():
            array[...] = number
    assert [{int(value) for array in lent.values() for value in array.ravel()} for lent in out] == [
        {number} for number in range(5)
    ]
    assert len(counted.blocks) == 5


# --- when it comes back ----------------------------------------------------------------------------------------------

VIEWS: dict[str, Callable[[dict[str, Array]], Any]] = {
    "the array": lambda lent: lent["images"],
    "another array of it": lambda lent: lent["labels"],
    "a slice": lambda lent: lent["images"][1:2],
    "a slice of a slice": lambda lent: lent["images"][1:][:, :2][..., ::-1],
    "a transposed view": lambda lent: lent["images"].transpose(0, 2, 3, 1),
    "another shape": lambda lent: lent["images"].reshape(-1),
    "another type": lambda lent: lent["labels"].view(np.uint8),
    "np.asarray": lambda lent: np.asarray(lent["images"]),
    "one value's array": lambda lent: lent["labels"][1, ...],
    "a memoryview": lambda lent: memoryview(lent["images"]),
    "a memoryview's slice": lambda lent: memoryview(lent["labels"])[2:],
    "np.frombuffer": lambda lent: np.frombuffer(lent["images"], np.uint16),
    "np.frombuffer of a memoryview": lambda lent: np.frombuffer(memoryview(lent["labels"]), np.uint8)[5:],
    "a broadcast view": lambda lent: np.broadcast_to(lent["labels"], (7, 4)),
    "a strided view": lambda lent: np.lib.stride_tricks.sliding_window_view(lent["labels"], 2),
    "an iterator": lambda lent: iter(lent["images"]),
    "the flat iterator": lambda lent: lent["images"].flat,
    "the base": lambda lent: lent["images"].base,
    "torch.from_numpy": lambda lent: torch.from_numpy(lent["images"]),
    "a tensor's slice": lambda lent: torch.from_numpy(lent["images"])[1:].permute(0, 2, 3, 1),
    "torch.as_tensor": lambda lent: torch.as_tensor(lent["scores"]).T,
    "torch.frombuffer": lambda lent: torch.frombuffer(lent["scores"], dtype=torch.int32),
    "through DLPack": lambda lent: torch.from_dlpack(lent["images"]),
    "a tensor's array": lambda lent: torch.from_numpy(lent["images"])[0].numpy(),
    "a closure": lambda lent: lambda: lent["labels"],
}


@pytest.mark.parametrize("name", VIEWS)
def test_whatever_is_made_of_it_keeps_it(name: str) -> None:
    pool, counted = leases()
    lent = pool.take()
    for array in lent.values():
        array[...] = 1
    written = counted.blocks[0].copy()
    view: Any = VIEWS[name](lent)
    del lent, array
    assert len(pool._free) == 0
    others = [pool.take() for _ in range(4)]
    for other in others:
        for array in other.values():
            array[...] = 2
    np.testing.assert_array_equal(counted.blocks[0], written)
    del others, other, array
    assert len(pool._free) == 2
    del view
    assert pool.take()["labels"] is not None
    assert len(counted.blocks) == 5


@pytest.mark.parametrize("name", VIEWS)
def test_it_comes_back_with_the_last_view(name: str) -> None:
    pool, counted = leases()
    lent = pool.take()
    view: Any = VIEWS[name](lent)
    del lent
    assert len(pool._free) == 0
    del view
    assert len(pool._free) == 1  # at once, with no garbage collection
    pool.take()
    assert len(counted.blocks) == 1


def test_a_view_in_a_circle_comes_back_with_the_garbage() -> None:
    pool, _ = leases()
    circle: list[Any] = [pool.take()]
    circle.append(circle)
    del circle
    assert len(pool._free) == 0
    gc.collect()
    assert len(pool._free) == 1


def test_a_copy_keeps_nothing() -> None:
    pool, _ = leases()
    lent = pool.take()
    copy, value = lent["images"].copy(), lent["labels"][0]
    assert (copy.size, value.size) == (300, 1)
    del lent
    assert len(pool._free) == 1


def test_a_weak_reference_keeps_nothing() -> None:
    pool, _ = leases()
    lent = pool.take()
    weak = weakref.ref(lent["images"])
    del lent
    assert weak() is None
    assert len(pool._free) == 1


def test_a_buffer_that_outlives_the_pool_is_whole() -> None:
    pool, counted = leases()
    kept = pool.take()["images"]
    kept[...] = 5
    gone = weakref.ref(pool)
    del pool
    counted.blocks.clear()
    gc.collect()
    assert kept.min() == kept.max() == 5
    del kept
    gc.collect()
    assert gone() is None


# --- steady state ----------------------------------------------------------------------------------------------------


def test_steady_state_allocates_nothing() -> None:
    pool, counted = leases(columns={"images": ((8, 3, 256, 256), np.dtype(np.uint8))})
    kept = [pool.take() for _ in range(3)]
    tracemalloc.start()
    try:
        for number in range(2000):
            kept[number % 3] = {}
            kept[number % 3] = pool.take()
            if number == 100:
                before, _ = tracemalloc.get_traced_memory()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(counted.blocks) == 3
    assert peak - before < 100_000  # a batch has 1.5 MB
    assert after - before < 50_000


@pytest.mark.parametrize("spare", [0, 1, 4])
def test_no_more_are_kept_than_are_spare(spare: int) -> None:
    pool, counted = leases(spare=spare)
    out = [pool.take() for _ in range(9)]
    gone = [weakref.ref(block) for block in counted.blocks]
    counted.blocks.clear()
    assert len(pool._free) == 0
    out.clear()
    assert len(pool._free) == spare
    gc.collect()
    assert sum(block() is not None for block in gone) == spare


def test_any_thread_takes_and_any_thread_lets_go() -> None:
    """Batches go from thread to thread, each marked; no two that are out are the same memory."""
    pool, counted = leases(spare=8)
    line: list[tuple[int, dict[str, Array]]] = []
    lock = threading.Lock()

    def work(seed: int) -> bool:
        random, right = np.random.default_rng(seed), True
        for step in range(300):
            lent, mark = pool.take(), (seed * 300 + step) % 251
            lent["images"][...] = mark
            with lock:
                line.append((mark, lent))
                other = line.pop(int(random.integers(len(line)))) if len(line) > 4 else None
            if other is not None:
                right &= bool((other[1]["images"] == other[0]).all())
            del lent, other
        return right

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(work, range(6)))
    assert len(counted.blocks) <= 4 + 2 * 6
    line.clear()
    assert len(pool._free) <= 8 + 6  # several that come back at the same moment may all find room


def test_it_may_come_back_in_the_middle_of_anything() -> None:
    """Whatever frees a batch, a collection at any moment and in any thread too, ends: there is no lock to wait for."""
    pool, _ = leases(spare=3)

    def work(_number: int) -> bool:
        for _ in range(400):
            circle: list[Any] = [pool.take()]
            circle.append(circle)
        return True

    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)  # nearly every allocation collects, that in the middle of taking and giving back too
    try:
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(work, range(4), timeout=400))
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert 0 < len(pool._free) <= 3 + 4


def test_an_error_in_what_allocates_is_raised_and_forgotten() -> None:
    failures = [MemoryError("no more")]

    def allocate(size: int) -> Array:
        if failures:
            raise failures.pop()
        return np.empty(size, np.uint8)

    pool = BufferPool(COLUMNS, spare=1, allocate=allocate)
    with pytest.raises(MemoryError, match="no more"):
        pool.take()
    assert pool.take()["labels"].shape == (4,)
    assert len(pool._free) == 1


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (lambda size: np.zeros(size - 1, np.uint8), r"an? array of uint8 and shape \(\d+,\)"),
        (lambda size: np.zeros(size, np.int8), r"an? array of int8 and shape \(\d+,\)"),
        (lambda size: np.zeros((2, size), np.uint8), r"an? array of uint8 and shape \(2, \d+\)"),
        (lambda size: np.zeros(2 * size, np.uint8)[::2], r"an? array of uint8 and shape \(\d+,\)"),
        (lambda size: np.frombuffer(bytes(size), np.uint8), r"a read-only array of uint8 and shape \(\d+,\)"),
        (bytearray, "bytearray"),
        (lambda _size: None, "NoneType"),
    ],
)
def test_memory_that_is_not_what_was_asked_for_is_told(returned: Any, found: str) -> None:
    pool = BufferPool(COLUMNS, spare=1, allocate=returned)
    with pytest.raises(
        SpecError,
        match=rf"^allocate\(\d+\) returned {found}: it must return a writable array of uint8 with at least [\d,]+ ele",
    ):
        pool.take()
