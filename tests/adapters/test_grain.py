"""The source for Grain: its protocol here, and its data sets, in threads and worker processes, in a process apart."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.apart import apart
from support.slots import slots_of

import arraystore
from arraystore import Slots, SpecError
from arraystore._common.lazy import framework
from arraystore._stores.slot_array import SlotArray
from arraystore.adapters.grain import Source

N = 24


def arrays() -> tuple[Any, dict[str, Any]]:
    pixels = np.random.default_rng(0).integers(0, 256, (N, 3, 8, 8), np.uint8)
    return pixels, {"labels": np.arange(N), "scores": np.arange(N) / 7}


def slots() -> Slots:
    pixels, targets = arrays()
    return slots_of([SlotArray(pixels, targets=targets)], layout="NCHW")


def test_records_are_slots_with_what_is_asked_for() -> None:
    pixels, targets = arrays()
    image, label = Source(slots())[5]
    np.testing.assert_array_equal(image, pixels[5])
    assert label == 5
    np.testing.assert_array_equal(Source(slots(), ())[5], pixels[5])
    assert Source(slots(), "scores")[6][1] == targets["scores"][6]
    record = Source(slots(), ["scores", "labels"])[7]
    np.testing.assert_array_equal(record.pop("images"), pixels[7])
    assert record == {"scores": 1.0, "labels": 7}
    with pytest.raises(SpecError, match="there is no target 'boxes': the targets are 'labels', 'scores'"):
        Source(slots(), "boxes")


def test_slots_without_an_image_are_left_out(mixed: Path) -> None:
    store = arraystore.build(mixed, size=16, bad="keep", progress=False)
    source = Source(store)
    assert len(source) == 8
    images = store.images[[0, 1, 4, 5, 6, 8, 9, 10]]
    for index, image in enumerate(images):
        np.testing.assert_array_equal(source[index][0], image)


def test_a_store_that_fills_itself_gives_the_next_image_for_a_bad_one(mixed: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"size": 16, "bad": "keep", "progress": False, "targets": {"row": np.arange(12)}}
    store = arraystore.build(mixed, tmp_path / "x", wait=False, **options)
    source = Source(store, "row")
    assert len(source) == 12
    rows = [0, 1, 4, 4, 4, 5, 6, 8, 8, 9, 10, 0]  # slots 2, 3, 7 and 11 are bad
    built = arraystore.build(mixed, **options)
    for record, row in zip(source._getitems(range(12)), rows, strict=True):
        np.testing.assert_array_equal(record[0], built.images[row])
        assert record[1] == row
    store.close()


def test_many_records_are_gathered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source, calls = Source(slots()), []
    take = Slots.take
    monkeypatch.setattr(Slots, "take", lambda self, *args: calls.append(args) or take(self, *args))
    records = source._getitems([3, 1, 3])
    assert [label for _, label in records] == [3, 1, 3]
    assert calls == [([3, 1, 3],), ([3, 1, 3], "labels")]


def test_it_pickles_and_its_text_tells_sources_apart() -> None:
    source = Source(slots(), "scores")
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[4][0], source[4][0])
    text = "arraystore.Source(<arraystore.Slots 24 x 3 x 8 x 8 uint8 NCHW>, targets=('scores',))"
    assert repr(again) == repr(source) == text


# --- in Grain --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grain")
    pixels, targets = arrays()
    arraystore.build(list(pixels.transpose(0, 2, 3, 1)), folder / "x.store", size=8, targets=targets, progress=False)
    return folder / "x.store"


def checked(path: str, batches: Iterator[Any]) -> list[int]:
    """The labels of all batches, whose images are those of the labels."""
    store = arraystore.open(path)
    seen = []
    for images, labels in batches:
        np.testing.assert_array_equal(images, store.images[labels])
        seen += labels.tolist()
    return seen


def in_threads(path: str) -> None:
    grain = framework("grain")
    source = Source(arraystore.open(path))
    assert isinstance(source, grain.sources.RandomAccessDataSource)
    for seed in (0, 1):
        chain = grain.MapDataset.source(source).shuffle(seed=seed).batch(5)
        assert sorted(checked(path, chain)) == list(range(N))
        assert checked(path, chain.to_iter_dataset()) == checked(path, chain)


def in_processes(path: str) -> None:
    grain = framework("grain")
    framework("absl.flags").FLAGS(["a program"])  # Grain starts no process before flags are parsed
    source = Source(arraystore.open(path))
    sampler = grain.samplers.IndexSampler(N, shuffle=True, seed=3, num_epochs=1)
    found = []
    for workers in (0, 1):
        loader = grain.DataLoader(
            data_source=source, sampler=sampler, operations=[grain.transforms.Batch(4)], worker_count=workers
        )
        found.append(checked(path, loader))
    assert sorted(found[0]) == sorted(found[1]) == list(range(N))


def test_grain_reads_it(path: Path) -> None:
    with apart(JAX_PLATFORMS="cpu") as process:
        process(in_threads, str(path))
        process(in_processes, str(path))
