"""How fast are batches read, warm and cold, and what are the bounds?

The cases run in processes of their own, all of a section in turn; every one is run once before, and there all that it
yields is compared with the slots. Only then is it timed. The sections:

- warm: whole slots from the page cache, shuffled, against a copy of as many bytes with as many threads (`memcpy`:
  np.copyto of whole batches from the mapping, without any order), loops by hand, and torch's DataLoader, on fewer slots
  where it is slow. `peers` has other libraries.
- cold: the same from the disk, the file dropped from the page cache before each round, against reading it from its
  beginning to its end. What lies below the system, such as the cache of a virtual machine's host, is not dropped.
- small: slots of 32×32 pixels.
- opening: a store of ten million slots (a sparse file), opened by a fresh process, and its first shuffled batch.
"""

from __future__ import annotations

import json
import statistics
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

import arraystore
from benchmarks.common import CPUS, Row, Rows, Table, mib, middle, rates, ratios
from benchmarks.places import scratch_folder
from benchmarks.processes import Case, Host, Job, fresh, time_cases

ESTIMATE_S = 150
OPTIONS = {
    "count": (12_000, 40, "slots"),
    "size": (256, 16, "side of a slot, in pixels"),
    "batch": (256, 16, "images of a batch"),
    "small_count": (200_000, 3000, "slots of 32×32 pixels"),
    "opening_count": (10_000_000, 5000, "slots of the store that is opened"),
    "threads": (CPUS, 2, "or worker processes"),
    "rounds": (3, 1, "timed rounds"),
}
OURS, COPY, SEQUENTIAL = "arraystore", "memcpy", "read 1 MiB"
MEMMAP, MEMMAP_LOADER, JPEG_LOADER = "images[slots], 1 thread", "DataLoader, np.memmap", "DataLoader, Pillow decodes"
SMALL_PX, OPENED_PX = 32, 64
OPENING = """
import arraystore
before, start = anonymous_bytes(), time.perf_counter()
images, labels = next(iter(arraystore.open(sys.argv[1]).loader(int(sys.argv[2]), workers=int(sys.argv[3]))))
seconds = time.perf_counter() - start
assert len(images) == len(set(labels.tolist()))
print(json.dumps({"seconds": seconds, "anonymous_bytes": anonymous_bytes(), "before_bytes": before}))
"""


def make_store(path: Path, count: int, size: int, *, sparse: bool = False) -> Path:
    """Make a store of noise, each slot with its number in its first pixels and as its label; or of a hole."""
    if path.exists():
        return path
    distinct = np.random.default_rng(0).integers(0, 256, (64, 3, size, size), np.uint8)
    # One slot is built, and then there are more of it: all that a reader looks at is as a build would make it.
    arraystore.build([distinct[0].transpose(1, 2, 0)], path, size=size, labels=[0], progress=False).close()
    description = json.loads((path / "store.json").read_text(encoding="utf-8"))
    description |= {"count": count, "targets": {"labels": {"dtype": "<i8", "shape": [count]}}}
    description = {key: value for key, value in description.items() if key not in ("digest", "digests")}
    (path / "store.json").write_text(json.dumps(description), encoding="utf-8")
    np.save(path / "labels.npy", np.arange(count))
    np.save(path / "status.npy", np.ones(count, np.uint8))
    np.save(path / "checksums.npy", np.zeros(count, np.uint64))
    with (path / "images.npy").open("r+b") as file:
        start = path.joinpath("images.npy").stat().st_size - distinct[0].nbytes
        header = file.read(start)
        file.seek(0)
        file.write(header.rstrip().replace(b"(1, ", f"({count}, ".encode()).ljust(start - 1) + b"\n")
        file.truncate(start + count * distinct[0].nbytes)
    slots = np.load(path / "images.npy", mmap_mode="r+")
    for first in range(0, 0 if sparse else count, len(distinct)):
        some = slots[first : first + len(distinct)]
        some[...] = distinct[: len(some)]
        numbers = np.arange(first, first + len(some), dtype="<u4").view(np.uint8)
        some.reshape(len(some), -1)[:, :4] = numbers.reshape(-1, 4)
    slots.flush()
    return path


