"""The commands that keep a store whole and up to date."""

from __future__ import annotations

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
from arraystore.cli.app import Debug, app, errors_reported
from arraystore.cli.build import GOES_ON, Watch, print_summary

__all__: list[str] = []

_SHOWN_CHANGES = 20


@app.command("verify")
def _verify(
    path: options.Store,
    *,
    workers: Annotated[
        int | None, typer.Option(min=1, help="How many threads.", show_default="one a core, at least 4")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but damage.")] = False,
    debug: Debug = False,
) -> None:
    """Read every byte of a store and say whether it is whole; exit code 1 if it is not."""
    with errors_reported(debug=debug):
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


@app.command("repair")
def _repair(  # noqa: PLR0913 - each is an option of the command
    path: options.Store,
    *,
    bad: Annotated[
        Literal["raise", "keep"], typer.Option(help="What to do if a source cannot be stored any more.")
    ] = "raise",
    workers: options.Workers = None,
    processes: options.Processes = False,
    timeout: options.Timeout = TIMEOUT_S,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    debug: Debug = False,
) -> None:
    """Decode the damaged slots of a store again from their sources."""
    advice = "--bad keep stores them as zeros; or mend the files and repair again"
    with errors_reported(debug=debug, interrupted=GOES_ON, bad_advice=advice):
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
                timeout_s=timeout,
                progress=watch,
                fresh=fresh,
                verification=found,
            )
        with store:
            if not quiet:
                typer.echo(f"{flat(str(path))}: {many(len(found.damaged), 'slot')} refilled")
                for image in found.damaged:
                    typer.echo(f"  slot {image.slot}  {flat(image.source)}")


@app.command("update")
def _update(  # noqa: PLR0913 - each is an option of the command
    path: options.Store,
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="What the store was built from.", show_default="as the store names it"),
    ] = None,
    *,
    removed: Annotated[
        Literal["drop", "keep"], typer.Option(help="What to do with rows whose source is there no more.")
    ] = "drop",
    content: Annotated[
        bool, typer.Option("--content", help="Compare what is in the files, not the time of change: reads them all.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what has changed, and write nothing.")] = False,
    bad: Annotated[
        Literal["raise", "keep", "drop"] | None,
        typer.Option(help="What to do with sources that cannot be stored.", show_default="as the store was built"),
    ] = None,
    max_bad: options.MaxBad = None,
    workers: options.Workers = None,
    processes: options.Processes = False,
    timeout: options.Timeout = TIMEOUT_S,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    debug: Debug = False,
) -> None:
    """Decode the sources that are new or changed, and take everything else over."""
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
                timeout_s=timeout,
                progress=watch,
                fresh=fresh,
                changes=changes,
            )
        with store:
            if not quiet:
                print_summary(store, path, watch)


def _change_lines(changes: Changes) -> Iterator[str]:
    """Yield the first changes, a line each."""
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
