"""How fast are batches read, warm and cold, and what are the bounds?

Each case runs in a process of its own (see `hosts.py`), all of a section in turn; every one is run once before, and
there all that it yields is compared with the slots. Only then is it timed. The sections:

- warm: whole slots from the page cache, shuffled, against a copy of as many bytes with as many threads (`memcpy`:
  np.copyto of whole batches from the mapping, without any order), loops by hand, and torch's DataLoader, on fewer slots
  where it is slow. `peers/run.py` has other libraries.
- cold: the same from the disk, the file dropped from the page cache before each round, against reading it from its
  beginning to its end. What lies below the system, such as the cache of a virtual machine's host, is not dropped.
- augment: crops of seven eighths, against a copy of as many bytes as are handed over; resampled ones against what
  torchvision does to Pillow's images, which are decoded already and whose windows are drawn already.
- small: slots of 32 x 32 pixels.
- opening: a store of ten million slots (a sparse file), opened by a fresh process, and its first shuffled batch.
- memory: what a process holds over a hundred short epochs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import check_free, machine, machine_line, scratch_folder, spread, write_json
from hosts import Hosts, Job
from page_cache import COLD
from read_turns import Case, in_turn, report

import arraystore
from arraystore._format.slot_file import npy_header, write_npy
from arraystore._common.wording import many
from arraystore._common.limits import usable_cpus

OURS, COPY, SEQUENTIAL = "arraystore", "memcpy", "read 1 MiB"
DISTINCT = 64
SMALL, OPENING = 32, 64
EPOCHS = 100
COLD_ROUNDS = 3  # they take long
MIB = 1 << 20


def main() -> None:
    """Run it."""
    options = parse()
    record = machine("page cache warm; dropped before each round where it says cold")
    print(machine_line(record))
    slot_bytes = 3 * options.size**2
    with scratch_folder(options.folder) as folder, Hosts(folder) as hosts:
        # The store, and what others make of parts of it.
        check_free(folder, int(2 * options.count * slot_bytes) + options.small_count * 3 * SMALL**2)
        for name in options.only:
            start = time.perf_counter()
            write_json(options.json, SECTIONS[name](options, folder, hosts), record)
            print(f"  {name} took {time.perf_counter() - start:.0f} s")


def parse() -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=sections, default=list(SECTIONS), help="sections, with commas: " + text_of_all())
    parser.add_argument("--count", type=int, default=12000, help="slots")
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels")
    parser.add_argument("--batch", type=int, default=256, help="images of a batch")
    parser.add_argument("--small-count", type=int, default=200_000, help="slots of 32 x 32 pixels")
    parser.add_argument("--opening-count", type=int, default=10_000_000, help="slots of the store that is opened")
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="or worker processes")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that is checked and not timed")
    parser.add_argument("--folder", type=Path, help="where to write stores; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    return parser.parse_args()


def text_of_all() -> str:
    """Return the names of the sections."""
    return ", ".join(SECTIONS)


def sections(text: str) -> list[str]:
    """Return sections that are separated by commas."""
    names = text.split(",")
    for name in names:
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(f"there is no section {name!r}: there are {text_of_all()}")
    return names


# --- stores ----------------------------------------------------------------------------------------------------------


def make_store(path: Path, count: int, size: int, *, sparse: bool = False) -> Path:
    """Make a store of smooth noise, each slot with its number in its first pixels and as its label; or of a hole."""
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (size // 4, size // 4, 3), np.uint8) for _ in range(DISTINCT)]
    images = [cv2.resize(each, (size, size), interpolation=cv2.INTER_CUBIC) for each in coarse]
    # One slot is built, and then there are more of it: all that a reader looks at is as a build would make it.
    with arraystore.build(images[:1], path, size=size, labels=[0], progress=False) as store:
        description = store.description
    targets = {"labels": {"dtype": "<i8", "shape": [count]}}
    described = replace(description, count=count, targets=targets, digests={})
    (path / "store.json").write_text(described.to_text(), encoding="utf-8")
    write_npy(path / "labels.npy", np.arange(count))
    write_npy(path / "status.npy", np.ones(count, np.uint8))
    write_npy(path / "checksums.npy", np.zeros(count, np.uint64))
    shape = (count, *description.shape)
    header = npy_header(shape)
    with (path / "images.npy").open("r+b") as file:
        file.write(header)
        file.truncate(len(header) + int(np.prod(shape)))
    if not sparse:
        fill(np.load(path / "images.npy", mmap_mode="r+"), np.stack(images).transpose(0, 3, 1, 2))
    return path


def fill(slots: Any, distinct: Any) -> None:
    """Write the slots."""
    for start in range(0, len(slots), DISTINCT):
        some = slots[start : start + DISTINCT]
        some[...] = distinct[: len(some)]
        numbers = np.arange(start, start + len(some), dtype="<u4")
        some.reshape(len(some), -1)[:, :4] = numbers.view(np.uint8).reshape(-1, 4)
    slots.flush()


def job_of(options: argparse.Namespace, folder: Path) -> Job:
    """Make the store of large slots, if it is not there yet, and return the job of reading it."""
    store = make_store(folder / "large.store", options.count, options.size)
    return Job(str(store), str(folder), options.batch, options.threads, options.count, 3 * options.size**2)


# --- sections --------------------------------------------------------------------------------------------------------


def warm(options: argparse.Namespace, folder: Path, hosts: Hosts) -> list[dict[str, Any]]:
    """Whole slots from the page cache."""
    job = job_of(options, folder)

    def peer(name: str, divisor: int) -> Case:
        return Case("read_peers", name, replace(job, count=max(job.count // divisor, 1)), needs="torch")

    cases = {
        OURS: Case("read_cases", OURS, job),
        COPY: Case("read_cases", COPY, job),
        "np.take, 1 thread": Case("read_cases", "np.take", job),
        "images[slots], 1 thread": Case("read_cases", "images[slots]", job),
        "DataLoader, np.memmap": peer("DataLoader, np.memmap", 4),
        "DataLoader, h5py": peer("DataLoader, h5py", 12),
        "DataLoader, Pillow decodes": peer("DataLoader, Pillow decodes", 48),
    }
    outcomes = in_turn(cases, hosts, options.rounds)
    title = f"Warm: {job.count:,} whole slots of {job.bytes_per_image:,} bytes, {job.threads} threads or workers"
    return report("warm", title, outcomes, dict.fromkeys(cases, COPY))


def cold(options: argparse.Namespace, folder: Path, hosts: Hosts) -> list[dict[str, Any]]:
    """Whole slots from the disk."""
    job = job_of(options, folder)
    path = Path(job.store) / "images.npy"
    cases = {
        OURS: Case("read_cases", OURS, job, path),
        SEQUENTIAL: Case("read_cases", SEQUENTIAL, job, path),
        "read 64 MiB": Case("read_cases", "read 64 MiB", job, path),
        "images[slots], 1 thread": Case("read_cases", "images[slots]", job, path),
        "DataLoader, np.memmap": Case("read_peers", "DataLoader, np.memmap", job, path, needs="torch"),
    }
    outcomes = in_turn(cases, hosts, min(options.rounds, COLD_ROUNDS))
    title = f"Cold: {job.count:,} whole slots, shuffled, from opening them on"
    records = report("cold", title, outcomes, dict.fromkeys(cases, SEQUENTIAL))
    stayed = [outcome.stayed for outcome in outcomes.values() if not outcome.missing]
    if None in stayed:
        print("  whether the file was dropped from the page cache is not known: this system does not say")
    elif max(stayed, default=0) > COLD:
        print(f"  NOT COLD: up to {max(stayed):.0%} of the file stayed in the page cache, and could not be dropped")
    else:
        print(f"  before each round at most {max(stayed, default=0):.2%} of the file was in the page cache")
    return records


def augment(options: argparse.Namespace, folder: Path, hosts: Hosts) -> list[dict[str, Any]]:
    """Crops, mirrored, resampled, as floats."""
    whole = job_of(options, folder)
    whole = replace(whole, count=max(whole.count // 4, 1))
    cropped = whole.bytes_per_image // options.size**2 * (options.size * 7 // 8) ** 2
    cases: dict[str, Case] = {}
    references: dict[str, str] = {}
    for name, width in (("crop, flip", 1), ("resized crop", 1), ("float32", 4)):
        job = replace(whole, augment=name, bytes_per_image=width * cropped)
        copy = f"{COPY} of that" if width == 1 else f"{COPY} of floats"
        ours = f"{OURS}: {name}"
        cases |= {ours: Case("read_cases", OURS, job), copy: Case("read_cases", COPY, job)}
        references |= dict.fromkeys((ours, copy), copy)
        if name == "resized crop":
            for threads in sorted({1, job.threads}):
                few = replace(job, threads=threads, count=max(job.count // 4, 1))
                title = f"Pillow: {name}, {many(threads, 'thread')}"
                cases[title] = Case("read_cases", "Pillow", few)
                references[title] = ours
    outcomes = in_turn(cases, hosts, options.rounds)
    side = options.size * 7 // 8
    title = f"Augmented: to 3 x {side} x {side}, {whole.threads} threads; Pillow against arraystore's resized crop"
    return report("augment", title, outcomes, references)


def small(options: argparse.Namespace, folder: Path, hosts: Hosts) -> list[dict[str, Any]]:
    """Small slots, where the cost is one of slots and batches, not of bytes."""
    store = make_store(folder / "small.store", options.small_count, SMALL)
    cases: dict[str, Case] = {}
    references: dict[str, str] = {}
    for batch in (256, 1024):
        job = Job(str(store), None, batch, options.threads, options.small_count, 3 * SMALL**2)
        copy = f"{COPY}, batch {batch}"
        for name in (OURS, COPY, "np.take"):
            title = f"{name}, batch {batch}"
            cases[title] = Case("read_cases", name, job)
            references[title] = copy
    outcomes = in_turn(cases, hosts, options.rounds)
    title = f"Small: {options.small_count:,} slots of 3 x {SMALL} x {SMALL}, {options.threads} threads; np.take has 1"
    return report("small", title, outcomes, references)


def opening(options: argparse.Namespace, folder: Path, hosts: Hosts) -> list[dict[str, Any]]:
    """A large store and a fresh process."""
    count = options.opening_count
    store = make_store(folder / "huge.store", count, OPENING, sparse=True)
    job = Job(str(store), None, options.batch, options.threads, count, 3 * OPENING**2)
    rounds = []
    for turn in range(options.rounds + 1):
        host = hosts.of("read_opening", f"process {turn}")
        before = host.open("first", "first batch", job)["anonymous_bytes"]
        figures = host.run("first", 0, check=turn == 0)
        if turn:
            rounds.append({**figures, "anonymous_before_bytes": before})
    seconds = [each["wall_s"] for each in rounds]
    most = max(each["anonymous_bytes"] for each in rounds)
    after = max(each["anonymous_bytes"] - each["anonymous_before_bytes"] for each in rounds)
    print(f"\nOpening: {count:,} slots, in a fresh process, from after the import to the first shuffled batch")
    print(f"  {statistics.median(seconds):.3f} s ({spread(seconds, 3)})")
    print(f"  {most / MIB:,.0f} MiB of anonymous memory then, {after / MIB:,.0f} MiB more than after the import")
    row = {"benchmark": "read", "section": "opening", "case": OURS, "count": count, "batch": job.batch}
    return [{**row, "bytes_per_image": job.bytes_per_image, "median_s": statistics.median(seconds), "rounds": rounds}]


def memory(options: argparse.Namespace, folder: Path, hosts: Hosts) -> list[dict[str, Any]]:
    """Many short epochs."""
    job = job_of(options, folder)
    job = replace(job, count=max(job.count // 8, 1))
    host = hosts.of("read_cases", "memory")
    host.open("steady", "steady", job)
    epochs = [host.run("steady", epoch, check=epoch == 0) for epoch in range(EPOCHS)]
    hosts.close()
    held = [each["anonymous_bytes"] for each in epochs]
    settled = EPOCHS // 10
    print(f"\nMemory: {EPOCHS} epochs of {job.count:,} slots in batches of {job.batch}")
    for epoch in (1, settled, EPOCHS // 2, EPOCHS):
        print(f"  after epoch {epoch:3}: {held[epoch - 1] / MIB:,.1f} MiB anonymous")
    print(f"  buffers made: {epochs[0]['buffers']} in the first epoch, {epochs[-1]['buffers']} in all")
    row = {"benchmark": "read", "section": "memory", "case": OURS, "count": job.count, "batch": job.batch}
    return [{**row, "anonymous_bytes": held, "buffers": [each["buffers"] for each in epochs]}]


SECTIONS: dict[str, Callable[[argparse.Namespace, Path, Hosts], list[dict[str, Any]]]] = {
    "warm": warm,
    "cold": cold,
    "augment": augment,
    "small": small,
    "opening": opening,
    "memory": memory,
}

if __name__ == "__main__":
    main()
