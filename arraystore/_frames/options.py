"""The options of frames; `arraystore.Frame` documents each."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from arraystore._common.checks import expanded, parse_bytes, settle, whole_number
from arraystore.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOptions:
    """The options, checked.

    Raises:
        SpecError: one is invalid.
    """

    epochs: int = 10
    per_class: int | None = None
    unique: bool = False
    augment: bool = True
    keep: int | str | os.PathLike[str] | None = None
    samples: int = 0
    sheets: str | os.PathLike[str] | None = None
    workers: int | None = None
    processes: bool = False
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        settle(self, epochs=(1, None), samples=(0, None))
        for name in ("per_class", "workers"):
            if getattr(self, name) is not None:
                settle(self, **{name: (1, None)})
        for name in ("unique", "augment", "processes"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if isinstance(self.keep, int):
            whole_number("keep", self.keep, 1)
        elif not isinstance(self.keep, str | os.PathLike | None):
            raise SpecError(f"keep must be a size in bytes, a folder, or None, not {self.keep!r}")

    @property
    def most_bytes(self) -> int | None:
        """How many bytes two frames may take; None if that has no limit."""
        if isinstance(self.keep, int | str):
            try:
                return parse_bytes(self.keep)
            except SpecError:
                return None
        return None

    @property
    def folder(self) -> Path | None:
        """The folder of the frames; None if they are in memory."""
        if self.keep is None or isinstance(self.keep, int) or self.most_bytes is not None:
            return None
        return expanded(self.keep)

    @property
    def sheet_folder(self) -> Path:
        """The folder of the contact sheets."""
        return (self.folder or Path()) if self.sheets is None else expanded(self.sheets)

    def with_absolute_paths(self) -> Self:
        """Return the same options for later, when the program may have another current folder."""
        keep = self.keep if self.folder is None else self.folder.absolute()
        return replace(self, keep=keep, sheets=self.sheet_folder.absolute())
