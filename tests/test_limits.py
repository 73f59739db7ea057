from __future__ import annotations

import os
from pathlib import Path

import pytest

from arraystore import limits


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of both /proc and the control group; empty at first."""
    original = limits._read
    monkeypatch.setattr(limits, "_CGROUP", tmp_path)
    monkeypatch.setattr(
        limits, "_read", lambda path: original(tmp_path / path.name if path.is_relative_to("/proc") else path)
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        (None, 8),
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),
        ("0 0\n", 1),
        ("", 8),
        ("garbage", 8),
        ("\xff\xff", 8),
    ],
)
def test_processors_are_the_affinity_or_the_quota(system: Path, quota: str | None, expected: int) -> None:
    if quota is not None:
        (system / "cpu.max").write_text(quota)
    assert limits.usable_cpus() == expected


MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\nBuffers: 1 kB\n"


@pytest.mark.parametrize(
    ("meminfo", "limit", "used", "expected"),
    [
        (None, None, None, None),
        (MEMINFO, None, None, 8_192_000_000),
        (MEMINFO, "max\n", "5\n", 8_192_000_000),
        (MEMINFO, "1000\n", "400\n", 600),
        (MEMINFO, "1000\n", "4000\n", 0),
        (MEMINFO, "99999999999999\n", "0\n", 8_192_000_000),
        (None, "1000\n", "400\n", 600),
        (MEMINFO, "1000\n", None, 8_192_000_000),
    ],
)
def test_memory_is_what_the_system_or_the_container_leaves(
    system: Path, meminfo: str | None, limit: str | None, used: str | None, expected: int | None
) -> None:
    for name, text in (("meminfo", meminfo), ("memory.max", limit), ("memory.current", used)):
        if text is not None:
            (system / name).write_text(text)
    assert limits.available_memory_bytes() == expected


def test_this_machine_has_processors_memory_and_disk(tmp_path: Path) -> None:
    assert 1 <= limits.usable_cpus() <= (os.cpu_count() or 1)
    memory = limits.available_memory_bytes()
    assert memory is None or memory > 1_000_000
    assert limits.free_disk_bytes(tmp_path) > 0
