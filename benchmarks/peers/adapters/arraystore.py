"""arraystore: a store, and its loader."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import arraystore


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    """Build a store; labels as they are given."""
    arraystore.build(photos, folder / "photos.store", labels=labels, size=size, workers=workers, progress=False)


@cache
def loader(folder: Path, batch: int, workers: int) -> Any:
    """Open the store once."""
    return arraystore.open(folder / "photos.store").loader(batch, seed=1, workers=workers)


def read(folder: Path, batch: int, workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
    """Yield uint8, (N, 3, H, W), in an order of all slots."""
    batches = loader(folder, batch, workers)
    batches.set_epoch(epoch)
    yield from batches
