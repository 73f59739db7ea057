"""The commands that check, repair and update a store."""

import json
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import Annotated, Literal

import typer

import arraystore
from arraystore import Changes
from arraystore._building.build import TIMEOUT_S
from arraystore._common.progress import reporting
from arraystore._common.wording import flat, many
from arraystore._viewing.verification_text import damage_lines, verification_facts, whole_line
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported, spell
from arraystore.cli.build import GOES_ON, Watch, print_summary

__all__: list[str] = []

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
def _repair(
    path: options.Store,
    *,
    bad: Annotated[
        Literal["raise", "keep"], typer.Option(help="For sources that can no longer be stored: fail, or store zeros.")
    ] = "raise",
    workers: options.Workers = None,
    processes: options.Processes = False,
    timeout_s: options.Timeout = TIMEOUT_S,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    debug: Debug = False,
) -> None:
    """Check a store, and decode its damaged slots again from their sources."""
    with errors_reported(debug=debug, interrupted=GOES_ON):
        bar = not quiet and sys.stderr.isatty()
        found = arraystore.verify(path, workers=workers, progress=bar)
        if found.ok:
            if not quiet:
                typer.echo(f"{whole_line(found, path)}; there is nothing to repair")
            return
        with reporting(bar) as report:
            watch = Watch(report)
            store = arraystore.repair(
                path,
                bad=bad,
                workers=workers,
                processes=processes,
                timeout_s=timeout_s,
                progress=watch,
                fresh=fresh,
                verification=found,
            )
        with store:
            if not quiet:
                typer.echo(f"{flat(str(path))}: {many(len(found.damaged), 'slot')} repaired")
                for image in found.damaged:
                    typer.echo(f"  slot {image.slot}  {flat(image.source)}")


@app.command("update")
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
    bad: Annotated[
        Literal["raise", "keep", "drop"] | None,
        typer.Option(
            help="For sources that cannot be stored: fail, store zeros, or leave them out.",
            show_default="as in the build",
        ),
    ] = None,
    max_bad: options.MaxBad = None,
    workers: options.Workers = None,
    processes: options.Processes = False,
    timeout_s: options.Timeout = TIMEOUT_S,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    debug: Debug = False,
) -> None:
    """Add new and changed images of the source to a store, and leave out those that are gone."""
    limit = None if max_bad is None else options.parse_max_bad(max_bad)
    with errors_reported(debug=debug, interrupted=GOES_ON):
        changes = arraystore.compare(path, source, removed=removed, content=content)
        if not quiet:
            typer.echo(f"{flat(str(path))}: {changes}")
            for line in _change_lines(changes):
                typer.echo(line)
        if dry_run or not changes:
            return
        with reporting(not quiet and sys.stderr.isatty()) as report:
            watch = Watch(report)
            store = arraystore.update(
                path,
                bad=bad,
                max_bad=limit,
                workers=workers,
                processes=processes,
                timeout_s=timeout_s,
                progress=watch,
                fresh=fresh,
                changes=changes,
            )
        with store:
            if not quiet:
                print_summary(store, path, watch)


def _change_lines(changes: Changes) -> Iterator[str]:
    """Yield the first changes, a line each, and the number of the others."""
    lines = chain(
        (f"  + {flat(name)}" for name in changes.added),
        (f"  ~ {flat(name)}" for name in changes.changed),
        (f"  > {flat(old)} is now {flat(new)}" for old, new in changes.renamed),
        (f"  - {flat(name)}" for name in changes.removed),
    )
    yield from islice(lines, _SHOWN_CHANGES)
    rest = sum(1 for _ in lines)
    if rest:
        yield f"  and {rest:,} more"
