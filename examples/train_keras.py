"""Train a small convolutional network with Keras 3, on any back end.

    arraystore sample photos && KERAS_BACKEND=torch python examples/train_keras.py photos

PHOTOS is a folder of class folders. Keras prints the loss, and the accuracy on images that were held out.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np

import arraystore
from arraystore.adapters.keras import Dataset


def main() -> None:
    """Build, split, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()

    store = arraystore.build(options.photos, size=64)  # into RAM; with a target it would be on disk
    keras.utils.set_random_seed(0)
    mixed = np.random.default_rng(0).permutation(len(store))
    held_out, train = store[mixed[: len(store) // 5]], store[mixed[len(store) // 5 :]]

    model = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 127.5, offset=-1),  # uint8 until here
            keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
            keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(store.classes)),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        Dataset(train, 32, augment=arraystore.Augment(hflip=0.5)),
        validation_data=Dataset(held_out, 128, shuffle=False),
        epochs=options.epochs,
        shuffle=False,  # of batches: the slots are shuffled already
        verbose=2,
    )


if __name__ == "__main__":
    main()