def measure(options: Namespace) -> Iterator[Row]:
    """Time the sections one after the other."""
    slots_bytes = (options.count * options.size**2 + options.small_count * SMALL_PX**2) * 3
    with scratch_folder(options.scratch, slots_bytes) as folder, Host() as plain, Host() as framework:
        store = make_store(folder / "large.store", options.count, options.size)
        job = Job(store, folder, options.batch, options.threads, options.count, 3 * options.size**2)
        file = store / "images.npy"
        warm = {
            OURS: Case(plain, "read_cases.loader", job),
            COPY: Case(plain, "read_cases.memcpy", job),
            MEMMAP: Case(plain, "read_cases.by_hand", job),
            # Fewer slots, because these are slow.
            MEMMAP_LOADER: Case(framework, "torch_cases.over_memmap", replace(job, count=max(job.count // 4, 1))),
            JPEG_LOADER: Case(framework, "torch_cases.over_jpegs", replace(job, count=max(job.count // 48, 1))),
        }
        yield from section("warm", warm, dict.fromkeys(warm, COPY), options.rounds)
        cold = {
            OURS: Case(plain, "read_cases.loader", job, file),
            SEQUENTIAL: Case(plain, "read_cases.read_through", job, file),
            MEMMAP: Case(plain, "read_cases.by_hand", job, file),
            MEMMAP_LOADER: Case(framework, "torch_cases.over_memmap", job, file),
        }
        yield from section("cold", cold, dict.fromkeys(cold, SEQUENTIAL), options.rounds)
        small: dict[str, Case] = {}
        references = {}
        store = make_store(folder / "small.store", options.small_count, SMALL_PX)
        for batch in (256, 1024):
            job = Job(store, folder, batch, options.threads, options.small_count, 3 * SMALL_PX**2)
            for name, case in ((OURS, "read_cases.loader"), (COPY, "read_cases.memcpy")):
                small[f"{name}, batch {batch}"] = Case(plain, case, job)
                references[f"{name}, batch {batch}"] = f"{COPY}, batch {batch}"
        yield from section("small", small, references, options.rounds)
        yield from opening(folder, options)


def section(name: str, cases: Mapping[str, Case], references: Mapping[str, str], rounds: int) -> Iterator[Row]:
    """Time the cases of a section, and yield a row each, with how many times as fast as its reference a case is."""
    seconds = time_cases(cases, rounds)
    speeds = {name: rates(case.job.count * case.job.image_bytes, seconds[name]) for name, case in cases.items()}
    for title, case in cases.items():
        about = {key: getattr(case.job, key) for key in ("threads", "batch", "count", "image_bytes")}
        row = {"section": name, "case": title, **about, "wall_s": seconds[title], "stayed": case.stayed}
        yield {**row, "times_reference": ratios(speeds[title], speeds[references[title]])}


def opening(folder: Path, options: Namespace) -> Iterator[Row]:
    """A large store and fresh processes."""
    store = make_store(folder / "huge.store", options.opening_count, OPENED_PX, sparse=True)
    told = [fresh(OPENING, str(store), str(options.batch), str(options.threads)) for _ in range(options.rounds + 1)]
    yield {"section": "opening", "case": OURS, "count": options.opening_count, "told": told[1:]}


def tables(rows: Rows) -> dict[str, Table]:
    """A table of each section but the last."""
    told = {}
    for name, reference in (("warm", COPY), ("cold", SEQUENTIAL), ("small", COPY)):
        table = [["", "images/s", "least–most", "GB/s", f"× {reference}", "least–most"]]
        for row in rows.where(section=name):
            images = rates(row["count"], row["wall_s"])
            gigabytes = f"{statistics.median(images) * row['image_bytes'] / 1e9:.2f}"
            table.append([row["case"], *middle(images), gigabytes, *middle(row["times_reference"], 3)])
        told[name] = table
    return told


def figures(rows: Rows) -> dict[str, str]:
    """Reading, warm, cold, small slots, and opening."""
    warm, cold = rows.where(section="warm"), rows.where(section="cold")
    opened = rows.one(section="opening")

    def rate(row: Row) -> float:
        return float(statistics.median(rates(row["count"], row["wall_s"])))

    ours = warm.one(case=OURS)
    small_rows = [row for row in rows.where(section="small") if row["case"].startswith(OURS)]
    return {
        "count": f"{ours['count']:,}",
        "batch": str(ours["batch"]),
        "threads": str(ours["threads"]),
        "warm": f"{rate(ours):,.0f}",
        "times_memcpy": middle(ours["times_reference"], 2)[0],
        "times_memmap": f"{rate(ours) / rate(warm.one(case=MEMMAP)):.1f}",
        "times_loader": f"{rate(ours) / rate(warm.one(case=MEMMAP_LOADER)):,.0f}",
        "times_pillow": f"{rate(ours) / rate(warm.one(case=JPEG_LOADER)):,.0f}",
        "cold": f"{rate(cold.one(case=OURS)):,.0f}",
        "cold_times": middle(cold.one(case=OURS)["times_reference"], 2)[0],
        "stayed": f"{max(row['stayed'] for row in cold):.2%}",
        "small_side": str(SMALL_PX),
        "small_batch": str(small_rows[0]["batch"]),
        "small": f"{rate(small_rows[0]) / 1e6:.1f}",
        "small_large_batch": f"{small_rows[-1]['batch']:,}",
        "small_in_large": f"{rate(small_rows[-1]) / 1e6:.1f}",
        "opened": f"{opened['count']:,}",
        "opening_s": middle([turn["seconds"] for turn in opened["told"]], 2)[0],
        "opening": mib(max(turn["anonymous_bytes"] for turn in opened["told"])),
    }
