"""SPDL: its pipeline of threads decodes and resizes with FFmpeg (bilinear, antialiased), and then loads .npy files.

Uncompressed .npy files through `spdl.io.load_npy`, which does not copy, are the fastest of the formats that its case
study on data formats compares; a pipeline of threads is its answer to the interpreter's lock. It needs FFmpeg.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import spdl.io
from pixels import Read
from spdl.pipeline import PipelineBuilder

AHEAD = 3


def piped(jobs: Sequence[Any], function: Callable[[Any], Any], workers: int) -> Iterator[Any]:
    """Yield what a function returns of each job, in as many threads."""
    builder = PipelineBuilder().add_source(jobs).pipe(function, concurrency=workers).add_sink(AHEAD)
    pipeline = builder.build(num_threads=workers)
    with pipeline.auto_stop():
        yield from pipeline


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    resize = spdl.io.get_video_filter_desc(
        scale_width=size, scale_height=size, scale_algo="bilinear", scale_mode=None, pix_fmt="rgb24"
    )

    def store(job: tuple[str, int]) -> int:
        path, label = job
        pixels = spdl.io.to_numpy(spdl.io.load_image(path, filter_desc=resize))
        np.save(folder / f"{label:09}.npy", np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return label

    stored_labels = list(piped(list(zip(photos, labels, strict=True)), store, workers))
    if len(stored_labels) < len(photos):  # it logs what fails, and goes on
        raise RuntimeError(f"{len(photos) - len(stored_labels):,} images could not be stored; why is in the log")


def load(paths: list[Path]) -> tuple[Any, Any]:
    """Return a batch."""
    images = [spdl.io.load_npy(path.read_bytes()) for path in paths]
    return np.stack(images), [int(path.stem) for path in paths]


def reader(folder: Path, batch: int, workers: int) -> Read:
    paths = sorted(folder.glob("*.npy"))

    def read(epoch: int) -> Iterator[tuple[Any, Any]]:
        order = np.random.default_rng(epoch).permutation(len(paths)).tolist()
        batches = [[paths[i] for i in order[start : start + batch]] for start in range(0, len(order), batch)]
        yield from piped(batches, load, workers)

    return read
