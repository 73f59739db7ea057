"""Open a store, or begin one, whatever its medium."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arraystore._format.contents import Contents
from arraystore._format.files import read_json
from arraystore._format.ledger import read_ledger, sealed
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import EMPTY, Description
from arraystore._stores.draft import BuildKey, Draft
from arraystore._stores.media import medium_at, medium_of, pixel_file
from arraystore._stores.opened import Opened
from arraystore._stores.partial import LEDGER, PLAN, finish_published, partial_of
from arraystore._stores.ram import MemoryContents, MemoryDraft
from arraystore._stores.slot_array import SlotArray, file_identity
from arraystore.errors import FormatError, SpecError, StoreError
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["contents_of", "draft_for", "finished", "open_store", "open_unfinished", "slot_file_of"]

_TRIES = 100


def draft_for(
    target: str | os.PathLike[str] | None, key: BuildKey, *, overwrite: bool = False, fresh: bool = False
) -> Draft:
    """Reserve everything that a build needs, or take up what an earlier call left.

    Args:
        target: where the store will be; None for RAM.
        key: what will be built.
        overwrite: True replaces a store that has the target's name, once the new one is finished.
        fresh: True discards what an unfinished build left.

    Raises:
        StoreExistsError: the target has its name already.
        StoreError: another build into this target is running, or an unfinished one was of something else.
        SpaceError: there is not enough memory, or the volume is too small.
        OSError: the target cannot be written.
    """
    if target is None:
        return MemoryDraft(key)
    path = Path(target).absolute()  # a relative path must not move with the working folder
    return medium_of(path).load().draft(path, key, overwrite=overwrite, fresh=fresh)


def finished(target: str | os.PathLike[str] | None, key: BuildKey) -> Opened | None:
    """Return the store that a killed call with this key had published but not tidied up, or None.

    Raises:
        StoreError: that call is still running.
        OSError: the files that it left cannot be removed.
    """
    if target is None or not os.path.lexists(target):
        return None
    path = Path(target).absolute()
    return open_store(path) if finish_published(path, key) else None


def slot_file_of(path: Path) -> SlotFile:
    """Return where the slots of a published store lie.

    Raises:
        FormatError: there is no store at the path, or its slots cannot be mapped.
    """
    medium = medium_at(path)
    if medium is None:
        raise _no_store(path)
    return medium.load().slot_file(pixel_file(path, medium))


def contents_of(store: Opened | Path) -> Contents:
    """Return what a store holds, for `arraystore.verify`: of one in memory, or of the folder or file at a path.

    Raises:
        FormatError: there is nothing at the path, or the store in memory was closed.
    """
    if isinstance(store, Opened):
        if len(store.array.images) < store.description.count:
            raise FormatError("the store in memory was closed", advice="verify a store before you close it")
        return MemoryContents(store)
    medium = medium_at(store)
    if medium is None:
        raise _no_store(store)
    return medium.load().contents_of(store)


def open_store(path: str | os.PathLike[str], *, partial: bool = False) -> Opened:
    """Open a published store: its description is read, and its arrays are mapped.

    Args:
        path: a store folder or an HDF5 file made by `arraystore.build`.
        partial: True opens the store that is being built for this path, if there is one; see `open_unfinished`.

    Returns:
        The store; its arrays are read-only mappings that stay valid as long as they are referenced.

    Raises:
        FormatError: there is no store at the path, or it is damaged, cut short, or newer than this arraystore.
        OSError: it cannot be read.
    """
    path = Path(path).absolute()
    unfinished = partial_of(path)
    if partial and unfinished.is_dir():
        return open_unfinished(unfinished)
    for _ in range(_TRIES):
        before = file_identity(path)
        try:
            opened = _open_published(path)
        except (FormatError, OSError):
            if file_identity(path) == before:
                raise
            continue
        # A store is read by its name, many times. If another one took the name meanwhile, the parts do not belong
        # together.
        if file_identity(path) == before:
            return opened
    raise FormatError(f"{path} is replaced again and again: open it when that has ended", source=str(path))


def open_unfinished(folder: Path) -> Opened:
    """Open the partial folder of a build, running or interrupted. Nothing is written, and no build is disturbed.

    Slots that are claimed at this moment have a status. The others have status 0, and their pixels may be anything.
    There are no targets and no samples yet.

    Raises:
        FormatError: the folder is damaged, or the build has not begun, or its target has its name by now.
    """
    medium = medium_at(folder, partial=True) or medium_of(folder)
    try:
        key = read_json(folder / PLAN)
        count, spec = int(key["count"]), ImageSpec.from_dict(key["spec"])
        slots = medium.load().slot_file(folder / medium.pixels)
        ledger = read_ledger(folder / LEDGER, count, spec.channels)
        images = slots.map()
    except (OSError, KeyError, TypeError, ValueError, SpecError) as error:
        raise FormatError(f"{folder} is no unfinished build that can be read: {error}", source=str(folder)) from error
    if slots.shape != (count, *spec.slot_shape):
        # Rows are being dropped, or the header is damaged: either way plan and pixels speak of different slots.
        raise FormatError(f"{folder}: the pixels are of {slots.shape}, its plan says otherwise", source=str(folder))
    claimed = sealed(ledger)
    status = np.where(claimed, ledger["status"], EMPTY).astype(np.uint8)
    checksums = np.where(claimed, ledger["checksum"], 0).astype(np.uint64)
    return Opened(
        medium=medium.name,
        path=folder,
        array=SlotArray(images, status, checksums),
        description=Description(count=count, shape=spec.slot_shape, spec=spec),
        load_table=_no_table,
    )


def _open_published(path: Path) -> Opened:
    medium = medium_at(path)
    if medium is None:
        raise _no_store(path)
    return medium.load().open_published(path)


def _no_store(path: Path) -> FormatError:
    """Return the error that says that nothing is there, or only an unfinished build."""
    partial = partial_of(path)
    if not partial.is_dir():
        return FormatError(f"there is no store at {path}", source=str(path))
    return FormatError(
        f"there is no store at {path}, but {partial} is an unfinished build",
        source=str(path),
        advice="call build again to finish it",
    )


def _no_table(name: str) -> pa.Table:
    raise StoreError(f"a store under construction has no {name} yet: they are written when every slot is settled")
