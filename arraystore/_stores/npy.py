"""The .npy medium: a folder of plain NumPy files, readable with no arraystore installed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.digests import digest_of, file_blocks
from arraystore._common.lazy import lazy
from arraystore._common.ragged import split_targets
from arraystore._format.contents import JSON_ENTRY, SlotPixels, reading
from arraystore._format.description import Description
from arraystore._format.files import JSON_LIMIT_BYTES, read_json, reserve_file, write_text
from arraystore._format.held_file import HeldFile
from arraystore._format.publication import Publication
from arraystore._format.samples import read_parquet, write_parquet
from arraystore._format.slot_file import (
    PIXELS_OFFSET,
    SlotFile,
    byte_rows,
    npy_form,
    npy_header,
    npy_slots,
    read_npy,
    write_npy,
)
from arraystore._format.target_forms import array_lengths, file_name, targets_in
from arraystore._stores.medium import Medium, Opened
from arraystore._stores.publishing import FOLDER_NAMES
from arraystore._stores.slot_array import SlotArray
from arraystore._stores.unfinished.disk_draft import DiskDraft
from arraystore.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
else:
    pq = lazy("pyarrow.parquet")


class _Draft(DiskDraft):
    """Slots in ``TARGET.partial/images.npy``."""

    def _make_file(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        reserved = reserve_file(path, PIXELS_OFFSET + math.prod(shape), header=npy_header(shape))
        return SlotFile(str(path), PIXELS_OFFSET, shape, reserved=reserved)

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        write_folder(folder, publication)


def write_folder(folder: Path, publication: Publication, *others: str) -> None:
    """Write the files of a store folder beside those of its pixels and masks, store.json last, each with fsync.

    ``others`` are the names of further files in the folder that store.json shall have digests of.
    """
    arrays: dict[str, npt.NDArray[Any]] = {"status": publication.status, "checksums": publication.checksums}
    arrays |= split_targets(publication.targets)
    for name, array in arrays.items():
        write_npy(folder / file_name(name), array)
    tables = {"samples": publication.samples, "dropped": publication.dropped}
    tables = {name: table for name, table in tables.items() if table is not None}
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table)
    names = [*map(file_name, arrays), *map(file_name, publication.masks_in_place())]
    files = [*names, *(f"{name}.parquet" for name in tables), *others]
    digests = {name: digest_of(file_blocks(folder / name)) for name in files}
    write_text(folder / JSON_ENTRY, replace(publication.description, digests=digests).to_text())


def open_folder(medium: Medium, path: Path) -> Opened:
    """Open a store folder of a medium that keeps everything but the pixels as the .npy medium does.

    Raises:
        FormatError: it is no store, or is damaged.
    """
    description = described(path)
    slots = (medium.slot_file or npy_slots)(path / medium.pixels)
    expected = (description.count, *description.shape)
    if slots.shape != expected:
        raise FormatError(
            f"{path / medium.pixels} has shape {slots.shape}, store.json says {expected}", source=str(path)
        )
    return opened_folder(medium, path, description, slots.map())


def open_rest(medium: Medium, path: Path) -> Opened:
    """Open a store folder as `open_folder` does, but without its slots.

    Raises:
        FormatError: it is no store, or more than the pixels is damaged.
    """
    description = described(path)
    return opened_folder(medium, path, description, np.empty((0, *description.shape), np.uint8))


def described(path: Path) -> Description:
    """Return the store.json of a store folder.

    Raises:
        FormatError: it is no store, or store.json is damaged.
    """
    if not (path / JSON_ENTRY).is_file():
        raise FormatError(f"{path} is not a store: it has no {JSON_ENTRY}", source=str(path))
    return Description.from_json(read_json(path / JSON_ENTRY), str(path / JSON_ENTRY))


def opened_folder(medium: Medium, path: Path, description: Description, images: Any) -> Opened:
    """Open everything in a store folder but its slots.

    Raises:
        FormatError: it is damaged.
    """
    rows = description.count
    lengths = array_lengths(description.targets, rows)
    arrays = {key: read_npy(path / file_name(key), length) for key, length in lengths.items()}
    array = SlotArray(
        images,
        read_npy(path / "status.npy", rows),
        read_npy(path / "checksums.npy", rows),
        targets_in(arrays, str(path)),
    )
    held = {name: _hold(path / f"{name}.parquet") for name in ("samples", "dropped")}
    return Opened(medium.name, path, array, description, load_table=partial(_read_table, path, held))


def _hold(path: Path) -> HeldFile | None:
    try:
        return HeldFile(path)
    except FileNotFoundError:
        return None


def _read_table(path: Path, held: Mapping[str, HeldFile | None], name: str) -> pa.Table | None:
    place, file = str(path / f"{name}.parquet"), held[name]
    if file is not None:
        return read_parquet(file.path(), place=place)
    if name == "dropped":
        return None
    raise FormatError(f"{place} was missing when the store was opened", source=place)


class FolderContents:
    """The files of a store folder; the base for other media that are folders.

    Raises:
        FormatError: an entry is damaged or missing; see `Contents`.
    """

    pixels = "images.npy"  # has no digest
    status, checksums, shapes, sums = "status.npy", "checksums.npy", "shapes.npy", "sums.npy"
    has_digests = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def where(self, entry: str) -> str:
        return str(self._path / entry)

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
            return sorted(path.name for path in self._path.iterdir() if path.name not in (JSON_ENTRY, self.pixels))

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [self.status, self.checksums, *map(self.target, targets), "samples.parquet"]

    def forms(self, description: Description) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        del description
        return {}

    def is_ours(self, entry: str) -> bool:
        return entry == "dropped.parquet"

    def target(self, key: str) -> str:
        return file_name(key)

    def column(self, name: str) -> str:
        del name  # all columns are in one file
        return "samples.parquet"

    def size(self, entry: str) -> int:
        with reading(self.where(entry)):
            if not (self._path / entry).is_file():
                raise FormatError(f"{self.where(entry)} is not a regular file", source=self.where(entry))
            return (self._path / entry).stat().st_size

    def blocks(self, entry: str) -> Iterator[bytes | memoryview]:
        with reading(self.where(entry)):
            yield from file_blocks(self._path / entry)

    def form(self, entry: str) -> tuple[str, tuple[int, ...]]:
        size = self.size(entry)
        dtype, shape, fortran, offset = npy_form(self._path / entry)
        expected = offset + math.prod(shape) * dtype.itemsize
        if size != expected or fortran or dtype.hasobject:
            raise FormatError(
                f"{self.where(entry)} is {size:,} bytes long, by its own header it should be {expected:,}",
                source=self.where(entry),
            )
        return dtype.str, shape

    def array(self, entry: str) -> npt.NDArray[Any]:
        with reading(self.where(entry)), (self._path / entry).open("rb") as file:
            array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
            return array

    def rows(self, entry: str) -> SlotFile:
        return byte_rows(self._path / entry)

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        path = self._path / f"{name}.parquet"
        if name == "dropped" and not path.is_file():
            return None
        with reading(str(path)):
            return read_parquet(path, columns).select(columns)

    def column_names(self) -> list[str]:
        path = self._path / "samples.parquet"
        with reading(str(path)), path.open("rb") as file:
            return list(pq.read_schema(file).names)

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        path = self._pixel_file()
        with reading(str(path)):
            slots = npy_slots(path) if shape is None else SlotFile(str(path), PIXELS_OFFSET, shape)
        end = PIXELS_OFFSET + math.prod(slots.shape)
        return slots, self._frame_faults(npy_header(slots.shape), end, f"uint8 in shape {slots.shape}")

    def _pixel_file(self) -> Path:
        path = self._path / self.pixels
        if not path.is_file():
            raise FormatError(f"{path} is missing", source=str(path))
        return path

    def _frame_faults(self, header: bytes, end: int, form: str) -> list[str]:
        """Return what is wrong around the slots in their file.

        Args:
            header: that it should have.
            end: the byte after the last slot.
            form: of the slots, in words.
        """
        path = self._path / self.pixels
        with reading(str(path)):
            with path.open("rb") as file:
                found = file.read(PIXELS_OFFSET)
            size = path.stat().st_size
        faults = []
        if size != end:
            faults.append(f"{path} is {size:,} bytes long, but its last slot should end at {end:,}")
        if found != header[:size]:
            faults.append(f"{path} has a header that is not that of {form}")
        return faults


NPY = Medium(
    name="npy",
    label=".npy folder",
    pixels=FolderContents.pixels,
    is_folder=True,
    names=FOLDER_NAMES,
    head_bytes=PIXELS_OFFSET,
    text_bytes=4,
    open=open_folder,
    open_rest=open_rest,
    contents=FolderContents,
    slot_file=npy_slots,
    draft=_Draft,
)
