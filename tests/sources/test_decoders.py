"""Files that only a function of the caller decodes are images of every kind of source that looks at files."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images

import arraystore
from arraystore import Manifest, SpecError

SIDE = 6


def decode(data: bytes) -> Any:
    return np.frombuffer(data[-SIDE * SIDE :], np.uint8).reshape(SIDE, SIDE)


def gray(seed: int) -> Any:
    return images.noise(SIDE, SIDE, seed=seed)[..., 0]


BY_SUFFIX: dict[str | bytes, Any] = {".dcm": decode, "NII.gz": decode}
BY_START: dict[str | bytes, Any] = {b"SIMPLE and more than twenty-four bytes": decode}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for seed, name in enumerate(("a/0.dcm", "a/1.DCM", "b/2.nii.gz", "b/3.png")):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(images.png(images.noise(SIDE, SIDE)) if name.endswith("png") else gray(seed).tobytes())
    for name in ("b/fits", "b/x.fits", "b/y.fit"):
        start = b"SIMPLE and more than twenty-four bytes" if name != "b/y.fit" else b"SIMPLER"
        (folder / name).write_bytes(start + gray(9).tobytes())
    (folder / "a/notes.txt").write_text("no image")
    (folder / "a/notdcm").write_text("no image")
    return folder


def names(**options: Any) -> list[str]:
    return [*Manifest.of(**options).sources]


def test_a_scan_takes_files_by_the_keys(folder: Path) -> None:
    assert names(source=folder, allow_empty=True) == ["b/3.png"]
    assert names(source=folder, decoders=BY_SUFFIX) == ["a/0.dcm", "a/1.DCM", "b/2.nii.gz", "b/3.png"]
    assert names(source=folder, decoders=BY_START, allow_empty=True) == ["b/3.png", "b/fits", "b/x.fits"]
    both = Manifest.of(folder, decoders=BY_SUFFIX | BY_START)
    assert len(both) == 6
    assert both.left_out == {".txt": 1, "": 1, ".fit": 1}


def packed(path: Path, folder: Path) -> Path:
    """A tar or zip file of a folder."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
        return path
    with tarfile.open(path, "w") as archive:
        archive.add(folder, ".")
    return path


KEYS = {"none": {}, "suffix": BY_SUFFIX, "start": BY_START, "both": BY_SUFFIX | BY_START}


@pytest.mark.parametrize("keys", KEYS)
def test_every_source_that_looks_at_files_takes_the_same_ones(folder: Path, tmp_path: Path, keys: str) -> None:
    decoders = KEYS[keys]
    wanted = names(source=folder, decoders=decoders, allow_empty=True)
    left_out = dict(Manifest.of(folder, decoders=decoders, allow_empty=True).left_out)
    pattern = Manifest.of(f"{folder}/**/*", decoders=decoders)
    assert sorted(os.path.relpath(pattern.load(slot), folder) for slot in range(len(pattern))) == wanted
    assert dict(pattern.left_out) == left_out
    for path in (packed(tmp_path / "x.tar", folder), packed(tmp_path / "x.zip", folder)):
        found = Manifest.of(path, decoders=decoders)
        assert [found.name(slot).removeprefix(f"{path.name}/") for slot in range(len(found))] == wanted
        assert dict(found.left_out) == left_out


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
def test_members_of_archives_are_decoded_by_them(folder: Path, tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"size": SIDE, "color": "gray", "progress": False, "decoders": BY_SUFFIX | BY_START}
    packed_store = arraystore.build(packed(tmp_path / name, folder), **options)
    wanted = arraystore.build(folder, **options)
    np.testing.assert_array_equal(packed_store.images, wanted.images)
    assert packed_store.labels is not None
    assert wanted.labels is not None
    assert packed_store.labels.tolist() == wanted.labels.tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(("extension", "decoders"), [("dcm", BY_SUFFIX), ("nii.gz", BY_SUFFIX), ("odd", BY_START)])
def test_samples_of_shards_have_such_images(tmp_path: Path, extension: str, decoders: dict[str | bytes, Any]) -> None:
    begin = b"" if decoders is BY_SUFFIX else next(iter(BY_START))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for number in range(3):
            for name, data in ((extension, begin + gray(number).tobytes()), ("cls", str(number % 2).encode())):
                info = tarfile.TarInfo(f"{number}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    store = arraystore.build(tmp_path / "x.tar", size=SIDE, color="gray", progress=False, decoders=decoders)
    assert store.labels is not None
    assert store.labels.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(store.images[:, 0], [gray(number) for number in range(3)])


def test_a_list_of_paths_knows_how_they_end(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("scans/a/0.dcm ash\nscans/b/2.nii.gz oak\n")
    found = Manifest.of(tmp_path / "list.txt", decoders=BY_SUFFIX)
    assert (list(found.sources), found.classes) == (["scans/a/0.dcm", "scans/b/2.nii.gz"], {"labels": ("ash", "oak")})
    (tmp_path / "list.txt").write_text("scans/a/0 1.dcm\n")
    assert list(Manifest.of(tmp_path / "list.txt", decoders=BY_SUFFIX).sources) == ["scans/a/0 1.dcm"]


def test_a_fifo_among_numbered_files_does_not_stop_the_listing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0")
    (tmp_path / "1").write_bytes(images.png(images.noise(SIDE, SIDE)))
    found = Manifest.of(f"{tmp_path}/{{0..1}}")
    assert list(found.sources) == ["1"]


@pytest.mark.parametrize("processes", [False, True])
def test_plan_and_build_agree(folder: Path, tmp_path: Path, *, processes: bool) -> None:
    options: dict[str, Any] = {"size": SIDE, "color": "gray", "progress": False, "decoders": BY_SUFFIX}
    forecast = arraystore.plan(folder, None, **options)
    assert (forecast.count, forecast.sampled, forecast.bad) == (4, 4, ())
    store = arraystore.build(folder, tmp_path / "x", processes=processes, workers=1, **options)
    for slot in range(3):
        np.testing.assert_array_equal(store.images[slot, 0], gray(slot))
    assert store.labels is not None
    assert store.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["x", "x.h5"])
def test_an_update_takes_them_too(folder: Path, tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"progress": False, "decoders": BY_SUFFIX}
    arraystore.build(folder, tmp_path / name, size=SIDE, color="gray", **options).close()
    assert not arraystore.compare(tmp_path / name, decoders=BY_SUFFIX)
    (folder / "b" / "4.dcm").write_bytes(gray(4).tobytes())
    assert list(arraystore.compare(tmp_path / name, decoders=BY_SUFFIX).added) == ["b/4.dcm"]
    store = arraystore.update(tmp_path / name, **options)
    assert len(store) == 5
    np.testing.assert_array_equal(store.images[4, 0], gray(4))


@pytest.mark.parametrize("decoders", [5, [".dcm"], {".dcm": 5}, {5: decode}, {"": decode}, {b"": decode}])
def test_odd_decoders_are_refused_by_every_function(folder: Path, tmp_path: Path, decoders: Any) -> None:
    arraystore.build(folder / "b", tmp_path / "x", size=SIDE, progress=False).close()
    for call in (
        lambda: arraystore.plan(folder, None, size=SIDE, decoders=decoders),
        lambda: arraystore.build(folder, None, size=SIDE, decoders=decoders),
        lambda: arraystore.compare(tmp_path / "x", decoders=decoders),
        lambda: arraystore.update(tmp_path / "x", decoders=decoders),
    ):
        with pytest.raises(SpecError, match="decoders"):
            call()
