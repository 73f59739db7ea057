"""tensordict: a TensorDict that is preallocated in mapped files, filled by processes, and indexed a batch at a time.

Filling memory-mapped tensors is what its tutorial on ImageNet does, and indexing with a batch of numbers, which torch's
own threads carry out; resized by Pillow, for it has no resize.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pixels import Read, in_parts, planes
from tensordict import TensorDict


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    count = len(photos)
    # Expanded from one number, so that nothing is allocated but the files.
    images = torch.zeros((), dtype=torch.uint8).expand(count, 3, size, size)
    numbers = torch.tensor(labels)
    data = TensorDict({"images": images, "labels": numbers}, [count]).memmap_like(str(folder))
    data["labels"][:] = numbers

    def fill(rows: range) -> None:
        torch.set_num_threads(1)  # as in torch's own workers: it would wait for the other processes' threads
        for i in rows:
            data["images"][i] = torch.from_numpy(planes(photos[i], size))

    in_parts(fill, count, workers)


def reader(folder: Path, batch: int, workers: int) -> Read:
    torch.set_num_threads(workers)
    data = TensorDict.load_memmap(str(folder))

    def read(epoch: int) -> Iterator[tuple[Any, Any]]:
        for chosen in torch.randperm(len(data), generator=torch.Generator().manual_seed(epoch)).split(batch):
            some = data[chosen]
            yield some["images"].numpy(), some["labels"].numpy()

    return read
