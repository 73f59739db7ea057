"""What does augmenting a batch cost?

Slots of noise in RAM, drawn in random order, are cut, mirrored, converted or resampled into a batch that is there
already, split over threads; against a plain copy of the bytes that are written (`np.copyto`, by as many threads), and,
where windows are resampled, against Pillow on the same slots and threads: `fromarray`, `crop`, `resize`, `transpose`,
assign.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image

from arraystore import Augment, PadAndCrop, RandomCrop, RandomResizedCrop
from benchmarks.common import CPUS, Pixels, Row, Rows, Table, keep_memory, middle, rates, ratios, take_turns

ESTIMATE_S = 20
OPTIONS = {
    "size": (256, 32, "side of a slot, in pixels; crops have seven eighths of it"),
    "batch": (256, 3, "images; of 32×32, sixteen times as many"),
    "threads": (sorted({1, CPUS}), [1, 2], "such as 1,2"),
    "rounds": (7, 1, "timed rounds"),
}
STATISTICS = ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
RESIZED = "resized crop, flip"


def batches(size: int, count: int) -> Iterator[tuple[str, Augment, int, int]]:
    """Yield what is timed: a name, how it is augmented, the side of its slots in pixels, and their number."""
    side = size * 7 // 8
    crops: tuple[tuple[str, Any, int, int], ...] = (
        ("crop, flip", RandomCrop(side), size, count),
        (RESIZED, RandomResizedCrop(side), size, count),
        ("32×32: pad, crop, flip", PadAndCrop(4), 32, count * 16),
    )
    for name, crop, slot_size, images in crops:
        yield name, Augment(crop=crop, hflip=0.5), slot_size, images
        floats = Augment(crop=crop, hflip=0.5, dtype="float32", normalize=STATISTICS)
        yield f"{name}, float32", floats, slot_size, images


def by_pillow(slots: Pixels, chosen: Pixels, windows: list[tuple[int, ...]], out: Pixels, part: slice) -> None:
    """Crop, resize and flip some of the images, as torchvision does."""
    for i in range(part.start, part.stop):
        top, left, height, width, hflip, _ = windows[i]
        image = Image.fromarray(np.ascontiguousarray(slots[chosen[i]].transpose(1, 2, 0)))
        image = image.crop((left, top, left + width, top + height))
        image = image.resize(out.shape[:1:-1], Image.Resampling.BILINEAR)
        out[i] = np.asarray(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if hflip else image).transpose(2, 0, 1)


def measure(options: Namespace) -> Iterator[Row]:
    """Time every batch with every number of threads."""
    keep_memory()
    rng = np.random.default_rng(0)
    for threads in options.threads:
        for name, augment, side, count in batches(options.size, options.batch):
            shape = (3, side, side)
            slots, chosen = rng.integers(0, 256, (count, *shape), np.uint8), rng.permutation(count)
            windows = augment.sample(chosen, seed=0, epoch=0, slot_shape=shape, layout="NCHW")
            out_shape, dtype = augment.output(shape, "NCHW")
            out, ready = np.zeros((count, *out_shape), dtype), np.ones((count, *out_shape), dtype)

            def ours(
                part: slice, augment: Augment = augment, made: tuple[Any, ...] = (slots, chosen, windows, out)
            ) -> None:
                slots, chosen, windows, out = made
                augment.apply(slots, chosen[part], windows[part], out[part], layout="NCHW")

            works: dict[str, Callable[[slice], object]] = {"arraystore": ours, "copy": partial(copy, out, ready)}
            if name == RESIZED:
                works["pillow"] = partial(by_pillow, slots, chosen, windows.tolist(), out)
            ends = np.linspace(0, count, threads + 1).astype(int).tolist()
            parts = [slice(start, stop) for start, stop in pairwise(ends)]
            with ThreadPoolExecutor(threads) as pool:
                cases = {key: partial(in_parts, pool, work, parts) for key, work in works.items()}
                wall_s = take_turns(cases, options.rounds)
            yield {
                "batch": name,
                "threads": threads,
                "images": count,
                "image_bytes": out.nbytes // count,
                "wall_s": wall_s,
            }


def copy(out: Pixels, ready: Pixels, part: slice) -> None:
    """Copy as many bytes as augmenting writes."""
    np.copyto(out[part], ready[part])


def in_parts(pool: ThreadPoolExecutor, work: Callable[[slice], object], parts: list[slice]) -> None:
    """Do the parts of a batch, one a thread."""
    list(pool.map(work, parts))


def tables(rows: Rows) -> dict[str, Table]:
    """Augmented batches with each number of threads."""
    table = [["", "threads", "images/s", "least–most", "GB/s written", "of a copy", "× Pillow"]]
    for row in rows:
        seconds = row["wall_s"]
        ours = rates(row["images"], seconds["arraystore"])
        shares = {name: middle(ratios(each, seconds["arraystore"]), 2)[0] for name, each in seconds.items()}
        written = f"{statistics.median(ours) * row['image_bytes'] / 1e9:.1f}"
        cells = [str(row["threads"]), *middle(ours), written, shares["copy"], shares.get("pillow", "")]
        table.append([row["batch"], *cells])
    return {"augmented": table}


def figures(rows: Rows) -> dict[str, str]:
    """Crops beside a copy, resized ones beside Pillow, with the most threads."""
    most = rows.where(threads=max(row["threads"] for row in rows))
    seconds = {row["batch"]: row["wall_s"] for row in most}
    told = {"threads": str(most[0]["threads"])}
    for name, batch in (("crop", "crop, flip"), ("float", "crop, flip, float32"), ("resized", RESIZED)):
        told[f"{name}_of_copy"] = middle(ratios(seconds[batch]["copy"], seconds[batch]["arraystore"]), 2)[0]
    told["times_pillow"] = middle(ratios(seconds[RESIZED]["pillow"], seconds[RESIZED]["arraystore"]), 1)[0]
    return told
