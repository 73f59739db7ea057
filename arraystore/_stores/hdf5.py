"""The HDF5 medium: one file with the store's names as datasets, filled and read through a mapping of its pixels.

The dataset of pixels is contiguous and allocated early, so its byte offset is known and both sides map it like any
other file: workers fill it in parallel, and readers gather at full speed, outside the HDF5 library's global lock.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from arraystore._common.digests import digest_of
from arraystore._format.contents import COLUMNS, JSON_ENTRY, SlotPixels, reading
from arraystore._format.files import fsync_path, write_at
from arraystore._format.publication import Publication
from arraystore._format.slot_file import PAGE_BYTES, SlotFile
from arraystore._format.specification import Description
from arraystore._stores.disk_draft import DiskDraft
from arraystore._stores.hdf5_file import (
    check_heaps,
    dataset_blocks,
    dataset_names,
    datasets_told,
    h5_file,
    hdf5_slots,
    map_dataset,
    read_hdf5_table,
    write_table,
)
from arraystore._stores.opened import Opened
from arraystore._stores.partial import reserve
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import FormatError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["contents_of", "draft", "open_published", "slot_file"]

# The layout of HDF5 1.8: every object header has a checksum of its own.
_LIBVER = ("v108", "v108")


class Hdf5Draft(DiskDraft):
    """Slots in ``TARGET.partial/images.h5``."""

    @staticmethod
    def is_store(path: Path) -> bool:
        """Return whether a store file has the name already."""
        try:
            with h5_file(path) as file:
                return JSON_ENTRY in file and "images" in file
        except FormatError:
            return False

    def _reserve(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        # A contiguous dataset cannot be resized. But all metadata lie before the pixels, so the head of a file made for
        # this many slots goes before these, and what lies behind them is cut off: no pixel is copied.
        offset = self.medium.head_bytes
        ends = _Ends(b"", offset + math.prod(shape))
        _make_pixels(ends, shape)
        reserved = reserve(path, ends.end, header=ends.head.ljust(offset, b"\0"))
        return SlotFile(str(path), offset, shape, reserved=reserved)

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        file_of_pixels = folder / self.medium.pixels
        fsync_path(file_of_pixels)
        with file_of_pixels.open("r+b", buffering=0) as pixels:
            ends = _Ends(pixels.read(self.medium.head_bytes), self.file.byte_of(self.file.shape[0]))
            with h5py.File(ends, "r+", libver=_LIBVER) as file:
                _write_all(file, publication)
            write_at(pixels.fileno(), memoryview(ends.tail), ends.end)
            write_at(pixels.fileno(), memoryview(ends.head), 0)


def open_published(path: Path) -> Opened:
    """Open a store file.

    Raises:
        FormatError: it is no store, or damaged, cut short, or newer than this arraystore.
    """
    with h5_file(path) as file:
        if JSON_ENTRY not in file or "images" not in file:
            raise FormatError(
                f"{path} is not a store: it has no datasets 'store.json' and 'images'; {datasets_told(file)}: open one "
                "of those with arraystore.open_array(path, dataset=NAME)",
                source=str(path),
            )
        try:
            members = json.loads(file[JSON_ENTRY][()])
            targets = {name: map_dataset(path, dataset) for name, dataset in file["targets"].items()}
            status, checksums = map_dataset(path, file["status"]), map_dataset(path, file["checksums"])
        except (KeyError, ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"{path} is damaged: {error}; build the store again", source=str(path)) from error
    if not isinstance(members, dict):
        raise FormatError(f"{path}:{JSON_ENTRY} should hold a JSON object", source=str(path))
    slots = hdf5_slots(path)
    description = Description.from_json(members, f"{path}:{JSON_ENTRY}")
    if slots.shape != (description.count, *description.shape):
        raise FormatError(f"{path}: images have shape {slots.shape}, store.json says otherwise", source=str(path))
    arrays = {"status": status, "checksums": checksums} | targets
    for name, array in arrays.items():
        if np.shape(array)[:1] != (description.count,):
            raise FormatError(
                f"{path}: {name} should have {description.count:,} rows, its shape is {np.shape(array)}",
                source=str(path),
            )
    array = SlotArray(slots.map(), status, checksums, targets)
    return Opened("hdf5", path, array, description, load_table=partial(read_hdf5_table, path))


class _Ends(io.RawIOBase):
    """An HDF5 file without its pixels, in memory: what lies before and behind them.

    The library writes here, and what it has written then goes into the file by system calls. For if one of its own
    writes fails, as on a full volume, it can neither close that file nor open it again, and ends the process.

    Attributes:
        head: the bytes before the pixels.
        end: the byte behind them.
        tail: the bytes from there on.
    """

    def __init__(self, head: bytes, end: int) -> None:
        super().__init__()
        self.head, self.end, self.tail = bytearray(head), end, bytearray()
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self.end + len(self.tail) if self.head else 0
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        part, at = self._part()
        view = memoryview(buffer).cast("B")
        data = part[at : at + len(view)]
        view[:] = bytes(data).ljust(len(view), b"\0")  # the library looks further ahead than it needs
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        part, at = self._part()
        view = memoryview(data).cast("B")
        part.extend(bytes(max(at - len(part), 0)))
        part[at : at + len(view)] = view
        self._at += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        del self.tail[max(size - self.end, 0) :]
        self.tail.extend(bytes(max(size - self.end - len(self.tail), 0)))
        return size

    def _part(self) -> tuple[bytearray, int]:
        return (self.head, self._at) if self._at < self.end else (self.tail, self._at - self.end)


def _make_pixels(ends: _Ends, shape: tuple[int, ...]) -> None:
    """Make a file that ends with the pixels, which are not written.

    In the layout of HDF5 1.8 the link to a dataset lies in its group's header, so nothing has to go behind the pixels;
    with every part on its own page they start at the same byte, the fourth page's first, whatever their number.
    """
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # the file system's zeros will do
    create.set_obj_track_times(False)  # two builds of the same images are the same bytes
    layout = {"libver": _LIBVER, "alignment_threshold": 1, "alignment_interval": PAGE_BYTES}
    with h5py.File(ends, "w", **layout) as file:
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space, create)


def _write_all(file: h5py.File, publication: Publication) -> None:
    description = publication.description
    # Attributes are for people with an HDF5 browser; a reader goes by store.json.
    file.attrs["format"], file.attrs["layout"] = "arraystore", description.spec.layout
    file.attrs["mean"], file.attrs["std"] = description.mean, description.std
    file.create_dataset("status", data=publication.status)
    file.create_dataset("checksums", data=publication.checksums)
    targets = file.create_group("targets")
    for name, array in publication.targets.items():
        targets.create_dataset(name, data=array)
    write_table(file, "samples", publication.samples)
    if publication.dropped is not None:
        write_table(file, "dropped", publication.dropped)
    parts = {name: file[name] for name in dataset_names(file) if name != "images"}
    digests = {name: digest_of(dataset_blocks(dataset)) for name, dataset in parts.items()}
    text = replace(description, digests=digests).to_text()
    file.create_dataset(JSON_ENTRY, data=text, dtype=h5py.string_dtype())


class _FileContents:
    """The datasets of an HDF5 file."""

    status, checksums = "status", "checksums"
    has_digests = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def where(self, part: str) -> str:
        return f"{self._path}:{part}"

    def text(self) -> bytes:
        with self._dataset(JSON_ENTRY) as dataset:
            text = dataset[()]
        if not isinstance(text, bytes):
            raise FormatError(f"{self.where(JSON_ENTRY)} is not text", source=str(self._path))
        return text

    def present(self) -> list[str]:

        with reading(self.place):
            check_heaps(self._path, hdf5_slots(self._path))
        with self._file() as file:
            return [name for name in dataset_names(file) if name not in (JSON_ENTRY, "images")]

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [self.status, self.checksums, *map(self.target, targets), *(f"samples/{name}" for name in COLUMNS)]

    def is_ours(self, part: str) -> bool:
        return part.startswith(("targets/", "samples/", "dropped/"))

    def target(self, name: str) -> str:
        return f"targets/{name}"

    def column(self, name: str) -> str:
        return f"samples/{name}"

    def size(self, part: str) -> int:
        with self._dataset(part) as dataset:
            return int(dataset.nbytes)

    def blocks(self, part: str) -> Iterator[bytes | memoryview]:
        with self._dataset(part) as dataset:
            yield from dataset_blocks(dataset)

    def form(self, part: str) -> tuple[str, tuple[int, ...]]:
        with self._dataset(part) as dataset:
            return dataset.dtype.str, tuple(dataset.shape)

    def array(self, part: str) -> npt.NDArray[Any]:
        with self._dataset(part) as dataset:
            return np.asarray(dataset[...])

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:

        with reading(self.where(name)):
            return read_hdf5_table(self._path, name, columns)

    def column_names(self) -> list[str]:
        with self._file() as file:
            return list(file["samples"])

    def dropped(self) -> bool:
        with self._file() as file:
            return "dropped" in file

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:

        place = self.where("images")
        with reading(place):
            slots = hdf5_slots(self._path)
            size, end = self._path.stat().st_size, self._end()
        if shape is not None and slots.shape != shape:
            raise FormatError(f"{place} has shape {slots.shape}, by store.json it should have {shape}", source=place)
        faults = []
        if slots.offset % PAGE_BYTES:
            faults.append(f"{place} starts at byte {slots.offset:,}, which is no multiple of {PAGE_BYTES:,}")
        if size != end:
            faults.append(f"{self._path} is {size:,} bytes long, by its own superblock it should be {end:,}")
        return slots, faults

    def _end(self) -> int:
        """Return the byte where the superblock says that the file ends."""
        with self._path.open("rb") as file:
            superblock = file.read(36)
        if superblock[8:11] != b"\x02\x08\x08":  # version 2, addresses and lengths of 8 bytes
            raise FormatError(f"{self._path} has a superblock that is not of version 2", source=str(self._path))
        return int.from_bytes(superblock[28:36], "little")

    @contextmanager
    def _file(self) -> Iterator[h5py.File]:
        with reading(str(self._path)), h5py.File(self._path, "r", locking="best-effort") as file:
            yield file

    @contextmanager
    def _dataset(self, part: str) -> Iterator[h5py.Dataset]:
        with self._file() as file, reading(self.where(part)):
            dataset = file[part]
            if not isinstance(dataset, h5py.Dataset):
                raise FormatError(f"{self.where(part)} is not a dataset", source=str(self._path))
            yield dataset


contents_of, draft, slot_file = _FileContents, Hdf5Draft, hdf5_slots
