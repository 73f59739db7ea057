"""The figures that the prose of the documents has in it, by name, each drawn from the results of one benchmark."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from benchmarks.results import SUITE, Line, Results

MIB = 1 << 20
LARGE_BYTES = 10**9
VSTACK, RAM, NPY, HDF5 = "list + np.vstack", "arraystore, RAM", "arraystore, .npy", "arraystore, HDF5"


def suite(results: Results) -> dict[str, str]:
    """What was measured on, and how long all of it took."""
    record = results[SUITE][0]["machine"]
    return {
        "cores": str(record["cores"]),
        "cpu": record["cpu"],
        "kernel": record["kernel"],
        "memory": f"{record['memory_total_bytes'] / 2**30:,.0f} GiB",
        "opencv": next(number for name, number in record["versions"].items() if name.startswith("opencv")),
        "photos": results[SUITE][0]["photos"],
        "large": results[SUITE][0]["large"],
        "minutes": f"{sum(line['wall_s'] for line in results[SUITE]) / 60:,.0f}",
    }


def headline(results: Results) -> dict[str, str]:
    """The memory of a few ways to make the array."""
    cases = {"vstack": VSTACK, "ram": RAM, "npy": NPY, "hdf5": HDF5}
    lines = {name: results.one("headline", case=case) for name, case in cases.items()}
    peaks = {name: line["peak_bytes"]["anonymous"] for name, line in lines.items()}
    ours = lines["ram"]
    compared = [line for line in results["headline"] if line["apart_from_kernel_peak"] is not None]
    large = [line for line in compared if line["kernel_peak_bytes"] > LARGE_BYTES] or compared
    sampled = [line["sampler_share"] for line in results["headline"] if line["readings"]]
    return {
        "count": f"{ours['count']:,}",
        "size": str(ours["size"]),
        "array": mib(ours["array_bytes"]),
        **{name: mib(peak) for name, peak in peaks.items()},
        "vstack_times": f"{peaks['vstack'] / ours['array_bytes']:.2f}",
        "ram_times": f"{peaks['ram'] / ours['array_bytes']:.2f}",
        "ram_more": mib(peaks["ram"] - ours["array_bytes"]),
        "apart": f"{max(line['apart_from_kernel_peak'] for line in compared):.1%}",
        "apart_large": f"{max(line['apart_from_kernel_peak'] for line in large):.1%}",
        "sampler": f"{max(sampled):.2%}",
    }


def mib(size_bytes: float) -> str:
    """Return a size of memory as text."""
    return f"{size_bytes / MIB:,.0f} MiB"


def memory(results: Results) -> dict[str, str]:
    """What more images add to a build onto disk."""
    adds = {}
    for medium in (".npy", ".h5"):
        lines = sorted(results.where("memory", medium=medium), key=lambda line: line["images"])
        few, many = lines[0], lines[-1]
        more = (many["peak_anonymous_bytes"] - few["peak_anonymous_bytes"]) / (many["images"] - few["images"])
        adds |= {f"{medium[1:]}_adds": f"{more:,.0f}", "few": f"{few['images']:,}", "many": f"{many['images']:,}"}
    return adds


def build(results: Results) -> dict[str, str]:
    """A build into RAM against others."""

    def of(case: str, threads: int = 1) -> Line:
        return results.one("build", benchmark="build", case=case, threads=threads)

    ours, most = of("arraystore RAM"), max(line["threads"] for line in results.where("build", benchmark="build"))
    large = {line["case"]: line for line in results.where("build", benchmark="build large")}
    apart = list(results.one("build", benchmark="default against exact")["mean_absolute"].values())
    scaling = results.where("build", benchmark="scaling", case="arraystore RAM", threads=most)
    return {
        "images": f"{ours['images']:,}",
        "size": str(ours["size"]),
        "most": str(most),
        "scaling": f"{statistics.median(scaling[0]['times']) if scaling else 1:.2f}",
        "times_floor": times_the_floor(of("floor"), ours),
        "times_area": f"{of('cv2 INTER_AREA loop')['arraystore_is_times_as_fast']:.2f}",
        "large_ms": f"{large['arraystore RAM']['ms_per_image']:,.0f}",
        "large_times": f"{large['cv2 INTER_AREA loop']['arraystore_is_times_as_fast']:.1f}",
        "large_apart": f"{statistics.mean(apart):.2f}",
        "large_apart_most": f"{max(apart):.2f}",
    }


def times_the_floor(floor: Line, ours: Line) -> str:
    """Return how many times as long as decoding alone a build takes."""
    return f"{statistics.median(a / b for a, b in zip(ours['wall_s'], floor['wall_s'], strict=True)):.2f}"


def parts(results: Results) -> dict[str, str]:
    """The largest parts of one image's time."""
    line = results.one("parts")
    shares = {name: f"{line['mean_s'][name] / line['build_s']:.0%}" for name in ("decode", "resample")}
    return {**shares, "fixed": f"{line['build_of_one_s'] * 1000:.1f}"}


