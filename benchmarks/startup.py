"""What does a new process pay?

`import arraystore` in a fresh interpreter, beside a bare one and `import numpy`; and a whole build of a few small
images, from the start of the process to its end, by the function and by the command: with the compiled kernels in
numba's cache, and with an empty cache, as after an installation.
"""

from __future__ import annotations

import os
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator
from functools import partial

from benchmarks.common import Row, Rows, Table, middle, take_turns
from benchmarks.places import remove_all, scratch_folder, small_jpegs
from benchmarks.processes import python

ESTIMATE_S = 40
OPTIONS = {"rounds": (5, 1, "timed processes of each kind"), "first_rounds": (2, 1, "those with an empty cache")}
IMAGES = 10
IMPORT, COMMAND = "import arraystore", f"arraystore build, {IMAGES} images"
RAM, EMPTY = f"build {IMAGES} images into RAM", "the same build, numba's cache empty"


def measure(options: Namespace) -> Iterator[Row]:
    """Run every kind of process in turn."""
    with scratch_folder(options.scratch) as scratch:
        # The caller may have switched byte code off, which users do not.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        photos, stores = scratch / "photos", scratch / "stores"
        photos.mkdir()
        stores.mkdir()
        for number, data in enumerate(small_jpegs(IMAGES, 500, 375)):
            (photos / f"{number}.jpg").write_bytes(data)
        build = f"import arraystore; arraystore.build({str(photos)!r}, size=256, progress=False)"
        command = ("-m", "arraystore", "build", str(photos), str(stores / "x.store"), "--size", "256", "-q")
        cases = {
            "python, nothing imported": partial(python, "-c", ""),
            "import numpy": partial(python, "-c", "import numpy"),
            IMPORT: partial(python, "-c", "import arraystore"),
            RAM: partial(python, "-c", build),
            COMMAND: partial(python, *command),
        }
        seconds = take_turns(cases, options.rounds, after=partial(remove_all, stores))
        for turn in range(options.first_rounds):
            start = time.perf_counter()
            python("-c", build, NUMBA_CACHE_DIR=str(scratch / f"numba-{turn}"))
            seconds.setdefault(EMPTY, []).append(time.perf_counter() - start)
    for name, wall_s in seconds.items():
        yield {"case": name, "wall_s": wall_s}


def tables(rows: Rows) -> dict[str, Table]:
    """Fresh processes."""
    table = [["a whole process", "ms", "least–most"]]
    table += [[row["case"], *middle([seconds * 1000 for seconds in row["wall_s"]])] for row in rows]
    return {"processes": table}


def figures(rows: Rows) -> dict[str, str]:
    """Importing, the command, and what the first build of a machine takes more."""
    empty, filled = (statistics.median(rows.one(case=case)["wall_s"]) for case in (EMPTY, RAM))
    return {
        "import_s": middle(rows.one(case=IMPORT)["wall_s"], 2)[0],
        "command_s": middle(rows.one(case=COMMAND)["wall_s"], 1)[0],
        "images": str(IMAGES),
        "compile_s": f"{empty - filled:.1f}",
    }
