"""A name of a store, pinned so that it is certain whether another store has taken it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from arraystore._stores.slot_array import file_identity

# O_PATH needs no rights and reads nothing. Where a system lacks it, O_NONBLOCK keeps a FIFO from stopping the call.
_FLAGS = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC


class PinnedName:
    """What has a path now, kept open until the end of a ``with`` block.

    Device and inode alone do not tell two stores apart: volumes give the inode of what was deleted to the next file or
    folder, so after two updates a store may have the inode of the first one. What is open keeps its inode.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        with suppress(OSError):
            self._descriptor = os.open(path, _FLAGS)
        self._identity = self._own_identity()

    def _own_identity(self) -> tuple[int, int]:
        if self._descriptor < 0:
            return file_identity(self._path)
        info = os.fstat(self._descriptor)
        return info.st_dev, info.st_ino

    def still_leads_there(self) -> bool:
        """Return whether the path leads to what it led to at first; True if nothing had it and nothing has it now."""
        return file_identity(self._path) == self._identity

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
