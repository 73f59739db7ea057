"""Lists of numbers and masks as indices, as NumPy takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def chosen_items(chosen: Any, count: int) -> npt.NDArray[np.int64]:
    """Return the numbers of the items that a list of numbers or a mask chooses.

    Raises:
        IndexError: an item does not exist, or a mask has another length.
        TypeError: it is neither.
    """
    wanted = np.asarray(None if isinstance(chosen, str | bytes | Mapping) else chosen)
    if wanted.ndim == 1 and wanted.dtype == bool:
        if len(wanted) != count:
            raise IndexError(f"a mask of {len(wanted):,} for {count:,} items")
        return np.flatnonzero(wanted)
    if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
        raise TypeError(f"items are chosen by a number, a slice, a mask or a list of numbers, not by {chosen!r:.100}")
    numbers = wanted.astype(np.int64)
    wrong = (numbers < -count) | (numbers >= count)
    if wrong.any():
        raise IndexError(f"item {numbers[wrong][0]:,} of {count:,}")
    return np.where(numbers < 0, numbers + count, numbers)
