"""Drafts of encoded stores: JPEGs are appended to a log as they come, and put in order when the store is published.

The ledger row of a slot says where its JPEG lies in the log. Runs come in the order of their slots, except where one
takes much longer than others or is filled again, so the log is nearly always in order, and it then becomes the file of
the store by a rename. Otherwise it is copied once. It stays until the store is published: a call that is killed before
that leaves a log and a ledger that agree.

Where slots differ in height and width, the masks of a slot follow its JPEG in the log, and each target of masks gets a
file of its own at the end.
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.limits import check_space
from arraystore._common.ragged import OFFSETS as OFFSETS_OF_ROWS
from arraystore._common.ragged import VALUES
from arraystore._common.ragged import offsets_of as offsets_of_rows
from arraystore._format.files import fsync_path, write_at
from arraystore._format.ledger import claimed_rows, mask_pixels, sides_in
from arraystore._format.publication import Publication
from arraystore._format.slot_file import npy_header, write_npy
from arraystore._format.target_forms import file_name
from arraystore._stores.encoded.log import LogEnd, LogFile, LogImages
from arraystore._stores.medium import FilledRun
from arraystore._stores.npy import write_folder
from arraystore._stores.unfinished.disk_draft import FolderDraft

_COPY_BYTES = 1 << 24
# Files beside those of every folder: where each JPEG begins, height and width of each, and the sums of its pixels.
OFFSETS, SHAPES, SUMS = "offsets.npy", "shapes.npy", "sums.npy"


class LogDraft(FolderDraft):
    """JPEGs in ``TARGET.partial/encoded.log``. Subclasses say what file it becomes."""

    appends = True
    _end: LogEnd | None = None  # counted from the first JPEG; not known before a JPEG is appended

    @abstractmethod
    def _head(self, total: int) -> bytes:
        """Return what stands before the JPEGs in the file of a store that has so many bytes of them."""

    def _shrink_slots(self, count: int) -> None:
        del count  # what the log holds for other slots is left out when it is published
        self.slots = np.empty((0, *(side or 0 for side in self._key.spec.slot_shape)), np.uint8)
        self._log = self._folder.path / self.medium.draft_file
        if not self._log.exists():
            with self._log.open("xb") as file:
                file.write(self._head(0))
        self._beginning = threading.Lock()

    def _put_slots(self, run: FilledRun) -> None:
        begin, data = self._log_end().place(run.rows, run.encoded, self._key.logged_mask_bytes(run.rows))
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CLOEXEC)
        try:
            write_at(descriptor, memoryview(data), self.medium.head_bytes + begin)
        finally:
            os.close(descriptor)
        run.encoded.clear()  # a run is kept until it is claimed

    def _log_end(self) -> LogEnd:
        with self._beginning:
            if self._end is None:
                claimed = self.ledger[claimed_rows(self.ledger)]
                ends = claimed["begin"] + claimed["length"] + self._key.logged_mask_bytes(claimed).astype(np.uint64)
                self._end = LogEnd(int(ends.max(initial=0)))
            return self._end

    def log_images(self) -> LogImages:
        count, spec = len(self.ledger), self._key.spec
        return LogImages(LogFile(self._log), self.medium.head_bytes, count, spec, str(self._folder.target))

    def _move_slot(self, slot: int, to: int) -> None:
        """Do nothing: the row of the slot, which goes with it, says where its JPEG lies."""

    def _finish_slots(self, publication: Publication) -> None:
        if self._key.masks and not self._key.spec.one_shape:
            self._write_masks(publication)
        begins, lengths = publication.rows["begin"], publication.rows["length"]
        offsets = offsets_of(publication)
        total = int(offsets[-1])
        final, head = self._folder.path / self.medium.pixels, self._head(total)
        in_order = bool(np.all((begins == offsets[:-1]) | (lengths == 0)))
        if not in_order:
            check_space(self._folder.path, total)
            _copy(self._log, final, begins, lengths, len(head))
        with (self._log if in_order else final).open("r+b") as file:
            write_at(file.fileno(), memoryview(head), 0)
            os.ftruncate(file.fileno(), len(head) + total)
            os.fsync(file.fileno())
        if in_order:
            self._log.rename(final)
            fsync_path(self._folder.path)

    def _write_masks(self, publication: Publication) -> None:
        """Write the masks that follow the JPEGs in the log, those of each target into a file, and their offsets."""
        rows, folder, pixels = publication.rows, self._folder.path, mask_pixels(publication.rows, self._key.spec)
        total, offsets = int(pixels.sum()), offsets_of_rows(pixels)
        check_space(folder, total * sum(np.dtype(kind).itemsize for _, kind in self._key.masks))
        starts = (self.medium.head_bytes + rows["begin"] + rows["length"]).tolist()
        with ExitStack() as files:
            log = files.enter_context(self._log.open("rb", buffering=0))
            targets = []
            for name, kind in self._key.masks:
                write_npy(folder / file_name(name + OFFSETS_OF_ROWS), offsets)
                file = files.enter_context((folder / file_name(name + VALUES)).open("wb"))
                file.write(npy_header((total,), np.dtype(kind)))
                targets.append((file, np.dtype(kind).itemsize))
            for begin, count in zip(starts, pixels.tolist(), strict=True):
                at = begin
                for file, item_bytes in targets:
                    file.write(os.pread(log.fileno(), count * item_bytes, at))
                    at += count * item_bytes
            for file, _ in targets:
                file.flush()
                os.fsync(file.fileno())


class EncodedDraft(LogDraft):
    """The draft of a folder."""

    def _head(self, total: int) -> bytes:
        return npy_header((total,))

    def _write_rest(self, folder: Path, publication: Publication) -> None:
        for name, array in zip((OFFSETS, SHAPES, SUMS), arrays_beside(publication), strict=True):
            write_npy(folder / name, array)
        write_folder(folder, publication, OFFSETS, SHAPES, SUMS)


def arrays_beside(publication: Publication) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what stands beside the JPEGs: their offsets, the height and width of each slot, and its sums."""
    rows, spec = publication.rows, publication.description.spec
    shapes = np.tile(np.array(spec.size, np.int32), (len(rows), 1)) if spec.one_shape else sides_in(rows, spec)
    return offsets_of(publication), shapes, np.ascontiguousarray(rows["sums"])


def offsets_of(publication: Publication) -> npt.NDArray[np.uint64]:
    """Return where each JPEG of a store begins, counted from the first one, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(publication.rows["length"], dtype=np.uint64)])


def _copy(
    log: Path, final: Path, begins: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64], head_bytes: int
) -> None:
    """Copy the JPEGs of a log into a new file, in the order of their slots. Both have as many bytes before them."""
    with log.open("rb") as source, final.open("wb") as target:
        to = head_bytes
        for begin, end in _ranges(begins, lengths):
            for start in range(begin, end, _COPY_BYTES):
                data = os.pread(source.fileno(), min(_COPY_BYTES, end - start), head_bytes + start)
                write_at(target.fileno(), memoryview(data), to)
                to += len(data)


def _ranges(begins: npt.NDArray[np.uint64], lengths: npt.NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of bytes of JPEGs in their order; those that follow each other are one range."""
    there = lengths > 0
    starts, ends = begins[there].astype(np.int64), (begins + lengths)[there].astype(np.int64)
    apart = np.flatnonzero(starts[1:] != ends[:-1])
    firsts, lasts = np.append(0, apart + 1), np.append(apart, len(starts) - 1)
    yield from zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True)
