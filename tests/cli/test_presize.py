"""The commands presize and time, as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from support import images
from support.command import one_line, run, usage_error

import arraystore
from arraystore import SpecError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = images.write_tree(tmp_path / "photos", {"ash": 3, "oak": 2})
    (folder / "notes.txt").write_text("mine")
    return folder


def sides(tree: Path) -> set[int]:
    found = set()
    for path in tree.rglob("*.jpg"):
        with Image.open(path) as image:
            found.add(min(image.size))
    return found


def test_two_trees_of_one_decode_and_a_table_of_times(photos: Path, tmp_path: Path) -> None:
    target = f"{tmp_path}/small-{{size}}"
    result = run("presize", photos, target, "--shorter", "16", "--shorter", "24")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path}/small-16: 5 images, ")
    assert lines[1].startswith(f"{tmp_path}/small-24: 5 images, ")
    assert lines[2].startswith("5 made now, 1 file passed through, 0 unchanged; ")
    assert lines[3] == "1 other file was left out: 1 .txt"
    assert lines[4].split() == ["images", "on", "disk", "ms", "an", "image", "img/s", "a", "core"]
    assert [line.split()[:2] for line in lines[5:]] == [
        [str(photos), "5"],
        [f"{tmp_path}/small-16", "5"],
        [f"{tmp_path}/small-24", "5"],
    ]
    assert (sides(tmp_path / "small-16"), sides(tmp_path / "small-24")) == ({16}, {17, 24})  # never enlarged
    result = run("presize", photos, target, "--shorter", "16", "--shorter", "24")
    assert result.stdout.splitlines()[2].startswith("0 made now, 5 unchanged; ")
    assert len(result.stdout.splitlines()) == 4
    assert run("presize", photos, target, "--shorter", "16", "--shorter", "24", "-q").stdout == ""


def test_every_option_reaches_the_images(photos: Path, tmp_path: Path) -> None:
    options = "--size 20x30 --fit crop --filter lanczos --format png --exact --workers 1 --time 0"
    result = run("presize", photos, tmp_path / "s", *options.split())
    assert (result.returncode, result.stderr) == (0, "")
    arraystore.presize(
        photos, tmp_path / "p", size=(20, 30), fit="crop", filter="lanczos", format="png", exact=True, progress=False
    )
    paths = sorted((tmp_path / "p").rglob("*.png"))
    assert len(paths) == 5
    for path in paths:
        assert path.read_bytes() == (tmp_path / "s" / path.relative_to(tmp_path / "p")).read_bytes()
    options = "--longer 20 --quality 50 --subsampling 444 --background #102030 --icc srgb --processes --time 0"
    assert run("presize", photos, tmp_path / "j", *options.split()).returncode == 0
    arraystore.presize(photos, tmp_path / "k", longer=20, quality=50, subsampling="444", background=(16, 32, 48),
                       icc="srgb", progress=False)  # fmt: skip
    for path in sorted((tmp_path / "k").rglob("*.jpg")):
        assert path.read_bytes() == (tmp_path / "j" / path.relative_to(tmp_path / "k")).read_bytes()


def test_boxes_stale_files_and_bad_images_are_told(photos: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "x.json"
    boxes.write_text(json.dumps({"images": [{"id": 1, "file_name": "ash/img_000.jpg"}], "odd": [1]}))
    words = ("presize", photos, tmp_path / "s", "--shorter", "16", "--boxes", boxes, "--time", "0")
    assert "if it has none, pass --unscaled odd;" in one_line(run(*words))
    words = (*words, "--unscaled", "odd")
    assert "1 file of annotations written, scaled: area, bbox" in run(*words).stdout
    (photos / "ash" / "img_001.jpg").unlink()
    (photos / "oak" / "img_001.jpg").write_bytes(b"no")
    result = run(*words)
    assert result.returncode == 1
    assert "1 of 4 images could not be made smaller: --bad keep leaves them out" in result.stderr
    result = run(*words, "--bad", "keep")
    assert result.returncode == 0
    assert "1 file whose sources are gone (--prune deletes them):\n  " in result.stderr
    assert "1 bad image left out:\n  slot 3  oak/img_001.jpg: " in result.stderr
    assert "1 file of sources that are gone deleted" in run(*words, "--bad", "keep", "--prune").stdout


def test_masks_have_a_tree_of_their_own(photos: Path, tmp_path: Path) -> None:
    for path in photos.rglob("img*"):
        mask = tmp_path / "m" / path.relative_to(photos).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            Image.new("L", image.size, 3).save(mask)
    result = run("presize", photos, tmp_path / "s", "--shorter", "16", "--masks", tmp_path / "m", "--time", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1].split()[0] == f"{tmp_path}/s/images"


def test_wrong_words(photos: Path, tmp_path: Path) -> None:
    assert "it takes exactly one; pass --shorter 256" in one_line(run("presize", photos, tmp_path / "s"), 2)
    assert "has no {size}" in one_line(run("presize", photos, tmp_path / "s", "--shorter", "4", "--shorter", "5"), 2)
    assert "'x' is not a size" in usage_error(run("presize", photos, tmp_path / "s", "--size", "x"))
    assert "'#12' is not a color" in usage_error(
        run("presize", photos, tmp_path / "s", "--shorter", "4", "--background", "#12")
    )
    run("presize", photos, tmp_path / "s", "--shorter", "16", "-q")
    message = one_line(run("presize", photos, tmp_path / "s", "--shorter", "17"))
    assert message.endswith("choose another target, or make them again with --fresh\n")
    assert run("presize", photos, tmp_path / "s", "--shorter", "17", "--fresh", "-q").returncode == 0


def test_times_of_folders_and_stores(photos: Path, tmp_path: Path) -> None:
    arraystore.build(photos, tmp_path / "x.store", size=8, progress=False).close()
    arraystore.build(photos, tmp_path / "x.h5", size=8, progress=False).close()
    result = run("time", photos, tmp_path / "x.store", tmp_path / "x.h5", "--count", "3", "--rounds", "2")
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[:2] for row in rows] == [[str(photos), "5"], [f"{tmp_path}/x.store", "5"], [f"{tmp_path}/x.h5", "5"]]
    assert all(float(row[4]) > 0 and float(row[5].replace(",", "")) > 0 for row in rows)
    assert "there is no such file or folder" in one_line(run("time", tmp_path / "nowhere"))


def test_load_times_in_python(photos: Path) -> None:
    (photos / "ash" / "bad.jpg").write_bytes(b"no")
    (found,) = arraystore.load_times(photos, count=10)
    assert (found.path, found.count, found.timed) == (photos, 6, 5)
    assert found.bytes == sum(path.stat().st_size for path in photos.rglob("*.*g"))
    assert found.milliseconds > 0
    with pytest.raises(SpecError, match="count must be a whole number of 1 or more, not 0"):
        arraystore.load_times(photos, count=0)
    for path in photos.rglob("*.*g"):
        path.write_bytes(b"no")
    with pytest.raises(arraystore.ManifestError, match="no image in it can be loaded"):
        arraystore.load_times(photos)
    assert arraystore.load_times() == ()
