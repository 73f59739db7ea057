"""How does each stage of a store's life grow with the number of images?

A folder of small photographs is made, 1,000 to a class folder, and each stage is timed in a fresh process: listing,
reserving, filling, the decision of a later call that nothing is left to fill, publishing; opening with a first shuffled
batch, an epoch from the page cache; verifying, seeing that no source has changed, and an update that takes all slots
but two over. With the memory that building takes, and the bytes on disk. Then what it takes to draw slots from epochs
that are far larger.
"""

from __future__ import annotations

import shutil
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import arraystore
from arraystore._ordering.order import Shuffle
from benchmarks.common import CPUS, Row, Rows, Table, mib, middle
from benchmarks.places import scratch_folder, small_jpegs
from benchmarks.processes import fresh

ESTIMATE_S = 150
OPTIONS = {
    "counts": ([1000, 10_000, 100_000], [40, 80], "images of the stores"),
    "size": (64, 8, "side of a slot, in pixels"),
    "drawn_from": ([10**4, 10**6, 10**8, 10**10], [10**2, 10**6], "slots of an epoch"),
    "rounds": (3, 1, "fresh processes of each kind"),
}
FILES_A_FOLDER = 1000
CODE = "from benchmarks import scale; print(json.dumps(scale.{}(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))"
STAGES = {
    "list_s": "list a folder",
    "reserve_s": "reserve, and decide what to fill",
    "fill_s": "fill",
    "decide_s": "decide that nothing is left",
    "publish_s": "publish",
    "open_s": "open, and a first batch",
    "epoch_s": "an epoch, warm",
    "verify_s": "verify",
    "compare_s": "compare with the sources",
    "update_s": "update two slots",
}
BYTES = {
    "build_peak_bytes": "memory: what a build takes",
    "ledger_bytes": "disk: ledger, while it is built",
    "samples.parquet": "disk: samples.parquet",
    "other_bytes": "disk: status, checksums and labels",
}


def measure(options: Namespace) -> Iterator[Row]:
    """Run every kind of work with growing numbers, each time in a fresh process."""
    works = (("life", options.counts), ("order", options.drawn_from))
    with scratch_folder(options.scratch, 2 * max(options.counts) * 3 * options.size**2) as folder:
        for name, counts in works:
            for count in counts:
                arguments = (str(folder), str(count), str(options.size))
                told = [fresh(CODE.format(name), *arguments) for _ in range(options.rounds)]
                yield {"section": name, "count": count, **{key: [each[key] for each in told] for key in told[0]}}


