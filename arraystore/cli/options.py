"""The options that several commands share, and the parsers of their texts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, cast

import typer

from arraystore import spec
from arraystore._building.options import TIMEOUT_S
from arraystore._common.checks import expanded
from arraystore._common.options import Default, picked
from arraystore._stores.media import store_at

_PLACE = "{size}"
_NAMED_BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128)}


def check_seconds(value: float) -> float:
    """Refuse a time limit that is none, as an error of the command line."""
    if 0 < value < math.inf:
        return value
    raise typer.BadParameter(f"{value:g} is not a time limit; give seconds greater than 0")


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder of images or of class folders, a table, an archive, a list of paths in a .txt, a pattern, "
        "or a store to convert.",
    ),
]
Size = Annotated[str, typer.Option(metavar="PIXELS|HxW", help="Size of a slot: 256, or 224x320 (height first).")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="How many images are decoded at once.", show_default="one per core")
]
Store = Annotated[Path, typer.Argument(parser=expanded, metavar="STORE", help="A store: a folder or an HDF5 file.")]
MaxBad = Annotated[
    str | None,
    typer.Option(
        metavar="N|N%", help="Stop when more images than this are bad: a number, or a share.", show_default="no limit"
    ),
]
Exact = Annotated[bool, typer.Option("--exact", help="Decode every JPEG at full size; slower for large photos.")]
Levels = Annotated[
    int | None,
    typer.Option(min=1, max=65_535, help="The largest sample of 16-bit files that hold fewer bits, such as 4095."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Bad = Literal["raise", "keep", "drop"]
BAD_HELP = "For sources that cannot be stored: fail, store zeros, or leave them out."


_SIZE_HELP = "Size of a slot: 256, or 224x320; with --fit keep, its shorter side. Needed, unless SOURCE is a store."


class OneSize(TypedDict):
    """The size of the slots of one store."""

    size: Annotated[
        str | None,
        typer.Option(metavar="PIXELS|HxW", help=_SIZE_HELP, show_default="that of the store"),
        Default(None),
    ]


class Sizes(TypedDict):
    """The size of the slots of each store."""

    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PIXELS|HxW",
            help=f"{_SIZE_HELP} Several times for several stores, of which each image is decoded once.",
            show_default="that of the store",
        ),
        Default(None),
    ]


class Image(TypedDict):
    """How an image becomes a slot, beside its size. None is the default, or what the store has that is the source."""

    fit: Annotated[
        spec.Fit | None,
        typer.Option(
            help="How an image fills a slot of another shape; keep makes slots of different shapes, as JPEGs only.",
            show_default="stretch",
        ),
        Default(None),
    ]
    filter: Annotated[
        spec.Filter | None,
        typer.Option(help="The antialiasing filter of the resize.", show_default="bilinear"),
        Default(None),
    ]
    color: Annotated[spec.Color | None, typer.Option(help="Three channels, or one.", show_default="rgb"), Default(None)]
    layout: Annotated[
        spec.Layout | None, typer.Option(help="Channels first, or channels last.", show_default="NCHW"), Default(None)
    ]
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOR",
            help="Color behind transparent and beside padded images: gray, #808080 or 128,128,128.",
            show_default="white",
        ),
        Default(None),
    ]
    exact: Annotated[Exact, Default(False)]
    max_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="An image with more pixels counts as bad.", show_default=str(spec.DEFAULT_MAX_PIXELS)),
        Default(None),
    ]
    levels: Annotated[Levels, Default(None)]
    truncated: Annotated[
        spec.Truncated | None,
        typer.Option(help="A JPEG that ends early is a bad image, or is stored with a note.", show_default="refuse"),
        Default(None),
    ]
    icc: Annotated[
        spec.Icc | None,
        typer.Option(help="Convert pixels to sRGB by their color profiles, or not.", show_default="ignore"),
        Default(None),
    ]
    encode: Annotated[
        Literal["jpeg", "source", "none"] | None,
        typer.Option(
            help="Keep JPEGs, about a tenth of the bytes; or those of the sources as they are; or pixels.",
            show_default="none",
        ),
        Default(None),
    ]
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Of the JPEGs of --encode.", show_default="90"), Default(None)
    ]
    subsampling: Annotated[
        spec.Subsampling | None,
        typer.Option(help="Of the chroma in the JPEGs of --encode.", show_default="420"),
        Default(None),
    ]


class Run(TypedDict):
    """How images are decoded."""

    workers: Annotated[Workers, Default(None)]
    processes: Annotated[
        bool, typer.Option("--processes", help="Decode in processes instead of threads."), Default(False)
    ]
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            callback=check_seconds,
            help="With --processes: an image that takes longer counts as bad.",
        ),
        Default(TIMEOUT_S),
    ]
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="What images may take while they are decoded, such as 8GB; a larger one counts as bad.",
            show_default="half of what is free",
        ),
        Default(None),
    ]
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Discard the work of an interrupted command, and start again."),
        Default(False),
    ]


class Listing(TypedDict):
    """Which files of a table or a list the sources are."""

    root: Annotated[
        Path | None,
        typer.Option(
            parser=expanded,
            metavar="FOLDER",
            help="The folder that relative paths start from.",
            show_default="the folder of the table",
        ),
        Default(None),
    ]
    path_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The column of paths in a table.", show_default="the first known name"),
        Default(None),
    ]
    suffix: Annotated[str, typer.Option(help="Added to each path of a table that lacks it, as .jpg."), Default("")]
    separator: Annotated[
        str | None,
        typer.Option(metavar="CHARACTER", help="Between the cells of a CSV.", show_default="a comma"),
        Default(None),
    ]
    where: Annotated[
        str | None,
        typer.Option(metavar="COLUMN=VALUE", help="The rows of a table to take.", show_default="all"),
        Default(None),
    ]


class Sources(Listing):
    """How the sources are listed."""

    targets: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN[=KIND],…",
            help="The columns to take; a kind is number, category, multi-label, text, mask or mask16.",
            show_default="all columns",
        ),
        Default(None),
    ]
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…|STORE",
            help="The classes, code 0 first; or a store with the same codes.",
            show_default="sorted names",
        ),
        Default(None),
    ]
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Keep class folders without images as classes."), Default(False)
    ]


class Plan(OneSize, Image, Sources):
    """The options of ``plan`` that ``build`` has too."""


class Update(Sources, Run):
    """The options of ``update`` that ``build`` has too."""


class Build(Sizes, Image, Sources, Run):
    """The options of ``build`` that other commands have too."""


# Sizes and colors are parsed here and not by typer: not every version of it parses default values.
def image_options(source: str, options: Mapping[str, Any]) -> spec.ImageOptions:
    """Return how images become slots, as `arraystore.build` takes it, from those options of a command that were given.

    A list of sizes is not among them: `sized_targets` takes it.

    Raises:
        typer.BadParameter: the size or the background is not valid, or there is no size and the source is no store.
    """
    if not options["size"] and options["encode"] != "source" and store_at(source) is None:
        raise typer.BadParameter(
            "it is missing; give one side as 256, or height x width as 224x320 (only a store has a size of its own)",
            param_hint="'--size'",
        )
    given: dict[str, Any] = {
        name: value for name, value in picked(Image, options).items() if value is not None and value is not False
    }
    if isinstance(options["size"], str):
        given["size"] = parse_slot_size(options["size"])
    if "background" in given:
        given["background"] = parse_background(given["background"])
    jpeg = {name: given.pop(name) for name in ("quality", "subsampling") if name in given}
    if jpeg and given.get("encode") not in ("jpeg", "source"):
        raise typer.BadParameter("it is of JPEGs: add --encode jpeg", param_hint=f"'--{next(iter(jpeg))}'")
    if jpeg:
        given["encode"] = spec.Jpeg(**jpeg, source=given["encode"] == "source")
    return cast("spec.ImageOptions", given)


def sized_targets(target: Path, sizes: Sequence[str]) -> dict[Path, int | tuple[int, int]]:
    """Return the target of each size: ``{size}`` in it stands for the size, and is needed for several of them.

    Raises:
        typer.BadParameter: a size is not valid or comes twice, or several have one target.
    """
    text = str(target)
    found: dict[Path, int | tuple[int, int]] = {}
    for size in map(parse_slot_size, sizes):
        height, width = (size, size) if isinstance(size, int) else size
        name = str(height) if height == width else f"{height}x{width}"
        path = Path(text.replace(_PLACE, name))
        if path in found and _PLACE in text:
            raise typer.BadParameter(f"{name} comes twice", param_hint="'--size'")
        if path in found:
            example = target.with_name(f"{target.stem}-{_PLACE}{target.suffix}")
            raise typer.BadParameter(
                f"there are {len(sizes)} sizes, and {text} has no {_PLACE}, so they would be one store: give {example}",
                param_hint="'TARGET'",
            )
        found[path] = size
    return found


def source_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the sources are listed, as `arraystore.build` takes it, from those options that were given.

    An update takes the others from the store.
    """
    parsed: dict[str, Any] = {name: value for name, value in picked(Sources, options).items() if value}
    if "targets" in parsed:
        parsed["targets"] = _parse_targets(parsed["targets"])
    if "classes" in parsed and not expanded(parsed["classes"]).exists():
        parsed["classes"] = [name.strip() for name in parsed["classes"].split(",")]
    return parsed


