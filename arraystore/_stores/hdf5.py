"""The HDF5 medium: one file with the store's names as datasets, filled and read through a mapping of its pixels.

The dataset of pixels is contiguous and allocated early, so its byte offset is known and both sides map it like any
other file: workers fill it in parallel, and readers gather at full speed, outside the HDF5 library's global lock.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.digests import digest_of
from arraystore._common.lazy import lazy
from arraystore._common.ragged import split_targets
from arraystore._format.contents import COLUMNS, JSON_ENTRY, SlotPixels, reading
from arraystore._format.description import Description
from arraystore._format.files import keep_os_error, reserve_file, write_at
from arraystore._format.held_file import HeldFile
from arraystore._format.publication import Publication
from arraystore._format.slot_file import PAGE_BYTES, SlotFile
from arraystore._format.target_forms import array_lengths, targets_in
from arraystore._stores.hdf5_file import (
    check_heaps,
    dataset_blocks,
    dataset_names,
    datasets_told,
    h5_file,
    hdf5_slots,
    map_dataset,
    npy_values,
    read_hdf5_table,
    without_lock,
    write_table,
)
from arraystore._stores.medium import Medium, Opened
from arraystore._stores.slot_array import SlotArray
from arraystore._stores.unfinished.disk_draft import DiskDraft
from arraystore.errors import FormatError

if TYPE_CHECKING:
    import h5py
    import pyarrow as pa
else:
    h5py = lazy("h5py")  # a tenth of a second

_HEAD_BYTES = 3 * PAGE_BYTES  # of a file made by `_make_pixels`
_TAIL_BLOCK_BYTES = 1 << 16
# The file format of HDF5 1.8: every object header has a checksum of its own.
_LIBVER = ("v108", "v108")


class _Draft(DiskDraft):
    """Slots in ``TARGET.partial/images.h5``."""

    def _make_file(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        # A contiguous dataset cannot be resized. But all metadata lie before the pixels. So the file gets the head of
        # one that was made for this many slots, and is cut off after the last of them: no pixel is copied.
        ends = _Ends(b"", _HEAD_BYTES + math.prod(shape))
        _make_pixels(ends, shape)
        reserved = reserve_file(path, ends.end, header=ends.head.ljust(_HEAD_BYTES, b"\0"))
        return SlotFile(str(path), _HEAD_BYTES, shape, reserved=reserved)

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        # Without fsync: `PartialFolder.publish` syncs this file, which is the store, before it renames it.
        with (folder / self.medium.pixels).open("r+b", buffering=0) as pixels:
            ends = _Ends(pixels.read(_HEAD_BYTES), self.file.byte_of(self.file.shape[0]))
            masks = {name: folder / f"{name}.npy" for name in publication.masks_in_place()}
            # Masks begin with a page, so that they are mapped at the borders of their numbers.
            layout = {"alignment_threshold": PAGE_BYTES, "alignment_interval": PAGE_BYTES} if masks else {}
            with h5py.File(ends, "r+", libver=_LIBVER, **layout) as file:
                _write_all(file, publication, masks)
                places = {path: file[f"targets/{name}"].id.get_offset() for name, path in masks.items()}
            ends.write_into(pixels.fileno())
            for path, offset in places.items():
                _copy_values(path, pixels.fileno(), offset)


def _open(medium: Medium, path: Path) -> Opened:
    with h5_file(path) as file:
        if JSON_ENTRY not in file or "images" not in file:
            raise FormatError(
                f"{path} is not a store: it has no datasets 'store.json' and 'images'; {datasets_told(file)}",
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
    slots = hdf5_slots(path)
    description = Description.from_json(members, f"{path}:{JSON_ENTRY}")
    if slots.shape != (description.count, *description.shape):
        raise FormatError(f"{path}: images have shape {slots.shape}, store.json says otherwise", source=str(path))
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
    array = SlotArray(slots.map(), status, checksums, targets_in(targets, str(path)))
    return Opened(medium.name, path, array, description, load_table=partial(_read_table, path, HeldFile(path)))


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


class _Ends(io.RawIOBase):
    """The bytes of an HDF5 file before and after its pixels, in memory.

    The HDF5 library writes to this object, and system calls then copy its bytes into the file. If a write of the
    library itself failed, as on a full volume, it could neither close the file nor open it again, and would end the
    process. ``head`` has the bytes before the pixels; those from offset ``end`` on, after the pixels, are kept in
    blocks. What the library leaves out, the values of masks, takes no memory.
    """

    def __init__(self, head: bytes, end: int) -> None:
        super().__init__()
        self.head, self.end = bytearray(head), end
        self._tail: dict[int, bytearray] = {}  # number of a block after the end → its bytes
        self._tail_bytes = 0
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        size = self.end + self._tail_bytes if self.head else 0
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        for block, at, part in self._parts(view, make=False):
            # The library reads beyond the end, and then ignores it.
            part[:] = bytes(block[at : at + len(part)]).ljust(len(part), b"\0")
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for block, at, part in self._parts(view, make=True):
            block.extend(bytes(max(at - len(block), 0)))
            block[at : at + len(part)] = part
        self._at += len(view)
        self._tail_bytes = max(self._tail_bytes, self._at - self.end)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        self._tail_bytes = max(size - self.end, 0)
        return size

    def write_into(self, descriptor: int) -> None:
        """Write everything into the file that has the pixels."""
        os.ftruncate(descriptor, self.end + self._tail_bytes)
        for number, block in sorted(self._tail.items()):
            at = number * _TAIL_BLOCK_BYTES
            write_at(descriptor, memoryview(block)[: max(self._tail_bytes - at, 0)], self.end + at)
        write_at(descriptor, memoryview(self.head), 0)

    def _parts(self, view: memoryview, *, make: bool) -> Iterator[tuple[bytearray, int, memoryview]]:
        """Yield the blocks in which a view at the present place lies, where it begins in each, and its part there."""
        if self._at < self.end:
            yield self.head, self._at, view
            return
        start = self._at - self.end
        done = 0
        while done < len(view):
            number, at = divmod(start + done, _TAIL_BLOCK_BYTES)
            block = self._tail.setdefault(number, bytearray()) if make else self._tail.get(number, bytearray())
            part = view[done : done + _TAIL_BLOCK_BYTES - at]
            yield block, at, part
            done += len(part)


def _make_pixels(ends: _Ends, shape: tuple[int, ...]) -> None:
    """Make a file that ends with the pixels, which are not written.

    In the file format of HDF5 1.8 the link to a dataset lies in the header of its group, so nothing has to follow the
    pixels. Each part has its own page, so the pixels start with the fourth page, whatever their number.
    """
    layout = {"libver": _LIBVER, "alignment_threshold": 1, "alignment_interval": PAGE_BYTES}
    with h5py.File(ends, "w", **layout) as file:
        _make_dataset(file, "images", shape, np.dtype(np.uint8))


def _make_dataset(group: h5py.Group, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Make a contiguous dataset whose values are not written by the library."""
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # a reserved file is zeros already
    create.set_obj_track_times(False)  # two builds of the same images are the same bytes
    space, kind = h5py.h5s.create_simple(tuple(shape)), h5py.h5t.py_create(dtype)
    h5py.h5d.create(group.id, name.encode(), kind, space, create)


