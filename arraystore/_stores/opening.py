"""Open or begin a store on any medium. RAM, which has no path, is the one medium outside the table."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.progress import Progress
from arraystore._format.checking.result import ReplacedError, Verification
from arraystore._format.checking.verification import verify_contents
from arraystore._format.contents import Contents
from arraystore._format.description import Description
from arraystore._format.files import keep_os_error, read_json
from arraystore._format.ledger import claimed_rows, ledger_dtype, read_ledger
from arraystore._format.slot_file import PAGE_BYTES
from arraystore._format.specification import EMPTY
from arraystore._sources.manifest import Manifest
from arraystore._stores import media
from arraystore._stores.encoded.log import LogFile, LogImages
from arraystore._stores.encoded.medium import log_images
from arraystore._stores.media import medium_at, medium_of, store_path
from arraystore._stores.medium import Draft, Medium, Opened
from arraystore._stores.pinned import PinnedName
from arraystore._stores.publishing import (
    LEDGER,
    PLAN,
    aside_of,
    is_being_replaced,
    open_published,
    partial_of,
    real_target,
    recover,
)
from arraystore._stores.ram import EncodedMemoryDraft, MemoryContents, MemoryDraft
from arraystore._stores.slot_array import SlotArray
from arraystore._stores.unfinished.build_key import BuildKey, Salvage
from arraystore._stores.unfinished.partial import PartialFolder
from arraystore.errors import FormatError, Kind, SpecError, StoreError
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import pyarrow as pa

_OPEN_TRIES = 100
_OPEN_RETRY_S = 0.002
_VERIFY_TRIES = 20


def hold(
    target: str | os.PathLike[str], key: BuildKey, *, overwrite: bool, medium: Medium | None = None
) -> PartialFolder:
    """Lock the folder in which a store is built; the caller releases it.

    Args:
        target: where the store will be.
        key: of the build, which says how much room there must be.
        overwrite: True replaces the store that is there now. If the target is a link, the store that it leads to is
            replaced.
        medium: of the store; None for the one that its suffix asks for.

    Raises:
        StoreError: see `PartialFolder`.
    """
    path = real_target(target) if overwrite else Path(target).absolute()
    medium = medium or medium_of(path, key.spec)
    return PartialFolder(path, medium, overwrite=overwrite, needed=key.needed_bytes(medium))


def draft_in(
    folder: PartialFolder | None,
    key: BuildKey,
    *,
    fresh: bool = False,
    salvage: Salvage | None = None,
    manifest: Manifest | None = None,
) -> Draft:
    """Begin a store: reserve its slots, or take up the unfinished build that an earlier call left.

    Args:
        folder: as `hold` returned it; None for a store in memory.
        key: of the build.
        fresh: see `PartialFolder.begin`.
        salvage: see `PartialFolder.begin`.
        manifest: see `PartialFolder.begin`.
    """
    if folder is None:
        return MemoryDraft(key) if key.spec.encode is None else EncodedMemoryDraft(key)
    try:
        folder.begin(key, fresh=fresh, salvage=salvage, manifest=manifest)
        return folder.medium.draft(folder, key)
    except BaseException:
        folder.abandon()
        raise


def finish_earlier(target: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Do what a call that was killed while it published left to do; see `publishing.recover`.

    Every function that opens, builds or changes a store calls this first.
    """
    path = real_target(target)
    if not _may_have_leftovers(path):
        return None
    try:
        return recover(path, media.MEDIA)
    except OSError as error:  # a volume that may only be read: the store itself is whole
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return None
        raise


def _may_have_leftovers(path: Path) -> bool:
    return os.path.lexists(path / PLAN) or os.path.lexists(partial_of(path)) or os.path.lexists(aside_of(path))


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


def verify_store(
    store: Opened | str | os.PathLike[str], *, workers: int | None, progress: bool | Callable[[Progress], None]
) -> Verification:
    """Check a store in memory, or the store at a path; see `arraystore.verify`.

    Raises:
        FormatError: the store is replaced again and again, or the path is a URL.
    """
    path = store.path if isinstance(store, Opened) else store_path(store)
    if path is None:
        return verify_contents(partial(contents_of, cast("Opened", store)), workers=workers, progress=progress)
    finish_earlier(path)
    for _ in range(_VERIFY_TRIES):
        with PinnedName(path) as name:

            def is_current(name: PinnedName = name) -> bool:
                return name.still_leads_there() and not is_being_replaced(real_target(path))

            with suppress(ReplacedError):
                contents = partial(contents_of, path)
                return verify_contents(contents, workers=workers, progress=progress, is_current=is_current)
        time.sleep(_OPEN_RETRY_S)
    raise FormatError(f"{path} is replaced again and again: verify it when that has ended", source=str(path))


