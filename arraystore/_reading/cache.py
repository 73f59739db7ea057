"""Slots kept in RAM: the slots that are read first are kept, as many as fit, and are not read again."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import parse_bytes
from arraystore._common.forks import lock_across_forks
from arraystore._common.limits import available_memory_bytes
from arraystore._kernels.copy_rows import ChosenRows, gather
from arraystore._stores.encoded.images import EncodedImages
from arraystore.errors import SpaceError

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Uncached = Callable[[Index], Iterator[Any]]  # of ChosenRows
_ABSENT, _COMING = -1, -2
_reserving = lock_across_forks()  # held while rows are reserved, not while pixels are copied


class Cache:
    """A copy in RAM of the slots that are read first. Any thread may read through it.

    Args:
        budget: bytes, or a text (`parse_bytes`); None for all slots.
        counts: how many slots may be read, more of which are never kept; and how many base numbers (see `SlotArrays`)
            there are.
        column: shape and dtype of one slot.
        uncached: returns the rows to read for slots that are not kept.

    Raises:
        SpecError: the budget is no size in bytes.
        SpaceError: there is not enough free memory.
    """

    def __init__(
        self,
        budget: int | str | None,
        counts: tuple[int, int],
        column: tuple[tuple[int, ...], np.dtype[Any]],
        uncached: Uncached,
    ) -> None:
        shape, dtype = column
        slot_bytes = max(math.prod(shape) * dtype.itemsize, 1)
        kept = counts[0] if budget is None else min(parse_bytes(budget) // slot_bytes, counts[0])
        _check_memory(f"{kept:,} slots", kept * slot_bytes + 4 * counts[1])
        # The system provides the memory of a page when the first slot in it is kept.
        self._images: Array | EncodedImages = np.empty((kept, *shape), dtype)
        self._begin(counts[1], uncached)

    def _begin(self, base_count: int, uncached: Uncached) -> None:
        self._row: npt.NDArray[np.int32 | np.int64]
        self._row = np.full(base_count, _ABSENT, np.int32 if len(self._images) < 2**31 else np.int64)
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
            first_read = np.argsort(order)
            new = new[np.sort(first_read[: self._fitting(new[first_read])])]
            first, self._kept = self._kept, self._kept + len(new)
            self._reserve(new, first)
            self._row[new] = _COMING  # until it is copied, other threads read the slot uncached
        if new.size:
            self._copy(new, first)
            self._row[new] = np.arange(first, first + len(new))

    def _fitting(self, _new: Index) -> int:
        """Return how many of the slots that shall be kept next there is room for."""
        return len(self._images) - self._kept

    def _reserve(self, new: Index, first: int) -> None:
        """Set room aside for these slots, of which the first is row ``first``."""

    def _copy(self, new: Index, first: int) -> None:
        gather(self._uncached(new), self._images[first : first + len(new)])


class EncodedCache(Cache):
    """The same for slots that are kept as JPEGs: it keeps the JPEGs, about eight times as many.

    Args:
        budget: see `Cache`.
        counts: see `Cache`.
        encoded: the images that are cached.
        chosen: the base numbers of the slots that may be read.
        uncached: see `Cache`; it yields `EncodedImages`.

    Raises:
        SpecError: the budget is no size in bytes.
        SpaceError: there is not enough free memory.
    """

    def __init__(
        self,
        budget: int | str | None,
        counts: tuple[int, int],
        encoded: Sequence[EncodedImages],
        chosen: Index,
        uncached: Uncached,
    ) -> None:
        allowed = None if budget is None else parse_bytes(budget)
        self._uncached = uncached
        # A damaged slot is an error when it is read, not here.
        total = int(self._sizes(np.unique(chosen), EncodedImages.spans_inside).sum())
        room = total if allowed is None else min(allowed, total)
        _check_memory(f"{room:,} bytes of JPEGs", room + 8 * (counts[0] + 1) + 4 * counts[1])
        self._offsets = np.zeros(counts[0] + 1, np.uint64)
        self._jpegs = np.empty(room, np.uint8)
        columns = max(0 if each.shapes is None else each.shapes.shape[1] for each in encoded)
        self._shapes = np.zeros((counts[0], columns), np.int32) if columns else None
        self._images = EncodedImages(
            self._jpegs,
            self._offsets,
            (counts[0], *encoded[0].shape[1:]),
            encoded[0].layout,
            owner=self._owner,
            shapes=self._shapes,
            most_pixels=max(each.most_pixels for each in encoded),
        )
        self._is_full = False
        self._begin(counts[1], uncached)

    @property
    def is_full(self) -> bool:
        """Whether no more slots are kept: one did not fit, or all are here."""
        return self._is_full or super().is_full

    def _sizes(self, base: Index, spans: Callable[..., tuple[Index, Index]] = EncodedImages.spans) -> Index:
        sizes = np.zeros(len(base), np.int64)
        for images, rows, at in self._uncached(base):
            starts, ends = spans(images, rows)
            sizes[slice(None) if at is None else at] = ends - starts
        return sizes

    def _fitting(self, new: Index) -> int:
        room = self._jpegs.nbytes - int(self._offsets[self._kept])
        count = int(np.searchsorted(np.cumsum(self._sizes(new)), room, "right"))
        self._is_full = count < len(new)
        return count

    def _reserve(self, new: Index, first: int) -> None:
        ends = int(self._offsets[first]) + np.cumsum(self._sizes(new))
        self._offsets[first + 1 : first + 1 + len(new)] = ends
        if self._shapes is not None:
            for images, rows, at in self._uncached(new):
                images.sides_of(rows)  # raises if they are damaged
                places, own = first + (np.arange(len(rows)) if at is None else at), images.shapes
                self._shapes[places[:, None], np.arange(own.shape[1])] = own[rows]

    def _copy(self, new: Index, first: int) -> None:
        begins = self._offsets[first : first + len(new)].astype(np.int64)
        for images, rows, at in self._uncached(new):
            images.copy_bytes(rows, self._jpegs, begins if at is None else begins[at])

    def _owner(self, row: int) -> tuple[str, int]:
        (base,) = np.flatnonzero(self._row == row)
        ((images, rows, _),) = self._uncached(np.array([base]))
        return images.place, int(rows[0])


def _check_memory(what: str, needed: int) -> None:
    """Check that so many bytes of memory are free.

    Raises:
        SpaceError: they are not.
    """
    available = available_memory_bytes()
    if available is not None and needed > available:
        raise SpaceError(
            f"a cache of {what} needs {needed / 1e9:.2f} GB of memory, {available / 1e9:.2f} GB are free: pass a "
            "smaller budget",
            needed_bytes=needed,
            free_bytes=available,
        )
