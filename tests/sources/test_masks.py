"""Where the masks of images are: lists, folders, columns beside other targets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from arraystore import Manifest, ManifestError, Masks


def paths_of(manifest: Manifest) -> list[str]:
    return [str(Path(str(path)).resolve()) for slot in range(len(manifest)) for path in manifest.load_masks(slot)]


def test_masks_say_what_they_take() -> None:
    for value in (b"a.png", {"a.png"}, {"a.png": 1}, 3, (path for path in ["a.png"])):
        with pytest.raises(ManifestError, match="masks are a list, one for each image, not a"):
            Masks(value)  # type: ignore[arg-type]
    with pytest.raises(ManifestError, match="bits must be 8 or 16, not 12"):
        Masks(["a.png"], bits=12)
    with pytest.raises(ManifestError, match=r"row 1 \(counted from 0\): the path is empty"):
        Masks(["a.png", ""])
    with pytest.raises(ManifestError, match="target 'mask' has 1 rows, but there are 2 sources"):
        Manifest.of(["a.jpg", "b.jpg"], targets={"mask": Masks(["a.png"])})
    with pytest.raises(ManifestError, match=r"a target cannot be named 'a/b'"):
        Manifest.of(["a.jpg"], targets={"a/b": Masks(["a.png"])})
    with pytest.raises(ManifestError, match=r"'Mask' and 'mask' differ only in case"):
        Manifest.of(["a.jpg"], targets={"mask": Masks(["a.png"]), "Mask": [1]})


def test_masks_are_part_of_the_digest() -> None:
    found = [
        Manifest.of(["a.jpg"], targets=targets).digest
        for targets in (
            None,
            {"mask": Masks(["a.png"])},
            {"mask": Masks(["a.png"], bits=16)},
            {"mask": Masks(["b.png"])},
            {"other": Masks(["a.png"])},
            {"mask": Masks(["a.png"]), "other": Masks(["a.png"])},
        )
    ]
    assert len(set(found)) == len(found)
    one, two = ({"x": Masks(["1"]), "y": Masks(["2"])}, {"y": Masks(["2"]), "x": Masks(["1"])})
    assert Manifest.of(["a"], targets=one).digest == Manifest.of(["a"], targets=two).digest


@pytest.mark.parametrize(
    ("masks", "suffix", "wanted"),
    [
        ("masks", ".png", ["masks/cat/1.png", "masks/dog/a.b.png"]),
        ("images", "_mask.gif", ["images/cat/1_mask.gif", "images/dog/a.b_mask.gif"]),
        ("images/seg", ".tif", ["images/seg/cat/1.tif", "images/seg/dog/a.b.tif"]),
    ],
)
def test_a_folder_has_masks_with_the_names_of_the_images(
    tmp_path: Path, masks: str, suffix: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat/1.jpg", "dog/a.b.jpeg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    paths = [str(tmp_path / each) for each in wanted]
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"targets": {"mask": Masks(masks, suffix=suffix)}}
    monkeypatch.chdir("/")
    manifest = Manifest.of(tmp_path / "images", **given)
    assert paths_of(manifest) == paths
    assert paths_of(pickle.loads(pickle.dumps(manifest))) == paths
    assert manifest.classes["labels"] == ("cat", "dog")
    assert paths_of(Manifest.of(["cat/1.jpg", "dog/a.b.jpeg"], root=tmp_path / "images", **given)) == paths
    assert repr(given["targets"]["mask"]) == f"<arraystore.Masks in {str(tmp_path / masks)!r}, 8 bits>"
    (tmp_path / "images/t.csv").write_text("path,kind\ncat/1.jpg,a\ndog/a.b.jpeg,b\n")
    assert paths_of(Manifest.from_table(tmp_path / "images/t.csv", **given)) == paths
    # The digest of a data set that moves as a whole stays.
    moved = tmp_path.rename(tmp_path.with_name(tmp_path.name + " moved"))
    (moved / "images/t.csv").unlink()
    again = Manifest.of(moved / "images", targets={"mask": Masks(moved / masks, suffix=suffix)})
    assert again.digest == manifest.digest


def test_of_absolute_paths_the_names_count(tmp_path: Path) -> None:
    images = [tmp_path / "x/1.jpg", tmp_path / "y/2", tmp_path / "y/.3.jpg"]
    found = Manifest.of(images, targets={"mask": Masks("m", root=tmp_path)})
    assert paths_of(found) == [str(tmp_path / f"m/{name}.png") for name in ("1", "2", ".3")]


def test_masks_are_those_of_the_given_folder_where_the_images_lie_behind_a_link(tmp_path: Path) -> None:
    """The parent of a link is not the folder that has the link, and may have masks of other images."""
    here, there = tmp_path / "here", tmp_path / "disk/there"
    for folder in (here / "masks", there / "photos", there / "masks"):
        folder.mkdir(parents=True)
    (there / "photos/1.jpg").write_bytes(b"")
    (here / "photos").symlink_to(there / "photos")
    (here / "also").symlink_to(here / "masks")
    for folder in ("masks", "also"):
        found = Manifest.from_folder(here / "photos", targets={"mask": Masks(here / folder)})
        (path,) = found.load_masks(0)
        assert Path(str(path)).resolve() == here.resolve() / "masks/1.png"
    near = Manifest.from_folder(there / "photos", targets={"mask": Masks(there / "masks")})
    assert near.masks["mask"].name(0) == "../masks/1.png"


def test_two_images_never_get_one_mask_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"'/x/1.jpg' and '/y/1.png' would have the same mask, '.*m/1.png'"):
        Manifest.of(["/x/1.jpg", "/y/1.png"], targets={"mask": Masks(tmp_path / "m")})
    with pytest.raises(ManifestError, match="but these are images in memory"):
        Manifest.of([b"x"], targets={"mask": Masks(tmp_path / "m")})


def test_a_column_and_masks_beside_it_cannot_be_one_target(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,label\na.jpg,1\n")
    with pytest.raises(ManifestError, match="'labels' comes from there and is given beside it"):
        Manifest.from_table(tmp_path / "t.csv", labels=Masks(["a.png"]))
    found = Manifest.from_table(tmp_path / "t.csv", targets={"label": "auto", "mask": Masks(["m/a.png"])})
    assert ([*found.targets], paths_of(found)) == (["labels"], [str(tmp_path / "m/a.png")])
    assert "targets: labels, mask" in repr(found)
