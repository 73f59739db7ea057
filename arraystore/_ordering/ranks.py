"""Which positions of the order are in the batches of each rank.

The order is cut into global batches of ``batch_size * world_size`` positions, and each rank gets its part of every
global batch. After k batches on every rank, exactly the first k global batches are consumed. So a run can continue from
that position with another number of ranks or another batch size, and the slots come in the same order.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import choice_of, settle, whole_number
from arraystore._common.keyed_random import LARGEST_COUNT
from arraystore.errors import SpecError

LAST = ("keep", "drop", "pad")


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of an epoch of ``count`` positions.

    All positions are those of the global order. ``start`` is the first position that has not been consumed: 0, or the
    result of `after` where a run was interrupted. ``last`` says how the last positions are treated if they do not fill
    a global batch. ``"keep"`` divides them evenly among the ranks; a rank may get none, and then has one batch less
    than others. ``"drop"`` leaves them out. ``"pad"`` fills the batch of every rank with the first positions of the
    epoch.
    """

    count: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    last: str = "keep"

    def __post_init__(self) -> None:
        settle(self, count=(0, LARGEST_COUNT), batch_size=(1, None), world_size=(1, None))
        settle(self, rank=(0, self.world_size - 1))
        choice_of("last", self.last, LAST)

    def batches(self, start: int = 0) -> int:
        """Return how many batches this rank gets from ``start`` on."""
        whole, rest = self._rounds(start)
        if self.last == "pad":
            return whole + (rest > 0)
        return whole + (self.last == "keep" and rest > self.rank)

    def positions(self, k: int, start: int = 0) -> npt.NDArray[np.int64]:
        """Return the positions of this rank's batch number k, counted from 0 at ``start``.

        They are ``batch_size`` many, or fewer in the last batch with ``last="keep"``.

        Raises:
            SpecError: this rank has no such batch.
        """
        k = whole_number("k", k, 0)
        batches = self.batches(start)
        if k >= batches:
            raise SpecError(f"rank {self.rank} has {batches:,} batches from position {start:,}, no batch {k}")
        whole, rest = self._rounds(start)
        begin = start + k * self._global_size
        if k < whole or self.last == "pad":
            begin, size = begin + self.rank * self.batch_size, self.batch_size
        else:
            size, more = divmod(rest, self.world_size)
            begin, size = begin + self.rank * size + min(self.rank, more), size + (self.rank < more)
        return (begin % self.count + np.arange(size, dtype=np.int64)) % self.count

    def after(self, k: int, start: int = 0) -> int:
        """Return the first position that is not consumed after k batches on every rank, or after the end of the epoch.

        It is at most ``count``; with ``last="drop"`` it may be less at the end of the epoch.
        """
        whole, rest = self._rounds(start)
        rounds = min(whole_number("k", k, 0), whole + (self.last != "drop" and rest > 0))
        return min(start + rounds * self._global_size, self.count)

    @property
    def _global_size(self) -> int:
        return self.batch_size * self.world_size

    def _rounds(self, start: int) -> tuple[int, int]:
        """Return how many whole global batches there are from ``start`` on, and how many positions remain."""
        return divmod(self.count - whole_number("start", start, 0, self.count), self._global_size)


def ranks(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Return rank and world_size: the arguments; without them those of torch.distributed, if initialized, or 0 and 1.

    Raises:
        SpecError: one is given without the other, or one is invalid.
    """
    if rank is not None and world_size is not None:
        world_size = whole_number("world_size", world_size, 1)
        return whole_number("rank", rank, 0, world_size - 1), world_size
    if rank is not None or world_size is not None:
        raise SpecError(f"rank={rank!r} and world_size={world_size!r}: give both, or neither")
    distributed = initialized_torch()
    return (0, 1) if distributed is None else (int(distributed.get_rank()), int(distributed.get_world_size()))


def initialized_torch() -> Any:
    """Return torch.distributed; None if it is not initialized."""
    # If the program has not imported it, it is not initialized. Importing it would take seconds.
    distributed = sys.modules.get("torch.distributed")
    is_ready = distributed is not None and distributed.is_available() and distributed.is_initialized()
    return distributed if is_ready else None
