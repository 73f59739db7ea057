"""Build a store: plan what is still empty, fill it in parallel, settle the bad images, publish.

Slot i holds manifest row i whatever worker fills it and whenever: work is handed out in runs (contiguous ranges of
slots), a bounded number at a time, and finished runs are claimed in the background (`arraystore.checkpoint`). So the
result is the same, byte for byte, for any number of workers, threads or processes, on any medium, however often the
build was interrupted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from importlib import metadata
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import arraystore
from arraystore.checkpoint import Checkpoints
from arraystore.errors import BadImage, BadImagesError, SpecError, StoreError
from arraystore.fill import Filled, Job, fill_run, fill_slots
from arraystore.format import FAILED, STORED, Description
from arraystore.limits import usable_cpus
from arraystore.manifest import Manifest
from arraystore.progress import Progress, reporting
from arraystore.runs import cut_runs, take_empty
from arraystore.spec import DEFAULT_MAX_PIXELS, Colour, Filter, Fit, ImageSpec, Layout
from arraystore.stores import Draft, Plan, Store, draft_for, finished
from arraystore.stores.base import Publication

__all__ = ["build"]

_RUNS_IN_FLIGHT_PER_WORKER = 3
_LET_GO_S = 5.0
_LISTED = 10
_SHARE_AFTER = 100


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
    max_bad: float | None = None,
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
        max_bad: how many bad images end the build early, because the source is probably the wrong one: a number of
            images if it is an integer; a share of the images tried, once 100 were, if it is a fraction such as 0.1.
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
        BadImagesError: some sources could not be stored, and ``bad`` is ``"raise"``; or none could; or more than
            ``max_bad``.
        StoreExistsError: the target has its name already.
        SpaceError: memory or volume are too small; nothing has been written.
        StoreError: another build into this target is running, an unfinished one was of something else, or a worker
            process died.
        OSError: the target cannot be written.
    """
    if spec is None:
        if size is None:
            raise SpecError("size is missing: pass size=256, or (height, width), in pixels")
        spec = ImageSpec(
            size=size,
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
    if workers is not None and workers < 1:
        raise SpecError(f"workers must be at least 1, not {workers!r}")
    _check_max_bad(max_bad)
    manifest = Manifest.of(source, labels=labels, targets=targets)
    plan = Plan(len(manifest), spec, manifest.digest, tuple(sorted(manifest.targets)), _decoders())
    store = finished(target, plan)
    if store is not None:
        return store
    draft = draft_for(target, plan, overwrite=overwrite, fresh=fresh)
    try:
        _fill(draft, manifest, spec, max_bad, workers=workers, executor=executor, progress=progress)
        failures = _failures(draft.reasons, manifest)
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
    max_bad: float | None,
    *,
    workers: int | None,
    executor: Executor | None,
    progress: bool | Callable[[Progress], None],
) -> None:
    """Fill every slot that is not stored yet, with a bounded number of runs in flight."""
    pool = executor or ThreadPoolExecutor(workers or usable_cpus(), thread_name_prefix="arraystore-fill")
    at_once = workers or getattr(pool, "_max_workers", None) or usable_cpus()
    empty = take_empty(draft, manifest)
    runs = cut_runs(empty, at_once)
    state = Progress(total=len(manifest), done=len(manifest) - empty.size, bad=len(draft.reasons))
    stop = threading.Event()
    pending: dict[Future[Filled], int] = {}
    todo = iter(runs)
    try:
        with Checkpoints(draft) as checkpoints, reporting(progress) as report:
            report(state)
            while True:
                while len(pending) < at_once * _RUNS_IN_FLIGHT_PER_WORKER and (run := next(todo, None)) is not None:
                    pending[_submit(pool, draft, manifest, spec, run, stop)] = run[0]
                if not pending:
                    return
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=pending.__getitem__):
                    del pending[future]
                    with draft.writing():
                        filled = future.result()
                    _record(draft, filled, state)
                    checkpoints.add(filled)
                report(state)
                if _too_many(max_bad, state):
                    failures = _failures(draft.reasons, manifest)
                    raise _bad_images(failures, len(manifest), kept=draft.file is not None, tried=state.done)
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
    if isinstance(pool, ThreadPoolExecutor) and (draft.file is None or draft.file.reserved):
        return pool.submit(fill_slots, job, draft.slots[start:end], stop)
    return pool.submit(fill_run, job)


