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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np


class Peer:
    """An adapter that is asked for one step after the other.

    Args:
        adapters: the folder of the adapters.
        name: of the adapter.
    """

    def __init__(self, adapters: Path, name: str) -> None:
        # An adapter finds what adapters share, `pixels`, beside this file.
        sys.path[1:1] = [str(adapters.parent)]
        self._module = f"{adapters.name}.{name}"
        self._needed = adapters.parent / "requirements" / f"{name}.txt"
        self._adapter: Any = None
        self._read: Any = None

    def load(self) -> dict[str, Any]:
        """Import the adapter, and so the peer; return its title and the version of its first requirement."""
        self._adapter = importlib.import_module(self._module)
        title = (self._adapter.__doc__ or self._module.partition(".")[2]).partition(":")[0]
        text = self._needed.read_text(encoding="utf-8") if self._needed.exists() else title
        try:
            return {"title": title, "version": version(text.split("=")[0].split(">")[0].strip())}
        except PackageNotFoundError:
            return {"title": title, "version": ""}

    def build(self, photos: list[str], folder: str, size: int, workers: int) -> dict[str, Any]:
        """Build from the photographs, with their numbers as labels."""
        start = time.perf_counter()
        self._adapter.build(photos, list(range(len(photos))), Path(folder), size, workers)
        return {"wall_s": time.perf_counter() - start}

    def open(self, folder: str, batch: int, workers: int) -> dict[str, Any]:
        """Open what was built, once for all epochs."""
        self._read = self._adapter.reader(Path(folder), batch, workers)
        return {}

    def read(self, epoch: int, least_s: float) -> dict[str, Any]:
        """Read whole epochs, from this number on, until that many seconds are over; at least one."""
        start, images, epochs = time.perf_counter(), 0, 0
        while not epochs or time.perf_counter() - start < least_s:
            images += sum(len(labels) for _, labels in self._read(epoch + epochs))
            epochs += 1
        return {"wall_s": time.perf_counter() - start, "images": images}

    def check(self, epoch: int, expected: str, rows: list[int]) -> dict[str, Any]:
        """Read an epoch, and compare it with the images that Pillow makes: a .npy file, uint8, (D, H, W, 3)."""
        images, labels, differences = np.load(expected, mmap_mode="r"), [], []
        for got, slots in self._read(epoch):
            for pixels, slot in zip(np.asarray(got), np.asarray(slots).reshape(-1).tolist(), strict=True):
                image = pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels
                labels.append(slot)
                differences.append(float(np.abs(image.astype(np.float32) - images[rows[slot]]).mean()))
        return {"labels": labels, "differences": differences}


def serve(peer: Peer) -> None:
    """Do what is asked on the standard input until that is closed."""
    # Whatever a peer prints goes to the log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = getattr(peer, asked.pop("step"))(**asked)
        except Exception as error:  # a peer may raise whatever it likes: the row says what
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # frameworks have much to say of their options
    # If nobody is left who could kill this process, it ends by itself.
    signal.alarm(int(sys.argv[3]))
    serve(Peer(Path(sys.argv[1]), sys.argv[2]))
