"""How much memory does it take to turn a folder of images into one array?

`arraystore.profile` runs each way of doing it in a fresh process over the same images, from a list and `np.vstack` to
preallocated slots, and samples its memory from outside. The peaks that the system itself has kept say whether the
samples can be trusted. The whole report is written beside the results, as memory-report.json.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import arraystore
from benchmarks.common import Row, Rows, Table, mib, rounded
from benchmarks.places import photos, scratch_folder

ESTIMATE_S = 140
NEEDS = ("photos",)
OPTIONS = {
    "count": (10_000, 60, "images; fewer photographs are repeated"),
    "size": (256, 32, "side of a slot, in pixels"),
    "strategies": ("", "vstack,ram,npy,hdf5", "these alone, as `arraystore profile --list` names them; all, if empty"),
}
REPORT = "memory-report.json"
READINGS = 150  # of a curve that is kept: a picture has room for no more
NAMES = {"vstack": "list + np.vstack", "ram": "arraystore, RAM", "npy": "arraystore, .npy", "hdf5": "arraystore, HDF5"}


def measure(options: Namespace) -> Iterator[Row]:
    """Profile every way, and yield a row each."""
    with scratch_folder(options.scratch, 4 * options.count * options.size**2 * 3) as scratch:
        paths = photos(options, scratch)
        strategies = options.strategies.split(",") if options.strategies else None
        report = arraystore.profile(
            paths, size=options.size, count=options.count, strategies=strategies, scratch=scratch
        )
    # Whoever reads the report has other folders.
    report = replace(report, command="python -m benchmarks headline --photos PHOTOS")
    options.out.mkdir(parents=True, exist_ok=True)
    thin = rounded(thinned(json.loads(report.to_json())))
    (options.out / REPORT).write_text(json.dumps(thin) + "\n", encoding="utf-8")
    for each in report.measurements:
        yield {
            "case": each.name,
            "count": options.count,
            "size": options.size,
            "outcome": " ".join(filter(None, [each.outcome, each.reason])),
            "array_bytes": each.array_bytes or report.array_bytes,
            "peak_bytes": {kind: each.peak(kind) for kind in ("anonymous", "file", "pss", "rss")},
            "sampled_rss_bytes": max(each.curve.rss, default=0),
            "kernel_peak_bytes": each.kernel_peak_bytes,
            "apart": each.apart_from_kernel,
            "sampler_share": each.sampler_share,
            "wall_s": each.wall_s,
            "disk_bytes": each.disk_bytes,
        }


def thinned(report: dict[str, Any]) -> dict[str, Any]:
    """Merge neighboring readings of long curves; of each kind the greatest stays, so that no peak is lost."""
    for measurement in report["measurements"]:
        curve: Mapping[str, list[float]] = measurement["curve"]
        step = max(-(-len(curve["seconds"]) // READINGS), 1)
        measurement["curve"] = {
            name: [
                values[at] if name == "seconds" else max(values[at : at + step]) for at in range(0, len(values), step)
            ]
            for name, values in curve.items()
        }
    return report


def tables(rows: Rows) -> dict[str, Table]:
    """Peaks by kind, and how far the samples can be trusted."""
    peaks = [["", "array", "anonymous", "times the array", "file-backed", "PSS", "RSS", "on disk", "seconds"]]
    trust = [["", "peak RSS, sampled", "the system's own", "apart", "the sampler, of a core"]]
    for row in rows:
        peak, array = row["peak_bytes"], row["array_bytes"]
        cells = [mib(array), mib(peak["anonymous"]), f"{peak['anonymous'] / array:.2f}"]
        cells += [mib(peak[kind]) for kind in ("file", "pss", "rss")]
        told = row["case"] if row["outcome"] == "finished" else f"{row['case']} ({row['outcome']})"
        peaks.append([told, *cells, mib(row["disk_bytes"]) if row["disk_bytes"] else "", f"{row['wall_s']:,.1f}"])
        if row["apart"] is not None:
            cells = [mib(row["sampled_rss_bytes"], 1), mib(row["kernel_peak_bytes"], 1), f"{row['apart']:.2%}"]
            trust.append([row["case"], *cells, f"{row['sampler_share']:.2%}"])
    return {"peaks": peaks, "trust": trust}


def figures(rows: Rows) -> dict[str, str]:
    """The memory of a few ways to make the array."""
    array = rows[0]["array_bytes"]
    peaks = {name: rows.one(case=case)["peak_bytes"]["anonymous"] for name, case in NAMES.items()}
    compared = [row for row in rows if row["apart"] is not None]
    return {
        "count": f"{rows[0]['count']:,}",
        "size": str(rows[0]["size"]),
        "array": mib(array),
        **{name: mib(peak) for name, peak in peaks.items()},
        **{f"{name}_times": f"{peak / array:.2f}" for name, peak in peaks.items()},
        "ram_more": mib(peaks["ram"] - array),
        "apart": f"{max(row['apart'] for row in compared):.1%}",
        "sampler": f"{max(row['sampler_share'] for row in compared):.2%}",
    }
