"""The examples: each runs in a process of its own, on a folder of photos whose classes can be told apart.

Those of PyTorch, JAX and Keras run in the processes of the tests of their adapters, which have imported the framework.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import examples

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return examples.write_tinted(tmp_path_factory.mktemp("tinted"))


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(examples.FOLDER / script), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_the_pipeline_reads_all_images_in_three_ways(tinted: Path) -> None:
    result = run("pipeline.py", str(tinted / "red"), "--workers", "1")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split(" in ")[0] for line in lines[-3:]] == [
        "one by one: 120 images",
        "threads: 120 images",
        "processes: 120 images",
    ]
    assert lines[2].startswith(".map(load) ")


def test_the_example_without_a_framework_learns(tinted: Path) -> None:
    result = run("train_numpy.py", str(tinted), "--epochs", str(examples.EPOCHS))
    assert result.returncode == 0, result.stderr
    examples.assert_learns(result.stdout, r"loss ([\d.e-]+), accuracy ([\d.e-]+)")
