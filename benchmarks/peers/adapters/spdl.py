"""SPDL: its pipeline of threads decodes and resizes with FFmpeg (bilinear, antialiased), and then loads .npy files.

Uncompressed .npy files through `spdl.io.load_npy`, which does not copy, are the fastest of the formats that its case study
on data formats compares; a pipeline of threads is its answer to the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import spdl.io
from spdl.pipeline import PipelineBuilder

AHEAD = 3


def build(photos: list[str], labels: list[int], folder: Path, size: int, workers: int) -> None:
    """Decode, resize, and save each image under its label."""
    resize = spdl.io.get_video_filter_desc(
        scale_width=size, scale_height=size, scale_algo="bilinear", scale_mode=None, pix_fmt="rgb24"
    )

    def store(job: tuple[str, int]) -> None:
        path, label = job
        pixels = spdl.io.to_numpy(spdl.io.load_image(path, filter_desc=resize))
        np.save(folder / f"{label:09}.npy", np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    jobs = list(zip(photos, labels, strict=True))
    builder = PipelineBuilder().add_source(jobs).pipe(store, concurrency=workers).add_sink(AHEAD)
    with builder.build(num_threads=workers).auto_stop() as done:
        for _ in done:
            pass


@cache
def stored(folder: Path) -> list[Path]:
    """List the files once."""
    return sorted(folder.glob("*.npy"))


def load(paths: list[Path]) -> tuple[Any, Any]:
    """Return a batch."""
    images = [spdl.io.load_npy(path.read_bytes()) for path in paths]
    return np.stack(images), np.array([int(path.stem) for path in paths])


def read(folder: Path, batch: int, workers: int, epoch: int) -> Iterator[tuple[Any, Any]]:
    """Yield uint8, (N, 3, H, W), in an order of all files."""
    files = stored(folder)
    order = np.random.default_rng(epoch).permutation(len(files)).tolist()
    batches = [[files[i] for i in order[start : start + batch]] for start in range(0, len(order), batch)]
    builder = PipelineBuilder().add_source(batches).pipe(load, concurrency=workers).add_sink(AHEAD)
    with builder.build(num_threads=workers).auto_stop() as loaded:
        yield from loaded
