"""How arraystore reads, and what can be done by hand: the cases of `read` and `epochs` that need no framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import numpy as np

import arraystore
from arraystore._decoding.decode import decode_into
from benchmarks.common import Pixels
from benchmarks.processes import Job, Run

Batches = Iterable[tuple[Pixels, Pixels]]
Expected = Callable[[Pixels, Pixels], bool]

SEED = 1
# Mean of a batch: JPEG and other ways of shrinking change less, and other images are fifty and more apart.
APART_LEVELS = 8.0


def consume(batches: Batches, right: Expected | None, count: int) -> int:
    """Take all batches, and return how many images they had.

    Args:
        batches: images and their slots.
        right: says whether images are what these slots should give; None checks nothing.
        count: if that is checked, each of so many slots must come once.
    """
    seen, images = [], 0
    for batch, labels in batches:
        images += len(labels)
        if right is not None:
            assert len(batch) == len(labels)
            assert right(batch, labels), "a batch is not what its slots should give"
            seen.append(np.array(labels))
    if right is not None:
        assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(count)), "not every slot came once"
    return images


def mapped(job: Job) -> Pixels:
    """Map the slots of a store, as anyone can."""
    images: Pixels = np.load(job.store / "images.npy", mmap_mode="r")
    return images


def equals(images: Pixels) -> Expected:
    """Return the check that a batch has the very slots."""
    return lambda batch, labels: bool(np.array_equal(batch, images[np.asarray(labels)]))


def loader(job: Job) -> Run:
    """The loader of arraystore."""
    store = arraystore.open(job.store)
    made = store.loader(job.batch, seed=SEED, workers=job.threads)

    def run(epoch: int) -> int:
        made.set_epoch(epoch)
        return consume(made, None if epoch else equals(store.images), job.count)

    return run


def close_to(images: Pixels) -> Expected:
    """Return the check that a batch looks like its slots."""
    return lambda batch, labels: (
        float(np.abs(batch.astype(np.int16) - images[np.asarray(labels)]).mean()) < APART_LEVELS
    )


def listed(job: Job) -> list[str]:
    """Return the paths that the job lists."""
    assert job.files is not None
    return list(json.loads(job.files.read_text(encoding="utf-8")))


def memcpy(job: Job) -> Run:
    """Whole batches from the mapping into buffers that are there, a thread each: no order, no loader, no hand-over."""
    flat = mapped(job).reshape(-1)
    size = job.batch * job.image_bytes
    starts = range(0, flat.size, size)
    buffers: SimpleQueue[Pixels] = SimpleQueue()
    for _ in range(job.threads):
        buffers.put(np.empty(size, np.uint8))

    def one(start: int, *, check: bool) -> int:
        out, ready = buffers.get(), flat[start : start + size]
        np.copyto(out[: ready.size], ready)
        assert not check or np.array_equal(out[: ready.size], ready)
        buffers.put(out)
        return ready.size

    pool = ThreadPoolExecutor(job.threads)
    return lambda epoch: sum(pool.map(partial(one, check=epoch == 0), starts)) // job.image_bytes


def by_hand(job: Job) -> Run:
    """One thread, a permutation, and an index of the mapping: what most write."""
    images = mapped(job)

    def batches(epoch: int) -> Iterator[tuple[Pixels, Pixels]]:
        order = np.random.default_rng(epoch).permutation(len(images))
        for start in range(0, len(order), job.batch):
            slots = order[start : start + job.batch]
            yield images[slots], slots

    return lambda epoch: consume(batches(epoch), None if epoch else equals(images), len(images))


def read_through(job: Job) -> Run:
    """Read the file from its beginning to its end into one buffer of 1 MiB."""
    path = job.store / "images.npy"
    block = memoryview(bytearray(1 << 20))

    def run(_epoch: int) -> int:
        done = 0
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(block):
                done += size
        assert done == path.stat().st_size
        return job.count

    return run


def files_by_threads(job: Job) -> Run:
    """Decoding in every epoch, as fast as this package can: its decoder in threads, straight into the batch."""
    images, paths = mapped(job), listed(job)
    spec = arraystore.ImageSpec(size=images.shape[2:4])
    pool = ThreadPoolExecutor(job.threads)

    def decode(slot: int, out: Pixels) -> None:
        decode_into(Path(paths[slot]).read_bytes(), out, spec)

    def batches(epoch: int) -> Iterator[tuple[Pixels, Pixels]]:
        order = np.random.default_rng((SEED, epoch)).permutation(job.count)
        for start in range(0, job.count, job.batch):
            slots = order[start : start + job.batch]
            batch = np.empty((len(slots), *spec.slot_shape), np.uint8)
            list(pool.map(decode, slots, batch))
            yield batch, slots

    return lambda epoch: consume(batches(epoch), None if epoch else close_to(images), job.count)
