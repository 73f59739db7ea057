"""Slots of a finished store as sources of a new one: an update or a repair decodes only the others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from arraystore._building.fill import Source, StoredSlot
from arraystore._format.samples import mtimes_us
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import FAILED
from arraystore._reading.store import Store
from arraystore._sources.stamps import STAMP
from arraystore._stores.opening import slot_file_of
from arraystore.errors import StoreError

__all__ = ["Takeover"]


class Takeover:
    """What fills each row of a new store: a slot of the old one, or the row's own source.

    Args:
        store: the old store.
        slots: for each row of the new store the slot of the old one that still holds for it, or -1; int64, (N,).
        stamps: what the file system says of each row's source now (`arraystore._sources.stamps.STAMP`, (N,)); zeros keep what
            the old store says.
        load: a row's own source.

    Attributes:
        failed: the rows whose slot had failed before, and is taken over as such.

    Raises:
        StoreError: the store lies in memory.
        FormatError: it is damaged.
    """

    def __init__(
        self,
        store: Store,
        slots: npt.NDArray[np.int64],
        stamps: npt.NDArray[np.void],
        load: Callable[[int], Source],
    ) -> None:
        if store.path is None:
            raise StoreError("a store in memory has no files to take slots over from: build it again")
        self._load = load
        self._slots = slots
        self._file: SlotFile = slot_file_of(store.path)
        self._checksums = np.asarray(store.checksums)
        self._reasons = {bad.slot: bad.reason for bad in store.bad()}
        samples = store.samples
        self._sides = {name: samples[name].to_numpy() for name in ("height", "width")}
        has_hash = "hash" in samples.column_names
        hashes = samples["hash"].fill_null(0).to_numpy() if has_hash else np.zeros(len(store), np.uint64)
        self._hashes = hashes
        told = np.zeros(len(store), STAMP)
        told["bytes"], told["mtime"] = samples["bytes"].to_numpy(), mtimes_us(samples) * 1000
        self._stamps = np.where(stamps["bytes"] == 0, told[slots], stamps)
        taken = np.flatnonzero(slots >= 0)
        failed = np.asarray(store.status)[slots[taken]] == FAILED
        self.failed: frozenset[int] = frozenset(taken[failed].tolist())

    def load(self, row: int) -> Source:
        """Return what a worker is to fill a row from."""
        slot = int(self._slots[row])
        source = self._load(row)
        if slot < 0 or not isinstance(source, str):
            return source
        return StoredSlot(
            file=self._file,
            slot=slot,
            checksum=int(self._checksums[slot]),
            height=int(self._sides["height"][slot]),
            width=int(self._sides["width"][slot]),
            bytes=int(self._stamps["bytes"][row]),
            mtime=int(self._stamps["mtime"][row]),
            hash=int(self._hashes[slot]),
            source=source,
            reason=self._reasons.get(slot),
        )
