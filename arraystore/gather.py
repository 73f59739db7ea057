"""Copy chosen slots into a batch buffer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore.streams import copy_rows

__all__ = ["Place", "gather"]

_SCRATCH_BYTES = 1 << 18

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Place = tuple[Array, Index, Index | None]
"""An array, rows of it, and the rows of the batch that they are for; None for all, in order."""


def gather(places: Iterable[Place], out: Array) -> None:
    """Copy rows of arrays to the rows of a batch.

    Large slots go through `arraystore.streams`; for the others np.take with ``out`` and mode "clip" is one memmove a
    row outside the lock, faster than fancy indexing and than a compiled loop. The mode never acts; but with "raise"
    NumPy would copy ``out`` first.

    Args:
        places: where the rows lie.
        out: the batch, C-order, of the arrays' type.
    """
    for array, rows, at in places:
        if copy_rows(array, rows, out, at):
            continue
        if at is None:
            np.take(array, rows, axis=0, out=out, mode="clip")
            continue
        # Rows that are not neighbours in the batch: through no more memory than stays in the processor's cache.
        step = max(_SCRATCH_BYTES // max(out[:1].nbytes, 1), 1)
        for start in range(0, len(rows), step):
            out[at[start : start + step]] = array.take(rows[start : start + step], axis=0, mode="clip")
