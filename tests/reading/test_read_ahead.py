"""Reading ahead: what is not in memory is brought there, nothing else is, and nothing is left open."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import mmap
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import disk
from support.slots import slots_of

import arraystore
from arraystore import Slots, SpecError, concatenate
from arraystore._reading import read_ahead as ahead_module
from arraystore._reading.options import Ahead
from arraystore._reading.read_ahead import ReadAhead, check_ahead
from arraystore._stores.slot_array import SlotArray

PAGE = mmap.PAGESIZE
SLOT = 5 * PAGE // 2  # neighbors share a page
Index = npt.NDArray[np.int64]
Asked = list[tuple[int, int]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An array of 400 slots, 4 MB, on disk."""
    path = tmp_path / "x.npy"
    pixels = np.random.default_rng(0).integers(0, 256, (400, SLOT), np.uint8)
    pixels[:, :2] = np.arange(400, dtype=np.uint16)[:, None].view(np.uint8)
    np.save(path, pixels)
    return path


def cold(path: Path) -> Slots:
    """Open an array, of which nothing is in memory then, if the file system can do that."""
    slots = arraystore.open_array(path)
    with path.open("rb") as file:
        end = time.monotonic() + 20
        while True:
            disk.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if can_evict(path) or time.monotonic() > end:
                break
            time.sleep(0.01)  # a page that another processor has just read can be evicted a moment later
    return slots


def in_memory(path: Path) -> npt.NDArray[np.bool_]:
    """Which pages of a file are in memory; looking brings none there."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        pages = -(-len(mapping) // PAGE)
        told = np.zeros(pages, np.uint8)
        whole = np.frombuffer(mapping, np.uint8)
        address = whole.ctypes.data
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mincore(
            ctypes.c_void_p(address), ctypes.c_size_t(len(mapping)), ctypes.c_void_p(told.ctypes.data)
        )
        del whole
        assert failed == 0
    return (told & 1).astype(bool)


def pages_of(rows: Any) -> Index:
    """The pages that slots lie on; the pixels start at byte 128."""
    ends = [((128 + row * SLOT) // PAGE, (127 + (row + 1) * SLOT) // PAGE) for row in rows]
    return np.unique(np.concatenate([np.arange(first, last + 1) for first, last in ends]))


def eventually(true: Callable[[], bool], seconds: float = 100) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.002)
    return true()


def descriptors() -> set[tuple[str, str]]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that this loop reads them by
            found.add((link.name, str(link.readlink())))
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    threads, files = threading.active_count(), descriptors()
    yield
    assert eventually(lambda: threading.active_count() == threads)
    if descriptors() - files:
        gc.collect()  # a mapping has a descriptor, and the trace of an expected error may have a mapping
    assert not descriptors() - files


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The ranges that the system is advised to read from here on; it is not told."""
    ranges: Asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, start, size, _advice: ranges.append((start, start + size)))
    monkeypatch.setattr(ahead_module, "_resident", lambda _file, _rows: False)
    return ranges


@contextlib.contextmanager
def reading(slots: Slots, how: Ahead = "auto") -> Iterator[ReadAhead]:
    ahead = ReadAhead(slots.__slot_arrays__, how)
    try:
        yield ahead
    finally:
        ahead.close()


# --- on a disk -------------------------------------------------------------------------------------------------------


def can_evict(path: Path) -> bool:
    """False in a file system that lies in memory: then there is nothing to read, and no harm may come of trying."""
    return not in_memory(path).any()


@pytest.mark.parametrize("how", ["auto", "advise", "read"])
def test_what_is_not_in_memory_is_read(path: Path, how: Ahead) -> None:
    slots, rows = cold(path), np.array([300, 7, 8, 301, 150, 7])
    with reading(slots, how) as ahead:
        on_disk = can_evict(path)
        assert ahead.active
        assert ahead.read(rows) or not on_disk  # it was not there
        assert eventually(lambda: bool(in_memory(path)[pages_of(rows)].all()))
        if on_disk:
            far = np.setdiff1d(np.arange(500), pages_of(np.concatenate([rows + off for off in range(-60, 60)])))
            assert not in_memory(path)[far].any()
            assert eventually(lambda: not ahead.read(rows))  # now it is, or will be as soon as its pages have come
            assert ahead.read(np.array([7, 40]))  # one of them is not
    np.testing.assert_array_equal(slots.take(rows)[:, :2].copy().view(np.uint16).ravel(), rows)


def test_what_is_off_reads_nothing(path: Path) -> None:
    with reading(arraystore.open_array(path), "off") as ahead:
        assert not ahead.active


