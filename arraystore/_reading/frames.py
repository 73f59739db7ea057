"""What a loader asks of frames of augmented samples, which `arraystore.Frame` stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from arraystore._augmenting.augment import Augment
from arraystore._reading.slot_arrays import SlotArrays


class Frames(Protocol):
    """The frames of one loader."""

    augment: Augment | None  # what is left to be done when a batch is read
    identity: str  # of what the samples are made of and with, but for the changes in `state`
    stopped: bool  # whether the training was asked to stop

    @property
    def store(self) -> Any:
        """The store of the frame that is being read; None before the first epoch."""

    def count(self, epoch: int) -> int:
        """Return how many samples an epoch has."""

    def template(self, epoch: int) -> SlotArrays:
        """Return slots of the number, shape and targets that an epoch has, without their contents."""

    def slots(self, epoch: int) -> SlotArrays:
        """Return the samples that an epoch reads, as slots that are filled while they are read."""

    def make_ahead(self, epoch: int) -> None:
        """Begin to make the frame after that of an epoch, if that is made."""

    def ended(self, epoch: int) -> None:
        """Take over what was asked for while an epoch was read; a second call for it does nothing."""

    def keep_count(self, why: str) -> None:
        """Refuse changes to the number of samples from now on."""

    def state(self) -> list[Any]:
        """Return what has been changed so far, for JSON."""

    def restore(self, state: list[Any], epoch: int) -> None:
        """Go on with the changes that another run had made before it came to an epoch."""


class FrameMaker(Protocol):
    """The option ``frame`` of a loader."""

    def __frames__(self, slots: SlotArrays, options: Mapping[str, Any], targets: tuple[str, ...]) -> Frames:
        """Return the frames of one loader."""
