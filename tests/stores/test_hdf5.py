from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support import images
from support.store_contract import DiskContract, assert_equal, build

import arraystore
from arraystore import FormatError, Store


class TestHdf5Store(DiskContract):
    medium = "hdf5"

    def target(self, folder: Path) -> Path:
        return folder / "train.h5"


@pytest.fixture
def store(photos: Path, tmp_path: Path) -> Store:
    return build(photos, tmp_path / "train.h5", targets={"score": np.arange(19.0)})


def check_layout(path: Path, expected: Store) -> None:
    """Plain h5py reads the pixels, and so does a mapping at their offset."""
    with h5py.File(path, "r") as file:
        dataset = file["images"]
        offset = dataset.id.get_offset()
        assert dataset.chunks is None
        assert dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        assert dataset.id.get_create_plist().get_nfilters() == 0
        assert not dataset.id.get_create_plist().get_obj_track_times()  # or no two builds were alike
        assert offset % 4096 == 0
        assert dataset.dtype == np.uint8
        np.testing.assert_array_equal(dataset[...], expected.images)
        np.testing.assert_array_equal(file["status"][...], expected.status)
        np.testing.assert_array_equal(file["checksums"][...], expected.checksums)
        for name, values in expected.targets.items():
            np.testing.assert_array_equal(file["targets"][name][...], values)
        assert [name.decode() for name in file["samples/source"]] == expected.samples["source"].to_pylist()
        assert file.attrs["layout"] == expected.spec.layout
        assert file.attrs["mean"].tolist() == list(expected.mean)
    np.testing.assert_array_equal(np.memmap(path, np.uint8, "r", offset, expected.images.shape), expected.images)


@pytest.mark.parametrize("bad", ["keep", "drop"])
@pytest.mark.parametrize("size", [1, (2, 3), 16, 100])
def test_h5py_alone_reads_the_store(mixed: Path, tmp_path: Path, size: Any, bad: str) -> None:
    build(mixed, tmp_path / "x.h5", size=size, bad=bad)
    check_layout(tmp_path / "x.h5", build(mixed, size=size, bad=bad))


@pytest.mark.parametrize("count", [1, 3, 9, 40, 171, 172, 600, 1400])
def test_the_smallest_stores_are_whole(tmp_path: Path, count: int) -> None:
    source = np.arange(count * 3, dtype=np.uint8).reshape(count, 1, 1, 3)
    build(source, tmp_path / "x.h5", size=1)
    check_layout(tmp_path / "x.h5", build(source, size=1))


def test_a_file_may_grow_after_rows_were_dropped(mixed: Path, tmp_path: Path) -> None:
    build(mixed, tmp_path / "x.h5", bad="drop")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["mine"] = np.arange(100_000)
    check_layout(tmp_path / "x.h5", build(mixed, bad="drop"))
    assert_equal(arraystore.open(tmp_path / "x.h5"), build(mixed, bad="drop"))
    with h5py.File(tmp_path / "x.h5", "r") as file:
        np.testing.assert_array_equal(file["mine"][...], np.arange(100_000))


