"""How long, and how much memory, does it take to list a folder of a million files?

Makes that many empty files in class folders, and lists them in fresh processes: with os.walk, which keeps nothing and
is the floor, and as a `Manifest`, with labels and in a stable order, and its digest. Empty files will do, because a
manifest opens none.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import machine, machine_line, print_table, scratch_folder, spread, write_json

MIB = 1 << 20

# Peaks are read from /proc, because the peak that getrusage gives a new process may be its parent's.
PEAK = """
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
"""
WALK = """
import json, os, sys, time
before, start = peak(), time.perf_counter()
count = sum(len(files) for _, _, files in os.walk(sys.argv[1]))
print(json.dumps({"count": count, "s": time.perf_counter() - start, "peak": peak(), "before": before}))
"""
MANIFEST = """
import json, sys, time
import arraystore
before, start = peak(), time.perf_counter()
manifest = arraystore.Manifest.from_folder(sys.argv[1])
seconds, top, start = time.perf_counter() - start, peak(), time.perf_counter()
assert len(manifest.digest) == 32
told = {"count": len(manifest), "classes": len(manifest.classes["labels"]), "s": seconds, "peak": top, "before": before}
print(json.dumps(told | {"digest_s": time.perf_counter() - start}))
"""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="how many files")
    parser.add_argument("--classes", type=int, default=1000, help="in how many folders")
    parser.add_argument("--runs", type=int, default=3, help="processes of each kind")
    parser.add_argument("--scratch", type=Path, help="where to make the files; default: the system's temporary folder")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("folders in the system's cache")
    print(machine_line(record))
    with scratch_folder(options.scratch) as scratch:
        volume = os.statvfs(scratch)
        if volume.f_files and options.count * 1.1 > volume.f_favail:  # some file systems have no fixed number
            raise SystemExit(f"{scratch}: the volume has room for {volume.f_favail:,} more files")
        make_files(scratch / "tree", options.count, options.classes)
        told: dict[str, list[dict[str, Any]]] = {name: [] for name in CODES}
        for _ in range(options.runs):
            for name, code in CODES.items():
                told[name].append(list_in_child(code, scratch / "tree"))
    classes = min(options.classes, options.count)
    assert all(one["count"] == options.count for runs in told.values() for one in runs)
    assert all(one["classes"] == classes for one in told["Manifest.from_folder"])
    write_json(options.json, report(told, options.count, classes), record)


CODES = {"os.walk": PEAK + WALK, "Manifest.from_folder": PEAK + MANIFEST}


def make_files(root: Path, count: int, classes: int) -> None:
    """Make the tree: ImageNet's kind of names, evenly spread over the classes."""
    start = time.perf_counter()
    root.mkdir()
    folders = [root / f"n{i:08}" for i in range(min(classes, count))]
    for folder in folders:
        folder.mkdir()
    for i in range(count):
        folder = folders[i % len(folders)]
        os.close(os.open(f"{folder}/{folder.name}_{i}.JPEG", os.O_CREAT | os.O_WRONLY))
    print(f"{count:,} files made in {time.perf_counter() - start:.1f} s")


def list_in_child(code: str, root: Path) -> dict[str, Any]:
    """List the tree in a fresh process."""
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - Python, with our code
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def report(told: dict[str, list[dict[str, Any]]], count: int, classes: int) -> list[dict[str, Any]]:
    """Print the table, and return it."""
    rows, records = [], []
    for name, runs in told.items():
        ordered = sorted(runs, key=lambda one: float(one["s"]))
        middle = ordered[len(ordered) // 2]
        more = max(one["peak"] - one["before"] for one in runs)
        rows.append(
            [
                name,
                f"{middle['s']:.2f}",
                spread([one["s"] for one in runs], 2),
                f"{count / middle['s'] / 1000:,.0f}",
                f"{max(one['peak'] for one in runs) / MIB:,.0f}",
                f"{more / MIB:,.0f}",
                f"{more / count:,.0f}",
                f"{middle['digest_s']:.3f}" if "digest_s" in middle else "",
            ]
        )
        records.append({"benchmark": "scan", "case": name, "files": count, "classes": classes, "rounds": runs})
    header = ["listing", "s", "min-max", "k files/s", "peak MiB", "it added", "bytes/file", "digest s"]
    print_table(f"{count:,} files in {classes:,} folders", header, rows)
    return records


if __name__ == "__main__":
    main()
