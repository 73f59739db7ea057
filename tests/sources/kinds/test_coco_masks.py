"""Masks of a COCO file: on request, drawn in the workers, pixel for pixel from what pycocotools draws."""

from __future__ import annotations

import json
import re
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from support.coco import CATEGORIES, class_numbers, coco_folder, composed, instance, run_lengths

from arraystore import DecodeError, Manifest, ManifestError
from arraystore._sources.kinds.coco.regions import DrawnRegions
from arraystore._sources.targets.mask_sources import DrawnMask

HEIGHT, WIDTH = 30, 40
BOTH = ["masks", "instance_masks"]
SQUARE = [5, 5, 25, 5, 25, 25, 5, 25]
TRIANGLE = [10.5, 8, 38.25, 9, 20, 29]
BLOB = np.hypot(*(np.indices((HEIGHT, WIDTH)) - np.array([12, 20])[:, None, None])) < 9
STRIPES = np.indices((HEIGHT, WIDTH)).sum(axis=0) % 5 < 2

ANNOTATIONS = [
    instance(0, 18, [TRIANGLE, [1, 1, 4, 1, 4, 4]]),
    instance(1, 90, run_lengths(BLOB, packed=True)),
    instance(0, 90, run_lengths(BLOB, packed=False)),
    instance(0, 1, run_lengths(STRIPES, packed=False), crowd=True),
    instance(0, 1, [SQUARE]),
    instance(1, 18, run_lengths(STRIPES, packed=True), crowd=True),
    instance(1, 1, [[0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]]),
    instance(0, 18, [[-9, 20, 60.7, 22, 18.2, 99]]),
]


def masks_of(path: str, targets: Any = BOTH, **options: Any) -> dict[str, list[Any]]:
    """The numbers of each mask of a file, by target."""
    manifest = Manifest.of(path, targets=targets, **options)
    rows = [manifest.load_masks(row) for row in range(len(manifest))]
    return {name: [_numbers(row[at]) for row in rows] for at, name in enumerate(manifest.masks)}


def _numbers(mask: Any) -> Any:
    assert isinstance(mask, DrawnMask)
    numbers = mask.numbers()
    assert numbers.shape == mask.shape
    return numbers


def of_image(annotations: Any, image: int) -> list[Any]:
    return [each for each in annotations if each["image_id"] == image]


def test_masks_of_classes_and_of_instances(tmp_path: Path) -> None:
    path = coco_folder(tmp_path, [(HEIGHT, WIDTH)] * 3, ANNOTATIONS)
    found = masks_of(path)
    for image in range(3):
        own = of_image(ANNOTATIONS, image)
        expected = composed(own, HEIGHT, WIDTH, class_numbers(own))
        np.testing.assert_array_equal(found["masks"][image], expected)
        expected = composed(own, HEIGHT, WIDTH, range(1, len(own) + 1))
        np.testing.assert_array_equal(found["instance_masks"][image], expected)
    assert {*np.unique(found["masks"][0])} == {0, 1, 2, 3, 255}
    assert not found["masks"][2].any()
    manifest = Manifest.of(path, targets=[*BOTH, "labels"])
    assert manifest.classes == {
        "labels": ("person", "dog", "toothbrush"),
        "masks": ("background", "person", "dog", "toothbrush"),
    }
    assert {name: masks.dtype.str for name, masks in manifest.masks.items()} == dict.fromkeys(BOTH, "|u1")
    assert not manifest.notes


