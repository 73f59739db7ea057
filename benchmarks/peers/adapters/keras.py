"""Keras, decoding in each epoch: image_dataset_from_directory over the photographs themselves.

Nothing is built but a folder of copies; labels are given as a list. It resizes bilinearly and does not antialias, and
yields float32. `prefetch` follows, as in its examples.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:  # noqa: ARG001 - copies
    """Copy the photographs into one folder, named by their labels."""
    images = folder / "images"
    images.mkdir()
    for path, label in zip(photos, labels, strict=True):
        shutil.copyfile(path, images / f"{label:09}.jpg")
    (folder / "size").write_text(str(size), encoding="ascii")


@cache
def dataset(folder: Path, batch: int | None) -> Any:
    """Make the dataset once; it shuffles each epoch anew."""
    size = int((folder / "size").read_text(encoding="ascii"))
    labels = sorted(int(path.stem) for path in (folder / "images").iterdir())
    return keras.utils.image_dataset_from_directory(
        folder / "images",
        labels=labels,
        label_mode="int",
        batch_size=batch,
        image_size=(size, size),
        interpolation="bilinear",
        shuffle=batch is not None,
        seed=1,
        verbose=False,
    )


def read(folder: Path, batch: int, workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:  # noqa: ARG001 - it counts
    """Yield float32, (N, H, W, 3)."""
    yield from dataset(folder, batch).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
