"""The samples of a frame, each a pure function of seed, frame and its number."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._augmenting.augment import Augment
from arraystore._frames.choosing import Choice
from arraystore._kernels.interleave import interleaved
from arraystore._ordering.ranks import Share
from arraystore._reading.batches import BatchMaker, ImageBatch, PerImage
from arraystore._reading.slot_arrays import SlotArrays
from arraystore.errors import SpecError

Pixels = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]

_TRIES = 100  # to make a sample that differs from those before it
_COUNTED_GROUPS = 20  # whose samples an error counts, each by as many tries


@dataclass(frozen=True, slots=True)
class _Numbered:
    """The order of the samples of a frame, which tells draws of one slot apart by the numbers of the samples."""

    n: int
    count: int
    repeats: bool = True

    def draw(self, _epoch: int, positions: Index, /) -> Index:
        return positions

    def identity(self) -> str:
        return "samples"


def declared_numbers(transform: Callable[..., Any] | None) -> dict[str, float]:
    """Return the numbers that a transform declares: its keyword-only parameters whose default is a number."""
    try:
        parameters = inspect.signature(transform).parameters.values() if transform is not None else ()
    except (TypeError, ValueError):  # a builtin may have no signature
        return {}
    return {
        each.name: each.default
        for each in parameters
        if each.kind is each.KEYWORD_ONLY and type(each.default) in (int, float)
    }


class Samples:
    """A sequence of images, uint8, (H, W, C). It can be sent to other processes if the transform can.

    Args:
        slots: that the samples are made of.
        choice: the slot of each sample.
        frame: its number.
        seed: of the loader.
        augment: makes uint8 of slots, in their layout; None for whole slots.
        transform: of one image; see `Loader`.
        numbers: that it is called with, by name.
        targets: that follow the geometry of the images.
        names: of the classes; for errors.
        shape: that every sample must have, (H, W, C); None where that is not known yet.
    """

    def __init__(
        self,
        slots: SlotArrays,
        choice: Choice,
        *,
        frame: int,
        seed: int,
        augment: Augment | None,
        transform: Callable[..., Any] | None,
        numbers: Mapping[str, float],
        targets: tuple[str, ...] = (),
        names: tuple[str, ...] = (),
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self._choice, self._frame, self._names, self._shape = choice, frame, names, shape
        count = max(len(choice.slots), 1)
        self._planar = slots.layout != "NHWC"
        self._maker = BatchMaker(
            slots,
            _Numbered(len(slots), len(choice.slots)),
            Share(count, count),
            seed,
            targets,
            single=True,
            augment=augment,
            transform=None if transform is None else PerImage(partial(transform, **numbers), planar=self._planar),
            batch_transform=None,
            workers=1,
        )
        self._made_anew()

    def _made_anew(self) -> None:
        self._lock = threading.Lock()
        # Of each group of samples that could be equal: who may go on with it, and the hash and try of each sample.
        self._groups: dict[int, tuple[threading.Lock, list[tuple[int, int]]]] = {}

    def __len__(self) -> int:
        return len(self._choice.slots)

    def __source_name__(self, number: int) -> str:
        """Return the name of the source of a sample's slot."""
        slot = int(self.slots[number])
        return self._maker.slots.source_name(slot) or f"slot {slot:,}"

    @property
    def slots(self) -> Index:
        """The slot of each sample: int64, (M,)."""
        return self._choice.slots

    def __getitem__(self, number: int) -> Pixels:
        starts = self._choice.starts
        if not len(starts):
            return self._attempt(number)
        group = int(np.searchsorted(starts, number, "right")) - 1
        first, stop = int(starts[group]), int(starts[group + 1]) if group + 1 < len(starts) else len(self)
        return self._attempt(number) if stop - first == 1 else self._different(first, number)

    def made(self, slot: int, draw: int) -> Pixels:
        """Make one sample of a slot; draws of one slot have different numbers.

        Raises:
            SpecError: the transform returned no image of bytes, or one of another shape.
        """
        batch = ImageBatch(self._maker, self._frame, np.array([draw], np.int64), np.array([slot], np.int64))
        if self._maker.transform is None:
            image = batch.image(0)
            return interleaved(image) if self._planar else image
        image = batch.transformed(0, self._maker.transform)
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise SpecError(
                f"transform returned {image.dtype} of shape {image.shape}, and a frame keeps uint8, (H, W, 3) or (H, "
                "W, 1): make floats as batches are read, with augment=Augment(dtype='float32', normalize=True)"
            )
        image = image if image.ndim == 3 else image[..., np.newaxis]
        if self._shape is not None and image.shape != self._shape:
            raise SpecError(
                f"transform returned an image of shape {image.shape}, and {self._shape} for the first: a frame needs "
                "them alike"
            )
        return image

    def followers(self) -> dict[str, Any]:
        """Return the targets of all samples that follow the geometry of their images, after the same moves."""
        return ImageBatch(self._maker, self._frame, np.arange(len(self)), self._choice.slots).followers(0, len(self))

    def _different(self, first: int, number: int) -> Pixels:
        """Return a sample that differs from all before it in its group, which begins with sample ``first``."""
        with self._lock:
            lock, known = self._groups.setdefault(first, (threading.Lock(), []))
        with lock:  # whoever needs a later sample of the group needs this one too
            while len(known) <= number - first:
                image = self._next_different(first, known)
                if len(known) == number - first + 1:
                    return image
        return self._attempt(number, known[number - first][1])

    def _next_different(self, first: int, known: list[tuple[int, int]]) -> Pixels:
        number = first + len(known)
        before = {digest for digest, _ in known}
        for attempt in range(_TRIES + 1):
            image = self._attempt(number, attempt)
            digest = xxhash.xxh3_64_intdigest(np.ascontiguousarray(image).data)
            if digest not in before:
                known.append((digest, attempt))
                return image
        raise self._too_few(number, len(before))

    def _attempt(self, number: int, attempt: int = 0) -> Pixels:
        """Make a sample; each attempt at it is another draw of its slot."""
        return self.made(int(self.slots[number]), number + attempt * len(self))

    def _too_few(self, number: int, found: int) -> SpecError:
        """Return the error that says how many different samples there are of a class, or of one slot of many."""
        starts, classes = self._choice.starts, self._choice.classes
        asked, slots, what = len(self), np.unique(self._choice.slots), "all images"
        if classes.size:
            code = int(classes[number])
            these = np.flatnonzero(classes == code)
            asked, slots = len(these), np.unique(self._choice.slots[these])
            what = f"class {self._names[code]!r}" if 0 <= code < len(self._names) else f"class {code}"
            starts = starts[(starts >= these[0]) & (starts <= these[-1])]
        advice, slot = "ask for fewer per class, augment more, or leave out unique", int(self.slots[number])
        if len(starts) > _COUNTED_GROUPS:
            return SpecError(
                f"{what}: slot {slot:,} and this augmentation give only {found} different samples, and "
                f"more are asked: {asked:,} of {len(slots):,} slots",
                advice=advice,
            )
        total = sum(
            len({self._attempt(start, attempt).tobytes() for attempt in range(_TRIES + 1)}) for start in starts.tolist()
        )
        return SpecError(
            f"{what}: {len(slots):,} slots and this augmentation give only {total} different samples, {asked:,} asked",
            advice=advice,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_groups")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._made_anew()
