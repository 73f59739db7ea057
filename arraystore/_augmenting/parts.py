"""Images that are decoded when they are read: an augmentation asks for the parts that its windows show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]


class Parts(NamedTuple):
    """Decoded parts of some images, their channels interleaved. The memory is used again for the next ones."""

    first: int  # of the images that were asked for, the first and the one after the last
    stop: int
    source: Pixels  # flat
    places: Integers  # see `arraystore._kernels.crop.write_crops`: those of the parts
    origins: Integers  # int64, (k, 2): top and left side of each part in its image


@runtime_checkable
class InParts(Protocol):
    """Such images."""

    @property
    def differ(self) -> bool:
        """Whether they differ in height and width."""

    def sides_of(self, rows: Integers) -> Integers:
        """Return height and width of images: int64, (k, 2)."""

    def parts(self, rows: Integers, windows: npt.NDArray[np.int32]) -> Iterator[Parts]:
        """Decode the parts of images that windows show, some images at a time.

        Args:
            rows: int64, (k,): the images.
            windows: int32, (k, 6): of each image; see `arraystore._augmenting.crops.GEOMETRY`.
        """
