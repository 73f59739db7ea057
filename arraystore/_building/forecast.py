"""What a build would take, as `arraystore.plan` found it: as values, as a line of advice, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from arraystore._common.public import public
from arraystore._common.wording import flat, readable
from arraystore.errors import BadImage
from arraystore.spec import ImageSpec

__all__ = ["Forecast", "Room"]

_SMALLEST_ADVISED_PX = 16


@dataclass(frozen=True, slots=True)
class Room:
    """What a build on one medium needs at its largest, and what there is.

    Attributes:
        needed_bytes: what the build takes, the ledger that it keeps until the store is finished included.
        free_bytes: what is free now; None where the system does not say.
    """

    needed_bytes: int
    free_bytes: int | None

    @property
    def fits(self) -> bool:
        """Whether there is enough; True where the system does not say."""
        return self.free_bytes is None or self.needed_bytes <= self.free_bytes

    def __str__(self) -> str:
        free = "an unknown amount" if self.free_bytes is None else readable(self.free_bytes)
        return f"{readable(self.needed_bytes)} of {free}"


@public
@dataclass(frozen=True, slots=True)
class Forecast:
    """What a build would take. Made by `arraystore.plan`; nothing has been written.

    Attributes:
        count: how many images.
        classes: name of a class → how many images it has; empty where the labels are no classes.
        spec: how images would become slots.
        target: the target as it was given; None for none.
        medium: the medium on disk that the advice is about: ``"hdf5"`` where the target asks for it, else ``"npy"``.
        volume: the folder whose volume has been looked at: the target's, or the current one.
        media: ``"ram"``, ``"npy"`` and ``"hdf5"`` → what a build there needs, and what is free.
        pixel_bytes: what the pixels take.
        store_bytes: what the finished store takes on ``medium``, the samples estimated.
        working_bytes: memory that the workers need besides the store, if no image is larger than those of the sample.
        workers: how many images are decoded at once.
        sampled: how many images were decoded for what follows; 0 if none could be, and then ``notes`` say why.
        seconds: what filling every slot would take; None where nothing was sampled, as for all that follows.
        seconds_range: where ``seconds`` lies in nine of ten samples of these images, as far as this one can tell.
        source_bytes: mean of the encoded sources.
        median_px: median height and median width of the upright images.
        largest_px: height and width of the largest one.
        bad: the images of the sample that cannot be stored.
        notes: what else is to be known, a sentence each.
    """

    count: int
    classes: Mapping[str, int]
    spec: ImageSpec
    target: str | None
    medium: str
    volume: str
    media: Mapping[str, Room]
    pixel_bytes: int
    store_bytes: int
    working_bytes: int
    workers: int
    sampled: int = 0
    seconds: float | None = None
    seconds_range: tuple[float, float] | None = None
    source_bytes: float | None = None
    median_px: tuple[int, int] | None = None
    largest_px: tuple[int, int] | None = None
    bad: tuple[BadImage, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def images_per_s(self) -> float | None:
        """How many images a second would be stored; None where nothing was sampled."""
        return self.count / self.seconds if self.seconds else None

    @property
    def bad_share(self) -> float | None:
        """Which share of all images is bad, 0 to 1, as far as the sample can tell; None where nothing was sampled."""
        return len(self.bad) / self.sampled if self.sampled else None

    @property
    def advice(self) -> str:
        """In one line: where the store fits, and if not on disk, which size would."""
        ram, disk = self.media["ram"], self.media[self.medium]
        if disk.fits:
            rest = f"not in RAM ({_lack(ram)})" if not ram.fits else ""
            return f"fits on disk ({disk}), {rest}" if rest else f"fits in RAM ({ram}) and on disk ({disk})"
        start = f"fits in RAM ({ram}), but not" if ram.fits else f"does not fit in RAM ({_lack(ram)}), nor"
        return f"{start} on the volume of {flat(self.volume)} ({_lack(disk)}){self._smaller(disk)}"

    def _smaller(self, disk: Room) -> str:
        """Say which size would fit on the volume, halved as often as it takes; nothing where only tiny ones would."""
        height, width = self.spec.size
        while min(height, width) >= 2 * _SMALLEST_ADVISED_PX:
            height, width = height // 2, width // 2
            pixels = self.count * self.spec.channels * height * width
            room = replace(disk, needed_bytes=disk.needed_bytes - self.pixel_bytes + pixels)
            if room.fits:
                size = str(height) if height == width else f"{height}x{width}"
                return f"; size {size} would take {readable(room.needed_bytes)}"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        media = {name: asdict(room) | {"fits": room.fits} for name, room in self.media.items()}
        rest = {"images_per_s": self.images_per_s, "bad_share": self.bad_share, "advice": self.advice}
        return asdict(self) | {"media": media} | rest


def _lack(room: Room) -> str:
    return f"{readable(room.needed_bytes)} needed, {readable(room.free_bytes or 0)} free"
