"""Exported shards, read back by webdataset and by a build."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from support.exported import COUNT, SIZE, encoded_slots, files_in, jpeg_of, jpegs, open_files_allowed, planes

import arraystore
from arraystore import Ragged, Store
from arraystore._exporting.writing.tar import header_of


def samples(*paths: Path, decode: str | None = None) -> list[dict[str, Any]]:
    """What webdataset finds, without the members that it adds."""
    with open_files_allowed():
        data = webdataset.WebDataset([str(path) for path in paths], shardshuffle=False, empty_check=False)
        found = list(data if decode is None else data.decode(decode))
        del data
    return [{name: value for name, value in each.items() if name == "__key__" or name[0] != "_"} for each in found]


def test_images_and_codes_are_read_by_webdataset_and_by_a_build(store: Store, tmp_path: Path) -> None:
    report = arraystore.export(store, tmp_path / "x.tar", progress=False)
    assert (report.form, report.images, report.files) == ("tar", COUNT, 1)
    assert report.bytes == (tmp_path / "x.tar").stat().st_size
    found = samples(tmp_path / "x.tar")
    assert [each["jpg"] for each in found] == [jpeg_of(store.images[slot]) for slot in range(COUNT)]
    assert [int(each["cls"]) for each in found] == store.labels.tolist()
    assert [json.loads(each["json"]) for each in found] == [{"label": store.classes[code]} for code in store.labels]
    (first, *_) = samples(tmp_path / "x.tar", decode="pil")
    assert (first["jpg"].size, first["cls"]) == ((SIZE, SIZE), store.labels[0])
    assert [each["__key__"] for each in found[:3]] == ["img_000_0", "img_001_1", "img_002 ü"]
    arraystore.export(store, tmp_path / "y.tar", format="png", progress=False)
    again = arraystore.build(tmp_path / "y.tar", size=SIZE, progress=False)
    np.testing.assert_array_equal(again.images, store.images)
    np.testing.assert_array_equal(again.labels, store.labels)
    by_name = arraystore.build(tmp_path / "y.tar", size=SIZE, targets=["label"], progress=False)
    assert by_name.classes == store.classes
    np.testing.assert_array_equal(by_name.labels, store.labels)


def test_targets_of_every_kind(rich: Store, tmp_path: Path) -> None:
    arraystore.export(rich, tmp_path / "x.tar", format="png", progress=False)
    found = samples(tmp_path / "x.tar", decode="l8")
    raw = samples(tmp_path / "x.tar")
    for slot, (each, plain) in enumerate(zip(found, raw, strict=True)):
        np.testing.assert_array_equal(planes(plain["png"]), rich.images[slot])
        np.testing.assert_array_equal(each["mask.png"], rich.targets["mask"][slot])
        assert each["cls"] == rich.labels[slot]
        told = each["json"]
        np.testing.assert_equal(told.pop("score"), rich.targets["score"][slot])
        assert told == {
            "label": "xy"[rich.labels[slot]],
            "boxes": rich.targets["boxes"][slot].tolist(),
            "vector": [2 * slot, 2 * slot + 1],
            "grid": rich.targets["grid"][slot].tolist(),
            "flag": slot % 3 == 0,
            "tags": ["abc"[code] for code in np.flatnonzero(rich.targets["tags"][slot])],
            "caption": f"caption, number “{slot}” of all",
        }
    again = arraystore.build(
        tmp_path / "x.tar", size=SIZE, targets={"cls": "auto", "mask.png": "mask", "vector": "auto"}, progress=False
    )
    np.testing.assert_array_equal(again.images, rich.images)
    np.testing.assert_array_equal(again.targets["mask.png"], rich.targets["mask"])
    np.testing.assert_array_equal(again.targets["vector"], rich.targets["vector"])
    np.testing.assert_array_equal(again.labels, rich.labels)


def test_shards_are_no_larger_than_asked_and_hold_whole_samples(rich: Store, tmp_path: Path) -> None:
    report = arraystore.export(rich, tmp_path / "s", "tar", max_bytes="20 kB", progress=False)
    names = [name for name in files_in(tmp_path / "s") if not name.startswith(".")]
    assert names == [f"data-{i:05}-of-{report.files:05}.tar" for i in range(report.files)]
    assert report.files > 2
    assert all((tmp_path / "s" / name).stat().st_size <= 20_000 for name in names)
    found = samples(*(tmp_path / "s" / name for name in names))
    assert [each["jpg"] for each in found] == [jpeg_of(rich.images[slot]) for slot in range(COUNT)]
    assert all(each.keys() == {"__key__", "jpg", "cls", "json", "mask.png"} for each in found)
    again = arraystore.build(f"{tmp_path}/s/data-*.tar", size=SIZE, progress=False)
    np.testing.assert_array_equal(again.labels, rich.labels)


def test_the_jpegs_of_an_encoded_store_are_copied(tmp_path: Path) -> None:
    data = jpegs(5)
    report = arraystore.export(encoded_slots(data, failed=[0]), tmp_path / "x.tar", progress=False)
    assert (report.images, report.copied) == (4, 4)
    found = samples(tmp_path / "x.tar")
    assert [each["jpg"] for each in found] == data[1:]
    assert [each.keys() for each in found] == [{"__key__", "jpg"}] * 4


def test_members_have_no_time_and_no_owner(store: Store, tmp_path: Path) -> None:
    arraystore.export(store, tmp_path / "x.tar", progress=False)
    with tarfile.open(tmp_path / "x.tar") as file:
        members = file.getmembers()
    assert len(members) == 3 * COUNT
    assert {(each.mtime, each.uid, each.gid, each.uname, each.gname, each.mode) for each in members} == {
        (0, 0, 0, "", "", 0o644)
    }


def test_labels_of_many_have_no_code(tmp_path: Path) -> None:
    labels = Ragged.from_rows([[0], [], [1, 0]], dtype=np.int64)
    slots = encoded_slots(jpegs(3), targets={"labels": labels}, categories={"labels": ("cat", "dog")})
    arraystore.export(slots, tmp_path / "x.tar", progress=False)
    found = samples(tmp_path / "x.tar", decode="pil")
    assert [each["json"]["label"] for each in found] == [["cat"], [], ["dog", "cat"]]
    assert "cls" not in found[0]


def test_masks_of_one_extension_are_refused(tmp_path: Path) -> None:
    masks = arraystore.Masks([np.zeros((9, 9), np.uint8)] * 2)
    given = [np.zeros((9, 9, 3), np.uint8)] * 2
    store = arraystore.build(given, size=SIZE, targets={"A.b": masks, "a_b": masks}, progress=False)
    with pytest.raises(arraystore.ManifestError, match=r"would have the extension \.a_b\.png, which others have"):
        arraystore.export(store, tmp_path / "x.tar", progress=False)
    assert [*tmp_path.iterdir()] == []


LETTERS = st.characters(exclude_characters="\0/", exclude_categories=["Cs"])


@given(st.one_of(st.text(LETTERS, max_size=120), st.text("ab1_ ", max_size=120)), st.integers(0, 9 * 10**9))
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    assert header_of(name, size) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