def open_store(path: str | os.PathLike[str], *, unfinished: bool = False, without_slots: bool = False) -> Opened:
    """Open a store for `arraystore.open`: its description is read, and its arrays are mapped.

    ``unfinished`` is the option ``partial``. ``without_slots`` opens a store whose file of pixels may be damaged, for a
    repair; see `Medium.open_rest`.

    Raises:
        FormatError: there is no store at the path, or it is damaged, cut short, or newer than this arraystore.
        OSError: the store cannot be read.
    """
    path = store_path(path)
    finish_earlier(path)
    folder = partial_of(real_target(path))
    if unfinished and folder.is_dir():
        return _open_unfinished(folder, path)
    for _ in range(_OPEN_TRIES):
        # Opening a store opens its name several times. If another store took the name meanwhile, the files that were
        # read do not belong together.
        with PinnedName(path) as name:
            try:
                opened = open_published(_medium_at(path), path, without_slots=without_slots)
            except (FormatError, OSError):
                if name.still_leads_there() and not is_being_replaced(real_target(path)):
                    raise
            else:
                if name.still_leads_there():
                    return opened
                continue
        time.sleep(_OPEN_RETRY_S)
    raise FormatError(f"{path} is replaced again and again: open it when that has ended", source=str(path))


def _open_unfinished(folder: Path, path: Path) -> Opened:
    try:
        key = read_json(folder / PLAN)
        count, spec = int(key["count"]), ImageSpec.from_dict(key["spec"])
        medium = medium_of(path, spec)
        ledger = read_ledger(folder / LEDGER, count, spec, masked=bool(key.get("masks")))
        images: Any
        if medium.slot_file is None:
            images = log_images(folder, medium, spec, ledger)
        else:
            images = medium.slot_file(folder / medium.pixels).map()
    except (OSError, KeyError, TypeError, ValueError, SpecError) as error:
        keep_os_error(error)
        raise FormatError(f"{folder} is no unfinished build that can be read: {error}", source=str(folder)) from error
    if images.shape != (count, *spec.slot_shape):
        # Rows are being dropped, or the header is damaged.
        raise FormatError(f"{folder}: the pixels are of {images.shape}, its plan says otherwise", source=str(folder))
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


def followed(
    folder: Path, target: Path, key: BuildKey
) -> tuple[npt.NDArray[np.uint8] | LogImages, npt.NDArray[np.void]] | None:
    """Return the slots and the ledger of a build in progress, as mappings that change with it; None if it is another.

    The caller is among the followers of the build; see `arraystore._stores.unfinished.followers`.

    Raises:
        OSError: see `keep_os_error`.
    """
    slots: npt.NDArray[np.uint8] | LogImages
    shape = (key.count, *key.spec.slot_shape)
    try:
        medium = medium_of(target, key.spec)
        if not key.fits(read_json(folder / PLAN)):
            return None
        if medium.slot_file is None:
            log = LogFile(folder / medium.draft_file)
            slots = LogImages(log, medium.head_bytes, key.count, key.spec, str(target))
        else:
            slots = medium.slot_file(folder / medium.pixels).map()
            if slots.shape != shape:
                return None
        dtype = ledger_dtype(key.spec, masked=bool(key.masks))
        rows = np.memmap(folder / LEDGER, dtype, "r", PAGE_BYTES, (key.count,)).view(np.ndarray)
    except (OSError, ValueError) as error:
        keep_os_error(error)
        return None
    return slots, rows


def _medium_at(path: Path) -> Medium:
    medium, unfinished = medium_at(path), partial_of(real_target(path))
    if medium is not None:
        return medium
    message, advice = f"there is no store at {path}", ""
    if unfinished.is_dir():
        message += f", but {unfinished} is an unfinished build"
        advice = "call build again to finish it"
    raise FormatError(message, source=str(path), kind=Kind.MISSING, advice=advice)


def _no_table(name: str) -> pa.Table:
    raise StoreError(f"a store under construction has no {name} yet: they are written when every slot is settled")
