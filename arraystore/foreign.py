"""Arrays that something else has made, in a .npy file or in an HDF5 dataset, opened as slots; and `arraystore.open`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, overload

import numpy as np
import numpy.typing as npt

from arraystore.errors import FormatError, ManifestError, SpecError
from arraystore.format import map_array, npy_form
from arraystore.part import Part
from arraystore.slots import Slots
from arraystore.spec import Layout, choice_of
from arraystore.stores import Store, open_store
from arraystore.targets import TargetColumns, given_targets
from arraystore.texts import CATEGORY_LIMIT

if TYPE_CHECKING:
    import h5py

__all__ = ["open_path"]

_NPY_MAGIC = b"\x93NUMPY"
_CHANNELS = (1, 3, 4)

Array = npt.NDArray[Any]


@overload
def open_path(path: str | os.PathLike[str], *, partial: bool = False) -> Store: ...
@overload
def open_path(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    labels: Any = None,
    targets: Mapping[str, Any] | None = None,
    layout: Layout | None = None,
) -> Slots: ...
def open_path(  # noqa: PLR0913 - the first is for stores, the others for arrays
    path: str | os.PathLike[str],
    *,
    partial: bool = False,
    dataset: str | None = None,
    labels: Any = None,
    targets: Mapping[str, Any] | None = None,
    layout: Layout | None = None,
) -> Slots:
    """Open a published store, or an array that something else has made; pixels are mapped, not read.

        >>> store = arraystore.open("train.store")  # doctest: +SKIP
        >>> slots = arraystore.open("x.npy", labels="y.npy")  # doctest: +SKIP
        >>> slots = arraystore.open("x.h5", dataset="train/images", labels="train/labels")  # doctest: +SKIP

    A store that is replaced or updated keeps its old pixels for those who hold it: open it again for the new ones.

    Args:
        path: a store folder or an HDF5 file made by `arraystore.build`; or a .npy file, which gives `Slots` although
            type checkers are told of a `Store`; or, with ``dataset``, any HDF5 file.
        partial: True opens the store that is being built for this path, if there is one, as it is now: slots that are
            not settled have status 0, and their pixels may be anything. It has no targets and no samples yet.
        dataset: the name of a contiguous dataset, such as ``"images"`` or ``"train/images"``.
        labels: of the slots of an array: an array or a list with a row a slot, which is not copied; the path of a .npy
            file; or the name of a dataset in the same HDF5 file. Texts become int64 codes, and their sorted names the
            classes; integers become int64.
        targets: name → likewise.
        layout: of an array of images, ``"NCHW"`` or ``"NHWC"``; None takes the axis that has 1, 3 or 4 places for the
            channels if axis 1 or axis 3 alone has, and otherwise leaves the layout open (``""``).

    Returns:
        The store, or the `Slots` of the array, (N, ...), of any type without Python objects. Arrays are read-only
        mappings that stay valid as long as they are referenced.

    Raises:
        FormatError: there is no store or array at the path, or it cannot be mapped, or is damaged, cut short, or newer
            than this arraystore.
        SpecError: an option does not go with what lies at the path, or names what is not there.
        ManifestError: labels or targets are neither numbers nor texts, or have another number of rows.
        OSError: it cannot be read.
    """
    place = Path(path).absolute()
    options = {"dataset": dataset, "labels": labels, "targets": targets, "layout": layout}
    given = [name for name, value in options.items() if value is not None]
    if not given and not _is_npy(place):
        return open_store(place, partial=partial)
    if partial:
        raise SpecError("partial=True is for a store that is being built, not for another array: leave it out")
    if place.is_dir():
        raise FormatError(
            f"{place} is a folder, and {', '.join(given)} goes with a single array: open a file in it, such as "
            f"{place / 'images.npy'}",
            source=str(place),
        )
    if not place.is_file():
        raise FormatError(f"there is no array at {place}", source=str(place))
    if _is_npy(place):
        if dataset is not None:
            raise SpecError(f"{place} is a .npy file, which has one array and no names: leave dataset out")
        return _slots(str(place), _map_npy(place), None, given_targets(labels, targets), layout)
    from arraystore.stores.hdf5 import datasets_told, h5_file  # noqa: PLC0415 - h5py takes a tenth of a second

    with h5_file(place) as file:
        if dataset is None:
            raise SpecError(
                f"{place} is an HDF5 file, and which of its datasets holds the slots was not said: pass dataset=; "
                f"{datasets_told(file)}"
            )
        images = _map_images(place, _dataset(file, dataset, "dataset"))
        return _slots(f"{place}:{dataset}", images, file, given_targets(labels, targets), layout)


def _is_npy(place: Path) -> bool:
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return place.suffix == ".npy" or file.read(len(_NPY_MAGIC)) == _NPY_MAGIC


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
    part = Part(images, targets=columns.targets)
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

    from arraystore.stores.hdf5 import datasets_told  # noqa: PLC0415 - likewise

    found = file.get(name) if name else None
    if not isinstance(found, h5py.Dataset):
        raise SpecError(f"{what}: {file.filename} has no dataset {name!r}; {datasets_told(file)}")
    if found.file.filename != file.filename:
        raise SpecError(f"{what}: {name!r} is a link into {found.file.filename}: open that file instead")
    return found


def _map_images(place: Path, dataset: h5py.Dataset) -> Array:
    from arraystore.stores.hdf5 import unmappable  # noqa: PLC0415 - it is loaded by now

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

    from arraystore.stores.hdf5 import map_dataset  # noqa: PLC0415 - likewise

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
