"""Train a small network on a folder of images with PyTorch, and go on where it was if it was interrupted.

    python examples/train_torch.py photos/ train.store --epochs 5 --device cuda

The folder has a folder a class. The first call builds the store; each epoch trains on four fifths of it, in a new
order, and tests on the rest. What has been learned is kept beside the store, with the place in the epoch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

import arraystore
from arraystore import Augment, RandomCrop
from arraystore.adapters.torch import Loader

SIZE, CROP = 72, 64


def network(classes: int) -> nn.Module:
    """Return three convolutions and a linear layer."""
    layers: list[nn.Module] = []
    for inside, outside in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


@torch.no_grad()
def accuracy(model: nn.Module, loader: Loader) -> float:
    """Return which share of the images is told right."""
    model.eval()
    right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in loader)
    model.train()
    return right / loader.loader.order.count


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description="Train a small network on a folder of images.")
    parser.add_argument("photos", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save-every", type=int, default=100, help="batches")
    options = parser.parse_args()

    if not options.store.exists():
        arraystore.build(options.photos, options.store, size=SIZE, fit="crop", bad="drop", progress=False)
    store = arraystore.open(options.store)
    mixed = np.random.default_rng(0).permutation(len(store))
    training, testing = store[mixed[len(store) // 5 :]], store[mixed[: len(store) // 5]]
    # uint8 goes to the device and becomes floats there, with the mean and standard deviation that the store has.
    floats = {"device": options.device, "dtype": "float32", "normalize": True, "channels_last": True}
    crops = Augment(crop=RandomCrop(CROP), hflip=0.5)
    train_loader = Loader(training, options.batch_size, seed=1, augment=crops, **floats)
    test_loader = Loader(testing, options.batch_size, shuffle=False, **floats)

    torch.manual_seed(0)
    model = network(len(store.classes)).to(options.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    kept = options.store.with_suffix(".pt")
    if kept.exists():
        state = torch.load(kept, map_location=options.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        train_loader.load_state_dict(state["loader"])
        print(f"going on in epoch {train_loader.epoch}")

    def save() -> None:
        new = kept.with_suffix(".new")
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "loader": train_loader.state_dict()}, new)
        new.replace(kept)

    while (epoch := train_loader.epoch) < options.epochs:
        losses = []
        for images, labels in train_loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if len(losses) % options.save_every == 0:
                save()
        save()
        mean = torch.stack(losses).mean().item() if losses else float("nan")
        print(f"epoch {epoch}: loss {mean:.3f}, accuracy {accuracy(model, test_loader):.3f}", flush=True)


if __name__ == "__main__":
    main()
