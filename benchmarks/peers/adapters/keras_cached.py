"""Keras, decoding in the first epoch: image_dataset_from_directory, and a cache in memory.

`cache`, `shuffle` and `prefetch` as in TensorFlow's tutorial on loading images; but images are cached, not batches, so
that images are shuffled. It holds four bytes a value: the whole array four times over.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import tensorflow as tf

from .keras import build, dataset

__all__ = ["build", "read"]


@cache
def cached(folder: Path, batch: int) -> Any:
    """Make the dataset once; it shuffles each epoch anew."""
    images = dataset(folder, None)
    return images.cache().shuffle(len(images), seed=1).batch(batch).prefetch(tf.data.AUTOTUNE)


def read(folder: Path, batch: int, workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:  # noqa: ARG001 - it counts
    """Yield float32, (N, H, W, 3), in an order of all images."""
    yield from cached(folder, batch).as_numpy_iterator()
