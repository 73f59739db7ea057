"""The order of an epoch: the pure function (seed, epoch, position) → slot.

Any position can be asked for, alone or with others, by any number of threads, processes or machines, and the answer is
always the same: that is what makes a run go on exactly where it was, with other ranks, workers or batches. An order
keeps no more than the arrays it was made of. Seed and epoch become one key (`arraystore._common.keyed_random`), so neighboring
seeds and epochs have nothing in common.

`Sequential`, `Shuffle` and `BlockShuffle` draw every slot once, `arraystore._ordering.weighted` some more often than others;
`Chosen` and `Skip` lead the draws of another order to some of the slots only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import held_array, settle
from arraystore._common.digests import array_digest
from arraystore._common.keyed_random import LARGEST_COUNT, Purpose, hashed, key_of, permute
from arraystore.errors import SpecError

__all__ = ["BlockShuffle", "Chosen", "Order", "Sequential", "Shuffle", "Skip", "checked_positions"]

Indices = npt.NDArray[np.int64]


class Order(Protocol):
    """Which slot each position of an epoch draws; unchangeable, and equal in all threads and processes."""

    @property
    def n(self) -> int:
        """How many slots there are: draws are in [0, n)."""

    @property
    def count(self) -> int:
        """How many draws an epoch has: positions are in [0, count)."""

    @property
    def repeats(self) -> bool:
        """Whether a slot may be drawn twice in an epoch."""

    def draw(self, epoch: int, positions: Indices) -> Indices:
        """Return the slots at positions of an epoch.

        Args:
            epoch: 0 or more, less than 2**64.
            positions: int64, (p,): in [0, count), in any order, repeated or not.

        Returns:
            int64, (p,): a new array.

        Raises:
            SpecError: a position is not in [0, count).
        """

    def identity(self) -> str:
        """Return a short text that two orders share only if they draw the same slots in every epoch."""


@dataclass(frozen=True, slots=True)
class Sequential:
    """Every slot once, in the order of the store.

    Attributes:
        n: how many slots, at most 2**62.

    Raises:
        SpecError: n cannot be.
    """

    n: int
    repeats: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settle(self, n=(0, LARGEST_COUNT))

    @property
    def count(self) -> int:
        """As many draws as slots."""
        return self.n

    def draw(self, epoch: int, positions: Indices) -> Indices:  # noqa: ARG002 - all epochs are alike
        """Return the slots at positions of an epoch; see `Order.draw`."""
        return checked_positions(positions, self.n).copy()

    def identity(self) -> str:
        """Return what tells this order from others."""
        return f"sequential n={self.n}"


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Every slot once, in a random order.

    Attributes:
        n: how many slots, at most 2**62.
        seed: in [0, 2**64).

    Raises:
        SpecError: n or seed cannot be.
    """

    n: int
    seed: int
    repeats: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settle(self, n=(0, LARGEST_COUNT), seed=(0, 2**64 - 1))

    @property
    def count(self) -> int:
        """As many draws as slots."""
        return self.n

    def draw(self, epoch: int, positions: Indices) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        return permute(checked_positions(positions, self.n), self.n, key_of(self.seed, epoch, Purpose.SHUFFLE))

    def identity(self) -> str:
        """Return what tells this order from others."""
        return f"shuffle n={self.n} seed={self.seed}"


