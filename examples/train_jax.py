"""Train a small convolutional network with JAX, each batch divided among all devices.

    arraystore sample photos && python examples/train_jax.py photos

PHOTOS is a folder of class folders. Prints the loss and the accuracy on images that were held out, after each epoch.
"""

from __future__ import annotations

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import arraystore
from arraystore.adapters.jax import Loader

RATE = 0.05
MOMENTUM = 0.9

Weights = dict[str, jax.Array]


def main() -> None:
    """Build, split, train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()

    store = arraystore.build(options.photos, size=64)  # into RAM; with a target it would be on disk
    mixed = np.random.default_rng(0).permutation(len(store))
    held_out, train = store[mixed[: len(store) // 5]], store[mixed[len(store) // 5 :]]

    mesh = jax.make_mesh((jax.device_count(),), ("batch",))
    divided, everywhere = NamedSharding(mesh, PartitionSpec("batch")), NamedSharding(mesh, PartitionSpec())
    batch_size = 8 * jax.local_device_count()
    # uint8 goes to the devices, and becomes float there.
    loader = Loader(
        train, batch_size, sharding=divided, last="drop", augment=arraystore.Augment(hflip=0.5, layout="NHWC")
    )
    testing = Loader(
        held_out, batch_size, sharding=divided, last="pad", shuffle=False, augment=arraystore.Augment(layout="NHWC")
    )
    weights = jax.device_put(new_weights(len(store.classes)), everywhere)
    velocities = jax.tree.map(jnp.zeros_like, weights)

    for epoch in range(options.epochs):
        losses = []
        for images, labels in loader:
            weights, velocities, loss = step(weights, velocities, images, labels)
            losses.append(loss)  # not read before the epoch is over: to read it would wait for it
        right = [(predict(weights, images).argmax(1) == labels).mean() for images, labels in testing]
        print(f"epoch {epoch}: loss {np.mean(losses):.3f}, accuracy {np.mean(right):.3f}")


def new_weights(classes: int) -> Weights:
    """Return random weights."""
    shapes = {"first": (5, 5, 3, 16), "second": (3, 3, 16, 32), "last": (32, classes)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        name: jax.random.normal(key, shape) * np.sqrt(2 / np.prod(shape[:-1]))
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def predict(weights: Weights, images: jax.Array) -> jax.Array:
    """Return what each class has of each image."""
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=(2, 2),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    values = images.astype(jnp.float32) / 127.5 - 1
    values = jax.nn.relu(convolve(values, weights["first"]))
    values = jax.nn.relu(convolve(values, weights["second"]))
    return values.mean((1, 2)) @ weights["last"]


def mean_loss(weights: Weights, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the mean cross entropy of a batch."""
    chances = jax.nn.log_softmax(predict(weights, images))
    return -jnp.take_along_axis(chances, labels[:, None], axis=1).mean()


@jax.jit
def step(
    weights: Weights, velocities: Weights, images: jax.Array, labels: jax.Array
) -> tuple[Weights, Weights, jax.Array]:
    """Take one step down the gradient."""
    loss, gradients = jax.value_and_grad(mean_loss)(weights, images, labels)
    velocities = jax.tree.map(lambda velocity, gradient: MOMENTUM * velocity - RATE * gradient, velocities, gradients)
    return jax.tree.map(jnp.add, weights, velocities), velocities, loss


if __name__ == "__main__":
    main()