def test_each_annotation_alone_is_what_pycocotools_makes_of_the_file(tmp_path: Path) -> None:
    for annotation in ANNOTATIONS:
        path = coco_folder(tmp_path, [(HEIGHT, WIDTH)] * 2, [annotation])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            expected = COCO(path).annToMask(annotation | {"id": 1})
        (mask,) = [mask for mask in masks_of(path)["instance_masks"] if mask.any()]
        np.testing.assert_array_equal(mask, expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_annotations(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    annotations = []
    for kind in data.draw(st.lists(st.sampled_from(["polygons", "packed", "list"]), max_size=6)):
        if kind == "polygons":
            corners = [rng.normal([width, height], 30, (rng.integers(3, 9), 2)) / 2 for _ in range(rng.integers(1, 4))]
            segmentation: Any = [each.round(rng.integers(0, 3)).ravel().tolist() for each in corners]
        else:
            segmentation = run_lengths(rng.random((height, width)) < rng.random(), packed=kind == "packed")
        annotations.append(instance(0, int(rng.choice([1, 18, 90])), segmentation, crowd=bool(rng.random() < 0.3)))
    found = masks_of(coco_folder(tmp_path_factory.mktemp("any"), [(height, width)], annotations))
    expected = composed(annotations, height, width, class_numbers(annotations))
    np.testing.assert_array_equal(found["masks"][0], expected)
    expected = composed(annotations, height, width, range(1, len(annotations) + 1))
    np.testing.assert_array_equal(found["instance_masks"][0], expected)


@pytest.mark.parametrize("indent", [None, 1])
def test_spaces_and_names_inside_the_file_change_nothing(tmp_path: Path, indent: int | None) -> None:
    path = coco_folder(tmp_path, [(HEIGHT, WIDTH)] * 2, ANNOTATIONS)
    expected = masks_of(path)
    members = json.loads(Path(path).read_text())
    for annotation in members["annotations"]:
        annotation["more"] = {"segmentation": [[7, 7, 9, 9, 0, 0]], "counts": [1], "size": [1, 1]}
        annotation |= {"polygons": 0, "polygons_": 0}
    Path(path).write_text(json.dumps(members, indent=indent))
    for name, masks in masks_of(path).items():
        np.testing.assert_array_equal(masks, expected[name])


def test_more_than_254_numbers_take_16_bits(tmp_path: Path) -> None:
    categories = [{"id": number, "name": f"c{number}"} for number in range(255)]
    annotations = [instance(0, number, [[x := number % 38, 2, x + 2, 2, x, 9]]) for number in range(254, -1, -1)]
    annotations.append(instance(0, 3, [SQUARE], crowd=True))
    for count, bits in ((255, 16), (254, 8)):
        chosen = [each for each in annotations if each["category_id"] < count][:count]
        path = coco_folder(
            tmp_path, [(HEIGHT, WIDTH)], [*chosen, annotations[-1]][-count:], categories=categories[:count]
        )
        manifest = Manifest.of(path, targets=BOTH)
        assert {masks.bits for masks in manifest.masks.values()} == {bits}
        assert manifest.masks["masks"].fill in masks_of(path)["masks"][0]
        assert count in masks_of(path)["instance_masks"][0] or bits == 8
    assert len(manifest.classes["masks"]) == 255


def test_a_category_may_be_called_background(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "background"}, *CATEGORIES[:1]]
    path = coco_folder(tmp_path, [(HEIGHT, WIDTH)], [instance(0, 1, [SQUARE])], categories=categories)
    assert Manifest.of(path, targets=["masks"]).classes["masks"] == ("background of all", "background", "dog")
    assert masks_of(path, ["masks"])["masks"][0][10, 10] == 1


def test_classes_fix_the_numbers(tmp_path: Path) -> None:
    path = coco_folder(tmp_path, [(HEIGHT, WIDTH)] * 2, ANNOTATIONS)
    before, names = masks_of(path)["masks"], ["cat", "toothbrush", "dog", "person"]
    table = np.zeros(256, np.uint16)
    table[[1, 2, 3, 255]] = 4, 3, 2, 255
    for classes in (names, {"masks": ["background", *names]}):
        manifest = Manifest.of(path, targets=["masks"], classes=classes)
        assert manifest.classes["masks"] == ("background", *names)
        after = masks_of(path, ["masks"], classes=classes)["masks"]
        np.testing.assert_array_equal(after, [table[mask] for mask in before])
    many = [*names, *map(str, range(300))]
    assert Manifest.of(path, targets=["masks"], classes=many).masks["masks"].bits == 16
    assert np.max(masks_of(path, ["masks"], classes=many)["masks"]) == 65_535
    both = Manifest.of(path, targets=["labels", "masks"], classes=names)
    assert both.classes["labels"] == tuple(names)
    assert both.targets["labels"][0].tolist() == [2, 1, 3, 3, 2]
    with pytest.raises(ManifestError, match=r"has the class 'toothbrush', which is not among the 3 given ones"):
        Manifest.of(path, targets=["masks"], classes=["person", "dog"])
    with pytest.raises(ManifestError, match=r"the classes of 'masks' begin with 'dog', but number 0 of masks is 'back"):
        Manifest.of(path, targets=["masks"], classes={"masks": ["dog", "person", "toothbrush"]})


def test_classes_of_the_callers_own_labels_are_none_of_the_masks(tmp_path: Path) -> None:
    path = coco_folder(tmp_path, [(9, 9)] * 2, [instance(0, 18, [[1, 1, 5, 1, 5, 5]])])
    given = Manifest.of(path, labels=["day", "night"], targets=["masks"], classes=["night", "day"])
    assert given.targets["labels"].tolist() == [1, 0]
    assert given.classes == {
        "labels": ("night", "day"),
        "masks": ("background", "person", "dog", "toothbrush"),
    }
    assert given.source_options["classes"] == ["labels"]


def test_what_a_mask_is_made_of_is_part_of_its_digest(tmp_path: Path) -> None:
    """So that a build that goes on, and an update, know that it has changed."""
    digests = set()
    changes: list[dict[str, Any]] = [
        {},
        {"segmentation": [SQUARE]},
        {"category_id": 1},
        {"iscrowd": 1},
        {"segmentation": run_lengths(BLOB, packed=True)},
    ]
    for change in changes:
        path = coco_folder(tmp_path, [(HEIGHT, WIDTH)] * 2, [{**ANNOTATIONS[0], **change}, *ANNOTATIONS[1:]])
        manifest = Manifest.of(path, targets=["masks"])
        digests.add((manifest.digest, manifest.load_masks(0)[0].digest()))  # type: ignore[union-attr]
        assert manifest.load_masks(1)[0].digest() == Manifest.of(path, targets=["masks"]).load_masks(1)[0].digest()  # type: ignore[union-attr]
    one, other = (DrawnRegions(3, 4, texts, (1, 1), (0, 0), (0, 1)) for texts in ((b"", b"[]"), (b"[]", b"")))
    assert one.digest() != other.digest()
    assert len(digests) == len({one for one, _ in digests}) == len({other for _, other in digests}) == len(changes)


# --- faults ----------------------------------------------------------------------------------------------------------

NO_POLYGON = "which is no list of x and y, one after the other"
SIDES = [HEIGHT, WIDTH]
PIXELS = "1,200 pixels of its image"


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "has no 'segmentation', so its pixels are not known"),
        ([], "has no 'segmentation', so its pixels are not known"),
        ({}, "has no 'segmentation', so its pixels are not known"),
        ("x", "has the segmentation 'x', neither polygons nor run lengths"),
        (7, "has the segmentation 7, neither polygons nor run lengths"),
        (SQUARE, f"has the polygon 5, {NO_POLYGON}"),
        ([SQUARE, []], "has a polygon of 0 numbers: a polygon has x and y of 3 corners or more"),
        ([[1, 2]], "has a polygon of 2 numbers: a polygon has x and y of 3 corners or more"),
        ([[1, 2, 3, 4]], "has a polygon of 4 numbers: a polygon has x and y of 3 corners or more"),
        ([[*SQUARE, 1]], "has a polygon of 9 numbers: a polygon has x and y of 3 corners or more"),
        ([["1", 2, 3, 4, 5, 6]], f"has the polygon ['1', 2, 3, 4, 5, 6], {NO_POLYGON}"),
        ([[[1, 2], [3, 4], [5, 6]]], f"has the polygon [[1, 2], [3, 4], [5, 6]], {NO_POLYGON}"),
        ([[True, 2, 3, 4, 5, 6]], f"has the polygon [True, 2, 3, 4, 5, 6], {NO_POLYGON}"),
        ([[np.nan, 2, 3, 4, 5, 6]], "has the polygon [nan, 2, 3, 4, 5, 6], whose corners are no pixels"),
        ([[np.inf, 2, 3, 4, 5, 6]], "has the polygon [inf, 2, 3, 4, 5, 6], whose corners are no pixels"),
        ([[10**9, 2, 3, 4, 5, 6]], "has the polygon [1000000000, 2, 3, 4, 5, 6], whose corners are no pixels"),
        ([[10**400, 2, 3, 4, 5, 6]], "has the polygon [1000000000000"),
        ([SQUARE] * 5000, "and those before it cover their image more than 1,000 times"),
        ([[0, 0, 40, 3] * 20_000], "and those before it cover their image more than 1,000 times"),  # its edges do
        ({"size": [30, 30], "counts": [900]}, "has run lengths of the size [30, 30], but its image is [30, 40]"),
        ({"size": None, "counts": [900]}, "has run lengths of the size None, but its image is [30, 40]"),
        ({"counts": [900]}, "has run lengths of the size None, but its image is [30, 40]"),
        ({"size": SIDES}, "has the run lengths None, which are neither whole numbers nor a text"),
        ({"size": SIDES, "counts": {"a": 1}}, "has the run lengths {'a': 1}, which are neither whole numbers nor"),
        ({"size": SIDES, "counts": [1.0, 2]}, "has the run lengths [1.0, 2], which are neither whole numbers nor"),
        ({"size": SIDES, "counts": ["1", 2]}, "has the run lengths ['1', 2], which are neither whole numbers nor"),
        ({"size": SIDES, "counts": "é"}, "has the run lengths 'é', which are neither whole numbers nor a text"),
        ({"size": SIDES, "counts": [-1, 1201]}, "has run lengths that are negative, or longer than its image"),
        ({"size": SIDES, "counts": [10**400]}, "has run lengths that are negative, or longer than its image"),
        ({"size": SIDES, "counts": [2**63, 1200]}, "has run lengths that are negative, or longer than its image"),
        ({"size": SIDES, "counts": []}, f"has run lengths that do not make the {PIXELS}"),
        ({"size": SIDES, "counts": ""}, f"has run lengths that do not make the {PIXELS}"),
        ({"size": SIDES, "counts": [600, 599]}, f"has run lengths that do not make the {PIXELS}"),
        ({"size": SIDES, "counts": [600, 600, 1]}, f"has run lengths that do not make the {PIXELS}"),
        ({"size": SIDES, "counts": "0T"}, "has run lengths whose letters cannot be read"),
        ({"size": SIDES, "counts": "PPPPPPPPPP0"}, "has run lengths whose letters cannot be read"),
        ({"size": SIDES, "counts": " 1"}, "has run lengths whose letters cannot be read"),
        ({"size": SIDES, "counts": "@0"}, f"has run lengths that do not make the {PIXELS}"),
        ({"size": SIDES, "counts": "_" * 100}, "has run lengths whose letters cannot be read"),
    ],
)
def test_an_annotation_that_cannot_be_drawn_makes_its_image_bad(
    tmp_path: Path, segmentation: Any, message: str
) -> None:
    annotations = [*ANNOTATIONS[:2], instance(0, 1, segmentation)]
    manifest = Manifest.of(coco_folder(tmp_path, [(HEIGHT, WIDTH)] * 2, annotations), targets=["masks"])
    with pytest.raises(DecodeError, match=re.escape(f"annotation 2 (counted from 0) {message}")):
        manifest.load_masks(0)[0].numbers()  # type: ignore[union-attr]
    assert manifest.load_masks(1)[0].numbers().any()  # type: ignore[union-attr]


