"""Build a store: plan what is still empty, fill it in parallel, settle the bad images, publish.

Slot i holds manifest row i whatever worker fills it and whenever: work is handed out in runs (contiguous ranges of
slots), a bounded number at a time, and finished runs are claimed in the background (`arraystore._building.checkpoint`). So the
result is the same, byte for byte, for any number of workers, threads or processes, on any medium, however often the
build was interrupted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

import numpy as np
import numpy.typing as npt

from arraystore._building.bad import bad_images_error, check_max_bad, drop_failed, failures_of, too_many
from arraystore._building.checkpoint import Checkpoints
from arraystore._building.fill import Job, Source
from arraystore._building.pool import Crew, crew_for
from arraystore._building.runs import cut_runs, take_empty
from arraystore._common.checks import check_workers
from arraystore._common.progress import Progress, reporting
from arraystore._format.description import Description
from arraystore._format.publication import Publication
from arraystore._format.specification import FAILED, STORED
from arraystore._sources.manifest import Manifest
from arraystore._stores.medium import BuildKey, Draft, FilledRun, Opened
from arraystore._stores.opening import draft_for, finished
from arraystore._version import __version__
from arraystore.errors import SpecError
from arraystore.spec import ImageSpec

__all__ = ["Options", "TIMEOUT_S", "build_manifest"]

_RUNS_IN_FLIGHT_PER_WORKER = 3
# No image of a real camera takes this long, however busy the machine.
TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a build goes about it: the options of `build` that do not change what an image becomes.

    Raises:
        SpecError: one of them has a value that cannot be.
    """

    bad: Literal["raise", "keep", "drop"] = "raise"
    max_bad: float | None = None
    workers: int | None = None
    processes: bool = False
    timeout_s: float = TIMEOUT_S
    executor: Executor | None = None
    progress: bool | Callable[[Progress], None] = True
    overwrite: bool = False
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.bad not in ("raise", "keep", "drop"):
            raise SpecError(f"bad must be 'raise', 'keep' or 'drop', not {self.bad!r}")
        check_workers(self.workers)
        if not (isinstance(self.timeout_s, int | float) and 0 < self.timeout_s < math.inf):
            raise SpecError(f"timeout_s must be a number of seconds greater than 0, not {self.timeout_s!r}")
        if self.processes and self.executor is not None:
            raise SpecError("processes=True and an executor were passed: choose one, the executor has its own workers")
        check_max_bad(self.max_bad)


def build_manifest(  # noqa: PLR0913 - what is built, how, and three things for those who take slots over
    manifest: Manifest,
    target: str | os.PathLike[str] | None,
    spec: ImageSpec,
    options: Options,
    *,
    load: Callable[[int], Source] | None = None,
    known_bad: Container[int] = (),
    amend: Callable[[Publication], Publication] = lambda publication: publication,
) -> Opened:
    """Build what `build` has made a manifest of; the same for an update or a repair, which take slots over.

    Args:
        manifest: what to build.
        target: see `build`.
        spec: how images become slots.
        options: how to go about it.
        load: what a worker is to fill a slot from; None is ``manifest.load``.
        known_bad: slots that may fail whatever ``options.bad`` says.
        amend: changes what is published beside the pixels.

    Raises:
        BadImagesError: see `build`, as for all that follow.
        StoreExistsError: the target has its name already.
        SpaceError: memory or volume are too small.
        StoreError: it cannot be built now.
        OSError: the target cannot be written.
    """
    key = BuildKey(len(manifest), spec, manifest.digest, tuple(sorted(manifest.targets)), _decoders())
    store = finished(target, key)
    if store is not None:
        return store
    draft = draft_for(target, key, overwrite=options.overwrite, fresh=options.fresh)

    def job_of(start: int, stop: int) -> Job:
        return Job(start, [(load or manifest.load)(slot) for slot in range(start, stop)], spec, draft.file)

    try:
        crew = crew_for(
            draft.slots,
            workers=options.workers,
            executor=options.executor,
            processes=options.processes,
            timeout_s=options.timeout_s,
        )
        # The crew stops before what it has filled is claimed for the last time.
        with Checkpoints(draft) as checkpoints, closing(crew), reporting(options.progress) as report:
            _fill(draft, manifest, job_of, options.max_bad, crew, checkpoints, report)
        failures = failures_of(draft.reasons, manifest)
        unexpected = [failure for failure in failures if failure.slot not in known_bad]
        if (unexpected and options.bad == "raise") or len(failures) == len(manifest):
            raise bad_images_error(unexpected or failures, len(manifest), kept=target is not None)
        kept = drop_failed(draft) if failures and options.bad == "drop" else None
        return draft.publish(amend(_publication(draft, manifest, spec, kept)))
    finally:
        draft.close()


def _fill(  # noqa: PLR0913 - one call
    draft: Draft,
    manifest: Manifest,
    job_of: Callable[[int, int], Job],
    max_bad: float | None,
    crew: Crew,
    checkpoints: Checkpoints,
    report: Callable[[Progress], None],
) -> None:
    """Fill every slot that is not settled yet, with a bounded number of runs in flight."""
    empty = take_empty(draft, manifest)
    todo = iter(cut_runs(empty, crew.size))
    state = Progress(total=len(manifest), done=len(manifest) - empty.size, bad=len(draft.reasons))
    report(state)
    while True:
        while crew.pending < crew.size * _RUNS_IN_FLIGHT_PER_WORKER and (run := next(todo, None)) is not None:
            crew.submit(job_of(*run))
        if not crew.pending:
            return
        with draft.writing():
            done = crew.collect()
        for filled in done:
            _record(draft, filled, state)
            checkpoints.add(filled)
        report(state)
        if too_many(max_bad, state):
            failures = failures_of(draft.reasons, manifest)
            raise bad_images_error(failures, len(manifest), kept=draft.file is not None, tried=state.done)


def _record(draft: Draft, filled: FilledRun, progress: Progress) -> None:
    """Take note of a finished run."""
    if filled.pixels is not None:
        draft.write(filled.start, filled.pixels)
    draft.reasons.update(filled.reasons)
    progress.done += int(np.count_nonzero(filled.rows["status"]))
    progress.bad += len(filled.reasons)
    progress.source_bytes += int(filled.rows["bytes"].sum())


def _publication(draft: Draft, manifest: Manifest, spec: ImageSpec, kept: npt.NDArray[np.int64] | None) -> Publication:
    from arraystore._format.samples import dropped_table, samples_table  # noqa: PLC0415 - pyarrow takes a quarter of a second
    from arraystore._kernels.sums import mean_and_std  # noqa: PLC0415 - numba, loaded by now

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
        origin=manifest.origin,
        failed=int(np.count_nonzero(ledger["status"] == FAILED)),
        writer=f"arraystore {__version__}",
    )
    dropped = None
    if kept is not None:
        failed = np.flatnonzero(draft.ledger["status"] == FAILED)
        dropped = dropped_table(manifest, draft.ledger, draft.reasons, failed.tolist())
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
    return ", ".join([f"arraystore {__version__}", *(f"{name} {at}" for name, at in found.items() if at)])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
