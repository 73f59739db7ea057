"""A user's loops with frameworks: type-checked, never run."""
# pyright: basic

from typing import Any, assert_type

import torch
from torch.utils.data import DataLoader

from arraystore import Store
from arraystore.adapters import grain, jax, keras
from arraystore.adapters.torch import Loader, StoreDataset

Pair = tuple[torch.Tensor, torch.Tensor]


def with_torch(store: Store) -> None:
    loader = Loader(store, 256, device="cuda", dtype="bfloat16", normalize=True, last="drop")
    assert_type(loader, Loader[Pair])
    for images, labels in loader:
        assert_type(images, torch.Tensor)
        assert_type(labels, torch.Tensor)
    for images in Loader(store, 256, targets=()):
        assert_type(images, torch.Tensor)
    for batch in Loader(store, 256, targets=["labels", "boxes"]):
        assert_type(batch, dict[str, torch.Tensor])
    assert_type(Loader(store, {0: 512, 6: 384}, device="cuda"), Loader[Pair])
    dataset = StoreDataset(store)
    DataLoader(dataset, 256, shuffle=True, num_workers=4, collate_fn=dataset.collate)


def with_others(store: Store) -> None:
    for images, labels in jax.Loader(store, 256, seed=1):
        del images, labels
    assert_type(len(jax.Loader(store, {0: 512, 6: 384})), int)
    assert_type(len(keras.Dataset(store, 128, seed=1)), int)
    record: Any = grain.Source(store[2:9])[0]
    del record
