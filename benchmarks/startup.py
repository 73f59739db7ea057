"""What does a new process pay?

`import arraystore` in a fresh interpreter, beside a bare one and `import numpy`; which heavy modules it loads (none);
and a whole build of a few small images, from the start of the process to its end, by the function and by the command:
with the compiled kernels in numba's cache, and with an empty cache, as after an installation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import Timing, machine, machine_line, print_table, scratch_folder, spread, write_json

HEAVY = (
    "torch",
    "keras",
    "tensorflow",
    "jax",
    "pandas",
    "matplotlib",
    "h5py",
    "pyarrow",
    "cv2",
    "numba",
    "PIL",
    "rich",
)
IMAGES = 10
TARGET = "TARGET"  # in a command: a new name each time
LOADED = f"import sys, arraystore; print(*(name for name in {HEAVY!r} if name in sys.modules))"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7, help="processes of each kind")
    parser.add_argument("--cold", action="store_true", help="leave out the round before, which is not timed")
    parser.add_argument("--first-runs", type=int, default=3, help="processes that begin with an empty cache of numba")
    parser.add_argument("--json", type=Path, help="append the figures to this file, as lines of JSON")
    options = parser.parse_args()
    record = machine("warm page cache, byte code compiled")
    print(machine_line(record))
    with scratch_folder(None) as scratch:
        # As after an installation, and whoever runs this may have switched byte code off or keep it elsewhere.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(scratch / "bytecode")
        loaded = python("-c", LOADED).split()
        print(f"of {', '.join(HEAVY)}, `import arraystore` loads: {', '.join(loaded) or 'none'}")
        timings = time_processes(scratch, options.runs, options.first_runs, warm=not options.cold)
    write_json(options.json, report(timings, loaded), record)


def python(*arguments: str, **variables: str) -> str:
    """Run a fresh interpreter, and return what it printed."""
    environment = {**os.environ, **variables}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - Python
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def time_processes(scratch: Path, runs: int, first_runs: int, *, warm: bool) -> dict[str, Timing]:
    """Run every kind of process in turn, if that is wanted after one of each that is not timed."""
    photos = scratch / "photos"
    photos.mkdir()
    rng = np.random.default_rng(1)
    for i in range(IMAGES):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        assert cv2.imwrite(str(photos / f"{i}.jpg"), cv2.resize(coarse, (500, 375)))
    build = f"import arraystore; arraystore.build({str(photos)!r}, size=256, progress=False)"
    command = ("-m", "arraystore", "build")
    processes: dict[str, tuple[str, ...]] = {
        "python, nothing imported": ("-c", ""),
        "import numpy": ("-c", "import numpy"),
        "import arraystore": ("-c", "import arraystore"),
        "arraystore --version": ("-m", "arraystore", "--version"),
        f"build {IMAGES} images into RAM": ("-c", build),
        f"arraystore build, {IMAGES} images": (*command, str(photos), TARGET, "--size", "256", "-q"),
    }
    timings: dict[str, Timing] = {}
    for turn in range(0 if warm else 1, runs + 1):
        for name, arguments in processes.items():
            target = str(scratch / f"{turn}.store")
            taken = run([target if part == TARGET else part for part in arguments])
            if turn:
                timings.setdefault(name, Timing()).wall_s.append(taken)
    for turn in range(first_runs):
        cache = str(scratch / f"numba-{turn}")
        timings.setdefault("the same build, numba's cache empty", Timing()).wall_s.append(
            run(["-c", build], NUMBA_CACHE_DIR=cache)
        )
        timings.setdefault("and again, with what that left", Timing()).wall_s.append(
            run(["-c", build], NUMBA_CACHE_DIR=cache)
        )
    return timings


def run(arguments: list[str], **variables: str) -> float:
    """Return the seconds from the start of a fresh interpreter to its end."""
    start = time.perf_counter()
    python(*arguments, **variables)
    return time.perf_counter() - start


def report(timings: dict[str, Timing], loaded: list[str]) -> list[dict[str, Any]]:
    """Print the medians, and return them."""
    rows, records = [], []
    bare = statistics.median(timings["import numpy"].wall_s)
    for name, timing in timings.items():
        median = statistics.median(timing.wall_s)
        milliseconds = [seconds * 1000 for seconds in timing.wall_s]
        more = f"{(median - bare) * 1000:+,.0f}"
        rows.append([name, f"{median * 1000:,.0f}", spread(milliseconds), more, str(len(timing.wall_s))])
        records.append({"benchmark": "startup", "case": name, "median_s": median, "wall_s": timing.wall_s})
    header = ["a whole process", "median ms", "min-max", "more than numpy", "runs"]
    print_table("Fresh processes, from start to end", header, rows)
    records.append({"benchmark": "startup", "case": "modules loaded", "modules": loaded})
    return records


if __name__ == "__main__":
    main()
