"""The command ``arraystore``, by calling public functions and nothing else.

Exit codes: 0 done, 1 failed or damaged, 2 wrong usage, 130 interrupted. An error is one line on stderr that starts with
``arraystore: ``; ``--debug`` or ``ARRAYSTORE_DEBUG=1`` puts the traceback before it.
"""

from __future__ import annotations

import io
import sys

from arraystore.cli import build, look, profile, upkeep  # noqa: F401 - each adds its commands, in the order of the help
from arraystore.cli.app import app

__all__ = ["main"]


def main() -> None:
    """Run the command; the entry point of the package."""
    # A file name need not be text in the terminal's encoding; that must not end a command that has done its work.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="arraystore")
