"""Zip and tar files as sources: what their folder would give, read in place, whatever their bytes say."""

from __future__ import annotations

import io
import os
import random
import re
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import arraystore
from arraystore import BadImagesError, Manifest, ManifestError
from arraystore._sources.kinds.archives.tar import tar_index
from arraystore._sources.kinds.archives.zipped import zip_index
from tests.support.images import jpeg, photo, png
from tests.support.photo_folder import SIZE, built, photo_folder

JPEG = jpeg(photo(9, 9))


def tarred(path: Path, folder: Path, form: int = tarfile.PAX_FORMAT, *, top: str = ".") -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        archive.add(folder, top)
    return path


def zipped(path: Path, folder: Path, method: int = zipfile.ZIP_STORED, *, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, top + file.relative_to(folder).as_posix())
    return path


def packed(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def all_kinds(root: Path, folder: Path) -> Iterator[Path]:
    yield tarred(root / "ustar.tar", folder, tarfile.USTAR_FORMAT)
    yield tarred(root / "gnu.tar", folder, tarfile.GNU_FORMAT, top="photos")
    yield tarred(root / "pax.TAR", folder, tarfile.PAX_FORMAT, top="a/b")
    yield zipped(root / "stored.zip", folder)
    yield zipped(root / "deflated.zip", folder, zipfile.ZIP_DEFLATED, top="photos/")


def test_an_archive_gives_what_its_folder_gives(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos")
    wanted = built(folder)
    for path in all_kinds(tmp_path, folder):
        for options in ({}, {"processes": True}) if path.suffix == ".TAR" else ({},):
            found = built(path, **options)
            assert np.array_equal(found.images, wanted.images), path
            assert found.categories == wanted.categories, path
            assert found.targets["labels"].tolist() == wanted.targets["labels"].tolist(), path
            sizes = [found.samples[name].to_pylist() for name in ("height", "width", "hash")]
            assert sizes == [wanted.samples[name].to_pylist() for name in ("height", "width", "hash")], path


def test_the_samples_name_the_archive_and_the_member(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG), ("b/2.jpg", JPEG)])
    assert built(path).samples["source"].to_pylist() == ["x.tar/a/1.jpg", "x.tar/b/2.jpg"]
    assert repr(Manifest.of(path)) == "<Manifest of 2 members of archives; targets: labels>"


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_odd_names_are_kept(tmp_path: Path, form: int) -> None:
    names = ["a/" + "x" * 150 + ".jpg", "b/" + "y/" * 60 + "é ü.jpg", "b/=\n1 2=.jpg"]
    index = tar_index(str(packed(tmp_path / "x.tar", [(name, JPEG) for name in names], form)))
    assert [os.fsdecode(name) for name in index.names] == names
    assert [index.part(member).read(10_000) for member in range(3)] == [JPEG] * 3


def test_images_that_lie_in_no_folder_have_no_labels(tmp_path: Path) -> None:
    found = Manifest.of(packed(tmp_path / "x.tar", [("2.jpg", JPEG), ("1.jpg", JPEG), ("notes.txt", b"")]))
    assert [found.name(slot) for slot in range(2)] == ["x.tar/1.jpg", "x.tar/2.jpg"]
    assert (dict(found.targets), dict(found.left_out)) == ({}, {".txt": 1})


def test_members_without_a_suffix_are_recognized_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    members = [
        ("a/1", JPEG),
        ("a/2", b"no image"),
        ("a/.x.jpg", JPEG),
        (".git/y.jpg", JPEG),
        ("__MACOSX/a/z.jpg", JPEG),
    ]
    for path in (packed(tmp_path / "x.tar", members), tmp_path / "x.zip"):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in members:
                    archive.writestr(name, data)
        found = Manifest.of(path)
        assert [found.name(slot) for slot in range(len(found))] == [f"{path.name}/a/1"]
        assert dict(found.left_out) == {"": 1}


def test_the_last_of_two_members_with_one_name_counts(tmp_path: Path) -> None:
    new = png(photo(8, 8, seed=1))
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG), ("a/2.jpg", JPEG), ("a/1.jpg", new)])
    found = Manifest.of(path)
    assert found.load(0).read(10_000) == new
    assert found.notes == (f"{path}: 1 members have the name of an earlier one, which they replace",)


