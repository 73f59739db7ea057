"""How a build or a check says how far it is: a bar by default, silence or the caller's own function if asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from arraystore._common.public import public

__all__ = ["Progress", "reporting"]


@public
@dataclass(slots=True)
class Progress:
    """How far a build is, or a check of a store.

    Attributes:
        total: slots in all; of a check, bytes.
        done: slots settled, those of an earlier call included; of a check, bytes read.
        bad: slots whose source could not be stored; of a check, damaged ones.
        source_bytes: bytes of sources read so far by this call; of a check, 0.
        started_s: when this call began, by time.perf_counter.
        unit: what total and done count: ``"img"`` slots of a build, ``"B"`` bytes of a check.
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


@contextmanager
def reporting(progress: bool | Callable[[Progress], None]) -> Iterator[Callable[[Progress], None]]:  # noqa: FBT001 - the public option
    """Give the function to call with the progress, as after each run; a bar is left as it stands at the end."""
    if callable(progress):
        yield progress
    elif not progress:
        yield _silent
    else:
        with _Bar() as bar:
            yield bar.draw


def _silent(_progress: Progress) -> None:
    """Say nothing."""


class _Bar:
    """A tqdm bar with images or bytes a second and the number of bad images; it appears at the first call."""

    def __init__(self) -> None:
        self._bar: Any = None

    def draw(self, progress: Progress) -> None:
        if self._bar is None:
            from tqdm.auto import tqdm  # noqa: PLC0415 - only who wants a bar pays for it

            self._bar = tqdm(
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
