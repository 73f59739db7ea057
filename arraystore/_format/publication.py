"""TODO."""

from __future__ import annotations
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self
import numpy as np
import numpy.typing as npt
from arraystore.errors import BadImage
from arraystore._stores.draft import Filled
from arraystore._format.specification import FAILED, Description
from arraystore._format.slot_file import PAGE_BYTES, SlotFile
from arraystore._format.ledger import ledger_dtype
from arraystore._stores.part import Part
from arraystore._reading.slot_arrays import Slots
from arraystore.spec import ImageSpec
if TYPE_CHECKING:
    import pyarrow as pa

    from arraystore._common.progress import Progress
    from arraystore._format.verification import Verification

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