def _copy_values(path: Path, descriptor: int, offset: int) -> None:
    """Copy the values of a .npy file to an offset of another file."""
    for block in npy_values(path):
        write_at(descriptor, memoryview(block), offset)
        offset += len(block)


def _write_all(file: h5py.File, publication: Publication, masks: Mapping[str, Path]) -> None:
    """Write everything but the pixels and the values of masks, which lie in .npy files, by the names of targets."""
    description = publication.description
    # The attributes are for people with an HDF5 browser. Readers use store.json.
    file.attrs["format"], file.attrs["layout"] = "arraystore", description.spec.layout
    file.attrs["mean"], file.attrs["std"] = description.mean, description.std
    file.create_dataset("status", data=publication.status)
    file.create_dataset("checksums", data=publication.checksums)
    targets = file.create_group("targets")
    for key, array in split_targets(publication.targets).items():
        targets.create_dataset(key, data=array)
    for name in masks:
        form = description.targets[name]
        _make_dataset(targets, name, form["shape"], np.dtype(form["dtype"]))
    write_table(file, "samples", publication.samples)
    if publication.dropped is not None:
        write_table(file, "dropped", publication.dropped)
    parts = {name: file[name] for name in dataset_names(file) if name != "images"}
    values = {f"targets/{name}": npy_values(path) for name, path in masks.items()}
    digests = {name: digest_of(dataset_blocks(dataset, values.get(name))) for name, dataset in parts.items()}
    text = replace(description, digests=digests).to_text()
    file.create_dataset(JSON_ENTRY, data=text, dtype=h5py.string_dtype())


class _Contents:
    """The datasets of an HDF5 file."""

    status, checksums = "status", "checksums"
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
            return [name for name in dataset_names(file) if name not in (JSON_ENTRY, "images")]

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
    signature=b"\x89HDF\r\n\x1a\n",
    suffixes=frozenset((".h5", ".hdf5", ".hdf")),
    head_bytes=_HEAD_BYTES,
    text_bytes=16 + 20,  # a reference, and the head of an object on the heap
    open=_open,
    contents=_Contents,
    slot_file=hdf5_slots,
    draft=_Draft,
)
