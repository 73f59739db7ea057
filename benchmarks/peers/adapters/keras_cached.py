"""Keras, decoding in the first epoch: image_dataset_from_directory, and a cache in memory.

`cache`, `shuffle` and `prefetch` as in TensorFlow's tutorial on loading images; but images are cached, not batches, so
that images are shuffled. It holds four bytes a value: the whole array four times over.
"""

from pathlib import Path

import tensorflow as tf
from pixels import Read

from .keras import build, dataset

__all__ = ["build", "reader"]


def reader(folder: Path, batch: int, _workers: int) -> Read:
    images = dataset(folder, None)
    batches = images.cache().shuffle(len(images), seed=1).batch(batch).prefetch(tf.data.AUTOTUNE)
    return lambda _epoch: batches.as_numpy_iterator()
