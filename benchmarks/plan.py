"""How close does `arraystore plan` come to the build that it foretells?

Each round plans with a new sample and then builds into RAM, with the same number of workers; the ratio is the time that
was foretold to the time that the build took. The page cache is warm and memory is kept, so neither the disk nor a
virtual machine's host counts; what is left is the sample, and what else the machine does from one second to the next.
The processor time an image tells them apart: it is nearly free of the latter. A plan's own time is given too: it should
not depend on how many images there are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import (
    check_memory,
    cpu_seconds,
    keep_memory,
    machine,
    machine_line,
    numbers,
    photos,
    print_table,
    scratch_folder,
    spread,
    stretch,
    write_json,
)

import arraystore
from arraystore._common.limits import usable_cpus
from arraystore._sources.demo_photos import write_sample


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of JPEGs; default: generated ones")
    parser.add_argument("--images", type=int, default=2000, help="how many; a short list is repeated")
    parser.add_argument("--sizes", type=numbers, default=[64, 256], help="of a slot, such as 64,256")
    parser.add_argument("--workers", type=numbers, default=sorted({1, usable_cpus()}), help="such as 1,2")
    parser.add_argument("--sample", type=int, default=200, help="images that each plan decodes")
    parser.add_argument("--runs", type=int, default=7, help="rounds of each case")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    keep_memory()
    record = machine("warm page cache, memory kept")
    print(machine_line(record))
    with scratch_folder(None) as scratch:
        if options.folder is None:
            write_sample(scratch / "photos", count=options.images)
        paths = stretch(photos(options.folder or scratch / "photos"), options.images)
        check_memory(len(paths) * 3 * max(options.sizes) ** 2)
        results = [run(paths, size, workers, options) for size in options.sizes for workers in options.workers]
    report(results)
    write_json(options.json, results, record)


def run(paths: Sequence[str], size: int, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """Plan and build in turn, once untimed and then ``options.runs`` times."""
    told, took, planning, inside, processor = [], [], [], [], []
    for turn in range(options.runs + 1):
        start, used = time.perf_counter(), sum(cpu_seconds())
        forecast = arraystore.plan(paths, size=size, workers=workers, sample=options.sample, seed=turn, progress=False)
        planned, used_by_plan = time.perf_counter(), sum(cpu_seconds()) - used
        store = arraystore.build(paths, size=size, workers=workers, progress=False)
        built, used_by_build = time.perf_counter(), sum(cpu_seconds()) - used - used_by_plan
        assert len(store) == forecast.count
        store.close()
        assert forecast.seconds is not None
        assert forecast.seconds_range is not None
        if turn:
            low, high = forecast.seconds_range
            told.append(forecast.seconds)
            took.append(built - planned)
            planning.append(planned - start)
            inside.append(low <= built - planned <= high)
            decoded = forecast.sampled + workers  # each worker begins with an image that is not timed
            processor.append(used_by_plan / decoded / (used_by_build / len(paths)))
    return {
        "benchmark": "plan",
        "images": len(paths),
        "size": size,
        "workers": workers,
        "sample": options.sample,
        "foretold_s": told,
        "build_s": took,
        "plan_s": planning,
        "ratios": [one / other for one, other in zip(told, took, strict=True)],
        "inside_range": sum(inside),
        "processor_ratios": processor,
    }


def report(results: list[dict[str, Any]]) -> None:
    """Print the ratios."""
    rows = [
        [
            str(result["size"]),
            str(result["workers"]),
            f"{statistics.median(result['foretold_s']):.2f}",
            f"{statistics.median(result['build_s']):.2f}",
            f"{statistics.median(result['ratios']):.2f}",
            spread(result["ratios"], 2),
            f"{statistics.median(result['processor_ratios']):.2f}",
            f"{result['inside_range']}/{len(result['ratios'])}",
            f"{statistics.median(result['plan_s']):.2f}",
        ]
        for result in results
    ]
    header = ["size", "workers", "foretold s", "build s", "ratio", "min-max", "processor", "in range", "plan s"]
    first = results[0]
    print_table(f"{first['images']:,} images, {first['sample']:,} sampled; medians", header, rows)
    print("  ratio: foretold to built; processor: the same of processor time an image, the plan's own work included")
    print("  in range: rounds in which the build's time lay in the range that the plan gave, of all rounds")


if __name__ == "__main__":
    main()
