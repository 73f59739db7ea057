"""Names of targets: which are refused, and what is made of the others."""

import re
from pathlib import Path

import numpy as np
import pytest

import arraystore
from arraystore.errors import SpecError

IMAGES = np.zeros((2, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    "name", ["x.npy", "x.NPZ", "x.zarr", "x.tfrecord", "x.parquet", "x.zip", "s3://b/x", "gs://b/x", "hf://d/x.h5"]
)
def test_names_that_ask_for_another_format_are_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (arraystore.build, arraystore.plan):
        with pytest.raises(
            SpecError, match=re.escape(name) + "( cannot be a .*: .*leave out the suffix| is a URL: build)"
        ):
            call(IMAGES, name, size=4, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a/b/t.store", "a/b/t.h5", "t.v1", "t"])
def test_missing_folders_are_made_and_the_home_folder_is_expanded(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arraystore.build(IMAGES, f"~/{name}", size=4, progress=False).close()
    assert (tmp_path / name).exists()
    with arraystore.open(f"~/{name}") as store:
        assert len(store) == 2


def test_sources_that_cannot_be_listed_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(arraystore.ManifestError):
        arraystore.build(tmp_path / "gone", tmp_path / "a/t.store", size=4, progress=False)
    assert not (tmp_path / "a").exists()
