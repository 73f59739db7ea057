"""The spec: how a decoded image becomes a slot."""

from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, Self, TypedDict, Unpack, get_args, get_origin

from arraystore._common.checks import choice_of, is_whole, size_of, whole_number
from arraystore._common.options import Default, complete, picked, public, shows_options
from arraystore.errors import Option, SpecError

__all__ = [
    "Color",
    "Filter",
    "Fit",
    "Icc",
    "ImageOptions",
    "ImageSpec",
    "Jpeg",
    "Layout",
    "Placement",
    "Subsampling",
    "Truncated",
    "spec_of",
]

Fit = Literal["stretch", "crop", "pad", "keep"]
Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Color = Literal["rgb", "gray"]
Layout = Literal["NCHW", "NHWC"]
Icc = Literal["ignore", "srgb"]
Truncated = Literal["refuse", "keep"]
Subsampling = Literal["444", "422", "420", "440", "411"]

# Pillow has the same limit. Without one, a small file with a false header would make a decoder take gigabytes.
DEFAULT_MAX_PIXELS = 178_000_000
_LONGEST_JPEG_SIDE_PX = 65_500
_LATER = {
    "levels": None,
    "icc": "ignore",
    "truncated": "refuse",
    "encode": None,
}  # fields that the first stores lack, and their defaults


