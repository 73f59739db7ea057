"""The media that a store can lie on, behind one small protocol: a draft is filled, then published as a store."""

from __future__ import annotations

import os
from pathlib import Path

from arraystore.errors import FormatError
from arraystore.format import ledger_dtype
from arraystore.spec import ImageSpec
from arraystore.stores.base import Draft, Plan, Store

__all__ = ["Draft", "Plan", "Store", "draft_for", "medium_of", "no_store", "open_store"]

_HDF5_SUFFIXES = frozenset((".h5", ".hdf5", ".hdf"))


def medium_of(target: str | os.PathLike[str] | None) -> str:
    """Return the medium that a target asks for: ``"ram"`` (None), ``"hdf5"`` (by suffix) or ``"npy"``."""
    if target is None:
        return "ram"
    return "hdf5" if Path(target).suffix.lower() in _HDF5_SUFFIXES else "npy"


def needed_bytes(count: int, spec: ImageSpec) -> int:
    """Return the bytes that pixels, status, checksums and the build's ledger take."""
    return count * (spec.slot_bytes + 9 + ledger_dtype(spec.channels).itemsize)


def draft_for(
    target: str | os.PathLike[str] | None, plan: Plan, *, overwrite: bool = False, fresh: bool = False
) -> Draft:
    """Reserve everything that a build needs, or take up what an earlier call left.

    Args:
        target: where the store will be; None for RAM.
        plan: what will be built.
        overwrite: True replaces a store that has the target's name, once the new one is finished.
        fresh: True discards what an unfinished build left.

    Raises:
        StoreExistsError: the target has its name already.
        StoreError: another build into this target is running, or an unfinished one was of something else.
        SpaceError: there is not enough memory, or the volume is too small.
        OSError: the target cannot be written.
    """
    if target is None:
        from arraystore.stores.memory import MemoryDraft  # noqa: PLC0415 - each medium loads only what it needs

        return MemoryDraft(plan)
    path = Path(target).absolute()  # what is relative must not move with the working folder
    if medium_of(target) == "hdf5":
        from arraystore.stores.hdf5 import Hdf5Draft  # noqa: PLC0415 - h5py takes a tenth of a second

        return Hdf5Draft(path, plan, overwrite=overwrite, fresh=fresh)
    from arraystore.stores.npy import NpyDraft  # noqa: PLC0415

    return NpyDraft(path, plan, overwrite=overwrite, fresh=fresh)


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a published store; nothing is read but its description, and the pixels are mapped.

    Args:
        path: a store folder or an HDF5 file made by `arraystore.build`.

    Returns:
        The store; its arrays are read-only mappings that stay valid as long as they are referenced.

    Raises:
        FormatError: there is no store at the path, or it is damaged, cut short, or newer than this arraystore.
        OSError: it cannot be read.
    """
    place = Path(path).absolute()
    if place.is_dir():
        from arraystore.stores.npy import open_npy  # noqa: PLC0415 - see draft_for

        return open_npy(place)
    if place.is_file():
        from arraystore.stores.hdf5 import open_hdf5  # noqa: PLC0415 - see draft_for

        return open_hdf5(place)
    raise no_store(place)


def no_store(place: Path) -> FormatError:
    """Return the error that says that nothing is there, or only an unfinished build."""
    partial = place.with_name(place.name + ".partial")
    hint = f"; {partial} is an unfinished build, call build again to finish it" if partial.is_dir() else ""
    return FormatError(f"there is no store at {place}{hint}", source=str(place))
