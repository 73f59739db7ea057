"""What a decoder notices in an image that is stored is kept, through interruptions and updates, and told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images
from support.command import run
from support.store_contract import build

import arraystore
from arraystore import Progress
from arraystore._decoding import decode as decode_module

NAMES = ["x.store", "x.h5"]
NOTE = "somewhat odd"


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 40 images, of which the decoder notices something in each third one."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for number in range(40):
        tail = b"odd" if number % 3 == 0 else b""
        (folder / f"{number:02d}.jpg").write_bytes(images.jpeg(images.photo(20, 30, seed=number)) + tail)
    original = decode_module.decode_into

    def noting(data: Any, *args: Any, **limits: Any) -> Any:
        return original(data, *args, **limits)._replace(note=NOTE if data[-3:] == b"odd" else None)

    monkeypatch.setattr(decode_module, "decode_into", noting)
    return folder


def noted(store: arraystore.Store) -> dict[str, str]:
    return {image.source: image.reason for image in store.noted()}


WANTED = {f"{number:02d}.jpg": NOTE for number in range(0, 40, 3)}


@pytest.mark.parametrize("target", [None, *NAMES])
def test_notes_are_in_the_samples(odd: Path, tmp_path: Path, target: str | None) -> None:
    with build(odd, target and tmp_path / target) as store:
        assert noted(store) == WANTED
        assert store.status.tolist() == [1] * 40
        assert store.bad() == []
        assert store.samples["reason"].null_count == 40
    if target:
        with arraystore.open(tmp_path / target) as store:
            assert noted(store) == WANTED
            assert store.verify(progress=False).ok
        info = run("info", tmp_path / target).stdout
        assert "40 stored (14 with a note of the decoder), 0 failed" in " ".join(info.split())


def test_without_notes_there_is_no_column(photos: Path) -> None:
    store = build(photos)
    assert "note" not in store.samples.column_names
    assert store.noted() == []


@pytest.mark.parametrize("name", NAMES)
def test_notes_outlive_an_interruption_and_an_update(
    odd: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(now: Progress) -> None:
        if now.done > 20:
            raise KeyboardInterrupt

    target = tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        build(odd, target, progress=interrupt, workers=1)
    monkeypatch.undo()  # nothing is noticed any more, so what is known of the first slots was kept
    with build(odd, target, workers=1) as store:
        kept = noted(store)
    assert kept
    assert kept.items() < WANTED.items()
    (odd / "00.jpg").unlink()
    (odd / "03.jpg").write_bytes(images.jpeg(images.photo(20, 30, seed=99)))
    os.utime(odd / "03.jpg", ns=(1, 1))
    with arraystore.update(target, progress=False) as store:
        assert noted(store) == {source: note for source, note in kept.items() if source not in ("00.jpg", "03.jpg")}
        assert np.asarray(store.status).tolist() == [1] * 39


def test_dropped_rows_take_their_notes_along(odd: Path, tmp_path: Path) -> None:
    (odd / "07.jpg").write_bytes(b"no image")
    with build(odd, tmp_path / "x", bad="drop") as store:
        assert noted(store) == WANTED
