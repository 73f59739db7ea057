"""An open store: its slots with their status, targets and samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.arrow import number_column, numbers_in
from arraystore._common.options import public
from arraystore._common.progress import Progress
from arraystore._common.wording import shape_text
from arraystore._format.checking.result import Verification
from arraystore._format.description import Description
from arraystore._format.samples import notes_of
from arraystore._format.specification import FAILED
from arraystore._reading.slot_arrays import SlotArrays
from arraystore._reading.slot_pixels import Coordinates, in_slot_pixels
from arraystore._reading.slots import Slots
from arraystore._stores.medium import Opened
from arraystore._stores.opening import verify_store
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import BadImage, Option, SpecError
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import pyarrow as pa

Pixels = npt.NDArray[np.uint8]


@public
class Store(Slots):
    """Preallocated slots with their status, samples and targets, on one medium.

    `arraystore.build` and `arraystore.open` make it; do not make one directly. It is a context manager: leaving it
    closes the store. A closed store still says what it is (its length, path, spec, description, classes, mean and std);
    whatever would give its contents raises a `StoreError`.

    Attributes:
        medium: ``"ram"``, ``"npy"``, ``"encoded"``, ``"hdf5"`` or ``"encoded-hdf5"``.
        path: the folder or file; None in RAM.
        spec: how images became slots.
        categories: name of a target → the names of its codes.
        layout: the same as ``spec.layout``.
        mean: each channel's mean over all stored slots, 0 to 255.
        std: each channel's standard deviation over all stored slots.
        description: the content of store.json.
    """

    def __init__(self, opened: Opened) -> None:
        description, array = opened.description, opened.array
        super().__init__(
            SlotArrays(
                (array,),
                layout=description.spec.layout,
                categories=description.classes,
                mean=description.mean,
                std=description.std,
                masks=description.masks,
                source_pixels=description.source_pixels,
                records=(opened,),
            )
        )
        self._opened = opened
        self.medium: str = opened.medium
        self.path: Path | None = opened.path
        self.description: Description = description
        self.spec: ImageSpec = description.spec
        self._samples: pa.Table | None = None

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Any, ...]]:
        return Store, (replace(self._opened, array=self._array),)

    @property
    def _array(self) -> SlotArray:
        (array,) = self.__slot_arrays__.arrays  # raises if the store was closed
        return array

    @property
    def images(self) -> Pixels:
        """The pixels: uint8, (N, C, H, W), or (N, H, W, C) if ``spec.layout`` is NHWC.

        They are a read-only np.memmap, or the RAM array. The store owns it; views of it stay valid after the store is
        closed. Those of an encoded store are no array, but have its shape, dtype and length: ``images[3]``,
        ``images[2:9]``, ``np.asarray(images)`` and iteration decode them, and raise a `FormatError` where a JPEG is
        damaged. With ``fit="keep"`` their shape is (N, C, None, None), each has its own height and width (`sides`), and
        only images that have the same can be taken together.
        """
        return cast("Pixels", self._array.images)

    @property
    def targets(self) -> Mapping[str, Any]:
        """The targets: name → array with one row per slot, or `Ragged`."""
        return self._array.targets

    @property
    def status(self) -> Pixels:
        """The status of each slot, uint8, (N,): 1 stored, 2 failed (the slot is zeros)."""
        return cast("Pixels", self._array.status)  # only arrays from other programs have none

    @property
    def checksums(self) -> npt.NDArray[np.uint64]:
        """The xxh3_64 of each slot's bytes, of its JPEG in an encoded store: uint64, (N,)."""
        return cast("npt.NDArray[np.uint64]", self._array.checksums)

    @property
    def samples(self) -> pa.Table:
        """The samples as a pyarrow.Table (``.to_pandas()`` if pandas is installed), read when first asked for.

        Columns: source, label (if there are classes), height, width, bytes, mtime, hash, reason, note (if an image has
        one), the manifest's texts, and the paths of masks with what tells whether they have changed.
        """
        _ = self._array  # raises if the store was closed
        if self._samples is None:
            self._samples = self._opened.load_table("samples")
        return self._samples

    def bad(self) -> list[BadImage]:
        """Return the slots whose source could not be stored, with the reasons."""
        slots = np.flatnonzero(np.asarray(self.status) == FAILED)
        if slots.size == 0:
            return []
        return _bad_images(self.samples.take(number_column(slots)), slots.tolist())

    def noted(self) -> list[BadImage]:
        """Return the slots that are stored although their decoder noticed something; ``reason`` is what it noticed."""
        samples = self.samples
        notes = {} if samples is None else notes_of(samples)
        return [BadImage(slot, os.fsdecode(samples["source"][slot].as_py()), note) for slot, note in notes.items()]

    @property
    def dropped_samples(self) -> pa.Table | None:
        """The table of dropped sources: row, source, bytes, mtime and reason; None if no source was dropped."""
        _ = self._array  # raises if the store was closed
        return self._opened.load_table("dropped")

    def dropped(self) -> list[BadImage]:
        """Return the dropped sources, with the reasons; ``slot`` is the row that each had in the manifest."""
        table = self.dropped_samples
        return [] if table is None else _bad_images(table, table["row"].to_pylist())

    @property
    def filled(self) -> float:
        """The share of the slots that are filled: 1.0, except in a `FillingStore` that is not finished."""
        return 1.0

    def finish(self) -> None:
        """Do nothing: this store is finished; see `FillingStore.finish`."""

    def in_slot_pixels(self, targets: Mapping[str, Coordinates] | None = None) -> Slots:
        """Return the slots with boxes and keypoints in pixels of the slots, which were in those of the source images.

            >>> slots = store.in_slot_pixels()  # doctest: +SKIP
            >>> augment = Augment(hflip=0.5, follow={"boxes": "boxes"})  # doctest: +SKIP
            >>> for batch in slots.loader(targets=["boxes", "labels"], augment=augment):  # doctest: +SKIP
            ...     train(batch)

        The targets of this store do not change. Coordinates are those of edges, from 0 to the width or height, in the
        upright image. They are scaled, cut and padded as ``spec`` did it with the image of each slot. Boxes are clipped
        to the slot, so that the width or height of one outside becomes 0. Floats keep their type, whole numbers become
        float32. Where a slot has no image, all coordinates are 0.

        Args:
            targets: name of a target → ``"boxes"``, (N, ..., 4) of left, top, right, bottom; or ``"keypoints"``,
                (N, ..., 2) of x, y. The items of a `Ragged` have these shapes without the N. None takes those that the
                store knows to be in pixels of the source images, as the boxes of a COCO file are.

        Raises:
            SpecError: there is no such target, or it does not have that shape; ``targets`` is None, and the store knows
                of none; or the store was made of slots that were resized for it.
        """
        kinds: Mapping[str, Any] = targets if targets is not None else self.__slot_arrays__.source_pixels
        if not kinds:
            raise SpecError(
                "this store knows of no target in pixels of the source images",
                advice="say which ones hold what with {0}",
                options=[Option("targets", {"boxes": "boxes"})],
            )
        if self.description.resized:
            raise SpecError(
                "this store was made of slots of other sizes, so it does not know where their images lie",
                advice="build it of in_slot_pixels() of the store that has these slots",
            )
        for name in kinds:
            self.__slot_arrays__.column(name)  # raises if there is no such target
        sides = np.stack([numbers_in(self.samples[side]).astype(np.int64) for side in ("height", "width")], axis=1)
        return Slots(in_slot_pixels(self.__slot_arrays__, kinds, self.spec, sides))

    def verify(self, *, workers: int | None = None, progress: bool | Callable[[Progress], None] = True) -> Verification:
        """Read and check all contents of the store; see `arraystore.verify`.

        Args:
            workers: how many threads read and hash; None for one per processor, and at least 4.
            progress: True draws a bar, False is silent, a function is called with a `Progress` that counts bytes.

        Raises:
            SpecError: workers is less than 1.
            FormatError: the store is replaced again and again.
        """
        return verify_store(self._opened, workers=workers, progress=progress)

    def close(self) -> None:
        """Drop the arrays; each mapping ends when nothing else refers to it.

        Arrays, loaders and choices of slots that were made of the store before stay readable.
        """
        self._slots = self._samples = None
        nothing = np.empty((0, *(side or 0 for side in self.spec.slot_shape)), np.uint8)
        self._opened = replace(self._opened, array=SlotArray(nothing), load_table=_no_table)

    def __len__(self) -> int:
        return self.description.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        shape = shape_text((len(self), *self.spec.slot_shape))
        path = "" if self.path is None else f" at {str(self.path)!r}"
        return f"<arraystore.Store {shape} uint8 {self.spec.layout}, {self.medium}{path}>"


def _no_table(name: str) -> None:
    del name


def _bad_images(table: pa.Table, slots: list[int]) -> list[BadImage]:
    rows = zip(slots, table["source"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return [BadImage(slot, os.fsdecode(source), reason) for slot, source, reason in rows]
