"""A peer's process: runs one adapter in the peer's own interpreter, step by step, as lines on its standard input ask.

Only the standard library and NumPy are used here, which every peer brings. What goes wrong is told, not raised: the row
says why, and the traceback goes to the log.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


class Peer:
    """An adapter that is asked for one step after the other.

    Args:
        adapters: the folder of the adapters.
        name: of the adapter.
    """

    def __init__(self, adapters: Path, name: str) -> None:
        sys.path.insert(1, str(adapters.parent))
        self._name = f"{adapters.name}.{name}"
        self._adapter: Any = None

    def load(self, package: str) -> dict[str, Any]:
        """Import the adapter, and so the peer; return the seconds that took, and the peer's version."""
        start = time.perf_counter()
        self._adapter = importlib.import_module(self._name)
        return {"import_s": time.perf_counter() - start, "version": version_of(package)}

    def build(self, photos: list[str], folder: str, size: int, workers: int) -> dict[str, Any]:
        """Build from the photos, with their numbers as labels."""
        start = time.perf_counter()
        self._adapter.build(photos, list(range(len(photos))), Path(folder), size, workers)
        return {"wall_s": time.perf_counter() - start}

    def read(self, folder: str, batch: int, workers: int, epoch: int, least_s: float) -> dict[str, Any]:
        """Read whole epochs, from this number on, until that many seconds are over; at least one."""
        start, images, epochs = time.perf_counter(), 0, 0
        while not epochs or time.perf_counter() - start < least_s:
            images += sum(len(labels) for _, labels in self._adapter.read(Path(folder), batch, workers, epoch + epochs))
            epochs += 1
        return {"wall_s": time.perf_counter() - start, "images": images, "epochs": epochs}

    def check(self, expected: str, rows: list[int], folder: str, **how: int) -> dict[str, Any]:
        """Read an epoch, and compare it with the images that Pillow makes.

        Args:
            expected: a .npy file of the distinct images, uint8, (D, H, W, 3).
            rows: which of these each slot should have.
            folder: what was built.
            how: batch, workers and epoch.
        """
        images, labels, differences = np.load(expected, mmap_mode="r"), [], []
        dtype, shape = "", ()
        for got, slots in self._adapter.read(Path(folder), **how):
            pixels, numbers = np.asarray(got), np.asarray(slots).reshape(-1).tolist()
            dtype, shape = dtype or str(pixels.dtype), shape or pixels.shape[1:]
            labels += numbers
            differences += [
                difference(one, images[rows[slot]]) if 0 <= slot < len(rows) else 255.0
                for one, slot in zip(pixels, numbers, strict=True)
            ]
        return {"labels": labels, "differences": differences, "dtype": dtype, "shape": shape}


def version_of(package: str) -> str:
    """Return the version of a package; "" where it says none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def difference(image: Pixels, expected: Pixels) -> float:
    """Return the mean absolute difference of two images in grey levels; 255 where their shapes differ."""
    if image.shape[:1] == (3,):
        image = image.transpose(1, 2, 0)
    if image.shape != expected.shape:
        return 255.0
    return float(np.abs(image.astype(np.float32) - expected).mean())


def serve(peer: Peer) -> None:
    """Do what is asked on the standard input until that is closed."""
    # Whatever a peer prints goes to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    steps: dict[str, Callable[..., dict[str, Any]]] = {
        "load": peer.load,
        "build": peer.build,
        "read": peer.read,
        "check": peer.check,
    }
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = steps[asked.pop("step")](**asked)
        except Exception as error:  # noqa: BLE001 - a peer may raise whatever it likes: the row says what
            traceback.print_exc()
            said = " ".join(str(error).split())
            missing = isinstance(error, ModuleNotFoundError)
            answer = {"error": f"{type(error).__name__}: {said}"[:400], "missing": missing}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # what frameworks have to say of their options
    # Whoever started this may be killed before it can kill this one: then it ends by itself.
    signal.alarm(int(sys.argv[3]))
    serve(Peer(Path(sys.argv[1]), sys.argv[2]))
