"""Augmentation: options that say how slots become images, and the pass that makes them so.

Everything is a pure function. `Augment.sample` draws a batch's geometry (`arraystore._augmenting.crops`), `Augment.apply` reads
slots and writes the batch in one pass outside the interpreter's lock (`arraystore._kernels.crop`, `arraystore._kernels.resized_crop`),
and `Augment.follow_geometry` takes boxes, masks and keypoints along (`arraystore._augmenting.followers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.crops import (
    GEOMETRY,
    Chance,
    Crop,
    Geometry,
    PadAndCrop,
    RandomResizedCrop,
)
from arraystore._augmenting.followers import FOLLOWERS, Follower
from arraystore._common.checks import choice_of
from arraystore._common.public import public
from arraystore.errors import SpecError
from arraystore.spec import Layout

__all__ = ["Augment", "Dtype"]

Shape = tuple[int, ...]
Statistics = Sequence[float]
Dtype = Literal["uint8", "float32", "float16", "bfloat16"]

_LEAST_STD = 1e-3  # gray levels; a channel with less is the same everywhere
_DTYPES = {"uint8": np.uint8, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """How slots become the images of a batch.

    Attributes:
        crop: `CenterCrop`, `RandomCrop`, `PadAndCrop`, `RandomResizedCrop`, or None for whole slots.
        hflip: the chance that an image is mirrored left to right, 0 to 1.
        vflip: likewise top to bottom.
        dtype: ``"uint8"`` keeps gray levels; ``"float32"``, ``"float16"`` and ``"bfloat16"`` make them floats, computed
            in single precision and then rounded to the nearest, ties to even. NumPy has no bfloat16: images are then
            uint16 that hold its bits, which ``torch.from_numpy(images).view(torch.bfloat16)`` shows as what they are.
        normalize: True makes each channel (value - mean) / std with the store's own mean and std; a pair (mean, std)
            gives others, a number a channel, in gray levels from 0 to 255. False makes floats value / 255. Computed as
            value x scale + bias, so the last bit may differ from that of a division.
        layout: ``"NCHW"`` or ``"NHWC"``; None keeps the slots'.
        follow: name of a target → ``"boxes"``, ``"mask"`` or ``"keypoints"``: it gets the same geometry. See
            `arraystore._augmenting.followers` for the shapes.

    Raises:
        SpecError: a value is not one of these; the message says which, and what is allowed.

    Example:
        Half of the images mirrored, each a random window, as floats that average 0:

        >>> slots = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
        >>> augment = Augment(crop=RandomCrop(2), hflip=0.5, dtype="float32", normalize=((48, 48, 48), (24, 24, 24)))
        >>> shape, dtype = augment.output((3, 4, 4), "NCHW")
        >>> shape, dtype.name
        ((3, 2, 2), 'float32')
        >>> rows = np.array([1, 0, 1])
        >>> geometry = augment.sample(rows, seed=0, epoch=0, slot_shape=(3, 4, 4), layout="NCHW")
        >>> batch = np.empty((3, *shape), dtype)
        >>> augment.apply(slots, rows, geometry, batch, layout="NCHW")
        >>> bool((batch[0] == batch[2]).all())  # the same slot in the same epoch
        True
        >>> again = augment.sample(rows[:1], seed=0, epoch=0, slot_shape=(3, 4, 4), layout="NCHW")
        >>> bool(again[0] == geometry[0])  # in whatever batch
        True
    """

    crop: Crop | None = None
    hflip: float = 0.0
    vflip: float = 0.0
    dtype: Dtype = "uint8"
    normalize: bool | tuple[Statistics, Statistics] = False
    layout: Layout | None = None
    follow: Mapping[str, Follower] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        if self.crop is not None and not isinstance(self.crop, Crop):
            raise SpecError(
                "crop must be CenterCrop, RandomCrop, PadAndCrop or RandomResizedCrop with its size, or None, "
                f"not {self.crop!r}"
            )
        for name in ("hflip", "vflip"):
            chance = getattr(self, name)
            if not isinstance(chance, int | float) or not 0 <= chance <= 1:
                raise SpecError(f"{name} must be a chance from 0 to 1, not {chance!r}")
            set_field(self, name, float(chance))
        choice_of("dtype", self.dtype, get_args(Dtype))
        if self.layout is not None:
            choice_of("layout", self.layout, get_args(Layout))
        if not isinstance(self.normalize, bool):
            set_field(self, "normalize", _statistics(self.normalize))
        if self.normalize is not False and self.dtype == "uint8":
            raise SpecError("normalize makes floats: choose dtype='float32', 'float16' or 'bfloat16' with it")
        if not isinstance(self.follow, Mapping):
            raise SpecError(f"follow must be a mapping of targets to what they are, not {self.follow!r}")
        for name, kind in self.follow.items():
            choice_of(f"follow[{name!r}]", kind, get_args(Follower))
        set_field(self, "follow", dict(self.follow))

    @property
    def is_identity(self) -> bool:
        """Whether images are the slots as they are, so that copying is enough."""
        return self.crop is None and not (self.hflip or self.vflip) and self.dtype == "uint8" and self.layout is None

    def output(self, slot_shape: Shape, layout: Layout) -> tuple[Shape, np.dtype[Any]]:
        """Return shape and type of one image.

        Args:
            slot_shape: the shape of one slot, in the order of ``layout``.
            layout: the slots'.

        Raises:
            SpecError: the crop is larger than the slot, or slots have no three axes.
        """
        channels, height, width = _sides(slot_shape, layout)
        height, width = self._size(height, width)
        planar = (self.layout or layout) == "NCHW"
        return (channels, height, width) if planar else (height, width, channels), np.dtype(_DTYPES[self.dtype])

    def sample(  # noqa: PLR0913 - all that chance depends on
        self,
        slots: npt.NDArray[np.int64],
        *,
        seed: int,
        epoch: int,
        slot_shape: Shape,
        layout: Layout,
        draws: npt.NDArray[np.int64] | None = None,
    ) -> Geometry:
        """Draw which window of its slot each image shows, and which way round.

        A row depends on seed, epoch, its slot and its draw alone: however a batch is split, the rows are the same.

        Args:
            slots: int64, (n,).
            seed: any whole number.
            epoch: likewise.
            slot_shape: the shape of one slot, in the order of ``layout``.
            layout: the slots'.
            draws: int64, (n,): something that differs where an order repeats a slot, such as its position in the
                epoch; None where no slot is repeated.

        Returns:
            (n,), of the type `arraystore._augmenting.crops.GEOMETRY`.

        Raises:
            SpecError: see `output`.
        """
        _, height, width = _sides(slot_shape, layout)
        size = self._size(height, width)
        geometry = np.zeros(len(slots), GEOMETRY)
        chance = Chance(slots, seed=seed, epoch=epoch, draws=draws)
        if self.crop is None:
            geometry["height"], geometry["width"] = size
        else:
            windows = self.crop.windows(chance, height, width)
            for name, values in zip(("top", "left", "height", "width"), windows, strict=True):
                geometry[name] = values
        if self.hflip or self.vflip:
            geometry["hflip"], geometry["vflip"] = chance.flips(self.hflip, self.vflip)
        return geometry

    def apply(  # noqa: PLR0913 - where from, where to, and what is known of both
        self,
        images: npt.NDArray[np.uint8],
        rows: npt.NDArray[np.int64],
        geometry: Geometry,
        out: npt.NDArray[Any],
        *,
        layout: Layout,
        mean: Statistics | None = None,
        std: Statistics | None = None,
        places: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Write slots into a batch, in one pass outside the interpreter's lock.

        Args:
            images: uint8, (N, *slot_shape), in C order: a mapping or in RAM; only read.
            rows: int64, (k,): which of them.
            geometry: (k,), from `sample`.
            out: (n, *shape) with shape and type from `output`, in C order; written in place. Must not overlap
                ``images``.
            layout: the slots'.
            mean: the store's, a number a channel, 0 to 255; needed where ``normalize`` is True.
            std: likewise.
            places: int64, (k,): which rows of ``out`` are written; None writes the first k.

        Raises:
            SpecError: see `output`; or mean and std are missing, or not a number for each channel.
            ValueError: the arrays do not fit together, or the geometry is not one that this `Augment` draws.
        """
        shape, dtype = self.output(images.shape[1:], layout)
        channels, height, width = _sides(images.shape[1:], layout)
        size = self._size(height, width)
        places = np.arange(len(rows)) if places is None else places
        _check_arrays(images, rows, geometry, out, places, shape=shape, dtype=dtype)
        if len(rows) == 0:
            return
        resized = isinstance(self.crop, RandomResizedCrop)
        _check_geometry(geometry, (height, width), size, resized=resized)
        scale, bias = self.scale_and_bias(channels, mean, std)
        # Compiled by the first batch that is augmented, not by who imports this.
        from arraystore._kernels.crop import form_of, write_crops  # noqa: PLC0415

        planar = (self.layout or layout) == "NCHW"
        form = form_of(self.dtype, channels, *size, planar=planar, scale=scale, bias=bias)
        source, target = np.asarray(images).reshape(-1), out.reshape(-1).view(np.uint8)
        slot = (channels, height, width, int(layout == "NCHW"))
        windows = np.ascontiguousarray(geometry).view(np.int32).reshape(-1, 6)
        arguments = (source, slot, np.ascontiguousarray(rows), windows, target, np.ascontiguousarray(places), form)
        if resized:
            from arraystore._kernels.resized_crop import write_resized_crops  # noqa: PLC0415 - likewise

            write_resized_crops(*arguments)
        else:
            write_crops(*arguments, fill=self.crop.fill if isinstance(self.crop, PadAndCrop) else 0)

    def follow_geometry(
        self, targets: Mapping[str, npt.NDArray[Any]], geometry: Geometry, *, slot_shape: Shape, layout: Layout
    ) -> dict[str, npt.NDArray[Any]]:
        """Return a batch's targets: those that follow moved as their images were, the others as they are.

        Args:
            targets: name → array, (k, ...): one row an image.
            geometry: (k,), from `sample`.
            slot_shape: the shape of one slot, in the order of ``layout``.
            layout: the slots'.

        Returns:
            New arrays for the targets that follow, of the same types.

        Raises:
            SpecError: a target that follows is missing, or has not the shape of what it is said to be.
        """
        for name in self.follow:
            if name not in targets:
                raise SpecError(f"follow names {name!r}, the targets are {', '.join(map(repr, targets)) or 'none'}")
        _, height, width = _sides(slot_shape, layout)
        sizes = {"slot_size": (height, width), "size": self._size(height, width)}
        moved = dict(targets)
        for name, kind in self.follow.items():
            moved[name] = FOLLOWERS[kind](np.asarray(targets[name]), geometry, **sizes)
        return moved

    def _size(self, height: int, width: int) -> tuple[int, int]:
        return (height, width) if self.crop is None else self.crop.output_size(height, width)

    def scale_and_bias(
        self, channels: int, mean: Statistics | None, std: Statistics | None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return what each channel's gray levels are multiplied with where floats are made, and what is added then.

        Args:
            channels: how many.
            mean: the store's, a number a channel, 0 to 255; needed where ``normalize`` is True.
            std: likewise.

        Returns:
            two arrays of float64, (channels,).

        Raises:
            SpecError: mean and std are missing, or not a number for each channel, or a std is 0.
        """
        if self.normalize is False:
            return np.full(channels, 1 / 255), np.zeros(channels)
        if self.normalize is not True:
            mean, std = self.normalize
        elif mean is None or std is None:
            raise SpecError("normalize=True takes the store's mean and std, and there are none: pass (mean, std)")
        if len(mean) != channels or len(std) != channels:
            raise SpecError(
                f"normalize has {len(mean)} means and {len(std)} standard deviations, slots have {channels} channels"
            )
        if min(std) < _LEAST_STD:
            raise SpecError(
                "a channel of the store has the same value everywhere, so normalize=True would divide by 0: "
                "pass (mean, std)"
            )
        scale = 1 / np.asarray(std, np.float64)
        return scale, -np.asarray(mean, np.float64) * scale


def _sides(slot_shape: Shape, layout: Layout) -> tuple[int, int, int]:
    """Channels, height and width."""
    if len(slot_shape) != 3:
        raise SpecError(f"only images can be augmented, with three axes a slot: these slots have shape {slot_shape}")
    first, second, third = slot_shape
    return (first, second, third) if layout == "NCHW" else (third, first, second)


def _statistics(value: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std as tuples.

    Raises:
        SpecError: they are not what they should be.
    """
    try:
        mean, std = (tuple(float(number) for number in numbers) for numbers in value)
    except (TypeError, ValueError):
        mean, std = (), ()
    if not mean or len(mean) != len(std):
        raise SpecError(f"normalize must be True, False, or (mean, std) with a number a channel each, not {value!r}")
    # Most write these from 0 to 1; so small a spread of gray levels is no photograph's.
    if not (all(0 <= m <= 255 and _LEAST_STD <= s <= 1e6 for m, s in zip(mean, std, strict=True)) and max(std) > 1):
        raise SpecError(
            f"normalize takes gray levels from 0 to 255, not mean {mean!r} and std {std!r}: if these are from 0 to 1, "
            "multiply both by 255"
        )
    return mean, std


def _check_arrays(  # noqa: PLR0913 - all that must fit together
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    geometry: Geometry,
    out: npt.NDArray[Any],
    places: npt.NDArray[np.int64],
    *,
    shape: Shape,
    dtype: np.dtype[Any],
) -> None:
    """The kernels read and write unchecked memory: nothing that does not fit may come to them."""
    if images.dtype != np.uint8 or not images.flags.c_contiguous:
        raise ValueError(f"slots must be uint8 in C order, not {images.dtype} with strides {images.strides}")
    if out.shape[1:] != shape or out.dtype != dtype or not out.flags.carray:
        raise ValueError(f"the batch must be {dtype}, (n, {shape}), writable in C order, not {out.dtype} {out.shape}")
    if geometry.dtype != GEOMETRY or not len(rows) == len(geometry) == len(places):
        raise ValueError(f"{len(rows)} rows have {len(geometry)} geometries, and {len(places)} places")
    for what, values, count in (("rows", rows, len(images)), ("places", places, len(out))):
        if (
            values.dtype != np.int64
            or values.ndim != 1
            or (values.size and not 0 <= values.min() <= values.max() < count)
        ):
            raise ValueError(f"{what} must be int64, (k,), from 0 to {count - 1}")


def _check_geometry(geometry: Geometry, slot: tuple[int, int], size: tuple[int, int], *, resized: bool) -> None:
    for first, extent, most, side in (("top", "height", slot[0], size[0]), ("left", "width", slot[1], size[1])):
        starts, extents = geometry[first], geometry[extent]
        if resized:
            fits = starts.min() >= 0 and extents.min() > 0 and (starts.astype(np.int64) + extents).max() <= most
        else:
            fits = (extents == side).all()
        if not fits:
            raise ValueError(f"the geometry is of another Augment: {first} and {extent} do not fit the slots")
