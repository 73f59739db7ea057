"""np.memmap by hand: an array that a pool of processes fills through Pillow, and torch's DataLoader over it.

What many write themselves: `np.lib.format.open_memmap`, an item a row, and a DataLoader with workers that stay.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pixels import Read, in_parts, planes
from torch.utils.data import DataLoader, Dataset


class Rows(Dataset):
    """An image and its label for each row; mapped, so that workers share the pages."""

    def __init__(self, folder: Path) -> None:
        # Mapped so that it may be written, though nothing does: torch warns of others, and would copy them.
        self.images = np.load(folder / "images.npy", mmap_mode="c")
        self.labels = np.load(folder / "labels.npy")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.images[i], int(self.labels[i])


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    shape = (len(photos), 3, size, size)
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)

    def fill(rows: range) -> None:
        for i in rows:
            images[i] = planes(photos[i], size)

    in_parts(fill, len(photos), workers)
    np.save(folder / "labels.npy", np.array(labels))


def reader(folder: Path, batch: int, workers: int) -> Read:
    generator = torch.Generator()
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": True, "generator": generator}
    loader = DataLoader(Rows(folder), batch, shuffle=True, **options)

    def read(epoch: int) -> Iterator[tuple[Any, Any]]:
        generator.manual_seed(epoch)
        for images, labels in loader:
            yield images.numpy(), labels.numpy()

    return read
