"""Tests of our own media beside the public ones of `arraystore.testing`: exact messages, and faults that need mocks."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

import arraystore
from arraystore import BadImage, BadImagesError, StoreError, StoreExistsError
from arraystore._decoding import decode as decode_module
from arraystore._format.ledger import ledger_dtype
from arraystore._stores.media import MEDIA, medium_at
from arraystore._stores.publishing import partial_of
from arraystore.testing import DiskContract as PublicDiskContract
from arraystore.testing import StoreContract as PublicStoreContract
from arraystore.testing import assert_same_store as assert_equal
from arraystore.testing import build as build_small
from support import images

__all__ = [
    "DiskContract",
    "StoreContract",
    "assert_equal",
    "build",
    "count_decodes",
    "decoder_of",
    "file_of_slots",
    "message_of",
    "plain",
]

PIXELS = {medium.draft_file: medium.head_bytes for medium in MEDIA}  # where the slots of each medium start
BAD = [2, 3, 7, 11]  # of the fixture `mixed`
REASONS = {
    2: "not an image in a known format (starts with b'this is no image')",
    3: "the file is empty",
    11: "its header says 60000 x 60000 pixels, more than max_pixels = 178,000,000",
}


NAMES = ("x.store", "x.h5", "x.jpegs", "x.jpegs.h5")
CANVAS = 400
DEFAULTS: dict[str, Any] = {}  # options of every build of a test; a fixture sets them


def build(source: Any, target: Path | None = None, **options: Any) -> arraystore.Store:
    """Build a small store. One with .jpegs in its name keeps JPEGs; one with .kept, of different shapes."""
    return build_small(source, target, **((options_of(target) if target else {}) | DEFAULTS | options))


def options_of(target: str | Path) -> dict[str, Any]:
    """Return the options of a store of this name."""
    if ".kept" in Path(target).suffixes:
        return {"encode": "jpeg", "fit": "keep", "size": 16}
    return {"encode": "jpeg"} if ".jpegs" in Path(target).suffixes else {}


def decoder_of(target: Path) -> str:
    """The function that decodes the images of a store of this name."""
    return "decode_kept" if ".kept" in target.suffixes else "decode_into"


def file_of_slots(target: Path) -> Path:
    """The file of a store on disk that holds its slots."""
    medium = medium_at(target)
    assert medium is not None
    return medium.pixel_file(target)


def plain(array: Any) -> np.ndarray[Any, Any]:
    """A copy; of images of different shapes, each in the corner of a canvas."""
    if None not in array.shape:
        return np.array(array)
    canvas = np.zeros((len(array), 3, CANVAS, CANVAS), np.uint8)
    for image, room in zip(array, canvas, strict=True):
        room[:, : image.shape[1], : image.shape[2]] = image
    return canvas


def message_of(kind: type[Exception], call: Callable[..., object], *args: Any, **options: Any) -> str:
    """The message of the error that a call raises; empty if it raises none."""
    try:
        call(*args, **options)
    except kind as error:
        return str(error)
    return ""


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by one item for each image that is decoded from here on."""
    decoded: list[int] = []
    for name in ("decode_into", "decode_kept"):
        original = getattr(decode_module, name)

        def counting(*args: Any, original: Callable[..., Any] = original, **limits: Any) -> Any:
            decoded.append(1)
            return original(*args, **limits)

        monkeypatch.setattr(decode_module, name, counting)
    return decoded


