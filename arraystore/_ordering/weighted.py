"""Orders that draw some slots more often than others: by weights, or so that all classes come equally often."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import held_array, settle
from arraystore._common.digests import array_digest
from arraystore._common.keyed_random import LARGEST_COUNT, Purpose, key_of, uniforms
from arraystore._ordering.order import checked_positions
from arraystore.errors import SpecError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """Slots drawn with probabilities in proportion to their weights, (n,); a slot of weight 0 is never drawn.

    Without replacement, each draw chooses among the slots that are left. This is done by sorting: each slot gets the
    key -log(u) / weight, where u is its random number, and the smallest keys come first (Efraimidis and Spirakis,
    Weighted random sampling with a reservoir, 2006). All draws of an epoch are computed when the first is asked for;
    those of the last two epochs are kept.

    Raises:
        SpecError: a weight is negative or not finite, or their sum is not finite; no weight is above 0; seed or count
            is invalid; or there are fewer weights above 0 than draws without replacement.
    """

    weights: npt.NDArray[np.float64]
    seed: int
    count: int
    replacement: bool = True
    _sums: npt.NDArray[np.float64] = field(init=False, repr=False)
    _latest: list[tuple[int, Indices]] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        settle(self, seed=(0, 2**64 - 1), count=(0, LARGEST_COUNT))
        weights = held_array("weights", self.weights, np.float64)
        for slot in np.flatnonzero(~((weights >= 0) & (weights < np.inf)))[:1].tolist():
            message = f"the weight of slot {slot} is {weights[slot]}: weights must be finite, and 0 or more"
            raise SpecError(message, slot=slot)
        possible = np.count_nonzero(weights)
        if not possible:
            raise SpecError("no slot has a weight above 0, so none can be drawn")
        if not self.replacement and self.count > possible:
            raise SpecError(
                f"{self.count:,} draws without replacement need as many weights above 0, there are {possible:,}: "
                "draw fewer, or with replacement"
            )
        with np.errstate(over="ignore"):
            sums = np.cumsum(weights)
        if sums[-1] == np.inf:
            raise SpecError("the sum of the weights is more than a float64 can hold: divide them all by the largest")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "_sums", sums)

    @property
    def n(self) -> int:
        """How many slots there are, including those of weight 0."""
        return self.weights.size

    @property
    def repeats(self) -> bool:
        """Whether a slot may be drawn again."""
        return self.replacement

    def draw(self, epoch: int, positions: Indices, /) -> Indices:
        """Return the slots at positions of an epoch; see `Order.draw`."""
        positions = checked_positions(positions, self.count)
        if not self.replacement:
            return self._all_of(epoch)[positions]
        total = self._sums[-1]
        # Slot k owns the interval from sum k - 1 to sum k of the cumulative sums; a number in [0, total) chooses one.
        aims = uniforms(key_of(self.seed, epoch, Purpose.WEIGHTED), positions) * total
        # The product may be rounded up to the total, which no slot owns: hence the minimum.
        last = np.searchsorted(self._sums, total)
        drawn: Indices = np.minimum(np.searchsorted(self._sums, aims, side="right"), last).astype(np.int64, copy=False)
        return drawn

    def _all_of(self, epoch: int) -> Indices:
        for latest, slots in self._latest:
            if latest == epoch:
                return slots
        slots = np.flatnonzero(self.weights)
        with np.errstate(over="ignore"):  # with a tiny weight the key may be infinite, and come last
            keys = -_logarithms(uniforms(key_of(self.seed, epoch, Purpose.WEIGHTED), slots)) / self.weights[slots]
        slots = slots[np.argsort(keys, kind="stable")[: self.count]]
        # Other threads see the list before or after this assignment. Two threads may sort the same epoch; that is only
        # slower.
        self._latest[:] = [*self._latest[-1:], (epoch, slots)]
        return slots

    def identity(self) -> str:
        """Return a text that identifies this order; see `Order.identity`."""
        again = "with" if self.replacement else "without"
        return f"weighted {again} replacement weights={array_digest(self.weights)} seed={self.seed} count={self.count}"


def balanced(labels: npt.ArrayLike, seed: int, *, count: int | None = None, replacement: bool = True) -> Weighted:
    """Return an order that draws all classes equally often on average, even if they have different numbers of slots.

    There is a label for each slot. A count of None means as many draws as slots. Without replacement, draws are
    balanced until all slots of a class are drawn.

    Raises:
        SpecError: labels do not have one axis.
    """
    classes = np.asarray(labels)
    if classes.ndim != 1:
        raise SpecError(f"balanced draws need one label for each slot, these labels have shape {classes.shape}")
    _, codes, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    return Weighted(1.0 / sizes[codes], seed, classes.size if count is None else count, replacement)


def _logarithms(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return natural logarithms of numbers in (0, 1), with the same bits on all machines.

    The last bit of np.log depends on the processor, and could swap two draws when a run moves to another machine. The
    operations here are rounded alike everywhere. With x = m × 2**e and m near 1, log(x) = log(m) + e × log(2), and
    log(m) is the series 2 (r + r³/3 + r⁵/5 + …) with r = (m - 1) / (m + 1), |r| < 0.172. Terms from r²³ on are too
    small to change the result.
    """
    parts, powers = np.frexp(values)
    low = parts < np.sqrt(0.5)
    parts, powers = np.where(low, parts * 2, parts), powers - low
    ratios = (parts - 1) / (parts + 1)
    squares = ratios * ratios
    series = np.zeros_like(ratios)
    for odd in range(21, 0, -2):
        series = series * squares + 1 / odd
    logarithms: npt.NDArray[np.float64] = 2 * ratios * series + powers * 0.6931471805599453
    return logarithms
