"""What every medium must do. RAM is the reference: a store on any medium equals the store of the same build in RAM."""

import os
from collections.abc import Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import xxhash

import arraystore
from arraystore import Progress, Ragged, Store
from arraystore._format.slot_file import EncodedFile, SlotFile
from arraystore._format.specification import FAILED
from arraystore._stores.media import medium_at, medium_of
from arraystore._stores.opening import contents_of
from arraystore._stores.publishing import partial_of
from arraystore.errors import BadImagesError, FormatError, StoreExistsError

__all__ = ["DiskContract", "StoreContract", "assert_same_store", "build", "write_images"]

_BAD_SLOTS = (2, 5, 9)
_COUNT = 12


def build(source: Any, target: Path | None = None, **options: Any) -> Store:
    """Call `arraystore.build` with small slots, two workers and no progress bar, unless the options say otherwise."""
    small: dict[str, Any] = {"size": (16, 24), "progress": False, "workers": 2}
    return arraystore.build(source, target, **(small | options))


def write_images(folder: Path, *, bad: bool = False) -> Path:
    """Write 12 images in two class folders, one of which has a name that is not ASCII.

    Args:
        folder: the folder to make.
        bad: True replaces the images of slots 2, 5 and 9 by files that cannot be stored.

    Returns:
        The folder.
    """
    random = np.random.default_rng(0)
    for slot in range(_COUNT):
        pixels = random.integers(0, 256, (9 + 5 * slot, 60 - 4 * slot, 3), np.uint8)
        suffix = ".png" if slot % 3 else ".jpg"
        data = cv2.imencode(suffix, cv2.blur(pixels, (5, 5)))[1].tobytes()
        if bad and slot in _BAD_SLOTS:
            data = (b"this is no image", b"", data[: len(data) // 2])[_BAD_SLOTS.index(slot)]
        file = folder / ("ash" if slot < 7 else "größe 日本") / f"{slot:02} ü{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def assert_same_store(found: Store, expected: Store) -> None:
    """Check that two stores hold the same slots, status, checksums, targets, samples and description.

    Raises:
        AssertionError: something differs.
    """
    for name in ("status", "checksums"):
        _same_array(getattr(found, name), getattr(expected, name), name)
    _same(found.images.shape, expected.images.shape, "the shape of the images")
    if found.spec.one_shape:
        _same_array(found.images, expected.images, "images")
    else:  # no array holds them all
        _same_array(found.sides, expected.sides, "sides")
        for slot, pair in enumerate(zip(found.images, expected.images, strict=True)):
            _same_array(*pair, f"image {slot}")
    _same(set(found.targets), set(expected.targets), "the names of the targets")
    for name, array in found.targets.items():
        _same_target(array, expected.targets[name], f"the target {name!r}")
    _same(found.samples.schema, expected.samples.schema, "the columns of the samples")
    _same(found.samples.to_pydict(), expected.samples.to_pydict(), "the samples")
    for name in ("mean", "std", "classes", "categories", "spec"):
        _same(getattr(found, name), getattr(expected, name), name)
    _same(found.bad(), expected.bad(), "the bad images")
    _same(found.dropped(), expected.dropped(), "the dropped images")
    _same(len(found), len(expected), "the number of slots")


def _same(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: found {found!r}, expected {expected!r}")


def _same_array(found: npt.NDArray[Any], expected: npt.NDArray[Any], what: str) -> None:
    _same(found.dtype, expected.dtype, f"the dtype of {what}")
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected), err_msg=what, strict=True)


def _same_target(found: Any, expected: Any, what: str) -> None:
    _same(type(found) is Ragged, type(expected) is Ragged, f"whether {what} is ragged")
    if isinstance(found, Ragged) and isinstance(expected, Ragged):
        _same_array(found.offsets, expected.offsets, f"the offsets of {what}")
        found, expected = found.values, expected.values
    _same_array(found, expected, what)


class StoreContract:
    """Tests of a medium. A subclass gives the name of the medium and the place of a store.

    Attributes:
        medium: the name of the medium, as ``Store.medium`` has it.
        options: of every build, such as those that ask for the medium.
    """

    medium: str
    options: Mapping[str, Any] = MappingProxyType({})

    def build(self, source: Any, target: Path | None = None, **options: Any) -> Store:
        """Build as the function `build` does, with the options of the medium."""
        return build(source, target, **(dict(self.options) | options))

    def target(self, folder: Path) -> Path | None:
        """Return the target of a store in a folder; None for RAM."""
        raise NotImplementedError

    def reopened(self, store: Store) -> Store:
        """Open a store again; a store in RAM is returned as it is."""
        return store if store.path is None else arraystore.open(store.path)

    def check(self, source: Any, folder: Path, **options: Any) -> Store:
        """Build in RAM and on this medium, and check that the stores are equal, opened again too."""
        expected = self.build(source, **options)
        store = self.build(source, self.target(folder), **options)
        _same(store.medium, self.medium, "the medium")
        _same(store.path, self.target(folder), "the path")
        assert_same_store(store, expected)
        assert_same_store(self.reopened(store), expected)
        assert_same_store(ForkingPickler.loads(ForkingPickler.dumps(store)), expected)
        _same(self.reopened(store).verify(progress=False).ok, True, "whether the store is whole")
        return store

    @pytest.mark.parametrize(
        "options",
        [
            {"color": "gray"},
            {"layout": "NHWC"},
            {"size": 1},
            {"size": (1, 7), "fit": "crop", "color": "gray", "layout": "NHWC"},
            {"size": (31, 3), "fit": "pad", "background": (9, 8, 7)},
            {"size": 33, "filter": "lanczos", "exact": True},
        ],
        ids=str,
    )
    def test_every_spec_equals_ram(self, tmp_path: Path, options: Mapping[str, Any]) -> None:
        """Slots of every shape are those of RAM."""
        self.check(write_images(tmp_path / "images"), tmp_path, **options)

    @pytest.mark.parametrize("count", [1, 100])
    def test_slot_i_holds_row_i(self, tmp_path: Path, count: int) -> None:
        """Slots keep the order of the manifest, and checksums and means are those of their bytes."""
        arrays = [np.full((4 + value, 6, 3), value, np.uint8) for value in range(count)]
        store = self.check(arrays, tmp_path, size=(4, 6), workers=3)
        np.testing.assert_array_equal(store.images[:, 0, 0, 0], np.arange(count))
        digests = [xxhash.xxh3_64_intdigest(slot.tobytes()) for slot in store.images]
        np.testing.assert_array_equal(store.checksums, np.array(digests, np.uint64))
        np.testing.assert_allclose(store.mean, np.asarray(store.images, np.float64).mean((0, 2, 3)), rtol=1e-12)

    def test_targets_keep_their_types_and_values(self, tmp_path: Path) -> None:
        """Targets of many types and shapes, classes and texts."""
        targets = {
            "vector": np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4),
            "flag": np.array([True, False, True, True, False, True]),
            "small": np.arange(6, dtype=np.int8) - 3,
            "swapped": np.arange(6, dtype=">f8"),
            "special": np.array([0.5, np.nan, np.inf, -np.inf, -0.0, 1e-300]),
            "large": np.array([0, 2**64 - 1, 1, 2, 3, 4], np.uint64),
            "turned": np.arange(12, dtype=np.float16).reshape(2, 6).T,
            "split": np.array(["x", "y", "x", "x", "y", "x"]),
        }
        source = list(np.random.default_rng(0).integers(0, 256, (6, 5, 12, 3), np.uint8))
        store = self.check(source, tmp_path, labels=["b", "a", "ü", "b", "a", "b"], targets=targets)
        for name, values in targets.items():
            if name != "split":
                _same_array(store.targets[name], values, name)
        _same((store.classes, store.categories["split"]), (("a", "b", "ü"), ("x", "y")), "the classes")

    @pytest.mark.parametrize("bad", ["keep", "drop"])
    def test_masks_equal_ram(self, tmp_path: Path, bad: str) -> None:
        """Masks are targets, also where bad rows are kept or dropped."""
        rng = np.random.default_rng(0)
        paths = []
        for slot in range(9):
            paths.append(tmp_path / f"{slot}.png")
            cv2.imwrite(str(paths[-1]), rng.integers(0, 21, (5, 4), np.uint8))
        paths[2].write_bytes(b"this is no mask")
        source = rng.integers(0, 256, (9, 5, 4, 3), np.uint8)
        store = self.check(source, tmp_path, bad=bad, targets={"mask": arraystore.Masks(paths), "row": np.arange(9)})
        failed = np.asarray(store.status) == FAILED
        _same(int(failed.sum()), 1 if bad == "keep" else 0, "how many slots failed")
        _same(int(np.asarray(store.targets["mask"])[failed].min(initial=255)), 255, "the masks of failed slots")

    def test_ragged_targets_keep_their_types_and_values(self, tmp_path: Path) -> None:
        """Any number of items in a row, also none; rows that are dropped go with their items."""
        lengths = [3, 0, 1, 0, 7, 2, 0, 1, 1, 4, 0, 5]
        boxes = [np.arange(4 * k, dtype=np.float32).reshape(k, 4) + k for k in lengths]
        names = [[f"kind {k % 3}"] * k for k in lengths]
        none = Ragged(np.zeros((0, 2), np.int16), np.zeros(_COUNT + 1, np.int64))
        targets: dict[str, Any] = {"boxes": boxes, "none": none, "swapped": Ragged.from_rows(boxes, ">f8")}
        source = write_images(tmp_path / "images", bad=True)
        for bad in ("keep", "drop"):
            store = self.check(source, tmp_path, bad=bad, overwrite=True, targets=targets | {"kinds": names})
            rows = [int(Path(source).name[:2]) for source in store.samples["source"].to_pylist()]
            for name, given in targets.items():
                _same([row.tolist() for row in store.targets[name]], [given[row].tolist() for row in rows], name)
            kinds = store.categories["kinds"]
            found = [[kinds[code] for code in row] for row in store.targets["kinds"]]
            _same(found, [names[row] for row in rows], "the kinds")
            dtypes = [store.targets[name].dtype.str for name in targets]
            _same(dtypes, ["<f4", "<i2", ">f8"], "the dtypes")

    def test_names_that_are_not_utf8(self, tmp_path: Path) -> None:
        """A file name may be any bytes."""
        folder = write_images(tmp_path / "images")
        file = min(folder.rglob("*.*"))
        file.rename(file.with_name(os.fsdecode(b"\xff.jpg")))
        self.check(folder, tmp_path)

    @pytest.mark.parametrize("bad", ["keep", "drop"])
    def test_bad_images_equal_ram(self, tmp_path: Path, bad: str) -> None:
        """Bad images become zeros with status 2, or the last good rows fill their holes."""
        source = write_images(tmp_path / "images", bad=True)
        targets = {"vector": np.arange(2 * _COUNT, dtype=np.float32).reshape(_COUNT, 2)}
        store = self.check(source, tmp_path, bad=bad, targets=targets)
        failed = list(_BAD_SLOTS) if bad == "keep" else []
        _same(np.flatnonzero(np.asarray(store.status) == 2).tolist(), failed, "the failed slots")
        _same(bool(np.any(store.images[failed])), False, "whether failed slots have pixels")
        _same([image.slot for image in store.dropped()], [] if failed else list(_BAD_SLOTS), "the dropped rows")

    def test_reading_equals_indexing_the_arrays(self, tmp_path: Path) -> None:
        """Single slots, choices of choices, and loaders."""
        source = write_images(tmp_path / "images", bad=True)
        expected = self.build(source, bad="keep")
        store = self.reopened(self.build(source, self.target(tmp_path), bad="keep"))
        random = np.random.default_rng(0)
        slots, rows = store[:], np.arange(_COUNT)
        for chosen in (slice(None, None, -1), random.integers(0, _COUNT, 30), random.random(30) < 0.7):
            slots, rows = slots[chosen], rows[chosen]
            at = random.integers(0, len(rows), 9)
            _same_array(slots.take(at), expected.images[rows[at]], "chosen slots")
            _same_array(slots.take(at, "labels"), expected.targets["labels"][rows[at]], "labels of chosen slots")
            readable = rows[~np.isin(rows, _BAD_SLOTS)]
            images, labels = zip(*slots.loader(5, shuffle=False, workers=2), strict=True)
            _same_array(np.concatenate(images), expected.images[readable], "the images of a loader")
            _same_array(np.concatenate(labels), expected.targets["labels"][readable], "the labels of a loader")

    def test_arrays_are_read_only_and_stay_valid_after_closing(self, tmp_path: Path) -> None:
        """Nobody can change a store, and views of a closed store stay valid."""
        store = self.reopened(self.build(write_images(tmp_path / "images"), self.target(tmp_path)))
        with pytest.raises(ValueError, match="read-only"):
            store.images[0] = 1
        view, copy = store.images[3], np.array(store.images[3])
        store.close()
        np.testing.assert_array_equal(view, copy)


