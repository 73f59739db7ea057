"""Benchmarks run as plain scripts, as a user would run them; `test_benchmark_suite.py` runs all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(7)
    for i, name in enumerate(["a.jpg", "b.JPEG", "deeper/c.jpg"]):
        coarse = rng.integers(0, 256, (6, 8 + i, 3), np.uint8)
        assert cv2.imwrite(str(folder / name), cv2.resize(coarse, (80, 60)))
    assert cv2.imwrite(str(folder / "gray.jpg"), rng.integers(0, 256, (50, 40), np.uint8))
    return folder


def run(tmp_path: Path, script: str, *arguments: str) -> tuple[str, list[dict[str, Any]]]:
    """Run a script as a user would, and return what it printed and its lines of JSON."""
    results = tmp_path / "results" / "lines.jsonl"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments, "--json", str(results)]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert not list(temporary.iterdir()), "it left files behind"
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert all(line["machine"]["versions"]["numpy"] == np.__version__ for line in lines)
    assert all({"cores", "cpu", "kernel", "python", "arraystore", "cache"} <= line["machine"].keys() for line in lines)
    return done.stdout, lines


def only(lines: list[dict[str, Any]], benchmark: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["benchmark"] == benchmark]


def test_build_of_photos_at_any_depth_gray_ones_too(tmp_path: Path, photos: Path) -> None:
    few = ("--size", "16", "--runs", "1", "--images", "70", "--large-images", "1", "--threads", "1,2")
    text, lines = run(tmp_path, "build.py", str(photos), "--large", str(photos), *few)
    builds = only(lines, "build")
    assert all(line["images"] == 72 and line["photos"] == 4 and len(line["wall_s"]) == 1 for line in builds)
    (apart,) = only(lines, "default against exact")
    assert sorted(apart["mean_absolute"]) == ["a.jpg", "b.JPEG", "c.jpg", "gray.jpg"]
    assert "4 photos, as a list of 72" in text


def test_a_folder_without_photos_is_said(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "build.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}: there are no JPEGs under this folder\n"


def test_read_refuses_a_section_that_does_not_exist(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "read.py"), "--only", "warm,lukewarm"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no section 'lukewarm': there are warm, cold, augment, small, opening, memory" in done.stderr
