"""Stores of JPEGs: what lies on disk, and all that holds of stores of pixels too."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.faults import contents
from support.store_contract import DiskContract, StoreContract, assert_equal, build, plain

import arraystore
from arraystore import BadImagesError, FormatError, ImageSpec, Jpeg, SpecError, StoreError
from arraystore._building.runs import in_order
from arraystore._common import limits
from arraystore._decoding.encoding.writers import restart_interval
from arraystore._format.ledger import ledger_dtype
from arraystore._stores.medium import FilledRun
from arraystore.testing import write_images

OPTIONS: Mapping[str, Any] = MappingProxyType({"encode": "jpeg"})


class Encoded(StoreContract):
    """What differs: pixels are nearly those of a raw store, and checksums are those of JPEGs."""

    options = OPTIONS

    @pytest.mark.parametrize("count", [1, 100])
    def test_slot_i_holds_row_i(self, tmp_path: Path, count: int) -> None:
        arrays = [np.full((4 + value, 6, 3), value, np.uint8) for value in range(count)]
        store = self.check(arrays, tmp_path, size=(4, 6), workers=3)
        assert np.abs(store.images[:, 0, 0, 0].astype(int) - np.arange(count)).max() <= 2

    def test_mean_and_std_leave_failed_slots_out(self, mixed: Path, tmp_path: Path) -> None:
        """They are those of the pixels before they were encoded."""
        store, raw = (self.build(mixed, self.target(tmp_path), bad="keep"), build(mixed, bad="keep", encode=None))
        assert (store.mean, store.std) == (raw.mean, raw.std)

    def test_checksums_are_those_of_the_slots(self, mixed: Path, tmp_path: Path) -> None:
        for bad in ("keep", "drop"):
            store = self.build(mixed, self.target(tmp_path), bad=bad, overwrite=True)
            expected = [xxhash.xxh3_64_intdigest(store.images.bytes_of(slot)) for slot in range(len(store))]
            assert store.checksums.tolist() == expected

    def test_arrays_are_read_only_and_stay_valid_after_closing(self, tmp_path: Path) -> None:
        store = self.reopened(self.build(write_images(tmp_path / "images"), self.target(tmp_path)))
        with pytest.raises((TypeError, ValueError)):
            store.images.encoded[0] = 1
        images, before = store.images, store.images[3]
        store.close()
        np.testing.assert_array_equal(images[3], before)


class TestEncodedStore(Encoded, DiskContract):
    medium = "encoded"

    def target(self, folder: Path) -> Path:
        return folder / "train.store"


class TestEncodedHdf5Store(Encoded, DiskContract):
    medium = "encoded-hdf5"

    def target(self, folder: Path) -> Path:
        return folder / "train.h5"


class TestEncodedMemoryStore(Encoded):
    medium = "ram"

    def target(self, folder: Path) -> None:
        del folder  # there is no file


# --- what lies on disk -----------------------------------------------------------------------------------------------


def test_numpy_and_any_decoder_read_it(photos: Path, tmp_path: Path) -> None:
    store = build(photos, tmp_path / "x.jpegs")
    folder = tmp_path / "x.jpegs"
    encoded, offsets = np.load(folder / "encoded.npy", mmap_mode="r"), np.load(folder / "offsets.npy")
    assert (encoded.dtype, encoded.offset, offsets.dtype, offsets.shape) == (np.uint8, 4096, np.uint64, (20,))
    assert (folder / "encoded.npy").stat().st_size == 4096 + offsets[-1] == 4096 + len(encoded)
    for slot in range(19):
        image = Image.open(io.BytesIO(encoded[offsets[slot] : offsets[slot + 1]].tobytes()))
        assert (image.format, image.size, image.mode) == ("JPEG", (24, 16), "RGB")
        assert np.abs(np.asarray(image, int).transpose(2, 0, 1) - store.images[slot]).max() <= 6
    assert np.load(folder / "shapes.npy").tolist() == [[16, 24]] * 19
    raw = build(photos, encode=None).images.astype(np.uint64)
    sums = np.stack([raw.sum((2, 3)), (raw**2).sum((2, 3))], axis=2)
    np.testing.assert_array_equal(np.load(folder / "sums.npy"), sums)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("color", "mode"), [("rgb", "RGB"), ("gray", "L")])
def test_the_options_of_the_jpegs(photos: Path, layout: str, color: str, mode: str) -> None:
    options: dict[str, Any] = {"size": 96, "layout": layout, "color": color}
    raw = build(photos, **options)
    errors, sizes = [], []
    for jpeg in (Jpeg(100, "444"), Jpeg(90, "444"), Jpeg(90, "420"), Jpeg(30, "420"), Jpeg(30, "420", restart=0)):
        store = build(photos, **options, encode=jpeg)
        assert Image.open(io.BytesIO(store.encoded(3))).mode == mode
        assert (b"\xff\xd0" in bytes(store.encoded(3))) == bool(jpeg.restart)
        errors.append(float(np.abs(plain(store.images).astype(int) - raw.images).mean()))
        sizes.append(store.images.nbytes)
    assert errors == sorted(errors)
    assert errors[0] < 2
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("width", range(1, 130))
def test_restart_markers_begin_each_row_of_blocks(width: int) -> None:
    for subsampling, pixels in (("444", 8), ("422", 16), ("420", 16), ("440", 8), ("411", 32)):
        columns = -(-width // pixels)
        for most in range(9):
            found = restart_interval(width, Jpeg(subsampling=subsampling, restart=most), gray=False)  # type: ignore[arg-type]
            fitting = [count for count in range(1, most + 1) if columns % count == 0]
            assert found == max(fitting, default=0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("jpg", 'encode must be "jpeg", an arraystore.Jpeg, "source", or "none", not \'jpg\''),
        ({"quality": 3, "x": 1}, "encode must be "),
        ({"quality": 0}, "quality must be a whole number from 1 to 100, not 0"),
        ({"subsampling": "421"}, "subsampling must be"),
        ({"size": (4, 65_501)}, "size is (4, 65501), and JPEGs have sides of up to 65,500 pixels"),
        ({"restart": -1}, "restart must be a whole number from 0 to 1,000, not -1"),
    ],
)
def test_a_wrong_encoding_is_refused(value: Any, message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        ImageSpec(**({"size": 4, "encode": value} if "size" not in value else {**value, "encode": "jpeg"}))


def test_the_spec_is_kept(photos: Path, tmp_path: Path) -> None:
    spec = ImageSpec(size=16, encode=Jpeg(77, "422", 3))
    store = build(photos, tmp_path / "x", size=None, spec=spec)
    assert arraystore.open(tmp_path / "x").spec == store.spec == spec
    assert ImageSpec.from_dict(spec.to_dict()) == spec
    assert "encode" not in ImageSpec(size=16, encode="none").to_dict()


# --- beside stores of pixels -----------------------------------------------------------------------------------------


def test_a_store_of_one_kind_replaces_one_of_the_other(photos: Path, tmp_path: Path) -> None:
    for options in ({}, {"encode": "jpeg"}, {}):
        store = build(photos, tmp_path / "x", overwrite=True, **options)
        assert store.medium == ("encoded" if options else "npy")
        assert store.verify(progress=False).ok
        names = {path.name for path in (tmp_path / "x").iterdir()}
        assert ("images.npy" in names, "encoded.npy" in names) == (not options, bool(options))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("first", ["jpeg", "none"])
def test_work_of_the_other_kind_is_not_discarded(mixed: Path, tmp_path: Path, first: str) -> None:
    with pytest.raises(BadImagesError):
        build(mixed, tmp_path / "x", encode=first)
    other = "none" if first == "jpeg" else "jpeg"
    with pytest.raises(StoreError, match="holds an unfinished build of something else: encode was"):
        build(mixed, tmp_path / "x", encode=other, bad="keep")
    assert_equal(build(mixed, tmp_path / "x", encode=first, bad="keep"), build(mixed, encode=first, bad="keep"))
    build(mixed, tmp_path / "x", encode=other, bad="keep", overwrite=True)


def test_conversions(photos: Path, tmp_path: Path) -> None:
    """Pixels become JPEGs; JPEGs are copied as they are, and become pixels only if that is asked for."""
    raw, store = build(photos, tmp_path / "raw"), build(photos, tmp_path / "x.jpegs")
    made = arraystore.build(raw, tmp_path / "made", encode="jpeg", progress=False)
    np.testing.assert_array_equal(made.images.encoded, store.images.encoded)
    assert made.mean == store.mean
    copied = arraystore.build(store, tmp_path / "copied", progress=False)
    np.testing.assert_array_equal(copied.images.encoded, store.images.encoded)
    smaller = arraystore.build(store, tmp_path / "smaller", size=8, progress=False)
    assert (smaller.medium, smaller.images.shape) == ("encoded", (19, 3, 8, 8))
    again = arraystore.build(store, tmp_path / "again", encode=Jpeg(50), progress=False)
    assert again.images.nbytes < store.images.nbytes
    pixels = arraystore.build(tmp_path / "x.jpegs", tmp_path / "y.h5", encode="none", progress=False)
    np.testing.assert_array_equal(pixels.images, plain(store.images))


# --- the order of the bytes ------------------------------------------------------------------------------------------


def test_threads_and_processes_make_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    files = []
    for number, options in enumerate(({"workers": 1}, {"workers": 4}, {"workers": 2, "processes": True})):
        build(photos, tmp_path / f"{number}.jpegs", **options)
        files.append(contents(tmp_path / f"{number}.jpegs"))
    assert files[0] == files[1] == files[2]


def test_a_log_that_is_out_of_order_is_put_in_order(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("arraystore._building.build.in_order", lambda filled, _runs: reversed(list(filled)))
        patch.setattr("arraystore._building.runs._LONGEST_RUN_SLOTS", 3)
        build(photos, tmp_path / "x.jpegs")
    assert_equal(arraystore.open(tmp_path / "x.jpegs"), build(photos, encode="jpeg"))
    assert not (tmp_path / "x.jpegs" / "encoded.log").exists()


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    gaps=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    seed=st.integers(0, 2**32 - 1),
    limit=st.sampled_from([0, 40, 1 << 20]),
)
def test_runs_are_put_in_the_order_of_their_slots(lengths: list[int], gaps: list[int], seed: int, limit: int) -> None:
    """Each part comes out once; in order unless too much would be held, and then nothing waits for ever."""
    rng, runs, start = random.Random(seed), [], 0
    for length, gap in zip(lengths, gaps, strict=False):
        runs.append((start + gap, start + gap + length))
        start = runs[-1][1]
    parts = []
    for first, stop in runs:
        cut = rng.randint(first, stop)
        parts += [(first, cut), (cut, stop)] if first < cut < stop else [(first, stop)]
    rng.shuffle(parts)
    dtype = ledger_dtype(ImageSpec(size=1, encode="jpeg"))

    def filled() -> Iterator[FilledRun]:
        for first, stop in parts:
            yield FilledRun(first, np.zeros(stop - first, dtype), encoded=[b"12345678"] * (stop - first))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arraystore._building.runs._HELD_BYTES_IN_ORDER", limit)
        found = [(run.start, run.start + len(run.rows)) for run in in_order(filled(), runs)]
    assert sorted(found) == sorted(parts)
    if limit == 1 << 20:
        assert found == sorted(parts)


def test_jpegs_in_memory_leave_room_for_decoding(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of JPEGs in RAM does not count as one of pixels when the memory for the images in progress is counted."""
    taken = []

    def noted(wanted: Any, taken_bytes: int) -> float:
        taken.append(taken_bytes)
        return limits.memory_for_images(wanted, taken_bytes)

    monkeypatch.setattr("arraystore._building.build.memory_for_images", noted)
    for encode in ("none", "jpeg"):
        build(photos, size=64, encode=encode)
    assert taken[0] == 19 * 3 * 64 * 64 > 30 * taken[1] > 0


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["offsets.npy", "shapes.npy", "sums.npy"])
def test_a_changed_file_beside_the_jpegs_is_found(photos: Path, tmp_path: Path, name: str) -> None:
    build(photos, tmp_path / "x.jpegs").close()
    file = tmp_path / "x.jpegs" / name
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    found = arraystore.verify(tmp_path / "x.jpegs", progress=False)
    assert any(name in fault.message for fault in found.faults)
    file.unlink()
    found = arraystore.verify(tmp_path / "x.jpegs", progress=False)
    assert any(f"{name} is missing" in fault.message for fault in found.faults)


