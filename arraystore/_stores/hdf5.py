"""The HDF5 medium: one file with the store's names as datasets, filled and read through a mapping of its pixels.

The dataset of pixels is contiguous and allocated early, so its byte offset is known and both sides map it like any
other file: workers fill it in parallel, and readers gather at full speed, outside the HDF5 library's global lock.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

from arraystore._stores.hdf5_file import dataset_blocks
from arraystore._common.digests import digest_of
from arraystore.errors import FormatError
from arraystore._format.slot_file import PAGE_BYTES, SlotFile, map_array
from arraystore._format.specification import Description
from arraystore._format.files import fsync_path, write_at
from arraystore._format.publication import Publication
from arraystore._reading.store import Store
from arraystore._stores.disk_draft import DiskDraft
from arraystore._stores.partial import reserve
from arraystore._stores.hdf5_file import _write_table
from arraystore._stores.hdf5_file import dataset_names
from arraystore._stores.hdf5_file import datasets_told
from arraystore._stores.hdf5_file import h5_file
from arraystore._stores.hdf5_file import map_dataset

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Hdf5Draft", "open_hdf5"]

_JSON = "store.json"
# The layout of HDF5 1.8: every object header has a checksum of its own.
_LIBVER = ("v108", "v108")


class Hdf5Draft(DiskDraft):
    """Slots in ``TARGET.partial/images.h5``."""

    pixels = "images.h5"
    offset = 3 * PAGE_BYTES

    @staticmethod
    def is_store(path: Path) -> bool:
        """Return whether a store file has the name already."""
        try:
            with h5_file(path) as file:
                return _JSON in file and "images" in file
        except FormatError:
            return False

    def _reserve(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        # A contiguous dataset cannot be resized. But all metadata lie before the pixels, so the head of a file made for
        # this many slots goes before these, and what lies behind them is cut off: no pixel is copied.
        ends = _Ends(b"", self.offset + math.prod(shape))
        _make_pixels(ends, shape)
        reserved = reserve(path, ends.end, header=ends.head.ljust(self.offset, b"\0"))
        return SlotFile(str(path), self.offset, shape, reserved=reserved)

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        fsync_path(folder / self.pixels)
        with (folder / self.pixels).open("r+b", buffering=0) as pixels:
            ends = _Ends(pixels.read(self.offset), self.file.byte_of(self.file.shape[0]))
            with h5py.File(ends, "r+", libver=_LIBVER) as file:
                _write_all(file, publication)
            write_at(pixels.fileno(), memoryview(ends.tail), ends.end)
            write_at(pixels.fileno(), memoryview(ends.head), 0)

    def _publish(self) -> Store:
        self._folder.publish_file()
        return open_hdf5(self._folder.target)


def open_hdf5(path: Path) -> Store:
    """Open a store file.

    Raises:
        FormatError: it is no store, or damaged, cut short, or newer than this arraystore.
    """
    with h5_file(path) as file:
        if _JSON not in file or "images" not in file:
            raise FormatError(
                f"{path} is not a store: it has no datasets 'store.json' and 'images'; {datasets_told(file)}: to read "
                "one of those, pass its name as dataset=",
                source=str(path),
            )
        try:
            members = json.loads(file[_JSON][()])
            targets = {name: map_dataset(path, dataset) for name, dataset in file["targets"].items()}
            status, checksums = map_dataset(path, file["status"]), map_dataset(path, file["checksums"])
        except (KeyError, ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError(f"{path} is damaged: {error}; build the store again", source=str(path)) from error
    if not isinstance(members, dict):
        raise FormatError(f"{path}:{_JSON} should hold a JSON object", source=str(path))
    slots = slots_of(path)
    description = Description.from_json(members, f"{path}:{_JSON}")
    if slots.shape != (description.count, *description.shape):
        raise FormatError(f"{path}: images have shape {slots.shape}, store.json says otherwise", source=str(path))
    arrays = {"status": status, "checksums": checksums} | targets
    for name, array in arrays.items():
        if np.shape(array)[:1] != (description.count,):
            raise FormatError(
                f"{path}: {name} should have {description.count:,} rows, its shape is {np.shape(array)}",
                source=str(path),
            )
    publication = Publication(description, status, checksums, targets, samples=None)
    return Store(
        medium="hdf5",
        path=path,
        images=slots.map(),
        publication=publication,
        load_table=partial(read_table, path),
    )


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
    _write_table(file, "samples", publication.samples)
    if publication.dropped is not None:
        _write_table(file, "dropped", publication.dropped)
    parts = {name: file[name] for name in dataset_names(file) if name != "images"}
    digests = {name: digest_of(dataset_blocks(dataset)) for name, dataset in parts.items()}
    text = replace(description, digests=digests).to_text()
    file.create_dataset(_JSON, data=text, dtype=h5py.string_dtype())