@dataclass(frozen=True, slots=True)
class BlockShuffle:
    """Every slot once: blocks of neighbors are shuffled, then the slots within each window of consecutive blocks.

    For disks and network file systems that read neighbors much faster: an epoch reads one window after another, each
    made of whole blocks. The last block of the store may be short; it comes up anywhere, like any other.

    Attributes:
        n: how many slots, at most 2**62.
        seed: in [0, 2**64).
        block: how many slots a block has.
        window: how many blocks a window has.

    Raises:
        SpecError: one of them cannot be.
    """

    n: int
    seed: int
    block: int
    window: int
    repeats: ClassVar[bool] = False

    def __post_init__(self) -> None:
        settle(self, n=(0, LARGEST_COUNT), seed=(0, 2**64 - 1), block=(1, None), window=(1, None))

    @property
    def count(self) -> int:
        """As many draws as slots."""
        return self.n

    def draw(self, epoch: int, positions: Indices) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        if not self.n:
            return checked_positions(positions, 0).copy()
        block = min(self.block, self.n)
        whole, tail = divmod(self.n, block)
        missing = -self.n % block
        # Chance gives the short block its place among the whole ones, which are permuted without it.
        short = key_of(self.seed, epoch, Purpose.SHORT_BLOCK) * (whole + 1) >> 64 if tail else whole
        size = min(self.window, whole + (tail > 0)) * block
        gap_window = short // (size // block)
        gap_end = min((gap_window + 1) * size, self.n + missing)
        # Places are counted as if the short block were whole, so that each division has one divisor: what it lacks lies
        # at the end of its window until that is shuffled, and at its own end then.
        places = checked_positions(positions, self.n)
        places = places + missing * (places >= gap_end - missing)
        windows = places // size
        touched = np.unique(windows)
        keys = hashed(key_of(self.seed, epoch, Purpose.WINDOW), touched)
        for window, key in zip(touched.tolist(), keys.tolist(), strict=True):
            inside = np.flatnonzero(windows == window)
            start = window * size
            count = min(size, self.n + missing - start) - missing * (window == gap_window)
            places[inside] = start + permute(places[inside] - start, count, key)
        places += missing * ((windows == gap_window) & (places >= short * block + tail))
        rows, offsets = np.divmod(places, block)
        blocks = np.full_like(rows, whole)
        others = rows != short
        rows = rows[others]
        blocks[others] = permute(rows - (rows > short), whole, key_of(self.seed, epoch, Purpose.BLOCKS))
        return blocks * block + offsets

    def identity(self) -> str:
        """Return what tells this order from others."""
        return f"block shuffle n={self.n} seed={self.seed} block={self.block} window={self.window}"


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What another order draws, as numbers of a subset: 0 is the first slot of the subset.

    Attributes:
        order: over as many slots as the subset has.
        slots: int64, (order.n,): the subset, in any order; a read-only copy.

    Raises:
        SpecError: these are no slots, or not as many as the order draws from.
    """

    order: Order
    slots: Indices
    repeats: bool = field(init=False)

    def __post_init__(self) -> None:
        slots = held_array("slots", self.slots, np.int64)
        if slots.size != self.order.n:
            raise SpecError(f"an order over {self.order.n:,} slots cannot draw from a subset of {slots.size:,}")
        ordered = np.sort(slots)
        if slots.size and not 0 <= ordered[0] <= ordered[-1] < LARGEST_COUNT:
            raise SpecError(f"slots must be 0 or more, and below 2**62, not {ordered[0]} to {ordered[-1]}")
        object.__setattr__(self, "slots", slots)
        object.__setattr__(self, "repeats", self.order.repeats or bool((ordered[1:] == ordered[:-1]).any()))

    @property
    def n(self) -> int:
        """The highest slot of the subset and 1."""
        return int(self.slots.max(initial=-1)) + 1

    @property
    def count(self) -> int:
        """As many draws as the order has."""
        return self.order.count

    def draw(self, epoch: int, positions: Indices) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        return self.slots[self.order.draw(epoch, positions)]

    def identity(self) -> str:
        """Return what tells this order from others."""
        return f"chosen slots={array_digest(self.slots)} of {self.order.identity()}"


@dataclass(frozen=True, slots=True, eq=False)
class Skip:
    """What another order draws, as numbers of those slots that are not skipped; it takes memory only for these.

    Attributes:
        order: over the slots that are not skipped.
        skipped: int64, (s,), sorted: the slots that are never drawn; a read-only copy.

    Raises:
        SpecError: what is skipped is not sorted, or there are no such slots.
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
        """How many slots there are, with those that are skipped."""
        return self.order.n + self.skipped.size

    @property
    def count(self) -> int:
        """As many draws as the order has."""
        return self.order.count

    @property
    def repeats(self) -> bool:
        """Whether the order repeats."""
        return self.order.repeats

    def draw(self, epoch: int, positions: Indices) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        drawn = self.order.draw(epoch, positions)
        # Number j of the skipped slots has so many others before it; it lies before all numbers from there on.
        return drawn + np.searchsorted(self._before, drawn, side="right")

    def identity(self) -> str:
        """Return what tells this order from others."""
        return f"skip slots={array_digest(self.skipped)} of {self.order.identity()}"


def checked_positions(positions: Indices, count: int) -> Indices:
    """Return positions as an int64 array, itself where it is one.

    Raises:
        SpecError: a position is not in [0, count).
    """
    positions = np.asarray(positions, np.int64)
    if positions.size and not 0 <= positions.min() <= positions.max() < count:
        wrong = positions.min() if positions.min() < 0 else positions.max()
        raise SpecError(f"position {wrong:,} is not in an epoch of {count:,} draws")
    return positions