@pytest.mark.parametrize("rows", [[20, 22, 24], [10, 11, 12, 13], [0, 399], [5]])
def test_pages_are_given_back_but_those_that_are_shared(path: Path, rows: list[int]) -> None:
    slots = cold(path)
    with reading(slots) as ahead:
        on_disk = can_evict(path)
        expected = slots.take(range(400))  # all pages are in memory, and in the mapping
        assert in_memory(path).all()
        ahead.drop(np.array([*rows, rows[0]]))
        if on_disk:
            whole = [range(-(-(128 + row * SLOT) // PAGE), (128 + (row + 1) * SLOT) // PAGE) for row in rows]
            gone = np.concatenate([np.array(pages, int) for pages in whole])
            assert np.flatnonzero(~in_memory(path)).tolist() == sorted(set(gone.tolist()))
        np.testing.assert_array_equal(slots.take(range(400)), expected)


def test_a_loader_that_drops_behind_leaves_little_in_memory(tmp_path: Path) -> None:
    """Of slots that are large and come in order, for the system reads what lies around a page as well."""
    path = tmp_path / "x.npy"
    np.save(path, np.arange(64, dtype=np.uint8)[:, None] + np.zeros((64, 1 << 17), np.uint8))
    slots = cold(path)
    on_disk = can_evict(path)
    for options, low, high in (({"drop_behind": True}, 0, 0.5 if on_disk else 1), ({}, 1, 1)):
        batches = list(slots.loader(4, shuffle=False, **options))
        np.testing.assert_array_equal(np.concatenate(batches)[:, -1], np.arange(64))
        assert low <= in_memory(path).mean() <= high


# --- which ranges ----------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=60),
    st.sampled_from([1, 3000, 65_536, 200_000, 30 << 20]),
    st.sampled_from([0, 128, 4096]),
)
def test_ranges_cover_the_slots_and_little_else(rows: list[int], size: int, offset: int) -> None:
    file = ahead_module._File(-1, offset, np.broadcast_to(np.uint8(0), (1, size)), mmap.mmap(-1, 1), 0)
    ranges = list(file.ranges(np.array(rows)))
    assert ranges == sorted(ranges)
    assert all(begin < end <= begin + (1 << 23) for begin, end in ranges)
    starts = np.array(sorted(set(rows))) * size + offset
    gaps = {(int(end), int(start)) for end, start in zip(starts[:-1] + size, starts[1:], strict=True) if start > end}
    between = {(end, begin) for (_, end), (begin, _) in pairwise(ranges) if begin > end}
    # What lies between ranges are the wide gaps between slots, all of them; all else is read.
    assert between == {(end, start) for end, start in gaps if start - end > 1 << 16}
    assert (ranges[0][0], ranges[-1][1]) == (starts[0], starts[-1] + size)


def test_neighbors_are_one_range(path: Path, asked: Asked) -> None:
    with reading(arraystore.open_array(path)) as ahead:
        assert ahead.read(np.array([9, 3, 4, 300, 5, 3]))
    assert asked == [(128 + 3 * SLOT, 128 + 10 * SLOT), (128 + 300 * SLOT, 128 + 301 * SLOT)]


def test_only_files_are_read(path: Path, tmp_path: Path, asked: Asked) -> None:
    """Of several parts, each has its own slots; what is in RAM is left alone."""
    np.save(tmp_path / "y.npy", np.zeros((10, SLOT), np.uint8))
    ram, other = slots_of([SlotArray(np.zeros((20, SLOT), np.uint8))]), arraystore.open_array(tmp_path / "y.npy")
    whole = concatenate([ram, arraystore.open_array(path), ram, other])[::-1]
    with reading(whole) as ahead:
        assert ahead.read(whole.__slot_arrays__.base(np.array([449 - 25, 449 - 441, 449 - 5, 449 - 430])))
        assert asked == [(128 + 5 * SLOT, 128 + 6 * SLOT), (128 + SLOT, 128 + 2 * SLOT)]
        asked.clear()
        assert not ahead.read(np.array([0, 3, 19, 420, 439]))
        assert not ahead.read(np.empty(0, np.int64))
        assert asked == []
    with reading(ram) as ahead:
        assert not ahead.active
        assert not ahead.read(np.arange(20))
        ahead.drop(np.arange(20))


def test_what_a_cache_has_is_not_read(path: Path, asked: Asked) -> None:
    slots = arraystore.open_array(path).cached()
    slots.take([3, 4])
    with reading(slots) as ahead:
        assert not ahead.read(np.array([4, 3]))
        assert ahead.read(np.array([4, 9, 3]))
    assert asked == [(128 + 9 * SLOT, 128 + 10 * SLOT)]


def test_slots_in_hdf5_are_read_where_they_lie(photos: Path, tmp_path: Path, asked: Asked) -> None:
    store = arraystore.build(photos, tmp_path / "x.h5", size=16, progress=False)
    size = 3 * 16 * 16
    with reading(store) as ahead:
        assert ahead.read(np.array([2]))
    assert asked == [(3 * 4096 + 2 * size, 3 * 4096 + 3 * size)]


# --- errors ----------------------------------------------------------------------------------------------------------


def refusing(*_args: Any) -> None:
    raise OSError(errno.EINVAL, "this file system takes no advice")


def test_advice_that_is_refused_is_an_error_where_it_was_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "_resident", lambda _file, _rows: False)
    monkeypatch.setattr(os, "posix_fadvise", refusing)
    with reading(arraystore.open_array(path), "advise") as ahead, pytest.raises(OSError, match="takes no advice"):
        ahead.read(np.array([1]))

    def loop() -> None:
        for _ in arraystore.open_array(path).loader(8, ahead="advise", in_flight=1):
            time.sleep(0.02)  # a loop that takes no time may be done before any advice is given

    with pytest.raises(OSError, match="takes no advice") as caught:
        loop()
    assert caught.value.errno == errno.EINVAL


def test_where_no_advice_is_taken_threads_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reading(cold(path)) as ahead, monkeypatch.context() as patch:
        on_disk = can_evict(path)
        patch.setattr(os, "posix_fadvise", refusing)
        assert ahead.read(np.arange(50, 60))
        assert eventually(lambda: bool(in_memory(path)[pages_of(range(50, 60))].all()))
        assert any("arraystore-read" in thread.name for thread in threading.enumerate())
        assert not on_disk or not in_memory(path)[300:].any()
    slots = cold(path)
    monkeypatch.delattr(os, "posix_fadvise")
    with reading(slots) as ahead:
        assert ahead.read(np.arange(50, 60))
        assert eventually(lambda: bool(in_memory(path)[pages_of(range(50, 60))].all()))
        ahead.drop(np.arange(50, 60))  # what the system cannot do is left


@pytest.mark.parametrize("missing", ["RWF_NOWAIT", "error"])
def test_where_the_system_cannot_tell_what_is_in_memory_all_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    slots = arraystore.open_array(path)
    slots.take(range(400))
    if missing == "error":
        monkeypatch.setattr(os, "preadv", refusing)
    else:
        monkeypatch.delattr(os, "RWF_NOWAIT")
    with reading(slots) as ahead:
        assert ahead.read(np.arange(5))


def test_errors_of_the_disk_are_left_to_who_copies(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def failing(_descriptor: int, size: int, _offset: int) -> bytes:
        tried.append(size)
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "pread", failing)
    monkeypatch.setattr(ahead_module, "_resident", lambda _file, _rows: False)
    with reading(arraystore.open_array(path), "read") as ahead:
        assert ahead.read(np.arange(400))
        assert eventually(lambda: len(tried) == -(-400 * SLOT // (1 << 19)))
    assert sum(tried) == 400 * SLOT


def test_a_file_that_has_lost_its_name_is_left_alone(path: Path, asked: Asked) -> None:
    """Who holds a store that was removed or replaced goes on reading it."""
    slots = arraystore.open_array(path)
    expected = slots.take(range(400))
    np.save(path.with_name("other.npy"), np.zeros((400, SLOT), np.uint8))
    for change in (lambda: path.with_name("other.npy").replace(path), path.unlink):
        change()
        with reading(slots) as ahead:
            assert not ahead.active
            assert not ahead.read(np.arange(9))
        np.testing.assert_array_equal(np.concatenate(list(slots.batches(64))), expected)
    assert asked == []


def test_files_that_cannot_be_opened_are_read_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = arraystore.open_array(path)

    def none_left(*_args: Any) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "open", none_left)
    with reading(slots) as ahead:
        assert not ahead.active
    assert len(list(slots.loader(8))) == 50


@pytest.mark.parametrize("how", ["", "fast", "Auto", None])
def test_a_way_that_does_not_exist_is_refused(how: Any, path: Path) -> None:
    message = f"ahead must be one of 'auto', 'advise', 'read', 'off', not {how!r}"
    for call in (lambda: check_ahead(how), lambda: arraystore.open_array(path).loader(ahead=how)):
        with pytest.raises(SpecError, match="^" + re.escape(message) + "$"):
            call()


def test_advice_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    with pytest.raises(
        SpecError, match=r"^this system cannot be advised of reads: pass ahead='auto', 'read' or 'off'$"
    ):
        check_ahead("advise")
    for how in ("auto", "read", "off"):
        check_ahead(how)


# --- ends ------------------------------------------------------------------------------------------------------------


def test_a_read_of_another_thread_ends_when_it_is_stopped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here each range takes the system a while."""
    monkeypatch.setattr(ahead_module, "_resident", lambda _file, _rows: False)
    calls: list[int] = []

    def slow(*_args: Any) -> None:
        calls.append(1)
        time.sleep(0.05)

    monkeypatch.setattr(os, "posix_fadvise", slow)
    monkeypatch.setattr(ahead_module, "_GAP_BYTES", 0)
    with reading(arraystore.open_array(path)) as ahead:
        thread = threading.Thread(target=ahead.read, args=(np.arange(0, 400, 2),))
        thread.start()
        assert eventually(lambda: len(calls) > 2)
        ahead.stop()
        thread.join(100)
        assert not thread.is_alive()
    assert len(calls) < 200


def test_closing_ends_reads_that_have_not_begun(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "_resident", lambda _file, _rows: False)
    monkeypatch.setattr(ahead_module, "_READ_BYTES", PAGE)
    read: list[int] = []

    with reading(arraystore.open_array(path), "read") as ahead:

        def slow(*_args: Any) -> bytes:
            read.append(1)
            assert ahead._stop.wait(100)
            return b""

        monkeypatch.setattr(os, "pread", slow)
        ahead.read(np.arange(12))  # 31 reads, 8 at a time
    assert len(read) <= 8
    ahead.close()  # a second time has no effect
