"""Masks, boxes, keypoints and tables follow the images that become smaller, and what is not understood is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import images

import arraystore
from arraystore import BadImagesError, ManifestError, Masks, PresizeReport, SpecError
from arraystore._building.presizing.annotations import rle

SIZES = {"a/1.jpg": (120, 90), "a/2.jpg": (64, 200), "b/3.jpg": (50, 81), "4.png": (90, 90)}
SIDE = 40


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for seed, (name, size) in enumerate(SIZES.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.photo(*size, seed=seed)).save(folder / name)
    return folder


def presize(source: Any, target: Path, **options: Any) -> PresizeReport:
    return arraystore.presize(source, target, **{"progress": False, "workers": 2, "shorter": SIDE} | options)


def after(name: str) -> tuple[int, int]:
    height, width = SIZES[name]
    return int(height * SIDE / min(height, width) + 0.5), int(width * SIDE / min(height, width) + 0.5)


def factors(name: str) -> tuple[float, float]:
    """What x and y are multiplied with."""
    (height, width), (new_height, new_width) = SIZES[name], after(name)
    return new_width / width, new_height / height


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A palette mask, one in gray, one of 16 bits, and one at half the scale of its image."""
    folder = tmp_path / "labels"
    for name in SIZES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    indices = Image.fromarray(images.noise(*SIZES["a/1.jpg"], 1) % 5).convert("P")
    indices.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    indices.save(folder / "a" / "1.png", transparency=0)
    Image.fromarray(images.noise(*SIZES["a/2.jpg"], 1)).save(folder / "a" / "2.png")
    deep = np.random.default_rng(0).integers(0, 65_535, SIZES["b/3.jpg"], np.uint16)
    Image.fromarray(deep).save(folder / "b" / "3.png")
    Image.fromarray(images.noise(45, 45, 1) % 2 * 255).convert("1").save(folder / "4.png")
    return folder


def test_masks_keep_numbers_and_palettes(photos: Path, masks: Path, tmp_path: Path) -> None:
    presize(photos, tmp_path / "s", masks=masks)
    for name in SIZES:
        stem = str(Path(name).with_suffix(""))
        with Image.open(masks / f"{stem}.png") as before, Image.open(tmp_path / "s" / "masks" / f"{stem}.png") as mask:
            height, width = after(name)
            wanted = np.asarray(before.resize((width, height), Image.Resampling.NEAREST)).astype(np.int64)
            np.testing.assert_array_equal(np.asarray(mask).astype(np.int64), wanted)
            assert (mask.mode == "P") == (before.mode == "P")
            if mask.mode == "P":
                assert mask.getpalette() == before.getpalette()
                assert mask.info["transparency"] == before.info["transparency"] == 0
    with Image.open(tmp_path / "s" / "images" / "a" / "1.jpg") as image:
        assert image.size[::-1] == after("a/1.jpg")


def test_the_trees_are_built_from_as_they_are(photos: Path, masks: Path, tmp_path: Path) -> None:
    (masks / "b" / "3.png").unlink()
    (photos / "b" / "3.jpg").unlink()
    arraystore.presize(photos, tmp_path / "s-{size}", size=[(30, 20), (12, 10)], masks=masks, progress=False)
    for name, size in (("s-30x20", (30, 20)), ("s-12x10", (12, 10))):
        targets = {"mask": Masks(tmp_path / name / "masks")}
        paths = sorted((tmp_path / name / "images").rglob("*.jpg"))
        small = arraystore.build(
            arraystore.Manifest.from_paths(
                [str(path.relative_to(tmp_path / name / "images")) for path in paths],
                root=tmp_path / name / "images",
                targets=targets,
            ),
            size=size,
            progress=False,
        )
        assert small.targets["mask"].shape == (3, *size)


