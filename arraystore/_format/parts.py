"""The parts of a store as `arraystore.verify` audits them: nothing is trusted, mapped or written.

Whatever is wrong with a part is a FormatError that names it, and no other error. A part is a file of a folder, a
dataset of an HDF5 file, or an array of a store in memory; its name is the one that ``digests`` in store.json has for
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._stores.hdf5_file import dataset_blocks
from arraystore._common.digests import file_blocks
from arraystore.errors import FormatError
from arraystore._format.slot_file import PAGE_BYTES, PIXELS_OFFSET, SlotFile, npy_form, npy_header, npy_slots
from arraystore._format.samples import read_parquet
from arraystore._stores import Store
from arraystore._stores.opening import no_store
from arraystore._stores.hdf5_file import check_heaps

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa

__all__ = ["COLUMNS", "Parts", "Slots"]

COLUMNS = ("source", "height", "width", "bytes", "mtime", "reason")  # that every samples table has
_JSON_LIMIT_BYTES = 64 << 20
_JSON, _IMAGES = "store.json", "images.npy"
Slots = SlotFile | npt.NDArray[np.uint8]


class Parts(Protocol):
    """What a check needs of a medium.

    Attributes:
        status: the name of the part with each slot's status.
        checksums: the name of the part with each slot's checksum.
        has_digests: whether a new store of this medium records digests.
        place: the store's place, for messages.
    """

    status: str
    checksums: str
    has_digests: bool
    place: str

    def where(self, part: str) -> str:
        """Return the part's place, for messages."""

    def text(self) -> bytes:
        """Return store.json."""

    def present(self) -> list[str]:
        """Return the names of all parts that can have a digest, and of whatever else lies there."""

    def needed(self, targets: Iterable[str]) -> list[str]:
        """Return the names of the parts that a store with these targets must have."""

    def is_ours(self, part: str) -> bool:
        """Return whether a reader would take a part that is not needed for one of the store's."""

    def target(self, name: str) -> str:
        """Return the name of a target's part."""

    def column(self, name: str) -> str:
        """Return the name of the part with a column of samples."""

    def size(self, part: str) -> int:
        """Return about how many bytes `blocks` will yield."""

    def blocks(self, part: str) -> Iterator[bytes | memoryview]:
        """Yield the bytes that the part's digest is of."""

    def form(self, part: str) -> tuple[str, tuple[int, ...]]:
        """Return the dtype, as NumPy writes it, and the shape of an array."""

    def array(self, part: str) -> npt.NDArray[Any]:
        """Return a whole array."""

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        """Return columns of the table ``"samples"`` or ``"dropped"``; None where there is none of that name."""

    def column_names(self) -> list[str]:
        """Return the names of the columns of samples."""

    def dropped(self) -> bool:
        """Return whether rows of the manifest were dropped."""

    def slots(self, shape: tuple[int, ...] | None) -> tuple[Slots, list[str]]:
        """Return where the pixels lie, and what is wrong with all that surrounds them; ``shape`` as store.json says."""


@contextmanager
def _reading(place: str) -> Iterator[None]:
    """Turn whatever a library raises on damage into one error that names the place."""
    try:
        yield
    except FormatError:
        raise
    except Exception as error:  # numpy, pyarrow and h5py each raise many kinds, and EIO is one more
        raise FormatError(f"{place} cannot be read: {error or type(error).__name__}", source=place) from error


