"""How arraystore reads, and what can be done by hand: the cases of `read.py` that need no framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import arraystore

if TYPE_CHECKING:
    from hosts import Job, Run

    from arraystore._augmenting.augment import Augment

Pixels = npt.NDArray[Any]
Batches = Iterable[tuple[Pixels, Pixels]]
Expected = Callable[[Pixels, Pixels], bool]

SEED = 1
STATISTICS = ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
PILLOW_BATCH = 32
CHECKED = 8


def consume(batches: Batches, right: Expected | None, whole: int | None) -> dict[str, float]:
    """Take all batches, and return how many images they had.

    Args:
        batches: images and their slots.
        right: says whether images are what these slots should give; None checks nothing.
        whole: if that is checked, each of so many slots must come once; None where they need not.
    """
    seen, images = [], 0
    for batch, labels in batches:
        images += len(labels)
        if right is not None:
            assert len(batch) == len(labels)
            assert right(batch, labels), "a batch is not what its slots should give"
            seen.append(np.array(labels))
    if right is not None and whole is not None:
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(whole)), "not every slot came once"
    return {"images": images}


def mapped(job: Job) -> Pixels:
    """Map the slots of a store, as anyone can."""
    images: Pixels = np.load(Path(job.store) / "images.npy", mmap_mode="r")
    return images


def equals(images: Pixels) -> Expected:
    """Return the check that a batch has the very slots."""
    return lambda batch, labels: bool(np.array_equal(batch, images[np.asarray(labels)]))


# --- arraystore ------------------------------------------------------------------------------------------------------


def augment_of(name: str, size: int) -> Augment:
    """Return the augmentation of that name for slots of a size: a crop of seven eighths."""
    from arraystore._augmenting.augment import Augment, RandomCrop, RandomResizedCrop  # noqa: PLC0415 - not for those without

    side = size * 7 // 8
    if name == "resized crop":
        return Augment(crop=RandomResizedCrop(side), hflip=0.5)
    if name == "crop, flip":
        return Augment(crop=RandomCrop(side), hflip=0.5)
    return Augment(crop=RandomCrop(side), hflip=0.5, dtype="float32", normalise=STATISTICS)


def loader(job: Job) -> Run:
    """The loader."""
    store = arraystore.open(job.store)
    augment = augment_of(job.augment, store.spec.size[0]) if job.augment else None
    made = store[: job.count].loader(job.batch, seed=SEED, workers=job.threads, augment=augment)

    def run(epoch: int, check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        made.set_epoch(epoch)
        right = None
        if check:
            right = equals(store.images) if augment is None else augmented(store.images, augment, epoch)
        return consume(made, right, job.count)

    return run


def augmented(images: Pixels, augment: Augment, epoch: int) -> Expected:
    """Return the check that a batch has these slots as Pillow would augment them; of some of them, for it is slow."""

    def right(batch: Pixels, labels: Pixels) -> bool:
        batch, labels = batch[::CHECKED], labels[::CHECKED]
        windows = sample(augment, images, labels, epoch)
        size = batch.shape[2:4]
        expected = np.stack([one_by_pillow(pillow(images[i]), w, size) for i, w in zip(labels, windows, strict=True)])
        if batch.dtype == np.uint8:
            return float(np.abs(batch.astype(np.int16) - expected).mean(axis=(1, 2, 3)).max()) < 1
        mean, std = (np.array(numbers)[:, None, None] for numbers in STATISTICS)
        return bool(np.allclose(batch, (expected - mean) / std, atol=1e-4))

    return right


def sample(augment: Augment, images: Pixels, slots: Pixels, epoch: int) -> list[tuple[int, ...]]:
    """Return top, left, height, width and the two flips of each image."""
    shape = images.shape[1:]
    return list(augment.sample(slots, seed=SEED, epoch=epoch, slot_shape=shape, layout="NCHW").tolist())


# --- by hand ---------------------------------------------------------------------------------------------------------


def memcpy(job: Job) -> Run:
    """Whole batches from the mapping into buffers that are there, a thread each: no order, no loader, no hand-over."""
    flat = mapped(job).reshape(-1)
    size = job.batch * job.bytes_per_image
    # What is handed over may be more than there is to read: then this begins again.
    steps = [k * size % max(flat.size - size + 1, 1) for k in range(job.count // job.batch)]
    steps += [0] if job.count % job.batch else []
    # Whoever is free takes the next batch, as in a loader: halves do not end at once where others use the processors.
    buffers: SimpleQueue[Pixels] = SimpleQueue()
    for _ in range(job.threads):
        buffers.put(np.empty(size, np.uint8))

    def one(k: int, *, check: bool) -> int:
        out, images = buffers.get(), min(job.batch, job.count - k * job.batch)
        ready = flat[steps[k] : steps[k] + images * job.bytes_per_image]
        np.copyto(out[: ready.size], ready)
        assert not check or np.array_equal(out[: ready.size], ready)
        buffers.put(out)
        return images

    pool = ThreadPoolExecutor(job.threads)
    return lambda _epoch, check: {"images": sum(pool.map(partial(one, check=check), range(len(steps))))}


def by_hand(job: Job, *, take: bool) -> Run:
    """One thread, a permutation, and an index of the mapping: np.take into a buffer, or what most write."""
    images = mapped(job)
    out = np.empty((job.batch, *images.shape[1:]), np.uint8)

    def batches(epoch: int) -> Iterator[tuple[Pixels, Pixels]]:
        order = np.random.default_rng(epoch).permutation(len(images))
        for start in range(0, len(order), job.batch):
            slots = order[start : start + job.batch]
            if take:
                yield np.take(images, slots, axis=0, out=out[: len(slots)], mode="clip"), slots
            else:
                yield images[slots], slots

    return lambda epoch, check: consume(batches(epoch), equals(images) if check else None, len(images))


def read(job: Job, *, block_bytes: int) -> Run:
    """Read the file from its beginning to its end into one buffer."""
    path = Path(job.store) / "images.npy"
    block = memoryview(bytearray(block_bytes))

    def run(_epoch: int, _check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        done = 0
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(block):
                done += size
        assert done == path.stat().st_size
        return {"images": job.count}

    return run


# --- Pillow ----------------------------------------------------------------------------------------------------------


def pillow(slot: Pixels) -> Image.Image:
    """Return a planar slot as Pillow's image."""
    return Image.fromarray(np.ascontiguousarray(slot.transpose(1, 2, 0)))