@pytest.mark.parametrize("orientation", [3, 6])
def test_masks_are_upright(tmp_path: Path, orientation: int) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "m").mkdir()
    (tmp_path / "p" / "x.jpg").write_bytes(images.jpeg(images.photo(60, 90), orientation=orientation))
    upright = (60, 90) if orientation == 3 else (90, 60)
    mask = images.noise(*upright, 1)
    Image.fromarray(mask).save(tmp_path / "m" / "x.png")
    arraystore.presize(tmp_path / "p", tmp_path / "s", size=(20, 20), fit="crop", masks=tmp_path / "m", progress=False)
    top, left = (upright[0] - 60) // 2, (upright[1] - 60) // 2
    wanted = Image.fromarray(mask).resize((20, 20), Image.Resampling.NEAREST, (left, top, left + 60, top + 60))
    with Image.open(tmp_path / "s" / "masks" / "x.png") as found:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def test_masks_that_are_missing_or_of_another_shape_make_bad_images(photos: Path, masks: Path, tmp_path: Path) -> None:
    (masks / "a" / "1.png").unlink()
    Image.fromarray(images.noise(10, 90, 1)).save(masks / "4.png")
    with pytest.raises(BadImagesError) as caught:
        presize(photos, tmp_path / "s", masks=masks)
    assert [bad.source for bad in caught.value.bad] == ["4.png", "a/1.jpg"]
    assert "of another shape" in caught.value.bad[0].reason
    assert "there is no such file" in caught.value.bad[1].reason
    assert not (tmp_path / "s" / "images" / "4.jpg").exists()


def test_a_mask_that_changes_is_made_again(photos: Path, masks: Path, tmp_path: Path) -> None:
    presize(photos, tmp_path / "s", masks=masks)
    assert presize(photos, tmp_path / "s", masks=masks).unchanged == 4
    Image.fromarray(images.noise(90, 90, 1) % 7).save(masks / "4.png")
    assert presize(photos, tmp_path / "s", masks=masks).written == 1
    (tmp_path / "s" / "masks" / "4.png").unlink()
    assert presize(photos, tmp_path / "s", masks=masks).written == 1
    with pytest.raises(arraystore.StoreError, match="made in another way: masks True, now False"):
        presize(photos, tmp_path / "s")


# --- COCO -------------------------------------------------------------------------------------------------------------


def coco(**changes: Any) -> dict[str, Any]:
    sizes = {key: SIZES[key] for key in ("a/1.jpg", "a/2.jpg", "4.png")}
    listed = [
        {"id": i, "file_name": name, "height": height, "width": width, "license": 1, "coco_url": "http://x/y.jpg"}
        for i, (name, (height, width)) in enumerate(sizes.items())
    ]
    annotations = [
        {"id": 7, "image_id": 0, "category_id": 3, "bbox": [9.5, 12, 30, 60.25], "area": 900, "iscrowd": 0,
         "segmentation": [[9.5, 12, 39.5, 12, 20, 70]], "keypoints": [10, 20, 2, 0, 0, 0], "num_keypoints": 1},
        {"id": 8, "image_id": 1, "category_id": 3, "bbox": [0, 0, 200, 64], "caption": "all of it"},
    ]  # fmt: skip
    whole: dict[str, Any] = {"info": {"year": 2026}, "licenses": [], "images": listed, "annotations": annotations}
    return whole | {"categories": [{"id": 3, "name": "cat"}]} | changes


def write_coco(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(coco(**changes)))
    return path


def test_a_coco_file_follows_by_the_rounded_size_of_each_axis(photos: Path, tmp_path: Path) -> None:
    path = write_coco(tmp_path / "instances.json")
    report = arraystore.presize(photos, tmp_path / "s-{size}", longer=(33, 50), boxes=path, progress=False)
    assert report.annotations == (tmp_path / "s-33" / "instances.json", tmp_path / "s-50" / "instances.json")
    for side in (33, 50):
        found = json.loads((tmp_path / f"s-{side}" / "instances.json").read_text())
        assert {name: found[name] for name in ("info", "licenses", "categories")} == {
            name: coco()[name] for name in ("info", "licenses", "categories")
        }
        assert [image["file_name"] for image in found["images"]] == ["a/1.jpg", "a/2.jpg", "4.jpg"]
        for image in found["images"]:
            with Image.open(tmp_path / f"s-{side}" / image["file_name"]) as opened:
                assert (image["width"], image["height"]) == opened.size
        first, second = found["annotations"]
        x, y = found["images"][0]["width"] / 90, found["images"][0]["height"] / 120
        assert first["bbox"] == pytest.approx([9.5 * x, 12 * y, 30 * x, 60.25 * y], abs=1e-6)
        assert first["segmentation"] == [pytest.approx([9.5 * x, 12 * y, 39.5 * x, 12 * y, 20 * x, 70 * y], abs=1e-6)]
        assert first["keypoints"] == pytest.approx([10 * x, 20 * y, 2, 0, 0, 0], abs=1e-6)
        assert first["area"] == pytest.approx(900 * x * y)
        assert {key: first[key] for key in ("id", "image_id", "category_id", "iscrowd", "num_keypoints")} == {
            "id": 7, "image_id": 0, "category_id": 3, "iscrowd": 0, "num_keypoints": 1
        }  # fmt: skip
        assert second["bbox"] == [0, 0, found["images"][1]["width"], found["images"][1]["height"]]
        store = arraystore.build(tmp_path / f"s-{side}" / "instances.json", size=8, progress=False)
        np.testing.assert_allclose(
            store.targets["boxes"][0][0], np.array([9.5 * x, 12 * y, 39.5 * x, 72.25 * y]), rtol=1e-6
        )


