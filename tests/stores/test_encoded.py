"""Stores of JPEGs: what lies on disk, and all that holds of stores of pixels too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import xxhash
from support.store_contract import DiskContract, StoreContract, build

from arraystore.testing import write_images

OPTIONS: Mapping[str, Any] = MappingProxyType({"encode": "jpeg"})


class Encoded(StoreContract):
    """What differs: pixels are nearly those of a raw store, and checksums are those of JPEGs."""

    options = OPTIONS

    @pytest.mark.parametrize("count", [1, 100])
    def test_slot_i_holds_row_i(self, tmp_path: Path, count: int) -> None:
        arrays = [np.full((4 + value, 6, 3), value, np.uint8) for value in range(count)]
        store = self.check(arrays, tmp_path, size=(4, 6), workers=3)
        assert np.abs(store.images[:, 0, 0, 0].astype(int) - np.arange(count)).max() <= 2

    def test_mean_and_std_leave_failed_slots_out(self, mixed: Path, tmp_path: Path) -> None:
        """They are those of the pixels before they were encoded."""
        store, raw = (self.build(mixed, self.target(tmp_path), bad="keep"), build(mixed, bad="keep", encode=None))
        assert (store.mean, store.std) == (raw.mean, raw.std)

    def test_checksums_are_those_of_the_slots(self, mixed: Path, tmp_path: Path) -> None:
        for bad in ("keep", "drop"):
            store = self.build(mixed, self.target(tmp_path), bad=bad, overwrite=True)
            expected = [xxhash.xxh3_64_intdigest(store.images.bytes_of(slot)) for slot in range(len(store))]
            assert store.checksums.tolist() == expected

    def test_arrays_are_read_only_and_stay_valid_after_closing(self, tmp_path: Path) -> None:
        store = self.reopened(self.build(write_images(tmp_path / "images"), self.target(tmp_path)))
        with pytest.raises((TypeError, ValueError)):
            store.images.encoded[0] = 1
        images, before = store.images, store.images[3]
        store.close()
        np.testing.assert_array_equal(images[3], before)


class TestEncodedStore(Encoded, DiskContract):
    medium = "encoded"

    def target(self, folder: Path) -> Path:
        return folder / "train.store"


class TestEncodedMemoryStore(Encoded):
    medium = "ram"

    def target(self, folder: Path) -> None:
        del folder  # there is no file
