"""Encoded slots in torch and Grain: each gives what it gives of the slots of the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import kept, masks
from support.encoded_slots import STORED, pair, same, stored
from torch.utils.data import DataLoader

import arraystore
from arraystore import Augment, RandomResizedCrop
from arraystore.adapters.grain import Source
from arraystore.adapters.torch import Loader, StoreDataset

CROP: dict[str, Any] = {"seed": 2, "augment": Augment(crop=RandomResizedCrop(20), hflip=0.5)}
torch.set_num_threads(1)  # other tests may run beside


@pytest.mark.parametrize("options", [{}, CROP, {"dtype": "float32", "normalize": True}, {"channels_last": True}])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_torch_loader(layout: str, options: dict[str, Any]) -> None:
    encoded, raw = pair(layout)
    for batch, other in zip(Loader(encoded, 8, **options), Loader(raw, 8, **options), strict=True):
        for tensor, expected in zip(batch, other, strict=True):
            assert tensor.dtype == expected.dtype
            assert torch.equal(tensor, expected)


def test_the_torch_dataset() -> None:
    encoded, raw = map(StoreDataset, pair("NCHW"))
    assert len(encoded) == len(raw) == len(STORED)
    for ours, theirs in ((encoded[5], raw[5]), (encoded.__getitems__([3, -1])[1], raw[len(raw) - 1])):
        assert torch.equal(ours[0], theirs[0])
        assert ours[1] == theirs[1]


@pytest.mark.parametrize("how", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_of_a_torch_data_loader(tmp_path: Path, how: str) -> None:
    """The processes map the JPEGs, and gather decoded batches into shared memory."""
    encoded, raw = pair("NHWC")
    dataset = StoreDataset(stored(encoded, tmp_path))
    dataset[0]  # the process that is forked has scratch memory and kernels of its own
    loader: Any = DataLoader(dataset, 8, num_workers=2, multiprocessing_context=how, collate_fn=dataset.collate)
    expected = raw.loader(8, shuffle=False)
    same([[part.numpy() for part in batch] for batch in loader], expected)


def test_a_source_for_grain() -> None:
    encoded, raw = map(Source, pair("NCHW"))
    same([encoded[7], encoded._getitems([4, 4, 0])[2]], [raw[7], raw[0]])


def test_slots_that_differ_in_shape_in_torch() -> None:
    """A loader takes windows of one size. A sample has the shape of its slot, or the one that a transform makes."""
    slots = kept.slots("NCHW")
    for batch, expected in zip(Loader(slots, 8, **CROP), slots.loader(8, **CROP), strict=True):
        for tensor, values in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), values)
    dataset = StoreDataset(kept.slots("NCHW"))
    for sample, slot in zip(dataset.__getitems__([0, 5, -1]), (0, 6, 23), strict=True):
        np.testing.assert_array_equal(sample[0].numpy(), kept.pixels("NCHW")[slot])
        assert sample[1] == slot
    with pytest.raises(RuntimeError) as caught:
        dataset.collate(dataset.__getitems__([0, 1]))
    assert "a transform must give all images one shape" in caught.value.__notes__[0]
    corners = StoreDataset(kept.slots("NCHW"), transform=lambda image: image[:, :8, :9])
    batches = [*DataLoader(corners, 8, collate_fn=corners.collate)]
    assert [images.shape for images, _ in batches] == [(8, 3, 8, 9), (8, 3, 8, 9), (5, 3, 8, 9)]


def test_slots_that_differ_in_shape_for_grain() -> None:
    source = Source(kept.slots("NHWC"))
    for image, slot in source._getitems([4, 4, 0]):
        np.testing.assert_array_equal(image, kept.pixels("NHWC")[slot])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_masks_of_slots_that_differ_come_with_their_images(tmp_path: Path) -> None:
    table, options = masks.write(tmp_path / "masks", 9), {"fit": "keep", "size": 16, "encode": "jpeg"}
    store = arraystore.build(table, tmp_path / "x.store", targets=masks.TARGETS, progress=False, **options)
    wanted = [store.take([slot], "mask")[0] for slot in range(9)]
    dataset = StoreDataset(store, targets=["labels", "mask"])
    loader: Any = DataLoader(dataset, 1, num_workers=2, multiprocessing_context="fork", collate_fn=dataset.collate)
    for slot, batch in enumerate(loader):
        np.testing.assert_array_equal(batch["mask"][0].numpy(), wanted[slot])
        assert batch["images"].shape[2:] == batch["mask"][0].shape
    for slot, record in enumerate(Source(store, targets=["mask"])._getitems(range(9))):
        np.testing.assert_array_equal(record["mask"], wanted[slot])
    crop: dict[str, Any] = {"augment": Augment(crop=RandomResizedCrop(8), hflip=0.5), "seed": 1, "targets": ["mask"]}
    for ours, theirs in zip(Loader(store, 4, **crop), store.loader(4, **crop), strict=True):
        np.testing.assert_array_equal(ours["mask"].numpy(), theirs["mask"])
        assert ours["mask"].shape[1:] == (8, 8)
