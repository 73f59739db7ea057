from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import images
from support.store_contract import StoreContract, build

from arraystore import SpaceError


class TestMemoryStore(StoreContract):
    medium = "ram"

    def target(self, folder: Path) -> None:
        del folder  # there is no file

    def test_memory_that_is_too_small_is_an_error_with_numbers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("arraystore._stores.ram.available_memory_bytes", lambda: 3_000_000)
        with pytest.raises(SpaceError) as caught:
            build(images.noise(2, 12).reshape(2, 2, 6, 3), size=1000)
        assert str(caught.value) == (
            "2 slots need 0.01 GB of memory, 0.00 GB are free: give a path to build on disk, or a smaller size"
        )
        assert (caught.value.needed_bytes, caught.value.free_bytes) == (6_000_000, 3_000_000)

    def test_the_arrays_belong_to_the_store(self) -> None:
        source = np.zeros((2, 4, 4, 3), np.uint8)
        assert not np.shares_memory(build(source, size=4).images, source)
