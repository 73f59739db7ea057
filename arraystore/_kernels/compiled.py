"""How kernels are compiled: by numba, which needs no C compiler on the user's machine. Types of their arguments."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Two = tuple[int, int]
Four = tuple[int, int, int, int]
# numba's types of pixels, flat and (H, W, C), that a kernel only reads: they accept writable arrays as well.
READ_ONLY = "Array(uint8, 1, 'C', True, aligned=True)"
READ_ONLY_IMAGE = "Array(uint8, 3, 'C', True, aligned=True)"

_log = logging.getLogger(__name__)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def inlined(function: _Function) -> _Function:
    """Make a function a part of each kernel that calls it; it is not compiled by itself."""
    return cast("_Function", njit(nogil=True, error_model="numpy", inline="always")(function))


def compiled(*signatures: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a kernel for the given types of arguments when its module is imported, and cache it on disk.

    The kernel runs outside the interpreter's lock. If no cache folder is writable (a read-only installation and no home
    folder), numba raises a RuntimeError; the kernel is then compiled for this process alone.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        types = list(signatures)
        try:
            kernel = njit(types, nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError as error:
            _log.warning("kernels are compiled anew in each process, set NUMBA_CACHE_DIR to keep them: %s", error)
            kernel = njit(types, nogil=True, error_model="numpy")(function)
        return kernel  # type: ignore[no-any-return,unused-ignore]  # numba has no types

    return decorate
