"""The contents of a store, as `arraystore.verify` reads them: nothing is trusted, mapped or written.

The contents are entries: files of a folder, datasets of an HDF5 file, or arrays in memory. An entry has the name that
``digests`` in store.json has for it. If an entry is damaged, reading it raises a FormatError that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._format.description import Description
from arraystore._format.files import keep_os_error
from arraystore._format.slot_file import EncodedFile, EncodedSlots, SlotFile
from arraystore.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("source", "height", "width", "bytes", "mtime", "reason")  # every samples table has these
JSON_ENTRY = "store.json"
SlotPixels = SlotFile | EncodedFile | EncodedSlots | npt.NDArray[np.uint8]


class Contents(Protocol):
    """The part of a medium that `arraystore.verify` needs."""

    status: str  # the name of the entry
    checksums: str  # the name of the entry
    shapes: str  # the name of the entry; only where slots are encoded
    sums: str  # the name of the entry; only where slots are encoded
    has_digests: bool  # in new stores
    place: str  # of the store, for messages

    def where(self, entry: str) -> str:
        """Return where an entry is, for messages."""

    def text(self) -> bytes:
        """Return store.json."""

    def present(self) -> list[str]:
        """Return the names of all entries except store.json and the pixels; files that are not the store's too."""

    def needed(self, targets: Iterable[str]) -> list[str]:
        """Return the names of the entries that a store must have whose targets are plain arrays with these keys."""

    def forms(self, description: Description) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Return dtype and shape of the arrays beside the slots that only this medium has, by the names of entries."""

    def is_ours(self, entry: str) -> bool:
        """Return whether readers would read an entry that is not needed, such as that of dropped sources."""

    def target(self, key: str) -> str:
        """Return the name of the entry of a plain array of the targets, by its key (see `split_targets`)."""

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

    def rows(self, entry: str) -> SlotFile | npt.NDArray[Any]:
        """Return where the rows of an array lie; in a file, the bytes of a row are one axis."""

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        """Return columns of the table ``"samples"`` or ``"dropped"``; None if the store has no such table."""

    def column_names(self) -> list[str]:
        """Return the names of the columns of samples."""

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        """Return where the pixels lie, and the faults of the file around them; store.json, if whole, says ``shape``."""


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Turn any error that a library raises on damage into one that names the place.

    Raises:
        FormatError: the library raised an error.
        OSError: see `keep_os_error`.
    """
    try:
        yield
    except FormatError:
        raise
    except Exception as error:  # NumPy, pyarrow and h5py raise many kinds, and so does a disk that fails
        keep_os_error(error)
        raise FormatError(f"{place} cannot be read: {error or type(error).__name__}", source=place) from error
