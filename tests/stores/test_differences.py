"""A call that does not fit an unfinished build is told which sources, targets and options differ."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.store_contract import build, message_of

import arraystore
from arraystore import BadImagesError, StoreError
from arraystore._stores.publishing import partial_of


@pytest.fixture(params=["x.store", "x.h5"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six good images of two classes, and a bad one, for which a build stays unfinished."""
    folder = images.write_tree(tmp_path / "photos", {"ash": 4, "oak": 3})
    (folder / "oak" / "img_002.jpg").write_bytes(b"bad")
    return folder


def leave_unfinished(source: Any, target: Path, **options: Any) -> None:
    with pytest.raises(BadImagesError):
        build(source, target, **options)


def told(source: Any, target: Path, **options: Any) -> str:
    message = message_of(StoreError, build, source, target, **options)
    begin, end = "holds an unfinished build of something else: ", "; finish it with the call that began it, or "
    return message.partition(begin)[2].partition(end)[0]


def names(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*.*"))


def test_a_source_in_between(folder: Path, target: Path) -> None:
    leave_unfinished(folder, target)
    first = images.jpeg(images.noise(9, 9))
    (folder / "ash" / "a new one.jpg").write_bytes(first)
    assert told(folder, target) == (
        "it had 7 sources, now there are 8; slot 0 is 'ash/a new one.jpg', but was filled from 'ash/img_000.jpg', now "
        "the source of slot 1 (7 of 7 filled slots had another source); it had other values of the target 'labels'"
    )


def test_a_source_that_is_gone(folder: Path, target: Path) -> None:
    leave_unfinished(folder, target)
    (folder / "ash" / "img_002 ü.png").unlink()
    message = told(folder, target)
    assert message.startswith("it had 7 sources, now there are 6; slot 2 is 'ash/img_003.jpg', but was filled from ")
    assert "from another source (5 of 7 filled slots had another source)" in message


def test_sources_after_the_filled_ones(folder: Path, target: Path) -> None:
    leave_unfinished(names(folder), target)
    message = told([*names(folder), str(folder / "more.jpg")], target)
    assert message == (
        "it had 7 sources, now there are 8; its sources were others, but not those of the 7 slots that it has filled"
    )


def test_fewer_sources(folder: Path, target: Path) -> None:
    leave_unfinished(names(folder), target)
    assert "slot 2 is not there any more, but was filled from another source (5 of 7" in told(names(folder)[:2], target)


def test_sources_in_memory(target: Path) -> None:
    good = [images.png(images.noise(4, 4, seed=i)) for i in range(3)]
    leave_unfinished([*good, b"bad"], target)
    assert told([good[0], good[2], good[1], b"bad"], target) == (
        "slot 1 is 'bytes 1', but was filled from 'bytes 2', now the source of slot 2 "
        "(2 of 4 filled slots had another source)"
    )
    arrays = np.zeros((4, 5, 5, 3), np.uint8)
    assert told(arrays, target) == "its sources were others"


def test_a_folder_that_moved_and_changed(folder: Path, target: Path, tmp_path: Path) -> None:
    leave_unfinished(folder, target)
    folder.rename(tmp_path / "moved")
    (tmp_path / "moved" / "oak" / "a.jpg").write_bytes(images.jpeg(images.noise(9, 9)))
    message = told(tmp_path / "moved", target)
    assert "slot 4 is 'oak/a.jpg', but was filled from 'oak/img_000.jpg'" in message, "names are compared, not roots"
    assert "(3 of 7 filled slots" in message


def test_labels_classes_targets_and_texts(folder: Path, target: Path) -> None:
    paths = names(folder)
    given: dict[str, Any] = {"labels": [*"aabbabb"], "targets": {"score": np.arange(7), "more": np.zeros((7, 2))}}
    leave_unfinished(paths, target, **given)
    other = given | {"labels": [*"aabbabc"], "targets": {"score": np.arange(1, 8), "size": np.zeros((7, 2))}}
    assert told(paths, target, **other) == (
        "it had other values of the target 'labels', the target 'score', the classes of 'labels'; it did not have the "
        "target 'size'; it had also the target 'more'"
    )
    assert told(paths, target, **(given | {"labels": None})) == (
        "it had also the target 'labels', the classes of 'labels'"
    )


def test_options_with_both_values(folder: Path, target: Path) -> None:
    leave_unfinished(folder, target, fit="pad", background=(1, 2, 3))
    assert told(folder, target, fit="crop", size=(9, 8), icc="srgb", color="gray") == (
        "size was (16, 24), is now (9, 8); fit was 'pad', is now 'crop'; color was 'rgb', is now 'gray'; background "
        "was (1, 2, 3), is now (255, 255, 255); icc was 'ignore', is now 'srgb'"
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"parts": None},
        {"parts": {}},
        {"count": "seven"},
        {"count": 10**30},
        {"spec": [1]},
        {"spec": {"size": [9, "x"]}},
        {"root": 7},
        {"parts": {"sources": 3, "x": []}},
    ],
)
def test_a_damaged_or_old_plan_is_refused_and_no_other_error(
    folder: Path, target: Path, damage: dict[str, object]
) -> None:
    leave_unfinished(folder, target)
    plan = partial_of(target) / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"manifest_digest": "0" * 32} | damage))
    with pytest.raises(StoreError, match=r"holds an unfinished build of something else: .*fresh=True$"):
        build(folder, target, size=5)


def test_the_same_call_goes_on(folder: Path, target: Path) -> None:
    """What a plan keeps for messages has no part in the decision."""
    leave_unfinished(folder, target)
    plan = partial_of(target) / "plan.json"
    members = json.loads(plan.read_text())
    assert list(members["parts"]) == ["sources", "the target 'labels'", "the classes of 'labels'"]
    plan.write_text(json.dumps({name: value for name, value in members.items() if name not in ("parts", "root")}))
    assert len(build(folder, target, bad="keep")) == 7


def test_targets_of_a_store_that_the_source_does_not_have(tmp_path: Path, target: Path) -> None:
    folder = images.write_tree(tmp_path / "photos", {"": 3})
    paths = names(folder)
    build(paths, target, labels=[*"aba"], targets={"score": [1, 2, 3], "size": [[1.0], [2.0], [3.0]]}).close()
    with pytest.raises(arraystore.ManifestError) as caught:
        arraystore.compare(target, paths, labels=[1, 2, 3], targets={"score": [1, 2, 3], "width": [1, 2, 3]})
    assert str(caught.value) == (
        "the source does not have the targets of the store: labels is classes in the store, and <i8 () in the source; "
        "size (<f8 (1,)) is only in the store; width (<i8 ()) is only in the source; pass the source that the store "
        "was built from, with the same labels and targets"
    )
