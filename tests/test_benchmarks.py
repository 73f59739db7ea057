"""Each benchmark runs as a plain script on tiny input, so that none rots; no timing is asserted."""

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
    assert cv2.imwrite(str(folder / "grey.jpg"), rng.integers(0, 256, (50, 40), np.uint8))
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


def test_build(tmp_path: Path, photos: Path) -> None:
    few = ("--size", "16", "--runs", "1", "--images", "70", "--large-images", "1", "--threads", "1,2")
    text, lines = run(tmp_path, "build.py", str(photos), "--large", str(photos), *few)
    builds = only(lines, "build")
    assert len(builds) == 2 * 7
    assert {line["threads"] for line in builds} == {1, 2}
    assert all(line["images"] == 72 and line["photos"] == 4 and len(line["wall_s"]) == 1 for line in builds)
    assert all(line["images_per_s"] > 0 and line["arraystore_is_times_as_fast"] > 0 for line in builds)
    assert {line["case"] for line in only(lines, "scaling")} == {"floor", "arraystore RAM"}
    assert {line["case"] for line in only(lines, "build large")} == {
        "arraystore RAM",
        "arraystore RAM, exact=True",
        "cv2 INTER_AREA loop",
    }
    (apart,) = only(lines, "default against exact")
    assert sorted(apart["mean_absolute"]) == ["a.jpg", "b.JPEG", "c.jpg", "grey.jpg"]
    assert len(only(lines, "parts")) == 1
    for said in ("floor", "Pillow BILINEAR loop", "times the floor's time", "warm page cache", "exact=True"):
        assert said in text


def test_augment(tmp_path: Path) -> None:
    text, lines = run(tmp_path, "augment.py", "--size", "32", "--batch", "3", "--threads", "1,2", "--runs", "1")
    assert len(lines) == 2 * 12
    assert all(line["images_per_s"] > 0 and line["of_a_copy"] > 0 for line in lines)
    against_pillow = [line for line in lines if line["times_as_fast_as_pillow"] is not None]
    assert {line["batch"] for line in against_pillow} == {"resized crop, flip", "resized crop, flip of NHWC"}
    assert "2 threads, medians of 1 rounds" in text


def test_parts(tmp_path: Path, photos: Path) -> None:
    text, (line,) = run(tmp_path, "parts.py", str(photos), "--size", "16", "--runs", "1")
    steps = [
        "read",
        "hash of the source",
        "header",
        "decode",
        "resample",
        "split into planes",
        "channel sums",
        "checksum",
    ]
    assert list(line["median_s"]) == steps
    assert list(line["mean_s"])[: len(steps)] == steps
    assert len(line["mean_s"]) == len(steps) + 2
    assert line["build_s"] > 0
    assert "fixed cost" in text


def test_memory(tmp_path: Path) -> None:
    text, lines = run(tmp_path, "memory.py", "--counts", "50,100", "--ram-count", "60", "--size", "16")
    stores = [(line["medium"], line["images"]) for line in lines]
    assert stores == [("RAM", 60), (".npy", 50), (".npy", 100), (".h5", 50), (".h5", 100)]
    assert all(line["array_bytes"] == line["images"] * 3 * 16 * 16 for line in lines)
    assert all(line["peak_anonymous_bytes"] >= line["array_bytes"] for line in lines)
    assert all(line["peak_file_bytes"] > 0 and line["samples"] > 1 for line in lines)
    assert "another image adds" in text


def test_startup(tmp_path: Path) -> None:
    text, lines = run(tmp_path, "startup.py", "--runs", "1", "--first-runs", "1")
    *timed, modules = lines
    assert [line["case"] for line in timed][:3] == ["python, nothing imported", "import numpy", "import arraystore"]
    assert all(line["median_s"] > 0 for line in timed)
    assert modules["modules"] == []
    assert "numba's cache empty" in text


def test_scan(tmp_path: Path) -> None:
    text, lines = run(tmp_path, "scan.py", "--count", "60", "--classes", "7", "--runs", "1")
    assert [line["case"] for line in lines] == ["os.walk", "Manifest.from_folder"]
    assert all(line["files"] == 60 and line["classes"] == 7 and len(line["rounds"]) == 1 for line in lines)
    assert all(line["rounds"][0]["peak"] >= line["rounds"][0]["before"] for line in lines)
    assert "60 files in 7 folders" in text


def test_plan(tmp_path: Path, photos: Path) -> None:
    few = ("--images", "30", "--sizes", "16,24", "--workers", "1,2", "--sample", "5", "--runs", "2")
    text, lines = run(tmp_path, "plan.py", str(photos), *few)
    assert [(line["size"], line["workers"]) for line in lines] == [(16, 1), (16, 2), (24, 1), (24, 2)]
    assert all(line["images"] == 32 and len(line["ratios"]) == len(line["build_s"]) == 2 for line in lines)
    assert all(min(line["ratios"]) > 0 for line in lines)
    assert "32 images, 5 sampled" in text


