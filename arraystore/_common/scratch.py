"""Scratch memory that a thread keeps from one image to the next."""

import math
import threading

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class Buffers(threading.local):
    """Named scratch buffers; each thread has its own. New pages from the system would cost more than writing to them.

    A buffer of more than ``keep_bytes`` is freed after use, so that one huge image does not hold its memory.
    """

    keep_bytes = 32 << 20

    def __init__(self) -> None:
        self._kept: dict[str, Pixels] = {}

    def get(self, name: str, *shape: int) -> Pixels:
        """Return an uninitialized buffer of ``shape``; it is valid until the next call with the same name."""
        need = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.size < need:
            kept = np.empty(need, np.uint8)
            if need <= self.keep_bytes:
                self._kept[name] = kept
        return kept[:need].reshape(shape)
