"""The options of the command: how those that several commands share are declared, and how their texts are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from arraystore import spec

__all__ = [
    "Background",
    "Color",
    "Exact",
    "Filter",
    "Fit",
    "Fresh",
    "Layout",
    "MaxBad",
    "MaxPixels",
    "Processes",
    "Quiet",
    "Size",
    "Source",
    "Store",
    "Timeout",
    "Workers",
    "parse_background",
    "parse_max_bad",
    "parse_size",
    "parse_slots",
]

_NAMED_BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128), "gray": (128, 128, 128)}

Source = Annotated[
    str,
    typer.Argument(metavar="SOURCE", help="A folder of class folders or images, or a CSV, JSONL or Parquet list."),
]
Size = Annotated[str, typer.Option(metavar="PIXELS|HxW", help="Of a slot: 256, or 224x320 (height first).")]
Fit = Annotated[spec.Fit, typer.Option(help="How an image of another shape fills a slot.")]
Filter = Annotated[spec.Filter, typer.Option(help="The antialiasing filter.")]
Color = Annotated[spec.Color, typer.Option(help="Three channels or one.")]
Layout = Annotated[spec.Layout, typer.Option(help="Channels as planes, or interleaved.")]
Background = Annotated[
    str,
    typer.Option(metavar="COLOR", help="Behind transparent and beside padded images: gray, #808080, 128,128,128."),
]
Exact = Annotated[bool, typer.Option("--exact", help="Decode every JPEG at full size: slower for photos.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="A source with more pixels is a bad one.")]
Workers = Annotated[int | None, typer.Option(min=1, help="How many workers.", show_default="one a core")]

Store = Annotated[Path, typer.Argument(metavar="STORE", help="A store.")]
MaxBad = Annotated[
    str | None,
    typer.Option(metavar="N|N%", help="Stop when more images than this are bad.", show_default="no limit"),
]
Processes = Annotated[bool, typer.Option("--processes", help="Workers are processes, not threads.")]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", help="With --processes: an image that takes longer is a bad one.")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Discard what an interrupted command left.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def parse_size(text: str) -> tuple[int, int]:
    """Return the height and width that ``--size`` gives.

    Raises:
        typer.BadParameter: it gives none.
    """
    parts = text.lower().replace("\N{MULTIPLICATION SIGN}", "x").split("x")
    if len(parts) <= 2 and all(part.isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[-1])
    raise typer.BadParameter(
        f"{text!r} is not a size; give pixels as 256, or height x width as 224x320", param_hint="'--size'"
    )


def parse_max_bad(text: str) -> float:
    """Return the number of images that ``--max-bad`` gives, or the share as a fraction.

    Raises:
        typer.BadParameter: it gives neither.
    """
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
    """Return the red, green and blue that ``--background`` gives.

    Raises:
        typer.BadParameter: it gives none.
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
        typer.BadParameter: it is neither.
    """
    first, dash, last = (part.strip() for part in text.partition("-"))
    if first.isdecimal() and (last.isdecimal() if dash else True):
        slots = range(int(first), int(last if dash else first) + 1)
        if slots:
            return slots
    raise typer.BadParameter(f"{text!r} is not a slot or a range; give slots as 0,5,10-20", param_hint="'--slots'")
