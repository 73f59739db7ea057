"""MosaicML Streaming: shards of raw arrays (MDS), and its StreamingDataset over the local folder in a DataLoader.

A writer a process and one index of all, as its guide to parallel conversion has it; arrays of one shape and type, which
need no pickle; resized by Pillow, for it has no resize. What an earlier process left in shared memory is cleared first,
as it asks for.
"""

from pathlib import Path

from pixels import Read, in_parts, planes
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory, merge_index
from torch.utils.data import DataLoader


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    columns = {"image": f"ndarray:uint8:3,{size},{size}", "label": "int"}

    def write(rows: range) -> None:
        with MDSWriter(out=str(folder / f"part{rows.start:09}"), columns=columns) as out:
            for i in rows:
                out.write({"image": planes(photos[i], size), "label": labels[i]})

    in_parts(write, len(photos), workers)
    merge_index(str(folder), keep_local=True)


def reader(folder: Path, batch: int, workers: int) -> Read:
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=1, batch_size=batch)
    loader = DataLoader(dataset, batch_size=batch, num_workers=workers, persistent_workers=True)
    return lambda _epoch: ((each["image"].numpy(), each["label"].numpy()) for each in loader)