class StoreContract(PublicStoreContract):
    """Tests of our own media, in RAM too."""

    # --- what lies beside the pixels ---------------------------------------------------------------------------------

    def test_classes_and_files_with_names_that_are_not_ascii(self, photos: Path, tmp_path: Path) -> None:
        store = self.check(photos, tmp_path)
        assert store.classes == ("ash", "größe 日本", "oak")
        assert store.labels is not None
        np.testing.assert_array_equal(store.labels, [0] * 8 + [1] * 5 + [2] * 6)
        assert store.samples["source"][9].as_py() == "größe 日本/img_001.jpg"
        assert store.samples["label"][9].as_py() == "größe 日本"
        assert "ash/img_002 ü.png" in store.samples["source"].to_pylist()

    def test_samples_describe_each_source(self, photos: Path, tmp_path: Path) -> None:
        samples = self.check(photos, tmp_path).samples
        files = [photos / name for name in samples["source"].to_pylist()]
        assert files == sorted(photos.rglob("*.*"))
        assert list(zip(samples["height"].to_pylist(), samples["width"].to_pylist(), strict=True)) == [
            images.SIZES[i % len(images.SIZES)] for i in range(19)
        ]
        assert samples["bytes"].to_pylist() == [file.stat().st_size for file in files]
        mtimes = np.array(samples["mtime"]).astype(np.int64).tolist()
        assert mtimes == [file.stat().st_mtime_ns // 1000 for file in files]
        assert samples["reason"].to_pylist() == [None] * 19

    def test_texts_that_are_no_categories_stand_in_the_samples(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("arraystore._sources.targets.given.CATEGORY_LIMIT", 2)
        captions = ["ein Baum", "日本", "", "line\nbreak"]
        source = [images.noise(4, 4, seed=i) for i in range(4)]
        # A text with the name of one of the samples' own columns must take nobody's place.
        store = self.check(source, tmp_path, targets={"caption": captions, "source": captions})
        assert store.samples["caption"].to_pylist() == captions
        assert store.samples["source"].to_pylist() == [f"array {i}" for i in range(4)]
        assert store.targets == {}

    def test_mean_and_std_leave_failed_slots_out(self, mixed: Path, tmp_path: Path) -> None:
        store = self.build(mixed, self.target(tmp_path), bad="keep")
        good = plain(store.images)[plain(store.status) == 1].astype(np.float64)
        np.testing.assert_allclose(store.mean, good.mean((0, 2, 3)), rtol=1e-13)
        np.testing.assert_allclose(store.std, good.std((0, 2, 3)), rtol=1e-11)

    def test_checksums_are_those_of_the_slots(self, mixed: Path, tmp_path: Path) -> None:
        for bad in ("keep", "drop"):
            store = self.build(mixed, self.target(tmp_path), bad=bad, overwrite=True)
            expected = [xxhash.xxh3_64_intdigest(np.ascontiguousarray(slot)) for slot in store.images]
            assert plain(store.checksums).tolist() == expected

    # --- bad images --------------------------------------------------------------------------------------------------

    def test_bad_images_are_kept_as_zeros(self, mixed: Path, tmp_path: Path) -> None:
        store = self.check(mixed, tmp_path, bad="keep")
        status = plain(store.status)
        assert np.flatnonzero(status == 2).tolist() == BAD
        assert set(status.tolist()) == {1, 2}
        assert not store.images[BAD].any()
        assert store.images[status == 1].any(axis=(1, 2, 3)).all()
        assert store.description.failed == 4
        reasons = store.samples["reason"].to_pylist()
        assert [slot for slot, reason in enumerate(reasons) if reason is not None] == BAD
        assert {slot: reasons[slot] for slot in REASONS} == REASONS
        assert reasons[7].startswith("the JPEG ends early or pixels are missing (")
        assert store.bad() == [BadImage(slot, store.samples["source"][slot].as_py(), reasons[slot]) for slot in BAD]
        assert [store.samples["height"][slot].as_py() for slot in BAD] == [0] * 4
        assert store.dropped() == []

    def test_bad_images_are_dropped_by_moving_the_last_rows(self, mixed: Path, tmp_path: Path) -> None:
        vectors = np.arange(24, dtype=np.float32).reshape(12, 2)
        kept = self.build(mixed, bad="keep", targets={"vector": vectors})
        store = self.check(mixed, tmp_path, bad="drop", targets={"vector": vectors})
        rows = [0, 1, 10, 9, 4, 5, 6, 8]  # the last good ones fill the holes, all others stay
        np.testing.assert_array_equal(plain(store.images), kept.images[rows])
        np.testing.assert_array_equal(plain(store.status), [1] * 8)
        np.testing.assert_array_equal(plain(store.targets["vector"]), vectors[rows])
        np.testing.assert_array_equal(plain(store.labels), kept.targets["labels"][rows])
        for column in ("source", "label", "height", "width", "bytes", "mtime", "reason"):
            assert store.samples[column].to_pylist() == kept.samples[column].take(rows).to_pylist()
        assert store.dropped() == kept.bad()
        assert (store.description.failed, store.bad()) == (0, [])
        assert (store.mean, store.std) == (kept.mean, kept.std)

    @pytest.mark.parametrize(
        ("count", "size", "bad"),
        [(5, (2, 3), {1, 3}), (31, (2, 3), {0, 1, 2, 3}), (60, 1, set(range(40))), (200, 1, set(range(1, 200, 2)))],
    )
    def test_dropping_from_a_tiny_store_equals_ram(self, tmp_path: Path, count: int, size: Any, bad: set[int]) -> None:
        source: list[Any] = [images.noise(4, 4, seed=i) for i in range(count)]
        for slot in bad:
            source[slot] = source[slot].astype(np.float32)
        store = self.check(source, tmp_path, size=size, bad="drop")
        assert len(store) == count - len(bad)

    def test_nothing_moves_where_the_bad_ones_are_last(self, tmp_path: Path) -> None:
        source: list[Any] = [images.noise(4, 4, seed=i) for i in range(5)]
        store = self.check([*source[:4], source[4].astype(float)], tmp_path, bad="drop")
        assert store.samples["source"].to_pylist() == [f"array {i}" for i in range(4)]
        assert [bad.slot for bad in store.dropped()] == [4]

    def test_bad_images_raise_an_error_that_lists_them(self, mixed: Path, tmp_path: Path) -> None:
        with pytest.raises(BadImagesError) as caught:
            self.build(mixed, self.target(tmp_path))
        error = caught.value
        names = [str(path.relative_to(mixed)) for path in sorted(mixed.rglob("*.*"))]
        assert [bad.slot for bad in error.bad] == BAD
        assert [bad.source for bad in error.bad] == [names[slot] for slot in BAD]
        assert error.total == 12
        assert (error.slot, error.source, error.reason) == (2, names[2], REASONS[2])
        kept = "" if self.medium == "ram" else "; the good images are kept"
        assert str(error).splitlines() == [
            (
                "4 of 12 images could not be stored: bad='keep' stores them as zeros with status 2, bad='drop' leaves "
                f"them out, or mend the files and run it again{kept}"
            ),
            *(f"  slot {bad.slot}  {bad.source}: {bad.reason}" for bad in error.bad),
        ]
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.bad, again.total) == (type(error), str(error), error.bad, error.total)

    def test_many_bad_images_are_cut_short_in_the_message_alone(self, tmp_path: Path) -> None:
        source = [images.noise(4, 4)] + [np.zeros((4, 4, 3), np.float32)] * 13
        with pytest.raises(BadImagesError) as caught:
            self.build(source, self.target(tmp_path))
        assert len(caught.value.bad) == 13
        assert len(str(caught.value).splitlines()) == 1 + 10 + 1
        assert str(caught.value).endswith("\n  and 3 more")

    @pytest.mark.parametrize("bad", ["raise", "keep", "drop"])
    def test_nothing_but_bad_images_is_an_error_whatever_was_asked(self, tmp_path: Path, bad: str) -> None:
        with pytest.raises(BadImagesError, match=r"^2 of 2 images could not be stored: is this the right source\?\n"):
            self.build([b"x", b"y"], self.target(tmp_path), bad=bad)

    # --- reading -----------------------------------------------------------------------------------------------------

    def test_reading_is_indexing_the_arrays_of_ram(self, mixed: Path, tmp_path: Path) -> None:
        """By take, by choices of choices and by loaders, with the targets, from the store and opened again."""
        options = {"bad": "keep", "targets": {"vector": np.asfortranarray(np.arange(24.0).reshape(12, 2))}}
        oracle = self.build(mixed, **options)
        store = self.build(mixed, self.target(tmp_path), **options)
        random = np.random.default_rng(0)
        for opened in (store, self.reopened(store), pickle.loads(pickle.dumps(store))):
            slots = opened[:]
            assert (slots.dtype, slots.slot_shape, slots.layout) == (np.uint8, (3, 16, 24), "NCHW")
            np.testing.assert_array_equal(slots.unreadable(), BAD)
            rows = np.arange(12)
            for chosen in (None, slice(None, None, -1), random.integers(0, 12, 30), random.random(30) < 0.7):
                if chosen is not None:
                    slots, rows = slots[chosen], rows[chosen]
                at = random.integers(0, len(rows), 9)
                np.testing.assert_array_equal(slots.take(at), oracle.images[rows[at]])
                for name, values in oracle.targets.items():
                    np.testing.assert_array_equal(slots.take(at, name), values[rows[at]])
                    np.testing.assert_array_equal(slots.target(name), values[rows])
                readable = rows[~np.isin(rows, BAD)]
                for cache in (None, "10 kB"):
                    loader = slots.loader(5, shuffle=False, targets=["labels", "vector"], cache=cache, workers=2)
                    batches = list(loader)
                    assert [len(batch["images"]) for batch in batches[:-1]] == [5] * (len(batches) - 1)
                    for name, values in {"images": oracle.images, **oracle.targets}.items():
                        read = np.concatenate([batch[name] for batch in batches])
                        assert read.dtype == values.dtype
                        np.testing.assert_array_equal(read, values[readable])

    # --- opening and closing -----------------------------------------------------------------------------------------

    def test_a_closed_store_lets_go_and_its_views_stay_valid(self, photos: Path, tmp_path: Path) -> None:
        store = self.reopened(self.build(photos, self.target(tmp_path)))
        view, copy = store.images[3], plain(store.images[3])
        with store as entered:
            assert entered is store
        store.close()
        with pytest.raises(StoreError, match=r"^the store was closed: open it again to read it$"):
            _ = store.images
        np.testing.assert_array_equal(view, copy)

    def test_the_store_says_what_it_is(self, photos: Path, tmp_path: Path) -> None:
        store = self.build(photos, self.target(tmp_path))
        place = "" if store.path is None else f" at {str(store.path)!r}"
        assert repr(store) == f"<arraystore.Store 19 x 3 x 16 x 24 uint8 NCHW, {self.medium}{place}>"
        assert store.path == self.target(tmp_path)


class DiskContract(StoreContract, PublicDiskContract):
    """Tests of our own media with files."""

    def listed(self, folder: Path) -> Sequence[str]:
        return sorted(path.name for path in folder.iterdir())

    def test_an_existing_target_is_refused_before_anything_is_read(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = self.target(tmp_path)
        before = self.build(photos, target)
        decoded = count_decodes(monkeypatch)
        with pytest.raises(StoreExistsError) as caught:
            self.build(photos, target)
        assert str(caught.value) == (
            f"{target} exists already: choose another name, remove it, or use overwrite=True to replace it "
            "when the new store is finished"
        )
        assert decoded == []
        assert_equal(before, arraystore.open(target))
        assert self.listed(tmp_path) == [target.name]

    def test_overwrite_that_fails_leaves_the_old_store(self, photos: Path, mixed: Path, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        oracle = self.build(photos)
        self.build(photos, target)
        with pytest.raises(BadImagesError):
            self.build(mixed, target, overwrite=True)
        assert_equal(oracle, arraystore.open(target))

    def test_missing_parents_are_made(self, photos: Path, tmp_path: Path) -> None:
        target = self.target(tmp_path / "not there" / "yet")
        with self.build(photos, target) as store:
            assert len(store) == 19

    @pytest.mark.parametrize("bad", ["keep", "drop"])
    def test_after_an_error_the_same_call_decodes_nothing_again(
        self, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str
    ) -> None:
        oracle = self.build(mixed, bad=bad)
        target = self.target(tmp_path)
        decoded = count_decodes(monkeypatch)
        with pytest.raises(BadImagesError):
            self.build(mixed, target)
        assert len(decoded) == 12
        with pytest.raises(BadImagesError) as caught:
            self.build(mixed, target)
        assert [bad.slot for bad in caught.value.bad] == BAD
        store = self.build(mixed, target, bad=bad)
        assert len(decoded) == 12
        assert_equal(oracle, store)
        assert_equal(oracle, arraystore.open(target))
        assert not partial_of(target).exists()

    def test_mended_files_complete_the_store(self, mixed: Path, tmp_path: Path) -> None:
        with pytest.raises(BadImagesError) as caught:
            self.build(mixed, self.target(tmp_path))
        for bad in caught.value.bad:
            (mixed / bad.source).write_bytes(images.jpeg(images.photo(30, 40, seed=bad.slot)))
        store = self.build(mixed, self.target(tmp_path))
        assert_equal(self.build(mixed), store)
        assert plain(store.status).tolist() == [1] * 12

    def test_only_sources_that_changed_are_decoded_again(
        self, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target, source = self.target(tmp_path), sorted(mixed.rglob("*.*"))
        with pytest.raises(BadImagesError):
            self.build(source, target)
        source[0].write_bytes(images.jpeg(images.photo(41, 20, seed=99)))
        os.utime(source[1], (1, 1))  # the same bytes at another time
        source[3].write_bytes(source[1].read_bytes())  # a bad one, mended
        source[4].unlink()
        decoded = count_decodes(monkeypatch)
        with pytest.raises(BadImagesError) as caught:
            self.build(source, target)
        assert [bad.slot for bad in caught.value.bad] == [2, 4, 7, 11]
        assert len(decoded) == 3  # what is not there is not decoded
        assert_equal(self.build(source, bad="keep"), self.build(source, target, bad="keep"))

    def test_what_failed_is_tried_again_with_other_decoders(
        self, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(BadImagesError):
            self.build(mixed, self.target(tmp_path))
        monkeypatch.setattr("arraystore._building.build.__version__", "99")
        decoded = count_decodes(monkeypatch)
        self.build(mixed, self.target(tmp_path), bad="keep")
        assert len(decoded) == len(BAD)

    def test_a_ledger_without_its_pixels_claims_nothing(
        self, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = self.target(tmp_path)
        with pytest.raises(BadImagesError):
            self.build(mixed, target)
        next(file for file in partial_of(target).iterdir() if file.name in PIXELS).unlink()
        decoded = count_decodes(monkeypatch)
        assert_equal(self.build(mixed, bad="keep"), self.build(mixed, target, bad="keep"))
        assert len(decoded) == 24

    def test_a_slot_whose_source_went_bad_is_zeros(self, mixed: Path, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        source = sorted(mixed.rglob("*.*"))
        with pytest.raises(BadImagesError):
            self.build(source, target)
        source[10].unlink()
        store = self.build(source, target, bad="keep")
        assert [bad.slot for bad in store.bad()] == [*BAD[:3], 10, 11]
        assert not store.images[10].any()
        assert_equal(store, self.build(source, bad="keep"))

    def test_an_unfinished_store_shows_what_is_claimed(self, mixed: Path, tmp_path: Path) -> None:
        target, oracle = self.target(tmp_path), self.build(mixed, bad="keep")
        with pytest.raises(BadImagesError):
            self.build(mixed, target)
        partial = partial_of(target)
        before = {file.name: file.read_bytes() for file in partial.iterdir()}
        with arraystore.open(target, partial=True) as store:
            assert (store.medium, store.spec, len(store)) == (self.medium, oracle.spec, 12)
            np.testing.assert_array_equal(plain(store.images), plain(oracle.images))
            assert store.status.tolist() == oracle.status.tolist()
            np.testing.assert_array_equal(store.checksums, oracle.checksums)
            with pytest.raises(StoreError, match=r"^a store under construction has no samples yet: they are written"):
                _ = store.samples
        assert before == {file.name: file.read_bytes() for file in partial.iterdir()}
        with (partial / "ledger.npy").open("r+b") as ledger:
            ledger.seek(4096 + ledger_dtype(oracle.spec).itemsize + 9)
            ledger.write(b"\xff")
        store = arraystore.open(target, partial=True)
        assert store.status.tolist() == [1, 0, *oracle.status[2:]]
        self.build(mixed, target, bad="keep")
        assert_equal(arraystore.open(target, partial=True), oracle)  # it is published: there is nothing else to open

    def test_a_kill_after_the_rename_is_finished_by_the_same_call(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever step of tidying up is the last before the kill, and whether or not a store was replaced."""
        target, oracle = self.target(tmp_path), self.build(photos)
        for overwrite in (False, True):
            for step in range(12):
                with monkeypatch.context() as patch:
                    left = [step]

                    def unlink(
                        path: Path, *, missing_ok: bool = False, left: list[int] = left, original: Any = Path.unlink
                    ) -> None:
                        if left[0] == 0:
                            raise KeyboardInterrupt
                        left[0] -= 1
                        original(path, missing_ok=missing_ok)

                    patch.setattr(Path, "unlink", unlink)
                    try:
                        self.build(photos, target, overwrite=overwrite)
                    except KeyboardInterrupt:
                        pass
                    else:
                        break
                assert_equal(arraystore.open(target), oracle)
                with monkeypatch.context() as patch:
                    decoded = count_decodes(patch)
                    assert_equal(self.build(photos, target, overwrite=overwrite), oracle)
                    assert len(decoded) in ((0, 19) if overwrite else (0,))
                assert self.listed(tmp_path) == [target.name]
                assert not [name for name in ("plan.json", "ledger.npy", "lock") if (target / name).exists()]
                if not overwrite:
                    shutil.rmtree(target) if target.is_dir() else target.unlink()

    def test_fresh_discards_an_unfinished_build(
        self, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(BadImagesError):
            self.build(mixed, self.target(tmp_path))
        decoded = count_decodes(monkeypatch)
        self.build(mixed, self.target(tmp_path), bad="keep", fresh=True)
        assert len(decoded) == 12

    def test_an_unfinished_build_of_something_else_is_refused(self, mixed: Path, photos: Path, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        with pytest.raises(BadImagesError):
            self.build(mixed, target)
        with pytest.raises(StoreError) as caught:
            self.build(photos, target)
        message = str(caught.value)
        assert message.startswith(
            f"{target}.partial holds an unfinished build of something else: it had 12 sources, now there are 19"
        )
        assert message.endswith("; finish it with the call that began it, or discard it with fresh=True")
        with pytest.raises(StoreError, match=r"something else: size was \(16, 24\), is now \(9, 9\); finish"):
            self.build(mixed, target, size=9)
        assert_equal(self.build(photos), self.build(photos, target, fresh=True))

    def test_files_of_others_survive_in_the_partial_folder(self, photos: Path, tmp_path: Path) -> None:
        target = self.target(tmp_path)
        partial = partial_of(target)
        partial.mkdir()
        (partial / "notes.txt").write_text("mine")
        message = message_of(StoreError, build, photos, target)
        assert not message or "files that are not arraystore's" in message
        kept = [folder / "notes.txt" for folder in (partial, target) if folder.is_dir()]
        assert [file.read_text() for file in kept if file.exists()] == ["mine"]

    def test_there_is_no_store_where_nothing_is(self, tmp_path: Path, mixed: Path) -> None:
        target = self.target(tmp_path)
        with pytest.raises(arraystore.FormatError, match=f"^there is no store at {re.escape(str(target))}$"):
            arraystore.open(target)
        with pytest.raises(BadImagesError):
            self.build(mixed, target)
        with pytest.raises(arraystore.FormatError) as caught:
            arraystore.open(target)
        hint = f", but {target}.partial is an unfinished build: call build again to finish it"
        assert str(caught.value) == f"there is no store at {target}{hint}"
