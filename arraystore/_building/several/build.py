"""Build several stores of one manifest, each image decoded once for all of them.

Each store has the bytes that a build of it alone makes, and its own plan and ledger, so it can be updated and repaired
alone. What a killed call has claimed in one store and not in another is filled in the other only.

The stores get their names when all of them are finished: first everything is written, for every store, then each plan
notes all of the stores, and then they are renamed, one after the other. `finished_already` says what a call does that
finds some of them renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._building.bad import bad_images_error, drop_failed, failures_of
from arraystore._building.build import fill_runs, publication_of
from arraystore._building.checkpoint import Checkpoints
from arraystore._building.masks import MaskJob
from arraystore._building.options import RunOptions
from arraystore._building.runs import cut_runs, slots_to_fill
from arraystore._building.several.draft import JointDraft
from arraystore._building.several.job import JointJob, Share
from arraystore._building.several.targets import Wanted, check_room, finished_already, wanted_stores
from arraystore._building.workers.pool import worker_pool
from arraystore._building.workers.reading import loaded
from arraystore._common.arrow import numbers_in
from arraystore._common.limits import memory_for_images
from arraystore._common.progress import reporting
from arraystore._sources.manifest import Manifest
from arraystore._stores.medium import Draft, Opened
from arraystore._stores.opening import hold
from arraystore._stores.publishing import finished_in, note_beside, store_identity
from arraystore._stores.unfinished.partial import PartialFolder
from arraystore.errors import Option, StoreError
from arraystore.spec import ImageSpec


def build_several(
    manifest: Manifest,
    targets: Mapping[str, Path],
    specs: Sequence[ImageSpec],
    options: RunOptions,
    *,
    bad: str,
    max_bad: float | None = None,
    overwrite: bool = False,
) -> list[Opened]:
    """Build a manifest into several stores, for `arraystore.build`. All ``options`` are given, and checked.

    Args:
        manifest: the rows.
        targets: of each store, its name for messages and its path.
        specs: of each store.
        options: see `arraystore.build`, as for the others.
        bad: an image that cannot be stored in one of the stores is dropped from all of them.
        max_bad: counts images that are bad in some store.
        overwrite: replaces stores that are there.
    """
    stores = wanted_stores(targets, specs, manifest)
    done = finished_already(stores, overwrite=overwrite, fresh=options["fresh"])
    rest = [store for number, store in enumerate(stores) if number not in done]
    made = iter(_build(rest, list(done.values()), manifest, options, bad, max_bad, overwrite) if rest else ())
    return [done[number] if number in done else next(made) for number in range(len(stores))]


def _build(
    stores: Sequence[Wanted],
    done: Sequence[Opened],
    manifest: Manifest,
    options: RunOptions,
    bad: str,
    max_bad: float | None,
    overwrite: bool,
) -> list[Opened]:
    """Build some of the stores; the others are done."""
    for store in stores:
        store.path.parent.mkdir(parents=True, exist_ok=True)
    check_room(stores)
    with ExitStack() as held:
        folders = _hold(stores, held, overwrite=overwrite)
        drafts = _begin(stores, folders, fresh=options["fresh"])
        joint = JointDraft(drafts, [store.label for store in stores], [store.folder for store in stores])
        _fill(stores, drafts, joint, manifest, options, max_bad)
        reasons = joint.joint_reasons()
        failures = failures_of(reasons, manifest)
        # A store without any image is of no use; rows that are bad in one store are dropped from all.
        most_bad = len(failures) if bad == "drop" else max(len(draft.reasons) for draft in drafts)
        if (failures and bad == "raise") or most_bad == len(manifest):
            raise bad_images_error(failures, len(manifest), kept=True)
        gone = sorted(_dropped(done, reasons if bad == "drop" else None, stores))
        for store, draft in zip(stores, drafts, strict=True):
            for slot in gone:
                draft.reasons.setdefault(slot, reasons.get(slot, "it was left out of the stores beside this one"))
            kept = drop_failed(draft, gone) if gone else None
            draft.finish(publication_of(draft, store.manifest, store.key.spec, kept))
        identities = [*map(_identity, folders), *(each.identity for each in done)]
        for folder in folders:
            note_beside(folder.path, identities)
        return [draft.give_name() for draft in drafts]


def _hold(stores: Sequence[Wanted], held: ExitStack, *, overwrite: bool) -> list[PartialFolder]:
    """Lock the folders of all stores, in an order that other calls have too, so that one of two calls gets them all."""
    folders = {}
    for store in sorted(stores, key=lambda store: store.place):
        folder = folders[store.place] = hold(store.path, store.key, overwrite=overwrite)
        held.callback(folder.abandon)
    return [folders[store.place] for store in stores]


def _identity(folder: PartialFolder) -> str:
    """Return the identity of a finished store that waits for its name."""
    return store_identity(folder.medium, finished_in(folder.path, folder.medium))


def _begin(stores: Sequence[Wanted], folders: Sequence[PartialFolder], *, fresh: bool) -> list[Draft]:
    """Begin each store, or take up its unfinished build; if one cannot begin, none has begun."""
    try:
        for store, folder in zip(stores, folders, strict=True):
            folder.begin(store.key, fresh=fresh, manifest=store.manifest)
        return [folder.medium.draft(folder, store.key) for store, folder in zip(stores, folders, strict=True)]
    except BaseException:
        for folder in folders:
            folder.discard()
        raise


def _fill(
    stores: Sequence[Wanted],
    drafts: Sequence[Draft],
    joint: JointDraft,
    manifest: Manifest,
    options: RunOptions,
    max_bad: float | None,
) -> None:
    """Fill every slot that a store lacks."""
    most = memory_for_images(options["max_memory"])
    manifests = {id(store.manifest): store.manifest for store in stores}
    lacking = np.zeros((len(stores), len(manifest)), bool)

    def job_of(start: int, stop: int, *, alone: bool = manifest.is_read_once) -> JointJob:
        sources = []
        masks: dict[int, dict[int, Any]] = {key: {} for key in manifests}
        for slot in range(start, stop):  # an image with its masks, which may lie in the same row of a table
            sources.append(loaded(manifest.load, slot))
            for key, each in manifests.items():
                masks[key][slot] = each.load_masks(slot)
        shares = [
            Share(
                number,
                stores[number].label,
                stores[number].key.spec,
                drafts[number].file,
                MaskJob.of(stores[number].manifest, masks[id(stores[number].manifest)]),
            )
            for number in np.flatnonzero(lacking[:, start]).tolist()
        ]
        return JointJob(
            start,
            sources,
            shares[0].spec,
            memory_bytes=most if alone else most / pool.size,
            most_memory_bytes=most,
            decoders=options["decoders"],
            sides=manifest.sides_of(range(start, stop)),
            shares=tuple(shares),
        )

    pool = worker_pool(joint.slots, options)
    claims = Checkpoints(joint, sum(store.key.spec.slot_bytes for store in stores))
    with claims as checkpoints, closing(pool), reporting(options["progress"]) as report:
        for number, (store, draft) in enumerate(zip(stores, drafts, strict=True)):
            lacking[number, slots_to_fill(draft, store.manifest)] = True
        mask_bytes = sum(store.key.mask_bytes for store in stores)
        runs = _runs(lacking, pool.size, mask_bytes)
        fill_runs(joint, manifest, runs, job_of, max_bad, pool, checkpoints, report)


def _runs(lacking: npt.NDArray[np.bool_], workers: int, mask_bytes: int) -> list[tuple[int, int]]:
    """Cut the slots that some store lacks into runs in rising order; all slots of a run are lacking in the same stores.

    ``lacking`` says of each store and each slot whether it is.
    """
    some = np.flatnonzero(lacking.any(axis=0))
    kinds, kind_of = np.unique(lacking[:, some], axis=1, return_inverse=True)
    kind_of = kind_of.reshape(-1)  # NumPy 2.0 gives it two axes
    alike = (some[kind_of == kind] for kind in range(kinds.shape[1]))
    return sorted(run for slots in alike for run in cut_runs(slots, workers, mask_bytes))


def _dropped(done: Sequence[Opened], reasons: Mapping[int, str] | None, stores: Sequence[Wanted]) -> set[int]:
    """Return the rows to leave out of the stores: those that are bad in one of them, or left out of one that is done.

    ``reasons`` are those of bad images; None if none is to be dropped.

    Raises:
        StoreError: a store that is done has rows that the others cannot have, so their rows would differ.
    """
    tables = [each.load_table("dropped") for each in done]
    left_out = [set() if table is None else set(numbers_in(table["row"]).tolist()) for table in tables]
    gone = set() if reasons is None else set(reasons).union(*left_out)
    for opened, rows in zip(done, left_out, strict=True):
        if rows != gone:
            names = ", ".join(store.name for store in stores)
            raise StoreError(
                f"{opened.path} was finished by an earlier call, and {names} would have other rows than it: images "
                "have become bad, or were mended, in between",
                source=str(opened.path),
                advice="make all of them again with {0}",
                options=[Option("overwrite")],
            )
    return gone
