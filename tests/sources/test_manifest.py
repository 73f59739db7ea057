"""What every kind of source becomes, in what order, and what is said of one that cannot be a manifest."""

from __future__ import annotations

import io
import logging
import os
import pickle
import random
import re
import socket
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

import arraystore
from arraystore._sources import identity, scan
from arraystore._sources.formats import IMAGE_SUFFIXES
from arraystore._sources.manifest import Manifest
from arraystore._sources.targets import given as targets
from arraystore.errors import BadImagesError, DecodeError, ManifestError

SUFFIXES = f"images are recognized by the suffixes {', '.join(sorted(IMAGE_SUFFIXES))}"
SOURCES = "pass a folder, a table, a list of paths or of bytes, or an array (N, H, W, 3)"
IMAGE = np.zeros((2, 2, 3), np.uint8)


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def photos(root: Path, *names: str) -> Path:
    touch(root, *names)
    for name in names:
        Image.new("RGB", (4, 4)).save(root / name)
    return root


def said(message: str, call: Callable[..., Manifest], *args: Any, **options: Any) -> ManifestError:
    with pytest.raises(ManifestError, match="^" + re.escape(message) + "$") as caught:
        call(*args, **options)
    return caught.value


# Folder trees


def test_first_level_folders_are_classes_and_images_may_lie_deeper(tmp_path: Path) -> None:
    touch(tmp_path, "dog/z.jpg", "dog/a/deep/er.png", "cat/2.JPG", "cat/10.jpeg", "Zebra/x.webp")
    found = Manifest.of(tmp_path)
    assert list(found.sources) == ["Zebra/x.webp", "cat/10.jpeg", "cat/2.JPG", "dog/a/deep/er.png", "dog/z.jpg"]
    assert found.classes == {"labels": ("Zebra", "cat", "dog")}
    assert found.targets["labels"].tolist() == [0, 1, 1, 2, 2]
    assert found.targets["labels"].dtype == np.int64
    assert found.root == str(tmp_path)
    assert found.is_paths
    assert len(found) == 5
    assert found.load(3) == str(tmp_path / "dog/a/deep/er.png")
    assert found.name(3) == "dog/a/deep/er.png"
    assert repr(found) == f"<Manifest of 5 paths under '{tmp_path}'; targets: labels>"


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.png", "notes.txt", "sub/readme.md")
    found = Manifest.from_folder(str(tmp_path))
    assert list(found.sources) == ["a.png", "b.jpg"]
    assert found.targets == {}
    assert found.classes == {}


def test_hidden_and_other_files_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/1.jpg", "a/.2.jpg", "a/.git/3.jpg", ".cache/4.jpg", "a/x.txt", "a/jpg", "a/x.jpg.part", "y.md")
    with caplog.at_level(logging.INFO, "arraystore._sources"):
        found = Manifest.from_folder(tmp_path)
    assert list(found.sources) == ["a/1.jpg"]
    assert found.classes["labels"] == ("a",)
    assert caplog.messages == [
        f"{tmp_path}: 1 image; 4 other files were left out: 1 .md, 1 .part, 1 .txt, 1 without suffix"
    ]


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_counts_in_any_case(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"a.{suffix}", f"b.{suffix.upper()}", f"c.{suffix.title()}")
    assert len(Manifest.from_folder(tmp_path)) == 3


def test_what_only_looks_like_an_image_is_no_source(tmp_path: Path) -> None:
    touch(tmp_path, "c/1.jpg", "c/folder.jpg/inner.png")
    os.mkfifo(tmp_path / "c/pipe")
    os.mkfifo(tmp_path / "c/pipe.jpg")
    (tmp_path / "c/to_pipe.jpg").symlink_to("pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "c/s.jpg"))
        assert list(Manifest.from_folder(tmp_path).sources) == ["c/1.jpg", "c/folder.jpg/inner.png"]


def test_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/deep/1.jpg", "elsewhere/one.jpg", "root/a/0.jpg")
    (tmp_path / "root/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root/a/1.jpg").symlink_to(tmp_path / "elsewhere/one.jpg")
    found = Manifest.from_folder(tmp_path / "root")
    assert list(found.sources) == ["a/0.jpg", "a/1.jpg", "b/deep/1.jpg", "b/one.jpg"]
    assert found.classes["labels"] == ("a", "b")


def test_a_link_to_nothing_is_kept_for_the_build_to_report(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg")
    (tmp_path / "a.jpg").symlink_to("not-fetched")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "x.txt").symlink_to("not-fetched")
    assert list(Manifest.from_folder(tmp_path).sources) == ["a.jpg", "b.jpg", "self.jpg"]


def test_a_loop_of_links_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "b/here").symlink_to(".")
    (tmp_path / "b/other").symlink_to("../a")
    found = Manifest.from_folder(tmp_path)
    assert list(found.sources) == ["a/1.jpg", "b/2.jpg", "b/other/1.jpg"]
    assert found.classes["labels"] == ("a", "b")
    assert caplog.messages[0] == f"{tmp_path}/a/up: links back to a folder around it; not followed"
    assert len(caplog.messages) == 4


NAMES = st.sampled_from(
    ["a", "b", "B", "a.jpg", "a-", "é", "日", "𝄞", "\uffee", "10", "9", "x y", "n\nl", "\udcff", "z"]
)
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=12)


@given(TREES, st.randoms(use_true_random=False))
def test_order_is_by_components_whatever_order_files_were_made_in(trees: list[list[str]], rng: random.Random) -> None:
    paths = sorted({os.fsencode("/".join(["class", *parts]) + "!.jpg") for parts in trees})
    digests = []
    for _ in range(2):
        rng.shuffle(paths)
        with tempfile.TemporaryDirectory() as root:
            for path in paths:
                touch(Path(root), os.fsdecode(path))
            found = Manifest.from_folder(root)
        expected = [os.fsdecode(path) for path in sorted(paths, key=lambda path: path.split(b"/"))]
        assert list(found.sources) == expected
        assert found.load(0) == f"{root}/{expected[0]}"
        digests.append(found.digest)
    assert digests[0] == digests[1]


