"""Which benchmarks there are, and what each says of itself."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

NAMES = (
    *("headline", "memory", "build", "portable", "read", "augment", "epochs", "scale", "verify"),
    *("crash_safety", "startup", "scan", "presize", "encoded", "lazy", "fill", "peers"),
)


def load(name: str) -> ModuleType:
    """Return a benchmark.

    It is a module whose text begins with its question, and that has ``measure``, from options to rows; ``tables``, from
    rows to tables by name; ``OPTIONS``, a name with its value, its value with ``--quick``, and its meaning; and
    ``ESTIMATE_S``. It may have ``figures``, from rows to texts for the documents' prose, by name; ``NEEDS``, the
    folders of photographs that it reads; and ``VARIABLES`` of the environment.
    """
    return import_module(f"benchmarks.{name}")


def question(name: str) -> str:
    """Return the question that a benchmark answers."""
    return (load(name).__doc__ or "").partition("\n")[0]


def command(name: str) -> str:
    """Return the command that measures a benchmark, as one would type it."""
    needs = "".join(f" --{folder} {folder.upper()}" for folder in getattr(load(name), "NEEDS", ()))
    return f"python -m benchmarks {name}{needs}"


def index() -> str:
    """Return all benchmarks as a table of Markdown."""
    rows = [f"| {question(name)} | `{command(name)}` | {load(name).ESTIMATE_S} s |" for name in NAMES]
    return "\n".join(["| question | command | about |", "|---|---|---|", *rows])
