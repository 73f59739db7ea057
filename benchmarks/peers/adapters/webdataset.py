"""WebDataset: tar shards of .npy members, and its WebLoader, which batches in the workers.

Shards are shuffled, then samples in a buffer of 1,000; a batch is made in the worker, as its documentation advises.
Each process writes shards of its own; resized by Pillow, for it has no resize.
"""

from pathlib import Path

import webdataset as wds
from pixels import Read, in_parts, planes

SHARD, BUFFER = 250, 1000


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    def write(rows: range) -> None:
        with wds.ShardWriter(str(folder / f"{rows.start:09}-%06d.tar"), maxcount=SHARD, verbose=0) as out:
            for i in rows:
                out.write({"__key__": f"{i:09}", "npy": planes(photos[i], size), "cls": labels[i]})

    in_parts(write, len(photos), workers)


def reader(folder: Path, batch: int, workers: int) -> Read:
    shards = sorted(map(str, folder.glob("*.tar")))
    dataset = wds.WebDataset(shards, shardshuffle=len(shards), workersplitter=wds.split_by_worker, empty_check=False)
    batches = dataset.shuffle(BUFFER).decode().to_tuple("npy", "cls").batched(batch)
    loader = wds.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return lambda _epoch: ((images.numpy(), labels.numpy()) for images, labels in loader)
