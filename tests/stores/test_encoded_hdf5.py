"""Stores of JPEGs in one HDF5 file: what the file holds, what it replaces and becomes, and damage."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from support import images
from support.faults import contents
from support.store_contract import BAD, assert_equal, build, count_decodes, plain
from typer.testing import CliRunner

import arraystore
from arraystore import BadImagesError, FormatError, Jpeg, StoreError
from arraystore._stores.publishing import partial_of
from arraystore.cli import app

NAME = "x.jpegs.h5"


@pytest.fixture
def target(photos: Path, tmp_path: Path) -> Path:
    """The file of nineteen slots."""
    build(photos, tmp_path / NAME).close()
    return tmp_path / NAME


# --- what the file holds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["keep", "drop"])
def test_h5py_and_any_decoder_read_it(mixed: Path, tmp_path: Path, bad: str) -> None:
    store = build(mixed, tmp_path / NAME, bad=bad)
    folder = build(mixed, tmp_path / "x.jpegs", bad=bad)
    raw = build(mixed, encode=None, bad=bad)
    count = len(raw)
    with h5py.File(tmp_path / NAME, "r") as file:
        forms = {name: (file[name].dtype.str, file[name].shape) for name in ("offsets", "shapes", "sums")}
        assert forms == {
            "offsets": ("<u8", (count + 1,)),
            "shapes": ("<i4", (count, 2)),
            "sums": ("<u8", (count, 3, 2)),
        }
        assert "images" not in file
        encoded, offsets = file["encoded"], file["offsets"][...]
        create = encoded.id.get_create_plist()
        assert (create.get_layout(), create.get_nfilters()) == (h5py.h5d.CONTIGUOUS, 0)
        assert not create.get_obj_track_times()
        begin = encoded.id.get_offset()
        assert begin % 4096 == 0
        assert (encoded.dtype, encoded.shape) == (np.uint8, (offsets[-1],))
        np.testing.assert_array_equal(np.memmap(tmp_path / NAME, np.uint8, "r", begin, encoded.shape), encoded[...])
        np.testing.assert_array_equal(encoded[...], folder.images.encoded)
        for slot in range(count):
            data = encoded[offsets[slot] : offsets[slot + 1]].tobytes()
            assert data == bytes(store.encoded(slot)) if raw.status[slot] == 1 else data == b""
            if data:
                image = Image.open(io.BytesIO(data))
                assert (image.format, image.size, image.mode) == ("JPEG", (24, 16), "RGB")
                np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), store.images[slot])
        assert file["shapes"][...].tolist() == [[16, 24]] * count
        np.testing.assert_array_equal(file["sums"][...], np.load(tmp_path / "x.jpegs" / "sums.npy"))
        np.testing.assert_array_equal(file["checksums"][...], folder.checksums)
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert set(json.loads(file["store.json"][()])["digests"]) == {*names} - {"encoded", "store.json"}


@pytest.mark.parametrize("count", [1, 3, 40, 172, 600])
def test_small_stores_are_whole(tmp_path: Path, count: int) -> None:
    source = np.arange(count * 3, dtype=np.uint8).reshape(count, 1, 1, 3)
    store = build(source, tmp_path / NAME, size=1)
    assert_equal(store, build(source, size=1, encode="jpeg"))
    assert store.verify(progress=False).ok


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".hdf", ".H5"])
def test_the_suffix_asks_for_hdf5(tmp_path: Path, suffix: str) -> None:
    store = build(images.noise(2, 12).reshape(2, 2, 6, 3), tmp_path / f"x{suffix}", encode="jpeg")
    assert store.medium == "encoded-hdf5"
    renamed = (tmp_path / f"x{suffix}").rename(tmp_path / "renamed")
    with arraystore.open(renamed) as opened:
        assert_equal(opened, store)


def test_masks_and_ragged_targets_follow(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for slot in range(12):
        (tmp_path / f"{slot}.png").write_bytes(images.png(rng.integers(0, 21, (16, 24), np.uint8)))
    targets = {
        "mask": arraystore.Masks([tmp_path / f"{slot}.png" for slot in range(12)]),
        "boxes": [np.full((slot % 3, 4), slot, np.float32) for slot in range(12)],
    }
    source = rng.integers(0, 256, (12, 16, 24, 3), np.uint8)
    store = build(source, tmp_path / NAME, targets=targets)
    assert_equal(arraystore.open(tmp_path / NAME), build(source, targets=targets, encode="jpeg"))
    assert store.verify(progress=False).ok
    with h5py.File(tmp_path / NAME, "r") as file:
        assert file["targets/mask"].id.get_offset() % 4096 == 0
        np.testing.assert_array_equal(file["targets/mask"][...], store.targets["mask"])


def test_other_processes_map_the_file_again(target: Path) -> None:
    with arraystore.open(target) as store:
        received = pickle.loads(pickle.dumps(store))
        assert str(received.images.encoded.filename) == str(target)
        np.testing.assert_array_equal(plain(received.images), plain(store.images))
        batches = store.loader(7, shuffle=False, workers=2)
        np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), plain(store.images))


def test_the_command_says_what_it_is(photos: Path, tmp_path: Path) -> None:
    arguments = ["build", str(photos), str(tmp_path / "x.h5"), "--size", "16", "--encode", "jpeg"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"open it with  arraystore.open('{tmp_path}/x.h5')\n" in result.output.replace('"', "'")
    told = CliRunner().invoke(app, ["info", str(tmp_path / "x.h5")]).output
    assert "encoded-hdf5" in told
    assert "B of JPEGs, " in told
    planned = arraystore.plan(photos, tmp_path / "y.h5", size=16, encode="jpeg")
    assert planned.medium == "encoded-hdf5"
    assert planned.store_bytes == planned.media["encoded-hdf5"].needed_bytes - (
        planned.media["encoded"].needed_bytes - arraystore.plan(photos, size=16, encode="jpeg").store_bytes
    )


# --- beside other stores ---------------------------------------------------------------------------------------------


def test_a_store_of_one_kind_replaces_one_of_the_other(photos: Path, tmp_path: Path) -> None:
    for encode in ("none", "jpeg", "none", "jpeg"):
        store = build(photos, tmp_path / "x.h5", overwrite=True, encode=encode)
        assert store.medium == ("hdf5" if encode == "none" else "encoded-hdf5")
        assert store.verify(progress=False).ok
        assert_equal(store, build(photos, encode=encode))
        assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize("first", ["jpeg", "none"])
def test_work_of_the_other_kind_is_not_discarded(mixed: Path, tmp_path: Path, first: str) -> None:
    other = "none" if first == "jpeg" else "jpeg"
    with pytest.raises(BadImagesError):
        build(mixed, tmp_path / "x.h5", encode=first)
    with pytest.raises(StoreError, match="holds an unfinished build of something else: encode was"):
        build(mixed, tmp_path / "x.h5", encode=other, bad="keep")
    assert_equal(build(mixed, tmp_path / "x.h5", encode=first, bad="keep"), build(mixed, encode=first, bad="keep"))
    with pytest.raises(BadImagesError):
        build(mixed, tmp_path / "y.h5", encode=first)
    made = build(mixed, tmp_path / "y.h5", encode=other, bad="keep", fresh=True)
    assert_equal(made, build(mixed, encode=other, bad="keep"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed", "x.h5", "y.h5"]


@pytest.mark.parametrize("source", ["raw", "raw.h5", "x.jpegs", NAME])
def test_conversions(photos: Path, tmp_path: Path, source: str) -> None:
    """Between all media: JPEGs are copied as they are, and pixels become the JPEGs that a build makes."""
    store, expected = build(photos, tmp_path / source), build(photos, encode="jpeg")
    for number, target in enumerate((tmp_path / "made", tmp_path / "made.h5", None)):
        made = arraystore.build(tmp_path / source, target, encode="jpeg", progress=False)
        assert made.medium == ("encoded", "encoded-hdf5", "ram")[number]
        np.testing.assert_array_equal(made.images.encoded, expected.images.encoded)
        assert [bytes(made.encoded(slot)) for slot in (0, 18)] == [bytes(expected.encoded(slot)) for slot in (0, 18)]
        pixels = arraystore.build(made, encode="none", progress=False)
        np.testing.assert_array_equal(pixels.images, plain(expected.images))
    if store.spec.encode is not None:
        kept = arraystore.build(store, tmp_path / "kept.h5", progress=False)
        np.testing.assert_array_equal(kept.images.encoded, expected.images.encoded)
        again = arraystore.build(store, tmp_path / "again.h5", encode=Jpeg(50), progress=False)
        assert again.images.nbytes < store.images.nbytes


# --- the order of the bytes ------------------------------------------------------------------------------------------


def test_threads_processes_and_any_order_make_the_same_bytes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    for number, options in enumerate(({"workers": 1}, {"workers": 4}, {"workers": 2, "processes": True}, {})):
        with monkeypatch.context() as patch:
            if not options:  # the log is out of order, and is copied
                patch.setattr("arraystore._building.build.in_order", lambda filled, _runs: reversed(list(filled)))
                patch.setattr("arraystore._building.runs._LONGEST_RUN_SLOTS", 3)
            build(photos, tmp_path / f"{number}.jpegs.h5", **options)
        files.append((tmp_path / f"{number}.jpegs.h5").read_bytes())
    assert files[1:] == files[:1] * 3
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("is_in_order", [True, False])
@pytest.mark.parametrize("step", ["encoded.hdf5.write_rest", "unfinished.partial.publishing.publish"])
def test_a_call_that_ends_while_it_publishes_keeps_its_work(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, *, is_in_order: bool
) -> None:
    """Whether the log has the name of the finished file by then, or was copied into it."""
    target = tmp_path / NAME
    with monkeypatch.context() as patch:
        if not is_in_order:
            patch.setattr("arraystore._building.build.in_order", lambda filled, _runs: reversed(list(filled)))
            patch.setattr("arraystore._building.runs._LONGEST_RUN_SLOTS", 3)

        def stop(*_args: Any, **_options: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(f"arraystore._stores.{step}", stop)
        with pytest.raises(KeyboardInterrupt):
            build(photos, target)
    names = {path.name for path in partial_of(target).iterdir()}
    assert "encoded.h5" in names
    assert ("encoded.log" in names) == (not is_in_order)
    with arraystore.open(target, partial=True) as unfinished:
        np.testing.assert_array_equal(plain(unfinished.images), plain(build(photos, encode="jpeg").images))
    decoded = count_decodes(monkeypatch)
    store = build(photos, target)
    assert decoded == []
    assert_equal(store, build(photos, encode="jpeg"))
    assert not partial_of(target).exists()


# --- upkeep and damage -----------------------------------------------------------------------------------------------


def change_value(name: str) -> Callable[[Path], None]:
    """A change of the last byte of a dataset."""

    def change(path: Path) -> None:
        with h5py.File(path, "r") as file:
            at = file[name].id.get_offset() + file[name].nbytes - 5
        with path.open("r+b") as opened:
            byte = os.pread(opened.fileno(), 1, at)[0]
            os.pwrite(opened.fileno(), bytes([byte ^ 1]), at)

    return change


@pytest.mark.parametrize("name", ["offsets", "shapes", "sums"])
def test_a_changed_dataset_beside_the_jpegs_is_found(target: Path, name: str) -> None:
    change_value(name)(target)
    found = arraystore.verify(target, progress=False)
    assert any(f"{target}:{name} has changed" in fault.message for fault in found.faults)
    with h5py.File(target, "r+") as file:
        del file[name]
    found = arraystore.verify(target, progress=False)
    assert any(f"{target}:{name} is missing" in fault.message for fault in found.faults)


def test_a_changed_jpeg_is_repaired(target: Path) -> None:
    whole = target.read_bytes()
    change_value("encoded")(target)
    found = arraystore.verify(target, progress=False)
    assert ([bad.slot for bad in found.damaged], found.repairable) == ([18], True)
    arraystore.repair(target, progress=False).close()
    assert target.read_bytes() == whole


def test_a_file_that_was_cut_short_is_told(target: Path) -> None:
    os.truncate(target, target.stat().st_size - 300)
    for call in (lambda: arraystore.open(target), lambda: arraystore.repair(target, progress=False)):
        with pytest.raises(FormatError, match=r"is not an HDF5 file that can be read: .*truncated"):
            call()
    assert not arraystore.verify(target, progress=False).ok


@pytest.mark.parametrize("values", [[0, 10, 5], [5, 6, 7], [0, 2**63, 2**64 - 1], [0, 1 << 40, 1 << 41]])
def test_hostile_offsets_are_an_error(tmp_path: Path, values: list[int]) -> None:
    build(np.zeros((2, 9, 9, 3), np.uint8), tmp_path / NAME).close()
    with h5py.File(tmp_path / NAME, "r+") as file:
        file["offsets"][...] = np.array(values, np.uint64)
    with arraystore.open(tmp_path / NAME) as store:
        for slot in (0, 1):
            with contextlib.suppress(FormatError):
                assert len(bytes(store.encoded(slot))) < 10_000
        with pytest.raises(FormatError):
            _ = store.images[:]
    assert not arraystore.verify(tmp_path / NAME, progress=False).ok


@pytest.mark.parametrize("name", ["encoded", "offsets"])
@pytest.mark.parametrize(
    "make",
    [
        lambda file, name: file.create_dataset(name, (1 << 40,), np.uint8, chunks=(1 << 20,)),
        lambda file, name: file.create_dataset(name, (1 << 40,), "<u8", chunks=(1 << 17,)),
        lambda file, name: file.create_dataset(name, data=np.zeros((20, 2), "<f4")),
        lambda file, name: file.create_dataset(name, data=["text"]),
        lambda file, name: file.create_group(name),
    ],
)
def test_a_dataset_of_another_kind_is_refused(target: Path, name: str, make: Callable[..., object]) -> None:
    with h5py.File(target, "r+") as file:
        del file[name]
        make(file, name)
    with pytest.raises(FormatError):
        arraystore.open(target)
    assert not arraystore.verify(target, progress=False).ok


def test_an_unfinished_build_can_be_opened(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(BadImagesError):
        build(mixed, tmp_path / NAME)
    before = contents(partial_of(tmp_path / NAME))
    with arraystore.open(tmp_path / NAME, partial=True) as store:
        assert np.flatnonzero(store.status != 1).tolist() == BAD
        np.testing.assert_array_equal(plain(store.images), plain(build(mixed, encode="jpeg", bad="keep").images))
    assert contents(partial_of(tmp_path / NAME)) == before
