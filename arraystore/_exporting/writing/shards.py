"""The files of an export that is no tree of images: one file, or as many of a limited size as it takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

DEFAULT_SHARD_BYTES = 500_000_000


class Shards:
    """Opens one file after the other. Each is made durable as it is closed.

    Args:
        new: the file; or the folder of the files, which is there.
        suffix: of the files, with a dot.
        limit: the bytes that one should have at most; None for a single file. An image that has more gets one alone.

    Attributes:
        files: how many have been closed.
        size_bytes: what these have.
    """

    def __init__(self, new: Path, suffix: str, limit: int | None) -> None:
        self._new, self._suffix, self._limit = new, suffix, limit
        self._file: BinaryIO | None = None
        self._taken = 0
        self.files: int = 0
        self.size_bytes: int = 0

    def wants_next(self, size: int) -> bool:
        """Return whether the next image, of this size, begins a new file; count it."""
        full = self._limit is not None and self._taken > 0 and self._taken + size > self._limit
        begins = full or self._file is None
        self._taken = size if begins else self._taken + size
        return begins

    def open_next(self) -> BinaryIO:
        """Return a new file; the last one must have been closed."""
        self._file = self._path(self.files).open("xb")
        return self._file

    def close(self) -> None:
        """Close the open file, if there is one."""
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self.size_bytes += os.fstat(self._file.fileno()).st_size
        self._file.close()
        self._file = None
        self.files += 1

    def abandon(self) -> None:
        """Close the open file as it is, because its export has failed."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> None:
        """Give the files their names, which say how many there are."""
        if self._limit is not None:
            for number in range(self.files):
                name = f"data-{number:05}-of-{self.files:05}{self._suffix}"
                self._path(number).rename(self._new / name)

    def _path(self, number: int) -> Path:
        return self._new if self._limit is None else self._new / f"{number}{self._suffix}"
