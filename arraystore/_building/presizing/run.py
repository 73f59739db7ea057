"""Make every source of a manifest smaller: what is not done yet, in parallel, claimed in the background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._building.bad import failures_of, too_many
from arraystore._building.checkpoint import Checkpoints
from arraystore._building.masks import MaskJob
from arraystore._building.presizing.job import PresizeJob, temporary_name
from arraystore._building.presizing.ledger import Entry
from arraystore._building.presizing.names import Names
from arraystore._building.presizing.recipe import PASSED, Recipe
from arraystore._building.presizing.tree import NewFiles, Tree
from arraystore._building.runs import cut_runs
from arraystore._building.workers.pool import filled_runs, worker_pool
from arraystore._building.workers.reading import loaded
from arraystore._common.limits import filled_up, is_full, memory_for_images
from arraystore._common.progress import Progress, reporting
from arraystore._common.wording import bad_lines, many
from arraystore._format.specification import EMPTY, STORED
from arraystore._sources.manifest import Manifest
from arraystore._sources.stamps import file_stamps
from arraystore._sources.targets.mask_sources import masks_stamp
from arraystore._stores.medium import FilledRun
from arraystore.errors import BadImagesError, Option

_ROW_BYTES = 256 << 10  # of unclaimed files, about


@dataclass(slots=True)
class Done:
    """What a call has done: how many rows and files, and what was said of rows."""

    written: int = 0
    passed: int = 0
    unchanged: int = 0
    source_bytes: int = 0
    reasons: dict[int, str] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)


def rows_to_do(manifest: Manifest, names: Names, trees: Sequence[Tree]) -> tuple[npt.NDArray[np.int64], list[int]]:
    """Return the rows whose files some tree lacks, or has of an earlier source, in rising order.

    And the bytes of the files of all other rows, for each tree.

    Raises:
        StoreExistsError: a file that is not ours has the name of one to write.
    """
    masks_of = [lambda row: masks_stamp(manifest.load_masks(row))] if manifest.masks else []
    stamps = file_stamps(names.paths.__getitem__, np.arange(len(manifest)), *masks_of).tolist()
    to_do, sizes = [], [0] * len(trees)
    for row, (source, stamp) in enumerate(zip(names.sources, stamps, strict=True)):
        found = [_done_bytes(tree, names, row, source, stamp) for tree in trees]
        if None in found:
            to_do.append(row)
        else:
            sizes = [size + each for size, each in zip(sizes, found, strict=True) if each is not None]
    for row in to_do:
        for tree in trees:
            tree.check_free(names.sources[row], names.candidates(row, masked=bool(manifest.masks)))
    return np.array(to_do, np.int64), sizes


def _done_bytes(tree: Tree, names: Names, row: int, source: str, stamp: tuple[int, int, int]) -> int | None:
    """Return what the files of a row take in a tree; None if they are not there, or were made of an earlier source."""
    entry = tree.ledger.get(source)
    if (
        entry is None
        or entry.stamp != stamp[:2]
        or entry.masks != stamp[2]
        or not names.are_of(row, entry.files)
        or not tree.has(entry)
    ):
        return None
    return sum([size for size, _ in entry.files.values()])


def make_rows(
    manifest: Manifest,
    names: Names,
    trees: Sequence[Tree],
    recipe: Recipe,
    rows: npt.NDArray[np.int64],
    options: Mapping[str, Any],
    *,
    max_bad: float | None,
) -> Done:
    """Make the files of these rows.

    Args:
        manifest: the sources.
        names: of their files.
        trees: one for each size.
        recipe: how they become smaller.
        rows: to do.
        options: of `arraystore.presize`, all of them, checked.
        max_bad: see `arraystore.presize`.

    Raises:
        BadImagesError: more than ``max_bad`` of the sources are bad.
        StoreError: see `arraystore.presize`.
        SpaceError: the volume is full.
    """
    most = memory_for_images(options["max_memory"])
    folders = tuple(str(tree.new) for tree in trees)
    files = 1 + len(manifest.masks)

    def job_of(start: int, stop: int, *, alone: bool = False) -> PresizeJob:
        sources = [loaded(manifest.load, row) for row in range(start, stop)]
        return PresizeJob(
            start,
            sources,
            recipe.spec,
            memory_bytes=most if alone else most / pool.size,
            most_memory_bytes=most,
            decoders=options["decoders"],
            masks=MaskJob.of(manifest, {row: manifest.load_masks(row) for row in range(start, stop)}),
            recipe=recipe,
            folders=folders,
            files=files,
        )

    done = Done(unchanged=len(manifest) - len(rows))
    state = Progress(total=len(manifest), done=done.unchanged)
    pool = worker_pool(np.empty(0, np.uint8), options)
    claims = Checkpoints(_Claims(names, trees), _ROW_BYTES)
    with _space_named(trees), claims as checkpoints, closing(pool), reporting(options["progress"]) as report:
        report(state)
        for filled in filled_runs(pool, cut_runs(rows, pool.size), job_of):
            checkpoints.add(filled)
            _count(done, filled)
            state.done += int(np.count_nonzero(filled.rows["status"]))
            state.bad, state.source_bytes = len(done.reasons), done.source_bytes
            report(state)
            if too_many(max_bad, state):
                raise bad_error(manifest, done.reasons, tried=state.done)
    return done


def _count(done: Done, filled: FilledRun) -> None:
    done.reasons.update(filled.reasons)
    done.notes.update(filled.notes)
    stored = filled.rows["status"] == STORED
    done.written += int(np.count_nonzero(stored))
    done.passed += int(np.count_nonzero(filled.rows["files"]["form"] == PASSED))
    done.source_bytes += int(filled.rows["bytes"].sum())


class _Claims:
    """Gives the files of finished rows their names in every tree."""

    def __init__(self, names: Names, trees: Sequence[Tree]) -> None:
        self._names, self._trees = names, trees

    def claim(self, runs: list[FilledRun]) -> None:
        """See `Tree.claim`."""
        for number, tree in enumerate(self._trees):
            tree.claim([made for run in runs for made in self._made(run, number, tree)])

    def _made(self, run: FilledRun, number: int, tree: Tree) -> Iterator[NewFiles]:
        for i, row in enumerate(run.rows):
            if row["status"] == EMPTY:
                continue
            slot = run.start + i
            source = self._names.sources[slot]
            if row["status"] != STORED:
                if source in tree.ledger.sources():  # what an earlier call has made of it is of another source now
                    yield NewFiles(Entry(source, None, 0, 0, 0, {}), {})
                continue
            stamp = int(row["bytes"]), int(row["mtime"])
            entry = Entry(source, stamp, int(row["masks"]), int(row["height"]), int(row["width"]), {})
            forms = row["files"][number]["form"].tolist()
            paths = self._names.files(slot, forms[0], len(forms))
            temporary = (temporary_name(str(tree.new), slot, each) for each in range(len(forms)))
            yield NewFiles(entry, dict(zip(paths, temporary, strict=True)))


@contextmanager
def _space_named(trees: Sequence[Tree]) -> Iterator[None]:
    """Turn the error of a full volume into one with advice.

    Raises:
        SpaceError: the volume is full.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise filled_up(trees[0].path, 0, trees[0].path, error) from error


def bad_error(manifest: Manifest, reasons: Mapping[int, str], tried: int | None = None) -> BadImagesError:
    """Return the error of bad images; ``tried`` says how many were tried when ``max_bad`` ended the work."""
    bad = failures_of(reasons, manifest)
    of = f"the first {many(tried, 'image')}" if tried is not None else many(len(manifest), "image")
    advice, options = (
        "{0} leaves them out; or mend the files and run it again. The others are done",
        [Option("bad", "keep")],
    )
    if tried is not None:
        advice, options = "that is more than {0} allows; is this the right source?", [Option("max_bad", None)]
    elif len(bad) == len(manifest):
        advice, options = "is this the right source?", []
    return BadImagesError(
        f"{len(bad):,} of {of} could not be made smaller",
        bad=bad,
        total=len(manifest),
        tried=tried,
        lines=bad_lines(bad),
        advice=advice,
        options=options,
    )
