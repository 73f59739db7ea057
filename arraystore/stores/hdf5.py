"""The HDF5 medium: one file with the store's names as datasets, filled and read through a mapping of its pixels.

The dataset of pixels is contiguous and allocated early, so its byte offset is known and both sides map it like any
other file: workers fill it in parallel, and readers gather at full speed, outside the HDF5 library's global lock.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from arraystore.errors import FormatError
from arraystore.format import PAGE_BYTES, Description, SlotFile, fsync_path
from arraystore.stores.base import Publication, Store
from arraystore.stores.draft import DiskDraft
from arraystore.stores.partial import reserve

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Hdf5Draft", "open_hdf5", "slots_of"]

_JSON = "store.json"


class Hdf5Draft(DiskDraft):
    """Slots in ``TARGET.partial/images.h5``."""

    pixels = "images.h5"
    offset = 3 * PAGE_BYTES

    @staticmethod
    def is_store(path: Path) -> bool:
        """Return whether a store file has the name already."""
        try:
            with _h5(path, "r") as file:
                return _JSON in file and "images" in file
        except FormatError:
            return False

    def _reserve(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        # A contiguous dataset cannot be resized. But all metadata lie before the pixels, so the head of a file made for
        # this many slots goes before these, and what lies behind them is cut off: no pixel is copied.
        reserve(path, self.offset + math.prod(shape))
        head = path.with_name("head.h5")
        slots = _write_head(head, shape)
        with head.open("rb") as file:
            header = file.read(slots.offset)
        head.unlink()
        reserved = reserve(path, slots.offset + math.prod(shape), header=header)
        return SlotFile(str(path), slots.offset, shape, reserved=reserved)

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        fsync_path(folder / self.pixels)
        with _h5(folder / self.pixels, "r+") as file:
            _write_all(file, publication)

    def _publish(self) -> Store:
        self._folder.publish_file()
        return open_hdf5(self._folder.target)


def open_hdf5(path: Path) -> Store:
    """Open a store file.

    Raises:
        FormatError: it is no store, or damaged, cut short, or newer than this arraystore.
    """
    with _h5(path, "r") as file:
        if _JSON not in file or "images" not in file:
            raise FormatError(f"{path} is not a store: it has no datasets 'store.json' and 'images'", source=str(path))
        try:
            members = json.loads(file[_JSON][()])
            targets = {name: dataset[...] for name, dataset in file["targets"].items()}
            status, checksums = file["status"][...], file["checksums"][...]
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
        load_table=lambda name: _read_table(path, name),
    )


@contextmanager
def _h5(path: Path, mode: str, **options: Any) -> Iterator[h5py.File]:
    try:
        # Network file systems often cannot lock; the build's own lock is taken already.
        file = h5py.File(path, mode, locking="best-effort", **options)
    except OSError as error:
        if mode != "r":
            raise
        raise FormatError(f"{path} is not an HDF5 file that can be read: {error}", source=str(path)) from error
    with file:
        yield file


def _write_head(path: Path, shape: tuple[int, ...]) -> SlotFile:
    """Make a file that ends with the pixels, which are not written and take no space.

    In the layout of HDF5 1.8 the link to a dataset lies in its group's header, so nothing has to go behind the pixels;
    with every part on its own page they start at the same byte, the fourth page's first, whatever their number.
    """
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # the file system's zeros will do
    create.set_obj_track_times(False)  # two builds of the same images are the same bytes
    layout = {"libver": ("v108", "v108"), "alignment_threshold": 1, "alignment_interval": PAGE_BYTES}
    with _h5(path, "w", **layout) as file:
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT8, space, create)
    return slots_of(path)


def slots_of(path: Path) -> SlotFile:
    """Return where the slots of an HDF5 file lie.

    Raises:
        FormatError: they are not contiguous uint8, or this is no HDF5 file.
    """
    with _h5(path, "r") as file:
        dataset = file["images"]
        offset = dataset.id.get_offset() if isinstance(dataset, h5py.Dataset) else None
        if offset is None or dataset.dtype != np.uint8:
            raise FormatError(f"{path}: images are not contiguous uint8, so they cannot be mapped", source=str(path))
        return SlotFile(str(path.absolute()), int(offset), tuple(dataset.shape))


def _write_all(file: h5py.File, publication: Publication) -> None:
    description = publication.description
    text = json.dumps(description.to_json(), indent=2)
    file.create_dataset(_JSON, data=text, dtype=h5py.string_dtype())
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


def _read_table(path: Path, name: str) -> pa.Table | None:
    import pyarrow as pa  # noqa: PLC0415 - only who asks for samples pays

    columns: dict[str, Any] = {}
    with _h5(path, "r") as file:
        if name not in file:
            return None
        for column, dataset in file[name].items():
            values = dataset[...]
            if column == "mtime":
                columns[column] = pa.array(values, pa.timestamp("us", "UTC"), mask=values == 0)
            elif column == "hash":
                columns[column] = pa.array(values, mask=values == 0)
            elif values.dtype == object:
                columns[column] = _texts(values.tolist(), nullable=column == "reason")
            else:
                columns[column] = pa.array(values)
    return pa.table(columns)


def _texts(values: list[bytes], *, nullable: bool) -> pa.Array:
    import pyarrow as pa  # noqa: PLC0415 - see _read_table

    try:
        texts = [None if nullable and not value else value.decode() for value in values]
        return pa.array(texts, pa.string())
    except UnicodeDecodeError:
        return pa.array(values, pa.binary())