def test_a_deep_tree_is_walked(tmp_path: Path) -> None:
    # Deeper than Python's calls may be; made and removed step by step, because the library's own helpers recurse.
    folders = [tmp_path / "/".join(["d"] * depth) for depth in range(1, 1201)]
    for folder in folders:
        folder.mkdir()
    image = folders[-1] / "x.jpg"
    image.touch()
    found = Manifest.from_folder(tmp_path)
    image.unlink()
    for folder in reversed(folders):
        folder.rmdir()
    assert list(found.sources) == ["d/" * 1200 + "x.jpg"]


def test_twenty_thousand_files_are_found_without_a_stat_each(tmp_path: Path) -> None:
    names = [f"c{i % 20:02d}/{i:06d}.jpg" for i in range(20_000)]
    touch(tmp_path, *(f"c{i:02d}/000000.jpg" for i in range(20)))
    for name in names:
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY))
    for i in range(1, 20):
        (tmp_path / f"c{i:02d}/000000.jpg").unlink()
    found = Manifest.from_folder(tmp_path)
    assert list(found.sources) == sorted(names)
    np.testing.assert_array_equal(found.targets["labels"], np.repeat(np.arange(20), 1000))
    # Nor may they be kept as objects: 14 bytes of path and 8 of offset each.
    assert found.sources.blob.nbytes + found.sources.offsets.nbytes == 20_000 * 22 + 8


def test_a_scan_calls_stat_for_links_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.jpg", "a/b/3.jpg")
    (tmp_path / "a/4.jpg").symlink_to("1.jpg")
    asked = []

    class Entry:
        def __init__(self, entry: os.DirEntry[bytes]) -> None:
            self.entry = entry
            self.name = entry.name
            self.is_symlink = entry.is_symlink

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            assert not follow_symlinks
            return self.entry.is_dir(follow_symlinks=False)

        def is_file(self, *, follow_symlinks: bool) -> bool:
            assert not follow_symlinks
            return self.entry.is_file(follow_symlinks=False)

        def stat(self) -> os.stat_result:
            asked.append(self.name)
            return self.entry.stat()

    class Entries:
        def __init__(self, path: bytes) -> None:
            self.path = path

        def __enter__(self) -> Iterator[Entry]:
            with real(self.path) as entries:
                return iter([Entry(entry) for entry in entries])

        def __exit__(self, *_: object) -> None:
            return None

    real = os.scandir
    monkeypatch.setattr(scan.os, "scandir", Entries)
    assert len(Manifest.from_folder(tmp_path)) == 4
    assert set(asked) == {b"4.jpg"}


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg")
    real = os.scandir

    def refuse(path: bytes) -> Any:
        if path.endswith(b"/a/"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(scan.os, "scandir", refuse)
    said(f"{tmp_path}/a/: the folder cannot be listed: Permission denied", Manifest.from_folder, tmp_path)


def test_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.jpg", "b.jpg", "a.jpg")
    message = (
        f"{tmp_path}: has images (such as 'b.jpg') beside class folders (such as 'cat'); move them into a class "
        "folder, or pass labels=['…'] or a list of paths"
    )
    said(message, Manifest.of, tmp_path)
    found = Manifest.of(tmp_path, labels=[3, 2, 1])
    assert list(found.sources) == ["a.jpg", "b.jpg", "cat/1.jpg"]
    assert found.targets["labels"].tolist() == [3, 2, 1]
    assert found.classes == {}


def test_class_folders_without_images_are_refused_or_kept(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/notes.txt", "d/2.jpg")
    (tmp_path / "c").mkdir()
    message = (
        f"{tmp_path}: no images in the class folders 'b', 'c'; add some, delete the folders, or pass allow_empty=True "
        f"to keep them as classes; {SUFFIXES}"
    )
    said(message, Manifest.of, tmp_path)
    found = Manifest.from_folder(tmp_path, allow_empty=True)
    assert found.classes["labels"] == ("a", "b", "c", "d")
    assert found.targets["labels"].tolist() == [0, 3]
    for i in range(12):
        (tmp_path / f"e{i:02d}").mkdir()
    with pytest.raises(ManifestError, match=r"'b', 'c', 'e00', .* 'e07' and 4 more; add some"):
        Manifest.from_folder(tmp_path)


def test_folders_that_cannot_be_sources_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x/readme.txt", "one.jpg", "one.bin")
    message = f"{tmp_path}/x: there are no images in this folder; 1 other file was left out: 1 .txt; {SUFFIXES}"
    said(message, Manifest.of, tmp_path / "x")
    gone = f"{tmp_path}/gone: there is no such file or folder: {SOURCES}"
    said(gone, Manifest.of, tmp_path / "gone")
    said(gone, Manifest.from_folder, str(tmp_path / "gone"))
    one = f"{tmp_path}/one.jpg: is one image, not a folder: pass a list, ['{tmp_path}/one.jpg']"
    said(one, Manifest.of, tmp_path / "one.jpg")
    tables = "(.csv, .tsv, .jsonl, .parquet)"
    said(f"{tmp_path}/one.bin: is neither a folder nor a table {tables}: {SOURCES}", Manifest.of, tmp_path / "one.bin")


# What lies in a folder beside sources

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
UNNAMED = ["1", "x.jpg?w=200", "x.jpg_large", "IMG.0001", "é", "a.bin", "thumb.large"]


def heads() -> dict[str, bytes]:
    image = Image.new("RGB", (4, 4))
    heads = {}
    for name in ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF", "AVIF", "JPEG2000"):
        file = io.BytesIO()
        image.save(file, name)
        heads[name] = file.getvalue()
    return heads | {"HEIC": b"\0\0\0\x18ftypheic" + bytes(20), "JXL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20)}


@pytest.mark.parametrize("form", sorted(heads()))
def test_names_that_say_nothing_are_known_by_their_first_bytes(tmp_path: Path, form: str) -> None:
    for name in UNNAMED:
        (tmp_path / name).write_bytes(heads()[form])
    found = Manifest.from_folder(tmp_path)
    assert list(found.sources) == sorted(UNNAMED)
    assert found.left_out == {}


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"BM is how this text begins, and it goes on",
        b"P1 is how this text begins",
        b"\0\0\0\x18ftypmp42" + bytes(20),
        b"\0\0\0\x18ftypcrx " + bytes(20),
        b"RIFF\0\0\0\0WAVEfmt ",
        b"%PDF-1.7",
    ],
)
def test_other_files_without_suffix_are_left_out_and_counted(tmp_path: Path, start: bytes) -> None:
    touch(tmp_path, "1.jpg")
    (tmp_path / "README").write_bytes(start)
    (tmp_path / "a.odd").write_bytes(start)
    found = Manifest.from_folder(tmp_path)
    assert list(found.sources) == ["1.jpg"]
    assert found.left_out == {"": 1, ".odd": 1}


@pytest.mark.parametrize("name", ["a.NEF", "a.dng", "a.jpg.part", "a.jpg~", "a.txt"])
def test_raw_photographs_and_copies_are_left_out_whatever_they_begin_with(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "1.jpg")
    (tmp_path / name).write_bytes(heads()["TIFF"])
    found = Manifest.from_folder(tmp_path)
    assert list(found.sources) == ["1.jpg"]
    assert found.left_out == {Path(name).suffix.lower(): 1}


def test_only_files_whose_names_say_nothing_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.jpg", "a/2.HEIC", "a/1.txt", "a/1.json", "a/x", "a/1.odd")
    opened = []

    def start_of(path: bytes, _count: int) -> bytes:
        opened.append(Path(os.fsdecode(path)).name)
        return b""

    monkeypatch.setattr(scan, "start_of", start_of)
    Manifest.from_folder(tmp_path)
    assert sorted(opened) == ["1.odd", "x"]


def test_suffixes_in_any_number_do_not_fill_memory(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "a." + "x" * 60, *(f"a.{i}z" for i in range(1200)))
    found = Manifest.from_folder(tmp_path)
    assert len(found.left_out) == 1001
    assert sum(found.left_out.values()) == 1201


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "#recycle", ".ipynb_checkpoints", "$RECYCLE.BIN", "lost+found"])
def test_folders_of_systems_are_no_classes_at_any_depth(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "cat/1.jpg", "dog/2.jpg", f"{name}/3.jpg", f"cat/{name}/4.jpg", f"cat/{name}/deep/5.jpg")
    found = Manifest.from_folder(tmp_path)
    assert list(found.sources) == ["cat/1.jpg", "dog/2.jpg"]
    assert found.classes["labels"] == ("cat", "dog")


