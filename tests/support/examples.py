"""The examples that train: photos whose classes can be told apart, and whether what an example prints says so."""

from __future__ import annotations

import io
import re
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from support import images

FOLDER = Path(__file__).resolve().parents[2] / "examples"
EPOCHS = 4


def write_tinted(folder: Path) -> Path:
    """Write two classes of 60 photos: one has more red, one more blue, by less than two photos of a class differ."""
    for name, tint in (("red", (45, 0, -45)), ("blue", (-45, 0, 45))):
        (folder / name).mkdir()
        for seed in range(60):
            pixels = images.photo(40, 48, seed=seed).astype(int) + tint
            (folder / name / f"{seed:02}.jpg").write_bytes(images.jpeg(pixels.clip(0, 255).astype(np.uint8)))
    return folder


def assert_learns(printed: str, pattern: str) -> None:
    """Assert that the losses fall and that the accuracy is high: the two groups of a pattern, once an epoch."""
    losses, accuracies = zip(*(map(float, found) for found in re.findall(pattern, printed)), strict=True)
    assert len(losses) == EPOCHS
    assert losses[-1] < 0.8 * losses[0], printed
    assert accuracies[-1] >= 0.8, printed


def assert_learns_here(script: str, pattern: str) -> None:
    """Run an example in this process, which has imported its framework: that takes longer than the training."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        arguments = [str(write_tinted(Path(folder))), "--epochs", str(EPOCHS)]
        patch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(FOLDER / script), run_name="__main__")
    assert_learns(out.getvalue(), pattern)
