"""Slots of encoded images: read, chosen, sent to other processes and loaded as the slots of their pixels are."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import xxhash
from support import jpegs
from support.encoded_slots import COUNT, FAILED, HEIGHT, STORED, WIDTH, encoded_in, files, made, pair, same, stored
from support.readers import refused, said
from support.slots import slots_of
from support.store_contract import build

import arraystore
from arraystore import (
    Augment,
    CenterCrop,
    FormatError,
    PadAndCrop,
    RandomResizedCrop,
    Slots,
    SpecError,
    StoreError,
    concatenate,
)
from arraystore._common.limits import usable_cpus
from arraystore._reading import read_ahead
from arraystore._reading.read_ahead import ReadAhead
from arraystore._reading.slot_arrays import SlotArrays
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import Kind

Array = npt.NDArray[Any]
Pair = tuple[Slots, Slots]


@pytest.fixture(params=["NCHW", "NHWC"])
def both(request: pytest.FixtureRequest) -> Pair:
    return pair(request.param)


# --- slots -----------------------------------------------------------------------------------------------------------


def test_slots_are_taken_and_chosen(both: Pair) -> None:
    encoded, raw = both
    assert (encoded.slot_shape, encoded.dtype, len(encoded)) == (raw.slot_shape, raw.dtype, COUNT)
    assert encoded.unreadable().tolist() == FAILED
    wanted = np.array([30, 3, 30, 0, 39, 7])
    np.testing.assert_array_equal(encoded.take(wanted), raw.take(wanted), strict=True)
    out = np.full((6, *raw.slot_shape), 9, np.uint8)
    assert encoded.take(wanted, out=out) is out
    np.testing.assert_array_equal(out, raw.take(wanted))
    assert encoded.take([]).shape == (0, *raw.slot_shape)
    for slot in (0, 17, -1, COUNT - 2):
        same([encoded[slot]], [raw[slot]])
    chosen = [slice(None, None, -3), [5, 5, 1], np.arange(COUNT) % 2 == 0]
    for each in chosen:
        same([encoded[each].take(np.arange(3))], [raw[each].take(np.arange(3))])
    assert not encoded.take([17]).any()


def test_encoded_and_raw_slots_are_concatenated(both: Pair) -> None:
    encoded, raw = both
    mixed, plain = concatenate([encoded[10:], raw, encoded]), concatenate([raw[10:], raw, raw])
    wanted = np.random.default_rng(0).permutation(len(plain))
    for budget in (None, 0, "20 kB", "300 kB"):
        cached = mixed if budget is None else mixed.cached(budget)
        for _ in range(2):
            same([cached.take(wanted)], [plain.take(wanted)])
    same([mixed.load().take(wanted)], [plain.take(wanted)])
    options: dict[str, Any] = {"seed": 4, "augment": Augment(crop=RandomResizedCrop(20), hflip=0.5)}
    same(mixed.loader(16, **options), plain.loader(16, **options))


def test_the_jpeg_of_a_slot(both: Pair) -> None:
    encoded, raw = both
    assert [bytes(encoded.encoded(slot)) for slot in range(COUNT)] == files()
    data = encoded[[5, 8]].encoded(1)
    assert isinstance(data, memoryview)
    assert (data.readonly, bytes(data), data.format, data.ndim) == (True, files()[8], "B", 1)
    assert bytes(encoded.load().encoded(np.int64(2))) == files()[2]
    assert encoded.encoded(17).nbytes == 0
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    refused("slots must be 0 to 39, not -1 to -1", encoded.encoded, -1)
    refused("slots must be 0 to 39, not 40 to 40", encoded.encoded, 40)
    refused("slots must be integers, not float64", encoded.encoded, 1.0)
    message = (
        "slot 2 is kept as pixels, so it has no encoded bytes: build the store with encode='jpeg', or take its pixels"
    )
    error = said(SpecError, message, raw.encoded, 2)
    assert isinstance(error, SpecError)
    assert (error.kind, error.slot, [str(option) for option in error.options]) == (Kind.INVALID, 2, ["encode='jpeg'"])
    assert bytes(concatenate([raw, encoded]).encoded(COUNT + 5)) == files()[5]


def test_what_is_checked_are_the_bytes_as_they_are_kept(both: Pair) -> None:
    for slots in both:
        (array,) = slots.__slot_arrays__.arrays
        assert array.checksums is not None
        for slot in range(COUNT):
            data = array.bytes_of(slot)
            assert data.readonly
            assert xxhash.xxh3_64_intdigest(data) == array.checksums[slot]


def test_a_store_is_built_of_encoded_slots(both: Pair, tmp_path: Path) -> None:
    """Its pixels are those of the JPEGs; a slot whose bytes have changed is refused, like one that failed."""
    encoded, raw = both
    good = STORED
    store = arraystore.build(encoded[good], tmp_path / "x.store", progress=False)
    same([store.take(np.arange(len(good)))], [raw.take(good)])
    (array,) = encoded.__slot_arrays__.arrays
    images = encoded_in(encoded)
    data = images.encoded.copy()
    data[int(images.offsets[6]) - 60] ^= 0x55
    changed = replace(images, encoded=data)
    slots = slots_of([SlotArray(changed, array.status, array.checksums, array.targets)], layout=encoded.layout)
    store = arraystore.build(slots[good], tmp_path / "y.store", bad="keep", progress=False)
    (bad,) = store.bad()
    assert (bad.slot, bad.reason) == (
        int(np.flatnonzero(good == 5)[0]),
        "the pixels in the store that it is taken from are damaged: verify and repair that store",
    )


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["x.jpegs", None])
def test_a_store_that_was_built(mixed: Path, tmp_path: Path, layout: str, name: str | None) -> None:
    """On disk and in memory; it is read by each way, sent to another process, and closed."""
    target = None if name is None else tmp_path / name
    store = build(mixed, target, size=48, encode="jpeg", layout=layout, bad="keep")
    shown = store if target is None else arraystore.open(target)
    pixels = jpegs.pixels_of([bytes(shown.encoded(slot)) for slot in range(12)], 48, 48, layout=layout)
    same([shown.images[:], shown.take(np.arange(12)), shown.load().take(np.arange(12))], [pixels] * 3)
    assert [shown.encoded(slot).nbytes == 0 for slot in range(12)] == [slot in (2, 3, 7, 11) for slot in range(12)]
    raw = slots_of([SlotArray(pixels, shown.status, None, shown.targets)], layout=layout)
    options: dict[str, Any] = {"seed": 5, "augment": Augment(crop=RandomResizedCrop(32), hflip=0.5)}
    same(shown.loader(3, **options), raw.loader(3, **options))
    again = pickle.loads(pickle.dumps(shown))
    images, data = shown.images, shown.encoded(0)
    shown.close()
    same(again.loader(3, cache="1 MB", **options), raw.loader(3, **options))
    said(StoreError, "the store was closed: open it again to read it", shown.encoded, 0)
    same([images[0]], [pixels[0]])
    assert bytes(data) == bytes(again.encoded(0))


# --- loaders ---------------------------------------------------------------------------------------------------------


def _mean(image: Array) -> Array:
    return image.mean((0, 1))


def _noisy(image: Array, rng: np.random.Generator) -> Array:
    return image + rng.normal(size=image.shape)


LOADERS: dict[str, dict[str, Any]] = {
    "whole": {},
    "in order, images alone": {"shuffle": False, "targets": ()},
    "center": {"augment": Augment(crop=CenterCrop((30, 20)))},
    "resized": {"augment": Augment(crop=RandomResizedCrop(24), hflip=0.5, vflip=0.2)},
    "padded floats": {"augment": Augment(crop=PadAndCrop(4), dtype="float32", normalize=True)},
    "half floats in the other layout": {"augment": Augment(hflip=1, dtype="float16", layout="NHWC")},
    "masks follow": {"augment": Augment(crop=RandomResizedCrop(16), hflip=0.5), "targets": ["labels", "masks"]},
    "transform": {"transform": _mean},
    "seeded transform": {"augment": Augment(crop=RandomResizedCrop(12)), "transform": _noisy},
    "batch transform": {"batch_transform": lambda batch: (batch[0][:, :1].copy(), batch[1])},
    "balanced": {"weights": np.arange(COUNT) % 4, "draws": 70},
    "drop behind": {"drop_behind": True, "ahead": "read"},
}


@pytest.mark.parametrize("kind", [*LOADERS])
@pytest.mark.parametrize("ways", [{"workers": 1}, {"workers": 3, "cache": "12 kB"}, {"cache": "1 GB", "in_flight": 1}])
def test_loaders_yield_what_loaders_of_the_pixels_yield(
    both: Pair, tmp_path: Path, kind: str, ways: dict[str, Any]
) -> None:
    encoded, raw = both
    on_disk = stored(encoded, tmp_path)
    options = {"seed": 3, **LOADERS[kind]}
    for slots in (encoded, on_disk):
        loader, expected = slots.loader(8, **options, **ways), raw.loader(8, **options)
        for _ in range(2):
            same(loader, expected)
        same([loader.batch(1, epoch=4)], [expected.batch(1, epoch=4)])


def test_plain_batches(both: Pair) -> None:
    encoded, raw = both
    same(encoded.batches(16), raw.batches(16))


def test_decoding_takes_every_processor(both: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that only copy wait for the memory, and are few; those that decode do not."""
    monkeypatch.setattr("arraystore._reading.loader.usable_cpus", lambda: 64)
    encoded, raw = both
    assert (encoded.loader()._maker.workers, raw.loader()._maker.workers) == (64, 8)
    assert concatenate([raw, encoded]).loader()._maker.workers == 64
    assert usable_cpus() >= 1


