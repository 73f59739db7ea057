"""The media that a store can lie on: one line each.

Everything else that the package knows of a medium stands in the module that its line names. The modules are imported
when they are first needed, because h5py alone takes a tenth of a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from arraystore._format.contents import Contents
from arraystore._format.slot_file import PAGE_BYTES, PIXELS_OFFSET, SlotFile
from arraystore._stores.draft import Draft
from arraystore._stores.opened import Opened

__all__ = ["MEDIA", "Medium", "MediumModule", "medium_at", "medium_of", "pixel_file"]


class MediumModule(Protocol):
    """What the module of a medium has to offer."""

    @property
    def open_published(self) -> Callable[[Path], Opened]:
        """Open a published store. It raises FormatError where the path holds none, or a damaged one."""

    @property
    def contents_of(self) -> Callable[[Path], Contents]:
        """Return what a published store holds, entry by entry, for `arraystore.verify`."""

    @property
    def slot_file(self) -> Callable[[Path], SlotFile]:
        """Return where the slots lie in a file of pixels. It raises FormatError where they cannot be mapped."""

    @property
    def draft(self) -> Callable[..., Draft]:
        """Begin a build, or take up what an earlier one left: (target, key, overwrite=, fresh=) → draft."""


@dataclass(frozen=True, slots=True)
class Medium:
    """One medium on disk.

    Attributes:
        name: as ``Store.medium`` has it.
        module: the `MediumModule`.
        pixels: the file of the slots: in ``TARGET.partial/``, and in the store where that is a folder.
        is_folder: whether a store is a folder; otherwise it is that one file.
        suffixes: the suffixes of targets that ask for this medium.
        names: other files that it writes into ``TARGET.partial/``.
        head_bytes: what precedes the slots in their file.
        text_bytes: what a text takes in a table, besides its letters.
    """

    name: str
    module: str
    pixels: str
    is_folder: bool
    suffixes: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    head_bytes: int = 0
    text_bytes: int = 0

    def load(self) -> MediumModule:
        """Import the medium's module."""
        return cast(MediumModule, import_module(self.module))


_TABLES = ("store.json", "status.npy", "checksums.npy", "samples.parquet", "dropped.parquet")
# The first folder medium serves targets and folders that no other medium claims.
MEDIA = (
    Medium("npy", "arraystore._stores.npy", "images.npy", True, names=_TABLES, head_bytes=PIXELS_OFFSET, text_bytes=4),
    Medium(
        "hdf5",
        "arraystore._stores.hdf5",
        "images.h5",
        False,
        suffixes=frozenset((".h5", ".hdf5", ".hdf")),
        head_bytes=3 * PAGE_BYTES,
        text_bytes=16 + 20,  # a reference, and a head on the heap
    ),
)


def medium_of(target: str | os.PathLike[str]) -> Medium:
    """Return the medium that the suffix of a target asks for."""
    suffix = Path(target).suffix.lower()
    return next((medium for medium in MEDIA if suffix in medium.suffixes), MEDIA[0])


def medium_at(path: Path, *, partial: bool = False) -> Medium | None:
    """Return the medium of the store that lies at a path, judged by the kind of path alone; None if nothing is there.

    Args:
        path: a store, or with ``partial`` the folder of one that is being built.
        partial: see there.
    """
    if path.is_dir():
        fitting = [medium for medium in MEDIA if medium.is_folder or partial]
        return next((medium for medium in fitting if (path / medium.pixels).exists()), MEDIA[0])
    return next(medium for medium in MEDIA if not medium.is_folder) if path.is_file() else None


def pixel_file(path: Path, medium: Medium) -> Path:
    """Return the file of the slots of a published store."""
    return path / medium.pixels if medium.is_folder else path
