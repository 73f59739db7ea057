"""TODO."""

from __future__ import annotations
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
import xxhash
from arraystore.errors import FormatError
if TYPE_CHECKING:
    import h5py
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
import numpy as np
import numpy.typing as npt
from arraystore._common.digests import file_blocks
from arraystore.errors import FormatError
from arraystore._format.slot_file import PAGE_BYTES, PIXELS_OFFSET, SlotFile, npy_form, npy_header, npy_slots
from arraystore._format.samples import read_parquet
from arraystore._stores import Store
from arraystore._stores.opening import no_store
if TYPE_CHECKING:
    import h5py
    import pyarrow as pa
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
from arraystore._common.digests import digest_of
from arraystore.errors import FormatError
from arraystore._format.slot_file import PAGE_BYTES, SlotFile, map_array
from arraystore._format.specification import Description
from arraystore._format.files import fsync_path, write_at
from arraystore._format.publication import Publication
from arraystore._reading.store import Store
from arraystore._stores.disk_draft import DiskDraft
from arraystore._stores.partial import reserve
if TYPE_CHECKING:
    import pyarrow as pa
import math
import os
import struct
from pathlib import Path
from arraystore._common.digests import BLOCK_BYTES
from arraystore.errors import FormatError
from arraystore._format.slot_file import SlotFile

__all__ = ["check_heaps", "dataset_blocks", "dataset_names", "datasets_told", "h5_file", "map_dataset", "read_table", "slots_of", "unmappable"]

_TEXTS_A_BLOCK = 1 << 14
_NAMES_TOLD = 20
_START = b"GCOL\x01"
_OBJECT = struct.Struct("<HHIQ")  # index, references, reserved, size



def dataset_blocks(dataset: h5py.Dataset) -> Iterator[bytes | memoryview]:
    """Yield the bytes that the digest of an HDF5 dataset is of: what it holds, however HDF5 keeps it.

    Raises:
        FormatError: it holds neither numbers nor strings.
    """
    import h5py  # noqa: PLC0415 - only HDF5 stores need it

    texts = h5py.check_string_dtype(dataset.dtype) is not None
    if not texts and dataset.dtype.kind not in "biuf":
        raise FormatError(f"the dataset {dataset.name} holds {dataset.dtype}, neither numbers nor strings")
    yield json.dumps(["string" if texts else dataset.dtype.str, dataset.shape]).encode() + b"\n"
    row_bytes = dataset.nbytes // max(1, len(dataset))
    step = _TEXTS_A_BLOCK if texts else max(1, BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, len(dataset), step):
        values = dataset[start : start + step]
        yield b"".join(len(text).to_bytes(8, "little") + text for text in values) if texts else values.tobytes()


class _Hdf5Parts:
    """The datasets of an HDF5 file."""

    status, checksums = "status", "checksums"
    has_digests = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def where(self, part: str) -> str:
        return f"{self._path}:{part}"

    def text(self) -> bytes:
        with self._dataset(_JSON) as dataset:
            text = dataset[()]
        if not isinstance(text, bytes):
            raise FormatError(f"{self.where(_JSON)} is not text", source=str(self._path))
        return text

    def present(self) -> list[str]:

        with _reading(self.place):
            check_heaps(self._path, slots_of(self._path))
        with self._file() as file:
            return [name for name in dataset_names(file) if name not in (_JSON, "images")]

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

        with _reading(self.where(name)):
            return read_table(self._path, name, columns)

    def column_names(self) -> list[str]:
        with self._file() as file:
            return list(file["samples"])

    def dropped(self) -> bool:
        with self._file() as file:
            return "dropped" in file

    def slots(self, shape: tuple[int, ...] | None) -> tuple[Slots, list[str]]:

        place = self.where("images")
        with _reading(place):
            slots = slots_of(self._path)
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
        import h5py  # noqa: PLC0415 - see present

        with _reading(str(self._path)), h5py.File(self._path, "r", locking="best-effort") as file:
            yield file

    @contextmanager
    def _dataset(self, part: str) -> Iterator[h5py.Dataset]:
        import h5py  # noqa: PLC0415 - see present

        with self._file() as file, _reading(self.where(part)):
            dataset = file[part]
            if not isinstance(dataset, h5py.Dataset):
                raise FormatError(f"{self.where(part)} is not a dataset", source=str(self._path))
            yield dataset


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


def check_heaps(path: Path, slots: SlotFile) -> None:
    """Walk through every global heap that lies before or behind the pixels.

    Raises:
        FormatError: one is damaged.
        OSError: the file cannot be read.
    """
    pixels_end = slots.offset + math.prod(slots.shape)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for begin, end in ((0, slots.offset), (pixels_end, size)):
            at = begin
            while (at := _find(file.fileno(), at, end)) >= 0:
                heap = os.pread(file.fileno(), _heap_bytes(file.fileno(), at, end), at)
                if not _is_whole(heap):
                    raise FormatError(f"{path}: the strings at byte {at:,} are damaged", source=str(path))
                at += len(heap)


def _find(descriptor: int, begin: int, end: int) -> int:
    """Return where the next heap starts, or -1."""
    for at in range(begin, end, BLOCK_BYTES):
        block = os.pread(descriptor, min(BLOCK_BYTES + len(_START) - 1, end - at), at)
        found = block.find(_START)
        if found >= 0:
            return at + found
    return -1


def _heap_bytes(descriptor: int, at: int, end: int) -> int:
    head = os.pread(descriptor, 16, at)
    return min(int.from_bytes(head[8:16], "little"), end - at)


def _is_whole(heap: bytes) -> bool:
    """Return whether objects, and what is free behind them, fill a heap exactly."""
    at = 16
    if len(heap) < at or int.from_bytes(heap[8:16], "little") != len(heap):
        return False
    while len(heap) - at >= _OBJECT.size:
        index, _, _, size = _OBJECT.unpack_from(heap, at)
        if index == 0:  # what is free; its size counts from here
            return bool(size == len(heap) - at)
        at += _OBJECT.size + (size + 7 & ~7)
    return at <= len(heap)
