"""Reading and checking HDF5 files: which datasets can be mapped and where they lie, tables, digests and heaps."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.arrow import bytes_column, number_column, numbers_in, time_column
from arraystore._common.digests import BLOCK_BYTES
from arraystore._common.lazy import lazy
from arraystore._format.files import keep_os_error
from arraystore._format.slot_file import SlotFile, map_array, npy_form
from arraystore.errors import FormatError, Kind

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa
else:
    h5py, pa = lazy("h5py"), lazy("pyarrow")

_BLOCK_TEXTS = 1 << 14
_LISTED_NAMES = 20
_HEAP_START = b"GCOL\x01"
_HEAP_OBJECT = struct.Struct("<HHIQ")  # index, references, reserved, size


def dataset_blocks(
    dataset: h5py.Dataset, values: Iterator[bytes | memoryview] | None = None
) -> Iterator[bytes | memoryview]:
    """Yield the bytes that the digest of an HDF5 dataset is made of: its values, independent of how HDF5 stores them.

    Values that are not in the dataset yet are given.

    Raises:
        FormatError: the dataset holds neither numbers nor strings.
    """
    texts = h5py.check_string_dtype(dataset.dtype) is not None
    if not texts and dataset.dtype.kind not in "biuf":
        raise FormatError(f"the dataset {dataset.name} holds {dataset.dtype}, neither numbers nor strings")
    yield json.dumps(["string" if texts else dataset.dtype.str, dataset.shape]).encode() + b"\n"
    if values is not None:
        yield from values
        return
    row_bytes = dataset.nbytes // max(1, len(dataset))
    step = _BLOCK_TEXTS if texts else max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, len(dataset), step):
        part = dataset[start : start + step]
        yield b"".join(len(text).to_bytes(8, "little") + text for text in part) if texts else part.tobytes()


def npy_values(path: Path) -> Iterator[bytes | memoryview]:
    """Yield the bytes of the values of a .npy file."""
    _, _, _, offset = npy_form(path)
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while block := file.read(BLOCK_BYTES):
            yield block


def map_dataset(path: Path, dataset: h5py.Dataset) -> npt.NDArray[Any]:
    """Map a dataset if its bytes in the file are a plain array; otherwise read it."""
    kind = dataset.dtype
    # h5py keeps more of a dtype than its bytes, such as the names of an enumeration. A mapping would lose that.
    if dataset.size == 0 or kind.metadata is not None or unmappable(dataset) is not None:
        return np.asarray(dataset[...])
    return map_array(path, kind, dataset.id.get_offset(), dataset.shape)


def unmappable(dataset: h5py.Dataset) -> str | None:
    """Return why the bytes of a dataset in the file are not a plain array; None if they are one."""
    create, kind = dataset.id.get_create_plist(), dataset.dtype
    # The library converts types that NumPy does not have, such as integers of 12 bits, whenever it reads them.
    if kind.hasobject or h5py.h5t.py_create(kind, logical=True) != dataset.id.get_type():
        return f"its values are not plain {kind}"
    if create.get_external_count() or create.get_layout() == h5py.h5d.VIRTUAL:
        return "its values lie in other files"
    if create.get_layout() == h5py.h5d.CHUNKED:
        return "it is chunked and compressed" if create.get_nfilters() else "it is chunked"
    if create.get_layout() == h5py.h5d.COMPACT:
        return "it is compact"
    # The offset cannot tell whether there are bytes: in a file with a user block, every dataset has one.
    return None if dataset.id.get_storage_size() == dataset.size * kind.itemsize else "nothing was ever written to it"


@contextmanager
def h5_file(path: Path, opened: FileIO | None = None, *, is_foreign: bool = False) -> Iterator[h5py.File]:
    """Open an HDF5 file to read; if it is ``opened`` already, the path is only its name.

    ``is_foreign`` says that other programs may be writing to the file.

    Raises:
        FormatError: it is no HDF5 file that can be read; or a foreign one is being written.
        OSError: the system does not let this process read it, which says nothing about the file.
    """
    if is_foreign:
        _check_not_written(path)
    try:
        file = without_lock(path) if opened is None else h5py.File(opened, "r")
    except OSError as error:
        keep_os_error(error)
        # What follows the pixels is lost: the sources, and the checksums of the slots that are left.
        advice = (
            "restore it from a copy, or write it again: what is left cannot be repaired"
            if "truncated" in str(error)
            else ""
        )
        message = f"{path} is not an HDF5 file that can be read: {error}"
        raise FormatError(message, source=str(path), advice=advice) from error
    with file:
        yield file


def without_lock(path: Path) -> h5py.File:
    """Open an HDF5 file to read: nobody writes to a published store, and some volumes refuse every lock."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
    return h5py.File(path, "r")  # this process has it open with a lock, and the library wants all of one kind


def _check_not_written(path: Path) -> None:
    """Refuse a file that a program has opened to write: HDF5 locks it, if the volume has locks.

    Raises:
        FormatError: it is being written.
    """
    try:
        h5py.File(path, "r", locking="best-effort").close()
    except BlockingIOError as error:
        raise FormatError(
            f"{path} is being written by a program",
            source=str(path),
            kind=Kind.BUSY,
            advice="close it there first: what is read now may be half of it",
        ) from error
    except OSError:
        return  # it cannot be locked, or not be read, which `h5_file` tells


