"""The command that writes the slots of a store as files of other programs."""

import sys
from pathlib import Path
from typing import Annotated, Literal, TypedDict, Unpack

import typer

import arraystore
from arraystore._common.checks import expanded
from arraystore._common.options import Default, shows_options
from arraystore._common.wording import bad_lines, flat, many, readable
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported

_INTERRUPTED = "interrupted: nothing was written"


class Export(TypedDict):
    """The options that `arraystore.export` has too."""

    form: Annotated[
        Literal["folder", "parquet", "arrow", "tar"] | None,
        typer.Option(help="What to write.", show_default="that of TARGET's suffix, or folder"),
        Default(None),
    ]
    format: Annotated[
        Literal["jpeg", "png"], typer.Option(help="Of images; png has the exact pixels."), Default("jpeg")
    ]
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEGs that are encoded."), Default(90)]
    subsampling: Annotated[
        Literal["444", "422", "420", "440", "411"], typer.Option(help="Of their chroma."), Default("420")
    ]
    max_bytes: Annotated[
        str | None,
        typer.Option(metavar="BYTES", help="Of a shard, such as 1GB.", show_default="500MB"),
        Default(None),
    ]
    bad: Annotated[
        Literal["raise", "drop"],
        typer.Option(help="For slots without an image: fail, or leave them out."),
        Default("drop"),
    ]
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export."), Default(False)]
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="How many threads read and encode.", show_default="one per core"),
        Default(None),
    ]


@app.command("export")
@shows_options(Export)
def _export(
    path: options.Store,
    target: Annotated[
        Path,
        typer.Argument(
            parser=expanded,
            metavar="TARGET",
            help="What to make: a file if it ends in .parquet, .arrow or .tar, else a folder.",
        ),
    ],
    *,
    quiet: options.Quiet = False,
    debug: Debug = False,
    **shared: Unpack[Export],
) -> None:
    """Write the images of STORE for other programs: as a folder, Parquet, Arrow, or shards of WebDataset."""
    with errors_reported(debug=debug, interrupted=_INTERRUPTED):
        report = arraystore.export(path, target, progress=not quiet and sys.stderr.isatty(), **shared)
        if not quiet:
            _print_report(report)


def _print_report(report: arraystore.ExportReport) -> None:
    copied = f", {report.copied:,} of them copied byte for byte" if report.copied else ""
    place = f"{many(report.files, 'file')}, {readable(report.bytes)}"
    typer.echo(f"{flat(str(report.target))}: {many(report.images, 'image')}{copied}, in {place}")
    typer.echo(f"{report.seconds:.1f} s, {report.images / max(report.seconds, 1e-9):,.0f} img/s")
    for note in report.notes:
        typer.echo(f"note: {flat(note)}", err=True)
    if report.bad:
        lines = bad_lines(report.bad)
        typer.echo("\n  ".join([f"{many(len(report.bad), 'slot')} without an image left out:", *lines]), err=True)