def test_a_stored_slot_without_bytes_is_damaged() -> None:
    """Zeros would pass for its pixels."""
    images = jpegs.encoded_of(files(), HEIGHT, WIDTH)
    status = np.array([2 if slot in (3, 39) else 1 for slot in range(COUNT)], np.uint8)
    slots = slots_of([SlotArray(images, status)], layout="NCHW")
    assert not slots.take([3]).any()
    message = "x.store: the JPEG of slot 17 is damaged: it is stored, but has no bytes; repair the store"
    for call in (lambda: slots.take([3, 17]), lambda: slots.encoded(17), lambda: slots.cached().take([17])):
        said(FormatError, message, call)
    again = pickle.loads(pickle.dumps(slots))
    said(FormatError, message, again.take, [17])
    with pytest.raises(FormatError, match="it is stored, but has no bytes"):
        list(slots.loader(8, augment=Augment(crop=CenterCrop(8))))


def test_a_damaged_jpeg_ends_an_iteration_with_its_slot() -> None:
    changed = [*files()[:9], files()[9][:-300], *files()[10:]]
    slots = made(changed, jpegs.encoded_of(files(), HEIGHT, WIDTH), "NCHW")
    (array,) = slots.__slot_arrays__.arrays
    broken = SlotArray(jpegs.encoded_of(changed, HEIGHT, WIDTH), array.status, None, array.targets)
    slots = slots_of([broken], layout="NCHW")
    for options in ({}, {"cache": "1 MB"}, {"augment": Augment(crop=RandomResizedCrop(16))}):
        with pytest.raises(
            FormatError, match=r"^x.store: the JPEG of slot 9 is damaged: .*; repair the store"
        ) as caught:
            list(slots.loader(8, shuffle=False, **options))
        assert caught.value.slot == 9


