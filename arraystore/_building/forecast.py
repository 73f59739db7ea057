"""The result of `arraystore.plan`: the bytes and the time that a build would take."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from arraystore._common.options import public
from arraystore._common.wording import flat, many, readable
from arraystore.errors import BadImage
from arraystore.spec import ImageSpec

_SMALLEST_ADVISED_PX = 16


@dataclass(frozen=True, slots=True)
class Room:
    """The most space that a build on one medium takes, and the free space; None where the system does not say."""

    needed_bytes: int
    free_bytes: int | None

    @property
    def fits(self) -> bool:
        """Whether there is enough free space; True where the system does not say."""
        return self.free_bytes is None or self.needed_bytes <= self.free_bytes

    def __str__(self) -> str:
        free = "an unknown amount" if self.free_bytes is None else readable(self.free_bytes)
        return f"{readable(self.needed_bytes)} of {free}"


@public
@dataclass(frozen=True, slots=True)
class Forecast:
    """The bytes and the time that a build would take, estimated by `arraystore.plan`.

    Attributes:
        count: how many images the manifest has.
        classes: name of a class → how many images it has; empty where there are no class labels.
        spec: how images would become slots.
        target: the target that was given, or None.
        medium: the medium on disk that the advice is about: ``"hdf5"`` for an HDF5 target, else ``"npy"``; where JPEGs
            are kept, ``"encoded-hdf5"`` or ``"encoded"``.
        volume: a folder on the volume whose free space counts: the target's, or the current one.
        media: ``"ram"``, ``"npy"``, ``"encoded"``, ``"hdf5"`` and ``"encoded-hdf5"`` → the space that a build there
            needs, and the free space. Those of JPEGs are estimated from the sample. With ``fit="keep"`` there are no
            media of pixels.
        pixel_bytes: the size of all pixels; with ``fit="keep"``, estimated from the sample.
        store_bytes: the size of the finished store on ``medium``, with the samples table estimated.
        working_bytes: memory that the workers need besides the store, if no image is larger than those of the sample.
        workers: how many images are decoded at once.
        sampled: how many images were decoded for the estimates below; 0 if none was, and then ``notes`` say why.
        seconds: the time to fill every slot. None without a sample, as all fields down to ``largest_px``.
        seconds_range: a range that holds the time in nine of ten cases, estimated from this sample.
        jpeg_bytes: the mean size of a slot as a JPEG; None if none was made.
        encode_s: the mean seconds that a worker takes to make one, beside filling a slot of pixels; 0 if slots are kept
            as JPEGs.
        decode_s: the mean seconds that a thread takes to decode one whole.
        source_bytes: the mean size of the encoded sources.
        median_px: median height and median width of the upright images.
        largest_px: height and width of the largest image.
        bad: the images of the sample that cannot be stored.
        notes: other facts that matter to the build, a sentence each.
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
    jpeg_bytes: float | None = None
    encode_s: float | None = None
    decode_s: float | None = None
    source_bytes: float | None = None
    median_px: tuple[int, int] | None = None
    largest_px: tuple[int, int] | None = None
    bad: tuple[BadImage, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def images_per_s(self) -> float | None:
        """How many images would be stored per second; None without a sample."""
        return self.count / self.seconds if self.seconds else None

    @property
    def bad_share(self) -> float | None:
        """The share of bad images in the sample, 0 to 1; None without a sample."""
        return len(self.bad) / self.sampled if self.sampled else None

    @property
    def advice(self) -> str:
        """One line that says where the store fits, and which size would fit if it does not fit on disk."""
        ram, disk = self.media["ram"], self.media[self.medium]
        if disk.fits:
            rest = f"not in RAM ({_lack(ram)})" if not ram.fits else ""
            return f"fits on disk ({disk}), {rest}" if rest else f"fits in RAM ({ram}) and on disk ({disk})"
        start = f"fits in RAM ({ram}), but not" if ram.fits else f"does not fit in RAM ({_lack(ram)}), nor"
        return f"{start} on the volume of {flat(self.volume)} ({_lack(disk)}){self._smaller(disk)}"

    @property
    def pixels_or_jpegs(self) -> str:
        """One line that compares slots of pixels with slots of JPEGs, and says which to take; empty if none was made.

        Slots that differ in height and width can only be JPEGs.
        """
        if not self.jpeg_bytes or not self.decode_s or not self.spec.one_shape:
            return ""
        per_s, slot_bytes = self.workers / self.decode_s, self.spec.slot_bytes
        told = f"a JPEG takes {readable(self.jpeg_bytes)}, {slot_bytes / self.jpeg_bytes:.1f} times fewer than pixels"
        if self.seconds and self.encode_s:
            longer = 1 + self.encode_s * self.count / self.workers / self.seconds
            told += f", and {longer:.2f} times as long to build"
        told += f"; {many(self.workers, 'thread')} decode {per_s:,.0f} img/s, for which a disk must give "
        told += f"{readable(per_s * self.jpeg_bytes)}/s, and {readable(per_s * slot_bytes)}/s for pixels. Take "
        free_bytes = self.media["ram"].free_bytes
        if free_bytes is None or self.pixel_bytes <= free_bytes:
            return told + "pixels: they fit in RAM, where they are read without decoding"
        if self.count * self.jpeg_bytes <= free_bytes:
            return told + "JPEGs: they fit in RAM, and pixels do not, unless the disk is faster than that"
        return told + "JPEGs, unless the disk is faster than that: neither fits in RAM"

    def _smaller(self, disk: Room) -> str:
        """Return a text with what would fit on the volume: JPEGs, or a size, halved until it fits; or no text."""
        encoded = self.media.get("encoded")
        if encoded is not None and self.spec.encode is None and encoded.fits:
            return f"; as JPEGs (encode) it would take {readable(encoded.needed_bytes)}"
        height, width = self.spec.size
        slots_bytes = self.pixel_bytes if self.spec.encode is None else disk.needed_bytes
        while min(height, width) >= 2 * _SMALLEST_ADVISED_PX:
            height, width = height // 2, width // 2
            share = height * width / (self.spec.height * self.spec.width)
            room = replace(disk, needed_bytes=disk.needed_bytes - round(slots_bytes * (1 - share)))
            if room.fits:
                size = str(height) if height == width else f"{height}x{width}"
                return f"; size {size} would take {readable(room.needed_bytes)}"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        media = {name: asdict(room) | {"fits": room.fits} for name, room in self.media.items()}
        rest = {
            "images_per_s": self.images_per_s,
            "bad_share": self.bad_share,
            "advice": self.advice,
            "pixels_or_jpegs": self.pixels_or_jpegs,
        }
        return asdict(self) | {"media": media, "spec": self.spec.to_dict()} | rest


def _lack(room: Room) -> str:
    return f"{readable(room.needed_bytes)} needed, {readable(room.free_bytes or 0)} free"
