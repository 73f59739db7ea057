"""Names of targets: which are refused, and what is made of the others."""

import re
from pathlib import Path

import numpy as np
import pytest
from support import images
from support.command import run

import arraystore
from arraystore.errors import FormatError, ManifestError, SpecError

IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "name", ["x.npy", "x.NPZ", "x.zarr", "x.tfrecord", "x.parquet", "x.zip", "s3://b/x", "gs://b/x", "hf://d/x.h5"]
)
def test_names_that_ask_for_another_format_are_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (arraystore.build, arraystore.plan):
        with pytest.raises(
            SpecError, match=re.escape(name) + "( cannot be a .*: .*leave out the suffix| is a URL: build)"
        ):
            call(IMAGES, name, size=4, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a/b/t.store", "a/b/t.h5", "t.v1", "t"])
def test_missing_folders_are_made_and_the_home_folder_is_expanded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arraystore.build(IMAGES, f"~/{name}", size=4, progress=False).close()
    assert (tmp_path / name).exists()
    with arraystore.open(f"~/{name}") as store:
        assert len(store) == 2


def test_sources_that_cannot_be_listed_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(arraystore.ManifestError):
        arraystore.build(tmp_path / "gone", tmp_path / "a/t.store", size=4, progress=False)
    assert not (tmp_path / "a").exists()


# --- the home folder, URLs --------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with photos, a store of them, and an array; the current folder is another one."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    images.write_tree(tmp_path / "home" / "photos", {"a": 2, "b": 1})
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("x.store", "x.h5"):
        arraystore.build("~/photos", f"~/{name}", size=4, progress=False).close()
    np.save(tmp_path / "home" / "x.npy", IMAGES)
    np.save(tmp_path / "home" / "y.npy", [1, 2])
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_every_function_expands_the_home_folder(home: Path, name: str) -> None:
    path, quiet = f"~/{name}", {"progress": False}
    assert arraystore.verify(path, progress=False).ok
    assert not arraystore.compare(path)
    assert not arraystore.compare(path, "~/photos")
    images.write_tree(home / "photos" / "b", {"more": 1})
    assert len(arraystore.update(path, "~/photos", **quiet)) == 4
    assert len(arraystore.build("~/photos", path, size=4, overwrite=True, **quiet)) == 4
    file, start = (home / name / "images.npy", 4096) if name == "x.store" else (home / name, 12288)
    with file.open("r+b") as pixels:
        pixels.seek(start)
        pixels.write(b"damaged")
    assert len(arraystore.repair(path, **quiet)) == 4
    (home / "photos").rename(home / "moved")
    with file.open("r+b") as pixels:
        pixels.seek(start)
        pixels.write(b"damaged")
    assert arraystore.repair(path, "~/moved", **quiet).verify(progress=False).ok
    assert len(arraystore.build("~/moved", None, size=4, classes=path, **quiet)) == 4
    assert arraystore.plan("~/moved", f"~/new/{name}", size=4, sample=0, **quiet).target == str(home / "new" / name)
    assert [entry.name for entry in Path.cwd().iterdir()] == [], "nothing is called ~ here"


def test_arrays_in_the_home_folder(home: Path) -> None:
    del home
    slots = arraystore.open_array("~/x.npy", labels="~/y.npy")
    assert slots.labels is not None
    assert slots.labels.tolist() == [1, 2]


def test_the_command_expands_the_home_folder(home: Path) -> None:
    """A shell leaves it in quotes, and after an equals sign."""

    def said(*words: object) -> str:
        result = run(*words, home=home)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        return result.stdout

    assert f"{home}/x.store" in said("info", "~/x.store")
    assert "3 slots are whole" in said("verify", "~/x.store")
    assert "nothing to repair" in said("repair", "~/x.store")
    assert "3 unchanged" in said("update", "~/x.store", "~/photos")
    said("preview", "~/x.h5", "~/out.png")
    assert (home / "out.png").is_file()
    said("build", "~/photos", "~/new/y.store", "--size", 4, "-q", "--classes", "~/x.store")
    (home / "rows.csv").write_text("path\n" + "".join(f"{path.name}\n" for path in (home / "photos/a").iterdir()))
    said("build", "~/rows.csv", "~/new/z.store", "--size", 4, "-q", "--root", "~/photos/a")
    assert "exists already" in said("plan", "~/photos", "~/new/y.store", "--size", 4, "--sample", 0)
    assert not list(Path.cwd().iterdir())


def test_there_is_no_such_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = "~no such user/x.store"
    for call in (arraystore.build, arraystore.plan):
        with pytest.raises(SpecError, match=r"^~no such user/x\.store is in the home folder of no user: write the wh"):
            call(IMAGES, path, size=4, progress=False)
    for read in (arraystore.open, arraystore.update, arraystore.compare, arraystore.repair, arraystore.open_array):
        with pytest.raises(FormatError, match=r"^there is no (store|array) at .*/~no such user/x\.store$"):
            read(path)
    assert arraystore.verify(path, progress=False).faults[0].message.startswith("there is no store at ")
    with pytest.raises(ManifestError, match="there is no such file or folder"):
        arraystore.build("~no such user/photos", None, size=4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["s3://bucket/x.store", "https://host/x.h5", "gs://b/x", "hf://d/x.npy"])
def test_a_url_is_no_path_of_a_store(path: str) -> None:
    for read in (arraystore.open, arraystore.verify, arraystore.update, arraystore.compare, arraystore.repair):
        with pytest.raises(FormatError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path} is a URL, and stores are opened from local paths: copy the store to this machine first"
        )
    with pytest.raises(FormatError, match="is a URL"):
        arraystore.open_array(path)
    with pytest.raises(FormatError, match="is a URL"):
        arraystore.build(IMAGES, None, size=4, labels=["a", "b"], classes=path)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.zarr", "x.tfrecord"])
def test_a_store_that_was_renamed_is_still_one(tmp_path: Path, name: str) -> None:
    """Only a build refuses the name."""
    folder = images.write_tree(tmp_path / "photos", {"a": 2})
    arraystore.build(folder, tmp_path / "x", size=4, progress=False).close()
    target = (tmp_path / "x").rename(tmp_path / name)
    assert arraystore.verify(target, progress=False).ok
    images.write_tree(folder / "a", {"more": 1})
    assert len(arraystore.update(target, progress=False)) == 3
    (target / "images.npy").write_bytes((target / "images.npy").read_bytes()[:-1])
    assert len(arraystore.repair(target, progress=False)) == 3
    with arraystore.open(target) as store:
        assert len(store) == 3