def _parse_targets(text: str) -> list[str] | dict[str, str | None]:
    """Return names of columns, or a mapping of them to kinds where one has a kind."""
    parts = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if not any(equals for _, equals, _ in parts):
        return [name for name, _, _ in parts]
    return {name: kind or "auto" for name, _, kind in parts}


def parse_slot_size(text: str) -> int | tuple[int, int]:
    """Return a ``--size`` as one number where it is one, for ``--fit keep``; otherwise as `parse_size` does."""
    height, width = parse_size(text)
    return height if text.isdecimal() else (height, width)


def parse_size(text: str) -> tuple[int, int]:
    """Return the height and width of a ``--size``.

    Raises:
        typer.BadParameter: the text is not valid.
    """
    parts = text.lower().replace("\N{MULTIPLICATION SIGN}", "x").split("x")
    if len(parts) <= 2 and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise typer.BadParameter(
        f"{text!r} is not a size; give one side as 256, or height x width as 224x320", param_hint="'--size'"
    )


def parse_max_bad(text: str | None) -> float | None:
    """Return the number of images, or the share as a fraction, of a ``--max-bad``.

    Raises:
        typer.BadParameter: the text is neither.
    """
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if 0 <= share <= 1:
        return share
    raise typer.BadParameter(
        f"{text!r} is not a limit; give a number of images as 100, or a share as 5%", param_hint="'--max-bad'"
    )


