"""The HDF5 medium: one file with the store's names as datasets, filled and read through a mapping of its pixels.

The dataset of pixels is contiguous and allocated early, so its byte offset is known and both sides map it like any
other file: workers fill it in parallel, and readers gather at full speed, outside the HDF5 library's global lock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._format.contents import COLUMNS, JSON_ENTRY, SlotPixels, reading
from arraystore._format.description import Description
from arraystore._format.files import keep_os_error, reserve_file
from arraystore._format.held_file import HeldFile
from arraystore._format.publication import Publication
from arraystore._format.slot_file import PAGE_BYTES, SlotFile
from arraystore._format.target_forms import array_lengths, targets_in
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.hdf5_file import (
    check_heaps,
    dataset_blocks,
    dataset_names,
    datasets_told,
    h5_file,
    hdf5_slots,
    map_dataset,
    read_hdf5_table,
    without_lock,
)
from arraystore._stores.hdf5_writing import HEAD_BYTES, end_of, head_of, write_rest
from arraystore._stores.medium import Medium, Opened
from arraystore._stores.publishing import HDF5_NAMES
from arraystore._stores.slot_array import Array, SlotArray
from arraystore._stores.unfinished.disk_draft import DiskDraft
from arraystore.errors import FormatError

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa
else:
    h5py = lazy("h5py")  # a tenth of a second

PIXELS = "images"  # the dataset of slots
SIGNATURE = b"\x89HDF\r\n\x1a\n"
TEXT_BYTES = 16 + 20  # of a text in a table, besides its letters: a reference, and the head of an object on the heap


class _Draft(DiskDraft):
    """Slots in ``TARGET.partial/images.h5``."""

    def _make_file(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        # A contiguous dataset cannot be resized. But all metadata lie before the pixels. So the file gets the head of
        # one that was made for this many slots, and is cut off after the last of them: no pixel is copied.
        reserved = reserve_file(path, HEAD_BYTES + math.prod(shape), header=head_of(PIXELS, shape))
        return SlotFile(str(path), HEAD_BYTES, shape, reserved=reserved)

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        # Without fsync: `PartialFolder.publish` syncs this file, which is the store, before it renames it.
        write_rest(folder / self.medium.pixels, publication, PIXELS)


def open_file(
    medium: Medium, path: Path, slots: str, images_of: Callable[[Path, Description], Array | EncodedImages]
) -> Opened:
    """Open a store in an HDF5 file.

    Args:
        medium: of the store.
        path: of the file.
        slots: the name of the dataset of slots.
        images_of: returns the images of the file at a path, by its store.json.

    Raises:
        FormatError: it is no store, or is damaged.
    """
    with h5_file(path) as file:
        if JSON_ENTRY not in file or slots not in file:
            raise FormatError(
                f"{path} is not a store: it has no datasets 'store.json' and {slots!r}; {datasets_told(file)}",
                source=str(path),
                advice="open one of those with arraystore.open_array(path, dataset=NAME)",
            )
        try:
            members = json.loads(file[JSON_ENTRY][()])
            mapped = _mapped_targets(path, file["targets"])
            status, checksums = map_dataset(path, file["status"]), map_dataset(path, file["checksums"])
        except (KeyError, ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
            keep_os_error(error)
            raise FormatError(
                f"{path} is damaged: {error}", source=str(path), advice="build the store again"
            ) from error
    if not isinstance(members, dict):
        raise FormatError(f"{path}:{JSON_ENTRY} should hold a JSON object", source=str(path))
    description = Description.from_json(members, f"{path}:{JSON_ENTRY}")
    images = images_of(path, description)
    lengths = array_lengths(description.targets, description.count)
    arrays = {"status": status, "checksums": checksums}
    rows = dict.fromkeys(arrays, description.count) | lengths
    arrays |= mapped
    for name, count in rows.items():
        if name not in arrays:
            raise FormatError(f"{path} is damaged: it has no target {name!r}", source=str(path))
        if np.shape(arrays[name])[:1] != (count,):
            raise FormatError(
                f"{path}: {name} should have {count:,} rows, its shape is {np.shape(arrays[name])}", source=str(path)
            )
    targets = {key: mapped[key] for key in lengths}
    array = SlotArray(images, status, checksums, targets_in(targets, str(path)))
    return Opened(medium.name, path, array, description, load_table=partial(_read_table, path, HeldFile(path)))


def _open(medium: Medium, path: Path) -> Opened:
    return open_file(medium, path, PIXELS, _images)


def _images(path: Path, description: Description) -> Array:
    slots = hdf5_slots(path)
    if slots.shape != (description.count, *description.shape):
        raise FormatError(f"{path}: images have shape {slots.shape}, store.json says otherwise", source=str(path))
    return slots.map()


def _mapped_targets(path: Path, group: h5py.Group) -> dict[str, npt.NDArray[Any]]:
    """Return the plain arrays of the targets; a ragged target is a group of two datasets."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, item in group.items():
        datasets = {name: item} if isinstance(item, h5py.Dataset) else {f"{name}/{each}": item[each] for each in item}
        arrays |= {key: map_dataset(path, dataset) for key, dataset in datasets.items()}
    return arrays


