"""Files that only a function of the caller decodes are images of a folder: in a scan, a plan, a build, an update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import images

import arraystore
from arraystore import Manifest, SpecError

pytestmark = pytest.mark.usefixtures("warm")

SIDE = 6


def decode(data: bytes) -> Any:
    return np.frombuffer(data[-SIDE * SIDE :], np.uint8).reshape(SIDE, SIDE)


def gray(seed: int) -> Any:
    return images.noise(SIDE, SIDE, seed=seed)[..., 0]


BY_SUFFIX: dict[str | bytes, Any] = {".dcm": decode, "NII.gz": decode}
BY_START: dict[str | bytes, Any] = {b"SIMPLE and more than twenty-four bytes": decode}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for seed, name in enumerate(("a/0.dcm", "a/1.DCM", "b/2.nii.gz", "b/3.png")):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(images.png(images.noise(SIDE, SIDE)) if name.endswith("png") else gray(seed).tobytes())
    for name in ("b/fits", "b/x.fits", "b/y.fit"):
        start = b"SIMPLE and more than twenty-four bytes" if name != "b/y.fit" else b"SIMPLER"
        (folder / name).write_bytes(start + gray(9).tobytes())
    (folder / "a/notes.txt").write_text("no image")
    (folder / "a/notdcm").write_text("no image")
    return folder


def names(**options: Any) -> list[str]:
    return [*Manifest.of(**options).sources]


def test_a_scan_takes_files_by_the_keys(folder: Path) -> None:
    assert names(source=folder, allow_empty=True) == ["b/3.png"]
    assert names(source=folder, decoders=BY_SUFFIX) == ["a/0.dcm", "a/1.DCM", "b/2.nii.gz", "b/3.png"]
    assert names(source=folder, decoders=BY_START, allow_empty=True) == ["b/3.png", "b/fits", "b/x.fits"]
    both = Manifest.of(folder, decoders=BY_SUFFIX | BY_START)
    assert len(both) == 6
    assert both.left_out == {".txt": 1, "": 1, ".fit": 1}


@pytest.mark.parametrize("processes", [False, True])
def test_plan_and_build_agree(folder: Path, tmp_path: Path, *, processes: bool) -> None:
    options: dict[str, Any] = {"size": SIDE, "color": "gray", "progress": False, "decoders": BY_SUFFIX}
    forecast = arraystore.plan(folder, None, **options)
    assert (forecast.count, forecast.sampled, forecast.bad) == (4, 4, ())
    store = arraystore.build(folder, tmp_path / "x", processes=processes, workers=1, **options)
    for slot in range(3):
        np.testing.assert_array_equal(store.images[slot, 0], gray(slot))
    assert store.labels is not None
    assert store.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ["x", "x.h5"])
def test_an_update_takes_them_too(folder: Path, tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"progress": False, "decoders": BY_SUFFIX}
    arraystore.build(folder, tmp_path / name, size=SIDE, color="gray", **options).close()
    assert not arraystore.compare(tmp_path / name, decoders=BY_SUFFIX)
    (folder / "b" / "4.dcm").write_bytes(gray(4).tobytes())
    assert list(arraystore.compare(tmp_path / name, decoders=BY_SUFFIX).added) == ["b/4.dcm"]
    store = arraystore.update(tmp_path / name, **options)
    assert len(store) == 5
    np.testing.assert_array_equal(store.images[4, 0], gray(4))


@pytest.mark.parametrize("decoders", [5, [".dcm"], {".dcm": 5}, {5: decode}, {"": decode}, {b"": decode}])
def test_odd_decoders_are_refused_by_every_function(folder: Path, tmp_path: Path, decoders: Any) -> None:
    arraystore.build(folder / "b", tmp_path / "x", size=SIDE, progress=False).close()
    for call in (
        lambda: arraystore.plan(folder, None, size=SIDE, decoders=decoders),
        lambda: arraystore.build(folder, None, size=SIDE, decoders=decoders),
        lambda: arraystore.compare(tmp_path / "x", decoders=decoders),
        lambda: arraystore.update(tmp_path / "x", decoders=decoders),
    ):
        with pytest.raises(SpecError, match="decoders"):
            call()
