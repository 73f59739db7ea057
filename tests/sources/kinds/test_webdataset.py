"""Shards of WebDataset: members that share a key are one sample, read in place in the order of the shards."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from arraystore import Manifest, ManifestError
from tests.support.images import jpeg, photo, png
from tests.support.photo_folder import built

JPEG = jpeg(photo(9, 9))


def shard(path: Path, *members: tuple[str, Any]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            raw = data if isinstance(data, bytes) else str(data).encode()
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path


def written(root: Path) -> str:
    """Two shards by webdataset's own writer: ten samples, a label, a caption and an object each."""
    pattern = f"{root}/photos-%06d.tar"
    with webdataset.ShardWriter(pattern, maxcount=6, verbose=0) as writer:
        for number in range(10):
            writer.write(
                {
                    "__key__": f"sub/{number:04d}",
                    "jpg": jpeg(photo(20, 30, seed=number)),
                    "cls": number % 4,
                    "txt": f"a photo of {number}",
                    "json": {"score": number / 2, "tag": "x" if number % 2 else "y"},
                }
            )
    return pattern


# webdataset leaves the closing of its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_shards_give_what_webdataset_gives(tmp_path: Path) -> None:
    written(tmp_path)
    found = Manifest.of(f"{tmp_path}/photos-{{000000..000001}}.tar")
    paths = sorted(map(str, tmp_path.glob("*.tar")))
    samples = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False))
    assert [found.load(slot).read(10**6) for slot in range(10)] == [sample["jpg"] for sample in samples]
    assert found.targets["labels"].tolist() == [int(sample["cls"]) for sample in samples]
    assert list(found.texts["txt"]) == [sample["txt"].decode() for sample in samples]
    assert (found.targets["labels"].dtype, set(found.targets), set(found.texts)) == (np.int64, {"labels"}, {"txt"})
    store = built(f"{tmp_path}/photos-*.tar")
    wanted = built([sample["jpg"] for sample in samples])
    assert np.array_equal(store.images, wanted.images)
    assert store.samples["source"][9].as_py() == "photos-000001.tar/sub/0009.jpg"


def test_members_of_the_objects_become_targets_on_request(tmp_path: Path) -> None:
    written(tmp_path)
    found = Manifest.of(f"{tmp_path}/photos-*.tar", targets=["cls", "score", "tag"])
    assert list(found.targets) == ["labels", "score", "tag"]
    assert found.targets["score"].tolist() == [number / 2 for number in range(10)]
    assert found.classes == {"tag": ("x", "y")}


def test_a_label_in_the_object_is_the_label_where_there_is_no_other(tmp_path: Path) -> None:
    members = [
        (f"{i}.{suffix}", data) for i in range(3) for suffix, data in (("jpg", JPEG), ("json", f'{{"label": {i}}}'))
    ]
    assert Manifest.of(shard(tmp_path / "x.tar", *members)).targets["labels"].tolist() == [0, 1, 2]


def test_class_names_become_classes_and_given_labels_replace_them(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", ("0.jpg", JPEG), ("0.cls", "dog\n"), ("1.jpg", JPEG), ("1.cls", "cat"))
    found = Manifest.of(path)
    assert (found.targets["labels"].tolist(), found.classes) == ([1, 0], {"labels": ("cat", "dog")})
    assert Manifest.of(path, labels=[5, 6]).targets["labels"].tolist() == [5, 6]


def test_masks_and_samples_without_an_image_are_left_out_and_counted(tmp_path: Path) -> None:
    mask = png(np.zeros((9, 9), np.uint8))
    members = [("0.jpg", JPEG), ("0.seg.png", mask), ("0.cls", 1), ("1.cls", 2), ("2.jpg", JPEG), ("2.cls", 3)]
    found = Manifest.of(shard(tmp_path / "x.tar", *members))
    assert found.targets["labels"].tolist() == [1, 3]
    assert dict(found.left_out) == {".seg.png": 1, ".cls": 1}


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        (
            [("0.jpg", JPEG), ("0.cls", 1), ("1.jpg", JPEG)],
            {},
            "the sample of '1.jpg' has no member .cls, as others have",
        ),
        ([("0.jpg", JPEG), ("0.cls", b"\xff")], {}, "the sample of '0.jpg' has a member .cls that cannot be read"),
        (
            [("0.jpg", JPEG), ("0.json", "{")],
            {"targets": ["a"]},
            "the sample of '0.jpg' has a member .json that cannot be read",
        ),
        ([("0.jpg", JPEG), ("0.json", "{}")], {"targets": ["a"]}, "has no 'a' that is a target in its .json"),
        ([("0.jpg", JPEG), ("0.cls", 1)], {"targets": ["a"]}, "has no member .a beside its images"),
        ([("0.jpg", JPEG), ("0.json", "[" * 100_000)], {"targets": ["a"]}, "has a member .json that cannot be read"),
    ],
)
def test_samples_that_lack_a_target_are_refused(
    tmp_path: Path, members: list[tuple[str, Any]], options: dict[str, Any], message: str
) -> None:
    path = shard(tmp_path / "x.tar", *members)
    with pytest.raises(ManifestError, match=re.escape(message)) as caught:
        Manifest.of(path, **options)
    assert caught.value.source == str(path)


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    shard(tmp_path / "x-0.tar", ("0.jpg", JPEG), ("0.cls", 1))
    with pytest.raises(ManifestError, match=re.escape(f"{tmp_path}/x-1.tar: there is no such archive")):
        Manifest.of(f"{tmp_path}/x-{{0..1}}.tar")


def test_a_bad_image_is_that_slots_fault(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", ("0.jpg", JPEG), ("0.cls", 1), ("1.jpg", JPEG[:50]), ("1.cls", 2))
    store = built(path, bad="keep")
    assert [bad.slot for bad in store.bad()] == [1]
    with Image.open(io.BytesIO(JPEG)) as image:
        assert store.samples["height"][0].as_py() == image.height


def test_samples_of_json_beside_an_image_make_a_webdataset(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", ("a/0.jpg", JPEG), ("a/0.json", json.dumps({"width": 9})))
    assert dict(Manifest.of(path).targets) == {}
