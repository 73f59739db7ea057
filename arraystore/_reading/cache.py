"""Slots kept in RAM: the slots that are read first are kept, as many as fit, and are not read again."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import parse_bytes
from arraystore._common.forks import lock_across_forks
from arraystore._common.limits import available_memory_bytes
from arraystore._kernels.copy_rows import ChosenRows, gather
from arraystore.errors import SpaceError

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
_ABSENT, _COMING = -1, -2
_reserving = lock_across_forks()  # held while rows are reserved, not while pixels are copied


class Cache:
    """A copy in RAM of the slots that are read first. Any thread may read through it.

    Args:
        budget: bytes, or a text (`parse_bytes`); None for all slots.
        count: how many slots may be read: never more are kept.
        base_count: slots have base numbers (see `SlotArrays`) from 0 to this, which is not included.
        column: shape and dtype of one slot.
        uncached: returns the rows to read for slots that are not kept.

    Raises:
        SpecError: the budget is no size in bytes.
        SpaceError: there is not enough free memory.
    """

    def __init__(
        self,
        budget: int | str | None,
        *,
        count: int,
        base_count: int,
        column: tuple[tuple[int, ...], np.dtype[Any]],
        uncached: Callable[[Index], Iterator[ChosenRows]],
    ) -> None:
        shape, dtype = column
        slot_bytes = max(math.prod(shape) * dtype.itemsize, 1)
        kept = count if budget is None else min(parse_bytes(budget) // slot_bytes, count)
        needed, available = kept * slot_bytes + 4 * base_count, available_memory_bytes()
        if available is not None and needed > available:
            raise SpaceError(
                f"a cache of {kept:,} slots needs {needed / 1e9:.2f} GB of memory, {available / 1e9:.2f} GB are "
                "free: pass a smaller budget",
                needed_bytes=needed,
                free_bytes=available,
            )
        # The system provides the memory of a page when the first slot in it is kept.
        self._images: Array = np.empty((kept, *shape), dtype)
        self._row: npt.NDArray[np.int32 | np.int64]
        self._row = np.full(base_count, _ABSENT, np.int32 if kept < 2**31 else np.int64)
        self._kept = 0
        self._uncached = uncached

    @property
    def is_full(self) -> bool:
        """Whether no more slots are kept."""
        return self._kept == len(self._images)

    def chosen_rows(self, base: Index) -> Iterator[ChosenRows]:
        """Yield the rows to read for slots with these base numbers: first the kept slots, then the others.

        While there is room, absent slots are kept first and then read from here, so each is read once.
        """
        rows = self._rows(base)
        missing = np.flatnonzero(rows < 0)
        if missing.size and not self.is_full:
            self._keep(base[missing])
            rows = self._rows(base)
            missing = np.flatnonzero(rows < 0)
        if missing.size == 0:
            yield self._images, rows, None
            return
        held = np.flatnonzero(rows >= 0)
        if held.size:
            yield self._images, rows[held], held
        for array, there, at in self._uncached(base[missing]):
            yield array, there, missing if at is None else missing[at]

    def missing(self, base: Index) -> Index:
        """Return the slots that are not kept."""
        return base[self._rows(base) < 0]

    def _rows(self, base: Index) -> Index:
        return self._row[base].astype(np.int64)

    def _keep(self, base: Index) -> None:
        with _reserving:
            new, order = np.unique(base[self._rows(base) == _ABSENT], return_index=True)
            new = new[np.sort(np.argsort(order)[: len(self._images) - self._kept])]  # the first in the batch
            first, self._kept = self._kept, self._kept + len(new)
            self._row[new] = _COMING  # until its pixels are copied, other threads read the slot uncached
        if new.size:
            gather(self._uncached(new), self._images[first : first + len(new)])
            self._row[new] = np.arange(first, first + len(new))
