"""How does each stage of a store's life grow with the number of images?

A folder of small photographs is made, 1,000 to a class folder (a few pictures, no two files alike), and each stage is
timed in a fresh process: listing, the manifest's digest, reserving, filling, the decision of a later call that nothing
is left to fill, publishing; opening, the first shuffled batch, an epoch from the page cache; verifying, seeing that no
source has changed, and an update that takes all but two slots over. With the memory that building and reading take, and
the bytes on disk.

What grows as the number of images costs the same an image whatever it is; the last column says how many times as much
an image costs with the most images as with the next fewer. Then tables of a million rows, and what it takes to draw
slots from epochs that are far larger.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from common import check_free, machine, machine_line, numbers, print_table, scratch_folder, spread, write_json
from hosts import Hosts, Job

from arraystore._common.limits import usable_cpus

MIB = 1 << 20
STAGES = {
    "list_s": "list a folder",
    "digest_s": "digest of the manifest",
    "reserve_s": "reserve, and decide what to fill",
    "fill_s": "fill",
    "decide_s": "decide that nothing is left",
    "publish_s": "publish",
    "open_s": "open",
    "first_batch_s": "first batch",
    "epoch_s": "an epoch, warm",
    "verify_s": "verify",
    "compare_s": "compare with the sources",
    "update_s": "update two slots",
}
BYTES = {
    "manifest_bytes": "memory: manifest",
    "build_peak_bytes": "memory: peak of the build",
    "read_peak_bytes": "memory: peak of reading",
    "ledger_bytes": "disk: ledger, while it is built",
    "status.npy bytes": "disk: status.npy",
    "checksums.npy bytes": "disk: checksums.npy",
    "labels.npy bytes": "disk: labels.npy",
    "samples.parquet bytes": "disk: samples.parquet",
    "store.json bytes": "disk: store.json",
}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=numbers, default=[1000, 10_000, 100_000], help="images of the stores")
    parser.add_argument("--size", type=int, default=64, help="of a slot, in pixels")
    parser.add_argument("--batch", type=int, default=256, help="images of a batch")
    parser.add_argument("--threads", type=int, default=usable_cpus(), help="that fill and read")
    parser.add_argument("--rows", type=numbers, default=[100_000, 1_000_000], help="of the tables")
    parser.add_argument("--drawn-from", type=numbers, default=[10**4, 10**6, 10**8, 10**10], help="slots of an epoch")
    parser.add_argument("--runs", type=int, default=3, help="fresh processes of each")
    parser.add_argument("--scratch", type=Path, help="where to write; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("warm page cache")
    print(machine_line(record))
    with scratch_folder(options.scratch) as folder, Hosts(folder) as hosts:
        check_free(folder, 2 * max(options.counts) * 3 * options.size**2 + max(options.rows) * 64)
        lines = [line_of("life", count, options, folder, hosts) for count in options.counts]
        report_lives(lines, options)
        tables = [line_of("table", count, options, folder, hosts) for count in options.rows]
        report_tables(tables)
        orders = [line_of("order", count, options, folder, hosts) for count in options.drawn_from]
        report_orders(orders)
    write_json(options.json, [*lines, *tables, *orders], record)


def line_of(case: str, count: int, options: argparse.Namespace, folder: Path, hosts: Hosts) -> dict[str, Any]:
    """Run a case with so many images, each time in a fresh process, and return what it says: medians and rounds."""
    job = Job(str(folder / "new.store"), str(folder), options.batch, options.threads, count, 3 * options.size**2)
    rounds = []
    for turn in range(options.runs):
        host = hosts.of("scale_cases", f"{case} {count} {turn}")
        host.open(case, case, job)
        rounds.append(host.run(case, turn, check=turn == 0))
        host.close()
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    config = {"benchmark": "scale", "section": case, "count": count}
    if case == "life":
        config |= {"size": options.size, "batch": options.batch, "threads": options.threads}
    return {**config, "median": medians, "rounds": rounds}


# --- the reports -----------------------------------------------------------------------------------------------------


def report_lives(lines: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print each stage by the number of images."""
    header = ["stage", *(f"{line['count']:,}, s" for line in lines), "min-max", "µs an image", "grows"]
    rows = []
    for name, title in STAGES.items():
        seconds = [line["median"][name] for line in lines]
        last = [each[name] for each in lines[-1]["rounds"]]
        each = f"{seconds[-1] / lines[-1]['count'] * 1e6:,.2f}"
        rows.append([title, *(f"{s:,.4f}" for s in seconds), spread(last, 3), each, growth(lines, name)])
    title = (
        f"Stores of 3 x {options.size} x {options.size} slots, {options.threads} threads, {options.runs} processes each"
    )
    print_table(title, header, rows)
    last = lines[-1]
    count, median = last["count"], last["median"]
    print(
        f"  filled at {count / median['fill_s']:,.0f} img/s, read at {count / median['epoch_s']:,.0f}: {count:,} images"
    )
    header = ["what", *(f"{line['count']:,}, MiB" for line in lines), "bytes an image", "grows"]
    rows = []
    for name, title in BYTES.items():
        sizes = [line["median"][name] for line in lines]
        rows.append([title, *(f"{s / MIB:,.2f}" for s in sizes), f"{sizes[-1] / count:,.1f}", growth(lines, name)])
    print_table("Memory beyond what was held before, and files", header, rows)


def growth(lines: list[dict[str, Any]], name: str) -> str:
    """Return how many times as much an image costs with the most images as with the next fewer."""
    if len(lines) < 2:
        return ""
    fewer, most = (line["median"][name] / line["count"] for line in lines[-2:])
    return f"{most / fewer:.2f}" if fewer else ""


def report_tables(lines: list[dict[str, Any]]) -> None:
    """Print what tables take."""
    rows = [
        [
            f"{line['count']:,}",
            f"{line['median']['table_s']:.3f}",
            f"{line['median']['digest_s']:.4f}",
            f"{line['median']['peak_bytes'] / MIB:,.0f}",
            f"{line['median']['manifest_bytes'] / line['count']:,.0f}",
            growth(lines[: number + 1], "table_s"),
        ]
        for number, line in enumerate(lines)
    ]
    print_table("Tables (.csv)", ["rows", "read, s", "digest, s", "peak, MiB", "bytes a row", "grows"], rows)


def report_orders(lines: list[dict[str, Any]]) -> None:
    """Print what drawing takes."""
    rows = [
        [f"{line['count']:,}", f"{line['median']['draw_s'] * 1e9:,.0f}", f"{line['median']['peak_bytes'] / MIB:,.2f}"]
        for line in lines
    ]
    print_table("Drawing slots of a shuffled epoch, 8,192 at once", ["slots", "ns each", "memory, MiB"], rows)


if __name__ == "__main__":
    main()
