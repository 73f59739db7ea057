"""Several stores of one decode: each is the store that a build of it alone makes, whatever happens in between."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import images, masks
from support.faults import contents
from support.store_contract import assert_equal

import arraystore
from arraystore import BadImagesError, ImageSpec, Jpeg, Progress, SpaceError, SpecError, StoreError, StoreExistsError
from arraystore._building.several import targets as targets_module
from arraystore._building.workers import reading
from arraystore._decoding import decode as decode_module
from arraystore._decoding.notes import noticed
from arraystore._stores import publishing
from arraystore._stores.publishing import partial_of
from arraystore._stores.unfinished.build_lock import Lock
from arraystore.errors import DecodeError, Option

SMALL, LARGE = (12, 16), 30
ENCODED = ImageSpec(size=(20, 28), fit="crop", encode=Jpeg(quality=80))
TARGETS: dict[str, Any] = {"small.store": SMALL, "large.h5": LARGE, "jpegs.store": ENCODED}


def build_all(source: Any, folder: Path, sizes: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Build into a folder, by the names of the stores there."""
    folder.mkdir(exist_ok=True)
    wanted = {folder / name: size for name, size in (sizes or TARGETS).items()}
    made = arraystore.build(source, wanted, **({"progress": False, "workers": 2} | options))
    return {path.name: store for path, store in made.items()}


