"""The medium of JPEGs: a folder of plain NumPy files, in which slots are JPEGs one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._format.contents import SlotPixels
from arraystore._format.description import Description
from arraystore._format.ledger import claimed_rows, side_fields, sides_in
from arraystore._format.slot_file import PIXELS_OFFSET, EncodedFile, map_array, npy_form, npy_header, read_npy
from arraystore._stores.encoded.draft import OFFSETS, SHAPES, SUMS, EncodedDraft
from arraystore._stores.encoded.images import EncodedImages, encoded_images
from arraystore._stores.encoded.offsets import check_slot_offsets, encoded_forms
from arraystore._stores.medium import Medium, Opened
from arraystore._stores.npy import FolderContents, described, opened_folder
from arraystore._stores.publishing import FOLDER_NAMES, LOG
from arraystore.errors import FormatError, Kind
from arraystore.spec import ImageSpec

_FILES = (OFFSETS, SHAPES, SUMS)


def _open(medium: Medium, path: Path) -> Opened:
    """Open an encoded store.

    Raises:
        FormatError: it is no store, or is damaged.
    """
    description = described(path)
    offsets = read_npy(path / OFFSETS, description.count + 1)
    file = path / medium.pixels
    dtype, shape, _, offset = npy_form(file)
    if dtype != np.uint8 or len(shape) != 1 or offsets.dtype != np.uint64 or offsets.ndim != 1:
        raise FormatError(
            f"{file} should hold bytes, and {OFFSETS} beside it where each slot begins; they hold {dtype} of shape "
            f"{shape} and {offsets.dtype}",
            source=str(path),
            kind=Kind.DAMAGED,
            advice="repair the store, or build it again",
        )
    encoded = map_array(file, dtype, offset, shape, advice="repair the store, or build it again")
    shapes = None if description.spec.one_shape else read_npy(path / SHAPES, description.count)
    images = encoded_images(description, (encoded, offsets, shapes), str(path))
    return opened_folder(medium, path, description, images)


def _open_rest(medium: Medium, path: Path) -> Opened:
    """Open an encoded store without its slots."""
    description = described(path)
    shapes = None if description.spec.one_shape else np.zeros((0, len(side_fields(description.spec))), np.int32)
    nothing = np.empty(0, np.uint8), np.zeros(1, np.uint64), shapes
    return opened_folder(medium, path, description, encoded_images(description, nothing, str(path), count=0))


def log_images(folder: Path, medium: Medium, spec: ImageSpec, ledger: npt.NDArray[np.void]) -> EncodedImages:
    """Return the slots of an unfinished build that its ledger has claimed, as they lie in the log; others are empty.

    Raises:
        FormatError: the log is missing, or shorter than the ledger says.
    """
    log = folder / medium.draft_file
    if not log.exists():  # it has its final name already
        log = folder / medium.pixels
    claimed = claimed_rows(ledger)
    lengths = np.where(claimed, ledger["length"], 0)
    begins = np.where(lengths > 0, ledger["begin"], 0)
    total = int((begins + lengths).max(initial=0))
    encoded = map_array(log, np.dtype(np.uint8), medium.head_bytes, (total,), advice="call build again to finish it")
    return EncodedImages(
        encoded,
        begins,
        (len(ledger), *spec.slot_shape),
        spec.layout,
        str(folder),
        ends=begins + lengths,
        shapes=None if spec.one_shape else np.where(claimed[:, None], sides_in(ledger, spec), 0).astype(np.int32),
        most_pixels=spec.max_pixels,
    )


class EncodedContents(FolderContents):
    """The files of an encoded store.

    Raises:
        FormatError: an entry is damaged or missing; see `Contents`.
    """

    pixels = "encoded.npy"  # has no digest

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [*super().needed(targets), *_FILES]

    def forms(self, description: Description) -> dict[str, tuple[str, tuple[int, ...]]]:
        return encoded_forms(description, OFFSETS, SHAPES, SUMS)

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        path, offsets_path = self._pixel_file(), self._path / OFFSETS
        offsets: npt.NDArray[Any] = self.array(OFFSETS)
        count = len(offsets) - 1 if shape is None else shape[0]
        check_slot_offsets(offsets, count, str(offsets_path))
        total = int(offsets[-1])
        faults = self._frame_faults(npy_header((total,)), PIXELS_OFFSET + total, f"{total:,} bytes")
        return EncodedFile(str(path), PIXELS_OFFSET, offsets, shape or (count,)), faults


ENCODED = Medium(
    name="encoded",
    label="folder of JPEGs",
    pixels=EncodedContents.pixels,
    log=LOG,
    is_folder=True,
    names=FOLDER_NAMES,
    head_bytes=PIXELS_OFFSET,
    text_bytes=4,
    open=_open,
    open_rest=_open_rest,
    contents=EncodedContents,
    draft=EncodedDraft,
)
