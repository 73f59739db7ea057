"""The cache of encoded slots: it keeps JPEGs, as many as fit, and each is read once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import jpegs
from support.encoded_slots import COUNT, HEIGHT, WIDTH, encoded_in, files, pair, same
from support.readers import refused
from support.slots import slots_of

from arraystore import FormatError, Slots, SpaceError
from arraystore._reading.cache import EncodedCache
from arraystore._stores.slot_array import SlotArray

Array = npt.NDArray[Any]
Pair = tuple[Slots, Slots]


@pytest.fixture(params=["NCHW", "NHWC"])
def both(request: pytest.FixtureRequest) -> Pair:
    return pair(request.param)


# --- caches ----------------------------------------------------------------------------------------------------------


def cache_of(slots: Slots) -> EncodedCache:
    cache = slots.__slot_arrays__.cache
    assert isinstance(cache, EncodedCache)
    return cache


def rewritten(encoded: Slots) -> tuple[Slots, Array]:
    """The same slots, and their bytes, which a test may change."""
    images = encoded_in(encoded)
    data = images.encoded.copy()
    return slots_of([SlotArray(replace(images, encoded=data))], layout=encoded.layout), data


def test_a_cache_keeps_jpegs_and_reads_each_once(both: Pair) -> None:
    encoded, raw = both
    slots, data = rewritten(encoded)
    first = [30, 3, 8, 30, 21]
    budget = sum(len(files()[slot]) for slot in (30, 8, 21)) + len(files()[5]) - 1
    cached = slots.cached(budget)
    same([cached.take(first)], [raw.take(first)])
    assert not cache_of(cached).is_full
    same([cached.take([8, 5, 6])], [raw.take([8, 5, 6])])  # slot 5 is a byte too large
    assert cache_of(cached).is_full
    data[:] = 0  # whatever comes from the cache is as it was
    same([cached.take(first)], [raw.take(first)])
    assert cache_of(cached).missing(np.arange(COUNT)).tolist() == [*np.delete(np.arange(COUNT), [3, 8, 21, 30])]
    with pytest.raises(FormatError, match="the JPEG of slot 5 is damaged"):
        cached.take([8, 5])
    assert cache_of(cached)._jpegs.nbytes == budget


def test_all_is_loaded_in_the_bytes_of_the_jpegs(both: Pair) -> None:
    encoded, raw = both
    slots, data = rewritten(encoded)
    whole, half, turned = slots.load(), slots.load(sum(map(len, files())) // 2), slots[::-1].load("5 kB")
    assert cache_of(whole)._jpegs.nbytes == sum(map(len, files())) < raw.take(np.arange(COUNT)).nbytes / 2
    assert cache_of(slots[[4, 4, 9]].load())._jpegs.nbytes == len(files()[4]) + len(files()[9])
    data[:] = 0
    assert cache_of(whole).is_full
    same([whole.take(np.arange(COUNT))], [raw.take(np.arange(COUNT))])
    kept = cache_of(half)._kept
    assert 15 < kept < 25
    same([half.take(np.arange(kept))], [raw.take(np.arange(kept))])
    assert cache_of(half).missing(np.arange(COUNT)).tolist() == [*range(kept, COUNT)]
    assert turned.take([0, 1]).shape[0] == 2
    assert cache_of(turned).missing(np.arange(COUNT)).tolist() == [*range(COUNT - cache_of(turned)._kept)]


@settings(max_examples=60)
@given(st.data())
def test_pixels_are_right_whatever_fits(data: st.DataObject) -> None:
    pixels = pair("NCHW")[1].take(np.arange(COUNT))
    parts = [files()[:15], files()[15:16], files()[16:]]
    arrays = [SlotArray(jpegs.encoded_of(part, HEIGHT, WIDTH, place=f"{k}.store")) for k, part in enumerate(parts)]
    slots, numbers = slots_of(arrays, layout="NCHW"), np.arange(COUNT)
    if data.draw(st.booleans()):
        numbers = np.array(data.draw(st.lists(st.integers(0, COUNT - 1), min_size=1)))
        slots = slots[numbers]
    budget = data.draw(st.integers(0, sum(map(len, files())) + 5))
    slots = slots.load(budget) if data.draw(st.booleans()) else slots.cached(budget)
    for _ in range(data.draw(st.integers(1, 3))):
        wanted = np.array(data.draw(st.lists(st.integers(0, len(slots) - 1))), int)
        np.testing.assert_array_equal(slots.take(wanted), pixels[numbers[wanted]])
        cache = cache_of(slots)
        held = np.setdiff1d(np.unique(numbers), cache.missing(np.unique(numbers)))
        assert sum(len(files()[slot]) for slot in held) <= budget


def test_damage_in_a_cache_names_the_slot_of_its_store() -> None:
    short = [files()[0], files()[1][:-200]]
    arrays = [
        SlotArray(jpegs.encoded_of(files()[:5], HEIGHT, WIDTH, place="a.store")),
        SlotArray(jpegs.encoded_of(short, HEIGHT, WIDTH, place="b.store")),
    ]
    slots = slots_of(arrays, layout="NCHW").load()
    for _ in range(2):
        with pytest.raises(FormatError, match=r"^b.store: the JPEG of slot 1 is damaged") as caught:
            slots.take([2, 6, 0])
        assert (caught.value.slot, caught.value.source) == (1, "b.store")
    assert slots.take([2, 5]).any()


def test_a_damaged_slot_keeps_no_other_from_the_cache() -> None:
    images = jpegs.encoded_of(files(), HEIGHT, WIDTH)
    offsets = images.offsets.copy()
    offsets[5] = 2**60
    slots = slots_of([SlotArray(replace(images, offsets=offsets))], layout="NCHW")
    cached = slots.cached()
    same([cached.take([1, 30])], [pair("NCHW")[1].take([1, 30])])
    with pytest.raises(FormatError, match="the JPEG of slot 4 is damaged: its offsets"):
        cached.take([2, 4])
    same([cached.take([2, 1])], [pair("NCHW")[1].take([2, 1])])
    with pytest.raises(FormatError, match="the JPEG of slot 4 is damaged: its offsets"):
        slots.load()


def test_memory_that_is_too_small_is_an_error_with_numbers(both: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, _ = both
    monkeypatch.setattr("arraystore._reading.cache.available_memory_bytes", lambda: 20_000)
    total = sum(map(len, files()))
    for call in (encoded.load, encoded.cached, lambda: encoded.loader(cache="1 GB")):
        with pytest.raises(SpaceError) as caught:
            call()
        message = (
            f"a cache of {total:,} bytes of JPEGs needs 0.00 GB of memory, 0.00 GB are free: pass a smaller budget"
        )
        assert str(caught.value) == message
        assert (caught.value.needed_bytes, caught.value.free_bytes) == (total + 8 * 41 + 4 * 40, 20_000)
    assert len(encoded.cached("10 kB")) == COUNT
    refused("a size in bytes must be a number, or a text such as '8 GB' or '500 MiB', not 'much'", encoded.load, "much")


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("share", [0, 0.1, 0.7, 1])
def test_threads_that_hammer_a_cache_get_the_right_pixels(both: Pair, share: float) -> None:
    encoded, raw = both
    budget = int(sum(map(len, files())) * share)
    cached, pixels = encoded.cached(budget), raw.take(np.arange(COUNT))
    begin = threading.Barrier(5)

    def work(seed: int) -> bool:
        random, right = np.random.default_rng(seed), True
        begin.wait(200)
        for _ in range(15):
            wanted = random.integers(0, COUNT, random.integers(1, 12))
            right &= bool((cached.take(wanted) == pixels[wanted]).all())
        return right

    with ThreadPoolExecutor(5) as pool:
        assert all(pool.map(work, range(5)))
    cache = cache_of(cached)
    held = np.setdiff1d(np.arange(COUNT), cache.missing(np.arange(COUNT)))
    assert sum(len(files()[slot]) for slot in held) == int(cache._offsets[cache._kept]) <= budget  # none is kept twice
    for slot in held.tolist():
        assert bytes(cache._images.bytes_of(int(cache._row[slot]))) == files()[slot]