def test_cut_and_longer_files_of_jpegs_are_found_and_repaired(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.jpegs"
    build(photos, target).close()
    whole, file = contents(target), target / "encoded.npy"
    for change in (lambda size: size - 300, lambda _size: 4096, lambda size: size + 5):
        size = file.stat().st_size
        os.truncate(file, change(size))
        found = arraystore.verify(target, progress=False)
        assert not found.ok
        message = f"{file} is {change(size):,} bytes long, but its last slot should end at {size:,}"
        assert message in found.faults[0].message
        arraystore.repair(target, progress=False).close()
        assert contents(target) == whole


@pytest.mark.parametrize("values", [[0, 10, 5], [5, 6, 7], [0, 2**63, 2**64 - 1], [0, 1 << 40, 1 << 41]])
def test_hostile_offsets_are_an_error(tmp_path: Path, values: list[int]) -> None:
    build(np.zeros((2, 9, 9, 3), np.uint8), tmp_path / "x.jpegs").close()
    np.save(tmp_path / "x.jpegs" / "offsets.npy", np.array(values, np.uint64))
    with arraystore.open(tmp_path / "x.jpegs") as store:
        for slot in (0, 1):
            with contextlib.suppress(FormatError):
                assert len(bytes(store.encoded(slot))) < 10_000
            with contextlib.suppress(FormatError):
                _ = store.images[slot]
        with pytest.raises(FormatError):
            _ = store.images[:]
    found = arraystore.verify(tmp_path / "x.jpegs", progress=False)
    assert not found.ok
