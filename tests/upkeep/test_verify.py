"""A store is proven whole, or every damage in it is named; nothing is ever written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import command, images
from support.store_contract import assert_equal, build

import arraystore
from arraystore import BadImage, Progress, SpecError, Verification
from arraystore._common.digests import digest_of, file_blocks
from arraystore._format.checking import checksums as checksums_module
from arraystore._format.description import Description
from arraystore._format.files import read_json
from arraystore._format.samples import write_parquet
from arraystore.errors import Kind

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "v1.store"
SLOT_BYTES = 3 * 4 * 6
FAILED = [2, 3, 7, 11]
ADVICE = "restore it from a copy, or build the store again"
MEND = f": {ADVICE}"
FILES = ["checksums.npy", "images.npy", "labels.npy", "samples.parquet", "score.npy", "status.npy", "store.json"]


def check(store: Any, **options: Any) -> Verification:
    return arraystore.verify(store, **({"progress": False, "workers": 2} | options))


def texts(found: Verification) -> tuple[str, ...]:
    return tuple(map(str, found.faults))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 sources, four of them bad; tests only read them."""
    folder = images.write_tree(tmp_path_factory.mktemp("verify") / "in", {"a": 6, "größe": 6})
    for slot, file in enumerate(sorted(folder.rglob("*.*"))):
        if slot in FAILED:
            file.write_bytes(b"no image")
    return folder


def make(sources: Path, target: Path | None, **options: Any) -> arraystore.Store:
    wanted = {"size": (4, 6), "bad": "keep", "targets": {"score": np.arange(12.0)}}
    return build(sources, target, **(wanted | options))


