"""Patterns of paths, and text files of paths."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from arraystore import Manifest, ManifestError
from tests.support.images import jpeg, photo
from tests.support.photo_folder import built, photo_folder

JPEG = jpeg(photo(9, 9))


def test_a_glob_gives_the_images_that_it_means_in_order(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos")
    (tmp_path / "photos/ant/notes.txt").write_text("")
    found = Manifest.of(f"{tmp_path}/photos/**/*")
    assert list(found.sources) == [f"{name}/{i}" for name in ("ant", "bee", "cat") for i in ("0.jpg", "1.jpg", "2.png")]
    assert (found.root, dict(found.left_out), dict(found.targets)) == (f"{tmp_path}/photos", {".txt": 1}, {})
    assert found.notes == ("a pattern of paths gives no labels: pass labels, or the folder of class folders",)
    assert len(built(f"{tmp_path}/photos/*/*.jpg", labels=range(6))) == 6


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{0..2}.jpg", ["0.jpg", "1.jpg", "2.jpg"]),
        ("{08..11}.jpg", ["08.jpg", "09.jpg", "10.jpg", "11.jpg"]),
        ("{b,a}{0..1}.jpg", ["b0.jpg", "b1.jpg", "a0.jpg", "a1.jpg"]),
        ("[ab]?.jpg", ["a0.jpg", "a1.jpg", "b0.jpg", "b1.jpg"]),
    ],
)
def test_braces_and_signs_mean_files(tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(JPEG)
    assert list(Manifest.of(f"{tmp_path}/{pattern}").sources) == names


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1]").mkdir()
    (tmp_path / "a[1]/x.jpg").write_bytes(JPEG)
    (tmp_path / "a1").mkdir()
    assert Manifest.of(f"{tmp_path}/a[1]").root == f"{tmp_path}/a[1]"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*.jpg", "no file is like this pattern"),
        ("*.txt", "none of the files of this pattern is an image"),
        ("{3..1}.jpg", "counts backwards: write the smaller number first"),
        ("{0..99999999}.jpg", "means more than 1,000,000 files"),
        ("{0..9999}{0..9999}.jpg", "means more than 1,000,000 files"),
    ],
)
def test_a_pattern_that_means_nothing_or_too_much_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(ManifestError, match=re.escape(message)):
        Manifest.of(f"{tmp_path}/{pattern}")


def test_a_missing_file_of_a_counted_pattern_is_a_bad_image(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(JPEG)
    store = built(f"{tmp_path}/{{0..1}}.jpg", bad="keep")
    assert [(bad.slot, bad.reason) for bad in store.bad()] == [(1, "cannot be read: No such file or directory")]


@pytest.mark.parametrize(
    ("text", "paths", "labels"),
    [
        ("a.jpg\nb c.jpg\n\n", ["a.jpg", "b c.jpg"], None),
        ("a.jpg 3\nb c.jpg 1\n", ["a.jpg", "b c.jpg"], [3, 1]),
        ("a.jpg\tdog\r\nb c\tcat", ["a.jpg", "b c"], [1, 0]),
        ("\ufeffa.jpg cat\nb.jpg dog", ["a.jpg", "b.jpg"], [0, 1]),
    ],
)
def test_lines_are_paths_with_or_without_a_label(
    tmp_path: Path, text: str, paths: list[str], labels: list[int] | None
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    if paths[-1] == "b.jpg cat":  # which is no image, so the line has no label
        with pytest.raises(
            ManifestError, match="line 1 has a label behind its path, line 2 has none; put a tab before"
        ):
            Manifest.of(path)
        return
    found = Manifest.of(path)
    assert (list(found.sources), found.root, found.origin) == (paths, str(tmp_path), str(path))
    assert (found.targets["labels"].tolist() if labels else None) == labels
    assert Manifest.of(path, labels=[8, 9]).targets["labels"].tolist() == [8, 9]


def test_ids_get_their_suffix_and_labels_behind_a_space(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("n01/x_1 0\nn02/x 2 1\n")
    found = Manifest.of(path, suffix=".JPEG", root=tmp_path)
    assert list(found.sources) == ["n01/x_1.JPEG", "n02/x 2.JPEG"]
    assert (found.targets["labels"].tolist(), found.origin) == ([0, 1], str(path))
    assert found.source_options == {"root": str(tmp_path), "suffix": ".JPEG"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_lists_of_windows_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("é.jpg\r\nb.jpg\r\n".encode(encoding))
    assert list(Manifest.of(path).sources) == ["é.jpg", "b.jpg"]


def test_names_that_are_not_utf8_are_the_files_own_bytes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xe9.jpg\n")
    assert Manifest.of(tmp_path / "list.txt").load(0) == f"{tmp_path}/\udce9.jpg"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n \n", "has no lines"),
        (b"a.jpg cat\nb.jpg cat dog", "line 1 has a label behind its path, line 2 has none; put a tab before each"),
        (b"x" * 70_000, "line 1 is too long for a path: is this a list of paths?"),
        (b"a.jpg\nb\0.jpg\n", "row 1 (counted from 0): the path holds a NUL character, which no file name has"),
        (b"\xff\xfea\0\xd8", "the list of paths cannot be read"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    with pytest.raises(ManifestError, match=re.escape(message)):
        Manifest.of(path)


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=re.escape(f"{tmp_path}/x.txt: there is no such list of paths")):
        Manifest.of(tmp_path / "x.txt")


@pytest.mark.parametrize("suffix", [".tar", ".zip", ".parquet"])
def test_a_folder_of_archives_is_told_how_to_pass_them(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / f"data/x{suffix}").write_bytes(b"x")
    with pytest.raises(ManifestError, match=re.escape(f"if these hold the images, pass {tmp_path}/**/*{suffix}")):
        Manifest.of(tmp_path)