def test_stores_and_what_builds_left_are_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos(tmp_path, "cat/1.png", "dog/2.png")
    (tmp_path / "dog/broken.jpg").write_bytes(b"junk")
    for target in ("t.store", "cat/t.store", "t.h5"):
        with pytest.raises(BadImagesError):
            arraystore.build(tmp_path, tmp_path / target, size=8, progress=False)
        assert (tmp_path / f"{target}.partial/plan.json").exists()
    (tmp_path / "new.store.partial").mkdir()
    touch(tmp_path, "new.store.partial/lock", "new.store.partial/ledger.npy")
    assert list(Manifest.of(tmp_path).sources) == ["cat/1.png", "dog/2.png", "dog/broken.jpg"]
    (tmp_path / "dog/broken.jpg").unlink()
    (tmp_path / "t.store.partial").rename(tmp_path / "old.store.partial")
    with arraystore.build(tmp_path, tmp_path / "t.store", size=8, progress=False) as store:
        assert store.classes == ("cat", "dog")
    with caplog.at_level(logging.INFO):
        assert list(Manifest.of(tmp_path).sources) == ["cat/1.png", "dog/2.png"]
    assert "t.store" in caplog.messages[-1]
    with arraystore.update(tmp_path / "t.store", progress=False) as store:
        assert len(store) == 2


def test_a_store_is_no_folder_of_images(tmp_path: Path) -> None:
    photos(tmp_path, "in/1.png")
    arraystore.build(tmp_path / "in", tmp_path / "t.store", size=8, progress=False).close()
    message = (
        f"{tmp_path}/t.store/: is a store, or an unfinished one, not a folder of images; open a store with "
        "arraystore.open, or pass the folder of its images"
    )
    said(message, Manifest.from_folder, tmp_path / "t.store")


@pytest.mark.parametrize("text", ["{}", "", '{"format": "other"}', "[]"])
def test_a_folder_with_a_store_json_of_others_is_a_class(tmp_path: Path, text: str) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/store.json").write_text(text)
    assert Manifest.from_folder(tmp_path).classes["labels"] == ("a", "b")


# Folders that were not meant as classes


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val"),
        ("train", "test", "cat"),
        ("Training", "Validation"),
        ("train2017", "val2017"),
        ("train_images", "test_images"),
        ("train",),
        ("dev", "test"),
        ("fold1", "fold2"),
    ],
)
def test_splits_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"{name}/1.jpg" for name in names))
    with pytest.raises(
        ManifestError, match="look like splits of a data set, and each would become a class; build each"
    ):
        Manifest.of(tmp_path)
    assert len(Manifest.of(tmp_path, labels=[0] * len(names))) == len(names)


@pytest.mark.parametrize("names", [("images", "masks"), ("images", "labels"), ("imgs",), ("JPEGImages", "gt")])
def test_kinds_of_files_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"{name}/1.jpg" for name in names))
    with pytest.raises(ManifestError, match="look like kinds of files, and each would become a class; build each") as e:
        Manifest.of(tmp_path)
    masks = re.search(
        r"such as (.+), with targets=\{'mask': Masks\('(.+)'\)\} if those are its masks; if", str(e.value)
    )
    assert (None if masks is None else masks.groups()) == (
        (f"{tmp_path}/{names[0]}", f"{tmp_path}/{names[1]}") if len(names) > 1 else None
    )


@pytest.mark.parametrize("names", [("train", "bus"), ("car", "trainer"), ("test tube", "beaker"), ("mask", "hat")])
def test_classes_that_only_sound_like_splits_are_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert Manifest.of(tmp_path).classes["labels"] == tuple(sorted(names))


