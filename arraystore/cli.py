"""The command ``arraystore``, by calling public functions and nothing else.

Exit codes: 0 done, 1 failed or damaged, 2 wrong usage, 130 interrupted. An error is one line on stderr that starts with
``arraystore: ``; ``--debug`` or ``ARRAYSTORE_DEBUG=1`` puts the traceback before it.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

import arraystore
from arraystore import ArraystoreError, BadImage, BadImagesError, Progress, SpecError, Store, options
from arraystore.forecast import print_forecast
from arraystore.info import describe, disk_bytes, flat, many, print_facts, readable
from arraystore.progress import reporting
from arraystore.report import damage_lines, verification_facts, whole_line
from arraystore.spec import DEFAULT_MAX_PIXELS

__all__ = ["main"]

_SHOWN_BAD = 10
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# The library's messages name its arguments; whoever typed a command needs its options.
_OPTIONS = {"overwrite=True": "--overwrite", "fresh=True": "--fresh", "timeout_s": "--timeout"}


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer passes the option's value by position
    if wanted:
        typer.echo(f"arraystore {arraystore.__version__}")
        raise typer.Exit


_Debug = Annotated[
    bool, typer.Option("--debug", envvar="ARRAYSTORE_DEBUG", help="Print the traceback of an error as well.")
]

_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@_app.callback()
def _command(
    *, version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False
) -> None:
    """Turn a folder of images into one array, once, and read it at the speed of memory."""
    del version  # its callback has done everything


@_app.command("plan")
def _plan(  # noqa: PLR0913 - each is an option of the command
    source: options.Source,
    target: Annotated[
        Path | None, typer.Argument(metavar="TARGET", help="Where the store would be.", show_default=False)
    ] = None,
    *,
    size: options.Size,
    fit: options.Fit = "stretch",
    filter: options.Filter = "bilinear",  # noqa: A002 - the option's own word
    colour: options.Colour = "rgb",
    layout: options.Layout = "NCHW",
    background: options.Background = "white",
    exact: options.Exact = False,
    max_pixels: options.MaxPixels = DEFAULT_MAX_PIXELS,
    workers: options.Workers = None,
    sample: Annotated[int, typer.Option(min=0, help="How many images to time; 0 leaves the time open.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the random choice of the sample.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, with every class.")] = False,
    debug: _Debug = False,
) -> None:
    """Say what a build would take, in bytes and in time. Nothing is written."""
    height_width, colours = options.parse_size(size), options.parse_background(background)
    with _errors_reported(debug=debug):
        forecast = arraystore.plan(
            source,
            target,
            size=height_width,
            fit=fit,
            filter=filter,
            colour=colour,
            layout=layout,
            background=colours,
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


@_app.command("build")
def _build(  # noqa: PLR0913 - each is an option of the command
    source: options.Source,
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", help="The store to make: HDF5 if it ends in .h5 or .hdf5, else a folder."),
    ],
    *,
    size: options.Size,
    fit: options.Fit = "stretch",
    filter: options.Filter = "bilinear",  # noqa: A002 - the option's own word
    colour: options.Colour = "rgb",
    layout: options.Layout = "NCHW",
    background: options.Background = "white",
    exact: options.Exact = False,
    max_pixels: options.MaxPixels = DEFAULT_MAX_PIXELS,
    bad: Annotated[
        Literal["raise", "keep", "drop"], typer.Option(help="What to do with sources that cannot be stored.")
    ] = "raise",
    workers: options.Workers = None,
    processes: Annotated[bool, typer.Option("--processes", help="Workers are processes, not threads.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="With --processes: an image that takes longer is a bad one.")
    ] = 60.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target if it exists.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what an interrupted build left.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    debug: _Debug = False,
) -> None:
    """Decode every image of SOURCE into the store TARGET."""
    # Parsed here and not by typer, whose versions differ in whether a default goes through the parser.
    height_width, colours = options.parse_size(size), options.parse_background(background)
    with _errors_reported(debug=debug, interrupted="interrupted; the same command goes on where this one stopped"):
        bar = not quiet and sys.stderr.isatty()
        with reporting(bar) as report:
            watch = _Watch(report)
            store = arraystore.build(
                source,
                target,
                size=height_width,
                fit=fit,
                filter=filter,
                colour=colour,
                layout=layout,
                background=colours,
                exact=exact,
                max_pixels=max_pixels,
                bad=bad,
                workers=workers,
                processes=processes,
                timeout_s=timeout,
                progress=watch,
                overwrite=overwrite,
                fresh=fresh,
            )
        with store:
            if not quiet:
                _print_summary(store, target, watch)


class _Watch:
    """A function for the progress of a build that remembers what a summary needs, and passes it on."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report
        self._start_s = time.perf_counter()
        self._done_before: int | None = None
        self._done = 0
        self.bad = 0

    def __call__(self, progress: Progress) -> None:
        if self._done_before is None:
            self._done_before = progress.done
        self._done, self.bad = progress.done, progress.bad
        self._report(progress)

    @property
    def seconds(self) -> float:
        """Seconds since the command began to build, the listing of sources included."""
        return time.perf_counter() - self._start_s

    @property
    def decoded(self) -> int:
        """Images that this call decoded, not counting those of an interrupted one before it."""
        return self._done - (self._done_before or 0)