def build_alone(source: Any, folder: Path, sizes: dict[str, Any] | None = None, **options: Any) -> None:
    """Build the same stores, one call each."""
    folder.mkdir()
    for name, size in (sizes or TARGETS).items():
        how = {"spec": size} if isinstance(size, ImageSpec) else {"size": size}
        arraystore.build(source, folder / name, progress=False, workers=2, **how, **options).close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of every kind: turned, gray, progressive, transparent, large, and with notes."""
    folder = images.write_tree(tmp_path_factory.mktemp("several") / "photos", {"a": 5, "b": 4})
    large = images.photo(200, 260, seed=5)
    (folder / "a" / "large.jpg").write_bytes(images.jpeg(large))  # shrunk by 8, 2 and 4 while it is decoded
    (folder / "a" / "turned.jpg").write_bytes(images.jpeg(large, orientation=6))
    (folder / "b" / "gray.jpg").write_bytes(images.jpeg(images.noise(40, 50, 1)))
    (folder / "b" / "scans.jpg").write_bytes(images.progressive(large))
    (folder / "b" / "noted.jpg").write_bytes(images.jpeg(large)[:-2])
    Image.fromarray(np.dstack([large, large[..., :1]])).save(folder / "b" / "through.png")
    return folder


@pytest.fixture(scope="module")
def alone(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("alone") / "s"
    build_alone(sources, folder)
    return contents(folder)


# --- the bytes of a build alone --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"workers": 1}, {"workers": 5}, {"processes": True}])
def test_every_store_has_the_bytes_of_a_build_alone(
    sources: Path, tmp_path: Path, alone: dict[str, bytes], how: dict[str, Any]
) -> None:
    made = build_all(sources, tmp_path / "s", **how)
    assert list(made) == list(TARGETS)
    assert [store.medium for store in made.values()] == ["npy", "hdf5", "encoded"]
    assert made["jpegs.store"].spec == ENCODED
    assert made["small.store"].noted()
    assert contents(tmp_path / "s") == alone


@pytest.mark.parametrize("how", [{"workers": 2}, {"processes": True}])
def test_slots_may_differ_in_shape(sources: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    """Beside slots of pixels, in one decode; and the bytes of the sources themselves."""
    kept = ImageSpec(size=20, fit="keep", encode=Jpeg())
    targets = {"kept.store": kept, "as they are.h5": ImageSpec(encode=Jpeg(source=True)), "small.store": SMALL}
    made = build_all(sources, tmp_path / "s", targets, **how)
    assert len(np.unique(made["kept.store"].sides, axis=0)) > 1
    build_alone(sources, tmp_path / "t", targets)
    assert contents(tmp_path / "s") == contents(tmp_path / "t")
    sizes = {"a.store": 12, "b.store": 24}
    build_all(sources, tmp_path / "u", sizes, fit="keep", encode="jpeg", **how)
    build_alone(sources, tmp_path / "v", sizes, fit="keep", encode="jpeg")
    assert contents(tmp_path / "u") == contents(tmp_path / "v")


def test_options_hold_for_all_sizes(sources: Path, tmp_path: Path) -> None:
    targets = {"a.store": 20, "b.h5": SMALL}
    how: dict[str, Any] = {
        "fit": "pad",
        "color": "gray",
        "filter": "lanczos",
        "background": (9, 8, 7),
        "encode": "jpeg",
    }
    build_all(sources, tmp_path / "s", targets, **how)
    build_alone(sources, tmp_path / "t", targets, **how)
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


def test_bad_images_are_zeros_in_every_store(mixed: Path, tmp_path: Path) -> None:
    build_all(mixed, tmp_path / "s", bad="keep")
    build_alone(mixed, tmp_path / "t", bad="keep")
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


def test_bad_images_are_dropped_from_every_store(mixed: Path, tmp_path: Path) -> None:
    build_all(mixed, tmp_path / "s", bad="drop")
    build_alone(mixed, tmp_path / "t", bad="drop")
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


@pytest.mark.parametrize("kind", ["arrays", "pillow", "bytes", "once", "store"])
def test_sources_of_every_kind(sources: Path, tmp_path: Path, kind: str) -> None:
    paths = sorted(sources.rglob("*.jpg"))[:5]
    pixels = [images.photo(20 + i, 40, seed=i) for i in range(4)]

    class Once:
        def __len__(self) -> int:
            return 4

        def __iter__(self) -> Iterator[Any]:
            return iter(pixels)

    def source() -> Any:
        if kind == "pillow":
            return [Image.open(path) for path in paths]
        if kind == "store":
            return tmp_path / "source.store"
        return {"arrays": np.stack([each[:20] for each in pixels]), "bytes": [path.read_bytes() for path in paths]}.get(
            kind, Once()
        )

    arraystore.build(sources, tmp_path / "source.store", size=LARGE, progress=False).close()
    build_all(source(), tmp_path / "s")
    (tmp_path / "t").mkdir()
    for name, size in TARGETS.items():
        how = {"spec": size} if isinstance(size, ImageSpec) else {"size": size}
        arraystore.build(source(), tmp_path / "t" / name, progress=False, **how).close()
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


@given(
    st.lists(
        st.builds(
            ImageSpec,
            size=st.sampled_from([3, 9, (12, 16), 40, 90]),
            fit=st.sampled_from(["stretch", "crop", "pad"]),
            filter=st.sampled_from(["nearest", "bilinear", "lanczos"]),
            color=st.sampled_from(["rgb", "gray"]),
            layout=st.sampled_from(["NCHW", "NHWC"]),
            exact=st.booleans(),
            max_pixels=st.sampled_from([20_000, 10**6]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["photo", "turned", "small", "noted", "png", "array", "damaged", "none"]),
)
def test_a_decode_for_each_is_that_for_each_alone(specs: list[ImageSpec], kind: str) -> None:
    large = images.photo(200, 260, seed=1)
    data: Any = {
        "photo": lambda: images.jpeg(large),
        "turned": lambda: images.jpeg(large, orientation=7),
        "small": lambda: images.jpeg(images.photo(20, 33)),
        "noted": lambda: images.jpeg(large)[:-2],
        "png": lambda: images.png(images.photo(60, 50)),
        "array": lambda: large,
        "damaged": lambda: images.jpeg(large)[:900],
        "none": lambda: b"none",
    }[kind]()
    slots = [np.full(spec.slot_shape, 7, np.uint8) for spec in specs]
    found = decode_module.decode_each(data, slots, specs)
    assert noticed() is None
    for slot, spec, made in zip(slots, specs, found, strict=True):
        wanted = np.full(spec.slot_shape, 7, np.uint8)
        try:
            decoded = decode_module.decode_into(data, wanted, spec)
        except DecodeError as error:
            assert (type(made), str(made)) == (DecodeError, str(error))
        else:
            assert isinstance(made, tuple)
            assert made[1] == decoded
            np.testing.assert_array_equal(slot, wanted)


# --- each image once -------------------------------------------------------------------------------------------------


class Counts:
    """What is read and decoded from here on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[str] = []
        self.upright: list[int] = []  # of each decode, how many slots are made of it
        self.masks = 0
        read, upright = reading._read_file, decode_module.decode_upright

        def reads(path: str, *args: Any) -> Any:
            self.read.append(Path(path).name)
            return read(path, *args)

        def decodes(data: Any, header: Any, spec: Any, placements: Any, *args: Any) -> Any:
            self.upright.append(len(placements))
            return upright(data, header, spec, placements, *args)

        monkeypatch.setattr(reading, "_read_file", reads)
        monkeypatch.setattr(decode_module, "decode_upright", decodes)


