"""The tables of what builds cost: memory, time, and what they are safe from."""

from __future__ import annotations

import statistics

from benchmarks.markdown import middle, rates, table
from benchmarks.results import Results
from benchmarks.suite import BY_NAME

MIB = 1 << 20


def headline(results: Results) -> str:
    """The memory of each way to make the array."""
    rows = []
    for line in results["headline"]:
        if not line["readings"]:
            rows.append([line["case"], f"{line['outcome']}: {line['reason']}", *[""] * 7])
            continue
        peak = line["peak_bytes"]
        disk = "" if line["disk_bytes"] is None else f"{line['disk_bytes'] / MIB:,.0f}"
        rows.append(
            [
                line["case"] + (f" ({line['outcome']})" if line["outcome"] != "finished" else ""),
                f"{line['array_bytes'] / MIB:,.0f}",
                f"{peak['anonymous'] / MIB:,.0f}",
                f"{peak['anonymous'] / line['array_bytes']:.2f}",
                f"{peak['file'] / MIB:,.0f}",
                f"{peak['pss'] / MIB:,.0f}",
                f"{peak['rss'] / MIB:,.0f}",
                disk,
                f"{line['wall_s'][0]:,.1f}",
            ]
        )
    header = ["", "array", "anonymous", "times the array", "file-backed", "PSS", "RSS", "on disk", "seconds"]
    return table(header, rows)


def trust(results: Results) -> str:
    """The samples against the system's own peaks."""
    rows = [
        [
            line["case"],
            f"{line['read_rss_bytes'] / MIB:,.1f}",
            *(
                [f"{line['kernel_peak_bytes'] / MIB:,.1f}", f"{line['apart_from_kernel_peak']:.2%}"]
                if line["kernel_peak_bytes"] is not None
                else ["", ""]
            ),
            f"{line['sampler_share']:.2%}",
        ]
        for line in results["headline"]
        if line["readings"]
    ]
    return table(["", "peak RSS, sampled", "the system's own", "apart", "the sampler, of a core"], rows)


def memory(results: Results) -> str:
    """Peaks of builds of different numbers of images."""
    rows = [
        [
            line["medium"],
            f"{line['images']:,}",
            f"{line['array_bytes'] / MIB:,.0f}",
            f"{line['peak_anonymous_bytes'] / MIB:,.0f}",
            f"{line['anonymous_before_bytes'] / MIB:,.0f}",
            f"{line['peak_file_bytes'] / MIB:,.0f}",
        ]
        for line in results["memory"]
    ]
    return table(["medium", "images", "array", "peak anonymous", "of that before it", "peak file-backed"], rows)


def build(results: Results) -> str:
    """All ways to fill an array, with each number of threads."""
    rows = []
    for line in results.where("build", benchmark="build"):
        ours = results.one("build", benchmark="build", case="arraystore RAM", threads=line["threads"])
        times = [theirs / its for theirs, its in zip(line["wall_s"], ours["wall_s"], strict=True)]
        rows.append([line["case"], str(line["threads"]), *middle(rates(line, line["images"])), *middle(times, 2)])
    return table(["", "threads", "images/s", "least–most", "arraystore, RAM is × as fast", "least–most"], rows)


BUILD_NAMES = {
    "arraystore RAM": "**arraystore, into RAM**",
    "floor": "reading and decoding alone: the floor",
    "cv2 INTER_AREA loop": "hand-written loop: `cv2.imread`, `INTER_AREA`, transpose, assign",
    "cv2 INTER_LINEAR loop": "the same with `INTER_LINEAR`, which does not antialias",
    "Pillow BILINEAR loop": "Pillow: `open`, `resize` bilinear, transpose, assign",
}


def build_short(results: Results) -> str:
    """The same for the README: those that fill RAM, a row each."""
    numbers = sorted({line["threads"] for line in results.where("build", benchmark="build")})
    rows = []
    for case, name in BUILD_NAMES.items():
        cells = []
        for threads in numbers:
            line = results.one("build", benchmark="build", case=case, threads=threads)
            times = f"{line['arraystore_is_times_as_fast']:.2f}×" if case != "arraystore RAM" else ""
            cells += [f"{line['images_per_s']:,.0f}", times]
        rows.append([name, *cells])
    header = [f"`{BY_NAME['build'].shown()[0]}`"]
    for threads in numbers:
        header += [f"{threads} thread{'s' * (threads > 1)}, images/s", "arraystore is"]
    return table(header, rows)


def build_large(results: Results) -> str:
    """Camera photos."""
    lines = results.where("build", benchmark="build large")
    rows = [
        [
            line["case"],
            *middle([seconds * 1000 / line["images"] for seconds in line["wall_s"]], 1),
            f"{line['arraystore_is_times_as_fast']:.2f}",
        ]
        for line in lines
    ]
    return table(["", "ms an image", "least–most", "arraystore, RAM is × as fast"], rows)


def parts(results: Results) -> str:
    """Where one image's time goes."""
    line = results.one("parts")
    rows = [
        [
            name,
            f"{line['median_s'][name] * 1e6:,.0f}" if name in line["median_s"] else "",
            f"{mean * 1e6:,.0f}",
            f"{mean / line['build_s']:.1%}",
        ]
        for name, mean in line["mean_s"].items()
    ]
    rows.append(["a build, divided by its images", "", f"{line['build_s'] * 1e6:,.0f}", ""])
    return table(["", "median µs", "mean µs", "of a build"], rows)


def slot_sizes(results: Results, section: str) -> str:
    """Rates by size and threads."""
    rows = [
        [
            f"{line['size']}²",
            str(line["threads"]),
            *middle(rates(line, line["images"])),
            f"{line['bytes_per_s'] / 1e9:.2f}",
            f"{line['takes_times_the_floor']:.2f}",
            f"{line['times_as_fast_as_fewest_threads']:.2f}",
        ]
        for line in results.where("slot_sizes", section=section)
    ]
    header = [
        "slots",
        "threads",
        "images/s",
        "least–most",
        "GB/s of slots",
        "× the floor's time",
        "× as fast as 1 thread",
    ]
    return table(header, rows)


def plan(results: Results) -> str:
    """What was foretold, and what came."""
    rows = [
        [
            f"{line['size']}²",
            str(line["workers"]),
            f"{statistics.median(line['foretold_s']):.2f}",
            f"{statistics.median(line['build_s']):.2f}",
            *middle(line["ratios"], 2),
            f"{statistics.median(line['plan_s']):.2f}",
        ]
        for line in results["plan"]
    ]
    return table(["slots", "workers", "foretold, s", "build, s", "ratio", "least–most", "the plan, s"], rows)


def resume(results: Results) -> str:
    """Deciding that nothing is left to fill."""
    rows = [
        [
            f"{line['slots']:,}",
            f"{line['build_s']:,.1f}",
            *middle(line["decide_s"], 3),
            f"{line['median_s'] / line['slots'] * 1e6:.1f}",
        ]
        for line in results["resume"]
    ]
    return table(["slots", "the first call, s", "the decision, s", "least–most", "µs a slot"], rows)


def crash_safety(results: Results) -> str:
    """What claims and syncs cost."""
    rows = [
        [line["case"], *middle(rates(line, line["images"])), *middle(line["safe_takes_times"], 3)]
        for line in results["crash_safety"]
    ]
    return table(["", "images/s", "least–most", "the safe one takes ×", "least–most"], rows)
