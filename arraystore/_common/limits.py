"""The processors, memory and disk space that this process may use; a container's limits are counted in.

And the errors of a volume that is full: of bytes, of files, or by somebody's quota.
"""

import errno
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from arraystore._common.checks import parse_bytes
from arraystore.errors import SpaceError

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_FULL_VOLUME = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def usable_cpus() -> int:
    """Return the number of processors that this process may keep busy, by its affinity and a container's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for group in _groups("cpu"):
        quota = _read(group / "cpu.max").split()
        quota = quota or [_read(group / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        if len(quota) == 2 and quota[0].isdecimal() and quota[1].isdecimal():
            cpus = min(cpus, -(-int(quota[0]) // max(int(quota[1]), 1)))
    return max(cpus, 1)


def available_memory_bytes() -> int | None:
    """Return the bytes of memory that can be taken without swapping, or None where the system does not say."""
    kibibytes = _field(_PROC / "meminfo", "MemAvailable:")
    left = [kibibytes * 1024] if kibibytes else []
    for group in _groups("memory"):
        for limit, used, cache in _MEMORY_FILES:
            most, taken = _number(group / limit), _number(group / used)
            if most is not None and taken is not None:
                # A group is charged for the cache of its files too, and the system gives inactive cache back first.
                left.append(max(most - max(taken - _field(group / "memory.stat", cache), 0), 0))
    return min(left, default=None)


def memory_for_images(wanted: float | str | None, taken_bytes: int = 0) -> float:
    """Return the bytes that images may take while they are decoded: those wanted, or half of the free memory.

    Args:
        wanted: bytes, or a text (`parse_bytes`); None for half of what is free.
        taken_bytes: free memory that is spoken for.

    Raises:
        SpecError: ``wanted`` is no number of bytes.
    """
    if wanted is not None:
        return parse_bytes(wanted)
    available = available_memory_bytes()
    return math.inf if available is None else max(available - taken_bytes, 0) / 2


def free_disk_bytes(folder: Path) -> int:
    """Return the bytes that an ordinary user can still write on the volume of ``folder``."""
    return shutil.disk_usage(folder).free


# The limit, the usage, and the field of memory.stat with inactive cache: of version 2 and of version 1, where only
# fields called total include the groups inside.
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of every control group whose limits hold for this process, outermost first.

    Version 2 has one tree; version 1 has one for each controller, such as ``memory`` or ``cpu,cpuacct``. Inside a
    container the root of the tree is often the container's own group. The stated path is the host's, and may not exist.
    """
    yield _CGROUP
    yield _CGROUP / controller
    for line in _read(_PROC / "self" / "cgroup").splitlines():
        _, _, told = line.partition(":")
        controllers, _, path = told.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        group = _CGROUP / controllers
        for part in path.split("/"):
            if part == "..":  # the group lies outside the visible tree
                break
            group /= part
            yield group


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _field(path: Path, name: str) -> int:
    pairs = (line.split() for line in _read(path).splitlines())
    return next((int(pair[1]) for pair in pairs if len(pair) >= 2 and pair[0] == name and pair[1].isdecimal()), 0)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def disk_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def is_full(error: OSError) -> bool:
    """Return whether an error of the system says that a volume takes no more."""
    return not isinstance(error, SpaceError) and error.errno in _FULL_VOLUME


def check_space(folder: Path, needed: int, what: str = "the store needs") -> None:
    """Check that the volume of a folder has so many bytes free; ``what`` says what for.

    Raises:
        SpaceError: it has not.
    """
    if free_disk_bytes(folder) < needed:
        raise too_small(folder, needed, what=what)


def too_small(folder: Path, needed: int, cause: OSError | None = None, *, what: str = "the store needs") -> SpaceError:
    """Return the error of a volume that has no room for the store.

    Args:
        folder: where the store shall be.
        needed: bytes that the store takes.
        cause: what the system said, if it has refused a write.
        what: begins the message.
    """
    free = free_disk_bytes(folder)
    message = _full_beside_bytes(folder, cause) if free >= needed else None
    return SpaceError(
        message
        or f"{what} {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free on the volume of {folder}: "
        "free some space, choose another volume, or a smaller size",
        needed_bytes=needed,
        free_bytes=free,
    )


def filled_up(folder: Path, needed: int, kept: Path, cause: OSError) -> SpaceError:
    """Return the error of a volume that filled up during a build, whose work is ``kept``; the rest as `too_small`."""
    free = free_disk_bytes(folder)
    message = (
        f"the volume of {folder} filled up, {free / 1e9:.2f} GB are free: what is done is kept in {kept}; free some "
        "space, and the same call continues from there"
    )
    full = _full_beside_bytes(folder, cause) if free >= needed else None
    if full:
        message = f"{full}. What is done is kept in {kept}, and the same call continues from there"
    return SpaceError(message, needed_bytes=needed, free_bytes=free)


def took_no_more(folder: Path, written: int, cause: OSError) -> SpaceError:
    """Return the error of a volume that filled up while files were written, none of which is kept.

    Args:
        folder: on the volume.
        written: the bytes that it had taken.
        cause: what the system said.
    """
    free = free_disk_bytes(folder)
    message = (
        f"the volume of {folder} filled up after {written / 1e9:.2f} GB, {free / 1e9:.2f} GB are free: free some "
        "space, or choose another volume"
    )
    full = _full_beside_bytes(folder, cause) if free > written else None
    return SpaceError(full or message, needed_bytes=written, free_bytes=free)


def _full_beside_bytes(folder: Path, cause: OSError | None) -> str | None:
    """Return what a volume with enough free bytes lacks, with advice; None if that is not known."""
    volume = os.statvfs(folder)
    if volume.f_files and not volume.f_favail:
        return (
            f"the volume of {folder} has no room for another file, though bytes are free (it is out of inodes): "
            "delete some files there, or choose another volume"
        )
    if cause is None:
        return None
    return (
        f"the volume of {folder} refuses to take more, though bytes are free ({cause.strerror}): "
        "ask for a larger quota or file size limit, or choose another volume"
    )
