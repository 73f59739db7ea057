"""Keras, decoding in each epoch: image_dataset_from_directory over the photographs themselves.

Nothing is built but a folder of copies; labels are given as a list. It resizes bilinearly and does not antialias, and
yields float32. `prefetch` follows, as in its examples.
"""

import shutil
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from pixels import Read


def build(photos: list[str], labels: list[int], folder: Path, size: int, _workers: int) -> None:
    images = folder / "images"
    images.mkdir()
    for path, label in zip(photos, labels, strict=True):
        shutil.copyfile(path, images / f"{label:09}.jpg")
    (folder / "size").write_text(str(size), encoding="ascii")


def dataset(folder: Path, batch: int | None) -> Any:
    """Return the dataset of the folder; in batches, it shuffles each epoch anew."""
    size = int((folder / "size").read_text(encoding="ascii"))
    labels = sorted(int(path.stem) for path in (folder / "images").iterdir())
    options: dict[str, Any] = {"label_mode": "int", "interpolation": "bilinear", "seed": 1, "verbose": False}
    options |= {"labels": labels, "batch_size": batch, "image_size": (size, size), "shuffle": batch is not None}
    return keras.utils.image_dataset_from_directory(folder / "images", **options)


def reader(folder: Path, batch: int, _workers: int) -> Read:
    batches = dataset(folder, batch)
    return lambda _epoch: batches.prefetch(tf.data.AUTOTUNE).as_numpy_iterator()
