"""The commands that plan and build."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

import arraystore
from arraystore import BadImage, Progress, Store
from arraystore._building.build import TIMEOUT_S
from arraystore._common.limits import disk_bytes
from arraystore._common.progress import reporting
from arraystore._common.wording import bad_lines, flat, many, readable
from arraystore._viewing.forecast_text import print_forecast
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported
from arraystore.spec import DEFAULT_MAX_PIXELS

__all__ = ["GOES_ON", "Watch", "print_summary"]

GOES_ON = "interrupted: run the same command again to go on from here"


@app.command("plan")
def _plan(
    source: options.Source,
    target: Annotated[
        Path | None, typer.Argument(metavar="TARGET", help="Where the store would be.", show_default=False)
    ] = None,
    *,
    size: options.Size,
    fit: options.Fit = "stretch",
    filter: options.Filter = "bilinear",
    color: options.Color = "rgb",
    layout: options.Layout = "NCHW",
    background: options.Background = "white",
    exact: options.Exact = False,
    max_pixels: options.MaxPixels = DEFAULT_MAX_PIXELS,
    workers: options.Workers = None,
    sample: Annotated[
        int, typer.Option(min=0, help="How many images to decode for the estimate of time; 0 for no estimate.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice of the sample.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, with every class.")] = False,
    debug: Debug = False,
) -> None:
    """Estimate how many bytes and how much time a build would take. Nothing is written."""
    height_width, colors = options.parse_size(size), options.parse_background(background)
    with errors_reported(debug=debug):
        forecast = arraystore.plan(
            source,
            target,
            size=height_width,
            fit=fit,
            filter=filter,
            color=color,
            layout=layout,
            background=colors,
            exact=exact,
            max_pixels=max_pixels,
            workers=workers,
            sample=sample,
            seed=seed,
            progress=sys.stderr.isatty(),
        )
        if as_json:
            typer.echo(json.dumps(forecast.to_dict(), indent=2))
        else:
            print_forecast(forecast)


@app.command("build")
def _build(
    source: options.Source,
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", help="The store to make: HDF5 if it ends in .h5 or .hdf5, else a folder."),
    ],
    *,
    size: options.Size,
    fit: options.Fit = "stretch",
    filter: options.Filter = "bilinear",
    color: options.Color = "rgb",
    layout: options.Layout = "NCHW",
    background: options.Background = "white",
    exact: options.Exact = False,
    max_pixels: options.MaxPixels = DEFAULT_MAX_PIXELS,
    bad: Annotated[
        Literal["raise", "keep", "drop"],
        typer.Option(help="For sources that cannot be stored: fail, store zeros, or leave them out."),
    ] = "raise",
    max_bad: options.MaxBad = None,
    workers: options.Workers = None,
    processes: options.Processes = False,
    timeout_s: options.Timeout = TIMEOUT_S,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target if it exists.")] = False,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    debug: Debug = False,
) -> None:
    """Decode every image of SOURCE into the store TARGET."""
    # Parsed here and not by typer: not every version of it parses default values.
    height_width, colors = options.parse_size(size), options.parse_background(background)
    limit = None if max_bad is None else options.parse_max_bad(max_bad)
    with errors_reported(debug=debug, interrupted=GOES_ON):
        bar = not quiet and sys.stderr.isatty()
        with reporting(bar) as report:
            watch = Watch(report)
            store = arraystore.build(
                source,
                target,
                size=height_width,
                fit=fit,
                filter=filter,
                color=color,
                layout=layout,
                background=colors,
                exact=exact,
                max_pixels=max_pixels,
                bad=bad,
                max_bad=limit,
                workers=workers,
                processes=processes,
                timeout_s=timeout_s,
                progress=watch,
                overwrite=overwrite,
                fresh=fresh,
            )
        with store:
            if not quiet:
                print_summary(store, target, watch)


class Watch:
    """Takes the progress of a build, keeps the numbers of the summary, and passes the progress on.

    Attributes:
        bad: how many images could not be stored.
    """

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report
        self._start_s = time.perf_counter()
        self._done_before: int | None = None
        self._done = 0
        self.bad = 0

    def __call__(self, progress: Progress) -> None:
        """Keep the numbers, and pass the progress on."""
        if self._done_before is None:
            self._done_before = progress.done
        self._done, self.bad = progress.done, progress.bad
        self._report(progress)

    @property
    def seconds(self) -> float:
        """Seconds since the command began to list the sources."""
        return time.perf_counter() - self._start_s

    @property
    def decoded(self) -> int:
        """How many images this command decoded, without those of an interrupted one before it."""
        return self._done - (self._done_before or 0)


def print_summary(store: Store, target: Path, watch: Watch) -> None:
    """Print the size of a new store, how to open it, and its bad images."""
    shape = " x ".join(map(str, store.spec.slot_shape))
    seconds = watch.seconds
    speed = f", {watch.decoded / max(seconds, 1e-9):,.0f} img/s" if watch.decoded else ""
    typer.echo(
        f"{flat(str(target))}: {many(len(store), 'image')} of {shape} ({store.spec.layout}), "
        f"{readable(disk_bytes(target))} on disk; {seconds:.1f} s{speed}"
    )
    opened = f"arraystore.open({_quoted(target)}).images"
    if store.medium == "npy":
        opened = f'np.load({_quoted(target / "images.npy")}, mmap_mode="r")'
    typer.echo(f"open it with  {opened}")
    bad = store.bad()
    if bad:
        _print_bad(f"{many(len(bad), 'bad image')} stored as zeros with status 2:", bad)
    elif watch.bad:
        _print_bad(f"{many(watch.bad, 'bad image')} left out:", store.dropped())


def _print_bad(head: str, bad: Sequence[BadImage]) -> None:
    typer.echo("\n  ".join([head, *bad_lines(bad)]), err=True)


def _quoted(path: Path) -> str:
    """Return the path as a Python string literal in double quotes."""
    return json.dumps(str(path), ensure_ascii=not str(path).isprintable())
