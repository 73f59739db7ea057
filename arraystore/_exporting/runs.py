"""Exported images, made by threads and handed over in the order of their slots, a bounded number of bytes at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from arraystore._exporting.columns import Columns, Values
from arraystore._exporting.images import ImageBytes
from arraystore._exporting.stems import Stems
from arraystore._reading.slot_arrays import Index

_RUN_BYTES = 2 << 20  # of pixels
_LONGEST_RUN = 64
_AHEAD = 2  # runs that each thread may be ahead


@dataclass(frozen=True, slots=True)
class Run:
    """Some images, in the order of their slots.

    Attributes:
        slots: int64, (n,).
        stems: of their files.
        images: their bytes.
        copied: how many of these are as the store has them.
        values: of the columns beside them.
    """

    slots: Index
    stems: list[str]
    images: list[bytes]
    copied: int
    values: Mapping[str, Values]


def runs_of(slots: Index, images: ImageBytes, stems: Stems, columns: Columns, workers: int) -> Generator[Run]:
    """Yield all images of an export.

    Args:
        slots: that are exported, in their order.
        images: makes their bytes.
        stems: of their files.
        columns: beside them.
        workers: how many threads make them.
    """
    length = min(max(_RUN_BYTES // images.slot_bytes, 1), _LONGEST_RUN)

    def make(first: int) -> Run:
        chosen = slots[first : first + length]
        made, copied = images.of(chosen)
        return Run(chosen, stems.of(chosen), made, copied, columns.values(chosen))

    waiting: deque[Future[Run]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="arraystore-export") as threads:
        try:
            for first in range(0, len(slots), length):
                waiting.append(threads.submit(make, first))
                if len(waiting) > _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
