"""LitData: images optimised into chunks, and its StreamingDataset over the local folder in its StreamingDataLoader.

Chunks of 64 MB, as its README has them; raw uint8 arrays, resized by Pillow in its own workers, for it has no resize.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import litdata
from pixels import planes


def sample(job: tuple[str, int], size: int) -> dict[str, Any]:
    """Return what is stored of a photograph."""
    path, label = job
    return {"image": planes(path, size), "label": label}


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    """Optimise into chunks."""
    inputs = list(zip(photos, labels, strict=True))
    options: dict[str, Any] = {"chunk_bytes": "64MB", "num_workers": workers, "verbose": False}
    litdata.optimize(partial(sample, size=size), inputs, output_dir=str(folder), reorder_files=False, **options)


@cache
def loader(folder: Path, batch: int, workers: int) -> Any:
    """Make the loader once, so that its workers stay; it shuffles each epoch anew."""
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=False, seed=1)
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    return litdata.StreamingDataLoader(dataset, batch_size=batch, drop_last=False, **options)


def read(folder: Path, batch: int, workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:  # noqa: ARG001 - it counts
    """Yield uint8, (N, 3, H, W); it shuffles chunks, and what is inside each."""
    for each in loader(folder, batch, workers):
        yield each["image"].numpy(), each["label"].numpy()
