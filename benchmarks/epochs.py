"""What does an epoch cost: decoding on the fly, from a folder of presized images, or from a store?

The same photographs, shuffled, in batches, with as many threads or worker processes, three ways: decoded and resized in
each epoch; resized once to JPEGs of quality 95, which are decoded in each epoch; and stored once. On the fly is done
twice: as most do it, with Pillow in a DataLoader; and with this package's own decoder in threads, so that what is left
is what decoding itself costs. Then what each costs all in, what is done once and 1, 10, 100 epochs, and after how many
epochs the store has paid for itself.

Each case runs in a process of its own, in turn, once before to be checked against the store. Files are in the page
cache.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    Timing,
    check_free,
    keep_memory,
    machine,
    machine_line,
    photos,
    print_table,
    scratch_folder,
    spread,
    stretch,
    take_turns,
    write_json,
)
from epoch_cases import CASES, PHOTOS, PRESIZED
from hosts import Hosts, Job
from PIL import Image, ImageOps
from read_turns import Case, Outcome, in_turn

import arraystore
from arraystore._common.limits import usable_cpus

EPOCHS = (1, 10, 100)
QUALITY = 95
STORE = "store"
MAKES = {"photos": "", "presized": "presized", STORE: STORE}  # what a case needs made once, by how its name begins
NEEDS = {"photos, DataLoader and Pillow": "torch", "presized, DataLoader and Pillow": "torch"}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEGs, at any depth")
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels")
    parser.add_argument("--images", type=int, default=1000, help="of an epoch: fewer photos are repeated")
    parser.add_argument("--batch", type=int, default=256, help="images of a batch; fewer on few images")
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="or worker processes")
    parser.add_argument("--runs", type=int, default=3, help="timed rounds, after one that is not timed")
    parser.add_argument("--scratch", type=Path, help="where to write; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    paths = stretch(photos(options.photos), options.images)
    record = machine("warm page cache")
    print(machine_line(record))
    slot_bytes = 3 * options.size**2
    batch = min(options.batch, max(len(paths) // 4, 1))
    with scratch_folder(options.scratch) as folder, Hosts(folder) as hosts:
        check_free(folder, 3 * len(paths) * slot_bytes)
        once = make(paths, folder, options)
        job = Job(str(folder / "new.store"), str(folder), batch, options.threads, len(paths), slot_bytes)
        outcomes = in_turn(cases(job), hosts, options.runs)
    write_json(options.json, report(outcomes, once, job, options.size), record)


def cases(job: Job) -> dict[str, Case]:
    """Return the cases; those with worker processes are apart from the others."""
    return {name: Case("epoch_cases", name, job, needs=NEEDS.get(name, ""), apart=name in NEEDS) for name in CASES}


# --- what is done once -----------------------------------------------------------------------------------------------


def make(paths: list[str], folder: Path, options: argparse.Namespace) -> dict[str, Timing]:
    """Presize the photographs and build the store, as often as there are rounds, and leave both in a folder."""
    keep_memory()
    target, presized = folder / "new.store", folder / "presized"
    resized = [str(presized / f"{i:06}.jpg") for i in range(len(paths))]
    (folder / PHOTOS).write_text(json.dumps(paths), encoding="utf-8")
    (folder / PRESIZED).write_text(json.dumps(resized), encoding="utf-8")

    def build() -> None:
        shutil.rmtree(target, ignore_errors=True)
        arraystore.build(
            paths, target, size=options.size, labels=np.arange(len(paths)), workers=options.threads, progress=False
        ).close()

    def presize() -> None:
        shutil.rmtree(presized, ignore_errors=True)
        presized.mkdir()
        with ThreadPoolExecutor(options.threads) as pool:
            for _ in pool.map(partial(presize_one, size=options.size), paths, resized):
                pass

    return take_turns({"presized": presize, STORE: build}, options.runs)


def presize_one(path: str, to: str, *, size: int) -> None:
    """Resize a photograph, and write it as a JPEG."""
    with Image.open(path) as image:
        small = ImageOps.exif_transpose(image).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    small.save(to, quality=QUALITY)


# --- the report ------------------------------------------------------------------------------------------------------


def report(outcomes: dict[str, Outcome], once: dict[str, Timing], job: Job, size: int) -> list[dict[str, Any]]:
    """Print what an epoch costs and what all cost, and return it."""
    store_once_s = statistics.median(once[STORE].wall_s)
    store_epoch_s = statistics.median(seconds_of(outcomes[STORE]))
    rows, records = [], []
    for name, outcome in outcomes.items():
        line = {"benchmark": "epochs", "case": name, "images": job.count, "size": size}
        line |= {"batch": job.batch, "threads": job.threads}
        if outcome.missing:
            rows.append([name, outcome.missing, *[""] * (4 + len(EPOCHS))])
            records.append({**line, "missing": outcome.missing})
            continue
        timing = once.get(MAKES[name.partition(",")[0]])
        once_s = statistics.median(timing.wall_s) if timing else 0.0
        epochs_s = seconds_of(outcome)
        epoch_s = statistics.median(epochs_s)
        all_in = {epochs: once_s + epochs * epoch_s for epochs in EPOCHS}
        pays = paid_after(store_once_s - once_s, epoch_s - store_epoch_s) if name != STORE else None
        line |= {
            "once_s": once_s,
            "rounds_once_s": timing.wall_s if timing else [],
            "epoch_s": epoch_s,
            "rounds_epoch_s": epochs_s,
            "times_the_store": epoch_s / store_epoch_s,
            "all_in_s": {str(epochs): seconds for epochs, seconds in all_in.items()},
            "store_pays_after_epochs": pays,
        }
        records.append(line)
        told = f"{once_s:.2f}" if timing else ""
        each = [f"{seconds:,.1f}" for seconds in all_in.values()]
        after = "" if name == STORE else "never" if pays is None else str(pays)
        rows.append(
            [name, told, f"{epoch_s:.3f}", spread(epochs_s, 3), f"{epoch_s / store_epoch_s:,.0f}", *each, after]
        )
    header = [
        "images from",
        "once, s",
        "epoch, s",
        "min-max",
        "x store",
        *(f"{k} in all" for k in EPOCHS),
        "store pays",
    ]
    title = f"{job.count:,} images to 3 x {size} x {size}, batches of {job.batch}, {job.threads} threads or workers"
    print_table(title, header, rows)
    print(
        "  in all: what is done once, and so many epochs, in seconds; store pays: after so many epochs, built and read"
    )
    return records


def seconds_of(outcome: Outcome) -> list[float]:
    """Return what an epoch took, a round each."""
    return [each["wall_s"] for each in outcome.figures]


def paid_after(more_once_s: float, less_an_epoch_s: float) -> int | None:
    """Return after how many epochs what costs more once has cost less in all: at least 1, or None for never."""
    if less_an_epoch_s <= 0:
        return 1 if more_once_s < less_an_epoch_s else None
    return max(int(more_once_s // less_an_epoch_s) + 1, 1)


if __name__ == "__main__":
    main()
