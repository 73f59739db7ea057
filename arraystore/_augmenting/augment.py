"""Augmentation: the options, and the functions that make a batch from slots; results depend on the arguments alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from arraystore._augmenting.crops import GEOMETRY, Chance, Crop, Geometry, PadAndCrop, RandomResizedCrop
from arraystore._augmenting.crops import Sides as SlotSides
from arraystore._augmenting.followers import Follower, Sizes, follow
from arraystore._augmenting.parts import InParts
from arraystore._augmenting.slot_sides import Shape, image_size, sides_of
from arraystore._common.checks import choice_of
from arraystore._common.lazy import lazy
from arraystore._common.options import public
from arraystore.errors import SpecError
from arraystore.spec import Layout

if TYPE_CHECKING:
    from arraystore._kernels import crop as crop_kernels
    from arraystore._kernels import resized_crop as resized_crop_kernels
else:  # they load numba, which takes half a second
    crop_kernels, resized_crop_kernels = lazy("arraystore._kernels.crop"), lazy("arraystore._kernels.resized_crop")

Statistics = Sequence[float]
Dtype = Literal["uint8", "float32", "float16", "bfloat16"]

_LEAST_STD = 1e-3  # gray levels; all pixels of a channel with less have the same value
_DTYPES = {"uint8": np.uint8, "float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


@public
@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """How slots become the images of a batch.

    Attributes:
        crop: `CenterCrop`, `RandomCrop`, `PadAndCrop`, `RandomResizedCrop`, or None for whole slots. If it has sizes by
            epoch, `at_epoch` returns the augmentation of one epoch; loaders call it themselves.
        hflip: the probability that an image is mirrored left to right, 0 to 1.
        vflip: the probability that an image is mirrored top to bottom, 0 to 1.
        dtype: ``"uint8"`` keeps gray levels. ``"float32"``, ``"float16"`` and ``"bfloat16"`` make floats, computed in
            single precision and then rounded to the nearest, ties to even. NumPy has no bfloat16, so the images are
            uint16 arrays of its bits; ``torch.from_numpy(images).view(torch.bfloat16)`` makes bfloat16 of them.
        normalize: True makes (value - mean) / std of each channel, with the mean and std of the store. A pair
            (mean, std), each with one number for each channel, in gray levels from 0 to 255, is used instead of those.
            False makes value / 255. All are computed as value x scale + bias, so the last bit may differ from that of a
            division.
        layout: of the images, ``"NCHW"`` or ``"NHWC"``; None keeps the layout of the slots.
        follow: maps names of targets to ``"boxes"``, ``"mask"`` or ``"keypoints"``; these targets get the same geometry
            as their images. Boxes have shape (N, ..., 4), masks (N, H, W) or (N, C, H, W), keypoints (N, ..., 2); the
            items of a `Ragged` have these shapes without the N. Their pixels are those of slots.

    Raises:
        SpecError: an option is invalid; the message says which one, and which values are allowed.

    Example:
        Half of the images mirrored, each a random window, as floats that average 0:

        >>> from arraystore import Augment, RandomCrop
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
        >>> bool(again[0] == geometry[0])  # also in another batch
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
                raise SpecError(f"{name} must be a probability from 0 to 1, not {chance!r}")
            set_field(self, name, float(chance))
        choice_of("dtype", self.dtype, get_args(Dtype))
        if self.layout is not None:
            choice_of("layout", self.layout, get_args(Layout))
        if not isinstance(self.normalize, bool):
            set_field(self, "normalize", _statistics(self.normalize))
        if self.normalize is not False and self.dtype == "uint8":
            raise SpecError("normalize makes floats: choose dtype='float32', 'float16' or 'bfloat16' with it")
        if not isinstance(self.follow, Mapping):
            raise SpecError(f"follow must map names of targets to their kinds, not {self.follow!r}")
        for name, kind in self.follow.items():
            choice_of(f"follow[{name!r}]", kind, get_args(Follower))
        set_field(self, "follow", dict(self.follow))

    @property
    def is_identity(self) -> bool:
        """Whether images equal their slots, so that copying is enough."""
        return self.crop is None and not (self.hflip or self.vflip) and self.dtype == "uint8" and self.layout is None

    def at_epoch(self, epoch: int) -> Augment:
        """Return the augmentation of an epoch; itself if its crop does not have sizes by epoch.

        Raises:
            SpecError: the epoch is no whole number of 0 or more, or a function returned no size for it.
        """
        crop = None if self.crop is None else self.crop.at_epoch(epoch)
        return self if crop is self.crop else replace(self, crop=crop)

    def output(self, slot_shape: Shape, layout: Layout) -> tuple[Shape, np.dtype[Any]]:
        """Return shape and type of one image.

        Args:
            slot_shape: the shape of one slot, in the order of ``layout``; None for sides that differ between slots.
            layout: of the slots.

        Raises:
            SpecError: the crop is larger than the slot, or has sizes by epoch; slots differ in shape, and no crop gives
                them a size; or they do not have three axes.
        """
        channels, height, width = sides_of(slot_shape, layout)
        return self._shape(channels, image_size(self.crop, height, width), layout), np.dtype(_DTYPES[self.dtype])

    def _shape(self, channels: int, size: tuple[int, int], layout: Layout) -> Shape:
        return (channels, *size) if (self.layout or layout) == "NCHW" else (*size, channels)

    def sample(
        self,
        slots: npt.NDArray[np.int64],
        *,
        seed: int,
        epoch: int,
        slot_shape: Shape,
        layout: Layout,
        draws: npt.NDArray[np.int64] | None = None,
        sides: npt.NDArray[np.int64] | None = None,
    ) -> Geometry:
        """Draw which window of its slot each image shows, and whether it is mirrored.

        A row depends on seed, epoch, its slot and its draw alone, so it is the same if the batch is split.

        Args:
            slots: int64, (n,): the slot of each image.
            seed: any whole number.
            epoch: any whole number.
            slot_shape: the shape of one slot, in the order of ``layout``.
            layout: of the slots.
            draws: int64, (n,): numbers that tell the draws of a repeated slot apart, such as its positions in the
                epoch; None if no slot is repeated.
            sides: int64, (n, 2): height and width of the slot of each image; None if ``slot_shape`` has them.

        Returns:
            (n,), of the type `arraystore._augmenting.crops.GEOMETRY`.

        Raises:
            SpecError: see `output`.
        """
        height: SlotSides
        width: SlotSides
        _, height, width = sides_of(slot_shape, layout)
        if sides is not None:
            height, width = sides.T
        geometry = np.zeros(len(slots), GEOMETRY)
        chance = Chance(slots, seed=seed, epoch=epoch, draws=draws)
        if self.crop is None:
            geometry["height"], geometry["width"] = height, width
        else:
            image_size(self.crop, height, width)  # raises if the crop does not fit
            windows = self.crop.windows(chance, height, width)
            for name, values in zip(("top", "left", "height", "width"), windows, strict=True):
                geometry[name] = values
        if self.hflip or self.vflip:
            geometry["hflip"], geometry["vflip"] = chance.flips(self.hflip, self.vflip)
        return geometry

    def apply(
        self,
        images: npt.NDArray[np.uint8] | Any,
        rows: npt.NDArray[np.int64],
        geometry: Geometry,
        out: npt.NDArray[Any],
        *,
        layout: Layout,
        mean: Statistics | None = None,
        std: Statistics | None = None,
        out_rows: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Write the images of some slots into a batch, in one pass outside the interpreter's lock.

        Args:
            images: uint8, (N, *slot_shape), in C order: the slots, in RAM or mapped from a file; only read. Or images
                that are decoded when they are read (`InParts`), and may differ in height and width.
            rows: int64, (k,): which slots.
            geometry: (k,), from `sample`.
            out: (n, *shape) with shape and type from `output`, in C order; written in place. Must not overlap
                ``images``.
            layout: of the slots.
            mean: of the store: one number for each channel, 0 to 255; needed if ``normalize`` is True.
            std: of the store: one number for each channel; needed if ``normalize`` is True.
            out_rows: int64, (k,): which rows of ``out`` are written; None means the first k.

        Raises:
            SpecError: see `output`; or mean or std is missing, or does not have one number for each channel.
            ValueError: the arrays do not fit together, or the geometry was drawn by another `Augment`.
            FormatError: the bytes of an image that is decoded are damaged.
        """
        height: SlotSides
        width: SlotSides
        channels, height, width = sides_of(images.shape[1:], layout)
        out_rows = np.arange(len(rows)) if out_rows is None else out_rows
        _check_rows(images, rows, geometry, out, out_rows)
        if isinstance(images, InParts) and images.differ:
            height, width = images.sides_of(rows).T
        size = image_size(self.crop, height, width)
        _check_arrays(images, out, self._shape(channels, size, layout), np.dtype(_DTYPES[self.dtype]))
        if len(rows) == 0:
            return
        _check_geometry(geometry, (height, width), size, self.crop)
        form = self._form(channels, size, layout, mean, std)
        windows = np.ascontiguousarray(geometry).view(np.int32).reshape(-1, 6)
        target, places = out.reshape(-1).view(np.uint8), np.ascontiguousarray(out_rows)
        if isinstance(images, InParts):
            for part in images.parts(rows, windows):
                these = slice(part.first, part.stop)
                inside = windows[these].copy()
                inside[:, :2] -= part.origins
                self._write(part.source, (channels, 0), part.places, inside, target, places[these], form)
        else:
            source = np.asarray(images).reshape(-1)
            slots = crop_kernels.places_of(rows, *sides_of(images.shape[1:], layout))
            self._write(source, (channels, int(layout == "NCHW")), slots, windows, target, places, form)

    def _form(
        self, channels: int, size: tuple[int, int], layout: Layout, mean: Statistics | None, std: Statistics | None
    ) -> Any:
        """Return the form of the images; see `arraystore._kernels.crop`."""
        scale, bias = self.scale_and_bias(channels, mean, std)
        planar = (self.layout or layout) == "NCHW"
        return crop_kernels.form_of(self.dtype, channels, *size, planar=planar, scale=scale, bias=bias)

    def _write(self, *arguments: Any) -> None:
        """Call the kernel of the crop."""
        if isinstance(self.crop, RandomResizedCrop):
            resized_crop_kernels.write_resized_crops(*arguments)
        else:
            crop_kernels.write_crops(*arguments, self.crop.fill if isinstance(self.crop, PadAndCrop) else 0)

    def follow_geometry(
        self,
        targets: Mapping[str, Any],
        geometry: Geometry,
        *,
        slot_shape: Shape,
        layout: Layout,
        outside: Mapping[str, int] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Return the targets of a batch; those named in ``follow`` are moved and mirrored as their images are.

        Args:
            targets: maps names to arrays, (k, ...), or to a `Ragged`, with one row for each image; masks of slots that
                differ in height and width to a list of arrays (H, W).
            geometry: (k,), from `sample`.
            slot_shape: the shape of one slot, in the order of ``layout``.
            layout: of the slots.
            outside: the numbers that masks have outside their slots, by the names of targets; 0 where none is given.

        Returns:
            New arrays or `Ragged` of the same types for the targets that follow, and the given ones for the others.

        Raises:
            SpecError: a target that follows is missing, or its shape is not one of its kind.
        """
        for name in self.follow:
            if name not in targets:
                raise SpecError(f"follow names {name!r}, the targets are {', '.join(map(repr, targets)) or 'none'}")
        _, height, width = sides_of(slot_shape, layout)
        size = image_size(self.crop, height, width)
        moved = dict(targets)
        for name, kind in self.follow.items():
            sizes = Sizes((height, width), size, outside.get(name, 0))
            moved[name] = follow(kind, targets[name], geometry, sizes)
        return moved

    def scale_and_bias(
        self, channels: int, mean: Statistics | None, std: Statistics | None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return scale and bias of each channel: a gray level becomes the float value x scale + bias.

        Args:
            channels: how many.
            mean: of the store: one number for each channel, 0 to 255; needed if ``normalize`` is True.
            std: of the store: one number for each channel; needed if ``normalize`` is True.

        Returns:
            Two arrays of float64, (channels,).

        Raises:
            SpecError: mean or std is missing, or does not have one number for each channel; or a std is 0.
        """
        if self.normalize is False:
            return np.full(channels, 1 / 255), np.zeros(channels)
        if self.normalize is not True:
            mean, std = self.normalize
        elif mean is None or std is None:
            raise SpecError("normalize=True needs the mean and std of the store, which has none: pass (mean, std)")
        if len(mean) != channels or len(std) != channels:
            raise SpecError(
                f"normalize has {len(mean)} means and {len(std)} standard deviations, slots have {channels} channels"
            )
        if min(std) < _LEAST_STD:
            raise SpecError(
                "all pixels of a channel of the store have the same value, so normalize=True would divide by 0: "
                "pass (mean, std)"
            )
        scale = 1 / np.asarray(std, np.float64)
        return scale, -np.asarray(mean, np.float64) * scale


def _statistics(value: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std as tuples.

    Raises:
        SpecError: the value is not a pair of such numbers.
    """
    try:
        mean, std = (tuple(float(number) for number in numbers) for numbers in value)
    except (TypeError, ValueError):
        mean, std = (), ()
    if not mean or len(mean) != len(std):
        raise SpecError(
            f"normalize must be True, False, or (mean, std) with one number for each channel in both, not {value!r}"
        )
    # Many libraries give these on a scale from 0 to 1. Photographs never have a std of less than one gray level.
    if not (all(0 <= m <= 255 and _LEAST_STD <= s <= 1e6 for m, s in zip(mean, std, strict=True)) and max(std) > 1):
        raise SpecError(
            f"normalize takes gray levels from 0 to 255, not mean {mean!r} and std {std!r}: if these are from 0 to 1, "
            "multiply both by 255"
        )
    return mean, std


def _check_rows(
    images: Any,
    rows: npt.NDArray[np.int64],
    geometry: Geometry,
    out: npt.NDArray[Any],
    out_rows: npt.NDArray[np.int64],
) -> None:
    """Check that rows exist. The kernels check nothing: with wrong arguments they would read or write other memory."""
    if geometry.dtype != GEOMETRY or not len(rows) == len(geometry) == len(out_rows):
        raise ValueError(f"{len(rows)} rows have {len(geometry)} geometries, and {len(out_rows)} out_rows")
    for name, values, count in (("rows", rows, len(images)), ("out_rows", out_rows, len(out))):
        inside = not values.size or 0 <= values.min() <= values.max() < count
        if values.dtype != np.int64 or values.ndim != 1 or not inside:
            raise ValueError(f"{name} must be int64, (k,), from 0 to {count - 1}")


def _check_arrays(images: Any, out: npt.NDArray[Any], shape: Shape, dtype: np.dtype[Any]) -> None:
    """Check the memory that the kernels read and write."""
    if not isinstance(images, InParts) and (images.dtype != np.uint8 or not images.flags.c_contiguous):
        raise ValueError(f"slots must be uint8 in C order, not {images.dtype} with strides {images.strides}")
    if out.shape[1:] != shape or out.dtype != dtype or not out.flags.carray:
        raise ValueError(f"the batch must be {dtype}, (n, {shape}), writable in C order, not {out.dtype} {out.shape}")


def _check_geometry(
    geometry: Geometry, slot: tuple[SlotSides, SlotSides], size: tuple[int, int], crop: Crop | None
) -> None:
    """Check that windows have the size of the images, unless they are resized; and lie inside the slots, but padded."""
    for first, extent, most, side in (("top", "height", slot[0], size[0]), ("left", "width", slot[1], size[1])):
        starts, extents = geometry[first], geometry[extent]
        fits = bool(extents.min() > 0 if isinstance(crop, RandomResizedCrop) else (extents == side).all())
        if not isinstance(crop, PadAndCrop):
            fits &= bool(starts.min() >= 0 and (starts.astype(np.int64) + extents <= most).all())
        if not fits:
            raise ValueError(f"another Augment drew this geometry: {first} and {extent} do not fit the slots")
