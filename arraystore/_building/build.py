"""Build a store: find the slots that are still empty, fill them in parallel, decide about bad images, and publish.

Slot i always holds manifest row i. Workers get runs (contiguous ranges of slots), of which a bounded number is in
progress at a time, and finished runs are claimed in the background (`arraystore._building.checkpoint`). So the result
is the same, byte for byte, for any number of workers, for threads and processes, and after any number of interruptions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._building.bad import bad_images_error, drop_failed, failures_of, too_many
from arraystore._building.checkpoint import Checkpoints
from arraystore._building.fill import Job
from arraystore._building.masks import MaskJob
from arraystore._building.options import RunOptions
from arraystore._building.runs import cut_runs, in_order, row_stamps, slots_to_fill
from arraystore._building.sources import with_resized_masks
from arraystore._building.workers.pool import WorkerPool, filled_runs, worker_pool
from arraystore._building.workers.reading import Source, loaded
from arraystore._common.arrow import numbers_in
from arraystore._common.lazy import lazy
from arraystore._common.limits import memory_for_images
from arraystore._common.progress import Progress, reporting
from arraystore._common.ragged import Ragged, Target, split_targets
from arraystore._format.description import Description
from arraystore._format.ledger import mask_pixels, sides_in
from arraystore._format.publication import Publication
from arraystore._format.samples import dropped_table, mask_fields, mtimes_us, samples_table
from arraystore._format.specification import FAILED, STORED
from arraystore._format.target_forms import Form, array_keys, forms_of
from arraystore._sources.kinds.found import SourceList
from arraystore._sources.manifest import Manifest
from arraystore._stores.medium import Draft, FilledRun, Opened, least_slot_bytes
from arraystore._stores.opening import draft_in, finish_earlier, hold, open_store
from arraystore._stores.unfinished.build_key import BuildKey, Salvage
from arraystore._stores.unfinished.partial import PartialFolder
from arraystore._version import __version__
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    from arraystore._kernels import sums
else:
    sums = lazy("arraystore._kernels.sums")


def build_manifest(
    manifest: Manifest,
    target: str | os.PathLike[str] | None,
    spec: ImageSpec,
    options: RunOptions,
    *,
    bad: str,
    max_bad: float | None = None,
    overwrite: bool = False,
) -> Opened:
    """Build a manifest, for `build`. All ``options`` are given, and checked."""
    manifest = with_resized_masks(manifest, spec)
    key = build_key(manifest, spec)
    folder = None
    if target is not None:
        earlier = finish_earlier(target)
        if earlier is not None and not options["fresh"] and key.fits(earlier):
            # A call like this one was killed after it gave the store its name, so it has nothing left to do.
            store = open_store(target)
            if store.description.root == manifest.root and (not overwrite or is_up_to_date(store, manifest)):
                return store
        Path(target).absolute().parent.mkdir(parents=True, exist_ok=True)
        folder = hold(target, key, overwrite=overwrite)
    return build_in(folder, key, manifest, options, bad=bad, max_bad=max_bad)


def build_key(manifest: Manifest, spec: ImageSpec) -> BuildKey:
    """Return the key of a build."""
    return BuildKey(
        len(manifest),
        spec,
        manifest.digest,
        targets=tuple(sorted([*split_targets(manifest.targets), *array_keys(_forms_of_masks(manifest, spec, 0, 0))])),
        decoders=_decoders(),
        root=manifest.root,
        parts=manifest.part_digests,
        masks=tuple((name, each.dtype.str) for name, each in manifest.masks.items()),
    )


def _forms_of_masks(manifest: Manifest, spec: ImageSpec, count: int, pixels: int) -> dict[str, Form]:
    """Return the forms of the masks of a store, as of its other targets.

    Args:
        manifest: of the store.
        spec: of its slots.
        count: how many slots it has.
        pixels: how many numbers a mask has in all of them, where slots differ in height and width.
    """
    shape = {"shape": [count, *spec.size]} if spec.one_shape else {"shape": [pixels], "ragged": True}
    return {name: {"dtype": masks.dtype.str, **shape} for name, masks in manifest.masks.items()}


def is_up_to_date(store: Opened, manifest: Manifest) -> bool:
    """Return whether no source has changed since the store was built from all of them."""
    samples = store.load_table("samples")
    if not manifest.is_paths or samples is None or len(samples) != len(manifest):
        return False
    now = row_stamps(manifest)
    same = (now["bytes"] == numbers_in(samples["bytes"])) & (now["mtime"] // 1000 == mtimes_us(samples))
    return bool((same & (now["masks"] == mask_fields(samples)["mask_stamp"])).all())


def build_in(
    folder: PartialFolder | None,
    key: BuildKey,
    manifest: Manifest,
    options: RunOptions,
    *,
    bad: str,
    max_bad: float | None = None,
    load: Callable[[int], Source] | None = None,
    known_bad: Container[int] = (),
    amend: Callable[[Publication], Publication] = lambda publication: publication,
    salvage: Salvage | None = None,
    content: bool = False,
) -> Opened:
    """Build a manifest, for `build_manifest`, and for an update or a repair, which copy slots of the old store.

    Args:
        folder: from `hold`, and released at the end; None to build in memory.
        key: of the build.
        manifest: the rows.
        options: all of them, checked.
        bad: see `arraystore.build`.
        max_bad: see `arraystore.build`.
        load: returns the source of a slot in place of ``manifest.load``.
        known_bad: slots that may fail, even if ``bad`` is ``"raise"``.
        amend: changes the parts of the store beside the pixels before they are written.
        salvage: see `PartialFolder.begin`.
        content: see `slots_to_fill`.
    """
    spec = key.spec
    draft = draft_in(folder, key, fresh=options["fresh"], salvage=salvage, manifest=manifest)

    in_ram = 0 if folder is not None else key.count * (least_slot_bytes(spec) + key.mask_bytes)
    most = memory_for_images(options["max_memory"], in_ram)

    def job_of(start: int, stop: int, *, alone: bool = manifest.is_read_once) -> Job:
        sources, masks = [], {}
        for slot in range(start, stop):  # an image with its masks, which may lie in the same row of a table
            sources.append(loaded(load or manifest.load, slot))
            masks[slot] = manifest.load_masks(slot)
        share = most if alone else most / pool.size
        mask_job, sides = MaskJob.of(manifest, masks), manifest.sides_of(range(start, stop))
        return Job(start, sources, spec, draft.file, share, most, options["decoders"], mask_job, sides)

    try:
        pool = worker_pool(draft.slots, options)
        claims = Checkpoints(draft, spec.slot_bytes, at_once=not draft.on_disk)  # masks are smaller
        # The pool is closed first, and then the last runs are claimed.
        with claims as checkpoints, closing(pool), reporting(options["progress"]) as report:
            empty = slots_to_fill(draft, manifest, content=content)
            runs = cut_runs(empty, pool.size, key.mask_bytes)
            fill_runs(draft, manifest, runs, job_of, max_bad, pool, checkpoints, report)
        failures = failures_of(draft.reasons, manifest)
        unexpected = [failure for failure in failures if failure.slot not in known_bad]
        if (unexpected and bad == "raise") or len(failures) == len(manifest):
            raise bad_images_error(unexpected or failures, len(manifest), kept=folder is not None)
        kept = drop_failed(draft) if failures and bad == "drop" else None
        draft.finish(amend(publication_of(draft, manifest, spec, kept)))
        return draft.give_name()
    finally:
        if folder is not None:
            folder.release()


class Fillable(Protocol):
    """What runs are filled into: a `Draft`, or several as one; see there."""

    appends: bool
    on_disk: bool
    reasons: dict[int, str]
    notes: dict[int, str]

    def writing(self) -> AbstractContextManager[None]: ...

    def put(self, run: FilledRun) -> None: ...


def fill_runs(
    draft: Fillable,
    manifest: Manifest,
    runs: Sequence[tuple[int, int]],
    job_of: Callable[..., Job],
    max_bad: float | None,
    pool: WorkerPool,
    checkpoints: Checkpoints,
    report: Callable[[Progress], None],
) -> None:
    """Fill these runs, and claim them."""
    left = sum(stop - start for start, stop in runs)
    state = Progress(total=len(manifest), done=len(manifest) - left, bad=len(draft.reasons))
    report(state)
    finished = filled_runs(pool, runs, job_of, draft.writing)
    for filled in in_order(finished, runs) if draft.appends else finished:
        _record(draft, filled, state)
        checkpoints.add(filled)
        report(state)
        if too_many(max_bad, state):
            failures = failures_of(draft.reasons, manifest)
            raise bad_images_error(failures, len(manifest), kept=draft.on_disk, tried=state.done)


def _record(draft: Fillable, filled: FilledRun, progress: Progress) -> None:
    """Write the pixels of a finished run where its worker could not, and count its slots."""
    draft.put(filled)
    draft.reasons.update(filled.reasons)
    draft.notes.update(filled.notes)
    progress.done += int(np.count_nonzero(filled.rows["status"]))
    progress.bad = len(draft.reasons)
    progress.source_bytes += int(filled.rows["bytes"].sum())


def publication_of(
    draft: Draft, manifest: Manifest, spec: ImageSpec, kept: npt.NDArray[np.int64] | None
) -> Publication:
    """Return what a build writes beside the pixels.

    ``kept`` has the row of the manifest of each slot, if rows are dropped.
    """
    ledger = draft.ledger if kept is None else draft.ledger[kept]
    stored = ledger["status"] == STORED
    mean, std = sums.mean_and_std(list(_exact_sums(ledger["sums"])), _pixels_in(ledger[stored], spec))
    targets = {name: _in_order(target, kept) for name, target in manifest.targets.items()}
    pixels = int(mask_pixels(ledger, spec).sum())
    forms = forms_of(targets) | _forms_of_masks(manifest, spec, len(ledger), pixels)
    files = manifest.as_files(spec)
    description = Description(
        count=len(ledger),
        shape=spec.slot_shape,
        spec=spec,
        targets=forms,
        classes=dict(manifest.classes),
        mean=mean,
        std=std,
        manifest_digest=(files or manifest).digest,
        root=manifest.root,
        origin=None if files is None else files.origin,
        left_out=dict(manifest.left_out),
        masks={**manifest.mask_fills, **{name: masks.fill for name, masks in manifest.masks.items()}},
        source_pixels=dict(manifest.source_pixels),
        source_options={} if files is None else dict(files.source_options),
        resized=isinstance(manifest.sources, SourceList) and not manifest.sources.keeps_place(spec),
        masks_are_files=all(masks.are_files for masks in manifest.masks.values()),
        from_files=files is not None or not isinstance(manifest.sources, SourceList),
        failed=int(np.count_nonzero(ledger["status"] == FAILED)),
        writer=f"arraystore {__version__}",
    )
    dropped = None
    if kept is not None:
        gone = np.setdiff1d(np.arange(len(manifest)), kept)
        dropped = dropped_table(manifest, draft.ledger, draft.reasons, gone.tolist())
    return Publication(
        description=description,
        status=np.ascontiguousarray(ledger["status"]),
        checksums=np.ascontiguousarray(ledger["checksum"]),
        targets=targets,
        samples=samples_table(manifest, draft.ledger, draft.reasons, draft.notes, kept),
        rows=ledger,
        dropped=dropped,
    )


def _pixels_in(rows: npt.NDArray[np.void], spec: ImageSpec) -> int:
    """Return how many pixels stored slots have together."""
    if spec.one_shape:
        return len(rows) * spec.height * spec.width
    return int(sides_in(rows, spec)[:, :2].astype(np.int64).prod(axis=1).sum())


def _in_order(target: Target, kept: npt.NDArray[np.int64] | None) -> Target:
    """Return a target in C order; if rows were dropped, only its rows for the slots that were kept."""
    chosen = target if kept is None else target[kept]
    return chosen if isinstance(chosen, Ragged) else np.ascontiguousarray(chosen)


def _exact_sums(slot_sums: npt.NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield each channel's sums over all slots. Halves of 32 bits are added, because sums of 64 bits could overflow."""
    low = (slot_sums & np.uint64(0xFFFFFFFF)).sum(axis=0, dtype=np.uint64)
    high = (slot_sums >> np.uint64(32)).sum(axis=0, dtype=np.uint64)
    for channel in range(slot_sums.shape[1]):
        total, squares = (int(low[channel, i]) + (int(high[channel, i]) << 32) for i in range(2))
        yield total, squares


def _decoders() -> str:
    """Return the versions of all decoders that are installed."""
    found = [f"arraystore {__version__}"]
    for name in ("opencv-python-headless", "opencv-python", "simplejpeg", "pillow"):
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)
