"""Writing an HDF5 file around the slots that it already has: the HDF5 library never writes these itself.

All metadata of the dataset of slots lie before it, so a file of any size gets its head from one that is made in memory,
and everything else follows the slots.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.digests import digest_of
from arraystore._common.lazy import lazy
from arraystore._common.ragged import split_targets
from arraystore._format.contents import JSON_ENTRY
from arraystore._format.files import write_at
from arraystore._format.publication import Publication
from arraystore._format.slot_file import PAGE_BYTES
from arraystore._format.target_forms import file_name
from arraystore._stores.hdf5_file import dataset_blocks, dataset_names, npy_values, write_table

if TYPE_CHECKING:
    import h5py
else:
    h5py = lazy("h5py")  # a tenth of a second

HEAD_BYTES = 3 * PAGE_BYTES  # before the slots; see `head_of`
_TAIL_BLOCK_BYTES = 1 << 16
# The file format of HDF5 1.8: every object header has a checksum of its own.
_LIBVER = ("v108", "v108")
_END_IN_SUPERBLOCK = slice(28, 36)


def head_of(name: str, shape: Sequence[int]) -> bytes:
    """Return the first bytes, `HEAD_BYTES`, of a file whose uint8 dataset of this name follows them.

    In the file format of HDF5 1.8 the link to a dataset lies in the header of its group, so nothing has to follow the
    slots. Each part has its own page, so the slots start with the fourth page, whatever their number.
    """
    ends = _Ends(b"", HEAD_BYTES + math.prod(shape))
    layout = {"libver": _LIBVER, "alignment_threshold": 1, "alignment_interval": PAGE_BYTES}
    with h5py.File(ends, "w", **layout) as file:
        _make_dataset(file, name, shape, np.dtype(np.uint8))
    return bytes(ends.head).ljust(HEAD_BYTES, b"\0")


def end_of(superblock: bytes) -> int:
    """Return the byte where the first bytes of a file say that it ends."""
    return int.from_bytes(superblock[_END_IN_SUPERBLOCK], "little")


def write_rest(
    path: Path, publication: Publication, slots: str, others: Mapping[str, npt.NDArray[Any]] | None = None
) -> None:
    """Write everything but the slots into a file that has its head and its slots. It is not synced.

    Args:
        path: of the file. The masks lie beside it, as .npy files.
        publication: what to write.
        slots: the name of the dataset of slots.
        others: name → further arrays.
    """
    with path.open("r+b", buffering=0) as file:
        head = file.read(HEAD_BYTES)
        end = end_of(head)
        ends = _Ends(head[:end], end)
        masks = {key: path.with_name(file_name(key)) for key in publication.masks_in_place()}
        # Masks begin with a page, so that they are mapped at the borders of their numbers.
        layout = {"alignment_threshold": PAGE_BYTES, "alignment_interval": PAGE_BYTES} if masks else {}
        with h5py.File(ends, "r+", libver=_LIBVER, **layout) as written:
            _write_all(written, publication, masks, slots, others or {})
            places = {mask: written[f"targets/{key}"].id.get_offset() for key, mask in masks.items()}
        ends.write_into(file.fileno())
        for mask, offset in places.items():
            _copy_values(mask, file.fileno(), offset)


class _Ends(io.RawIOBase):
    """The bytes of an HDF5 file before and after its slots, in memory.

    The HDF5 library writes to this object, and system calls then copy its bytes into the file. If a write of the
    library itself failed, as on a full volume, it could neither close the file nor open it again, and would end the
    process. ``head`` has the bytes before the slots; those from offset ``end`` on, after the slots, are kept in
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
        """Write everything into the file that has the slots."""
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


def _make_dataset(group: h5py.Group, name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Make a contiguous dataset whose values are not written by the library."""
    *parents, name = name.split("/")
    for parent in parents:
        group = group.require_group(parent)
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


def _write_all(
    file: h5py.File,
    publication: Publication,
    masks: Mapping[str, Path],
    slots: str,
    others: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Write everything but the slots and the values of masks, which lie in .npy files, by the names of targets."""
    description = publication.description
    # The attributes are for people with an HDF5 browser. Readers use store.json.
    file.attrs["format"], file.attrs["layout"] = "arraystore", description.spec.layout
    file.attrs["mean"], file.attrs["std"] = description.mean, description.std
    for name, array in {"status": publication.status, "checksums": publication.checksums, **others}.items():
        file.create_dataset(name, data=array)
    targets = file.create_group("targets")
    for key, array in split_targets(publication.targets).items():
        targets.create_dataset(key, data=array)
    for key, (dtype, shape) in publication.masks_in_place().items():
        _make_dataset(targets, key, shape, np.dtype(dtype))
    write_table(file, "samples", publication.samples)
    if publication.dropped is not None:
        write_table(file, "dropped", publication.dropped)
    parts = {name: file[name] for name in dataset_names(file) if name != slots}
    values = {f"targets/{key}": npy_values(path) for key, path in masks.items()}
    digests = {name: digest_of(dataset_blocks(dataset, values.get(name))) for name, dataset in parts.items()}
    text = replace(description, digests=digests).to_text()
    file.create_dataset(JSON_ENTRY, data=text, dtype=h5py.string_dtype())
