"""What does a lazy pipeline cost, beside SeqTools?

The example of SeqTools: photographs are loaded, small and gray, their contrast is raised, each is paired with its
turned copy, and the pairs are flattened. They are read one by one, ahead by threads, and ahead by processes; each round
makes and starts anew what it reads by. Then one thread and two threads read a memo whose step sleeps, and ten steps
that do nothing are timed. Without SeqTools (``pip install seqtools``) its figures are left out.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from typing import Any

from PIL import Image, ImageOps

import arraystore
from benchmarks.common import CPUS, Row, Rows, Table, middle, ratios, take_turns
from benchmarks.places import photos, scratch_folder, stretch

try:
    import seqtools
except ImportError:
    seqtools = None

ESTIMATE_S = 90
NEEDS = ("photos",)
OPTIONS = {
    "images": (600, 20, "photographs: fewer are repeated"),
    "workers": (CPUS, 2, "threads, or worker processes"),
    "sleeps": (100, 10, "items of the memo, each of 5 ms"),
    "items": (100_000, 1000, "items of the ten steps that do nothing"),
    "rounds": (5, 1, "timed rounds"),
}
OURS, THEIRS = "arraystore", "SeqTools"
ONE, THREADS, PROCESSES = "one by one", "ahead, threads", "ahead, processes"
MEMO_1, MEMO_2, STEPS = "a memo, one thread", "a memo, two threads", "ten steps that do nothing"
SLEEP_S, STEP_COUNT, SIDE, KEPT = 0.005, 10, 200, 10


def load(path: str) -> Image.Image:
    """Open a photograph, small and gray."""
    with Image.open(path) as image:
        return ImageOps.grayscale(image.resize((SIDE, SIDE)))


def pair(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Return an image and its turned copy."""
    return image, image.rotate(90)


def same(item: Any) -> Any:
    """Do nothing."""
    return item


def sleep(item: int) -> int:
    """Wait, as for a file; the lock of Python is free meanwhile."""
    time.sleep(SLEEP_S)
    return item


CONTRAST = partial(ImageOps.autocontrast, cutoff=3)


def ours(paths: list[str], options: Namespace) -> dict[str, Callable[[], object]]:
    """Return what is timed of this package."""

    def pairs() -> arraystore.Lazy:
        return arraystore.lazy(paths).map(load).map(CONTRAST).memo(KEPT).map(pair).flatten(2)

    def memo() -> arraystore.Lazy:
        return arraystore.lazy(range(options.sleeps)).map(sleep).memo(options.sleeps)

    many = arraystore.lazy(range(options.items))
    return {
        ONE: lambda: read(pairs()),
        THREADS: lambda: read(pairs().prefetch(options.workers)),
        PROCESSES: lambda: read(pairs().prefetch(options.workers, processes=True)),
        MEMO_1: lambda: read_by(1, memo()),
        MEMO_2: lambda: read_by(2, memo()),
        STEPS: lambda: read(reduce(lambda steps, _: steps.map(same), range(STEP_COUNT), many)),
    }


def theirs(paths: list[str], options: Namespace) -> dict[str, Callable[[], object]]:
    """Return the same of SeqTools."""

    def pairs() -> Any:
        sharp = seqtools.add_cache(seqtools.smap(CONTRAST, seqtools.smap(load, paths)), KEPT)
        return seqtools.unbatch(seqtools.smap(pair, sharp), 2)

    def memo() -> Any:
        return seqtools.add_cache(seqtools.smap(sleep, range(options.sleeps)), options.sleeps)

    ahead = partial(seqtools.prefetch, nworkers=options.workers)
    return {
        ONE: lambda: read(pairs()),
        THREADS: lambda: read(ahead(pairs(), method="thread")),
        PROCESSES: lambda: read(ahead(pairs(), method="process")),
        MEMO_1: lambda: read_by(1, memo()),
        MEMO_2: lambda: read_by(2, memo()),
        STEPS: lambda: read(
            reduce(lambda steps, _: seqtools.smap(same, steps), range(STEP_COUNT), range(options.items))
        ),
    }


def read(items: Any) -> None:
    """Read all items in order, and keep none."""
    for _ in items:
        pass


def read_by(threads: int, items: Sequence[Any]) -> None:
    """Read all items, each by one of some threads."""
    with ThreadPoolExecutor(threads) as pool:
        read(pool.map(items.__getitem__, range(len(items))))


def measure(options: Namespace) -> Iterator[Row]:
    """Time the libraries in turn."""
    with scratch_folder(options.scratch, 0) as folder:
        paths = stretch(photos(options, folder), options.images)[: options.images]
        cases = {(case, OURS): run for case, run in ours(paths, options).items()}
        if seqtools is not None:
            cases |= {(case, THEIRS): run for case, run in theirs(paths, options).items()}
        for (case, library), wall_s in take_turns(cases, options.rounds).items():
            yield {"case": case, "library": library, "wall_s": wall_s, "items": options.items}


def tables(rows: Rows) -> dict[str, Table]:
    """The seconds of each library, and how many times as long SeqTools took."""
    table = [["", f"{OURS}, s", "least–most", f"{THEIRS}, s", "least–most", f"{THEIRS} ÷ {OURS}"]]
    for row in rows.where(library=OURS):
        other = rows.where(library=THEIRS, case=row["case"])
        cells = [*middle(other[0]["wall_s"], 2), f"{ratio(other[0], row):.2f}"] if other else ["", "", ""]
        table.append([row["case"], *middle(row["wall_s"], 2), *cells])
    return {"pipelines": table}


def figures(rows: Rows) -> dict[str, str]:
    """What two threads gain at a memo, and what a step costs with the call of its function."""
    memos = {
        library: (rows.where(library=library, case=MEMO_1), rows.where(library=library, case=MEMO_2))
        for library in (OURS, THEIRS)
    }
    gains = {library: f"{ratio(one[0], two[0]):.2f}" if one else "" for library, (one, two) in memos.items()}
    steps = rows.one(library=OURS, case=STEPS)
    step_us = 1e6 * min(steps["wall_s"]) / steps["items"] / STEP_COUNT
    return {"memo": gains[OURS], "memo_theirs": gains[THEIRS], "step_us": f"{step_us:.2f}"}


def ratio(one: Row, other: Row) -> float:
    """Return how many times as long one row took as another, round by round."""
    return statistics.median(ratios(one["wall_s"], other["wall_s"]))
