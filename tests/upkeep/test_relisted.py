"""An update without the options of the build lists the sources as the build did, or says what is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from support import images
from support.damage import damage

import arraystore
from arraystore import ManifestError, Masks, StoreError
from arraystore._format.description import Description
from arraystore._sources.options import SourceOptions
from arraystore.errors import FormatError

SIDE = 8
NAMES = [f"p/{kind}/{number}.png" for kind in "ab" for number in range(3)]


def decode(data: bytes) -> Any:
    return np.frombuffer(data[-SIDE * SIDE :], np.uint8).reshape(SIDE, SIDE)


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.png(images.noise(SIDE, SIDE, seed=seed)))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two class folders of three images, tables of them in every form, and other things beside them."""
    for seed, name in enumerate(NAMES):
        write(tmp_path / name, seed)
    (tmp_path / "masks").mkdir()
    for number in range(3):
        gray = images.noise(SIDE, SIDE, seed=90 + number)[..., 0]
        (tmp_path / "masks" / f"{number}.png").write_bytes(images.png(gray))
    split = ["train", "train", "val"] * 2
    rows = [f"{name},{name[2]},{i / 2},{split[i]}" for i, name in enumerate(NAMES)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,score,split", *rows]) + "\n")
    rows = [f"number {i},{name},{split[i]}" for i, name in enumerate(NAMES)]
    (tmp_path / "other.csv").write_text("\n".join(["path,other,split", *rows]) + "\n")
    ids = [f"{name[2:-4]};{name[2]};{split[i]}" for i, name in enumerate(NAMES)]
    (tmp_path / "ids.csv").write_text("\n".join(["id;label;split", *ids]) + "\n")
    (tmp_path / "list.txt").write_text("".join(f"{name[2:-4]}\n" for name in NAMES))
    listed = [{"id": i, "file_name": name[2:]} for i, name in enumerate(NAMES)]
    boxes = [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    kinds = [{"id": 1, "name": "wing"}]
    (tmp_path / "c.json").write_text(json.dumps({"images": listed, "categories": kinds, "annotations": boxes}))
    (tmp_path / "empty" / "c").mkdir(parents=True)
    write(tmp_path / "empty" / "b" / "0.png", 7)
    for name in ("train", "val"):
        write(tmp_path / "splits" / name / "0.png", 8)
    for number in range(3):
        (tmp_path / "scans" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "scans" / "a" / f"{number}.dcm").write_bytes(
            images.noise(SIDE, SIDE, seed=number)[..., 0].tobytes()
        )
        start = b"SIMPLE" + images.noise(SIDE, SIDE, seed=number)[..., 0].tobytes()
        (tmp_path / "fits" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "fits" / "a" / f"{number}").write_bytes(start)
    write(tmp_path / "scans" / "b" / "0.png", 9)
    write(tmp_path / "fits" / "b" / "0.png", 9)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Case(NamedTuple):
    """A build, and what an update without its options does."""

    source: Callable[[], Any]
    options: dict[str, Any]
    changed: str  # the file that changes
    is_recorded: bool = True  # whether an update needs no source
    rows: int = 6


def frame() -> Any:
    return pd.read_csv("other.csv")


CASES = {
    "where": Case(lambda: "t.csv", {"where": "split=train"}, NAMES[0], rows=4),
    "where, as a mapping": Case(lambda: "t.csv", {"where": {"split": "val", "label": "b"}}, NAMES[5], rows=1),
    "path_column": Case(lambda: "other.csv", {"path_column": "other"}, NAMES[0]),
    "targets, as a list": Case(lambda: "t.csv", {"targets": ["label"]}, NAMES[0]),
    "targets, as kinds": Case(lambda: "t.csv", {"targets": {"label": "text", "score": "number"}}, NAMES[0]),
    "all of a table": Case(
        lambda: "ids.csv",
        {"separator": ";", "root": "p", "suffix": ".png", "path_column": "id", "where": "split=train"},
        NAMES[0],
        rows=4,
    ),
    "root and suffix of a list": Case(
        lambda: [name[2:-4] for name in NAMES], {"root": "p", "suffix": ".png"}, NAMES[0], is_recorded=False
    ),
    "root and suffix of a list in a file": Case(lambda: "list.txt", {"root": "p", "suffix": ".png"}, NAMES[0]),
    "root of COCO": Case(lambda: "c.json", {"root": "p"}, NAMES[0]),
    "targets of COCO": Case(lambda: "c.json", {"root": "p", "targets": ["labels"]}, NAMES[0]),
    "where of a data frame": Case(
        frame, {"where": "split=train", "path_column": "other"}, NAMES[0], is_recorded=False, rows=4
    ),
    "allow_empty": Case(lambda: "empty", {"allow_empty": True}, "empty/b/0.png", rows=1),
    "classes": Case(lambda: "p", {"classes": ["b", "none", "a"]}, NAMES[0]),
    "classes of folders that look like splits": Case(
        lambda: "splits", {"classes": ["train", "val"]}, "splits/val/0.png", rows=2
    ),
    "a pattern": Case(lambda: "p/*/*.png", {}, NAMES[0], is_recorded=False),
}


def told(store: arraystore.Store) -> dict[str, Any]:
    """What the options of the sources decide of a store."""
    targets = {
        name: target if isinstance(target, arraystore.Ragged) else target.tolist()
        for name, target in store.targets.items()
    }
    targets = {
        name: [*map(np.ndarray.tolist, value)] if not isinstance(value, list) else value
        for name, value in targets.items()
    }
    return {
        "sources": store.samples["source"].to_pylist(),
        "texts": store.samples.column_names,
        "targets": targets,
        "categories": dict(store.categories),
        "root": store.description.root,
        "options": dict(store.description.source_options),
    }


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("medium", "way"), [("x.store", "given"), ("x.h5", "recorded"), ("x.store", "converted")])
def test_an_update_without_the_options_is_as_one_with_them(place: Path, name: str, medium: str, way: str) -> None:
    case, target = CASES[name], place / medium
    options: dict[str, Any] = {"progress": False, "workers": 1}
    built = arraystore.build(case.source(), target, size=SIDE, **case.options, **options)
    assert len(built) == case.rows
    wanted = told(built)
    if way == "converted":
        other = place / ("y.store" if medium == "x.h5" else "y.h5")
        arraystore.build(target, other, **options).close()
        target = other
    source = None if case.is_recorded and way != "given" else case.source()
    assert not arraystore.compare(target, source)
    write(place / case.changed, 77)
    changes = arraystore.compare(target, source)
    assert (len(changes.changed), len(changes.added), len(changes.removed)) == (1, 0, 0)
    store = arraystore.update(target, source, **options)
    assert told(store) == wanted
    row = (
        store.samples["source"]
        .to_pylist()
        .index(next(each for each in wanted["sources"] if case.changed.endswith(each)))
    )
    np.testing.assert_array_equal(store.images[row], images.noise(SIDE, SIDE, seed=77).transpose(2, 0, 1))
    assert not arraystore.compare(target, source)


def test_the_table_above_has_every_option() -> None:
    used = {option for case in CASES.values() for option in case.options}
    assert used >= {*SourceOptions.__annotations__, "targets"}


def test_what_is_given_to_an_update_counts_and_is_recorded(place: Path) -> None:
    target = place / "x.store"
    arraystore.build("t.csv", target, size=SIDE, where="split=train", progress=False).close()
    assert len(arraystore.compare(target, where="split=val").added) == 2
    columns = ["label", "score"]  # that of the condition is a target otherwise
    assert len(arraystore.compare(target, where=None, targets=columns).added) == 2
    store = arraystore.update(target, where=None, targets=columns, progress=False)
    assert (len(store), dict(store.description.source_options)) == (6, {"targets": columns})
    assert not arraystore.compare(target)


def test_a_repair_keeps_them(place: Path) -> None:
    target = place / "x.store"
    arraystore.build("t.csv", target, size=SIDE, where="split=train", progress=False).close()
    damage(target, 1)
    store = arraystore.repair(target, progress=False)
    assert store.description.source_options == {"where": {"split": "train"}}
    assert not arraystore.compare(target)


@pytest.mark.parametrize(
    ("folder", "decoders", "shown"),
    [("scans", {"dcm": decode}, "'.dcm'"), ("fits", {b"SIMPLE": decode}, "b'SIMPLE'")],
)
@pytest.mark.parametrize("medium", ["x.store", "x.h5"])
def test_decoders_are_asked_for_before_anything_is_dropped(
    place: Path, folder: str, decoders: dict[Any, Any], shown: str, medium: str
) -> None:
    target = place / medium
    options: dict[str, Any] = {"progress": False, "workers": 1}
    arraystore.build(folder, target, size=SIDE, color="gray", decoders=decoders, **options).close()
    message = (
        f"{target} was built with decoders for {shown}, and has sources that only these decode: pass them as decoders="
    )
    for call in (
        lambda: arraystore.compare(target),
        lambda: arraystore.update(target, progress=False),
        lambda: arraystore.update(target, folder, progress=False),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert str(caught.value).startswith(message)
    assert len(arraystore.open(target)) == 4
    file = next((place / folder / "a").glob("1*"))
    file.write_bytes(file.read_bytes()[: -SIDE * SIDE] + images.noise(SIDE, SIDE, seed=5)[..., 0].tobytes())
    os.utime(file, (9, 9))
    store = arraystore.update(target, decoders=decoders, **options)
    np.testing.assert_array_equal(store.images[1, 0], images.noise(SIDE, SIDE, seed=5)[..., 0])
    damage(target, 0)
    with pytest.raises(StoreError, match="was built with decoders"):
        arraystore.repair(target, progress=False)
    assert arraystore.repair(target, decoders=decoders, **options).verify(progress=False).ok
    damage(target, 3)  # a PNG
    if folder == "scans":
        arraystore.repair(target, **options).close()
    else:
        arraystore.repair(target, decoders=decoders, **options).close()
    assert len(arraystore.compare(target, decoders={}, allow_empty=True).removed) == 3


def test_decoders_that_no_source_needed_are_not_asked_for(place: Path) -> None:
    arraystore.build("p", place / "x", size=SIDE, decoders={".dcm": decode}, progress=False).close()
    assert not arraystore.compare(place / "x")


@pytest.mark.parametrize("medium", ["x.store", "x.h5"])
def test_new_files_that_only_recorded_decoders_decode_are_not_left_out(place: Path, medium: str) -> None:
    target = place / medium
    arraystore.build("p", target, size=SIDE, color="gray", decoders={"DCM": decode}, progress=False).close()
    (place / "p/a/new.dcm").write_bytes(images.noise(SIDE, SIDE, seed=7)[..., 0].tobytes())
    with pytest.raises(StoreError, match=r"was built with decoders for '\.dcm', and has sources"):
        arraystore.update(target, progress=False)
    assert not arraystore.compare(target, decoders={})
    store = arraystore.update(target, decoders={".dcm": decode}, progress=False)
    np.testing.assert_array_equal(store.images[-1, 0], images.noise(SIDE, SIDE, seed=7)[..., 0])


def test_labels_that_were_given_are_asked_for(place: Path) -> None:
    target = place / "x.store"
    labels = ["x", "y"] * 3
    arraystore.build("p", target, size=SIDE, labels=labels, progress=False).close()
    message = "'labels' of the store was given beside its sources, and the source has other values of that name"
    with pytest.raises(ManifestError) as caught:
        arraystore.update(target, "p", progress=False)
    assert str(caught.value) == f"{message}: pass labels=['…'], a value for each source"
    with pytest.raises(StoreError, match="does not record what it was built from"):
        arraystore.update(target, progress=False)
    assert not arraystore.compare(target, "p", labels=labels)
    arraystore.build(target, place / "y.h5", progress=False).close()
    with pytest.raises(ManifestError, match="was given beside its sources"):
        arraystore.compare(place / "y.h5", "p")


def test_arrays_beside_chosen_columns(place: Path) -> None:
    target = place / "x.store"
    weights = {"weight": np.arange(6.0)}
    masks = {"mask": Masks([f"masks/{number % 3}.png" for number in range(6)])}
    for arrays in (weights, masks):
        chosen = {"label": "auto", **arrays}
        arraystore.build("t.csv", target, size=SIDE, targets=chosen, overwrite=True, progress=False).close()
        assert not arraystore.compare(target, "t.csv", targets=arrays)
        with pytest.raises(ManifestError, match="is only in the store"):
            arraystore.compare(target, "t.csv")


@pytest.mark.parametrize(
    "options",
    [
        5, {"root": 5}, {"where": "split=train"}, {"where": {"a": 1}}, {"targets": "label"}, {"targets": {"a": None}},
        {"decoders": ["dcm"]}, {"decoders": ["0xf"]}, {"decoders": [5]}, {"classes": "labels"}, {"given": [1]},
        {"allow_empty": 1}, {"suffix": None}, {"separator": []}, {"path_column": {}},
    ],
)  # fmt: skip
@pytest.mark.usefixtures("place")
def test_odd_options_in_a_store_are_damage(options: Any) -> None:
    built = arraystore.build("p", size=SIDE, progress=False)
    members = built.description.to_json() | {"source_options": options}
    with pytest.raises(FormatError, match="source_options"):
        Description.from_json(members, "store.json")
    known = members | {"source_options": {"where": {"a": "b"}, "of a newer version": 5}}
    assert Description.from_json(known, "store.json").source_options["where"] == {"a": "b"}
