"""The command export, as people type it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import images
from support.command import one_line, run, usage_error
from support.exported import files_in

import arraystore


@pytest.fixture
def store(tmp_path: Path) -> Path:
    photos = images.write_tree(tmp_path / "photos", {"oak": 3, "ash": 2})
    (photos / "oak" / "img_001.jpg").write_bytes(b"no image")
    arraystore.build(photos, tmp_path / "x.store", size=16, bad="keep", classes=["oak", "ash"], progress=False).close()
    return tmp_path / "x.store"


def test_a_folder_with_what_is_to_be_said_of_it(store: Path, tmp_path: Path) -> None:
    result = run("export", store, tmp_path / "f")
    assert result.returncode == 0
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/f: 4 images, in 4 files, ")
    assert second.endswith(" img/s")
    lines = result.stderr.splitlines()
    assert lines[0].startswith("note: readers of class folders number the classes by their names")
    assert lines[1] == "1 slot without an image left out:"
    assert lines[2].startswith("  slot 3  oak/img_001.jpg: ")
    assert len(files_in(tmp_path / "f")) == 5
    assert run("export", store, tmp_path / "g", "-q").stdout == ""


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x.tar"])
def test_the_suffix_says_the_form(store: Path, tmp_path: Path, name: str) -> None:
    result = run("export", store, tmp_path / name)
    assert result.stdout.startswith(f"{tmp_path}/{name}: 4 images, in 1 file, ")
    arraystore.export(store, tmp_path / f"y{name}", progress=False)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"y{name}").read_bytes()


def test_every_option_reaches_the_export(store: Path, tmp_path: Path) -> None:
    options = "--form tar --quality 30 --subsampling 444 --max-bytes 4kB --workers 1 --bad drop"
    assert run("export", store, tmp_path / "a", *options.split()).returncode == 0
    arraystore.export(
        store, tmp_path / "b", "tar", quality=30, subsampling="444", max_bytes=4000, workers=1, progress=False
    )
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b")
    assert len(files_in(tmp_path / "a")) > 2
    assert run("export", store, tmp_path / "c.tar", "--format", "png").returncode == 0
    arraystore.export(store, tmp_path / "d.tar", format="png", progress=False)
    assert (tmp_path / "c.tar").read_bytes() == (tmp_path / "d.tar").read_bytes()


def test_errors_are_one_line_in_the_words_of_the_command(store: Path, tmp_path: Path) -> None:
    words = ("export", store, tmp_path / "f")
    result = run(*words, "--bad", "raise")
    assert result.returncode == 1
    assert "1 of 5 slots have no image: --bad drop leaves them out" in result.stderr
    run(*words, "-q")
    assert "choose another target, or replace it with --overwrite" in one_line(run(*words))
    assert run(*words, "--overwrite", "-q").returncode == 0
    assert "leave out --max-bytes" in one_line(run("export", store, tmp_path / "x.tar", "--max-bytes", "1MB"), 2)
    assert "or pass --form tar" in one_line(run("export", store, tmp_path / "x.tar", "--form", "arrow"), 2)
    assert "there is no store at" in one_line(run("export", tmp_path / "nowhere", tmp_path / "g"))
    assert "--quality" in usage_error(run("export", store, tmp_path / "g", "--quality", "0"))
    assert "--form" in usage_error(run("export", store, tmp_path / "g", "--form", "zip"))
