"""What readers use of an array, for images that are no array: each is made when it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]


class ArrayFace(ABC):
    """Images with the type, the indexing and the conversion of an array; what they return is new.

    Attributes:
        shape: (N, C, H, W), or (N, H, W, C); None in place of sides that differ.
        new_array: says why `numpy.asarray` cannot do without a copy.
    """

    __slots__ = ()

    shape: tuple[Any, ...]
    new_array: ClassVar[str]

    @abstractmethod
    def _made(self, rows: Index) -> Pixels:
        """Return some images: (k, …)."""

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The type of the pixels."""
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, chosen: Any) -> Any:
        if isinstance(chosen, tuple):
            return self._inside(chosen)
        rows = np.arange(len(self), dtype=np.int64)[chosen]
        images = self._made(rows.reshape(-1))
        return images.reshape(*rows.shape, *images.shape[1:])

    def _inside(self, chosen: tuple[Any, ...]) -> Any:
        """Return what indices of several axes choose, as NumPy does; only the images that they name are made."""
        first, rest = chosen[0] if chosen else None, chosen[1:]
        if first is None or first is Ellipsis or isinstance(first, tuple):
            return self[:][chosen]
        if isinstance(first, slice):
            return self[first][(slice(None), *rest)]
        rows = np.arange(len(self))[first]
        distinct, which = np.unique(rows, return_inverse=True)
        return self[distinct][(which.reshape(rows.shape), *rest)]

    def __iter__(self) -> Iterator[Pixels]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError(self.new_array)
        return np.asarray(self[:], dtype)