@_app.command("info")
def _info(
    path: Annotated[Path, typer.Argument(metavar="STORE", help="A store.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, with every class.")] = False,
    debug: _Debug = False,
) -> None:
    """Say what is in a store."""
    with _errors_reported(debug=debug):
        with arraystore.open(path) as store:
            facts = describe(store, path)
        if as_json:
            typer.echo(json.dumps(facts, indent=2))
        else:
            print_facts(facts)


@_app.command("verify")
def _verify(
    path: Annotated[Path, typer.Argument(metavar="STORE", help="A store.")],
    *,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many threads.", show_default="one a core, at least 4")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but damage.")] = False,
    debug: _Debug = False,
) -> None:
    """Read every byte of a store and say whether it is whole; exit code 1 if it is not."""
    with _errors_reported(debug=debug):
        found = arraystore.verify(path, workers=workers, progress=not quiet and sys.stderr.isatty())
        if as_json:
            typer.echo(json.dumps(verification_facts(found, path), indent=2))
        elif not found.ok:
            first, *others = damage_lines(found, path)
            typer.echo("\n".join((f"arraystore: {first}", *others)), err=True)
        elif not quiet:
            typer.echo(whole_line(found, path))
        for note in () if as_json or quiet else found.notes:
            typer.echo(f"note: {flat(note)}", err=True)
    if not found.ok:
        raise typer.Exit(1)