def test_tables_of_metadata_below_the_folder_are_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "other/2.jpg")
    (tmp_path / "train/metadata.csv").write_text("file_name,label\n1.jpg,cat\n")
    message = (
        f"{tmp_path}: has a table of metadata in a folder below it, 'train/metadata.csv'; build {tmp_path}/train, or "
        "pass labels=['…'] if the table does not matter"
    )
    said(message, Manifest.of, tmp_path)
    assert Manifest.of(tmp_path / "train").classes["labels"] == ("cat",)


@pytest.mark.parametrize(
    ("names", "code", "name", "later"),
    [(("1", "10", "2"), 1, "10", "2"), (("class 9", "class 10"), 0, "class 10", "class 9")],
)
def test_an_order_that_surprises_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], code: int, name: str, later: str
) -> None:
    touch(tmp_path, *(f"{each}/1.jpg" for each in names))
    found = Manifest.of(tmp_path)
    assert found.notes == tuple(caplog.messages)
    assert f"sorted as texts, not as numbers: code {code} is {name!r}, and {later!r} has code" in found.notes[0]


def test_an_order_that_does_not_surprise_is_not_mentioned(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{each}/1.jpg" for each in ("01", "02", "10", "Zebra", "cat")))
    assert Manifest.of(tmp_path).notes == ()


# Classes that fix the codes


def test_given_classes_fix_the_codes_of_a_folder(tmp_path: Path) -> None:
    photos(tmp_path, "train/cat/1.png", "train/dog/2.png", "train/owl/3.png", "val/cat/4.png", "val/owl/5.png")
    (tmp_path / "val/empty").mkdir()
    with arraystore.build(tmp_path / "train", tmp_path / "t.store", size=8, progress=False) as store:
        by_store = Manifest.of(tmp_path / "val", classes=store)
    by_names = Manifest.of(tmp_path / "val", classes=["cat", "dog", "owl"])
    for found in (by_store, by_names):
        assert found.targets["labels"].tolist() == [0, 2]
        assert found.classes == {"labels": ("cat", "dog", "owl")}
        assert (found.origin, found.source_options) == (str(tmp_path / "val"), {"classes": ["labels"]})
    with arraystore.build(tmp_path / "val", size=8, classes=str(tmp_path / "t.store"), progress=False) as store:
        assert store.labels is not None
        assert store.labels.tolist() == [0, 2]
        assert store.classes == ("cat", "dog", "owl")
    message = "target 'labels': row 1 (counted from 0) has the class 'owl', which is not among the 2 given ones; "
    said(
        message + "add it at the end of classes, or leave its images out",
        Manifest.of,
        tmp_path / "val",
        classes=["dog", "cat"],
    )
    assert Manifest.of(tmp_path, classes=["val", "train"]).targets["labels"].tolist() == [1, 1, 1, 0, 0]


def test_given_classes_fix_the_codes_of_every_kind_of_source(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,x\nb.jpg,z\n")
    sources: list[tuple[Any, dict[str, Any]]] = [
        (tmp_path / "t.csv", {}),
        (["a.jpg", "b.jpg"], {"labels": ["x", "z"]}),
        ([b"a", b"b"], {"labels": ["x", "z"]}),
        ([IMAGE, IMAGE], {"labels": ["x", "z"]}),
        (Manifest.from_paths(["a.jpg", "b.jpg"], labels=["x", "z"]), {}),
    ]
    for source, options in sources:
        found = Manifest.of(source, classes=["z", "y", "x"], **options)
        assert found.targets["labels"].tolist() == [2, 0]
        assert found.classes == {"labels": ("z", "y", "x")}


def test_classes_that_cannot_be_are_refused() -> None:
    said("classes has 'x' twice: leave one out", Manifest.of, ["a"], labels=["x"], classes=["x", "x"])
    said(
        "classes must be a list of names or a store, not a str: pass the names as texts, classes=['cat', 'dog']",
        Manifest.of,
        ["a"],
        labels=["x"],
        classes={"labels": "x"},
    )
    none = "classes were given, but there are no labels of classes: leave out classes"
    said(none, Manifest.of, ["a"], labels=[1], classes=["x"])


def test_classes_of_a_target_that_is_not_there_are_refused() -> None:
    """A name that is spelled wrong must not leave the codes as they are."""
    given: dict[str, Any] = {"labels": ["cat", "ant"], "targets": {"tags": ["x", "y"], "score": [1.0, 2.0]}}
    known = "the targets with classes are 'labels', 'tags': name one of these, or leave out classes"
    for name in ("label", "typo", "score", 3):
        message = f"classes names {name!r}, which is no target with classes; {known}"
        said(message, Manifest.of, ["a", "b"], **given, classes={"labels": ["cat", "ant"], name: ["y", "x"]})
    made = Manifest.of(["a", "b"], **given, classes={"tags": ["y", "x"]})
    assert (made.targets["tags"].tolist(), made.classes["labels"]) == ([1, 0], ("ant", "cat"))
    none = "classes names 'tags', which is no target with classes: leave out classes"
    said(none, Manifest.of, ["a", "b"], classes={"tags": ["x"]})
    mine = "classes were given, but there are no labels of classes; the targets with classes are 'tags': "
    mine += "name one of these, or leave out classes"
    said(mine, Manifest.of, ["a", "b"], targets={"tags": ["x", "y"]}, classes=["x"])


@pytest.mark.parametrize("as_path", [False, True])
def test_a_store_may_have_classes_of_more_targets(tmp_path: Path, *, as_path: bool) -> None:
    every: dict[str, Any] = {"labels": ["a", "b", "c"], "targets": {"tags": ["x", "y", "x"]}}
    store = arraystore.build([IMAGE] * 3, tmp_path / "t.store", **every, size=8, progress=False)
    classes = str(tmp_path / "t.store") if as_path else store
    made = arraystore.build([IMAGE], labels=["c"], classes=classes, size=8, progress=False)
    assert (made.targets["labels"].tolist(), made.categories) == ([2], {"labels": ("a", "b", "c")})
    with pytest.raises(ManifestError, match="there are no labels of classes; the targets with classes are 'tags'"):
        arraystore.build([IMAGE], targets={"tags": ["y"]}, classes=classes, size=8, progress=False)


def test_options_that_a_source_lacks_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    said("where has no meaning for a folder: leave out where", Manifest.of, tmp_path, where="a=b")
    said("separator has no meaning for a list of paths: leave out separator", Manifest.of, ["a"], separator=";")
    said("root has no meaning for images in memory: leave out root", Manifest.of, [IMAGE], root=tmp_path)


def test_a_list_of_ids_has_root_and_suffix(tmp_path: Path) -> None:
    found = Manifest.of(["a", "b.jpg"], root=tmp_path, suffix=".jpg")
    assert [found.load(slot) for slot in range(2)] == [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg"]


def test_a_table_keeps_its_origin_with_the_options(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,x\nb.jpg,z\n")
    for options, recorded in (
        ({}, {}),
        ({"where": "label=x"}, {"where": {"label": "x"}}),
        ({"suffix": ".jpg"}, {"suffix": ".jpg"}),
        ({"separator": ","}, {"separator": ","}),
        ({"root": tmp_path}, {"root": str(tmp_path)}),
        ({"classes": ["x", "z"]}, {"classes": ["labels"]}),
        ({"targets": ("label",)}, {"targets": ["label"]}),
        ({"decoders": {"DCM": print, b"SI": print}}, {"decoders": [".dcm", "0x5349"]}),
    ):
        made = Manifest.of(tmp_path / "t.csv", **options)
        assert (made.origin, made.source_options) == (str(tmp_path / "t.csv"), recorded)
        assert pickle.loads(pickle.dumps(made)).source_options == recorded
    given = Manifest.of(tmp_path / "t.csv", targets={"score": [1.0, 2.0]})
    assert (given.origin, given.source_options) == (None, {"given": ["score"]})


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path, "in/a.jpg")
    (tmp_path / "t.csv").write_text("path\nin/a.jpg\n")
    assert Manifest.of("~/in").root == f"{tmp_path}/in"
    assert Manifest.of("~/t.csv").root == str(tmp_path)
    assert Manifest.of(["a.jpg"], root="~/in").root == f"{tmp_path}/in"


# Tables


def test_a_folder_with_metadata_is_the_table(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "train/2.jpg")
    (tmp_path / "metadata.csv").write_text("file_name,label\ntrain/2.jpg,x\ntrain/1.jpg,y\n")
    found = Manifest.of(tmp_path)
    assert list(found.sources) == ["train/2.jpg", "train/1.jpg"]
    assert found.root == str(tmp_path)
    assert found.load(0) == f"{tmp_path}/train/2.jpg"
    assert found.classes == {"labels": ("x", "y")}
    assert Manifest.of(tmp_path / "metadata.csv").digest == found.digest
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "train/1.jpg"}\n')
    said(
        f"{tmp_path}: has metadata.csv and metadata.jsonl: pass the path of the one that you mean",
        Manifest.of,
        tmp_path,
    )


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_metadata_without_file_name_is_not_a_manifest(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a/1.jpg")
    rows = {".csv": "path,label\na/1.jpg,7\n", ".jsonl": '{"path": "a/1.jpg", "label": 7}\n'}
    if name.endswith(".parquet"):
        parquet.write_table(pa.table({"path": ["a/1.jpg"], "label": [7]}), tmp_path / name)
    else:
        (tmp_path / name).write_text(rows[Path(name).suffix])
    assert Manifest.of(tmp_path).classes["labels"] == ("a",)
    assert Manifest.of(tmp_path / name).targets["labels"].tolist() == [7]


def test_the_paths_of_a_table_start_from_its_folder_or_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "tables/t.csv", "images/x")
    (tmp_path / "tables/t.csv").write_text("path,score\n../a.jpg,1.5\n/abs/b.jpg,2.5\n../a.jpg,3.5\n")
    monkeypatch.chdir(tmp_path)
    found = Manifest.from_table("tables/t.csv")
    assert [found.load(i) for i in range(3)] == [
        f"{tmp_path}/tables/../a.jpg",
        "/abs/b.jpg",
        f"{tmp_path}/tables/../a.jpg",
    ]
    moved = Manifest.from_table("tables/t.csv", root="images", targets=[])
    assert moved.root == str(tmp_path / "images")
    assert moved.load(0) == f"{tmp_path}/images/../a.jpg"
    assert moved.targets == {}


def test_a_table_takes_further_targets(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,score\na,1\nb,2\n")
    found = Manifest.of(path, labels=["y", "x"], targets={"mask": np.zeros((2, 4, 4), np.uint8)})
    assert list(found.targets) == ["score", "labels", "mask"]
    assert found.targets["labels"].tolist() == [1, 0]
    assert list(Manifest.of(path, targets=["score"]).targets) == ["score"]
    twice = f"{path}: 'score' comes from there and is given beside it: leave one out"
    said(twice, Manifest.of, path, targets={"score": [1, 2]})


def test_the_columns_of_a_table_must_make_names_of_files(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,../evil\na,1\n")
    with pytest.raises(ManifestError, match=re.escape("a target cannot be named '../evil', because its name becomes")):
        Manifest.of(path)


# Lists of paths and of bytes


def test_a_list_of_paths_keeps_its_order_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = ["z.jpg", Path("a/b.jpg"), "z.jpg", "/abs/c.jpg", "caf\udce9.jpg", "https://example.org/x.jpg"]
    found = Manifest.of(paths, labels=[5, 4, 5, 3, 2, 1])
    monkeypatch.chdir("/")
    assert list(found.sources) == list(map(str, paths))
    assert found.root is None
    here = f"{tmp_path}/"
    expected = [f"{here}z.jpg", f"{here}a/b.jpg", f"{here}z.jpg", "/abs/c.jpg", f"{here}caf\udce9.jpg", paths[-1]]
    assert [found.load(i) for i in range(6)] == expected
    assert found.targets["labels"].tolist() == [5, 4, 5, 3, 2, 1]
    assert found.classes == {}


def test_paths_start_where_they_did_after_other_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = Manifest.from_paths(["x.jpg", "y.jpg"], labels=["a", "b"])
    monkeypatch.chdir("/")
    assert found.with_classes(["b", "a"]).load(0) == f"{tmp_path}/x.jpg"


@pytest.mark.parametrize("kind", [tuple, list, np.array, lambda names: np.array(names, object)])
def test_every_sequence_of_paths_will_do(kind: Callable[[list[str]], Any]) -> None:
    assert list(Manifest.of(kind(["a.jpg", "b.jpg"])).sources) == ["a.jpg", "b.jpg"]
    copy = Manifest.of(["a.jpg", "b.jpg"])
    assert list(Manifest.of(copy.sources).sources) == ["a.jpg", "b.jpg"]


def test_paths_start_from_root(tmp_path: Path) -> None:
    found = Manifest.from_paths(["x.jpg"], root=tmp_path)
    assert found.root == str(tmp_path)
    assert found.load(np.int64(0)) == str(tmp_path / "x.jpg")
    gone = f"{tmp_path}/gone: root is not a folder: pass the folder that relative paths start from"
    said(gone, Manifest.from_paths, ["x.jpg"], root=tmp_path / "gone")
    assert Manifest.from_paths(["x.jpg"], root="/").load(0) == "/x.jpg"


def test_a_list_of_bytes() -> None:
    found = Manifest.of([b"one", b"two"], labels=["b", "a"])
    assert (found.load(1), found.name(1), found.root, found.is_paths) == (b"two", "bytes 1", None, False)
    assert found.targets["labels"].tolist() == [1, 0]
    assert repr(found) == "<Manifest of 2 bytes; targets: labels>"


def test_mixed_lists_are_refused_with_the_first_odd_row() -> None:
    same = "sources must all be of one kind"
    error = said(f"row 1: expected a path, found a bytes: {same}", Manifest.of, ["a.jpg", b"b", 3])
    assert error.slot == 1
    said(f"row 2: expected bytes, found a str: {same}", Manifest.of, [b"a", b"b", "c"])
    said(f"row 1: expected an array, found a str: {same}", Manifest.of, [IMAGE, "c"])
    said(f"row 0: expected an array, found a NoneType: {same}", Manifest.of, [None])


def test_paths_that_cannot_be_are_refused() -> None:
    at = "row 1 (counted from 0): the path"
    said(f"{at} is empty", Manifest.of, ["a", ""])
    said(f"{at} holds a NUL character, which no file name has", Manifest.of, ["a", "b\0"])
    with pytest.raises(ManifestError, match=re.escape(f"{at} is no file name: 'utf-8' codec can't encode")):
        Manifest.of(["a", "\ud800"])


def test_what_is_not_a_list_is_refused_with_what_to_pass() -> None:
    said("paths must have a row for each image, but is one str: pass a list", Manifest.from_paths, "a.jpg")
    said("paths must have a row for each image, but is one PosixPath: pass a list", Manifest.from_paths, Path("a"))
    said("data must have a row for each image, but is one bytes: pass a list", Manifest.from_bytes, b"a")
    said("the source must have a row for each image, but is one bytes: pass a list", Manifest.of, b"a")
    said("the source is a set, whose order does not say which row is which: pass a list", Manifest.of, {"a.jpg"})
    length = "which has no length: pass a list, such as list(…) of it"
    said(f"the source is a generator, {length}", Manifest.of, (name for name in ["a.jpg"]))
    said(f"the source is a NoneType, {length}", Manifest.of, None)
    said(f"target 'labels' is a generator, {length}", Manifest.of, ["a"], labels=(i for i in [1]))
    said("there are no sources: pass at least one image", Manifest.of, [])

    class Sized:
        def __len__(self) -> int:
            return 1

    said(f"a Sized is no source: {SOURCES}", Manifest.of, Sized())
    advice = "a Manifest keeps paths in a form of its own: make it with Manifest.from_paths"
    said(advice, Manifest, ["a.jpg"])


# Arrays


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1), (3, 4, 5, 3)])
def test_a_stack_of_images(shape: tuple[int, ...]) -> None:
    images = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = Manifest.of(images, labels=np.array([0.5, 1.5, 2.5], np.float32))
    np.testing.assert_array_equal(found.load(2), images[2])
    assert (found.name(2), found.is_paths, len(found)) == ("array 2", False, 3)
    assert np.shares_memory(found.load(0), images)
    assert found.targets["labels"].dtype == np.float32


def test_stacks_that_cannot_be_are_refused() -> None:
    one = "is one image: pass image[None] for a manifest of one"
    said(f"an array of shape (4, 5, 3) {one}", Manifest.of, np.zeros((4, 5, 3), np.uint8))
    said(f"an array of shape (4, 5) {one}", Manifest.of, np.zeros((4, 5), np.uint8))
    first = "the array has shape (2, 3, 4, 5), channels first: pass images.transpose(0, 2, 3, 1)"
    said(first, Manifest.of, np.zeros((2, 3, 4, 5), np.uint8))
    four = "the array has shape (2, 4, 4, 4): pass shape (N, H, W), (N, H, W, 1) or (N, H, W, 3)"
    said(four, Manifest.of, np.zeros((2, 4, 4, 4), np.uint8))
    dtype = "the array has dtype float32, not uint8: convert it, 0 being black and 255 white"
    said(dtype, Manifest.of, np.zeros((2, 4, 4, 3), np.float32))


class Indexed:
    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, slot: int) -> Any:
        self.asked.append(slot)
        return self.items[slot]


