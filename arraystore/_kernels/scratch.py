"""Scratch memory of threads, kept from image to image."""

from __future__ import annotations

import math
import threading

import numpy as np
import numpy.typing as npt

__all__ = ["Buffers"]

Pixels = npt.NDArray[np.uint8]


class Buffers(threading.local):
    """Scratch memory of one thread, kept from image to image: fresh pages cost more than the pixels written to them.

    What one huge image needed is not kept: at most ``keep_bytes`` a buffer stay with the thread.
    """

    keep_bytes = 32 << 20

    def __init__(self) -> None:
        self._kept: dict[str, Pixels] = {}

    def get(self, name: str, *shape: int) -> Pixels:
        """Return a buffer of ``shape``, contents undefined, valid until the next call with the same name."""
        need = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.size < need:
            kept = np.empty(need, np.uint8)
            if need <= self.keep_bytes:
                self._kept[name] = kept
        return kept[:need].reshape(shape)
