"""The parts of a store as `arraystore.verify` audits them: nothing is trusted, mapped or written.

Whatever is wrong with a part is a FormatError that names it, and no other error. A part is a file of a folder, a
dataset of an HDF5 file, or an array of a store in memory; its name is the one that ``digests`` in store.json has for
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from arraystore.digests import dataset_blocks, file_blocks
from arraystore.errors import FormatError
from arraystore.format import PAGE_BYTES, PIXELS_OFFSET, SlotFile, npy_form, npy_header, npy_slots
from arraystore.samples import read_parquet
from arraystore.stores import Store, no_store
from arraystore.stores.heaps import check_heaps

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa

__all__ = ["COLUMNS", "Parts", "Slots", "parts_of"]

COLUMNS = ("source", "height", "width", "bytes", "mtime", "reason")  # that every samples table has
_JSON_LIMIT_BYTES = 64 << 20
_JSON, _IMAGES = "store.json", "images.npy"
Slots = SlotFile | npt.NDArray[np.uint8]


class Parts(Protocol):
    """What a check needs of a medium.

    Attributes:
        status: the name of the part with each slot's status.
        checksums: the name of the part with each slot's checksum.
        has_digests: whether a new store of this medium records digests.
        place: the store's place, for messages.
    """

    status: str
    checksums: str
    has_digests: bool
    place: str

    def where(self, part: str) -> str:
        """Return the part's place, for messages."""

    def text(self) -> bytes:
        """Return store.json."""

    def present(self) -> list[str]:
        """Return the names of all parts that can have a digest, and of whatever else lies there."""

    def needed(self, targets: Iterable[str]) -> list[str]:
        """Return the names of the parts that a store with these targets must have."""

    def is_ours(self, part: str) -> bool:
        """Return whether a reader would take a part that is not needed for one of the store's."""

    def target(self, name: str) -> str:
        """Return the name of a target's part."""

    def column(self, name: str) -> str:
        """Return the name of the part with a column of samples."""

    def size(self, part: str) -> int:
        """Return about how many bytes `blocks` will yield."""

    def blocks(self, part: str) -> Iterator[bytes | memoryview]:
        """Yield the bytes that the part's digest is of."""

    def form(self, part: str) -> tuple[str, tuple[int, ...]]:
        """Return the dtype, as NumPy writes it, and the shape of an array."""

    def array(self, part: str) -> npt.NDArray[Any]:
        """Return a whole array."""

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        """Return columns of the table ``"samples"`` or ``"dropped"``; None where there is none of that name."""

    def column_names(self) -> list[str]:
        """Return the names of the columns of samples."""

    def dropped(self) -> bool:
        """Return whether rows of the manifest were dropped."""

    def slots(self, shape: tuple[int, ...] | None) -> tuple[Slots, list[str]]:
        """Return where the pixels lie, and what is wrong with all that surrounds them; ``shape`` as store.json says."""


def parts_of(store: Store | Path) -> Parts:
    """Return the parts of a store: of one in memory, or of the folder or file at a path.

    Raises:
        FormatError: there is nothing at the path, or the store in memory was closed.
    """
    if isinstance(store, Store):
        return _MemoryParts(store)
    if store.is_dir():
        return _FolderParts(store)
    if store.is_file():
        return _Hdf5Parts(store)
    raise no_store(store)


@contextmanager
def _reading(place: str) -> Iterator[None]:
    """Turn whatever a library raises on damage into one error that names the place."""
    try:
        yield
    except FormatError:
        raise
    except Exception as error:  # numpy, pyarrow and h5py each raise many kinds, and EIO is one more
        raise FormatError(f"{place} cannot be read: {error or type(error).__name__}", source=place) from error