def test_an_indexed_source_is_read_lazily() -> None:
    source = Indexed([IMAGE, IMAGE.tolist(), (1, [2, 3]), "a.jpg"])
    found = Manifest.of(source)
    assert source.asked == [0]  # the first item tells whether the source gives pairs
    assert found.load(0) is IMAGE
    assert np.array_equal(found.load(1), IMAGE)
    assert source.asked == [0, 0, 1]
    with pytest.raises(
        DecodeError, match="source array 2 is a tuple, not an array: setting an array element"
    ) as caught:
        found.load(2)
    assert (caught.value.slot, caught.value.source) == (2, "array 2")
    with pytest.raises(DecodeError, match="source array 3 is a str, not an array: pass a list of paths or of bytes"):
        found.load(3)


class Once:
    def __init__(self, promised: int, given: int) -> None:
        self.promised = promised
        self.given = given

    def __len__(self) -> int:
        return self.promised

    def __iter__(self) -> Iterator[Any]:
        return iter(np.arange(self.given, dtype=np.uint8).reshape(-1, 1, 1))


def test_an_iterable_is_consumed_in_rising_order() -> None:
    found = Manifest.of(Once(promised=6, given=4))
    assert found.load(0).item() == 0
    assert found.load(2).item() == 2
    message = (
        "array 2 was asked for after array 2, but the source can only be read once, in order: pass a list or an array"
    )
    assert said(message, found.load, 2).slot == 2
    ended = "the source ended at row 4, before the length that it gives: pass a list of its items, or mend its length"
    assert said(ended, found.load, 5).slot == 4


