"""Masks that are members of the archives of their images: in a folder, or in the samples of shards."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from arraystore import BadImagesError, Manifest, ManifestError, Masks, Store
from tests.support import masks
from tests.support.images import jpeg, photo, png
from tests.support.photo_folder import built

COUNT = 6
JPEG = jpeg(photo(9, 9))


def numbers(i: int) -> Any:
    return masks.numbers(20 + i, 30, seed=i)


def mask_png(i: int) -> bytes:
    file = io.BytesIO()
    masks.with_palette(numbers(i)).save(file, "PNG")
    return file.getvalue()


def members(images: str = "images/{}.jpg", found: str = "masks/{}.png") -> dict[str, bytes]:
    names = [f"{'ab'[i % 2]}/{i}" for i in range(COUNT)]
    pairs = [(images.format(name), jpeg(photo(20 + i, 30, seed=i))) for i, name in enumerate(names)]
    return dict(pairs) | {found.format(name): mask_png(i) for i, name in enumerate(names)}


def packed(path: Path, files: dict[str, Any], method: int = zipfile.ZIP_STORED) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def check(store: Store, name: str = "mask") -> None:
    """Each slot has the mask of the image whose name it has."""
    for slot, source in enumerate(store.samples["source"].to_pylist()):
        wanted = masks.by_pillow(numbers(int(Path(source).stem)), store.spec)
        np.testing.assert_array_equal(store.targets[name][slot], wanted, err_msg=source)
    assert len(store) == COUNT
    assert dict(store.description.masks) == {name: 255}


# --- in a folder of the archive ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "found", "given", "options"),
    [
        ("images/{}.jpg", "masks/{}.png", "masks/", {}),
        ("ds/images/{}.jpg", "ds/masks/{}.png", "masks", {}),
        ("ds/images/{}.jpg", "ds/masks/{}.png", "./ds/masks", {}),
        ("{}.jpg", "seg/{}_mask.png", "seg", {"suffix": "_mask.png"}),
        ("images/{}.jpg", "images/{}_mask.png", "images", {"suffix": "_mask.png"}),
        ("images/{}.jpg", "images/{}_mask.png", ".", {"suffix": "_mask.png"}),
        ("{}.jpg", "{}.png", ".", {}),
        ("images/{}.jpg", "masks/images/{}.png", "masks", {}),
    ],
)
@pytest.mark.parametrize("kind", ["x.zip", "deflated.zip", "x.tar"])
def test_a_folder_of_the_archive_has_the_masks(
    tmp_path: Path, kind: str, images: str, found: str, given: str, options: dict[str, Any]
) -> None:
    method = zipfile.ZIP_DEFLATED if kind.startswith("deflated") else zipfile.ZIP_STORED
    path = packed(tmp_path / kind, members(images, found), method)
    store = built(path, targets={"mask": Masks(given, **options)})
    check(store)
    assert store.categories == {"labels": ("a", "b")}
    assert not store.description.left_out
    assert store.samples["mask"][0].as_py() == f"{kind}/{found.format('a/0')}"


def test_worker_processes_read_the_masks_themselves(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", members())
    manifest = Manifest.of(path, targets={"mask": Masks("masks")})
    assert pickle.loads(pickle.dumps(manifest)).load_masks(3) == manifest.load_masks(3)
    check(built(path, targets={"mask": Masks("masks")}, processes=True))


def test_folders_of_masks_and_masks_as_labels(tmp_path: Path) -> None:
    files = members() | {f"more/{'ab'[i % 2]}/{i}.png": mask_png(i) for i in range(COUNT)}
    store = built(packed(tmp_path / "x.zip", files), labels=Masks("masks"), targets={"more": Masks("more", bits=16)})
    np.testing.assert_array_equal(store.targets["labels"], store.targets["more"])
    assert store.targets["more"].dtype == np.uint16


def test_a_mask_that_is_missing_or_damaged_is_a_bad_image(tmp_path: Path) -> None:
    files = members()
    del files["masks/a/2.png"]
    files["masks/b/3.png"] = files["masks/b/3.png"][:50]
    files["masks/a/4.png"] = png(photo(24, 30))
    store = built(packed(tmp_path / "x.zip", files), targets={"mask": Masks("masks")}, bad="keep")
    reasons = {Path(bad.source).stem: bad.reason for bad in store.bad()}
    assert sorted(reasons) == ["2", "3", "4"]
    assert reasons["2"] == "mask 'mask': there is no member 'masks/a/2.png' in the archive"
    assert reasons["3"].startswith(f"mask {tmp_path}/x.zip/masks/b/3.png: ")
    assert "are RGB, not numbers of classes" in reasons["4"]


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        ({"images/1.jpg": JPEG, "masks/1.png": b""}, "mask", "there is no folder 'mask' in this archive"),
        ({"a/m/1.png": b"", "b/m/1.png": b"", "a/1.jpg": JPEG}, "m", "there are several folders 'm': a/m/, b/m/"),
        ({"images/1.jpg": JPEG, "masks/2.png": b""}, "masks", "no image has a mask, such as 'masks/images/1.png'"),
        ({"1.jpg": JPEG, "1.jpeg": JPEG, "m/1.png": b""}, "m", "two images would have the same mask"),
        ({"masks/2.png": b""}, "masks", "no images in this archive"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path: Path, files: dict[str, Any], given: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        Manifest.of(packed(tmp_path / "x.zip", files), targets={"mask": Masks(given)})
    assert caught.value.source == str(tmp_path / "x.zip")


def test_the_advice_about_folders_of_an_archive_can_be_followed(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", members("ds/images/{}.jpg", "ds/masks/{}.png"))
    words = r"kinds of files, .*; pass targets=\{'mask': Masks\('masks'\)\} if those are the masks of its images"
    with pytest.raises(ManifestError, match=words):
        Manifest.of(path)
    check(built(path, targets={"mask": Masks("masks")}))
    splits = packed(tmp_path / "y.zip", {"train/a/1.jpg": JPEG, "val/a/2.jpg": JPEG})
    with pytest.raises(ManifestError, match="would become a class; unpack it, and build each folder of its own"):
        Manifest.of(splits)


def test_a_folder_outside_is_none_of_the_archive(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.zip", members())
    for given in (Masks(tmp_path / "masks"), Masks("masks", root=tmp_path)):
        with pytest.raises(ManifestError, match="but these are members of archives"):
            Manifest.of(path, classes=["images", "masks"], targets={"mask": given})


def test_a_build_is_resumed_and_a_changed_archive_is_another_one(tmp_path: Path) -> None:
    files = members()
    files["masks/b/5.png"] = b"x"
    path = packed(tmp_path / "x.zip", files)
    targets = {"mask": Masks("masks")}
    with pytest.raises(BadImagesError):
        built(path, target=tmp_path / "x.store", targets=targets)
    store = built(path, target=tmp_path / "x.store", targets=targets, bad="keep")
    assert [Path(bad.source).name for bad in store.bad()] == ["5.jpg"]
    one = Manifest.of(path, targets=targets).digest
    packed(path, members())
    assert Manifest.of(path, targets=targets).digest != one


# --- in the samples of shards -----------------------------------------------------------------------------------------


def shards(root: Path) -> str:
    """Two shards by webdataset's own writer, with masks."""
    with webdataset.ShardWriter(f"{root}/x-%06d.tar", maxcount=4, verbose=0) as writer:
        for i in range(COUNT):
            sample = {"jpg": jpeg(photo(20 + i, 30, seed=i)), "seg.png": mask_png(i), "cls": i % 3}
            writer.write({"__key__": f"{i}"} | sample)
    return f"{root}/x-*.tar"


