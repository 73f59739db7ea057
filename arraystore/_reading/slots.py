"""What users read from: the slots of one store, of several, of a choice, or of an array from another program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Unpack, overload

import numpy as np
import numpy.typing as npt

from arraystore._common.options import public, shows_options
from arraystore._common.wording import shape_text
from arraystore._reading.loader import Loader, Named, Pair
from arraystore._reading.options import BatchSize, Common, LoaderOptions, One, Several
from arraystore._reading.slot_arrays import Array, HasSlots, Index, SlotArrays
from arraystore._sequences.lazy import Lazy, LazyMethods, concatenated
from arraystore._sequences.step import Step
from arraystore._sequences.steps import Root
from arraystore.errors import SpecError, StoreError


@public
class Slots(LazyMethods):
    """A sequence of slots to read, with their targets.

    A `Store` is one. ``store[chosen]``, `concatenate` and `arraystore.open_array` make others; do not make one
    directly. ``slots[3]`` is an image with its label, or the image alone if there are no labels. ``slots[2:9]``,
    ``slots[[5, 1]]`` and ``slots[mask]`` are the `Slots` of that choice: nothing is copied. They stay readable when
    the store is closed.

    The methods of lazy sequences (`map`, `zip`, `batch` and so on, see docs/lazy.md) take the items that ``slots[i]``
    gives.

    Attributes:
        layout: ``"NCHW"``, ``"NHWC"``, or ``""`` if the slots are no images.
        categories: name of a target → the names of its codes.
        mean: each channel's mean, 0 to 255; empty if unknown. A choice of slots keeps the mean of all slots.
        std: each channel's standard deviation; empty if unknown.
    """

    def __init__(self, slots: SlotArrays) -> None:
        self._slots: SlotArrays | None = slots
        self.layout: str = slots.layout
        self.categories: Mapping[str, tuple[str, ...]] = slots.categories
        self.mean: tuple[float, ...] = slots.mean
        self.std: tuple[float, ...] = slots.std
        self._epochs = 0

    @property
    def __slot_arrays__(self) -> SlotArrays:
        """Where the slots lie; for loaders and adapters."""
        if self._slots is None:
            raise StoreError("the store was closed: open it again to read it")
        return self._slots

    @property
    def __lazy_step__(self) -> Step:
        """The slots as the first step of a lazy sequence; they stay readable when the store is closed."""
        return Root(Slots(self.__slot_arrays__), "slots", "")

    def __source_name__(self, slot: int) -> str:
        """Return the name of the source of a slot; "" where it is not known."""
        return self.__slot_arrays__.source_name(slot)

    def __len__(self) -> int:
        return len(self.__slot_arrays__)

    @property
    def slot_shape(self) -> tuple[Any, ...]:
        """The shape of one slot; None for height and width where slots differ in these (see `sides`)."""
        return self.__slot_arrays__.slot_shape

    @property
    def sides(self) -> Index:
        """Height and width of each slot in pixels: int64, (n, 2); zeros of a slot without an image, where they differ.

        They differ in stores that were built with ``fit="keep"``.

        Raises:
            SpecError: the slots are no images with channels.
            FormatError: the store is damaged.
        """
        slots = self.__slot_arrays__
        return slots.sides_of(slots.base(np.arange(len(slots))))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels: uint8 in every store."""
        return self.__slot_arrays__.dtype

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of the targets."""
        return self.__slot_arrays__.target_names

    def target(self, name: str) -> Any:
        """Return a target, an array or a `Ragged` of one row per slot; a copy, unless these are all slots of one array.

        Raises:
            SpecError: there is no such target.
        """
        return self.__slot_arrays__.target(name)

    @property
    def labels(self) -> Array | None:
        """The main target, (n,), int64 codes if there are classes; None if the sources have no labels.

        It is a `Ragged` where each image has any number of labels.
        """
        return self.target("labels") if "labels" in self.target_names else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels' codes, code 0 first; empty if labels are numbers, or if there are none."""
        return self.categories.get("labels", ())

    def unreadable(self) -> Index:
        """Return the slots without an image, ascending: failed slots, and slots that an unfinished build lacks."""
        return self.__slot_arrays__.unreadable(found=True)

    def take(self, slots: npt.ArrayLike, name: str | None = None, *, out: Array | None = None) -> Array:
        """Gather slots, or the rows of a target for these slots.

        Args:
            slots: integers, (k,), or one integer, from 0 to ``len - 1``; negative numbers are refused.
            name: a target; None for the images.
            out: (k, *slot_shape), C-order, writable, same dtype, to write into; None for a new array. Slots that differ
                in height and width can be gathered only if those that are named here do not.

        Returns:
            ``out``, or the new array; a new `Ragged` if the target is ragged.

        Raises:
            SpecError: a slot or a target does not exist, ``out`` does not fit, or the slots differ in height and width.
            FormatError: the JPEG of a slot of an encoded store is damaged; the error has the slot.
        """
        taken: Array = self.__slot_arrays__.take(slots, name, out=out)
        return taken

    def encoded(self, slot: int) -> memoryview:
        """Return the JPEG that a slot of an encoded store is kept as.

        Args:
            slot: from 0 to ``len - 1``; negative numbers are refused.

        Returns:
            Its bytes, read-only; empty if the slot has no image. They are a part of the store's file or array, and
            stay valid when the store is closed.

        Raises:
            SpecError: there is no such slot, or the store keeps pixels, as it does without the option ``encode``.
            FormatError: the store is damaged: the JPEG is missing, or would lie outside its file.
        """
        return self.__slot_arrays__.encoded(slot)

    @overload
    def loader(self, batch_size: BatchSize = ..., *, targets: One = ..., **options: Unpack[Common]) -> Loader[Pair]: ...
    @overload
    def loader(
        self, batch_size: BatchSize = ..., *, targets: tuple[()], **options: Unpack[Common]
    ) -> Loader[Array]: ...
    @overload
    def loader(self, batch_size: BatchSize = ..., *, targets: Several, **options: Unpack[Common]) -> Loader[Named]: ...
    @overload
    def loader(self, batch_size: BatchSize = ..., **options: Unpack[LoaderOptions]) -> Loader[Any]: ...
    @shows_options(LoaderOptions)
    def loader(self, batch_size: BatchSize = 256, **options: Unpack[LoaderOptions]) -> Loader[Any]:
        """Return a `Loader` of these slots, which documents the options.

            >>> for images, labels in store.loader(256, seed=1):  # doctest: +SKIP
            ...     train(images, labels)

        Raises:
            SpecError: an option is invalid, or does not go with another option or with the slots.
            SpaceError: there is not enough free memory for the cache.
        """
        return Loader(self, batch_size, **options)

    @overload
    def batches(
        self, batch_size: BatchSize = ..., *, epoch: int | None = ..., targets: One = ..., **options: Unpack[Common]
    ) -> Iterator[Pair]: ...
    @overload
    def batches(
        self, batch_size: BatchSize = ..., *, epoch: int | None = ..., targets: tuple[()], **options: Unpack[Common]
    ) -> Iterator[Array]: ...
    @overload
    def batches(
        self, batch_size: BatchSize = ..., *, epoch: int | None = ..., targets: Several, **options: Unpack[Common]
    ) -> Iterator[Named]: ...
    @overload
    def batches(
        self, batch_size: BatchSize = ..., *, epoch: int | None = ..., **options: Unpack[LoaderOptions]
    ) -> Iterator[Any]: ...
    @shows_options(LoaderOptions, shuffle=False)
    def batches(
        self, batch_size: BatchSize = 128, *, epoch: int | None = None, **options: Unpack[LoaderOptions]
    ) -> Iterator[Any]:
        """Iterate over one epoch of a `Loader`, for a plain training loop.

            >>> for epoch in range(10):  # doctest: +SKIP
            ...     for images, labels in store.batches(128, shuffle=True):
            ...         train(images, labels)

        Args:
            batch_size: how many images a batch has; see `Loader`.
            epoch: its number; None for one more than in the last call, from 0 on.
            options: see `Loader`; here ``shuffle`` is False by default.

        Raises:
            SpecError: see `loader`.
            SpaceError: see `loader`.
        """
        if options.get("frame") is not None:
            raise SpecError("a frame is read for several epochs, and batches makes a loader for one: use store.loader")
        if epoch is None:
            epoch, self._epochs = self._epochs, self._epochs + 1
        options.setdefault("shuffle", False)
        loader = self.loader(batch_size, **options)
        loader.set_epoch(epoch)
        return iter(loader)

    def load(self, budget: int | str | None = None) -> Slots:
        """Copy slots into RAM once, from the first on, as many as fit; the others are still read where they lie.

        Slots of encoded stores are kept as JPEGs, about eight times as many; beside slots of other stores as pixels.

        Args:
            budget: bytes of RAM, or a text such as ``"8 GB"``; None for all slots.

        Returns:
            The same slots, with that copy.

        Raises:
            SpecError: the budget is no size in bytes; or slots are kept as JPEGs, and some are not filled yet.
            SpaceError: there is not enough free memory.
            FormatError: the JPEG of a slot of an encoded store is missing, or would lie outside its file.
        """
        return Slots(self.__slot_arrays__.load(budget))

    def cached(self, budget: int | str | None = None) -> Slots:
        """Return the same slots with a cache in RAM, which keeps the slots that are read first, as many as fit.

        Slots of encoded stores are kept as JPEGs; see `load`.

        Args:
            budget: see `load`.

        Raises:
            SpecError: the budget is no size in bytes; or slots are kept as JPEGs, and some are not filled yet.
            SpaceError: there is not enough free memory.
        """
        return Slots(self.__slot_arrays__.cached(budget))

    @overload
    def __getitem__(self, chosen: int | np.integer[Any]) -> Any: ...
    @overload
    def __getitem__(self, chosen: slice | Sequence[int] | Sequence[bool] | Array) -> Slots: ...
    def __getitem__(self, chosen: Any) -> Any:
        slots = self.__slot_arrays__
        if not isinstance(chosen, int | np.integer):
            return Slots(slots.choose(chosen))
        slot = int(chosen) + (len(self) if chosen < 0 else 0)
        if not 0 <= slot < len(self):
            raise IndexError(f"slot {chosen} of {len(self):,}")
        image = slots.take([slot])[0]
        return (image, slots.take([slot], "labels")[0]) if "labels" in slots.target_names else image

    def __repr__(self) -> str:
        shape = shape_text((len(self), *self.slot_shape))
        return f"<arraystore.Slots {shape} {self.dtype} {self.layout}".rstrip() + ">"


