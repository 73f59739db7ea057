"""The commands that show a store, and the command that writes sample photographs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arraystore._common.checks import expanded
from arraystore._common.lazy import lazy
from arraystore._common.wording import many
from arraystore._reading.store import Store
from arraystore._stores.opening import open_store
from arraystore._viewing.describe import describe, fact_rows
from arraystore._viewing.tables import print_rows
from arraystore._viewing.unfinished import describe_unfinished, is_unfinished, unfinished_rows
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported

if TYPE_CHECKING:
    from arraystore._sources import demo_photos
    from arraystore._viewing import preview
else:  # both load OpenCV, which takes a tenth of a second
    demo_photos, preview = lazy("arraystore._sources.demo_photos"), lazy("arraystore._viewing.preview")


@app.command("info")
def _info(
    path: options.Store,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, with every class.")] = False,
    debug: Debug = False,
) -> None:
    """Print the contents of a store, or how far an unfinished one in TARGET.partial has come."""
    with errors_reported(debug=debug):
        if is_unfinished(path):
            facts, rows = describe_unfinished(path), unfinished_rows
        else:
            with Store(open_store(path)) as store:
                facts, rows = describe(store, path), fact_rows
        if as_json:
            typer.echo(json.dumps(facts, indent=2))
        else:
            print_rows(rows(facts))


@app.command("preview")
def _preview(
    path: options.Store,
    out: Annotated[
        Path,
        typer.Argument(
            parser=expanded,
            metavar="OUT.png",
            help="The picture to write.",
        ),
    ],
    *,
    slots: Annotated[
        str | None, typer.Option(help="Which slots to draw, as 0,5,10-20.", show_default="random slots")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many random slots to draw.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice.")] = 0,
    debug: Debug = False,
) -> None:
    """Draw slots of a store and their labels on one picture."""
    ranges = None if slots is None else [options.parse_slots(part.strip()) for part in slots.split(",")]
    with errors_reported(debug=debug):
        with Store(open_store(path)) as store:
            chosen = None if ranges is None else _expand(ranges, len(store))
            preview.draw_preview(store, out, slots=chosen, count=count, seed=seed)
        typer.echo(f"wrote {out}")


@app.command("sample")
def _sample(
    folder: Annotated[
        Path,
        typer.Argument(
            parser=expanded,
            metavar="FOLDER",
            help="A new or empty folder.",
        ),
    ],
    *,
    count: Annotated[int, typer.Option(min=1, help="How many images to write.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choices.")] = 0,
    debug: Debug = False,
) -> None:
    """Write class folders of JPEGs, made from public-domain photographs, for a first build."""
    with errors_reported(debug=debug):
        written = demo_photos.write_sample(folder, count=count, seed=seed)
        typer.echo(f"wrote {many(written, 'image')} to {folder}")


def _expand(ranges: Sequence[range], total: int) -> list[int]:
    """Return the slots of ``ranges``, each cut after the first slot that is not in the store.

    A range may have any length: 0-99999999999 must lead to an error and not to a list of that length.
    """
    chosen: list[int] = []
    for slots in ranges:
        chosen += range(slots.start, min(slots.stop, total + 1))
        if slots.start > total:
            chosen.append(slots.start)
    return chosen
