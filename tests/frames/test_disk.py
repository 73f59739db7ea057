"""Frames in a folder: stores that other processes share, and that a killed run goes on with."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from support.lazy_functions import doubled, noisy
from support.nursery import KilledError, Nursery

import arraystore
from arraystore import Frame, SpecError, Store, StoreError

LIMIT_S = 120.0


def slow(image: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    time.sleep(0.02)
    return noisy(image, rng)


def train(path: Path, folder: Path, epochs: int) -> list[int]:
    """Read some epochs, and return the sum of the pixels of each; in a process of its own."""
    frame = Frame(epochs=1, per_class=12, keep=folder)
    loader = arraystore.open(path).loader(4, seed=5, transform=slow, frame=frame)
    return [total(loader) for _ in range(epochs)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    images = np.random.default_rng(3).integers(0, 256, (14, 10, 10, 3), np.uint8)
    labels = ["cat"] * 5 + ["dog"] * 9
    return arraystore.build(list(images), tmp_path / "base.store", size=10, labels=labels, progress=False)


def wait_for(is_so: Callable[[], Any]) -> None:
    until = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def total(loader: Any) -> int:
    return int(sum(np.array(images).astype(np.int64).sum() for images, _ in loader))


def test_a_frame_in_a_folder_is_a_store_and_old_ones_are_removed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    arraystore.build(store, folder / "other.store", progress=False)
    frame = Frame(epochs=1, per_class=7, keep=folder, samples=6)
    loader = store.loader(4, seed=5, transform=noisy, frame=frame)
    in_memory = store.loader(4, seed=5, transform=noisy, frame=Frame(epochs=1, per_class=7))
    for number in range(4):
        assert total(loader) == total(in_memory)
        sheet = folder / f"frame-{number:04d}.png"
        wait_for(sheet.exists)
        assert cv2.imread(str(sheet)).std() > 10
    wait_for((folder / "frame-0002.store").exists)
    wait_for(lambda: not (folder / "frame-0001.store").exists())
    assert not (folder / "frame-0000.store").exists()
    assert (folder / "other.store").exists()
    kept = arraystore.open(folder / "frame-0002.store")
    assert kept.verify(progress=False).ok
    assert (len(kept), kept.classes, kept.target_names) == (14, ("cat", "dog"), ("labels", "slot"))
    assert kept.target("labels").tolist() == store.target("labels")[kept.target("slot")].tolist()


def test_a_store_of_the_user_that_has_the_name_of_an_old_frame_stays(store: Store, tmp_path: Path) -> None:
    arraystore.build(store, tmp_path / "frame-0000.store", progress=False)
    loader = store.loader(4, transform=noisy, frame=Frame(epochs=1, keep=tmp_path))
    loader.set_epoch(1)
    for _ in range(2):
        total(loader)
    wait_for((tmp_path / "frame-0001.store").exists)
    total(loader)
    wait_for((tmp_path / "frame-0002.store").exists)
    wait_for(lambda: not (tmp_path / "frame-0001.store").exists() or list(tmp_path.glob("frame-0003*")))
    assert arraystore.open(tmp_path / "frame-0000.store").verify(progress=False).ok


def test_sheets_show_the_same_slots_for_each_frame(store: Store, tmp_path: Path) -> None:
    plain = store.loader(4, frame=Frame(epochs=1, samples=5, sheets=tmp_path))
    for _ in range(2):
        total(plain)
    sheets = [tmp_path / f"frame-{number:04d}.png" for number in range(2)]
    wait_for(lambda: all(sheet.exists() for sheet in sheets))
    first, second = (cv2.imread(str(sheet)) for sheet in sheets)
    np.testing.assert_array_equal(first, second)


def test_a_frame_of_another_call_is_refused(store: Store, tmp_path: Path) -> None:
    frame = Frame(epochs=1, keep=tmp_path / "frames")
    loader = store.loader(4, seed=5, transform=noisy, frame=frame)
    expected = total(loader)
    total(loader)  # the first one is published
    wait_for((tmp_path / "frames" / "frame-0000.store").exists)
    assert total(store.loader(4, seed=5, transform=noisy, frame=frame)) == expected
    for options in ({"seed": 6, "transform": noisy}, {"seed": 5, "transform": doubled}, {"seed": 5}):
        other = store.loader(4, frame=frame, **options)
        with pytest.raises(StoreError) as caught:
            total(other)
        assert "choose another folder as keep" in "".join(caught.value.__notes__)


def test_a_killed_run_goes_on_and_its_frames_are_the_same(store: Store, tmp_path: Path, nursery: Nursery) -> None:
    folder = tmp_path / "frames"
    for wait_s in (0.0, 0.1, 0.25):
        process = nursery.start(train, store.path, folder, 2)
        wait_for(lambda: list(folder.glob("*.partial/ledger*")))
        time.sleep(wait_s)
        process.kill()
        with suppress(KilledError):
            process.result()
    totals = nursery.run(train, store.path, folder, 2)
    assert totals == nursery.run(train, store.path, tmp_path / "others", 2)
    assert len({*totals}) == 2


def test_processes_share_the_frames_of_one_folder(store: Store, tmp_path: Path, nursery: Nursery) -> None:
    running = [nursery.start(train, store.path, tmp_path / "frames", 3) for _ in range(3)]
    alone = nursery.run(train, store.path, tmp_path / "others", 3)
    assert [process.result() for process in running] == [alone] * 3
    assert len({*alone}) == 3


def test_a_text_that_is_no_size_is_a_folder(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (Frame(keep="8 GB").folder, Frame(keep="8 GB").most_bytes) == (None, 8_000_000_000)
    total(store.loader(4, frame=Frame(keep="here/")))
    assert (tmp_path / "here").is_dir()
    (tmp_path / "elsewhere").mkdir()
    loader = store.loader(4, frame=Frame(epochs=1, keep="there/", samples=2))
    monkeypatch.chdir(tmp_path / "elsewhere")
    for _ in range(3):
        total(loader)
    wait_for((tmp_path / "there" / "frame-0002.png").exists)
    assert not list((tmp_path / "elsewhere").iterdir()), "the program is in another folder now"
    with pytest.raises(SpecError, match="keep must be"):
        Frame(keep=[])  # type: ignore[arg-type]