class DiskContract(StoreContract):
    """Tests of a medium with files."""

    def target(self, folder: Path) -> Path:
        """Return the target of a store in a folder."""
        raise NotImplementedError

    def test_nothing_is_left_beside_the_store(self, tmp_path: Path) -> None:
        """A build leaves the store and nothing else, where it replaces a store too."""
        source, target = write_images(tmp_path / "images", bad=True), self.target(tmp_path)
        for bad in ("keep", "drop"):
            self.build(source, target, bad=bad, overwrite=True)
            _same({path.name for path in tmp_path.iterdir()}, {"images", target.name}, "the files in the folder")
        medium = medium_at(target)
        _same(medium and medium.name, self.medium, "the medium that the path means")

    def test_an_existing_store_is_replaced_only_on_request(self, tmp_path: Path) -> None:
        """An existing target is an error, and a replaced store stays whole while it is open."""
        source, target = write_images(tmp_path / "images"), self.target(tmp_path)
        self.build(source, target)
        old = arraystore.open(target)
        pixels = np.array(old.images)
        with pytest.raises(StoreExistsError, match="exists already"):
            self.build(source, target, size=9)
        assert_same_store(self.build(source, target, size=9, overwrite=True), self.build(source, size=9))
        np.testing.assert_array_equal(old.images, pixels)

    @pytest.mark.parametrize("kind", ["file", "folder", "link"])
    def test_files_of_others_are_not_replaced(self, tmp_path: Path, kind: str) -> None:
        """A target that is no store is left as it is."""
        source, target = write_images(tmp_path / "images"), self.target(tmp_path)
        file = target / "mine" if kind == "folder" else tmp_path / "mine" if kind == "link" else target
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
        if kind == "link":
            target.symlink_to("mine")
        with pytest.raises(StoreExistsError, match="is not a store"):
            self.build(source, target, overwrite=True)
        _same((file.read_text(), partial_of(target).exists()), ("mine", False), "the file, and whether a build began")

    def test_an_interrupted_build_continues(self, tmp_path: Path) -> None:
        """An error keeps finished slots, and `open` with ``partial=True`` shows them."""
        source, target = write_images(tmp_path / "images", bad=True), self.target(tmp_path)
        expected = self.build(source, bad="keep")
        with pytest.raises(BadImagesError):
            self.build(source, target)
        with pytest.raises(FormatError, match="is an unfinished build"):
            arraystore.open(target)
        with arraystore.open(target, partial=True) as store:
            for name in ("images", "status", "checksums"):
                _same_array(getattr(store, name), getattr(expected, name), f"the {name} of the unfinished store")
        seen: list[int] = []

        def note(progress: Progress) -> None:
            seen.append(progress.done)

        assert_same_store(self.build(source, target, bad="keep", progress=note), expected)
        _same(seen[0], _COUNT, "the slots that the second call found done")

    def test_truncated_pixels_are_filled_again(self, tmp_path: Path) -> None:
        """Slots that the file of the pixels has lost count as empty."""
        source, target = write_images(tmp_path / "images", bad=True), self.target(tmp_path)
        with pytest.raises(BadImagesError):
            self.build(source, target)
        file = partial_of(target) / medium_of(target, self.build(source, bad="keep").spec).draft_file
        os.truncate(file, file.stat().st_size // 2)
        assert_same_store(self.build(source, target, bad="keep"), self.build(source, bad="keep"))

    def test_verify_finds_a_changed_pixel(self, tmp_path: Path) -> None:
        """A slot with a changed byte is found, and it alone."""
        target = self.target(tmp_path)
        self.build(write_images(tmp_path / "images"), target).close()
        part = cast("SlotFile | EncodedFile", contents_of(target).slots((_COUNT, 3, 16, 24))[0]).part(4)
        with Path(part.path).open("r+b") as pixels:
            pixels.seek(part.begin + 7)
            byte = pixels.read(1)[0]
            pixels.seek(-1, os.SEEK_CUR)
            pixels.write(bytes([byte ^ 1]))
        found = arraystore.verify(target, progress=False)
        _same([image.slot for image in found.damaged], [4], "the damaged slots")
