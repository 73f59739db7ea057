"""How a loader's batches are made: everything that its threads need, and nothing that would keep the loader alive."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from arraystore._kernels.copy_rows import gather
from arraystore._ordering.order import Order
from arraystore._ordering.ranks import Share
from arraystore._reading.buffers import Leases
from arraystore._reading.pipeline import Making
from arraystore._reading.slot_arrays import Slots
from arraystore.spec import Layout

if TYPE_CHECKING:
    from arraystore._augmenting.augment import Augment
    from arraystore._augmenting.crops import Geometry

__all__ = ["Column", "PerImage", "Recipe"]

_PIECE_BYTES = 1 << 20
_DRAWN_AT_ONCE = 8192
_TRANSFORMED_AT_ONCE = 4  # who stops a loader waits for so many calls of the user's function, at most

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Column = tuple[tuple[int, ...], np.dtype[Any]]


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
        """Return what the function makes of a copy of an image; the key seeds its generator."""
        copy = np.array(image.transpose(1, 2, 0) if self._planar else image, order="C")
        options = {"rng": np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))} if self._seeded else {}
        result = self._function(copy, **options)
        array = np.asarray(result)
        if array.dtype.hasobject:
            raise TypeError(f"transform returned a {type(result).__name__}: it must return an array of numbers")
        return array


@dataclass(frozen=True)
class Recipe:
    """What batches are made of.

    Attributes:
        slots: where they are read.
        order: which slots, by position.
        share: which positions, by batch.
        seed: of what is random in augmentations.
        targets: their names.
        single: whether a batch is the images alone, or a tuple with the one target; otherwise it is a dict.
        augment: what is done to the images, or None.
        transform: likewise, by a user's function.
        batch_transform: what is done to a batch, or None.
        workers: how many threads fill.
    """

    slots: Slots
    order: Order
    share: Share
    seed: int
    targets: tuple[str, ...]
    single: bool
    augment: Augment | None
    transform: PerImage | None
    batch_transform: Callable[[Any], Any] | None
    workers: int

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Shape and type of what a batch has of one image: name → column, the images' first."""
        columns = {"images": self.augmented}
        for name in self.targets:
            array = self.slots.parts[0].targets[name]
            columns[name] = (array.shape[1:], array.dtype)
        if self.order.count and (self.transform is not None or (self.augment is not None and self.augment.follow)):
            # What a user's function returns is known once it has been called, and masks may shrink with the images.
            first = np.zeros(1, np.int64)
            work = _Work.of(self, 0, first, self.order.draw(0, first))
            if self.transform is not None:
                result = work.transformed(0, self.transform)
                columns["images"] = result.shape, result.dtype
            columns |= {name: (moved.shape[1:], moved.dtype) for name, moved in work.followers(0, 1).items()}
        return columns

    @cached_property
    def augmented(self) -> Column:
        """Shape and type of an image before the user's function has it."""
        if self.augment is None:
            return self.slots.slot_shape, self.slots.dtype
        return self.augment.output(self.slots.slot_shape, self.layout)

    @property
    def layout(self) -> Layout:
        """The slots'; where it is not known, and has to be, planes."""
        return "NHWC" if self.slots.layout == "NHWC" else "NCHW"

    @cached_property
    def image_bytes(self) -> int:
        """Bytes of an image in a batch, at least 1."""
        shape, dtype = self.columns["images"]
        return max(math.prod(shape) * dtype.itemsize, 1)

    def drawn(self, epoch: int, start: int, first: int, stop: int) -> tuple[list[Index], Index]:
        """Return what some batches draw of an epoch that is read from a position on.

        Returns:
            the positions of each batch, and the slots of all, int64, (b,).
        """
        positions = [self.share.positions(number, start) for number in range(first, stop)]
        return positions, self.order.draw(epoch, np.concatenate(positions))

    def draws(self, epoch: int, start: int) -> Iterator[tuple[Index, Index]]:
        """Yield the positions and the slots of each batch of an epoch from a position on."""
        # The order is asked for many batches at once: a call costs as much as a hundred positions.
        at_once = max(_DRAWN_AT_ONCE // self.share.batch_size, 1)
        batches = self.share.batches(start)
        for first in range(0, batches, at_once):
            positions, slots = self.drawn(epoch, start, first, min(first + at_once, batches))
            ends = np.cumsum([len(each) for each in positions])
            yield from zip(positions, np.split(slots, ends[:-1]), strict=True)

    def makings(
        self, epoch: int, start: int, leases: Leases, done: Callable[[Index], None] = lambda _base: None
    ) -> Iterator[Making]:
        """Yield the batches of an epoch from a position on.

        Args:
            epoch: which.
            start: the position.
            leases: of buffers with the `columns`.
            done: is called with the slots of each batch (see `Slots.base`) when they have been read.
        """
        for number, (positions, slots) in enumerate(self.draws(epoch, start)):
            work = _Work.of(self, epoch, positions, slots)
            made = _Batch(work, leases.take(), done)
            about = f"batch {number} of epoch {epoch}" + (f" from position {start}" if start else "")
            yield Making(self._pieces(work.size), made.fill, made.finish, about)

    def batch(
        self, epoch: int, number: int, leases: Leases, read: Callable[[Index], object], done: Callable[[Index], None]
    ) -> Any:
        """Make a batch of an epoch that is read from its beginning, in this thread.

        Args:
            epoch: which.
            number: of the batch.
            leases: see `makings`.
            read: is called with the slots of the batch (see `Slots.base`) before they are read.
            done: see `makings`.

        Returns:
            the batch.

        Raises:
            SpecError: there is no batch of this number.
        """
        (positions,), slots = self.drawn(epoch, 0, number, number + 1)
        work = _Work.of(self, epoch, positions, slots)
        read(work.base)
        made = _Batch(work, leases.take(), done)
        made.fill(0, work.size)
        return made.finish()

    def _pieces(self, size: int) -> list[tuple[int, int]]:
        share = -(-size // self.workers)
        if self.transform is None:
            step = max(share, _PIECE_BYTES // self.image_bytes)
        else:
            step = min(share, _TRANSFORMED_AT_ONCE)
        return [(start, min(start + step, size)) for start in range(0, size, step)]


@dataclass(frozen=True, slots=True)
class _Work:
    """The images of one batch, and what is done to each.

    Attributes:
        recipe: of the batch.
        epoch: which.
        base: int64, (b,): the slots; see `Slots.base`.
        draws: int64, (b,): the positions where a slot may be drawn twice, otherwise None.
        geometry: which window each shows, or None.
    """

    recipe: Recipe
    epoch: int
    base: Index
    draws: Index | None
    geometry: Geometry | None

    @classmethod
    def of(cls, recipe: Recipe, epoch: int, positions: Index, slots: Index) -> _Work:
        base = recipe.slots.base(slots)
        draws = positions if recipe.order.repeats else None
        geometry = None
        if recipe.augment is not None:
            shape = recipe.slots.slot_shape
            geometry = recipe.augment.sample(
                base, seed=recipe.seed, epoch=epoch, draws=draws, slot_shape=shape, layout=recipe.layout
            )
        return cls(recipe, epoch, base, draws, geometry)

    @property
    def size(self) -> int:
        return len(self.base)

    def key(self, row: int) -> tuple[int, ...]:
        return self.recipe.seed, self.epoch, int(self.base[row]), 0 if self.draws is None else int(self.draws[row])

    def images(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Gather the images of some rows, augmented."""
        shape, dtype = self.recipe.augmented
        out = np.empty((stop - start, *shape), dtype) if out is None else out
        places = self.recipe.slots.places(self.base[start:stop])
        if self.recipe.augment is None or self.geometry is None:
            gather(places, out)
        else:
            slots, layout = self.recipe.slots, self.recipe.layout
            geometry = self.geometry[start:stop]
            for array, rows, at in places:
                shown = geometry if at is None else geometry[at]
                self.recipe.augment.apply(
                    array, rows, shown, out, layout=layout, mean=slots.mean or None, std=slots.std or None, out_rows=at
                )
        return out

    def transformed(self, row: int, transform: PerImage) -> Array:
        """Return what the user's function makes of one image."""
        try:
            return transform(self.images(row, row + 1)[0], self.key(row))
        except Exception as error:
            error.add_note(f"transform was called with slot {self.base[row]}")
            raise

    def followers(self, start: int, stop: int) -> dict[str, Array]:
        """Gather the targets of some rows that follow the geometry of the images, moved with them."""
        augment, slots = self.recipe.augment, self.recipe.slots
        if augment is None or self.geometry is None or not augment.follow:
            return {}
        values = {name: self.target(name, start, stop) for name in self.recipe.targets if name in augment.follow}
        geometry = self.geometry[start:stop]
        return augment.follow_geometry(values, geometry, slot_shape=slots.slot_shape, layout=self.recipe.layout)

    def target(self, name: str, start: int, stop: int, out: Array | None = None) -> Array:
        """Gather what a target says of some rows."""
        array = self.recipe.slots.parts[0].targets[name]
        out = np.empty((stop - start, *array.shape[1:]), array.dtype) if out is None else out
        gather(self.recipe.slots.places(self.base[start:stop], name), out)
        return out


class _Batch:
    """A batch that threads fill a piece at a time."""

    def __init__(self, work: _Work, lent: dict[str, Array], done: Callable[[Index], None]) -> None:
        self._work = work
        self._done = done
        self._arrays = lent
        if work.size < work.recipe.share.batch_size:
            self._arrays = {name: array[: work.size] for name, array in lent.items()}

    def fill(self, start: int, stop: int) -> None:
        work, images = self._work, self._arrays["images"]
        transform = work.recipe.transform
        if transform is None:
            work.images(start, stop, images[start:stop])
        else:
            for row in range(start, stop):
                result = work.transformed(row, transform)
                if (result.shape, result.dtype) != work.recipe.columns["images"]:
                    shape, dtype = work.recipe.columns["images"]
                    raise ValueError(
                        f"transform returned {result.dtype} of shape {result.shape} for slot {work.base[row]}, and "
                        f"{dtype} of {shape} for the first: a batch needs them alike"
                    )
                images[row] = result
        moved = work.followers(start, stop)
        for name in work.recipe.targets:
            rows = self._arrays[name][start:stop]
            if name in moved:
                rows[...] = moved[name]
            else:
                work.target(name, start, stop, rows)

    def finish(self) -> Any:
        recipe, arrays = self._work.recipe, self._arrays
        self._done(self._work.base)
        batch: Any = arrays
        if recipe.single:
            images, *targets = arrays.values()
            batch = (images, *targets) if targets else images
        return batch if recipe.batch_transform is None else recipe.batch_transform(batch)
