"""Runs benchmarks, each in a process of its own, and keeps what they said.

What a benchmark prints goes to the terminal and to a log, its lines of JSON to a temporary name that becomes
``NAME.jsonl`` when all its calls have succeeded: what lies under that name is always whole. Each has a temporary folder
of its own, which is removed however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from arraystore._decoding.header import read_header
from arraystore._sources.demo_photos import write_sample
from benchmarks.common import machine, write_json
from benchmarks.common import photos as photos_of
from benchmarks.results import SUITE
from benchmarks.suite import FOLDER, Benchmark

GRACE_S = 10.0
LAST_LINES = 12
BLOCK_BYTES = 1 << 16
TOGETHER = 2
LONGEST_PATH = 58
MADE, MADE_LARGE, LARGE_SIZE = 200, 4, (4000, 3000)


@dataclass(frozen=True)
class Outcome:
    """How a benchmark ended.

    Attributes:
        name: of the benchmark.
        seconds: that it took.
        failure: what went wrong, with the last lines of its log; "" where nothing did.
        left: the names of what it left in its temporary folder, which has been removed.
    """

    name: str
    seconds: float
    failure: str = ""
    left: tuple[str, ...] = ()


class Session:
    """A run of several benchmarks, on the same photographs.

    Args:
        out: gets results and logs.
        scratch: an empty folder for all else.
        photos: a folder of JPEGs; None has some made.
        large: a folder of camera photos; None likewise.
        quick: whether the calls are tiny.

    Raises:
        SystemExit: the path of ``scratch`` is too long.
    """

    def __init__(self, out: Path, scratch: Path, photos: Path | None, large: Path | None, *, quick: bool) -> None:
        # Workers of a DataLoader send batches through sockets in the temporary folder, whose paths have 107 bytes at
        # most: with longer ones they say nothing and wait for ever.
        if len(os.fsencode(scratch)) > LONGEST_PATH:
            raise SystemExit(
                f"{scratch}: this path is too long; pass --scratch with one of {LONGEST_PATH - 20} bytes at most"
            )
        self._quick = quick
        self._running: set[subprocess.Popen[bytes]] = set()
        self._folders = {
            "photos": (photos or make_photos(scratch / "photos")).resolve(),
            "large": (large or make_large(scratch / "large")).resolve(),
            "out": out.resolve(),
            "scratch": scratch,
        }
        # In words, for the documents; folders are this machine's business.
        self._described = {
            "photos": described(self._folders["photos"], made=photos is None),
            "large": described(self._folders["large"], made=large is None),
        }

    def run_all(self, benchmarks: Sequence[Benchmark], extra: Sequence[str] = ()) -> list[Outcome]:
        """Run benchmarks one after the other; those that are quick, and time nothing, two at once."""
        with ThreadPoolExecutor(TOGETHER if self._quick else 1) as pool:
            futures = [pool.submit(self.run, benchmark, extra) for benchmark in benchmarks]
            try:
                return [future.result() for future in futures]
            except BaseException:  # Ctrl-C, which only this thread is told
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self._running):
                    end(process, GRACE_S)
                raise

    def run(self, benchmark: Benchmark, extra: Sequence[str] = ()) -> Outcome:
        """Run all calls of a benchmark, and keep its results if they have succeeded.

        Args:
            benchmark: which.
            extra: more arguments for each call.
        """
        out = self._folders["out"]
        log, results = out / "logs" / f"{benchmark.name}.txt", out / f"{benchmark.name}.jsonl"
        fresh = results.with_suffix(".jsonl.partial")
        log.parent.mkdir(parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        start = time.perf_counter()
        failure = ""
        with log.open("wb") as file, own_folder(self._folders["scratch"] / benchmark.name) as own:
            for variables, arguments in benchmark.commands(self._folders, quick=self._quick):
                left_s = benchmark.limit_s - (time.perf_counter() - start)
                command = [sys.executable, *arguments, *extra, "--json", str(fresh)]
                failure = self._call(command, {**variables, "TMPDIR": str(own)}, file, left_s)
                if failure:
                    break
            left = tuple(sorted(path.name for path in own.iterdir()))
        seconds = time.perf_counter() - start
        if not failure and not fresh.exists():
            failure = "it succeeded, and wrote no results"
        if failure:
            said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            return Outcome(benchmark.name, seconds, "\n".join([f"{failure}; the end of {log}:", *said]), left)
        fresh.replace(results)
        return Outcome(benchmark.name, seconds, left=left)

    def _call(self, command: Sequence[str], variables: Mapping[str, str], log: BinaryIO, limit_s: float) -> str:
        """Run a command in a session of its own, show and log what it says, and return what went wrong.

        However this is left, no process of that session lives on.
        """
        path = os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **variables}
        late = threading.Event()
        process = subprocess.Popen(  # noqa: S603 - our own scripts
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        self._running.add(process)

        def end_late() -> None:
            late.set()
            end(process, 0)

        timer = threading.Timer(max(limit_s, 0), end_late)
        timer.daemon = True
        assert process.stdout is not None
        with process.stdout:
            try:
                timer.start()
                while block := os.read(process.stdout.fileno(), BLOCK_BYTES):
                    log.write(block)
                    sys.stdout.buffer.write(block)
                    sys.stdout.flush()
                process.wait()
            finally:
                timer.cancel()
                end(process, GRACE_S)
                self._running.discard(process)
        log.flush()
        if late.is_set():
            return "it was ended, because it took longer than it may"
        return "" if process.returncode == 0 else f"it failed with exit code {process.returncode}"

    def keep_times(self, outcomes: Sequence[Outcome]) -> None:
        """Write how long each benchmark took, in the place of what was written before."""
        path = self._folders["out"] / f"{SUITE}.jsonl"
        path.unlink(missing_ok=True)
        lines = [
            {"benchmark": SUITE, "name": outcome.name, "wall_s": outcome.seconds, **self._described}
            for outcome in outcomes
        ]
        write_json(path, lines, machine("page cache warm, but where it says cold", self._folders["scratch"]))


def make_photos(folder: Path) -> Path:
    """Make photographs of the usual sizes."""
    write_sample(folder, count=MADE)
    return folder


def make_large(folder: Path) -> Path:
    """Make photographs of a camera's size: enlarged ones, with some noise, for they would be too easy to decode."""
    write_sample(folder, count=MADE_LARGE)
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.jpg")):
        image = cv2.resize(cv2.imread(str(path), cv2.IMREAD_COLOR), LARGE_SIZE, interpolation=cv2.INTER_CUBIC)
        noise = rng.integers(-4, 5, image.shape, np.int16)
        assert cv2.imwrite(str(path), np.clip(image + noise, 0, 255).astype(np.uint8))
    return folder


def described(folder: Path, *, made: bool) -> str:
    """Return in words which photographs there are in a folder."""
    paths = [Path(path) for path in photos_of(folder)]
    headers = [read_header(path.read_bytes()) for path in paths]
    width, height = (
        round(statistics.median(sides)) for sides in zip(*((h.width, h.height) for h in headers), strict=True)
    )
    kilobytes = statistics.median(path.stat().st_size for path in paths) / 1000
    kind = "made photographs" if made else "photographs"
    return f"{len(paths):,} {kind} (median {width:,}×{height:,} pixels, {kilobytes:,.0f} kB)"


@contextlib.contextmanager
def own_folder(folder: Path) -> Iterator[Path]:
    """Make a folder, and remove it and all that is in it afterwards."""
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a process and all of its session: first by what Ctrl-C sends, after a while by force."""
    if grace_s and process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
