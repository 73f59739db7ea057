"""The command that compares the memory that ways to load a folder take."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from arraystore._common.checks import expanded
from arraystore._common.lazy import framework
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported
from arraystore.memory.comparison import MemoryReport
from arraystore.memory.profile import COUNT, TIMEOUT_S, profile
from arraystore.memory.showing.plot import check as check_plot
from arraystore.memory.stages import Stage, reporting
from arraystore.memory.strategies import STRATEGIES


def _print_strategies(wanted: bool) -> None:
    if wanted:
        width = max(len(strategy.key) for strategy in STRATEGIES)
        for strategy in STRATEGIES:
            typer.echo(f"{strategy.key:{width}}  {strategy.name}: {strategy.note}")
        raise typer.Exit


@app.command("profile")
def _profile(
    source: options.Source,
    *,
    size: options.Size = "256",
    count: Annotated[int, typer.Option(min=1, help="How many images to load. Fewer images are repeated.")] = COUNT,
    strategy: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Measure this way to load them; may be repeated.", show_default="all"),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", callback=_print_strategies, is_eager=True, help="List the ways, and exit.")
    ] = False,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES", help="Kill a way that takes more memory: 2GB.", show_default="skip what does not fit"
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", callback=options.check_seconds, help="Kill a way that takes longer."),
    ] = TIMEOUT_S,
    plot: Annotated[
        Path | None,
        typer.Option(
            parser=expanded,
            metavar="FILE",
            help="Draw the curves: .png, .svg or .pdf.",
        ),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(
            parser=expanded,
            metavar="FILE",
            help="Write all readings as JSON.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            parser=expanded,
            metavar="FILE",
            help="Write the whole report as one page.",
        ),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            parser=expanded,
            metavar="FOLDER",
            help="Where to write temporary files.",
            show_default="the system's",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Measure how much memory ways to load the images of SOURCE take: np.vstack, np.stack, h5py, and arraystore.

    Each way makes the same array in a process of its own, whose memory is read a hundred times a second. Its files are
    removed at the end.
    """
    del listed  # its callback has listed them
    height_width = options.parse_size(size)
    outputs = {option: path for option, path in (("plot", plot), ("json", json), ("html", html)) if path is not None}
    _check_outputs(outputs)
    again = ["arraystore", "profile", source, "--size", size, "--count", str(count)]
    again += [part for name in strategy or () for part in ("--strategy", name)]
    again += ["--limit", limit] if limit is not None else []
    stages: list[Stage] = []
    with errors_reported(debug=debug, interrupted="interrupted; temporary files are removed"):
        if plot is not None:
            check_plot(plot)
        if html is not None:
            framework("matplotlib", extra="plot")  # before an hour is spent on measuring
        try:
            with _endings_as_ctrl_c(), reporting(sys.stderr.isatty()) as show:

                def watch(stage: Stage) -> None:
                    stages.append(stage)
                    show(stage)

                report = profile(
                    source,
                    size=height_width,
                    count=count,
                    strategies=strategy,
                    limit=limit,
                    scratch=scratch,
                    timeout_s=timeout,
                    progress=watch,
                )
        except KeyboardInterrupt:
            if stages and stages[-1].report.measurements:
                stages[-1].report.print()
            raise
        report = replace(report, command=shlex.join(again))
        report.print()
        _write(report, outputs)
    outcomes = {measurement.outcome for measurement in report.measurements}
    if "failed" in outcomes or outcomes == {"skipped"}:
        raise typer.Exit(1)


def _check_outputs(outputs: Mapping[str, Path]) -> None:
    """Check, before an hour is spent on measuring, that the files can be written.

    Raises:
        typer.BadParameter: a file is not a regular file or cannot be written, its folder does not exist, or it is given
            twice.
    """
    for option, path in outputs.items():
        reason = None
        if path.exists() and not path.is_file():
            reason = "is not a regular file: choose another name"
        elif not path.parent.is_dir():
            reason = f"cannot be written: the folder {path.parent} does not exist"
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            reason = "cannot be written by this user: choose another place"
        elif sum(path.absolute() == other.absolute() for other in outputs.values()) > 1:
            reason = "is given twice: choose a name for each"
        if reason is not None:
            raise typer.BadParameter(f"{path} {reason}", param_hint=f"'--{option}'")


def _write(report: MemoryReport, outputs: Mapping[str, Path]) -> None:
    for option, path in outputs.items():
        if option == "plot":
            report.plot(path)
        else:
            path.write_text(report.to_json() if option == "json" else report.to_html(), encoding="utf-8")
        typer.echo(f"wrote {path}")


@contextmanager
def _endings_as_ctrl_c() -> Iterator[None]:
    """Let `kill` and a closed terminal end the command as Ctrl-C does, so that temporary files are removed."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
