"""The commands that show what is in a store, and the one that makes photographs to try a build on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from arraystore._common.wording import many
from arraystore._reading.store import Store
from arraystore._stores.opening import open_store
from arraystore._viewing.describe import describe, print_facts
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported

__all__: list[str] = []


@app.command("info")
def _info(
    path: options.Store,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, with every class.")] = False,
    debug: Debug = False,
) -> None:
    """Say what is in a store."""
    with errors_reported(debug=debug):
        with Store(open_store(path)) as store:
            facts = describe(store, path)
        if as_json:
            typer.echo(json.dumps(facts, indent=2))
        else:
            print_facts(facts)


@app.command("preview")
def _preview(  # noqa: PLR0913 - each is an option of the command
    path: options.Store,
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="The picture to write.")],
    *,
    slots: Annotated[str | None, typer.Option(help="Which slots: 0,5,10-20.", show_default="random ones")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many random slots.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Of the random choice.")] = 0,
    debug: Debug = False,
) -> None:
    """Draw slots of a store on a contact sheet, with their labels."""
    ranges = None if slots is None else [options.parse_slots(part.strip()) for part in slots.split(",")]
    with errors_reported(debug=debug):
        from arraystore._viewing.preview import draw_preview  # noqa: PLC0415 - OpenCV takes a tenth of a second

        with Store(open_store(path)) as store:
            chosen = None if ranges is None else _expand(ranges, len(store))
            draw_preview(store, out, slots=chosen, count=count, seed=seed)
        typer.echo(f"wrote {out}")


@app.command("sample")
def _sample(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    *,
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the random choices.")] = 0,
    debug: Debug = False,
) -> None:
    """Write JPEGs made from public-domain photographs into class folders, to try a build on."""
    with errors_reported(debug=debug):
        from arraystore._sources.demo_photos import write_sample  # noqa: PLC0415 - OpenCV takes a tenth of a second

        written = write_sample(folder, count=count, seed=seed)
        typer.echo(f"wrote {many(written, 'image')} to {folder}")


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
