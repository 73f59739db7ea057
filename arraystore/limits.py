"""What this process may use: processors, memory and disk, with a container's limits counted in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["available_memory_bytes", "free_disk_bytes", "usable_cpus"]

_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Return how many processors this process may keep busy: its affinity, and a container's quota if that is less."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit():
        cpus = min(cpus, -(-int(quota[0]) // max(int(quota[1]), 1)))
    return max(cpus, 1)


def available_memory_bytes() -> int | None:
    """Return how much memory can still be taken without swapping, or None where the system does not say."""
    available = None
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limit, used = _read(_CGROUP / "memory.max").strip(), _read(_CGROUP / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        left = max(int(limit) - int(used), 0)
        available = left if available is None else min(available, left)
    return available


def free_disk_bytes(folder: Path) -> int:
    """Return the bytes that an ordinary user can still write on the volume of ``folder``."""
    return shutil.disk_usage(folder).free


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
