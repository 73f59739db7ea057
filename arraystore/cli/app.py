"""The application, the report of an error, and the spelling of options, which all commands share."""

import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from typer.core import TyperGroup

from arraystore import ArraystoreError, BadImagesError, SpecError
from arraystore._common.wording import flat
from arraystore._version import __version__
from arraystore.errors import Option

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

_flags: dict[str, str] = {}  # argument of the running command's function → its option, such as "--overwrite"


def _version(wanted: object) -> None:
    if wanted:
        typer.echo(f"arraystore {__version__}")
        raise typer.Exit


Debug = Annotated[
    bool, typer.Option("--debug", envvar="ARRAYSTORE_DEBUG", help="Print the traceback of an error as well.")
]

app: typer.Typer = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _command(
    context: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn a folder of images into one array, once, and read it at the speed of memory."""
    del version  # its callback has done everything
    group = context.command
    if isinstance(group, TyperGroup) and context.invoked_subcommand is not None:
        for param in group.commands[context.invoked_subcommand].params:
            if param.name is not None and param.opts[0].startswith("--"):
                _flags[param.name] = param.opts[0]


def spell(option: Option) -> str:
    """Return an option as it is typed for the running command; where that lacks the option, as Python writes it."""
    flag = _flags.get(option.name)
    if flag is None:
        return f"{option} (in Python)"
    value = option.value
    if value is None or value is True:
        return flag
    if isinstance(value, dict):
        value = ",".join(f"{name}={each}" for name, each in value.items())
    elif isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value)
    return f"{flag} {shlex.quote(text) if ';' in text else text}"


@contextmanager
def errors_reported(*, debug: bool, interrupted: str = "interrupted") -> Iterator[None]:
    """Turn an expected error of a command into one line and an exit code. Other exceptions are bugs and pass through.

    Raises:
        typer.Exit: the command failed or was interrupted.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of a pipe has left; typer ends the command without a message
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        # On a terminal the cursor stands behind the progress bar and the ^C.
        typer.echo(("\n" if sys.stderr.isatty() else "") + f"arraystore: {interrupted}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    except (ArraystoreError, OSError) as error:
        if debug:
            traceback.print_exc()
        typer.echo(f"arraystore: {_text_of(error)}", err=True)
        raise typer.Exit(2 if isinstance(error, SpecError) else 1) from None


def _text_of(error: ArraystoreError | OSError) -> str:
    """Return an error's text on one line; for bad images a line more each."""
    if isinstance(error, BadImagesError):
        return error.text(spell)
    if isinstance(error, ArraystoreError):
        text = error.text(spell)
    elif error.strerror:
        text = error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
    else:
        text = str(error)
    lines = [line.strip() for part in (text, *getattr(error, "__notes__", [])) for line in part.splitlines()]
    return flat(" ".join(lines) or type(error).__name__)