@_app.command("preview")
def _preview(  # noqa: PLR0913 - each is an option of the command
    path: Annotated[Path, typer.Argument(metavar="STORE", help="A store.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="The picture to write.")],
    *,
    slots: Annotated[str | None, typer.Option(help="Which slots: 0,5,10-20.", show_default="random ones")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many random slots.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of the random choice.")] = 0,
    debug: _Debug = False,
) -> None:
    """Draw slots of a store on a contact sheet, with their labels."""
    ranges = None if slots is None else [options.parse_slots(part.strip()) for part in slots.split(",")]
    with _errors_reported(debug=debug):
        from arraystore.preview import draw_preview  # noqa: PLC0415 - OpenCV takes a tenth of a second

        with arraystore.open(path) as store:
            chosen = None if ranges is None else _expand(ranges, len(store))
            draw_preview(store, out, slots=chosen, count=count, seed=seed)
        typer.echo(f"wrote {out}")


@_app.command("sample")
def _sample(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    *,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the random choices.")] = 0,
    debug: _Debug = False,
) -> None:
    """Write JPEGs made from public-domain photographs into class folders, to try a build on."""
    with _errors_reported(debug=debug):
        from arraystore.sample import write_sample  # noqa: PLC0415 - OpenCV takes a tenth of a second

        written = write_sample(folder, count=count, seed=seed)
        typer.echo(f"wrote {many(written, 'image')} to {folder}")


@contextmanager
def _errors_reported(*, debug: bool, interrupted: str = "interrupted") -> Iterator[None]:
    """Turn what may go wrong in a command into one line and an exit code; everything else is a bug and keeps its trace.

    Raises:
        typer.Exit: the command failed or was interrupted.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of a pipe has had enough; typer ends without a word
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        # On a terminal the cursor stands behind the bar and the ^C.
        typer.echo(("\n" if sys.stderr.isatty() else "") + f"arraystore: {interrupted}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except (ArraystoreError, OSError) as error:
        if debug:
            traceback.print_exc()
        _print_error(error)
        raise typer.Exit(2 if isinstance(error, SpecError) else 1) from None


def _print_error(error: ArraystoreError | OSError) -> None:
    if isinstance(error, BadImagesError):
        # The library's message has the list and speaks of arguments; here the list comes last and they are options.
        advice = "is this the right source?"
        if len(error.bad) < error.total:
            advice = "--bad keep stores them as zeros, --bad drop leaves them out; or mend the files and build again"
        typer.echo(
            f"arraystore: {len(error.bad):,} of {many(error.total, 'image')} could not be stored; {advice}", err=True
        )
        _print_bad(error.bad)
        return
    message = str(error)
    if isinstance(error, OSError) and not isinstance(error, ArraystoreError) and error.strerror:
        message = error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
    for argument, option in _OPTIONS.items():
        message = message.replace(f"{argument} ({option})", option).replace(argument, option)
    lines = [line.strip() for text in (message, *getattr(error, "__notes__", [])) for line in text.splitlines()]
    typer.echo(f"arraystore: {flat(' '.join(lines) or type(error).__name__)}", err=True)


def _print_bad(bad: Sequence[BadImage]) -> None:
    for image in bad[:_SHOWN_BAD]:
        typer.echo(f"  slot {image.slot}  {flat(image.source)}: {flat(image.reason)}", err=True)
    if len(bad) > _SHOWN_BAD:
        typer.echo(f"  and {len(bad) - _SHOWN_BAD:,} more", err=True)


def _expand(ranges: Sequence[range], total: int) -> list[int]:
    """Return the slots of ``ranges``, with at most one that is not in the store.

    The last of a range is typed by hand and may have any size: 0-99999999999 must lead to an error and not to a list.
    """
    chosen: list[int] = []
    for slots in ranges:
        chosen += range(slots.start, min(slots.stop, total + 1))
        if slots.start > total:
            chosen.append(slots.start)
    return chosen


def _print_summary(store: Store, target: Path, watch: _Watch) -> None:
    shape = " x ".join(map(str, store.spec.slot_shape))
    seconds = watch.seconds
    typer.echo(
        f"{flat(str(target))}: {many(len(store), 'image')} of {shape} ({store.spec.layout}), "
        f"{readable(disk_bytes(target))} on disk; {seconds:.1f} s, {watch.decoded / max(seconds, 1e-9):,.0f} img/s"
    )
    opened = f"arraystore.open({_quoted(target)}).images"
    if store.medium == "npy":
        opened = f'np.load({_quoted(target / "images.npy")}, mmap_mode="r")'
    typer.echo(f"open it with  {opened}")
    bad = store.bad()
    if bad:
        typer.echo(f"{many(len(bad), 'bad image')}, stored as zeros with status 2:", err=True)
        _print_bad(bad)
    elif watch.bad:
        typer.echo(f"{many(watch.bad, 'bad image')}, whose rows were dropped:", err=True)
        _print_bad(store.dropped())


def _quoted(path: Path) -> str:
    """Return the path as a Python string literal in double quotes."""
    return json.dumps(str(path), ensure_ascii=not str(path).isprintable())


def main() -> None:
    """Run the command; the entry point of the package."""
    # A file name need not be text in the terminal's encoding; that must not end a command that has done its work.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _app(prog_name="arraystore")
