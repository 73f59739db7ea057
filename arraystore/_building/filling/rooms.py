"""Where the slots of a store lie while it is filled: pixels in one array, or JPEGs in a log in the order of filling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from arraystore._building.filling.jobs import Jobs
from arraystore._format.ledger import side_fields, sides_in
from arraystore._format.slot_file import SlotFile, expect_random
from arraystore._format.specification import EMPTY
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.encoded.log import LogImages
from arraystore._stores.medium import Draft, FilledRun
from arraystore._stores.unfinished.filling import Chosen
from arraystore.spec import ImageSpec

Pixels = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]


class Room(Protocol):
    """The slots of a store, in the process that fills it."""

    def fill(self, jobs: Jobs, start: int, stop: int) -> list[FilledRun]:
        """Fill a run in this thread. Its pixels or JPEGs are in place, or part of the result, for `Draft.put`."""

    def settle(self, run: FilledRun) -> None:
        """Learn where the slots of a run lie, which the draft has taken."""

    def images(self, slots: Index) -> Pixels | EncodedImages:
        """Return what these slots can be read from, which are settled."""

    def all_images(self) -> Pixels | EncodedImages:
        """Return the same for all slots, which are settled."""

    def bytes_of(self, slot: int) -> memoryview:
        """Return the bytes of a settled slot, of which its checksum is."""

    def close(self) -> None:
        """Let go of what a finished store does not need."""


def room_of(draft: Draft, spec: ImageSpec) -> Room:
    """Return the room of a draft.

    Raises:
        OSError: the volume cannot map a file.
    """
    log = draft.log_images()
    if log is None:
        return _PixelRoom(draft.slots, draft.file, spec)
    room = _JpegRoom(log)
    claimed = np.flatnonzero(draft.settled)
    if claimed.size:
        log.settle(claimed, draft.ledger[claimed])
    room.all_images()
    return room


class _PixelRoom:
    def __init__(self, slots: Pixels, file: SlotFile | None, spec: ImageSpec) -> None:
        self._slots, self._file, self._spec = slots, file, spec
        expect_random(slots)

    def fill(self, jobs: Jobs, start: int, stop: int) -> list[FilledRun]:
        """See `Room`, as for everything that follows.

        Slots in a file are written by system calls. In the order of an epoch, a write through the mapping would take
        several times as long: each page is brought in by a fault, and the system reads megabytes ahead of it.
        """
        if self._file is None:
            return jobs.filled(start, stop, self._slots[start:stop])
        pixels = np.empty((stop - start, *self._spec.slot_shape), np.uint8)
        runs = jobs.filled(start, stop, pixels)
        for run in runs:
            run.pixels = pixels[run.start - start :][: len(run.rows)]
        return runs

    def settle(self, run: FilledRun) -> None:
        pass

    def images(self, slots: Index) -> Pixels:
        return np.asarray(self._slots)

    def all_images(self) -> Pixels:
        return self._slots if self._file is None else self._file.map()

    def bytes_of(self, slot: int) -> memoryview:
        pixels: memoryview = self._slots[slot].data
        return pixels

    def close(self) -> None:
        pass


class _JpegRoom:
    def __init__(self, log: LogImages) -> None:
        self._log = log

    def fill(self, jobs: Jobs, start: int, stop: int) -> list[FilledRun]:
        return jobs.filled(start, stop)

    def settle(self, run: FilledRun) -> None:
        settled = np.flatnonzero(run.rows["status"] != EMPTY)
        self._log.settle(run.start + settled, run.rows[settled])

    def images(self, slots: Index) -> EncodedImages:
        return self._log.images(slots)

    def all_images(self) -> EncodedImages:
        return self._log.all_images()

    def bytes_of(self, slot: int) -> memoryview:
        return self._log.images(np.array([slot])).bytes_of(slot)

    def close(self) -> None:
        self._log.close()


def slot_alone(jobs: Jobs, spec: ImageSpec, slot: int) -> FilledRun:
    """Fill a slot apart from its store; its pixels or its JPEG are part of the result."""
    if spec.encode is not None:
        return jobs.filled(slot, slot + 1)[-1]
    pixels = np.empty((1, *spec.slot_shape), np.uint8)
    run = jobs.filled(slot, slot + 1, pixels)[-1]
    run.pixels = pixels
    return run


def images_of(made: Sequence[FilledRun], spec: ImageSpec) -> Pixels | EncodedImages:
    """Return the images of slots that were filled apart, in this order."""
    if spec.encode is None:
        return np.concatenate([run.pixels for run in made if run.pixels is not None])
    jpegs = [run.encoded[0] for run in made]
    ends = np.cumsum([0, *map(len, jpegs)], dtype=np.uint64)
    shapes = sides_in(np.concatenate([run.rows for run in made]), spec) if side_fields(spec) else None
    shape = (len(made), *spec.slot_shape)
    encoded = np.frombuffer(b"".join(jpegs), np.uint8)
    return EncodedImages(encoded, ends, shape, spec.layout, shapes=shapes, most_pixels=spec.max_pixels)


def plain(images: Pixels | EncodedImages) -> Pixels | EncodedImages:
    """Return images that readers index often: indexing a np.memmap makes a np.memmap each time."""
    return images if isinstance(images, EncodedImages) else np.asarray(images)


def chosen_of_both(
    kept: Pixels | EncodedImages | None,
    rows: Index,
    here: npt.NDArray[np.bool_],
    apart: Sequence[FilledRun],
    spec: ImageSpec,
) -> Iterator[Chosen]:
    """Yield where rows are to be read of which some were filled apart.

    Args:
        kept: has the others; None if there are none.
        rows: int64, (k,): the slots.
        here: bool, (k,): which of them are not apart.
        apart: the other ones.
        spec: of the slots.
    """
    kept = plain(kept) if kept is not None else None
    if kept is not None and here.all():
        yield kept, rows, None
        return
    held, missing = np.flatnonzero(here), np.flatnonzero(~here)
    if kept is not None and held.size:
        yield kept, rows[held], held
    yield images_of(apart, spec), np.arange(len(missing)), missing
