"""The measured constants of the scaling model, found in the benchmarks' lines of JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.scaling_text import duration, number, size

__all__ = ["Constant", "Constants", "Lines", "MissingResultError"]

Lines = Mapping[str, Sequence[Mapping[str, Any]]]


class MissingResultError(LookupError):
    """A result that the model needs is not there; the message has the command that measures it."""


@dataclass(frozen=True)
class Constant:
    """One measured figure.

    Attributes:
        value: in seconds, bytes, or things a second.
        meaning: what it is, for the table.
        text: the figure with its unit.
        script: what measures it.
    """

    value: float
    meaning: str
    text: str
    script: str


class Constants(dict[str, Constant]):
    """The constants by name.

    Args:
        results: name of a benchmark → its lines of JSON; by what name they are grouped does not matter.

    Attributes:
        builds: lines of builds on as many processors as they had workers, to hold a model against.

    Raises:
        MissingResultError: a line is missing.
    """

    def __init__(self, results: Lines) -> None:
        super().__init__()
        self._lines = [line for lines in results.values() for line in lines]
        self._measure_builds()
        self._measure_reads()
        self._measure_growth()

    def _measure_builds(self) -> None:
        build = self._one("build.py PHOTOS", benchmark="build", case="arraystore RAM", threads=1)
        held = self._one("lock.py PHOTOS", benchmark="lock", section="held", what="build")
        apart = self._one("lock.py PHOTOS", _with_most("workers"), benchmark="lock", section="real", case="processes")
        most = self._one(
            "lock.py PHOTOS", _with_most("images_per_s"), benchmark="lock", section="simulated", what="build"
        )
        self.builds = self._all(benchmark="lock", section="real")
        self._add("slot_bytes", 3 * build["size"] ** 2, "a slot of 3 × {size} × {size}", size, "build.py PHOTOS", build)
        self._add("source_bytes", held["source_bytes"], "a source, on average", size, "lock.py PHOTOS")
        self._add("image_s", 1 / build["images_per_s"], "an image of a build, one thread", duration, "build.py PHOTOS")
        self._add("lock_s", held["lock_s"], "of that, the interpreter's lock is held", duration, "lock.py PHOTOS")
        self._add(
            "threads_most",
            min(most["images_per_s"], 1 / held["lock_s"]),
            "images a second at most, however many threads (simulated, {threads} of them)",
            number,
            "lock.py PHOTOS",
            most,
        )
        self._add(
            "here_s", apart["here_s"], "an image, in the process that hands it to others", duration, "lock.py PHOTOS"
        )

    def _measure_reads(self) -> None:
        copies = "lock.py PHOTOS"
        held = self._one(copies, _with_most("size"), benchmark="lock", section="held", what="read")
        most = self._one(
            copies, _with_most("images_per_s"), benchmark="lock", section="simulated", what="read", size=held["size"]
        )
        batches = held["batches"] / held["slots"]
        warm = self._one("read.py", benchmark="read", section="warm", case="arraystore")
        opened = self._one("read.py", benchmark="read", section="opening")
        verify = self._one("verify.py", _best_verify, benchmark="verify", cold=False)
        self._add("copy_s", held["copy_s"], "a slot is copied, one thread", duration, copies)
        self._add("batch_lock_s", held["lock_s"], "a batch of {batch} holds the lock", duration, copies, held)
        self._add("slot_lock_s", held["lock_s"] * batches, "which is, for a slot", duration, copies)
        self._add(
            "readers_most",
            # Threads that sleep wake a little late, which counts where a copy takes no longer.
            min(max(most["images_per_s"], warm["images_per_s"]), 1 / (held["lock_s"] * batches)),
            "images a second at most, at the best number of threads (simulated, {threads}, or measured)",
            number,
            copies,
            most,
        )
        self._add(
            "open_s", opened["median_s"], "open {count:,} slots, up to a first batch", duration, "read.py", opened
        )
        self._add(
            "verify_bytes_per_s",
            1e9 * statistics.median(verify["gb_per_s"]),
            "verified a second ({case})",
            size,
            "verify.py",
            verify,
        )

    def _measure_growth(self) -> None:
        listed = self._one("scan.py", _with_most("files"), benchmark="scan", case="Manifest.from_folder")
        seconds = statistics.median(each["s"] for each in listed["rounds"])
        held = max(each["peak"] - each["before"] for each in listed["rounds"])
        files = listed["files"]
        self._add("list_s", seconds / files, "list a file, its folder in the system's cache", duration, "scan.py")
        self._add("manifest_bytes", held / files, "a manifest holds of a file", size, "scan.py")
        rows = self._one("scale.py", _with_most("count"), benchmark="scale", section="table")
        self._add("row_s", rows["median"]["table_s"] / rows["count"], "read a row of a table", duration, "scale.py")
        drawn = self._one("scale.py", _with_most("count"), benchmark="scale", section="order")
        self._add("draw_s", drawn["median"]["draw_s"], "draw a slot of {count:,}", duration, "scale.py", drawn)
        stages = {
            "reserve_s": ("reserve a slot", duration),
            "decide_s": ("see that a slot is done", duration),
            "publish_s": ("publish a slot", duration),
            "compare_s": ("compare a slot with its source", duration),
            "update_s": ("take a slot over in an update", duration),
            "build_peak_bytes": ("a build's memory grows for each slot by", size),
            "ledger_bytes": ("the ledger, for each slot while it is built", size),
            "samples.parquet bytes": ("samples.parquet, for each slot", size),
        }
        few, many = self._two_largest_lives()
        for name, (meaning, text) in stages.items():
            # What another slot costs: what does not grow is not in it, where it can be told apart.
            more = (many["median"][name] - few["median"][name]) / (many["count"] - few["count"])
            self._add(name, more if more > 0 else many["median"][name] / many["count"], meaning, text, "scale.py")

    def _two_largest_lives(self) -> list[Mapping[str, Any]]:
        lives = {line["count"]: line for line in self._all(benchmark="scale", section="life")}
        if len(lives) < 2:
            raise MissingResultError(_missing("stores of two counts", "scale.py"))
        return [lives[count] for count in sorted(lives)[-2:]]

    def _all(self, **wanted: Any) -> list[Mapping[str, Any]]:
        return [line for line in self._lines if all(line.get(key) == value for key, value in wanted.items())]

    def _one(
        self, script: str, best: Callable[[Mapping[str, Any]], Any] | None = None, **wanted: Any
    ) -> Mapping[str, Any]:
        """The last line of these, or the best one."""
        found = self._all(**wanted)
        if not found:
            what = ", ".join(f"{key} {value!r}" for key, value in wanted.items())
            raise MissingResultError(_missing(f"a line with {what}", script))
        return found[-1] if best is None else max(found, key=best)

    def _add(  # noqa: PLR0913 - one line of the table
        self,
        name: str,
        value: float,
        meaning: str,
        text: Callable[[float], str],
        script: str,
        line: Mapping[str, Any] | None = None,
    ) -> None:
        self[name] = Constant(value, meaning.format(**(line or {})), text(value), script)


def _with_most(key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda line: line[key]


def _best_verify(line: Mapping[str, Any]) -> tuple[bool, int, float]:
    """The largest slots, and the number of threads that is best for them."""
    return line["case"].startswith("verify"), line["size"], statistics.median(line["gb_per_s"])


def _missing(what: str, script: str) -> str:
    return f"the results have not {what}: measure it by `python benchmarks/{script} --json FILE`"
