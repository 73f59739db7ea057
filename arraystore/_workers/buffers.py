"""Buffers for batches, used again as soon as nothing refers to them.

With a fixed ring of buffers, a batch would be valid until the next one only, and code that breaks this rule trains on
wrong images without any error. A new buffer for each batch has no such trap, but getting its pages from the system
costs more than filling them. This pool has neither fault. Each time a buffer is lent, a new array refers to it.
Everything made of the batch (slices, memoryviews, tensors) keeps that array alive. When the last of them is freed, a
weak reference puts the buffer back.
"""

import math
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore.errors import SpecError

_ALIGNED_BYTES = 64  # a cache line, and the widest vector register

Block = npt.NDArray[np.uint8]


def _allocate(size: int) -> Block:
    return np.empty(size, np.uint8)


class BufferPool:
    """Buffers, each for the arrays of one batch. Any thread may take one, and any thread may free one.

    Args:
        columns: name → shape and dtype of the arrays of a batch.
        spare: how many unused buffers are kept. If more are in use, more are made, and freed after use.
        allocate: bytes → a writable uint8 array of that size, such as memory that a device can read by itself.

    Attributes:
        columns: what was passed.
        block_bytes: how many bytes a buffer has.
    """

    def __init__(
        self,
        columns: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
        *,
        spare: int,
        allocate: Callable[[int], Block] = _allocate,
    ) -> None:
        self.columns = dict(columns)
        self._columns: dict[str, tuple[int, int, tuple[int, ...], np.dtype[Any]]] = {}
        end = 0
        for name, (shape, dtype) in columns.items():
            size = math.prod(shape) * dtype.itemsize
            self._columns[name] = (end, end + size, shape, dtype)
            end += -(-size // _ALIGNED_BYTES) * _ALIGNED_BYTES
        self.block_bytes = end
        self._spare = spare
        self._allocate = allocate
        # The buffer that came back last is lent first, because it is in the processor's cache: going round 18 buffers
        # of 786 kB took twice as long as going round four. A deque, because code that runs when an array is freed may
        # append to it even in the middle of another call of it.
        self._free: deque[Block] = deque()

    def take(self) -> dict[str, npt.NDArray[Any]]:
        """Lend a buffer.

        Returns:
            name → array, uninitialized and writable, owned by the caller for as long as anything refers to it.
        """
        try:
            block = self._free.pop()
        except IndexError:
            block = self._allocated(self.block_bytes + _ALIGNED_BYTES)
        start = -block.ctypes.data % _ALIGNED_BYTES
        lent = block[start : start + self.block_bytes]
        # NumPy makes plain views of `lent` refer to `block`, past the weak reference. Arrays over a memoryview of
        # `lent` keep `lent` alive.
        view = memoryview(lent)  # type: ignore[arg-type,unused-ignore]
        weakref.finalize(lent, self._give_back, block).atexit = False
        return {
            name: np.frombuffer(view[begin:end], dtype).reshape(shape)
            for name, (begin, end, shape, dtype) in self._columns.items()
        }

    def _allocated(self, size: int) -> Block:
        block = self._allocate(size)
        fits = isinstance(block, np.ndarray) and block.dtype == np.uint8 and block.ndim == 1 and block.size >= size
        if not (fits and block.flags.writeable and block.flags.c_contiguous):
            found = type(block).__name__
            if isinstance(block, np.ndarray):
                kind = "" if block.flags.writeable else "read-only "
                found = f"a {kind}array of {block.dtype} and shape {block.shape}"
            raise SpecError(
                f"allocate({size}) returned {found}: it must return a writable array of uint8 with at least {size:,} "
                "elements in one dimension"
            )
        return block

    def _give_back(self, block: Block) -> None:
        if len(self._free) < self._spare:
            self._free.append(block)
