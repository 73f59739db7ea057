"""Short processes that use pyarrow end with exit code 0: none of its threads may touch Python while Python ends.

Many processes at once keep the machine busy, because the fault that this looks for is a race.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import images
from support.command import COMMAND, environment

import arraystore

PYTHON = [sys.executable, "-c"]
MANIFEST = "import sys, arraystore; assert len(arraystore.Manifest.of(sys.argv[1])) == 500"
SAMPLES = "import sys, arraystore; assert arraystore.open(sys.argv[1]).samples.num_rows == 8"
VERIFY = "import sys, arraystore; assert arraystore.verify(sys.argv[1], progress=False).ok"
COMMANDS = {
    "samples": [*PYTHON, SAMPLES, "x.store"],
    "verify": [*PYTHON, VERIFY, "x.store"],
    "info": [*COMMAND, "info", "x.store", "--json"],
    "csv": [*PYTHON, MANIFEST, "list.csv"],
    "jsonl": [*PYTHON, MANIFEST, "list.jsonl"],
    "parquet": [*PYTHON, MANIFEST, "list.parquet"],
}
AT_ONCE = 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exits")
    photos = images.write_tree(folder / "photos", {"ash": 5, "oak": 3})
    arraystore.build(photos, folder / "x.store", size=16, progress=False).close()
    file = next(path for path in sorted(photos.rglob("*.*")))
    rows = [{"path": str(file), "label": f"class {row % 7}", "box": [row, 2.5]} for row in range(500)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "list.parquet")
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "list.csv").write_text("path,label\n" + "".join(f'"{row["path"]}",{row["label"]}\n' for row in rows))
    return folder


def exits(command: Sequence[str], folder: Path, count: int) -> Counter[tuple[int, str]]:
    def once(_number: int) -> tuple[int, str]:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(pool.map(once, range(count)))


@pytest.mark.parametrize("name", COMMANDS)
def test_two_processes_end_with_0(folder: Path, name: str) -> None:
    assert exits(COMMANDS[name], folder, 2) == {(0, ""): 2}


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COMMANDS)
def test_300_processes_end_with_0(folder: Path, name: str) -> None:
    assert exits(COMMANDS[name], folder, 300) == {(0, ""): 300}
