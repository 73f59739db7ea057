"""Data sets that give pairs of an image and a label, as those of torchvision do, and lists of pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from arraystore import BadImagesError, Manifest, ManifestError, plan
from tests.support import masks
from tests.support import torchvision_data as vision
from tests.support.images import jpeg, photo
from tests.support.photo_folder import CLASSES, built, photo_folder

LABELS = [3, 1, 2, 1]


class Pairs:
    """A data set of pairs, as people write it."""

    def __init__(self, labels: list[Any], **attributes: Any) -> None:
        self.labels = labels
        self.asked: list[int] = []
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, slot: int) -> tuple[Any, Any]:
        if slot >= len(self.labels):
            raise IndexError(slot)
        self.asked.append(slot)
        return photo(20, 24, seed=slot), self.labels[slot]


def pixels_of(source: Any, **options: Any) -> Any:
    return built(source, **options).images


def test_an_image_folder_of_torchvision_is_its_folder(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos")
    for data in (
        vision.ImageFolder(folder),
        vision.DatasetFolder(folder, vision.folder.default_loader, ("jpg", "png")),
    ):
        found, wanted = Manifest.of(data), Manifest.of(folder)
        assert (list(found.sources), found.root, found.classes) == (list(wanted.sources), wanted.root, wanted.classes)
        assert found.digest == wanted.digest


def test_a_subset_of_an_image_folder_takes_its_rows(tmp_path: Path) -> None:
    data = vision.ImageFolder(photo_folder(tmp_path / "photos"))
    found = Manifest.of(Subset(Subset(data, [8, 4, 0]), [2, 0]))
    assert list(found.sources) == ["ant/0.jpg", "cat/2.png"]
    assert (found.targets["labels"].tolist(), found.classes) == ([0, 2], {"labels": CLASSES})
    with pytest.raises(ManifestError, match="the data set has no images"):
        Manifest.of(Subset(data, []))


def test_transforms_of_an_image_folder_are_said_not_to_apply(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos")
    data = vision.ImageFolder(folder, transform=lambda image: image, target_transform=lambda code: code + 5)
    found = Manifest.of(data)
    assert found.notes == ("the transform of the data set is not applied: slots hold the images of its files",)
    assert sorted(set(found.targets["labels"].tolist())) == [5, 6, 7]


def test_an_image_folder_with_a_loader_of_its_own_gives_its_own_images(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos")
    data = vision.ImageFolder(folder, loader=lambda path: Image.new("RGB", (8, 8), (len(path) % 7, 1, 2)))
    store = built(data)
    assert {tuple(slot[:, 0, 0].tolist())[1:] for slot in store.images} == {(1, 2)}
    assert (store.categories, store.targets["labels"].tolist()) == ({"labels": CLASSES}, [0, 0, 0, 1, 1, 1, 2, 2, 2])


def test_fake_data_and_tensors_give_images_and_labels() -> None:
    data = vision.FakeData(5, (3, 12, 10), num_classes=4)
    store = built(data)
    images = [data[slot][0] for slot in range(5)]
    assert np.array_equal(store.images, pixels_of(images))
    assert store.targets["labels"].tolist() == [int(data[slot][1]) for slot in range(5)]
    pixels = torch.from_numpy(np.stack([photo(8, 8, seed=slot) for slot in range(3)]))
    tensors = TensorDataset(pixels, torch.tensor([2, 0, 1]))
    assert built(tensors).targets["labels"].tolist() == [2, 0, 1]
    assert np.array_equal(pixels_of(tensors), pixels_of(pixels.numpy()))


def test_labels_are_taken_from_targets_and_compared_as_images_are_read() -> None:
    data = Pairs(LABELS, targets=LABELS, classes=["a", "b", "c", "d"])
    found = Manifest.of(data)
    assert set(data.asked) == {0}  # only to see what it gives
    assert (found.targets["labels"].tolist(), found.classes) == (LABELS, {"labels": ("a", "b", "c", "d")})
    store = built(data)
    assert np.array_equal(store.images, pixels_of([photo(20, 24, seed=slot) for slot in range(4)]))
    wrong = Pairs(LABELS, targets=[3, 1, 0, 1])
    with pytest.raises(ManifestError, match="item 2 of the data set has the label 2, but the data set lists 0"):
        built(wrong)


def test_without_targets_each_item_is_asked_for_its_label() -> None:
    assert built(Pairs(["x", "z", "y", "x"])).categories == {"labels": ("x", "y", "z")}
    said = "so every item is read twice: for its label, and for its image; pass labels to read each once"
    assert [said in note for note in Manifest.of(Pairs(LABELS)).notes] == [True]
    assert [said in note for note in plan(Pairs(LABELS), size=8, progress=False).notes if "twice" in note] == [True]
    for once in (Manifest.of(Pairs(LABELS), labels=LABELS), Manifest.of(Pairs(LABELS, targets=LABELS))):
        assert once.notes == ()
    data = Pairs(LABELS)
    assert Manifest.of(data, labels=[0, 0, 1, 1]).targets["labels"].tolist() == [0, 0, 1, 1]
    assert set(data.asked) == {0}
    vectors = Pairs([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    assert built(vectors).targets["labels"].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_an_item_that_fails_is_told() -> None:
    class Failing(Pairs):
        def __getitem__(self, slot: int) -> tuple[Any, Any]:
            if slot == 2:
                raise RuntimeError("no such photo")
            return super().__getitem__(slot)

    message = "item 2: the data set gave RuntimeError: no such photo, so its label is not known; leave the item out"
    with pytest.raises(ManifestError, match=message):
        Manifest.of(Failing(LABELS))
    store = built(Failing(LABELS), labels=LABELS, bad="keep")
    assert [(bad.slot, bad.reason) for bad in store.bad()] == [(2, "the source gave RuntimeError: no such photo")]


def test_lists_of_pairs_are_paths_or_images_with_labels(tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos")
    paths = [str(folder / name / "0.jpg") for name in CLASSES]
    found = Manifest.of(list(zip(paths, "bca", strict=True)))
    assert (list(found.sources), found.targets["labels"].tolist()) == (paths, [1, 2, 0])
    images = [photo(9, 9, seed=slot) for slot in range(3)]
    store = built([(image, slot) for slot, image in enumerate(images)])
    assert np.array_equal(store.images, pixels_of(images))
    assert store.targets["labels"].tolist() == [0, 1, 2]
    with pytest.raises(ManifestError, match="an item of the data set is a ndarray, not a pair of an image and a label"):
        Manifest.of([(images[0], 1), images[1]])


def test_a_resumed_build_compares_what_a_data_set_gives(tmp_path: Path) -> None:
    class Changing(Pairs):
        seed = 0

        def __getitem__(self, slot: int) -> tuple[Any, Any]:
            image, label = super().__getitem__(slot)
            image = photo(20, 24, seed=slot + self.seed) if slot == 1 else image
            return (image if slot < 3 else np.zeros(3)), label

    data = Changing(LABELS)
    with pytest.raises(BadImagesError):
        built(data, target=tmp_path / "x.store")
    data.seed = 9
    store = built(data, target=tmp_path / "x.store", bad="keep")
    assert np.array_equal(store.images[1], pixels_of([photo(20, 24, seed=10)])[0])


def tuples() -> Iterator[Any]:
    yield [(1, 2), (3, 4)]
    yield np.zeros((2, 2), object)


@pytest.mark.parametrize("source", list(tuples()))
def test_what_is_no_pair_of_an_image_is_refused(source: Any) -> None:
    with pytest.raises((ManifestError, BadImagesError), match=re.compile("array|image|object")):
        built(source)


# --- labels that are masks --------------------------------------------------------------------------------------------


def written_voc(root: Path, count: int = 5) -> dict[str, Any]:
    """The files of Pascal VOC as torchvision reads them; name → numbers of the mask."""
    base = root / "VOCdevkit/VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / name).mkdir(parents=True)
    numbers = {}
    for i in range(count):
        (base / f"JPEGImages/{i}.jpg").write_bytes(jpeg(photo(30 + i, 40, seed=i)))
        numbers[f"{i}"] = masks.numbers(30 + i, 40, seed=i)
        masks.with_palette(numbers[f"{i}"]).save(base / f"SegmentationClass/{i}.png")
    (base / "ImageSets/Segmentation/train.txt").write_text("\n".join(numbers) + "\n")
    return numbers


@pytest.mark.parametrize("options", [{}, {"processes": True}])
def test_pascal_voc_of_torchvision_gives_masks(tmp_path: Path, options: dict[str, Any]) -> None:
    numbers = written_voc(tmp_path)
    data = vision.VOCSegmentation(tmp_path, "2012", "train")
    store = built(data, **options)
    assert dict(store.description.masks) == {"masks": 255}
    assert set(store.targets) == {"masks"}
    wanted = [masks.by_pillow(numbers[f"{i}"], store.spec) for i in range(5)]
    assert np.array_equal(store.targets["masks"], wanted)
    paths = [tmp_path / f"VOCdevkit/VOC2012/JPEGImages/{i}.jpg" for i in range(5)]
    assert np.array_equal(store.images, pixels_of([Image.open(path) for path in paths]))


def test_the_pets_of_torchvision_give_masks(tmp_path: Path) -> None:
    base = tmp_path / "oxford-iiit-pet"
    for name in ("images", "annotations/trimaps"):
        (base / name).mkdir(parents=True)
    trimaps = [1 + masks.numbers(20, 30, seed=i, classes=3) for i in range(3)]
    for i, trimap in enumerate(trimaps):
        (base / f"images/cat_{i}.jpg").write_bytes(jpeg(photo(20, 30, seed=i)))
        Image.fromarray(trimap).save(base / f"annotations/trimaps/cat_{i}.png")
    (base / "annotations/trainval.txt").write_text("".join(f"cat_{i} 1 1 1\n" for i in range(3)))
    store = built(vision.OxfordIIITPet(tmp_path, target_types="segmentation"))
    assert np.array_equal(store.targets["masks"], [masks.by_pillow(trimap, store.spec) for trimap in trimaps])
    both = vision.OxfordIIITPet(tmp_path, target_types=["category", "segmentation"])
    with pytest.raises(ManifestError, match="the label of the first image has several parts, of which one is a mask"):
        built(both)


class Segmented(Pairs):
    """A data set of pairs of image and mask."""

    def __getitem__(self, slot: int) -> tuple[Any, Any]:
        image, seed = super().__getitem__(slot)
        return image, masks.numbers(20, 24, seed=seed)


@pytest.mark.parametrize("given", ["arrays", "tensors", "lists"])
def test_each_pair_of_image_and_mask_is_read_once(given: str) -> None:
    data: Any = Segmented(LABELS)
    spec = built([photo(9, 9)]).spec
    wanted = [masks.by_pillow(masks.numbers(20, 24, seed=seed), spec) for seed in LABELS]
    if given == "tensors":
        images = torch.from_numpy(np.stack([photo(20, 24, seed=slot) for slot in range(4)]))
        data = TensorDataset(images, torch.from_numpy(np.stack([masks.numbers(20, 24, seed=i) for i in LABELS])))
    elif given == "lists":
        data = [data[slot] for slot in range(4)]
    store = built(data)
    assert np.array_equal(store.targets["masks"], wanted)
    if given == "arrays":
        assert sorted(data.asked) == [0, 0, 0, 1, 2, 3]  # the first is looked at, to know what the items are


def test_labels_that_are_images_but_no_masks_are_refused() -> None:
    image = Image.fromarray(photo(20, 24))
    for pairs in ([(image, image)] * 2, Pairs([image, image])):
        with pytest.raises(ManifestError, match="mask 0: its pixels are RGB, not numbers of classes"):
            Manifest.of(pairs)
    for given in ([("a.jpg", "a.png"), ("b.jpg", "b.png")], None):
        with pytest.raises(ManifestError, match=r"has the paths of images, such as 'a.png', .* if they are masks"):
            Manifest.of(given or ["a.jpg", "b.jpg"], labels=None if given else ["a.png", "b.png"])


def test_a_mask_that_its_data_set_cannot_give_is_that_slots_fault() -> None:
    class Failing(Segmented):
        def __getitem__(self, slot: int) -> tuple[Any, Any]:
            image, mask = super().__getitem__(slot)
            return image, None if slot == 2 else mask[:9] if slot == 3 else mask

    store = built(Failing(LABELS), bad="keep")
    assert [bad.slot for bad in store.bad()] == [2, 3]
    assert "mask 'masks': it is a NoneType, no mask" in store.bad()[0].reason
    assert "of another shape" in store.bad()[1].reason
