"""What does augmenting a batch cost?

Slots of noise in RAM, drawn in random order, are cut, mirrored, converted or resampled into a batch that is there
already, split over threads; against a plain copy of the bytes that are written (`np.copyto`, by as many threads), and,
where windows are resampled, against Pillow on the same slots and threads: `fromarray`, `crop`, `resize`, `transpose`,
assign.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import (
    Timing,
    check_memory,
    keep_memory,
    machine,
    machine_line,
    print_table,
    ratios,
    spread,
    take_turns,
    write_json,
)
from PIL import Image

from arraystore._augmenting.augment import Augment, PadAndCrop, RandomCrop, RandomResizedCrop
from arraystore._augmenting.crops import Geometry
from arraystore.spec import Layout

STATISTICS = ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
SMALL, SMALL_CROP = 32, 4


@dataclass
class Batch:
    """A batch to be made: slots, geometry, and the memory it goes to."""

    name: str
    augment: Augment
    slots: npt.NDArray[np.uint8]
    layout: Layout
    rows: npt.NDArray[np.int64]
    geometry: Geometry
    out: npt.NDArray[Any]
    ready: npt.NDArray[Any]

    def apply(self, part: slice) -> None:
        """Augment some of the images."""
        self.augment.apply(self.slots, self.rows[part], self.geometry[part], self.out[part], layout=self.layout)

    def copy(self, part: slice) -> None:
        """Copy as many bytes as that writes."""
        np.copyto(self.out[part], self.ready[part])

    def by_pillow(self, part: slice) -> None:
        """Make the same images with Pillow."""
        for i in range(part.start, part.stop):
            top, left, height, width, hflip, _ = self.geometry[i].item()
            slot = self.slots[self.rows[i]]
            image = Image.fromarray(np.ascontiguousarray(slot.transpose(1, 2, 0)) if self.layout == "NCHW" else slot)
            image = image.crop((left, top, left + width, top + height))
            size = self.out.shape[2:4] if self.layout == "NCHW" else self.out.shape[1:3]
            image = image.resize(size, Image.Resampling.BILINEAR)
            if hflip:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = np.asarray(image)
            self.out[i] = pixels.transpose(2, 0, 1) if self.layout == "NCHW" else pixels


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels; crops have 7/8 of it")
    parser.add_argument("--batch", type=int, default=256, help="images; of 32 x 32, sixteen times as many")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas")
    parser.add_argument("--runs", type=int, default=7, help="rounds")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("slots in RAM")
    print(machine_line(record))
    check_memory(9 * options.batch * 3 * options.size**2)
    keep_memory()
    for threads in map(int, options.threads.split(",")):
        lines = [report(batch, threads, options.runs) for batch in batches(options.size, options.batch)]
        header = ["batch", "images/s", "spread", "GB/s written", "of a copy", "times Pillow"]
        print_table(f"{threads} threads, medians of {options.runs} rounds", header, [line.pop("row") for line in lines])
        write_json(options.json, lines, record)


def batches(size: int, count: int) -> Iterator[Batch]:
    """Yield what is timed."""
    crop = size * 7 // 8
    floats = {"hflip": 0.5, "dtype": "float32", "normalise": STATISTICS}
    many = count * 16
    cases: list[tuple[str, dict[str, Any], Layout, int, int]] = [
        ("crop, flip", {"crop": RandomCrop(crop), "hflip": 0.5}, "NCHW", size, count),
        ("crop, flip of NHWC", {"crop": RandomCrop(crop), "hflip": 0.5}, "NHWC", size, count),
        ("crop, flip, to NHWC", {"crop": RandomCrop(crop), "hflip": 0.5, "layout": "NHWC"}, "NCHW", size, count),
        ("crop, flip, float32", {"crop": RandomCrop(crop), **floats}, "NCHW", size, count),
        ("crop, flip, float16", {"crop": RandomCrop(crop), **floats, "dtype": "float16"}, "NCHW", size, count),
        ("crop, flip, bfloat16", {"crop": RandomCrop(crop), **floats, "dtype": "bfloat16"}, "NCHW", size, count),
        ("resized crop, flip", {"crop": RandomResizedCrop(crop), "hflip": 0.5}, "NCHW", size, count),
        ("resized crop, flip of NHWC", {"crop": RandomResizedCrop(crop), "hflip": 0.5}, "NHWC", size, count),
        ("resized crop, flip, float32", {"crop": RandomResizedCrop(crop), **floats}, "NCHW", size, count),
        ("32 x 32: pad, crop, flip", {"crop": PadAndCrop(SMALL_CROP), "hflip": 0.5}, "NCHW", SMALL, many),
        ("32 x 32: pad, crop, flip of NHWC", {"crop": PadAndCrop(SMALL_CROP), "hflip": 0.5}, "NHWC", SMALL, many),
        ("32 x 32: pad, crop, flip, float32", {"crop": PadAndCrop(SMALL_CROP), **floats}, "NCHW", SMALL, many),
    ]
    rng = np.random.default_rng(0)
    for name, options, layout, side, images in cases:
        augment = Augment(**options)
        slot_shape = (3, side, side) if layout == "NCHW" else (side, side, 3)
        shape, dtype = augment.output(slot_shape, layout)
        rows = rng.permutation(images)
        yield Batch(
            name,
            augment,
            rng.integers(0, 256, (images, *slot_shape), np.uint8),
            layout,
            rows,
            augment.sample(rows, seed=0, epoch=0, slot_shape=slot_shape, layout=layout),
            np.zeros((images, *shape), dtype),
            np.ones((images, *shape), dtype),
        )


def report(batch: Batch, threads: int, runs: int) -> dict[str, Any]:
    """Time a batch, a copy of it, and Pillow in turn; return a row of the table and the figures for JSON."""
    count = len(batch.rows)
    ends = np.linspace(0, count, threads + 1).astype(int).tolist()
    parts = [slice(start, stop) for start, stop in pairwise(ends)]
    resized = isinstance(batch.augment.crop, RandomResizedCrop) and batch.augment.dtype == "uint8"
    works = {"arraystore": batch.apply, "copy": batch.copy} | ({"pillow": batch.by_pillow} if resized else {})
    with ThreadPoolExecutor(threads) as pool:
        timings = take_turns({name: partial(everywhere, pool, work, parts) for name, work in works.items()}, runs)
    ours = timings["arraystore"]
    rate = statistics.median(ours.rates(count))
    shares = {name: times(timings[name], ours) for name in works if name != "arraystore"}
    return {
        "benchmark": "augment",
        "batch": batch.name,
        "threads": threads,
        "images": count,
        "runs": runs,
        "images_per_s": rate,
        "bytes_per_s": rate * batch.out.nbytes / count,
        "of_a_copy": shares["copy"],
        "times_as_fast_as_pillow": shares.get("pillow"),
        "wall_s": {name: timing.wall_s for name, timing in timings.items()},
        "row": [
            batch.name,
            f"{rate:,.0f}",
            spread(ours.rates(count)),
            f"{rate * batch.out.nbytes / count / 1e9:.1f}",
            f"{shares['copy']:.2f}x",
            f"{shares['pillow']:.2f}x" if resized else "",
        ],
    }


def times(other: Timing, ours: Timing) -> float:
    """Return how many times as long as we the other takes, the median over the rounds."""
    return statistics.median(ratios(other, ours))


def everywhere(pool: ThreadPoolExecutor, work: Callable[[slice], None], parts: list[slice]) -> None:
    """Do the parts of a batch, one a thread."""
    list(pool.map(work, parts))


if __name__ == "__main__":
    main()