class Stages(dict[str, float]):
    """Seconds of what was done, in order; a stage begins where the one before has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = time.perf_counter()

    def end(self, name: str) -> None:
        """End a stage."""
        self[name] = time.perf_counter() - self.mark
        self.mark = time.perf_counter()


def write_photos(folder: Path, count: int) -> None:
    """Write class folders of small JPEGs, no two files alike, and a first one that is no image."""
    encoded = small_jpegs(64, 96, 72)
    for i in range(count):
        within = folder / f"class {i // FILES_A_FOLDER:04}"
        within.mkdir(parents=True, exist_ok=True)
        # What comes behind a JPEG's end is not read, but makes another file of it, with another hash.
        (within / f"{i:08}.jpg").write_bytes(encoded[i % 64] + i.to_bytes(8, "big") if i else b"no image")


def stopped(source: Any, target: Path, **options: Any) -> None:
    """Build, and be stopped by the image that is none."""
    with suppress(arraystore.BadImagesError):
        arraystore.build(source, target, **options)
        raise SystemExit("the build was not stopped")


def life(folder: str, count: int, size: int) -> dict[str, float]:
    """List, build, be stopped at the end, go on, publish, open, read, verify, compare, update."""
    photos, target = Path(folder) / "photos", Path(folder) / "new.store"
    write_photos(photos, count)
    # What is loaded and compiled once a process is no part of what grows.
    arraystore.build(small_jpegs(8, 96, 72), size=size, progress=False).loader(8)
    with arraystore.MemoryTrace() as trace:
        stages = build(photos, target, size)
    stages["build_peak_bytes"] = max(trace.measurement.peak() - trace.measurement.start_bytes, 0)
    stages |= {path.name: path.stat().st_size for path in target.iterdir()}
    stages["other_bytes"] = sum(stages[f"{name}.npy"] for name in ("status", "checksums", "labels"))
    stages.mark = time.perf_counter()
    loader = arraystore.open(target).loader(256, workers=CPUS)
    next(iter(loader))
    stages.end("open_s")
    assert sum(len(labels) for _, labels in loader) == count
    stages.end("epoch_s")
    assert arraystore.verify(target, progress=False).ok
    stages.end("verify_s")
    assert not arraystore.compare(target, photos)
    stages.end("compare_s")
    for name in (f"{0:08}", "new"):
        (photos / "class 0000" / f"{name}.jpg").write_bytes(small_jpegs(2, 96, 72)[1])
    stages.mark = time.perf_counter()
    arraystore.update(target, photos, progress=False).close()
    stages.end("update_s")
    shutil.rmtree(photos)
    shutil.rmtree(target)
    return stages


def build(photos: Path, target: Path, size: int) -> Stages:
    """Build, with one source that is no image at first: so the build is stopped when all others are stored."""
    reports: list[float] = []
    how: dict[str, Any] = {"size": size, "progress": lambda _: reports.append(time.perf_counter())}
    stages = Stages()
    manifest = arraystore.Manifest.from_folder(photos)
    stages.end("list_s")
    stopped(manifest, target, **how)
    stages |= {"reserve_s": reports[0] - stages.mark, "fill_s": reports[-1] - reports[0]}
    stages["ledger_bytes"] = (target.with_name(f"{target.name}.partial") / "ledger.npy").stat().st_size
    reports.clear()
    stages.mark = time.perf_counter()
    stopped(manifest, target, **how)
    stages["decide_s"] = reports[0] - stages.mark
    (photos / "class 0000" / f"{0:08}.jpg").write_bytes(small_jpegs(1, 96, 72)[0])
    arraystore.build(manifest, target, **how).close()
    stages["publish_s"] = time.perf_counter() - reports[-1]
    return stages


def order(_folder: str, count: int, _size: int) -> dict[str, float]:
    """Draw as many slots as a loader draws at once, from a shuffled epoch of so many; seconds a slot."""
    shuffle, positions = Shuffle(count, 0), np.arange(min(8192, count))
    start = time.perf_counter()
    for epoch in range(20):
        shuffle.draw(epoch, positions)
    return {"draw_s": (time.perf_counter() - start) / 20 / len(positions)}


def per_image(rows: Rows, name: str) -> float:
    """Return what another image adds, between the two largest counts: what does not grow is not in it."""
    fewer, most = rows[-2:]
    more = statistics.median(most[name]) - statistics.median(fewer[name])
    return more / (most["count"] - fewer["count"]) if more > 0 else statistics.median(most[name]) / most["count"]


def tables(rows: Rows) -> dict[str, Table]:
    """Each stage by the number of images; what a million and a hundred million would take if it grows on as it did."""
    lives = rows.where(section="life")
    measured = [["", *(f"{row['count']:,} images" for row in lives), "another image adds"]]
    beyond = [["", "1 million", "100 million"]]
    for name, title in STAGES.items():
        each = per_image(lives, name)
        cells = [f"{statistics.median(row[name]):,.3f} s" for row in lives]
        measured.append([title, *cells, f"{each * 1e6:,.2f} µs"])
        if name not in ("fill_s", "open_s", "epoch_s", "verify_s"):  # they depend on the images, or do not grow
            beyond.append([title, duration(each * 1e6), duration(each * 1e8)])
    for name, title in BYTES.items():
        each = per_image(lives, name)
        measured.append([title, *(f"{mib(statistics.median(row[name]), 2)} MiB" for row in lives), f"{each:,.1f} B"])
        beyond.append([title, f"{each / 1e3:,.2f} GB", f"{each / 10:,.1f} GB"])
    return {"stages": measured, "beyond": beyond}


def duration(seconds: float) -> str:
    """Return a time as text."""
    return (
        f"{seconds:,.1f} s"
        if seconds < 60
        else f"{seconds / 60:,.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:,.1f} h"
    )


def figures(rows: Rows) -> dict[str, str]:
    """Drawing slots, and what a hundred million images take at most."""
    lives, drawn = rows.where(section="life"), rows.where(section="order")
    hundred_million = 1e8 * per_image(lives, "build_peak_bytes") / 1e9
    return {
        "draw_ns": f"{1e9 * statistics.median(drawn[-1]['draw_s']):.0f}",
        "drawn_from": f"{drawn[-1]['count']:,}",
        "open_s": f"{statistics.median(lives[-1]['open_s']):.3f}",
        "count": f"{lives[-1]['count']:,}",
        "decide_s": middle(lives[-1]["decide_s"], 2)[0],
        "memory_gb": f"{hundred_million:,.0f}",
        "update": duration(1e8 * per_image(lives, "update_s")),
    }
