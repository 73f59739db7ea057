"""The real command, in a process of its own."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from arraystore import cli
from support.nursery import Nursery

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "arraystore"]


# What a test run sets for itself must not decide what the command prints: some runners force color.
_LOUD = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "NO_COLOR", "ARRAYSTORE_DEBUG", "COLUMNS")


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _LOUD}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"} | extra


def run(
    *arguments: object,
    cwd: Path | None = None,
    home: Path | None = None,
    extra: Mapping[str, str] | None = None,
    workers_path: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command and return what it printed.

    Its process is a fork of one that has loaded the package, which saves two seconds each time. With ``extra``
    variables it is a new interpreter, because many are read when modules are loaded; that of the home folder is not.
    With ``workers_path``, its worker processes are forks too, which run the sitecustomize of this path.
    """
    words = [*map(str, arguments)]
    if extra:
        return subprocess.run(
            [*COMMAND, *words],
            cwd=cwd,
            env=environment(**extra),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=400,
            check=False,
        )
    with tempfile.TemporaryDirectory() as folder:
        places = cwd or Path.cwd(), home or Path.home(), Path(folder)
        code = _nursery().run(_command, words, *places, processes=workers_path or "")
        return printed(words, code, Path(folder))


def printed(words: list[str], code: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Return what a fork has printed that began with `print_to`."""
    texts = [Path(folder, name).read_text(errors="surrogateescape") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(words, code, *texts)


def print_to(folder: Path) -> None:
    """Let what this process prints go to files of a folder."""
    for number, name in enumerate(("stdout", "stderr"), start=1):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)


@cache
def _nursery() -> Nursery:
    nursery = Nursery("env", *(f"--unset={name}" for name in _LOUD), modules=["arraystore.cli"])
    atexit.register(nursery.close)
    return nursery


def _command(words: list[str], cwd: Path, home: Path, folder: Path, *, processes: str) -> int:
    if processes:
        os.environ["PYTHONPATH"] = processes
    print_to(folder)
    os.chdir(cwd)
    os.environ["HOME"] = str(home)
    warnings.simplefilter("error")
    sys.argv = ["arraystore", *words]
    with pytest.raises(SystemExit) as end:
        cli.main()
    sys.stdout.flush()
    sys.stderr.flush()
    assert isinstance(end.value.code, int)
    return end.value.code


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
