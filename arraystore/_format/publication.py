"""What a build writes beside the pixels when a store is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._format.description import Description

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Publication"]


@dataclass(frozen=True, slots=True)
class Publication:
    """Everything but the pixels that a finished store holds.

    Attributes:
        description: store.json.
        status: uint8, (N,).
        checksums: uint64, (N,).
        targets: name → array, axis 0 = N.
        samples: the samples table.
        dropped: sources that were dropped and why, or None.
    """

    description: Description
    status: npt.NDArray[np.uint8]
    checksums: npt.NDArray[np.uint64]
    targets: Mapping[str, npt.NDArray[Any]]
    samples: pa.Table
    dropped: pa.Table | None = None