# --- reading ahead ---------------------------------------------------------------------------------------------------


Asked = list[tuple[int, int]]
HEAD = 128  # bytes of the file before the JPEGs


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The ranges that the system is advised to read or to drop from here on; it is not told."""
    ranges: Asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _fd, start, size, _advice: ranges.append((start, start + size)))
    monkeypatch.setattr(read_ahead, "_resident", lambda _file, _rows: False)
    monkeypatch.setattr(read_ahead, "_GAP_BYTES", 100)
    return ranges


def test_the_bytes_of_jpegs_are_read_ahead(tmp_path: Path, asked: Asked) -> None:
    slots, ends = stored(pair("NCHW")[0], tmp_path), np.cumsum([HEAD, *map(len, files())]).tolist()
    with closing(ReadAhead(slots.__slot_arrays__)) as ahead:
        assert ahead.active
        assert ahead.read(np.array([9, 4, 30, 2, 9]))  # slot 3 is empty, so 2 and 4 are neighbors
        assert asked == [(ends[2], ends[5]), (ends[9], ends[10]), (ends[30], ends[31])]
        asked.clear()
        assert ahead.read(np.array([3, 39]))
        assert all(begin == end for begin, end in asked)
    cached = slots.cached()
    cached.take([4, 9])
    with closing(ReadAhead(cached.__slot_arrays__)) as ahead:
        asked.clear()
        assert not ahead.read(np.array([9, 4]))
        assert ahead.read(np.array([9, 5]))
        assert asked == [(ends[5], ends[6])]


def test_pages_that_lie_within_a_jpeg_are_given_back(tmp_path: Path, asked: Asked) -> None:
    data = jpegs.jpegs(3, 200, 200)
    slots = slots_of([SlotArray(jpegs.mapped(jpegs.encoded_of(data, 200, 200), tmp_path))], layout="NCHW")
    ends, page = np.cumsum([HEAD, *map(len, data)]).tolist(), mmap.PAGESIZE
    with closing(ReadAhead(slots.__slot_arrays__)) as ahead:
        ahead.drop(np.array([2, 0, 2]))
    assert asked == [(-(-ends[row] // page) * page, ends[row + 1] // page * page) for row in (0, 2)]
    assert all(end - begin > 2 * page for begin, end in asked)
    assert slots.take([1, 0]).any()


def test_whether_jpegs_are_in_memory_is_seen_in_their_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slots, ends = stored(pair("NCHW")[0], tmp_path), np.cumsum([HEAD, *map(len, files())]).tolist()
    looked = []
    monkeypatch.setattr(os, "preadv", lambda _fd, _buffers, at, _flags: looked.append(at))
    with closing(ReadAhead(slots.__slot_arrays__)) as ahead:
        assert not ahead.read(np.array([9, 4]))
    assert looked == [(ends[9] + ends[10]) // 2, (ends[4] + ends[5]) // 2]


def test_offsets_that_lie_nowhere_are_left_to_the_reader(tmp_path: Path, asked: Asked) -> None:
    """Reading ahead neither fails nor leaves the file; taking the slot says what is wrong."""
    slots = stored(pair("NCHW")[0], tmp_path)
    images = encoded_in(slots)
    offsets = images.offsets.copy()
    offsets[[5, 8]] = 2**63 + 7, 10**9
    slots = slots_of([SlotArray(replace(images, offsets=offsets))], layout="NCHW")
    with closing(ReadAhead(slots.__slot_arrays__)) as ahead:
        ahead.read(np.arange(COUNT))
        ahead.drop(np.arange(COUNT))
    assert all(begin >= 0 and end <= HEAD + images.nbytes for begin, end in asked)
    with pytest.raises(FormatError, match="its offsets do not lie in the file of the JPEGs"):
        list(slots.loader(8, targets=()))


def test_as_much_is_read_ahead_as_was_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of JPEGs count, not those of their pixels."""
    slots = stored(pair("NCHW")[0], tmp_path)
    read: list[int] = []

    def noted(_self: ReadAhead, base: Array, **_options: bool) -> bool:
        read.append(len(base))
        return True

    monkeypatch.setattr(ReadAhead, "read", noted)
    allowed = 24 * (int(slots.__slot_arrays__.kept_bytes) + mmap.PAGESIZE + 1)  # three batches
    loader = slots.loader(8, in_flight=1, workers=1, ahead_bytes=allowed)
    batches = iter(loader)
    end = time.monotonic() + 100
    while sum(read) < 32 and time.monotonic() < end:
        time.sleep(0.002)
    assert sum(read) == 32  # the first batch, and three batches more than were begun
    assert len(list(batches)) == 5


