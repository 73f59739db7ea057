"""docs/augmenting.md: its examples run, and the shapes that they name are those of the batches."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arraystore
from arraystore import Store

PAGE = Path(__file__).resolve().parents[2] / "docs/augmenting.md"
COUNT = 8


class Batches:
    """Of 8 slots, as a batch of 512 would be 77 MB: a batch size of the page is divided by 128."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def loader(self, batch_size: Any, **options: Any) -> Any:
        sizes = {0: batch_size} if isinstance(batch_size, int) else batch_size
        return self._store.loader({epoch: size // 128 for epoch, size in sizes.items()}, **options)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 256, 256, 3), np.uint8)
    target = tmp_path_factory.mktemp("page") / "x.store"
    return arraystore.build(pixels, target, size=256, labels=np.arange(COUNT), progress=False)


def test_the_examples_run(store: Store) -> None:
    shapes: list[tuple[int, ...]] = []
    names: dict[str, Any] = {"store": Batches(store), "train": lambda images, _labels: shapes.append(images.shape)}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        exec(code, names)  # noqa: S102 - it is our page
    changes = [shapes[0], *(after for before, after in pairwise(shapes) if before != after)]
    assert changes == [(4, 3, 128, 128), (3, 3, 160, 160), (2, 3, 192, 192), (2, 3, 224, 224)]
    assert len(shapes) == 6 * 2 + 10 * 2 + 8 * 4  # of 4, of 3 without the last two slots, of 2
    names["loader"].set_epoch(3)
    assert next(iter(names["loader"]))[0].shape == (2, 3, 152, 152)
