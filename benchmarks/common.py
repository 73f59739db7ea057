"""What the benchmarks share: rows of results with the machine's record, tables, and rounds in turn."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
Row = dict[str, Any]
Table = list[list[str]]
"""Cells of text; the first line is the header."""

MIB = 1 << 20
CPUS = len(os.sched_getaffinity(0))
DIGITS = 6  # of a number in the results: more say nothing
PACKAGES = ("numpy", "opencv-python-headless", "simplejpeg", "pillow", "numba", "h5py", "pyarrow", "xxhash", "torch")


class Rows(list[Row]):
    """The rows of a benchmark's results."""

    def where(self, **values: object) -> Self:
        """Return the rows that have these values."""
        return type(self)(row for row in self if all(row.get(key) == value for key, value in values.items()))

    def one(self, **values: object) -> Row:
        """Return the one row that has these values.

        Raises:
            SystemExit: there is none, or more than one.
        """
        rows = self.where(**values)
        if len(rows) != 1:
            raise SystemExit(f"the results should have one row with {values}, they have {len(rows)}")
        return rows[0]


# --- results ---------------------------------------------------------------------------------------------------------


def write_results(path: Path, header: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Write a file of JSON lines: the header, which has the machine, and then the rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(rounded(line)) + "\n" for line in (header, *rows)]
    path.write_text("".join(lines), encoding="utf-8")


def rounded(value: Any) -> Any:
    """Return a value of JSON with as many digits as mean something."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def machine() -> dict[str, Any]:
    """Return the record of this machine that goes with every file of results."""
    versions = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    processor = next((line for line in lines_of("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((line for line in lines_of("/proc/meminfo") if line.startswith("MemTotal")), "MemTotal: 0 kB")
    return {
        "cores": CPUS,
        "cpu": processor.partition(":")[2].strip() or platform.processor(),
        "memory_bytes": int(memory.split()[1]) * 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "arraystore": version("arraystore"),
        "versions": versions,
    }


def lines_of(path: str) -> list[str]:
    """Return the lines of a file, or none where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


# --- tables ----------------------------------------------------------------------------------------------------------


def middle(values: Sequence[float], digits: int = 0) -> list[str]:
    """Return two cells: the median, and the least and the greatest value."""
    return [f"{statistics.median(values):,.{digits}f}", f"{min(values):,.{digits}f}–{max(values):,.{digits}f}"]


def mib(size_bytes: float, digits: int = 0) -> str:
    """Return a size of memory as text, in MiB and without the unit."""
    return f"{size_bytes / MIB:,.{digits}f}"


def many(count: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def markdown(table: Table) -> str:
    """Return a table of Markdown with even columns: the first one left, the others right."""
    widths = [max(3, *map(len, column)) for column in zip(*table, strict=True)]
    header, *rows = table
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [header, ruler, *rows]
    return "\n".join(
        f"| {' | '.join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])])} |" for first, *others in lines
    )


# --- rounds ----------------------------------------------------------------------------------------------------------


def take_turns(
    cases: Mapping[Any, Callable[[], object]], rounds: int, *, after: Callable[[], object] | None = None
) -> dict[Any, list[float]]:
    """Time the cases in turn, A B C, C B A, …, so that whatever else the machine does falls on all of them.

    Every other round runs backwards, because a case is faster or slower for what the case before it left behind.

    Args:
        cases: what to time, by name. Each is first run once untimed (page cache, compiled kernels, pools). A case that
            returns a float has taken its own time, in seconds.
        rounds: how many are timed.
        after: is called after each case, untimed, such as to remove what the case wrote.

    Returns:
        The seconds that each case took, one a round.
    """
    seconds: dict[Any, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, case in list(cases.items())[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            result = case()
            wall_s = time.perf_counter() - start
            if turn:
                seconds[name].append(result if isinstance(result, float) else wall_s)
            del result  # a gigabyte of pixels must not be there while the next case runs
            if after is not None:
                after()
    return seconds


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """Return how many times as long ``slow`` took, round by round: noise that lasts for a round cancels."""
    return [one / other for one, other in zip(slow, fast, strict=True)]


def rates(count: int, seconds: Sequence[float]) -> list[float]:
    """Return how many of ``count`` things a second were done, one figure a round."""
    return [count / each for each in seconds]


def keep_memory() -> None:
    """Have this process keep the memory that it frees, so that every case finds the same pages at hand.

    A virtual machine that has handed free memory back to its host must ask for it again, and the case that happens to
    run then would pay for it. Only glibc can be told so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def evict(path: Path) -> float:
    """Drop a file from the page cache, and return the share of its pages that has stayed there.

    Pages that a process has mapped and read stay, so no process may have the file open. Where the file alone cannot be
    dropped, all files are, if that is allowed.
    """
    for everything in (False, True):
        if everything:
            with suppress(OSError):
                Path("/proc/sys/vm/drop_caches").write_text("1", encoding="ascii")
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        size_bytes = path.stat().st_size
        mapped = np.memmap(path, np.uint8, "r")
        pages = np.zeros(-(-size_bytes // mmap.PAGESIZE), np.uint8)
        arguments = (mapped.ctypes.data, size_bytes, pages.ctypes.data)
        if ctypes.CDLL(None).mincore(*map(ctypes.c_void_p, arguments)):
            raise SystemExit(f"{path}: the system does not say which pages are in the page cache")
        stayed = float((pages & 1).mean())
        if stayed < 0.01:
            break
    return stayed
