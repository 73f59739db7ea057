"""Ragged targets through compare, update, repair and verify, and as plan, info and preview show them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import images
from support.damage import damage
from support.store_contract import assert_equal, build

import arraystore
from arraystore import BadImagesError, Manifest, ManifestError, Ragged, Store
from arraystore._sources.text_list import TextList
from arraystore._viewing.describe import describe, fact_rows
from arraystore._viewing.preview import draw_preview
from arraystore.cli.build import target_lines

NAMES = [f"{number:02}.jpg" for number in range(10)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten photos; tests only read them."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(NAMES):
        (folder / name).write_bytes(images.jpeg(images.photo(9, 12, seed=seed)))
    return folder


def manifest(folder: Path, rows: dict[str, Any], **targets: Any) -> Manifest:
    """The rows of some images: name of a file → its boxes."""
    boxes = Ragged.from_rows([np.array(row, np.float32).reshape(-1, 4) for row in rows.values()], np.float32)
    every = {"boxes": boxes} | targets
    return Manifest.from_paths(list(rows), root=folder, targets=every)


def boxes_in(store: Store) -> dict[str, list[Any]]:
    return dict(zip(store.samples["source"].to_pylist(), (row.tolist() for row in store.targets["boxes"]), strict=True))


a_box = st.just([1.0, 2.0, 3.0, 4.0]) | st.just([5.0, 6.0, 7.0, 8.0])
rows_of_boxes = st.dictionaries(st.sampled_from(NAMES), st.lists(a_box, max_size=3), min_size=1)


@settings(max_examples=20)
@given(rows_of_boxes, rows_of_boxes, st.sampled_from(["drop", "keep"]), st.sampled_from(["x.store", "x.h5"]))
def test_an_update_moves_rows_with_their_images(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    before: dict[str, Any],
    after: dict[str, Any],
    removed: Any,
    name: str,
) -> None:
    target = tmp_path_factory.mktemp("update") / name
    build(manifest(folder, before), target).close()
    changes = arraystore.compare(target, manifest(folder, after), removed=removed)
    assert changes.relabeled == any(before[each] != after[each] for each in before.keys() & after.keys())
    store = arraystore.update(target, manifest(folder, after), removed=removed, progress=False)
    expected = (before if removed == "keep" else {}) | after
    assert boxes_in(store) == expected
    order = [each for each in before if each in expected] + [each for each in after if each not in before]
    assert store.samples["source"].to_pylist() == order
    assert store.verify(progress=False).ok
    assert_equal(store, build(manifest(folder, {each: expected[each] for each in order})))


def test_ragged_classes_keep_their_codes(folder: Path, tmp_path: Path) -> None:
    def labeled(labels: list[list[str]], names: list[str]) -> Any:
        return Manifest.from_paths(names, root=folder, labels=labels)

    target = tmp_path / "x.store"
    build(labeled([["elm"], [], ["ash", "elm"]], NAMES[:3]), target).close()
    store = arraystore.update(target, labeled([["elm"], ["bay"], ["ash", "elm"]], NAMES[:3]), progress=False)
    assert store.classes == ("ash", "elm", "bay")
    assert isinstance(store.labels, Ragged)
    assert [row.tolist() for row in store.labels] == [[1], [2], [0, 1]]
    assert not arraystore.compare(target, labeled([["elm"], ["bay"], ["ash", "elm"]], NAMES[:3]))
    assert store.verify(progress=False).ok


def test_rows_of_one_length_are_still_those_of_a_ragged_target(folder: Path, tmp_path: Path) -> None:
    """Otherwise an update would be refused where each image happens to have one box."""
    target = tmp_path / "x.store"
    source = [folder / name for name in NAMES[:3]]
    build(source, target, targets={"boxes": [[[1.5, 2]], [], [[3, 4]]]}).close()
    for rows in ([[[1.5, 2]], [[5, 6]], [[3, 4]]], [[], [], []]):
        store = arraystore.update(target, source, targets={"boxes": rows}, progress=False)
        assert isinstance(store.targets["boxes"], Ragged)
        assert [row.tolist() for row in store.targets["boxes"]] == rows
        assert store.targets["boxes"].item_shape == (2,)


def test_an_ordinary_target_does_not_become_ragged(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.store"
    source = [folder / name for name in NAMES[:3]]
    build(source, target, targets={"boxes": np.zeros((3, 1, 2))}).close()
    message = "boxes is <f8 (1, 2) in the store, and ragged <f8 (2,) in the source"
    with pytest.raises(ManifestError, match=re.escape(message)):
        arraystore.compare(target, source, targets={"boxes": [[[1.0, 2]], [], [[3, 4]]]})


def test_nan_is_no_change(folder: Path, tmp_path: Path) -> None:
    rows = {NAMES[0]: [[1, 2, np.nan, 4]], NAMES[1]: []}
    build(manifest(folder, rows), tmp_path / "x.store").close()
    assert not arraystore.compare(tmp_path / "x.store", manifest(folder, rows))


@pytest.mark.parametrize("name", ["x.store", "x.h5"])
def test_a_repair_keeps_the_rows(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    rows = {each: [[number, 0, 1, 2]] * (number % 3) for number, each in enumerate(NAMES)}
    store = build(manifest(folder, rows), target)
    expected = boxes_in(store)
    store.close()
    damage(target, 3)
    assert [each.slot for each in arraystore.verify(target, progress=False).damaged] == [3]
    repaired = arraystore.repair(target, progress=False)
    assert boxes_in(repaired) == expected
    assert repaired.verify(progress=False).ok


@pytest.mark.parametrize("part", ["boxes.values.npy", "boxes.offsets.npy"])
def test_verify_finds_each_changed_byte(folder: Path, tmp_path: Path, part: str) -> None:
    target = tmp_path / "x.store"
    build(manifest(folder, {NAMES[0]: [[1, 2, 3, 4]], NAMES[1]: []}), target).close()
    data = bytearray((target / part).read_bytes())
    for at in (len(data) - 1, len(data) - 9, 100):
        changed = bytearray(data)
        changed[at] ^= 4
        (target / part).write_bytes(changed)
        found = arraystore.verify(target, progress=False)
        assert any(part in fault.message for fault in found.faults), at


def test_verify_knows_the_classes_of_items(folder: Path) -> None:
    """A store in memory has no digests, so only the fit of its parts can be checked."""
    store = build(Manifest.from_paths(NAMES[:2], root=folder, labels=[["b"], ["a", "b"]]))
    assert store.verify(progress=False).ok
    codes: npt.NDArray[Any] = store.targets["labels"].values.base
    codes[1] = 7
    (fault, *_) = store.verify(progress=False).faults
    assert "gives item 1 the code 7, but there are 2 classes" in fault.message


def test_a_text_may_have_the_name_that_labels_have_in_samples(folder: Path) -> None:
    """Ragged labels have no column there, so the name is free."""
    texts = {"label": TextList.from_texts(["one", "two"])}
    labels = {"labels": Ragged.from_rows([[1], [0, 1]])}
    given = Manifest(TextList.from_texts(NAMES[:2]), str(folder), labels, {"labels": ("a", "b")}, texts)
    store = build(given)
    assert store.samples["label"].to_pylist() == ["one", "two"]
    assert store.verify(progress=False).ok


def test_rows_are_dropped_with_bad_images(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "photos"
    broken.mkdir()
    for number, name in enumerate(NAMES):
        (broken / name).write_bytes(b"no image" if number in (1, 4) else (folder / name).read_bytes())
    rows = {name: [[number, 0, 1, 2]] * (number % 3) for number, name in enumerate(NAMES)}
    with pytest.raises(BadImagesError):
        build(manifest(broken, rows), tmp_path / "x.store")
    store = build(manifest(broken, rows), tmp_path / "x.store", bad="drop")
    assert boxes_in(store) == {name: row for name, row in rows.items() if name not in (NAMES[1], NAMES[4])}
    rows[NAMES[0]] = [[9, 9, 9, 9]]
    updated = arraystore.update(tmp_path / "x.store", manifest(broken, rows), progress=False)
    assert boxes_in(updated) == {name: row for name, row in rows.items() if name not in (NAMES[1], NAMES[4])}


# --- as people see them ----------------------------------------------------------------------------------------------


def test_info_and_preview(folder: Path, tmp_path: Path) -> None:
    labels = [["elm"], [], ["ash", "elm", "elm"]]
    source = Manifest.from_paths(
        NAMES[:3], root=folder, labels=labels, targets={"boxes": Ragged.from_rows([[], [[1, 2]], []])}
    )
    with build(source, tmp_path / "x.store") as store:
        facts = describe(store, tmp_path / "x.store")
        assert facts["classes"] == {"ash": 1, "elm": 3}
        form = {"dtype": "int64", "shape": [3, None, 2], "items": 1, "items_per_slot": [0, 1]}
        assert json.loads(json.dumps(facts["targets"]["boxes"])) == form
        rows = dict(fact_rows(facts))
        assert rows["target labels"] == "int64 (3, 0 to 3), 4 items in all"
        assert rows["target boxes"] == "int64 (3, 0 to 1, 2), 1 items in all"
        draw_preview(store, tmp_path / "x.png", slots=[0, 1, 2])
        assert "label" not in store.samples.column_names
        boxes = "boxes: int64, 2 an item, any number of items a row"
        assert sorted(target_lines(store)) == [boxes, "labels: 2 classes: ash, elm"]
    forecast = arraystore.plan(source, size=8, progress=False)
    assert dict(forecast.classes) == {"ash": 1, "elm": 3}


def test_plan_counts_the_bytes_of_all_items(folder: Path) -> None:
    def size(items: int) -> int:
        boxes = Ragged(np.zeros((items, 4), np.float32), np.array([0, items, items]))
        given = Manifest.from_paths(NAMES[:2], root=folder, targets={"boxes": boxes})
        return arraystore.plan(given, size=8, sample=0, progress=False).store_bytes

    assert size(1000) - size(0) == 1000 * 16
