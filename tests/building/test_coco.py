"""COCO from the file to the store: masks are drawn by the workers, and coordinates fit the images that they are for."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.coco import CATEGORIES, class_numbers, coco_folder, composed, instance, run_lengths
from support.command import run
from support.faults import build_in_steps, contents
from support.nursery import KilledError, Nursery
from support.store_contract import build, count_decodes

import arraystore
from arraystore import BadImagesError, Manifest, Store
from arraystore._format.description import Description

HEIGHT, WIDTH = 24, 36
ALL = ["boxes", "labels", "iscrowd", "masks", "instance_masks"]
DISK = np.hypot(*(np.indices((HEIGHT, WIDTH)) - np.array([10, 20])[:, None, None])) < 8
ANNOTATIONS = [
    *(instance(image, 18, [[image, 2, 30, 3, 20.5, 20]]) for image in range(9)),
    *(instance(image, 1, run_lengths(DISK, packed=image % 2 == 0)) for image in range(0, 9, 2)),
    instance(3, 90, run_lengths(~DISK, packed=True), crowd=True),
]


def listed(folder: Path, annotations: Any = ANNOTATIONS, sides: Any = ((HEIGHT, WIDTH),) * 9) -> str:
    return coco_folder(folder, sides, annotations)


def stored(path: str, target: Path | None = None, *, size: Any = (HEIGHT, WIDTH), **options: Any) -> Store:
    return build(path, target, **{"size": size, "targets": ALL} | options)


def rewrite(path: str, **members: Any) -> None:
    """Change members of a file, and leave the images as they are."""
    Path(path).write_text(json.dumps(json.loads(Path(path).read_text()) | members))


def expected(image: int, annotations: Any = ANNOTATIONS) -> Any:
    own = [each for each in annotations if each["image_id"] == image]
    return composed(own, HEIGHT, WIDTH, class_numbers(own))


@pytest.mark.parametrize("options", [{}, {"processes": True, "workers": 2}, {"workers": 3}], ids=str)
def test_the_masks_of_a_store(tmp_path: Path, options: dict[str, Any]) -> None:
    path = listed(tmp_path)
    store = stored(path, tmp_path / "x.store", **options)
    for image in range(9):
        np.testing.assert_array_equal(store.targets["masks"][image], expected(image))
        numbered = store.targets["instance_masks"][image]
        labels = np.append(store.targets["labels"][image] + 1, 0)
        crowds = np.append(store.targets["iscrowd"][image], 0)
        np.testing.assert_array_equal(  # the number of an item less 1 is its index, and 0 becomes the last one
            np.where(crowds[numbered.astype(int) - 1], 255, labels[numbered.astype(int) - 1]), expected(image)
        )
    assert dict(store.description.masks) == {"masks": 255, "instance_masks": 255}
    assert store.categories["masks"] == ("background", "person", "dog", "toothbrush")
    assert json.loads((tmp_path / "x.store/store.json").read_text())["classes"]["masks"][0] == "background"
    assert store.verify(progress=False).ok
    hdf5 = stored(path, tmp_path / "x.h5", **options)
    np.testing.assert_array_equal(hdf5.targets["masks"], store.targets["masks"])


def test_masks_have_the_geometry_of_their_images(tmp_path: Path) -> None:
    store = stored(listed(tmp_path), size=(12, 24), fit="pad", targets=["masks"])
    mask = store.targets["masks"][4]
    assert (mask[:, :3] == 255).all()
    assert (mask[:, 21:] == 255).all()
    np.testing.assert_array_equal(mask[:, 3:21], expected(4)[1::2, 1::2])


def test_a_build_that_is_killed_goes_on(tmp_path: Path, nursery: Nursery) -> None:
    path = listed(tmp_path / "photos")
    options = {"targets": ALL, "size": (HEIGHT, WIDTH), "workers": 2}
    (tmp_path / "calm").mkdir()
    steps = nursery.run(build_in_steps, path, tmp_path / "calm/x.store", **options)
    for at in (steps // 4, steps // 2, steps - 5):
        place = tmp_path / f"{at}"
        place.mkdir()
        fork = nursery.start(build_in_steps, path, place / "x.store", die_at=at, **options)
        with suppress(KilledError):  # a build takes more or fewer steps, as its threads go: it may be finished before
            fork.result()
        fork.gone()
        if (place / "x.store").exists():
            arraystore.open(place / "x.store").close()
        else:
            stored(path, place / "x.store").close()
        assert contents(place) == contents(tmp_path / "calm")


def test_an_image_whose_annotation_cannot_be_drawn_is_bad(tmp_path: Path) -> None:
    path = listed(tmp_path, [*ANNOTATIONS, instance(5, 1, [[1, 2]])])
    store = stored(path, bad="keep")
    (bad,) = store.bad()
    assert (bad.slot, bad.source) == (5, "5.jpg")
    reason = f"annotation {len(ANNOTATIONS)} (counted from 0) has a polygon of 2 numbers: a polygon has x and y of 3"
    assert reason in bad.reason
    assert bad.reason.startswith("mask 'instance_masks': ")
    for image in range(9):
        np.testing.assert_array_equal(store.targets["masks"][image], 255 if image == 5 else expected(image))


# --- the images that coordinates are for -----------------------------------------------------------------------------


def turn(path: str, image: int, orientation: int) -> None:
    file = Path(path).with_name(f"{image}.jpg")
    file.write_bytes(images.turned(file.read_bytes(), orientation))


LIES_ELSEWHERE = (
    "the upright image is 24 x 36 pixels, but its coordinates are for one of 36 x 24, so they would lie elsewhere"
)


@pytest.mark.parametrize("targets", [None, ["boxes"], ["labels", "boxes", "masks"]])
@pytest.mark.parametrize("processes", [False, True])
def test_coordinates_of_an_image_that_is_not_upright_are_refused(tmp_path: Path, targets: Any, processes: bool) -> None:
    """As many tools give them, which know nothing of the orientation in a JPEG."""
    path = listed(tmp_path)
    turn(path, 2, 6)
    (bad,) = stored(path, bad="keep", targets=targets, processes=processes).bad()
    assert bad.slot == 2
    shape = "mask 'masks': it is 36 x 24 pixels, but its upright image 24 x 36, of another shape"
    assert bad.reason.startswith(shape if targets and "masks" in targets else LIES_ELSEWHERE)
    with pytest.raises(BadImagesError, match=r"2\.jpg"):
        stored(path, targets=targets)
    forecast = arraystore.plan(path, size=8, targets=targets, progress=False)
    assert [each.slot for each in forecast.bad] == [2]
    assert not stored(path, targets=["labels"]).bad()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_coordinates_are_those_of_the_upright_image(tmp_path: Path, orientation: int) -> None:
    sides = [(HEIGHT, WIDTH), (WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH)]
    path = listed(tmp_path, ANNOTATIONS[:1], sides)
    file = tmp_path / "0.jpg"
    upright = images.photo(HEIGHT, WIDTH, seed=0)
    back = {3: np.rot90(upright, 2), 6: np.rot90(upright, 1), 8: np.rot90(upright, -1)}[orientation]
    turned = images.jpeg(np.ascontiguousarray(back), orientation=orientation, quality=100, subsampling="444")
    file.write_bytes(turned)
    store = stored(path)
    assert abs(store.images[0].transpose(1, 2, 0).astype(int) - upright).max() < 8
    np.testing.assert_array_equal(store.targets["masks"][0], expected(0, ANNOTATIONS[:1]))
    told = [(3, "its orientation is 3, and its coordinates are taken as those of the upright image")]
    assert [(orientation, noted.reason) for noted in store.noted()] == (told if orientation == 3 else [])
    assert not stored(path, targets=["labels"]).noted()


def test_a_square_image_that_is_turned_is_noted(tmp_path: Path) -> None:
    path = listed(tmp_path, ANNOTATIONS[:1], [(30, 30)] * 2)
    turn(path, 1, 8)
    (noted,) = stored(path, targets=["boxes"]).noted()
    assert (noted.slot, noted.reason.partition(",")[0]) == (1, "its orientation is 8")


def test_a_file_that_is_mended_needs_no_other_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an image was refused for lies in another file than the image."""
    targets = ["boxes", "labels"]
    path = listed(tmp_path, ANNOTATIONS, [(HEIGHT, WIDTH)] * 9)
    good = Path(path).read_text()
    members = json.loads(good)
    members["images"][4] |= {"height": 100, "width": 200}
    Path(path).write_text(json.dumps(members))
    with pytest.raises(BadImagesError, match="its coordinates are for one of 200 x 100"):
        stored(path, tmp_path / "x.store", targets=targets)
    kept = stored(path, tmp_path / "y.store", targets=targets, bad="keep")
    assert [bad.slot for bad in kept.bad()] == [4]
    Path(path).write_text(good)
    decoded = count_decodes(monkeypatch)
    assert not stored(path, tmp_path / "x.store", targets=targets).bad()
    assert len(decoded) == 1
    updated = arraystore.update(tmp_path / "y.store", path, targets=targets, progress=False)
    assert not updated.bad()
    assert len(decoded) == 2


