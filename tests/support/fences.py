"""Memory whose neighbors fault: what a kernel reads or writes outside its arrays kills the process."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np
import numpy.typing as npt


class Fenced:
    """Memory between two pages that fault: an array placed at either end shows any access beyond it."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.room = -(-size // page) * page
        self._map = mmap.mmap(-1, self.room + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for fence in (start, start + page + self.room):
            assert protect(fence, page, 0) == 0, os.strerror(ctypes.get_errno())
        self._bytes = np.frombuffer(self._map, np.uint8)[page : page + self.room]

    def place(self, shape: tuple[int, ...], *, at_end: bool) -> npt.NDArray[np.uint8]:
        size = int(np.prod(shape))
        return self._bytes[self.room - size if at_end else 0 :][:size].reshape(shape)
