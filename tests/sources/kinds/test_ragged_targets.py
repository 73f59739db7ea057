"""Ragged targets of other kinds of sources: stores, data frames, data sets and Parquet of images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from support import images
from support.store_contract import build

import arraystore
from arraystore import Manifest, Ragged, SpecError, Store, concatenate

BOXES = [[[0.0, 0, 10, 20], [1, 2, 3, 4]], [], [[5, 6, 7, 8]]]
SIZES = [(20, 10), (9, 9), (30, 40)]


def lists(target: Any) -> Any:
    assert isinstance(target, Ragged)
    return [row.tolist() for row in target]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three files with boxes in their pixels, and the names of what is in them."""
    files = []
    for number, size in enumerate(SIZES):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(images.png(images.noise(*size, seed=number)))
    labels = [["cat", "dog"], [], ["cat"]]
    given = Manifest.from_paths(files, labels=labels, targets={"boxes": BOXES})
    made = Manifest(given.sources, None, given.targets, given.classes, source_pixels={"boxes": "boxes"})
    return build(made, tmp_path / "x.store", size=10)


@pytest.mark.parametrize("name", ["y.store", "y.h5"])
def test_a_copy_of_a_store_has_its_rows(store: Store, tmp_path: Path, name: str) -> None:
    copied = build(store, tmp_path / name, size=None)
    assert lists(copied.targets["boxes"]) == BOXES
    assert lists(copied.labels) == lists(store.labels)
    assert copied.classes == ("cat", "dog")
    assert copied.description.source_pixels == {"boxes": "boxes"}
    assert lists(copied.in_slot_pixels().target("boxes")) == lists(store.in_slot_pixels().target("boxes"))
    assert copied.verify(progress=False).ok


def test_a_choice_of_slots_has_its_own_rows(store: Store) -> None:
    chosen = build(concatenate([store[[2, 0]], store])[:3], size=None)
    assert lists(chosen.targets["boxes"]) == [BOXES[2], BOXES[0], BOXES[0]]
    np.testing.assert_array_equal(chosen.in_slot_pixels().target("boxes")[1], store.in_slot_pixels().target("boxes")[0])


@pytest.mark.parametrize("options", [{"size": 5}, {"size": 10, "fit": "crop"}])
def test_slots_that_were_resized_again_give_no_wrong_boxes(store: Store, tmp_path: Path, options: Any) -> None:
    """The store knows the sizes of the images, but its spec is from slots to slots."""
    small = build(store, tmp_path / "y.store", **options)
    assert small.description.resized
    for slots in (small, arraystore.open(tmp_path / "y.store")):
        with pytest.raises(SpecError, match=r"was made of slots of other sizes, .*: build it of in_slot_pixels"):
            slots.in_slot_pixels()
    moved = store.in_slot_pixels()
    right = build(moved, **options)
    assert lists(right.targets["boxes"]) == lists(moved.target("boxes"))
    assert not right.description.source_pixels
    assert not store.description.resized


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_lists_in_data_frames(frame: Any) -> None:
    columns = {"path": ["a.jpg", "b.jpg", "c.jpg"], "boxes": BOXES, "names": [["x", "y"], [], ["x"]]}
    manifest = Manifest.of(frame(columns))
    assert lists(manifest.targets["boxes"]) == BOXES
    assert lists(manifest.targets["names"]) == [[0, 1], [], [0]]
    assert manifest.classes["names"] == ("x", "y")


def png(size: tuple[int, int]) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(images.noise(*size)).save(file, "PNG")
        return file.getvalue()


def test_lists_in_a_data_set_and_its_parquet(tmp_path: Path) -> None:
    """With the names of classes that the data set has for the items."""
    kinds: Any = datasets.Sequence(datasets.ClassLabel(names=["cat", "dog"]))
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "boxes": datasets.Sequence(datasets.Sequence(datasets.Value("float32"), 4)),
            "kinds": kinds,
            "alone": kinds,
        }
    )
    pictures = [{"bytes": png(size), "path": None} for size in SIZES]
    rows = {"image": pictures, "boxes": BOXES, "kinds": [[0, 1], [], [0]], "alone": [[1], [0], [1]]}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    dataset.to_parquet(tmp_path / "data.parquet")
    for source in (dataset, str(tmp_path / "data.parquet")):
        store = build(source, size=10)
        assert lists(store.targets["boxes"]) == BOXES
        assert lists(store.targets["kinds"]) == [[0, 1], [], [0]]
        assert lists(store.targets["alone"]) == [[1], [0], [1]]
        assert store.categories["kinds"] == store.categories["alone"] == ("cat", "dog")
        assert store.verify(progress=False).ok
        found = store.in_slot_pixels({"boxes": "boxes"}).target("boxes")
        assert found[0].tolist() == [[0, 0, 10, 10], [1, 1, 3, 2]]
