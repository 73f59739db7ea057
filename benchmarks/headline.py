"""How much memory does it take to turn a folder of images into one array?

`arraystore.profile` runs each way of doing it in a fresh process over the same images, from a list and `np.vstack` to
preallocated slots, and samples its memory from outside. The same peaks as the system itself kept them say whether the
samples can be trusted, and the sampler's own processor time what the sampling costs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import machine, machine_line, print_table, write_json

from arraystore.memory.profile import profile
from arraystore.memory.report import Measurement, MemoryReport

MIB = 1 << 20


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of images, at any depth")
    parser.add_argument("--count", type=int, default=10_000, help="images; fewer photos are repeated")
    parser.add_argument("--size", type=int, default=256, help="of a slot, in pixels")
    parser.add_argument("--strategy", nargs="+", help="these alone; `arraystore profile --list` has their names")
    parser.add_argument("--report", type=Path, help="write the whole report to this file, as JSON")
    parser.add_argument("--scratch", type=Path, help="where to write stores; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("warm page cache")
    print(machine_line(record))
    report = profile(
        options.photos,
        size=options.size,
        count=options.count,
        strategies=options.strategy,
        scratch=options.scratch,
    )
    # Whoever reads the report has other folders.
    report = replace(report, command="python benchmarks/headline.py PHOTOS")
    report.print()
    check(report)
    if options.report is not None:
        options.report.write_text(report.to_json(), encoding="utf-8")
    config = {"count": options.count, "size": options.size}
    write_json(options.json, [{**config, **line_of(each, report)} for each in report.measurements], record)


def check(report: MemoryReport) -> None:
    """Print how the samples compare with the peaks that the system kept, and what they cost."""
    rows = [
        [
            each.name,
            f"{max(each.curve.rss) / MIB:,.1f}",
            "" if each.kernel_peak_bytes is None else f"{each.kernel_peak_bytes / MIB:,.1f}",
            "" if each.apart_from_kernel is None else f"{each.apart_from_kernel:.2%}",
            f"{each.sampler_share:.3%}",
        ]
        for each in report.measurements
        if each.readings
    ]
    header = ["call", "peak RSS sampled", "the system's own", "apart", "sampler, of a core"]
    print_table("Can the samples be trusted? In MiB", header, rows)


def line_of(measurement: Measurement, report: MemoryReport) -> dict[str, Any]:
    """Return one call for JSON."""
    return {
        "benchmark": "headline",
        "case": measurement.name,
        "outcome": measurement.outcome,
        "reason": measurement.reason,
        "array_bytes": measurement.array_bytes or report.array_bytes,
        "peak_bytes": {kind: measurement.peak(kind) for kind in ("anonymous", "file", "shmem", "pss", "rss")},
        "read_rss_bytes": max(measurement.curve.rss, default=0),
        "start_bytes": measurement.start_bytes,
        "kernel_peak_bytes": measurement.kernel_peak_bytes,
        "apart_from_kernel_peak": measurement.apart_from_kernel,
        "sampler_share": measurement.sampler_share,
        "wall_s": [measurement.wall_s],
        "cpu_s": measurement.cpu_s,
        "disk_bytes": measurement.disk_bytes,
        "processes": measurement.processes,
        "readings": measurement.readings,
    }


if __name__ == "__main__":
    main()
