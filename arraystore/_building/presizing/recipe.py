"""How images become smaller ones: the sizes, and how they are decoded, resampled and encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from arraystore._common.checks import choice_of, size_of, whole_number
from arraystore.errors import Option, SpecError
from arraystore.spec import ImageSpec, Placement, Subsampling, scaled_sides

Sides = Literal["shorter", "longer", "size"]
Fit = Literal["stretch", "crop"]
Icc = Literal["keep", "srgb"]
Form = Literal["jpeg", "png"]

PASSED, JPEG, PNG = 1, 2, 3  # a file is the source itself, byte for byte, or one that was encoded

_SIDES: tuple[Sides, ...] = get_args(Sides)
_LONGEST_SIDE_PX = 65_535


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an image becomes one smaller image for each size. None is ever enlarged.

    Attributes:
        sides: which side a size is of; ``"size"`` says both, as height and width.
        sizes: height and width each; of one side, twice the same number.
        fit: how an image fills a size of another aspect ratio; only for ``"size"``.
        spec: how it is decoded and resampled; its size and fit are not used.
        icc: ``"keep"`` writes the color profile into the smaller file.
        keeps_alpha: whether transparent images stay so.
        format: of images without transparent pixels.
        quality: of JPEGs, 1 to 100.
        subsampling: of their chroma.
    """

    sides: Sides
    sizes: tuple[tuple[int, int], ...]
    fit: Fit
    spec: ImageSpec
    icc: Icc
    keeps_alpha: bool
    format: Form
    quality: int
    subsampling: Subsampling

    @property
    def names(self) -> tuple[str, ...]:
        """What ``{size}`` stands for in the path of each tree."""
        return tuple(str(size[0]) if self.sides != "size" else f"{size[0]}x{size[1]}" for size in self.sizes)

    def placements(self, height: int, width: int) -> tuple[Placement, ...]:
        """Return what part of an upright image of ``height`` × ``width`` pixels each size shows, and how large."""
        return tuple(self._placement(size, height, width) for size in self.sizes)

    def _placement(self, size: tuple[int, int], height: int, width: int) -> Placement:
        whole = (0.0, 0.0, float(width), float(height))
        if self.sides == "size":
            # An image that is too small for the size becomes the largest of the same aspect ratio.
            scale = min(1.0, height / size[0], width / size[1])
            wanted = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
            if self.fit == "crop":
                return replace(self.spec, size=wanted, fit="crop").place(height, width)
            return Placement(whole, *wanted, 0, 0)
        return Placement(whole, *scaled_sides(height, width, size[0], longer=self.sides == "longer"), 0, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return what decides the pixels and bytes of the smaller images, as plain values."""
        spec = self.spec.to_dict()
        for name in ("size", "fit", "color", "layout", "icc", "max_pixels"):
            spec.pop(name, None)
        if self.keeps_alpha:
            spec["background"] = None
        sizes = [list(size) if self.sides == "size" else size[0] for size in self.sizes]
        own: dict[str, Any] = {"icc": self.icc, "format": self.format, "quality": self.quality}
        return {self.sides: sizes, "fit": self.fit, **spec, **own, "subsampling": self.subsampling}


def recipe_of(options: Mapping[str, Any]) -> Recipe:
    """Return the recipe that the options of `arraystore.presize` make; all of them are given.

    Raises:
        SpecError: none or two of ``shorter``, ``longer`` and ``size`` are given, or an option is invalid.
    """
    given = [sides for sides in _SIDES if options[sides] is not None]
    if len(given) != 1:
        found = "none of shorter, longer and size" if not given else " and ".join(given)
        raise SpecError(
            f"presize was given {found}: it takes exactly one",
            advice="pass {0} for a shorter side of 256 pixels",
            options=[Option("shorter", 256)],
        )
    (sides,) = given
    sizes = _sizes(sides, options[sides])
    if options["fit"] == "crop" and sides != "size":
        raise SpecError(f"fit='crop' needs both sides, and {sides} says one: pass size=(height, width)")
    keeps_alpha = options["background"] is None
    spec = ImageSpec(
        size=1,
        filter=options["filter"],
        background=(255, 255, 255) if keeps_alpha else options["background"],
        exact=options["exact"],
        max_pixels=options["max_pixels"],
        levels=options["levels"],
        icc="srgb" if options["icc"] == "srgb" else "ignore",
        truncated=options["truncated"],
    )
    for name, kind in (("fit", Fit), ("icc", Icc), ("format", Form), ("subsampling", Subsampling)):
        choice_of(name, options[name], get_args(kind))
    rest = {name: options[name] for name in ("fit", "icc", "format", "quality", "subsampling")}
    return Recipe(sides=sides, sizes=sizes, spec=spec, keeps_alpha=keeps_alpha, **rest)


def _sizes(sides: Sides, value: Any) -> tuple[tuple[int, int], ...]:
    if sides == "size":
        several = isinstance(value, Sequence) and any(isinstance(each, Sequence) for each in value)
        sizes = [size_of(each) for each in (value if several else [value])]
    else:
        several = isinstance(value, Sequence) and not isinstance(value, str)
        numbers = [whole_number(sides, each, 1, _LONGEST_SIDE_PX) for each in (value if several else [value])]
        sizes = [(number, number) for number in numbers]
    if not sizes or len(set(sizes)) < len(sizes):
        what = "has the same size twice" if sizes else "is empty"
        raise SpecError(f"{sides} {what}: pass each size once")
    return tuple(sizes)
