"""What a build would take, as `arraystore.plan` found it: as values, as a line of advice, as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from arraystore.errors import BadImage
from arraystore.info import class_rows, flat, print_rows, readable
from arraystore.spec import ImageSpec

__all__ = ["Forecast", "Room", "print_forecast"]

_LISTED = 10
_SMALLEST_ADVISED_PX = 16
_MEDIA = {"ram": "RAM", "npy": ".npy folder", "hdf5": "HDF5 file"}


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


def print_forecast(forecast: Forecast) -> None:
    """Print a forecast as a table."""
    print_rows(_rows(forecast))


def _rows(forecast: Forecast) -> Iterator[tuple[str, str]]:
    spec = forecast.spec
    shape = " x ".join(map(str, spec.slot_shape))
    yield "images", f"{forecast.count:,} of {shape} uint8 ({spec.layout}, {spec.colour})"
    yield "bytes", f"{readable(forecast.pixel_bytes)} of pixels, {readable(forecast.store_bytes)} in all"
    for name, room in forecast.media.items():
        place = "" if name == "ram" else f" on the volume of {flat(forecast.volume)}"
        yield _MEDIA[name], f"{room} free{place}"
    yield "advice", forecast.advice
    if forecast.seconds is not None and forecast.seconds_range is not None:
        low, high = map(_duration, forecast.seconds_range)
        text = f"{_duration(forecast.seconds)} ({low} to {high}), {forecast.images_per_s:,.0f} img/s"
        yield "time", f"{text} with {forecast.workers:,} at once; {forecast.sampled:,} images were timed"
        yield "not in it", "listing the sources; a disk, or a virtual machine's fresh memory, that cannot keep up"
    if forecast.source_bytes is not None:
        text = f"{readable(forecast.source_bytes)} each"
        if forecast.median_px is not None and forecast.largest_px is not None:
            text += f"; median {_sides(forecast.median_px)} px, largest seen {_sides(forecast.largest_px)} px (H x W)"
        yield "sources", text
    if forecast.bad_share is not None:
        yield "bad", "\n".join(_bad_lines(forecast))
    yield from class_rows(forecast.classes)
    for note in forecast.notes:
        yield "note", flat(note)


def _bad_lines(forecast: Forecast) -> Iterator[str]:
    found, share = len(forecast.bad), forecast.bad_share or 0.0
    if not found:
        yield f"none of the {forecast.sampled:,} sampled"
        return
    whole = "" if forecast.sampled == forecast.count else f", about {share * forecast.count:,.0f} in all"
    yield f"{found:,} of the {forecast.sampled:,} sampled ({share:.1%}{whole})"
    for image in forecast.bad[:_LISTED]:
        yield f"slot {image.slot}  {flat(image.source)}: {flat(image.reason)}"
    if found > _LISTED:
        yield f"and {found - _LISTED:,} more"


def _lack(room: Room) -> str:
    return f"{readable(room.needed_bytes)} needed, {readable(room.free_bytes or 0)} free"


def _sides(sides: tuple[int, int]) -> str:
    return " x ".join(f"{side:,}" for side in sides)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit, length_s, many in (("min", 60, 120), ("h", 3600, 48)):
        if seconds / length_s < many:
            return f"{seconds / length_s:.3g} {unit}"
    return f"{seconds / 86400:,.3g} days"
