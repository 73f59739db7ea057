"""The progress of a build or a check: a bar, silence, or calls of the caller's own function."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from arraystore._common.lazy import lazy
from arraystore._common.options import public

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
    """Give the function that is to be called with the progress.

    The bar appears at the first call, with images or bytes a second and the number of bad images, and stays on the
    screen at the end.
    """
    if callable(progress):
        yield progress
        return
    bar: Any = None

    def draw(state: Progress) -> None:
        nonlocal bar
        if not progress:
            return
        if bar is None:
            scaled = state.unit == "B"
            bar = tqdm.tqdm(
                total=state.total, initial=state.done, unit=state.unit, unit_scale=scaled, dynamic_ncols=True
            )
        megabytes = state.source_bytes / 1e6 / max(state.seconds, 1e-9)
        speed = {"MB/s": f"{megabytes:.1f}"} if state.unit == "img" else {}
        bar.set_postfix(speed | {"bad": state.bad}, refresh=False)
        bar.update(state.done - bar.n)

    try:
        yield draw
    finally:
        if bar is not None:
            bar.close()