@pytest.mark.parametrize("slot", [-1, 2, 10**12])
def test_slots_that_are_not_there(slot: int) -> None:
    found = Manifest.of(["a", "b"])
    for ask in (found.load, found.name):
        with pytest.raises(IndexError, match=re.escape(f"there is no slot {slot}: the manifest has 2")):
            ask(slot)


# Targets


@pytest.mark.parametrize(
    ("labels", "expected", "dtype"),
    [
        ([3, -1], [3, -1], np.int64),
        (np.array([3, 1], np.uint8), [3, 1], np.int64),
        ((0.5, 1), [0.5, 1.0], np.float64),
        ([True, False], [True, False], np.bool_),
        ([[1, 0], [0, 1]], [[1, 0], [0, 1]], np.int64),
        (range(2), [0, 1], np.int64),
        (np.array([0.5, np.nan], np.float16)[::-1], [np.nan, 0.5], np.float16),
    ],
)
def test_labels_that_are_numbers(labels: Any, expected: list[Any], dtype: type) -> None:
    found = Manifest.of(["a", "b"], labels=labels)
    np.testing.assert_array_equal(found.targets["labels"], expected)
    assert found.targets["labels"].dtype == dtype
    assert found.classes == {}


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda names: np.array(names, object)])
def test_labels_that_are_texts_become_codes(kind: Callable[[list[str]], Any]) -> None:
    found = Manifest.of(["a", "b", "c"], labels=kind(["é", "Z", "é"]), targets={"split": kind(["x", "y", "x"])})
    assert found.classes == {"labels": ("Z", "é"), "split": ("x", "y")}
    assert found.targets["labels"].tolist() == [1, 0, 1]
    assert found.targets["split"].tolist() == [0, 1, 0]


