"""The base of drafts on disk: their slots lie in one file of the partial folder, and are mapped from there."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arraystore._format.files import fsync_path
from arraystore._format.publication import Publication
from arraystore._format.slot_file import SlotFile
from arraystore._stores.medium import BuildKey, FilledRun, Opened
from arraystore._stores.partial import PartialFolder
from arraystore._stores.publishing import open_published


class DiskDraft(ABC):
    """A `Draft` whose slots lie in a file of ``TARGET.partial/``. A medium adds how its files are made."""

    def __init__(self, folder: PartialFolder, key: BuildKey) -> None:
        self._slot_shape = key.spec.slot_shape
        self._folder = folder
        self.medium = folder.medium
        with folder.writing():
            self.shrink(key.count)
        self.settled = folder.start()
        self.reasons = folder.reasons
        self.notes = folder.notes
        self.same_decoders = folder.same_decoders

    @abstractmethod
    def _make_file(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        """Make the file of slots of this shape, or give an existing one this shape; slots in both keep their pixels."""

    @abstractmethod
    def _write_rest(self, folder: Path, publication: Publication) -> None:
        """Write everything but the pixels, each file with fsync. The pixels are durable by now."""

    @property
    def ledger(self) -> npt.NDArray[np.void]:
        """See `Draft`, as for everything that follows."""
        return self._folder.ledger

    def writing(self) -> AbstractContextManager[None]:
        return self._folder.writing()

    def write(self, start: int, pixels: npt.NDArray[np.uint8]) -> None:
        with self._folder.writing():
            self.file.write(start, pixels)

    def claim(self, runs: list[FilledRun]) -> None:
        self._folder.claim(runs)

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        self._folder.withdraw(slots)

    def publish(self, publication: Publication) -> Opened:
        with self._folder.writing():
            fsync_path(Path(self.file.path))  # dropping rows moves pixels, which nothing has synced yet
            self._write_rest(self._folder.path, publication)
            self._folder.publish()
            return open_published(self.medium, self._folder.target)

    def shrink(self, count: int) -> None:
        self.file = self._make_file(self._folder.path / self.medium.pixels, (count, *self._slot_shape))
        self.slots = self.file.map(writable=True).view(np.ndarray)
