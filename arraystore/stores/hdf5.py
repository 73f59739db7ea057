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

from arraystore.digests import dataset_blocks, digest_of
from arraystore.errors import FormatError
from arraystore.format import PAGE_BYTES, Description, SlotFile, fsync_path, map_array, write_at
from arraystore.stores.base import Publication, Store
from arraystore.stores.draft import DiskDraft
from arraystore.stores.partial import reserve

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Hdf5Draft",
    "dataset_names",
    "datasets_told",
    "h5_file",
    "map_dataset",
    "open_hdf5",
    "read_table",
    "slots_of",
    "unmappable",
]

_JSON = "store.json"
# The layout of HDF5 1.8: every object header has a checksum of its own.
_LIBVER = ("v108", "v108")
_TEXTS_A_BLOCK = 1 << 14
_NAMES_TOLD = 20


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


def map_dataset(path: Path, dataset: h5py.Dataset) -> npt.NDArray[Any]:
    """Map a dataset where its bytes are an array as they lie; otherwise read it.

    Raises:
        FormatError: the file is too short for it.
        OSError: it cannot be read.
    """
    kind = dataset.dtype
    # What h5py keeps of a dtype beside its bytes, such as the names of an enumeration, a mapping would lose.
    if dataset.size == 0 or kind.metadata is not None or unmappable(dataset) is not None:
        return np.asarray(dataset[...])
    return map_array(path, kind, dataset.id.get_offset(), dataset.shape)


def unmappable(dataset: h5py.Dataset) -> str | None:
    """Return why a dataset's bytes, as they lie in the file, are not the array; None if they are."""
    create, kind = dataset.id.get_create_plist(), dataset.dtype
    # A type that NumPy has not, such as one of 12 bits, is converted by the library whenever it is read.
    if kind.hasobject or h5py.h5t.py_create(kind, logical=True) != dataset.id.get_type():
        return f"its values are not plain {kind}"
    if create.get_external_count() or create.get_layout() == h5py.h5d.VIRTUAL:
        return "its values lie in other files"
    if create.get_layout() == h5py.h5d.CHUNKED:
        return "it is chunked and compressed" if create.get_nfilters() else "it is chunked"
    if create.get_layout() == h5py.h5d.COMPACT:
        return "it is compact"
    # A file with a user block has an offset even for what has none, so that is not what to go by.
    return None if dataset.id.get_storage_size() == dataset.size * kind.itemsize else "nothing was ever written to it"


@contextmanager
def h5_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to read.

    Raises:
        FormatError: this is no HDF5 file that can be read.
    """
    try:
        file = h5py.File(path, "r", locking="best-effort")  # network file systems often cannot lock
    except OSError as error:
        raise FormatError(f"{path} is not an HDF5 file that can be read: {error}", source=str(path)) from error
    with file:
        yield file


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


def slots_of(path: Path) -> SlotFile:
    """Return where the slots lie.

    Raises:
        FormatError: they are not contiguous uint8, or this is no HDF5 file that can be read.
    """
    with h5_file(path) as file:
        dataset = file["images"]
        offset = dataset.id.get_offset() if isinstance(dataset, h5py.Dataset) else None
        if offset is None or dataset.dtype != np.uint8:
            raise FormatError(f"{path}: images are not contiguous uint8, so they cannot be mapped", source=str(path))
        return SlotFile(str(path.absolute()), int(offset), tuple(dataset.shape))


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


def dataset_names(file: h5py.File) -> list[str]:
    """Return the names of all datasets in a file, sorted."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(names)


def datasets_told(file: h5py.File) -> str:
    """Return which datasets a file has, for messages."""
    try:
        names = dataset_names(file)
    except Exception:  # noqa: BLE001 - a damaged file can raise anything, and an error is being told already
        names = []
    more = f" and {len(names) - _NAMES_TOLD:,} more" if len(names) > _NAMES_TOLD else ""
    return f"it has {', '.join(map(repr, names[:_NAMES_TOLD])) or 'none'}{more}"


def _write_table(file: h5py.File, name: str, table: pa.Table) -> None:
    import pyarrow as pa  # noqa: PLC0415 - the table is pyarrow's, so it is loaded

    group = file.create_group(name, track_order=True)
    for column in table.column_names:
        values = table[column]
        if pa.types.is_timestamp(values.type):
            dataset = group.create_dataset(column, data=values.cast(pa.int64()).fill_null(0).to_numpy())
            dataset.attrs["unit"] = "µs since 1970-01-01 UTC, 0 where unknown"
        elif pa.types.is_string(values.type) or pa.types.is_binary(values.type):
            # HDF5 strings have no null and no type for bytes: empty, and the bytes as they are.
            texts = [b"" if value is None else os.fsencode(value) for value in values.to_pylist()]
            group.create_dataset(column, data=texts, dtype=h5py.string_dtype(), shape=(len(texts),))
        else:
            group.create_dataset(column, data=values.fill_null(0).to_numpy())


def read_table(path: Path, name: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """Read a table, or the columns of it that are wanted; None where there is none of that name.

    Raises:
        FormatError: this is no HDF5 file that can be read.
    """
    import pyarrow as pa  # noqa: PLC0415 - only who asks for samples pays

    read: dict[str, Any] = {}
    with h5_file(path) as file:
        if name not in file:
            return None
        for column in file[name] if columns is None else columns:
            dataset = file[name][column]
            if column == "mtime":
                values = dataset[...]
                read[column] = pa.array(values, pa.timestamp("us", "UTC"), mask=values == 0)
            elif column == "hash":
                values = dataset[...]
                read[column] = pa.array(values, mask=values == 0)
            elif dataset.dtype == object:
                read[column] = _texts(dataset, nullable=column == "reason")
            else:
                read[column] = pa.array(dataset[...])
    return pa.table(read)


def _texts(dataset: h5py.Dataset, *, nullable: bool) -> pa.ChunkedArray:
    import pyarrow as pa  # noqa: PLC0415 - see read_table

    # In blocks, because h5py makes an object of each.
    blocks = []
    for start in range(0, len(dataset), _TEXTS_A_BLOCK):
        values = dataset[start : start + _TEXTS_A_BLOCK].tolist()
        blocks.append(pa.array([None if nullable and not value else value for value in values], pa.binary()))
    texts = pa.chunked_array(blocks, pa.binary())
    try:
        return texts.cast(pa.string())
    except pa.ArrowInvalid:  # not valid UTF-8
        return texts