def test_a_coco_file_as_the_source_is_written_too(photos: Path, tmp_path: Path) -> None:
    path = write_coco(photos / "instances.json")
    report = presize(path, tmp_path / "s")
    assert report.count == 3
    assert report.annotations == (tmp_path / "s" / "instances.json",)
    assert presize(path, tmp_path / "s").annotations == ()
    path.write_text(json.dumps(coco(annotations=[])))
    assert len(presize(path, tmp_path / "s").annotations) == 1
    assert json.loads((tmp_path / "s" / "instances.json").read_text())["annotations"] == []


def test_images_that_are_bad_are_left_out_of_a_coco_file(photos: Path, tmp_path: Path) -> None:
    path = write_coco(tmp_path / "instances.json")
    (photos / "a" / "1.jpg").write_bytes(b"no")
    presize(photos, tmp_path / "s", boxes=path, bad="keep")
    found = json.loads((tmp_path / "s" / "instances.json").read_text())
    assert [image["id"] for image in found["images"]] == [1, 2]
    assert [each["id"] for each in found["annotations"]] == [8]


@pytest.mark.parametrize("packed", [False, True])
def test_run_lengths_follow(photos: Path, tmp_path: Path, packed: bool) -> None:
    mask = (images.noise(120, 90, 1) > 128) & (np.arange(90) > 4)
    counts = rle._counts(mask.T.reshape(-1))
    run_lengths = {"size": [120, 90], "counts": rle._packed(counts) if packed else counts}
    each = {"id": 1, "image_id": 0, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1, "segmentation": run_lengths}
    presize(photos, tmp_path / "s", boxes=write_coco(tmp_path / "x.json", annotations=[each]))
    (found,) = json.loads((tmp_path / "s" / "x.json").read_text())["annotations"]
    segmentation = found["segmentation"]
    height, width = after("a/1.jpg")
    assert segmentation["size"] == [height, width]
    counts = rle._unpacked(segmentation["counts"]) if packed else segmentation["counts"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    wanted = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(flat.reshape(width, height).T, np.asarray(wanted))


def test_run_lengths_are_packed_as_coco_has_them() -> None:
    # From pycocotools.mask.encode of a mask of 9 x 7 pixels with one box, and of one with a long run.
    assert rle._packed([20, 4, 5, 4, 30]) == "d04503i0" or rle._unpacked(rle._packed([20, 4, 5, 4, 30])) == [
        20,
        4,
        5,
        4,
        30,
    ]
    for counts in ([0, 63], [63], [1, 2, 3, 4, 5000, 6, 70000], [0, 1, 1, 1, 1, 100, 0]):
        assert rle._unpacked(rle._packed(counts)) == counts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "x"}, "has no list 'images'"),
        ({"annotations": {}}, "has no list 'images', or its 'annotations' are none"),
        ({"images": [{"id": 1}]}, r"image 0 \(counted from 0\) has no text 'file_name'"),
        ({"images": [{"file_name": "4.png"}]}, "has no whole number or text 'id'"),
        ({"images": [{"id": 1, "file_name": "4.png"}] * 2}, "'4.png', comes twice"),
        ({"images": [{"id": 1, "file_name": "nowhere.png"}]}, "none of its images is among those in"),
        ({"videos": [{"id": 1}]}, r"'videos' is .*may be coordinates, and is not understood.*unscaled=\['videos'\]"),
        ({"images": [{"id": 0, "file_name": "4.png", "crop": [1, 2]}], "annotations": []}, "'crop' is"),
        ({"annotations": [{"id": 1}]}, "annotation 0 .* has no 'image_id'"),
        ({"annotations": [{"image_id": 99}]}, "is of the image 99, which is not there"),
        ({"annotations": [{"image_id": 0, "bbox": [0, 0.5, 0.25, 1]}]}, "so they are shares of the sides, not pixels"),
        ({"annotations": [{"image_id": 0, "rotation": 3.5}]}, "'rotation' is 3.5"),
        ({"annotations": [{"image_id": 0, "attributes": {"x": 1}}]}, "'attributes' is"),
    ],
)
def test_a_coco_file_that_is_not_understood_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        presize(photos, tmp_path / "s", boxes=write_coco(tmp_path / "x.json", **changes))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"bbox": [1, 2, 3]}, "'bbox' is"),
        ({"bbox": [1, 2, 3, "x"]}, "'bbox' is"),
        ({"bbox": [1, 2, 3, 400]}, "'bbox': 400 lies outside an image of 120 pixels"),
        ({"bbox": [-50, 2, 3, 4]}, "'bbox': -50 lies outside"),
        ({"bbox": [float("nan"), 2, 3, 4]}, "'bbox': nan lies outside"),
        ({"segmentation": [[1, 2, 3]]}, "'segmentation' is"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, "'segmentation' is"),
        ({"segmentation": {"size": [120, 90], "counts": [81]}}, "'segmentation' is"),
        ({"segmentation": {"size": [120, 90], "counts": "~"}}, "'segmentation' is"),
        ({"keypoints": [1, 2]}, "'keypoints' is"),
        ({"area": "large"}, "'area' is"),
    ],
)
def test_boxes_that_are_none_are_refused(
    photos: Path, tmp_path: Path, annotation: dict[str, Any], message: str
) -> None:
    each = {"id": 1, "image_id": 0, "category_id": 3} | annotation
    with pytest.raises(ManifestError, match=message):
        presize(photos, tmp_path / "s", boxes=write_coco(tmp_path / "x.json", annotations=[each]))
    assert not (tmp_path / "s" / "x.json").exists()


