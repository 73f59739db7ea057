"""A first try that stored nothing is in nobody's way."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import images
from support.store_contract import build

import arraystore
from arraystore import BadImagesError, StoreError


@pytest.fixture(params=["x.store", "x.h5"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / str(request.param)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_build_that_stored_nothing_leaves_the_target_free(target: Path, *, overwrite: bool) -> None:
    with pytest.raises(BadImagesError):
        build([b"bad", b"worse"], target)
    good = [images.png(images.noise(16, 24, seed=i)) for i in range(3)]
    store = build(good, target, size=(8, 8), overwrite=overwrite)
    assert len(store) == 3
    assert store.verify(progress=False).ok
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_build_that_stored_one_slot_is_kept(target: Path) -> None:
    good = images.png(images.noise(16, 24))
    with pytest.raises(BadImagesError):
        build([b"bad", good], target)
    with pytest.raises(StoreError, match=r"holds an unfinished build of something else: "):
        build([good, good, good], target)
    with arraystore.open(target, partial=True) as begun:
        assert list(begun.status) == [2, 1]
