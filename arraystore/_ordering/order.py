"""The order of an epoch: a pure function of seed, epoch and position, whose result is a slot.

Any positions can be asked for, in any number of threads, processes or machines, and the result is always the same. So
an interrupted run continues exactly where it was, even with other numbers of ranks, workers or slots in a batch. One
key is made of seed, epoch and purpose (`arraystore._common.keyed_random`), so the orders of similar seeds or epochs are
unrelated.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import held_array, settle
from arraystore._common.digests import array_digest
from arraystore._common.keyed_random import LARGEST_COUNT, Purpose, hashed, key_of, permute
from arraystore.errors import SpecError

Indices = npt.NDArray[np.int64]


class Order(Protocol):
    """Which slot each position of an epoch draws; immutable, and the same in all threads and processes."""

    @property
    def n(self) -> int:
        """How many slots there are: draws are in [0, n)."""

    @property
    def count(self) -> int:
        """How many draws an epoch has: positions are in [0, count)."""

    @property
    def repeats(self) -> bool:
        """Whether a slot may be drawn twice in an epoch."""

    def draw(self, epoch: int, positions: Indices, /) -> Indices:
        """Return a new array, (p,), of the slots at positions of an epoch, which is less than 2**64.

        The positions, (p,), are in [0, count), in any order; they may repeat.
        """

    def identity(self) -> str:
        """Return a short text; two orders have the same one only if they draw the same slots in every epoch."""


@dataclass(frozen=True, slots=True)
class _EverySlotOnce:
    """What the next three orders have in common."""

    n: int
    repeats: ClassVar[bool] = False

    @property
    def count(self) -> int:
        """How many draws an epoch has: as many as there are slots."""
        return self.n


@dataclass(frozen=True, slots=True)
class Sequential(_EverySlotOnce):
    """Every slot once, in the order of the store."""

    def __post_init__(self) -> None:
        settle(self, n=(0, LARGEST_COUNT))

    def draw(self, _epoch: int, positions: Indices, /) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        return checked_positions(positions, self.n).copy()

    def identity(self) -> str:
        """Return a text that identifies this order; see `Order.identity`."""
        return f"sequential n={self.n}"


@dataclass(frozen=True, slots=True)
class Shuffle(_EverySlotOnce):
    """Every slot once, in a random order."""

    seed: int

    def __post_init__(self) -> None:
        settle(self, n=(0, LARGEST_COUNT), seed=(0, 2**64 - 1))

    def draw(self, epoch: int, positions: Indices, /) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        return permute(checked_positions(positions, self.n), self.n, key_of(self.seed, epoch, Purpose.SHUFFLE))

    def identity(self) -> str:
        """Return a text that identifies this order; see `Order.identity`."""
        return f"shuffle n={self.n} seed={self.seed}"


@dataclass(frozen=True, slots=True)
class BlockShuffle(_EverySlotOnce):
    """Every slot once; the store is cut into blocks, the blocks are shuffled, and then the slots of each window are.

    This is for disks and network file systems that read neighboring slots much faster than scattered ones. A block is a
    run of neighboring slots, and a window is a run of blocks in shuffled order: an epoch reads window after window. The
    last block of the store may be short; it may come anywhere in the order, like any other.
    """

    seed: int
    block: int  # slots
    window: int  # blocks

    def __post_init__(self) -> None:
        settle(self, n=(0, LARGEST_COUNT), seed=(0, 2**64 - 1), block=(1, None), window=(1, None))

    def draw(self, epoch: int, positions: Indices, /) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        if not self.n:
            return checked_positions(positions, 0).copy()
        block = min(self.block, self.n)
        whole, tail = divmod(self.n, block)
        missing = -self.n % block
        # Rows are blocks in shuffled order. A random number chooses the row of the short block; the whole blocks are
        # permuted among the other rows. (64 random bits times r, >> 64, is uniform in [0, r).)
        short = key_of(self.seed, epoch, Purpose.SHORT_BLOCK) * (whole + 1) >> 64 if tail else whole
        size = min(self.window, whole + (tail > 0)) * block
        gap_window = short // (size // block)
        gap_end = min((gap_window + 1) * size, self.n + missing)
        # Indices are counted as if the short block were whole, so that dividing by a block's or a window's size gives
        # the row or the window. The ``missing`` indices that no slot has form a gap: at the end of the short block's
        # window until that window is shuffled, and at the end of the short block's row afterwards.
        indices = checked_positions(positions, self.n)
        indices = indices + missing * (indices >= gap_end - missing)
        windows = indices // size
        touched = np.unique(windows)
        keys = hashed(key_of(self.seed, epoch, Purpose.WINDOW), touched)
        for window, key in zip(touched.tolist(), keys.tolist(), strict=True):
            inside = np.flatnonzero(windows == window)
            start = window * size
            count = min(size, self.n + missing - start) - missing * (window == gap_window)
            indices[inside] = start + permute(indices[inside] - start, count, key)
        indices += missing * ((windows == gap_window) & (indices >= short * block + tail))
        rows, offsets = np.divmod(indices, block)
        blocks = np.full_like(rows, whole)
        others = rows != short
        rows = rows[others]
        blocks[others] = permute(rows - (rows > short), whole, key_of(self.seed, epoch, Purpose.BLOCKS))
        return blocks * block + offsets

    def identity(self) -> str:
        """Return a text that identifies this order; see `Order.identity`."""
        return f"block shuffle n={self.n} seed={self.seed} block={self.block} window={self.window}"


@dataclass(frozen=True, slots=True, eq=False)
class Skip:
    """Another order over all slots but the sorted ``skipped`` ones: its draw k stands for number k of the others.

    Raises:
        SpecError: the skipped slots are not sorted, or one of them does not exist.
    """

    order: Order
    skipped: Indices
    _before: Indices = field(init=False, repr=False)

    def __post_init__(self) -> None:
        skipped = held_array("skipped", self.skipped, np.int64)
        if (skipped[1:] <= skipped[:-1]).any():
            raise SpecError("skipped must be sorted, each slot once")
        object.__setattr__(self, "skipped", skipped)
        if skipped.size and not 0 <= skipped[0] <= skipped[-1] < self.n:
            raise SpecError(f"skipped must be slots from 0 to {self.n - 1:,}, not {skipped[0]:,} to {skipped[-1]:,}")
        object.__setattr__(self, "_before", skipped - np.arange(skipped.size))

    @property
    def n(self) -> int:
        """How many slots there are, including the skipped ones."""
        return self.order.n + self.skipped.size

    @property
    def count(self) -> int:
        """How many draws an epoch has: as many as in the other order."""
        return self.order.count

    @property
    def repeats(self) -> bool:
        """Whether a slot may be drawn twice in an epoch."""
        return self.order.repeats

    def draw(self, epoch: int, positions: Indices, /) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        drawn = self.order.draw(epoch, positions)
        # ``_before[j]`` is how many slots before skipped slot j are not skipped. Draw k stands for a slot after it if
        # k >= _before[j]; so adding the count of such j gives the slot.
        return drawn + np.searchsorted(self._before, drawn, side="right")

    def identity(self) -> str:
        """Return a text that identifies this order; see `Order.identity`."""
        return f"skip slots={array_digest(self.skipped)} of {self.order.identity()}"


def checked_positions(positions: Indices, count: int) -> Indices:
    """Return positions as an int64 array; an int64 array is returned itself.

    Raises:
        SpecError: a position is not in [0, count).
    """
    positions = np.asarray(positions, np.int64)
    if positions.size and not 0 <= positions.min() <= positions.max() < count:
        wrong = positions.min() if positions.min() < 0 else positions.max()
        raise SpecError(f"position {wrong:,} is not in an epoch of {count:,} draws")
    return positions
