"""Arrays that something else has made, in a .npy file or in an HDF5 dataset, opened as slots; and `arraystore.open`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import choice_of
from arraystore._common.text_list import CATEGORY_LIMIT
from arraystore._format.slot_file import map_array, npy_form
from arraystore._reading.slot_arrays import Slots
from arraystore._sources.targets import TargetColumns
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import FormatError, ManifestError, SpecError
from arraystore.spec import Layout

if TYPE_CHECKING:
    import h5py


_CHANNELS = (1, 3, 4)

Array = npt.NDArray[Any]


def _slots(where: str, images: Array, file: h5py.File | None, given: Mapping[str, Any], layout: Layout | None) -> Slots:
    if not images.dtype.isnative:
        raise FormatError(
            f"{where} holds {images.dtype}, whose bytes are in another order than this machine's: write it again as "
            'array.astype(array.dtype.newbyteorder("="))',
            source=where,
        )
    columns = TargetColumns(None, None)
    for name, value in given.items():
        if not isinstance(name, str) or name == "images":
            raise SpecError(f"a target cannot be named {name!r}: choose another text")
        values = _values(name, value, file)
        # A mapping stays one: then another process is sent the name of the file, and not its contents.
        as_given = isinstance(values, np.memmap) and (name != "labels" or values.dtype == np.int64)
        if as_given and values.dtype.kind in "biuf":
            columns.targets[name] = values
        else:
            columns.add(name, values)
        if name in columns.texts:
            raise ManifestError(
                f"target {name!r} has more than {CATEGORY_LIMIT:,} different texts, which are no categories: leave it "
                "out"
            )
        rows = len(columns.targets[name])
        if rows != len(images):
            raise ManifestError(
                f"target {name!r} has {rows:,} rows, but {where} has {len(images):,} slots: give one row a slot"
            )
    part = SlotArray(images, targets=columns.targets)
    return Slots([part], layout=_layout(where, images.shape, layout), categories=columns.classes)


def _layout(where: str, shape: tuple[int, ...], layout: Layout | None) -> str:
    if layout is None:
        if len(shape) != 4 or (shape[1] in _CHANNELS) == (shape[3] in _CHANNELS):
            return ""
        return "NCHW" if shape[1] in _CHANNELS else "NHWC"
    choice_of("layout", layout, get_args(Layout))
    if len(shape) != 4:
        raise SpecError(f"layout={layout!r} is for images with 4 axes, and {where} has shape {shape}: leave layout out")
    return layout


def _values(name: str, value: Any, file: h5py.File | None) -> Any:
    """Return what a target was given as: itself, or what lies in the file or the dataset that it names."""
    if isinstance(value, str) and file is not None and value in file:
        return _read(_dataset(file, value, f"target {name!r}"))
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value.endswith(".npy")):
        path = Path(value).absolute()
        if not path.is_file():
            raise SpecError(f"target {name!r}: there is no .npy file at {path}")
        return _native(_map_npy(path))
    if not isinstance(value, str):
        return value
    if file is not None:
        _dataset(file, value, f"target {name!r}")
    raise SpecError(f"target {name!r} is the text {value!r}: pass an array, or the path of a .npy file")


def _map_npy(path: Path) -> Array:
    dtype, shape, fortran, offset = npy_form(path)
    if dtype.hasobject:
        what, how = "Python objects, which are never read from a file", "write an array of numbers"
    elif not shape:
        what, how = "a single value", "write an array with an axis of slots"
    elif fortran:
        what = "its values in Fortran's order, so that a slot is no run of bytes"
        how = f'write it again: np.save(NEW, np.ascontiguousarray(np.load("{path}", mmap_mode="r")))'
    else:
        return map_array(path, dtype, offset, shape)
    raise FormatError(f"{path} holds {what}: {how}", source=str(path))


def _dataset(file: h5py.File, name: str, what: str) -> h5py.Dataset:
    import h5py  # noqa: PLC0415 - it is loaded by now

    from arraystore._stores.hdf5_file import datasets_told  # noqa: PLC0415 - likewise

    found = file.get(name) if name else None
    if not isinstance(found, h5py.Dataset):
        raise SpecError(f"{what}: {file.filename} has no dataset {name!r}; {datasets_told(file)}")
    if found.file.filename != file.filename:
        raise SpecError(f"{what}: {name!r} is a link into {found.file.filename}: open that file instead")
    return found


def _map_images(place: Path, dataset: h5py.Dataset) -> Array:
    from arraystore._stores.hdf5_file import unmappable  # noqa: PLC0415 - it is loaded by now

    where = f"{place}:{dataset.name.lstrip('/')}"
    with _reading(where):
        if not dataset.shape:
            raise FormatError(f"{where} holds a single value: write an array with an axis of slots", source=where)
        reason = unmappable(dataset)
        if reason is not None:
            name = dataset.name.lstrip("/")
            raise FormatError(
                f"{where} cannot be mapped, because {reason}: write numbers without chunks and compression, for "
                f"example with h5repack -l {name}:CONTI -f {name}:NONE {place} NEW.h5",
                source=where,
            )
        return map_array(place, dataset.dtype, dataset.id.get_offset() or 0, dataset.shape)


def _read(dataset: h5py.Dataset) -> Any:
    import h5py  # noqa: PLC0415 - it is loaded by now

    from arraystore._stores.hdf5_file import map_dataset  # noqa: PLC0415 - likewise

    with _reading(f"{dataset.file.filename}:{dataset.name.lstrip('/')}"):
        if h5py.check_string_dtype(dataset.dtype) is not None:
            return dataset.asstr()[...]
        return _native(map_dataset(Path(dataset.file.filename), dataset))


def _native(array: Array) -> Array:
    return array if array.dtype.isnative else np.asarray(array.astype(array.dtype.newbyteorder("=")))


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Tell where something was damaged that made h5py raise whatever it does."""
    try:
        yield
    except FormatError:
        raise
    except (KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise FormatError(f"{where} cannot be read: {error}", source=where) from error
