"""Build a store: plan what is still empty, fill it in parallel, settle the bad images, publish.

Slot i holds manifest row i whatever worker fills it and whenever: work is handed out in runs (contiguous ranges of
slots), a bounded number at a time, and each run's ledger rows are written when it is done. So the result is the same,
byte for byte, for any number of workers, threads or processes, on any medium.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash

import arraystore
from arraystore.errors import BadImage, BadImagesError, SpecError, StoreError
from arraystore.fill import Filled, Job, fill_run, fill_slots
from arraystore.format import EMPTY, FAILED, STORED, Description
from arraystore.limits import check_workers, usable_cpus
from arraystore.manifest import Manifest
from arraystore.progress import Progress, reporting
from arraystore.spec import DEFAULT_MAX_PIXELS, Colour, Filter, Fit, ImageSpec, Layout, spec_of
from arraystore.stores import Draft, Plan, Store, draft_for
from arraystore.stores.base import Publication

__all__ = ["build"]

# Long enough that handing it out costs nothing, short enough that Ctrl-C and progress wait for a second at most.
_RUN_SLOTS = 16
_RUNS_IN_FLIGHT_PER_WORKER = 3
_LET_GO_S = 5.0
_LISTED = 10


def build(  # noqa: PLR0913 - each option is keyword-only
    source: Any,
    target: str | os.PathLike[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "stretch",
    filter: Filter = "bilinear",  # noqa: A002 - the spec's word
    colour: Colour = "rgb",
    layout: Layout = "NCHW",
    background: tuple[int, int, int] = (255, 255, 255),
    exact: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    spec: ImageSpec | None = None,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    targets: Sequence[str] | Mapping[str, Any] | None = None,
    bad: Literal["raise", "keep", "drop"] = "raise",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: bool | Callable[[Progress], None] = True,
    overwrite: bool = False,
    fresh: bool = False,
) -> Store:
    """Turn images into a preallocated array, each image decoded straight into its slot.

    The same call after an interruption goes on where that one stopped: what is done lies under ``TARGET.partial/``.

    Args:
        source: a folder (of class folders, flat, or with a metadata table), a table (.csv, .tsv, .jsonl, .parquet), a
            list of paths or of encoded bytes, arrays of H x W x 3 pixels, or a `Manifest`.
        target: where the store will be: a name that ends in ``.h5`` or ``.hdf5`` makes an HDF5 file, any other a
            folder of .npy files; None builds into RAM.
        size: height and width of a slot in pixels; one number makes a square. Needed unless ``spec`` is given.
        fit: see `ImageSpec`, as for all options down to ``max_pixels``.
        filter: the antialiasing filter.
        colour: ``"rgb"`` or ``"grey"``.
        layout: ``"NCHW"`` or ``"NHWC"``.
        background: behind transparent pixels and beside padded images.
        exact: True decodes every JPEG at full size.
        max_pixels: a larger image is a bad one.
        spec: all of these at once, in place of ``size`` and the options.
        labels: one a source, where ``source`` is a list: numbers, or names of classes.
        targets: other arrays, name → one row a source; or the names of the table's columns to take.
        bad: what to do about sources that cannot be stored, when every good slot is filled: ``"raise"`` an error that
            lists them, ``"keep"`` their slots as zeros with status 2, so that rows stay aligned with the caller's own
            labels, or ``"drop"`` their rows by moving the last good ones into the holes.
        workers: how many images are decoded at once; by default as many as processors may be used. With an
            ``executor``: how many it runs at once.
        executor: where to run them in place of threads of this process, such as a ProcessPoolExecutor; its workers
            must see the same files. It is not shut down.
        progress: True draws a bar, False is silent, a function is called with a `Progress` after each run.
        overwrite: True replaces a store that has the target's name, once the new one is finished.
        fresh: True discards what an unfinished build of this target left.

    Returns:
        The store, open. It owns its arrays.

    Raises:
        SpecError: an option has a value that cannot be.
        ManifestError: the sources cannot be listed, or labels do not fit them.
        BadImagesError: some sources could not be stored, and ``bad`` is ``"raise"``; or none could.
        StoreExistsError: the target has its name already.
        SpaceError: memory or volume are too small; nothing has been written.
        StoreError: another build into this target is running, an unfinished one was of something else, or a worker
            process died.
        OSError: the target cannot be written.
    """
    spec = spec_of(
        spec,
        size,
        fit=fit,
        filter=filter,
        colour=colour,
        layout=layout,
        background=background,
        exact=exact,
        max_pixels=max_pixels,
    )
    if bad not in ("raise", "keep", "drop"):
        raise SpecError(f"bad must be 'raise', 'keep' or 'drop', not {bad!r}")
    check_workers(workers)
    manifest = Manifest.of(source, labels=labels, targets=targets)
    plan = Plan(len(manifest), spec, manifest.digest, tuple(sorted(manifest.targets)))
    draft = draft_for(target, plan, overwrite=overwrite, fresh=fresh)
    try:
        _fill(draft, manifest, spec, workers=workers, executor=executor, progress=progress)
        failures = _failures(draft, manifest)
        if failures and (bad == "raise" or len(failures) == len(manifest)):
            raise _bad_images(failures, len(manifest), kept=target is not None)
        kept = _drop(draft) if failures and bad == "drop" else None
        return draft.publish(_publication(draft, manifest, spec, kept))
    finally:
        draft.close()


def _fill(  # noqa: PLR0913 - one call
    draft: Draft,
    manifest: Manifest,
    spec: ImageSpec,
    *,
    workers: int | None,
    executor: Executor | None,
    progress: bool | Callable[[Progress], None],
) -> None:
    """Fill every slot that is not stored yet, with a bounded number of runs in flight."""
    pool = executor or ThreadPoolExecutor(workers or usable_cpus(), thread_name_prefix="arraystore-fill")
    at_once = workers or getattr(pool, "_max_workers", None) or usable_cpus()
    runs = _plan_runs(draft, at_once)
    state = Progress(total=len(manifest), done=len(manifest) - sum(stop - start for start, stop in runs))
    stop = threading.Event()
    pending: dict[Future[Filled], int] = {}
    todo = iter(runs)
    try:
        with reporting(progress) as report:
            report(state)
            while True:
                while len(pending) < at_once * _RUNS_IN_FLIGHT_PER_WORKER and (run := next(todo, None)) is not None:
                    pending[_submit(pool, draft, manifest, spec, run, stop)] = run[0]
                if not pending:
                    return
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=pending.__getitem__):
                    del pending[future]
                    _record(draft, future.result(), state)
                report(state)
    except BrokenExecutor as error:
        raise StoreError(
            "a worker died: it could not start, was killed, ran out of memory, or crashed in a decoder. What was done "
            "is kept; the same call goes on from there"
        ) from error
    finally:
        stop.set()
        for future in pending:
            future.cancel()
        if executor is None:
            pool.shutdown(wait=True, cancel_futures=True)
        elif pending:
            wait(pending, timeout=_LET_GO_S)  # they write what they would write anyway, so a longer wait gains nothing


def _plan_runs(draft: Draft, workers: int) -> list[tuple[int, int]]:
    """Runs of the slots that are not stored, or whose pixels are not those that the ledger claims."""
    ledger = draft.ledger
    for slot in np.flatnonzero(ledger["status"] == STORED):
        if xxhash.xxh3_64_intdigest(draft.slots[slot]) != int(ledger["checksum"][slot]):
            ledger[slot] = np.zeros((), ledger.dtype)
    empty = np.flatnonzero(ledger["status"] != STORED)
    ledger["status"][empty] = EMPTY
    draft.reasons.clear()
    if empty.size == 0:
        return []
    # Small builds get shorter runs, so that no worker waits long for the last one.
    length = max(1, min(_RUN_SLOTS, empty.size // (8 * workers)))
    # Each stretch of neighbours is cut into runs: a resumed build decodes nothing twice.
    edges = np.flatnonzero(np.diff(empty) != 1) + 1
    starts, stops = empty[np.r_[0, edges]], empty[np.r_[edges - 1, -1]] + 1
    return [
        (start, min(start + length, int(last)))
        for first, last in zip(starts, stops, strict=True)
        for start in range(int(first), int(last), length)
    ]


def _submit(  # noqa: PLR0913 - one call
    pool: Executor, draft: Draft, manifest: Manifest, spec: ImageSpec, run: tuple[int, int], stop: threading.Event
) -> Future[Filled]:
    start, end = run
    job = Job(
        start,
        [manifest.load(slot) for slot in range(start, end)],
        spec,
        draft.file,
    )
    if isinstance(pool, ThreadPoolExecutor):
        return pool.submit(fill_slots, job, draft.slots[start:end], stop)
    return pool.submit(fill_run, job)


def _record(draft: Draft, filled: Filled, progress: Progress) -> None:
    """Write a finished run into the ledger; the status comes last, after the pixels that it claims."""
    rows = filled.rows
    run = slice(filled.start, filled.start + len(rows))
    if filled.pixels is not None:
        draft.slots[run] = filled.pixels
    draft.reasons.update(filled.reasons)
    claimed = rows["status"].copy()
    rows["status"] = EMPTY
    draft.ledger[run] = rows
    draft.ledger["status"][run] = claimed
    progress.done += int(np.count_nonzero(claimed))
    progress.bad += len(filled.reasons)
    progress.source_bytes += int(rows["bytes"].sum())


def _failures(draft: Draft, manifest: Manifest) -> list[BadImage]:
    slots = np.flatnonzero(draft.ledger["status"] == FAILED).tolist()
    return [BadImage(slot, manifest.name(slot), draft.reasons.get(slot, "unknown")) for slot in slots]


def _bad_images(failures: list[BadImage], total: int, *, kept: bool) -> BadImagesError:
    lines = [f"  slot {bad.slot} ← {bad.source}: {bad.reason}" for bad in failures[:_LISTED]]
    if len(failures) > _LISTED:
        lines.append(f"  and {len(failures) - _LISTED:,} more (the error's .bad has them all)")
    if len(failures) == total:
        advice = "None could be stored: is this the right folder?"
    else:
        done = "The good ones are done and kept: the" if kept else "The"
        advice = (
            f"{done} same call with bad='keep' stores these as zeros with status 2, with bad='drop' it leaves their "
            "rows out; or mend the files and call again."
        )
    message = f"{len(failures):,} of {total:,} images could not be stored.\n" + "\n".join([*lines, advice])
    return BadImagesError(message, bad=failures, total=total)


def _drop(draft: Draft) -> npt.NDArray[np.int64]:
    """Move the last good slots into the holes; return for each slot that is left its manifest row."""
    status = draft.ledger["status"]
    count = int(np.count_nonzero(status == STORED))
    kept = np.arange(count)
    holes = np.flatnonzero(status[:count] == FAILED)
    movers = count + np.flatnonzero(status[count:] == STORED)
    for hole, mover in zip(holes, movers[::-1], strict=True):
        draft.slots[hole] = draft.slots[mover]
        kept[hole] = mover
    draft.shrink(count)
    return kept


def _publication(draft: Draft, manifest: Manifest, spec: ImageSpec, kept: npt.NDArray[np.int64] | None) -> Publication:
    from arraystore.samples import dropped_table, samples_table  # noqa: PLC0415 - pyarrow takes a quarter of a second
    from arraystore.stats import mean_and_std  # noqa: PLC0415 - numba, loaded by now

    ledger = draft.ledger if kept is None else draft.ledger[kept]
    stored = ledger["status"] == STORED
    sums = [(total, squares) for total, squares in _exact_sums(ledger["sums"])]
    mean, std = mean_and_std(sums, int(np.count_nonzero(stored)) * spec.height * spec.width)
    targets = {
        name: np.ascontiguousarray(array if kept is None else array[kept]) for name, array in manifest.targets.items()
    }
    description = Description(
        count=len(ledger),
        shape=spec.slot_shape,
        spec=spec,
        targets={name: {"dtype": array.dtype.str, "shape": list(array.shape)} for name, array in targets.items()},
        classes=dict(manifest.classes),
        mean=mean,
        std=std,
        manifest_digest=manifest.digest,
        root=manifest.root,
        failed=int(np.count_nonzero(ledger["status"] == FAILED)),
        writer=f"arraystore {arraystore.__version__}",
    )
    dropped = None
    if kept is not None:
        dropped = dropped_table(manifest, draft.reasons, np.flatnonzero(draft.ledger["status"] == FAILED).tolist())
    return Publication(
        description=description,
        status=np.ascontiguousarray(ledger["status"]),
        checksums=np.ascontiguousarray(ledger["checksum"]),
        targets=targets,
        samples=samples_table(manifest, draft.ledger, draft.reasons, kept),
        dropped=dropped,
    )


def _exact_sums(sums: npt.NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Each channel's sums over all slots as Python integers: halves of 32 bits are added, so that nothing overflows."""
    low = (sums & np.uint64(0xFFFFFFFF)).sum(axis=0, dtype=np.uint64)
    high = (sums >> np.uint64(32)).sum(axis=0, dtype=np.uint64)
    for channel in range(sums.shape[1]):
        total, squares = (int(low[channel, i]) + (int(high[channel, i]) << 32) for i in range(2))
        yield total, squares
