"""Refill the damaged slots of a store from their sources."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Literal

import numpy as np

from arraystore._building.build import TIMEOUT_S, Options, build_manifest
from arraystore._common.progress import Progress
from arraystore._common.public import public
from arraystore._format.publication import Publication
from arraystore._format.samples import manifest_of, mtimes_us
from arraystore._format.verification import Verification
from arraystore._reading.store import Store
from arraystore._sources.stamps import STAMP, file_stamps
from arraystore._stores.opening import open_store
from arraystore._upkeep.reuse import Takeover
from arraystore._upkeep.verify import verify
from arraystore.errors import StoreError

__all__ = ["repair"]


@public
def repair(  # noqa: PLR0913 - each option is keyword-only
    path: str | os.PathLike[str],
    *,
    bad: Literal["raise", "keep"] = "raise",
    workers: int | None = None,
    processes: bool = False,
    timeout_s: float = TIMEOUT_S,
    executor: Executor | None = None,
    progress: bool | Callable[[Progress], None] = True,
    fresh: bool = False,
    verification: Verification | None = None,
) -> Store:
    """Find the slots whose pixels are not those that were stored, and decode exactly these from their sources again.

    As with `arraystore.update`, a new store is made beside the old one and takes its name when it is whole, so there
    must be room for both. A source that has changed since gives the pixels that it has now.

    Args:
        path: the store.
        bad: what to do about a damaged slot whose source cannot be stored any more: ``"raise"`` an error and leave the
            store as it is, or ``"keep"`` the slot as zeros with status 2.
        workers: see `arraystore.build`, as for all options down to ``fresh``.
        processes: see `arraystore.build`.
        timeout_s: see `arraystore.build`.
        executor: see `arraystore.build`.
        progress: see `arraystore.build`; shown for the check and for the filling.
        fresh: see `arraystore.build`.
        verification: what `arraystore.verify` has found, to mend just that; None verifies now.

    Returns:
        The store, open; the same one where nothing was damaged.

    Raises:
        SpecError: an option has a value that cannot be.
        FormatError: there is no store at the path, or it cannot be opened.
        StoreError: more than pixels is damaged, or the sources are not files.
        BadImagesError: a source cannot be stored any more; the store is as it was.
        SpaceError: the volume is too small for a second store; the store is as it was.
        OSError: the store cannot be read or written.
    """
    options = Options(
        bad=bad,
        workers=workers,
        processes=processes,
        timeout_s=timeout_s,
        executor=executor,
        progress=progress,
        overwrite=True,
        fresh=fresh,
    )
    store = Store(open_store(path))
    found = verification or verify(path, workers=workers, progress=progress)
    if found.faults:
        raise StoreError(
            f"{path} cannot be repaired: repair refills pixels, and something else is damaged: {found.faults[0]}",
            source=os.fspath(path),
        )
    if not found.damaged:
        return store
    with store:
        manifest = manifest_of(store.samples, store.targets, store.categories)
        if manifest is None:
            raise StoreError(
                f"the sources of {path} are no files that could be read again: build it again", source=os.fspath(path)
            )
        manifest = replace(manifest, root=store.description.root, origin=store.description.origin)
        slots = np.arange(len(store))
        slots[[damaged.slot for damaged in found.damaged]] = -1
        stamps = file_stamps(lambda row: str(manifest.load(row)), np.arange(len(store)))
        # Only what the old store says itself goes with its pixels; but times in nanoseconds where they are the same.
        same = stamps["mtime"] // 1000 == mtimes_us(store.samples)
        takeover = Takeover(store, slots, np.where(same, stamps, np.zeros((), STAMP)), manifest.load)
        dropped, description = store.dropped_samples, store.description

    def as_it_was(publication: Publication) -> Publication:
        digest = description.manifest_digest
        return replace(
            publication,
            dropped=dropped,
            description=replace(publication.description, manifest_digest=digest),
        )

    return Store(
        build_manifest(
            manifest, path, description.spec, options, load=takeover.load, known_bad=takeover.failed, amend=as_it_was
        )
    )
