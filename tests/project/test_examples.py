"""The examples: each runs in a process of its own, on a folder of photos whose classes can be told apart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import images

ROOT = Path(__file__).resolve().parents[2]
STRICT = {"PYTHONWARNINGS": "error"}
FIGURES = {
    "train_numpy.py": (r"loss ([\d.e-]+), accuracy ([\d.e-]+)", STRICT),
    "train_jax.py": (
        r"loss ([\d.e-]+), accuracy ([\d.e-]+)",
        {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu", **STRICT},
    ),
    "train_keras.py": (
        r" loss: ([\d.e-]+) - val_accuracy: ([\d.e-]+)",
        {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"},
    ),
}


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 60 photos: one has more red, one more blue, by less than two photos of a class differ."""
    folder = tmp_path_factory.mktemp("tinted")
    for name, tint in (("red", (45, 0, -45)), ("blue", (-45, 0, 45))):
        (folder / name).mkdir()
        for seed in range(60):
            pixels = images.photo(40, 48, seed=seed).astype(int) + tint
            (folder / name / f"{seed:02}.jpg").write_bytes(images.jpeg(pixels.clip(0, 255).astype(np.uint8)))
    return folder


def test_the_pipeline_reads_all_images_in_three_ways(tinted: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "pipeline.py"), str(tinted / "red"), "--workers", "1"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | STRICT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line.split(" in ")[0] for line in lines[-3:]] == [
        "one by one: 120 images",
        "threads: 120 images",
        "processes: 120 images",
    ]
    assert lines[2].startswith(".map(load) ")


@pytest.mark.timeout(600)  # importing a framework takes minutes on a busy machine
@pytest.mark.parametrize("script", FIGURES)
def test_the_example_learns(tinted: Path, script: str) -> None:
    pattern, settings = FIGURES[script]
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), str(tinted), "--epochs", "4"],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    losses, accuracies = zip(*(map(float, found) for found in re.findall(pattern, result.stdout)), strict=True)
    assert len(losses) == 4
    assert losses[-1] < 0.8 * losses[0], result.stdout
    assert accuracies[-1] >= 0.8, result.stdout