def test_a_coco_file_of_images_of_another_size_is_refused(photos: Path, tmp_path: Path) -> None:
    (photos / "a" / "1.jpg").write_bytes(images.jpeg(images.photo(90, 120), orientation=6))
    presize(photos, tmp_path / "upright", boxes=write_coco(tmp_path / "x.json"))
    (photos / "a" / "1.jpg").write_bytes(images.jpeg(images.photo(120, 90), orientation=6))
    with pytest.raises(ManifestError, match=r"'a/1.jpg' has 90 x 120 pixels in this file, and upright it has 120 x 90"):
        presize(photos, tmp_path / "s", boxes=write_coco(tmp_path / "x.json"))
    assert not (tmp_path / "s" / "x.json").exists()


def test_members_that_are_no_coordinates_can_be_copied(photos: Path, tmp_path: Path) -> None:
    each = {"id": 1, "image_id": 0, "rotation": 3.5, "attributes": {"occluded": 1}}
    path = write_coco(tmp_path / "x.json", annotations=[each])
    presize(photos, tmp_path / "s", boxes=path, unscaled=["rotation", "attributes"])
    assert json.loads((tmp_path / "s" / "x.json").read_text())["annotations"] == [each]


def test_boxes_and_crops_do_not_go_together(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a crop would cut boxes"):
        presize(photos, tmp_path / "s", shorter=None, size=20, fit="crop", boxes=write_coco(tmp_path / "x.json"))
    assert not (tmp_path / "s").exists()


# --- YOLO -------------------------------------------------------------------------------------------------------------

YOLO = {
    "a/1.txt": "0 0.5 0.5 0.25 0.125\n3 0.1 0.2 0.3 0.4\n",
    "a/2.txt": "",
    "4.txt": "1 0 0 1 0 1 1\n2 0.5 0.5 0.2 0.2 0.4 0.4 2 0.6 0.6 1\n",
    "extra.txt": "whatever\n",
}


def write_yolo(folder: Path, **changes: str) -> Path:
    for name, text in (YOLO | changes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_yolo_files_go_beside_the_images(photos: Path, tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "labels")
    report = presize(photos, tmp_path / "s", boxes=folder)
    assert len(report.annotations) == 3
    assert {str(path.relative_to(tmp_path / "s")): path.read_text() for path in (tmp_path / "s").rglob("*.txt")} == {
        name: text for name, text in YOLO.items() if name != "extra.txt"
    }
    assert presize(photos, tmp_path / "s", boxes=folder).annotations == ()
    (folder / "4.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    assert presize(photos, tmp_path / "s", boxes=folder).annotations == (tmp_path / "s" / "4.txt",)
    (photos / "a" / "1.jpg").write_bytes(b"no")
    presize(photos, tmp_path / "s", boxes=folder, bad="keep")
    assert not (tmp_path / "s" / "a" / "1.txt").exists()
    (folder / "4.txt").unlink()
    assert presize(photos, tmp_path / "s", boxes=folder, bad="keep").stale == (tmp_path / "s" / "4.txt",)


@pytest.mark.parametrize(
    "line", ["0 12 14 30 40", "cat 0.1 0.1 0.1 0.1", "0 0.1 0.1 0.1", "0 0.5 0.5 0.5 1.5", "0 nan 0 0 0"]
)
def test_yolo_files_in_pixels_are_refused(photos: Path, tmp_path: Path, line: str) -> None:
    folder = write_yolo(tmp_path / "labels", **{"a/2.txt": f"0 0.5 0.5 0.5 0.5\n{line}\n"})
    with pytest.raises(ManifestError, match=r"a/2\.txt: line 2 is .*, not a class and coordinates from 0 to 1"):
        presize(photos, tmp_path / "s", boxes=folder)
    assert [path for path in (tmp_path / "s").rglob("*.*") if ".presize" not in path.parts] in (
        [],
        [tmp_path / "s" / ".presize"],
    )


def test_boxes_that_are_neither_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="has no text file for any image in"):
        presize(photos, tmp_path / "s", boxes=tmp_path / "empty")
    with pytest.raises(ManifestError, match="neither a COCO file"):
        presize(photos, tmp_path / "s", boxes=tmp_path / "x.xml")
    with pytest.raises(ManifestError, match="there is no such file"):
        presize(photos, tmp_path / "s", boxes=tmp_path / "x.json")


# --- tables -----------------------------------------------------------------------------------------------------------


def write_table(photos: Path, columns: dict[str, list[Any]], name: str = "metadata.csv", separator: str = ",") -> Path:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path = photos / name
    with path.open("w", newline="") as file:
        if name.endswith(".jsonl"):
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, columns, delimiter=separator)
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_table(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        rows = [*csv.DictReader(file)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_metadata_follows(photos: Path, tmp_path: Path) -> None:
    write_table(
        photos,
        {
            "file_name": [*SIZES],
            "label": ["cat", "a, b", 'q"x', "3"],
            "age": ["07", "1.50", "", "1e3"],
            "xmin": [0, 100.5, 3, 4],
            "box_y": [0, 10, 50, 6],
            "bbox": ["[1, 2, 30, 40]", "[0, 0, 200, 64]", "[]", "[[1, 2, 3, 4], [5, 6, 7, 8]]"],
            "left_eye_x": [0.5, 0.25, 0.75, 1],
            "width": [width for _, width in SIZES.values()],
            "height": [height for height, _ in SIZES.values()],
            "image_id": [5, 6, 7, 8],
        },
    )
    report = presize(photos, tmp_path / "s")
    assert report.scaled == ("bbox", "box_y", "xmin")
    found = read_table(tmp_path / "s" / "metadata.csv")
    before = read_table(photos / "metadata.csv")
    assert found["file_name"] == ["a/1.jpg", "a/2.jpg", "b/3.jpg", "4.jpg"]
    for name in ("label", "age", "left_eye_x", "image_id"):
        assert found[name] == before[name]
    assert [*zip(map(int, found["height"]), map(int, found["width"]), strict=True)] == [after(name) for name in SIZES]
    scales = [factors(name) for name in SIZES]
    wanted = [float(value) * x for value, (x, _) in zip(before["xmin"], scales, strict=True)]
    assert [*map(float, found["xmin"])] == pytest.approx(wanted, abs=1e-6)
    wanted = [float(value) * y for value, (_, y) in zip(before["box_y"], scales, strict=True)]
    assert [*map(float, found["box_y"])] == pytest.approx(wanted, abs=1e-6)
    x, y = scales[0]
    assert json.loads(found["bbox"][0]) == pytest.approx([x, 2 * y, 30 * x, 40 * y], abs=1e-6)
    assert json.loads(found["bbox"][2]) == []
    x, y = scales[3]
    assert np.allclose(json.loads(found["bbox"][3]), np.array([[1, 2, 3, 4], [5, 6, 7, 8]]) * [x, y, x, y], atol=1e-6)
    store = arraystore.build(tmp_path / "s", size=8, targets=["label", "age"], progress=False)
    assert len(store) == 4


def test_json_lines_follow_with_the_objects_of_hugging_face(photos: Path, tmp_path: Path) -> None:
    objects = [{"bbox": [[1, 2, 30, 40.5]], "categories": [3], "area": [1215]}, *[{"bbox": [], "categories": []}] * 3]
    write_table(photos, {"file_name": [*SIZES], "objects": objects, "text": ["a"] * 4}, "metadata.jsonl")
    presize(photos, tmp_path / "s")
    rows = [json.loads(line) for line in (tmp_path / "s" / "metadata.jsonl").read_text().splitlines()]
    x, y = factors("a/1.jpg")
    assert rows[0]["objects"]["bbox"][0] == pytest.approx([x, 2 * y, 30 * x, 40.5 * y], abs=1e-6)
    assert rows[0]["objects"]["area"] == [pytest.approx(1215 * x * y, abs=1e-5)]
    assert rows[0]["objects"]["categories"] == [3]
    assert [row["file_name"] for row in rows] == ["a/1.jpg", "a/2.jpg", "b/3.jpg", "4.jpg"]


def test_tables_elsewhere_with_other_names_and_conditions(photos: Path, tmp_path: Path) -> None:
    columns = {"id": ["a/1", "a/2", "b/3"], "split": ["train", "val", "train"], "label": [1, 2, 3]}
    (tmp_path / "tables").mkdir()
    path = write_table(tmp_path / "tables", columns, "x.csv", ";")
    report = presize(
        path, tmp_path / "s", root=photos, path_column="id", suffix=".jpg", separator=";", where="split=train"
    )
    assert report.count == 2
    with (tmp_path / "s" / "x.csv").open(newline="") as file:
        rows = [*csv.DictReader(file, delimiter=";")]
    assert [(row["id"], row["label"]) for row in rows] == [("a/1.jpg", "1"), ("b/3.jpg", "3")]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("keypoints", ["[1, 2, 3, 4]"] * 4, "has no lists of 2 or 3 numbers"),
        ("bbox", ["[1, 2, 3]"] * 4, "has no lists of 4 numbers"),
        ("bbox", ["1 2 3 4"] * 4, "is a text"),
        ("xmin", ["left"] * 4, "is a text"),
        ("xmin", [0, 1, 1, 1], "has only 0 and 1, which may be pixels or shares"),
        ("rotation", [1, 2, 3, 4], "is not known"),
        ("embedding", ["[1.5, 2.5]"] * 4, "is not known"),
        ("mask", ["masks/1.png"] * 4, "names another image"),
        ("mask_rle", ["1 2 3 4"] * 4, "is a text"),
    ],
)
def test_columns_that_are_not_understood_are_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, column: str, values: list[Any], message: str
) -> None:
    write_table(photos, {"file_name": [*SIZES], column: values})
    with pytest.raises(ManifestError, match=rf"metadata\.csv: .*'{column}' {message}.*unscaled=\['{column}'\]"):
        presize(photos, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    presize(photos, tmp_path / "s", unscaled=[column])
    assert read_table(tmp_path / "s" / "metadata.csv")[column] == [*map(str, values)]


def test_coordinates_outside_and_sizes_of_other_images_are_refused(photos: Path, tmp_path: Path) -> None:
    write_table(photos, {"file_name": [*SIZES], "xmax": [10, 20, 30, 5000]})
    with pytest.raises(ManifestError, match=r"row 3 \(counted from 0\): 5000 lies outside an image of 90 pixels"):
        presize(photos, tmp_path / "s")
    write_table(photos, {"file_name": [*SIZES], "width": [10, 20, 30, 40]})
    with pytest.raises(ManifestError, match="'width' is not that of the upright image, 90 pixels"):
        presize(photos, tmp_path / "s")
    assert not (tmp_path / "s" / "metadata.csv").exists()


def test_parquet_is_refused(photos: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.table({"file_name": [*SIZES]}), photos / "metadata.parquet")
    with pytest.raises(ManifestError, match="a table of this format cannot be written for the smaller images"):
        presize(photos, tmp_path / "s")


def test_a_table_of_somebody_else_is_not_replaced(photos: Path, tmp_path: Path) -> None:
    presize(photos, tmp_path / "s")
    (tmp_path / "s" / "metadata.csv").write_text("mine")
    write_table(photos, {"file_name": [*SIZES]})
    with pytest.raises(arraystore.StoreExistsError, match=r"metadata\.csv is there already"):
        presize(photos, tmp_path / "s")
    assert (tmp_path / "s" / "metadata.csv").read_text() == "mine"
