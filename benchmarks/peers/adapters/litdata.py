"""LitData: images optimized into chunks, and its StreamingDataset over the local folder in its StreamingDataLoader.

Chunks of 64 MB, as its README has them; raw uint8 arrays, resized by Pillow in its own workers, for it has no resize.
"""

from functools import partial
from pathlib import Path
from typing import Any

import litdata
from pixels import Read, planes


def sample(job: tuple[str, int], size: int) -> dict[str, Any]:
    """Return what is stored of a photograph."""
    path, label = job
    return {"image": planes(path, size), "label": label}


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    inputs = list(zip(photos, labels, strict=True))
    options: dict[str, Any] = {"chunk_bytes": "64MB", "num_workers": workers, "verbose": False}
    litdata.optimize(partial(sample, size=size), inputs, output_dir=str(folder), reorder_files=False, **options)


def reader(folder: Path, batch: int, workers: int) -> Read:
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=False, seed=1)
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": True, "drop_last": False}
    loader = litdata.StreamingDataLoader(dataset, batch_size=batch, **options)
    return lambda _epoch: ((each["image"].numpy(), each["label"].numpy()) for each in loader)
