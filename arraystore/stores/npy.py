"""The .npy medium: a folder of plain NumPy files, readable with no arraystore installed."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from arraystore.digests import digest_of, file_blocks
from arraystore.errors import FormatError
from arraystore.format import (
    PIXELS_OFFSET,
    Description,
    SlotFile,
    fsync_path,
    npy_header,
    npy_slots,
    read_json,
    read_npy,
    write_npy,
    write_text,
)
from arraystore.samples import read_parquet, write_parquet
from arraystore.stores.base import Publication, Store
from arraystore.stores.draft import DiskDraft
from arraystore.stores.partial import reserve

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NpyDraft", "open_npy"]


class NpyDraft(DiskDraft):
    """Slots in ``TARGET.partial/images.npy``."""

    pixels = "images.npy"
    offset = PIXELS_OFFSET

    @staticmethod
    def is_store(path: Path) -> bool:
        """Return whether a store folder has the name already."""
        return path.is_dir() and (path / "store.json").is_file() and (path / "images.npy").is_file()

    def _reserve(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        reserved = reserve(path, self.offset + math.prod(shape), header=npy_header(shape))
        return SlotFile(str(path), self.offset, shape, reserved=reserved)

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        fsync_path(folder / "images.npy")
        write_npy(folder / "status.npy", publication.status)
        write_npy(folder / "checksums.npy", publication.checksums)
        for name, array in publication.targets.items():
            write_npy(folder / f"{name}.npy", array)
        write_parquet(folder / "samples.parquet", publication.samples)
        if publication.dropped is not None:
            write_parquet(folder / "dropped.parquet", publication.dropped)
        files = ["status.npy", "checksums.npy", *(f"{name}.npy" for name in publication.targets), "samples.parquet"]
        files += ["dropped.parquet"] if publication.dropped is not None else []
        digests = {name: digest_of(file_blocks(folder / name)) for name in files}
        write_text(folder / "store.json", replace(publication.description, digests=digests).to_text())

    def _publish(self) -> Store:
        self._folder.publish_folder()
        return open_npy(self._folder.target)


def open_npy(path: Path) -> Store:
    """Open a store folder.

    Raises:
        FormatError: it is no store, or damaged, cut short, or newer than this arraystore.
    """
    if not (path / "store.json").is_file():
        raise FormatError(f"{path} is not a store: it has no store.json", source=str(path))
    description = Description.from_json(read_json(path / "store.json"), str(path / "store.json"))
    slots = npy_slots(path / "images.npy")
    expected = (description.count, *description.shape)
    if slots.shape != expected:
        raise FormatError(
            f"{path / 'images.npy'} has shape {slots.shape}, store.json says {expected}", source=str(path)
        )
    rows = description.count
    publication = Publication(
        description=description,
        status=read_npy(path / "status.npy", rows),
        checksums=read_npy(path / "checksums.npy", rows),
        targets={name: read_npy(path / f"{name}.npy", rows) for name in description.targets},
        samples=None,
    )
    return Store(
        medium="npy",
        path=path,
        images=slots.map(),
        publication=publication,
        load_table=partial(_read_table, path),
    )


def _read_table(path: Path, name: str) -> pa.Table | None:
    file = path / f"{name}.parquet"
    return None if name == "dropped" and not file.exists() else read_parquet(file)