def parse_background(text: str) -> tuple[int, int, int]:
    """Return the red, green and blue of a ``--background``.

    Raises:
        typer.BadParameter: the text is not valid.
    """
    if text.lower() in _NAMED_BACKGROUNDS:
        return _NAMED_BACKGROUNDS[text.lower()]
    if len(text) == 7 and text[0] == "#" and all(digit in "0123456789abcdef" for digit in text[1:].lower()):
        red, green, blue = bytes.fromhex(text[1:])
        return red, green, blue
    parts = text.split(",")
    if len(parts) == 3 and all(part.strip().isdecimal() and int(part) <= 255 for part in parts):
        red, green, blue = (int(part) for part in parts)
        return red, green, blue
    names = ", ".join(_NAMED_BACKGROUNDS)
    raise typer.BadParameter(
        f"{text!r} is not a color; give 255,255,255, or #ffffff, or one of {names}", param_hint="'--background'"
    )


def parse_slots(text: str) -> range:
    """Return one part of ``--slots``: a number, or first-last with both included.

    Raises:
        typer.BadParameter: the text is neither.
    """
    first, dash, last = (part.strip() for part in text.partition("-"))
    if first.isdecimal() and (last.isdecimal() if dash else True):
        slots = range(int(first), int(last if dash else first) + 1)
        if slots:
            return slots
    raise typer.BadParameter(f"{text!r} is not a slot or a range; give slots as 0,5,10-20", param_hint="'--slots'")
