"""The .npy medium: a folder of plain NumPy files, readable with no arraystore installed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

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
from arraystore.stores.base import Plan, Publication, Store
from arraystore.stores.partial import PartialFolder, reserve

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NpyDraft", "open_npy"]


class NpyDraft:
    """Slots in ``TARGET.partial/images.npy``, mapped.

    Raises:
        StoreExistsError: the target has its name already.
        StoreError: another build into this target is running, or an unfinished one was of something else.
        SpaceError: the volume is too small.
        OSError: the target cannot be written.
    """

    def __init__(self, target: Path, plan: Plan, *, overwrite: bool = False, fresh: bool = False) -> None:
        shape = (plan.count, *plan.spec.slot_shape)
        size = PIXELS_OFFSET + plan.count * plan.spec.slot_bytes
        self._folder = PartialFolder(
            target, plan, needed_bytes=size, is_store=_is_store, overwrite=overwrite, fresh=fresh
        )
        try:
            path = self._folder.path / "images.npy"
            reserve(path, size, header=npy_header(shape))
            self.file = SlotFile(str(path.absolute()), PIXELS_OFFSET, shape)
            self._map = np.memmap(path, np.uint8, "r+", PIXELS_OFFSET, shape)
            self.slots = self._map.view(np.ndarray)
            self.ledger = self._folder.map_ledger()
            self.reasons = self._folder.reasons
            self._folder.start()
        except BaseException:
            self._folder.abandon()
            raise

    def shrink(self, count: int) -> None:
        """Give up all slots from ``count`` on: cut the file, and say so in its header."""
        shape = (count, *self.slots.shape[1:])
        path = self._folder.path / "images.npy"
        self._map.flush()
        reserve(path, PIXELS_OFFSET + math.prod(shape), header=npy_header(shape))
        self._map = np.memmap(path, np.uint8, "r+", PIXELS_OFFSET, shape)
        self.slots = self._map.view(np.ndarray)

    def publish(self, publication: Publication) -> Store:
        """Make everything durable, rename the folder, and open the store."""
        folder = self._folder.path
        self._map.flush()
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
        self._folder.publish_folder()
        return open_npy(self._folder.target)

    def close(self) -> None:
        """Let go, keeping what is done."""
        if self._folder.path.is_dir() and (self._folder.path / "plan.json").exists():
            self._folder.save_reasons(self.reasons)
        self._folder.release()


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
        load_table=lambda name: _read_table(path, name),
    )


def _is_store(path: Path) -> bool:
    return path.is_dir() and (path / "store.json").is_file() and (path / "images.npy").is_file()


def _read_table(path: Path, name: str) -> pa.Table | None:
    file = path / f"{name}.parquet"
    return None if name == "dropped" and not file.exists() else read_parquet(file)
