"""Masks follow the geometry of their images in every loader, without being told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import masks
from support.store_contract import build

import arraystore
from arraystore import Augment, CenterCrop, ImageSpec, PadAndCrop, RandomCrop, RandomResizedCrop, Store

COUNT = 16
SPEC = ImageSpec(size=32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Images whose pixels are the numbers of their masks, in all three channels."""
    folder = tmp_path_factory.mktemp("follow")
    table = masks.write(folder / "own", COUNT)
    for i in range(COUNT):
        mask = masks.numbers(32, 32, seed=i)
        masks.with_palette(mask).save(folder / f"own/m/{i:02}.png")
        masks.Image.fromarray(np.dstack([mask] * 3)).save(folder / f"own/i/{i:02}.png")
    return build(table, folder / "x.store", spec=SPEC, targets=masks.TARGETS)


GEOMETRIES = {
    "crop": Augment(crop=RandomCrop(20), hflip=0.5, vflip=0.5),
    "center": Augment(crop=CenterCrop((10, 24)), hflip=1.0),
    "pad": Augment(crop=PadAndCrop(9, fill=255), hflip=0.5),
    "flips": Augment(hflip=0.5, vflip=0.5),
    "floats": Augment(crop=RandomCrop(20), hflip=0.5, dtype="float32"),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_mask_shows_what_its_image_shows(store: Store, name: str) -> None:
    loader = store.loader(5, targets=["mask", "labels"], augment=GEOMETRIES[name], seed=3)
    turned = 0
    for batch in loader:
        pixels = batch["images"][:, 0]
        scale = 255 if name == "floats" else 1
        np.testing.assert_array_equal(np.rint(pixels * scale), batch["mask"])
        turned += len(pixels)
    assert turned == COUNT


def test_a_resized_crop_takes_the_nearest_pixels(store: Store) -> None:
    augment = Augment(crop=RandomResizedCrop(24), hflip=0.5)
    told = Augment(crop=RandomResizedCrop(24), hflip=0.5, follow={"mask": "mask"})
    for one, other in zip(
        store.loader(5, targets=["mask"], augment=augment),
        store.loader(5, targets=["mask"], augment=told),
        strict=True,
    ):
        np.testing.assert_array_equal(one["mask"], other["mask"])
        assert one["mask"].shape[1:] == (24, 24)
        assert set(np.unique(one["mask"])) <= set(range(masks.CLASSES))


def test_what_lies_outside_the_slot_is_no_class(store: Store) -> None:
    """Images are black there, and black is class 0 elsewhere."""
    (batch,) = store.loader(COUNT, targets=["mask"], augment=Augment(crop=PadAndCrop(9)), shuffle=False)
    beside = batch["mask"] == 255
    assert beside.any(axis=(1, 2)).sum() > COUNT // 2
    assert not batch["images"][:, 0][beside].any()
    assert (batch["images"][:, 0][~beside] == batch["mask"][~beside]).all()


def test_a_mask_as_the_only_target_and_without_an_augmentation(store: Store) -> None:
    for images, mask in store.loader(5, targets="mask", augment=GEOMETRIES["crop"]):
        np.testing.assert_array_equal(images[:, 1], mask)
    for images, mask in store.loader(5, targets="mask"):
        np.testing.assert_array_equal(images[:, 1], mask)
    for images, labels in store.loader(5, augment=GEOMETRIES["crop"]):  # whose batches have no mask
        assert (images.shape[2:], labels.ndim) == ((20, 20), 1)


def test_choices_and_joined_stores_keep_their_masks(store: Store, tmp_path: Path) -> None:
    both: Any = arraystore.concatenate([store[3:9], store])
    for images, mask in both.loader(7, targets="mask", augment=GEOMETRIES["crop"]):
        np.testing.assert_array_equal(images[:, 2], mask)
    arrays = build(
        np.zeros((4, 32, 32, 3), np.uint8),
        tmp_path / "y.store",
        spec=SPEC,
        labels=[0, 1, 2, 0],
        targets={"mask": np.zeros((4, 32, 32), np.uint8)},
    )
    with pytest.raises(arraystore.SpecError, match=r"store 0 has masks \['mask'\], store 1 has \[\]"):
        arraystore.concatenate([store, arrays])


def test_batches_by_number_and_other_processes_follow_too(store: Store) -> None:
    import pickle

    loader = pickle.loads(pickle.dumps(store.loader(5, targets="mask", augment=GEOMETRIES["crop"])))
    images, mask = loader.batch(1)
    np.testing.assert_array_equal(images[:, 0], mask)
