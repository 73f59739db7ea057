"""The contents of a store, as `arraystore.verify` reads them: nothing is trusted, mapped or written.

The contents are entries: files of a folder, datasets of an HDF5 file, or arrays in memory. An entry has the name that
``digests`` in store.json has for it. If an entry is damaged, reading it raises a FormatError that names it, and no
other error. Each medium has its own `Contents`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._format.slot_file import SlotFile
from arraystore.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("source", "height", "width", "bytes", "mtime", "reason")  # every samples table has these
JSON_ENTRY = "store.json"
SlotPixels = SlotFile | npt.NDArray[np.uint8]


class Contents(Protocol):
    """What `arraystore.verify` needs of a medium.

    Attributes:
        status: the name of the entry with each slot's status.
        checksums: the name of the entry with each slot's checksum.
        has_digests: whether a new store of this medium records digests.
        place: where the store is, for messages.
    """

    status: str
    checksums: str
    has_digests: bool
    place: str

    def where(self, entry: str) -> str:
        """Return where an entry is, for messages."""

    def text(self) -> bytes:
        """Return store.json."""

    def present(self) -> list[str]:
        """Return the names of all entries except store.json and the pixels; files that are not the store's too."""

    def needed(self, targets: Iterable[str]) -> list[str]:
        """Return the names of the entries that a store with these targets must have."""

    def is_ours(self, entry: str) -> bool:
        """Return whether readers would read an entry that is not needed, such as that of dropped sources."""

    def target(self, name: str) -> str:
        """Return the name of a target's entry."""

    def column(self, name: str) -> str:
        """Return the name of the entry that holds a column of samples."""

    def size(self, entry: str) -> int:
        """Return about how many bytes `blocks` will yield."""

    def blocks(self, entry: str) -> Iterator[bytes | memoryview]:
        """Yield the bytes that an entry's digest is made of."""

    def form(self, entry: str) -> tuple[str, tuple[int, ...]]:
        """Return the dtype, as NumPy writes it, and the shape of an array."""

    def array(self, entry: str) -> npt.NDArray[Any]:
        """Return a whole array."""

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        """Return columns of the table ``"samples"`` or ``"dropped"``; None if the store has no such table."""

    def column_names(self) -> list[str]:
        """Return the names of the columns of samples."""

    def dropped(self) -> bool:
        """Return whether rows of the manifest were dropped."""

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        """Return where the pixels lie, and the faults of the file around them.

        Args:
            shape: the shape (N, *slot_shape) by store.json; None if store.json cannot be read.
        """


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn any error that a library raises on damage into a FormatError that names the place."""
    try:
        yield
    except FormatError:
        raise
    except Exception as error:  # NumPy, pyarrow and h5py raise many kinds, and so does a disk that fails
        raise FormatError(f"{place} cannot be read: {error or type(error).__name__}", source=place) from error