@public
@dataclass(frozen=True, slots=True)
class Jpeg:
    """How slots are kept as JPEGs.

    Attributes:
        quality: 1 to 100, as libjpeg's.
        subsampling: of chroma: ``"444"`` keeps all of it, ``"420"`` a quarter.
        restart: restart markers are set after so many columns of blocks (8 to 32 pixels wide), or fewer where that does
            not divide the columns. Readers then cut a crop out of the bytes and decode little more than the crop. Each
            marker takes about four bytes. 0 sets none.
        source: True keeps the bytes of sources that are JPEGs as they are, in their own size. Other images are then
            encoded by the fields above. ``encode="source"`` is short for ``Jpeg(source=True)``.
        markers: True gives JPEGs of sources restart markers too, without loss: their pixels stay the same to the last
            bit, and readers cut crops out of them. A JPEG that is progressive, or otherwise no plain one, stays as it
            is.

    Raises:
        SpecError: a value is invalid.
    """

    quality: int = 90
    subsampling: Subsampling = "420"
    restart: int = 2
    source: bool = False
    markers: bool = False

    def __post_init__(self) -> None:
        whole_number("quality", self.quality, 1, 100)
        choice_of("subsampling", self.subsampling, get_args(Subsampling))
        whole_number("restart", self.restart, 0, 1000)
        for name in ("source", "markers"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.markers and not (self.source and self.restart):
            raise SpecError("markers=True is for JPEGs of sources: pass source=True, and a restart of 1 or more")


class _SpecOptions(TypedDict, total=False):
    """The options of an `ImageSpec` beside its size."""

    fit: Annotated[Fit, Default("stretch")]
    filter: Annotated[Filter, Default("bilinear")]
    color: Annotated[Color, Default("rgb")]
    layout: Annotated[Layout, Default("NCHW")]
    background: Annotated[tuple[int, int, int], Default((255, 255, 255))]
    exact: Annotated[bool, Default(False)]
    max_pixels: Annotated[int, Default(DEFAULT_MAX_PIXELS, low=1)]
    levels: Annotated[int | None, Default(None, low=1, high=65_535)]
    icc: Annotated[Icc, Default("ignore")]
    truncated: Annotated[Truncated, Default("refuse")]
    encode: Annotated[Jpeg | Literal["jpeg", "source", "none"] | None, Default(None)]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an upright image of one size goes in a slot: a box is resampled to a size, and begins at a row and column.

    The box is left, top, right, bottom in pixels of the upright image; they may be fractional.
    """

    box: tuple[float, float, float, float]
    height: int
    width: int
    top: int
    left: int


@public
@dataclass(frozen=True, slots=True, init=False)
class ImageSpec:
    """How a decoded image becomes a slot.

    Attributes:
        size: height and width of a slot in pixels; one number makes a square. With ``fit="keep"``, one number: the
            length of the shorter side. (0, 0) with ``encode="source"``, for which none is given.
        fit: ``"stretch"`` changes the aspect ratio to fill the slot, ``"crop"`` covers it and cuts the longer sides
            equally, ``"pad"`` fits the whole image in and fills the rest with ``background``. ``"keep"`` keeps the
            aspect ratio, with ``encode`` only: the shorter side becomes ``size``, and the longer one is rounded to
            whole pixels. An image whose shorter side is not longer than ``size`` keeps its pixels. Slots then differ
            in height and width, and a batch of them needs a crop.
        filter: the antialiasing filter; each gives the pixels that Pillow's ``Image.resize`` gives.
        color: ``"rgb"`` (C = 3, gray images become three equal channels) or ``"gray"`` (C = 1, ITU-R 601 luma).
        layout: ``"NCHW"`` keeps channels as planes, ``"NHWC"`` interleaves them.
        background: red, green and blue (0 to 255) behind transparent pixels and beside padded images.
        exact: True decodes every JPEG at full size; False lets libjpeg shrink by 1/2, 1/4 or 1/8 while the decoded
            image stays at least twice the target on both axes, which is several times faster for camera photos.
        max_pixels: a larger image is refused from its header, before memory is taken for its pixels.
        levels: the largest sample of files of 16 bits a sample, where they hold fewer: 4095 for 12 bits. None takes
            65535, as the files say. Larger samples count as ``levels``.
        icc: ``"srgb"`` converts pixels to sRGB by the color profile of their file (needs Pillow), ``"ignore"`` takes
            them as they are.
        truncated: ``"keep"`` stores a JPEG that ends early, gray where its pixels are missing, with a note in the
            samples; ``"refuse"`` makes it a bad image.
        encode: a `Jpeg` keeps slots as JPEGs, a tenth of the bytes, which are decoded when they are read; ``"jpeg"`` is
            one of the default quality. ``"source"`` keeps sources that are JPEGs byte for byte, and encodes others with
            a note; slots then have the sizes of their images, and ``fit`` is ``"keep"``. ``"none"`` and None keep
            pixels.

    Raises:
        SpecError: a value is invalid; the message names it and the allowed values.

    Example:
        >>> ImageSpec(size=256).slot_shape
        (3, 256, 256)
        >>> ImageSpec(size=(224, 320), layout="NHWC").slot_shape
        (224, 320, 3)
        >>> ImageSpec(size=256, fit="keep", encode="jpeg").slot_shape
        (3, None, None)
    """

    size: tuple[int, int]
    fit: Fit
    filter: Filter
    color: Color
    layout: Layout
    background: tuple[int, int, int]
    exact: bool
    max_pixels: int
    levels: int | None
    icc: Icc
    truncated: Truncated
    encode: Jpeg | None

    @shows_options(_SpecOptions)
    def __init__(self, *, size: int | tuple[int, int] | None = None, **options: Unpack[_SpecOptions]) -> None:
        values: dict[str, Any] = {**complete("an ImageSpec", _SpecOptions, options)}
        values["background"] = _background(values["background"])
        values["exact"] = bool(values["exact"])
        values["encode"] = _encoding(values["encode"])
        if values["encode"] is not None and values["encode"].source:
            _check_source(size, values)
            values["size"], values["fit"] = (0, 0), "keep"
        elif size is None:
            raise SpecError("size is missing: pass size=256, or (height, width), in pixels")
        else:
            values["size"] = size_of(size)
        for name, hint in _SpecOptions.__annotations__.items():
            if get_origin(hint.__origin__) is Literal:
                choice_of(name, values[name], get_args(hint.__origin__))
        if values["fit"] == "keep" and size is not None:
            _check_keep(size, values["encode"])
        if values["encode"] is not None and max(values["size"]) > _LONGEST_JPEG_SIDE_PX:
            raise SpecError(f"size is {values['size']}, and JPEGs have sides of up to {_LONGEST_JPEG_SIDE_PX:,} pixels")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def height(self) -> int:
        """Rows of a slot; of its shorter side with ``fit="keep"``."""
        return self.size[0]

    @property
    def width(self) -> int:
        """Columns of a slot; of its shorter side with ``fit="keep"``."""
        return self.size[1]

    @property
    def channels(self) -> int:
        """Channels of a slot: 3 for ``"rgb"``, 1 for ``"gray"``."""
        return 3 if self.color == "rgb" else 1

    @property
    def one_shape(self) -> bool:
        """Whether all slots have the same height and width; False with ``fit="keep"``."""
        return self.fit != "keep"

    @property
    def slot_shape(self) -> tuple[Any, Any, Any]:
        """The shape of one slot, in the order of ``layout``; None for a side that differs between slots."""
        sides = self.size if self.one_shape else (None, None)
        return (self.channels, *sides) if self.layout == "NCHW" else (*sides, self.channels)

    @property
    def slot_bytes(self) -> int:
        """Bytes of the pixels of one slot; with ``fit="keep"``, of a square whose side is ``size``, which may be 0."""
        return self.channels * self.height * self.width

    def place(self, height: int, width: int) -> Placement:
        """Return the place of an upright image of ``height`` × ``width`` pixels.

        The arithmetic is that of Pillow's ``ImageOps.fit`` (crop) and ``ImageOps.pad`` (pad), so the pixels are equal.
        """
        if self.fit == "keep":
            whole = (0.0, 0.0, float(width), float(height))
            sides = scaled_sides(height, width, self.height) if self.height else (height, width)
            return Placement(whole, *sides, 0, 0)
        ratio, wanted = width / height, self.width / self.height
        box = (0.0, 0.0, float(width), float(height))
        new_height, new_width = self.height, self.width
        if self.fit == "crop":
            crop_width = wanted * height if ratio > wanted else float(width)
            crop_height = width / wanted if ratio < wanted else float(height)
            left, top = (width - crop_width) * 0.5, (height - crop_height) * 0.5
            # Rounding must not push the box over the edge by a part in 10^16.
            box = (left, top, min(left + crop_width, float(width)), min(top + crop_height, float(height)))
        elif self.fit == "pad" and ratio > wanted:
            new_height = max(1, round(height / width * self.width))
        elif self.fit == "pad" and ratio < wanted:
            new_width = max(1, round(width / height * self.height))
        first_row, first_column = round((self.height - new_height) * 0.5), round((self.width - new_width) * 0.5)
        return Placement(box, new_height, new_width, first_row, first_column)

    @property
    def decoded(self) -> "ImageSpec":
        """The spec of the pixels that are encoded: channels last. It is this spec itself if nothing is encoded."""
        return self if self.encode is None else self.changed(layout="NHWC", encode=None)

    def changed(self, **values: Any) -> Self:
        """Return a copy with other values of some fields. They are not checked: no slot may be kept as pixels are."""
        other = copy(self)
        for name, value in values.items():
            object.__setattr__(other, name, value)
        return other

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON; those that stores did not always have only if they say more."""
        values: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }
        if not self.one_shape:
            values["size"] = self.height or None
        if self.encode is not None:
            for name in ("source", "markers"):
                if not values["encode"][name]:
                    del values["encode"][name]  # as in stores that know no other
        return {key: value for key, value in values.items() if key not in _LATER or value != _LATER[key]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the spec that `to_dict` described.

        Raises:
            SpecError: a field is unknown, missing or invalid.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown or "size" not in values:
            detail = f"unknown fields {unknown}" if unknown else "no field 'size'"
            raise SpecError(f"this is not the spec of an image: {detail}; known fields are {sorted(known)}")
        return cls(**values)


class _Size(TypedDict, total=False):
    size: Annotated[int | tuple[int, int] | None, Default(None)]


class ImageOptions(_Size, _SpecOptions, total=False):
    """The options of a build that say how an image becomes a slot."""

    spec: Annotated[ImageSpec | None, Default(None)]


def spec_of(options: ImageOptions) -> ImageSpec:
    """Return the option ``spec``, or where it is None the spec that the other options make.

    Raises:
        SpecError: both are missing, or an option is invalid.
    """
    spec = options.get("spec")
    return ImageSpec(size=options.get("size"), **picked(_SpecOptions, options)) if spec is None else spec


def _check_keep(size: int | tuple[int, int], encode: Jpeg | None) -> None:
    """Check the options that go with ``fit="keep"``.

    Raises:
        SpecError: size is a pair, or slots are kept as pixels.
    """
    if not is_whole(size):
        raise SpecError(f"fit='keep' takes one number as size, the shorter side in pixels, not {size!r}")
    if encode is None:
        raise SpecError(
            "fit='keep' makes slots of different heights and widths, and only JPEGs may differ in these",
            advice="pass {0} with it, or another {1}",
            options=[Option("encode", "jpeg"), Option("fit", None)],
        )


def _check_source(size: object, values: Mapping[str, Any]) -> None:
    """Check the options that go with ``encode="source"``, which keeps bytes as they are.

    Raises:
        SpecError: one asks for other pixels.
    """
    if size is not None:
        raise SpecError(
            f"encode='source' keeps images in their own size, and size is {size!r}",
            advice="leave it out, or pass {0} and {1}",
            options=[Option("encode", "jpeg"), Option("fit", "keep")],
        )
    for name, fitting in (("fit", ("stretch", "keep")), ("icc", ("ignore",)), ("truncated", ("refuse",))):
        if values[name] not in fitting:
            raise SpecError(
                f"encode='source' keeps the bytes of JPEGs as they are, and {name} is {values[name]!r}",
                advice="leave it out, or pass {0}",
                options=[Option("encode", "jpeg")],
            )


def _encoding(value: object) -> Jpeg | None:
    if isinstance(value, str) and value in ("jpeg", "source", "none"):
        return None if value == "none" else Jpeg(source=value == "source")
    if isinstance(value, Mapping):  # of `ImageSpec.to_dict`
        unknown = sorted(map(str, set(value) - {each.name for each in fields(Jpeg)}))
        if not unknown:
            return Jpeg(**value)
    elif value is None or isinstance(value, Jpeg):
        return value
    raise SpecError(f'encode must be "jpeg", an arraystore.Jpeg, "source", or "none", not {value!r}')


def _background(value: object) -> tuple[int, int, int]:
    parts = value if isinstance(value, tuple | list) else ()
    if len(parts) != 3 or not all(is_whole(part) and 0 <= part <= 255 for part in parts):
        raise SpecError(f"background must be (red, green, blue), each 0 to 255, not {value!r}")
    red, green, blue = map(int, parts)
    return red, green, blue


def scaled_sides(height: int, width: int, size: int, *, longer: bool = False) -> tuple[int, int]:
    """Return height and width of an image whose shorter side becomes ``size``, or the longer one; never enlarged.

    The other side is rounded to the nearest pixel, halves up, and is at least 1.
    """
    side = max(height, width) if longer else min(height, width)
    if side <= size:
        return height, width
    return _rounded(height, size, side), _rounded(width, size, side)


def _rounded(side: int, part: int, whole: int) -> int:
    """Return ``side`` × ``part`` / ``whole``, rounded to the nearest; halves go up."""
    return max(1, (2 * side * part + whole) // (2 * whole))
