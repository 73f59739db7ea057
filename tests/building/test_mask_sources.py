"""Masks that are no files: arrays, bytes, images of Pillow, and masks that are drawn in the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import masks
from support.store_contract import build

from arraystore import ImageSpec, Masks
from arraystore._sources.targets.mask_sources import DrawnMask

COUNT = 11
SPEC = ImageSpec(size=(24, 16), fit="pad")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and one of masks; tests only read it."""
    return masks.write(tmp_path_factory.mktemp("sources"), COUNT).parent


@pytest.fixture(scope="module")
def paths(folder: Path) -> list[Path]:
    return [folder / f"i/{i:02}.png" for i in range(COUNT)]


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    return [folder / f"m/{i:02}.png" for i in range(COUNT)]


@pytest.fixture(scope="module")
def expected(folder: Path) -> Any:
    return masks.slots(folder, SPEC, COUNT)


def arrays_of(files: list[Path]) -> list[Any]:
    return [np.asarray(Image.open(path)) for path in files]


class Drawn(DrawnMask):
    """A mask of a number of its own; ``drawn`` counts how often one is asked for its numbers."""

    drawn = 0

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.mask.shape
        return height, width

    def numbers(self) -> Any:
        Drawn.drawn += 1
        return self.mask

    def digest(self) -> int:
        return hash(self.mask.tobytes()) & 0xFFFF_FFFF


class DrawnList:
    """What a kind of source makes of masks that are drawn."""

    may_name_files = False
    is_fixed = False

    def __init__(self, drawn: list[Any]) -> None:
        self.drawn = drawn

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, slot: int) -> Any:
        return self.drawn[slot]

    def name(self, slot: int) -> str:
        return f"drawn {slot}"

    def identity(self) -> Any:
        yield ["drawn"], ()


FORMS = {
    "arrays": arrays_of,
    "bytes": lambda files: [path.read_bytes() for path in files],
    "images of Pillow": lambda files: [Image.open(path) for path in files],
    "drawn": lambda files: DrawnList([Drawn(mask) for mask in arrays_of(files)]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{"workers": 2}, {"processes": True, "workers": 1}])
def test_masks_of_every_form_become_what_their_files_become(
    form: str, options: dict[str, Any], paths: list[Path], files: list[Path], expected: Any, tmp_path: Path
) -> None:
    given = FORMS[form](files)
    store = build(paths, tmp_path / "x.store", spec=SPEC, targets={"mask": Masks(given)}, **options)
    np.testing.assert_array_equal(store.targets["mask"], expected)
    assert dict(store.description.masks) == {"mask": 255}
    assert store.verify(progress=False).ok
