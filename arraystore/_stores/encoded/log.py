"""The file to which the JPEGs of a store are appended while it is built, and how they are read meanwhile."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from arraystore._common.forks import OwnDescriptor
from arraystore._format.ledger import side_fields, sides_in
from arraystore._stores.encoded.images import EncodedImages
from arraystore.spec import ImageSpec

Index = npt.NDArray[np.int64]


class OpenLog(Protocol):
    """A log that is open as long as something refers to this."""

    number: int  # the descriptor


class LogFile(OwnDescriptor):
    """A log on disk, open for reading; in a forked process it is not."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, os.O_RDONLY)

    def __del__(self) -> None:
        self.close()


class MemoryLog:
    """A log in memory: a file without a name, so that it can be read through mappings while it grows."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._file = os.fdopen(os.memfd_create("arraystore", os.MFD_CLOEXEC), "r+b", buffering=0)
        else:  # other systems have no such files; the page cache holds it as long as there is memory
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 — it stays open as long as this object
        self.number = self._file.fileno()

    def __del__(self) -> None:
        self._file.close()


class LogEnd:
    """Where the next JPEG of a log is written; any thread may append."""

    def __init__(self, end: int = 0) -> None:
        self._end = end
        self._lock = threading.Lock()

    def place(
        self, rows: npt.NDArray[np.void], parts: Sequence[bytes], mask_bytes: npt.NDArray[np.int64]
    ) -> tuple[int, bytes]:
        """Write into the rows of some slots where their JPEGs will lie.

        Args:
            rows: of the slots.
            parts: of each slot, its JPEG with the masks after it.
            mask_bytes: int64, (k,): how many bytes of these are masks.

        Returns:
            where the first one begins, and the bytes to write there.
        """
        sizes = np.array([len(part) for part in parts], np.int64)
        data = b"".join(parts)
        with self._lock:
            begin = self._end
            self._end += len(data)
        rows["begin"][: len(sizes)] = begin + np.cumsum(sizes) - sizes
        rows["length"][: len(sizes)] = sizes - mask_bytes[: len(sizes)]
        return begin, data


class LogImages:
    """Images whose JPEGs lie in a log to which others are appended.

    Args:
        log: the file.
        head_bytes: what stands in the file before the first JPEG.
        count: how many slots there will be.
        spec: of the slots.
        place: what holds them, for errors.
    """

    def __init__(self, log: OpenLog, head_bytes: int, count: int, spec: ImageSpec, place: str) -> None:
        self._log, self._head_bytes = log, head_bytes
        self._shape, self._spec, self._place = (count, *spec.slot_shape), spec, place
        self._begins, self._ends = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
        columns = len(side_fields(spec))
        self._shapes = np.zeros((count, columns), np.int32) if columns else None
        self._images = self._over(np.empty(0, np.uint8))

    def settle(self, slots: Index | slice, rows: npt.NDArray[np.void]) -> None:
        """Take from rows of the ledger where the JPEGs of some slots lie, which are written by now."""
        if self._shapes is not None:
            self._shapes[slots] = sides_in(rows, self._spec)
        self._begins[slots] = rows["begin"]
        self._ends[slots] = rows["begin"] + rows["length"]

    def images(self, slots: Index) -> EncodedImages:
        """Return the images of all slots, of which these can be read; they are settled."""
        if int(self._ends[slots].max(initial=0)) > self._images.encoded.size:
            self._map()
        return self._images

    def all_images(self) -> EncodedImages:
        """Return the images of all slots, which are settled."""
        self._map()
        return self._images

    def close(self) -> None:
        """Let go of a log on disk, which may be deleted: its room is free when nobody has it open. Nothing is read."""
        if isinstance(self._log, LogFile):
            self._log.close()
        self._images = self._over(np.empty(0, np.uint8))

    def _map(self) -> None:
        """Map what the log has by now. Images that others have got keep the mapping that they have."""
        size = os.fstat(self._log.number).st_size
        if size:
            mapping = mmap.mmap(self._log.number, size, access=mmap.ACCESS_READ)
            self._images = self._over(np.frombuffer(mapping, np.uint8)[self._head_bytes :])

    def _over(self, encoded: npt.NDArray[np.uint8]) -> EncodedImages:
        return EncodedImages(
            encoded,
            self._begins,
            self._shape,
            self._spec.layout,
            self._place,
            ends=self._ends,
            shapes=self._shapes,
            most_pixels=self._spec.max_pixels,
        )
