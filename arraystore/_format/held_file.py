"""Files that stay open, so that they can be read after other files have taken their names."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arraystore.errors import FormatError


class HeldFile:
    """A file, open to be read.

    It pickles: another process opens it by its name, if that still leads to the same file.

    Raises:
        FormatError: another file has the name.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, identity: tuple[int, int] | None = None) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a FIFO would wait
        weakref.finalize(self, os.close, descriptor).atexit = False
        info = os.fstat(descriptor)
        self._path, self._descriptor, self._identity = path, descriptor, (info.st_dev, info.st_ino)
        if identity not in (None, self._identity):
            raise self._replaced()

    def path(self) -> Path:
        """Return a path that leads to this file for as long as this object lives, whatever has the file's name.

        Raises:
            FormatError: this system has no such paths, and another file has the name.
        """
        link = Path(f"/proc/self/fd/{self._descriptor}")
        if link.exists():
            return link
        try:
            info = self._path.stat()
        except OSError as error:
            raise self._replaced() from error
        if (info.st_dev, info.st_ino) != self._identity:
            raise self._replaced()
        return self._path

    def __reduce__(self) -> tuple[Callable[..., HeldFile], tuple[Any, ...]]:
        return HeldFile, (self._path, self._identity)

    def _replaced(self) -> FormatError:
        return FormatError(
            f"{self._path} was replaced or removed after it was opened", source=str(self._path), advice="open it again"
        )
