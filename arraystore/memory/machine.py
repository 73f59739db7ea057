"""Facts about the machine: a figure without them can neither be compared nor repeated."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from arraystore._common.limits import available_memory_bytes, usable_cpus
from arraystore._common.wording import readable
from arraystore._version import __version__

__all__ = ["file_system", "machine_facts"]

_PACKAGES = ("numpy", "opencv-python-headless", "opencv-python", "h5py")


def machine_facts() -> dict[str, str]:
    """Return facts about this machine, name → text: cores, processor, memory, system, Python, and packages."""
    usable, cores = usable_cpus(), os.cpu_count() or 1
    available = available_memory_bytes()
    memory = readable(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    facts = {
        "cores": f"{cores:,}" + (f", of which {usable:,} may be used" if usable < cores else ""),
        "cpu": _model() or platform.processor() or platform.machine(),
        "memory": memory if available is None else f"{memory}, {readable(available)} available",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "arraystore": __version__,
    }
    for name in _PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def file_system(folder: Path) -> str:
    """Return the kind of file system that a folder lies on, such as ``"ext4"``; "" if it is not known."""
    place, kind, depth = folder.resolve(), "", 0
    for line in _read("/proc/self/mounts").splitlines():
        _, mounted, mounted_kind, *_ = line.split()
        # Blanks in a name are written as octal numbers.
        top = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), mounted))
        if place.is_relative_to(top) and len(top.parts) >= depth:  # of two at one place, the later one hides the other
            kind, depth = mounted_kind, len(top.parts)
    return kind


def _model() -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
