"""Functions of steps that worker processes import."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def doubled(item: Any) -> Any:
    return item * 2


def filled(item: int) -> npt.NDArray[np.int64]:
    return np.full((64, 65), item)


def drawn(item: int, rng: np.random.Generator) -> float:
    return item + float(rng.random())


def noisy(image: npt.NDArray[np.uint8], rng: np.random.Generator, *, noise: int = 3) -> npt.NDArray[np.uint8]:
    """An image with noise of so many levels up and down, as a transform of a loader."""
    return np.clip(image.astype(int) + rng.integers(-noise, noise + 1, image.shape), 0, 255).astype(np.uint8)


def refuse_three(item: int) -> int:
    if item == 3:
        raise ValueError("no three")
    return item


def slow_five(item: int) -> int:
    if item == 5:
        time.sleep(1000)
    return item


def kill_at_four(item: int) -> int:
    if item == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


class KillOnce:
    """Kills its process at item 4, the first time."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __call__(self, item: int) -> int:
        if item == 4:
            try:
                self.flag.touch(exist_ok=False)
            except FileExistsError:
                return item
            os.kill(os.getpid(), signal.SIGKILL)
        return item


def process(_: int) -> tuple[int, int]:
    return os.getpid(), os.getppid()


def unsendable(item: int) -> Any:
    return (item for _ in range(3)) if item == 2 else item


def ends_early(item: int) -> Any:
    empty: Iterator[int] = iter(())
    return next(empty) if item == 1 else item


def photo(seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (9 + seed % 3, 8, 3), np.uint8)


def with_mirrored(image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    return image, image[:, ::-1]


def refuse_tall(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if len(image) == 11:
        raise ValueError("too tall")
    return image


def kill_tall(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if len(image) == 11:
        os.kill(os.getpid(), signal.SIGKILL)
    return image
