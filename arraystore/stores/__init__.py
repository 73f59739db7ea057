"""The media that a store can lie on, behind one small protocol: a draft is filled, then published as a store."""

from __future__ import annotations

import os
from pathlib import Path

from arraystore.errors import FormatError
from arraystore.format import SlotFile, npy_slots
from arraystore.stores.base import Draft, Plan, Store

__all__ = ["Draft", "Plan", "Store", "draft_for", "finished", "medium_of", "no_store", "open_store", "slots_of"]

_TRIES = 100
_HDF5_SUFFIXES = frozenset((".h5", ".hdf5", ".hdf"))


def medium_of(target: str | os.PathLike[str] | None) -> str:
    """Return the medium that a target asks for: ``"ram"`` (None), ``"hdf5"`` (by suffix) or ``"npy"``."""
    if target is None:
        return "ram"
    return "hdf5" if Path(target).suffix.lower() in _HDF5_SUFFIXES else "npy"


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


def finished(target: str | os.PathLike[str] | None, plan: Plan) -> Store | None:
    """Return the store that a killed call with this plan had published but not tidied up, or None.

    Raises:
        StoreError: that call is still running.
        OSError: what it left cannot be removed.
    """
    if target is None or not os.path.lexists(target):
        return None
    from arraystore.stores.partial import finish_published  # noqa: PLC0415 - see draft_for

    path = Path(target).absolute()
    return open_store(path) if finish_published(path, plan) else None


def slots_of(path: Path) -> SlotFile:
    """Return where the slots of a published store lie.

    Raises:
        FormatError: they cannot be mapped, or there are none.
    """
    if path.is_dir():
        return npy_slots(path / "images.npy")
    from arraystore.stores.hdf5 import slots_of as hdf5_slots  # noqa: PLC0415 - see draft_for

    return hdf5_slots(path)


def open_store(path: str | os.PathLike[str], *, partial: bool = False) -> Store:
    """Open a published store; nothing is read but its description, and the pixels are mapped.

    A store that is replaced or updated keeps its old pixels for those who hold it: open it again for the new ones.

    Args:
        path: a store folder or an HDF5 file made by `arraystore.build`.
        partial: True opens the store that is being built for this path, if there is one, as it is now: slots that are
            not settled have status 0, and their pixels may be anything. It has no targets and no samples yet.

    Returns:
        The store; its arrays are read-only mappings that stay valid as long as they are referenced.

    Raises:
        FormatError: there is no store at the path, or it is damaged, cut short, or newer than this arraystore.
        OSError: it cannot be read.
    """
    place = Path(path).absolute()
    unfinished = place.with_name(place.name + ".partial")
    if partial and unfinished.is_dir():
        from arraystore.stores.unfinished import open_unfinished  # noqa: PLC0415 - see draft_for

        return open_unfinished(unfinished)
    for _ in range(_TRIES):
        before = _identity(place)
        try:
            store = _open_published(place)
        except (FormatError, OSError):
            if _identity(place) == before:
                raise
            continue
        # It is read by its name, many times: of a store that replaced it meanwhile, no part may be among it.
        if _identity(place) == before:
            return store
        store.close()
    raise FormatError(f"{place} is replaced again and again: open it when that has ended", source=str(place))


def _open_published(place: Path) -> Store:
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


def _identity(place: Path) -> tuple[int, int]:
    """Which folder or file has the name now; zeros for none."""
    try:
        info = place.stat()
    except OSError:
        return 0, 0
    return info.st_dev, info.st_ino
