"""The medium of JPEGs in an HDF5 file: the datasets of the HDF5 medium, with JPEGs one after the other for the pixels.

The JPEGs are one contiguous dataset, which readers map like any other file. While a store is built, they are appended
to a log that has room for the head of an HDF5 file, so that it becomes the file of the store without being copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._format.contents import SlotPixels, reading
from arraystore._format.description import Description
from arraystore._format.files import keep_os_error
from arraystore._format.publication import Publication
from arraystore._format.slot_file import EncodedFile, map_array
from arraystore._stores.encoded.draft import LogDraft, arrays_beside
from arraystore._stores.encoded.images import EncodedImages, encoded_images
from arraystore._stores.encoded.offsets import check_slot_offsets, encoded_forms
from arraystore._stores.hdf5 import PIXELS, SIGNATURE, TEXT_BYTES, Hdf5Contents, open_file
from arraystore._stores.hdf5_file import h5_file, unmappable, without_lock
from arraystore._stores.hdf5_writing import HEAD_BYTES, head_of, write_rest
from arraystore._stores.medium import Medium, Opened
from arraystore._stores.publishing import HDF5_NAMES, LOG
from arraystore.errors import FormatError, Kind

if TYPE_CHECKING:
    import h5py

ENCODED, OFFSETS, SHAPES, SUMS = "encoded", "offsets", "shapes", "sums"


class _Draft(LogDraft):
    """The draft of an HDF5 file."""

    def _head(self, total: int) -> bytes:
        return head_of(ENCODED, (total,))

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        # Without fsync: `PartialFolder.publish` syncs this file, which is the store, before it renames it.
        arrays = dict(zip((OFFSETS, SHAPES, SUMS), arrays_beside(publication), strict=True))
        write_rest(folder / self.medium.pixels, publication, ENCODED, arrays)


def keeps_jpegs(path: Path) -> bool:
    """Return whether a file is an HDF5 file with a dataset of JPEGs and none of pixels. It may be damaged otherwise.

    Raises:
        OSError: see `keep_os_error`.
    """
    try:
        with without_lock(path) as file:
            return ENCODED in file and PIXELS not in file
    except Exception as error:  # the HDF5 library raises many kinds on damage
        keep_os_error(error)
        return False


def _open(medium: Medium, path: Path) -> Opened:
    return open_file(medium, path, ENCODED, _images)


def _images(path: Path, description: Description) -> EncodedImages:
    shapes = None
    with h5_file(path) as file:
        encoded, offsets = (_mapped(path, file, name, dtype) for name, dtype in ((ENCODED, np.uint8), (OFFSETS, "<u8")))
        if not description.spec.one_shape:
            shapes = _mapped(path, file, SHAPES, "<i4", axes=2)
    return encoded_images(description, (encoded, offsets, shapes), str(path))


def _mapped(path: Path, file: h5py.File, name: str, dtype: npt.DTypeLike, *, axes: int = 1) -> npt.NDArray[Any]:
    """Map a dataset.

    Raises:
        FormatError: it is missing, of another type, has another number of axes, or is not stored as a plain array.
    """
    with reading(f"{path}:{name}"):
        dataset = file[name]
        place, shape = _place(dataset), tuple(map(int, dataset.shape))
        if dataset.dtype != dtype or len(shape) != axes or place is None:
            sides = "one dimension" if axes == 1 else "two dimensions"
            raise FormatError(
                f"{path}:{name} should be a plain array of {np.dtype(dtype)} with {sides}",
                source=str(path),
                kind=Kind.DAMAGED,
                advice="build the store again",
            )
    return map_array(path, np.dtype(dtype), place, shape, advice="build the store again")


def _place(dataset: h5py.Dataset) -> int | None:
    """Return at which byte of the file a plain array begins; None if the dataset is not stored as one."""
    if dataset.size == 0:  # no slot has a JPEG
        return HEAD_BYTES
    return None if unmappable(dataset) else dataset.id.get_offset()


class EncodedHdf5Contents(Hdf5Contents):
    """The datasets of an HDF5 file with JPEGs.

    Raises:
        FormatError: an entry is damaged or missing; see `Contents`.
    """

    pixels = ENCODED  # has no digest

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [*super().needed(targets), OFFSETS, SHAPES, SUMS]

    def forms(self, description: Description) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        return encoded_forms(description, OFFSETS, SHAPES, SUMS)

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        where = self.where(ENCODED)
        with self._dataset(ENCODED) as dataset:
            place, size, form = _place(dataset), int(dataset.size), (dataset.dtype.str, dataset.ndim)
        if place is None or form != ("|u1", 1):
            raise FormatError(f"{where} is not a contiguous dataset of bytes", source=where)
        with self._dataset(OFFSETS) as dataset:  # no more is read than the file has bytes
            is_plain = unmappable(dataset) is None and dataset.nbytes <= self._path.stat().st_size
        if not is_plain:
            raise FormatError(f"{self.where(OFFSETS)} is not a contiguous dataset", source=where)
        offsets: npt.NDArray[Any] = self.array(OFFSETS)
        count = len(offsets) - 1 if shape is None else shape[0]
        check_slot_offsets(offsets, count, self.where(OFFSETS))
        faults = self.faults_around(place)
        if size != int(offsets[-1]):
            faults.append(f"{where} has {size:,} bytes, but its last slot should end at {int(offsets[-1]):,}")
        return EncodedFile(str(self._path), place, offsets, shape or (count,)), faults


ENCODED_HDF5 = Medium(
    name="encoded-hdf5",
    label="HDF5 file of JPEGs",
    pixels="encoded.h5",
    log=LOG,
    is_folder=False,
    names=HDF5_NAMES,
    signature=SIGNATURE,
    head_bytes=HEAD_BYTES,
    text_bytes=TEXT_BYTES,
    open=_open,
    contents=EncodedHdf5Contents,
    draft=_Draft,
)
