"""What the benchmarks share: the machine's record, timing in turns, JSON lines, tables.

Every figure is printed with its spread, and every JSON line carries its configuration and the machine: a figure without
them can neither be compared nor repeated.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2

from arraystore import __version__ as arraystore_version
from arraystore._decoding.header import read_header
from arraystore._common.limits import available_memory_bytes, usable_cpus

PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "simplejpeg",
    "pillow",
    "numba",
    "h5py",
    "pyarrow",
    "xxhash",
    "torch",
)


def machine(cache: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the record of this machine that goes with every figure.

    Args:
        cache: the state of the page cache, in words.
        folder: where files are written; default: the system's temporary folder.
    """
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "cores": usable_cpus(),
        "cpu": _first_line("/proc/cpuinfo", "model name") or platform.processor(),
        "memory_bytes": available_memory_bytes(),
        "memory_total_bytes": int((_first_line("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) * 1024,
        "disk": disk(folder or Path(tempfile.gettempdir())),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "arraystore": arraystore_version,
        "versions": versions,
        "cache": cache,
    }


def machine_line(record: Mapping[str, Any]) -> str:
    """Return the machine's record in one line of text."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return (
        f"{record['cores']} cores, {record['cpu']}, {record['memory_total_bytes'] / (1 << 30):.0f} GiB of memory, "
        f"{disk_line(record['disk'])}, Linux {record['kernel']}, Python {record['python']}, "
        f"arraystore {record['arraystore']}, {versions}; {record['cache']}"
    )


def disk(folder: Path) -> dict[str, Any]:
    """Return what is known of the volume that a folder lies on.

    Returns:
        ``filesystem`` and ``device``, "" where the system does not say; ``rotational``, None where it does not;
        ``size_bytes`` and ``free_bytes``.
    """
    volume = os.statvfs(folder)
    sizes = {"size_bytes": volume.f_blocks * volume.f_frsize, "free_bytes": volume.f_bavail * volume.f_frsize}
    number = os.stat(folder).st_dev  # noqa: PTH116 - beside statvfs, which Path lacks
    device = f"{os.major(number)}:{os.minor(number)}"
    # A line: numbers of the mount, device, root, mount point, options, "-", file system, source.
    mounts = [line.split() for line in _lines("/proc/self/mountinfo")]
    filesystem, source = next(
        (tuple(each[each.index("-") + 1 :][:2]) for each in mounts if each[2] == device), ("", "")
    )
    block = Path(f"/sys/dev/block/{device}").resolve()
    flags = [
        _lines(str(place / "queue" / "rotational")) for place in (block, block.parent)
    ]  # a partition's is its disk's
    rotational = next((bool(int(lines[0])) for lines in flags if lines), None)
    return {"filesystem": filesystem, "device": source, "rotational": rotational, **sizes}


def disk_line(record: Mapping[str, Any]) -> str:
    """Return what is known of a volume as text."""
    turns = {None: "", True: ", rotational by its own word", False: ", not rotational"}[record["rotational"]]
    return f"{record['filesystem'] or 'unknown file system'} of {record['size_bytes'] / 1e9:,.0f} GB{turns}"


def _first_line(path: str, key: str) -> str:
    return next((line.partition(":")[2].strip() for line in _lines(path) if line.startswith(key)), "")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


@dataclass
class Timing:
    """What one case took, one entry a round.

    Attributes:
        wall_s: seconds that passed.
        user_s: seconds of processor time in the program, of all threads.
        system_s: the same in the system: reading files, and finding and clearing fresh memory.
    """

    wall_s: list[float] = field(default_factory=list)
    user_s: list[float] = field(default_factory=list)
    system_s: list[float] = field(default_factory=list)

    def rates(self, count: int) -> list[float]:
        """Return how many of ``count`` things a second were done, a round each."""
        return [count / seconds for seconds in self.wall_s]

    def to_json(self) -> dict[str, Any]:
        """Return all rounds, for JSON."""
        median = statistics.median(self.wall_s)
        return {"wall_s": self.wall_s, "user_s": self.user_s, "system_s": self.system_s, "median_s": median}


def take_turns(
    cases: Mapping[Any, Callable[[], object]],
    runs: int,
    *,
    after: Callable[[], object] | None = None,
) -> dict[Any, Timing]:
    """Time the cases in turn, A B C, C B A, …, so that whatever else the machine does falls on all of them.

    Every other round runs backwards, because what a case finds depends on the one before: on a virtual machine, the
    second of two that write a file took 0.15 s of system time where the first took 0.6 s, whichever they were.

    Args:
        cases: what to time, by name; each is first run once untimed (page cache, compiled kernels, pools).
        runs: how many rounds.
        after: called after each case, untimed, such as to remove what it wrote.
    """
    timings = {name: Timing() for name in cases}
    for turn in range(runs + 1):
        for name, case in list(cases.items())[:: -1 if turn % 2 else 1]:
            (user, system), start = cpu_seconds(), time.perf_counter()
            result = case()
            wall, (user_end, system_end) = time.perf_counter() - start, cpu_seconds()
            del result  # what a case returns, such as a gigabyte of pixels, is not there while the next one runs
            if after is not None:
                after()
            if turn:
                timings[name].wall_s.append(wall)
                timings[name].user_s.append(user_end - user)
                timings[name].system_s.append(system_end - system)
    return timings


def keep_memory() -> None:
    """Have this process keep the memory that it frees, so that every case finds the same pages at hand.

    A virtual machine that hands free memory back to its host must ask for it again. Measured on one: the first touch of
    197 MB took 0.44 s, the next ones 0.026 s, where decoding 1,000 images into them takes 2 s; and who paid depended on
    what ran before. With this, an array of zeros costs its clearing, an empty one nothing. Only glibc can be told so.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mmap_max, trim_threshold = -4, -1
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def cpu_seconds() -> tuple[float, float]:
    """Return the processor time of this process, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime


def ratios(slow: Timing, fast: Timing) -> list[float]:
    """Return how many times as long ``slow`` took, round by round: noise that lasts for a round cancels."""
    return [one / other for one, other in zip(slow.wall_s, fast.wall_s, strict=True)]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the least and the greatest value as text."""
    return f"{min(values):,.{digits}f}-{max(values):,.{digits}f}"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: first column left, the others right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    print(f"\n{title}")
    for first, *others in [header, ["-" * width for width in widths], *rows]:
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        print("  " + "  ".join(cells).rstrip())


def write_json(path: Path | None, records: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> None:
    """Append one line of JSON for each record, with the machine's record in it."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for row in records:
            file.write(json.dumps({**row, "machine": dict(record)}) + "\n")


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """Make a temporary folder, in ``parent`` if given, and remove it and all that is in it afterwards."""
    with tempfile.TemporaryDirectory(prefix="arraystore-benchmark-", dir=parent) as name:
        yield Path(name)


def numbers(text: str) -> list[int]:
    """Return numbers that are separated by commas, for a command's options."""
    return [int(part) for part in text.split(",")]


def check_free(folder: Path, needed_bytes: int) -> None:
    """Stop before anything is written if the volume of ``folder`` is too small, with a tenth to spare."""
    volume = os.statvfs(folder)
    needed, free = needed_bytes * 1.1 / 1e9, volume.f_bavail * volume.f_frsize / 1e9
    if needed > free:
        raise SystemExit(
            f"{folder}: {needed:.1f} GB are needed, {free:.1f} GB are free: pass --scratch with a folder on a larger "
            "volume, or smaller counts"
        )


def check_memory(needed_bytes: int) -> None:
    """Stop if that much memory is not there."""
    available = available_memory_bytes()
    if available is not None and needed_bytes * 1.1 > available:
        raise SystemExit(
            f"{needed_bytes * 1.1 / 1e9:.1f} GB of memory are needed, {available / 1e9:.1f} GB are free: "
            "pass smaller counts"
        )


def photos(folder: Path) -> list[str]:
    """Return the grey and colour JPEGs under a folder, sorted: what every case can decode."""
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    usable = [path for path in found if read_header(Path(path).read_bytes()).components in (1, 3)]
    if not usable:
        raise SystemExit(f"{folder}: there are no JPEGs under this folder")
    if len(usable) < len(found):
        print(f"{len(found) - len(usable):,} CMYK files left out: not every case can decode them")
    return usable


def stretch(paths: Sequence[str], count: int) -> list[str]:
    """Repeat a short list, whole, to at least ``count``; take ``count`` evenly spaced ones of a long list.

    A build has a fixed cost of some milliseconds (manifest, samples table): it must not weigh in the rate.
    """
    if len(paths) >= count:
        return [paths[i * len(paths) // count] for i in range(count)]
    return [*paths] * -(-count // len(paths))


@contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """Set how many threads OpenCV uses inside each of its calls."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