def portable(results: Results) -> dict[str, str]:
    """The kernels for processors without the widest instructions."""
    builds = results.where("portable", section="build", threads=1)
    crops = results.one("portable_augment", batch="resized crop, flip", threads=2)
    return {
        "times_floor": f"{builds[0]['takes_times_the_floor']:.2f}",
        "times_pillow": f"{crops['times_as_fast_as_pillow']:.1f}",
    }


def read(results: Results) -> dict[str, str]:
    """Reading, warm, cold, augmented, and small slots."""

    def of(section: str, case: str) -> Line:
        return results.one("read", section=section, case=case)

    def times(section: str, case: str) -> float:
        ours, other = of(section, "arraystore"), of(section, case)
        return float(ours["images_per_s"] / other["images_per_s"])

    ours, cold = of("warm", "arraystore"), of("cold", "arraystore")
    opened, held = of("opening", "arraystore"), of("memory", "arraystore")["anonymous_bytes"]
    crop, floats = (of("augment", f"arraystore: {name}") for name in ("crop, flip", "float32"))
    pillow = of("augment", f"Pillow: resized crop, {ours['threads']} thread{'s' * (ours['threads'] > 1)}")
    small = [line for line in results.where("read", section="small") if line["case"].startswith("arraystore")]
    return {
        "count": f"{ours['count']:,}",
        "batch": str(ours["batch"]),
        "threads": str(ours["threads"]),
        "warm": f"{ours['images_per_s']:,.0f}",
        "times_memcpy": f"{ours['times_reference']:.2f}",
        "times_memmap": f"{times('warm', 'images[slots], 1 thread'):.1f}",
        "times_loader": f"{times('warm', 'DataLoader, np.memmap'):,.0f}",
        "times_pillow": f"{times('warm', 'DataLoader, Pillow decodes'):,.0f}",
        "cold": f"{cold['images_per_s']:,.0f}",
        "cold_times": f"{cold['times_reference']:.2f}",
        "crop_of_copy": f"{crop['times_reference']:.2f}",
        "float_of_copy": f"{floats['times_reference']:.2f}",
        "resized_times_pillow": f"{1 / pillow['times_reference']:.1f}",
        "small_side": str(math.isqrt(small[0]["bytes_per_image"] // 3)),
        "small_batch": str(small[0]["batch"]),
        "small": f"{small[0]['images_per_s'] / 1e6:.1f}",
        "small_large_batch": f"{small[-1]['batch']:,}",
        "small_in_large": f"{small[-1]['images_per_s'] / 1e6:.1f}",
        "opened": f"{opened['count']:,}",
        "opening_s": f"{opened['median_s']:.2f}",
        "opening": mib(max(turn["anonymous_bytes"] for turn in opened["rounds"])),
        "epochs": str(len(held)),
        "epochs_more": mib(held[-1] - held[len(held) // 10]),
    }


def verify(results: Results) -> dict[str, str]:
    """Verifying large slots."""
    lines = [line for line in results["verify"] if line["size"] == results["verify"][0]["size"]]
    ours = [line for line in lines if line["case"].startswith("verify") and not line["cold"]]
    one, most = ours[0], max(ours, key=lambda line: statistics.median(line["gb_per_s"]))
    return {
        "one": f"{statistics.median(one['gb_per_s']):.1f}",
        "most": f"{statistics.median(most['gb_per_s']):.1f}",
        "most_threads": most["case"].removeprefix("verify, "),
    }


def rest(results: Results) -> dict[str, str]:
    """Safety, starting, and listing, a figure or two each."""
    safe = {line["case"]: statistics.median(line["safe_takes_times"]) for line in results["crash_safety"]}
    resumed = results["resume"][-1]
    seconds = {line["case"]: line["median_s"] for line in results["startup"] if "median_s" in line}
    cold = seconds["the same build, numba's cache empty"] - seconds["and again, with what that left"]
    listed = results.one("scan", case="Manifest.from_folder")
    command = next(case for case in seconds if case.startswith("arraystore build, "))
    ratios = [ratio for line in results["plan"] for ratio in line["ratios"]]
    return {
        "safe_at_end": f"{safe['one claim at the end']:.2f}",
        "safe_never": f"{safe['no fsync at all']:.2f}",
        "resume_slots": f"{resumed['slots']:,}",
        "resume_s": f"{resumed['median_s']:.2f}",
        "import_s": f"{seconds['import arraystore']:.2f}",
        "command_s": f"{seconds[command]:.1f}",
        "command_images": command.split()[2],
        "compile_s": f"{cold:.1f}",
        "files": f"{listed['files']:,}",
        "files_s": f"{statistics.median(turn['s'] for turn in listed['rounds']):.1f}",
        "files_memory": mib(max(turn["peak"] for turn in listed["rounds"])),
        "plan_least": f"{min(ratios):.2f}",
        "plan_most": f"{max(ratios):.2f}",
    }


GROUPS: dict[str, Callable[[Results], dict[str, str]]] = {
    "suite": suite,
    "headline": headline,
    "memory": memory,
    "build": build,
    "parts": parts,
    "portable": portable,
    "read": read,
    "verify": verify,
    "rest": rest,
}


def figures(results: Results) -> dict[str, str]:
    """Return all figures: ``GROUP.NAME`` → text."""
    return {f"{group}.{name}": text for group, of in GROUPS.items() for name, text in of(results).items()}