def _read_table(path: Path, held: HeldFile, name: str) -> pa.Table | None:
    # As an open file: the HDF5 library cannot open a file by a path that is no longer its name.
    with held.path().open("rb", buffering=0) as opened:
        return read_hdf5_table(path, name, opened=opened)


class Hdf5Contents:
    """The datasets of an HDF5 file.

    Raises:
        FormatError: an entry is damaged or missing; see `Contents`.
    """

    pixels = PIXELS  # has no digest
    status, checksums, shapes, sums = "status", "checksums", "shapes", "sums"
    has_digests = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.place = str(path)

    def where(self, entry: str) -> str:
        return f"{self._path}:{entry}"

    def text(self) -> bytes:
        with self._dataset(JSON_ENTRY) as dataset:
            text = dataset[()]
        if not isinstance(text, bytes):
            raise FormatError(f"{self.where(JSON_ENTRY)} is not text", source=str(self._path))
        return text

    def present(self) -> list[str]:
        with reading(self.place):
            check_heaps(self._path)
        with self._file() as file:
            return [name for name in dataset_names(file) if name not in (JSON_ENTRY, self.pixels)]

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [self.status, self.checksums, *map(self.target, targets), *(f"samples/{name}" for name in COLUMNS)]

    def forms(self, description: Description) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        del description
        return {}

    def is_ours(self, entry: str) -> bool:
        return entry.startswith(("targets/", "samples/", "dropped/"))

    def target(self, key: str) -> str:
        return f"targets/{key}"

    def column(self, name: str) -> str:
        return f"samples/{name}"

    def size(self, entry: str) -> int:
        with self._dataset(entry) as dataset:
            return int(dataset.nbytes)

    def blocks(self, entry: str) -> Iterator[bytes | memoryview]:
        with self._dataset(entry) as dataset:
            yield from dataset_blocks(dataset)

    def form(self, entry: str) -> tuple[str, tuple[int, ...]]:
        with self._dataset(entry) as dataset:
            return dataset.dtype.str, tuple(dataset.shape)

    def array(self, entry: str) -> npt.NDArray[Any]:
        with self._dataset(entry) as dataset:
            return np.asarray(dataset[...])

    def rows(self, entry: str) -> SlotFile:
        with self._dataset(entry) as dataset:
            row_bytes = dataset.nbytes // max(1, len(dataset))
            return SlotFile(str(self._path), dataset.id.get_offset(), (len(dataset), row_bytes))

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        with reading(self.where(name)):
            return read_hdf5_table(self._path, name, columns)

    def column_names(self) -> list[str]:
        with self._file() as file:
            return list(file["samples"])

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        place = self.where(self.pixels)
        with reading(place):
            slots = hdf5_slots(self._path)
        if shape is not None and slots.shape != shape:
            raise FormatError(f"{place} has shape {slots.shape}, by store.json it should have {shape}", source=place)
        return slots, self.faults_around(slots.offset)

    def faults_around(self, offset: int) -> list[str]:
        """Return the faults of the file around its slots, which begin at an offset."""
        place, faults = self.where(self.pixels), []
        with reading(place):
            size, end = self._path.stat().st_size, self._end()
        if offset % PAGE_BYTES:
            faults.append(f"{place} starts at byte {offset:,}, which is no multiple of {PAGE_BYTES:,}")
        if size != end:
            faults.append(f"{self._path} is {size:,} bytes long, by its own superblock it should be {end:,}")
        return faults

    def _end(self) -> int:
        """Return the byte where the superblock says that the file ends."""
        with self._path.open("rb") as file:
            superblock = file.read(36)
        if superblock[8:11] != b"\x02\x08\x08":  # version 2, addresses and lengths of 8 bytes
            raise FormatError(f"{self._path} has a superblock that is not of version 2", source=str(self._path))
        return end_of(superblock)

    @contextmanager
    def _file(self) -> Iterator[h5py.File]:
        with reading(str(self._path)), without_lock(self._path) as file:
            yield file

    @contextmanager
    def _dataset(self, entry: str) -> Iterator[h5py.Dataset]:
        with self._file() as file, reading(self.where(entry)):
            dataset = file[entry]
            if not isinstance(dataset, h5py.Dataset):
                raise FormatError(f"{self.where(entry)} is not a dataset", source=str(self._path))
            yield dataset


HDF5 = Medium(
    name="hdf5",
    label="HDF5 file",
    pixels="images.h5",
    is_folder=False,
    names=HDF5_NAMES,
    signature=SIGNATURE,
    suffixes=frozenset((".h5", ".hdf5", ".hdf")),
    head_bytes=HEAD_BYTES,
    text_bytes=TEXT_BYTES,
    open=_open,
    contents=Hdf5Contents,
    slot_file=hdf5_slots,
    draft=_Draft,
)