@pytest.mark.parametrize("cold", [[], ["--cold"]], ids=["warm", "cold"])
def test_verify(tmp_path: Path, cold: list[str]) -> None:
    text, lines = run(tmp_path, "verify.py", "--sizes", "16", "4", "--megabytes", "1", "--runs", "1", *cold)
    assert [line["size"] for line in lines] == [16] * (len(lines) // 2) + [4] * (len(lines) // 2)
    assert {"plain read", "verify, 1 thread"} <= {line["case"] for line in lines}
    assert all(line["slots"] == 1_000_000 // (3 * line["size"] ** 2) and line["gb_per_s"][0] > 0 for line in lines)
    assert all(line["cold"] is bool(cold) for line in lines)
    assert "times a plain read" in text


def test_a_folder_without_photos_is_said(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "build.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}: there are no JPEGs under this folder\n"


def test_crash_safety(tmp_path: Path, photos: Path) -> None:
    text, lines = run(tmp_path, "crash_safety.py", str(photos), "--size", "16", "--runs", "1", "--images", "40")
    assert [line["case"] for line in lines] == ["safe, as it is", "one claim at the end", "no fsync at all"]
    assert all(line["images"] == 40 and len(line["wall_s"]) == 1 for line in lines)
    assert lines[0]["safe_takes_times"] == [1.0]
    assert "the safe one takes" in text


def test_resume(tmp_path: Path) -> None:
    text, lines = run(tmp_path, "resume.py", "--counts", "20,40", "--runs", "2")
    assert [line["slots"] for line in lines] == [20, 40]
    assert all(len(line["decide_s"]) == 2 and min(line["decide_s"]) > 0 for line in lines)
    assert "nothing left to fill" in text


TINY = ("--count", "40", "--size", "16", "--batch", "16", "--rounds", "1", "--threads", "2")


def test_read_whole_slots(tmp_path: Path) -> None:
    text, lines = run(tmp_path, "read.py", "--only", "warm,cold", *TINY)
    cases = [(line["section"], line["case"]) for line in lines]
    assert cases[:4] == [("warm", "arraystore"), ("warm", "memcpy")] + [
        ("warm", f"{name}, 1 thread") for name in ("np.take", "images[slots]")
    ]
    assert cases[-5:-1] == [
        ("cold", name) for name in ("arraystore", "read 1 MiB", "read 64 MiB", "images[slots], 1 thread")
    ]
    for line in lines:
        if "missing" in line:
            assert line["missing"].endswith(" is not installed")
            assert line["missing"] in text
        else:
            assert line["images_per_s"] > 0
            assert line["bytes_per_image"] == 3 * 16 * 16
            assert len(line["wall_s"]) == len(line["rounds_times_reference"]) == 1
            assert line["case"] != line["reference"] or line["times_reference"] == 1
    assert "in the page cache" in text


def test_read_the_rest(tmp_path: Path) -> None:
    counts = ("--small-count", "3000", "--opening-count", "5000")
    text, lines = run(tmp_path, "read.py", "--only", "augment,small,opening,memory", *TINY, *counts)
    assert {line["case"]: line["bytes_per_image"] for line in lines if line["section"] == "augment"} == {
        "arraystore: crop, flip": 3 * 14 * 14,
        "memcpy of that": 3 * 14 * 14,
        "arraystore: resized crop": 3 * 14 * 14,
        "Pillow: resized crop, 1 thread": 3 * 14 * 14,
        "Pillow: resized crop, 2 threads": 3 * 14 * 14,
        "arraystore: float32": 4 * 3 * 14 * 14,
        "memcpy of floats": 4 * 3 * 14 * 14,
    }
    assert [(line["case"], line["batch"]) for line in lines if line["section"] == "small"] == [
        (f"{name}, batch {batch}", batch) for batch in (256, 1024) for name in ("arraystore", "memcpy", "np.take")
    ]
    (opened,) = (line for line in lines if line["section"] == "opening")
    assert opened["count"] == 5000
    assert opened["median_s"] > 0
    (held,) = (line for line in lines if line["section"] == "memory")
    assert len(held["anonymous_bytes"]) == len(held["buffers"]) == 100
    assert held["buffers"][0] >= 1
    assert "more than after the import" in text


def test_read_refuses_a_section_that_does_not_exist(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "read.py"), "--only", "warm,lukewarm"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no section 'lukewarm': there are warm, cold, augment, small, opening, memory" in done.stderr
