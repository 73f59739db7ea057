"""What most tests of upkeep begin with: a folder of images, and the target of a store on each medium."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import images
from support.store_contract import DEFAULTS, options_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight good images in two classes, that a test may change."""
    return images.write_tree(tmp_path / "photos", {"ash": 5, "oak": 3})


# JPEGs in HDF5 share their steps with those in folders and with pixels in HDF5.
@pytest.fixture(params=["x.store", "x.h5", "x.jpegs", pytest.param("x.jpegs.h5", marks=pytest.mark.long)])
def target(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in options_of(request.param).items():
        monkeypatch.setitem(DEFAULTS, name, value)
    return tmp_path / str(request.param)
