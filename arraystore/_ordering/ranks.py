"""Which positions of the order each rank's batches have.

The order is cut into global batches of ``batch_size * world_size`` positions, and each rank has its own part of every
global batch. After k batches on every rank exactly the first k global batches are consumed, so a run can go on from
that position with other ranks or another batch size, and the slots come in the order in which they would have come.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import settle, whole_number
from arraystore._common.keyed_random import LARGEST_COUNT
from arraystore.errors import SpecError

__all__ = ["LAST", "Share", "ranks"]

LAST = ("keep", "drop", "pad")


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of an epoch.

    All positions are those of the global order. ``start`` is the first that has not been consumed: 0, or what `after`
    told when a run was interrupted.

    Attributes:
        count: how many positions an epoch has, at most 2**62.
        batch_size: how many of them one batch of one rank has.
        rank: which rank this is, in [0, world_size).
        world_size: how many ranks there are.
        last: what becomes of the positions that do not fill a global batch. ``"keep"`` divides them among the ranks, as
            evenly as can be; a rank may get none, and so one batch less than others. ``"drop"`` leaves them out.
            ``"pad"`` gives every rank a whole batch: what is missing are the first positions of the epoch once more.

    Raises:
        SpecError: one of them cannot be.
    """

    count: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    last: str = "keep"

    def __post_init__(self) -> None:
        settle(self, count=(0, LARGEST_COUNT), batch_size=(1, None), world_size=(1, None))
        settle(self, rank=(0, self.world_size - 1))
        if self.last not in LAST:
            raise SpecError(f"last must be one of {', '.join(map(repr, LAST))}, not {self.last!r}")

    def batches(self, start: int = 0) -> int:
        """Return how many batches this rank gets from ``start`` on.

        Raises:
            SpecError: start is not in [0, count].
        """
        whole, rest = self._rounds(start)
        if self.last == "pad":
            return whole + (rest > 0)
        return whole + (self.last == "keep" and rest > self.rank)

    def positions(self, k: int, start: int = 0) -> npt.NDArray[np.int64]:
        """Return the positions of this rank's batch number k from ``start`` on, the first being number 0.

        Returns:
            int64, (b,): a new array of ``batch_size`` positions, or fewer in a last batch that is kept.

        Raises:
            SpecError: start is not in [0, count], or k not in [0, batches(start)).
        """
        k = whole_number("k", k, 0)
        if k >= self.batches(start):
            raise SpecError(
                f"rank {self.rank} has {self.batches(start):,} batches from position {start:,}, no batch {k}"
            )
        whole, rest = self._rounds(start)
        begin = start + k * self._global_size
        if k < whole or self.last == "pad":
            begin, size = begin + self.rank * self.batch_size, self.batch_size
        else:
            size, more = divmod(rest, self.world_size)
            begin, size = begin + self.rank * size + min(self.rank, more), size + (self.rank < more)
        return (begin % self.count + np.arange(size, dtype=np.int64)) % self.count

    def after(self, k: int, start: int = 0) -> int:
        """Return the first position that is not consumed when every rank has had k batches, or all that it gets.

        It is at most count, and less at the end of an epoch whose last positions are dropped.

        Raises:
            SpecError: start is not in [0, count], or k is negative.
        """
        whole, rest = self._rounds(start)
        rounds = min(whole_number("k", k, 0), whole + (self.last != "drop" and rest > 0))
        return min(start + rounds * self._global_size, self.count)

    @property
    def _global_size(self) -> int:
        return self.batch_size * self.world_size

    def _rounds(self, start: int) -> tuple[int, int]:
        """How many whole global batches there are from a position on, and how many positions remain."""
        return divmod(self.count - whole_number("start", start, 0, self.count), self._global_size)


def ranks(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Return rank and world_size: as given, else those of torch.distributed where it is initialized, else 0 and 1.

    Raises:
        SpecError: one is given without the other, or they cannot be.
    """
    if rank is not None and world_size is not None:
        world_size = whole_number("world_size", world_size, 1)
        return whole_number("rank", rank, 0, world_size - 1), world_size
    if rank is not None or world_size is not None:
        raise SpecError(f"rank={rank!r} and world_size={world_size!r}: give both, or neither")
    # Who has not imported it cannot have initialized it, and importing it takes seconds.
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    return 0, 1