@overload
def concatenate(stores: Sequence[HasSlots]) -> Slots: ...
@overload
def concatenate(stores: Sequence[Any]) -> Any: ...
@public
def concatenate(stores: Sequence[Any]) -> Slots | Lazy:
    """Return the slots of several stores as one sequence; nothing is copied.

    Args:
        stores: stores, or choices of their slots. All must have the same slot shape, dtype and layout, and the same
            targets with the same categories. Mean and standard deviation are those of all slots together, if each
            store knows its own. If one of them is a lazy sequence, the result is the lazy sequence of the items of
            all, and the others may be any sequences.

    Raises:
        SpecError: there are none, or they do not fit together.
    """
    if not stores:
        raise SpecError("there is nothing to concatenate: pass at least one store")
    if any(isinstance(each, Lazy) for each in stores):
        return concatenated(stores)
    every = [store.__slot_arrays__ for store in stores]
    first = every[0]
    for number, other in enumerate(every):
        for what, of_first, of_other in (
            ("slots of shape", first.slot_shape, other.slot_shape),
            ("pixels of type", first.dtype, other.dtype),
            ("layout", first.layout, other.layout),
            ("targets", sorted(first.target_names), sorted(other.target_names)),
            ("categories", dict(first.categories), dict(other.categories)),
            ("masks", sorted(first.masks), sorted(other.masks)),
            ("targets in pixels of sources", dict(first.source_pixels), dict(other.source_pixels)),
            *((f"{name} of", *(_row_of(slots, name) for slots in (first, other))) for name in first.target_names),
        ):
            if of_first != of_other:
                raise SpecError(
                    f"store 0 has {what} {of_first}, store {number} has {of_other}: only stores that are alike can be "
                    "concatenated"
                )
    chosen = None
    if any(other.chosen is not None for other in every):
        starts = np.cumsum([0, *(sum(len(array.images) for array in other.arrays) for other in every)])
        chosen = np.concatenate(
            [start + other.base(np.arange(len(other))) for start, other in zip(starts, every, strict=False)]
        )
    mean, std = _pooled(every)
    return Slots(
        SlotArrays(
            tuple(array for other in every for array in other.arrays),
            chosen=chosen,
            layout=first.layout,
            categories=first.categories,
            mean=mean,
            std=std,
            masks=first.masks,
            source_pixels=first.source_pixels,
            records=tuple(record for other in every for record in other.records or (None,) * len(other.arrays)),
        )
    )


def _row_of(slots: SlotArrays, name: str) -> tuple[Any, ...] | None:
    """Return dtype and shape of a row of a target, and whether it is ragged; None if the slots have no such target."""
    if name not in slots.target_names:
        return None
    shape, dtype = slots.column(name)
    return (*(("ragged",) if slots.is_ragged(name) else ()), dtype, *shape)


def _pooled(every: Sequence[SlotArrays]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of all slots together; empty if one is unknown."""
    if not all(slots.mean for slots in every):
        return (), ()
    counts = np.array([len(slots) - len(slots.unreadable()) for slots in every], float)
    weights = (counts / max(counts.sum(), 1))[:, None]
    means, stds = np.array([slots.mean for slots in every]), np.array([slots.std for slots in every])
    mean = (weights * means).sum(0)
    variance = (weights * (stds**2 + (means - mean) ** 2)).sum(0)
    return tuple(mean.tolist()), tuple(np.sqrt(variance).tolist())
