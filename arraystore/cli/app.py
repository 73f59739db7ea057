"""What every command shares: the application, and how errors are told."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from arraystore import ArraystoreError, BadImage, BadImagesError, SpecError
from arraystore._common.wording import flat, many
from arraystore._version import __version__

__all__ = ["Debug", "app", "errors_reported", "print_bad"]

_SHOWN_BAD = 10
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

# The library's messages name its arguments; whoever typed a command needs its options.
_BAD_ADVICE = "--bad keep stores them as zeros, --bad drop leaves them out; or mend the files and build again"
_OPTIONS = {"overwrite=True": "--overwrite", "fresh=True": "--fresh", "timeout_s": "--timeout"}


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer passes the option's value by position
    if wanted:
        typer.echo(f"arraystore {__version__}")
        raise typer.Exit


Debug = Annotated[
    bool, typer.Option("--debug", envvar="ARRAYSTORE_DEBUG", help="Print the traceback of an error as well.")
]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _command(
    *, version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False
) -> None:
    """Turn a folder of images into one array, once, and read it at the speed of memory."""
    del version  # its callback has done everything


@contextmanager
def errors_reported(*, debug: bool, interrupted: str = "interrupted", bad_advice: str = _BAD_ADVICE) -> Iterator[None]:
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
        _print_error(error, bad_advice)
        raise typer.Exit(2 if isinstance(error, SpecError) else 1) from None


def _print_error(error: ArraystoreError | OSError, bad_advice: str) -> None:
    if isinstance(error, BadImagesError):
        # The library's message has the list and speaks of arguments; here the list comes last and they are options.
        advice, of = "is this the right source?", many(error.total, "image")
        if error.tried is not None:
            advice, of = f"those are more than --max-bad allows, {advice}", f"the first {many(error.tried, 'image')}"
        elif len(error.bad) < error.total:
            advice = bad_advice
        typer.echo(f"arraystore: {len(error.bad):,} of {of} could not be stored; {advice}", err=True)
        print_bad(error.bad)
        return
    message = str(error)
    if isinstance(error, OSError) and not isinstance(error, ArraystoreError) and error.strerror:
        message = error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
    for argument, option in _OPTIONS.items():
        message = message.replace(f"{argument} ({option})", option).replace(argument, option)
    lines = [line.strip() for text in (message, *getattr(error, "__notes__", [])) for line in text.splitlines()]
    typer.echo(f"arraystore: {flat(' '.join(lines) or type(error).__name__)}", err=True)


def print_bad(bad: Sequence[BadImage]) -> None:
    """Print the first of them, a line each."""
    for image in bad[:_SHOWN_BAD]:
        typer.echo(f"  slot {image.slot}  {flat(image.source)}: {flat(image.reason)}", err=True)
    if len(bad) > _SHOWN_BAD:
        typer.echo(f"  and {len(bad) - _SHOWN_BAD:,} more", err=True)
