"""Stores in memory: the same object with no files. A store on any other medium must equal it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._common.limits import available_memory_bytes
from arraystore._common.ragged import Ragged, Target, offsets_of, split_targets
from arraystore._format.contents import SlotPixels
from arraystore._format.description import Description
from arraystore._format.files import write_at
from arraystore._format.ledger import ledger_dtype, mask_pixels
from arraystore._format.publication import Publication
from arraystore._format.slot_file import SlotFile
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.encoded.log import LogEnd, LogImages, MemoryLog
from arraystore._stores.medium import FilledRun, Opened, least_slot_bytes
from arraystore._stores.slot_array import SlotArray
from arraystore._stores.unfinished.build_key import BuildKey
from arraystore.errors import FormatError, SpaceError
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import pyarrow as pa


class MemoryDraft:
    """A `Draft` in this process's memory.

    Raises:
        SpaceError: there is not enough memory.
    """

    appends = False

    def __init__(self, key: BuildKey) -> None:
        needed = key.count * (self._slot_bytes(key.spec) + key.mask_bytes)
        available = available_memory_bytes()
        if available is not None and needed > available:
            raise SpaceError(
                f"{key.count:,} slots need {needed / 1e9:.2f} GB of memory, {available / 1e9:.2f} GB are free: "
                "give a path to build on disk, or a smaller size",
                needed_bytes=needed,
                free_bytes=available,
            )
        # For zeros the system hands out fresh pages without writing to them: a slot takes no memory until it is filled.
        shape = (side or 0 for side in key.spec.slot_shape)
        self.slots = np.zeros((0 if self.appends else key.count, *shape), np.uint8)
        masks = key.masks if key.spec.one_shape else ()
        self._masks = {name: np.zeros((key.count, *key.spec.size), np.dtype(kind)) for name, kind in masks}
        self.ledger = np.zeros(key.count, ledger_dtype(key.spec, masked=bool(key.masks)))
        self.settled = np.zeros(key.count, bool)
        self.reasons: dict[int, str] = {}
        self.notes: dict[int, str] = {}
        self.same_decoders = True
        self.file: SlotFile | None = None
        self.on_disk = False

    def _slot_bytes(self, spec: ImageSpec) -> int:
        return spec.slot_bytes

    def _put_slots(self, run: FilledRun) -> None:
        if run.pixels is not None:
            self.slots[run.start : run.start + len(run.pixels)] = run.pixels

    def _images(self, publication: Publication) -> Any:
        """Return the images of the finished store."""
        del publication
        self.slots.flags.writeable = False
        return self.slots

    def log_images(self) -> LogImages | None:
        return None

    def _finished_masks(self, publication: Publication) -> Mapping[str, Target]:
        """Return the masks of the finished store."""
        del publication
        for mask in self._masks.values():
            mask.flags.writeable = False
        return self._masks

    def writing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def put(self, run: FilledRun) -> None:
        self._put_slots(run)
        for array, values in zip(self._masks.values(), run.masks, strict=True):
            array[run.start : run.start + len(values)] = values

    def move(self, slot: int, to: int) -> None:
        for array in (*(() if self.appends else (self.slots,)), *self._masks.values()):
            array[to] = array[slot]

    def claim(self, runs: list[FilledRun]) -> None:
        for run in runs:
            self.ledger[run.start : run.start + len(run.rows)] = run.rows

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        """Do nothing: no later call takes up this ledger."""

    def shrink(self, count: int) -> None:
        self.slots = self.slots[:count]
        self._masks = {name: array[:count] for name, array in self._masks.items()}

    def finish(self, publication: Publication) -> None:
        self._publication = publication

    def give_name(self) -> Opened:
        publication = self._publication
        targets = {**publication.targets, **self._finished_masks(publication)}
        return Opened(
            medium="ram",
            path=None,
            array=SlotArray(self._images(publication), publication.status, publication.checksums, targets),
            description=publication.description,
            load_table={"samples": publication.samples, "dropped": publication.dropped}.get,
        )


class EncodedMemoryDraft(MemoryDraft):
    """A draft of JPEGs in memory, one after the other."""

    appends = True

    def __init__(self, key: BuildKey) -> None:
        super().__init__(key)
        self._spec, self._key = key.spec, key
        self._log, self._end = MemoryLog(), LogEnd()

    def _slot_bytes(self, spec: ImageSpec) -> int:
        return least_slot_bytes(spec)

    def _put_slots(self, run: FilledRun) -> None:
        begin, data = self._end.place(run.rows, run.encoded, self._key.logged_mask_bytes(run.rows))
        write_at(self._log.number, memoryview(data), begin)
        run.encoded.clear()

    def log_images(self) -> LogImages:
        return LogImages(self._log, 0, len(self.ledger), self._spec, "the store in memory")

    def _images(self, publication: Publication) -> EncodedImages:
        images = LogImages(self._log, 0, len(publication.rows), self._spec, "the store in memory")
        images.settle(slice(None), publication.rows)
        return images.all_images()

    def _finished_masks(self, publication: Publication) -> Mapping[str, Target]:
        if self._spec.one_shape:
            return super()._finished_masks(publication)
        rows, pixels = publication.rows, mask_pixels(publication.rows, self._spec)
        starts, offsets = (rows["begin"] + rows["length"]).astype(np.int64), offsets_of(pixels)
        masks = {}
        for name, kind in self._key.masks:
            values = np.empty(int(offsets[-1]), np.dtype(kind))
            for start, first, last in zip(starts.tolist(), *map(list, (offsets[:-1], offsets[1:])), strict=True):
                os.preadv(self._log.number, [values[first:last].view(np.uint8).data], start)
            starts += pixels * values.itemsize
            masks[name] = Ragged(values, offsets)
        return masks


class MemoryContents:
    """The arrays of a store in memory, which have no digests.

    Raises:
        FormatError: an entry is damaged or missing; see `Contents`.
    """

    status, checksums, shapes, sums = "status", "checksums", "shapes", "sums"
    has_digests = False
    place = "the store in memory"

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        shapes = opened.array.images.shapes if isinstance(opened.array.images, EncodedImages) else None
        arrays = {"status": opened.array.status, "checksums": opened.array.checksums, self.shapes: shapes}
        self._arrays: dict[str, npt.NDArray[Any]] = {k: array for k, array in arrays.items() if array is not None}
        self._arrays |= {self.target(key): array for key, array in split_targets(opened.array.targets).items()}

    def where(self, entry: str) -> str:
        return f"the {entry} of {self.place}"

    def text(self) -> bytes:
        return self._opened.description.to_text().encode()

    def present(self) -> list[str]:
        return list(self._arrays)

    def needed(self, targets: Iterable[str]) -> list[str]:
        return [self.status, self.checksums, *map(self.target, targets)]

    def forms(self, description: Description) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        del description
        return {}

    def is_ours(self, entry: str) -> bool:
        return entry in self._arrays

    def target(self, key: str) -> str:
        return f"target {key!r}"

    def column(self, name: str) -> str:
        return f"samples {name!r}"

    def size(self, entry: str) -> int:
        return int(self._arrays[entry].nbytes)

    def blocks(self, entry: str) -> Iterator[bytes | memoryview]:
        yield self._arrays[entry].tobytes()

    def form(self, entry: str) -> tuple[str, tuple[int, ...]]:
        return self._arrays[entry].dtype.str, self._arrays[entry].shape

    def array(self, entry: str) -> npt.NDArray[Any]:
        return self._arrays[entry]

    def rows(self, entry: str) -> npt.NDArray[Any]:
        return self._arrays[entry]

    def table(self, name: str, columns: Sequence[str]) -> pa.Table | None:
        table = self._opened.load_table(name)
        return None if table is None else table.select(columns)

    def column_names(self) -> list[str]:
        table = self._opened.load_table("samples")
        return [] if table is None else list(table.column_names)

    def slots(self, shape: tuple[int, ...] | None) -> tuple[SlotPixels, list[str]]:
        images: Any = self._opened.array.images
        if images.shape != shape:
            raise FormatError(f"the images of {self.place} have shape {images.shape}, they should have {shape}")
        return images, []