def test_a_link_within_a_tar_file_is_what_it_leads_to(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    (folder / "a/1.jpg").write_bytes(JPEG)
    (folder / "a/2.jpg").hardlink_to(folder / "a/1.jpg")
    (folder / "a/3.jpg").symlink_to("1.jpg")
    (folder / "a/4.jpg").symlink_to("3.jpg")
    (folder / "a/5.jpg").symlink_to("/etc/passwd")
    (folder / "a/6.jpg").symlink_to("6.jpg")
    (folder / "a/7.jpg").symlink_to("../../photo.jpg")
    path = tarred(tmp_path / "x.tar", folder)
    with pytest.raises(BadImagesError) as caught:
        built(path)
    reasons = [bad.reason for bad in caught.value.bad]
    assert [bad.slot for bad in caught.value.bad] == [4, 5, 6]
    assert reasons[0] == "a link to '/etc/passwd', which is no file of the archive"
    store = built(path, bad="drop")
    assert len({slot.tobytes() for slot in store.images}) == 1
    assert len(store) == 4


def test_names_that_lead_outside_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG), ("../2.jpg", JPEG), ("a/../../3.jpg", JPEG)])
    found = Manifest.of(path)
    assert [found.name(slot) for slot in range(len(found))] == ["x.tar/a/1.jpg"]
    assert found.notes == (f"{path}: 2 members have names that lead outside; left out",)


def test_sparse_members_are_bad_and_their_neighbors_good(tmp_path: Path) -> None:
    folder = tmp_path / "photos/a"
    folder.mkdir(parents=True)
    (folder / "1.jpg").write_bytes(JPEG)
    with (folder / "2.jpg").open("wb") as file:
        file.truncate(1 << 22)
    (folder / "3.jpg").write_bytes(JPEG)
    for form in ("gnu", "pax"):
        path = tmp_path / f"{form}.tar"
        subprocess.run(["tar", "-S", f"--format={form}", "-cf", path, "-C", tmp_path / "photos", "."], check=True)
        with pytest.raises(BadImagesError) as caught:
            built(path)
        assert [(bad.slot, bad.reason) for bad in caught.value.bad] == [
            (1, "a sparse member, which cannot be read in place: unpack the archive")
        ]


def test_an_archive_that_was_changed_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG)])
    found = Manifest.of(path)
    packed(path, [("a/0.jpg", JPEG[:100]), ("a/1.jpg", JPEG)])
    with pytest.raises(BadImagesError, match="the archive was changed after it was listed"):
        built(found)


def test_a_resumed_build_of_an_archive_reads_the_rest_alone(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", [(f"a/{i}.jpg", JPEG if i else b"no image") for i in range(4)])
    target = tmp_path / "x.store"
    with pytest.raises(BadImagesError):
        arraystore.build(path, target, size=SIZE, progress=False)
    done: list[int] = []
    arraystore.build(path, target, size=SIZE, bad="keep", progress=lambda state: done.append(state.done))
    assert done[0] == 4
    info = path.stat()
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 10**9))
    with pytest.raises(arraystore.StoreError):
        arraystore.build(path, target, size=SIZE, bad="keep", progress=False)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def bent(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[1536 + 100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "ends within the member 'a/1.jpg'; get it again: the members that follow are missing"),
        (lambda path: path.write_bytes(b""), "there are no images in this archive"),
        (lambda path: path.write_bytes(b"x" * 600), "is not a tar file"),
        (
            lambda path: path.write_bytes(b"\x1f\x8b" + b"x" * 600),
            "is compressed, so its members cannot be read in place",
        ),
        (lambda path: path.unlink(), "there is no such archive"),
    ],
)
def test_a_tar_file_that_cannot_be_listed_is_refused(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG), ("a/2.jpg", JPEG)])
    spoil(path)
    with pytest.raises(ManifestError, match=re.escape(message)) as caught:
        Manifest.of(path)
    assert str(path) in str(caught.value)


