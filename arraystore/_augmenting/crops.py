"""The geometry of augmented images: which window of its slot each one shows, and which way round.

The four kinds of crop are options; each says how large its windows come out and draws where they lie. Chance is a pure
function: every number is the hash of (seed, epoch, slot, draw) and of what it is for, so an image has the same window
whichever thread or rank makes it, in whatever batch. The hash is SplitMix64 (Steele, Lea and Flood, Fast splittable
pseudorandom number generators, OOPSLA 2014): NumPy does not promise its own streams across versions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import is_whole, size_of
from arraystore._common.keyed_random import hashed
from arraystore._common.public import public
from arraystore.errors import SpecError

__all__ = [
    "CenterCrop",
    "Chance",
    "Crop",
    "GEOMETRY",
    "Geometry",
    "PadAndCrop",
    "RandomCrop",
    "RandomResizedCrop",
    "Windows",
]

Integers = npt.NDArray[np.int64]
Geometry = npt.NDArray[np.void]
Windows = tuple[Integers, Integers, Integers, Integers]

GEOMETRY = np.dtype([(name, np.int32) for name in ("top", "left", "height", "width", "hflip", "vflip")])
"""One row an image: the window in pixels of its slot, and 1 where it is mirrored left to right, or top to bottom."""

_TRIES = 10  # torchvision's
_FLIPS, _PLACE, _SHAPE = 0, 2, 4  # which numbers are for what: part of the contract, as a crop must not move flips


class Chance:
    """Random numbers of some images: each number a function of the image's row and the number's index alone."""

    def __init__(self, slots: Integers, *, seed: int, epoch: int, draws: Integers | None) -> None:
        keys = np.zeros(1, np.uint64)
        for part in (*(np.array([number % (1 << 64)], np.uint64) for number in (seed, epoch)), slots, draws):
            if part is not None:
                keys = hashed(keys, part)
        self.keys = keys

    def numbers(self, first: int, count: int) -> npt.NDArray[np.float64]:
        """Return numbers ``first`` and following of each image: float64, (count, images), in [0, 1)."""
        indices = np.arange(first, first + count, dtype=np.uint64)[:, None]
        return (hashed(self.keys, indices) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def flips(self, hflip: float, vflip: float) -> npt.NDArray[np.bool_]:
        """Return which images are mirrored left to right, and which top to bottom, by their chances: bool, (2, n)."""
        return self.numbers(_FLIPS, 2) < np.array([[hflip], [vflip]])

    def place(self, rows: Integers | int, columns: Integers | int) -> tuple[Integers, Integers]:
        """Return a row from 0 to ``rows`` and a column from 0 to ``columns`` for each image, all equally likely."""
        down, across = self.numbers(_PLACE, 2)
        return (down * (rows + 1)).astype(np.int64), (across * (columns + 1)).astype(np.int64)


@public
@dataclass(frozen=True, slots=True, init=False)
class CenterCrop:
    """The middle of each slot, placed as torchvision's ``CenterCrop`` places it.

    Attributes:
        size: height and width in pixels; one number makes a square.

    Raises:
        SpecError: size is no whole number of pixels, or two.
    """

    size: tuple[int, int]

    def __init__(self, size: int | tuple[int, int]) -> None:
        object.__setattr__(self, "size", size_of(size))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the images that slots of this size become.

        Raises:
            SpecError: the crop is larger than the slot.
        """
        return _inside(self.size, height, width)

    def windows(self, chance: Chance, height: int, width: int) -> Windows:
        """Return each image's top, left, height and width in its slot: int64, (n,) each."""
        count = chance.keys.size
        top, left = round((height - self.size[0]) / 2), round((width - self.size[1]) / 2)
        return *_equal((top, left), count), *_equal(self.size, count)


@public
@dataclass(frozen=True, slots=True, init=False)
class RandomCrop:
    """A window anywhere in the slot.

    Attributes:
        size: height and width in pixels; one number makes a square.

    Raises:
        SpecError: size is no whole number of pixels, or two.
    """

    size: tuple[int, int]

    def __init__(self, size: int | tuple[int, int]) -> None:
        object.__setattr__(self, "size", size_of(size))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the images that slots of this size become.

        Raises:
            SpecError: the crop is larger than the slot.
        """
        return _inside(self.size, height, width)

    def windows(self, chance: Chance, height: int, width: int) -> Windows:
        """Return each image's top, left, height and width in its slot: int64, (n,) each."""
        top, left = chance.place(height - self.size[0], width - self.size[1])
        return top, left, *_equal(self.size, top.size)


