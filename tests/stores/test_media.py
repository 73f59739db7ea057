"""A medium of somebody else's: one module like this one, and one line in the table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from arraystore._format.contents import SlotPixels
from arraystore._format.files import reserve_file, write_json
from arraystore._format.publication import Publication
from arraystore._format.slot_file import SlotFile
from arraystore._stores import media
from arraystore._stores.medium import Medium
from arraystore._stores.npy import FolderContents, open_folder, write_folder
from arraystore._stores.unfinished.disk_draft import DiskDraft
from arraystore.errors import FormatError, SpecError
from arraystore.testing import DiskContract

SHAPE = "pixels.json"


class RawDraft(DiskDraft):
    """Slots in ``pixels.raw``, which has nothing but pixels; their shape stands in a file beside it."""

    def _make_file(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        write_json(path.with_name(SHAPE), {"shape": shape})
        return SlotFile(str(path), 0, shape, reserved=reserve_file(path, math.prod(shape)))

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        write_folder(folder, publication, SHAPE)


class RawContents(FolderContents):
    pixels = "pixels.raw"

    def is_ours(self, entry: str) -> bool:
        return entry == SHAPE or super().is_ours(entry)

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        slots = slot_file(self._path / self.pixels)
        if slots.shape != shape:
            raise FormatError(f"{self._path} has slots of shape {slots.shape}")
        return slots, []


def slot_file(path: Path) -> SlotFile:
    try:
        return SlotFile(str(path), 0, tuple(json.loads(path.with_name(SHAPE).read_text())["shape"]))
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path} has no shape: {error}") from error


RAW = Medium(
    name="raw",
    label="raw folder",
    pixels=RawContents.pixels,
    is_folder=True,
    suffixes=frozenset((".raw",)),
    names=(*media.MEDIA[0].names, SHAPE),
    open=open_folder,
    contents=RawContents,
    slot_file=slot_file,
    draft=RawDraft,
)


class TestRawStore(DiskContract):
    medium = "raw"

    @pytest.fixture(autouse=True)
    def line_in_the_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(media, "MEDIA", (*media.MEDIA, RAW))

    def target(self, folder: Path) -> Path:
        return folder / "train.raw"

    def test_a_store_that_was_renamed_is_told_by_its_files(self, tmp_path: Path) -> None:
        (tmp_path / "train.raw").mkdir()
        (tmp_path / "train.raw" / "pixels.raw").touch()
        (tmp_path / "train.raw").rename(tmp_path / "train")
        assert media.medium_at(tmp_path / "train") is RAW

    def test_jpegs_are_refused_where_a_medium_keeps_none(self, tmp_path: Path) -> None:
        message = (
            f"the target {self.target(tmp_path)} asks for a raw folder, which keeps no JPEGs: leave out the suffix "
            ".raw, or store pixels with encode='none'"
        )
        with pytest.raises(SpecError) as caught:
            self.build(np.zeros((1, 4, 4, 3), np.uint8), self.target(tmp_path), size=4, encode="jpeg")
        assert str(caught.value) == message
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "medium"),
    [
        ("x.H5", "", "hdf5"),
        ("x.store", "", "npy"),
        ("x", "file", "hdf5"),
        ("x.hdf", "file", "hdf5"),
        ("x.h5", "folder", "npy"),
    ],
)
def test_which_medium_a_path_means(tmp_path: Path, name: str, kind: str, medium: str) -> None:
    path = tmp_path / name
    if kind:
        path.touch() if kind == "file" else path.mkdir()
        found = media.medium_at(path)
        assert found is not None
        assert found.name == medium
    else:
        assert media.medium_at(path) is None
        assert media.medium_of(path).name == medium
