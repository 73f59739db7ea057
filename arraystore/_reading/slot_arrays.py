"""What is read: the slots of one store, of several, of a part of them, or of an array that something else has made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
import numpy.typing as npt

from arraystore._format.specification import STORED
from arraystore._kernels.copy_rows import Place, gather
from arraystore._reading.cache import Cache
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import SpecError, StoreError

if TYPE_CHECKING:
    from arraystore._reading.loader import Loader, LoaderOptions

__all__ = ["Slots"]

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]


class Slots:
    """A sequence of slots to read, with their targets.

    A `Store` is one; ``store[chosen]`` is one, and so are `concatenate` of several, and what `open` returns for an
    array that something else has made. ``slots[3]`` is an image with its label, or without if there are no labels;
    ``slots[2:9]``, ``slots[[5, 1]]`` and ``slots[mask]`` are the `Slots` of that choice: nothing is copied.

    Attributes:
        chosen: int64, (n,): the slots of the parts, counted through them, that these are; None for all.
        layout: ``"NCHW"``, ``"NHWC"``, or ``""`` where the slots are no images.
        categories: name of a target → the names of its codes.
        mean: each channel's mean, 0 to 255; empty where unknown. A choice of slots has that of the whole.
        std: each channel's standard deviation, likewise.
        cache: what is kept in RAM of the images, or None.
    """

    def __init__(  # noqa: PLR0913 - it is what a reader has to know
        self,
        parts: Sequence[SlotArray],
        *,
        chosen: Index | None = None,
        layout: str = "",
        categories: Mapping[str, tuple[str, ...]] | None = None,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        cache: Cache | None = None,
    ) -> None:
        self._parts = tuple(parts)
        self.chosen = chosen
        self.layout = layout
        self.categories: Mapping[str, tuple[str, ...]] = categories or {}
        self.mean = mean
        self.std = std
        self.cache = cache
        self._calls = 0

    def __len__(self) -> int:
        return int(self._starts[-1]) if self.chosen is None else len(self.chosen)

    @property
    def parts(self) -> tuple[SlotArray, ...]:
        """The arrays that together are axis 0.

        Raises:
            StoreError: the store was closed.
        """
        if not self._parts:
            raise StoreError("the store was closed: open it again to read it")
        return self._parts

    @property
    def slot_shape(self) -> tuple[int, ...]:
        """The shape of one slot."""
        return self.parts[0].images.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a pixel: uint8 in every store."""
        return self.parts[0].images.dtype

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of the targets."""
        return tuple(self.parts[0].targets)

    def target(self, name: str) -> Array:
        """Return a target's array, axis 0 = these slots; a copy, unless it is a whole part's.

        Raises:
            SpecError: there is no such target.
        """
        self.check_target(name)
        if self.chosen is None and len(self.parts) == 1:
            return self.parts[0].targets[name]
        return self.take(np.arange(len(self)), name)

    @property
    def labels(self) -> Array | None:
        """The main target, (n,), int64 codes where there are classes; None where the sources have no labels."""
        return self.target("labels") if "labels" in self.target_names else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels' codes, code 0 first; empty where labels are numbers, or there are none."""
        return self.categories.get("labels", ())

    def unreadable(self) -> Index:
        """Return the slots that hold no image, ascending: those that failed, or of a build that is not finished."""
        none: Index = np.empty(0, np.int64)
        if all(part.status is None for part in self.parts):
            return none
        bad = [
            none if part.status is None else start + np.flatnonzero(np.asarray(part.status) != STORED)
            for part, start in zip(self.parts, self._starts.tolist(), strict=False)
        ]
        slots = np.concatenate(bad)
        return slots if self.chosen is None or slots.size == 0 else np.flatnonzero(np.isin(self.chosen, slots))

    def check_target(self, name: str) -> None:
        """Raise an error if there is no such target.

        Raises:
            SpecError: there is none.
        """
        if name not in self.target_names:
            names = ", ".join(map(repr, self.target_names)) or "none"
            raise SpecError(f"there is no target {name!r}: the targets are {names}")

    def take(self, slots: npt.ArrayLike, name: str | None = None, *, out: Array | None = None) -> Array:
        """Gather slots, or what a target says of them.

        Args:
            slots: integers, (k,), from 0 on, or one; negative ones are not counted from the end.
            name: a target; None for the images.
            out: (k, *slot_shape), C-order, writable, of the same type, to write into; None for a new array.

        Returns:
            ``out``.

        Raises:
            SpecError: a slot or a target does not exist, or ``out`` does not fit.
        """
        wanted = _numbers(np.asarray(slots).reshape(-1), 0, len(self))
        if name is not None:
            self.check_target(name)
        first = self.parts[0].images if name is None else self.parts[0].targets[name]
        shape = (wanted.size, *first.shape[1:])
        if out is None:
            out = np.empty(shape, first.dtype)
        elif (out.shape, out.dtype) != (shape, first.dtype):
            raise SpecError(
                f"out must be an array of {first.dtype} and shape {shape}, not of {out.dtype} and {out.shape}"
            )
        elif not (out.flags.c_contiguous and out.flags.writeable):
            raise SpecError("out must be writable and in C order: pass a whole array, such as np.empty makes")
        gather(self.places(self.base(wanted), name), out)
        return out

    def base(self, slots: Index) -> Index:
        """Return where these slots lie, counted through the parts: the number that a slot has in every choice."""
        return slots if self.chosen is None else self.chosen[slots]

    def places(self, base: Index, name: str | None = None) -> Iterator[Place]:
        """Return where slots of the parts (see `base`) lie, an array at a time.

        Yields:
            an array, the rows of it, and which of the slots those are; None for all of them, in order.
        """
        if name is None and self.cache is not None:
            yield from self.cache.places(base, self._on_parts)
        else:
            yield from self._on_parts(base, name)

    def _on_parts(self, base: Index, name: str | None = None) -> Iterator[Place]:
        for number, rows, at in self.split(base):
            part = self.parts[number]
            # A plain array: indexing a np.memmap makes a np.memmap each time, which takes longer than a small copy.
            yield np.asarray(part.images if name is None else part.targets[name]), rows, at

    def split(self, base: Index) -> Iterator[tuple[int, Index, Index | None]]:
        """Return in which parts slots lie.

        Yields:
            the number of a part, the rows of it, and which of the slots those are; None for all of them, in order.
        """
        if len(self.parts) == 1:
            yield 0, base, None
            return
        owner = np.searchsorted(self._starts, base, "right") - 1
        for number in np.unique(owner).tolist():
            at = np.flatnonzero(owner == number)
            yield number, base[at] - self._starts[number], at

    @cached_property
    def _starts(self) -> Index:
        return np.cumsum([0, *(len(part.images) for part in self.parts)], dtype=np.int64)

    def choose(self, chosen: Any) -> Slots:
        """Return the `Slots` that a slice, a mask or a list of slots chooses, in that order; nothing is copied.

        Raises:
            SpecError: it chooses a slot that does not exist, or cannot choose slots.
        """
        if isinstance(chosen, slice):
            slots = np.arange(*chosen.indices(len(self)), dtype=np.int64)
        else:
            wanted = np.asarray(chosen)
            if wanted.dtype == bool and wanted.shape == (len(self),):
                slots = np.flatnonzero(wanted)
            elif wanted.ndim == 1 and (wanted.size == 0 or wanted.dtype.kind in "iu"):
                slots = _numbers(wanted, -len(self), len(self))
                slots = np.where(slots < 0, slots + len(self), slots)
            else:
                raise SpecError(
                    f"slots are chosen by a slice, a mask of {len(self):,}, or a list of integers, not by "
                    f"{wanted.dtype} of shape {wanted.shape}"
                )
        return self._with(chosen=self.base(slots))

    def loader(self, batch_size: int = 256, **options: Unpack[LoaderOptions]) -> Loader:
        """Return a `Loader` of these slots, which says what the options are.

            >>> for images, labels in store.loader(256, seed=1):  # doctest: +SKIP
            ...     train(images, labels)

        Raises:
            SpecError: an option cannot be, or does not go with another or with the slots.
            SpaceError: there is not enough memory for the cache.
        """
        from arraystore._reading.loader import Loader  # noqa: PLC0415 - it reads slots, so it cannot come before them

        return Loader(self, batch_size, **options)

    def batches(
        self, batch_size: int = 128, *, epoch: int | None = None, **options: Unpack[LoaderOptions]
    ) -> Iterator[Any]:
        """Iterate over one epoch of a `Loader`, as a plain training loop does.

            >>> for epoch in range(10):  # doctest: +SKIP
            ...     for images, labels in store.batches(128, shuffle=True):
            ...         train(images, labels)

        Args:
            batch_size: how many images a batch has.
            epoch: which; None for one more than in the last call, from 0 on.
            options: see `Loader`; slots are not shuffled unless that is asked for.

        Raises:
            SpecError: see `loader`.
            SpaceError: likewise.
        """
        if epoch is None:
            epoch, self._calls = self._calls, self._calls + 1
        loader = self.loader(batch_size, **({"shuffle": False} | options))
        loader.set_epoch(epoch)
        return iter(loader)

    def load(self, budget: int | str | None = None) -> Slots:
        """Copy slots into RAM, once, from the first on, as many as fit; the rest is still read where it lies.

        Args:
            budget: bytes of RAM, or a text such as ``"8 GB"``; None for all slots.

        Raises:
            SpecError: the budget cannot be understood.
            SpaceError: there is not as much memory.
        """
        cache = Cache(self, budget)
        cache.fill(self)
        return self._with(chosen=self.chosen, cache=cache)

    def cached(self, budget: int | str | None = None) -> Slots:
        """Return these slots with a cache in RAM that keeps what is read first, as much as fits.

        Args:
            budget: see `load`.

        Raises:
            SpecError: the budget cannot be understood.
            SpaceError: there is not as much memory.
        """
        return self._with(chosen=self.chosen, cache=Cache(self, budget))

    def same(self) -> Slots:
        """Return these slots once more; they stay readable when a store that they are from is closed."""
        return self._with(chosen=self.chosen)

    def _with(self, *, chosen: Index | None, cache: Cache | None = None) -> Slots:
        return Slots(
            self.parts,
            chosen=chosen,
            layout=self.layout,
            categories=self.categories,
            mean=self.mean,
            std=self.std,
            cache=self.cache if cache is None else cache,
        )

    @overload
    def __getitem__(self, chosen: int) -> Any: ...
    @overload
    def __getitem__(self, chosen: slice | Sequence[int] | Array) -> Slots: ...
    def __getitem__(self, chosen: Any) -> Any:
        if not isinstance(chosen, int | np.integer):
            return self.choose(chosen)
        slot = int(chosen) + (len(self) if chosen < 0 else 0)
        if not 0 <= slot < len(self):
            raise IndexError(f"slot {chosen} of {len(self):,}")
        image = self.take([slot])[0]
        return (image, self.take([slot], "labels")[0]) if "labels" in self.target_names else image

    def __getstate__(self) -> dict[str, Any]:
        # Another process has its own memory, so a cache stays here.
        return {name: value for name, value in self.__dict__.items() if name != "_starts"} | {"cache": None}

    def __repr__(self) -> str:
        shape = " x ".join(map(str, (len(self), *self.slot_shape)))
        return f"<arraystore.Slots {shape} {self.dtype} {self.layout}".rstrip() + ">"


def _numbers(slots: Array, low: int, stop: int) -> Index:
    """Return slots as int64, none of which is changed by that."""
    if slots.size == 0:
        return np.empty(0, np.int64)
    if slots.dtype.kind not in "iu":
        raise SpecError(f"slots must be integers, not {slots.dtype}")
    least, most = int(slots.min()), int(slots.max())
    if least < low or most >= stop:
        raise SpecError(f"slots must be {low:,} to {stop - 1:,}, not {least:,} to {most:,}")
    return slots.astype(np.int64, copy=False)