def _record(draft: Draft, filled: Filled, progress: Progress) -> None:
    """Take note of a finished run."""
    if filled.pixels is not None:
        draft.write(filled.start, filled.pixels)
    draft.reasons.update(filled.reasons)
    progress.done += int(np.count_nonzero(filled.rows["status"]))
    progress.bad += len(filled.reasons)
    progress.source_bytes += int(filled.rows["bytes"].sum())


def _check_max_bad(max_bad: float | None) -> None:
    if max_bad is not None and not (max_bad >= 0 and (isinstance(max_bad, int) or max_bad <= 1)):
        raise SpecError(f"max_bad must be a number of images, or a fraction of them from 0.0 to 1.0, not {max_bad!r}")


def _too_many(max_bad: float | None, progress: Progress) -> bool:
    if max_bad is None:
        return False
    # The share of the first few images says nothing yet.
    limit = max_bad if isinstance(max_bad, int) else max_bad * max(progress.done, min(_SHARE_AFTER, progress.total))
    return progress.bad > limit


def _failures(reasons: Mapping[int, str], manifest: Manifest) -> list[BadImage]:
    return [BadImage(slot, manifest.name(slot), reasons[slot]) for slot in sorted(reasons)]


def _bad_images(failures: list[BadImage], total: int, *, kept: bool, tried: int | None = None) -> BadImagesError:
    """Return the error that lists them; ``tried`` is how many images were, where the build ended early."""
    lines = [f"  slot {bad.slot} ← {bad.source}: {bad.reason}" for bad in failures[:_LISTED]]
    if len(failures) > _LISTED:
        lines.append(f"  and {len(failures) - _LISTED:,} more (the error's .bad has them all)")
    done = "The good ones are done and kept: the" if kept else "The"
    if tried is not None:
        advice = "Those are more than max_bad allows: is this the right folder? " + (
            "What is done is kept: the same call with a larger max_bad goes on." if kept else ""
        )
    elif len(failures) == total:
        advice = "None could be stored: is this the right folder?"
    else:
        advice = (
            f"{done} same call with bad='keep' stores these as zeros with status 2, with bad='drop' it leaves their "
            "rows out; or mend the files and call again."
        )
    of = f"{total:,} images" if tried is None else f"the first {tried:,} images tried"
    message = f"{len(failures):,} of {of} could not be stored.\n" + "\n".join([*lines, advice.strip()])
    return BadImagesError(message, bad=failures, total=total)


def _drop(draft: Draft) -> npt.NDArray[np.int64]:
    """Move the last good slots into the holes; return for each slot that is left its manifest row."""
    status = draft.ledger["status"]
    count = int(np.count_nonzero(status == STORED))
    kept = np.arange(count)
    holes = np.flatnonzero(status[:count] == FAILED)
    movers = count + np.flatnonzero(status[count:] == STORED)[::-1]
    # If the build is killed from here on, the next one fills these again: none may be claimed for what it held before.
    draft.withdraw(np.r_[holes, np.arange(count, len(status))])
    for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
        draft.write(hole, draft.slots[mover][None])
    kept[holes] = movers
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


def _decoders() -> str:
    """Versions of all that decodes, as far as it is installed."""
    found = {name: _version(name) for name in ("opencv-python-headless", "opencv-python", "simplejpeg", "pillow")}
    return ", ".join([f"arraystore {arraystore.__version__}", *(f"{name} {at}" for name, at in found.items() if at)])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