def test_an_image_is_read_once_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.jpg").write_bytes(images.jpeg(images.photo(40, 50, seed=i)))
    (folder / "3.jpg").write_bytes(images.jpeg(images.photo(130, 130)))  # by 2 for 30 pixels, by 4 for 16
    counts = Counts(monkeypatch)
    build_all(folder, tmp_path / "s", {"a.store": 12, "b.store": 16, "c.store": 30})
    assert sorted(counts.read) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert sorted(counts.upright) == [1, 2, 3, 3, 3]


def test_a_mask_is_read_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from arraystore._decoding import masks as decoder

    table = masks.write(tmp_path / "m", 6)
    targets = {"a.store": SMALL, "b.h5": 20, "c.store": ImageSpec(size=24, fit="pad", encode=Jpeg())}
    build_alone(table, tmp_path / "t", targets, targets=masks.TARGETS)
    counts, decoded, numbers = Counts(monkeypatch), [], decoder.mask_numbers
    monkeypatch.setattr(decoder, "mask_numbers", lambda *args, **more: decoded.append(1) or numbers(*args, **more))
    build_all(table, tmp_path / "s", targets, targets=masks.TARGETS)
    assert contents(tmp_path / "s") == contents(tmp_path / "t")
    assert sorted(counts.read) == sorted([f"{i:02}.png" for i in range(6)] * 2)  # each image and its mask
    assert len(decoded) == 6


def test_masks_of_a_store_are_resized_where_the_size_differs(tmp_path: Path) -> None:
    table = masks.write(tmp_path / "m", 4)
    arraystore.build(table, tmp_path / "x.store", size=20, targets=masks.TARGETS, progress=False).close()
    targets = {"a.store": 20, "b.store": 10}
    build_all(tmp_path / "x.store", tmp_path / "s", targets)
    build_alone(tmp_path / "x.store", tmp_path / "t", targets)
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