# --- other processes -------------------------------------------------------------------------------------------------


def test_mapped_jpegs_are_mapped_again(both: Pair, tmp_path: Path) -> None:
    encoded, raw = both
    slots = stored(encoded, tmp_path)
    data = pickle.dumps(slots[::-1])
    assert len(data) < 40_000 + np.asarray(raw.target("masks")).nbytes
    again = pickle.loads(data)
    same([again.take(np.arange(COUNT))], [raw[::-1].take(np.arange(COUNT))])
    (array,) = again.__slot_arrays__.arrays
    assert isinstance(array.images.encoded, np.memmap)
    assert isinstance(array.images.offsets, np.memmap)
    assert array.images.place == str(tmp_path)
    for name in ("encoded.npy", "offsets.npy"):
        path = tmp_path / name
        other = path.with_suffix(".other")
        other.write_bytes(path.read_bytes())
        path.rename(tmp_path / "kept")
        other.rename(path)
        message = f"{path} was replaced or removed after it was opened: open it again"
        said(FormatError, message, pickle.loads, data)
        path.unlink()
        said(FormatError, message, pickle.loads, data)
        (tmp_path / "kept").rename(path)
    same([pickle.loads(data).take([3, 4])], [raw[::-1].take([3, 4])])
    same([slots.take([3, 4])], [raw.take([3, 4])])


