"""The commands that check, repair and update a store."""

import json
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Literal, Unpack

import typer

import arraystore
from arraystore import Changes
from arraystore._common.checks import expanded
from arraystore._common.options import picked, shows_options
from arraystore._common.progress import reporting
from arraystore._common.wording import flat, many
from arraystore._viewing.verification_text import damage_lines, verification_facts, whole_line
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported, spell
from arraystore.cli.build import GOES_ON, Watch, print_summary

_SHOWN_CHANGES = 20


@app.command("verify")
def _verify(
    path: options.Store,
    *,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="How many threads read and check.", show_default="one per core, at least 4"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only damage.")] = False,
    debug: Debug = False,
) -> None:
    """Read and check every byte of a store; the exit code is 1 if it is damaged."""
    with errors_reported(debug=debug):
        found = arraystore.verify(path, workers=workers, progress=not quiet and sys.stderr.isatty())
        if as_json:
            typer.echo(json.dumps(verification_facts(found, path), indent=2))
        elif not found.ok:
            first, *others = damage_lines(found, path, spell)
            typer.echo("\n".join((f"arraystore: {first}", *others)), err=True)
        elif not quiet:
            typer.echo(whole_line(found, path))
        for note in () if as_json or quiet else found.notes:
            typer.echo(f"note: {flat(note)}", err=True)
    if not found.ok:
        raise typer.Exit(1)


@app.command("repair")
@shows_options(options.Run)
def _repair(
    path: options.Store,
    source: Annotated[
        Path | None,
        typer.Argument(
            parser=expanded,
            metavar="FOLDER",
            help="Where the images have moved to.",
            show_default="where they were at the build",
        ),
    ] = None,
    *,
    bad: Annotated[
        Literal["raise", "keep"], typer.Option(help="For sources that can no longer be stored: fail, or store zeros.")
    ] = "raise",
    quiet: options.Quiet = False,
    debug: Debug = False,
    **run: Unpack[options.Run],
) -> None:
    """Check a store, and decode its damaged slots again from their sources."""
    with errors_reported(debug=debug, interrupted=GOES_ON):
        bar = not quiet and sys.stderr.isatty()
        found = arraystore.verify(path, workers=run["workers"], progress=bar)
        if found.ok:
            if not quiet:
                typer.echo(f"{whole_line(found, path)}; there is nothing to repair")
            return
        with reporting(bar) as report:
            watch = Watch(report)
            store = arraystore.repair(path, source, bad=bad, progress=watch, verification=found, **run)
        with store:
            if not quiet:
                also = ", and the file of pixels was made anew" if found.faults else ""
                typer.echo(f"{flat(str(path))}: {many(len(found.damaged), 'slot')} repaired{also}")
                for image in found.damaged:
                    typer.echo(f"  slot {image.slot}  {flat(image.source)}")


@app.command("update")
@shows_options(options.Update)
def _update(
    path: options.Store,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="The folder or table that the store was built from.",
            show_default="as recorded in the store",
        ),
    ] = None,
    *,
    removed: Annotated[
        Literal["drop", "keep"],
        typer.Option(help="For images whose file is gone: leave them out, or keep their pixels."),
    ] = "drop",
    content: Annotated[
        bool,
        typer.Option("--content", help="Compare the contents of all files instead of their times of change; slower."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Print the changes, and write nothing.")] = False,
    bad: Annotated[options.Bad | None, typer.Option(help=options.BAD_HELP, show_default="as in the build")] = None,
    max_bad: options.MaxBad = None,
    quiet: options.Quiet = False,
    debug: Debug = False,
    **shared: Unpack[options.Update],
) -> None:
    """Add new and changed images of the source to a store, and leave out those that are gone."""
    limit = options.parse_max_bad(max_bad)
    sources, run = options.source_options(shared), picked(options.Run, shared)
    with errors_reported(debug=debug, interrupted=GOES_ON):
        changes = arraystore.compare(path, source, removed=removed, content=content, **sources)
        if not quiet:
            typer.echo(f"{flat(str(path))}: {changes}")
            for line in _change_lines(changes):
                typer.echo(line)
        if dry_run or not changes:
            return
        with reporting(not quiet and sys.stderr.isatty()) as report:
            watch = Watch(report)
            store = arraystore.update(path, bad=bad, max_bad=limit, progress=watch, changes=changes, **run)
        with store:
            if not quiet:
                print_summary({path: store}, watch)


def _change_lines(changes: Changes) -> Iterator[str]:
    """Yield the first changes, a line each, and the number of the others."""
    lines = chain(
        (f"  + {flat(name)}" for name in changes.added),
        (f"  ~ {flat(name)}" for name in changes.changed),
        (f"  ? {flat(name)}" for name in changes.retried),
        (f"  > {flat(old)} is now {flat(new)}" for old, new in changes.renamed),
        (f"  - {flat(name)}" for name in changes.removed),
    )
    yield from islice(lines, _SHOWN_CHANGES)
    rest = sum(1 for _ in lines)
    if rest:
        yield f"  and {rest:,} more"