def test_a_damaged_header_is_told_with_its_place(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG), ("a/2.jpg", JPEG)])
    at = 512 + -(-len(JPEG) // 512) * 512
    data = bytearray(path.read_bytes())
    data[at + 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ManifestError, match=rf"the tar file is damaged at byte {at:,}, behind 1 members"):
        Manifest.of(path)


def test_a_tar_file_without_its_end_is_noted(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG)])
    path.write_bytes(path.read_bytes()[: 512 + -(-len(JPEG) // 512) * 512])
    assert Manifest.of(path).notes == (f"{path}: has no mark at its end; if it was cut there, members are missing",)


def test_members_of_a_zip_file_that_cannot_be_read_are_bad_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/0.jpg", JPEG)
        archive.writestr("a/1.jpg", JPEG, zipfile.ZIP_BZIP2)
        link = zipfile.ZipInfo("a/2.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "0.jpg")
        archive.writestr("a/3.jpg", JPEG)
        archive.writestr("a/4.jpg", JPEG, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        third, fourth = (archive.getinfo(name).header_offset for name in ("a/3.jpg", "a/4.jpg"))
    data[third + 30 + 7 + 200] ^= 1
    data[fourth + 30 + 7 + 20] ^= 255
    path.write_bytes(data)
    with pytest.raises(BadImagesError) as caught:
        built(path)
    reasons = {bad.slot: bad.reason for bad in caught.value.bad}
    assert reasons[1] == "compressed by bzip2 in the archive: unpack it, or zip it again without compression"
    assert reasons[2] == "a symbolic link in the archive: unpack it"
    assert reasons[3] == "damaged in the archive: size or CRC-32 is another"
    assert reasons[4].startswith("damaged in the archive: ")


def test_a_zip_member_that_unpacks_to_more_than_it_says_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.jpg", bytes(10**8))
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<I", 10**8), struct.pack("<I", 1000)))
    part = Manifest.of(path).load(0)
    with pytest.raises(arraystore.DecodeError, match="size or CRC-32 is another"):
        part.read(10**9)
    with pytest.raises(arraystore.DecodeError, match="more than an image can have"):
        part.read(999)


def test_a_zip_file_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\3\4" + b"x" * 100)
    with pytest.raises(ManifestError, match=re.escape(f"{path}: the zip file cannot be listed: ")):
        Manifest.of(path)


def test_images_beside_class_folders_and_splits_are_refused_as_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"has images \(such as '2.jpg'\) beside class folders \(such as 'a'\)"):
        Manifest.of(packed(tmp_path / "x.tar", [("a/1.jpg", JPEG), ("2.jpg", JPEG)]))
    splits = packed(tmp_path / "y.tar", [("train/a/1.jpg", JPEG), ("val/a/2.jpg", JPEG)])
    with pytest.raises(ManifestError, match="look like splits of a data set, and each would become a class"):
        Manifest.of(splits)
    assert Manifest.of(splits, classes=["train", "val"]).targets["labels"].tolist() == [0, 1]


def test_labels_of_the_caller_replace_those_of_the_folders(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG), ("b/2.jpg", JPEG)])
    assert Manifest.of(path, labels=[7, 5]).targets["labels"].tolist() == [7, 5]
    assert Manifest.of(path, labels=["x", "x"]).classes == {"labels": ("x",)}


def test_options_and_columns_that_an_archive_has_not_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar", [("a/1.jpg", JPEG)])
    with pytest.raises(ManifestError, match="root has no meaning for an archive: leave out root"):
        Manifest.of(path, root=tmp_path)
    with pytest.raises(ManifestError, match="has no members beside its images that could become targets"):
        Manifest.of(path, targets=["score"])


def mutants(whole: bytes, rng: random.Random) -> Iterator[bytes]:
    """The bytes of an archive with changes, half of them in the first block or near the end, or cut short."""
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 8])):
            near = rng.choice([len(data) - rng.randrange(1, 400), rng.randrange(512)])
            at = rng.choice([rng.randrange(len(data)), near])
            data[at] = rng.choice([0, 255, rng.randrange(256), data[at] ^ 1 << rng.randrange(8)])
        yield bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])


@pytest.mark.parametrize("seed", range(8))
def test_any_bytes_are_listed_or_refused(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder = photo_folder(tmp_path / "photos", each=2)
    tar = tarred(tmp_path / "x.tar", folder, rng.choice([0, 1, 2]))
    for path, listed in ((tar, tar_index), (zipped(tmp_path / "x.zip", folder, rng.choice([0, 8])), zip_index)):
        for data in mutants(path.read_bytes(), rng):
            path.write_bytes(data)
            with suppress(ManifestError):
                index = listed(str(path))
                for member in {*range(len(index.names))} - {*index.faults}:
                    part = index.part(member)
                    with suppress(arraystore.DecodeError):
                        part.read_start(24)
                        assert len(part.read(1 << 20)) == part.size
