"""Functions that the tests of the memory profiler have called in other processes."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from arraystore.memory import mark

MB = 10**6


def hold(megabytes: int) -> bytearray:
    mark("fill")
    held = bytearray(b"1") * (megabytes * MB)
    mark("rest")
    time.sleep(0.3)
    return held


def grow(megabytes: int) -> list[bytearray]:
    mark("grow")
    held = []
    for _ in range(megabytes):
        held.append(bytearray(b"1") * MB)
        time.sleep(0.002)
    return held


def fail() -> None:
    mark("before")
    raise ValueError("this is wrong")


def leave(code: int) -> None:
    os._exit(code)


def sleep(seconds: float) -> None:
    mark("sleep")
    time.sleep(seconds)


def be_killed() -> None:
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


def write(folder: str, megabytes: int) -> str:
    path = Path(folder) / "written"
    path.mkdir()
    (path / "file").write_bytes(b"x" * (megabytes * MB))
    (path / "hole").touch()
    os.truncate(path / "hole", 100 * MB)
    return str(path)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def have_child(megabytes: int) -> subprocess.Popen[bytes]:
    """Start a process that holds memory, and ends when this process does."""
    code = f"import sys; held = bytearray(b'1') * {megabytes * MB}; print('ready', flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def read_file(path: str) -> int:
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        found = sum(mapped[::4096])
        time.sleep(1)
        return found
