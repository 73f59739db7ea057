"""Masks that are no files in a finished store: updates notice changed ones, and a repair says what it cannot do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import images, masks
from support.store_contract import build, count_decodes

import arraystore
from arraystore import ImageSpec, Masks, Store, StoreError

COUNT = 8
SPEC = ImageSpec(size=(24, 16), fit="pad")


class Given:
    """Images in files, and masks that are arrays."""

    def __init__(self, folder: Path) -> None:
        self.folder = masks.write(folder / "own", COUNT).parent
        self.names = [f"{i:02}" for i in range(COUNT)]
        self.masks = {name: np.asarray(Image.open(self.folder / f"m/{name}.png")) for name in self.names}
        self.target = folder / "x.store"

    @property
    def call(self) -> dict[str, Any]:
        targets = {"mask": Masks([self.masks[name] for name in self.names])}
        return {"source": [self.folder / f"i/{name}.png" for name in self.names], "targets": targets}

    def build(self) -> None:
        call = self.call
        build(call.pop("source"), self.target, spec=SPEC, **call).close()

    def update(self, **options: Any) -> Store:
        return arraystore.update(self.target, **self.call, progress=False, **options)

    def expected(self) -> Any:
        return np.stack([masks.by_pillow(self.masks[name], SPEC) for name in self.names])


@pytest.fixture
def given(tmp_path: Path) -> Given:
    made = Given(tmp_path)
    made.build()
    return made


def test_nothing_has_changed(given: Given) -> None:
    for content in (False, True):
        assert not arraystore.compare(given.target, **given.call, content=content)


@pytest.mark.parametrize("content", [False, True])
def test_a_changed_array_is_decoded_again(given: Given, content: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given.masks["03"] = masks.numbers(*images.SIZES[3], seed=50)
    changes = arraystore.compare(given.target, **given.call, content=content)
    assert [Path(name).stem for name in changes.changed] == ["03"]
    decoded = count_decodes(monkeypatch)
    store = given.update(content=content)
    assert len(decoded) == 1
    np.testing.assert_array_equal(store.targets["mask"], given.expected())
    assert store.verify(progress=False).ok
    assert not arraystore.compare(given.target, **given.call)


def test_rows_come_and_go_with_their_arrays(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    (given.folder / "i/99.png").write_bytes(images.png(images.noise(8, 9)))
    given.masks["99"] = masks.numbers(8, 9, seed=70)
    given.names = ["99", *given.names[3:], given.names[0]]
    decoded = count_decodes(monkeypatch)
    store = given.update()
    assert len(decoded) == 1
    for slot, name in enumerate(store.samples["source"].to_pylist()):
        wanted = masks.by_pillow(given.masks[Path(name).stem], SPEC)
        np.testing.assert_array_equal(store.targets["mask"][slot], wanted, err_msg=name)
    assert store.verify(progress=False).ok
    given.names.sort(key=[Path(each).stem for each in store.samples["source"].to_pylist()].index)
    assert not arraystore.compare(given.target, **given.call)


def test_removed_rows_can_be_kept_with_their_arrays(given: Given) -> None:
    wanted = given.expected()
    (given.folder / "i/03.png").unlink()
    given.names.remove("03")
    os.utime(given.folder / "i/00.png")
    store = given.update(removed="keep")
    np.testing.assert_array_equal(store.targets["mask"], wanted)
    assert store.verify(progress=False).ok


@pytest.mark.parametrize("to_files", [True, False])
def test_arrays_may_become_files_and_files_arrays(given: Given, to_files: bool) -> None:
    call = given.call
    files = call | {"targets": {"mask": Masks([given.folder / f"m/{name}.png" for name in given.names])}}
    if not to_files:
        build(files["source"], given.target, spec=SPEC, targets=files["targets"], overwrite=True).close()
    now = files if to_files else call
    assert len(arraystore.compare(given.target, **now).changed) == COUNT
    store = arraystore.update(given.target, **now, progress=False)
    np.testing.assert_array_equal(store.targets["mask"], given.expected())
    assert not arraystore.compare(given.target, **now)
    assert arraystore.open(given.target).description.masks_are_files is to_files


def test_a_repair_says_that_masks_in_memory_cannot_be_decoded_again(given: Given) -> None:
    data = bytearray((given.target / "mask.npy").read_bytes())
    data[4096 + 2 * 24 * 16 + 200] ^= 1
    (given.target / "mask.npy").unlink()
    (given.target / "mask.npy").write_bytes(data)
    assert [bad.slot for bad in arraystore.verify(given.target, progress=False).damaged] == [2]
    with pytest.raises(StoreError, match=r"the masks of .* are no files, so none can be decoded again: update"):
        arraystore.repair(given.target, progress=False)
    os.utime(given.folder / "i/00.png")
    store = given.update()  # what is damaged is not copied
    np.testing.assert_array_equal(store.targets["mask"], given.expected())
    assert store.verify(progress=False).ok
