"""What drafts on disk have in common: their slots lie in one file of the partial folder, whichever the medium."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arraystore._format.publication import Publication
from arraystore._format.slot_file import SlotFile
from arraystore._stores.draft import BuildKey, Filled
from arraystore._stores.media import medium_of
from arraystore._stores.opened import Opened
from arraystore._stores.partial import PartialFolder

__all__ = ["DiskDraft"]


class DiskDraft(ABC):
    """Slots in a file of ``TARGET.partial/``, mapped; the base of the drafts of each medium.

    Attributes:
        medium: of the target.
        file: where the slots lie.
        slots: uint8, (N, *slot_shape), a writable mapping of them.

    Raises:
        StoreExistsError: the target has its name already.
        StoreError: another build into this target is running, or an unfinished one was of something else.
        SpaceError: the volume is too small.
        OSError: the target cannot be written.
    """

    def __init__(self, target: Path, key: BuildKey, *, overwrite: bool = False, fresh: bool = False) -> None:
        self._slot_shape = key.spec.slot_shape
        self.medium = medium_of(target)
        self._folder = PartialFolder(target, key, self.medium, is_store=self.is_store, overwrite=overwrite, fresh=fresh)
        try:
            with self._folder.writing():
                self._set_count(key.count)
            self.settled = self._folder.start()
        except BaseException:
            self._folder.abandon()
            raise
        self.reasons = self._folder.reasons
        self.same_decoders = self._folder.same_decoders

    @staticmethod
    @abstractmethod
    def is_store(path: Path) -> bool:
        """Return whether a store of this medium has the name already."""

    @abstractmethod
    def _reserve(self, path: Path, shape: tuple[int, ...]) -> SlotFile:
        """Make the file at ``path`` one of these slots, whatever it was before; pixels that stay are not touched."""

    @abstractmethod
    def _write_rest(self, folder: Path, publication: Publication) -> None:
        """Write everything but the pixels."""

    @property
    def ledger(self) -> npt.NDArray[np.void]:
        """A row a slot, as claimed so far; read-only."""
        return self._folder.ledger

    def writing(self) -> AbstractContextManager[None]:
        """Tell of a volume that filled up what it means for the build.

        Raises:
            SpaceError: on leaving: the volume is full.
        """
        return self._folder.writing()

    def write(self, start: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Copy pixels into the slots from ``start`` on.

        Raises:
            SpaceError: the volume is full.
            OSError: it failed.
        """
        with self._folder.writing():
            self.file.write(start, pixels)

    def claim(self, runs: list[Filled]) -> None:
        """Make the pixels of finished runs durable, and then the rows that claim them.

        Raises:
            SpaceError: the volume is full.
            OSError: it failed.
        """
        self._folder.claim(runs)

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        """Claim these slots no more, durably: they will be written again.

        Raises:
            OSError: the volume failed.
        """
        self._folder.withdraw(slots)

    def shrink(self, count: int) -> None:
        """Give up all slots from ``count`` on; none of them may be claimed.

        Raises:
            OSError: the volume failed.
        """
        self._set_count(count)

    def publish(self, publication: Publication) -> Opened:
        """Make everything durable, give the store its name by one rename, and open it.

        Raises:
            SpaceError: the volume is full; what is done is kept.
            OSError: it failed.
        """
        with self._folder.writing():
            self._write_rest(self._folder.path, publication)
            self._folder.publish()
            return self.medium.load().open_published(self._folder.target)

    def close(self) -> None:
        """Let go, keeping what is done for a later call with the same key."""
        self._folder.release()

    def _set_count(self, count: int) -> None:
        self.file = self._reserve(self._folder.path / self.medium.pixels, (count, *self._slot_shape))
        self.slots = self.file.map(writable=True).view(np.ndarray)