class _FolderParts:
    """The files of a folder."""

    status, checksums = "status.npy", "checksums.npy"
    has_digests = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def where(self, part: str) -> str:
        return str(self._path / part)

    def text(self) -> bytes:
        path = self._path / _JSON
        # Only a regular file: opening a FIFO would wait for ever.
        if not path.is_file():
            raise FormatError(f"{path} is missing", source=str(path))
        with _reading(str(path)):
            if path.stat().st_size > _JSON_LIMIT_BYTES:
                raise FormatError(f"{path} is larger than {_JSON_LIMIT_BYTES:,} bytes", source=str(path))
            return path.read_bytes()

    def present(self) -> list[str]:
        with _reading(str(self._path)):
            return sorted(path.name for path in self._path.iterdir() if path.name not in (_JSON, _IMAGES))

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [self.status, self.checksums, *map(self.target, targets), "samples.parquet"]

    def is_ours(self, part: str) -> bool:
        return part == "dropped.parquet"

    def target(self, name: str) -> str:
        return f"{name}.npy"

    def column(self, name: str) -> str:  # noqa: ARG002 - all columns are in one file
        return "samples.parquet"

    def size(self, part: str) -> int:
        with _reading(self.where(part)):
            if not (self._path / part).is_file():
                raise FormatError(f"{self.where(part)} is not a regular file", source=self.where(part))
            return (self._path / part).stat().st_size

    def blocks(self, part: str) -> Iterator[bytes | memoryview]:
        with _reading(self.where(part)):
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
        with _reading(self.where(part)), (self._path / part).open("rb") as file:
            array: npt.NDArray[Any] = np.load(file, allow_pickle=False)
            return array

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        path = self._path / f"{name}.parquet"
        if name == "dropped" and not path.is_file():
            return None
        with _reading(str(path)):
            return read_parquet(path, columns).select(columns)

    def column_names(self) -> list[str]:
        import pyarrow.parquet as pq  # noqa: PLC0415 - a quarter of a second

        path = self._path / "samples.parquet"
        with _reading(str(path)), path.open("rb") as file:
            return list(pq.read_schema(file).names)

    def dropped(self) -> bool:
        return (self._path / "dropped.parquet").is_file()

    def slots(self, shape: tuple[int, ...] | None) -> tuple[Slots, list[str]]:
        path = self._path / _IMAGES
        if not path.is_file():
            raise FormatError(f"{path} is missing", source=str(path))
        with _reading(str(path)):
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
        from arraystore.stores.hdf5 import dataset_names, slots_of  # noqa: PLC0415 - h5py takes a tenth of a second

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
        from arraystore.stores.hdf5 import read_table  # noqa: PLC0415 - see present

        with _reading(self.where(name)):
            return read_table(self._path, name, columns)

    def column_names(self) -> list[str]:
        with self._file() as file:
            return list(file["samples"])

    def dropped(self) -> bool:
        with self._file() as file:
            return "dropped" in file

    def slots(self, shape: tuple[int, ...] | None) -> tuple[Slots, list[str]]:
        from arraystore.stores.hdf5 import slots_of  # noqa: PLC0415 - see present

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


class _MemoryParts:
    """The arrays of a store in memory, which have no digests."""

    status, checksums = "status", "checksums"
    has_digests = False
    place = "the store in memory"

    def __init__(self, store: Store) -> None:
        if len(store.images) == 0:
            raise FormatError(f"{self.place} was closed; verify a store before you close it")
        self._store = store
        self._arrays: dict[str, npt.NDArray[Any]] = {"status": store.status, "checksums": store.checksums}
        self._arrays.update((self.target(name), array) for name, array in store.targets.items())

    def where(self, part: str) -> str:
        return f"the {part} of {self.place}"

    def text(self) -> bytes:
        return self._store.description.to_text().encode()

    def present(self) -> list[str]:
        return list(self._arrays)

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [self.status, self.checksums, *map(self.target, targets)]

    def is_ours(self, part: str) -> bool:
        return part in self._arrays

    def target(self, name: str) -> str:
        return f"target {name!r}"

    def column(self, name: str) -> str:
        return f"samples {name!r}"

    def size(self, part: str) -> int:
        return int(self._arrays[part].nbytes)

    def blocks(self, part: str) -> Iterator[bytes | memoryview]:
        yield self._arrays[part].tobytes()

    def form(self, part: str) -> tuple[str, tuple[int, ...]]:
        return self._arrays[part].dtype.str, self._arrays[part].shape

    def array(self, part: str) -> npt.NDArray[Any]:
        return self._arrays[part]

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        return self._store.samples.select(columns) if name == "samples" else None

    def column_names(self) -> list[str]:
        return list(self._store.samples.column_names)

    def dropped(self) -> bool:
        return bool(self._store.dropped())

    def slots(self, shape: tuple[int, ...] | None) -> tuple[Slots, list[str]]:
        images = self._store.images
        if images.shape != shape:
            raise FormatError(f"the images of {self.place} have shape {images.shape}, they should have {shape}")
        return images, []
