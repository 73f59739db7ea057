"""The RAM medium: the same object with no files. Every other medium must equal it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import numpy.typing as npt

from arraystore.errors import SpaceError
from arraystore.fill import Filled
from arraystore.format import SlotFile, ledger_dtype
from arraystore.limits import available_memory_bytes
from arraystore.stores.base import Plan, Publication, Store

__all__ = ["MemoryDraft"]


class MemoryDraft:
    """Slots in this process's memory.

    Raises:
        SpaceError: there is not enough memory for the slots.
    """

    def __init__(self, plan: Plan) -> None:
        needed = plan.count * plan.spec.slot_bytes
        available = available_memory_bytes()
        if available is not None and needed > available:
            raise SpaceError(
                f"{plan.count:,} slots need {needed / 1e9:.2f} GB of memory, {available / 1e9:.2f} GB are free: "
                "give a path to build on disk, or a smaller size",
                needed_bytes=needed,
                free_bytes=available,
            )
        # Zeros are the system's own fresh pages: nothing is written, so no memory is taken before a slot is filled.
        self.slots = np.zeros((plan.count, *plan.spec.slot_shape), np.uint8)
        self.ledger = np.zeros(plan.count, ledger_dtype(plan.spec.channels))
        self.settled = np.zeros(plan.count, bool)
        self.reasons: dict[int, str] = {}
        self.same_decoders = True
        self.file: SlotFile | None = None

    def writing(self) -> AbstractContextManager[None]:
        """Nothing is written to a volume."""
        return nullcontext()

    def write(self, start: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Copy pixels into the slots from ``start`` on."""
        self.slots[start : start + len(pixels)] = pixels

    def claim(self, runs: list[Filled]) -> None:
        """Write the rows of finished runs."""
        for run in runs:
            self.ledger[run.start : run.start + len(run.rows)] = run.rows

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        """Nothing outlives the process, so nothing has to be withdrawn."""

    def shrink(self, count: int) -> None:
        """Give up all slots from ``count`` on."""
        self.slots = self.slots[:count]

    def publish(self, publication: Publication) -> Store:
        """Return the store."""
        images = self.slots
        images.flags.writeable = False
        return Store(
            medium="ram",
            path=None,
            images=images,
            publication=publication,
            load_table={"samples": publication.samples, "dropped": publication.dropped}.get,
        )

    def close(self) -> None:
        """Nothing outlives the process."""
