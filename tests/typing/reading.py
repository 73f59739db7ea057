"""A user's loops over batches: type-checked, never run."""
# pyright: strict

from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import arraystore
from arraystore import Augment, Lazy, Loader, RandomCrop, RandomResizedCrop, Slots, Store

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]


def doubled(batch: Any) -> Any:
    return batch


def opening() -> None:
    store = arraystore.open("train.store")
    assert_type(store, Store)
    assert_type(store.images, npt.NDArray[np.uint8])
    assert_type(store.status, npt.NDArray[np.uint8])
    assert_type(store.labels, Array | None)
    assert_type(store.classes, tuple[str, ...])
    assert_type(store.mean, tuple[float, ...])
    assert_type(store.spec, arraystore.ImageSpec)
    assert_type(store.bad(), list[arraystore.BadImage])
    assert_type(store.verify(progress=False), arraystore.Verification)
    with arraystore.open("train.store", partial=True) as unfinished:
        assert_type(unfinished, Store)
    slots = arraystore.open_array("images.npy", labels="labels.npy")
    assert_type(slots, Slots)
    str(slots.spec)  # type: ignore[attr-defined] # an array has no spec
    arraystore.open("images.npy", labels="labels.npy")  # type: ignore[call-arg] # it opens stores


def choosing(store: Store) -> None:
    assert_type(store[2:9], Slots)
    assert_type(store[[5, 1]], Slots)
    assert_type(store[np.arange(3)], Slots)
    image, label = store[3]
    del image, label
    assert_type(store.take([1, 2]), Array)
    assert_type(store.take(range(3), "labels"), Array)
    assert_type(store.load("8 GB"), Slots)
    assert_type(arraystore.concatenate([store, store[2:9]]), Slots)


def batches(store: Store) -> None:
    for images, labels in store.loader(256, seed=1):
        assert_type(images, Array)
        assert_type(labels, Array)
    for images in store.loader(targets=()):
        assert_type(images, Array)
    for batch in store.loader(256, targets=["labels", "boxes"], shuffle=False):
        assert_type(batch, dict[str, Array])
        assert_type(batch["boxes"], Array)
    for batch in store.loader(256, targets=("labels", "boxes")):
        assert_type(batch, dict[str, Array])
    for anything in store.loader(256, batch_transform=doubled):
        assert_type(anything, Any)
    assert_type(store.batches(128, shuffle=True, epoch=3), Iterator[Pair])
    assert_type(store.batches(targets=()), Iterator[Array])
    assert_type(store.batches(targets="boxes"), Iterator[Pair])
    store.loader(256, shufle=True)  # type: ignore[call-overload] # it is misspelt
    store.loader(256, seed="1")  # type: ignore[call-overload] # a seed is a number


def by_epoch(store: Store, sides: dict[int, int], counts: dict[int, int]) -> None:
    augment = Augment(crop=RandomResizedCrop(sizes={0: 128, 6: (160, 192)}))
    Augment(crop=RandomResizedCrop(sizes=sides, scale=(0.3, 1.0)))
    Augment(crop=RandomCrop(sizes=lambda epoch: 128 + 8 * epoch))
    assert_type(augment.at_epoch(3), Augment)
    loader = store.loader({0: 512, 6: 384}, augment=augment)
    assert_type(loader, Loader[Pair])
    assert_type(loader.batch_size, int)
    assert_type(Loader(store, counts, targets=()), Loader[Array])
    assert_type(store.loader(lambda epoch: 512 - epoch), Loader[Pair])
    assert_type(store.batches({0: 64, 1: 32}, epoch=1), Iterator[Pair])
    store.loader("512")  # type: ignore[call-overload] # a batch size is a number
    RandomCrop(sizes={0: "128"})  # type: ignore[dict-item] # a size is a number


def loaders(store: Store, names: list[str]) -> None:
    loader = store.loader(
        256,
        augment=Augment(crop=RandomResizedCrop(224), hflip=0.5, dtype="float32", normalize=True),
        last="drop",
        balance=True,
        rank=0,
        world_size=8,
        cache="8 GB",
    )
    assert_type(loader, Loader[Pair])
    assert_type(Loader(store), Loader[Pair])
    assert_type(Loader(store[2:9], 64, targets=()), Loader[Array])
    assert_type(Loader(store, targets=names), Loader[dict[str, Array]])
    assert_type(loader.batch(3, epoch=1), Pair)
    state: dict[str, Any] = loader.state_dict()
    loader.load_state_dict(state)
    loader.set_epoch(len(loader))


def lazy_sequences(store: Store, paths: list[str]) -> None:
    images = arraystore.lazy(paths).map(len, seed=3)
    assert_type(images, Lazy)
    assert_type(images[2:9], Lazy)
    assert_type(images[[1, 2]], Lazy)
    assert_type(store.map(len).zip(store.target("score"), paths).batch(3, drop_last=True).flatten(3).memo("2 GB"), Lazy)
    assert_type(arraystore.concatenate([store, store[:2]]), Slots)
    for _ in images.prefetch(2, processes=True, order=[3, 1], buffer=8, timeout_s=3.5):
        pass
    arraystore.build(images, "x.store", size=8, labels=[1])
    arraystore.lazy(3, kee="x")  # type: ignore[call-arg] # there is no such option