def hdf5_slots(path: Path) -> SlotFile:
    """Return where the slots of a store file lie.

    Raises:
        FormatError: the slots are not contiguous uint8.
    """
    with h5_file(path) as file:
        dataset = file["images"]
        offset = dataset.id.get_offset() if isinstance(dataset, h5py.Dataset) else None
        if offset is None or dataset.dtype != np.uint8:
            raise FormatError(f"{path}: images are not contiguous uint8, so they cannot be mapped", source=str(path))
        return SlotFile(str(path.absolute()), int(offset), tuple(dataset.shape))


def dataset_names(file: h5py.File) -> list[str]:
    """Return the names of all datasets in a file, sorted."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(names)


def datasets_told(file: h5py.File) -> str:
    """Return a phrase that lists the datasets of a file, for messages."""
    try:
        names = dataset_names(file)
    except (KeyError, ValueError, TypeError, RuntimeError, OSError):  # damage, while an error is reported already
        names = []
    more = f" and {len(names) - _LISTED_NAMES:,} more" if len(names) > _LISTED_NAMES else ""
    return f"it has {', '.join(map(repr, names[:_LISTED_NAMES])) or 'none'}{more}"


def write_table(file: h5py.File, name: str, table: pa.Table) -> None:
    """Write a table as a group with a dataset for each column."""
    group = file.create_group(name, track_order=True)
    for column in table.column_names:
        values = table[column]
        if pa.types.is_timestamp(values.type):
            dataset = group.create_dataset(column, data=numbers_in(values.cast(pa.int64())))
            dataset.attrs["unit"] = "µs since 1970-01-01 UTC, 0 where unknown"
        elif pa.types.is_string(values.type) or pa.types.is_binary(values.type):
            # HDF5 strings have no null and no type for bytes: empty, and the bytes as they are.
            texts = [b"" if value is None else os.fsencode(value) for value in values.to_pylist()]
            group.create_dataset(column, data=texts, dtype=h5py.string_dtype(), shape=(len(texts),))
        else:
            group.create_dataset(column, data=numbers_in(values))


def read_hdf5_table(
    path: Path, name: str, columns: Sequence[str] | None = None, *, opened: FileIO | None = None
) -> pa.Table | None:
    """Read a table, or only some of its columns; None where there is no table of that name. See `h5_file`."""
    read: dict[str, Any] = {}
    with h5_file(path, opened) as file:
        if name not in file:
            return None
        for column in file[name] if columns is None else columns:
            dataset = file[name][column]
            if column in ("mtime", "hash"):
                values = dataset[...]
                made = time_column if column == "mtime" else number_column
                read[column] = made(values, valid=values != 0)
            elif dataset.dtype == object:
                read[column] = _texts(dataset, nullable=column == "reason")
            else:
                read[column] = number_column(dataset[...])
    return pa.table(read)


def _texts(dataset: h5py.Dataset, *, nullable: bool) -> pa.ChunkedArray:
    # In blocks, because h5py makes a Python object of each text.
    blocks = []
    for start in range(0, len(dataset), _BLOCK_TEXTS):
        values = dataset[start : start + _BLOCK_TEXTS].tolist()
        blocks.append(bytes_column(values, np.array(values, bool) if nullable else None))
    texts = pa.chunked_array(blocks, pa.binary())
    try:
        return texts.cast(pa.string())
    except pa.ArrowInvalid:  # not valid UTF-8
        return texts


def _values(file: h5py.File) -> list[tuple[int, int]]:
    """Return where the values of contiguous datasets begin and end, in rising order."""
    datasets = [file[name] for name in dataset_names(file)]
    places = [(dataset.id.get_offset(), dataset.id.get_storage_size()) for dataset in datasets]
    return sorted((offset, offset + size) for offset, size in places if offset is not None)


def check_heaps(path: Path) -> None:
    """Check every global heap, in which HDF5 keeps strings: they lie between the values of datasets.

    Raises:
        FormatError: a heap is damaged.
        OSError: the file cannot be read.
    """
    with h5_file(path) as opened:
        values = _values(opened)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        begins, ends = [0, *(end for _, end in values)], [*(begin for begin, _ in values), size]
        for begin, end in zip(begins, ends, strict=True):
            at = begin
            while (at := _find(file.fileno(), at, end)) >= 0:
                length = int.from_bytes(os.pread(file.fileno(), 16, at)[8:], "little")
                heap = os.pread(file.fileno(), min(length, end - at), at)
                if not _is_whole(heap):
                    raise FormatError(f"{path}: the strings at byte {at:,} are damaged", source=str(path))
                at += len(heap)


def _find(descriptor: int, begin: int, end: int) -> int:
    """Return the offset of the next heap between two offsets, or -1."""
    for at in range(begin, end, BLOCK_BYTES):
        block = os.pread(descriptor, min(BLOCK_BYTES + len(_HEAP_START) - 1, end - at), at)
        found = block.find(_HEAP_START)
        if found >= 0:
            return at + found
    return -1


def _is_whole(heap: bytes) -> bool:
    """Return whether the objects of a heap, and the free bytes after them, fill it exactly."""
    at = 16
    if len(heap) < at or int.from_bytes(heap[8:16], "little") != len(heap):
        return False
    while len(heap) - at >= _HEAP_OBJECT.size:
        index, _, _, size = _HEAP_OBJECT.unpack_from(heap, at)
        if index == 0:  # the free bytes; their size counts from here
            return bool(size == len(heap) - at)
        at += _HEAP_OBJECT.size + (size + 7 & ~7)
    return at <= len(heap)
