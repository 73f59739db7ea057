"""The commands that plan and build."""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Unpack

import typer

import arraystore
from arraystore import BadImage, Progress, Ragged, Store
from arraystore._common.checks import expanded
from arraystore._common.limits import disk_bytes
from arraystore._common.options import picked, shows_options
from arraystore._common.progress import reporting
from arraystore._common.wording import bad_lines, flat, left_out_text, many, readable, shape_text
from arraystore._sources.targets.own_columns import columns_beside
from arraystore._viewing.forecast_text import forecast_rows
from arraystore._viewing.tables import print_rows
from arraystore.cli import options
from arraystore.cli.app import Debug, app, errors_reported

_SHOWN_CLASSES = 10
GOES_ON = "interrupted: run the same command again to go on from here"


@app.command("plan")
@shows_options(options.Plan)
def _plan(
    source: options.Source,
    target: Annotated[
        Path | None,
        typer.Argument(
            parser=expanded,
            metavar="TARGET",
            help="Where the store would be.",
            show_default=False,
        ),
    ] = None,
    *,
    workers: options.Workers = None,
    sample: Annotated[
        int, typer.Option(min=0, help="How many images to decode for the estimate of time; 0 for no estimate.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random choice of the sample.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, with every class.")] = False,
    debug: Debug = False,
    **shared: Unpack[options.Plan],
) -> None:
    """Estimate how many bytes and how much time a build would take. Nothing is written."""
    image, sources = options.image_options(source, shared), options.source_options(shared)
    with errors_reported(debug=debug):
        bar = sys.stderr.isatty()
        with _notes_unlogged():
            forecast = arraystore.plan(
                source, target, workers=workers, sample=sample, seed=seed, progress=bar, **image, **sources
            )
        if as_json:
            typer.echo(json.dumps(forecast.to_dict(), indent=2))
        else:
            print_rows(forecast_rows(forecast))


@contextmanager
def _notes_unlogged() -> Iterator[None]:
    """Keep notes out of the log, because they are rows of the table."""
    logger = logging.getLogger("arraystore")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@app.command("build")
@shows_options(options.Build)
def _build(
    source: options.Source,
    target: Annotated[
        Path,
        typer.Argument(
            parser=expanded,
            metavar="TARGET",
            help="The store to make: HDF5 if it ends in .h5 or .hdf5, else a folder. {size} in it is the size.",
        ),
    ],
    *,
    bad: Annotated[options.Bad, typer.Option(help=options.BAD_HELP)] = "raise",
    max_bad: options.MaxBad = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target if it exists.")] = False,
    quiet: options.Quiet = False,
    debug: Debug = False,
    **shared: Unpack[options.Build],
) -> None:
    """Decode every image of SOURCE into the store TARGET, or into one of each --size; slots of a store are copied."""
    image, limit = options.image_options(source, shared), options.parse_max_bad(max_bad)
    sources = options.source_options(shared)
    wanted: Any = options.sized_targets(target, shared["size"] or ())
    if len(wanted) < 2:  # one store
        for path, size in wanted.items():
            target, image["size"] = path, size
        wanted = target
    with errors_reported(debug=debug, interrupted=GOES_ON):
        bar = not quiet and sys.stderr.isatty()
        with reporting(bar) as report:
            watch = Watch(report)
            made = arraystore.build(
                source,
                wanted,
                bad=bad,
                max_bad=limit,
                progress=watch,
                overwrite=overwrite,
                **image,
                **sources,
                **picked(options.Run, shared),
            )
        stores: dict[Path, Store] = made if isinstance(made, dict) else {target: made}
        with ExitStack() as opened:
            for store in stores.values():
                opened.enter_context(store)
            if not quiet:
                print_summary(stores, watch)


class Watch:
    """Takes the progress of a build, keeps the numbers of the summary, and passes the progress on."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report
        self._start_s = time.perf_counter()
        self._done_before: int | None = None
        self._done = 0
        self.bad: int = 0

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


def print_summary(stores: Mapping[Path, Store], watch: Watch) -> None:
    """Print the size of new stores, how to open them, and their bad images; what holds for several only once."""
    seconds = watch.seconds
    speed = f", {watch.decoded / max(seconds, 1e-9):,.0f} img/s" if watch.decoded else ""
    for target, store in stores.items():
        shape = shape_text(store.spec.slot_shape)
        typer.echo(
            f"{flat(str(target))}: {many(len(store), 'image')} of {shape} ({store.spec.layout}), "
            f"{readable(disk_bytes(target))} on disk; {seconds:.1f} s{speed}"
        )
        opened = f"arraystore.open({_quoted(target)}).images"
        if store.medium == "npy":
            opened = f'np.load({_quoted(target / "images.npy")}, mmap_mode="r")'
        elif store.spec.encode is not None:
            opened = f"arraystore.open({_quoted(target)})"
        typer.echo(f"open it with  {opened}")
    for line in dict.fromkeys(line for store in stores.values() for line in _told_lines(store)):
        typer.echo(line)
    for text in dict.fromkeys(text for store in stores.values() for text in _bad_texts(store, watch)):
        typer.echo(text, err=True)


def _told_lines(store: Store) -> Iterator[str]:
    yield from target_lines(store)
    if store.description.left_out:
        yield left_out_text(store.description.left_out)


def _bad_texts(store: Store, watch: Watch) -> Iterator[str]:
    bad = store.bad()
    if bad:
        yield _bad_text(f"{many(len(bad), 'bad image')} stored as zeros with status 2:", bad)
    elif watch.bad:
        yield _bad_text(f"{many(watch.bad, 'bad image')} left out:", store.dropped())
    noted = store.noted()
    if noted:
        yield _bad_text(f"{many(len(noted), 'image')} stored with a note of the decoder:", noted)


def target_lines(store: Store) -> Iterator[str]:
    """Yield a line for each target of a store: its type, and the first of its classes."""
    masks = store.description.masks
    for name, target in store.targets.items():
        classes = store.categories.get(name, ())
        if not classes:
            kind = "masks of " if name in masks else ""
            yield f"{flat(name)}: {kind}{target.dtype}{_row_text(target)}"
            continue
        shown = ", ".join(map(flat, classes[:_SHOWN_CLASSES]))
        more = f" and {len(classes) - _SHOWN_CLASSES:,} more" if len(classes) > _SHOWN_CLASSES else ""
        noun = "class" if len(classes) == 1 else "classes"
        if name in masks:
            yield f"{flat(name)}: masks of {target.dtype}{_row_text(target)}, {len(classes):,} {noun}: {shown}{more}"
            continue
        several = "" if isinstance(target, Ragged) or target.ndim < 2 else ", several in a row"
        yield f"{flat(name)}: {len(classes):,} {noun}{several}: {shown}{more}"
    for name in columns_beside(store.samples.column_names, masks):
        yield f"{flat(name)}: text, in the table of samples"


def _row_text(target: Any) -> str:
    """Return what a row of a target holds, as it follows the type; empty for one number."""
    if isinstance(target, Ragged):
        item = " x ".join(map(str, target.item_shape)) or "1"
        return f", {item} an item, any number of items a row"
    row = " x ".join(map(str, target.shape[1:]))
    return f", {row} a row" if row else ""


def _bad_text(head: str, bad: Sequence[BadImage]) -> str:
    return "\n  ".join([head, *bad_lines(bad)])


def _quoted(path: Path) -> str:
    """Return the path as a Python string literal in double quotes."""
    return json.dumps(str(path), ensure_ascii=not str(path).isprintable())