@pytest.fixture(scope="module")
def pristine(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.store and train.h5; whoever damages one mends it."""
    folder = tmp_path_factory.mktemp("verify")
    for name in ("train.store", "train.h5"):
        make(sources, folder / name).close()
    return folder


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine / "train.store", tmp_path / "train.store"))


@pytest.fixture
def h5(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(pristine / "train.h5", tmp_path / "train.h5"))


@contextmanager
def holding(file: Path, data: bytes) -> Iterator[None]:
    was = file.read_bytes()
    file.write_bytes(data)
    try:
        yield
    finally:
        file.write_bytes(was)


def flipped(data: bytes, offset: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def flip(file: Path, offset: int, bit: int = 0) -> None:
    file.write_bytes(flipped(file.read_bytes(), offset, bit))


def reseal(store: Path) -> None:
    """Give a folder that was changed the digests of what it holds now, as a writer with a fault of its own would."""
    description = Description.from_json(read_json(store / "store.json"), "x")
    digests = {name: digest_of(file_blocks(store / name)) for name in description.digests}
    (store / "store.json").write_text(replace(description, digests=digests).to_text())


def edit(store: Path, **members: Any) -> None:
    """Change members of store.json, with the right digest."""
    description = Description.from_json(read_json(store / "store.json"), "x")
    (store / "store.json").write_text(replace(description, **members).to_text())


# --- whole stores ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["keep", "drop"])
@pytest.mark.parametrize("name", ["x.store", "x.h5", None])
def test_a_store_is_whole(sources: Path, tmp_path: Path, name: str | None, bad: str) -> None:
    with make(sources, name and tmp_path / name, bad=bad) as made:
        found = made.verify(progress=False)
        assert (found.slots, found.failed) == ((12, 4) if bad == "keep" else (8, 0))
        assert (found.ok, found.damaged, texts(found), found.notes) == (True, (), (), ())
        if name == "x.store":
            files = sum(file.stat().st_size for file in (tmp_path / name).iterdir())
            assert found.bytes == files - 4096, (
                "every byte is read, but for the header of the pixels, which is compared"
            )
        assert found.bytes >= made.images.nbytes
        assert found.seconds > 0
    if name:
        assert check(tmp_path / name).ok
        assert check(str(tmp_path / name), workers=None).ok
        assert check(made).ok, "the disk is what is read, also where the store was closed"


@pytest.mark.parametrize("kind", ["arrays", "bytes", "texts", "names that are not UTF-8", "one slot", "big target"])
@pytest.mark.parametrize("name", ["x.store", "x.h5", None])
def test_any_source_makes_a_whole_store(
    tmp_path: Path, name: str | None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arraystore._sources.targets.given.CATEGORY_LIMIT", 2)
    arrays = [images.noise(4, 4, seed=i) for i in range(5)]
    source: Any = arrays
    options: dict[str, Any] = {"size": 4}
    if kind == "bytes":
        source = [images.png(array) for array in arrays]
    elif kind in ("texts", "names that are not UTF-8"):
        source = []
        for slot, array in enumerate(arrays):
            source.append(tmp_path / os.fsdecode(b"caf\xe9-%d.png" % slot if kind != "texts" else b"%d.png" % slot))
            source[-1].write_bytes(images.png(array))
        captions = ["ein Baum", "日本", "", "line\nbreak", "x"]
        options |= {"targets": {"caption": captions, "source": captions}} if kind == "texts" else {}
    elif kind == "one slot":
        source = arrays[:1]
    elif kind == "big target":
        options |= {"targets": {"vector": np.arange(5 * 3000, dtype=">f8").reshape(5, 60, 50), "yes": np.ones(5, bool)}}
    found = check(build(source, name and tmp_path / name, **options))
    assert (found.ok, found.slots, found.notes) == (True, len(source), ()), found


def test_large_slots_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build([images.noise(9, 9, seed=i) for i in range(3)], tmp_path / "x", size=9)
    monkeypatch.setattr(checksums_module, "BLOCK_BYTES", 100)
    assert check(tmp_path / "x").ok
    flip(tmp_path / "x" / "images.npy", 4096 + 243 + 201)
    assert [image.slot for image in check(tmp_path / "x").damaged] == [1]
    with (tmp_path / "x" / "images.npy").open("r+b") as file:
        file.truncate(4096 + 2 * 243 + 150)
    assert [image.slot for image in check(tmp_path / "x").damaged] == [1, 2]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_many_small_slots(tmp_path: Path, workers: int) -> None:
    pixels = np.arange(3 * 9000, dtype=np.uint32).astype(np.uint8).reshape(9000, 1, 1, 3)
    made = build(pixels, tmp_path / "x", size=1)
    assert check(made, workers=workers).slots == 9000
    for slot in (0, 4095, 4096, 8999):
        flip(tmp_path / "x" / "images.npy", 4096 + 3 * slot)
    assert [image.slot for image in check(made, workers=workers).damaged] == [0, 4095, 4096, 8999]


# --- any damage ------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(data=st.data(), name=st.sampled_from(FILES), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_folder_is_found(pristine: Path, data: st.DataObject, name: str, bit: int) -> None:
    file = pristine / "train.store" / name
    was = file.read_bytes()
    offset = data.draw(st.integers(0, len(was) - 1))
    with holding(file, flipped(was, offset, bit)):
        found = check(pristine / "train.store")
    assert not found.ok
    if name == "images.npy" and offset >= 4096:
        assert [image.slot for image in found.damaged] == [(offset - 4096) // SLOT_BYTES]
        assert not texts(found)
    else:
        assert len(texts(found)) == 1
        assert texts(found)[0].startswith(str(file))
    if name not in ("checksums.npy", "images.npy"):
        assert (found.slots, found.damaged) == (12, ()), "all else is whole"


@settings(max_examples=60)
@given(data=st.data(), bit=st.integers(0, 7))
def test_any_flipped_bit_of_an_hdf5_file_is_found_or_changes_nothing(
    pristine: Path, data: st.DataObject, bit: int
) -> None:
    """What may change: gaps, padding, attributes, and counts of references, by which no reader goes."""
    file = pristine / "train.h5"
    was = file.read_bytes()
    used = np.flatnonzero(np.convolve(np.frombuffer(was, np.uint8) != 0, np.ones(17), "same"))
    offset = int(used[data.draw(st.integers(0, len(used) - 1))])
    with arraystore.open(file) as store, holding(file, flipped(was, offset, bit)):
        begin = store.images.offset  # type: ignore[attr-defined]
        found = check(file)
        if found.ok:
            with arraystore.open(file) as again:
                assert_equal(store, again)
    pixels = range(begin, begin + 12 * SLOT_BYTES)
    if offset in pixels:
        assert [image.slot for image in found.damaged] == [(offset - begin) // SLOT_BYTES]
    assert all(fault.startswith(str(file)) for fault in texts(found))


@settings(max_examples=60)
@given(data=st.data(), name=st.sampled_from([*FILES, "train.h5"]))
def test_a_file_cut_at_any_length_is_found(pristine: Path, data: st.DataObject, name: str) -> None:
    store = pristine / ("train.h5" if name == "train.h5" else "train.store")
    file = store if name == "train.h5" else store / name
    was = file.read_bytes()
    length = data.draw(st.integers(0, len(was) - 1))
    with holding(file, was[:length]):
        found = check(store)
    assert not found.ok
    assert any(fault.startswith(str(file)) for fault in texts(found))
    if name == "images.npy":
        whole = max(0, length - 4096) // SLOT_BYTES
        assert [image.slot for image in found.damaged] == list(range(whole, 12))
        assert {image.reason for image in found.damaged} == {
            "its pixels cannot be read: the file ends before their last byte"
        }


@settings(max_examples=40)
@given(more=st.binary(min_size=1, max_size=40), name=st.sampled_from([*FILES, "train.h5"]))
@example(more=b"\n", name="store.json")
def test_a_file_that_grew_is_found(pristine: Path, more: bytes, name: str) -> None:
    store = pristine / ("train.h5" if name == "train.h5" else "train.store")
    file = store if name == "train.h5" else store / name
    with holding(file, file.read_bytes() + more):
        found = check(store)
    assert len(texts(found)) == 1
    assert texts(found)[0].startswith(str(file))
    assert found.damaged == ()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(store: Path, name: str) -> None:
    (store / name).unlink()
    found = check(store)
    assert texts(found) == (f"{store / name} is missing{MEND}",)
    assert found.damaged == ()
    assert found.slots == (0 if name in ("images.npy", "checksums.npy") else 12)
    assert found.notes == (("no slot could be checked",) if found.slots == 0 else ())


@pytest.mark.parametrize("name", ["targets/score", "samples/reason", "samples/source", "status", "checksums"])
def test_a_missing_dataset_is_found(h5: Path, name: str) -> None:
    with h5py.File(h5, "r+") as file:
        del file[name]
    assert f"{h5}:{name} is missing{MEND}" in texts(check(h5))


def test_swapped_slots_are_both_damaged(store: Path) -> None:
    pixels = np.load(store / "images.npy", mmap_mode="r+")
    pixels[[0, 9]] = pixels[[9, 0]]
    pixels.flush()
    stored = np.load(store / "checksums.npy")
    assert check(store).damaged == (
        BadImage(
            0,
            "a/img_000.jpg",
            f"its pixels have checksum {stored[9]:016x}, they were stored with {stored[0]:016x}",
            Kind.DAMAGED,
        ),
        BadImage(
            9,
            "größe/img_003.jpg",
            f"its pixels have checksum {stored[0]:016x}, they were stored with {stored[9]:016x}",
            Kind.DAMAGED,
        ),
    )


def test_everything_that_is_wrong_is_found_at_once(store: Path) -> None:
    flip(store / "images.npy", 4096 + 5 * SLOT_BYTES)
    flip(store / "images.npy", 200)
    flip(store / "labels.npy", 130)
    (store / "samples.parquet").unlink()
    (store / "status.npy").write_bytes(b"")
    found = check(store)
    assert [fault.removeprefix(f"{store}/").partition(" ")[0] for fault in texts(found)] == [
        "images.npy",
        "labels.npy",
        "samples.parquet",
        "status.npy",
    ]
    assert [(image.slot, image.source) for image in found.damaged] == [(5, "unknown")]


def test_damaged_checksums_are_said_to_be_what_is_damaged(store: Path, sources: Path) -> None:
    made = make(sources, None)
    file = store / "checksums.npy"
    data = file.read_bytes()
    file.write_bytes(data[:128] + bytes(12 * 8))
    found = check(store)
    assert [fault.partition(":")[0] for fault in texts(found)] == [f"{file} has changed since it was stored"]
    assert [image.slot for image in found.damaged] == list(range(12))
    assert found.damaged[0].reason == (
        f"its pixels have checksum {made.checksums[0]:016x}, {file}, which is damaged itself, says 0000000000000000"
    )


def test_a_store_in_memory_is_checked_too(sources: Path) -> None:
    made = make(sources, None)
    made.images.flags.writeable = True
    made.images[4, 1, 2, 3] ^= 1
    assert [(image.slot, image.source) for image in made.verify(progress=False).damaged] == [(4, "a/img_004.jpg")]
    made.images[4, 1, 2, 3] ^= 1
    made.targets["score"].flags.writeable = True
    made.targets["score"][3] += 1
    (fault,) = texts(made.verify(progress=False))
    assert fault.startswith("the sources, targets and texts of the store in memory are not those of the build")
    made.close()
    assert texts(check(made)) == ("the store in memory was closed: verify a store before you close it",)


# --- parts that do not fit each other, though each has its digest ----------------------------------------------------


def rewrite(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(store: Path) -> None:
        np.save(store / name, change(np.load(store / name)))

    return damage


def with_item(slot: int, value: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[slot] = value
        return array

    return change


def with_reason(slot: int, reason: str | None) -> Callable[[Path], None]:
    def damage(store: Path) -> None:
        table = pq.read_table(store / "samples.parquet")
        reasons = table["reason"].to_pylist()
        reasons[slot] = reason
        at = table.schema.get_field_index("reason")
        write_parquet(store / "samples.parquet", table.set_column(at, "reason", pa.array(reasons, pa.string())))

    return damage


def rows(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def damage(store: Path) -> None:
        write_parquet(store / "samples.parquet", change(pq.read_table(store / "samples.parquet")))

    return damage


MISFITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a status that is none": (
        rewrite("status.npy", with_item(5, 9)),
        "{at}/status.npy gives slot 5 the status 9, which is neither 1 (stored) nor 2 (failed)" + MEND,
    ),
    "an empty slot": (
        rewrite("status.npy", with_item(0, 0)),
        "{at}/status.npy gives slot 0 the status 0, which is neither 1 (stored) nor 2 (failed)" + MEND,
    ),
    "failed": (
        lambda at: edit(at, failed=5),
        "{at}/status.npy says that 4 slots failed, store.json says 5" + MEND,
    ),
    "a target of another type": (
        rewrite("score.npy", lambda array: array.astype(np.float32)),
        "{at}/score.npy holds <f4 of shape (12,), not <f8 of shape (12,)" + MEND,
    ),
    "a target of another shape": (
        rewrite("score.npy", lambda array: array[:11]),
        "{at}/score.npy holds <f8 of shape (11,), not <f8 of shape (12,)" + MEND,
    ),
    "a code without a class": (
        rewrite("labels.npy", with_item(3, 2)),
        "{at}/labels.npy gives slot 3 the code 2, but there are 2 classes" + MEND,
    ),
    "a negative code": (
        rewrite("labels.npy", with_item(3, -1)),
        "{at}/labels.npy gives slot 3 the code -1, but there are 2 classes" + MEND,
    ),
    "classes of nothing": (
        lambda at: edit(at, classes={"other": ("a",)}),
        "store.json names the classes of 'other', which is not a target" + MEND,
    ),
    "a reason too few": (
        with_reason(3, None),
        "{at}/samples.parquet has no reason for slot 3, which failed" + MEND,
    ),
    "a reason too many": (
        with_reason(4, "why"),
        "{at}/samples.parquet has a reason why slot 4 failed, but its status is 1, stored" + MEND,
    ),
    "a row too few": (
        rows(lambda table: table.slice(1)),
        "{at}/samples.parquet should have 12 rows, but it has 11" + MEND,
    ),
    "a column too few": (
        rows(lambda table: table.drop_columns(["mtime"])),
        "{at}/samples.parquet lacks the columns mtime" + MEND,
    ),
    "no reasons": (
        rows(lambda table: table.drop_columns(["reason"])),
        "{at}/samples.parquet cannot be read: ",
    ),
    "other sources": (
        rows(lambda table: table.set_column(0, "source", table["source"].take(list(range(11, -1, -1))))),
        "the sources, targets and texts of {at} are not those of the build: their digest is ",
    ),
    "other values of a target": (
        rewrite("score.npy", with_item(3, 7.5)),
        "the sources, targets and texts of {at} are not those of the build: their digest is ",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("sealed", [True, False], ids=["digests", "no digests"])
def test_parts_that_do_not_fit_are_named(store: Path, name: str, *, sealed: bool) -> None:
    damage, message = MISFITS[name]
    if not sealed:
        edit(store, digests={})
    damage(store)
    if sealed:
        reseal(store)
    found = check(store)
    (fault,) = texts(found)
    expected = message.replace("{at}", str(store))
    assert fault.startswith(expected)
    assert message.endswith(" ") or fault == expected
    assert found.damaged == ()
    assert found.slots == 12


def test_a_failed_slot_is_zeros(store: Path) -> None:
    pixels = np.load(store / "images.npy", mmap_mode="r+")
    pixels[7] = 1
    pixels.flush()
    rewrite("checksums.npy", with_item(7, xxhash.xxh3_64_intdigest(np.asarray(pixels[7]))))(store)
    reseal(store)
    (image,) = check(store).damaged
    assert (image.slot, image.reason) == (7, "it failed, so its pixels should be zeros")


def test_the_header_of_the_pixels_does_not_hide_them(store: Path) -> None:
    flip(store / "images.npy", 62)
    found = check(store)
    message = f"{store}/images.npy has a header that is not that of uint8 in shape (12, 3, 4, 6)"
    assert texts(found) == (f"{message}: a repair of the store makes the file anew",)
    assert (found.slots, found.damaged) == (12, ())


# --- digests ---------------------------------------------------------------------------------------------------------


def test_a_store_without_digests_is_whole_with_a_note() -> None:
    found = check(GOLDEN)
    assert (found.ok, found.slots, found.failed) == (True, 3, 1)
    assert found.notes == (
        f"{GOLDEN}/store.json has no digests, so only the pixels and the fit of the parts were checked",
    )


@pytest.mark.parametrize("member", ["digest", "digests"])
def test_digests_do_not_come_without_that_of_the_text(store: Path, member: str) -> None:
    members = read_json(store / "store.json")
    del members[member]
    (store / "store.json").write_text(json.dumps(members))
    assert texts(check(store)) == (
        f"{store}/store.json has changed since it was written: its digest is wrong; {ADVICE}",
    )


def test_a_description_that_cannot_be_believed_is_not_used(store: Path) -> None:
    text = (store / "store.json").read_text()
    (store / "store.json").write_text(text.replace('"count": 12', '"count": 99'))
    found = check(store)
    assert texts(found) == (f"{store}/store.json has changed since it was written: its digest is wrong; {ADVICE}",)
    assert (found.slots, found.damaged) == (12, ()), "the pixels are whole, by the headers of their files"


def test_digests_of_what_is_elsewhere_open_nothing(store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    recorded = Description.from_json(read_json(store / "store.json"), "x").digests
    edit(store, digests={**recorded, "../secret": digest_of([b"x"])})
    assert texts(check(store)) == (f"{store}/../secret is missing{MEND}",)


def test_a_part_without_its_digest_is_named(store: Path) -> None:
    recorded = dict(Description.from_json(read_json(store / "store.json"), "x").digests)
    del recorded["labels.npy"]
    edit(store, digests=recorded)
    assert texts(check(store)) == (f"{store}/labels.npy has no digest in store.json, so it cannot be checked{MEND}",)


def test_dropped_rows_cannot_be_added(store: Path) -> None:
    shutil.copy(store / "samples.parquet", store / "dropped.parquet")
    assert texts(check(store)) == (
        f"{store}/dropped.parquet has no digest in store.json, so it cannot be checked{MEND}",
    )


def test_what_is_no_part_of_the_store_is_noted(store: Path, h5: Path) -> None:
    (store / "notes.txt").write_text("mine")
    (store / "more").mkdir()
    found = check(store)
    assert (found.ok, found.notes) == (True, (f"{store} also holds other files or datasets: more, notes.txt",))
    with h5py.File(h5, "r+", libver=("v108", "v108")) as file:
        file["mine"] = np.arange(9)
    found = check(h5)
    assert (found.ok, found.notes) == (True, (f"{h5} also holds other files or datasets: mine",))


def test_the_digests_are_those_that_the_format_specifies(pristine: Path) -> None:
    folder = read_json(pristine / "train.store" / "store.json")
    assert list(folder)[-2:] == ["digests", "digest"]
    assert sorted(folder["digests"]) == sorted(set(FILES) - {"images.npy", "store.json"})
    for name, digest in folder["digests"].items():
        assert digest == xxhash.xxh3_128_hexdigest((pristine / "train.store" / name).read_bytes())
    with h5py.File(pristine / "train.h5", "r") as file:
        text = file["store.json"][()].decode()
        members = json.loads(text)
        status = b'["|u1", [12]]\n' + file["status"][...].tobytes()
        source = b'["string", [12]]\n'
        for value in file["samples/source"][...]:
            source += len(value).to_bytes(8, "little") + value
    assert members["digests"]["status"] == xxhash.xxh3_128_hexdigest(status)
    assert members["digests"]["samples/source"] == xxhash.xxh3_128_hexdigest(source)
    assert sorted(name for name in members["digests"] if "/" not in name) == ["checksums", "status"]
    digest = members["digest"]
    assert text.endswith(f'"digest": "{digest}"\n}}\n')
    assert digest == xxhash.xxh3_128_hexdigest(text.replace(digest, "0" * 32).encode())


# --- what could hang, kill or write ----------------------------------------------------------------------------------


def test_no_pipe_is_waited_for(store: Path) -> None:
    for name in ("status.npy", "samples.parquet", "images.npy"):
        (store / name).unlink()
        os.mkfifo(store / name)
    found = check(store)
    assert texts(found)[:1] == (f"{store}/images.npy is missing{MEND}",)
    assert f"{store}/status.npy is not a regular file{MEND}" in texts(found)
    (store / "store.json").unlink()
    os.mkfifo(store / "store.json")
    assert f"{store}/store.json is missing{MEND}" in texts(check(store))


def test_damaged_strings_do_not_hold_hdf5_for_ever(h5: Path) -> None:
    data = bytearray(h5.read_bytes())
    at = data.index(b"GCOL")
    data[at + 24 : at + 32] = (1 << 11).to_bytes(8, "little")  # the first object's size, so that zeros come next
    h5.write_bytes(data)
    assert texts(check(h5)) == (f"{h5}: the strings at byte {at:,} are damaged; {ADVICE}",)


def test_a_bad_sector_takes_only_its_own_slots(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.preadv
    bad = range(4096 + 4 * SLOT_BYTES + 70, 4096 + 6 * SLOT_BYTES)

    def failing(descriptor: int, buffers: Any, offset: int) -> int:
        if offset < bad.stop and offset + len(buffers[0]) > bad.start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(descriptor, buffers, offset)

    monkeypatch.setattr(checksums_module.os, "preadv", failing)
    found = check(store)
    assert [image.slot for image in found.damaged] == [4, 5]
    assert {image.reason for image in found.damaged} == {"its pixels cannot be read: Input/output error"}
    assert texts(found) == ()


def test_short_reads_are_completed(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.preadv
    monkeypatch.setattr(
        checksums_module.os, "preadv", lambda file, buffers, offset: original(file, [buffers[0][:50]], offset)
    )
    assert check(store).ok


def test_an_unreadable_part_is_a_fault(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> Iterator[memoryview]:
        yield from file_blocks(path)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("arraystore._stores.npy.file_blocks", fail)
    monkeypatch.setattr(Path, "read_bytes", lambda _path: next(iter([])))
    found = check(store)
    assert not found.ok
    assert all(fault.startswith(str(store)) for fault in texts(found))


def snapshot(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    files = [folder, *folder.rglob("*")]
    return {
        str(file): (file.stat().st_mtime_ns, file.stat().st_ctime_ns, file.stat().st_mode, b"")
        if file.is_dir()
        else (file.stat().st_mtime_ns, file.stat().st_ctime_ns, file.stat().st_mode, file.read_bytes())
        for file in files
    }


def test_nothing_is_written_through_a_link_or_beside_a_reader(store: Path, h5: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for place in (store, h5):
        (tmp_path / "links" / place.name).symlink_to(place)
    for file in store.iterdir():
        file.chmod(0o444)
    store.chmod(0o555)
    h5.chmod(0o444)
    code = (
        "import arraystore, sys\nstores = [arraystore.open(path) for path in sys.argv[1:]]\n"
        "print(sum(int(store.images.sum()) for store in stores), flush=True)\nsys.stdin.read()"
    )
    before = snapshot(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store), str(h5)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline()
        for place in (store, h5):
            assert check(tmp_path / "links" / place.name).ok
            assert check(place).ok
        reader.communicate(timeout=400)
    assert reader.returncode == 0
    assert snapshot(tmp_path) == before
    store.chmod(0o755)


def test_what_is_no_store_is_a_fault(tmp_path: Path, store: Path) -> None:
    assert texts(check(tmp_path / "x")) == (f"there is no store at {tmp_path / 'x'}{MEND}",)
    (tmp_path / "x.partial").mkdir()
    hint = f", but {tmp_path}/x.partial is an unfinished build: call build again to finish it"
    assert texts(check(tmp_path / "x")) == (f"there is no store at {tmp_path}/x{hint}",)
    (tmp_path / "empty").mkdir()
    assert texts(check(tmp_path / "empty")) == (
        f"{tmp_path}/empty/store.json is missing{MEND}",
        f"{tmp_path}/empty/images.npy is missing{MEND}",
    )
    (tmp_path / "text.h5").write_text("no")
    (fault,) = texts(check(tmp_path / "text.h5"))
    assert fault.startswith(f"{tmp_path}/text.h5 is not an HDF5 file that can be read: ")
    text = (store / "store.json").read_text().replace('"format_version": 1', '"format_version": 2')
    (store / "store.json").write_text(text)
    assert texts(check(store)) == (
        f"{store}/store.json has format version 2, this arraystore reads 1: upgrade with pip install -U arraystore",
    )


def test_workers_are_one_at_least(store: Path) -> None:
    with pytest.raises(SpecError, match=r"^workers must be a whole number of 1 or more, not 0$"):
        check(store, workers=0)


# --- progress --------------------------------------------------------------------------------------------------------


def test_progress_counts_bytes(store: Path) -> None:
    flip(store / "images.npy", 4096)
    calls: list[tuple[int, int, int]] = []
    check(store, progress=lambda state: calls.append((state.done, state.total, state.bad)))
    assert calls == sorted(calls)
    size = sum((store / name).stat().st_size for name in FILES if name not in ("images.npy", "store.json"))
    assert calls[-1] == (size + 12 * SLOT_BYTES, size + 12 * SLOT_BYTES, 1)


def test_the_bar_shows_bytes_and_ends_full(h5: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert check(h5, progress=True).ok
    out, err = capfd.readouterr()
    assert out == ""
    last = err.rstrip().split("\r")[-1]
    assert "100%" in last
    assert "B/s" in last
    assert "bad=0" in last
    assert "img" not in last


def test_an_interruption_leaves_no_thread(tmp_path: Path) -> None:
    made = build(np.zeros((300, 8, 8, 3), np.uint8), tmp_path / "x", size=8)
    started = threading.active_count()

    def interrupt(state: Progress) -> None:
        if state.done > 4000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(made, progress=interrupt)
    assert threading.active_count() == started
    assert check(made).ok


# --- the command -----------------------------------------------------------------------------------------------------


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return command.run("verify", *arguments, cwd=cwd)


def test_the_command_says_that_a_store_is_whole(store: Path) -> None:
    result = run("train.store", cwd=store.parent)
    assert (result.returncode, result.stderr) == (0, "")
    size = check(store).bytes
    assert result.stdout.startswith(f"train.store: 12 slots are whole, 4 of them failed; {size / 1000:.3g} kB in ")
    quiet = run("train.store", "--quiet", "--workers", "1", cwd=store.parent)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_the_command_lists_all_damage(store: Path) -> None:
    pixels = np.load(store / "images.npy", mmap_mode="r+")
    stored = np.load(store / "checksums.npy")
    pixels[:] ^= 255
    pixels.flush()
    flip(store / "labels.npy", 130)
    result = run("train.store", cwd=store.parent)
    assert (result.returncode, result.stdout) == (1, "")
    first, fault, *slots = result.stderr.splitlines()
    assert first == "arraystore: train.store is damaged: 1 fault and 12 of 12 slots", "a repair would be refused"
    assert fault.startswith(f"  {store}/labels.npy has changed since it was stored: its digest is ")
    assert fault.endswith(f"; {ADVICE}")
    assert len(slots) == 12
    now = xxhash.xxh3_64_intdigest(np.ascontiguousarray(pixels[6]))
    assert slots[6] == (
        f"  slot 6  größe/img_000.jpg: its pixels have checksum {now:016x}, they were stored with {stored[6]:016x}"
    )
    quiet = run("train.store", "-q", cwd=store.parent)
    assert (quiet.returncode, quiet.stderr) == (1, result.stderr)


def test_the_command_gives_json(store: Path) -> None:
    (store / "score.npy").unlink()
    result = run("train.store", "--json", cwd=store.parent)
    assert (result.returncode, result.stderr) == (1, "")
    facts = json.loads(result.stdout)
    assert facts.pop("seconds") > 0
    assert facts.pop("bytes") > 12 * SLOT_BYTES
    assert facts == {
        "path": "train.store",
        "ok": False,
        "slots": 12,
        "failed": 4,
        "damaged": [],
        "faults": [{"message": f"{store}/score.npy is missing", "advice": ADVICE, "kind": None}],
        "notes": [],
        "identity": xxhash.xxh3_128_hexdigest((store / "store.json").read_bytes()),
        "repairable": False,
    }


def test_the_command_where_there_is_nothing(tmp_path: Path) -> None:
    result = run("x.store", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"arraystore: x.store is damaged: 1 fault\n  there is no store at {tmp_path / 'x.store'}{MEND}\n"
    )
    wrong = run("x.store", "--workers", "0", cwd=tmp_path)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("Usage: arraystore verify")


def test_the_command_notes_what_is_worth_knowing() -> None:
    result = run(GOLDEN.name, cwd=GOLDEN.parent)
    assert result.returncode == 0
    assert result.stdout.startswith("v1.store: 3 slots are whole, 1 of them failed; 1.52 kB in ")
    assert result.stderr == f"note: {check(GOLDEN).notes[0]}\n"
