"""The options of an export, what it refuses, and what it says of slots without an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets as hub
import numpy as np
import pytest
from support import coco, images
from support.exported import COUNT, SIZE, encoded_slots, files_in, jpeg_of, jpegs

import arraystore
from arraystore import Progress, Ragged, Store
from arraystore._exporting import runs
from arraystore._exporting.images import ImageBytes

TARGETS = ["f", "x.parquet", "x.arrow", "x.tar"]


@pytest.mark.parametrize("name", TARGETS)
def test_any_number_of_workers_writes_the_same_bytes(
    rich: Store, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_LONGEST_RUN", 2)  # more runs than workers
    found = []
    for workers in (1, 2, 7):
        (place := tmp_path / str(workers)).mkdir()
        arraystore.export(rich, place / name, workers=workers, progress=False)
        found.append(files_in(place / name))
    assert found[0] == found[1] == found[2]
    assert found[0]


def test_no_more_images_are_in_memory_than_a_few_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_LONGEST_RUN", 1)
    made = []

    class Counted(ImageBytes):
        def of(self, slots: Any) -> tuple[list[bytes], int]:
            made.append(slots)
            return super().of(slots)

    from arraystore._exporting.columns import Columns
    from arraystore._exporting.samples import Samples
    from arraystore._exporting.stems import Stems

    slots = encoded_slots(jpegs(20)).__slot_arrays__
    samples, every = Samples(slots), np.arange(20)
    stems = Stems(every, samples.sources, lambda chosen: [""] * len(chosen))
    counted = Counted(slots, form="jpeg", quality=90, subsampling="420")
    waiting = runs.runs_of(every, counted, stems, Columns(slots, samples, ()), workers=2)
    for number, run in enumerate(waiting, start=1):
        assert run.images == jpegs(20)[number - 1 : number]
        assert len(made) <= number + 5
    assert len(made) == 20


def test_a_path_and_a_store_are_the_same(store: Store, tmp_path: Path) -> None:
    assert store.path is not None
    arraystore.export(store, tmp_path / "x.tar", progress=False)
    arraystore.export(store.path, tmp_path / "y.tar", progress=False)
    arraystore.export(str(store.path), tmp_path / "z.tar", "tar", progress=False)
    assert len({(tmp_path / f"{letter}.tar").read_bytes() for letter in "xyz"}) == 1


def test_hdf5_and_ram_are_the_same(photos: Path, store: Store, tmp_path: Path) -> None:
    arraystore.export(store, tmp_path / "x.tar", progress=False)
    for target in (tmp_path / "x.h5", None):
        other = arraystore.build(photos, target, size=SIZE, progress=False)
        arraystore.export(other, tmp_path / "y.tar", overwrite=True, progress=False)
        assert (tmp_path / "y.tar").read_bytes() == (tmp_path / "x.tar").read_bytes()


@pytest.fixture
def flawed(mixed: Path, tmp_path: Path) -> Store:
    """Twelve images, of which slots 2, 3, 7 and 11 are bad."""
    return arraystore.build(mixed, tmp_path / "flawed.store", size=SIZE, bad="keep", progress=False)


@pytest.mark.parametrize("name", TARGETS)
def test_slots_without_an_image_are_left_out_and_listed(flawed: Store, tmp_path: Path, name: str) -> None:
    report = arraystore.export(flawed, tmp_path / name, progress=False)
    assert report.images == 8
    assert [(bad.slot, bad.source, bad.reason) for bad in report.bad] == [
        (bad.slot, bad.source, bad.reason) for bad in flawed.bad()
    ]
    assert [bad.slot for bad in report.bad] == [2, 3, 7, 11]
    good = [0, 1, 4, 5, 6, 8, 9, 10]
    if name == "x.arrow":
        data = hub.Dataset.from_file(str(tmp_path / name)).cast_column("image", hub.Image(decode=False))
        assert [cell["bytes"] for cell in data["image"]] == [jpeg_of(flawed.images[slot]) for slot in good]
        assert data["label"][:] == flawed.labels[good].tolist()


def test_or_an_error_lists_them_and_nothing_is_written(flawed: Store, tmp_path: Path) -> None:
    message = r"^4 of 12 slots have no image: bad='drop' leaves them out\n  slot 2  "
    with pytest.raises(arraystore.BadImagesError, match=message) as info:
        arraystore.export(flawed, tmp_path / "f", bad="raise", progress=False)
    assert [bad.slot for bad in info.value.bad] == [2, 3, 7, 11]
    with pytest.raises(arraystore.BadImagesError, match=r"^2 of 2 slots have no image\n  slot 0  .*\n  slot 1  "):
        arraystore.export(flawed[[3, 2]], tmp_path / "f", progress=False)
    with pytest.raises(arraystore.ManifestError, match="there are no slots to export"):
        arraystore.export(flawed[:0], tmp_path / "f", progress=False)
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / "f.partial").exists()


def test_boxes_are_in_pixels_of_the_exported_images(tmp_path: Path) -> None:
    given = [coco.instance(0, 1, []) | {"bbox": box} for box in ([0, 0, 20, 10], [10, 20, 30, 40])]
    path = coco.coco_folder(tmp_path / "coco", [(80, 40), (24, 24)], given)
    store = arraystore.build(path, tmp_path / "x.store", size=SIZE, progress=False)
    assert store.targets["boxes"][0].tolist() == [[0, 0, 20, 10], [10, 20, 40, 60]]
    report = arraystore.export(store, tmp_path / "x.arrow", progress=False)
    assert report.notes == ("'boxes': in pixels of the exported images, not of the sources",)
    found = hub.Dataset.from_file(str(tmp_path / "x.arrow"))
    wide, high = SIZE / 40, SIZE / 80
    np.testing.assert_allclose(
        found["boxes"][0], [[0, 0, 20 * wide, 10 * high], [10 * wide, 20 * high, 40 * wide, 60 * high]], rtol=1e-6
    )
    with pytest.raises(arraystore.SpecError, match=r"'boxes' is in pixels of the source images, .* a choice of that"):
        arraystore.export(store[:1], tmp_path / "y.arrow", progress=False)
    arraystore.export(store.in_slot_pixels()[:1], tmp_path / "y.arrow", progress=False)
    assert hub.Dataset.from_file(str(tmp_path / "y.arrow"))["boxes"][0] == found["boxes"][0]


def test_the_progress_counts_images(store: Store, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def tell(state: Progress) -> None:
        told.append((state.done, state.total))

    arraystore.export(store, tmp_path / "f", progress=tell)
    assert (told[0], told[-1]) == ((0, COUNT), (COUNT, COUNT))
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (
            "x.tar",
            {"form": "parquet"},
            "ends as a tar file, and form is 'parquet': give it another suffix",
        ),
        ("x", {"form": "zip"}, "form must be one of 'folder', 'parquet', 'arrow', 'tar', not 'zip'"),
        ("x", {"format": "webp"}, "format must be one of 'jpeg', 'png', not 'webp'"),
        ("x", {"quality": 0}, "quality must be a whole number from 1 to 100, not 0"),
        ("x", {"subsampling": "410"}, "subsampling must be one of '444', "),
        ("x", {"workers": 0}, "workers must be a whole number of 1 or more, not 0"),
        ("x", {"bad": "keep"}, "bad must be one of 'raise', 'drop', not 'keep'"),
        ("x", {"max_bytes": "1 MB"}, "a folder has a file for each image: leave out max_bytes"),
        ("x.tar", {"max_bytes": "1 MB"}, "one file, so it has no shards to limit: leave out its suffix"),
        ("x", {"max_bytes": "much", "form": "tar"}, "a size in bytes must be a number, or a text such as"),
        ("x", {"max_bytes": 0, "form": "tar"}, "max_bytes must be at least 1, not 0"),
    ],
)
def test_options_that_are_wrong(store: Store, tmp_path: Path, target: str, options: Any, message: str) -> None:
    with pytest.raises(arraystore.SpecError, match=message):
        arraystore.export(store, tmp_path / target, progress=False, **options)
    assert [*tmp_path.iterdir()] == []


def test_what_is_no_store(store: Store, tmp_path: Path) -> None:
    wrong: Any = [1, 2]
    with pytest.raises(arraystore.SpecError, match="can be exported, not a list"):
        arraystore.export(wrong, tmp_path / "f", progress=False)
    with pytest.raises(arraystore.FormatError, match="there is no store at"):
        arraystore.export(tmp_path / "nowhere", tmp_path / "f", progress=False)
    np.save(tmp_path / "x.npy", np.zeros((3, 5), np.uint8))
    with pytest.raises(arraystore.ManifestError, match="are no images of 1 or 3 channels"):
        arraystore.export(arraystore.open_array(tmp_path / "x.npy"), tmp_path / "f", progress=False)
    np.save(tmp_path / "y.npy", np.zeros((3, 5, 5)))
    with pytest.raises(arraystore.ManifestError, match="are of float64, not uint8: convert them"):
        arraystore.export(arraystore.open_array(tmp_path / "y.npy"), tmp_path / "f", progress=False)
    wrong = {"colour": 1}
    with pytest.raises(TypeError, match="export has no option 'colour': its options are format, quality, "):
        arraystore.export(store, tmp_path / "f", **wrong)
    assert not (tmp_path / "f").exists()


def test_names_that_lead_elsewhere_stay_in_the_folder(tmp_path: Path) -> None:
    manifest = arraystore.Manifest(
        [images.jpeg(images.photo(9, 9, seed=seed)) for seed in range(3)], targets={"n": np.arange(3)}
    )
    store = arraystore.build(manifest, tmp_path / "x.store", size=SIZE, progress=False)
    odd = ["../../evil.jpg", "/etc/passwd.jpg", "a\nb/\udce9.jpg"]
    renamed = store.samples.set_column(0, "source", [[name.encode("utf-8", "surrogateescape") for name in odd]])
    store._samples = renamed
    opened = store._opened
    object.__setattr__(opened, "load_table", lambda _name: renamed)
    (tmp_path / "out").mkdir()
    arraystore.export(store, tmp_path / "out" / "f", progress=False)
    assert sorted(files_in(tmp_path / "out")) == [
        "f/.arraystore-export.json",
        "f/_.jpg",
        "f/evil.jpg",
        "f/metadata.csv",
        "f/passwd.jpg",
    ]


def test_texts_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    data = [images.jpeg(images.photo(9, 9, seed=seed)) for seed in range(2)]
    manifest = arraystore.Manifest(data).changed(texts={"caption": ["good", "b\udcffd"]})
    store = arraystore.build(manifest, tmp_path / "x.store", size=SIZE, progress=False)
    for name in TARGETS:
        with pytest.raises(
            arraystore.ManifestError, match="slot 1: its text in 'caption' is not UTF-8: mend it"
        ) as info:
            arraystore.export(store, tmp_path / name, progress=False)
        assert info.value.slot == 1
        assert not (tmp_path / name).exists()
        arraystore.export(store[:1], tmp_path / name, progress=False)


def test_lists_keep_their_rows_when_slots_are_left_out(tmp_path: Path) -> None:
    boxes = Ragged.from_rows([[1], [2, 3], [], [4]], dtype=np.int64)
    slots = encoded_slots(jpegs(4), failed=[1], targets={"n": boxes})
    arraystore.export(slots, tmp_path / "x.arrow", progress=False)
    assert hub.Dataset.from_file(str(tmp_path / "x.arrow"))["n"][:] == [[1], [], [4]]
