"""The geometry of augmented images: which window of its slot each image shows, and whether it is mirrored.

Users choose one of the four kinds of crop. Each has a size for its output, and draws where its windows lie. All random
numbers are hashes of (seed, epoch, slot, draw, index of the number), so an image has the same window in every batch,
thread and rank. `arraystore._common.keyed_random` has the hash.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from arraystore._common.checks import is_whole, size_of
from arraystore._common.keyed_random import hashed
from arraystore._common.options import public
from arraystore._ordering.by_epoch import checked_by_epoch, value_at
from arraystore.errors import SpecError

Integers = npt.NDArray[np.int64]
Geometry = npt.NDArray[np.void]
Sides = Integers | int  # of slots: one number for all, or one for each
Windows = tuple[Integers, Integers, Integers, Integers]
Size = int | tuple[int, int]
Sizes = Mapping[int, Size] | Callable[[int], Size]

GEOMETRY = np.dtype([(name, np.int32) for name in ("top", "left", "height", "width", "hflip", "vflip")])
"""A row for each image: its window in pixels of the slot, and 1 if mirrored left to right, or top to bottom, else 0."""

_TRIES = 10  # as in torchvision
# The index of the first random number for each purpose: two for flips, two for corners, the rest for sizes. They never
# change, and so a crop does not change which images are mirrored, and runs can be repeated with later versions.
_FLIPS, _CORNER, _SHAPE = 0, 2, 4


class Chance:
    """The random numbers of some images; each depends only on seed, epoch, slot, draw, and the number's index."""

    def __init__(self, slots: Integers, *, seed: int, epoch: int, draws: Integers | None) -> None:
        keys = np.zeros(1, np.uint64)
        for part in (*(np.array([number % (1 << 64)], np.uint64) for number in (seed, epoch)), slots, draws):
            if part is not None:
                keys = hashed(keys, part)
        self.keys = keys

    def numbers(self, first: int, count: int) -> npt.NDArray[np.float64]:
        """Return ``count`` numbers of each image, from index ``first`` on: float64, (count, images), in [0, 1)."""
        indices = np.arange(first, first + count, dtype=np.uint64)[:, None]
        return (hashed(self.keys, indices) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def flips(self, hflip: float, vflip: float) -> npt.NDArray[np.bool_]:
        """Return which images are mirrored left to right, and which top to bottom, by these probabilities: (2, n)."""
        return self.numbers(_FLIPS, 2) < np.array([[hflip], [vflip]])

    def corners(self, rows: Sides, columns: Sides) -> tuple[Integers, Integers]:
        """Return a row from 0 to ``rows`` and a column from 0 to ``columns`` for each image; all are equally likely."""
        down, across = self.numbers(_CORNER, 2)
        return (down * (rows + 1)).astype(np.int64), (across * (columns + 1)).astype(np.int64)


@dataclass(frozen=True, slots=True, init=False)
class _Sized:
    """A crop whose images have one size, or sizes by epoch."""

    size: tuple[int, int] | None
    sizes: Sizes | None = field(hash=False)  # a dict has no hash

    def __init__(self, size: Size | None = None, *, sizes: Sizes | None = None) -> None:
        _set_size(self, size, sizes)

    def at_epoch(self, epoch: int) -> Self:
        """Return the crop with the size of an epoch; itself if it has one size.

        Raises:
            SpecError: the epoch is no whole number of 0 or more, or a function returned no size for it.
        """
        if self.sizes is None:
            return self
        return replace(self, size=value_at("sizes", self.sizes, epoch, size_of), sizes=None)

    def one_size(self) -> tuple[int, int]:
        """Return height and width of the images.

        Raises:
            SpecError: the crop has sizes by epoch.
        """
        if self.size is None:
            raise SpecError("the crop has sizes by epoch, and an image has that of one: call at_epoch(epoch) first")
        return self.size


def _set_size(crop: _Sized, size: Size | None, sizes: Sizes | None) -> None:
    """Set the fields of `_Sized`; a function, because classes with slots cannot call ``super().__init__``."""
    if (size is None) == (sizes is None):
        raise SpecError(f"a crop has a size, or sizes by epoch: pass one of both, not {size!r} and {sizes!r}")
    object.__setattr__(crop, "size", None if size is None else size_of(size))
    object.__setattr__(crop, "sizes", None if sizes is None else checked_by_epoch("sizes", sizes, size_of))


@dataclass(frozen=True, slots=True, init=False)
class _CropInside(_Sized):
    """A crop whose windows all have one size and lie inside the slot."""

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the images that slots of this size become.

        Raises:
            SpecError: the crop is larger than the slot, or has sizes by epoch.
        """
        return _checked_size(self.one_size(), height, width)


@public
@dataclass(frozen=True, slots=True, init=False)
class CenterCrop(_CropInside):
    """The middle of each slot, with the rounding of torchvision's ``CenterCrop``.

    Attributes:
        size: height and width in pixels; one number makes a square. None if there are sizes by epoch.
        sizes: in place of size, sizes by epoch; see `RandomResizedCrop`.

    Raises:
        SpecError: a size is neither a whole number of pixels nor two of them; or both or none were passed.
    """

    def windows(self, chance: Chance, height: Sides, width: Sides) -> Windows:
        """Return top, left, height and width of each image's window in its slot: int64, (n,) each."""
        count, size = chance.keys.size, self.one_size()
        top, left = (
            np.broadcast_to(np.rint((side - inside) / 2).astype(np.int64), count)
            for side, inside in zip((height, width), size, strict=True)
        )
        return top, left, *_repeated(size, count)


@public
@dataclass(frozen=True, slots=True, init=False)
class RandomCrop(_CropInside):
    """A window anywhere in the slot.

    Attributes:
        size: height and width in pixels; one number makes a square. None if there are sizes by epoch.
        sizes: in place of size, sizes by epoch; see `RandomResizedCrop`.

    Raises:
        SpecError: a size is neither a whole number of pixels nor two of them; or both or none were passed.
    """

    def windows(self, chance: Chance, height: Sides, width: Sides) -> Windows:
        """Return top, left, height and width of each image's window in its slot: int64, (n,) each."""
        size = self.one_size()
        top, left = chance.corners(height - size[0], width - size[1])
        return top, left, *_repeated(size, top.size)


@public
@dataclass(frozen=True, slots=True, init=False)
class PadAndCrop:
    """A window anywhere in the slot with a frame around it, as is common for CIFAR.

    Attributes:
        padding: the width of the frame, in pixels.
        size: height and width of the window in pixels; one number makes a square; None means the slot's size.
        fill: the gray level of the frame in every channel, 0 to 255. It is converted and normalized like the pixels.

    Raises:
        SpecError: padding, size or fill is invalid.
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

    def at_epoch(self, _epoch: int) -> Self:
        """Return the crop itself: its size does not change between epochs."""
        return self

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the images that slots of this size become.

        Raises:
            SpecError: the crop is larger than the slot and its frame.
        """
        if self.size is None:
            return height, width
        return _checked_size(self.size, height + 2 * self.padding, width + 2 * self.padding)

    def windows(self, chance: Chance, height: Sides, width: Sides) -> Windows:
        """Return top, left, height and width of each image's window; it may lie partly outside: int64, (n,) each."""
        size = (int(np.min(height)), int(np.min(width))) if self.size is None else self.size  # then all are alike
        top, left = chance.corners(height + 2 * self.padding - size[0], width + 2 * self.padding - size[1])
        return top - self.padding, left - self.padding, *_repeated(size, top.size)


@public
@dataclass(frozen=True, slots=True, init=False)
class RandomResizedCrop(_Sized):
    """A window of random area and shape, resampled to one size with antialiasing.

    Windows are drawn as torchvision's ``RandomResizedCrop`` draws them: an area that is uniform in ``scale``, and a
    ratio whose logarithm is uniform, up to ten times until the window fits into the slot; then its corner. If none
    fits, the window is the largest one in the middle of the slot whose ratio is allowed. The pixels equal those of
    Pillow's ``crop(box).resize(size, BILINEAR)``, bit for bit.

    Training is shorter if it begins with small images: ``RandomResizedCrop(sizes={0: 128, 6: 160, 16: 192, 20: 224})``.
    The windows of an epoch do not depend on its size.

    Attributes:
        size: height and width of the images in pixels; one number makes a square. None if there are sizes by epoch.
        scale: the smallest and the largest share of the slot's area.
        ratio: the smallest and the largest width / height.
        sizes: in place of size, sizes by epoch: a mapping from epochs to sizes, each of which holds from its epoch on,
            the first from epoch 0; or a function of the epoch that returns its size, always the same for an epoch. A
            loader that is sent to other processes needs a function at the top of a module, or a mapping.

    Raises:
        SpecError: size, sizes, scale or ratio is invalid; or both size and sizes were passed, or none.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]

    def __init__(
        self,
        size: Size | None = None,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        *,
        sizes: Sizes | None = None,
    ) -> None:
        _set_size(self, size, sizes)
        object.__setattr__(self, "scale", _limits("scale", scale, 1.0))
        object.__setattr__(self, "ratio", _limits("ratio", ratio, math.inf))

    def output_size(self, _height: int, _width: int) -> tuple[int, int]:
        """Return height and width of the images; they do not depend on the slots.

        Raises:
            SpecError: the crop has sizes by epoch.
        """
        return self.one_size()

    def windows(self, chance: Chance, height: Sides, width: Sides) -> Windows:
        """Return top, left, height and width of each image's window in its slot: int64, (n,) each."""
        share, shape = chance.numbers(_SHAPE, 2 * _TRIES).reshape(_TRIES, 2, -1).swapaxes(0, 1)
        height, width = (np.broadcast_to(np.asarray(side, np.int64), chance.keys.size) for side in (height, width))
        area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
        low, high = (math.log(ratio) for ratio in self.ratio)
        ratio = np.exp(low + shape * (high - low))
        heights, widths = np.rint(np.sqrt(area / ratio)), np.rint(np.sqrt(area * ratio))
        fits = (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
        first = fits.argmax(axis=0)[None]  # 0 where none fits, replaced below
        none = ~fits.any(axis=0)
        h, w = (np.take_along_axis(sides, first, axis=0)[0].astype(np.int64) for sides in (heights, widths))
        h[none], w[none] = self._largest(height[none], width[none])
        top, left = chance.corners(height - h, width - w)
        top[none], left[none] = (height[none] - h[none]) // 2, (width[none] - w[none]) // 2
        return top, left, h, w

    def _largest(self, height: Integers, width: Integers) -> tuple[Integers, Integers]:
        low, high = self.ratio
        # A ratio of a thousand to one may round to 0 pixels; torchvision fails then.
        rows = np.maximum(np.rint(width / low), 1).astype(np.int64)
        columns = np.maximum(np.rint(height * high), 1).astype(np.int64)
        ratio = width / height
        return np.where(ratio < low, rows, height), np.where(ratio > high, columns, width)


Crop = CenterCrop | RandomCrop | PadAndCrop | RandomResizedCrop


def _checked_size(size: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    if size[0] > height or size[1] > width:
        raise SpecError(
            f"a crop of {size[0]} × {size[1]} pixels is larger than the {height} × {width} pixels it is cut from: "
            "choose a smaller crop, PadAndCrop, or RandomResizedCrop"
        )
    return size


def _repeated(size: tuple[int, int], count: int) -> tuple[Integers, Integers]:
    return np.full(count, size[0]), np.full(count, size[1])


def _limits(name: str, value: object, most: float) -> tuple[float, float]:
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
        low, high = float(value[0]), float(value[1])
        if 0 < low <= high <= most and high < math.inf:
            return low, high
    limit = " and at most 1" if most == 1 else ""
    raise SpecError(f"{name} must be (smallest, largest), both more than 0{limit}, not {value!r}")
