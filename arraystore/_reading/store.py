"""An open store: the slots with their status, targets and samples."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.progress import Progress
from arraystore._format.specification import FAILED
from arraystore._format.verification import Verification, verify_contents
from arraystore._reading.slot_arrays import Slots
from arraystore._stores.opened import Opened
from arraystore._stores.opening import contents_of
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import BadImage
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Store"]

Pixels = npt.NDArray[np.uint8]


class Store(Slots):
    """Preallocated slots with their status, manifest and targets, on one medium.

    Made by `arraystore.build` and `arraystore.open`, not directly. A context manager; leaving it closes the store.

    Attributes:
        medium: ``"ram"``, ``"npy"`` or ``"hdf5"``.
        path: the folder or file; None for RAM.
        spec: how images became slots.
        images: uint8, (N, C, H, W), or (N, H, W, C) where ``spec.layout`` is NHWC. A read-only np.memmap, or the RAM
            array. Owned by the store; views of it stay valid after the store is closed.
        status: uint8, (N,): 1 stored, 2 failed (the slot is zeros).
        checksums: uint64, (N,): xxh3_64 of each slot's bytes.
        targets: name → array, axis 0 = N.
        categories: name of a target → the names of its codes.
        mean: each channel's mean over all stored slots, 0 to 255.
        std: each channel's standard deviation over all stored slots.
        description: all that store.json says.
    """

    def __init__(self, opened: Opened) -> None:
        description, array = opened.description, opened.array
        super().__init__(
            [array],
            layout=description.spec.layout,
            categories=description.classes,
            mean=description.mean,
            std=description.std,
        )
        self._opened = opened
        self.medium = opened.medium
        self.path = opened.path
        self.description = description
        self.spec: ImageSpec = description.spec
        self.images: Pixels = array.images
        # Arrays of others have neither; every medium of a store gives both.
        self.status = cast(npt.NDArray[np.uint8], array.status)
        self.checksums = cast(npt.NDArray[np.uint64], array.checksums)
        self.targets = array.targets
        self._samples: pa.Table | None = None

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return Store, (self._opened,)

    @property
    def samples(self) -> pa.Table:
        """The samples as a pyarrow.Table (``.to_pandas()`` where pandas is installed), read when first asked for.

        Columns: source, label (where there are classes), height, width, bytes, mtime, reason, and the manifest's texts.
        """
        if self._samples is None:
            self._samples = self._opened.load_table("samples")
        return self._samples

    def bad(self) -> list[BadImage]:
        """Return the slots whose source could not be stored, with the reasons."""
        slots = np.flatnonzero(np.asarray(self.status) == FAILED)
        if slots.size == 0:
            return []
        return _bad_images(self.samples.take(slots), slots.tolist())

    @property
    def dropped_samples(self) -> pa.Table | None:
        """The table of the sources whose rows were dropped: row, source, bytes, mtime and reason; None if none were."""
        return self._opened.load_table("dropped")

    def dropped(self) -> list[BadImage]:
        """Return the sources whose rows were dropped, with the reasons; ``slot`` is the row that each had."""
        table = self.dropped_samples
        return [] if table is None else _bad_images(table, table["row"].to_pylist())

    def verify(self, *, workers: int | None = None, progress: bool | Callable[[Progress], None] = True) -> Verification:
        """Read every byte of the store and say whether it is whole; see `arraystore.verify`.

        Args:
            workers: how many threads read and hash; by default one a core, and at least 4.
            progress: True draws a bar, False is silent, a function is called with a `Progress` that counts bytes.

        Raises:
            SpecError: workers is less than 1.
        """
        contents = partial(contents_of, self.path or self._opened)
        return verify_contents(contents, workers=workers, progress=progress)

    def close(self) -> None:
        """Let go of the arrays; the mappings end when nothing else references them."""
        self.images, self.targets = np.empty((0, *self.spec.slot_shape), np.uint8), {}
        self.status, self.checksums = np.empty(0, np.uint8), np.empty(0, np.uint64)
        self._parts, self.cache = (), None
        self._opened = replace(self._opened, array=SlotArray(self.images))

    def __len__(self) -> int:
        return self.description.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        shape = " x ".join(map(str, (len(self), *self.spec.slot_shape)))
        place = "" if self.path is None else f" at {str(self.path)!r}"
        return f"<arraystore.Store {shape} uint8 {self.spec.layout}, {self.medium}{place}>"


def _bad_images(table: pa.Table, slots: list[int]) -> list[BadImage]:
    rows = zip(slots, table["source"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return [BadImage(slot, os.fsdecode(source), reason) for slot, source, reason in rows]
