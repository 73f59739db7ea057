"""How long does an image hold the interpreter's lock, and at how many threads does that begin to bind?

Decoding, resampling, hashing and copying run outside the lock; the Python code between them is run by one thread at a
time, however many there are. Four answers:

- held: the processor time of a build, or of a loader, with one thread, less that of every function that lets go of the
  lock (see `lock_free.py`). So many images a second are the most that threads can ever do.
- real: builds with threads and with worker processes on the processors of this machine.
- simulated: the same build and the same loader with what runs outside the lock asleep for as long, and 1, 2, 4, …
  threads. Sleeping takes no processor, so this machine shows what one of as many processors would do with the lock,
  whose every hand-over is real. It is a simulation: memory, caches and the disk are without limit in it.

A rate is taken from a quarter of a build on, so that no start of threads or processes is in it.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    machine,
    machine_line,
    numbers,
    opencv_threads,
    photos,
    print_table,
    scratch_folder,
    spread,
    stretch,
    take_turns,
    write_json,
)
from lock_free import sleeping_build, sleeping_copy, timed_build, timed_copy
from read import make_store

import arraystore
from arraystore.errors import DecodeError
from arraystore._decoding.header import read_header
from arraystore._common.limits import usable_cpus

SMALL = 32
_A_QUARTER = 4
_SIMULATED_A_THREAD = 128  # so that runs are as long as those of a large build
_CPUS_ARE_BUSY = 0.9


def main() -> None:
    """Run it."""
    options = parse()
    paths = photos(options.photos)
    record = machine("warm page cache")
    print(machine_line(record))
    with scratch_folder(options.scratch) as scratch, opencv_threads(1):
        held = held_by_build(stretch(paths, options.images), options)
        write_json(options.json, [held], record)
        write_json(options.json, real(stretch(paths, options.images), scratch / "new.store", options), record)
        write_json(options.json, simulated_build(shortened(paths, scratch), held, options), record)
        for size, count in ((options.size, options.slots), (SMALL, 16 * options.slots)):
            store = make_store(scratch / f"{size}.store", count, size)
            held = held_by_reader(store, size, options)
            write_json(options.json, [held], record)
            write_json(options.json, simulated_reader(store, held, options), record)


def parse() -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of JPEGs, at any depth")
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels")
    parser.add_argument("--images", type=int, default=600, help="of a real build: fewer photos are repeated")
    parser.add_argument(
        "--slots", type=int, default=2048, help=f"of the store that is read; 16 times of {SMALL}² pixels"
    )
    parser.add_argument("--batch", type=int, default=256, help="images of a batch")
    parser.add_argument("--threads", type=numbers, default=[1, 2, 4, 8, 16, 32, 64], help="that are simulated")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a simulated build")
    parser.add_argument("--runs", type=int, default=3, help="timed rounds, after one that is not timed")
    parser.add_argument("--scratch", type=Path, help="where to write; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    return parser.parse_args()


# --- held ------------------------------------------------------------------------------------------------------------


def held_by_build(paths: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Say how long an image of a build holds the lock, and what it does without it."""
    arraystore.build(paths, size=options.size, workers=1, progress=False)  # the kernels are compiled by now
    lock, clocks = [], []
    for _ in range(options.runs):
        with timed_build() as clock:
            pace = paced(paths, workers=1, size=options.size)
        lock.append(clock.left_of(pace.cpu_s()) / len(paths))
        clocks.append(clock)
    names = [name for name, part in clocks[0].parts.items() if part.calls]
    calls = {name: clocks[0].parts[name].calls / len(paths) for name in names}
    each = {name: statistics.median(clock.parts[name].seconds / len(paths) for clock in clocks) for name in names}
    lock_s = statistics.median(lock)
    rows = [[name, f"{calls[name]:.1f}", f"{seconds * 1e6:,.1f}"] for name, seconds in each.items()]
    rows += [["outside the lock", "", f"{sum(each.values()) * 1e6:,.1f}"]]
    rows += [["Python: under the lock", "", f"{lock_s * 1e6:,.1f}"]]
    print_table(f"An image of a build, {len(paths):,} images, one thread", ["what", "calls", "µs"], rows)
    print(f"  the lock is held for {in_us(lock)} µs: {1 / lock_s:,.0f} img/s at most")
    return {
        "benchmark": "lock",
        "section": "held",
        "what": "build",
        "images": len(paths),
        "size": options.size,
        "lock_s": lock_s,
        "rounds_lock_s": lock,
        "free_s": sum(each.values()),
        "parts_s": each,
        "calls": calls,
        "source_bytes": statistics.mean(Path(path).stat().st_size for path in paths),
    }


