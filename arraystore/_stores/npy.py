"""The .npy medium: a folder of plain NumPy files, readable with no arraystore installed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.digests import digest_of, file_blocks
from arraystore._format.contents import JSON_ENTRY, SlotPixels, reading
from arraystore._format.files import JSON_LIMIT_BYTES, fsync_path, read_json, write_text
from arraystore._format.publication import Publication
from arraystore._format.samples import parquet_columns, read_parquet, write_parquet
from arraystore._format.slot_file import (
    PIXELS_OFFSET,
    SlotFile,
    npy_form,
    npy_header,
    npy_slots,
    read_npy,
    write_npy,
)
from arraystore._format.specification import Description
from arraystore._stores.disk_draft import DiskDraft
from arraystore._stores.opened import Opened
from arraystore._stores.partial import reserve
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["contents_of", "draft", "open_published", "slot_file"]

_IMAGES = "images.npy"


class NpyDraft(DiskDraft):
    """Slots in ``TARGET.partial/images.npy``."""

    @staticmethod
    def is_store(path: Path) -> bool:
        """Return whether a store folder has the name already."""
        return path.is_dir() and (path / JSON_ENTRY).is_file() and (path / _IMAGES).is_file()

    def _reserve(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        reserved = reserve(path, PIXELS_OFFSET + math.prod(shape), header=npy_header(shape))
        return SlotFile(str(path), PIXELS_OFFSET, shape, reserved=reserved)

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


def open_published(path: Path) -> Opened:
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
    array = SlotArray(
        slots.map(),
        read_npy(path / "status.npy", rows),
        read_npy(path / "checksums.npy", rows),
        {name: read_npy(path / f"{name}.npy", rows) for name in description.targets},
    )
    return Opened("npy", path, array, description, load_table=partial(_read_table, path))


def _read_table(path: Path, name: str) -> pa.Table | None:
    file = path / f"{name}.parquet"
    return None if name == "dropped" and not file.exists() else read_parquet(file)


class _FolderContents:
    """The files of a folder."""

    status, checksums = "status.npy", "checksums.npy"
    has_digests = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def where(self, part: str) -> str:
        return str(self._path / part)

    def text(self) -> bytes:
        path = self._path / JSON_ENTRY
        # Only a regular file: opening a FIFO would wait for ever.
        if not path.is_file():
            raise FormatError(f"{path} is missing", source=str(path))
        with reading(str(path)):
            if path.stat().st_size > JSON_LIMIT_BYTES:
                raise FormatError(f"{path} is larger than {JSON_LIMIT_BYTES:,} bytes", source=str(path))
            return path.read_bytes()

    def present(self) -> list[str]:
        with reading(str(self._path)):
            return sorted(path.name for path in self._path.iterdir() if path.name not in (JSON_ENTRY, _IMAGES))

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [self.status, self.checksums, *map(self.target, targets), "samples.parquet"]

    def is_ours(self, part: str) -> bool:
        return part == "dropped.parquet"

    def target(self, name: str) -> str:
        return f"{name}.npy"

    def column(self, name: str) -> str:  # noqa: ARG002 - all columns are in one file
        return "samples.parquet"

    def size(self, part: str) -> int:
        with reading(self.where(part)):
            if not (self._path / part).is_file():
                raise FormatError(f"{self.where(part)} is not a regular file", source=self.where(part))
            return (self._path / part).stat().st_size

    def blocks(self, part: str) -> Iterator[bytes | memoryview]:
        with reading(self.where(part)):
            yield from file_blocks(self._path / part)

    def form(self, part: str) -> tuple[str, tuple[int, ...]]:
        size = self.size(part)
        dtype, shape, fortran, offset = npy_form(self._path / part)
        expected = offset + math.prod(shape) * dtype.itemsize
        if size != expected or fortran or dtype.hasobject:
            raise FormatError(
                f"{self.where(part)} is {size:,} bytes long, by its own header it should be {expected:,}",
                source=self.where(part),
            )
        return dtype.str, shape

    def array(self, part: str) -> npt.NDArray[Any]:
        with reading(self.where(part)), (self._path / part).open("rb") as file:
            array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
            return array

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        path = self._path / f"{name}.parquet"
        if name == "dropped" and not path.is_file():
            return None
        with reading(str(path)):
            return read_parquet(path, columns).select(columns)

    def column_names(self) -> list[str]:
        path = self._path / "samples.parquet"
        with reading(str(path)):
            return parquet_columns(path)

    def dropped(self) -> bool:
        return (self._path / "dropped.parquet").is_file()

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        path = self._path / _IMAGES
        if not path.is_file():
            raise FormatError(f"{path} is missing", source=str(path))
        with reading(str(path)):
            slots = npy_slots(path) if shape is None else SlotFile(str(path), PIXELS_OFFSET, shape)
            with path.open("rb") as file:
                header = file.read(PIXELS_OFFSET)
            size, expected = path.stat().st_size, PIXELS_OFFSET + math.prod(slots.shape)
        faults = []
        if size != expected:
            faults.append(f"{path} is {size:,} bytes long, but its last slot should end at {expected:,}")
        if header != npy_header(slots.shape)[:size]:
            faults.append(f"{path} has a header that is not that of uint8 in shape {slots.shape}")
        return slots, faults


contents_of, draft, slot_file = _FolderContents, NpyDraft, npy_slots
