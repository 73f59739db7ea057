"""Slots of stores as sources: a subset, a joined store or another medium, taken over without decoding."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import arraystore
from arraystore import BadImagesError, FormatError, Manifest, ManifestError, SpecError
from arraystore.testing import assert_same_store as assert_equal
from tests.support.images import jpeg, photo
from tests.support.photo_folder import SIZE, built, photo_folder

FACTS = ("source", "height", "width", "bytes", "mtime", "hash")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photo_folder(tmp_path / "photos")


def facts_of(store: arraystore.Store, names: tuple[str, ...] = FACTS) -> dict[str, list[Any]]:
    return {name: store.samples[name].to_pylist() for name in names}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("suffixes", [(".store", ".h5"), (".h5", ".store")])
def test_a_store_is_converted_to_another_medium(
    tmp_path: Path, folder: Path, layout: Any, suffixes: tuple[str, str]
) -> None:
    one = built(folder, target=tmp_path / f"one{suffixes[0]}", layout=layout, targets={"score": np.arange(9.0)})
    for file in folder.rglob("*.*"):
        file.unlink()  # so that nothing can be decoded
    other = arraystore.build(one, tmp_path / f"two{suffixes[1]}", progress=False)
    assert np.array_equal(other.images, one.images)
    assert other.spec == one.spec
    assert facts_of(other) == facts_of(one)
    assert (other.description.root, other.categories, other.mean, other.std) == (
        one.description.root,
        one.categories,
        one.mean,
        one.std,
    )
    for name in ("labels", "score"):
        assert np.array_equal(other.targets[name], one.targets[name])
        assert other.targets[name].dtype == one.targets[name].dtype
    assert np.array_equal(other.checksums, one.checksums)
    assert arraystore.verify(tmp_path / f"two{suffixes[1]}", progress=False).ok
    with h5py.File(tmp_path / f"{'two' if suffixes[1] == '.h5' else 'one'}.h5") as file:
        assert np.array_equal(file["images"][:], one.images)


def test_a_choice_is_saved_with_its_targets_and_samples(tmp_path: Path, folder: Path) -> None:
    store = built(folder, target=tmp_path / "x.store")
    chosen = [7, 2, 2, 5]
    sub = arraystore.build(store[chosen], tmp_path / "sub.store", progress=False)
    assert np.array_equal(sub.images, store.images[chosen])
    assert sub.targets["labels"].tolist() == store.targets["labels"][chosen].tolist()
    assert sub.categories == store.categories
    assert facts_of(sub) == {name: [values[slot] for slot in chosen] for name, values in facts_of(store).items()}


def test_the_sources_of_a_converted_store_are_files_as_before(tmp_path: Path, folder: Path) -> None:
    built(folder, target=tmp_path / "x.store")
    arraystore.build(arraystore.open(tmp_path / "x.store"), tmp_path / "y.h5", progress=False)
    (folder / "ant/0.jpg").write_bytes(jpeg(photo(40, 40, seed=99)))
    assert arraystore.compare(tmp_path / "y.h5").changed == ["ant/0.jpg"]
    arraystore.update(tmp_path / "y.h5", progress=False)
    assert np.array_equal(arraystore.open(tmp_path / "y.h5").images, built(folder).images)


@pytest.mark.parametrize("name", ["x.store", "x.h5", "x.odd"])
@pytest.mark.parametrize("as_path", [str, Path])
def test_the_path_of_a_store_is_that_store(tmp_path: Path, folder: Path, name: str, as_path: Any) -> None:
    path, other = tmp_path / name, tmp_path / ("y.store" if name == "x.h5" else "y.h5")
    built(folder, target=path, color="gray", layout="NHWC", targets={"score": np.arange(9.0)})
    shutil.rmtree(folder)  # so that nothing can be decoded
    with arraystore.open(path) as store:
        wanted = arraystore.build(store, progress=False)
        small = arraystore.build(store, size=8, progress=False)
    found = arraystore.build(as_path(path), other, progress=False)
    assert_equal(found, wanted)
    assert found.spec == wanted.spec
    assert facts_of(found) == facts_of(wanted)
    found = arraystore.build(as_path(path), tmp_path / "small.store", size=8, progress=False)
    assert_equal(found, small)
    assert found.images.shape == (9, 8, 8, 1)
    forecast = arraystore.plan(as_path(path), other, progress=False)
    assert (forecast.count, forecast.spec, forecast.classes) == (9, wanted.spec, {"ant": 3, "bee": 3, "cat": 3})
    assert arraystore.plan(as_path(path), size=8, progress=False).spec == small.spec
    arraystore.build(as_path(path), path, overwrite=True, size=4, progress=False)
    assert arraystore.open(path).spec.size == (4, 4)


def test_paths_of_other_things_are_what_they_were(tmp_path: Path, folder: Path) -> None:
    """A folder beside a store, a damaged store, an HDF5 file of others, and a folder with another store.json."""
    built(folder, target=folder / "x.store")
    assert len(built(folder)) == 9
    (folder / "store.json").write_text('{"format": "mine"}')
    assert len(built(str(folder))) == 9
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(FormatError, match=r"mine\.h5"):
        arraystore.build(tmp_path / "mine.h5", size=8, progress=False)
    with pytest.raises(ManifestError, match="there is no such file or folder"):
        arraystore.build(tmp_path / "none.h5", size=8, progress=False)
    with pytest.raises(SpecError, match="size is missing"):
        arraystore.build(folder, progress=False)
    (folder / "x.store" / "images.npy").write_bytes(b"cut")
    with pytest.raises(FormatError, match=r"images\.npy"):
        arraystore.build(folder / "x.store", tmp_path / "y.store", progress=False)
    built([photo(4, 4)], target=tmp_path / "~x.store")
    assert len(arraystore.build(tmp_path / "~x.store", progress=False)) == 1


def test_stores_are_joined_into_one(tmp_path: Path, folder: Path) -> None:
    other = photo_folder(tmp_path / "more", each=2)
    one, two = built(folder, target=tmp_path / "one.store"), built(other, target=tmp_path / "two.h5")
    joined = arraystore.build(arraystore.concatenate([one, two]), tmp_path / "joined.store", progress=False)
    assert np.array_equal(joined.images, np.concatenate([one.images, two.images]))
    assert joined.targets["labels"].tolist() == [*one.targets["labels"], *two.targets["labels"]]
    assert joined.samples["source"].to_pylist()[0] == f"{folder}/ant/0.jpg"
    assert joined.samples["source"].to_pylist()[9] == f"{other}/ant/0.jpg"
    assert joined.description.root is None


def test_another_spec_resizes_the_slots_and_says_that_they_are_no_files(tmp_path: Path, folder: Path) -> None:
    store = built(folder)
    small = arraystore.build(store, tmp_path / "x.store", size=8, progress=False)
    wanted = arraystore.build(list(store.images.transpose(0, 2, 3, 1)), size=8, progress=False)
    assert np.array_equal(small.images, wanted.images)
    assert facts_of(small, ("height", "width", "hash")) == facts_of(store, ("height", "width", "hash"))
    with pytest.raises(arraystore.StoreError, match="are not files: build it again"):
        arraystore.update(tmp_path / "x.store", folder, progress=False)
    gray = arraystore.build(store, color="gray", progress=False)
    assert gray.images.shape == (9, 1, SIZE, SIZE)
    turned = arraystore.build(store, layout="NHWC", progress=False)
    assert np.array_equal(turned.images.transpose(0, 3, 1, 2), store.images)


def test_bad_slots_stay_bad_with_their_reason(folder: Path) -> None:
    (folder / "bee/1.jpg").write_bytes(b"no image")
    store = built(folder, bad="keep")
    reason = store.bad()[0].reason
    with pytest.raises(BadImagesError) as caught:
        arraystore.build(store, progress=False)
    assert [(bad.slot, bad.reason) for bad in caught.value.bad] == [(4, reason)]
    kept = arraystore.build(store, bad="keep", progress=False)
    assert [(bad.slot, bad.reason) for bad in kept.bad()] == [(4, reason)]
    assert np.array_equal(kept.images, store.images)
    dropped = arraystore.build(store, bad="drop", progress=False)
    assert np.array_equal(dropped.images, store.images[[0, 1, 2, 3, 8, 5, 6, 7]])


def test_a_damaged_slot_is_not_taken_over(tmp_path: Path, folder: Path) -> None:
    built(folder, target=tmp_path / "x.store")
    with (tmp_path / "x.store/images.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x77")
    store = arraystore.open(tmp_path / "x.store")
    damaged = "the pixels in the store that it is taken from are damaged: verify and repair that store"
    with pytest.raises(BadImagesError) as caught:
        arraystore.build(store, tmp_path / "y.store", progress=False)
    assert [(bad.slot, bad.reason) for bad in caught.value.bad] == [(8, damaged)]


def test_slots_that_are_no_images_are_refused(tmp_path: Path) -> None:
    for name, array in (("floats", np.zeros((3, 4, 4, 3), np.float32)), ("bands", np.zeros((3, 5, 4, 4), np.uint8))):
        np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(ManifestError, match="the slots are of float32, not uint8"):
        Manifest.of(arraystore.open_array(tmp_path / "floats.npy"))
    with pytest.raises(ManifestError, match=re.escape("slots of shape (5, 4, 4) are no images of 1 or 3 channels")):
        Manifest.of(arraystore.open_array(tmp_path / "bands.npy"))
    with pytest.raises(ManifestError, match="there are no slots in this choice"):
        Manifest.of(built([photo(4, 4)])[:0])


def test_arrays_that_others_made_are_slots_too(tmp_path: Path) -> None:
    pixels = np.stack([photo(6, 7, seed=slot) for slot in range(4)])
    np.save(tmp_path / "x.npy", pixels)
    slots = arraystore.open_array(tmp_path / "x.npy", labels=[1, 0, 1, 0])
    store = arraystore.build(slots, tmp_path / "x.h5", progress=False)
    assert np.array_equal(store.images, pixels)
    assert (store.targets["labels"].tolist(), store.spec.layout) == ([1, 0, 1, 0], "NHWC")
    assert store.samples["source"].to_pylist() == [f"slot {slot}" for slot in range(4)]


def test_labels_of_the_caller_replace_those_of_a_store(tmp_path: Path, folder: Path) -> None:
    store = built(folder)
    assert Manifest.of(store, labels=range(9)).targets["labels"].tolist() == list(range(9))
    assert built(store, classes=["cat", "bee", "ant"]).targets["labels"].tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0]
    with pytest.raises(ManifestError, match="root has no meaning for slots of a store: leave out root"):
        Manifest.of(store, root=tmp_path)


def test_texts_and_notes_are_kept(tmp_path: Path) -> None:
    data = jpeg(photo(9, 9))
    late = data + b"trailer"
    paths = []
    for number, content in enumerate((data, late)):
        (tmp_path / f"{number}.jpg").write_bytes(content)
        paths.append(f"{number}.jpg")
    table = tmp_path / "t.csv"
    table.write_text("path,caption\n0.jpg,one\n1.jpg,two\n")
    store = built(table, targets={"caption": "text"})
    again = arraystore.build(store[::-1], tmp_path / "x.store", progress=False)
    assert again.samples["caption"].to_pylist() == ["two", "one"]
    assert list(again.noted()) == [] if not store.noted() else [note.slot for note in again.noted()] == [0]


def test_a_resumed_conversion_goes_on(tmp_path: Path, folder: Path) -> None:
    (folder / "cat/2.png").write_bytes(b"no image")
    store = built(folder, target=tmp_path / "x.store", bad="keep")
    with pytest.raises(BadImagesError):
        arraystore.build(store, tmp_path / "y.store", progress=False)
    done: list[int] = []
    arraystore.build(store, tmp_path / "y.store", bad="keep", progress=lambda state: done.append(state.done))
    assert done[0] == 8, "the slot that has no image is asked for again"