def test_targets_keep_their_dtype_and_memory_and_cannot_be_changed() -> None:
    masks = np.zeros((2, 3, 3), np.uint8)
    found = Manifest.of(["a", "b"], targets={"mask": masks})
    assert np.shares_memory(found.targets["mask"], masks)
    assert found.targets["mask"].dtype == np.uint8
    masks[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        found.targets["mask"][0] = 2
    with pytest.raises(TypeError, match="does not support item assignment"):
        found.targets["mask"] = masks
    with pytest.raises(AttributeError, match="cannot assign to field 'root'"):
        found.root = "/"


def test_many_texts_stay_text_but_labels_are_always_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "CATEGORY_LIMIT", 2)
    names = ["one", "two", "three"]
    found = Manifest.of(["a", "b", "c"], labels=names, targets={"caption": names})
    assert list(found.texts["caption"]) == names
    assert list(found.targets) == ["labels"]
    assert found.classes == {"labels": ("one", "three", "two")}


def test_lengths_must_agree() -> None:
    rows = "rows, but there are 3 sources: give one row a source"
    said(f"target 'labels' has 2 {rows}", Manifest.of, ["a", "b", "c"], labels=[1, 2])
    said(f"target 'x' has 1,000 {rows}", Manifest.of, [b"a", b"b", b"c"], targets={"x": np.zeros(1000)})
    said(f"target 'labels' has 4 {rows}", Manifest.of, [IMAGE] * 3, labels=list("abcd"))


def test_targets_that_cannot_be_are_refused() -> None:
    def of(values: Any) -> Manifest:
        return Manifest.of(["a", "b"], labels=values)

    found = "target 'labels': row 1 (counted from 0): expected"
    assert said(f"{found} a number as in row 0, found a str", of, [1, "a"]).slot == 1
    said(f"{found} text as in row 0, found a int", of, ["a", 1])
    said(f"{found} text as in row 0, found a NoneType", of, np.array(["a", None], object))
    dtype = "give numbers or texts, without missing values"
    said(f"target 'labels' has dtype object: {dtype}", of, [1, None])
    said(f"target 'labels' has dtype |S1: {dtype}", of, [b"a", b"b"])
    said(f"target 'labels' has dtype datetime64[D]: {dtype}", of, np.array(["2020-01-01"] * 2, "datetime64[D]"))
    said("target 'labels' must have a row for each image, but is one str: pass a list", of, "ab")
    said("target 'labels' is a dict, whose order does not say which row is which: pass a list", of, {"a": 1, "b": 2})
    said(f"target 'labels' holds {2**64 - 1}, which does not fit int64", of, np.array([0, 2**64 - 1], np.uint64))
    with pytest.raises(ManifestError, match=r"target 'labels': the rows make no array: .*; give rows of one shape"):
        of([[[1], [1, 2]], [[3], [4]]])
    mapping = (
        "targets must be a mapping of names to arrays, not a list: pass targets={'score': ['…']}; names of columns are "
        "for tables"
    )
    said(mapping, Manifest.of, ["a", "b"], targets=["score"])
    twice = "labels are given twice: by labels= and in targets; leave one out"
    said(twice, Manifest.of, ["a"], labels=[1], targets={"labels": [1]})


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "-x", "a b", "é", "a\n", "a\0", "x" * 201, 3])
def test_names_that_cannot_be_a_files_are_refused(name: Any) -> None:
    message = (
        f"a target cannot be named {name!r}, because its name becomes a file's: use up to 200 of A to Z, a to z, 0 to "
        "9, '_', '.' and '-', the first no '.' or '-'; rename it, or leave a column out with targets=['…']"
    )
    said(message, Manifest.of, ["a"], targets={name: [1]})