def test_one_progress_for_all(sources: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    def told(progress: Progress) -> None:
        seen.append((progress.total, progress.done, progress.source_bytes))

    build_all(sources, tmp_path / "s", progress=told)
    count = len([path for path in sources.rglob("*.*") if path.is_file()])
    assert (seen[0][:2], seen[-1][:2]) == ((count, 0), (count, count))
    assert seen[-1][2] == sum(path.stat().st_size for path in sources.rglob("*.*"))


def test_what_needs_more_than_its_share_for_one_store_is_decoded_alone_for_all(tmp_path: Path) -> None:
    folder = images.write_tree(tmp_path / "p", {"a": 6})
    (folder / "a" / "img_002.jpg").write_bytes(images.jpeg(np.full((2800, 2800, 3), 9, np.uint8)))
    targets = {"a.store": 20, "b.store": ImageSpec(size=20, exact=True)}
    build_all(folder, tmp_path / "s", targets, workers=2, max_memory="100 MB")
    build_alone(folder, tmp_path / "t", targets)
    assert contents(tmp_path / "s") == contents(tmp_path / "t")
    with pytest.raises(BadImagesError, match=r"in b\.store: decoding its 2800 x 2800 pixels would take") as info:
        build_all(folder, tmp_path / "u", targets, max_memory=10_000)
    assert len(info.value.bad) == 1


# --- bad images ------------------------------------------------------------------------------------------------------


def differing(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Images of which one is bad in one store alone, because it has too many pixels, and one in both."""
    folder = images.write_tree(tmp_path / "p", {"a": 8})
    files = sorted(folder.rglob("*.*"))
    files[1].write_bytes(images.jpeg(images.photo(120, 130)))
    files[4].write_bytes(b"none")
    return folder, {"a.store": 12, "b.store": ImageSpec(size=20, max_pixels=120 * 129)}


def test_what_is_bad_in_one_store_is_dropped_from_all(tmp_path: Path) -> None:
    folder, targets = differing(tmp_path)
    made = build_all(folder, tmp_path / "s", targets, bad="drop")
    rows = [store.samples["source"].to_pylist() for store in made.values()]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 6
    dropped = {name: [(each.slot, each.reason) for each in store.dropped()] for name, store in made.items()}
    pixels = "its header says 130 x 120 pixels, more than max_pixels = 15,480"
    assert [why for _, why in dropped["b.store"]] == [pixels, dropped["a.store"][1][1]]
    assert dropped["a.store"][0] == (1, f"in b.store: {pixels}")
    for name in targets:
        assert arraystore.verify(tmp_path / "s" / name, progress=False).ok


def test_each_store_keeps_its_own_bad_images_and_an_error_names_the_store(tmp_path: Path) -> None:
    folder, targets = differing(tmp_path)
    with pytest.raises(BadImagesError) as info:
        build_all(folder, tmp_path / "s", targets)
    assert [each.slot for each in info.value.bad] == [1, 4]
    assert info.value.bad[0].reason.startswith("in b.store: its header says 130 x 120 pixels")
    assert info.value.bad[1].reason.startswith("not an image")
    assert not (tmp_path / "s" / "a.store").exists()
    made = build_all(folder, tmp_path / "s", targets, bad="keep")  # goes on there
    assert [[each.slot for each in store.bad()] for store in made.values()] == [[4], [1, 4]]
    build_alone(folder, tmp_path / "t", targets, bad="keep")
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


def test_max_bad_counts_images_not_stores(mixed: Path, tmp_path: Path) -> None:
    build_all(mixed, tmp_path / "s", bad="keep", max_bad=4)
    with pytest.raises(BadImagesError, match=r"4 of the first \d+ images") as info:
        build_all(mixed, tmp_path / "t", bad="keep", max_bad=3, workers=1)
    assert info.value.tried is not None


def test_a_store_without_any_image_is_an_error(tmp_path: Path) -> None:
    folder = images.write_tree(tmp_path / "p", {"a": 3})
    with pytest.raises(BadImagesError, match="3 of 3 images could not be stored"):
        build_all(folder, tmp_path / "s", {"a.store": 12, "b.store": ImageSpec(size=20, max_pixels=1)}, bad="keep")


# --- going on --------------------------------------------------------------------------------------------------------


class StopError(Exception):
    pass


def test_a_slot_is_filled_again_only_in_the_store_that_lacks_it(
    sources: Path, tmp_path: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> None:
        if progress.done >= 6:
            raise StopError

    (tmp_path / "s").mkdir()
    with pytest.raises(StopError):  # a build of one of them alone has done a part of it
        arraystore.build(sources, tmp_path / "s" / "small.store", size=SMALL, workers=1, progress=stop)
    counts = Counts(monkeypatch)
    first = sorted(path.name for path in sources.rglob("*.*") if path.is_file())
    build_all(sources, tmp_path / "s", workers=1)
    assert contents(tmp_path / "s") == alone
    assert len(counts.read) == len(first)  # all of them for the other stores
    with monkeypatch.context() as patch:
        patch.setattr("arraystore._building.several.build.store_identity", _stop)  # all stores are finished
        with pytest.raises(StopError):
            build_all(sources, tmp_path / "t")
    counts.read.clear()
    counts.upright.clear()
    rows = _withdraw(partial_of(tmp_path / "t" / "large.h5"), [3, 4])
    build_all(sources, tmp_path / "t")
    assert contents(tmp_path / "t") == alone
    assert len(counts.read) == len(rows) == 2
    assert counts.upright == [1, 1]


def _stop(*_args: Any) -> Any:
    raise StopError


def _withdraw(folder: Path, slots: list[int]) -> list[int]:
    """End the claims on slots of an unfinished build, by their checks."""
    from arraystore._format.ledger import ledger_dtype

    with (folder / "ledger.npy").open("r+b") as file:
        for slot in slots:
            file.seek(4096 + slot * ledger_dtype(ImageSpec(size=LARGE)).itemsize)
            file.write(bytes(8))
    return slots


def build_cut(monkeypatch: pytest.MonkeyPatch, *args: Any, **options: Any) -> None:
    """Build in a call that ends after it has given one store its name."""
    original, given = publishing.publish, []

    def publish(*args: Any) -> None:
        if given:
            raise StopError
        given.append(1)
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish", publish)
        with pytest.raises(StopError):
            build_all(*args, **options)


def test_a_call_that_ends_between_two_names_is_finished_by_the_same_call(
    sources: Path, tmp_path: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cut(monkeypatch, sources, tmp_path / "s")
    assert (tmp_path / "s" / "small.store").exists()
    assert not (tmp_path / "s" / "large.h5").exists()
    before = (tmp_path / "s" / "small.store").stat().st_ino
    counts = Counts(monkeypatch)
    with pytest.raises(StoreExistsError, match=r"small\.store exists already"):
        build_all(sources, tmp_path / "s", fresh=True)
    with pytest.raises(StoreExistsError, match=r"small\.store exists already"):  # another size of that store
        build_all(sources, tmp_path / "s", TARGETS | {"small.store": 13})
    made = build_all(sources, tmp_path / "s")
    assert list(made) == list(TARGETS)
    assert contents(tmp_path / "s") == alone
    assert (tmp_path / "s" / "small.store").stat().st_ino == before
    assert counts.read == []
    with pytest.raises(StoreExistsError):  # all is done and tidied
        build_all(sources, tmp_path / "s")


def test_a_store_of_another_call_is_not_taken_for_its_own(sources: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    arraystore.build(sources, tmp_path / "s" / "small.store", size=SMALL, progress=False).close()
    with pytest.raises(StoreExistsError, match=r"small\.store exists already"):
        build_all(sources, tmp_path / "s")
    assert names_in(tmp_path / "s") == ["small.store"]


def test_overwriting_goes_on_too_unless_sources_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = images.write_tree(tmp_path / "p", {"a": 5})
    for name in ("s", "t"):
        build_all(folder, tmp_path / name)
    for name in ("s", "t"):
        build_cut(monkeypatch, folder, tmp_path / name, overwrite=True)
    before = {name: (tmp_path / name / "small.store").stat().st_ino for name in ("s", "t")}
    build_all(folder, tmp_path / "s", overwrite=True)
    assert (tmp_path / "s" / "small.store").stat().st_ino == before["s"]
    path = sorted(folder.rglob("*.*"))[2]
    path.write_bytes(images.jpeg(images.photo(30, 31, seed=99)))
    build_all(folder, tmp_path / "t", overwrite=True)
    build_alone(folder, tmp_path / "u")
    assert contents(tmp_path / "t") == contents(tmp_path / "u")


def test_finished_work_that_waits_for_its_name_is_not_left_behind(
    sources: Path, tmp_path: Path, alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stores that are there already are the same, byte for byte, so they have the identities that were noted."""
    build_all(sources, tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish", _stop)
        with pytest.raises(StopError):
            build_all(sources, tmp_path / "s", overwrite=True)
    build_all(sources, tmp_path / "s", overwrite=True)
    assert contents(tmp_path / "s") == alone


def test_rows_never_differ_between_stores_of_a_cut_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, targets = differing(tmp_path)

    def cut(name: str) -> Path:
        build_cut(monkeypatch, folder, tmp_path / name, targets, bad="drop")
        return tmp_path / name

    same, worse, mended, keeps = map(cut, "abcd")
    made = build_all(folder, same, targets, bad="drop")
    assert len({tuple(store.samples["source"].to_pylist()) for store in made.values()}) == 1
    with pytest.raises(StoreError, match=r"a\.store was finished by an earlier call, and .*b\.store would have other"):
        build_all(folder, keeps, targets, bad="keep")
    files = sorted(folder.rglob("*.*"))
    bad = files[4].read_bytes()
    files[4].write_bytes(images.jpeg(images.photo(30, 31)))
    made = build_all(folder, mended, targets, bad="drop")  # it stays out of both
    assert [len(store) for store in made.values()] == [6, 6]
    files[4].write_bytes(bad)
    files[6].write_bytes(b"none")
    with pytest.raises(StoreError) as info:
        build_all(folder, worse, targets, bad="drop")
    assert info.value.options == (Option("overwrite"),)
    made = build_all(folder, worse, targets, bad="drop", overwrite=True)
    assert [len(store) for store in made.values()] == [5, 5]


def test_each_store_is_kept_up_alone(tmp_path: Path) -> None:
    folder = images.write_tree(tmp_path / "p", {"a": 5})
    (folder / "a" / "large.jpg").write_bytes(images.jpeg(images.photo(200, 260)))
    build_all(folder, tmp_path / "s")
    with (tmp_path / "s" / "small.store" / "images.npy").open("r+b") as file:
        file.seek(4096 + 5 * 3 * SMALL[0] * SMALL[1])
        file.write(b"damage")
    arraystore.repair(tmp_path / "s" / "small.store", progress=False).close()
    (folder / "a" / "new.jpg").write_bytes(images.jpeg(images.photo(120, 160, seed=4)))
    for name in TARGETS:
        arraystore.update(tmp_path / "s" / name, progress=False).close()
    build_alone(folder, tmp_path / "t")
    for name in TARGETS:
        assert arraystore.verify(tmp_path / "s" / name, progress=False).ok
        with arraystore.open(tmp_path / "s" / name) as found, arraystore.open(tmp_path / "t" / name) as wanted:
            assert_equal(found, wanted)


# --- targets, room and locks -----------------------------------------------------------------------------------------


def test_targets_that_cannot_be(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    a = tmp_path / "a.store"
    for wanted, message in (
        ({}, "there is no target: pass a path and a size for each store"),
        ({a: 8, str(a): 9}, "comes twice: give each size a target of its own"),
        ({a: 8, tmp_path / "link" / "a.store": 9}, "are one path: give each size a target of its own"),
        ({a: 8, a / "b.store": 9}, r"b\.store lies where .*a\.store is made: give it a path outside of that"),
        ({tmp_path / "a.store.partial": 8, a: 9}, r"a\.store\.partial lies where .*a\.store is made"),
        ({a: "8"}, r"the size of .*a\.store must be a whole number of pixels, or \(height, width\), not '8'"),
        ({a: None}, "must be a whole number of pixels"),
        ({None: 8}, "a target of several must be a path, not None: one call builds into RAM alone"),
        ({tmp_path / "a.npz": 8}, r"the target .*a\.npz cannot be a \.npz"),
    ):
        with pytest.raises(SpecError, match=message):
            arraystore.build(photos, wanted, progress=False)  # type: ignore[call-overload]
    for options in ({"size": 8}, {"spec": ENCODED}):
        with pytest.raises(SpecError, match=f"the targets say the size of each store: leave out {next(iter(options))}"):
            arraystore.build(photos, {a: 8}, progress=False, **options)
    assert names_in(tmp_path) == ["link"]


def test_links_as_targets(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    build_all(photos, folder, {"real.store": 9, "b.store": 8})
    for name, leads_to in (("link.store", folder / "real.store"), ("nowhere.store", tmp_path / "none" / "x.store")):
        (folder / name).symlink_to(leads_to)
        with pytest.raises(StoreExistsError, match="exists already"):
            build_all(photos, folder, {name: 12, "c.store": 8})
    build_all(photos, folder, {"link.store": 12, "c.store": 8}, overwrite=True)  # the link stays
    assert (folder / "link.store").is_symlink()
    assert arraystore.open(folder / "real.store").spec.size == (12, 12)
    assert names_in(folder) == ["b.store", "c.store", "link.store", "nowhere.store", "real.store"]
    assert not (tmp_path / "none").exists()
    with pytest.raises(SpecError, match="are one path"):
        build_all(photos, folder, {"link.store": 12, "real.store": 8}, overwrite=True)


def test_room_is_looked_for_together_before_anything_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = {"a.store": 64, "b.store": 64}
    needed = [store.needed_bytes for store in _wanted(photos, tmp_path, targets)]
    monkeypatch.setattr("arraystore._common.limits.free_disk_bytes", lambda _folder: sum(needed) - 1)
    with pytest.raises(SpaceError, match=r"the 2 stores .*a\.store, .*b\.store need 0\.00 GB") as info:
        build_all(photos, tmp_path / "s", targets)
    assert info.value.needed_bytes == sum(needed)
    assert names_in(tmp_path / "s") == []
    monkeypatch.setattr("arraystore._common.limits.free_disk_bytes", lambda _folder: sum(needed))
    build_all(photos, tmp_path / "s", targets)


def _wanted(source: Path, folder: Path, targets: dict[str, int]) -> list[targets_module.Wanted]:
    specs = [ImageSpec(size=size) for size in targets.values()]
    return targets_module.wanted_stores(
        {name: folder / name for name in targets}, specs, arraystore.Manifest.of(source)
    )


def test_a_target_that_is_being_built_stops_the_call_and_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    (partial := folder / "large.h5.partial").mkdir(parents=True)
    lock = Lock(partial / "lock", folder / "large.h5")
    with pytest.raises(StoreError, match=r"another build into .*large\.h5 is running"):
        build_all(photos, folder)
    assert names_in(folder) == ["large.h5.partial"]
    lock.release()
    build_all(photos, folder)
    assert names_in(folder) == sorted(TARGETS)


def test_an_unfinished_build_of_something_else_stops_the_call_and_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()

    def stop(progress: Progress) -> None:
        if progress.done:
            raise StopError

    with pytest.raises(StopError):
        arraystore.build(photos, folder / "large.h5", size=9, workers=1, progress=stop)
    with pytest.raises(StoreError, match=r"large\.h5\.partial holds an unfinished build of something else: size was"):
        build_all(photos, folder)
    assert names_in(folder) == ["large.h5.partial"]
    build_all(photos, folder, fresh=True)
    assert names_in(folder) == sorted(TARGETS)


def test_a_crash_in_a_worker_is_bad_in_every_store(tmp_path: Path, warm: None) -> None:
    del warm
    folder = images.write_tree(tmp_path / "p", {"a": 5})
    sorted(folder.rglob("*.*"))[2].write_bytes(b"#crash")
    made = build_all(folder, tmp_path / "s", bad="drop", processes=True, decoders={b"#crash": _crash})
    assert [[each.slot for each in store.dropped()] for store in made.values()] == [[2]] * 3
    assert {each.reason for store in made.values() for each in store.dropped()} == {
        "the worker process that decoded it died twice (killed by SIGKILL, as when memory runs out)"
    }


def test_a_full_volume_under_a_mapping_is_told_as_that(tmp_path: Path, warm: None) -> None:
    """A worker is killed by SIGBUS if a volume has no room for what it writes through a mapping."""
    del warm
    folder = images.write_tree(tmp_path / "p", {"a": 2})
    sorted(folder.rglob("*.*"))[1].write_bytes(b"#full")
    with pytest.raises(StoreError, match=r"the volume of .*small\.store\.partial/images\.npy or .*images\.h5 failed"):
        build_all(folder, tmp_path / "s", processes=True, decoders={b"#full": _no_room})


def _no_room(_data: bytes) -> Any:
    os.kill(os.getpid(), signal.SIGBUS)


def _crash(_data: bytes) -> Any:
    os.kill(os.getpid(), 9)


def test_the_decoders_of_the_caller_are_asked_once(tmp_path: Path) -> None:
    folder = images.write_tree(tmp_path / "p", {"a": 3})
    sorted(folder.rglob("*.*"))[1].write_bytes(b"#mine")
    asked: list[bytes] = []

    def decode(data: bytes) -> Any:
        asked.append(data)
        return images.photo(50, 40)

    build_all(folder, tmp_path / "s", decoders={b"#mine": decode})
    assert asked == [b"#mine"]
    build_alone(folder, tmp_path / "t", decoders={b"#mine": decode})
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


def test_one_target_may_be_a_mapping_too(sources: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    target = str(tmp_path / "small.store")
    made = arraystore.build(sources, {target: SMALL}, progress=False)
    assert list(made) == [target]
    made[target].close()
    assert contents(tmp_path) == {name: data for name, data in alone.items() if name.startswith("small.store")}
    shutil.rmtree(target)
