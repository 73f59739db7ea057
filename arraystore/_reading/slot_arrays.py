"""Which slots lie in which arrays: those of one store, of several, of a choice, or of an array from another program."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.digests import digest_of
from arraystore._common.lazy import cached
from arraystore._common.ragged import Ragged, flat_masks, masks_in, one_after_another
from arraystore._format.specification import FAILED, STORED
from arraystore._kernels.copy_rows import ChosenRows, gather
from arraystore._reading.cache import Cache, EncodedCache
from arraystore._reading.filling_slots import FillingSlots
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.encoded.jpegs import slot_shape_of
from arraystore._stores.medium import Opened
from arraystore._stores.slot_array import SlotArray
from arraystore._stores.unfinished.filling import FillingImages
from arraystore.errors import Option, SpecError

_LOAD_STEP_BYTES = 1 << 24

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Column = tuple[tuple[Any, ...], np.dtype[Any]]


class HasSlots(Protocol):
    """A `Store`, or the `Slots` of a choice, of several stores, or of an array that another program made."""

    @property
    def __slot_arrays__(self) -> SlotArrays:
        """Where the slots lie."""


@dataclass(frozen=True, eq=False)
class SlotArrays(FillingSlots):
    """Slots in one or more arrays, or a choice of them, with their targets.

    Slots are counted in two ways. Users count the chosen slots, from 0 to ``len - 1``. The *base number* of a slot
    counts all slots of all arrays. It is the same in every choice, so orders of draws and caches use it.

    It pickles without its cache, because another process has its own memory, and without records, which builds need.

    Attributes:
        arrays: the slots of all arrays, one after the other, have the base numbers from 0 on.
        chosen: int64, (n,): the base numbers of the chosen slots; None for all slots.
        layout: ``"NCHW"``, ``"NHWC"``, or ``""`` if the slots are no images.
        categories: name of a target → the names of its codes.
        mean: each channel's mean, 0 to 255; empty if unknown. A choice keeps the mean of all slots.
        std: each channel's standard deviation; empty if unknown.
        masks: the targets that are masks → what their pixels have where there is no image.
        source_pixels: the targets in pixels of the source images → ``"boxes"`` or ``"keypoints"``.
        cache: keeps images in RAM, or None.
        records: for each array the store that it is of, or None; empty where none is known.
    """

    arrays: tuple[SlotArray, ...]
    chosen: Index | None = None
    layout: str = ""
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    masks: Mapping[str, int] = field(default_factory=dict)
    source_pixels: Mapping[str, str] = field(default_factory=dict)
    cache: Cache | None = None
    records: tuple[Opened | None, ...] = ()

    def __len__(self) -> int:
        return int(self._starts[-1]) if self.chosen is None else len(self.chosen)

    @cached
    def _starts(self) -> Index:
        return np.cumsum([0, *(len(each.images) for each in self.arrays)], dtype=np.int64)

    @cached
    def identity(self) -> str:
        """A digest of what each slot holds, by its checksum; arrays that others made have none, and count as equal."""
        checksums = [_contents_of(each) for each in self.arrays]
        return digest_of([*checksums, b"" if self.chosen is None else self.chosen.tobytes()])

    @property
    def __slot_arrays__(self) -> SlotArrays:
        return self

    def column(self, name: str | None = None) -> Column:
        """Return the shape and dtype of one slot, or of one row of a target; of one item, if the target is ragged.

        Raises:
            SpecError: there is no such target.
        """
        array = self._target(self.arrays[0], name)
        return array.item_shape if isinstance(array, Ragged) else array.shape[1:], array.dtype

    def is_ragged(self, name: str) -> bool:
        """Return whether a target is ragged.

        Raises:
            SpecError: there is no such target.
        """
        return isinstance(self._target(self.arrays[0], name), Ragged)

    @property
    def slot_shape(self) -> tuple[Any, ...]:
        """The shape of one slot; None for the sides that differ between slots."""
        return self.arrays[0].images.shape[1:]

    @property
    def differ(self) -> bool:
        """Whether slots differ in height and width."""
        return None in self.slot_shape

    def sides_of(self, base: Index) -> Index:
        """Return height and width of the slots with these base numbers: int64, (k, 2).

        Raises:
            SpecError: the slots are no images with channels.
            FormatError: a store is damaged.
        """
        if not self.layout or len(self.slot_shape) != 3:
            raise SpecError(f"slots of shape {self.slot_shape} and layout {self.layout!r} have no height and width")
        sides = np.empty((len(base), 2), np.int64)
        if not self.differ:
            sides[:] = self.slot_shape[1:] if self.layout == "NCHW" else self.slot_shape[:2]
            return sides
        for number, rows, at in self.split(base):
            images = cast("EncodedImages | FillingImages", self.arrays[number].images)
            sides[slice(None) if at is None else at] = images.sides_of(rows)
        return sides

    def stored_sides(self) -> tuple[Index, Index]:
        """Return the slots that have an image, (k,), and height and width of each, (k, 2)."""
        stored = (able := self.readable())[~self.failed(self.base(able))]
        return stored, self.sides_of(self.base(stored))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels."""
        return self.arrays[0].images.dtype

    @property
    def decodes(self) -> bool:
        """Whether reading decodes any slot."""
        return any(each.is_encoded for each in self.arrays) or self.is_filling

    @property
    def kept_bytes(self) -> float:
        """The mean bytes of a slot where it lies: of its pixels, or of its JPEG."""
        return sum(each.images.nbytes for each in self.arrays) / max(int(self._starts[-1]), 1)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of the targets."""
        return tuple(self.arrays[0].targets)

    def encoded(self, slot: int) -> memoryview:
        """Return the JPEG of a slot; see `Slots.encoded`.

        Raises:
            SpecError: there is no such slot, or it is kept as pixels.
            FormatError: the file is damaged.
        """
        wanted = _numbers(np.array([slot]), 0, len(self))
        ((number, rows, _),) = self.split(self.base(wanted))
        array = self.arrays[number]
        if not array.is_encoded:
            raise SpecError(
                f"slot {slot:,} is kept as pixels, so it has no encoded bytes",
                slot=int(slot),
                advice="build the store with {0}, or take its pixels",
                options=[Option("encode", "jpeg")],
            )
        return array.bytes_of(int(rows[0]))

    def target(self, name: str) -> Any:
        """Return a target's array; see `Slots.target`."""
        if self.chosen is None and len(self.arrays) == 1:
            return self._target(self.arrays[0], name)
        if name in self.masks and self.is_ragged(name):
            return flat_masks(self.mask_rows(self.base(np.arange(len(self))), name), self.column(name)[1])
        return self.take(np.arange(len(self)), name)

    def source_name(self, slot: int) -> str:
        """Return the name of the source of a slot; "" where it is not known."""
        ((number, rows, _),) = self.split(self.base(np.array([slot])))
        names = self._source_names.get(number)
        if names is None:
            record = self.records[number] if len(self.records) == len(self.arrays) else None
            table = None if record is None else record.load_table("samples")
            names = self._source_names[number] = [] if table is None else table["source"]
        return os.fsdecode(names[int(rows[0])].as_py()) if len(names) else ""

    @cached
    def _source_names(self) -> dict[int, Any]:
        return {}  # of an array → its column of names, once it was asked for

    def unreadable(self, *, found: bool = False) -> Index:
        """Return the slots without an image, ascending; see `Slots.unreadable`.

        Args:
            found: True adds those that turned out to have none while they were filled; orders leave them in.
        """
        rows = [_bad_rows(each, found=found) for each in self.arrays]
        if not any(each.size for each in rows):
            return np.empty(0, np.int64)
        bad = np.concatenate([start + each for each, start in zip(rows, self._starts.tolist(), strict=False)])
        return bad if self.chosen is None else np.flatnonzero(np.isin(self.chosen, bad))

    def readable(self) -> Index:
        """Return the slots that have an image, ascending."""
        return np.delete(np.arange(len(self)), self.unreadable())

    def take(self, slots: npt.ArrayLike, name: str | None = None, *, out: Array | None = None) -> Any:
        """Gather slots, or rows of a target; see `Slots.take`.

        Raises:
            SpecError: a slot or a target does not exist, or ``out`` does not fit.
        """
        wanted = _numbers(np.asarray(slots).reshape(-1), 0, len(self))
        if name is not None and name in self.masks and self.is_ragged(name):
            masks = self.mask_rows(self.base(wanted), name)
            slot_shape_of(np.array([mask.shape for mask in masks]), 1, "NCHW")  # raises if they differ
            return np.stack(masks, out=out) if masks else np.empty((0, 0, 0), self.column(name)[1])
        if name is not None and self.is_ragged(name):
            if out is not None:
                raise SpecError(
                    f"the target {name!r} is ragged, so no array can take its rows",
                    advice="leave out {0}",
                    options=[Option("out", None)],
                )
            return self.list_rows(self.base(wanted), name)
        row_shape, dtype = self.column(name)
        if name is None and self.differ:
            sides, channels = self.sides_of(self.base(wanted)), next(side for side in row_shape if side is not None)
            row_shape = slot_shape_of(sides, channels, self.layout)
        shape = (wanted.size, *row_shape)
        if out is None:
            out = np.empty(shape, dtype)
        elif (out.shape, out.dtype) != (shape, dtype):
            raise SpecError(f"out must be an array of {dtype} and shape {shape}, not of {out.dtype} and {out.shape}")
        elif not (out.flags.c_contiguous and out.flags.writeable):
            raise SpecError("out must be writable and in C order: pass a whole array, such as np.empty makes")
        gather(self.chosen_rows(self.base(wanted), name), out)
        return out

    def list_rows(self, base: Index, name: str) -> Ragged | list[Array]:
        """Return the rows of a ragged target for slots with these base numbers, a copy; of masks as `mask_rows`."""
        if name in self.masks:
            return self.mask_rows(base, name)
        parts: list[Ragged] = []
        places = []
        for number, rows, at in self.split(base):
            parts.append(self._target(self.arrays[number], name).take(rows))
            places.append(np.arange(len(rows)) if at is None else at)
        if len(parts) == 1:
            return parts[0]
        if not parts:
            shape, dtype = self.column(name)
            return Ragged(np.empty((0, *shape), dtype), np.zeros(1, np.int64))
        return one_after_another(parts).take(np.argsort(np.concatenate(places)))

    def mask_rows(self, base: Index, name: str) -> list[Array]:
        """Return the mask (H, W) of each slot with these base numbers, where slots differ; views of the store."""
        masks, sides = [np.empty((0, 0))] * len(base), self.sides_of(base)
        for number, rows, at in self.split(base):
            places = np.arange(len(rows)) if at is None else at
            found = masks_in(self._target(self.arrays[number], name), rows, sides[places])
            for place, mask in zip(places.tolist(), found, strict=True):
                masks[place] = mask
        return masks

    def base(self, slots: Index) -> Index:
        """Return the base numbers of chosen slots."""
        return slots if self.chosen is None else self.chosen[slots]

    def chosen_rows(self, base: Index, name: str | None = None) -> Iterator[ChosenRows]:
        """Yield the rows to read for slots with these base numbers, one array at a time.

        Args:
            base: int64, (k,): base numbers.
            name: a target; None for the images, which may lie in the cache.
        """
        return self._uncached(base, name) if name is not None or self.cache is None else self.cache.chosen_rows(base)

    def _uncached(self, base: Index, name: str | None = None) -> Iterator[ChosenRows]:
        for number, rows, at in self.split(base):
            array = self._target(self.arrays[number], name)
            if isinstance(array, FillingImages):
                for pixels, there, places in array.filler.chosen(rows):
                    yield pixels, there, places if at is None else at if places is None else at[places]
                continue
            # A plain array: indexing a np.memmap makes a np.memmap each time, which takes longer than a small copy.
            yield array if isinstance(array, EncodedImages) else np.asarray(array), rows, at

    def split(self, base: Index) -> Iterator[tuple[int, Index, Index | None]]:
        """Yield the array of each slot: its index in ``arrays``, the rows in it, and the positions in ``base``.

        The positions are None if the rows are those of all slots, in order.
        """
        if len(self.arrays) == 1:
            yield 0, base, None
            return
        owner = np.searchsorted(self._starts, base, "right") - 1
        for number in np.unique(owner).tolist():
            at = np.flatnonzero(owner == number)
            yield number, base[at] - self._starts[number], at

    @staticmethod
    def _target(of: SlotArray, name: str | None) -> Any:
        """Return a target, an array or ragged; the images if there is no name."""
        if name is None:
            return of.images
        if name not in of.targets:
            names = ", ".join(map(repr, of.targets)) or "none"
            raise SpecError(f"there is no target {name!r}: the targets are {names}")
        return of.targets[name]

    def choose(self, chosen: Any) -> SlotArrays:
        """Return the slots that a slice, a mask or a list of integers chooses, in that order; nothing is copied.

        Raises:
            SpecError: a chosen slot does not exist, or ``chosen`` is none of these.
        """
        if isinstance(chosen, slice):
            ends = chosen.indices(len(self))
            if ends == (0, len(self), 1):
                return self
            slots = np.arange(*ends, dtype=np.int64)
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
        return replace(self, chosen=self.base(slots))

    def cached(self, budget: int | str | None = None) -> SlotArrays:
        """Return the same slots with an empty cache; see `Slots.cached`.

        Raises:
            SpecError: slots are kept as JPEGs, and some are not filled.
        """
        counts, uncached = (len(self), int(self._starts[-1])), self._uncached
        encoded = [each.settled for each in self.arrays if each.is_encoded]
        if None in encoded:
            raise SpecError("a cache of JPEGs needs all of them, and some are not filled yet: finish the store first")
        if len(encoded) == len(self.arrays):
            images = cast("Sequence[EncodedImages]", encoded)
            return replace(self, cache=EncodedCache(budget, counts, images, self.base(np.arange(len(self))), uncached))
        return replace(self, cache=Cache(budget, counts, self.column(), uncached))

    def load(self, budget: int | str | None = None) -> SlotArrays:
        """Return the same slots with a cache that holds the first of them; see `Slots.load`."""
        loaded = self.cached(budget)
        step = max(int(_LOAD_STEP_BYTES / max(self.kept_bytes, 1)), 1)
        for start in range(0, len(self), step):
            if loaded.cache is None or loaded.cache.is_full:
                break
            for _ in loaded.chosen_rows(self.base(np.arange(start, min(start + step, len(self))))):
                pass
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"cache": None, "records": ()}


def _bad_rows(array: SlotArray, *, found: bool) -> Index:
    if isinstance(array.images, FillingImages):
        return np.flatnonzero(array.images.filler.status() == FAILED) if found else np.empty(0, np.int64)
    return np.empty(0, np.int64) if array.status is None else np.flatnonzero(np.asarray(array.status) != STORED)


def _contents_of(array: SlotArray) -> bytes:
    if isinstance(array.images, FillingImages):
        return array.images.filler.identity.encode()
    return b"" if array.checksums is None else np.asarray(array.checksums).tobytes()


def _numbers(slots: Array, low: int, stop: int) -> Index:
    """Return slots as int64, after a check that each is in range."""
    if slots.size == 0:
        return np.empty(0, np.int64)
    if slots.dtype.kind not in "iu":
        raise SpecError(f"slots must be integers, not {slots.dtype}")
    least, most = int(slots.min()), int(slots.max())
    if least < low or most >= stop:
        raise SpecError(f"slots must be {low:,} to {stop - 1:,}, not {least:,} to {most:,}")
    return slots.astype(np.int64, copy=False)