def held_by_reader(store: Path, size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Say how long a batch of a loader holds the lock, in all threads, and how long a slot is copied."""
    lock, copy, batches = [], [], 0
    with arraystore.open(store) as slots:
        loader = slots.loader(options.batch, workers=1)
        for turn in range(options.runs + 1):
            with timed_copy() as clock:
                start = time.process_time()
                batches = sum(1 for _ in loader)
                used = time.process_time() - start
            if turn:
                lock.append(clock.left_of(used) / batches)
                copy.append(clock.parts["copy"].seconds / len(slots))
        count = len(slots)
    lock_s, copy_s = statistics.median(lock), statistics.median(copy)
    images = count / batches
    print(f"\nA batch of {options.batch} slots of 3 x {size} x {size}, one thread")
    print(f"  the lock is held for {in_us(lock)} µs: {1 / lock_s:,.0f} batches a second at most")
    print(f"  a slot takes {lock_s / images * 1e6:.2f} µs of that: {images / lock_s:,.0f} img/s at most")
    print(f"  and is copied in {copy_s * 1e6:.1f} µs")
    return {
        "benchmark": "lock",
        "section": "held",
        "what": "read",
        "size": size,
        "batch": options.batch,
        "slots": count,
        "batches": batches,
        "lock_s": lock_s,
        "rounds_lock_s": lock,
        "copy_s": copy_s,
        "rounds_copy_s": copy,
    }


def in_us(seconds: Sequence[float]) -> str:
    """Return median, least and greatest in microseconds."""
    each = [one * 1e6 for one in seconds]
    return f"{statistics.median(each):,.0f} ({spread(each)})"


@dataclass
class Pace:
    """What a build has reported: (seconds, seconds of processor time, images done), a report each."""

    reports: list[tuple[float, float, int]]

    def images_per_s(self) -> float:
        """Return the rate from a quarter on."""
        first, last = self._from_a_quarter()
        return (last[2] - first[2]) / (last[0] - first[0])

    def cpus(self) -> float:
        """Return how many processors this process kept busy from a quarter on."""
        first, last = self._from_a_quarter()
        return (last[1] - first[1]) / (last[0] - first[0])

    def cpu_s(self) -> float:
        """Return the processor time of all images."""
        return self.reports[-1][1] - self.reports[0][1]

    def _from_a_quarter(self) -> tuple[tuple[float, float, int], tuple[float, float, int]]:
        last = self.reports[-1]
        later = next(each for each in self.reports if each[2] * _A_QUARTER >= last[2])
        return (later if later[2] < last[2] else self.reports[0]), last


def paced(sources: Sequence[str], target: Path | None = None, **options: Any) -> Pace:
    """Build, into RAM where there is no target, and return the pace."""
    reports: list[tuple[float, float, int]] = []

    def note(progress: arraystore.Progress) -> None:
        reports.append((time.perf_counter(), time.process_time(), progress.done))

    arraystore.build(sources, target, progress=note, **options).close()
    return Pace(reports)


# --- real ------------------------------------------------------------------------------------------------------------


def real(paths: Sequence[str], target: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare threads with processes, as many as there are processors. On disk: processes write there."""
    paces: dict[tuple[int, str], list[Pace]] = {}

    def build(workers: int, kind: str) -> None:
        pace = paced(paths, target, size=options.size, workers=workers, processes=kind == "processes")
        shutil.rmtree(target)
        paces.setdefault((workers, kind), []).append(pace)

    keys = [(workers, kind) for workers in sorted({1, usable_cpus()}) for kind in ("threads", "processes")]
    take_turns({key: partial(build, *key) for key in keys}, options.runs)
    rows, records = [], []
    for (workers, kind), of_rounds in paces.items():
        rates = [pace.images_per_s() for pace in of_rounds[1:]]
        here_s = statistics.median(pace.cpus() / pace.images_per_s() for pace in of_rounds[1:])
        rows.append([kind, str(workers), f"{statistics.median(rates):,.0f}", spread(rates), f"{here_s * 1e6:,.0f}"])
        records.append(
            {
                "benchmark": "lock",
                "section": "real",
                "case": kind,
                "workers": workers,
                "images": len(paths),
                "size": options.size,
                "images_per_s": statistics.median(rates),
                "rounds_images_per_s": rates,
                "here_s": here_s,
            }
        )
    header = ["workers", "how many", "img/s", "min-max", "µs an image here"]
    print_table("Builds on this machine's processors; here: in the process that hands out", header, rows)
    return records


# --- simulated -------------------------------------------------------------------------------------------------------


def shortened(paths: Sequence[str], folder: Path) -> list[str]:
    """Write the beginning of each photo, up to where its header is complete: to read it costs next to nothing."""
    short = []
    for number, path in enumerate(paths):
        data, size = Path(path).read_bytes(), 512
        while size < len(data):
            try:
                read_header(data[:size])
                break
            except DecodeError:
                size *= 2
        short.append(str(folder / f"{number}.jpg"))
        Path(short[-1]).write_bytes(data[:size])
    return short


def simulated_build(short: Sequence[str], held: dict[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Build with threads that sleep where they would decode."""
    alone = 1 / (held["lock_s"] + held["free_s"])
    each_s = {name: seconds / held["calls"][name] for name, seconds in held["parts_s"].items()}

    def run(threads: int) -> Pace:
        expected = min(threads * alone, 1 / held["lock_s"]) * options.seconds
        count = max(int(expected), _SIMULATED_A_THREAD * threads)
        with sleeping_build(each_s):
            return paced([short[i % len(short)] for i in range(count)], size=options.size, workers=threads)

    title = f"Simulated: builds to 3 x {options.size} x {options.size}, what runs outside the lock asleep"
    line = {"benchmark": "lock", "section": "simulated", "what": "build", "size": options.size}
    rates = {t: [run(t) for _ in range(options.runs)] for t in options.threads}
    figures = {t: [(pace.images_per_s(), pace.cpus()) for pace in paces] for t, paces in rates.items()}
    return report_simulated(title, line, figures, 1 / held["lock_s"])


def simulated_reader(store: Path, held: dict[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Read with threads that sleep where they would copy."""

    def run(threads: int) -> tuple[float, float]:
        with arraystore.open(store) as slots, sleeping_copy(held["copy_s"]):
            loader = slots.loader(options.batch, workers=threads)
            begun, used = time.perf_counter(), time.process_time()
            batches = sum(1 for _ in loader)
            took = time.perf_counter() - begun
            assert batches == held["batches"]
            return len(slots) / took, (time.process_time() - used) / took

    size = held["size"]
    title = f"Simulated: reading slots of 3 x {size} x {size} in batches of {options.batch}, their copies asleep"
    line = {"benchmark": "lock", "section": "simulated", "what": "read", "size": size, "batch": options.batch}
    figures = {threads: [run(threads) for _ in range(options.runs)] for threads in options.threads}
    return report_simulated(title, line, figures, held["slots"] / held["batches"] / held["lock_s"])


def report_simulated(
    title: str, line: dict[str, Any], figures: dict[int, list[tuple[float, float]]], most: float
) -> list[dict[str, Any]]:
    """Print rates by number of threads, and return them."""
    rows, records = [], []
    for threads, rounds in figures.items():
        rates, cpus = ([each[i] for each in rounds] for i in range(2))
        median, busy = statistics.median(rates), statistics.median(cpus)
        rows.append([str(threads), f"{median:,.0f}", spread(rates), f"{median / most:.0%}", f"{busy:.2f}"])
        figure = {"threads": threads, "images_per_s": median, "rounds_images_per_s": rates, "cpus": busy}
        records.append({**line, **figure, "lock_allows": most})
    print_table(title, ["threads", "img/s", "min-max", "of what the lock allows", "processors busy"], rows)
    if max(record["cpus"] for record in records) > _CPUS_ARE_BUSY * usable_cpus():
        print("  this machine's processors were all busy: with more of them it would have been faster")
    return records


if __name__ == "__main__":
    main()
