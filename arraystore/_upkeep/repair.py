"""Decode the damaged slots of a store again from their sources."""

import logging
import os
from dataclasses import replace
from typing import Literal, Unpack

import numpy as np

from arraystore._building.bad import bad_images_error
from arraystore._building.build import build_in, build_key
from arraystore._building.options import RunOptions, checked
from arraystore._building.workers.reading import Source
from arraystore._common.options import public, shows_options
from arraystore._format.checking.result import Verification
from arraystore._format.publication import Publication
from arraystore._format.samples import mtimes_us
from arraystore._format.specification import FAILED
from arraystore._reading.store import Store
from arraystore._sources.given import Unloaded
from arraystore._sources.stamps import STAMP, file_stamps
from arraystore._stores.medium import Opened
from arraystore._stores.opening import open_store
from arraystore._stores.unfinished.partial import PartialFolder
from arraystore._upkeep.moved import other_contents, sources_of
from arraystore._upkeep.relisted import check_decoders_given
from arraystore._upkeep.reuse import Takeover, hold_store
from arraystore._upkeep.verify import verify
from arraystore.errors import BadImagesError, Kind, Option, SpecError, StoreError

_logger = logging.getLogger(__name__)


@public
@shows_options(RunOptions)
def repair(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    *,
    bad: Literal["raise", "keep"] = "raise",
    verification: Verification | None = None,
    **options: Unpack[RunOptions],
) -> Store:
    """Find the slots whose pixels are damaged or cut off, and decode these again from their sources.

    As in `arraystore.update`, a new store is made beside the old one and then replaces it, so there must be room for
    both. If a source has changed since, its slot gets the new pixels, and the log says so.

    Args:
        path: the store.
        source: the folder that the sources have moved to; they are looked for there by their names in the store. A file
            with other contents than the stored one, or with another mask, is then a source that can no longer be
            stored. None looks for them where they were. The folder is not recorded in the store: `update` does that.
        bad: what to do with a damaged slot whose source can no longer be stored: ``"raise"`` an error and leave the
            store unchanged, or ``"keep"`` the slot as zeros with status 2.
        verification: the result of `arraystore.verify` for this store; None verifies now.
        options: from ``workers`` to ``fresh``, see `arraystore.build`; ``progress`` is also for the check.

    Returns:
        The repaired store, open; the old one where nothing was damaged.

    Raises:
        SpecError: an option is invalid.
        FormatError: there is no store at the path, or it cannot be opened.
        ManifestError: ``source`` is no folder.
        StoreError: other parts than pixels are damaged, the sources are not files or have no relative names, another
            call is changing the store, ``verification`` is that of another store than the one that is there now, or
            ``decoders`` without which a source cannot be decoded are not given.
        BadImagesError: a source can no longer be stored; the store has not changed.
        SpaceError: the volume is too small for a second store; the store has not changed.
        OSError: the store cannot be read or written.
    """
    if str(bad) == "drop":
        raise SpecError(
            "a repair leaves every slot in its place, so it has no bad='drop'",
            advice="use {0}, which stores zeros with status 2, or restore the sources",
            options=[Option("bad", "keep")],
        )
    every = checked("repair", RunOptions, options, bad)

    def verified() -> Verification:
        found = verify(path, workers=every["workers"], progress=every["progress"])
        _refuse_faults(path, found)
        return found

    store = Store(opened := open_store(path, without_slots=True))
    if verification is not None:
        _refuse_faults(path, verification)
        if verification.identity != opened.identity:
            raise _changed_since(path)
    found = verification or verified()
    if found.ok and found.identity == opened.identity:
        return Store(open_store(path))
    manifest = sources_of(store, source)  # raises if they cannot be found
    folder = hold_store(path, manifest, store.spec)
    try:
        # From here on no other call of arraystore replaces the store.
        store = Store(opened := open_store(path, without_slots=True))
        if found.identity != opened.identity:
            if verification is not None:
                raise _changed_since(path)
            found = verified()
            if found.ok:
                return Store(open_store(path))
        return Store(_repair(store, found, folder, every, bad, source))
    except BadImagesError as error:  # its advice names bad="drop", which a repair does not have
        raise bad_images_error(error.bad, error.total, kept=True, may_drop=False) from None
    finally:
        folder.abandon()


def _repair(
    store: Store,
    found: Verification,
    folder: PartialFolder,
    options: RunOptions,
    bad: str,
    source: str | os.PathLike[str] | None,
) -> Opened:
    with store:
        manifest = sources_of(store, source)
        slots = np.arange(len(store))
        damaged = np.array([each.slot for each in found.damaged], np.int64)
        names = [manifest.name(slot) for slot in damaged.tolist()]
        check_decoders_given(store.description, names, options["decoders"], folder.target)
        slots[damaged] = -1
        stamps = file_stamps(lambda row: str(manifest.load(row)), np.arange(len(store)))
        # The samples describe the sources of the old pixels, so the file system's times are used only where they are
        # the same: they count nanoseconds, the samples microseconds.
        same = stamps["mtime"] // 1000 == mtimes_us(store.samples)
        known = np.where(same, stamps, np.zeros((), STAMP))
        others = other_contents(store, manifest, damaged)
        for slot, reason in others.items() if source is None else ():
            _logger.warning("slot %d gets other pixels: %s %s", slot, manifest.name(slot), reason)
        refused = others if source is not None else {}

        def load(row: int) -> Source:
            return Unloaded(refused[row]) if row in refused else manifest.load(row)

        takeover = Takeover(store, slots, known, load, lambda slot, row: slot == row)
        failed = frozenset(np.flatnonzero(np.asarray(store.status) == FAILED).tolist())
        dropped, description = store.dropped_samples, store.description

    def with_old_manifest(publication: Publication) -> Publication:
        made = replace(
            publication.description,
            manifest_digest=description.manifest_digest,
            root=description.root,
            origin=description.origin,
            left_out=description.left_out,
            source_options=description.source_options,
        )
        return replace(publication, dropped=dropped, description=made)

    return build_in(
        folder,
        build_key(manifest, description.spec),
        manifest,
        options,
        bad=bad,
        load=takeover.load,
        known_bad=failed,
        amend=with_old_manifest,
    )


def _refuse_faults(path: str | os.PathLike[str], found: Verification) -> None:
    for fault in found.faults:
        if not fault.repairable:
            raise StoreError(
                f"{path} cannot be repaired, because more than pixels is damaged: {fault.message}",
                source=os.fspath(path),
                kind=fault.kind or Kind.DAMAGED,
                advice=fault.advice,
                options=fault.options,
            )


def _changed_since(path: str | os.PathLike[str]) -> StoreError:
    return StoreError(
        f"{path} has been changed since it was verified",
        source=os.fspath(path),
        advice="verify it again, or call repair without verification",
    )
