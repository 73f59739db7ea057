"""Encoded slots in torch and Grain: each gives what it gives of the slots of the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.encoded_slots import STORED, pair, same, stored
from torch.utils.data import DataLoader

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
