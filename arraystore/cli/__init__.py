"""The command ``arraystore``.

Exit codes: 0 done, 1 failed or damaged, 2 wrong usage, 130 interrupted. An error is one line on stderr that starts with
``arraystore: ``; ``--debug`` or ``ARRAYSTORE_DEBUG=1`` prints the traceback before it.
"""

import io
import sys

from arraystore.cli import build, export, look, presize, profile, upkeep
from arraystore.cli.app import app

__all__ = [
    "build",
    "export",
    "look",
    "main",
    "presize",
    "profile",
    "upkeep",
]  # each module adds its commands to the app


def main() -> None:
    """Run the command; the entry point of the package."""
    # A file name may hold bytes that the terminal cannot show; printing it must not fail.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="arraystore")
