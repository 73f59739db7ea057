"""docs/sources.md: every row of its tables is a call that works and gives the targets that the row names."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import webdataset
from PIL import Image

import arraystore
from tests.support import torchvision_data as vision
from tests.support.images import jpeg, photo
from tests.support.photo_folder import CLASSES, photo_folder

PAGE = Path(__file__).resolve().parents[2] / "docs/sources.md"
ROWS = re.findall(r"^\| (?!You have)([^|]+) \| `([^|]+)` \| ([^|]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
NAMES = {
    "build": arraystore.build,
    "concatenate": arraystore.concatenate,
    "lazy": arraystore.lazy,
    "np": np,
    "pd": pd,
    "Image": Image,
}
NAMES |= {"Masks": arraystore.Masks}
NAMES |= {"datasets": datasets, "vision": vision, "Path": Path}

datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the rows name."""
    root = tmp_path_factory.mktemp("sources")
    photos = photo_folder(root / "photos")
    shutil.copytree(photos, root / "photos-2")
    (root / "photos-2/dog").mkdir()
    shutil.copytree(photos / "cat", root / "val/cat")
    shutil.copytree(photos / "ant", root / "meta")
    images = [f"photos/{name}/0.jpg" for name in CLASSES]
    (root / "meta/metadata.csv").write_text("file_name,label,score\n0.jpg,a,1.5\n1.jpg,b,\n2.png,a,2\n")
    (root / "masks").mkdir()
    for file in (photos / "ant").iterdir():
        with Image.open(file) as image:
            Image.new("P", image.size, 3).save(root / f"masks/{file.stem}.png")
    (root / "masks.csv").write_text("path,label,mask\nphotos/ant/0.jpg,x,masks/0.png\n")
    write_masked(root, photos / "ant/0.jpg")
    (root / "train.txt").write_text("ant/0.jpg 0\nbee/0.jpg 1\n")
    captions = [
        f"{path},{name},{code / 2},one of {code}" for code, (path, name) in enumerate(zip(images, CLASSES, strict=True))
    ]
    (root / "t.csv").write_text("\n".join(["path,label,score,caption", *captions]))
    (root / "tags.csv").write_text("path,tags\nphotos/ant/0.jpg,sun;sea\nphotos/ant/1.jpg,sea\n")
    (root / "ids.csv").write_text("id,label\nant/0,x\nbee/1,y\n")
    (root / "semicolon.csv").write_text("path;label\nphotos/ant/0.jpg;x\n")
    (root / "split.csv").write_text("path,label,split\nphotos/ant/0.jpg,x,train\nphotos/ant/1.jpg,x,val\n")
    listed = [{"id": code, "file_name": f"{name}/0.jpg"} for code, name in enumerate(CLASSES)]
    kinds = [{"id": 1, "name": "wing"}, {"id": 2, "name": "leg"}]
    boxes = [{"image_id": 0, "category_id": 2, "bbox": [1, 2, 3, 4]}]
    (root / "instances.json").write_text(json.dumps({"images": listed, "categories": kinds, "annotations": boxes}))
    for image in listed:
        with Image.open(photos / image["file_name"]) as opened:
            image["width"], image["height"] = opened.size
    people = [
        {
            "image_id": 0,
            "category_id": 1,
            "bbox": [1, 2, 3, 4],
            "keypoints": [1, 2, 2],
            "segmentation": [[1, 1, 9, 1, 5, 9]],
        }
    ]
    (root / "persons.json").write_text(json.dumps({"images": listed, "categories": kinds, "annotations": people}))
    lines = [
        {"path": images[0], "boxes": [[0, 0, 9, 9]], "labels": ["wing"]},
        {"path": images[1], "boxes": [], "labels": []},
    ]
    (root / "boxes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for file in sorted(photos.rglob("*.*")):
            archive.write(file, file.relative_to(root))
    for name, size in (("seen.store", 224), ("seen.h5", 32)):
        arraystore.build(photos, root / name, size=size, progress=False).close()
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(CLASSES)))
    cells = [{"bytes": Path(root, path).read_bytes(), "path": path} for path in images]
    data = datasets.Dataset.from_dict({"image": cells, "label": [0, 1, 2]}, features)
    data.to_parquet(root / "shards/train-00000-of-00001.parquet")
    with webdataset.ShardWriter(f"{root}/shards/photos-%06d.tar", maxcount=2, verbose=0) as writer:
        for number in range(4):
            image = jpeg(photo(20, 30, seed=number))
            writer.write(
                {"__key__": f"{number}", "jpg": image, "cls": number, "txt": "x", "json": {"score": number / 2}}
            )
    return root


def write_masked(root: Path, photo_file: Path) -> None:
    """An archive, a table, shards and a data set of torchvision that hold an image and its mask, some times."""
    with Image.open(photo_file) as image:
        seen, mask = png_of(image), png_of(Image.new("P", image.size, 3))
    with zipfile.ZipFile(root / "segmented.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"images/{number}.png", seen)
            archive.writestr(f"masks/{number}.png", mask)
    kinds_of = datasets.Features(image=datasets.Image(), annotation=datasets.Image())
    pairs = {"image": [{"bytes": seen, "path": None}] * 3, "annotation": [{"bytes": mask, "path": None}] * 3}
    datasets.Dataset.from_dict(pairs, kinds_of).to_parquet(root / "segmented.parquet")
    voc = root / "voc/VOCdevkit/VOC2012"
    for folder, suffix, data in (("JPEGImages", "jpg", seen), ("SegmentationClass", "png", mask)):
        (voc / folder).mkdir(parents=True)
        for number in range(2):
            (voc / f"{folder}/{number}.{suffix}").write_bytes(data)
    (voc / "ImageSets/Segmentation").mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("0\n1\n")
    (root / "shards").mkdir()
    with webdataset.ShardWriter(f"{root}/shards/masked-%06d.tar", maxcount=2, verbose=0) as writer:
        for number in range(4):
            writer.write({"__key__": f"{number}", "png": seen, "seg.png": mask, "cls": number})


def png_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_the_page_has_all_its_rows() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    assert len(ROWS) == len(lines) - 2 * sum(line.startswith("|---") for line in lines)


@pytest.mark.parametrize(("have", "say", "get"), ROWS, ids=[have for have, _, _ in ROWS])
def test_a_row_gives_what_it_says(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, have: str, say: str, get: str
) -> None:
    for path in prepared.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    sizes = []
    for file in sorted(Path("photos/ant").iterdir()):
        with Image.open(file) as image:
            sizes.append(image.size)
    known = {**NAMES, "sizes": sizes, "__builtins__": {}}
    store: arraystore.Store = eval(say, known)  # noqa: S307 - our own page
    assert not store.bad()
    named = {name for name in re.findall(r"`([a-z_]+(?:\.[a-z]+)?)`", get) if name != "ClassLabel"}
    assert {*store.targets} | ({"caption", "txt"} & {*store.samples.schema.names}) == named, have
    assert "no targets" in get or named
    assert store.images.shape[1:] == (3, 224, 224)


def test_a_class_without_images_and_the_codes_of_another_store_are_kept(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    options: dict[str, Any] = {"size": 8, "progress": False}
    assert arraystore.build("photos-2", allow_empty=True, **options).categories == {"labels": (*CLASSES, "dog")}
    val = arraystore.build("val", classes=arraystore.build("photos", **options), **options)
    assert val.targets["labels"].tolist() == [2, 2, 2]