def test_polygons_that_are_no_json_are_found_by_those_who_draw_them(tmp_path: Path) -> None:
    path = Path(coco_folder(tmp_path, [(HEIGHT, WIDTH)], [instance(0, 1, [[1, 2, 3, 4, 5, 6]])]))
    path.write_text(path.read_text().replace("[[1, 2, 3", "[[1-2, 3"))
    assert list(Manifest.of(str(path)).targets) == ["boxes", "labels", "iscrowd"]
    (mask,) = Manifest.of(str(path), targets=["masks"]).load_masks(0)
    with pytest.raises(DecodeError, match="has a segmentation that cannot be read: "):
        mask.numbers()  # type: ignore[union-attr]


def test_digits_after_polygons_are_a_fault_of_the_file(tmp_path: Path) -> None:
    path = Path(coco_folder(tmp_path, [(HEIGHT, WIDTH)], [instance(0, 1, [SQUARE])] * 20))
    path.write_text(path.read_text().replace("25]]", "25]]0", 2))
    with pytest.raises(ManifestError, match=r"instances\.json: the JSON cannot be read: Expecting ',' delimiter"):
        Manifest.of(str(path), targets=["masks"])


@pytest.mark.parametrize(
    "member", [{"width": None}, {"height": "30"}, {"height": -30}, {"width": 40.5}, {"width": 1e30}]
)
def test_images_of_unknown_size_are_refused(tmp_path: Path, member: dict[str, Any]) -> None:
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 30, "width": 40} for number in range(2)]
    path = coco_folder(tmp_path, [(30, 40)] * 2, ANNOTATIONS, images=[images[0], images[1] | member])
    message = "image 1 (counted from 0), '1.jpg', has no 'height' and 'width' in pixels, which masks need"
    with pytest.raises(ManifestError, match=re.escape(message)) as caught:
        Manifest.of(path, targets=["masks"])
    assert caught.value.slot == 1
    assert len(Manifest.of(path)) == 2


