"""The bases of drafts on disk: in the partial folder, and with slots in one file there that is mapped.

Masks lie in a .npy file of each target, which a store that is a folder keeps.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._format.files import fsync_path, reserve_file
from arraystore._format.publication import Publication
from arraystore._format.slot_file import SlotFile, cannot_map, npy_header
from arraystore._format.specification import STORED
from arraystore._stores.encoded.log import LogImages
from arraystore._stores.medium import FilledRun, Opened
from arraystore._stores.publishing import finished_in, open_published
from arraystore._stores.unfinished.build_key import BuildKey
from arraystore._stores.unfinished.partial import PartialFolder
from arraystore.errors import Kind, StoreError


class FolderDraft(ABC):
    """A `Draft` in ``TARGET.partial/``. Subclasses say how slots are kept there."""

    slots: npt.NDArray[np.uint8]
    file: SlotFile | None = None
    on_disk = True
    appends = False

    def __init__(self, folder: PartialFolder, key: BuildKey) -> None:
        self._key = key
        self._folder = folder
        self.medium = folder.medium
        with folder.writing():
            self.shrink(key.count)
        self.settled = folder.start()
        self.reasons = folder.reasons
        self.notes = folder.notes
        self.same_decoders = folder.same_decoders

    @abstractmethod
    def _shrink_slots(self, count: int) -> None:
        """Make the file of the slots, or give an existing one room for so many; slots in both stay as they are."""

    @abstractmethod
    def _put_slots(self, run: FilledRun) -> None:
        """Write what the worker of a run could not write in place."""

    @abstractmethod
    def _move_slot(self, slot: int, to: int) -> None:
        """Copy the pixels of a slot into another one."""

    @abstractmethod
    def _finish_slots(self, publication: Publication) -> None:
        """Make the file of the slots what it is in a finished store, durably."""

    @abstractmethod
    def _write_rest(self, folder: Path, publication: Publication) -> None:
        """Write everything but slots and masks, each file with fsync. These two are durable by now."""

    @property
    def ledger(self) -> npt.NDArray[np.void]:
        """See `Draft`, as for everything that follows."""
        return self._folder.ledger

    def log_images(self) -> LogImages | None:
        return None

    def writing(self) -> AbstractContextManager[None]:
        return self._folder.writing()

    def put(self, run: FilledRun) -> None:
        with self._folder.writing():
            self._put_slots(run)
            for file, values in zip(self._masks, run.masks, strict=True):
                file.write(run.start, values)

    def move(self, slot: int, to: int) -> None:
        with self._folder.writing():
            self._move_slot(slot, to)
            for file in self._masks:
                file.write(to, np.frombuffer(file.read(slot), np.uint8))

    def claim(self, runs: list[FilledRun]) -> None:
        self._folder.claim(runs)

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        self._folder.withdraw(slots)

    def finish(self, publication: Publication) -> None:
        with self._folder.writing():
            self._finish_slots(publication)
            for file in self._masks:
                fsync_path(Path(file.path))
            self._write_rest(self._folder.path, publication)
            fsync_path(finished_in(self._folder.path, self.medium))

    def give_name(self) -> Opened:
        with self._folder.writing():
            self._folder.publish()
            return open_published(self.medium, self._folder.target)

    def shrink(self, count: int) -> None:
        self._shrink_slots(count)
        self._masks = self._mask_files(count)

    def _mask_files(self, count: int) -> list[SlotFile]:
        """Make the files of so many masks, or give existing ones this length; masks in both stay as they are."""
        key = replace(self._key, count=count)
        files = key.mask_files(self._folder.path)
        for file, (_, kind) in zip(files, key.masks, strict=False):  # no file where slots differ in shape
            header = npy_header((count, *key.spec.size), np.dtype(kind))
            reserve_file(Path(file.path), file.byte_of(count), header=header)
        return files


class DiskDraft(FolderDraft):
    """A draft whose slots lie in one file of the partial folder. A medium adds how its files are made."""

    file: SlotFile
    _is_proven = False

    @abstractmethod
    def _make_file(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        """Make the file of slots of this shape, or give an existing one this shape; slots in both keep their pixels."""

    def claim(self, runs: list[FilledRun]) -> None:
        if self.file.reserved and not self._is_proven:
            self._prove(runs)
        super().claim(runs)

    def _prove(self, runs: list[FilledRun]) -> None:
        """Check once that what was written through the mapping is in the file: some volumes lose it without an error.

        Raises:
            StoreError: it is not.
        """
        fsync_path(Path(self.file.path))
        for run in runs:
            for slot, row in enumerate(run.rows, run.start):
                if row["status"] != STORED or run.pixels is not None:
                    continue
                pixels = self.file.read(slot)
                if xxhash.xxh3_64_intdigest(pixels) != row["checksum"]:
                    raise StoreError(
                        f"the volume of {self._folder.target.parent} loses what is written to mapped files: slot "
                        f"{slot} was filled, and the file does not have its pixels",
                        slot=slot,
                        kind=Kind.UNSUPPORTED,
                        advice="build on another volume, and copy the finished store",
                    )
                if any(pixels):  # zeros would be there, written or not
                    self._is_proven = True
                    return

    def _put_slots(self, run: FilledRun) -> None:
        if run.pixels is not None:
            self.file.write(run.start, run.pixels)

    def _move_slot(self, slot: int, to: int) -> None:
        self.file.write(to, self.slots[slot][None])

    def _finish_slots(self, publication: Publication) -> None:
        del publication
        fsync_path(Path(self.file.path))  # dropping rows moves pixels, which nothing has synced yet

    def _shrink_slots(self, count: int) -> None:
        self.file = self._make_file(self._folder.path / self.medium.pixels, (count, *self._key.spec.slot_shape))
        try:
            self.slots = self.file.map(writable=True).view(np.ndarray)
        except OSError as error:
            if not cannot_map(error):
                raise
            self.file = replace(self.file, reserved=False)  # workers write the slots by system calls
            self.slots = self.file.map().view(np.ndarray)
