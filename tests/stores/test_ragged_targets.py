"""Ragged targets on each medium: their plain arrays, damage that is found by name, and builds that go on."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from support import images
from support.store_contract import build

import arraystore
from arraystore import BadImagesError, FormatError, Kind, Ragged, StoreError
from arraystore._common.digests import digest_of, file_blocks
from arraystore._format.description import Description
from arraystore._stores.publishing import partial_of

LENGTHS = [2, 0, 3, 1]
BOXES = [np.arange(4 * k, dtype=np.float32).reshape(k, 4) + k for k in LENGTHS]
SOURCE = [images.noise(6, 6, seed=i) for i in range(4)]


@pytest.fixture(params=["x.store", "x.h5"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / str(request.param)
    build(SOURCE, path, targets={"boxes": BOXES, "score": np.arange(4.0)}).close()
    return path


def array_of(target: Path, part: str) -> npt.NDArray[Any]:
    if target.is_dir():
        return np.load(target / f"boxes.{part}.npy")  # type: ignore[no-any-return]
    with h5py.File(target) as file:
        return file[f"targets/boxes/{part}"][...]  # type: ignore[no-any-return]


def write(target: Path, part: str, values: npt.NDArray[Any]) -> None:
    """Replace an array, as a hostile writer would: the digests are not made again."""
    if target.is_dir():
        np.save(target / f"boxes.{part}.npy", values)
        return
    with h5py.File(target, "r+") as file:
        del file[f"targets/boxes/{part}"]
        file[f"targets/boxes/{part}"] = values


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_arrays_are_plain(target: Path) -> None:
    assert array_of(target, "offsets").tolist() == [0, 2, 2, 5, 6]
    np.testing.assert_array_equal(array_of(target, "values"), np.concatenate(BOXES), strict=True)
    with arraystore.open(target) as store:
        assert store.target_names == ("boxes", "score")
        assert store.description.targets["boxes"] == {"dtype": "<f4", "shape": [6, 4], "ragged": True}
        assert store.description.targets["score"] == {"dtype": "<f8", "shape": [4]}
        boxes = store.targets["boxes"]
        assert isinstance(boxes, Ragged)
        assert isinstance(boxes.values, np.memmap)
        assert {"boxes.values.npy", "targets/boxes/values"} & {*store.description.digests}
        assert store.verify(progress=False).ok
    if target.is_dir():
        names = {"boxes.offsets.npy", "boxes.values.npy", "checksums.npy", "images.npy", "samples.parquet"}
        assert {path.name for path in target.iterdir()} == names | {"score.npy", "status.npy", "store.json"}


@pytest.mark.parametrize(
    ("offsets", "reason"),
    [
        ([0, 2, 1, 5, 6], "offsets must not fall, but row 1 goes from 2 to 1"),
        ([0, 2, 2**40, 5, 6], "offsets must not fall, but row 2 goes from 1099511627776 to 5"),
        ([0, -(2**40), 2, 5, 6], "offsets must not fall, but row 0 goes from 0 to -1099511627776"),
        ([1, 2, 2, 5, 6], "offsets must go from 0 to 6, the number of items, not from 1 to 6"),
        ([0, 2, 2, 5, 7], "offsets must go from 0 to 6, the number of items, not from 0 to 7"),
        ([0, 2, 2, 5, 5], "offsets must go from 0 to 6, the number of items, not from 0 to 5"),
    ],
)
def test_offsets_that_lie_are_refused_when_the_store_is_opened(target: Path, offsets: list[int], reason: str) -> None:
    write(target, "offsets", np.array(offsets))
    with pytest.raises(FormatError, match=reason) as caught:
        arraystore.open(target)
    assert caught.value.kind is Kind.DAMAGED
    assert "restore it from a copy, or build the store again" in str(caught.value)
    found = arraystore.verify(target, progress=False)
    assert [fault.message for fault in found.faults if "has changed since it was stored" in fault.message]


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("offsets", np.array([0, 2, 2, 5, 6], np.int32)),
        ("offsets", np.array([0, 2, 2, 5, 6], ">i8")),
        ("offsets", np.array([0, 2, 2, 5, 6], np.float64)),
        ("offsets", np.array([0, 2, 5, 6])),
        ("offsets", np.array([0, 2, 2, 5, 6, 6])),
        ("offsets", np.zeros((5, 2), np.int64)),
        ("offsets", np.int64(3)),
        ("values", np.zeros((5, 4), np.float32)),
        ("values", np.zeros((7, 4), np.float32)),
        ("values", np.float32(3)),
        ("values", np.array([b"x"] * 6)),
    ],
    ids=str,
)
def test_arrays_of_other_forms_are_refused(target: Path, part: str, values: Any) -> None:
    write(target, part, values)
    with pytest.raises(FormatError, match=r"boxes"):
        arraystore.open(target)
    found = arraystore.verify(target, progress=False)
    assert any(f"boxes.{part}" in fault.message or f"boxes/{part}" in fault.message for fault in found.faults)


@pytest.mark.parametrize("part", ["values", "offsets"])
def test_a_missing_array_is_named(target: Path, part: str) -> None:
    if target.is_dir():
        (target / f"boxes.{part}.npy").unlink()
    else:
        with h5py.File(target, "r+") as file:
            del file[f"targets/boxes/{part}"]
    with pytest.raises(FormatError, match=rf"boxes.{part}"):
        arraystore.open(target)
    assert not arraystore.verify(target, progress=False).ok


def test_offsets_that_lie_with_right_digests_are_found(tmp_path: Path) -> None:
    """A writer with a fault of its own makes digests of what it wrote."""
    target = tmp_path / "x.store"
    build(SOURCE, target, targets={"boxes": BOXES}).close()
    np.save(target / "boxes.offsets.npy", np.array([0, 2, 1, 5, 6]))
    members = json.loads((target / "store.json").read_text())
    members["digests"]["boxes.offsets.npy"] = digest_of(file_blocks(target / "boxes.offsets.npy"))
    (target / "store.json").write_text(Description.from_json(members, "").to_text())
    found = arraystore.verify(target, progress=False)
    (fault,) = found.faults
    assert fault.message == f"{target}/boxes.offsets.npy is damaged: offsets must not fall, but row 1 goes from 2 to 1"


@pytest.mark.parametrize(
    "form",
    [
        {"dtype": "<f4", "shape": [6, 4], "ragged": 1},
        {"dtype": "<f4", "shape": [], "ragged": True},
        {"dtype": "<f4", "shape": [-6, 4], "ragged": True},
        {"dtype": "<f4", "shape": None, "ragged": True},
    ],
)
def test_a_form_that_is_none_is_refused(tmp_path: Path, form: Any) -> None:
    target = tmp_path / "x.store"
    build(SOURCE, target, targets={"boxes": BOXES}).close()
    members = json.loads((target / "store.json").read_text())
    members["targets"]["boxes"] = form
    (target / "store.json").write_text(json.dumps(members))
    with pytest.raises(FormatError, match="is damaged: targets is"):
        arraystore.open(target)


def test_a_store_goes_to_another_process_as_the_names_of_files(target: Path) -> None:
    with arraystore.open(target) as store:
        sent = pickle.dumps(store)
        arrived = pickle.loads(sent)
        assert isinstance(arrived.targets["boxes"].values, np.memmap)
        assert [row.tolist() for row in arrived.targets["boxes"]] == [row.tolist() for row in BOXES]


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_a_build_goes_on_only_with_the_same_rows(tmp_path: Path, name: str) -> None:
    """Where one item moves to the next image, values are the same and offsets are not."""
    target = tmp_path / name
    files = [tmp_path / f"{i}.jpg" for i in range(4)]
    for i, file in enumerate(files):
        file.write_bytes(images.jpeg(images.photo(9, 9, seed=i)) if i else b"no image")
    with pytest.raises(BadImagesError):
        build(files, target, targets={"boxes": BOXES})
    other = Ragged(np.concatenate(BOXES), np.array([0, 1, 2, 5, 6]))
    with pytest.raises(StoreError, match="holds an unfinished build of something else"):
        build(files, target, targets={"boxes": other})
    seen: list[int] = []
    store = build(files, target, targets={"boxes": BOXES}, bad="keep", progress=lambda state: seen.append(state.done))
    assert seen[0] == 4
    assert [row.tolist() for row in store.targets["boxes"]] == [row.tolist() for row in BOXES]
    assert not partial_of(target).exists()


def test_a_build_that_was_killed_while_it_published_leaves_no_file(tmp_path: Path) -> None:
    """The files of ragged targets are the store's own, so they are deleted with it."""
    target = tmp_path / "x.store"
    build(SOURCE, target, targets={"boxes": BOXES}).close()
    build(SOURCE, target, targets={"score": np.arange(4.0)}, overwrite=True).close()
    assert names_in(tmp_path) == ["x.store"]
    assert not list(target.glob("boxes*"))
    partial = partial_of(target)
    file = tmp_path / "bad.jpg"
    file.write_bytes(b"no image")
    other = tmp_path / "y.store"
    with pytest.raises(BadImagesError):
        build([file], other, targets={"boxes": Ragged.from_rows([[1]])})
    (partial_of(other) / "boxes.values.npy").write_bytes(b"left by a killed call")
    build(SOURCE[:1], other, targets={"boxes": Ragged.from_rows([[1]])}, fresh=True)
    assert names_in(tmp_path) == ["bad.jpg", "x.store", "y.store"]
    assert not partial.exists()


def test_no_function_is_called_for_each_row(tmp_path: Path) -> None:
    count = 1000
    lengths = np.arange(count) % 15
    boxes = Ragged(np.zeros((int(lengths.sum()), 4), np.float32), np.concatenate([[0], np.cumsum(lengths)]))
    target = tmp_path / "x.store"
    calls = 0

    def count_calls(frame: Any, event: str, _arg: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.endswith("_common/ragged.py")

    sys.setprofile(count_calls)
    try:
        build(np.zeros((count, 1, 1, 3), np.uint8), target, size=1, targets={"boxes": boxes}).close()
        with arraystore.open(target) as store:
            assert store.targets["boxes"][::3].lengths.tolist() == lengths[::3].tolist()
    finally:
        sys.setprofile(None)
    assert 0 < calls < count // 5
