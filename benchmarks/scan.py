"""How long, and how much memory, does it take to list a folder of a million files?

Makes that many empty files in class folders, and lists them in fresh processes: with os.walk, which keeps nothing and
is the floor, and as a `Manifest`, with labels and in a stable order. A manifest opens no file.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Row, Rows, Table, mib, middle
from benchmarks.places import scratch_folder
from benchmarks.processes import fresh

ESTIMATE_S = 55
OPTIONS = {
    "count": (1_000_000, 60, "files"),
    "classes": (1000, 7, "folders"),
    "rounds": (3, 1, "fresh processes of each kind"),
}
MANIFEST = "Manifest.from_folder"
CODE = """
{}
before, start = peak_bytes(), time.perf_counter()
count = {}
print(json.dumps({{"count": count, "s": time.perf_counter() - start, "peak": peak_bytes(), "before": before}}))
"""
CODES = {
    "os.walk": CODE.format("", "sum(len(files) for _, _, files in os.walk(sys.argv[1]))"),
    MANIFEST: CODE.format("import arraystore", "len(arraystore.Manifest.from_folder(sys.argv[1]))"),
}


def measure(options: Namespace) -> Iterator[Row]:
    """Make the files, and list them in fresh processes, in turn."""
    with scratch_folder(options.scratch) as scratch:
        make_files(scratch / "tree", options.count, options.classes)
        told: dict[str, list[Row]] = {name: [] for name in CODES}
        for _ in range(options.rounds):
            for name, code in CODES.items():
                told[name].append(fresh(code, str(scratch / "tree")))
    for name, rounds in told.items():
        assert all(each["count"] == options.count for each in rounds)
        yield {"case": name, "files": options.count, "told": rounds}


def make_files(root: Path, count: int, classes: int) -> None:
    """Make the tree: ImageNet's kind of names, evenly spread over the classes."""
    folders = [root / f"n{i:08}" for i in range(min(classes, count))]
    for folder in folders:
        folder.mkdir(parents=True)
    for i in range(count):
        folder = folders[i % len(folders)]
        os.close(os.open(f"{folder}/{folder.name}_{i}.JPEG", os.O_CREAT | os.O_WRONLY))


def tables(rows: Rows) -> dict[str, Table]:
    """Listing files."""
    table = [["", "files", "seconds", "least–most", "peak memory, MiB"]]
    for row in rows:
        most = max(turn["peak"] for turn in row["told"])
        table.append([row["case"], f"{row['files']:,}", *middle([turn["s"] for turn in row["told"]], 2), mib(most)])
    return {"listings": table}


def figures(rows: Rows) -> dict[str, str]:
    """The manifest."""
    row = rows.one(case=MANIFEST)
    return {
        "files": f"{row['files']:,}",
        "seconds": middle([turn["s"] for turn in row["told"]], 1)[0],
        "memory": mib(max(turn["peak"] for turn in row["told"])),
    }
