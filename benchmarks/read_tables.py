"""The tables of what reading costs: batches, epochs, verifying, and how others do it."""

from __future__ import annotations

from benchmarks.markdown import middle, table
from benchmarks.results import Results

MIB = 1 << 20


def read(results: Results, section: str) -> str:
    """One section of `read.py`."""
    rows = []
    for line in results.where("read", section=section):
        if "missing" in line:
            rows.append([line["case"], line["missing"], *[""] * 4])
            continue
        rows.append(
            [
                line["case"],
                *middle([line["count"] / seconds for seconds in line["wall_s"]]),
                f"{line['bytes_per_s'] / 1e9:.2f}",
                *middle(line["rounds_times_reference"], 3),
            ]
        )
    reference = next(line["reference"] for line in results.where("read", section=section) if "reference" in line)
    if section == "augment":
        reference = "its copy"
    elif section == "small":
        reference = "memcpy"
    return table(["", "images/s", "least–most", "GB/s", f"× {reference}", "least–most"], rows)


def augment(results: Results) -> str:
    """Augmented batches with each number of threads."""
    rows = [
        [
            line["batch"],
            str(line["threads"]),
            *middle([line["images"] / seconds for seconds in line["wall_s"]["arraystore"]]),
            f"{line['bytes_per_s'] / 1e9:.1f}",
            f"{line['of_a_copy']:.2f}",
            "" if line["times_as_fast_as_pillow"] is None else f"{line['times_as_fast_as_pillow']:.1f}",
        ]
        for line in results["augment"]
    ]
    return table(["", "threads", "images/s", "least–most", "GB/s written", "of a copy", "× Pillow"], rows)


def epochs(results: Results) -> str:
    """What epochs cost, with what is done once before them."""
    rows = []
    counts = next(list(line["all_in_s"]) for line in results["epochs"] if "all_in_s" in line)
    for line in results["epochs"]:
        if "missing" in line:
            rows.append([line["case"], line["missing"], *[""] * (4 + len(counts))])
            continue
        pays = line["store_pays_after_epochs"]
        rows.append(
            [
                line["case"],
                f"{line['once_s']:.2f}" if line["rounds_once_s"] else "",
                *middle(line["rounds_epoch_s"], 3),
                f"{line['times_the_store']:,.0f}",
                *(f"{seconds:,.1f}" for seconds in line["all_in_s"].values()),
                "" if pays is None else str(pays),
            ]
        )
    in_all = [f"{count} epoch{'s' * (count != '1')} in all, s" for count in counts]
    header = ["images from", "once, s", "an epoch, s", "least–most", "× the store", *in_all, "the store pays after"]
    return table(header, rows)


def verify(results: Results) -> str:
    """Verifying, beside a plain read and a copy."""
    rows = [
        [
            line["case"],
            f"{line['size']}²",
            "cold" if line["cold"] else "warm",
            *middle(line["gb_per_s"], 2),
            f"{line['slots'] / line['median_s']:,.0f}",
        ]
        for line in results["verify"]
    ]
    return table(["", "slots", "page cache", "GB/s", "least–most", "images/s"], rows)


def peers(results: Results) -> str:
    """Others, where they were measured."""
    if "peers" not in results:
        return "Not measured on this machine."
    rows = []
    for line in results["peers"]:
        if "images_per_s" not in line:
            rows.append([line["title"], line.get("version", ""), f"{line['outcome']}: {line['why']}", *[""] * 5])
            continue
        rows.append(
            [
                line["title"],
                line["version"],
                f"{line['build_images_per_s']:,.0f}",
                f"{line['disk_bytes'] / MIB:,.0f}",
                *middle(line["rounds_images_per_s"]),
                f"{line['times_arraystore']:.3f}",
                f"{line['mean_difference']:.2f}" + (f" ({line['outcome']})" if line["outcome"] != "ok" else ""),
            ]
        )
    header = [
        "",
        "version",
        "builds, images/s",
        "on disk, MiB",
        "reads, images/s",
        "least–most",
        "× arraystore",
        "off Pillow",
    ]
    return table(header, rows)
