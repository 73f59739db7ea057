"""How kernels are compiled: by numba, so that an install needs no compiler, once a machine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]

_log = logging.getLogger(__name__)


def compiled(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a kernel for one signature when it is defined, outside the lock, cached on disk for the next process.

    Without a signature every process of a pool would compile at its first call; without a writable cache folder
    (a read-only install and no home) numba refuses to compile at all, so then it is compiled for this process alone.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            kernel = njit(signature, nogil=True, cache=True, error_model="numpy")(function)
        except RuntimeError as error:
            _log.warning("kernels are compiled anew in each process, set NUMBA_CACHE_DIR to keep them: %s", error)
            kernel = njit(signature, nogil=True, error_model="numpy")(function)
        return kernel  # type: ignore[no-any-return,unused-ignore]  # numba has no types

    return decorate
