"""What larger machines, slower disks and more images would take: measured constants, a short model, and its page.

Pure: results in, text out; nothing is measured here. Every time is the greatest of what processors, lock and storage
take, each as if it were alone: so rates are what can be had at best, not what is promised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks import markdown
from benchmarks.scaling_constants import Constants, Lines, MissingResultError
from benchmarks.scaling_text import TEXT, duration, number, size

__all__ = ["CORES", "STORAGES", "MissingResultError", "Model", "Storage", "least", "page"]

CORES = (1, 16, 64)
COUNTS = (1_000_000, 100_000_000)
COPYING_MOST = 8  # threads of a loader that only copies: arraystore._reading.loader
_LARGEST_EXT4_FILE = 1 << 44
_PAGE_BYTES, _ENTRY_BYTES = 4096, 8


@dataclass(frozen=True)
class Storage:
    """A kind of disk, as assumed.

    Attributes:
        name: for the tables.
        bytes_per_s: read and written together.
        operations_per_s: how many requests it serves.
        latency_s: that one request takes.
        requests: how many an image's source takes, one after another, if nothing of it is cached.
    """

    name: str
    bytes_per_s: float
    operations_per_s: float
    latency_s: float
    requests: int


STORAGES = (
    Storage("NVMe", 7e9, 1e6, 0.1e-3, 2),
    Storage("network file system", 1e9, 100e3, 1e-3, 3),
)
# Of a whole machine, reading and writing together. What one core can move is in the time of its copies.
MEMORY_BYTES_PER_S = {16: 100e9, 64: 200e9}


class Model:
    """What follows from the constants.

    Args:
        constants: what was measured.
    """

    def __init__(self, constants: Constants) -> None:
        self.constants = constants

    def __getitem__(self, name: str) -> float:
        return self.constants[name].value

    def build(
        self, cores: float, storage: Storage | None, *, processes: bool = False, workers: float | None = None
    ) -> dict[str, float]:
        """Return how many images a second each thing allows a build; the least of them is what can be had.

        Args:
            cores: processors.
            storage: of the sources and the store; None where all is in memory.
            processes: whether workers are processes.
            workers: how many; None for one a processor.
        """
        limits = {"processors": cores / self["image_s"]}
        if processes:
            limits["handing out"] = 1 / self["here_s"]
        else:
            limits["lock"] = self["threads_most"]
        if storage is not None:
            waiting_s = storage.requests * storage.latency_s
            limits["waiting"] = (workers or cores) / (self["image_s"] + waiting_s)
            limits["requests"] = storage.operations_per_s / storage.requests
            limits["bandwidth"] = storage.bytes_per_s / (self["source_bytes"] + self["slot_bytes"])
        return limits

    def read(self, cores: int, storage: Storage | None) -> dict[str, float]:
        """Return how many images a second each thing allows a loader of whole slots.

        Args:
            cores: processors.
            storage: of the store; None where it is in memory.
        """
        limits = {"copying": min(cores, COPYING_MOST) / self["copy_s"], "lock": self["readers_most"]}
        if cores in MEMORY_BYTES_PER_S:
            limits["memory"] = MEMORY_BYTES_PER_S[cores] / (2 * self["slot_bytes"])
        if storage is not None:
            limits["bandwidth"] = storage.bytes_per_s / self["slot_bytes"]
        return limits

    def lock_binds_at(self) -> float:
        """Return from how many processors on threads do no more."""
        return self["threads_most"] * self["image_s"]

    def whole_s(self, count: int, each: str) -> float:
        """Return what so many images take of a constant."""
        return count * self[each]


def least(limits: Mapping[str, float]) -> tuple[str, float]:
    """Return what binds, and how many images a second it allows."""
    return min(limits.items(), key=lambda each: each[1])


def page(results: Lines) -> str:
    """Return docs/scaling.md.

    Args:
        results: name of a benchmark → its lines of JSON, of at least build, lock, read, scan, verify and scale.

    Raises:
        MissingResultError: a result is missing; the message has the command that measures it.
    """
    model = Model(Constants(results))
    constants = [[each.meaning, each.text, f"`python benchmarks/{each.script}`"] for each in model.constants.values()]
    assumed = [
        [
            one.name,
            f"{size(one.bytes_per_s)}/s",
            number(one.operations_per_s),
            duration(one.latency_s),
            f"{one.requests}",
        ]
        for one in STORAGES
    ]
    binds = model.lock_binds_at()
    hundred_million = COUNTS[-1]
    return TEXT.format(
        constants=_table(["what", "measured", "by"], constants),
        assumed=_table(["storage", "bandwidth", "requests a second", "a request takes", "of them a source"], assumed),
        memory=" and ".join(f"{size(rate)}/s with {cores} cores" for cores, rate in MEMORY_BYTES_PER_S.items()),
        checks=_table(["workers, on as many cores", "img/s measured", "of the model", "bound by"], _check_rows(model)),
        builds=_table(
            ["cores", "sources and store on", "workers", "img/s", "bound by", *_counted()], _build_rows(model)
        ),
        reads=_table(["cores", "store in", "img/s", "of pixels", "bound by"], _read_rows(model)),
        counts=_table(["what", *map(number, COUNTS)], _count_rows(model)),
        lock_s=duration(model["lock_s"]),
        lock_share=f"{model['lock_s'] / model['image_s']:.0%}",
        lock_allows=number(1 / model["lock_s"]),
        threads_most=number(model["threads_most"]),
        binds=f"{binds:,.0f}",
        here_most=number(1 / model["here_s"]),
        here_cores=number(model["image_s"] / model["here_s"]),
        readers_most=number(model["readers_most"]),
        readers_bytes=f"{size(model['readers_most'] * model['slot_bytes'])}/s",
        waiting_workers=f"{1 + STORAGES[1].requests * STORAGES[1].latency_s / model['image_s']:.1f}",
        ext4_images=number(_LARGEST_EXT4_FILE // model["slot_bytes"]),
        page_table=size(hundred_million * model["slot_bytes"] / _PAGE_BYTES * _ENTRY_BYTES),
        manifest=size(hundred_million * model["manifest_bytes"]),
        build_memory=size(hundred_million * model["build_peak_bytes"]),
        update=duration(model.whole_s(hundred_million, "update_s")),
        draw=duration(model["draw_s"]),
        copying_most=COPYING_MOST,
    )


def _counted() -> list[str]:
    return [f"{number(count)} take" for count in COUNTS]


def _build_rows(model: Model) -> Iterable[list[str]]:
    for storage in STORAGES:
        for cores in CORES:
            for processes in (False, True) if cores > 1 else (False,):
                binds, rate = least(model.build(cores, storage, processes=processes))
                kind = _workers(cores, "processes" if processes else "threads")
                takes = [duration(count / rate) for count in COUNTS]
                yield [str(cores), storage.name, kind, number(rate), binds, *takes]


def _check_rows(model: Model) -> Iterable[list[str]]:
    for line in model.constants.builds:
        binds, rate = least(model.build(line["workers"], None, processes=line["case"] == "processes"))
        kind = _workers(line["workers"], line["case"])
        yield [kind, number(line["images_per_s"]), f"{line['images_per_s'] / rate:.0%}", binds]


def _workers(count: int, kind: str) -> str:
    return f"{count} {kind if count > 1 else {'threads': 'thread', 'processes': 'process'}[kind]}"


def _read_rows(model: Model) -> Iterable[list[str]]:
    for storage in (None, *STORAGES):
        for cores in CORES:
            binds, rate = least(model.read(cores, storage))
            where = "memory" if storage is None else storage.name
            yield [str(cores), where, number(rate), f"{size(rate * model['slot_bytes'])}/s", binds]


def _count_rows(model: Model) -> Iterable[list[str]]:
    seconds = {
        "list a folder": "list_s",
        "or read a table": "row_s",
        "reserve": "reserve_s",
        "publish": "publish_s",
        "decide that nothing is left": "decide_s",
        "compare with the sources": "compare_s",
        "update, all but a few slots taken over": "update_s",
    }
    sizes = {
        "memory: the manifest": "manifest_bytes",
        "memory: what a build takes": "build_peak_bytes",
        "disk: pixels": "slot_bytes",
        "disk: ledger, while it is built": "ledger_bytes",
        "disk: samples.parquet": "samples.parquet bytes",
    }
    for what, name in seconds.items():
        yield [what, *(duration(model.whole_s(count, name)) for count in COUNTS)]
    yield [
        "verify, from NVMe",
        *(
            duration(count * model["slot_bytes"] / min(model["verify_bytes_per_s"], STORAGES[0].bytes_per_s))
            for count in COUNTS
        ),
    ]
    yield ["the order of an epoch", *[f"{duration(model['draw_s'])} a slot, no memory"] * len(COUNTS)]
    for what, name in sizes.items():
        yield [what, *(size(count * model[name]) for count in COUNTS)]
    yield ["disk: status, checksums and labels", *(size(count * (1 + 8 + 8)) for count in COUNTS)]