@pytest.mark.parametrize("options", [{}, {"processes": True}])
def test_members_of_samples_are_masks(tmp_path: Path, options: dict[str, Any]) -> None:
    store = built(shards(tmp_path), targets={"seg.png": "mask", "cls": "auto"}, **options)
    check(store, "seg.png")
    assert store.targets["labels"].tolist() == [0, 1, 2, 0, 1, 2]
    assert not store.description.left_out
    assert built(shards(tmp_path), targets={"seg.png": "mask16"}).targets["seg.png"].dtype == np.uint16


def test_samples_of_images_and_masks_alone_are_shards_too(tmp_path: Path) -> None:
    files = {f"{i}.{end}": data for i in range(COUNT) for end, data in (("jpg", JPEG), ("mask.png", mask_png(0)))}
    path = packed(tmp_path / "x.tar", files)
    found = Manifest.of(path)
    assert (len(found), dict(found.left_out)) == (COUNT, {".mask.png": COUNT})
    found = Manifest.of(path, targets={"mask.png": "mask"})
    assert (list(found.masks), dict(found.left_out)) == (["mask.png"], {})


def test_a_sample_without_its_mask_is_a_bad_image(tmp_path: Path) -> None:
    files = {"0.jpg": JPEG, "0.seg.png": png(np.zeros((9, 9), np.uint8)), "s/1.jpg": JPEG, "s/1.cls": b"1"}
    store = built(packed(tmp_path / "x.tar", files), targets={"seg.png": "mask"}, bad="keep")
    reasons = [(bad.slot, bad.reason) for bad in store.bad()]
    assert reasons == [(1, "mask 'seg.png': there is no member 's/1.seg.png' in the archive")]


def test_kinds_and_members_that_shards_do_not_have_are_refused(tmp_path: Path) -> None:
    path = shards(tmp_path)
    with pytest.raises(
        ManifestError, match=r"has no member .depth.png beside its images; .* with targets=\{'…': 'mask'\}"
    ):
        Manifest.of(path, targets={"depth.png": "mask"})
    with pytest.raises(ManifestError, match=r"\.cls cannot become a 'text': shards have the kinds 'auto', 'mask'"):
        Manifest.of(path, targets={"cls": "text"})


# webdataset leaves the closing of its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_masks_are_those_that_webdataset_gives(tmp_path: Path) -> None:
    shards(tmp_path)
    paths = sorted(map(str, tmp_path.glob("*.tar")))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))
    store = built(f"{tmp_path}/x-*.tar", targets={"seg.png": "mask"})
    wanted = [masks.by_pillow(Image.open(io.BytesIO(sample["seg.png"])), store.spec) for sample in samples]
    np.testing.assert_array_equal(store.targets["seg.png"], wanted)