@pytest.mark.parametrize(
    "name", ["images", "offsets", "Shapes", "sums", "Status", "CHECKSUMS", "store", "lock", "moved"]
)
def test_names_of_a_stores_own_files_are_refused(name: str) -> None:
    files = (
        "images, encoded, offsets, shapes, sums, status, checksums, samples, store, dropped, ledger, plan, reasons, "
        "lock, moved"
    )
    own = f"because a store's own files are {files}: rename it"
    said(f"a target cannot be named {name!r}, {own}", Manifest.of, ["a"], targets={name: [1]})


def test_names_that_differ_in_case_only_are_refused() -> None:
    message = "the targets 'score' and 'Score' differ only in case: rename one"
    said(message, Manifest.of, ["a"], targets={"score": [1], "Score": [1]})


# The whole


def test_a_manifest_is_its_own_manifest() -> None:
    found = Manifest.of(["a"])
    assert Manifest.of(found) is found
    message = "a Manifest has its targets already: pass labels and targets when you make it"
    said(message, Manifest.of, found, labels=[1])


def test_a_manifest_crosses_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for found in (Manifest.of(["a", "b"], labels=["x", "y"]), Manifest.of([b"a", b"b"]), Manifest.of(IMAGE[None])):
        monkeypatch.chdir(tmp_path)
        data = pickle.dumps(found)
        monkeypatch.chdir("/")
        copy = pickle.loads(data)
        assert copy.digest == found.digest
        np.testing.assert_array_equal(copy.load(0), found.load(0))
        assert copy.classes == found.classes


def test_a_moved_folder_keeps_its_digest(tmp_path: Path) -> None:
    touch(tmp_path, "one/a/1.jpg", "one/b/2.jpg")
    before = Manifest.of(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert Manifest.of(tmp_path / "two").digest == before.digest
    assert re.fullmatch("[0-9a-f]{32}", before.digest)


def test_the_digest_of_a_manifest_does_not_drift() -> None:
    found = Manifest.of(["a/1.jpg", "b/2.jpg"], labels=["x", "y"], targets={"score": np.array([0.5, 1.5])})
    assert found.digest == "70611c3ddddbc485eb5283caec1b9776"


def test_a_strided_target_has_the_digest_of_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(60).reshape(10, 6)[:, ::2]
    strided = Manifest.of(list("abcdefghij"), targets={"x": values}).digest
    monkeypatch.setattr(identity, "_HASH_BLOCK_BYTES", 50)
    assert Manifest.of(list("abcdefghij"), targets={"x": values.copy()}).digest == strided


CONTENT = st.fixed_dictionaries(
    {
        "paths": st.lists(st.sampled_from(["a", "b", "ab", "c.jpg"]), min_size=2, max_size=2).map(tuple),
        "labels": st.sampled_from([None, (0, 1), (1, 0), ("0", "1"), ("1", "0"), (0.0, 1.0), (False, True)]),
        "extra": st.sampled_from([None, ("x", (0, 1)), ("y", (0, 1)), ("x", ((0,), (1,))), ("x", ("0", "1"))]),
    }
)


@given(CONTENT, CONTENT)
def test_digests_are_equal_if_and_only_if_the_content_is(one: dict[str, Any], two: dict[str, Any]) -> None:
    def digest(content: dict[str, Any]) -> str:
        extra = {} if content["extra"] is None else dict([content["extra"]])
        return Manifest.of(content["paths"], labels=content["labels"], targets=extra).digest

    # Not ==, which takes 0 for 0.0 and False.
    assert (digest(one) == digest(two)) == (repr(sorted(one.items())) == repr(sorted(two.items())))


def test_the_digest_of_bytes_and_arrays() -> None:
    digests = {
        Manifest.of(source).digest
        for source in (
            [b"ab", b"c"],
            [b"a", b"bc"],
            [b"ab", b"d"],
            ["ab", "c"],
            np.zeros((2, 3, 5), np.uint8),
            np.zeros((2, 3, 4), np.uint8),
            [IMAGE] * 2,
            [IMAGE] * 3,
        )
    }
    assert len(digests) == 8
    captions = [
        Manifest(Manifest.of(["a", "b"]).sources, texts={"t": texts}).digest for texts in (["ab", "c"], ["a", "bc"])
    ]
    assert captions[0] != captions[1]


def test_importing_loads_no_table_reader() -> None:
    code = "import sys, arraystore._sources.manifest as m; m.Manifest.of(['a.jpg']).digest; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(re.findall(r"'(\w+)", done.stdout))
    assert "numpy" in loaded
    assert not loaded & {"pyarrow", "pandas", "h5py", "torch"}


def test_a_long_list_is_never_held_as_objects() -> None:
    class Names:
        def __len__(self) -> int:
            return 100_000

        def __iter__(self) -> Iterator[str]:
            return (f"folder/{i:08d}.jpg" for i in range(100_000))

    tracemalloc.start()
    try:
        found = Manifest.from_paths(Names())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.sources[-1] == "folder/00099999.jpg"
    assert peak_bytes < 5 << 20  # 1.9 MB of characters, 0.8 MB of offsets and room to grow; a list of str is 7.6 MB


def test_labels_without_a_class_stay_so_where_the_codes_are_fixed() -> None:
    found = Manifest([IMAGE] * 3, targets={"labels": np.array([0, -1, 1])}, classes={"labels": ("a", "b")})
    fixed = found.with_classes(["x", "b", "a"])
    assert fixed.targets["labels"].tolist() == [2, -1, 1]
    assert fixed.classes["labels"] == ("x", "b", "a")
