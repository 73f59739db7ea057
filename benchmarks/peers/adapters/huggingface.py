"""Hugging Face datasets: an Arrow table of Array3D, indexed a batch at a time in the workers of a DataLoader.

Written by its own processes from a generator; resized by Pillow, for it has no resize. Its guide to PyTorch has the
rest: a format, so that Arrow's buffers do not become lists, and a BatchSampler, so that a batch is one query. The
format is NumPy's with a type named: by default it, and torch's, make int64 of uint8, and take many times as long.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Array3D, Dataset, Features, Value, disable_progress_bars, load_from_disk
from pixels import Read, planes
from torch.utils.data import BatchSampler, DataLoader, RandomSampler


def samples(paths: list[str], labels: list[int], size: int) -> Iterator[dict[str, Any]]:
    """Yield what is stored of photographs."""
    for path, label in zip(paths, labels, strict=True):
        yield {"image": planes(path, size), "label": label}


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    disable_progress_bars()
    features = Features({"image": Array3D(dtype="uint8", shape=(3, size, size)), "label": Value("int64")})
    given = {"paths": photos, "labels": labels, "size": size}
    data = Dataset.from_generator(samples, features=features, gen_kwargs=given, num_proc=workers)
    data.save_to_disk(str(folder), num_proc=workers)


def reader(folder: Path, batch: int, workers: int) -> Read:
    data = load_from_disk(str(folder)).with_format("numpy", ["image"], output_all_columns=True, dtype=np.uint8)
    generator = torch.Generator()
    sampler = BatchSampler(RandomSampler(data, generator=generator), batch, drop_last=False)
    loader = DataLoader(data, batch_size=None, sampler=sampler, num_workers=workers, persistent_workers=True)

    def read(epoch: int) -> Iterator[tuple[Any, Any]]:
        generator.manual_seed(epoch)
        for each in loader:
            yield each["image"].numpy(), each["label"]

    return read
