from __future__ import annotations

from pathlib import Path

import pytest
from support import exported

import arraystore
from arraystore import Store


@pytest.fixture(scope="module")
def store(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """19 images in three classes, with no other targets."""
    return arraystore.build(photos, tmp_path_factory.mktemp("plain") / "x.store", size=exported.SIZE, progress=False)


@pytest.fixture(scope="module")
def rich(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """19 images with targets of every kind."""
    return exported.rich_store(photos, tmp_path_factory.mktemp("rich") / "x.store")
