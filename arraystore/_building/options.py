"""The options that a build, an update and a repair share, listed once; `arraystore.build` documents each."""

import math
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Annotated, TypedDict, TypeVar

from arraystore._building.bad import check_max_bad
from arraystore._common.checks import parse_bytes
from arraystore._common.options import Default, complete
from arraystore._common.progress import Progress
from arraystore._decoding.hooks import Decoders, check_decoders
from arraystore._sources.options import SourceOptions
from arraystore.errors import SpecError
from arraystore.spec import ImageOptions

TIMEOUT_S = 60.0  # no photo takes as long to decode, even on a busy machine


class RunOptions(TypedDict, total=False):
    """The options of all three."""

    workers: Annotated[int | None, Default(None, low=1)]
    processes: Annotated[bool, Default(False)]
    timeout_s: Annotated[float, Default(TIMEOUT_S)]
    max_memory: Annotated[int | str | None, Default(None)]
    decoders: Annotated[Decoders | None, Default(None)]
    executor: Annotated[Executor | None, Default(None)]
    progress: Annotated[bool | Callable[[Progress], None], Default(True)]
    fresh: Annotated[bool, Default(False)]


class CompareOptions(SourceOptions, total=False):
    """The options of a comparison that it shares with a build."""

    decoders: Annotated[Decoders | None, Default(None)]


class PlanOptions(ImageOptions, CompareOptions, total=False):
    """The options of a plan that it shares with a build."""


class UpdateOptions(SourceOptions, RunOptions, total=False):
    """The options of an update that it shares with a build."""


class BuildOptions(ImageOptions, SourceOptions, RunOptions, total=False):
    """The options of a build that it shares with `plan`, or with an update."""


Run = TypeVar("Run", bound=RunOptions)


def checked(owner: str, kind: type[Run], options: Run, bad: str, max_bad: float | None = None) -> Run:
    """Return all options of a kind, as `complete` does, after a check of each and of two that not all functions have.

    Raises:
        SpecError: an option is invalid.
    """
    every = complete(owner, kind, options)
    if bad not in ("raise", "keep", "drop"):
        raise SpecError(f"bad must be 'raise', 'keep' or 'drop', not {bad!r}")
    if not (isinstance(every["timeout_s"], int | float) and 0 < every["timeout_s"] < math.inf):
        raise SpecError(f"timeout_s must be a number of seconds greater than 0, not {every['timeout_s']!r}")
    if every["max_memory"] is not None:
        parse_bytes(every["max_memory"])
    check_decoders(every["decoders"])
    if every["processes"] and every["executor"] is not None:
        raise SpecError("processes=True and an executor were passed: choose one, the executor has its own workers")
    check_max_bad(max_bad)
    return every
