"""Hugging Face datasets: an Arrow table of Array3D, in torch's format, in a DataLoader.

Written by its own processes from a generator; resized by Pillow, for it has no resize. Its guide to PyTorch has the rest:
`with_format("torch")`, which reads without a copy, and a DataLoader that fetches whole batches in workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import Array3D, Dataset, Features, Value, disable_progress_bars, load_from_disk
from pixels import planes
from torch.utils.data import DataLoader


def samples(paths: list[str], labels: list[int], size: int) -> Iterator[dict[str, Any]]:
    """Yield what is stored of photographs."""
    for path, label in zip(paths, labels, strict=True):
        yield {"image": planes(path, size), "label": label}


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    """Generate the table in processes, each with its share of the lists, and save it."""
    disable_progress_bars()
    features = Features({"image": Array3D(dtype="uint8", shape=(3, size, size)), "label": Value("int64")})
    given = {"paths": photos, "labels": labels, "size": size}
    data = Dataset.from_generator(samples, features=features, gen_kwargs=given, num_proc=workers)
    data.save_to_disk(str(folder), num_proc=workers)


@cache
def loader(folder: Path, batch: int, workers: int) -> tuple[Any, torch.Generator]:
    """Make the DataLoader once, so that its workers stay."""
    generator = torch.Generator()
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0, "generator": generator}
    return DataLoader(load_from_disk(str(folder)).with_format("torch"), batch, shuffle=True, **options), generator


def read(folder: Path, batch: int, workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
    """Yield uint8, (N, 3, H, W), in an order of all rows."""
    batches, generator = loader(folder, batch, workers)
    generator.manual_seed(epoch)
    for each in batches:
        yield each["image"].numpy(), each["label"].numpy()