def one_by_pillow(image: Image.Image, window: Sequence[int], size: tuple[int, int]) -> Pixels:
    """Crop, resize, flip, and exchange axes: what torchvision does to such an image."""
    top, left, height, width, hflip, _ = window
    image = image.crop((left, top, left + width, top + height))
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=None)
    if hflip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image).transpose(2, 0, 1)


def by_pillow(job: Job) -> Run:
    """The same windows from images that Pillow has already: neither decoding nor drawing them is timed."""
    images = mapped(job)
    augment = augment_of(job.augment, images.shape[2])
    slots = np.arange(job.count)
    ready = [pillow(images[i]) for i in slots]
    windows = sample(augment, images, slots, 0)
    side = images.shape[2] * 7 // 8
    outs = np.empty((job.count, images.shape[1], side, side), np.uint8)

    def some(start: int) -> int:
        stop = min(start + PILLOW_BATCH, job.count)
        for i in range(start, stop):
            outs[i] = one_by_pillow(ready[i], windows[i], (side, side))
        return stop - start

    pool = ThreadPoolExecutor(job.threads)
    return lambda _epoch, _check: {"images": sum(pool.map(some, range(0, job.count, PILLOW_BATCH)))}


# --- memory ----------------------------------------------------------------------------------------------------------


def steady(job: Job) -> Run:
    """Short epochs, and how many buffers they have taken so far."""
    made: list[int] = []

    def allocate(size: int) -> npt.NDArray[np.uint8]:
        made.append(size)
        return np.empty(size, np.uint8)

    some = arraystore.open(job.store)[: job.count].loader(job.batch, seed=SEED, workers=job.threads, allocate=allocate)

    def run(epoch: int, check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        some.set_epoch(epoch)
        figures = consume(some, equals(some.slots.parts[0].images) if check else None, job.count)
        return {**figures, "buffers": len(made)}

    return run


CASES: dict[str, Callable[[Job], Run]] = {
    "arraystore": loader,
    "memcpy": memcpy,
    "np.take": partial(by_hand, take=True),
    "images[slots]": partial(by_hand, take=False),
    "read 1 MiB": partial(read, block_bytes=1 << 20),
    "read 64 MiB": partial(read, block_bytes=1 << 26),
    "Pillow": by_pillow,
    "steady": steady,
}
