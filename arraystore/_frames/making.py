"""How one frame is made: a store that is filled while it is read, of the samples that its number stands for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.augment import Augment
from arraystore._build import build
from arraystore._common.digests import digest_of
from arraystore._common.lazy import cached
from arraystore._common.ragged import Ragged
from arraystore._frames.choosing import chosen_slots, class_codes
from arraystore._frames.identity import identity_of
from arraystore._frames.options import FrameOptions
from arraystore._frames.samples import Samples
from arraystore._frames.schedule import Span
from arraystore._reading.slot_arrays import SlotArrays
from arraystore._reading.store import Store
from arraystore._sequences.lazy import Lazy
from arraystore._sequences.steps import Keyed, Root
from arraystore._stores.slot_array import SlotArray
from arraystore.errors import BadImagesError, LazyError, Option, SpecError, StoreError
from arraystore.spec import ImageSpec

SLOT = "slot"  # the target of a frame on disk that says which slot each sample was made of
_STEP = "frame"
_RETRY_S = 0.2


@dataclass(frozen=True, eq=False)
class FrameSlots(SlotArrays):
    """The samples of a frame as slots, whose errors say which sample could not be made.

    Attributes:
        samples: of the frame; None in a template.
        frame: its number.
    """

    samples: Samples | None = None
    frame: int = 0

    def failed(self, base: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """See `SlotArrays.failed`.

        Raises:
            LazyError: a sample could not be made.
        """
        try:
            return super().failed(base)
        except BadImagesError as error:
            first = error.bad[0]
            slot = None if self.samples is None else int(self.samples.slots[first.slot])
            reason = first.reason.removeprefix(f"lazy({_STEP}): ")
            raise LazyError(
                f"sample {first.slot:,} of frame {self.frame} could not be made of slot {slot} ({first.source}): "
                f"{reason}",
                slot=slot,
                source=first.source,
                reason=reason,
                item=first.slot,
                step=_STEP,
            ) from error


@dataclass(frozen=True, eq=False)
class Making:
    """What all frames of a loader are made with.

    Attributes:
        frame: the options of the frames.
        base: the slots that samples are made of.
        targets: the names of the targets in a batch.
        seed: of the loader.
        augment: makes uint8 of slots, in their layout; None for whole slots.
        transform: of one image, or None.
    """

    frame: FrameOptions
    base: SlotArrays
    targets: tuple[str, ...]
    seed: int
    augment: Augment | None
    transform: Any

    @cached
    def identity(self) -> str:
        """A digest of all this."""
        frame = self.frame
        options = repr((self.augment, frame.per_class, frame.epochs, frame.unique))
        return digest_of([self.base.identity.encode(), options.encode(), identity_of(self.transform).encode()])

    @cached
    def _shapes(self) -> dict[Any, tuple[int, ...]]:
        return {}  # of samples, (H, W, C), by what they depend on

    def shape(self, span: Span) -> tuple[int, ...]:
        """Return the shape of a frame's samples, (H, W, C); the first one is made for it.

        Raises:
            SpecError: no slot has an image; or see `Samples.made`.
        """
        depends_on = repr((self._augment_of(span), span.numbers))
        if depends_on not in self._shapes:
            samples = self._samples(span, None)
            if not len(samples):
                raise SpecError("there is nothing to make samples of: no slot has an image")
            self._shapes[depends_on] = samples.made(int(samples.slots[0]), 0).shape
        return self._shapes[depends_on]

    def _augment_of(self, span: Span) -> Augment | None:
        return None if self.augment is None else self.augment.at_epoch(span.first)

    @cached
    def _classes(self) -> int:
        codes = class_codes(self.base)
        return 0 if codes is None else len(np.unique(codes[self.base.readable()]))

    @cached
    def _stored(self) -> int:
        return len(self.base) - len(self.base.unreadable())

    def count(self, span: Span) -> int:
        """Return how many samples a frame has."""
        if span.per_class is None:
            return self._stored
        return span.per_class * self._classes

    def template(self, span: Span) -> SlotArrays:
        """Return slots that have the number, shape and targets of a frame's samples, and no contents."""
        count, shape = self.count(span), self._in_layout(self.shape(span))
        images = np.broadcast_to(np.zeros((), np.uint8), (count, *shape))
        return self._as_slots(SlotArray(images, targets={name: self._empty(name, count) for name in self.targets}))

    def samples(self, span: Span) -> Samples:
        """Return the samples of a frame; none is made, but for what `shape` makes."""
        return self._samples(span, self.shape(span))

    def _samples(self, span: Span, shape: tuple[int, ...] | None) -> Samples:
        augment = self._augment_of(span)
        return Samples(
            self.base,
            chosen_slots(self.base, span, self.seed, unique=self.frame.unique),
            frame=span.number,
            seed=self.seed,
            augment=augment,
            transform=self.transform,
            numbers=span.numbers,
            targets=() if augment is None else tuple(name for name in self.targets if name in augment.follow),
            names=self.base.categories.get("labels", ()),
            shape=shape,
        )

    def _in_layout(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        height, width, channels = shape
        return (height, width, channels) if self.base.layout == "NHWC" else (channels, height, width)

    def path(self, number: int) -> Path | None:
        """Return where the store of a frame is; None in memory."""
        folder = self.frame.folder
        return None if folder is None else folder / f"frame-{number:04d}.store"

    def begin(self, span: Span, patience_s: float) -> tuple[Store, SlotArrays]:
        """Begin to fill the store of a frame, or join the process that does.

        Args:
            span: the frame.
            patience_s: how long another process may take to remove the frame that was there before.

        Returns:
            the store, and its slots with the targets of a batch.

        Raises:
            StoreError: the folder has another frame of this number.
            SpaceError: there is not enough memory, or the volume is too small.
        """
        samples = self.samples(span)
        until_s = time.monotonic() + patience_s
        while True:
            try:
                store = self._store(span, samples)
                break
            except StoreError as error:
                if time.monotonic() < until_s:
                    time.sleep(_RETRY_S)
                    continue
                if self.frame.folder is not None:
                    error.add_note(
                        f"{self.path(span.number)} may be a frame of other slots, another seed, transform or option: "
                        "choose another folder as keep, or remove it"
                    )
                raise
        moved = samples.followers()
        targets = {
            name: _column_of(moved[name]) if name in moved else self.base.take(samples.slots, name)
            for name in self.targets
        }
        (array,) = store.__slot_arrays__.arrays
        slots = self._as_slots(replace(array, targets=targets))
        return store, replace(slots, samples=samples, frame=span.number)

    def _store(self, span: Span, samples: Samples) -> Store:
        """Return the store of a frame, which is filled from now on."""
        layout: Any = self.base.layout
        height, width, channels = self.shape(span)
        key = digest_of([self.identity.encode(), repr((self.seed, span)).encode()])
        target = self.path(span.number)
        return build(
            Lazy(Keyed(Root(samples, _STEP, ""), key, "")),
            target,
            spec=ImageSpec(size=(height, width), layout=layout, color="gray" if channels == 1 else "rgb"),
            max_bad=0,
            wait=False,
            progress=False,
            workers=self.frame.workers,
            processes=self.frame.processes,
            timeout_s=self.frame.timeout_s,
            **({} if target is None else self._columns(samples)),
        )

    def _columns(self, samples: Samples) -> Mapping[str, Any]:
        """Return the targets of a store on disk: the slot of each sample, and its label."""
        columns: dict[str, Any] = {"targets": {SLOT: samples.slots}}
        codes, names = class_codes(self.base), self.base.categories.get("labels", ())
        if codes is not None:
            columns["labels"] = [names[code] for code in codes[samples.slots]] if names else codes[samples.slots]
            columns |= {"classes": names} if names else {}
        return columns

    def _as_slots(self, array: SlotArray) -> FrameSlots:
        base = self.base
        categories = {name: base.categories[name] for name in self.targets if name in base.categories}
        return FrameSlots((array,), layout=base.layout, categories=categories, mean=base.mean, std=base.std)

    def _empty(self, name: str, count: int) -> Any:
        shape, dtype = self.base.column(name)
        if self.base.is_ragged(name):
            return Ragged(np.empty((0, *shape), dtype), np.zeros(count + 1, np.int64))
        return np.broadcast_to(np.zeros((), dtype), (count, *shape))


def check_options(frame: FrameOptions, slots: SlotArrays, options: Mapping[str, Any], targets: tuple[str, ...]) -> None:
    """Check that options of a loader and its slots go with frames.

    Raises:
        SpecError: one does not.
    """
    for name in ("weights", "draws", "cache"):
        if options[name] is not None:
            raise SpecError(f"{name} does not go with a frame, whose samples are chosen with per_class: leave it out")
    if options["balance"]:
        raise SpecError("balance does not go with a frame: choose as many samples of each class with per_class")
    if slots.is_filling:
        raise SpecError("frames are made of a finished store, and this one is still being filled: call finish() first")
    if not slots.layout or len(slots.slot_shape) != 3:
        raise SpecError("frames are made of images in a known layout: pass layout='NCHW' or 'NHWC' to open_array")
    if frame.per_class is not None and class_codes(slots) is None:
        raise SpecError("per_class needs labels, one whole number for each slot, and these slots have none")
    augment: Augment | None = options["augment"]
    follow = {} if augment is None else augment.follow
    if any(name in slots.masks or follow.get(name) == "mask" for name in targets):
        raise SpecError(
            "masks are not kept in frames",
            advice="leave {0} out, and augment each batch anew",
            options=[Option("frame", None)],
        )
    if frame.unique and frame.augment and follow:
        raise SpecError(
            "unique=True makes some samples anew, and targets cannot follow those",
            advice="leave out {0} or {1}",
            options=[Option("unique", True), Option("follow", dict(follow))],
        )


def _column_of(moved: Any) -> Any:
    """Return a target that has followed its images as it is kept: an array, or ragged."""
    return Ragged.from_rows(moved) if isinstance(moved, list) else moved