def test_a_file_without_segmentations_has_no_masks(tmp_path: Path) -> None:
    path = coco_folder(tmp_path, [(30, 40)], [instance(0, 1, []), instance(0, 1, None)])
    message = "has no 'segmentation', nor has any other one; leave out the masks, such as with targets=['boxes'"
    with pytest.raises(ManifestError, match=re.escape(message)):
        Manifest.of(path, targets=["masks"])
    path = coco_folder(tmp_path, [(30, 40)], [])
    assert not masks_of(path)["masks"][0].any()


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"caption": "A dog."}, "a file of captions, which has several texts for an image"),
        ({"file_name": "0.png", "segments_info": []}, "a panoptic file, whose regions are in PNG files of colors"),
    ],
)
@pytest.mark.parametrize("targets", [None, ["masks"], ["labels"], ["boxes"]])
def test_files_of_other_kinds_are_named(tmp_path: Path, annotation: dict[str, Any], message: str, targets: Any) -> None:
    path = coco_folder(tmp_path, [(30, 40)], [])
    members = json.loads(Path(path).read_text()) | {"annotations": [{"image_id": 0, "id": 1} | annotation]}
    Path(path).write_text(json.dumps(members))
    message = f"{path}: annotation 0 (counted from 0) is of {message}: the files of instances and of keypoints can be"
    with pytest.raises(ManifestError, match=re.escape(message)) as caught:
        Manifest.of(path, targets=targets)
    assert caught.value.advice
    assert len(Manifest.of(path, targets=[])) == 1


def test_regions_take_the_memory_of_their_text(tmp_path: Path) -> None:
    """As lists of Python they would take ten times that."""
    polygon = [round(10 + x / 7, 2) for x in range(200)]
    path = coco_folder(tmp_path, [(30, 40)], [instance(0, 1, [polygon]) for _ in range(2000)])
    size = Path(path).stat().st_size
    Manifest.of(path, targets=["masks"])
    tracemalloc.start()
    manifest = Manifest.of(path, targets=["masks"])
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest) == 1
    assert held < 1.2 * size
    assert most < 5 * size
