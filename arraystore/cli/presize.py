"""The command that makes a tree of smaller images, and the one that times how fast folders and stores are read."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Unpack

import typer

import arraystore
from arraystore import spec
from arraystore._common.checks import expanded
from arraystore._common.options import Default, picked, shows_options
from arraystore._common.wording import bad_lines, flat, left_out_text, many, readable
from arraystore._viewing.load_times import load_time_rows
from arraystore._viewing.tables import print_table
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported
from arraystore.cli.build import GOES_ON

_LISTED_STALE = 10
Pixels = list[int] | None


class Presize(options.Run, options.Listing):
    """The options of ``presize`` that say how images are listed and become smaller."""

    fit: Annotated[
        Literal["stretch", "crop"],
        typer.Option(help="How an image fills a --size of another shape."),
        Default("stretch"),
    ]
    filter: Annotated[spec.Filter, typer.Option(help="The antialiasing filter of the resize."), Default("bilinear")]
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEGs."), Default(90)]
    subsampling: Annotated[
        Literal["444", "422", "420", "440", "411"], typer.Option(help="Of the chroma of JPEGs."), Default("420")
    ]
    format: Annotated[
        Literal["jpeg", "png"], typer.Option(help="Of images without transparent pixels."), Default("jpeg")
    ]
    background: Annotated[
        str | None,
        typer.Option(
            metavar="COLOR",
            help="Color behind transparent pixels: gray, #808080 or 128,128,128.",
            show_default="images that have some become PNG",
        ),
        Default(None),
    ]
    icc: Annotated[
        Literal["keep", "srgb"], typer.Option(help="Keep color profiles, or convert pixels to sRGB."), Default("keep")
    ]
    exact: Annotated[options.Exact, Default(False)]
    max_pixels: Annotated[
        int, typer.Option(min=1, help="An image with more pixels counts as bad."), Default(spec.DEFAULT_MAX_PIXELS)
    ]
    levels: Annotated[options.Levels, Default(None)]
    truncated: Annotated[
        spec.Truncated, typer.Option(help="A JPEG that ends early is a bad image, or is taken."), Default("refuse")
    ]
    masks: Annotated[
        Path | None,
        typer.Option(parser=expanded, metavar="FOLDER", help="A mask for each image, made smaller with it."),
        Default(None),
    ]
    boxes: Annotated[
        Path | None,
        typer.Option(
            parser=expanded, metavar="FILE|FOLDER", help="A COCO file, or YOLO's text files, to go with them."
        ),
        Default(None),
    ]
    unscaled: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="Columns and members that look like coordinates and are none."),
        Default(None),
    ]
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete smaller images whose sources are gone."), Default(False)
    ]


@app.command("presize")
@shows_options(Presize)
def _presize(
    source: options.Source,
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="The folder of the smaller images; {size} in it is the size."),
    ],
    *,
    shorter: Annotated[
        Pixels, typer.Option(min=1, metavar="PIXELS", help="Of the shorter side; several times.")
    ] = None,
    longer: Annotated[Pixels, typer.Option(min=1, metavar="PIXELS", help="Of the longer side; several times.")] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="PIXELS|HxW", help="Both sides: 256, or 224x320 (height first); several times."),
    ] = None,
    timed: Annotated[
        int, typer.Option("--time", min=0, help="How many images to time at the end, for the table; 0 for no table.")
    ] = 100,
    bad: Annotated[options.Bad, typer.Option(help="For sources that are bad: fail, or leave them out.")] = "raise",
    max_bad: options.MaxBad = None,
    quiet: options.Quiet = False,
    debug: Debug = False,
    **shared: Unpack[Presize],
) -> None:
    """Write the images of SOURCE again, smaller, as the same tree under TARGET. What is done is not done again."""
    chosen = _python_options(shared)
    limit = options.parse_max_bad(max_bad)
    sides: dict[str, Any] = {
        "shorter": shorter,
        "longer": longer,
        "size": size and [options.parse_size(each) for each in size],
    }
    with errors_reported(debug=debug, interrupted=GOES_ON):
        report = arraystore.presize(
            source,
            target,
            bad=bad,
            max_bad=limit,
            progress=not quiet and sys.stderr.isatty(),
            **{name: value for name, value in sides.items() if value},
            **chosen,
        )
        if not quiet:
            _print_report(report)
            if report.written and timed:
                trees = [tree / "images" if chosen["masks"] else tree for tree in report.trees]
                places = [source, *trees] if expanded(source).is_dir() else trees
                print_table(load_time_rows(arraystore.load_times(*places, count=timed)))


@app.command("time")
def _time(
    paths: Annotated[
        list[Path], typer.Argument(parser=expanded, metavar="FOLDER…", help="Folders of images, and stores.")
    ],
    *,
    count: Annotated[int, typer.Option(min=1, help="How many random images of each to time.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice.")] = 0,
    debug: Debug = False,
) -> None:
    """Time how long an image takes to load from folders and stores."""
    with errors_reported(debug=debug):
        print_table(load_time_rows(arraystore.load_times(*paths, count=count, rounds=rounds, seed=seed)))


def _python_options(shared: Any) -> dict[str, Any]:
    chosen: dict[str, Any] = dict(picked(Presize, shared))
    if chosen["background"] is not None:
        chosen["background"] = options.parse_background(chosen["background"])
    names = chosen["unscaled"] or ""
    chosen["unscaled"] = [name.strip() for name in names.split(",") if name.strip()]
    return chosen


def _print_report(report: arraystore.PresizeReport) -> None:
    """Print what was done, and what was not."""
    for tree, size in zip(report.trees, report.bytes, strict=True):
        typer.echo(f"{flat(str(tree))}: {many(report.count - len(report.bad), 'image')}, {readable(size)}")
    passed = f", {many(report.passed, 'file')} passed through" if report.passed else ""
    speed = f", {report.written / max(report.seconds, 1e-9):,.0f} img/s" if report.written else ""
    typer.echo(f"{report.written:,} made now{passed}, {report.unchanged:,} unchanged; {report.seconds:.1f} s{speed}")
    if report.annotations:
        scaled = f", scaled: {', '.join(map(flat, report.scaled))}" if report.scaled else ""
        typer.echo(f"{many(len(report.annotations), 'file')} of annotations written{scaled}")
    if report.left_out:
        typer.echo(left_out_text(report.left_out))
    if report.pruned:
        typer.echo(f"{many(report.pruned, 'file')} of sources that are gone deleted")
    if report.stale:
        listed = [flat(str(path)) for path in report.stale[:_LISTED_STALE]]
        more = [f"and {len(report.stale) - _LISTED_STALE:,} more"] if len(report.stale) > _LISTED_STALE else []
        head = f"{many(len(report.stale), 'file')} whose sources are gone (--prune deletes them):"
        typer.echo("\n  ".join([head, *listed, *more]), err=True)
    for bad, what in ((report.bad, "left out"), (report.noted, "made smaller with a note of the decoder")):
        if bad:
            noun = "bad image" if bad is report.bad else "image"
            typer.echo("\n  ".join([f"{many(len(bad), noun)} {what}:", *bad_lines(bad)]), err=True)
