"""The options of the commands that say how sources are listed, decoded and held in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from support import images
from support.command import one_line, run, usage_error
from support.faults import contents

import arraystore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return images.write_tree(tmp_path / "photos", {"ash": 4, "oak": 2})


@pytest.fixture
def table(folder: Path) -> Path:
    """A table of two splits in a folder of its own, with ids for paths and another separator."""
    place = folder.parent / "tables"
    place.mkdir()
    files = sorted(folder.rglob("*.jpg"))
    rows = [f"{path.relative_to(folder).with_suffix('')};{i % 2};{i / 2};train" for i, path in enumerate(files)]
    rows[-1] = rows[-1].replace("train", "val")
    (place / "x.csv").write_text("id;label;score;split\n" + "\n".join(rows) + "\n")
    return place / "x.csv"


FOR_TABLES = ("--root", "ROOT", "--path-column", "id", "--suffix", ".jpg", "--separator", ";")


def words(folder: Path, *more: str) -> list[str]:
    return [str(folder) if word == "ROOT" else word for word in (*FOR_TABLES, *more)]


def opened(path: Path) -> arraystore.Store:
    return arraystore.open(path)


class TestTables:
    def test_every_option_of_a_table(self, folder: Path, table: Path, tmp_path: Path) -> None:
        target = tmp_path / "x.store"
        chosen = words(folder, "--where", "split=train", "--targets", "score=number,label=category")
        result = run("build", table, target, "--size", "8", *chosen)
        assert (result.returncode, result.stderr) == (0, "")
        with opened(target) as store:
            assert store.samples["source"].to_pylist() == ["ash/img_000.jpg", "ash/img_001.jpg", "ash/img_003.jpg"]
            np.testing.assert_array_equal(store.targets["score"], [0, 0.5, 1])
            assert store.classes == ("0", "1")
            assert store.description.root == str(folder)

    def test_plan_and_update_take_them(self, folder: Path, table: Path, tmp_path: Path) -> None:
        target = tmp_path / "x.h5"
        targets = ("--targets", "label,score")
        options = words(folder, "--where", "split=train", *targets)
        result = run("plan", table, target, "--size", "8", "--json", *options)
        assert json.loads(result.stdout)["count"] == 3
        assert run("build", table, target, "--size", "8", "-q", *options).returncode == 0
        result = run("update", target, "--dry-run")
        assert (result.returncode, result.stderr) == (0, "")
        assert "3 unchanged" in result.stdout
        table.write_text(table.read_text() + "oak/img_000;1;9;train\n")
        result = run("update", target, table, "--dry-run")
        assert "1 added, 3 unchanged" in result.stdout
        assert "  + oak/img_000.jpg" in result.stdout
        result = run("update", target, table, "--dry-run", *words(folder, *targets, "--where", "split=val"))
        assert "1 added, 3 removed, 0 unchanged" in result.stdout
        assert run("update", target, "-q").returncode == 0
        with opened(target) as store:
            assert len(store) == 4

    def test_the_wrong_separator_is_said_as_it_is_typed(self, table: Path, tmp_path: Path) -> None:
        message = one_line(run("build", table, tmp_path / "x", "--size", "8"))
        assert "if that separates the cells, pass --separator ';'" in message

    def test_a_missing_column_is_said_as_it_is_typed(self, table: Path, tmp_path: Path) -> None:
        message = one_line(run("build", table, tmp_path / "x", "--size", "8", "--separator", ";"))
        assert "choose the column of paths with --path-column" in message

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            (["--where", "split"], "--where split=train"),
            (["--where", "split=dev"], "choose one of these with --where"),
            (["--targets", "score=several"], "the kinds are"),
            (["--targets", "nothing"], "there is no such column"),
            (["--separator", "ab"], "separator must be one character"),
        ],
    )
    def test_what_does_not_fit_is_one_line(
        self, folder: Path, table: Path, tmp_path: Path, options: list[str], part: str
    ) -> None:
        assert part in one_line(run("build", table, tmp_path / "x", "--size", "8", *words(folder), *options))


class TestFolders:
    def test_empty_classes(self, folder: Path, tmp_path: Path) -> None:
        (folder / "birch").mkdir()
        message = one_line(run("build", folder, tmp_path / "x", "--size", "8"))
        assert "pass --allow-empty to keep them as classes" in message
        result = run("build", folder, tmp_path / "x", "--size", "8", "--allow-empty")
        assert "labels: 3 classes: ash, birch, oak" in result.stdout

    def test_classes_by_name_and_of_a_store(self, folder: Path, tmp_path: Path) -> None:
        result = run("build", folder, tmp_path / "x", "--size", "8", "--classes", "oak, elm,ash")
        assert "labels: 3 classes: oak, elm, ash" in result.stdout
        run("build", folder / "..", tmp_path / "y", "--size", "8")
        result = run("build", folder, tmp_path / "z", "--size", "8", "--classes", tmp_path / "x")
        with opened(tmp_path / "z") as store:
            assert store.classes == ("oak", "elm", "ash")
        assert "which is not among the 1 given ones" in one_line(
            run("build", folder, tmp_path / "w", "--size", "8", "--classes", "oak")
        )

    def test_an_option_that_a_folder_lacks(self, folder: Path, tmp_path: Path) -> None:
        message = one_line(run("build", folder, tmp_path / "x", "--size", "8", "--where", "a=b"))
        assert "where has no meaning for a folder: leave out --where" in message


class TestDecoding:
    def test_levels_and_truncated_files(self, tmp_path: Path) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        small = np.arange(64, dtype=np.uint16).reshape(8, 8) * 64
        (folder / "a.png").write_bytes(images.png(small))
        whole = images.jpeg(images.photo(64, 64, seed=1))
        (folder / "b.jpg").write_bytes(whole[: len(whole) // 2])
        message = run("build", folder, tmp_path / "x", "--size", "8").stderr
        assert "arraystore: 1 of 2 images could not be stored" in message
        options = ["--size", "8", "--levels", "4095", "--truncated", "keep", "--color", "gray"]
        result = run("build", folder, tmp_path / "y", *options)
        assert result.returncode == 0, result.stderr
        assert "1 image stored with a note of the decoder:\n  slot 1  b.jpg: " in result.stderr
        with opened(tmp_path / "y") as store:
            np.testing.assert_array_equal(store.images[0, 0], np.round(small * (255 / 4095)).astype(np.uint8))
            assert (store.spec.levels, store.spec.truncated) == (4095, "keep")

    def test_plan_says_which_levels_fit(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(images.png(np.full((8, 8), 1000, np.uint16)))
        result = run("plan", tmp_path, "--size", "8")
        assert result.returncode == 0
        assert "nearly black, unless levels is 1023" in result.stdout

    def test_profiles_are_converted(self, folder: Path, tmp_path: Path) -> None:
        assert run("build", folder, tmp_path / "x", "--size", "8", "--icc", "srgb").returncode == 0
        with opened(tmp_path / "x") as store:
            assert store.spec.icc == "srgb"

    def test_memory(self, folder: Path, tmp_path: Path) -> None:
        assert run("build", folder, tmp_path / "x", "--size", "8", "--max-memory", "1GB", "-q").returncode == 0
        message = one_line(run("build", folder, tmp_path / "y", "--size", "8", "--max-memory", "much"), code=2)
        assert "a size in bytes must be a number, or a text such as '8 GB'" in message

    def test_fresh(self, folder: Path, tmp_path: Path) -> None:
        (folder / "ash" / "z.jpg").write_text("no image")
        assert run("build", folder, tmp_path / "x", "--size", "8").returncode == 1
        message = one_line(run("build", folder, tmp_path / "x", "--size", "9"))
        assert "size was (8, 8), is now (9, 9)" in message
        assert message.endswith("or discard it with --fresh\n")
        assert run("build", folder, tmp_path / "x", "--size", "9", "--fresh", "--bad", "drop").returncode == 0

    def test_reasons_are_stored_without_options_of_python(self, folder: Path, tmp_path: Path) -> None:
        result = run("build", folder, tmp_path / "x", "--size", "8", "--max-pixels", "1500", "--bad", "keep")
        assert result.returncode == 0, result.stderr
        assert "more than max_pixels = 1,500\n" in result.stderr
        assert "max_pixels=" not in result.stderr
        with opened(tmp_path / "x") as store:
            assert store.bad()
            assert all("=" not in bad.reason.replace("max_pixels = ", "") for bad in store.bad())

    @pytest.mark.parametrize("option", [("--levels", "0"), ("--icc", "cmyk"), ("--truncated", "no"), ("--fit", "x")])
    def test_values_that_cannot_be(self, folder: Path, tmp_path: Path, option: tuple[str, str]) -> None:
        assert option[0] in usage_error(run("build", folder, tmp_path / "x", "--size", "8", *option))


def test_notes_of_the_manifest_are_said_once(tmp_path: Path) -> None:
    folder = images.write_tree(tmp_path / "photos", {"1": 1, "10": 1, "2": 1})
    result = run("plan", folder, "--size", "8")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("classes are sorted as texts") == 1
    result = run("plan", folder, "--size", "8", "--json")
    assert sum("classes are sorted as texts" in note for note in json.loads(result.stdout)["notes"]) == 1
    result = run("build", folder, tmp_path / "x", "--size", "8")
    assert result.stderr.count("classes are sorted as texts") == 1


def test_a_plan_reads_each_image_of_its_sample_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    original = os.read

    def counting(descriptor: int, size: int) -> bytes:
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        data = original(descriptor, size)
        if str(folder) in path and data:
            read.append(path)
        return data

    monkeypatch.setattr(os, "read", counting)
    arraystore.plan(folder, None, size=8, workers=1, progress=False)
    # The first one is also read to load the decoders.
    assert len(read) == len(set(read)) + 1
    assert len(set(read)) == 6


class TestStores:
    """A store as the source: its path alone, and what changes it."""

    @pytest.fixture
    def store(self, folder: Path, tmp_path: Path) -> Path:
        arraystore.build(folder, tmp_path / "x.store", size=16, color="gray", layout="NHWC", progress=False).close()
        return tmp_path / "x.store"

    def test_it_is_converted_without_a_size(self, store: Path, tmp_path: Path) -> None:
        target = tmp_path / "y.h5"
        result = run("build", store, target)
        assert (result.returncode, result.stderr) == (0, "")
        assert "6 images of 16 x 16 x 1 (NHWC)" in result.stdout
        with opened(store) as one, opened(target) as two:
            np.testing.assert_array_equal(one.images, two.images)
            assert (one.spec, one.categories) == (two.spec, two.categories)
        result = run("plan", target, tmp_path / "z", "--json")
        assert json.loads(result.stdout)["count"] == 6

    def test_what_is_given_changes_and_the_rest_stays(self, store: Path, tmp_path: Path) -> None:
        assert run("build", store, tmp_path / "small", "-q", "--size", "8x4").returncode == 0
        with opened(tmp_path / "small") as small:
            assert (small.spec.size, small.spec.color, small.spec.layout) == ((8, 4), "gray", "NHWC")
        assert run("build", store, tmp_path / "turned", "-q", "--layout", "NCHW").returncode == 0
        with opened(tmp_path / "turned") as turned, opened(store) as before:
            np.testing.assert_array_equal(turned.images.transpose(0, 2, 3, 1), before.images)

    def test_anything_else_needs_a_size(self, folder: Path, table: Path, tmp_path: Path) -> None:
        for source in (folder, table, tmp_path / "nowhere", "*.jpg"):
            for command in ("plan", "build"):
                message = usage_error(run(command, source, tmp_path / "y"))
                assert "'--size'" in message
                assert "it is missing" in message
        assert not (tmp_path / "y").exists()


def test_several_sizes_are_one_build(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    result = run("build", photos, tmp_path / "p-{size}.store", "--size", "12", "--size", "10x20", "--fit", "crop")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path}/p-12.store: 19 images of 3 x 12 x 12 (NCHW), ")
    assert lines[1] == f'open it with  np.load("{tmp_path}/p-12.store/images.npy", mmap_mode="r")'
    assert lines[2].startswith(f"{tmp_path}/p-10x20.store: 19 images of 3 x 10 x 20 (NCHW), ")
    assert lines[4] == "labels: 3 classes: ash, größe 日本, oak"  # of both
    assert len(lines) == 5
    for size in ("12", "10x20"):
        name = f"p-{size}.store"
        assert run("build", photos, tmp_path / "one/p-{size}.store", "--size", size, "--fit", "crop", "-q").stdout == ""
        assert contents(tmp_path / name) == contents(tmp_path / "one" / name)


def test_sizes_that_cannot_be_built_together(photos: Path, mixed: Path, tmp_path: Path) -> None:
    message = usage_error(run("build", photos, tmp_path / "p.h5", "--size", "12", "--size", "16"))
    assert "there are 2 sizes, and" in message
    assert "so they would be one store: give" in message
    message = usage_error(run("build", photos, tmp_path / "p-{size}", "--size", "12", "--size", "12x12"))
    assert "12 comes twice" in message
    words = ("build", mixed, tmp_path / "p-{size}.h5", "--size", "12", "--size", "16")
    result = run(*words, "--bad", "drop")
    assert result.returncode == 0
    assert result.stderr.count("4 bad images left out:\n  slot 2  a/img_002 ü.png: not an image") == 1
