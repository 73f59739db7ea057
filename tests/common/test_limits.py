from __future__ import annotations

import os
from pathlib import Path

import pytest

from arraystore import SpecError
from arraystore._common import checks, limits


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of both /proc and /sys/fs/cgroup; empty at first."""
    monkeypatch.setattr(limits, "_CGROUP", tmp_path)
    monkeypatch.setattr(limits, "_PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


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


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # Version 2: the group that /proc tells, one around it, and one that is not ours.
        ({"self/cgroup": "0::/a/b\n", "a/b/cpu.max": "300000 100000\n"}, 3),
        ({"self/cgroup": "0::/a/b\n", "a/cpu.max": "200000 100000", "a/b/cpu.max": "300000 100000"}, 2),
        ({"self/cgroup": "0::/a/b\n", "a/cpu.max": "max 100000", "a/b/cpu.max": "max 100000"}, 8),
        ({"self/cgroup": "0::/a/b\n", "a/c/cpu.max": "100000 100000", "b/cpu.max": "100000 100000"}, 8),
        ({"self/cgroup": "0::/with space/größe\n", "with space/größe/cpu.max": "300000 100000"}, 3),
        # A path as the host sees it, in a container that sees its own group as the root.
        ({"self/cgroup": "0::/docker/0123\n", "cpu.max": "500000 100000"}, 5),
        ({"self/cgroup": "0::/a/../b\n", "a/x": "", "b/cpu.max": "100000 100000"}, 8),
        # Version 1, also with two controllers in one tree, and beside version 2.
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "250000\n"}, 8),
        (
            {
                "self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/\n",
                "cpu,cpuacct/a:b/cpu.cfs_quota_us": "100000",
                "cpu,cpuacct/a:b/cpu.cfs_period_us": "50000",
                "memory/m/cpu.cfs_quota_us": "1",
                "memory/m/cpu.cfs_period_us": "1",
            },
            2,
        ),
        ({"self/cgroup": "garbage\n\n::\n", "cpu.max": "600000 100000"}, 6),
    ],
)
def test_processors_of_nested_groups_of_both_versions(system: Path, files: dict[str, str], expected: int) -> None:
    write(system, files)
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


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # Version 2.
        ({"self/cgroup": "0::/a\n", "a/memory.max": "1000", "a/memory.current": "300"}, 700),
        (
            {
                "self/cgroup": "0::/a/b\n",
                "a/memory.max": "1000",
                "a/memory.current": "700",
                "a/b/memory.max": "900",
                "a/b/memory.current": "300",
            },
            300,
        ),
        # What was only read counts as free, as it does in MemAvailable; never more than the limit.
        (
            {"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 100\nfile 800\ninactive_file 600\n"},
            700,
        ),
        ({"memory.max": "1000", "memory.current": "90", "memory.stat": "inactive_file 600\n"}, 1000),
        ({"memory.max": "1000", "memory.current": "900", "memory.stat": "inactive_file\nodd\ninactive_file x\n"}, 100),
        # Version 1, whose counters of the whole group are called total.
        ({"memory/memory.limit_in_bytes": "5000\n", "memory/memory.usage_in_bytes": "1000\n"}, 4000),
        (
            {
                "self/cgroup": "9:name=systemd:/x\n4:memory:/docker/0123\n0::/\n",
                "memory/docker/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/docker/memory.usage_in_bytes": "77\n",
                "memory/docker/0123/memory.limit_in_bytes": "5000\n",
                "memory/docker/0123/memory.usage_in_bytes": "4000\n",
                "memory/docker/0123/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
            },
            1500,
        ),
        (
            {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "1\n"},
            8_192_000_000,
        ),
    ],
)
def test_memory_of_nested_groups_of_both_versions(system: Path, files: dict[str, str], expected: int) -> None:
    write(system, {"meminfo": MEMINFO, **files})
    assert limits.available_memory_bytes() == expected


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_that_cannot_be(workers: int) -> None:
    with pytest.raises(SpecError, match=f"^workers must be at least 1, not {workers}$"):
        checks.check_workers(workers)
    checks.check_workers(None)
    checks.check_workers(1)


def test_this_machine_has_processors_memory_and_disk(tmp_path: Path) -> None:
    assert 1 <= limits.usable_cpus() <= (os.cpu_count() or 1)
    memory = limits.available_memory_bytes()
    assert memory is None or memory > 1_000_000
    assert limits.free_disk_bytes(tmp_path) > 0
