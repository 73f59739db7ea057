"""Train a small network in plain NumPy: the minibatch loop, and nothing else.

    arraystore sample photos && python examples/train_numpy.py photos

PHOTOS is a folder of class folders. Prints the loss and the accuracy on images that were held out, after each epoch.
"""

from __future__ import annotations

import argparse

import numpy as np

import arraystore

HIDDEN = 64
RATE = 0.02
MOMENTUM = 0.9


def main() -> None:
    """Build, split, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()

    store = arraystore.build(options.photos, size=32)  # into RAM; with a target it would be on disk
    rng = np.random.default_rng(0)
    mixed = rng.permutation(len(store))
    held_out, train = store[mixed[: len(store) // 5]], store[mixed[len(store) // 5 :]]
    as_floats = arraystore.Augment(dtype="float32", normalize=True)
    mirrored = arraystore.Augment(hflip=0.5, dtype="float32", normalize=True)

    pixels, classes = int(np.prod(store.slot_shape)), len(store.classes)
    weights = [
        rng.normal(0, np.sqrt(2 / pixels), (pixels, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, np.float32),
        rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, classes)).astype(np.float32),
        np.zeros(classes, np.float32),
    ]
    velocities = [np.zeros_like(each) for each in weights]

    for epoch in range(options.epochs):
        total = 0.0
        for images, labels in train.batches(32, shuffle=True, augment=mirrored):
            loss, gradients = loss_and_gradients(weights, images.reshape(len(images), -1), labels)
            total += loss * len(images)
            for number, gradient in enumerate(gradients):
                velocities[number] = MOMENTUM * velocities[number] - RATE * gradient
                weights[number] += velocities[number]
        right = 0
        for images, labels in held_out.batches(128, augment=as_floats):
            right += int((forward(weights, images.reshape(len(images), -1))[1].argmax(1) == labels).sum())
        print(f"epoch {epoch}: loss {total / len(train):.3f}, accuracy {right / len(held_out):.3f}")


def forward(weights: list[np.ndarray], inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the hidden units and the classes say of each image."""
    hidden = np.maximum(inputs @ weights[0] + weights[1], 0)
    return hidden, hidden @ weights[2] + weights[3]


def loss_and_gradients(
    weights: list[np.ndarray], inputs: np.ndarray, labels: np.ndarray
) -> tuple[float, list[np.ndarray]]:
    """Return the mean cross entropy of a batch, and its gradient for each array of weights."""
    hidden, scores = forward(weights, inputs)
    scores = scores - scores.max(1, keepdims=True)
    chances = np.exp(scores)
    chances /= chances.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(chances[rows, labels] + 1e-9).mean()
    chances[rows, labels] -= 1
    chances /= len(labels)
    back = chances @ weights[2].T * (hidden > 0)
    return float(loss), [inputs.T @ back, back.sum(0), hidden.T @ chances, chances.sum(0)]


if __name__ == "__main__":
    main()
