"""The real command, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "arraystore"]


def environment(**extra: str) -> dict[str, str]:
    # What a test run sets for itself must not decide what the command prints: some runners force color.
    loud = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "NO_COLOR", "ARRAYSTORE_DEBUG", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if name not in loud}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | extra


def run(
    *arguments: object, cwd: Path | None = None, extra: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**(extra or {})),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=400,
        check=False,
    )


def usage_error(result: subprocess.CompletedProcess[str]) -> str:
    """Return what a usage error says, without the box round it."""
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("Usage: arraystore")
    assert "Traceback" not in result.stderr
    assert not result.stdout
    return " ".join(re.sub("[\u2500-\u257f]", " ", result.stderr).split())


def one_line(result: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """Return the one line that an error is."""
    assert result.returncode == code, result.stderr
    assert result.stderr.startswith("arraystore: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.endswith("\n")
    assert not result.stdout
    return result.stderr


def alive(group: int) -> list[int]:
    """Return the processes of a group that run; those that wait to be reaped do not."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name may hold spaces and brackets, so fields are counted from its last bracket: state, parent, group.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = 400) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {limit_s} s in vain until {what}"
        time.sleep(0.05)
