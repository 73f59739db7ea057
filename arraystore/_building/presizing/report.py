"""What a call of `arraystore.presize` has done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arraystore._common.options import public
from arraystore.errors import BadImage


@public
@dataclass(frozen=True, slots=True)
class PresizeReport:
    """What a call of `presize` has done.

    Attributes:
        trees: the folder of each size, in the order of the sizes.
        bytes: what the images and masks in each of them take, in bytes, in the same order.
        count: how many sources the manifest has.
        written: how many of them this call has made smaller, or passed through.
        passed: in how many of the files that it wrote it passed the bytes of a source through.
        unchanged: how many were done before, and have not changed since.
        bad: the sources that could not be made smaller, with their rows as slots; nothing of them is in the trees.
        noted: those that could, and of which a decoder said something.
        stale: the files in the trees whose sources are gone; empty where ``prune`` has deleted them.
        pruned: how many files ``prune`` has deleted.
        left_out: as of a `Manifest`: the suffixes of the files that are no images → how many there are.
        annotations: the files of boxes and tables that were written.
        scaled: the names of the columns and members in them that are coordinates in pixels, and were scaled.
        source_bytes: the bytes of the sources that this call has read.
        seconds: that the call took.
    """

    trees: tuple[Path, ...]
    bytes: tuple[int, ...]
    count: int
    written: int
    passed: int
    unchanged: int
    bad: tuple[BadImage, ...] = ()
    noted: tuple[BadImage, ...] = ()
    stale: tuple[Path, ...] = ()
    pruned: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    annotations: tuple[Path, ...] = ()
    scaled: tuple[str, ...] = ()
    source_bytes: int = 0
    seconds: float = 0.0
