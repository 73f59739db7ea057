"""The commands that keep a store: what they print, and what they leave."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from support import images
from support.command import one_line, run, usage_error

import arraystore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return images.write_tree(tmp_path / "photos", {"ash": 5, "oak": 3})


@pytest.fixture
def target(folder: Path, tmp_path: Path) -> Path:
    arraystore.build(folder, tmp_path / "x.store", size=16, progress=False).close()
    return tmp_path / "x.store"


def damage(target: Path, slot: int) -> None:
    with (target / "images.npy").open("r+b") as pixels:
        pixels.seek(4096 + slot * 3 * 16 * 16)
        pixels.write(b"damaged")


class TestRepair:
    def test_damage_is_mended(self, target: Path) -> None:
        before = (target / "images.npy").read_bytes()
        damage(target, 3)
        result = run("repair", target)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == f"{target}: 1 slot repaired\n  slot 3  ash/img_003.jpg\n"
        assert (target / "images.npy").read_bytes() == before

    def test_a_whole_store_is_said(self, target: Path) -> None:
        result = run("repair", target)
        assert (result.returncode, result.stderr) == (0, "")
        assert re.fullmatch(
            rf"{target}: 8 slots are whole; .* kB in \d+\.\d s; there is nothing to repair\n", result.stdout
        )
        assert run("repair", target, "-q").stdout == ""

    def test_a_source_that_is_gone(self, folder: Path, target: Path) -> None:
        damage(target, 0)
        next(iter(sorted(folder.rglob("*.*")))).unlink()
        result = run("repair", target)
        assert result.returncode == 1
        assert result.stderr.startswith(
            "arraystore: 1 of 8 images could not be stored: --bad keep stores them as zeros with status 2, or mend "
        )
        assert run("repair", target, "--bad", "keep").returncode == 0
        assert run("verify", target).returncode == 0

    def test_what_pixels_cannot_mend(self, target: Path) -> None:
        np.save(target / "labels.npy", np.zeros(8, np.int64))
        message = one_line(run("repair", target))
        assert f"{target} cannot be repaired, because more than pixels is damaged: " in message

    def test_photos_that_moved(self, folder: Path, target: Path, tmp_path: Path) -> None:
        before = (target / "images.npy").read_bytes()
        damage(target, 3)
        folder.rename(tmp_path / "moved")
        assert run("repair", target).returncode == 1
        result = run("repair", target, tmp_path / "moved")
        assert (result.returncode, result.stderr) == (0, "")
        assert (target / "images.npy").read_bytes() == before
        damage(target, 3)
        message = one_line(run("repair", target, tmp_path / "nowhere"))
        assert message.endswith("nowhere is no folder: pass the folder that the sources have moved to\n")

    def test_a_file_cut_short(self, target: Path) -> None:
        before = (target / "images.npy").read_bytes()
        os.truncate(target / "images.npy", 4096 + 6 * 3 * 16 * 16)
        result = run("verify", target)
        assert result.returncode == 1
        assert result.stderr.splitlines()[0] == (
            f"arraystore: {target} is damaged: 1 fault and 2 of 8 slots; repair it with  arraystore repair {target}"
        )
        result = run("repair", target)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith(f"{target}: 2 slots repaired, and the file of pixels was made anew\n  slot 6  ")
        assert (target / "images.npy").read_bytes() == before

    def test_where_repair_would_refuse_it_is_not_advised(self, tmp_path: Path) -> None:
        arraystore.build(np.full((3, 8, 8, 3), 7, np.uint8), tmp_path / "x", size=16, progress=False).close()
        damage(tmp_path / "x", 1)
        assert run("verify", tmp_path / "x").stderr.splitlines()[0] == (
            f"arraystore: {tmp_path / 'x'} is damaged: 1 of 3 slots; its sources are not files: restore it from a "
            "copy, or build the store again"
        )


class TestUpdate:
    def test_photos_that_moved(self, folder: Path, target: Path, tmp_path: Path) -> None:
        folder.rename(tmp_path / "moved")
        result = run("update", target, tmp_path / "moved")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines()[0] == f"{target}: 8 unchanged, moved to {tmp_path / 'moved'}"
        assert run("update", target).stdout == f"{target}: 8 unchanged\n"

    def test_a_dry_run_writes_nothing(self, folder: Path, target: Path, tmp_path: Path) -> None:
        files = sorted(folder.rglob("*.*"))
        files[0].unlink()
        files[1].write_bytes(images.jpeg(images.photo(9, 9, seed=1)))
        files[2].rename(folder / "ash" / "z\n.png")
        (folder / "oak" / "new.jpg").write_bytes(images.jpeg(images.photo(9, 9, seed=2)))
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        result = run("update", target, "--dry-run")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [
            f"{target}: 1 added, 1 changed, 1 renamed, 1 removed, 5 unchanged",
            "  + oak/new.jpg",
            "  ~ ash/img_001.jpg",
            "  > ash/img_002 ü.png is now ash/z\\n.png",
            "  - ash/img_000.jpg",
        ]
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        done = run("update", target)
        assert done.stdout.startswith(result.stdout + f"{target}: 8 images of 3 x 16 x 16 (NCHW), ")
        assert run("update", target).stdout == f"{target}: 8 unchanged\n"
        assert run("verify", target).returncode == 0

    def test_options_reach_the_update(self, folder: Path, target: Path) -> None:
        next(iter(sorted(folder.rglob("*.*")))).unlink()
        (folder / "oak" / "bad.jpg").write_bytes(b"bad")
        result = run(
            "update", target, folder, "--removed", "keep", "--bad", "keep", "-q", "--processes", "--workers", 1
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        with arraystore.open(target) as store:
            assert store.status.tolist() == [1] * 8 + [2]

    def test_many_changes_are_counted(self, folder: Path, target: Path) -> None:
        for i in range(23):
            (folder / "oak" / f"z{i:02}.jpg").write_bytes(b"bad")
        lines = run("update", target, "-n").stdout.splitlines()
        assert len(lines) == 1 + 20 + 1
        assert lines[-1] == "  and 3 more"

    def test_a_store_that_names_no_source(self, folder: Path, target: Path) -> None:
        paths = sorted(folder.rglob("*.*"))
        arraystore.build(paths, target, size=16, progress=False, overwrite=True).close()
        assert one_line(run("update", target)) == (
            f"arraystore: {target} does not record what it was built from: pass the source\n"
        )


class TestMaxBad:
    @pytest.mark.parametrize(("given", "ends"), [("2", True), ("3", False), ("20%", True), ("0.9", False), ("0", True)])
    def test_it_ends_a_build_of_garbage(self, folder: Path, tmp_path: Path, given: str, ends: bool) -> None:
        for i in range(3):
            (folder / "ash" / f"0{i}.jpg").write_bytes(b"bad")
        result = run("build", folder, tmp_path / "y", "--size", 8, "--max-bad", given, "--bad", "keep", "--workers", 1)
        assert result.returncode == int(ends)
        if ends:
            assert re.match(
                r"arraystore: \d of the first \d+ images? could not be stored: that is more than "
                r"--max-bad allows; is this the right source\? The good images are kept, and a larger --max-bad "
                r"goes on from there\n"
                r"  slot ",
                result.stderr,
            )

    @pytest.mark.parametrize("given", ["x", "-1", "101%", "1.5", "nan"])
    def test_a_limit_that_is_none(self, folder: Path, tmp_path: Path, given: str) -> None:
        said = usage_error(run("build", folder, tmp_path / "y", "--size", 8, f"--max-bad={given}"))
        assert "is not a limit; give a number of images as 100, or a share as 5%" in said
