"""What a store holds, as `arraystore.verify` reads it: nothing is trusted, mapped or written.

A store holds entries: files of a folder, datasets of an HDF5 file, or arrays in memory. The name of an entry is the one
that ``digests`` in store.json has for it. Whatever is wrong with an entry is a FormatError that names it, and no other
error. Each medium has its own `Contents`.
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

__all__ = ["COLUMNS", "JSON_ENTRY", "Contents", "SlotPixels", "reading"]

COLUMNS = ("source", "height", "width", "bytes", "mtime", "reason")  # that every samples table has
JSON_ENTRY = "store.json"
SlotPixels = SlotFile | npt.NDArray[np.uint8]


class Contents(Protocol):
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

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        """Return where the pixels lie, and what is wrong with all that surrounds them; ``shape`` as store.json says."""


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn whatever a library raises on damage into one error that names the place."""
    try:
        yield
    except FormatError:
        raise
    except Exception as error:  # numpy, pyarrow and h5py each raise many kinds, and EIO is one more
        raise FormatError(f"{place} cannot be read: {error or type(error).__name__}", source=place) from error
