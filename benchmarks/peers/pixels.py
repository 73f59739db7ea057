"""What adapters do themselves where their peers leave it to the user: resizing with Pillow, and writing in parallel."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Read = Callable[[int], Iterable[tuple[Any, Any]]]
"""Yields the batches of the epoch of that number: images and labels."""


def resized(path: str, size: int) -> Image.Image:
    """Return a photograph in RGB, stretched to a square of that side with Pillow's antialiased bilinear filter."""
    with Image.open(path) as image:
        return image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)


def planes(path: str, size: int) -> npt.NDArray[Any]:
    """Return the same as three planes: uint8, (3, size, size)."""
    return np.ascontiguousarray(np.asarray(resized(path, size)).transpose(2, 0, 1))


def in_parts(write: Callable[[range], None], count: int, workers: int) -> None:
    """Call a function with an equal share of the rows in a forked process for each worker, and wait for all.

    Raises:
        RuntimeError: a process has failed; what it said is in the log.
    """
    fork = multiprocessing.get_context("fork")  # so that the function and what it uses need not be pickled
    bounds = [count * i // workers for i in range(workers + 1)]
    processes = [fork.Process(target=write, args=(range(*bounds[i : i + 2]),)) for i in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a process that wrote a part has failed")