@public
@dataclass(frozen=True, slots=True, init=False)
class PadAndCrop:
    """A window anywhere in the slot with a frame around it: the usual recipe for CIFAR.

    Attributes:
        padding: how wide the frame is, in pixels.
        size: height and width of the window in pixels; one number makes a square; None is the slot's size.
        fill: the gray level of the frame in every channel, 0 to 255. It is converted and normalized like the pixels.

    Raises:
        SpecError: padding, size or fill has a value that cannot be.
    """

    padding: int
    size: tuple[int, int] | None
    fill: int

    def __init__(self, padding: int, size: int | tuple[int, int] | None = None, fill: int = 0) -> None:
        for name, value, most in (("padding", padding, 65_535), ("fill", fill, 255)):
            if not is_whole(value) or not 0 <= value <= most:
                raise SpecError(f"{name} must be a whole number from 0 to {most}, not {value!r}")
            object.__setattr__(self, name, int(value))
        object.__setattr__(self, "size", None if size is None else size_of(size))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the images that slots of this size become.

        Raises:
            SpecError: the crop is larger than the slot and its frame.
        """
        if self.size is None:
            return height, width
        return _inside(self.size, height + 2 * self.padding, width + 2 * self.padding)

    def windows(self, chance: Chance, height: int, width: int) -> Windows:
        """Return each image's top, left, height and width in its slot, or partly outside: int64, (n,) each."""
        size = self.output_size(height, width)
        top, left = chance.place(height + 2 * self.padding - size[0], width + 2 * self.padding - size[1])
        return top - self.padding, left - self.padding, *_equal(size, top.size)


@public
@dataclass(frozen=True, slots=True, init=False)
class RandomResizedCrop:
    """A window of random area and shape, resampled to one size with antialiasing.

    Area, shape and place are drawn as torchvision's ``RandomResizedCrop`` draws them: ten tries of an area uniform in
    ``scale`` and a ratio whose logarithm is uniform; if none fits the slot, the largest window in its middle whose
    ratio is allowed. Pixels are those of Pillow's ``crop(box).resize(size, BILINEAR)``, bit for bit.

    Attributes:
        size: height and width that every window becomes, in pixels; one number makes a square.
        scale: least and greatest share of the slot's area.
        ratio: least and greatest width / height.

    Raises:
        SpecError: size, scale or ratio has a value that cannot be.
    """

    size: tuple[int, int]
    scale: tuple[float, float]
    ratio: tuple[float, float]

    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        object.__setattr__(self, "size", size_of(size))
        object.__setattr__(self, "scale", _span("scale", scale, 1.0))
        object.__setattr__(self, "ratio", _span("ratio", ratio, math.inf))

    def output_size(self, height: int, width: int) -> tuple[int, int]:  # noqa: ARG002 - as the other crops
        """Return height and width of the images that slots of any size become."""
        return self.size

    def windows(self, chance: Chance, height: int, width: int) -> Windows:
        """Return each image's top, left, height and width in its slot: int64, (n,) each."""
        share, shape = chance.numbers(_SHAPE, 2 * _TRIES).reshape(_TRIES, 2, -1).swapaxes(0, 1)
        area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
        low, high = (math.log(ratio) for ratio in self.ratio)
        ratio = np.exp(low + shape * (high - low))
        heights, widths = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
        fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
        first = fits.argmax(axis=0)[None]  # 0 where none fits, replaced below
        none = ~fits.any(axis=0)
        h, w = (np.take_along_axis(sides, first, axis=0)[0].astype(np.int64) for sides in (heights, widths))
        h[none], w[none] = self._fallback(height, width)
        top, left = chance.place(height - h, width - w)
        top[none], left[none] = (height - h[none]) // 2, (width - w[none]) // 2
        return top, left, h, w

    def _fallback(self, height: int, width: int) -> tuple[int, int]:
        low, high = self.ratio
        if width / height < low:
            # Ratios of a thousand to one round to no pixels at all, for which torchvision would fail.
            return max(1, round(width / low)), width
        if width / height > high:
            return height, max(1, round(height * high))
        return height, width


Crop = CenterCrop | RandomCrop | PadAndCrop | RandomResizedCrop


def _inside(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    if size[0] > height or size[1] > width:
        raise SpecError(
            f"a crop of {size[0]} × {size[1]} pixels is larger than the {height} × {width} it is cut from: "
            "choose a smaller one, PadAndCrop, or RandomResizedCrop"
        )
    return size


def _equal(size: tuple[int, int], count: int) -> tuple[Integers, Integers]:
    return np.full(count, size[0]), np.full(count, size[1])


def _span(name: str, value: object, most: float) -> tuple[float, float]:
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
        low, high = float(value[0]), float(value[1])
        if 0 < low <= high <= most and high < math.inf:
            return low, high
    limit = " and at most 1" if most == 1 else ""
    raise SpecError(f"{name} must be (least, greatest), both more than 0{limit}, not {value!r}")
