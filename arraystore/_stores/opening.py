"""Open or begin a store on any medium. RAM, which has no path, is the one medium outside the table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arraystore._format.contents import Contents
from arraystore._format.description import Description
from arraystore._format.files import read_json
from arraystore._format.ledger import claimed_rows, read_ledger
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import EMPTY
from arraystore._stores.media import medium_at, medium_of
from arraystore._stores.medium import BuildKey, Draft, Medium, Opened
from arraystore._stores.partial import LEDGER, PLAN, finish_published, partial_of
from arraystore._stores.ram import MemoryContents, MemoryDraft
from arraystore._stores.slot_array import SlotArray, file_identity
from arraystore.errors import FormatError, Kind, SpecError, StoreError
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import pyarrow as pa

_OPEN_TRIES = 100


def draft_for(
    target: str | os.PathLike[str] | None, key: BuildKey, *, overwrite: bool = False, fresh: bool = False
) -> Draft:
    """Begin a store: reserve its slots, or take up the unfinished build that an earlier call left."""
    if target is None:
        return MemoryDraft(key)
    path = Path(target).absolute()  # a relative path must not move with the working folder
    medium = medium_of(path)
    return medium.draft(medium, path, key, overwrite=overwrite, fresh=fresh)


def finished(target: str | os.PathLike[str] | None, key: BuildKey) -> Opened | None:
    """Return the store of a call with this key that was killed after it gave the store its name; otherwise None."""
    if target is None or not os.path.lexists(target):
        return None
    path = Path(target).absolute()
    return open_store(path) if finish_published(path, key, medium_of(path)) else None


def slot_file_of(path: Path) -> SlotFile:
    """Return where the slots of a published store lie."""
    medium = _medium_at(path)
    return medium.slot_file(medium.pixel_file(path))


def contents_of(store: Opened | Path) -> Contents:
    """Return the contents of a store in memory, or of the store at a path, for `arraystore.verify`.

    Raises:
        FormatError: there is nothing at the path, or the store in memory was closed.
    """
    if not isinstance(store, Opened):
        return _medium_at(store).contents(store)
    if len(store.array.images) < store.description.count:
        raise FormatError("the store in memory was closed", advice="verify a store before you close it")
    return MemoryContents(store)


def open_store(path: str | os.PathLike[str], *, partial: bool = False) -> Opened:
    """Open a store for `arraystore.open`: its description is read, and its arrays are mapped.

    Raises:
        FormatError: there is no store at the path, or it is damaged, cut short, or newer than this arraystore.
        OSError: the store cannot be read.
    """
    path = Path(path).absolute()
    unfinished = partial_of(path)
    if partial and unfinished.is_dir():
        return _open_unfinished(unfinished, medium_of(path))
    for _ in range(_OPEN_TRIES):
        before = file_identity(path)
        try:
            medium = _medium_at(path)
            opened = medium.open(medium, path)
        except (FormatError, OSError):
            if file_identity(path) == before:
                raise
            continue
        # Opening a store opens its name several times. If another store took the name meanwhile, the files that were
        # read do not belong together.
        if file_identity(path) == before:
            return opened
    raise FormatError(f"{path} is replaced again and again: open it when that has ended", source=str(path))


def _open_unfinished(folder: Path, medium: Medium) -> Opened:
    try:
        key = read_json(folder / PLAN)
        count, spec = int(key["count"]), ImageSpec.from_dict(key["spec"])
        slots = medium.slot_file(folder / medium.pixels)
        ledger = read_ledger(folder / LEDGER, count, spec.channels)
        images = slots.map()
    except (OSError, KeyError, TypeError, ValueError, SpecError) as error:
        raise FormatError(f"{folder} is no unfinished build that can be read: {error}", source=str(folder)) from error
    if slots.shape != (count, *spec.slot_shape):
        # Rows are being dropped, or the header is damaged.
        raise FormatError(f"{folder}: the pixels are of {slots.shape}, its plan says otherwise", source=str(folder))
    claimed = claimed_rows(ledger)
    status = np.where(claimed, ledger["status"], EMPTY).astype(np.uint8)
    checksums = np.where(claimed, ledger["checksum"], 0).astype(np.uint64)
    return Opened(
        medium=medium.name,
        path=folder,
        array=SlotArray(images, status, checksums),
        description=Description(count=count, shape=spec.slot_shape, spec=spec),
        load_table=_no_table,
    )


def _medium_at(path: Path) -> Medium:
    medium, partial = medium_at(path), partial_of(path)
    if medium is not None:
        return medium
    message, advice = f"there is no store at {path}", ""
    if partial.is_dir():
        message += f", but {partial} is an unfinished build"
        advice = "call build again to finish it"
    raise FormatError(message, source=str(path), kind=Kind.MISSING, advice=advice)


def _no_table(name: str) -> pa.Table:
    raise StoreError(f"a store under construction has no {name} yet: they are written when every slot is settled")
