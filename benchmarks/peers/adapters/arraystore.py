"""arraystore: a store, and its loader."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixels import Read

import arraystore


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    arraystore.build(photos, folder / "photos.store", labels=labels, size=size, workers=workers, progress=False)


def reader(folder: Path, batch: int, workers: int) -> Read:
    loader = arraystore.open(folder / "photos.store").loader(batch, seed=1, workers=workers)

    def read(epoch: int) -> Iterator[tuple[Any, Any]]:
        loader.set_epoch(epoch)
        yield from loader

    return read
