"""Arrays that something else has made: mapped as they lie, or refused with what to do."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support import images
from support.store_contract import build

import arraystore
from arraystore import ArraystoreError, FormatError, ManifestError, Slots, SpecError, Store
from arraystore._format.slot_file import npy_header
from arraystore._reading import foreign_arrays

Array = np.ndarray[Any, Any]
X = np.arange(6 * 3 * 4 * 5, dtype=np.uint8).reshape(6, 3, 4, 5)
Y = np.arange(6)[::-1].copy()


def saved(folder: Path, values: Any, name: str = "x.npy") -> Path:
    np.save(folder / name, values)
    return folder / name


def hdf5(folder: Path, **datasets: Any) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return folder / "x.h5"


def said(kind: type[ArraystoreError], message: str, path: Path, **options: Any) -> None:
    with pytest.raises(kind, match="^" + re.escape(message) + "$"):
        arraystore.open_array(path, **options)


# --- what is read ----------------------------------------------------------------------------------------------------


def test_an_npy_file_is_mapped(tmp_path: Path) -> None:
    slots: Slots = arraystore.open_array(saved(tmp_path, X))
    assert type(slots) is Slots
    assert isinstance(slots.__slot_arrays__.arrays[0].images, np.memmap)
    assert not slots.__slot_arrays__.arrays[0].images.flags.writeable
    assert (len(slots), slots.slot_shape, slots.dtype, slots.layout) == (6, (3, 4, 5), np.uint8, "NCHW")
    assert (slots.labels, slots.classes, slots.target_names, slots.mean, slots.std) == (None, (), (), (), ())
    assert slots.unreadable().tolist() == []
    np.testing.assert_array_equal(slots[4], X[4])
    np.testing.assert_array_equal(np.concatenate(list(slots.batches(4))), X)


def test_a_dataset_is_mapped_wherever_it_lies(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=512) as file:
        file["train/a"], file["train/deep/b"] = X, X + 1
        file["soft"] = h5py.SoftLink("/train/deep/b")
    for name, expected in (("train/a", X), ("/train/deep/b", X + 1), ("soft", X + 1)):
        slots = arraystore.open_array(tmp_path / "x.h5", dataset=name)
        assert isinstance(slots.__slot_arrays__.arrays[0].images, np.memmap)
        np.testing.assert_array_equal(slots.take(range(6)), expected)


def test_the_pixels_of_a_store_are_an_array_like_any(photos: Path, tmp_path: Path) -> None:
    store = build(photos, tmp_path / "x.h5")
    again = arraystore.open_array(tmp_path / "x.h5", dataset="images", labels="targets/labels", targets={"s": "status"})
    np.testing.assert_array_equal(again.take(range(19)), store.images)
    np.testing.assert_array_equal(again.labels, store.labels)
    np.testing.assert_array_equal(again.target("s"), np.ones(19))
    assert isinstance(arraystore.open(tmp_path / "x.h5"), Store)
    build(photos, tmp_path / "x.store")
    folder = arraystore.open_array(tmp_path / "x.store/images.npy", labels=tmp_path / "x.store/labels.npy")
    np.testing.assert_array_equal(folder.take(range(19)), store.images)
    np.testing.assert_array_equal(folder.labels, store.labels)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=arrays.arrays(
        st.one_of(
            arrays.boolean_dtypes(),
            arrays.integer_dtypes(endianness="="),
            arrays.floating_dtypes(endianness="=", sizes=(16, 32, 64)),
            arrays.complex_number_dtypes(endianness="=", sizes=(64, 128)),
            arrays.byte_string_dtypes(endianness="=", min_len=1),
        ),
        arrays.array_shapes(min_dims=1, max_dims=5, max_side=4, min_side=0),
    ),
    hdf5_too=st.booleans(),
)
def test_arrays_of_any_type_and_shape(tmp_path: Path, values: Array, *, hdf5_too: bool) -> None:
    if hdf5_too:
        slots = arraystore.open_array(hdf5(tmp_path, x=values), dataset="x")
    else:
        slots = arraystore.open_array(saved(tmp_path, values))
    assert slots.dtype == values.dtype
    np.testing.assert_array_equal(slots.take(range(len(values))), values)
    np.testing.assert_array_equal(np.array(slots[slice(None, None, -1)].take(range(len(values)))), values[::-1])


def test_slots_may_be_records_with_named_fields(tmp_path: Path) -> None:
    values = np.zeros(5, [("a", "u1"), ("b", "<f4", (2,))])
    values["a"], values["b"][:, 1] = range(5), range(5)
    for slots in (
        arraystore.open_array(saved(tmp_path, values)),
        arraystore.open_array(hdf5(tmp_path, x=values), dataset="x"),
    ):
        np.testing.assert_array_equal(slots.take([3, 1]), values[[3, 1]])


def test_an_npy_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = saved(tmp_path, X).rename(tmp_path / "x.bin")
    np.testing.assert_array_equal(arraystore.open_array(path).take(range(6)), X)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_npy_format(tmp_path: Path, version: tuple[int, int]) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, X, version=version)
    np.testing.assert_array_equal(arraystore.open_array(tmp_path / "x.npy").take(range(6)), X)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((6, 3, 8, 8), "NCHW"),
        ((6, 8, 8, 3), "NHWC"),
        ((6, 1, 3, 2), "NCHW"),
        ((6, 2, 3, 4), "NHWC"),
        ((6, 3, 8, 4), ""),
        ((6, 8, 8, 8), ""),
        ((6, 2, 8, 2), ""),
        ((6, 3, 8), ""),
        ((6,), ""),
        ((3, 1, 3, 8, 8), ""),
    ],
)
def test_the_layout_is_guessed_where_one_axis_alone_can_be_channels(
    tmp_path: Path, shape: tuple[int, ...], layout: str
) -> None:
    path = saved(tmp_path, np.zeros(shape, np.uint8))
    assert arraystore.open_array(path).layout == layout
    if len(shape) == 4:
        assert [arraystore.open_array(path, layout=given).layout for given in ("NCHW", "NHWC")] == ["NCHW", "NHWC"]


def test_what_needs_a_layout_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path, np.zeros((6, 3, 8, 4), np.uint8))
    with pytest.raises(SpecError) as caught:
        arraystore.open_array(path).loader(transform=np.negative)
    assert str(caught.value) == (
        "the layout of these slots is not known, and augment and transform need it: pass layout='NCHW' or 'NHWC' to "
        "arraystore.open_array"
    )
    shapes: list[tuple[int, ...]] = []

    def see(image: Array) -> Array:
        shapes.append(image.shape)
        return image

    list(arraystore.open_array(path, layout="NCHW").loader(2, transform=see))
    assert set(shapes) == {(8, 4, 3)}
    list(arraystore.open_array(saved(tmp_path, np.zeros((6, 7)))).loader(2, transform=see))  # no images, so no layout
    assert set(shapes) == {(8, 4, 3), (7,)}


# --- targets ---------------------------------------------------------------------------------------------------------


def test_labels_come_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for labels in (Y, Y.tolist(), tuple(Y), saved(tmp_path, Y, "y.npy"), "y.npy", Y.astype(np.uint8), Y.astype(">i4")):
        slots = arraystore.open_array(saved(tmp_path, X), labels=labels)
        assert slots.labels is not None
        assert slots.labels.dtype == np.int64
        np.testing.assert_array_equal(slots.labels, Y)
        image, label = slots[2]
        np.testing.assert_array_equal(image, X[2])
        assert label == 3
    path = hdf5(tmp_path, x=X, a__y=Y, chunked=0)
    with h5py.File(path, "r+") as file:
        file.create_dataset("c", data=Y.astype(">u2"), chunks=(2,), compression="gzip")
    for name in ("a/y", "c", "y.npy", Path("y.npy")):
        slots = arraystore.open_array(path, dataset="x", labels=name)
        assert slots.labels is not None
        assert slots.labels.dtype == np.int64
        np.testing.assert_array_equal(slots.labels, Y)


def test_a_dataset_may_have_the_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, Y + 1, "y.npy")
    path = hdf5(tmp_path, **{"x": X, "y.npy": Y})
    np.testing.assert_array_equal(arraystore.open_array(path, dataset="x", labels="y.npy").labels, Y)
    np.testing.assert_array_equal(arraystore.open_array(path, dataset="x", labels=Path("y.npy")).labels, Y + 1)


def test_targets_keep_their_types(tmp_path: Path) -> None:
    scores = np.arange(12, dtype=np.float32).reshape(6, 2)
    slots = arraystore.open_array(
        hdf5(tmp_path, x=X, scores=scores, big=scores.astype(">f8")),
        dataset="x",
        targets={"scores": "scores", "big": "big", "flags": Y > 2, "bytes": Y.astype(np.uint8)},
    )
    assert slots.target_names == ("scores", "big", "flags", "bytes")
    assert [slots.target(name).dtype for name in slots.target_names] == [np.float32, np.float64, bool, np.uint8]
    assert isinstance(slots.target("scores"), np.memmap)
    np.testing.assert_array_equal(slots.target("big"), scores)
    batch = next(iter(slots.loader(3, shuffle=False, targets=["flags", "scores"])))
    np.testing.assert_array_equal(batch["scores"], scores[:3])


@pytest.mark.parametrize("fixed", [True, False])
def test_texts_become_classes(tmp_path: Path, *, fixed: bool) -> None:
    texts = ["b", "a", "ü", "b", "a", "a"]
    with h5py.File(hdf5(tmp_path, x=X), "r+") as file:
        file.create_dataset("y", data=[t.encode() for t in texts], dtype=h5py.string_dtype(length=2 if fixed else None))
    y = saved(tmp_path, texts, "y.npy")
    for path, options in (
        (tmp_path / "x.h5", {"dataset": "x", "labels": "y"}),
        (tmp_path / "x.h5", {"dataset": "x", "labels": y}),
        (saved(tmp_path, X), {"labels": texts}),
    ):
        slots = arraystore.open_array(path, **options)
        assert slots.classes == ("a", "b", "ü")
        assert slots.labels is not None
        assert slots.labels.tolist() == [1, 0, 2, 1, 0, 0]


def test_it_is_sent_by_name(tmp_path: Path) -> None:
    big = np.zeros((300, 3, 32, 32), np.uint8)
    big[:, 0, 0, 0] = np.arange(300) % 251
    y, scores = saved(tmp_path, np.arange(300), "y.npy"), saved(tmp_path, np.zeros((300, 500)), "s.npy")
    for slots in (
        arraystore.open_array(saved(tmp_path, big), labels=y, targets={"scores": scores}),
        arraystore.open_array(hdf5(tmp_path, a__x=big, y=np.arange(300)), dataset="a/x", labels="y"),
    ):
        data = pickle.dumps(slots)
        assert len(data) < 3000
        again = pickle.loads(data)
        np.testing.assert_array_equal(again.take(range(300)), big)
        np.testing.assert_array_equal(again.labels, np.arange(300))
        assert again.layout == "NCHW"


def test_stores_and_arrays_are_concatenated(photos: Path, tmp_path: Path) -> None:
    store = build(photos, tmp_path / "s.store", size=(4, 5))
    other = arraystore.open_array(saved(tmp_path, X), labels=["ash", "oak", "größe 日本"] * 2)
    both = arraystore.concatenate([store, other])
    np.testing.assert_array_equal(both.take(range(25)), np.concatenate([store.images, X]))
    assert both.labels is not None
    assert both.labels[19:].tolist() == [0, 2, 1, 0, 2, 1]
    assert both.mean == ()


def test_open_is_for_stores_and_names_the_other(tmp_path: Path) -> None:
    path = saved(tmp_path, X)
    with pytest.raises(FormatError) as caught:
        arraystore.open(path)
    assert str(caught.value) == f"{path} is an array, not a store: open it with arraystore.open_array"
    path = hdf5(tmp_path, g__x=X, y=Y)
    with pytest.raises(FormatError) as caught:
        arraystore.open(path)
    assert str(caught.value) == (
        f"{path} is not a store: it has no datasets 'store.json' and 'images'; it has 'g/x', 'y'; open one of those "
        "with arraystore.open_array(path, dataset=NAME)"
    )


# --- what is refused -------------------------------------------------------------------------------------------------


def refused_npy(folder: Path, values: Any) -> Path:
    np.save(folder / "x.npy", values, allow_pickle=True)
    return folder / "x.npy"


NPY: dict[str, tuple[Callable[[Path], object], str]] = {
    "objects": (
        lambda at: refused_npy(at.parent, np.array([1, "a", None], object)),
        "{at} holds Python objects, which are never read from a file: write an array of numbers",
    ),
    "records with objects": (
        lambda at: refused_npy(at.parent, np.zeros(3, [("a", "u1"), ("b", object)])),
        "{at} holds Python objects, which are never read from a file: write an array of numbers",
    ),
    "one value": (
        lambda at: np.save(at, np.float32(3)),
        "{at} holds a single value: write an array with an axis of slots",
    ),
    "Fortran's order": (
        lambda at: np.save(at, np.asfortranarray(X)),
        (
            "{at} holds its values in Fortran order, so the bytes of a slot are scattered: write it again: "
            'np.save(NEW, np.ascontiguousarray(np.load("{at}", mmap_mode="r")))'
        ),
    ),
    "another byte order": (
        lambda at: np.save(at, X.astype(">u2")),
        (
            "{at} holds >u2, whose bytes are in another order than this machine's: write it again as "
            'array.astype(array.dtype.newbyteorder("="))'
        ),
    ),
    "cut short": (
        lambda at: (np.save(at, X), os.truncate(at, 487)),
        (
            "{at} is 487 bytes long, but uint8 of shape (6, 3, 4, 5) needs 488: the file was cut short; copy or write "
            "it again"
        ),
    ),
    "a header alone": (
        lambda at: at.write_bytes(npy_header((10**15, 3, 2, 2))),
        (
            "{at} is 4,096 bytes long, but uint8 of shape (1000000000000000, 3, 2, 2) needs 12,000,000,000,004,096: "
            "the file was cut short; copy or write it again"
        ),
    ),
    "negative sides": (
        lambda at: at.write_bytes(npy_header((-2, -2)) + b"1234"),
        "{at} cannot be mapped as uint8 of shape (-2, -2): ",
    ),
    "a negative side": (
        lambda at: at.write_bytes(npy_header((-2, 3)) + b"1234"),
        "{at} cannot be mapped as uint8 of shape (-2, 3): ",
    ),
    "absurd sides": (
        lambda at: at.write_bytes(npy_header((10**40, 0))),
        "{at} cannot be mapped as uint8 of shape (10000000000000000000000000000000000000000, 0): ",
    ),
    "nothing": (lambda at: at.write_bytes(b""), "{at} is not a .npy file that can be read: "),
    "text": (lambda at: at.write_text("import os; os.abort()"), "{at} is not a .npy file that can be read: "),
    "half a header": (
        lambda at: (np.save(at, X), os.truncate(at, 60)),
        "{at} is not a .npy file that can be read: ",
    ),
    "a header that is a program": (
        lambda at: at.write_bytes(npy_header((3,)).replace(b"'|u1'", b"exit(1)"[:5])),
        "{at} is not a .npy file that can be read: ",
    ),
}


@pytest.mark.parametrize("name", NPY)
def test_npy_files_that_cannot_be_slots(tmp_path: Path, name: str) -> None:
    at = tmp_path / "x.npy"
    make, message = NPY[name]
    make(at)
    with pytest.raises(FormatError) as caught:
        arraystore.open_array(at)
    expected = message.replace("{at}", str(at))
    assert str(caught.value).startswith(expected) if message.endswith(" ") else str(caught.value) == expected
    assert caught.value.source == str(at)


REPACK = (
    ": write numbers without chunks and compression, for example with h5repack -l g/x:CONTI -f g/x:NONE {at} NEW.h5"
)


def make_odd(file: h5py.File) -> None:
    kind = h5py.h5t.STD_U16LE.copy()
    kind.set_precision(12)
    h5py.h5d.create(file.create_group("g").id, b"x", kind, h5py.h5s.create_simple((4,)))
    file["g/x"][...] = 1


def make_virtual(file: h5py.File) -> None:
    file["real"] = X
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[...] = h5py.VirtualSource(file["real"])
    file.create_group("g").create_virtual_dataset("x", layout)


def make_compact(file: h5py.File) -> None:
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.create_group("g").id, b"x", h5py.h5t.NATIVE_UINT8, space, create)
    file["g/x"][...] = 1


HDF5: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "chunked": (
        lambda file: file.create_dataset("g/x", data=X, chunks=True),
        "{at}:g/x cannot be mapped, because it is chunked" + REPACK,
    ),
    "compressed": (
        lambda file: file.create_dataset("g/x", data=X, compression="gzip"),
        "{at}:g/x cannot be mapped, because it is chunked and compressed" + REPACK,
    ),
    "texts": (
        lambda file: file.create_dataset("g/x", data=["a", "b"]),
        "{at}:g/x cannot be mapped, because its values are not plain object" + REPACK,
    ),
    "12 bits": (make_odd, "{at}:g/x cannot be mapped, because its values are not plain uint16" + REPACK),
    "elsewhere": (
        lambda file: file.create_dataset("g/x", (5, 3), "u1", external=[("raw", 0, 15)]),
        "{at}:g/x cannot be mapped, because its values lie in other files" + REPACK,
    ),
    "virtual": (make_virtual, "{at}:g/x cannot be mapped, because its values lie in other files" + REPACK),
    "compact": (make_compact, "{at}:g/x cannot be mapped, because it is compact" + REPACK),
    "never written": (
        lambda file: file.create_dataset("g/x", (5, 3), "u1"),
        "{at}:g/x cannot be mapped, because nothing was ever written to it" + REPACK,
    ),
    "one value": (
        lambda file: file.create_dataset("g/x", data=5),
        "{at}:g/x holds a single value: write an array with an axis of slots",
    ),
    "no value": (
        lambda file: file.create_dataset("g/x", data=h5py.Empty("f4")),
        "{at}:g/x holds a single value: write an array with an axis of slots",
    ),
    "another byte order": (
        lambda file: file.create_dataset("g/x", data=X.astype(">i4")),
        (
            "{at}:g/x holds >i4, whose bytes are in another order than this machine's: write it again as "
            'array.astype(array.dtype.newbyteorder("="))'
        ),
    ),
}


@pytest.mark.parametrize("user_block", [0, 512])
@pytest.mark.parametrize("name", HDF5)
def test_datasets_that_cannot_be_slots(tmp_path: Path, name: str, user_block: int) -> None:
    at = tmp_path / "x.h5"
    make, message = HDF5[name]
    with h5py.File(at, "w", userblock_size=user_block) as file:
        make(file)
    said(FormatError, message.replace("{at}", str(at)), at, dataset="g/x")


def test_datasets_are_named_where_none_was(tmp_path: Path) -> None:
    path = hdf5(tmp_path, g__x=X, y=Y)
    told = "it has 'g/x', 'y'"
    said(
        SpecError,
        f"{path} is an HDF5 file: pass dataset= with the name of the dataset that holds the slots; {told}",
        path,
        labels="y",
    )
    for name in ("g", "z", "", "g/"):
        said(SpecError, f"dataset: {path} has no dataset {name!r}; {told}", path, dataset=name)
    said(SpecError, f"target 'labels': {path} has no dataset 'z'; {told}", path, dataset="g/x", labels="z")
    path = hdf5(tmp_path)
    said(SpecError, f"dataset: {path} has no dataset 'x'; it has none", path, dataset="x")
    path = hdf5(tmp_path, **{f"d{number:02}": 1 for number in range(23)})
    names = ", ".join(f"'d{number:02}'" for number in range(20))
    said(SpecError, f"dataset: {path} has no dataset 'x'; it has {names} and 3 more", path, dataset="x")


def test_a_link_into_another_file_is_not_followed(tmp_path: Path) -> None:
    other = hdf5(tmp_path, x=X).rename(tmp_path / "other.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = h5py.ExternalLink(str(other), "x")
    message = f"dataset: 'x' is a link into {other}: open that file instead"
    said(SpecError, message, tmp_path / "x.h5", dataset="x")


def test_options_that_do_not_go_with_what_is_there(photos: Path, tmp_path: Path) -> None:
    path = saved(tmp_path, X)
    said(
        SpecError, f"{path} is a .npy file, which has one array and no names: leave dataset out", path, dataset="images"
    )
    said(SpecError, "layout must be one of 'NCHW', 'NHWC', not 'CHW'", path, layout="CHW")
    flat = saved(tmp_path, Y, "flat.npy")
    message = f"layout='NCHW' is for images with 4 axes, and {flat} has shape (6,): leave layout out"
    said(SpecError, message, flat, layout="NCHW")
    said(FormatError, f"there is no array at {tmp_path / 'z.npy'}", tmp_path / "z.npy", labels=Y)
    os.mkfifo(tmp_path / "fifo.npy")
    said(FormatError, f"there is no array at {tmp_path / 'fifo.npy'}", tmp_path / "fifo.npy", labels=Y)
    store = build(photos, tmp_path / "s.store")
    assert store.path is not None
    file = store.path / "images.npy"
    message = f"{store.path} is a folder: pass a file, such as {file}, or use arraystore.open for a store"
    said(FormatError, message, store.path, labels=Y, layout="NCHW")
    with pytest.raises(FormatError, match=f"^{re.escape(str(photos / 'ash/img_000.jpg'))} is not an HDF5 file that"):
        arraystore.open_array(photos / "ash/img_000.jpg", dataset="x")


def test_targets_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, five = saved(tmp_path, X), saved(tmp_path, Y[:5], "five.npy")
    for labels in (Y[:5], five, ["a"] * 5):
        message = f"target 'labels' has 5 rows, but {path} has 6 slots: give one row per slot"
        said(ManifestError, message, path, labels=labels)
    twice = "labels are given twice: by labels= and in targets; leave one out"
    said(ManifestError, twice, path, labels=Y, targets={"labels": Y})
    said(SpecError, "a target cannot be named 'images': choose another text", path, targets={"images": Y})
    said(SpecError, "a target cannot be named 3: choose another text", path, targets={3: Y})
    said(SpecError, f"target 'labels': there is no .npy file at {tmp_path / 'z.npy'}", path, labels=tmp_path / "z.npy")
    message = "target 'labels' is the text 'y': pass an array, or the path of a .npy file"
    said(SpecError, message, path, labels="y")
    message = "target 'd' has dtype datetime64[s]: give numbers or texts, without missing values"
    said(ManifestError, message, path, targets={"d": saved(tmp_path, Y.astype("M8[s]"), "d.npy")})
    monkeypatch.setattr("arraystore._sources.targets.given.CATEGORY_LIMIT", 2)
    monkeypatch.setattr("arraystore._reading.foreign_arrays.CATEGORY_LIMIT", 2)
    message = "target 't' has more than 2 different texts, which are no categories: leave it out"
    said(ManifestError, message, path, targets={"t": list("abcabc")})
    assert arraystore.open_array(path, labels=list("abcabc")).classes == ("a", "b", "c")


def test_a_file_that_goes_on_after_the_array_is_fine(tmp_path: Path) -> None:
    path = saved(tmp_path, X)
    with path.open("ab") as file:
        file.write(b"more")
    np.testing.assert_array_equal(arraystore.open_array(path).take(range(6)), X)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=20), st.booleans())
def test_damage_is_a_format_error_or_other_pixels(tmp_path: Path, flips: list[tuple[int, int]], hdf5_too: bool) -> None:
    path = hdf5(tmp_path, g__x=X, y=Y) if hdf5_too else saved(tmp_path, X)
    data = bytearray(path.read_bytes())
    for at, value in flips:
        data[at % len(data)] = value
    path.write_bytes(data)
    options = {"dataset": "g/x", "labels": "y"} if path.suffix == ".h5" else {}
    try:
        slots = arraystore.open_array(path, **options)
        slots.take(range(min(len(slots), 6)))
    except (ArraystoreError, UserWarning):
        pass


def test_opening_reads_no_pixels_and_loads_no_h5py(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    path.write_bytes(npy_header((10**7, 3, 64, 64)))
    os.truncate(path, 4096 + 10**7 * 3 * 64 * 64)
    code = (
        "import sys, arraystore\n"
        f"slots = arraystore.open_array({str(path)!r})\n"
        "assert len(slots) == 10**7 and 'h5py' not in sys.modules\n"
        "assert not slots.take([0, 10**7 - 1]).any()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=400)


def test_a_picture_is_not_taken_for_an_array(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(images.jpeg(images.photo(9, 9)))
    with pytest.raises(FormatError, match=r"x\.npy is not a \.npy file that can be read: "):
        arraystore.open_array(tmp_path / "x.npy")


@pytest.mark.parametrize("how", ["npy", "hdf5"])
def test_a_file_that_is_replaced_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Its header must not be read with the values of another file."""

    def write(path: Path, count: int) -> None:
        images = np.full((count, 3, 4, 4), count, np.uint8)
        if how == "npy":
            np.save(path, images)
        else:
            with h5py.File(path, "w") as file:
                file["images"] = images

    path, new = tmp_path / f"x.{how}", tmp_path / f"new.{how}"
    write(path, 4)
    original, mapped = foreign_arrays.map_array, list[Path]()

    def map_array(*args: Any, **options: Any) -> Any:
        if not mapped:
            write(new, 6)
            new.replace(path)
        mapped.append(path)
        return original(*args, **options)

    monkeypatch.setattr(foreign_arrays, "map_array", map_array)
    options = {} if how == "npy" else {"dataset": "images"}
    slots = arraystore.open_array(path, **options)
    assert (len(slots), len(mapped)) == (6, 2)
    assert (slots.take(range(6)) == 6).all()
    monkeypatch.undo()

    def always(*args: Any, **options: Any) -> Any:
        write(new, 6)
        new.replace(path)
        return original(*args, **options)

    monkeypatch.setattr(foreign_arrays, "map_array", always)
    with pytest.raises(FormatError, match="is replaced again and again: open it when that has ended"):
        arraystore.open_array(path, **options)


def test_a_file_that_a_program_is_writing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    code = (
        "import h5py, sys, numpy\n"
        "file = h5py.File(sys.argv[1], 'w')\n"
        "file['images'] = numpy.zeros((3, 4, 4, 3), 'u1')\n"
        "file.flush()\n"
        "print('written', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "written\n"
        with pytest.raises(FormatError) as caught:
            arraystore.open_array(path, dataset="images")
        writer.stdin.close()
    assert str(caught.value) == (
        f"{path} is being written by a program: close it there first: what is read now may be half of it"
    )
    assert caught.value.kind is arraystore.Kind.BUSY
    assert len(arraystore.open_array(path, dataset="images")) == 3
    with h5py.File(path, "r"):
        assert len(arraystore.open_array(path, dataset="images")) == 3, "other readers do not matter"
