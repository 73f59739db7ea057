"""Arrays that other programs made, in a .npy file or in an HDF5 dataset, opened as slots."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import choice_of, expanded
from arraystore._common.lazy import lazy
from arraystore._common.options import public
from arraystore._format.slot_file import map_array, npy_form
from arraystore._reading.slot_arrays import SlotArrays
from arraystore._reading.slots import Slots
from arraystore._sources.targets.given import TargetColumns, given_targets
from arraystore._sources.text_list import CATEGORY_LIMIT
from arraystore._stores.media import store_path
from arraystore._stores.pinned import PinnedName
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import FormatError, ManifestError, SpecError
from arraystore.spec import Layout

if TYPE_CHECKING:
    import h5py

    from arraystore._stores import hdf5_file
else:
    h5py = lazy("h5py")
    hdf5_file = lazy("arraystore._stores.hdf5_file")  # it imports h5py, which takes a tenth of a second

_CHANNELS = (1, 3, 4)
_OPEN_TRIES = 100
_NPY_MAGIC = b"\x93NUMPY"

Array = npt.NDArray[Any]


@public
def open_array(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    labels: Any = None,
    targets: Mapping[str, Any] | None = None,
    layout: Layout | None = None,
) -> Slots:
    """Open an array that another program made; pixels are mapped, not read.

        >>> slots = arraystore.open_array("x.npy", labels="y.npy")  # doctest: +SKIP
        >>> slots = arraystore.open_array("x.h5", dataset="train/images", labels="train/labels")  # doctest: +SKIP

    Args:
        path: a .npy file, or with ``dataset`` an HDF5 file.
        dataset: the name of a contiguous dataset, such as ``"images"`` or ``"train/images"``.
        labels: of the slots: an array or a list with one row per slot, which is not copied; the path of a .npy file; or
            the name of a dataset in the same HDF5 file. Texts become int64 codes, and their sorted names the classes.
            Integers become int64.
        targets: name → values, given as for ``labels``.
        layout: of images: ``"NCHW"`` or ``"NHWC"``. None takes axis 1 or axis 3 for the channels if only one of them
            has 1, 3 or 4 entries; otherwise the layout stays unknown (``""``).

    Returns:
        The slots, (N, ...), of any dtype without Python objects. Arrays are read-only mappings that stay valid for as
        long as they are referenced.

    Raises:
        FormatError: there is no array at the path, or it cannot be mapped, is damaged, or is truncated.
        SpecError: an option does not go with the file, or names a dataset or a file that does not exist.
        ManifestError: labels or targets are neither numbers nor texts, or have another number of rows.
        OSError: the file cannot be read.
    """
    file_path = store_path(path)
    for _ in range(_OPEN_TRIES):
        # The header and the values are opened one after the other. If another file took the name meanwhile, they do
        # not belong together.
        with PinnedName(file_path) as name:
            try:
                slots = _open(file_path, dataset, labels, targets, layout)
            except (FormatError, OSError):
                if name.still_leads_there():
                    raise
            else:
                if name.still_leads_there():
                    return slots
    raise FormatError(f"{file_path} is replaced again and again: open it when that has ended", source=str(file_path))


def _open(
    file_path: Path, dataset: str | None, labels: Any, targets: Mapping[str, Any] | None, layout: Layout | None
) -> Slots:
    if file_path.is_dir():
        raise FormatError(
            f"{file_path} is a folder: pass a file, such as {file_path / 'images.npy'}, or use arraystore.open for a "
            "store",
            source=str(file_path),
        )
    if not file_path.is_file():
        raise FormatError(f"there is no array at {file_path}", source=str(file_path))
    if is_npy(file_path):
        if dataset is not None:
            raise SpecError(f"{file_path} is a .npy file, which has one array and no names: leave dataset out")
        return _slots(str(file_path), _map_npy(file_path), None, given_targets(labels, targets), layout)
    with hdf5_file.h5_file(file_path, is_foreign=True) as file:
        if dataset is None:
            raise SpecError(
                f"{file_path} is an HDF5 file: pass dataset= with the name of the dataset that holds the slots; "
                f"{hdf5_file.datasets_told(file)}"
            )
        images = _map_images(file_path, _dataset(file, dataset, "dataset"))
        return _slots(f"{file_path}:{dataset}", images, file, given_targets(labels, targets), layout)


def is_npy(path: Path) -> bool:
    """Return whether this is a file whose name or first bytes say that it is a .npy file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix == ".npy" or file.read(len(_NPY_MAGIC)) == _NPY_MAGIC


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
        # A mapping is kept as it is: then another process gets the name of the file, and not a copy of its contents.
        is_mapped = isinstance(values, np.memmap) and (name != "labels" or values.dtype == np.int64)
        if is_mapped and values.dtype.kind in "biuf":
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
                f"target {name!r} has {rows:,} rows, but {where} has {len(images):,} slots: give one row per slot"
            )
    array = SlotArray(images, targets=columns.targets)
    return Slots(SlotArrays((array,), layout=_layout(where, images.shape, layout), categories=columns.classes))


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
    """Return the values of a target: the given ones, or the contents of the file or dataset that was named."""
    if isinstance(value, str) and file is not None and value in file:
        return _read(_dataset(file, value, f"target {name!r}"))
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value.endswith(".npy")):
        path = expanded(value).absolute()
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
        fault, advice = "Python objects, which are never read from a file", "write an array of numbers"
    elif not shape:
        fault, advice = "a single value", "write an array with an axis of slots"
    elif fortran:
        fault = "its values in Fortran order, so the bytes of a slot are scattered"
        advice = f'write it again: np.save(NEW, np.ascontiguousarray(np.load("{path}", mmap_mode="r")))'
    else:
        return map_array(path, dtype, offset, shape)
    raise FormatError(f"{path} holds {fault}: {advice}", source=str(path))


def _dataset(file: h5py.File, name: str, option: str) -> h5py.Dataset:
    found = file.get(name) if name else None
    if not isinstance(found, h5py.Dataset):
        raise SpecError(f"{option}: {file.filename} has no dataset {name!r}; {hdf5_file.datasets_told(file)}")
    if found.file.filename != file.filename:
        raise SpecError(f"{option}: {name!r} is a link into {found.file.filename}: open that file instead")
    return found


def _map_images(path: Path, dataset: h5py.Dataset) -> Array:
    name = dataset.name.lstrip("/")
    where = f"{path}:{name}"
    with _reading(where):
        if not dataset.shape:
            raise FormatError(f"{where} holds a single value: write an array with an axis of slots", source=where)
        reason = hdf5_file.unmappable(dataset)
        if reason is not None:
            raise FormatError(
                f"{where} cannot be mapped, because {reason}: write numbers without chunks and compression, for "
                f"example with h5repack -l {name}:CONTI -f {name}:NONE {path} NEW.h5",
                source=where,
            )
        return map_array(path, dataset.dtype, dataset.id.get_offset() or 0, dataset.shape)


def _read(dataset: h5py.Dataset) -> Any:
    with _reading(f"{dataset.file.filename}:{dataset.name.lstrip('/')}"):
        if h5py.check_string_dtype(dataset.dtype) is not None:
            return dataset.asstr()[...]
        return _native(hdf5_file.map_dataset(Path(dataset.file.filename), dataset))


def _native(array: Array) -> Array:
    return array if array.dtype.isnative else np.asarray(array.astype(array.dtype.newbyteorder("=")))


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Turn any error of h5py, which a damaged file can cause, into a FormatError that says where."""
    try:
        yield
    except FormatError:
        raise
    except (KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise FormatError(f"{where} cannot be read: {error}", source=where) from error
