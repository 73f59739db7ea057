"""The tables of the documents by name, each drawn from the results of one benchmark, as Markdown."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import build_tables, read_tables
from benchmarks.markdown import middle, table
from benchmarks.results import SUITE, Results
from benchmarks.suite import BY_NAME

MIB = 1 << 20


def machine(results: Results) -> str:
    """What everything was measured on."""
    record = results[SUITE][0]["machine"]
    disk = record["disk"]
    turning = {None: "", True: ", which calls itself rotational", False: ", not rotational"}[disk["rotational"]]
    rows = [
        ["processor", f"{record['cpu']}, {record['cores']} cores"],
        ["memory", f"{record['memory_total_bytes'] / 2**30:,.0f} GiB"],
        ["volume", f"{disk['filesystem']} of {disk['size_bytes'] / 1e9:,.0f} GB{turning}"],
        ["system", f"Linux {record['kernel']}"],
        ["Python", record["python"]],
        ["packages", ", ".join(f"{name} {number}" for name, number in record["versions"].items())],
    ]
    return table(["", ""], rows, left=2)


def suite(results: Results) -> str:
    """How long each took."""
    rows = [
        [BY_NAME[line["name"]].question, f"`{line['name']}`", f"{line['wall_s']:,.0f} s"]
        for line in results[SUITE]
        if line["name"] in BY_NAME
    ]
    total = sum(line["wall_s"] for line in results[SUITE])
    return table(["question", "name", "took"], [*rows, ["all of them", "", f"{total / 60:,.1f} min"]], left=2)


def startup(results: Results) -> str:
    """Fresh processes."""
    rows = [
        [line["case"], *middle([seconds * 1000 for seconds in line["wall_s"]])]
        for line in results["startup"]
        if "wall_s" in line
    ]
    return table(["a whole process", "ms", "least–most"], rows)


def scan(results: Results) -> str:
    """Listing files."""
    rows = [
        [
            line["case"],
            f"{line['files']:,}",
            *middle([turn["s"] for turn in line["rounds"]], 2),
            f"{max(turn['peak'] for turn in line['rounds']) / MIB:,.0f}",
        ]
        for line in results["scan"]
    ]
    return table(["", "files", "seconds", "least–most", "peak memory, MiB"], rows)


TABLES: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "suite": suite,
    "headline": build_tables.headline,
    "trust": build_tables.trust,
    "memory": build_tables.memory,
    "build": build_tables.build,
    "build_short": build_tables.build_short,
    "build_large": build_tables.build_large,
    "parts": build_tables.parts,
    "slot_sizes.build": lambda results: build_tables.slot_sizes(results, "build"),
    "slot_sizes.read": lambda results: build_tables.slot_sizes(results, "read"),
    **{
        f"read.{name}": lambda results, name=name: read_tables.read(results, name)
        for name in ("warm", "cold", "augment", "small")
    },
    "augment": read_tables.augment,
    "epochs": read_tables.epochs,
    "peers": read_tables.peers,
    "verify": read_tables.verify,
    "resume": build_tables.resume,
    "crash_safety": build_tables.crash_safety,
    "plan": build_tables.plan,
    "startup": startup,
    "scan": scan,
}
