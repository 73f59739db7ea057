"""What slots can say and do that are filled while they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import cached
from arraystore._stores.slot_array import SlotArray
from arraystore._stores.unfinished.filling import FillingImages
from arraystore.errors import DecodeError, Option, SpecError

Index = npt.NDArray[np.int64]


class FillingSlots:
    """The part of `SlotArrays` for arrays that are filled while they are read; without such arrays it does nothing."""

    if TYPE_CHECKING:
        arrays: tuple[SlotArray, ...]
        mean: tuple[float, ...]

        def __len__(self) -> int: ...

        def base(self, slots: Index) -> Index: ...

        def split(self, base: Index) -> Iterator[tuple[int, Index, Index | None]]: ...

    @cached
    def _fillers(self) -> tuple[tuple[int, FillingImages], ...]:
        """The arrays that are filled while they are read."""
        return tuple((n, each.images) for n, each in enumerate(self.arrays) if isinstance(each.images, FillingImages))

    @property
    def may_fail(self) -> bool:
        """Whether it may be seen only when a slot is read that it has no image."""
        return any(images.filler.may_fail for _, images in self._fillers)

    @property
    def is_filling(self) -> bool:
        """Whether any slot may not be filled yet."""
        return not all(images.filler.is_complete for _, images in self._fillers)

    def failed(self, base: Index) -> npt.NDArray[np.bool_]:
        """Return which of some slots have no image, of those that are seen only now: bool, (k,); see `may_fail`."""
        failed = np.zeros(len(base), bool)
        for number, rows, at in self.split(base):
            images = self.arrays[number].images
            if isinstance(images, FillingImages):
                failed[slice(None) if at is None else at] = images.filler.failed(rows)
        return failed

    def with_images(self, slots: npt.ArrayLike) -> Index:
        """Return slots with others in place of those that turn out to have no image: the next slots that have one.

        Raises:
            DecodeError: no slot has an image.
        """
        wanted = np.array(slots, np.int64)
        failed = np.flatnonzero(self.failed(self.base(wanted))) if self.may_fail else np.empty(0, np.int64)
        for _ in range(len(self) + 1):
            if not failed.size:
                return wanted
            wanted[failed] = (wanted[failed] + 1) % len(self)
            failed = failed[self.failed(self.base(wanted[failed]))]
        raise DecodeError("no image could be stored: is this the right source?")

    def expect(self, drawn: Callable[[], Iterator[Index]]) -> None:
        """Fill slots that are not filled in the order of these base numbers; each array of several asks for its own."""
        for number, images in self._fillers:
            if not images.filler.is_complete:
                images.expect(_of_array(number, self.split, drawn()))

    def check_normalize(self, normalize: object) -> None:
        """Refuse ``normalize=True`` of slots whose mean is not known before all are filled.

        Raises:
            SpecError: it is not known.
        """
        if normalize is True and self._fillers and not self.mean:
            raise SpecError(
                "normalize=True needs the mean and std of all slots, and some are not filled yet",
                advice="take those of a sample of slots, with {0} in the call of build; pass the values that you know "
                "with {1}; or finish the store first",
                options=[Option("statistics", 1000), Option("normalize", ((124, 116, 104), (58, 57, 57)))],
            )

    def check_filled(self) -> None:
        """Raise the error for bad images that were found at an epoch's end, where the caller of the build wants one.

        Raises:
            BadImagesError: there are some.
        """
        for _, images in self._fillers:
            images.filler.check()


def _of_array(number: int, split: Callable[[Index], Iterator[Any]], drawn: Iterator[Index]) -> Iterator[Index]:
    """Yield the rows of one array among slots that are drawn."""
    return (rows for base in drawn for n, rows, _ in split(base) if n == number)