def test_masks_alone_may_be_of_another_scale(tmp_path: Path) -> None:
    """Then nothing lies elsewhere: a mask shows all of its image."""
    path = listed(tmp_path)
    for image in range(9):
        Path(path).with_name(f"{image}.jpg").write_bytes(images.jpeg(images.photo(HEIGHT // 2, WIDTH // 2, seed=image)))
    store = stored(path, targets=["masks"])
    np.testing.assert_array_equal(store.targets["masks"][3], expected(3))
    with pytest.raises(BadImagesError, match="9 of 9 images could not be stored"):
        stored(path, bad="keep", targets=["boxes", "masks"])


def test_the_memory_of_a_drawn_mask_is_bounded(tmp_path: Path) -> None:
    """The file says how large it is, and its image may be small."""
    large = [{"id": 0, "file_name": "0.jpg", "height": 3000, "width": 4000}]
    path = coco_folder(tmp_path, [(30, 40)], [instance(0, 18, [[0, 0, 4000, 0, 0, 3000]])], images=large)
    with pytest.raises(BadImagesError, match=r"its 4000 x 3000 pixels would take 0\.12 GB, more than the 0\.10"):
        stored(path, targets=["masks"], max_memory="100 MB")
    (mask,) = stored(path, targets=["masks"], max_memory="200 MB", workers=2).targets["masks"]
    assert np.unique(mask).tolist() == [0, 2]


def test_sizes_that_the_file_does_not_say_are_not_looked_at(tmp_path: Path) -> None:
    path = listed(tmp_path)
    members = json.loads(Path(path).read_text())
    for image, odd in zip(members["images"], [None, 0, "24", 24.5, -1, [], 24.0, True, 10**400], strict=True):
        image["height"] = odd
    Path(path).write_text(json.dumps(members))
    assert not stored(path, targets=None).bad()
    manifest = Manifest.of(path)
    assert pickle.loads(pickle.dumps(manifest)).sides_of(range(9)) == {6: (24, WIDTH)}


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_an_update_draws_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, target = listed(tmp_path), tmp_path / "x.store"
    stored(path, target)
    assert not arraystore.compare(target, path, targets=ALL)
    annotations = [*ANNOTATIONS]
    annotations[7] = instance(7, 18, [[1, 1, 9, 2, 5, 20]])
    annotations[2] = instance(2, 18, [])
    rewrite(path, annotations=annotations)
    decoded = count_decodes(monkeypatch)
    updated = arraystore.update(target, path, targets=ALL, bad="keep", progress=False)
    assert len(decoded) == 2
    for image in range(9):
        wanted = 255 if image == 2 else expected(image, annotations)
        np.testing.assert_array_equal(updated.targets["masks"][image], wanted)
    assert updated.verify(progress=False).ok


def test_an_update_with_a_new_category_keeps_the_numbers(tmp_path: Path) -> None:
    path, target = listed(tmp_path, ANNOTATIONS, [(HEIGHT, WIDTH)] * 10), tmp_path / "x.store"
    before = stored(path, target)
    was = np.array(before.targets["masks"])
    annotations = [*ANNOTATIONS, instance(9, 5, [[1, 2, 30, 3, 20.5, 20]])]
    rewrite(path, annotations=annotations, categories=[*CATEGORIES, {"id": 5, "name": "cat"}])  # between the others
    updated = arraystore.update(target, path, targets=ALL, progress=False)
    assert updated.categories["masks"] == ("background", "person", "dog", "toothbrush", "cat")
    assert updated.classes == updated.categories["masks"][1:]
    np.testing.assert_array_equal(updated.targets["masks"][:9], was[:9])
    assert {*np.unique(updated.targets["masks"][9])} == {0, 4}
    assert updated.verify(progress=False).ok


def test_slots_with_masks_are_a_source(tmp_path: Path) -> None:
    store = stored(listed(tmp_path))
    part = build(store[[4, 2]], tmp_path / "part.store", size=(HEIGHT, WIDTH))
    np.testing.assert_array_equal(part.targets["masks"], store.targets["masks"][[4, 2]])
    assert part.categories == store.categories
    again = build(part, classes=store, size=(HEIGHT, WIDTH))
    np.testing.assert_array_equal(again.targets["masks"], part.targets["masks"])
    with pytest.raises(
        arraystore.ManifestError, match=r"the masks 'masks' of these slots have numbers of other classes"
    ):
        build(part, classes=["toothbrush", "dog", "person"])


def test_a_number_without_a_class_is_found(tmp_path: Path) -> None:
    target = tmp_path / "x.store"
    stored(listed(tmp_path), target)
    description = Description.from_json(json.loads((target / "store.json").read_text()), "x")
    classes = {**description.classes, "masks": ("background", "person")}
    (target / "store.json").write_text(replace(description, classes=classes).to_text())
    faults = [fault.message for fault in arraystore.verify(target, progress=False).faults]
    assert any("masks.npy gives a pixel of slot 0 the number 2, but there are 2 classes" in fault for fault in faults)


def test_the_command(tmp_path: Path) -> None:
    path = listed(tmp_path)
    result = run("build", path, tmp_path / "x.store", "--size", f"{HEIGHT}x{WIDTH}", "--targets", ",".join(ALL))
    assert "masks: masks of uint8, 24 x 36 a row, 4 classes: background, person, dog, toothbrush" in result.stdout
    assert "instance_masks: masks of uint8, 24 x 36 a row\n" in result.stdout
    np.testing.assert_array_equal(arraystore.open(tmp_path / "x.store").targets["masks"][3], expected(3))
