"""An epoch over photographs, each way of having them: the cases of `epochs.py`.

Each is given a store and a folder with two lists: the photographs from which the store was built, and the same
resized once and kept as JPEGs. What an epoch yields is what the store has, but for what Pillow and JPEG change of it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from read_cases import SEED, Expected, Pixels, consume, loader, mapped
from read_peers import Items, data_loader

import arraystore
from arraystore._decoding.decode import decode_into

if TYPE_CHECKING:
    from hosts import Job, Run

PHOTOS, PRESIZED = "photos.json", "presized.json"
# Mean of a batch, in grey levels: what JPEG changes, and other ways of shrinking; of other images it is fifty and more.
_APART = 8.0
_IN_FLIGHT_PER_THREAD = 32


def paths_of(job: Job, listed: str) -> list[str]:
    """Return a list of paths."""
    assert job.folder is not None
    paths: list[str] = json.loads((Path(job.folder) / listed).read_text(encoding="utf-8"))
    return paths


def close_to(images: Pixels) -> Expected:
    """Return the check that a batch looks like its slots."""
    return lambda batch, labels: float(np.abs(batch.astype(np.int16) - images[np.asarray(labels)]).mean()) < _APART


def by_data_loader(job: Job, *, listed: str) -> Run:
    """What most write: a dataset that opens, converts and resizes with Pillow, and torch's DataLoader over it."""
    paths = paths_of(job, listed)
    images = mapped(job)
    size = images.shape[3], images.shape[2]

    def item(i: int) -> tuple[Pixels, int]:
        with Image.open(paths[i]) as image:
            small = ImageOps.exif_transpose(image).convert("RGB").resize(size, Image.Resampling.BILINEAR)
        return np.asarray(small).transpose(2, 0, 1), i

    return data_loader(Items(job.count, lambda: item), job, close_to(images))


def by_threads(job: Job, *, listed: str) -> Run:
    """Decoding in every epoch, as fast as this package can: its decoder in threads, straight into the batch."""
    paths = paths_of(job, listed)
    images = mapped(job)
    spec = arraystore.ImageSpec(size=images.shape[2:4])
    pool = ThreadPoolExecutor(job.threads)

    def decode(slot: int, out: Pixels) -> None:
        decode_into(Path(paths[slot]).read_bytes(), out, spec)

    def begin(slots: Pixels) -> tuple[Pixels, Pixels, list[Future[None]]]:
        batch = np.empty((len(slots), *spec.slot_shape), np.uint8)
        return batch, slots, [pool.submit(decode, int(slot), out) for slot, out in zip(slots, batch, strict=True)]

    def batches(epoch: int) -> Iterator[tuple[Pixels, Pixels]]:
        order = np.random.default_rng((SEED, epoch)).permutation(job.count)
        ahead: deque[tuple[Pixels, Pixels, list[Future[None]]]] = deque()
        waiting = -(-_IN_FLIGHT_PER_THREAD * job.threads // job.batch)
        for start in range(0, job.count, job.batch):
            ahead.append(begin(order[start : start + job.batch]))
            if len(ahead) > waiting:
                yield settled(*ahead.popleft())
        while ahead:
            yield settled(*ahead.popleft())

    right = close_to(images)
    return lambda epoch, check: consume(batches(epoch), right if check else None, job.count)


def settled(batch: Pixels, slots: Pixels, futures: list[Future[None]]) -> tuple[Pixels, Pixels]:
    """Wait for a batch."""
    for future in futures:
        future.result()
    return batch, slots


CASES: dict[str, Callable[[Job], Any]] = {
    "photos, DataLoader and Pillow": partial(by_data_loader, listed=PHOTOS),
    "photos, threads": partial(by_threads, listed=PHOTOS),
    "presized, DataLoader and Pillow": partial(by_data_loader, listed=PRESIZED),
    "presized, threads": partial(by_threads, listed=PRESIZED),
    "store": loader,
}
