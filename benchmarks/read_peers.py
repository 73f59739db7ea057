"""torch's DataLoader: the cases of `read.py` that need a framework. Each makes its files from a store, in a folder.

Where there is a choice it is the faster one: no copy before the framework's own, workers that stay, its own batches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import h5py
import numpy as np
from PIL import Image
from read_cases import Expected, Pixels, consume, equals, mapped

import arraystore

if TYPE_CHECKING:
    from hosts import Job, Run


def own_folder(job: Job, name: str) -> Path:
    """Return the folder that a case may write to."""
    assert job.folder is not None
    folder = Path(job.folder) / name
    folder.mkdir(exist_ok=True)
    return folder


def labelled(images: Pixels) -> Callable[[int], tuple[Pixels, int]]:
    """Return what gives an image and its slot."""
    return lambda i: (images[i], i)


class Items:
    """A map-style dataset: what a function returns for each number. Whatever is open is opened in each worker."""

    def __init__(self, count: int, open_items: Callable[[], Callable[[int], Any]]) -> None:
        self.count = count
        self.open_items = open_items
        self.item: Callable[[int], Any] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        if self.item is None:
            self.item = self.open_items()
        return self.item(i)


def data_loader(items: Items, job: Job, right: Expected) -> Run:
    """A DataLoader with worker processes that stay, and its own way of making batches."""
    import torch  # noqa: PLC0415 - not for those without
    from torch.utils.data import DataLoader  # noqa: PLC0415

    seeded = torch.Generator()
    options: dict[str, Any] = {"num_workers": job.threads, "persistent_workers": True, "generator": seeded}
    options["multiprocessing_context"] = "fork"  # so that what opens the items need not be pickled
    loader: Any = DataLoader(items, job.batch, shuffle=True, **options)  # type: ignore[arg-type,unused-ignore]

    def run(epoch: int, check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        seeded.manual_seed(epoch)
        batches = ((images.numpy(), slots.numpy()) for images, slots in loader)
        return consume(batches, right if check else None, items.count)

    return run


def over_memmap(job: Job) -> Run:
    """A DataLoader over np.memmap. It goes to torch without a copy, as torch takes arrays that may be written."""
    path = Path(job.store) / "images.npy"
    return data_loader(
        Items(job.count, lambda: labelled(np.load(path, mmap_mode="c"))), job, equals(np.load(path, mmap_mode="r"))
    )


def over_h5py(job: Job) -> Run:
    """A DataLoader over a contiguous dataset of an HDF5 file."""
    path = own_folder(job, "h5py") / "slots.h5"
    images = mapped(job)[: job.count]
    if not path.exists():
        with h5py.File(path, "w") as file:
            file.create_dataset("images", data=images)

    def opened() -> Callable[[int], tuple[Pixels, int]]:
        return labelled(h5py.File(path, "r")["images"])

    return data_loader(Items(job.count, opened), job, equals(images))


def over_jpegs(job: Job) -> Run:
    """A DataLoader that decodes and resizes photographs of 500 x 375 pixels with Pillow, in each epoch anew."""
    folder = own_folder(job, "jpegs")
    slots = mapped(job)
    side = slots.shape[2]
    paths = [folder / f"{i:05}.jpg" for i in range(job.count)]
    for i, path in enumerate(paths):
        if not path.exists():
            pixels = cv2.resize(slots[i].transpose(1, 2, 0), (500, 375), interpolation=cv2.INTER_CUBIC)
            assert cv2.imwrite(str(path), pixels)
    built = arraystore.build(paths, size=side, exact=True, progress=False)

    def item(i: int) -> tuple[Pixels, int]:
        with Image.open(paths[i]) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(small).transpose(2, 0, 1), i

    def right(batch: Pixels, labels: Pixels) -> bool:
        return bool(np.abs(batch.astype(np.int16) - built.images[labels]).mean() < 1)

    return data_loader(Items(job.count, lambda: item), job, right)


CASES: dict[str, Callable[[Job], Run]] = {
    "DataLoader, np.memmap": over_memmap,
    "DataLoader, h5py": over_h5py,
    "DataLoader, Pillow decodes": over_jpegs,
}
