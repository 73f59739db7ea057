"""Slots kept in RAM: what is read first stays, as much as fits, and is not read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import parse_bytes
from arraystore._common.fork_lock import lock_across_forks
from arraystore._common.limits import available_memory_bytes
from arraystore._kernels.copy_rows import Place, gather
from arraystore.errors import SpaceError

if TYPE_CHECKING:
    from arraystore._reading.slot_arrays import Slots

__all__ = ["Cache"]

_AT_ONCE_BYTES = 1 << 24

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
_ABSENT, _COMING = -1, -2
_keeping = lock_across_forks()  # held to choose what is kept, not while it is copied


class Cache:
    """A copy in RAM of the slots that are asked for first.

    Args:
        slots: of which it keeps images.
        budget: bytes, or a text (`parse_bytes`); None for all of them.

    Raises:
        SpecError: the budget cannot be understood.
        SpaceError: there is not as much memory.
    """

    def __init__(self, slots: Slots, budget: int | str | None) -> None:
        base_count = sum(len(part.images) for part in slots.parts)
        slot_bytes = max(slots.parts[0].images[:1].nbytes, 1)
        wanted = len(slots) if budget is None else min(parse_bytes(budget) // slot_bytes, len(slots))
        needed, available = wanted * slot_bytes + 4 * base_count, available_memory_bytes()
        if available is not None and needed > available:
            raise SpaceError(
                f"a cache of {wanted:,} slots needs {needed / 1e9:.2f} GB of memory, {available / 1e9:.2f} GB are "
                "free: pass a smaller budget",
                needed_bytes=needed,
                free_bytes=available,
            )
        # Nothing is taken of the system before a slot is kept.
        self.images: Array = np.empty((wanted, *slots.slot_shape), slots.dtype)
        self._row: npt.NDArray[np.int32 | np.int64]
        self._row = np.full(base_count, _ABSENT, np.int32 if wanted < 2**31 else np.int64)
        self._kept = 0

    def __len__(self) -> int:
        return self._kept

    def places(self, base: Index, elsewhere: Callable[[Index], Iterator[Place]]) -> Iterator[Place]:
        """Return where slots lie, as `Slots.places` does: those that are kept here, and those that are not.

        What is not kept is, if there is room, before it is told where it lies: so it is read once.
        """
        rows = self._rows(base)
        missing = np.flatnonzero(rows < 0)
        if missing.size and self._kept < len(self.images):
            self._keep(base[missing], elsewhere)
            rows = self._rows(base)
            missing = np.flatnonzero(rows < 0)
        if missing.size == 0:
            yield self.images, rows, None
            return
        held = np.flatnonzero(rows >= 0)
        if held.size:
            yield self.images, rows[held], held
        for array, there, at in elsewhere(base[missing]):
            yield array, there, missing if at is None else missing[at]

    def missing(self, base: Index) -> Index:
        """Return those of the slots that will have to be read where they lie."""
        return base[self._rows(base) < 0]

    def fill(self, slots: Slots) -> None:
        """Keep slots from the first on, as many as there is room for."""
        step = max(_AT_ONCE_BYTES // max(self.images[:1].nbytes, 1), 1)
        for start in range(0, len(slots), step):
            if self._kept == len(self.images):
                return
            base = slots.base(np.arange(start, min(start + step, len(slots))))
            for _ in self.places(base, slots.places):
                pass

    def _rows(self, base: Index) -> Index:
        return self._row[base].astype(np.int64)

    def _keep(self, base: Index, elsewhere: Callable[[Index], Iterator[Place]]) -> None:
        with _keeping:
            new, order = np.unique(base[self._rows(base) == _ABSENT], return_index=True)
            new = new[np.sort(np.argsort(order)[: len(self.images) - self._kept])]  # those asked for first
            first, self._kept = self._kept, self._kept + len(new)
            self._row[new] = _COMING  # until the pixels are here, others read them elsewhere
        if new.size:
            gather(elsewhere(new), self.images[first : first + len(new)])
            self._row[new] = np.arange(first, first + len(new))
