"""`arraystore.Frame`: the option of a loader that stands for frames of augmented samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arraystore._common.lazy import lazy
from arraystore._common.options import public
from arraystore._frames.options import FrameOptions
from arraystore._reading.slot_arrays import SlotArrays

if TYPE_CHECKING:
    from arraystore._frames import frames
else:  # it loads what builds stores
    frames = lazy("arraystore._frames.frames")


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class Frame(FrameOptions):
    """Augmented samples that are made once and read for some epochs, then made anew; an option of a `Loader`.

        >>> frame = arraystore.Frame(epochs=10, per_class=100, unique=True, keep="8 GB")  # doctest: +SKIP
        >>> loader = store.loader(256, transform=pipeline, frame=frame)  # doctest: +SKIP

    It is for a ``transform`` that takes longer than training does: each of its results is used ``epochs`` times. The
    crop and the flips of ``augment`` are in the samples too; its ``dtype``, ``normalize`` and ``layout`` are applied
    each time that a batch is read, so a frame keeps bytes. The ``transform`` gets and returns uint8, (H, W, C).

    A sample depends on seed, frame and its own number alone, so a frame is the same for any number of threads,
    processes and ranks. It is made in the order in which its first epoch reads it, and the next one is made while it is
    read: an epoch waits for no more than one batch. So there are two frames at a time. See docs/frames.md.

    Attributes:
        epochs: how many epochs read a frame before the next.
        per_class: how many samples of each class of the labels a frame has: all slots of the class in turn, also from
            frame to frame, and again from the first if there are not so many. None makes one sample of every slot.
        unique: True makes no two equal samples of one slot, or of slots with equal pixels in one class. A sample that
            is equal to an earlier one is made anew, up to 100 times; then an error says how many there are.
        augment: False leaves out ``augment``'s crop and flips and the ``transform``: the originals, for validation.
        keep: where frames are: a size such as ``"8 GB"`` is what two of them may take in memory, None has no limit, and
            a path is a folder in which each frame is a store, such as ``frame-0003.store``. Processes that have the
            same folder share each frame, and a later run goes on with it. Frames that were read are removed there, but
            for the last one.
        samples: how many slots are drawn as a contact sheet for each frame, ``frame-0003.png``: the same ones each
            time.
        sheets: the folder of the contact sheets; None is the folder of ``keep``, or the current one.
        workers: how many threads or processes make samples; None for one per processor.
        processes: True makes samples in worker processes, for a ``transform`` that holds Python's lock, as
            Albumentations and torchvision do. It must be one that can be pickled.
        timeout_s: seconds that one sample may take in a worker process.

    Raises:
        SpecError: an option is invalid.
    """

    def __frames__(self, slots: SlotArrays, options: Mapping[str, Any], targets: tuple[str, ...]) -> frames.Frames:
        """Return the frames of one loader: its slots, all of its options, and the names of its targets.

        Raises:
            SpecError: an option of the loader does not go with frames, or these do not go with its slots.
            SpaceError: two frames take more than ``keep`` allows.
        """
        return frames.Frames(self, slots, options, targets)
