"""torch's DataLoader: the cases of `read` and `epochs` that need torch.

Where there is a choice it is the faster one: no copy before the framework's own, workers that stay, its own batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

import arraystore
from benchmarks.common import Pixels
from benchmarks.processes import Job, Run
from benchmarks.read_cases import Expected, close_to, consume, equals, listed, mapped

Item = Callable[[int], tuple[Pixels, int]]


class Items(Dataset[Any]):
    """A map-style dataset: what a function returns for each number. Whatever is open is opened in each worker."""

    def __init__(self, count: int, open_items: Callable[[], Item]) -> None:
        self.count = count
        self.open_items = open_items
        self.item: Item | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Pixels, int]:
        self.item = self.item or self.open_items()
        return self.item(i)


def data_loader(items: Items, job: Job, right: Expected) -> Run:
    """A DataLoader with worker processes that stay, and its own way of making batches."""
    seeded = torch.Generator()
    options: dict[str, Any] = {"num_workers": job.threads, "persistent_workers": True, "generator": seeded}
    options["multiprocessing_context"] = "fork"  # so that what opens the items need not be pickled
    loader: DataLoader[Any] = DataLoader(items, job.batch, shuffle=True, **options)

    def run(epoch: int) -> int:
        seeded.manual_seed(epoch)
        batches = ((images.numpy(), slots.numpy()) for images, slots in loader)
        return consume(batches, None if epoch else right, items.count)

    return run


def over_memmap(job: Job) -> Run:
    """A DataLoader over np.memmap. It goes to torch without a copy, as torch takes arrays that may be written."""

    def opened() -> Item:
        images = np.load(job.store / "images.npy", mmap_mode="c")
        return lambda i: (images[i], i)

    return data_loader(Items(job.count, opened), job, equals(mapped(job)))


def over_jpegs(job: Job) -> Run:
    """A DataLoader that decodes and resizes photographs of 500×375 pixels with Pillow, in each epoch anew."""
    paths = [str(job.folder / f"{i:05}.jpg") for i in range(job.count)]
    for slot, path in zip(mapped(job), paths, strict=False):
        Image.fromarray(np.ascontiguousarray(slot.transpose(1, 2, 0))).resize(
            (500, 375), Image.Resampling.BICUBIC
        ).save(path, quality=90)
    side = mapped(job).shape[2]
    built = arraystore.build(paths, size=side, exact=True, progress=False)
    return data_loader(Items(job.count, lambda: by_pillow(paths, side)), job, close_to(built.images))


def by_pillow(paths: list[str], side: int) -> Item:
    """Return what decodes and resizes a file with Pillow."""

    def item(i: int) -> tuple[Pixels, int]:
        with Image.open(paths[i]) as image:
            small = ImageOps.exif_transpose(image).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(small).transpose(2, 0, 1), i

    return item


def files_by_data_loader(job: Job) -> Run:
    """What most write: a dataset that opens, converts and resizes with Pillow, and torch's DataLoader over it."""
    images, paths = mapped(job), listed(job)
    return data_loader(Items(job.count, lambda: by_pillow(paths, images.shape[2])), job, close_to(images))
