"""What must hold of the arrays that say where the JPEGs of an encoded store lie, in a folder and in an HDF5 file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._format.description import Description
from arraystore._format.ledger import side_fields
from arraystore.errors import FormatError

_MOST_BYTES = 1 << 62  # of a file; offsets of files are signed numbers of 64 bits


def encoded_forms(
    description: Description, offsets: str, shapes: str, sums: str
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of these arrays, by the names that a medium gives them."""
    count = description.count
    return {
        offsets: ("<u8", (count + 1,)),
        shapes: ("<i4", (count, len(side_fields(description.spec)) or 2)),
        sums: ("<u8", (count, description.spec.channels, 2)),
    }


def check_slot_offsets(offsets: npt.NDArray[Any], count: int, where: str) -> None:
    """Check that offsets can be those of so many slots.

    Raises:
        FormatError: they cannot.
    """
    fits = offsets.dtype == np.uint64 and offsets.shape == (count + 1,) and bool(np.all(offsets[1:] >= offsets[:-1]))
    if not fits or offsets[0] or offsets[-1] > _MOST_BYTES:
        raise FormatError(f"{where} does not say where each slot begins", source=where)
