"""PyTorch reads a store that is being filled: its own loader, and a DataLoader with forked and spawned workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from support import images
from support.apart import fail_at_warnings
from support.store_contract import assert_equal, build
from torch.utils.data import DataLoader

from arraystore import FillingStore, Store
from arraystore.adapters.torch import Loader, StoreDataset

if TYPE_CHECKING:
    from support.nursery import Nursery

COUNT = 30
BAD = (4, 5, 29)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = images.write_tree(tmp_path_factory.mktemp("torch") / "source", {"a": 14, "b": 16})
    files = sorted(source.rglob("*.*"))
    for slot in BAD:
        files[slot].write_bytes(b"no image")
    return source


def begin(source: Path, target: Path | None) -> tuple[FillingStore, Store]:
    options: dict[str, Any] = {"bad": "keep", "targets": {"row": np.arange(COUNT)}, "workers": 1}
    store = build(source, target, wait=False, **options)
    assert isinstance(store, FillingStore)
    return store, build(source, **options)


def test_a_process_of_its_own_reads_with_torch(torch_nursery: Nursery, source: Path, tmp_path: Path) -> None:
    torch_nursery.run(_read, source, tmp_path)


def _read(source: Path, folder: Path) -> None:
    fail_at_warnings()
    for name in ("x.store", "x.h5", ""):
        _read_with_the_loader(source, folder / name if name else None)
        _read_with_a_data_loader(source, folder / f"f{name}" if name else None, "fork")
    _read_with_a_data_loader(source, folder / "s.store", "spawn", 1)  # each worker takes seconds


def _read_with_the_loader(source: Path, target: Path | None) -> None:
    store, oracle = begin(source, target)
    loader = Loader(store, 7, targets=["row"], seed=2, dtype="float32")
    for _ in range(2):
        rows = []
        for batch in loader:
            rows += batch["row"].tolist()
            expected = torch.from_numpy(oracle.take(batch["row"].numpy())).float() / 255
            assert batch["images"].dtype == torch.float32
            assert torch.allclose(batch["images"], expected, rtol=1e-6)  # torch.testing takes a second to import
        assert len(rows) == COUNT
        assert not {*rows} & {*BAD}
    store.finish()
    assert_equal(store, oracle)
    store.close()


def _read_with_a_data_loader(source: Path, target: Path | None, method: str, epochs: int = 2) -> None:
    store, oracle = begin(source, target)
    dataset = StoreDataset(store, targets=["row"])
    assert len(dataset) == COUNT
    loader = DataLoader(
        dataset, 7, shuffle=True, num_workers=epochs, collate_fn=dataset.collate, multiprocessing_context=method
    )
    for _ in range(epochs):
        rows = []
        for batch in loader:
            rows += batch["row"].tolist()
            np.testing.assert_array_equal(batch["images"].numpy(), oracle.take(batch["row"].numpy()))
        assert len(rows) == COUNT
        assert not {*rows} & {*BAD}
    del loader
    store.finish()
    assert_equal(store, oracle)
    store.close()