def test_dropped_sources_stand_in_the_file(mixed: Path, tmp_path: Path) -> None:
    store = build(mixed, tmp_path / "x.h5", bad="drop")
    with h5py.File(tmp_path / "x.h5", "r") as file:
        assert [name.decode() for name in file["dropped/source"]] == [bad.source for bad in store.dropped()]
        assert file["dropped/row"][...].tolist() == [2, 3, 7, 11]


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".hdf", ".H5"])
def test_the_suffix_asks_for_hdf5(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"x{suffix}"
    assert build(images.noise(2, 12).reshape(2, 2, 6, 3), target).medium == "hdf5"
    assert target.is_file()


# --- damage ----------------------------------------------------------------------------------------------------------


def edit(path: Path, change: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def remove(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        def change(file: h5py.File) -> None:
            del file[name]

        edit(path, change)

    return damage


def replace(name: str, value: Any) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        def change(file: h5py.File) -> None:
            del file[name]
            if value is None:
                file.create_group(name)
            else:
                file[name] = value

        edit(path, change)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda at: at.write_text("no"), "{at} is not an HDF5 file that can be read: "),
    "empty": (lambda at: at.write_bytes(b""), "{at} is not an HDF5 file that can be read: "),
    "cut short": (
        lambda at: at.write_bytes(at.read_bytes()[:-1000]),
        "{at} is not an HDF5 file that can be read: ",
    ),
    "no pixels": (remove("images"), "{at} is not a store: it has no datasets 'store.json' and 'images'; it has "),
    "no store.json": (
        remove("store.json"),
        "{at} is not a store: it has no datasets 'store.json' and 'images'; it has ",
    ),
    "no status": (remove("status"), "{at} is damaged: "),
    "no targets": (remove("targets"), "{at} is damaged: "),
    "targets are no group": (replace("targets", 5), "{at} is damaged: "),
    "status is a number": (replace("status", 5), "{at}: status should have 19 rows, its shape is ()"),
    "status is a group": (replace("status", None), "{at}"),
    "store.json is a group": (replace("store.json", None), "{at}"),
    "store.json is a number": (replace("store.json", 5), "{at}"),
    "store.json is no object": (replace("store.json", "[1]"), "{at}:store.json should hold a JSON object"),
    "store.json is no JSON": (replace("store.json", "{"), "{at} is damaged: "),
    "status is short": (
        replace("status", np.ones(18, np.uint8)),
        "{at}: status should have 19 rows, its shape is (18,)",
    ),
    "a target is short": (
        replace("targets/score", np.ones(18)),
        "{at}: score should have 19 rows, its shape is (18,)",
    ),
    "pixels of another type": (
        replace("images", np.zeros((19, 3, 16, 24), np.int16)),
        "{at}: images are not contiguous uint8, so they cannot be mapped",
    ),
    "pixels of another shape": (
        replace("images", np.zeros((18, 3, 16, 24), np.uint8)),
        "{at}: images have shape (18, 3, 16, 24), store.json says otherwise",
    ),
    "pixels are a group": (
        replace("images", None),
        "{at}: images are not contiguous uint8, so they cannot be mapped",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(store: Store, name: str) -> None:
    assert store.path is not None
    store.close()
    damage, message = DAMAGE[name]
    damage(store.path)
    with pytest.raises(FormatError) as caught:
        arraystore.open(store.path)
    expected = message.replace("{at}", str(store.path))
    assert str(caught.value).startswith(expected)
    assert message.endswith((" ", "{at}")) or str(caught.value) == expected


def test_chunked_pixels_are_refused(store: Store) -> None:
    assert store.path is not None

    def change(file: h5py.File) -> None:
        pixels = file["images"][...]
        del file["images"]
        file.create_dataset("images", data=pixels, compression="gzip")

    edit(store.path, change)
    with pytest.raises(FormatError, match=r"images are not contiguous uint8, so they cannot be mapped$"):
        arraystore.open(store.path)


def test_a_file_that_was_never_a_store(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(FormatError) as caught:
        arraystore.open(tmp_path / "x.h5")
    assert str(caught.value) == (
        f"{tmp_path / 'x.h5'} is not a store: it has no datasets 'store.json' and 'images'; it has 'x'; open one of "
        "those with arraystore.open_array(path, dataset=NAME)"
    )


# --- what is mapped --------------------------------------------------------------------------------------------------


def test_status_checksums_and_targets_are_mapped(store: Store) -> None:
    arrays = {"status": store.status, "checksums": store.checksums} | dict(store.targets)
    assert set(arrays) == {"status", "checksums", "labels", "score"}
    assert {name for name, array in arrays.items() if isinstance(array, np.memmap)} == set(arrays)
    assert not any(array.flags.writeable for array in arrays.values())


@pytest.mark.parametrize(
    "options",
    [{"chunks": (4,)}, {"chunks": (4,), "compression": "gzip"}, {"chunks": (4,), "shuffle": True, "fletcher32": True}],
    ids="+".join,
)
def test_targets_that_are_no_array_as_they_lie_are_read(store: Store, options: dict[str, Any]) -> None:
    assert store.path is not None
    names = {"A": 0, "B": 1}
    status, checksums, score = map(np.array, (store.status, store.checksums, store.targets["score"]))

    def change(file: h5py.File) -> None:
        for name in ("status", "checksums", "targets/score"):
            values = file[name][...]
            del file[name]
            file.create_dataset(name, data=values, **options)
        file.create_dataset("targets/enumerated", data=np.arange(19) % 2, dtype=h5py.enum_dtype(names, "u1"))
        file.create_dataset("targets/never_written", (19,), "f4", fillvalue=7)
        twelve_bits = h5py.h5t.STD_U16LE.copy()
        twelve_bits.set_precision(12)
        twelve_bits.set_offset(4)
        h5py.h5d.create(file.id, b"targets/twelve_bits", twelve_bits, h5py.h5s.create_simple((19,)))
        file["targets/twelve_bits"][...] = np.arange(19) + 1000
        description = json.loads(file["store.json"].asstr()[()])
        forms = {"enumerated": "|u1", "never_written": "<f4", "twelve_bits": "<u2"}
        description["targets"] |= {name: {"dtype": kind, "shape": [19]} for name, kind in forms.items()}
        file["store.json"][()] = json.dumps(description)

    edit(store.path, change)
    again = arraystore.open(store.path)
    arrays = {"status": again.status, "checksums": again.checksums} | dict(again.targets)
    assert [name for name, array in arrays.items() if isinstance(array, np.memmap)] == ["labels"]
    np.testing.assert_array_equal(again.status, status)
    np.testing.assert_array_equal(again.checksums, checksums)
    np.testing.assert_array_equal(again.targets["score"], score)
    np.testing.assert_array_equal(again.targets["enumerated"], np.arange(19) % 2)
    np.testing.assert_array_equal(again.targets["never_written"], np.full(19, 7))
    np.testing.assert_array_equal(again.targets["twelve_bits"], np.arange(19) + 1000)
    assert h5py.check_enum_dtype(again.targets["enumerated"].dtype) == names
