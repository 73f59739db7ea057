"""How batches are made. `BatchMaker` is the state of the worker threads; an `ImageBatch` is filled by them."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.augment import Augment
from arraystore._augmenting.fitting import augmented_column, check_sides
from arraystore._common.lazy import cached
from arraystore._common.ragged import Ragged, own_rows
from arraystore._kernels.copy_rows import gather
from arraystore._kernels.interleave import interleaved
from arraystore._ordering.order import Order
from arraystore._ordering.ranks import Share
from arraystore._reading.slot_arrays import Column, SlotArrays
from arraystore._workers.buffers import BufferPool
from arraystore._workers.pipeline import Batch
from arraystore.errors import DecodeError
from arraystore.spec import Layout

_PIECE_BYTES = 1 << 20  # smaller pieces cost more in locks than they gain
_DRAWN_POSITIONS = 8192  # a call of the order costs as much as a hundred positions, so it draws many batches at once
_MOST_IN_A_ROW = 1000  # slots without an image
_TRANSFORMED_IMAGES = 4  # of one piece: stopping a loader waits for so many calls of the user's function at most

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]


class PerImage:
    """A user's function of one image.

    Args:
        function: see `Loader`.
        planar: whether images come as (C, H, W).
    """

    def __init__(self, function: Callable[..., Any], *, planar: bool) -> None:
        self._function = function
        self._planar = planar
        try:
            self._seeded = "rng" in inspect.signature(function).parameters
        except (TypeError, ValueError):  # a builtin may have no signature
            self._seeded = False

    def __call__(self, image: Array, key: tuple[int, ...]) -> Array:
        """Return the function's result for a copy of an image; the key seeds its generator.

        Raises:
            TypeError: the result is no array of numbers.
        """
        copy = interleaved(image) if self._planar else np.array(image, order="C")
        options = {"rng": np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))} if self._seeded else {}
        result = self._function(copy, **options)
        array = np.asarray(result)
        if array.dtype.hasobject:
            raise TypeError(f"transform returned a {type(result).__name__}: it must return an array of numbers")
        return array


@dataclass(frozen=True)
class BatchMaker:
    """State for worker threads; it holds no reference to the `Loader`, so a loader can be freed while threads run.

    Attributes:
        slots: the slots to read.
        order: the slot of each position of an epoch.
        share: the positions of each batch.
        seed: of random augmentations.
        targets: the names of the targets in a batch.
        single: whether a batch is the images alone or a tuple with one target; otherwise it is a dict.
        augment: changes the images, or None.
        transform: a user's function of each image, or None.
        batch_transform: a user's function of each batch, or None.
        workers: how many threads fill.
    """

    slots: SlotArrays
    order: Order
    share: Share
    seed: int
    targets: tuple[str, ...]
    single: bool
    augment: Augment | None
    transform: PerImage | None
    batch_transform: Callable[[Any], Any] | None
    workers: int

    @cached
    def columns(self) -> dict[str, Column]:
        """Shape and dtype of one row of each array of a batch, by name; the images come first. Lists have none."""
        plain = [name for name in self.targets if name not in self.ragged]
        columns = {"images": self.augmented} | {name: self.slots.column(name) for name in plain}
        if self.order.count and (self.transform is not None or (self.augment is not None and self.augment.follow)):
            # The first image shows which array the user's function returns, and how masks shrink with the images.
            probe = ImageBatch(self, 0, first := np.zeros(1, np.int64), self.order.draw(0, first))
            probe.replace_failed(0, 1)
            if self.transform is not None:
                result = probe.transformed(0, self.transform)
                columns["images"] = result.shape, result.dtype
            moved = probe.followers(0, 1)
            columns |= {name: (moved[name].shape[1:], moved[name].dtype) for name in plain if name in moved}
        elif self.slots.differ:  # there is no image
            columns["images"] = tuple(side or 0 for side in self.augmented[0]), self.augmented[1]
        return columns

    @cached
    def ragged(self) -> frozenset[str]:
        """The names of the targets that are lists in a batch, an array for each image."""
        followed = self.slots.masks if self.augment is not None else ()  # they get the size of the images
        return frozenset(name for name in self.targets if self.slots.is_ragged(name) and name not in followed)

    @cached
    def augmented(self) -> Column:
        """Shape and dtype of an image after the augmentation, before the user's function; see `augmented_column`."""
        return augmented_column(self.slots, self.augment, self.layout, transforms=self.transform is not None)

    @property
    def layout(self) -> Layout:
        """The layout of the slots; NCHW if it is unknown."""
        return "NHWC" if self.slots.layout == "NHWC" else "NCHW"

    @cached
    def image_bytes(self) -> int:
        """Bytes of an image in a batch, at least 1."""
        shape, dtype = self.columns["images"]
        return max(math.prod(shape) * dtype.itemsize, 1)

    def drawn(self, epoch: int, start: int, first: int, stop: int) -> tuple[list[Index], Index]:
        """Draw the slots of some batches of an epoch that is read from a position on.

        Returns:
            the positions of each batch, and the slots of all of them, int64, (b,).
        """
        positions = [self.share.positions(number, start) for number in range(first, stop)]
        return positions, self.order.draw(epoch, np.concatenate(positions))

    def _each_drawn(self, epoch: int, start: int) -> Iterator[tuple[Index, Index]]:
        """Yield the positions and the slots of each batch of an epoch from a position on."""
        step = max(_DRAWN_POSITIONS // self.share.batch_size, 1)
        batches = self.share.batches(start)
        for first in range(0, batches, step):
            positions, slots = self.drawn(epoch, start, first, min(first + step, batches))
            ends = np.cumsum([len(each) for each in positions])
            yield from zip(positions, np.split(slots, ends[:-1]), strict=True)

    def upcoming(self, epoch: int, start: int) -> Iterator[Index]:
        """Yield the base numbers of the slots of each batch of an epoch from a position on."""
        return (self.slots.base(slots) for _, slots in self._each_drawn(epoch, start))

    def batches(
        self, epoch: int, start: int, pool: BufferPool, on_read: Callable[[Index], None] = lambda _base: None
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from a position on, to be filled.

        Args:
            epoch: its number.
            start: the position.
            pool: lends buffers for the `columns`.
            on_read: is called with the base numbers of a batch's slots (see `SlotArrays`) after they were read.
        """
        for number, (positions, slots) in enumerate(self._each_drawn(epoch, start)):
            about = f"batch {number} of epoch {epoch}" + (f" from position {start}" if start else "")
            batch = ImageBatch(self, epoch, positions, slots, pieces=self._pieces(len(slots)), about=about)
            batch.lend(pool.take(), on_read)
            yield batch

    def batch(
        self,
        epoch: int,
        number: int,
        pool: BufferPool,
        before_read: Callable[[Index], object],
        on_read: Callable[[Index], None],
    ) -> Any:
        """Make one batch of an epoch that is read from its beginning, in this thread.

        Args:
            epoch: its number.
            number: of the batch.
            pool: see `batches`.
            before_read: is called with the base numbers of the batch's slots before they are read.
            on_read: see `batches`.
        """
        (positions,), slots = self.drawn(epoch, 0, number, number + 1)
        batch = ImageBatch(self, epoch, positions, slots)
        before_read(batch.base)
        batch.lend(pool.take(), on_read)
        batch.fill(0, len(slots))
        return batch.finish()

    def _pieces(self, size: int) -> list[tuple[int, int]]:
        share = -(-size // self.workers)
        if self.transform is None:
            step = max(share, _PIECE_BYTES // self.image_bytes)
        else:
            step = min(share, _TRANSFORMED_IMAGES)
        return [(start, min(start + step, size)) for start in range(0, size, step)]


class ImageBatch(Batch):
    """The images and targets of some slots, gathered, augmented and transformed a piece at a time.

    Args:
        maker: of the batch.
        epoch: its number.
        positions: int64, (b,): positions in the epoch.
        slots: int64, (b,): the slots drawn there.
        pieces: see `Batch`.
        about: see `Batch`.

    Attributes:
        base: int64, (b,): the base numbers of the slots; see `SlotArrays`.
    """

    def __init__(
        self,
        maker: BatchMaker,
        epoch: int,
        positions: Index,
        slots: Index,
        *,
        pieces: Sequence[tuple[int, int]] = (),
        about: str = "",
    ) -> None:
        super().__init__(pieces, about)
        self._maker = maker
        self._epoch = epoch
        self._positions = positions
        base = maker.slots.base(slots)
        self.base = base.copy() if maker.slots.may_fail else base  # others may take the places of some
        # If an order can draw a slot twice, the position tells the draws apart.
        self._draws = positions if maker.order.repeats else None
        # Where slots differ, and others may take their places, each piece is sampled when its slots are known.
        is_late = maker.slots.differ and maker.slots.may_fail
        self._geometry = None if is_late else self._sample(0, len(self.base))
        self._arrays: dict[str, Any] = {}
        self._on_read: Callable[[Index], None] = lambda _base: None

    def lend(self, arrays: Mapping[str, Array], on_read: Callable[[Index], None]) -> None:
        """Give it the arrays to fill, with at least as many rows as there are slots; see `BatchMaker.batches`."""
        size = len(self.base)
        whole = size == self._maker.share.batch_size
        lent = arrays if whole else {name: array[:size] for name, array in arrays.items()}
        names = ("images", *self._maker.targets)
        self._arrays = {name: lent[name] if name in lent else [None] * size for name in names}
        self._on_read = on_read

    def _sample(self, start: int, stop: int) -> Any:
        """Sample the geometry of some rows; None without an augmentation.

        Raises:
            SpecError: a slot is smaller than the crop.
        """
        maker, augment, base = self._maker, self._maker.augment, self.base[start:stop]
        if augment is None:
            return None
        sides = maker.slots.sides_of(base) if maker.slots.differ else None
        if sides is not None:
            check_sides(augment.crop, base, sides)
        return augment.sample(
            base,
            seed=maker.seed,
            epoch=self._epoch,
            draws=None if self._draws is None else self._draws[start:stop],
            slot_shape=maker.slots.slot_shape,
            layout=maker.layout,
            sides=sides,
        )

    def _windows(self, start: int, stop: int) -> Any:
        return self._sample(start, stop) if self._geometry is None else self._geometry[start:stop]

    def fill(self, start: int, stop: int) -> None:
        """Fill a range of rows."""
        maker, images = self._maker, self._arrays["images"]
        self.replace_failed(start, stop)
        if maker.transform is None:
            self._gather_images(start, stop, images[start:stop])
        else:
            for row in range(start, stop):
                result = self.transformed(row, maker.transform)
                shape, dtype = maker.columns["images"]
                if (result.shape, result.dtype) != (shape, dtype):
                    raise ValueError(
                        f"transform returned {result.dtype} of shape {result.shape} for slot {self.base[row]}, and "
                        f"{dtype} of {shape} for the first: a batch needs them alike"
                    )
                images[row] = result
        moved = self.followers(start, stop)
        for name in maker.targets:
            if name in maker.ragged:
                self._arrays[name][start:stop] = moved[name] if name in moved else self._rows(name, start, stop)
            elif name in moved:
                self._arrays[name][start:stop] = moved[name]
            else:
                self._gather_target(name, start, stop, self._arrays[name][start:stop])

    def replace_failed(self, start: int, stop: int) -> None:
        """Let the slots of the next positions take the places of slots that turn out to have no image.

        Which slots these are depends on the sources alone, so a batch is the same for any number of threads and ranks.

        Raises:
            DecodeError: a great many slots in a row have none.
        """
        slots, order = self._maker.slots, self._maker.order
        if not slots.may_fail:
            return
        base, at = self.base[start:stop].copy(), self._positions[start:stop].copy()
        failed = np.flatnonzero(slots.failed(base))
        for _ in range(min(order.count, _MOST_IN_A_ROW)):
            if not failed.size:
                self.base[start:stop] = base
                return
            at[failed] = (at[failed] + 1) % order.count
            base[failed] = slots.base(order.draw(self._epoch, at[failed]))
            failed = failed[slots.failed(base[failed])]
        raise DecodeError(
            f"the images of {_MOST_IN_A_ROW:,} slots in a row could not be stored, or none at all: is this the right "
            "source?"
        )

    def finish(self) -> Any:
        """Return the batch as the user gets it."""
        maker = self._maker
        self._on_read(self.base)
        batch: Any = self._arrays
        if maker.single:
            images, *targets = self._arrays.values()
            batch = (images, *targets) if targets else images
        return batch if maker.batch_transform is None else maker.batch_transform(batch)

    def image(self, row: int) -> Array:
        """Return a copy of one image, augmented."""
        maker = self._maker
        shape, dtype = maker.augmented
        if None in shape:
            height, width = maker.slots.sides_of(self.base[row : row + 1])[0].tolist()
            shape = (shape[0], height, width) if shape[0] is not None else (height, width, shape[2])
        image: Array = np.empty((1, *shape), dtype)
        self._gather_images(row, row + 1, image)
        first: Array = image[0]
        return first

    def transformed(self, row: int, transform: PerImage) -> Array:
        """Return the result of the user's function for one image."""
        draw = 0 if self._draws is None else int(self._draws[row])
        try:
            return transform(self.image(row), (self._maker.seed, self._epoch, int(self.base[row]), draw))
        except Exception as error:
            error.add_note(f"transform was called with slot {self.base[row]}")
            raise

    def followers(self, start: int, stop: int) -> dict[str, Any]:
        """Return the targets of some rows that follow the geometry of the images, after the same moves."""
        maker, augment = self._maker, self._maker.augment
        if augment is None or not augment.follow:
            return {}
        values: dict[str, Any] = {}
        for name in maker.targets:
            if name in augment.follow and maker.slots.is_ragged(name):
                values[name] = maker.slots.list_rows(self.base[start:stop], name)
            elif name in augment.follow:
                shape, dtype = maker.slots.column(name)
                values[name] = np.empty((stop - start, *shape), dtype)
                self._gather_target(name, start, stop, values[name])
        moved = augment.follow_geometry(
            values,
            self._windows(start, stop),
            slot_shape=maker.slots.slot_shape,
            layout=maker.layout,
            outside=maker.slots.masks,
        )
        return {name: own_rows(rows) if isinstance(rows, Ragged) else rows for name, rows in moved.items()}

    def _rows(self, name: str, start: int, stop: int) -> list[Array]:
        """Return the rows of a ragged target as arrays that belong to the batch."""
        return own_rows(self._maker.slots.list_rows(self.base[start:stop], name))

    def _gather_images(self, start: int, stop: int, out: Array) -> None:
        """Copy the images of some rows, augmented."""
        slots, augment = self._maker.slots, self._maker.augment
        chosen = slots.chosen_rows(self.base[start:stop])
        if augment is None:
            gather(chosen, out)
            return
        geometry = self._windows(start, stop)
        mean, std, layout = slots.mean or None, slots.std or None, self._maker.layout
        for array, rows, at in chosen:
            windows = geometry if at is None else geometry[at]
            augment.apply(array, rows, windows, out, layout=layout, mean=mean, std=std, out_rows=at)

    def _gather_target(self, name: str, start: int, stop: int, out: Array) -> None:
        gather(self._maker.slots.chosen_rows(self.base[start:stop], name), out)
