"""Ragged targets for frameworks: lists where a framework takes lists, and a clear word where it does not."""

from __future__ import annotations

import pickle
from typing import Any

import grain
import numpy as np
import pytest
import torch
from support.store_contract import build
from torch.utils.data import DataLoader

import arraystore
from arraystore import Augment, Store
from arraystore.adapters import grain as grain_adapter
from arraystore.adapters.torch import Loader, StoreDataset

COUNT = 24
LENGTHS = [(5 * i) % 4 for i in range(COUNT)]
NAMES = ["labels", "boxes", "codes"]


def boxes_of(label: int) -> list[list[float]]:
    return [[label, k, label + 1, k + 1] for k in range(LENGTHS[label])]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Slot i has the gray level i, and boxes of that number."""
    source = [np.full((4, 4, 3), i, np.uint8) for i in range(COUNT)]
    boxes = [np.array(boxes_of(i), np.float32).reshape(-1, 4) for i in range(COUNT)]
    codes = [list(range(length)) for length in LENGTHS]
    target = tmp_path_factory.mktemp("ragged") / "x.store"
    labels = list(range(COUNT))
    build(source, target, size=4, labels=labels, targets={"boxes": boxes, "codes": codes}).close()
    return arraystore.open(target)


def check_tensors(batch: Any) -> list[int]:
    assert list(batch) == ["images", *NAMES]
    for image, label, boxes, codes in zip(*batch.values(), strict=True):
        assert int(image.flatten()[0]) == int(label)
        assert isinstance(boxes, torch.Tensor)
        assert (boxes.dtype, tuple(boxes.shape)) == (torch.float32, (LENGTHS[int(label)], 4))
        assert boxes.tolist() == boxes_of(int(label))
        assert codes.tolist() == list(range(LENGTHS[int(label)]))
    return batch["labels"].tolist()  # type: ignore[no-any-return]


def test_the_torch_loader_yields_lists_of_tensors(store: Store) -> None:
    seen = [label for batch in Loader(store, 7, targets=NAMES, seed=1) for label in check_tensors(batch)]
    assert sorted(seen) == list(range(COUNT))
    for pixels, boxes in Loader(store, 7, targets="boxes", dtype="float32"):
        assert pixels.dtype == torch.float32
        assert [type(row) for row in boxes] == [torch.Tensor] * len(pixels)
    follow: Any = {"boxes": "boxes"}
    for batch in Loader(store, COUNT, targets=NAMES, shuffle=False, augment=Augment(hflip=1, follow=follow)):
        for label, row in enumerate(batch["boxes"]):
            left = [[max(4 - box[2], 0), box[1], max(4 - box[0], 0), box[3]] for box in boxes_of(label)]
            np.testing.assert_array_equal(row, np.array(left, np.float32).reshape(-1, 4).clip(0, 4))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_dataset_in_a_data_loader(store: Store, workers: int) -> None:
    dataset = StoreDataset(store, targets=NAMES)
    loader: Any = DataLoader(dataset, 7, shuffle=True, num_workers=workers, collate_fn=dataset.collate)
    seen = [label for batch in loader for label in check_tensors(batch)]
    assert sorted(seen) == list(range(COUNT))


@pytest.mark.parametrize("targets", [NAMES, "boxes"])
def test_the_dataset_with_a_transform(store: Store, targets: Any) -> None:
    dataset = StoreDataset(store, targets=targets, transform=lambda image: image.float())
    loader: Any = DataLoader(dataset, 7, collate_fn=dataset.collate)
    for batch in loader:
        if targets == "boxes":
            pixels, boxes = batch
            assert [row.tolist() for row in boxes] == [boxes_of(int(image[0, 0, 0])) for image in pixels]
        else:
            check_tensors(batch)
            assert batch["images"].dtype == torch.float32


def test_one_sample(store: Store) -> None:
    sample = StoreDataset(store, targets=NAMES)[3]
    assert sample["boxes"].tolist() == boxes_of(3)
    image, boxes = StoreDataset(store, targets="boxes")[-1]
    assert (int(image[0, 0, 0]), boxes.tolist()) == (COUNT - 1, boxes_of(COUNT - 1))


def test_a_batch_is_sent_as_one_tensor(store: Store) -> None:
    dataset = StoreDataset(store, targets=NAMES)
    batch = dataset.collate(dataset.__getitems__(range(COUNT)))
    rows = pickle.loads(pickle.dumps(batch["boxes"]))
    assert type(rows) is list
    assert [row.tolist() for row in rows] == [boxes_of(label) for label in range(COUNT)]
    assert len({row.untyped_storage().data_ptr() for row in rows if len(row)}) == 1


def test_records_for_grain(store: Store) -> None:
    source = grain_adapter.Source(store, NAMES)
    record = grain.MapDataset.source(source)[3]
    assert record is not None
    assert record["boxes"].tolist() == boxes_of(3)
    record["boxes"][...] = -1
    assert store.targets["boxes"][3].tolist() == boxes_of(3)


def test_torch_sends_little_for_each_row(store: Store) -> None:
    """A worker process of a DataLoader sends one tensor, whatever the number of images."""
    dataset = StoreDataset(store, targets="boxes")
    few, many = (len(pickle.dumps(dataset.collate(dataset.__getitems__([1] * n))[1])) for n in (1, 400))
    assert many - few < 400 * (3 * 4 * 4 + 12)
