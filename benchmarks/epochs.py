"""What does an epoch cost: decoding on the fly, from a folder of presized images, or from a store?

The same photographs, shuffled, in batches, with as many threads or worker processes, three ways: decoded and resized in
each epoch; resized once to JPEGs of quality 95, which are decoded in each epoch; and stored once. On the fly is done
twice: as most do it, with Pillow in a DataLoader; and with this package's own decoder in threads, so that the rest is
what decoding itself costs. Then what each costs in all, with 1, 10 and 100 epochs, and after how many epochs the store
has paid for itself.
"""

from __future__ import annotations

import json
import shutil
import statistics
from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import arraystore
from benchmarks.common import CPUS, Row, Rows, Table, keep_memory, many, middle, ratios, take_turns
from benchmarks.places import photos, scratch_folder, stretch
from benchmarks.processes import Case, Host, Job, time_cases

ESTIMATE_S = 45
NEEDS = ("photos",)
OPTIONS = {
    "size": (256, 32, "side of a slot, in pixels"),
    "images": (1000, 40, "of an epoch: fewer photographs are repeated"),
    "batch": (256, 16, "images of a batch"),
    "threads": (CPUS, 2, "or worker processes"),
    "rounds": (3, 1, "timed rounds"),
}
EPOCHS = (1, 10, 100)
STORE, PRESIZED = "store", "presized"


def measure(options: Namespace) -> Iterator[Row]:
    """Presize and build, and then read epochs."""
    keep_memory()
    with (
        scratch_folder(options.scratch, 3 * options.images * 3 * options.size**2) as folder,
        Host() as plain,
        Host() as framework,
    ):
        paths = stretch(photos(options, folder), options.images)
        once = take_turns(
            {PRESIZED: partial(presize, paths, folder, options), STORE: partial(build, paths, folder, options)},
            options.rounds,
        )
        batch = min(options.batch, max(len(paths) // 4, 1))
        job = Job(folder / "new.store", folder, batch, options.threads, len(paths), 3 * options.size**2)
        cases = {}
        made: dict[str, list[float]] = {STORE: once[STORE]}
        for kind in ("photos", PRESIZED):
            files = replace(job, files=folder / f"{kind}.json")
            loader, threads = f"{kind}, DataLoader and Pillow", f"{kind}, threads"
            cases[loader] = Case(framework, "torch_cases.files_by_data_loader", files)
            cases[threads] = Case(plain, "read_cases.files_by_threads", files)
            made |= dict.fromkeys((loader, threads), once.get(kind, []))
        cases[STORE] = Case(plain, "read_cases.loader", job)
        for case, wall_s in time_cases(cases, options.rounds).items():
            yield {"case": case, "images": job.count, "once_s": made[case], "epoch_s": wall_s}


def build(paths: list[str], folder: Path, options: Namespace) -> None:
    """Build the store, with the slots' numbers as labels."""
    shutil.rmtree(folder / "new.store", ignore_errors=True)
    how = {"size": options.size, "workers": options.threads, "labels": np.arange(len(paths)), "progress": False}
    arraystore.build(paths, folder / "new.store", **how).close()


def presize(paths: list[str], folder: Path, options: Namespace) -> None:
    """Resize the photographs and write them as JPEGs; leave both lists for the cases."""
    (folder / PRESIZED).mkdir(exist_ok=True)
    resized = [str(folder / PRESIZED / f"{i:06}.jpg") for i in range(len(paths))]
    for kind, listed in (("photos", paths), (PRESIZED, resized)):
        (folder / f"{kind}.json").write_text(json.dumps(listed), encoding="utf-8")
    with ThreadPoolExecutor(options.threads) as pool:
        list(pool.map(partial(presize_one, size=options.size), paths, resized))


def presize_one(path: str, to: str, *, size: int) -> None:
    """Resize one photograph."""
    with Image.open(path) as image:
        ImageOps.exif_transpose(image).convert("RGB").resize((size, size), Image.Resampling.BILINEAR).save(
            to, quality=95
        )


def paid_after(more_once_s: float, less_an_epoch_s: float) -> int | None:
    """Return after how many epochs what costs more once has cost less in all: at least 1, or None for never."""
    if less_an_epoch_s <= 0:
        return 1 if more_once_s < less_an_epoch_s else None
    return max(int(more_once_s // less_an_epoch_s) + 1, 1)


def tables(rows: Rows) -> dict[str, Table]:
    """What epochs cost, with what is done once before them."""
    in_all = [f"{many(count, 'epoch')} in all, s" for count in EPOCHS]
    table = [["images from", "once, s", "an epoch, s", "least–most", "× the store", *in_all, "the store pays after"]]
    store = rows.one(case=STORE)
    for row in rows:
        once_s = statistics.median(row["once_s"] or [0.0])
        epoch_s = statistics.median(row["epoch_s"])
        more_once_s = statistics.median(store["once_s"]) - once_s
        pays = paid_after(more_once_s, epoch_s - statistics.median(store["epoch_s"]))
        told = [f"{once_s:.2f}" if row["once_s"] else "", *middle(row["epoch_s"], 3)]
        told.append(middle(ratios(row["epoch_s"], store["epoch_s"]))[0])
        told += [f"{once_s + count * epoch_s:,.1f}" for count in EPOCHS]
        table.append([row["case"], *told, "" if row is store else "never" if pays is None else str(pays)])
    return {"epochs": table}
