"""The progress of a build or a check: a bar, silence, or calls of the caller's own function."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from arraystore._common.lazy import lazy
from arraystore._common.public import public

if TYPE_CHECKING:
    import tqdm.auto as tqdm
else:
    tqdm = lazy("tqdm.auto")


@public
@dataclass(slots=True)
class Progress:
    """How far a build, or a check of a store, has come.

    Attributes:
        total: all slots of a build; all bytes of a check.
        done: the slots that are settled, also by an earlier call; the bytes that a check has read.
        bad: the slots whose source could not be stored; the slots that a check found damaged.
        source_bytes: the bytes of sources that this call has read; 0 in a check.
        started_s: the time.perf_counter at which this call began.
        unit: of total and done: ``"img"`` for the slots of a build, ``"B"`` for the bytes of a check.
    """

    total: int
    done: int = 0
    bad: int = 0
    source_bytes: int = 0
    started_s: float = field(default_factory=time.perf_counter)
    unit: Literal["img", "B"] = "img"

    @property
    def seconds(self) -> float:
        """Seconds since this call began."""
        return time.perf_counter() - self.started_s


# The option ``progress``: True shows a bar, False shows nothing, and a function is called.
Reporter: TypeAlias = bool | Callable[[Progress], None]


@contextmanager
def reporting(progress: Reporter) -> Iterator[Callable[[Progress], None]]:
    """Give the function that is to be called with the progress. A bar stays on the screen at the end."""
    if callable(progress):
        yield progress
    elif not progress:
        yield _silent
    else:
        with _Bar() as bar:
            yield bar.draw


def _silent(_progress: Progress) -> None:
    """Show nothing."""


class _Bar:
    """A tqdm bar with images or bytes a second and the number of bad images; it appears at the first call."""

    def __init__(self) -> None:
        self._bar: Any = None

    def draw(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = tqdm.tqdm(
                total=progress.total,
                initial=progress.done,
                unit=progress.unit,
                unit_scale=progress.unit == "B",
                dynamic_ncols=True,
            )
        megabytes = progress.source_bytes / 1e6 / max(progress.seconds, 1e-9)
        speed = {"MB/s": f"{megabytes:.1f}"} if progress.unit == "img" else {}
        self._bar.set_postfix(speed | {"bad": progress.bad}, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
