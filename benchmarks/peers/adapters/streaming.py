"""MosaicML Streaming: shards of raw arrays (MDS), and its StreamingDataset over the local folder in a DataLoader.

A writer a process and one index of all, as its guide to parallel conversion has it; arrays of one shape and type, which
need no pickle; resized by Pillow, for it has no resize. What an earlier process left in shared memory is cleared first,
as it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pixels import in_parts, planes
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory, merge_index
from torch.utils.data import DataLoader


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    """Write a folder of shards in each process, and the index over them."""
    columns = {"image": f"ndarray:uint8:3,{size},{size}", "label": "int"}

    def write(rows: range) -> None:
        with MDSWriter(out=str(folder / f"part{rows.start:09}"), columns=columns) as out:
            for i in rows:
                out.write({"image": planes(photos[i], size), "label": labels[i]})

    in_parts(write, len(photos), workers)
    merge_index(str(folder), keep_local=True)


@cache
def loader(folder: Path, batch: int, workers: int) -> Any:
    """Make the loader once, so that its workers stay; it shuffles each epoch anew."""
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=1, batch_size=batch)
    return DataLoader(dataset, batch_size=batch, num_workers=workers, persistent_workers=workers > 0)


def read(folder: Path, batch: int, workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:  # noqa: ARG001 - it counts
    """Yield uint8, (N, 3, H, W); it shuffles shards, and blocks of many thousand samples."""
    for each in loader(folder, batch, workers):
        yield each["image"].numpy(), each["label"].numpy()
