"""The gather equals fancy indexing, for any array, however large its slots are and however it is copied."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from arraystore._kernels import copy_rows as streams
from arraystore._kernels.copy_rows import copy_rows, gather

Array = npt.NDArray[Any]
MOST = 1 << 18  # bytes that are the least for the streams


def random_bytes(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def aligned(shape: tuple[int, ...], dtype: Any = np.uint8, *, off: int = 0, fill: int = 0xA5) -> Array:
    """An array that begins ``off`` bytes behind a multiple of 64, full of one byte."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    block = np.full(size + 128, fill, np.uint8)
    start = -block.ctypes.data % 64 + off
    return block[start : start + size].view(dtype).reshape(shape)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the streams take what is small, too, so that many shapes can be tried."""
    monkeypatch.setattr(streams, "_LEAST_BYTES", 0)


# --- gather ----------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    st.data(),
    arrays.arrays(
        st.one_of(
            arrays.boolean_dtypes(),
            arrays.integer_dtypes(),
            arrays.floating_dtypes(),
            arrays.datetime64_dtypes(),
            arrays.unicode_string_dtypes(max_len=5),
            arrays.array_dtypes(arrays.integer_dtypes(), max_size=3),
        ),
        arrays.array_shapes(max_dims=4, max_side=5),
    ),
)
def test_gather_is_fancy_indexing(data: st.DataObject, array: Array) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, len(array) - 1), max_size=9)), np.int64)
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    gather([(array, rows, None)], out)
    np.testing.assert_array_equal(out, array[rows])
    # And to other places, from two arrays.
    places = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    cut = data.draw(st.integers(0, len(rows)))
    other = array[::-1].copy()
    again = np.empty_like(out)
    gather([(array, rows[:cut], places[:cut]), (other, len(array) - 1 - rows[cut:], places[cut:])], again)
    np.testing.assert_array_equal(again[places], array[rows])


@settings(max_examples=40)
@given(
    st.data(),
    st.integers(1, 40),
    st.sampled_from([64, 128, 4096, 8192, 8256, 32704, 32768, 32832, 65536, 65600, 98304, 196608]),
    st.sampled_from([np.uint8, np.int16, np.float32, np.complex128]),
)
def test_large_slots_are_copied_alike(data: st.DataObject, count: int, size: int, kind: type[np.generic]) -> None:
    """Sizes around the streams' own: a vector, a stream, and four of them."""
    pixels = random_bytes(count, size)
    array = aligned((count, size), off=data.draw(st.integers(0, 63)))  # what is read need not be aligned
    array[...] = pixels
    if array.ctypes.data % np.dtype(kind).itemsize == 0:
        array = array.view(kind)
    number = data.draw(st.integers(1, MOST // size + 20))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = random.integers(0, count, number)
    whole = aligned((number + 2, *array.shape[1:]), array.dtype)
    before, out, behind = whole[:1], whole[1:-1], whole[-1:]
    at = None
    if data.draw(st.booleans()):
        at = random.permutation(number)
    gather([(array, rows, at)], out)
    np.testing.assert_array_equal(out if at is None else out[at], array[rows])
    assert (before.view(np.uint8) == 0xA5).all()
    assert (behind.view(np.uint8) == 0xA5).all()


def test_some_rows_of_a_batch_leave_the_others() -> None:
    for size in (100, 1 << 18):
        array, out = random_bytes(9, size), aligned((12, size))
        gather([(array, np.array([8, 0, 8, 3, 1]), np.array([11, 0, 5, 7, 6]))], out)
        np.testing.assert_array_equal(out[[11, 0, 5, 7, 6]], array[[8, 0, 8, 3, 1]])
        assert (out[[1, 2, 3, 4, 8, 9, 10]] == 0xA5).all()


def test_rows_that_are_not_neighbors_go_through_little_memory() -> None:
    """More rows than fit the scratch memory, of a size that the streams leave alone."""
    array, out = random_bytes(50, 5001), np.zeros((300, 5001), np.uint8)
    rows, at = np.arange(300) % 50, np.arange(300)[::-1].copy()
    gather([(array, rows, at)], out)
    np.testing.assert_array_equal(out[at], array[rows])


def test_many_threads_gather_at_once() -> None:
    array, rows = random_bytes(64, 1 << 16), np.random.default_rng(1).integers(0, 64, (40, 32))

    def work(number: int) -> bool:
        out = aligned((32, 1 << 16))
        gather([(array, rows[number], None)], out)
        return bool((out == array[rows[number]]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))


# --- the streams -----------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(1, 2000), st.integers(1, 4), st.booleans())
def test_every_multiple_of_a_vector(vectors: int, count: int, to_places: bool) -> None:
    size = vectors * 64
    array, out = random_bytes(count, size), aligned((count + 1, size))
    repeats = -(-MOST // (size * count))
    rows = np.tile(np.arange(count)[::-1], repeats)
    at = np.tile(np.arange(count), repeats)  # each place is written several times, with the same
    if not to_places:
        out = aligned((len(rows) + 1, size))
    assert copy_rows(array, rows, out, at if to_places else None)
    expected = array[::-1] if to_places else array[rows]
    np.testing.assert_array_equal(out[:-1], expected)
    assert (out[-1] == 0xA5).all()


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("size", [64, 128, 192, 256, 320, 32704, 32768, 32832, 33024])
@pytest.mark.parametrize("rows", [[0], [2, 2], [1, 0, 2, 1, 1]])
def test_few_rows(size: int, rows: list[int]) -> None:
    array, out = random_bytes(3, size), aligned((len(rows), size))
    assert copy_rows(array, np.array(rows), out)
    np.testing.assert_array_equal(out, array[rows])


def test_what_is_left_to_numpy() -> None:
    """Each of these differs in one thing from a copy that the streams make."""
    array, rows, size = random_bytes(4, 1 << 16), np.arange(4), 1 << 16
    assert copy_rows(array, rows, aligned((4, size)))
    cases = {
        "small": (array, rows[:3], aligned((3, size))),
        "no multiple of a vector": (random_bytes(4, size + 8), rows, aligned((4, size + 8))),
        "not aligned": (array, rows, aligned((4, size), off=8)),
        "another type": (array.view(np.int8), rows, aligned((4, size))),
        "another shape": (array.reshape(4, 2, -1), rows, aligned((4, size))),
        "not in C order": (random_bytes(4, 2 * size)[:, :size], rows, aligned((4, size))),
        "out not in C order": (array, rows, aligned((4, 2 * size))[:, :size]),
        "nothing": (array, rows[:0], aligned((0, size))),
    }
    for name, (source, chosen, out) in cases.items():
        assert not copy_rows(source, chosen, out), name
        if (source.dtype, source.shape[1:]) == (out.dtype, out.shape[1:]) and out.flags.c_contiguous:
            gather([(source, chosen, None)], out)
            np.testing.assert_array_equal(out, source[chosen])
    fixed = aligned((4, size))
    fixed.flags.writeable = False
    assert not copy_rows(array, rows, fixed)
    with pytest.raises(ValueError, match="read-only"):
        gather([(array, rows, None)], fixed)
    objects = np.full((4, size // 8), "x", object)
    assert not copy_rows(objects, rows, np.empty_like(objects))


@pytest.mark.parametrize(
    ("rows", "at", "message"),
    [
        ([0, 4, 0, 0], None, "rows must be 0 to 3, not 0 to 4"),
        ([0, -1, 0, 0], None, "rows must be 0 to 3, not -1 to 0"),
        ([0, 2**62, 0, 0], None, "rows must be 0 to 3, not 0 to 4611686018427387904"),
        ([0, 1, 2, 3], [0, 1, 2, 4], "rows must be 0 to 3, not 0 to 4"),
        ([0, 1, 2, 3], [0, 1, 2, -5], "rows must be 0 to 3, not -5 to 2"),
        ([0, 1, 2, 3, 0], None, "rows must be 0 to 3, not 0 to 4"),
        ([0, 1, 2, 3], [0, 1, 2], "4 rows cannot be copied to 3"),
        ([0, 1, 2, 3], [0, 1, 2, 3, 3], "4 rows cannot be copied to 5"),
    ],
)
def test_rows_that_do_not_exist_are_an_error(rows: list[int], at: list[int] | None, message: str) -> None:
    array, out = random_bytes(4, 1 << 18), aligned((4, 1 << 18))
    with pytest.raises(IndexError) as caught:
        copy_rows(array, np.array(rows), out, None if at is None else np.array(at))
    assert str(caught.value) == message
    assert (out == 0xA5).all()


def test_rows_of_any_integers_and_steps() -> None:
    array, out = random_bytes(8, 1 << 18), aligned((4, 1 << 18))
    for rows in (np.arange(8)[::-2], np.array([7, 5, 3, 1], np.uint8), np.arange(7, 0, -2, dtype=np.int32)):
        out[...] = 0
        assert copy_rows(array, rows, out, np.arange(8)[:4])
        np.testing.assert_array_equal(out, array[[7, 5, 3, 1]])


def test_it_lets_other_threads_run() -> None:
    """A thread that copies for a while does not hold the interpreter's lock."""
    array, out = random_bytes(1, 1 << 22), aligned((1, 1 << 22))
    rows = np.zeros(200, np.int64)
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(copy_rows, array, rows, out, np.zeros(200, np.int64))
        turns = 0
        while not copying.done():
            turns += 1
        assert copying.result()
    assert turns > 10


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    streams._compile.cache_clear()
    yield
    streams._compile.cache_clear()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("broken", ["no llvmlite", "assembly", "target"])
def test_without_a_compiler_there_is_np_take(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    if broken == "no llvmlite":
        monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    elif broken == "assembly":
        monkeypatch.setattr(streams, "_assembly", lambda: "define void @copy( {")
    else:
        monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: 1 / 0)
    array, out, rows = random_bytes(8, 1 << 18), aligned((5, 1 << 18)), np.array([7, 0, 7, 2, 1])
    for _ in range(3):
        assert not copy_rows(array, rows, out)
        out[...] = 0
        gather([(array, rows, None)], out)
        np.testing.assert_array_equal(out, array[rows])
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 1  # it is not tried again
    assert warnings[0].startswith("slots are gathered by np.take, which is slower: ")


@pytest.mark.usefixtures("fresh_compiler")
def test_it_is_compiled_once_whoever_comes_first() -> None:
    made = len(streams._engines)
    array = random_bytes(4, 1 << 18)

    def work(_number: int) -> bool:
        out = aligned((4, 1 << 18))
        return copy_rows(array, np.arange(4), out) and bool((out == array).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))
    assert len(streams._engines) == made + 1


def test_numba_is_not_loaded_to_gather() -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from arraystore import Slots\n"
        "from arraystore._reading.slot_arrays import SlotArrays\n"
        "from arraystore._stores.slot_array import SlotArray\n"
        "slots_of = lambda arrays: Slots(SlotArrays(tuple(arrays)))\n"
        "assert 'llvmlite' not in sys.modules\n"
        "slots_of([SlotArray(np.ones((64, 3, 8, 8), np.uint8))]).take(range(64))\n"
        "assert 'llvmlite' not in sys.modules\n"  # small slots need none
        "next(slots_of([SlotArray(np.ones((64, 3, 128, 128), np.uint8))]).batches(64))\n"
        "assert 'llvmlite' in sys.modules and 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=400)
