"""Bring a store up to date with its sources: only new and changed sources are decoded.

Rows of the store keep their order, and classes their codes. New rows and classes follow.
"""

import os
from dataclasses import replace
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt

from arraystore._building.build import build_in, build_key
from arraystore._building.options import CompareOptions, RunOptions, UpdateOptions, checked
from arraystore._common.options import picked, public, shows_options
from arraystore._format.ledger import name_hash
from arraystore._format.publication import Publication
from arraystore._format.samples import join_dropped
from arraystore._reading.store import Store
from arraystore._stores.medium import Opened
from arraystore._stores.opening import open_store
from arraystore._stores.unfinished.build_key import Salvage
from arraystore._stores.unfinished.partial import PartialFolder
from arraystore._upkeep.compare import Changes, compare
from arraystore._upkeep.retried import settled
from arraystore._upkeep.reuse import Takeover, hold_store, manifest_in
from arraystore.errors import StoreError


@public
@shows_options(UpdateOptions)
def update(
    path: str | os.PathLike[str],
    source: Any = None,
    *,
    removed: Literal["drop", "keep"] = "drop",
    content: bool = False,
    labels: Any = None,
    targets: Any = None,
    bad: Literal["raise", "keep", "drop"] | None = None,
    max_bad: float | None = None,
    changes: Changes | None = None,
    **options: Unpack[UpdateOptions],
) -> Store:
    """Bring a store up to date: decode new and changed sources, and copy all other slots.

    A new store is made beside the old one and then replaces it, so there must be room for both. Processes that have the
    old store open can still read it afterwards. Copied slots are checked; damaged ones are decoded again. The same call
    continues an interrupted update.

    Args:
        path: the store.
        source: see `compare`, as for all options down to ``targets``.
        removed: see `compare`.
        content: see `compare`.
        labels: see `compare`.
        targets: see `compare`.
        bad: what to do with sources that cannot be stored, see `arraystore.build`. None does the same as the build of
            the store: ``"keep"`` if it has failed slots, ``"drop"`` if rows were dropped, else ``"raise"``.
        max_bad: see `arraystore.build`.
        changes: the result of `compare` with the same options; None compares now.
        options: from ``root`` to ``fresh``, see `arraystore.build`.

    Returns:
        The updated store, open; the old one where nothing has changed. A source that is tried again and fails again for
        the same reason counts as unchanged from then on, see `Changes.retried`.

    Raises:
        SpecError: an option is invalid.
        FormatError: there is no store at the path, or it is damaged.
        ManifestError: the sources cannot be listed, or have other targets than the store.
        BadImagesError: see `arraystore.build`; the store has not changed.
        SpaceError: the volume is too small for a second store; the store has not changed.
        StoreError: see `arraystore.build` and `compare`; or ``changes`` are those of another store than the one that is
            there now.
        OSError: the store cannot be read or written.
    """
    every = checked("update", UpdateOptions, options, bad or "raise", max_bad)

    def compared() -> Changes:
        chosen = picked(CompareOptions, options)  # of the others, the store has the ones of its build
        return compare(path, source, removed=removed, content=content, labels=labels, targets=targets, **chosen)

    found = changes or compared()
    store = Store(opened := open_store(path))
    if changes is not None and changes.identity != opened.identity:
        raise _changed_since(path)
    if not found and found.identity == opened.identity:
        return store
    folder = hold_store(path, found.manifest, store.spec)
    try:
        # From here on no other call of arraystore replaces the store.
        store = Store(opened := open_store(path))
        if found.identity != opened.identity:
            if changes is not None:
                raise _changed_since(path)
            found = compared()
            if not found:
                return store
        return Store(_update(store, found, folder, every, bad=bad, max_bad=max_bad, content=content))
    finally:
        folder.abandon()


def _update(
    store: Store,
    changes: Changes,
    folder: PartialFolder,
    options: RunOptions,
    *,
    bad: str | None,
    max_bad: float | None,
    content: bool,
) -> Opened:
    manifest, was = changes.manifest, manifest_in(store)
    renamed = set(changes.renamed)

    def is_of(slot: int, row: int) -> bool:
        before, now = was.name(slot), manifest.name(row)
        return before == now or (before, now) in renamed

    def names() -> npt.NDArray[np.uint64]:
        rows = range(len(manifest))
        return np.fromiter((name_hash(str(manifest.load(row)), manifest.load_masks(row)) for row in rows), np.uint64)

    def amended(publication: Publication) -> Publication:
        made = settled(publication, changes.stamps, frozenset(changes.retried), reasons)
        return replace(made, dropped=join_dropped(changes.dropped, made.dropped))

    with store:
        reasons = {image.source: image.reason for image in (*store.dropped(), *store.bad())}
        takeover = Takeover(store, changes.slots, changes.stamps, manifest.load, is_of)
        as_built = "keep" if store.description.failed else "drop" if store.dropped() else "raise"
    return build_in(
        folder,
        build_key(manifest, store.spec),
        manifest,
        options,
        bad=bad or as_built,
        max_bad=max_bad,
        load=takeover.load,
        known_bad=takeover.failed,
        amend=amended,
        salvage=Salvage(names, changes.slots < 0),
        content=content,
    )


def _changed_since(path: str | os.PathLike[str]) -> StoreError:
    return StoreError(
        f"{path} has been changed since these changes were found",
        source=os.fspath(path),
        advice="compare again, or call update without changes",
    )
