from __future__ import annotations

from pathlib import Path

import pytest
from support import masks


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of images with masks; tests only read it."""
    return masks.write(tmp_path_factory.mktemp("masks"), masks.COUNT)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A table of this test's own."""
    return masks.write(tmp_path / "own", masks.COUNT)
