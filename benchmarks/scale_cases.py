"""A store's whole life, stage by stage, and what else depends on how many images there are: the cases of `scale.py`."""

from __future__ import annotations

import gc
import math
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from hosts import anonymous_bytes

import arraystore
from arraystore._ordering.order import Shuffle

if TYPE_CHECKING:
    from hosts import Job, Run

_DISTINCT = 64
_PHOTO_PX = (72, 96)
_A_CLASS = 1000  # files a folder, as datasets have them
_EVERY_S = 0.01
_DRAWN = 8192  # positions at once, as a loader asks for them
_EPOCHS = 20


@dataclass
class Stages:
    """Seconds and bytes of what was done, in order; a stage begins where the one before has ended.

    Attributes:
        figures: name → seconds or bytes.
    """

    figures: dict[str, float] = field(default_factory=dict)
    _mark: float = field(default_factory=time.perf_counter)

    def end(self, name: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.figures[name] = now - self._mark
        self.begin()

    def begin(self) -> None:
        """Begin the next one, which what was done since the last does not belong to."""
        self._mark = time.perf_counter()


@contextmanager
def peak_bytes(into: dict[str, float], name: str) -> Iterator[None]:
    """Note the greatest anonymous memory of this process meanwhile, beyond what it has now; looked at every 10 ms."""
    gc.collect()
    before = most = anonymous_bytes()
    stop = threading.Event()

    def look() -> None:
        nonlocal most
        while not stop.wait(_EVERY_S):
            most = max(most, anonymous_bytes())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        into[name] = max(most, anonymous_bytes()) - before


# --- a store's life --------------------------------------------------------------------------------------------------


def life(job: Job) -> Run:
    """List, build, be stopped at the end, go on, publish, open, read, verify, compare, update."""
    assert job.folder is not None
    photos, target = Path(job.folder) / "photos", Path(job.store)
    size = math.isqrt(job.bytes_per_image // 3)
    encoded = jpegs()
    # What is loaded and compiled once a process is no part of what grows.
    arraystore.build(encoded, size=size, workers=job.threads, progress=False).loader(job.batch)
    options: dict[str, Any] = {"size": size, "workers": job.threads}

    def run(_epoch: int, check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        write_photos(photos, encoded, job.count)
        stages = Stages()
        with peak_bytes(stages.figures, "build_peak_bytes"):
            build(stages, photos, target, options)
        with peak_bytes(stages.figures, "read_peak_bytes"):
            read(stages, target, job, check=check)
        keep(stages, photos, target, job.threads)
        shutil.rmtree(photos)
        shutil.rmtree(target)
        return stages.figures

    return run


def build(stages: Stages, photos: Path, target: Path, options: dict[str, Any]) -> None:
    """Build, with one source that is no image at first: so it is stopped when all others are stored."""
    reports: list[float] = []

    def note(_progress: arraystore.Progress) -> None:
        reports.append(time.perf_counter())

    before = anonymous_bytes()
    stages.begin()
    manifest = arraystore.Manifest.from_folder(photos)
    stages.end("list_s")
    stages.figures["manifest_bytes"] = max(anonymous_bytes() - before, 0)
    stages.begin()
    assert manifest.digest
    stages.end("digest_s")
    for first in (True, False):
        reports.clear()
        start = time.perf_counter()
        with suppress(arraystore.BadImagesError):
            arraystore.build(manifest, target, progress=note, **options)
            raise AssertionError("the build was not stopped")
        if first:
            stages.figures |= {"reserve_s": reports[0] - start, "fill_s": reports[-1] - reports[0]}
            ledger = target.with_name(target.name + ".partial") / "ledger.npy"
            stages.figures["ledger_bytes"] = ledger.stat().st_size
        else:
            stages.figures["decide_s"] = reports[0] - start
    mend(photos)
    reports.clear()
    arraystore.build(manifest, target, progress=note, **options).close()
    stages.figures["publish_s"] = time.perf_counter() - reports[-1]


def read(stages: Stages, target: Path, job: Job, *, check: bool) -> None:
    """Open the store, take a first batch, and read an epoch that is in the page cache."""
    stages.begin()
    store = arraystore.open(target)
    stages.end("open_s")
    loader = store.loader(job.batch, workers=job.threads)
    del store
    batches = iter(loader)
    next(batches)
    stages.end("first_batch_s")
    images = sum(len(labels) for _, labels in batches)
    stages.begin()
    images = sum(len(labels) for _, labels in loader)
    stages.end("epoch_s")
    assert images == job.count
    if check:
        with arraystore.open(target) as again:
            assert all(np.array_equal(again.images[i], again.images[i % _DISTINCT]) for i in range(0, job.count, 97))


def keep(stages: Stages, photos: Path, target: Path, threads: int) -> None:
    """Verify, see that nothing has changed, and take up one source that has and one that is new."""
    names = ("status.npy", "checksums.npy", "labels.npy", "samples.parquet", "store.json")
    stages.figures |= {f"{name} bytes": (target / name).stat().st_size for name in names}
    stages.begin()
    assert arraystore.verify(target, workers=threads, progress=False).ok
    stages.end("verify_s")
    assert not arraystore.compare(target, photos)
    stages.end("compare_s")
    folder, changed = photos / "class 0000", jpegs()[1]
    (folder / f"{0:08}.jpg").write_bytes(changed)
    (folder / "new.jpg").write_bytes(changed)
    stages.begin()
    updated = arraystore.update(target, photos, workers=threads, progress=False)
    stages.end("update_s")
    updated.close()


def jpegs() -> list[bytes]:
    """Return small photographs: smooth noise."""
    rng = np.random.default_rng(0)
    height, width = _PHOTO_PX
    coarse = [rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8) for _ in range(_DISTINCT)]
    large = [cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC) for each in coarse]
    return [cv2.imencode(".jpg", each)[1].tobytes() for each in large]


def write_photos(folder: Path, encoded: list[bytes], count: int) -> None:
    """Make class folders of photographs, no two files alike, of few pictures; and the first one no image."""
    folder.mkdir()
    for i in range(count):
        within = folder / f"class {i // _A_CLASS:04}"
        if i % _A_CLASS == 0:
            within.mkdir()
        # What comes behind a JPEG's end is not read, but makes it another file, with another hash.
        (within / f"{i:08}.jpg").write_bytes(encoded[i % _DISTINCT] + i.to_bytes(8, "big") if i else b"no image")


def mend(folder: Path) -> None:
    """Make an image of the one that was none."""
    (folder / "class 0000" / f"{0:08}.jpg").write_bytes(jpegs()[0])


# --- tables and orders -----------------------------------------------------------------------------------------------


def table(job: Job) -> Run:
    """Read a table of paths and labels."""
    assert job.folder is not None
    path = Path(job.folder) / "table.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write("file_name,label\n")
        file.writelines(f"class_{i % _A_CLASS:04}/photo_{i:09}.jpg,class_{i % _A_CLASS:04}\n" for i in range(job.count))

    def run(_epoch: int, _check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        stages = Stages()
        before = anonymous_bytes()
        with peak_bytes(stages.figures, "peak_bytes"):
            stages.begin()
            manifest = arraystore.Manifest.from_table(path)
            stages.end("table_s")
            stages.figures["manifest_bytes"] = max(anonymous_bytes() - before, 0)
        stages.begin()
        assert len(manifest) == job.count
        assert manifest.digest
        stages.end("digest_s")
        path.unlink()
        return stages.figures

    return run


def order(job: Job) -> Run:
    """Draw as many slots as a loader draws at once, from a shuffled epoch of so many."""
    shuffle = Shuffle(job.count, 0)
    positions = np.arange(min(_DRAWN, job.count))

    def run(_epoch: int, _check: bool) -> dict[str, float]:  # noqa: FBT001 - see hosts.Run
        stages = Stages()
        with peak_bytes(stages.figures, "peak_bytes"):
            stages.begin()
            for epoch in range(_EPOCHS):
                shuffle.draw(epoch, positions)
            stages.end("draw_s")
        return {**stages.figures, "draw_s": stages.figures["draw_s"] / _EPOCHS / len(positions)}

    return run


CASES: dict[str, Callable[[Job], Run]] = {"life": life, "table": table, "order": order}