def test_jpegs_in_ram_are_copied(both: Pair) -> None:
    encoded, raw = both
    again = pickle.loads(pickle.dumps(encoded.load()))
    assert again.__slot_arrays__.cache is None
    same([again.take(np.arange(COUNT))], [raw.take(np.arange(COUNT))])


def _taken(slots: Slots, wanted: list[int]) -> Array:
    return slots.take(wanted)


@pytest.mark.parametrize("how", ["spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_other_processes_read_the_same(tmp_path: Path, how: str) -> None:
    pairs = [pair(layout) for layout in ("NCHW", "NHWC")]
    on_disk = []
    for number, (encoded, _) in enumerate(pairs):
        (tmp_path / str(number)).mkdir()
        on_disk.append(stored(encoded, tmp_path / str(number)))
        on_disk[-1].take([0])  # this process has scratch memory of its own
    with ProcessPoolExecutor(1, multiprocessing.get_context(how)) as pool:
        for (encoded, raw), slots in zip(pairs, on_disk, strict=True):
            for each in (slots, encoded):
                same([pool.submit(_taken, each, [5, 3, 5]).result(timeout=400)], [raw.take([5, 3, 5])])


def test_a_file_that_was_replaced_is_not_read_ahead(both: Pair, tmp_path: Path) -> None:
    slots = stored(both[0], tmp_path)
    (array,) = slots.__slot_arrays__.arrays
    descriptor = array.open_file()
    assert descriptor is not None
    os.close(descriptor)
    (tmp_path / "encoded.npy").rename(tmp_path / "old")
    assert array.open_file() is None
    (tmp_path / "encoded.npy").write_bytes(b"another")
    assert array.open_file() is None
    assert both[0].__slot_arrays__.arrays[0].open_file() is None


def test_the_bytes_of_slots_are_counted_where_they_lie(both: Pair) -> None:
    encoded, raw = both
    assert encoded.__slot_arrays__.kept_bytes == sum(map(len, files())) / COUNT
    assert raw.__slot_arrays__.kept_bytes == HEIGHT * WIDTH * 3
    assert SlotArrays((SlotArray(np.empty((0, 3, 4, 4), np.uint8)),)).kept_bytes == 0
